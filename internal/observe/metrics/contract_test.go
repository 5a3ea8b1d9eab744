package metrics_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/observe/metrics"
)

func contract(t *testing.T) []metrics.Contract {
	t.Helper()
	all, err := metrics.List()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(c metrics.Contract) bool { return c.Stability == "external" })
}

// TestContract fails on every change of a metric that others may rely on.
func TestContract(t *testing.T) {
	golden := filepath.Join("testdata", "contract.json")
	var b bytes.Buffer
	if err := metrics.WriteJSON(&b, contract(t)); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(golden, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wanted, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Split(string(wanted), "\n"), strings.Split(b.String(), "\n")); d != "" {
		t.Errorf(`the metrics are not those of %s (-promised +got):
%s
Dashboards and rules of operators rely on them. To announce the change:
  1. say in CHANGELOG.md what changed: CHANGE for what is gone, renamed or means something else, FEATURE or ENHANCEMENT for what is new;
  2. give a new metric "since: …" if firstVersion is not its version;
  3. go test ./internal/observe/metrics -run TestContract -update && make docs`, golden, d)
	}
}

// A label without a closed set is one on purpose.
func TestContractIsWhole(t *testing.T) {
	open := map[string]bool{
		"runner": true, "runner_name": true, "system_id": true, // by the configuration
		"executor": true, "hash": true, // the same
		"endpoint": true, "path": true, "status": true, "stage": true, "executor_stage": true, "what": true, // bounded where they are made
		"architecture": true, "branch": true, "built_at": true, "go_version": true, "name": true, "os": true, "revision": true, "version": true, // of the build
		"project": true, // opt-in, the top ones
		"metric":  true, // names of this list
	}
	for _, c := range contract(t) {
		if c.Help == "" || c.Since == "" || c.Stability != "stable" && c.Stability != "beta" {
			t.Errorf("%s: help %q, since %q, stability %q", c.Name, c.Help, c.Since, c.Stability)
		}
		if (c.Type == "histogram") != (len(c.Buckets) > 0) {
			t.Errorf("%s is a %s with buckets %v", c.Name, c.Type, c.Buckets)
		}
		for _, l := range c.Labels {
			if l.Values == nil && !open[l.Name] {
				t.Errorf("%s: say in its def.sets which values %q can have; nil, and a line in this test, if they come from outside", c.Name, l.Name)
			}
		}
	}
}

// What is shown after a morning keeps the contract.
func TestContractIsKept(t *testing.T) {
	s, _, m := newStream(t)
	story(s)
	all, err := metrics.List()
	if err != nil {
		t.Fatal(err)
	}
	promised := map[string]metrics.Contract{}
	for _, c := range all {
		promised[c.Name] = c
	}
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		c, ok := promised[f.GetName()]
		if !ok || c.Type != strings.ToLower(f.GetType().String()) || c.Help != f.GetHelp() {
			t.Errorf("%s, a %s, is promised as %+v", f.GetName(), f.GetType(), c)
			continue
		}
		for _, m := range f.Metric {
			keeps(t, c, m)
		}
	}
}

func keeps(t *testing.T, c metrics.Contract, m *dto.Metric) {
	t.Helper()
	if len(m.Label) != len(c.Labels) {
		t.Errorf("%s has labels %v, promised are %v", c.Name, m.Label, c.Labels)
		return
	}
	for i, l := range m.Label {
		if p := c.Labels[i]; l.GetName() != p.Name || p.Values != nil && !slices.Contains(p.Values, l.GetValue()) {
			t.Errorf("%s has %v, promised is %+v", c.Name, l, p)
		}
	}
}

func TestLists(t *testing.T) {
	all, err := metrics.List(func(r prometheus.Registerer) {
		r.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "glassrunner_odd_bytes_total", Help: "Odd."}))
	})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(c metrics.Contract) bool { return c.Name == "glassrunner_odd_bytes_total" })
	if i < 0 || all[i].Unit != "bytes" || all[i].Type != "counter" || all[i].Stability != "beta" {
		t.Errorf("what others register is %d: %+v", i, all[max(0, i)])
	}
	var text, js bytes.Buffer
	if err := metrics.WriteText(&text, all); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(text.String(), "\n"); n != len(all)+1 {
		t.Errorf("%d lines for %d metrics", n, len(all))
	}
	if err := metrics.WriteJSON(&js, all); err != nil {
		t.Fatal(err)
	}
	var back []metrics.Contract
	if err := json.Unmarshal(js.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(all, back); d != "" {
		t.Errorf("JSON (-want +got):\n%s", d)
	}
	for _, c := range all {
		if c.Name == "go_goroutines" && c.Stability != "external" {
			t.Errorf("%+v is not external", c)
		}
	}
}

// The simulation tells what a process with that configuration really shows.
func TestSimulate(t *testing.T) {
	for _, n := range []int{0, 1, 7} {
		loaded := event.ConfigLoaded{Generation: 1, Concurrent: 4, Runners: runners(n), TopProjects: 10}
		counts, err := metrics.Simulate(loaded, metrics.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s, _, m := newStream(t)
		s.emit(event.Scope{}, loaded)
		real := map[string]int{}
		for line := range strings.Lines(scrape(t, m)) {
			if strings.HasPrefix(line, "#") {
				continue
			}
			name := line[:strings.IndexAny(line, "{ ")]
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if base, ok := strings.CutSuffix(name, suffix); ok && isHistogram(counts, base) {
					name = base
				}
			}
			real[name]++
		}
		sum := 0
		for _, c := range counts {
			sum += c.Start
			if c.Start != real[c.Name] {
				t.Errorf("%d runners: %s has %d series, simulated were %d", n, c.Name, real[c.Name], c.Start)
			}
			if c.Most < c.Start {
				t.Errorf("%s: at most %d, %d at the start", c.Name, c.Most, c.Start)
			}
		}
		if got := samples(scrape(t, m)); got != sum {
			t.Errorf("%d runners: %d series, simulated were %d", n, got, sum)
		}
		var b bytes.Buffer
		if err := metrics.WriteCounts(&b, counts); err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(b.String(), "\n"); lines != len(counts)+2 {
			t.Errorf("%d lines for %d counts", lines, len(counts))
		}
	}
}

func isHistogram(counts []metrics.Count, name string) bool {
	return slices.ContainsFunc(counts, func(c metrics.Count) bool { return c.Name == name })
}
