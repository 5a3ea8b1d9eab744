package metrics

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Reference writes the metric reference, docs/metrics.md, from the collectors
// themselves. Others are called with the registry that Metrics.Registry
// returns, to add what is registered elsewhere, such as by the monitoring
// server.
func Reference(w io.Writer, others ...func(prometheus.Registerer)) error {
	m, rest, err := contract(Options{}, others)
	if err != nil {
		return err
	}
	b := bufio.NewWriter(w)
	fmt.Fprint(b, referenceHead)
	for _, part := range []struct{ prefix, head string }{{compatPrefix, referenceCompat}, {oursPrefix, referenceOurs}} {
		fmt.Fprint(b, part.head)
		for _, f := range m.expo.families {
			if strings.HasPrefix(f.name, part.prefix) {
				f.describe(b)
			}
		}
	}
	fmt.Fprint(b, referenceRest)
	for _, f := range rest {
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), cell(f.GetHelp()))
	}
	return b.Flush()
}

// describe writes f's section.
func (f *family) describe(b *bufio.Writer) {
	fmt.Fprintf(b, "### `%s`\n\n%s, %s, since %s. %s\n\n", f.name, strings.ToUpper(f.kind[:1])+f.kind[1:], f.stability, f.since, full(f.help))
	if len(f.labels) > 0 {
		fmt.Fprintf(b, "- Labels: `%s`\n", strings.Join(f.labels, "`, `"))
	}
	for _, n := range slices.Sorted(maps.Keys(f.constant)) {
		fmt.Fprintf(b, "- Constant label: `%s=%q`\n", n, f.constant[n])
	}
	if values := f.valuesText(); values != "" {
		fmt.Fprintf(b, "- Values: %s\n", values)
	}
	if len(f.buckets) > 0 {
		fmt.Fprintf(b, "- Buckets: %s s; native histogram beside them\n", buckets(f.buckets))
	}
	if f.note != "" {
		fmt.Fprintf(b, "- %s\n", f.note)
	}
	if len(f.labels)+len(f.constant)+len(f.buckets)+len(f.valuesText())+len(f.note) > 0 {
		fmt.Fprintln(b)
	}
}

// valuesText is what the definition says of the values, or else its closed sets.
func (f *family) valuesText() string {
	if f.values != "" {
		return f.values
	}
	var parts []string
	for _, name := range f.def.labels {
		if set := f.sets[name]; set != nil {
			parts = append(parts, name+": "+strings.Join(set, ", "))
		}
	}
	return strings.Join(parts, "; ")
}

// full ends a text with a full stop.
func full(s string) string {
	if strings.HasSuffix(s, ".") {
		return s
	}
	return s + "."
}

func buckets(all []float64) string {
	words := make([]string, 0, len(all))
	for _, b := range all {
		if !math.IsInf(b, 1) {
			words = append(words, string(appendFloat(nil, b, textPlain)))
		}
	}
	return strings.Join(words, ", ")
}

// cell keeps a text inside a cell of a table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s)
}

const referenceHead = `# Metric reference

<!-- Generated from the collectors. Do not edit: change internal/observe/metrics and generate it again. -->

Everything that ` + "`/metrics`" + ` shows. Metrics with GitLab Runner's names keep its names, labels, buckets and meaning
(stable: they change only when GitLab Runner's do). Metrics that begin with ` + "`glassrunner_`" + ` are this
project's own (beta: labels may be added, none is removed without a note in the changelog).
` + "`glassrunner metrics list --format json`" + ` prints the same for programs, with all values of every label.

Where GitLab Runner's metric and one of ours say nearly the same, use ours for new work; the note of GitLab Runner's
says what it lacks.

Series are present from the start with the value 0 wherever the values of their labels are known. Series of a
runner entry go when it leaves the configuration, at the latest with its last job. The labels of a runner are
` + "`runner`" + ` (short token), ` + "`runner_name`" + ` (name of the entry) and ` + "`system_id`" + `. A value that is not among those of a
closed set is shown as ` + "`other`" + `; what has no room in the budget of series has ` + "`__overflow__`" + ` in every label.

Histograms have the classic buckets that are listed and, for a Prometheus that scrapes native histograms,
native ones with at most 100 buckets. In OpenMetrics ` + "`gitlab_runner_jobs_total`" + ` has the type unknown, because
there the gauge ` + "`gitlab_runner_jobs`" + ` takes the name that the counter would need.

`

const referenceCompat = `## GitLab Runner's metrics

`

const referenceOurs = `## Metrics of glassrunner

`

const referenceRest = `## Go runtime, process and monitoring server

| Name | Type | Meaning |
| --- | --- | --- |
`
