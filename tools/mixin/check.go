package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/glassrunner/glassrunner/tools/mixin/names"
	"github.com/glassrunner/glassrunner/tools/mixin/rules"
)

// check says everything that is wrong with rules, panels and runbooks.
func check(root *os.Root, metrics []byte, out io.Writer) error {
	list, err := names.Read(bytes.NewReader(metrics))
	if err != nil {
		return err
	}
	var problems []string
	for _, p := range pending() {
		if slices.ContainsFunc(list, func(m names.Metric) bool { return m.Name == p.Name }) {
			problems = append(problems, p.Name+" is no longer pending: take it off the list in tools/mixin/pending.go")
		}
	}
	if len(problems) > 0 {
		return report(problems)
	}
	catalogue, err := catalogueOf(list)
	if err != nil {
		return err
	}
	for _, g := range rules.Groups() {
		for _, r := range g.Records {
			problems = append(problems, at("rule "+r.Name, catalogue.Record(r.Name, r.Expr))...)
		}
	}
	all := append(queries(), runbooks(root, &problems)...)
	for _, q := range all {
		labels, found := catalogue.Check(q.Expr)
		problems = append(problems, at(q.Where, found)...)
		for _, l := range q.labels {
			if !labels.Has(l) {
				problems = append(problems, fmt.Sprintf("%s: it shows the label %q, which %s does not have", q.Where, l, q.Expr))
			}
		}
	}
	if len(problems) > 0 {
		return report(problems)
	}
	fmt.Fprintf(out, "%d queries name nothing that the program cannot emit\n", len(all))
	if n := len(pending()); n > 0 {
		fmt.Fprintf(out, "!! %d metrics are taken as emitted although the program lacks them: tools/mixin/pending.go\n", n)
	}
	return nil
}

func at(where string, problems []string) []string {
	out := make([]string, 0, len(problems))
	for _, p := range problems {
		out = append(out, where+": "+p)
	}
	return out
}

func report(problems []string) error {
	return errors.New(strings.Join(slices.Compact(problems), "\n       "))
}

// runbooks checks the pages of the alerts and returns their queries.
func runbooks(root *os.Root, problems *[]string) []Query {
	bad := func(format string, args ...any) { *problems = append(*problems, fmt.Sprintf(format, args...)) }
	var all []Query
	pages := map[string]bool{"README.md": true}
	for _, g := range rules.Groups() {
		for _, a := range g.Alerts {
			name := a.Name + ".md"
			pages[name] = true
			text, err := root.ReadFile(filepath.Join(runbookDir, name))
			if err != nil {
				bad("%s has no runbook: %v", a.Name, err)
				continue
			}
			if !strings.HasPrefix(string(text), "# "+a.Name+"\n") {
				bad("%s: the title is not the alert's name", name)
			}
			last := 0
			for _, head := range []string{"Meaning", "Impact", "Diagnosis", "Remedy"} {
				i := strings.Index(string(text), "\n## "+head+"\n")
				if i < last {
					bad("%s: %q is missing or out of order", name, head)
				}
				last = max(last, i)
			}
			if !strings.Contains(string(text), "\n```shell\n") {
				bad("%s has no command", name)
			}
			for _, m := range regexp.MustCompile("(?s)\n```promql\n(.*?)\n```").FindAllStringSubmatch(string(text), -1) {
				all = append(all, Query{Where: name, Expr: m[1]})
			}
		}
	}
	files, err := fs.ReadDir(root.FS(), runbookDir)
	if err != nil {
		bad("%v", err)
	}
	for _, f := range files {
		if !pages[f.Name()] {
			bad("%s is the runbook of no alert", f.Name())
		}
	}
	return all
}
