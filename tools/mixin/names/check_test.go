package names_test

import (
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/tools/mixin/names"
)

func catalogue(t *testing.T) *names.Catalogue {
	t.Helper()
	c, err := names.New([]names.Metric{
		{Name: "jobs", Type: "gauge", Labels: []names.Label{{Name: "runner"}, {Name: "state", Values: []string{"idle", "running"}}}},
		{Name: "limit", Type: "gauge", Labels: []names.Label{{Name: "runner"}}},
		{Name: "wait_seconds", Type: "histogram", Labels: []names.Label{{Name: "runner"}}, Buckets: []float64{0.5, 1, 60}},
		{Name: "pause_seconds", Type: "summary"},
		{Name: "info", Type: "gauge", Labels: []names.Label{{Name: "version"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		expr string
		want string // part of the problem; empty: none
	}{
		{`sum by (runner) (jobs{state="running"})`, ""},
		{`jobs_total`, `no metric "jobs_total"`},
		{`sum(job{state="running"})`, `no metric "job"`},
		{`jobs{stage="x"}`, `no label "stage"`},
		{`jobs{state="waiting"}`, `never "waiting"`},
		{`jobs{state!="waiting"}`, `never "waiting"`},
		{`jobs{state=~"idle|running"}`, ""},
		{`jobs{state=~"idle|waiting"}`, `never "waiting"`},
		{`jobs{state!~"idle|waiting"}`, `never "waiting"`},
		{`jobs{state=~"run.*"}`, ""},
		{`jobs{state=~"wait.*"}`, `never "wait.*"`},
		{`jobs{state=~"$state"}`, ""},
		{`jobs{runner="anything",job="x",instance=~"y"}`, ""},
		{`sum by (system_id) (jobs)`, `no label "system_id"`},
		{`sum without (system_id) (jobs)`, `no label "system_id"`},
		{`sum by (state) (sum by (runner) (jobs))`, `no label "state"`},
		{`wait_seconds_bucket{le="60"} + wait_seconds_bucket{le="60.0"}`, ""},
		{`wait_seconds_bucket{le=~"60(\\.0)?"}`, ""},
		{`wait_seconds_bucket{le="30"}`, `never "30"`},
		{`wait_seconds_count{le="60"}`, `no label "le"`},
		{`histogram_quantile(0.5, sum by (le) (rate(wait_seconds_bucket[5m])))`, ""},
		{`sum by (le) (histogram_quantile(0.5, rate(wait_seconds_bucket[5m])))`, `no label "le"`},
		{`histogram_count(wait_seconds)`, ""},
		{`pause_seconds{quantile="0.5"} / pause_seconds_count`, "the sides never match"},
		{`jobs / limit`, "the sides never match"},
		{`sum without (state) (jobs) / limit`, ""},
		{`jobs / ignoring (state) group_left () limit`, ""},
		{`jobs / on (runner) group_left (version) limit`, `no label "version"`},
		{`jobs * on (job, instance) group_left (version) info`, ""},
		{`sum by (version) (jobs * on (job, instance) group_left (version) info)`, ""},
		{`sum by (version) (jobs * on (job, instance) group_left () info)`, `no label "version"`},
		{`jobs and on (job) limit`, ""},
		{`jobs and limit`, "the sides never match"},
		{`jobs unless on (version) limit`, `no label "version"`},
		{`sum by (state) (jobs or limit)`, ""},
		{`sum by (x) (label_replace(jobs, "x", "$1", "runner", "(.*)"))`, ""},
		{`topk by (job) (1, jobs) > 0`, ""},
		{`sum by (state) (topk(1, jobs))`, ""},
		{`time() - jobs{state="nope"} > 1`, `never "nope"`},
		{`max_over_time(sum(jobs{state="nope"})[5m:1m])`, `never "nope"`},
		{`ALERTS{alertname="X",alertstate="gone"}`, `never "gone"`},
		{`sum(`, "parse error"},
		{`{__name__=~"jobs.*"}`, `no metric ""`},
	} {
		_, problems := catalogue(t).Check(tt.expr)
		got := strings.Join(problems, "\n")
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.expr, got, tt.want)
		}
	}
}

func TestLabels(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		expr    string
		has, no string
	}{
		{`jobs`, "runner state job instance", "le version"},
		{`sum by (runner) (jobs)`, "runner", "job state"},
		{`sum(jobs) > 1`, "", "job"},
		{`jobs == on (runner) limit`, "runner", "state job"},
		{`1 - limit`, "runner", ""},
		{`absent(jobs)`, "", "runner"},
	} {
		labels, _ := catalogue(t).Check(tt.expr)
		for l := range strings.FieldsSeq(tt.has) {
			if !labels.Has(l) {
				t.Errorf("%s: it lacks %s", tt.expr, l)
			}
		}
		for l := range strings.FieldsSeq(tt.no) {
			if labels.Has(l) {
				t.Errorf("%s: it has %s", tt.expr, l)
			}
		}
	}
}

func TestRecord(t *testing.T) {
	t.Parallel()
	c := catalogue(t)
	if p := c.Record("runner:jobs:sum", `sum by (runner) (jobs)`); len(p) > 0 {
		t.Error(p)
	}
	if _, p := c.Check(`runner:jobs:sum{runner="x"}`); len(p) > 0 {
		t.Error(p)
	}
	if _, p := c.Check(`runner:jobs:sum{state="running"}`); len(p) == 0 {
		t.Error("a label that the rule has dropped is accepted")
	}
	if p := c.Record("runner:jobs:sum", `jobs`); len(p) == 0 {
		t.Error("a second rule with one name is accepted")
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	list, err := names.Read(strings.NewReader(`[{"name":"x","type":"gauge","help":"X.","labels":[{"name":"a","values":null},{"name":"b","values":["1"]}]}]`))
	if err != nil {
		t.Fatal(err)
	}
	c, err := names.New(list)
	if err != nil {
		t.Fatal(err)
	}
	if _, p := c.Check(`x{a="anything",b="2"}`); len(p) != 1 {
		t.Errorf("got %v, want one problem", p)
	}
	for _, bad := range []string{``, `[]`, `{}`} {
		if _, err := names.Read(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	if _, err := names.New([]names.Metric{{Name: "x", Type: "enum"}}); err == nil {
		t.Error("an unknown type is accepted")
	}
}
