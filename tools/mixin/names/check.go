package names

import (
	"fmt"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// Check says what is wrong with an expression, and which labels its series can
// have. A value that contains a $ is a variable of a dashboard and not looked at.
func (c *Catalogue) Check(expr string) (Labels, []string) {
	s, problems := c.check(expr)
	return Labels{s}, problems
}

// Labels are those that the series of an expression can have.
type Labels struct{ s series }

// Has says whether name is one of them.
func (l Labels) Has(name string) bool {
	_, ok := l.s.labels[name]
	return ok || l.s.any
}

func (c *Catalogue) check(expr string) (series, []string) {
	e, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return series{any: true}, []string{fmt.Sprintf("%v in %s", err, expr)}
	}
	w := walk{catalogue: c}
	s := w.expr(e)
	return s, w.problems
}

// walk finds the labels of expressions from the inside to the outside.
type walk struct {
	catalogue *Catalogue
	problems  []string
}

func (w *walk) problem(format string, args ...any) {
	w.problems = append(w.problems, fmt.Sprintf(format, args...))
}

func (w *walk) expr(e parser.Expr) series {
	switch e := e.(type) {
	case *parser.VectorSelector:
		return w.selector(e)
	case *parser.MatrixSelector:
		return w.expr(e.VectorSelector)
	case *parser.SubqueryExpr:
		return w.expr(e.Expr)
	case *parser.ParenExpr:
		return w.expr(e.Expr)
	case *parser.UnaryExpr:
		return w.expr(e.Expr)
	case *parser.StepInvariantExpr:
		return w.expr(e.Expr)
	case *parser.AggregateExpr:
		return w.aggregate(e)
	case *parser.BinaryExpr:
		return w.binary(e)
	case *parser.Call:
		return w.call(e)
	case *parser.NumberLiteral, *parser.StringLiteral:
		return series{}
	}
	w.problem("%T is unknown to this check: %s", e, e)
	return series{any: true}
}

func (w *walk) selector(e *parser.VectorSelector) series {
	s, ok := w.catalogue.series[e.Name]
	if !ok {
		w.problem("no metric %q", e.Name)
		return series{any: true}
	}
	for _, m := range e.LabelMatchers {
		if m.Name == model.MetricNameLabel || strings.Contains(m.Value, "$") {
			continue
		}
		values, ok := s.labels[m.Name]
		switch {
		case !ok && s.any:
		case !ok:
			w.problem("%s has no label %q", e.Name, m.Name)
		case values != nil:
			w.values(e.Name, m, values)
		}
	}
	return s
}

// values checks that each value of a matcher is one that the label can have.
func (w *walk) values(metric string, m *labels.Matcher, known closed) {
	all := slices.Sorted(maps.Keys(known))
	wrong := func(v string) {
		w.problem("%s: %s is never %q, only %s", metric, m.Name, v, strings.Join(all, ", "))
	}
	if m.Type == labels.MatchEqual || m.Type == labels.MatchNotEqual {
		if m.Value != "" && !known[m.Value] {
			wrong(m.Value)
		}
		return
	}
	if literals, ok := literals(m.Value); ok {
		for _, v := range literals {
			if !known[v] {
				wrong(v)
			}
		}
		return
	}
	re, err := regexp.Compile("^(?:" + m.Value + ")$")
	if err != nil {
		w.problem("%s: %v", metric, err)
		return
	}
	if !slices.ContainsFunc(all, re.MatchString) {
		wrong(m.Value)
	}
}

// literals lists all that a regular expression matches, if that is a list.
func literals(pattern string) ([]string, bool) {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, false
	}
	return enumerate(re)
}

func enumerate(re *syntax.Regexp) ([]string, bool) {
	const most = 1000
	switch re.Op {
	case syntax.OpEmptyMatch:
		return []string{""}, true
	case syntax.OpLiteral:
		return []string{string(re.Rune)}, true
	case syntax.OpCapture:
		return enumerate(re.Sub[0])
	case syntax.OpQuest:
		some, ok := enumerate(re.Sub[0])
		return append(some, ""), ok
	case syntax.OpCharClass:
		var out []string
		for i := 0; i < len(re.Rune); i += 2 {
			for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
				if out = append(out, string(r)); len(out) > most {
					return nil, false
				}
			}
		}
		return out, true
	case syntax.OpAlternate:
		var out []string
		for _, sub := range re.Sub {
			some, ok := enumerate(sub)
			if !ok {
				return nil, false
			}
			out = append(out, some...)
		}
		return out, len(out) <= most
	case syntax.OpConcat:
		out := []string{""}
		for _, sub := range re.Sub {
			some, ok := enumerate(sub)
			if !ok || len(out)*len(some) > most {
				return nil, false
			}
			var next []string
			for _, head := range out {
				for _, tail := range some {
					next = append(next, head+tail)
				}
			}
			out = next
		}
		return out, true
	default:
		return nil, false
	}
}

func (w *walk) aggregate(e *parser.AggregateExpr) series {
	if e.Param != nil {
		w.expr(e.Param)
	}
	s := w.expr(e.Expr)
	for _, l := range e.Grouping {
		w.has(s, l, e)
	}
	switch {
	case e.Op == parser.TOPK || e.Op == parser.BOTTOMK:
		return s
	case e.Without:
		return drop(s, e.Grouping)
	default:
		return keep(s, e.Grouping)
	}
}

func (w *walk) has(s series, label string, where parser.Expr) {
	if _, ok := s.labels[label]; !ok && !s.any {
		w.problem("no label %q in %s", label, where)
	}
}

func (w *walk) binary(e *parser.BinaryExpr) series {
	l, r := w.expr(e.LHS), w.expr(e.RHS)
	if e.VectorMatching == nil || e.LHS.Type() != parser.ValueTypeVector || e.RHS.Type() != parser.ValueTypeVector {
		if e.LHS.Type() == parser.ValueTypeVector {
			return l
		}
		return r
	}
	m := e.VectorMatching
	if e.Op == parser.LOR {
		return union(l, r)
	}
	for _, label := range m.MatchingLabels {
		if m.On {
			w.has(l, label, e)
			w.has(r, label, e)
		} else {
			w.has(union(l, r), label, e)
		}
	}
	if !m.On && m.Card != parser.CardManyToOne && m.Card != parser.CardOneToMany {
		// Series match when all other labels are the same, so both sides must have the same.
		left, right := drop(l, m.MatchingLabels), drop(r, m.MatchingLabels)
		if !left.any && !right.any && !maps.EqualFunc(left.labels, right.labels, func(closed, closed) bool { return true }) {
			w.problem("the sides never match, their labels are %v and %v: %s", slices.Sorted(maps.Keys(left.labels)), slices.Sorted(maps.Keys(right.labels)), e)
		}
	}
	many, one := l, r
	switch m.Card {
	case parser.CardManyToMany: // and, unless
		return l
	case parser.CardOneToOne:
		if m.On {
			return keep(l, m.MatchingLabels)
		}
		return drop(l, m.MatchingLabels)
	case parser.CardOneToMany:
		many, one = r, l
	case parser.CardManyToOne:
	}
	out := series{labels: maps.Clone(many.labels), any: many.any}
	for _, label := range m.Include {
		w.has(one, label, e)
		out.labels[label] = one.labels[label]
	}
	return out
}

func (w *walk) call(e *parser.Call) series {
	out := series{}
	found := false
	for _, a := range e.Args {
		s := w.expr(a)
		if t := a.Type(); !found && (t == parser.ValueTypeVector || t == parser.ValueTypeMatrix) {
			out, found = s, true
		}
	}
	switch e.Func.Name {
	case "histogram_quantile":
		return drop(out, []string{"le"})
	case "absent", "absent_over_time":
		// What is left are the labels of equality matchers; there are none in use.
		return series{}
	case "scalar":
		return series{}
	case "label_replace", "label_join":
		out = series{labels: maps.Clone(out.labels), any: out.any}
		if dst, ok := e.Args[1].(*parser.StringLiteral); ok {
			out.labels[dst.Val] = nil
		}
	}
	return out
}

func keep(s series, names []string) series {
	out := series{labels: map[string]closed{}}
	for _, n := range names {
		out.labels[n] = s.labels[n]
	}
	return out
}

func drop(s series, names []string) series {
	out := series{labels: maps.Clone(s.labels), any: s.any}
	for _, n := range names {
		delete(out.labels, n)
	}
	return out
}

func union(a, b series) series {
	out := series{labels: map[string]closed{}, any: a.any || b.any}
	for _, s := range []series{a, b} {
		for n, v := range s.labels {
			if have, ok := out.labels[n]; !ok {
				out.labels[n] = v
			} else if have == nil || v == nil {
				out.labels[n] = nil
			} else {
				both := maps.Clone(have)
				maps.Copy(both, v)
				out.labels[n] = both
			}
		}
	}
	return out
}
