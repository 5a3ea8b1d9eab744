package app_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/admin"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/scheduler"
)

// probes asks both questions of a server and returns their answers.
func probes(t *testing.T, s *admin.Server) (healthy int, ready int, reason string) {
	t.Helper()
	ask := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w
	}
	w := ask("/-/ready")
	var a admin.Readiness
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatal(err)
	}
	return ask("/-/healthy").Code, w.Code, a.Reason
}

// TestOutageIsNoIllness has GitLab gone for 45 minutes, in three ways. Not
// once would a probe of /-/healthy have restarted the process, and /-/ready
// says what is wrong until it is over.
func TestOutageIsNoIllness(t *testing.T) {
	for _, tt := range []struct {
		name string
		// answer is what a request brings in the outage, as internal/coordinator
		// has it: retries of a 5xx take seconds, a silent server ten minutes.
		takes time.Duration
		kind  scheduler.Kind
		until time.Duration // /-/ready knows
	}{
		{"5xx", 2 * time.Second, scheduler.RequestFailed, 10 * time.Second},
		{"timeouts", 10 * time.Minute, scheduler.RequestFailed, 3*time.Minute + 10*time.Second},
		{"refused connections", 0, scheduler.RequestFailed, 10 * time.Second},
		{"refused runner", 0, scheduler.Forbidden, 20 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				y := newYard(t, 1)
				reg := prometheus.NewRegistry()
				srv := admin.New(admin.Options{Gatherer: reg, Registry: reg, Board: y.board, Bus: y.bus, Pulse: y.pulse})
				var outage atomic.Bool
				r := job.Runner{Short: "abcdefghi", Name: "one", SystemID: "s_0123456789ab", Executor: "shell"}
				request := func(ctx context.Context, _ scheduler.Ask) (scheduler.Task, scheduler.Result) {
					takes, kind := 50*time.Second, scheduler.NoJob
					if outage.Load() {
						takes, kind = tt.takes, tt.kind
					}
					select {
					case <-time.After(takes):
					case <-ctx.Done():
						kind = scheduler.RequestFailed
					}
					return nil, scheduler.Result{Kind: kind}
				}
				y.bus.Emit(t.Context(), event.ConfigLoaded{Generation: 1, Concurrent: 2, Runners: []event.Limits{{Runner: r}}})
				over := make(chan error, 1)
				go func() {
					over <- y.sched.Run(t.Context(), scheduler.Config{Concurrent: 2, Entries: []scheduler.Entry{{
						Runner: r, Key: "k", Valid: true, Request: request, UnhealthyInterval: time.Minute,
					}}})
				}()
				time.Sleep(5 * time.Minute) // faked
				if h, rdy, reason := probes(t, srv); h != 200 || rdy != 200 || reason != "" {
					t.Errorf("before: healthy %d, ready %d %q", h, rdy, reason)
				}
				outage.Store(true)
				begin := time.Now()
				// The poll that is under way ends well, for it was answered before.
				for time.Since(begin) < 45*time.Minute {
					time.Sleep(5 * time.Second)
					synctest.Wait()
					h, rdy, reason := probes(t, srv)
					if h != 200 {
						t.Fatalf("after %v: /-/healthy says %d", time.Since(begin), h)
					}
					known := time.Since(begin) > 50*time.Second+tt.until
					if want := map[bool]string{true: "unhealthy", false: "coordinator"}[tt.kind == scheduler.Forbidden]; known && (rdy != 503 || reason != want) {
						// The forced checks of a refused runner are short moments of hope.
						if tt.kind != scheduler.Forbidden || reason != "" {
							t.Fatalf("after %v: /-/ready says %d %q, want 503 %q", time.Since(begin), rdy, reason, want)
						}
					}
				}
				outage.Store(false)
				time.Sleep(12 * time.Minute)
				synctest.Wait()
				if h, rdy, reason := probes(t, srv); h != 200 || rdy != 200 || reason != "" {
					t.Errorf("after it: healthy %d, ready %d %q", h, rdy, reason)
				}
				y.sched.Drain("test")
				if err := <-over; err != nil {
					t.Error(err)
				}
				if h, rdy, reason := probes(t, srv); h != 200 || rdy != 503 || reason != "shutdown" {
					t.Errorf("after the drain: healthy %d, ready %d %q", h, rdy, reason)
				}
			})
		})
	}
}

// TestWedgedLoopIsSeen has the loop that asks for jobs hang, in an observer.
// Health says so within 30 seconds, though all locks of the stream are held.
func TestWedgedLoopIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newYard(t, 1)
		var wedge atomic.Bool
		release := make(chan struct{})
		bus := event.NewBus(y.board, y.metrics, event.ObserverFunc(func(event.Event) {
			if wedge.Load() {
				<-release
			}
		}))
		sched := scheduler.New(scheduler.Options{Bus: bus, Pulse: y.pulse})
		reg := prometheus.NewRegistry()
		srv := admin.New(admin.Options{Gatherer: reg, Registry: reg, Board: y.board, Bus: bus, Pulse: y.pulse})
		r := job.Runner{Short: "abcdefghi", SystemID: "s_0123456789ab", Executor: "shell"}
		bus.Emit(t.Context(), event.ConfigLoaded{Generation: 1, Concurrent: 1, Runners: []event.Limits{{Runner: r}}})
		over := make(chan error, 1)
		go func() {
			over <- sched.Run(t.Context(), scheduler.Config{Concurrent: 1, Entries: []scheduler.Entry{{
				Runner: r, Key: "k", Valid: true,
				Request: func(context.Context, scheduler.Ask) (scheduler.Task, scheduler.Result) {
					return nil, scheduler.Result{}
				},
			}}})
		}()
		time.Sleep(time.Minute) // faked
		if h, rdy, _ := probes(t, srv); h != 200 || rdy != 200 {
			t.Errorf("before: healthy %d, ready %d", h, rdy)
		}
		wedge.Store(true)
		time.Sleep(33 * time.Second) // the next turn hangs: three seconds, and thirty
		if h, rdy, reason := probes(t, srv); h != 503 || rdy != 503 || reason != "stuck" {
			t.Errorf("wedged: healthy %d, ready %d %q, want 503 and stuck", h, rdy, reason)
		}
		wedge.Store(false)
		close(release)
		time.Sleep(5 * time.Second)
		if h, rdy, _ := probes(t, srv); h != 200 || rdy != 200 {
			t.Errorf("after: healthy %d, ready %d", h, rdy)
		}
		sched.Drain("test")
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
}
