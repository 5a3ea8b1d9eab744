package admin_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/admin"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/board"
	"github.com/glassrunner/glassrunner/internal/pulse"
)

// probe asks s and decodes what it says.
func probe[T any](t *testing.T, s *admin.Server, path string) (int, T) {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	var v T
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%s: %v in %q", path, err, w.Body)
	}
	return w.Code, v
}

type healthRig struct {
	*admin.Server
	bus   *event.Bus
	pulse *pulse.Monitor
}

func newHealthRig() *healthRig {
	r := &healthRig{pulse: pulse.New()}
	b := board.New(board.Options{})
	r.bus = event.NewBus(b)
	reg := prometheus.NewRegistry()
	r.Server = admin.New(admin.Options{Gatherer: reg, Registry: reg, Board: b, Bus: r.bus, Pulse: r.pulse})
	return r
}

func TestHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHealthRig()
		loop, cleanup := r.pulse.Part(pulse.Scheduler, "loop"), r.pulse.Part(pulse.Executors, "job 7")
		loop.Within(25 * time.Second)
		cleanup.Within(time.Minute)
		check := func(path string, code int, want admin.Liveness) {
			t.Helper()
			got, l := probe[admin.Liveness](t, r.Server, path)
			if got != code {
				t.Errorf("%s: status %d, want %d", path, got, code)
			}
			if d := cmp.Diff(want, l); d != "" {
				t.Errorf("%s (-want +got):\n%s", path, d)
			}
		}
		all := func(scheduler, executors bool) map[pulse.Component]bool {
			return map[pulse.Component]bool{pulse.Scheduler: scheduler, pulse.Polling: true, pulse.Executors: executors}
		}
		check("/-/healthy", 200, admin.Liveness{Healthy: true, Components: all(true, true)})
		time.Sleep(30 * time.Second) // faked
		stuck := admin.LatePart{Component: pulse.Scheduler, What: "loop", LateSeconds: 5}
		check("/-/healthy", 503, admin.Liveness{Components: all(false, true), Late: []admin.LatePart{stuck}})
		loop.Within(time.Hour)
		time.Sleep(time.Minute)
		stuck = admin.LatePart{Component: pulse.Executors, What: "job 7", LateSeconds: 30}
		check("/-/healthy", 503, admin.Liveness{Components: all(true, false), Late: []admin.LatePart{stuck}})
		check("/-/healthy?exclude=executors", 200, admin.Liveness{Healthy: true, Components: all(true, false), Late: []admin.LatePart{stuck}})
		check("/-/healthy?exclude=scheduler", 503, admin.Liveness{Components: all(true, false), Late: []admin.LatePart{stuck}})
		cleanup.End()
		check("/-/healthy", 200, admin.Liveness{Healthy: true, Components: all(true, true)})
	})
}

// The answer needs no lock of the stream: an observer that hangs takes none of it.
func TestHealthyBesideAHangingObserver(t *testing.T) {
	m := pulse.New()
	b := board.New(board.Options{})
	hangs, release := make(chan struct{}), make(chan struct{})
	bus := event.NewBus(b, event.ObserverFunc(func(event.Event) { close(hangs); <-release }))
	reg := prometheus.NewRegistry()
	s := admin.New(admin.Options{Gatherer: reg, Registry: reg, Board: b, Bus: bus, Pulse: m})
	part := m.Part(pulse.Scheduler, "loop")
	part.Within(-time.Second)
	done := make(chan struct{})
	go func() { defer close(done); bus.Emit(t.Context(), event.Fed{}) }()
	<-hangs
	if code, _ := probe[admin.Liveness](t, s, "/-/healthy"); code != 503 {
		t.Errorf("/-/healthy: %d, want 503", code)
	}
	if code, a := probe[admin.Readiness](t, s, "/-/ready"); code != 503 || a.Ready {
		t.Errorf("/-/ready: %d %+v, want 503", code, a)
	}
	close(release)
	<-done
}

func TestReady(t *testing.T) {
	a := job.Runner{Short: "abcdefghi", Name: "one", SystemID: "s_0123456789ab", Executor: "shell"}
	b := job.Runner{Short: "zyxwvutsr", Name: "two", SystemID: "s_0123456789ab", Executor: "docker"}
	loaded := event.ConfigLoaded{Generation: 1, Concurrent: 2, Runners: []event.Limits{{Runner: a}, {Runner: b}}}
	blocked := func(b event.Block) event.Fact { return event.BlockChanged{Block: b} }
	type told struct {
		runner job.Runner
		fact   event.Fact
	}
	for _, c := range []struct {
		name    string
		facts   []told
		late    pulse.Component
		ready   bool
		reason  string
		runners []string // reason of each that is in the answer
	}{
		{"no configuration", nil, "", false, "no_runners", nil},
		{"no runners", []told{{fact: event.ConfigLoaded{Generation: 1}}}, "", false, "no_runners", nil},
		{"before the scheduler", []told{{fact: loaded}}, "", false, "starting", []string{"starting", "starting"}},
		{"nothing to do", []told{{a, blocked(event.BlockNoJobs)}, {b, blocked(event.BlockNoJobs)}}, "", true, "", []string{"no_jobs", "no_jobs"}},
		{"full", []told{{a, blocked(event.BlockConcurrent)}, {b, blocked(event.BlockLimit)}}, "", true, "", []string{"concurrent", "limit"}},
		{"no executor free", []told{{a, blocked(event.BlockExecutor)}, {b, blocked(event.BlockRequests)}}, "", true, "", []string{"executor_capacity", "request_concurrency"}},
		{"one is enough", []told{{a, blocked(event.BlockCoordinator)}, {b, blocked(event.BlockNoJobs)}}, "", true, "", []string{"coordinator", "no_jobs"}},
		{"outage", []told{{a, blocked(event.BlockCoordinator)}, {b, blocked(event.BlockCoordinator)}}, "", false, "coordinator", []string{"coordinator", "coordinator"}},
		{"two reasons", []told{{a, blocked(event.BlockCoordinator)}, {b, blocked(event.BlockDisk)}}, "", false, "coordinator, disk", []string{"coordinator", "disk"}},
		{"shutdown", []told{{a, blocked(event.BlockShutdown)}, {b, blocked(event.BlockShutdown)}}, "", false, "shutdown", []string{"shutdown", "shutdown"}},
		{"stuck", []told{{a, blocked(event.BlockNoJobs)}, {b, blocked(event.BlockNoJobs)}}, pulse.Scheduler, false, "stuck", []string{"stuck", "stuck"}},
		{"a job that does not end", []told{{a, blocked(event.BlockNoJobs)}, {b, blocked(event.BlockPaused)}}, pulse.Executors, true, "", []string{"no_jobs", "paused"}},
		{
			"removed, but with a job", []told{{a, event.JobStarted{}}, {fact: event.ConfigLoaded{Generation: 2, Runners: []event.Limits{{Runner: b}}}}, {b, blocked(event.BlockNoJobs)}},
			"", true, "", []string{"no_jobs"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newHealthRig()
			if len(c.facts) > 1 {
				r.bus.Emit(t.Context(), loaded)
			}
			for _, f := range c.facts {
				r.bus.Emit(event.WithRunner(t.Context(), f.runner), f.fact)
			}
			if c.late != "" {
				r.pulse.Part(c.late, "it").Within(-time.Second)
			}
			code, got := probe[admin.Readiness](t, r.Server, "/-/ready")
			if wantCode := map[bool]int{true: 200, false: 503}[c.ready]; code != wantCode || got.Ready != c.ready || got.Reason != c.reason {
				t.Errorf("%d, ready %v for %q, want %d, %v, %q", code, got.Ready, got.Reason, wantCode, c.ready, c.reason)
			}
			var reasons []string
			for _, n := range got.Runners {
				reasons = append(reasons, n.Reason)
			}
			if d := cmp.Diff(c.runners, reasons); d != "" {
				t.Errorf("runners (-want +got):\n%s", d)
			}
		})
	}
}

func TestReadyTellsTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHealthRig()
		a := job.Runner{Short: "abcdefghi", Name: "one", SystemID: "s_0123456789ab", Executor: "shell"}
		ctx := event.WithRunner(t.Context(), a)
		begin := time.Now().UTC()
		until := begin.Add(time.Hour)
		r.bus.Emit(ctx, event.ConfigLoaded{Generation: 1, Runners: []event.Limits{{Runner: a}}})
		r.bus.Emit(ctx, event.Polled{Result: "job"})
		r.bus.Emit(ctx, event.JobReceived{})
		time.Sleep(time.Second) // faked
		r.bus.Emit(ctx, event.HealthChecked{Failures: 3, DisabledUntil: until})
		r.bus.Emit(ctx, event.BlockChanged{Block: event.BlockUnhealthy})
		want := admin.Readiness{Reason: "unhealthy", Runners: []admin.RunnerReadied{{
			Runner: "abcdefghi", Name: "one", SystemID: "s_0123456789ab", Executor: "shell", Reason: "unhealthy",
			Since: begin.Add(time.Second), LastSuccessfulPoll: begin, LastJobReceived: begin, DisabledUntil: until,
		}}}
		code, got := probe[admin.Readiness](t, r.Server, "/-/ready")
		if d := cmp.Diff(want, got, cmpopts.EquateApproxTime(0)); code != 503 || d != "" {
			t.Errorf("status %d (-want +got):\n%s", code, d)
		}
	})
}

func TestHealthMethods(t *testing.T) {
	r := newHealthRig()
	for _, path := range []string{"/-/healthy", "/-/ready"} {
		w := httptest.NewRecorder()
		r.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, nil))
		if w.Code != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d, want 405", path, w.Code)
		}
	}
}
