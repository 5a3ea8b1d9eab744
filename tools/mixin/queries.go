package main

import (
	"regexp"
	"strings"

	"github.com/glassrunner/glassrunner/tools/mixin/boards"
	"github.com/glassrunner/glassrunner/tools/mixin/names"
	"github.com/glassrunner/glassrunner/tools/mixin/rules"
)

// Query is an expression of a rule or a panel, as Prometheus can be asked.
type Query struct {
	Where string `json:"where"`
	Expr  string `json:"expr"`
	// Quiet says why a demo where all is well has no data; empty: it has.
	Quiet string `json:"quiet,omitempty"`
	// Pending is a metric of the expression that the program does not have yet.
	Pending string `json:"pending,omitempty"`

	labels []string // which its series must have
}

// queries lists all of them, with the dashboards' variables filled in.
func queries() []Query {
	var all []Query
	for _, g := range rules.Groups() {
		for _, r := range g.Records {
			all = append(all, Query{Where: "rule " + r.Name, Expr: r.Expr})
		}
		for _, a := range g.Alerts {
			all = append(all, Query{
				Where: "alert " + a.Name, Expr: a.Expr, Quiet: "nothing is wrong in the demo",
				labels: labelsOf(a.Summary + a.Description),
			})
			if a.Why != "" {
				all = append(all, Query{Where: "cause of " + a.Name, Expr: a.WhyQuery(), Quiet: "nothing is wrong in the demo", labels: []string{a.WhySays}})
			}
		}
	}
	for _, d := range boards.Boards() {
		for _, v := range d.Templating.List {
			if v.Definition == "" {
				continue
			}
			selector, label := labelValues(v.Definition)
			all = append(all, Query{Where: d.UID + ", variable " + v.Name, Expr: fill("group by (" + label + ") (" + selector + ")"), labels: []string{label}})
		}
		for _, a := range d.Annotations.List {
			all = append(all, Query{Where: d.UID + ", annotation " + a.Name, Expr: fill(a.Expr), Quiet: "the demo starts once", labels: legend(a.TextFormat)})
		}
		for _, p := range d.All() {
			for _, t := range p.Targets {
				all = append(all, Query{Where: d.UID + ", " + p.Title, Expr: fill(t.Expr), Quiet: t.Quiet, labels: append(legend(t.LegendFormat), columns(p)...)})
			}
		}
	}
	for i := range all {
		all[i].Pending = pendingIn(all[i].Expr)
	}
	return all
}

// fill puts something in the place of a dashboard's variables.
func fill(expr string) string {
	return strings.NewReplacer("$__rate_interval", "1m", "$__range", "5m", "$job", ".*", "$instance", ".*", "$runner_name", ".*").Replace(expr)
}

// pendingIn returns the first pending metric that an expression names.
func pendingIn(expr string) string {
	for _, m := range pending() {
		if regexp.MustCompile(`\b` + m.Name + `(_bucket|_sum|_count)?\b`).MatchString(expr) {
			return m.Name
		}
	}
	// Rules that record them are as pending as they are.
	for _, g := range rules.Groups() {
		for _, r := range g.Records {
			if strings.Contains(expr, r.Name) && expr != r.Expr {
				if p := pendingIn(r.Expr); p != "" {
					return p
				}
			}
		}
	}
	return ""
}

// labelsOf lists the labels that a template names.
func labelsOf(text string) []string {
	return submatches(regexp.MustCompile(`\$labels\.(\w+)`), text)
}

// legend lists the labels that a legend names.
func legend(text string) []string {
	return submatches(regexp.MustCompile(`{{\s*(\w+)\s*}}`), text)
}

func submatches(re *regexp.Regexp, text string) []string {
	var out []string
	for _, m := range re.FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	return out
}

// columns lists the labels that a table shows.
func columns(p boards.Panel) []string {
	var out []string
	for _, t := range p.Transformations {
		rename, _ := t.Options["renameByName"].(map[string]any)
		for label := range rename {
			if !strings.HasPrefix(label, "Value") {
				out = append(out, label)
			}
		}
	}
	return out
}

// labelValues takes label_values(selector, label) apart.
func labelValues(definition string) (selector, label string) {
	inner := strings.TrimSuffix(strings.TrimPrefix(definition, "label_values("), ")")
	i := strings.LastIndex(inner, ", ")
	return inner[:i], inner[i+2:]
}

// catalogueOf is the catalogue of the program's metrics and those pending.
func catalogueOf(list []names.Metric) (*names.Catalogue, error) {
	return names.New(append(list, pending()...))
}
