package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
)

// PullPolicies is a list that may be written as a single string.
type PullPolicies []string

// Types with a notation of their own.
func typeDuration() reflect.Type { return reflect.TypeFor[time.Duration]() }
func typeTime() reflect.Type     { return reflect.TypeFor[time.Time]() }
func typeSecret() reflect.Type   { return reflect.TypeFor[job.Secret]() }
func typePolicies() reflect.Type { return reflect.TypeFor[PullPolicies]() }

// place is where a value stands in a file: its key as documented, such as
// runners.docker.image, and its path with list indexes.
type place struct {
	key  string // runners.docker.image
	path string // runners.0.docker.image
}

func (p place) child(name string) place {
	if p.key == "" {
		return place{name, name}
	}
	return place{p.key + "." + name, p.path + "." + name}
}

func (p place) element(i int) place { return place{p.key, p.path + "." + strconv.Itoa(i)} }

// decoder fills structs from a document and records what does not fit.
type decoder struct {
	doc      *document
	problems []Problem
	at       map[string]int  // offsets of keys by path
	wrong    map[string]bool // paths whose value has the wrong type
}

func (d *decoder) report(s Severity, offset int, key, text string) {
	line, column := d.doc.position(offset)
	d.problems = append(d.problems, Problem{Severity: s, Line: line, Column: column, Key: key, Text: text})
}

// table fills a struct. above are the structs that enclose it, outermost
// first, for keys that stand in the wrong table.
func (d *decoder) table(n *node, into reflect.Value, p place, above []level) {
	fields := fieldsOf(into.Type())
	above = append(slices.Clip(above), level{p, fields})
	exact := make(map[string]bool)
	for _, e := range n.entries {
		for _, f := range fields {
			if f.name == e.name {
				exact[f.name] = true
			}
		}
	}
	for _, e := range n.entries {
		i := findField(fields, e.name)
		if i < 0 {
			d.unknown(e, p, above)
			continue
		}
		f := fields[i]
		if f.name != e.name && exact[f.name] {
			d.report(Warning, e.start, p.child(e.name).key, "ignored, because "+f.name+" is given as well")
			continue
		}
		exact[f.name] = true
		at := p.child(f.name)
		d.at[at.path] = e.start
		d.value(e.value, into.FieldByIndex(f.index), at, f, above)
	}
}

// value fills a field.
func (d *decoder) value(n *node, into reflect.Value, p place, f structField, above []level) {
	if into.Kind() == reflect.Pointer {
		target := reflect.New(into.Type().Elem())
		if d.filled(n, target.Elem(), p, f, above) {
			into.Set(target)
		}
		return
	}
	d.filled(n, into, p, f, above)
}

// filled fills a value and says whether it could.
func (d *decoder) filled(n *node, into reflect.Value, p place, f structField, above []level) bool {
	switch t := into.Type(); {
	case t == typeDuration():
		return d.duration(n, into, p, f)
	case t == typeTime():
		return d.time(n, into, p, f)
	case t == typePolicies():
		if n.kind == kindString {
			into.Set(reflect.ValueOf(PullPolicies{n.text}))
			return true
		}
		return d.list(n, into, p, f, above)
	}
	switch into.Kind() {
	case reflect.Struct:
		if n.kind != kindTable {
			return d.mismatch(n, p, f, "a table ["+p.key+"]")
		}
		d.table(n, into, p, above)
	case reflect.Slice:
		return d.list(n, into, p, f, above)
	case reflect.Map:
		return d.mapping(n, into, p, f, above)
	case reflect.Interface:
		into.Set(reflect.ValueOf(n.plain()))
	case reflect.String:
		if n.kind != kindString {
			return d.mismatch(n, p, f, "a string in quotes")
		}
		into.SetString(n.text)
	case reflect.Bool:
		if n.kind != kindBool {
			return d.mismatch(n, p, f, "true or false without quotes")
		}
		into.SetBool(n.text == "true")
	case reflect.Int, reflect.Int64:
		v, err := n.integer()
		if n.kind != kindInteger || err != nil || into.OverflowInt(v) {
			return d.mismatch(n, p, f, f.wholeNumber())
		}
		into.SetInt(v)
	case reflect.Float64:
		v, err := n.float()
		if n.kind != kindFloat && n.kind != kindInteger || err != nil {
			return d.mismatch(n, p, f, "a number")
		}
		into.SetFloat(v)
	default:
		return d.mismatch(n, p, f, "something else")
	}
	return true
}

// wholeNumber describes the whole numbers that a key takes.
func (f structField) wholeNumber() string {
	switch f.unit {
	case "s":
		return "a whole number of seconds"
	case "ms":
		return "a whole number of milliseconds"
	case "":
	default:
		return "a whole number of " + f.unit
	}
	if f.name == "concurrent" {
		return "a whole number of at least 1"
	}
	return "a whole number"
}

func (d *decoder) list(n *node, into reflect.Value, p place, f structField, above []level) bool {
	element := into.Type().Elem()
	if n.kind != kindArray {
		want := "a list in brackets"
		switch {
		case element.Kind() == reflect.Struct:
			want = "a list: write [[" + p.key + "]]"
		case into.Type() == typePolicies():
			want = "a string or a list of strings"
		case n.kind == kindString && element.Kind() == reflect.String:
			want = "a list, even for one value: put brackets around it"
		}
		return d.mismatch(n, p, f, want)
	}
	out := reflect.MakeSlice(into.Type(), len(n.elements), len(n.elements))
	ok := true
	for i, e := range n.elements {
		at := p.element(i)
		d.at[at.path] = e.start
		if element.Kind() == reflect.Struct && e.kind != kindTable {
			ok = d.mismatch(e, at, f, "a table: write [["+p.key+"]] with the keys below it")
			continue
		}
		ok = d.filled(e, out.Index(i), at, f, above) && ok
	}
	into.Set(out)
	return ok
}

func (d *decoder) mapping(n *node, into reflect.Value, p place, f structField, above []level) bool {
	if n.kind != kindTable {
		return d.mismatch(n, p, f, "a table ["+p.key+"] of "+plural(typeName(into.Type().Elem())))
	}
	out := reflect.MakeMapWithSize(into.Type(), len(n.entries))
	ok := true
	for _, e := range n.entries {
		v := reflect.New(into.Type().Elem()).Elem()
		at := p.child(e.name)
		d.at[at.path] = e.start
		if d.filled(e.value, v, at, f, above) {
			out.SetMapIndex(reflect.ValueOf(e.name), v)
		} else {
			ok = false
		}
	}
	into.Set(out)
	return ok
}

func (d *decoder) duration(n *node, into reflect.Value, p place, f structField) bool {
	const want = `a duration such as "30s" or "1h30m"`
	switch n.kind {
	case kindString:
		v, err := time.ParseDuration(n.text)
		if err != nil {
			return d.mismatch(n, p, f, want)
		}
		into.SetInt(int64(v))
	case kindInteger:
		v, err := n.integer()
		if err != nil {
			return d.mismatch(n, p, f, want)
		}
		into.SetInt(v)
		if v != 0 {
			d.report(Warning, n.start, p.key, fmt.Sprintf("found %d, which means %d nanoseconds; write %s", v, v, want))
		}
	default:
		return d.mismatch(n, p, f, want)
	}
	return true
}

func (d *decoder) time(n *node, into reflect.Value, p place, f structField) bool {
	const want = "a date and time such as 2030-01-31T12:00:00Z"
	if n.kind != kindTime {
		return d.mismatch(n, p, f, want)
	}
	text := strings.ToUpper(n.text)
	if len(text) > 10 && text[10] == ' ' {
		text = text[:10] + "T" + text[11:]
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02"} {
		if v, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			into.Set(reflect.ValueOf(v))
			return true
		}
	}
	return d.mismatch(n, p, f, want)
}

// mismatch reports a value of the wrong type or notation.
func (d *decoder) mismatch(n *node, p place, f structField, want string) bool {
	d.wrong[p.path] = true
	d.report(Error, n.start, p.key, "found "+found(n, f)+", want "+want)
	return false
}

// found shows a value for a message. What may be a secret is not shown.
func found(n *node, f structField) string {
	if f.hidden() && n.kind != kindArray && n.kind != kindTable {
		return withArticle(n.kind.String())
	}
	switch n.kind {
	case kindArray:
		return "a list"
	case kindTable:
		return "a table"
	case kindString:
		return fmt.Sprintf("%s (string)", quoteValue(n.text))
	case kindInteger:
		return n.text + " (integer)"
	default:
		return fmt.Sprintf("%s (%s)", n.text, n.kind)
	}
}

func withArticle(noun string) string {
	if strings.ContainsAny(noun[:1], "aeiou") {
		return "an " + noun
	}
	return "a " + noun
}

// quoteValue quotes a value for a message; long ones are cut and what looks
// like a token is masked.
func quoteValue(s string) string {
	const longest = 60
	if looksSecret(s) {
		return strconv.Quote(job.Mask)
	}
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "..."
	}
	return strconv.Quote(s)
}

// looksSecret says whether a value in a place for something else may be a
// token or an address with a password.
func looksSecret(s string) bool {
	if strings.Contains(s, "@") && strings.Contains(s, "://") {
		return true
	}
	for _, prefix := range []string{"gl", "GR1348941"} {
		if rest, ok := strings.CutPrefix(s, prefix); ok && (prefix == "GR1348941" || strings.Contains(rest[:min(len(rest), 8)], "-")) {
			return true
		}
	}
	return false
}

// plain converts a value for a key that takes anything, with the types that
// JSON has.
func (n *node) plain() any {
	switch n.kind {
	case kindTable:
		out := make(map[string]any, len(n.entries))
		for _, e := range n.entries {
			out[e.name] = e.value.plain()
		}
		return out
	case kindArray:
		out := make([]any, len(n.elements))
		for i, e := range n.elements {
			out[i] = e.plain()
		}
		return out
	case kindBool:
		return n.text == "true"
	case kindInteger:
		if v, err := n.integer(); err == nil {
			return v
		}
	case kindFloat:
		if v, err := n.float(); err == nil {
			return v
		}
	case kindString, kindTime:
	}
	return n.text
}
