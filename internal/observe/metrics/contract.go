package metrics

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/observe/board"
)

// Contract is what this build promises of one metric. Whoever writes rules or
// dashboards may rely on it; a change of it is announced in the changelog.
type Contract struct {
	Name string `json:"name"`
	Type string `json:"type"` // counter, gauge, histogram, summary
	Help string `json:"help"`
	// Unit is seconds, bytes, ratio, unix_seconds, or "" for a number.
	Unit   string          `json:"unit"`
	Labels []ContractLabel `json:"labels"` // by name
	// Stability is "stable": changes only when GitLab Runner's metric does;
	// "beta": labels and values may be added, nothing is removed or renamed
	// without a note in the changelog; or "external": of the Go runtime, the
	// process or a library, as they have it.
	Stability string    `json:"stability"`
	Since     string    `json:"since"`   // the first version that has it
	Buckets   []float64 `json:"buckets"` // upper bounds without +Inf; native buckets beside them
}

// ContractLabel is one label of a metric.
type ContractLabel struct {
	Name string `json:"name"`
	// Values are all that the label can have, __overflow__ and, beside a
	// closed set, "other" apart; null: they come from outside.
	Values []string `json:"values"`
}

// contract is a Metrics without a stream, and what others register beside it.
func contract(o Options, others []func(prometheus.Registerer)) (*Metrics, []*dto.MetricFamily, error) {
	if o.Board == nil {
		o.Board = board.New(board.Options{})
	}
	m := New(o)
	for _, add := range others {
		add(m.rest)
	}
	rest, err := m.rest.Gather()
	if err != nil {
		return nil, nil, fmt.Errorf("metric contract: %w", err)
	}
	return m, rest, nil
}

// List returns the contract of every metric, by name. Others are called with
// the registry that Metrics.Registry returns, to add what is registered
// elsewhere, such as by the monitoring server.
func List(others ...func(prometheus.Registerer)) ([]Contract, error) {
	m, rest, err := contract(Options{}, others)
	if err != nil {
		return nil, err
	}
	var all []Contract
	for _, f := range m.expo.families {
		all = append(all, f.contract())
	}
	for _, f := range rest {
		all = append(all, foreign(f))
	}
	slices.SortFunc(all, func(a, b Contract) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func (f *family) contract() Contract {
	c := Contract{
		Name: f.name, Type: f.kind, Help: f.help, Unit: f.unit, Labels: []ContractLabel{}, Stability: f.stability, Since: f.since,
	}
	for _, b := range f.buckets {
		if !math.IsInf(b, 1) {
			c.Buckets = append(c.Buckets, b)
		}
	}
	for _, name := range f.names {
		l := ContractLabel{Name: name, Values: slices.Sorted(slices.Values(f.sets[name]))}
		if v, ok := f.constant[name]; ok {
			l.Values = []string{v}
		}
		c.Labels = append(c.Labels, l)
	}
	return c
}

// foreign is what is known of a metric that others registered.
func foreign(f *dto.MetricFamily) Contract {
	c := Contract{
		Name: f.GetName(), Type: strings.ToLower(f.GetType().String()), Help: f.GetHelp(), Unit: unitOf(f.GetName()),
		Labels: []ContractLabel{}, Stability: "external", Since: firstVersion,
	}
	if strings.HasPrefix(c.Name, oursPrefix) {
		c.Stability = "beta"
	}
	for _, m := range f.Metric {
		for _, l := range m.Label {
			if !slices.ContainsFunc(c.Labels, func(o ContractLabel) bool { return o.Name == l.GetName() }) {
				c.Labels = append(c.Labels, ContractLabel{Name: l.GetName()})
			}
		}
	}
	slices.SortFunc(c.Labels, func(a, b ContractLabel) int { return strings.Compare(a.Name, b.Name) })
	return c
}

// WriteJSON writes the contract for programs.
func WriteJSON(w io.Writer, all []Contract) error { return writeJSON(w, all) }

// WriteCountsJSON writes what Simulate found for programs.
func WriteCountsJSON(w io.Writer, all []Count) error { return writeJSON(w, all) }

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// WriteText writes the contract for people, a line for each metric.
func WriteText(w io.Writer, all []Contract) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tTYPE\tUNIT\tSTABILITY\tSINCE\tLABELS")
	for i := range all {
		c := &all[i]
		names := make([]string, len(c.Labels))
		for i, l := range c.Labels {
			names[i] = l.Name
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", c.Name, c.Type, dash(c.Unit), c.Stability, c.Since, dash(strings.Join(names, ", ")))
	}
	return t.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Count is how many series one metric has under a configuration, as lines of
// samples in the plain text format.
type Count struct {
	Name string `json:"name"`
	// Start is how many there are when the process has just started.
	Start int `json:"start"`
	// Most is how many there can be: every value of every closed set for every
	// runner, at most the metric's budget; the budget where values come from
	// outside.
	Most int `json:"most"`
	// Open are the labels whose values come from outside.
	Open []string `json:"open,omitempty"`
}

// Simulate returns the number of series of each metric under a configuration,
// by name, the most first.
func Simulate(c event.ConfigLoaded, o Options, others ...func(prometheus.Registerer)) ([]Count, error) {
	b := board.New(board.Options{})
	o.Board = b
	m, rest, err := contract(o, others)
	if err != nil {
		return nil, err
	}
	e := event.Event{Time: m.now(), Fact: c}
	b.Observe(e)
	m.Observe(e)
	start := map[*family]int{}
	m.expo.present.collect(func(n *now, _ float64, _ ...string) { start[n.family]++ })
	runners := max(1, min(len(m.runners), m.most))
	var all []Count
	for _, f := range m.expo.families {
		n := Count{Name: f.name, Start: start[f] + f.series()}
		if f == m.expo.count {
			n.Start = 1
		}
		n.Most, n.Open = f.most(runners)
		n.Most = max(n.Most, n.Start)
		all = append(all, n)
	}
	for _, f := range rest {
		n := 0
		for _, m := range f.Metric {
			n += lines(m)
		}
		all = append(all, Count{Name: f.GetName(), Start: n, Most: n})
	}
	slices.SortFunc(all, func(a, b Count) int {
		if a.Start != b.Start {
			return b.Start - a.Start
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all, nil
}

// most is Count.Most and Count.Open.
func (f *family) most(runners int) (n int, open []string) {
	n = f.lines()
	perRunner := false
	for _, name := range f.def.labels {
		if slices.Contains(runnerLabels(), name) {
			perRunner = true
			continue
		}
		if set := f.sets[name]; set != nil {
			n *= len(set)
		} else {
			open = append(open, name)
		}
	}
	if perRunner {
		n *= runners
	}
	if len(open) > 0 {
		n = f.budget.Metric
	}
	return min(n, f.budget.Metric), open
}

// WriteCounts writes what Simulate found, and its sum.
func WriteCounts(w io.Writer, all []Count) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%8s  %8s  %s\n", "START", "MOST", "METRIC")
	start := 0
	for _, n := range all {
		start += n.Start
		most := fmt.Sprint(n.Most)
		if len(n.Open) > 0 {
			most = "budget"
		}
		name := n.Name
		if len(n.Open) > 0 {
			name += " (open: " + strings.Join(n.Open, ", ") + ")"
		}
		fmt.Fprintf(b, "%8d  %8s  %s\n", n.Start, most, name)
	}
	fmt.Fprintf(b, "%8d  %8s  in all\n", start, "")
	return b.Flush()
}
