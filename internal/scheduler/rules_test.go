package scheduler_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/scheduler"
)

// script answers one result after the other, then with no job.
func script(rs ...scheduler.Result) func(int) (scheduler.Result, bool) {
	return func(n int) (scheduler.Result, bool) {
		if n <= len(rs) {
			return rs[n-1], true
		}
		return scheduler.Result{}, true
	}
}

func repeat(n int, r scheduler.Result) []scheduler.Result {
	var rs []scheduler.Result
	for range n {
		rs = append(rs, r)
	}
	return rs
}

func TestAdaptiveLimit(t *testing.T) {
	got, none := scheduler.Result{Kind: scheduler.Job}, scheduler.Result{}
	slow, slowJob := scheduler.Result{Retried: true}, scheduler.Result{Kind: scheduler.Job, Retried: true}
	seq := func(groups ...[]scheduler.Result) (all []scheduler.Result) {
		for _, g := range groups {
			all = append(all, g...)
		}
		return all
	}
	for _, c := range []struct {
		name     string
		hard     int
		off      bool
		answers  []scheduler.Result
		adaptive float64
		used     int // at the request after the answers
	}{
		{name: "before the first", hard: 10, adaptive: 0, used: 1},
		{name: "no job clamps to 1", hard: 10, answers: repeat(3, none), adaptive: 1, used: 1},
		{name: "first job", hard: 10, answers: repeat(1, got), adaptive: 1, used: 1},
		{name: "second job", hard: 10, answers: repeat(2, got), adaptive: 1.1, used: 2},
		{name: "growth", hard: 10, answers: repeat(9, got), adaptive: math.Pow(1.1, 8), used: 3},
		{name: "reaches 10 after 25 steps of 1.1", hard: 10, answers: repeat(26, got), adaptive: 10, used: 10},
		{name: "clamped to the hard limit", hard: 2, answers: repeat(30, got), adaptive: 2, used: 2},
		{name: "no job shrinks", hard: 10, answers: seq(repeat(9, got), repeat(1, none)), adaptive: math.Pow(1.1, 8) * 0.95, used: 3},
		{name: "told to slow down", hard: 10, answers: seq(repeat(26, got), repeat(1, slow)), adaptive: 5, used: 5},
		{name: "slowed down with a job", hard: 10, answers: seq(repeat(26, got), repeat(1, slowJob)), adaptive: 5, used: 5},
		{name: "no capacity is no job", hard: 10, answers: seq(repeat(9, got), repeat(1, scheduler.Result{Kind: scheduler.NoCapacity})), adaptive: math.Pow(1.1, 8) * 0.95, used: 3},
		{name: "a refused job is a job", hard: 10, answers: repeat(2, scheduler.Result{Kind: scheduler.Job, Refused: true}), adaptive: 1.1, used: 2},
		{name: "off", hard: 10, off: true, answers: repeat(9, got), adaptive: 0, used: 10},
		{name: "no request concurrency", hard: 0, answers: repeat(9, got), adaptive: 1, used: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				q := newQueue(0, 0)
				q.answer = script(c.answers...)
				e := entry("a", q)
				e.RequestConcurrency, e.Adaptive = c.hard, !c.off
				w := start(t, config(1, e))
				var took []event.RequestSlots
				for range 1000 {
					after(time.Second)
					took = nil
					for _, f := range facts[event.RequestSlots](w.tape, "a") {
						if f.InFlight == 1 {
							took = append(took, f)
						}
					}
					if len(took) > len(c.answers) {
						break
					}
				}
				if len(took) <= len(c.answers) {
					t.Fatalf("%d requests, want %d", len(took), len(c.answers)+1)
				}
				f := took[len(c.answers)]
				if math.Abs(f.AdaptiveLimit-c.adaptive) > 1e-9 || f.UsedLimit != c.used || f.HardLimit != max(c.hard, 1) {
					t.Errorf("%+v, want adaptive %v, used %d, hard %d", f, c.adaptive, c.used, max(c.hard, 1))
				}
				w.finish(t)
			})
		})
	}
}

func TestRequestSlotsAreExceededPerTurn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(0, 0)
		q.hold = 50 * time.Second
		w := start(t, config(4, entry("a", q)))
		after(10 * time.Second)
		var got []event.RequestSlots
		for _, f := range facts[event.RequestSlots](w.tape, "a") {
			if f.Exceeded {
				got = append(got, f)
			}
		}
		f := event.RequestSlots{InFlight: 1, HardLimit: 1, UsedLimit: 1, Exceeded: true}
		if d := cmp.Diff([]event.RequestSlots{f, f, f}, got); d != "" {
			t.Errorf("refusals in 10 s (-want +got):\n%s", d)
		}
		if n := len(facts[event.Fed](w.tape, "a")); n != 4 {
			t.Errorf("%d feeds, want 4", n)
		}
		w.finish(t)
	})
}

func TestRequestsInParallel(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(0, 0)
		q.hold = 50 * time.Second
		e := entry("a", q)
		e.RequestConcurrency = 3
		w := start(t, config(8, e))
		after(45 * time.Second)
		if got := w.Status().Entries[0].Requests; got != 3 {
			t.Errorf("%d requests in flight, want 3", got)
		}
		if got := len(q.requests()); got != 3 {
			t.Errorf("%d requests, want 3", got)
		}
		w.finish(t)
	})
}

func TestHealth(t *testing.T) {
	bad, none := scheduler.Result{Kind: scheduler.Forbidden}, scheduler.Result{}
	for _, c := range []struct {
		name     string
		limit    int
		interval time.Duration
		answers  []scheduler.Result
		span     time.Duration
		want     []time.Duration // of requests
		skipped  int
	}{
		{
			name: "three refusals", answers: repeat(20, bad), span: time.Hour + 4*time.Second,
			// Silent for an hour after the start, for nothing was good ever;
			// then the forced check and three more.
			want:    []time.Duration{0, 3 * time.Second, 6 * time.Second, time.Hour, time.Hour + 3*time.Second},
			skipped: 1197,
		},
		{
			name: "after the forced check", interval: 30 * time.Second, answers: repeat(20, bad), span: 62 * time.Second,
			want: []time.Duration{
				0, 3 * time.Second, 6 * time.Second, 30 * time.Second, 33 * time.Second, 36 * time.Second, 60 * time.Second,
			},
			skipped: 14,
		},
		{
			name: "client errors", answers: repeat(20, scheduler.Result{Kind: scheduler.ClientError}), span: 20 * time.Second,
			want: []time.Duration{0, 3 * time.Second, 6 * time.Second}, skipped: 4,
		},
		{
			name: "measured from the last good answer", interval: 30 * time.Second,
			answers: append([]scheduler.Result{none, none}, repeat(20, bad)...), span: 34 * time.Second,
			want: []time.Duration{
				0, 3 * time.Second, 6 * time.Second, 9 * time.Second, 12 * time.Second, 33 * time.Second,
			},
			skipped: 6,
		},
		{
			name: "a good answer forgives", answers: []scheduler.Result{bad, bad, none, bad, bad, none}, span: 17 * time.Second,
			want: []time.Duration{0, 3 * time.Second, 6 * time.Second, 9 * time.Second, 12 * time.Second, 15 * time.Second},
		},
		{
			name: "other failures do not count", answers: repeat(20, scheduler.Result{Kind: scheduler.RequestFailed}), span: 17 * time.Second,
			want: []time.Duration{0, 3 * time.Second, 6 * time.Second, 9 * time.Second, 12 * time.Second, 15 * time.Second},
		},
		{
			name: "no capacity is not asked", answers: append([]scheduler.Result{bad, bad, {Kind: scheduler.NoCapacity}}, repeat(9, bad)...), span: 20 * time.Second,
			want: []time.Duration{0, 3 * time.Second, 6 * time.Second, 9 * time.Second}, skipped: 3,
		},
		{
			name: "own limit", limit: 1, answers: repeat(9, bad), span: 8 * time.Second,
			want: []time.Duration{0}, skipped: 2,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				q := newQueue(0, 0)
				q.answer = script(c.answers...)
				e := entry("a", q)
				e.UnhealthyLimit, e.UnhealthyInterval = c.limit, c.interval
				w := start(t, config(1, e))
				after(c.span)
				var got []time.Duration
				for _, a := range q.requests() {
					got = append(got, a.at)
				}
				if d := cmp.Diff(c.want, got); d != "" {
					t.Errorf("requests (-want +got):\n%s", d)
				}
				if n := len(facts[event.FeedSkipped](w.tape, "a")); n != c.skipped {
					t.Errorf("%d turns skipped, want %d", n, c.skipped)
				}
				w.finish(t)
			})
		})
	}
}

func TestHealthFacts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(0, 0)
		q.answer = script(scheduler.Result{}, scheduler.Result{Kind: scheduler.Forbidden}, scheduler.Result{Kind: scheduler.Forbidden})
		e := entry("a", q)
		e.UnhealthyLimit = 2
		begin := time.Now()
		w := start(t, config(1, e))
		after(10 * time.Second)
		until := begin.Add(time.Hour)
		want := []event.HealthChecked{{OK: true}, {Failures: 1}, {Failures: 2, DisabledUntil: until}}
		if d := cmp.Diff(want, facts[event.HealthChecked](w.tape, "a")); d != "" {
			t.Errorf("HealthChecked (-want +got):\n%s", d)
		}
		if d := cmp.Diff([]event.Polled{{Result: "none"}, {Result: "forbidden"}, {Result: "forbidden"}}, facts[event.Polled](w.tape, "a")); d != "" {
			t.Errorf("Polled (-want +got):\n%s", d)
		}
		if st := w.Status().Entries[0]; st.Blocked != event.BlockUnhealthy || !st.DisabledUntil.Equal(until) {
			t.Errorf("status %+v, want unhealthy until %v", st, until)
		}
		// A reload forgets it.
		w.Apply(config(1, e))
		after(3 * time.Second)
		if got := len(q.requests()); got != 4 {
			t.Errorf("%d requests after a reload, want 4", got)
		}
		w.finish(t)
	})
}

func TestHealthIsSharedByToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		bad := newQueue(0, 0)
		bad.answer = func(int) (scheduler.Result, bool) { return scheduler.Result{Kind: scheduler.Forbidden}, true }
		other := newQueue(0, 0)
		a, b := entry("a", bad), entry("b", bad)
		b.Key = a.Key
		w := start(t, config(1, a, b, entry("c", other)))
		after(30 * time.Second)
		if got := len(bad.requests()); got != 3 {
			t.Errorf("%d requests with the refused token, want 3", got)
		}
		if got := len(other.requests()); got != 10 {
			t.Errorf("%d requests of the other entry, want 10", got)
		}
		w.finish(t)
	})
}

// A turn that waits when its token is refused is not waited for.
func TestWaitingTurnOfADisabledEntry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q, other := newQueue(0, 0), newQueue(0, 0)
		q.latency = 10 * time.Second
		q.answer = script(scheduler.Result{Kind: scheduler.Forbidden})
		a, b := entry("a", q), entry("b", other)
		b.Key = a.Key
		a.UnhealthyLimit, b.UnhealthyLimit = 1, 1
		b.UnhealthyInterval = time.Minute
		w := start(t, config(4, a, b))
		after(30 * time.Second)
		if n := len(facts[event.FeedSkipped](w.tape, "b")); n != 7 {
			t.Errorf("b lost %d turns, want 7", n)
		}
		after(33 * time.Second)
		if n := len(other.requests()); n != 1 {
			t.Errorf("b asked %d times after its interval, want 1", n)
		}
		// Without its token, the same.
		b.Valid = false
		w.Apply(config(4, a, b))
		before := len(facts[event.FeedSkipped](w.tape, "b"))
		after(30 * time.Second)
		if n := len(facts[event.FeedSkipped](w.tape, "b")) - before; n < 9 {
			t.Errorf("b lost %d turns without a token, want 10", n)
		}
		w.finish(t)
	})
}

func TestTurnFacts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(0, 0)
		results := []scheduler.TaskResult{scheduler.OK, scheduler.Failed, scheduler.SystemFailed}
		ran := 0
		q.answer = script(
			scheduler.Result{Kind: scheduler.Job}, scheduler.Result{Kind: scheduler.Job}, scheduler.Result{Kind: scheduler.Job},
			scheduler.Result{Kind: scheduler.NoCapacity}, scheduler.Result{Kind: scheduler.RequestFailed}, scheduler.Result{Kind: scheduler.ClientError},
		)
		mute := entry("mute", newQueue(0, 0))
		mute.Valid = false
		good := entry("a", q)
		good.Request = func(ctx context.Context, ask scheduler.Ask) (scheduler.Task, scheduler.Result) {
			if s := event.ScopeOf(ctx); s.Runner.Name != "a" {
				t.Errorf("request in the scope of %q, want a", s.Runner.Name)
			}
			task, r := q.request(ctx, ask)
			if task != nil {
				task = func(context.Context) scheduler.TaskResult { ran++; return results[ran-1] }
			}
			return task, r
		}
		w := start(t, config(1, good, mute))
		after(10 * time.Second)
		if d := cmp.Diff([]event.TurnFailed{{Kind: "job_failure"}, {Kind: "other"}, {Kind: "no_free_executor"}}, facts[event.TurnFailed](w.tape, "a")); d != "" {
			t.Errorf("TurnFailed (-want +got):\n%s", d)
		}
		wantPolled := []event.Polled{{Result: "job"}, {Result: "job"}, {Result: "job"}, {Result: "failed"}, {Result: "failed"}, {Result: "none"}}
		if d := cmp.Diff(wantPolled, facts[event.Polled](w.tape, "a")); d != "" {
			t.Errorf("Polled (-want +got):\n%s", d)
		}
		// Only turns are fed, not what credits asked.
		if n := len(facts[event.Fed](w.tape, "a")); n != 4 {
			t.Errorf("%d feeds, want 4", n)
		}
		skips := facts[event.FeedSkipped](w.tape, "mute")
		if len(skips) != 3 || skips[0].Why != "no_token" {
			t.Errorf("skipped %v, want 3 times for no_token", skips)
		}
		if n := len(facts[event.Fed](w.tape, "mute")); n != 0 {
			t.Errorf("%d feeds without a token, want 0", n)
		}
		w.finish(t)
	})
}

func TestLimits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		// Two entries of one token share its limit and take turns; a third
		// has its own.
		one, two, three := newQueue(-1, time.Second), newQueue(-1, time.Second), newQueue(-1, time.Second)
		a, b, c := entry("a", one), entry("b", two), entry("c", three)
		b.Key = a.Key
		a.Limit, b.Limit, c.Limit = 1, 1, 3
		w := start(t, config(10, a, b, c))
		after(60500 * time.Millisecond)
		if one.peak != 1 || two.peak != 1 || three.peak != 3 {
			t.Errorf("peaks %d, %d, %d, want 1, 1, 3", one.peak, two.peak, three.peak)
		}
		if n := one.done() + two.done(); n != 60 {
			t.Errorf("%d jobs of the shared token, want 60", n)
		}
		if x, y := one.done(), two.done(); x-y > 4 || y-x > 4 {
			t.Errorf("%d and %d jobs of entries with one token, want about the same", x, y)
		}
		if n := three.done(); n < 165 {
			t.Errorf("%d jobs at limit 3, want 165 at least", n)
		}
		w.finish(t)
	})
}

func TestBlocked(t *testing.T) {
	held := func(q *queue) *queue { q.hold = time.Hour; return q }
	noRoom := newQueueFunc(func(q *queue) { q.answer = script(scheduler.Result{Kind: scheduler.NoCapacity}) })
	for _, c := range []struct {
		name       string
		concurrent int
		make       func() []scheduler.Entry
		want       []event.Block
	}{
		{
			name: "asks, waits for its turn, no token", concurrent: 3, want: []event.Block{event.BlockNoJobs, event.BlockNoJobs, event.BlockUnhealthy},
			make: func() []scheduler.Entry {
				es := []scheduler.Entry{entry("a", held(newQueue(0, 0))), entry("b", newQueue(0, 0)), entry("c", newQueue(0, 0))}
				es[2].Valid = false
				return es
			},
		},
		{
			name: "concurrent", concurrent: 1, want: []event.Block{event.BlockConcurrent, event.BlockConcurrent},
			make: func() []scheduler.Entry {
				return []scheduler.Entry{entry("a", newQueue(1, time.Hour)), entry("b", newQueue(0, 0))}
			},
		},
		{
			name: "limit", concurrent: 4, want: []event.Block{event.BlockLimit, event.BlockNoJobs},
			make: func() []scheduler.Entry {
				es := []scheduler.Entry{entry("a", newQueue(1, time.Hour)), entry("b", newQueue(0, 0))}
				es[0].Limit = 1
				return es
			},
		},
		{
			name: "request concurrency", concurrent: 4, want: []event.Block{event.BlockNoJobs, event.BlockRequests},
			make: func() []scheduler.Entry {
				slow := newQueue(0, 0)
				slow.latency = time.Hour
				es := []scheduler.Entry{entry("a", slow), entry("b", newQueue(0, 0))}
				es[1].Key = es[0].Key
				return es
			},
		},
		{
			name: "capacity", concurrent: 4, want: []event.Block{event.BlockExecutor},
			make: func() []scheduler.Entry { return []scheduler.Entry{entry("a", noRoom())} },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := start(t, config(c.concurrent, c.make()...))
				after(2 * time.Second)
				check := func(want []event.Block) {
					t.Helper()
					var got []event.Block
					for _, e := range w.Status().Entries {
						got = append(got, e.Blocked)
					}
					if d := cmp.Diff(want, got); d != "" {
						t.Errorf("blocks (-want +got):\n%s", d)
					}
				}
				check(c.want)
				w.Drain("test")
				for i := range c.want {
					c.want[i] = event.BlockShutdown
				}
				check(c.want)
				w.wait(t)
			})
		})
	}
}

func newQueueFunc(change func(*queue)) func() *queue {
	return func() *queue {
		q := newQueue(0, 0)
		change(q)
		return q
	}
}

func TestStatusOutsideRun(t *testing.T) {
	s := scheduler.New(scheduler.Options{})
	if d := cmp.Diff(scheduler.Status{}, s.Status()); d != "" {
		t.Errorf("before Run (-want +got):\n%s", d)
	}
	if got := s.Running(); len(got) != 0 {
		t.Errorf("%d jobs before Run, want none", len(got))
	}
}

func TestRunningJobs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(2, time.Minute)
		begin := time.Now()
		w := start(t, config(4, entry("a", q)))
		after(time.Second)
		r := job.Runner{Name: "a", Short: "a", Executor: "shell"}
		want := []scheduler.RunningJob{{ID: 1, Runner: r, Generation: 1, Since: begin}, {ID: 2, Runner: r, Generation: 1, Since: begin}}
		if d := cmp.Diff(want, w.Running()); d != "" {
			t.Errorf("running (-want +got):\n%s", d)
		}
		w.finish(t)
	})
}
