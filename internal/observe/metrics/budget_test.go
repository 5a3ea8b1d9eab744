package metrics_test

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/board"
	"github.com/glassrunner/glassrunner/internal/observe/metrics"
)

// total adds up all samples whose line begins with prefix.
func total(tb testing.TB, all, prefix string) (n float64) {
	tb.Helper()
	for line := range strings.Lines(all) {
		if !strings.HasPrefix(line, prefix) {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
		if err != nil {
			tb.Fatal(err)
		}
		n += v
	}
	return n
}

// scrape is the whole exposition.
func scrape(tb testing.TB, m *metrics.Metrics) string {
	tb.Helper()
	g, ok := m.Gatherer().(interface {
		AppendText(dst []byte, openMetrics bool) ([]byte, error)
	})
	if !ok {
		tb.Fatal("the gatherer has no AppendText")
	}
	b, err := g.AppendText(nil, false)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func samples(all string) (n int) {
	for line := range strings.Lines(all) {
		if !strings.HasPrefix(line, "#") {
			n++
		}
	}
	return n
}

func limited(tb testing.TB, budget metrics.Budget) (*stream, *metrics.Metrics) {
	tb.Helper()
	s := &stream{now: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)}
	b := board.New(board.Options{})
	m := metrics.New(metrics.Options{Board: b, SystemID: "s_0123456789ab", Now: func() time.Time { return s.now }, Budget: budget})
	s.observers = []event.Observer{b, m}
	return s, m
}

// More runners than the budget has room for: each job is counted, once.
func TestTooManyRunners(t *testing.T) {
	s, m := limited(t, metrics.Budget{Runners: 5, Metric: 400, Total: 12_000})
	all := runners(40)
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 1, Concurrent: 10, Runners: all, TopProjects: 3})
	const jobs = 200
	for i := range jobs {
		scope := event.Scope{Runner: all[i%len(all)].Runner, Job: job.ID(i + 1), Run: uint64(i + 1)}
		for _, f := range jobFacts() {
			s.emit(scope, f)
		}
	}
	x := scrape(t, m)
	for _, prefix := range []string{
		"gitlab_runner_jobs_total", "glassrunner_jobs_finished_total", "glassrunner_job_duration_seconds_count", "gitlab_runner_job_duration_seconds_count",
	} {
		if got := total(t, x, prefix); got != jobs {
			t.Errorf("%s: %v in all, want %d", prefix, got, jobs)
		}
	}
	if got := total(t, x, "glassrunner_job_stage_duration_seconds_count"); got != 5*jobs {
		t.Errorf("%v phases, want %d", got, 5*jobs)
	}
	if !strings.Contains(x, `glassrunner_jobs_finished_total{reason="none",result="success",runner="__overflow__",runner_name="__overflow__",system_id="__overflow__"} 175`) {
		t.Errorf("35 of 40 runners do not share a series:\n%s", grep(x, "glassrunner_jobs_finished_total"))
	}
	if got := total(t, x, "glassrunner_jobs_running"); got != 0 {
		t.Errorf("%v jobs run, want none", got)
	}
	if n := samples(x); n > 12_000 {
		t.Errorf("%d series, the budget is 12000", n)
	}
	if a, b := gathered(t, m, false), text(t, m, false); a != b {
		t.Errorf("ours differs from the library's:\n%s", cmp.Diff(strings.Split(a, "\n"), strings.Split(b, "\n")))
	}
	// With fewer runners the shared series go.
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 2, Runners: all[:3]})
	if rest := grep(scrape(t, m), `runner="__overflow__"`); rest != "" {
		t.Errorf("shared series of nobody:\n%s", rest)
	}
}

// A metric whose budget is used up: its own series and that of all others
// add up, and it is counted.
func TestMetricBudget(t *testing.T) {
	s, m := limited(t, metrics.Budget{Metric: 50})
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 1, Runners: runners(1)})
	const calls = 3000
	for i := range calls {
		s.emit(event.Scope{}, event.Called{Endpoint: fmt.Sprint("endpoint", i%300), Method: "get", Path: "/x", Status: 200, Attempts: 1, Took: time.Second})
	}
	x := scrape(t, m)
	for _, prefix := range []string{"glassrunner_api_request_attempts_total", "glassrunner_api_request_duration_seconds_count"} {
		if got := total(t, x, prefix); got != calls {
			t.Errorf("%s: %v in all, want %d", prefix, got, calls)
		}
	}
	for family, lines := range map[string]int{"glassrunner_api_request_duration_seconds": 10, "glassrunner_api_request_attempts_total": 1, "glassrunner_api_request_errors_total": 1} {
		if n := strings.Count(x, "\n"+family); n > 50+lines {
			t.Errorf("%s has %d lines, its budget is 50", family, n)
		}
		if got := total(t, x, `glassrunner_series_overflow_total{metric="`+family+`"}`); got == 0 && family != "glassrunner_api_request_attempts_total" {
			t.Errorf("%s: nothing tells that it overflowed", family)
		}
	}
	if !strings.Contains(x, "\nglassrunner_series_budget 200000\n") {
		t.Error("the budget is not shown")
	}
	if a, b := gathered(t, m, false), text(t, m, false); a != b {
		t.Errorf("ours differs from the library's:\n%s", cmp.Diff(strings.Split(a, "\n"), strings.Split(b, "\n")))
	}
}

// Values outside of a closed set are shown as other, and counted.
func TestClosedSets(t *testing.T) {
	s, _, m := newStream(t)
	story(s)
	if got := total(t, scrape(t, m), "glassrunner_series_invalid_values_total{"); got != 0 {
		t.Errorf("%v values of an ordinary morning are of no set", got)
	}
	s.emit(event.Scope{Runner: runner("abcdefghi")}, event.Called{Endpoint: "request_job", Method: "brew", Path: "/", Status: 418, Attempts: 1})
	x := scrape(t, m)
	if !strings.Contains(x, `gitlab_runner_api_request_statuses_total{endpoint="request_job",method="other",runner="abcdefghi",status="418",system_id="s_0123456789ab"} 1`) {
		t.Errorf("the method is not other:\n%s", grep(x, "418"))
	}
	if got := total(t, x, `glassrunner_series_invalid_values_total{metric="gitlab_runner_api_request_statuses_total"}`); got != 1 {
		t.Errorf("%v values outside of the set, want 1", got)
	}
}

// TestHostileStream: a million different names of projects, jobs and runners
// leave the exposition within its budget, the sums exact and the process small.
func TestHostileStream(t *testing.T) {
	const guests = 1000 // one of so many jobs is a guest's
	n := 1_000_000
	if testing.Short() || watched {
		n = 50_000
	}
	s, m := limited(t, metrics.Budget{})
	all := runners(10)
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 1, Concurrent: 10, Runners: all, TopProjects: 50})
	one := func(i int) {
		r := all[i%len(all)].Runner
		// It has left the configuration, or never was in it.
		gone := job.Runner{Short: fmt.Sprint("r", i), Name: fmt.Sprint("runner ", i), SystemID: "s_0123456789ab", Executor: fmt.Sprint("executor", i)}
		if i%guests == 0 {
			r = gone
		}
		word := fmt.Sprint("word ", i)
		info := job.Info{Name: word, Stage: word, ProjectID: int64(i), ProjectFullPath: fmt.Sprint("group/project-", i), ProjectJobsRunningOnInstanceRunners: word}
		scope := event.Scope{Runner: r, Job: job.ID(i + 1), Run: uint64(i + 1)}
		s.emit(scope, event.JobReceived{Info: info})
		s.emit(scope, event.JobStarted{Info: info, HighCardinality: true})
		s.emit(scope, event.PhaseStarted{Phase: job.Phase("step_" + word)})
		s.emit(scope, event.PhaseFinished{Phase: job.Phase("step_" + word), Took: time.Second})
		s.emit(scope, event.JobFinished{Outcome: job.Outcome{Prepared: true}, Took: time.Second})
		s.emit(scope, event.JobRemoved{})
		s.emit(event.Scope{Runner: gone}, event.BlockChanged{Block: event.Block(word)})
		s.emit(event.Scope{Runner: gone}, event.Polled{Result: word})
		s.emit(event.Scope{Runner: r}, event.BlockChanged{Block: event.Block(word)})
		s.emit(event.Scope{Runner: r}, event.Degraded{What: word})
	}
	for i := range 20_000 {
		one(i)
	}
	before := heap()
	for i := 20_000; i < n; i++ {
		one(i)
	}
	grown := int64(heap()) - int64(before)
	if grown > 10<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	t.Logf("the heap grew by %d KiB", grown>>10)
	start := time.Now()
	x := scrape(t, m)
	if took := time.Since(start); took > time.Second {
		t.Errorf("a scrape took %v", took)
	}
	if got := samples(x); got > 10_000 {
		t.Errorf("%d series of 10 runners", got)
	}
	// What runners outside of the configuration did goes with them.
	own := float64(n - n/guests)
	for _, prefix := range []string{"gitlab_runner_jobs_total", "glassrunner_jobs_finished_total", "glassrunner_job_duration_seconds_sum"} {
		if got := total(t, x, prefix); got != own {
			t.Errorf("%s: %v in all, want %v", prefix, got, own)
		}
	}
	if got := total(t, x, "glassrunner_project_job_seconds_total"); got != float64(n) {
		t.Errorf("%v seconds of projects, want %d", got, n)
	}
	if got := strings.Count(x, "\nglassrunner_project_job_seconds_total{"); got > 51 {
		t.Errorf("%d series of projects, want 51 at most", got)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// Before there is a configuration every runner that is told of is shown, up
// to a bound.
func TestHostileStart(t *testing.T) {
	s, m := limited(t, metrics.Budget{Runners: 20})
	const n = 5000
	for i := range n {
		r := job.Runner{Short: fmt.Sprint(i), SystemID: "s_0123456789ab"}
		s.emit(event.Scope{Runner: r}, event.Fed{})
	}
	x := scrape(t, m)
	if got := total(t, x, "gitlab_runner_worker_feeds_total"); got != n {
		t.Errorf("%v turns, want %d", got, n)
	}
	if got := samples(x); got > 10_000 {
		t.Errorf("%d series", got)
	}
	if a, b := gathered(t, m, false), text(t, m, false); a != b {
		t.Error("ours differs from the library's")
	}
}
