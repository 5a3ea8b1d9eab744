package metrics_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// traced is a job with a trace; it takes so long.
func traced(s *stream, id uint64, sampled bool, took time.Duration) event.Trace {
	a := event.Scope{Runner: runner("abcdefghi"), Job: job.ID(id), Run: id, Trace: event.NewTrace(event.TraceID{}, event.SpanID{}, sampled)}
	s.emit(a, event.JobReceived{})
	s.emit(a, event.JobStarted{HighCardinality: true, Info: job.Info{TimeInQueue: took}})
	s.emit(a, event.PhaseFinished{Phase: "step_script", Took: took})
	s.emit(a, event.JobFinished{Outcome: job.Outcome{Prepared: true}, State: job.Success, Took: took})
	s.emit(a, event.JobRemoved{})
	return a.Trace
}

func TestExemplars(t *testing.T) {
	s, _, m := newStream(t)
	story(s)
	plain := text(t, m, true)
	if strings.Contains(plain, " # {") {
		t.Error("there are exemplars without traces")
	}
	traced(s, 100, false, 2*time.Second)
	if strings.Contains(text(t, m, true), " # {") {
		t.Error("a trace that is not recorded has become an exemplar")
	}
	first := traced(s, 101, true, 2*time.Second)
	last := traced(s, 102, true, 100*time.Hour) // in the bucket without a bound
	for _, name := range []string{
		"glassrunner_job_duration_seconds", "glassrunner_job_stage_duration_seconds", "gitlab_runner_job_duration_seconds",
		"gitlab_runner_job_queue_duration_seconds", "gitlab_runner_job_stage_duration_seconds",
	} {
		for _, tr := range []event.Trace{first, last} {
			if !regexp.MustCompile(`(?m)^` + name + `_bucket\{.*\} \d+ # \{trace_id="` + tr.ID.String() + `"\} [\d.]+ [\d.e+]+$`).MatchString(text(t, m, true)) {
				t.Errorf("%s has no exemplar of %s", name, tr.ID)
			}
		}
	}
	for _, openMetrics := range []bool{false, true} {
		if d := cmp.Diff(strings.Split(gathered(t, m, openMetrics), "\n"), strings.Split(text(t, m, openMetrics), "\n")); d != "" {
			t.Errorf("openMetrics=%t: our text differs from the library's (-library +ours):\n%s", openMetrics, d)
		}
	}
	if strings.Contains(text(t, m, false), "trace_id") {
		t.Error("the plain format has exemplars")
	}
	// A bucket that is only there for its exemplar is no further series.
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	g, _ := m.Gatherer().(interface {
		AppendText(dst []byte, openMetrics bool) ([]byte, error)
	})
	b, err := g.AppendText(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "glassrunner_series" && !strings.Contains(string(b), fmt.Sprintf("\nglassrunner_series %d\n", int(f.Metric[0].Gauge.GetValue()))) {
			t.Errorf("the text has another glassrunner_series than %v", f.Metric[0].Gauge.GetValue())
		}
	}
}
