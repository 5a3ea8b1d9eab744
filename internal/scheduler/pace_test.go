package scheduler_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/scheduler"
)

func TestIdleQueuesArePolledAtTheirPace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		qs := []*queue{newQueue(0, 0), newQueue(0, 0), newQueue(0, 0)}
		w := start(t, config(1, entry("a", qs[0]), entry("b", qs[1]), entry("c", qs[2])))
		after(9500 * time.Millisecond)
		for i, q := range qs {
			var got, want []time.Duration
			for _, a := range q.requests() {
				got = append(got, a.at)
			}
			for k := range 4 {
				if at := time.Duration(i+3*k) * time.Second; at < 9500*time.Millisecond {
					want = append(want, at)
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("entry %d (-want +got):\n%s", i, d)
			}
		}
		if got := len(facts[event.Fed](w.tape, "")); got != 10 {
			t.Errorf("%d feeds, want 10", got)
		}
		w.finish(t)
	})
}

func TestFullQueueIsDrainedAsQuicklyAsJobsRun(t *testing.T) {
	for _, c := range []struct {
		name              string
		concurrent, limit int
		strict            bool
		jobs              int
		work, want        time.Duration
	}{
		{name: "one slot", concurrent: 1, jobs: 10, work: 100 * time.Millisecond, want: time.Second},
		{name: "four slots", concurrent: 4, jobs: 40, work: 10 * time.Second, want: 100 * time.Second},
		{name: "limit", concurrent: 4, limit: 2, jobs: 40, work: 10 * time.Second, want: 200 * time.Second},
		{name: "instant jobs", concurrent: 1, jobs: 1000, want: 0},
		{name: "strict", concurrent: 4, strict: true, jobs: 10, work: time.Second, want: 28 * time.Second},
		{name: "strict, long jobs", concurrent: 1, strict: true, jobs: 3, work: 10 * time.Second, want: 30 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				q := newQueue(c.jobs, c.work)
				e := entry("a", q)
				e.Limit, e.StrictInterval = c.limit, c.strict
				w := start(t, config(c.concurrent, e))
				begin := time.Now()
				for synctest.Wait(); q.done() < c.jobs && time.Since(begin) < time.Hour; {
					after(10 * time.Millisecond)
				}
				if got := time.Since(begin); got != c.want {
					t.Errorf("%d jobs took %v, want %v", c.jobs, got, c.want)
				}
				w.finish(t)
			})
		})
	}
}

func TestEndOfJobDoesNotHammerAnIdleQueue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(4, 1100*time.Millisecond)
		w := start(t, config(5, entry("a", q)))
		// Four jobs and the answer that there are no more: at once. Their
		// ends ask nobody.
		after(2900 * time.Millisecond)
		if got := len(q.requests()); got != 5 {
			t.Errorf("%d requests, want 5", got)
		}
		if got := q.done(); got != 4 {
			t.Errorf("%d jobs done, want 4", got)
		}
		after(100 * time.Millisecond)
		if got := len(q.requests()); got != 6 {
			t.Errorf("%d requests after an interval, want 6", got)
		}
		w.finish(t)
	})
}

func TestCreditWaitsForRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(-1, 10*time.Second)
		w := start(t, config(1, entry("a", q)))
		after(25 * time.Second)
		want := []asked{{at: 0}, {at: 10 * time.Second}, {at: 20 * time.Second}}
		if d := cmp.Diff(want, q.requests(), cmp.AllowUnexported(asked{})); d != "" {
			t.Errorf("requests (-want +got):\n%s", d)
		}
		w.finish(t)
	})
}

// Whatever an instant server answers, requests are bounded.
func TestNoAnswerMakesAHotLoop(t *testing.T) {
	const span = 60 * time.Second
	turns := int(span/(3*time.Second)) + 1
	always := func(r scheduler.Result) func(int) (scheduler.Result, bool) {
		return func(int) (scheduler.Result, bool) { return r, true }
	}
	for _, c := range []struct {
		name   string
		answer func(int) (scheduler.Result, bool)
		work   func(context.Context) scheduler.TaskResult
		limit  int // of requests
	}{
		{name: "no job", answer: always(scheduler.Result{}), limit: turns},
		{name: "failed", answer: always(scheduler.Result{Kind: scheduler.RequestFailed}), limit: turns},
		{name: "unknown kind", answer: always(scheduler.Result{Kind: 99}), limit: turns},
		{name: "no capacity", answer: always(scheduler.Result{Kind: scheduler.NoCapacity}), limit: turns},
		{name: "forbidden", answer: always(scheduler.Result{Kind: scheduler.Forbidden}), limit: 3},
		{name: "client error", answer: always(scheduler.Result{Kind: scheduler.ClientError}), limit: 3},
		{name: "refused", answer: always(scheduler.Result{Kind: scheduler.Job, Refused: true}), limit: turns + 3},
		{
			name: "job and error in turn", limit: 2 * turns,
			answer: func(n int) (scheduler.Result, bool) {
				return scheduler.Result{Kind: []scheduler.Kind{scheduler.Job, scheduler.RequestFailed}[n%2]}, true
			},
		},
		{
			name: "runner is broken", answer: always(scheduler.Result{Kind: scheduler.Job}), limit: turns + 10,
			work: func(context.Context) scheduler.TaskResult { return scheduler.SystemFailed },
		},
		{
			name: "runner breaks slowly", answer: always(scheduler.Result{Kind: scheduler.Job}), limit: turns + 16,
			work: func(context.Context) scheduler.TaskResult {
				<-time.After(50 * time.Millisecond)
				return scheduler.SystemFailed
			},
		},
		{
			name: "tasks panic", answer: always(scheduler.Result{Kind: scheduler.Job}), limit: turns + 10,
			work: func(context.Context) scheduler.TaskResult { panic("x") },
		},
	} {
		for _, concurrent := range []int{1, 8} {
			t.Run(fmt.Sprintf("%s/%d", c.name, concurrent), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					q := newQueue(0, 0)
					q.answer = c.answer
					if c.work != nil {
						q.work = c.work
					}
					e := entry("a", q)
					e.RequestConcurrency = 4
					w := start(t, config(concurrent, e))
					after(span)
					if got := len(q.requests()); got > c.limit || got < 3 {
						t.Errorf("%d requests in %v, want 3 to %d", got, span, c.limit)
					}
					w.finish(t)
				})
			})
		}
	}
}

func TestBrokenRunnerRecovers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(-1, 0)
		var broken atomic.Bool
		broken.Store(true)
		n := 0
		q.work = func(context.Context) scheduler.TaskResult {
			n++
			if broken.Load() {
				return scheduler.SystemFailed
			}
			if n > 1000 {
				<-time.After(time.Hour)
			}
			return scheduler.Failed // a user's own failure is a working runner
		}
		w := start(t, config(1, entry("a", q)))
		after(10 * time.Second)
		if got := q.done(); got > 8 {
			t.Errorf("a broken runner took %d jobs in 10 s, want at most 8", got)
		}
		broken.Store(false)
		after(7 * time.Second) // a turn to see it, a turn to start from
		if got := q.done(); got < 900 {
			t.Errorf("the mended runner took %d jobs, want the queue drained", got)
		}
		w.finish(t)
	})
}

func TestLongPolls(t *testing.T) {
	const span = 10 * time.Minute
	type figures struct{ Requests, Brief int }
	for _, c := range []struct {
		name       string
		concurrent int
		entries    int
		stubborn   bool
		sameKey    bool
		want       []figures
	}{
		{name: "alone", concurrent: 1, entries: 1, want: []figures{{12, 0}}},
		{name: "room for all", concurrent: 3, entries: 2, want: []figures{{12, 0}, {12, 0}}},
		// At the pace of check_interval, as if the server held nothing.
		{name: "one place for two", concurrent: 1, entries: 2, want: []figures{{200, 200}, {200, 200}}},
		{name: "no place to spare", concurrent: 2, entries: 2, want: []figures{{200, 200}, {200, 200}}},
		// A server that holds all the same: they take turns.
		{name: "stubborn", concurrent: 1, entries: 2, stubborn: true, want: []figures{{6, 6}, {6, 6}}},
		{name: "same token", concurrent: 3, entries: 2, sameKey: true, want: []figures{{200, 200}, {200, 200}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				conf := config(c.concurrent)
				var qs []*queue
				for i := range c.entries {
					q := newQueue(0, 0)
					q.hold, q.stubborn = 50*time.Second, c.stubborn
					qs = append(qs, q)
					e := entry(string(rune('a'+i)), q)
					if c.sameKey {
						e.Key = "same"
					}
					conf.Entries = append(conf.Entries, e)
				}
				w := start(t, conf)
				after(span - time.Second)
				for i, q := range qs {
					var got figures
					for _, a := range q.requests() {
						got.Requests++
						if a.brief {
							got.Brief++
						}
					}
					if got != c.want[i] {
						t.Errorf("entry %d: %+v, want %+v", i, got, c.want[i])
					}
				}
				w.finish(t)
			})
		})
	}
}

// A held request of an idle entry costs a busy one with the only slot nothing.
func TestHeldRequestDoesNotStarveABusyQueue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		idle, busy := newQueue(0, 0), newQueue(-1, time.Second)
		idle.hold = 50 * time.Second
		w := start(t, config(1, entry("idle", idle), entry("busy", busy)))
		after(100 * time.Second)
		if got := busy.done(); got < 97 {
			t.Errorf("%d jobs of 1 s in 100 s, want 97 at least", got)
		}
		if got := len(idle.requests()); got < 25 {
			t.Errorf("the idle entry was asked %d times in 100 s, want 25 at least", got)
		}
		w.finish(t)
	})
}

func TestTroubleBacksOffFromTheAnswer(t *testing.T) {
	for _, kind := range []scheduler.Kind{scheduler.RequestFailed, scheduler.Forbidden, scheduler.ClientError, scheduler.NoCapacity} {
		bubble(t, func(t *testing.T) {
			q := newQueue(0, 0)
			q.latency = 10 * time.Second
			q.answer = func(int) (scheduler.Result, bool) { return scheduler.Result{Kind: kind}, true }
			w := start(t, config(1, entry("a", q)))
			after(27 * time.Second)
			want := []asked{{at: 0}, {at: 13 * time.Second}, {at: 26 * time.Second}}
			if d := cmp.Diff(want, q.requests(), cmp.AllowUnexported(asked{})); d != "" {
				t.Errorf("kind %d: requests (-want +got):\n%s", kind, d)
			}
			w.finish(t)
		})
	}
}

// A held request that ends without a job is followed at once when its turn
// has come meanwhile: the queue is watched without gaps.
func TestHeldRequestIsRenewedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(0, 0)
		q.hold = 50 * time.Second
		w := start(t, config(1, entry("a", q)))
		after(120 * time.Second)
		want := []asked{{at: 0}, {at: 50 * time.Second}, {at: 100 * time.Second}}
		if d := cmp.Diff(want, q.requests(), cmp.AllowUnexported(asked{})); d != "" {
			t.Errorf("requests (-want +got):\n%s", d)
		}
		w.finish(t)
	})
}

// Turns that waited for room are still spaced when it comes all at once, and
// each was fed once.
func TestTurnsThatWaitedKeepTheirDistance(t *testing.T) {
	bubble(t, func(t *testing.T) {
		busy, b, c := newQueue(4, 10*time.Second), newQueue(0, 0), newQueue(0, 0)
		w := start(t, config(4, entry("busy", busy), entry("b", b), entry("c", c)))
		after(12900 * time.Millisecond)
		for _, x := range []struct {
			name string
			q    *queue
			want []asked
		}{
			{"b", b, []asked{{at: 10 * time.Second}}},
			{"c", c, []asked{{at: 11 * time.Second}}},
		} {
			if d := cmp.Diff(x.want, x.q.requests(), cmp.Comparer(func(a, b asked) bool { return a.at == b.at })); d != "" {
				t.Errorf("%s: requests (-want +got):\n%s", x.name, d)
			}
		}
		for _, name := range []string{"b", "c"} {
			if n := len(facts[event.Fed](w.tape, name)); n != 1 {
				t.Errorf("%d feeds of %s in 12.9 s, want 1", n, name)
			}
		}
		after(200 * time.Millisecond)
		if n := len(facts[event.Fed](w.tape, "b")); n != 2 {
			t.Errorf("%d feeds of b in 13.1 s, want 2", n)
		}
		w.finish(t)
	})
}

// With request_concurrency, turns add requests to a queue that has jobs.
func TestSlowCoordinatorIsAskedInParallel(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(-1, time.Hour)
		q.latency = time.Second
		e := entry("a", q)
		e.RequestConcurrency = 4
		w := start(t, config(1000, e))
		after(30500 * time.Millisecond)
		// One chain of requests from the start, one more at 3, 6 and 9 s.
		if st := w.Status(); st.Requests != 4 || st.Running != 30+27+24+21 {
			t.Errorf("%d requests and %d jobs, want 4 and 102", st.Requests, st.Running)
		}
		w.Abort("test", nil)
		w.wait(t)
	})
}
