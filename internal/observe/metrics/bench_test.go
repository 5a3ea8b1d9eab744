package metrics_test

import (
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/board"
	"github.com/glassrunner/glassrunner/internal/observe/metrics"
)

// stream numbers and times facts as a Bus does, without the wall clock.
type stream struct {
	seq       uint64
	now       time.Time
	observers []event.Observer
}

func (s *stream) emit(scope event.Scope, f event.Fact) {
	s.seq++
	e := event.Event{Seq: s.seq, Time: s.now, Scope: scope, Fact: f}
	for _, o := range s.observers {
		o.Observe(e)
	}
}

func newStream(tb testing.TB) (*stream, *board.Board, *metrics.Metrics) {
	tb.Helper()
	s := &stream{now: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)}
	b := board.New(board.Options{})
	m := metrics.New(metrics.Options{
		Board: b, SystemID: "s_0123456789ab", Now: func() time.Time { return s.now },
		Build: metrics.Build{
			Name: "glassrunner", Version: "1.2.3", Revision: "deadbeef", Branch: "main", BuiltAt: "2026-05-01T00:00:00Z",
			GoVersion: "go1.26", OS: "linux", Architecture: "amd64",
		},
	})
	s.observers = []event.Observer{b, m}
	return s, b, m
}

func runners(n int) []event.Limits {
	all := make([]event.Limits, n)
	for i := range all {
		all[i] = event.Limits{
			Runner: job.Runner{Short: fmt.Sprintf("abcdefg%02d", i), Name: fmt.Sprintf("runner %d", i), SystemID: "s_0123456789ab", Executor: "shell"},
			URL:    "https://gitlab.example.org", Limit: i, RequestConcurrency: 2,
		}
	}
	return all
}

// jobFacts are those of one ordinary job.
func jobFacts() []event.Fact {
	facts := []event.Fact{
		event.Polled{Result: "job"},
		event.Called{Endpoint: "request_job", Method: "post", Path: "/api/v4/jobs/request", Status: 201, Attempts: 1, Took: 20 * time.Millisecond},
		event.JobReceived{Info: job.Info{Name: "build", ProjectID: 7}},
		event.Called{Endpoint: "update_job", Method: "put", Path: "/api/v4/jobs/{id}", Status: 200, Attempts: 1, Took: 5 * time.Millisecond},
		event.JobStarted{Info: job.Info{Name: "build", ProjectID: 7, TimeInQueue: 3 * time.Second, ProjectJobsRunningOnInstanceRunners: "2"}, URL: "https://gitlab.example.org/g/p/-/jobs/1"},
		event.JobState{State: job.Pending},
		event.ExecutorStage{Stage: "prepare"},
	}
	for _, p := range []job.Phase{job.PrepareExecutor, job.PrepareScript, job.GetSources, "step_script", job.AfterScript} {
		if p == job.PrepareScript {
			facts = append(facts, event.JobState{State: job.Running})
		}
		facts = append(facts, event.PhaseStarted{Phase: p}, event.LogWritten{Bytes: 100, Total: 100}, event.PhaseFinished{Phase: p, Took: 30 * time.Millisecond})
	}
	return append(facts,
		event.LogSent{Bytes: 100, Total: 100, Took: time.Millisecond},
		event.Called{Endpoint: "patch_trace", Method: "patch", Path: "/api/v4/jobs/{id}/trace", Status: 202, Attempts: 1, Took: 5 * time.Millisecond},
		event.JobFinished{Outcome: job.Outcome{Prepared: true}, State: job.Success, Took: 200 * time.Millisecond, Mode: "traditional"},
		event.Called{Endpoint: "update_job", Method: "put", Path: "/api/v4/jobs/{id}", Status: 200, Attempts: 1, Took: 5 * time.Millisecond},
		event.JobRemoved{Took: 6 * time.Millisecond},
	)
}

// busy is a process with entries that have had jobs and with running jobs.
func busy(tb testing.TB, entries, running int) (*stream, *metrics.Metrics) {
	tb.Helper()
	s, _, m := newStream(tb)
	all := runners(entries)
	s.emit(event.Scope{}, event.ConfigLoaded{Path: "config.toml", Hash: "cafe", Generation: 1, Concurrent: running, Runners: all})
	s.emit(event.Scope{}, event.ProcessChanged{State: event.ProcessRunning})
	for i, r := range all {
		for _, f := range jobFacts() {
			s.emit(event.Scope{Runner: r.Runner, Job: job.ID(i + 1), Run: uint64(i + 1)}, f)
		}
	}
	facts := jobFacts()
	for i := range running {
		r := all[i%entries]
		for _, f := range facts[:10+i%8] {
			s.emit(event.Scope{Runner: r.Runner, Job: job.ID(1000 + i), Run: uint64(1000 + i)}, f)
		}
	}
	return s, m
}

func BenchmarkObserveJob(b *testing.B) {
	s, _, m := newStream(b)
	all := runners(10)
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 1, Concurrent: 10, Runners: all})
	facts := jobFacts()
	s.observers = []event.Observer{m}
	id := 0
	for b.Loop() {
		id++
		scope := event.Scope{Runner: all[id%10].Runner, Job: job.ID(id), Run: uint64(id)}
		for _, f := range facts {
			s.emit(scope, f)
		}
	}
	b.ReportMetric(float64(len(facts)), "facts/op")
}

func BenchmarkText(b *testing.B) {
	_, m := busy(b, 10, 100)
	g, ok := m.Gatherer().(interface {
		AppendText(dst []byte, openMetrics bool) ([]byte, error)
	})
	if !ok {
		b.Fatal("no AppendText")
	}
	for _, om := range []bool{false, true} {
		b.Run(fmt.Sprintf("openmetrics=%t", om), func(b *testing.B) {
			b.ReportAllocs()
			var buf []byte
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				var err error
				if buf, err = g.AppendText(buf[:0], om); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64(len(buf)), "bytes")
		})
	}
}

func BenchmarkGather(b *testing.B) {
	_, m := busy(b, 10, 100)
	g := m.Gatherer()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkScrape(b *testing.B) {
	for _, format := range []struct {
		name string
		f    expfmt.Format
	}{{"text", expfmt.NewFormat(expfmt.TypeTextPlain)}, {"openmetrics", expfmt.NewFormat(expfmt.TypeOpenMetrics)}, {"protobuf", expfmt.NewFormat(expfmt.TypeProtoDelim)}} {
		b.Run(format.name, func(b *testing.B) {
			_, m := busy(b, 10, 100)
			g := m.Gatherer()
			b.ReportAllocs()
			size := new(counter)
			for b.Loop() {
				*size = 0
				all, err := g.Gather()
				if err != nil {
					b.Fatal(err)
				}
				enc := expfmt.NewEncoder(size, format.f)
				for _, f := range all {
					if err := enc.Encode(f); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(*size), "bytes")
		})
	}
}

type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

var _ io.Writer = (*counter)(nil)
