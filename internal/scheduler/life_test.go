package scheduler_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/scheduler"
)

func TestDrainWaitsForJobsAndCancelsRequests(t *testing.T) {
	bubble(t, func(t *testing.T) {
		busy, held := newQueue(1, time.Minute), newQueue(0, 0)
		held.latency = time.Hour
		var cause error
		e := entry("held", held)
		e.Request = func(ctx context.Context, ask scheduler.Ask) (scheduler.Task, scheduler.Result) {
			task, r := held.request(ctx, ask)
			cause = context.Cause(ctx)
			return task, r
		}
		w := start(t, config(3, entry("busy", busy), e))
		after(10 * time.Second)
		polled := len(facts[event.Polled](w.tape, "held"))
		begin := time.Now()
		w.Drain("quit")
		w.Drain("quit")
		synctest.Wait()
		if !errors.Is(cause, scheduler.ErrDraining) {
			t.Errorf("the request's context ended with %v, want ErrDraining", cause)
		}
		if st := w.Status(); st.Running != 1 || st.Requests != 0 {
			t.Errorf("%+v, want one job and no request", st)
		}
		w.wait(t)
		if got := time.Since(begin); got != 50*time.Second {
			t.Errorf("draining took %v, want the 50 s that the job had left", got)
		}
		if n := busy.done(); n != 1 {
			t.Errorf("%d jobs done, want 1", n)
		}
		if d := cmp.Diff([]event.Draining{{Signal: "quit", Running: 1}}, facts[event.Draining](w.tape, "")); d != "" {
			t.Errorf("Draining (-want +got):\n%s", d)
		}
		// The cut request says nothing about the coordinator.
		if n := len(facts[event.Polled](w.tape, "held")); n != polled {
			t.Errorf("%d Polled facts, want %d", n, polled)
		}
		if n := len(facts[event.SlotsChanged](w.tape, "")); n != 1 {
			t.Errorf("%d SlotsChanged facts, want that of the start only", n)
		}
	})
}

func TestJobThatArrivesWhileDrainingIsRun(t *testing.T) {
	for _, abort := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			q := newQueue(1, time.Minute)
			stop := errors.New("terminated")
			var inJob error
			e := entry("a", q)
			e.Request = func(ctx context.Context, ask scheduler.Ask) (scheduler.Task, scheduler.Result) {
				<-ctx.Done()
				time.Sleep(time.Second) // faked: the answer was on its way
				task, r := q.request(context.WithoutCancel(ctx), ask)
				return func(ctx context.Context) scheduler.TaskResult {
					inJob = context.Cause(ctx)
					return task(ctx)
				}, r
			}
			w := start(t, config(1, e))
			after(time.Second)
			if abort {
				w.Abort("term", stop)
			} else {
				w.Drain("quit")
			}
			w.wait(t)
			if n := q.done(); n != 1 {
				t.Errorf("abort %v: %d jobs run, want 1", abort, n)
			}
			if got := errors.Is(inJob, stop); got != abort {
				t.Errorf("abort %v: the job's context ended with %v", abort, inJob)
			}
		})
	}
}

func TestAbort(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(3, time.Hour)
		stop := errors.New("terminated")
		causes := make(chan error, 3)
		q.work = func(ctx context.Context) scheduler.TaskResult {
			<-ctx.Done()
			causes <- context.Cause(ctx)
			time.Sleep(2 * time.Second) // faked: the final update
			return scheduler.SystemFailed
		}
		w := start(t, config(3, entry("a", q)))
		after(time.Second)
		w.Drain("quit")
		after(time.Minute)
		begin := time.Now()
		w.Abort("term", stop)
		w.Abort("again", errors.New("other"))
		w.wait(t)
		if got := time.Since(begin); got != 2*time.Second {
			t.Errorf("abort took %v, want 2s", got)
		}
		for range 3 {
			if err := <-causes; !errors.Is(err, stop) {
				t.Errorf("a job's context ended with %v, want %v", err, stop)
			}
		}
		want := []event.Draining{{Signal: "quit", Running: 3}, {Signal: "term", Forced: true, Running: 3}}
		if d := cmp.Diff(want, facts[event.Draining](w.tape, "")); d != "" {
			t.Errorf("Draining (-want +got):\n%s", d)
		}
	})
}

func TestEndOfContextDrains(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(1, time.Minute)
		w := start(t, config(1, entry("a", q)))
		after(time.Second)
		w.stop(errors.New("over"))
		w.wait(t)
		if n := q.done(); n != 1 {
			t.Errorf("%d jobs done, want 1, to its end", n)
		}
		if n := len(facts[event.TurnFailed](w.tape, "")); n != 0 {
			t.Errorf("%d failed turns, want none: the job was not canceled", n)
		}
	})
}

func TestRunOnceOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(0, 0)
		if err := scheduler.New(scheduler.Options{}).Run(t.Context(), config(0, entry("a", q))); err == nil {
			t.Error("concurrent = 0: no error")
		}
		s := scheduler.New(scheduler.Options{})
		s.Drain("early")
		if err := s.Run(t.Context(), config(1, entry("a", q))); err != nil {
			t.Errorf("Run: %v", err)
		}
		if n := len(q.requests()); n != 0 {
			t.Errorf("%d requests of a scheduler drained before it ran, want 0", n)
		}
		if err := s.Run(t.Context(), config(1, entry("a", q))); !errors.Is(err, scheduler.ErrStarted) {
			t.Errorf("second Run: %v, want ErrStarted", err)
		}
		s.Apply(config(1))
		s.Drain("late")
		s.Abort("late", nil)
		if st := s.Status(); !st.Draining {
			t.Errorf("%+v, want the last status", st)
		}
	})
}

func TestReloadChangesConcurrent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(-1, 10*time.Second)
		e := entry("a", q)
		w := start(t, config(6, e))
		after(time.Second)
		check := func(want int) {
			t.Helper()
			if got := w.Status().Running; got != want {
				t.Errorf("%d jobs run, want %d", got, want)
			}
		}
		check(6)
		// At the end of the six only two may follow.
		w.Apply(config(2, e))
		after(time.Second)
		check(6)
		after(10 * time.Second)
		check(2)
		w.Apply(config(4, e))
		synctest.Wait()
		after(4 * time.Second)
		check(4)
		want := []event.SlotsChanged{
			{Slots: 6, Started: 6},
			{Slots: 5, Stopped: 1}, {Slots: 4, Stopped: 1}, {Slots: 3, Stopped: 1}, {Slots: 2, Stopped: 1},
			{Slots: 4, Started: 2},
		}
		if d := cmp.Diff(want, facts[event.SlotsChanged](w.tape, "")); d != "" {
			t.Errorf("SlotsChanged (-want +got):\n%s", d)
		}
		w.finish(t)
	})
}

func TestReloadShrinksIdleSlotsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(3, time.Minute)
		e := entry("a", q)
		w := start(t, config(10, e))
		after(time.Second)
		w.Apply(config(1, e))
		synctest.Wait()
		w.finish(t) // the ends of a drain are not told
		if d := cmp.Diff([]event.SlotsChanged{{Slots: 10, Started: 10}, {Slots: 3, Stopped: 7}}, facts[event.SlotsChanged](w.tape, "")); d != "" {
			t.Errorf("SlotsChanged (-want +got):\n%s", d)
		}
	})
}

func TestReloadOfEntries(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newQueue(1, time.Minute), newQueue(0, 0)
		w := start(t, config(4, entry("a", a)))
		after(time.Second)
		// a goes while its job runs, b comes.
		c := config(4, entry("b", b))
		c.Generation = 2
		w.Apply(c)
		after(2 * time.Second) // the distance to the last turn is kept
		if n := len(b.requests()); n != 1 {
			t.Errorf("the new entry was asked %d times, want 1", n)
		}
		if got := w.Running(); len(got) != 1 || got[0].Generation != 1 {
			t.Errorf("running %+v, want the job of generation 1", got)
		}
		before := len(a.requests())
		after(10 * time.Second)
		if n := len(a.requests()); n != before {
			t.Errorf("the removed entry was asked %d times more", n-before)
		}
		// It comes back with a limit that its old job fills.
		back := entry("a", a)
		back.Limit = 1
		w.Apply(config(4, back, entry("b", b)))
		after(10 * time.Second)
		if n := len(a.requests()); n != before {
			t.Errorf("an entry at its limit was asked %d times", n-before)
		}
		if r := w.Status().Entries[0].Blocked; r != event.BlockLimit {
			t.Errorf("reason %q, want limit", r)
		}
		after(40 * time.Second)
		if n := len(a.requests()); n == before {
			t.Error("the entry was not asked when its old job was over")
		}
		w.finish(t)
	})
}

func TestReloadKeepsThePace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(0, 0)
		e := entry("a", q)
		two := config(1, e, entry("b", newQueue(0, 0)))
		w := start(t, two)
		for range 30 {
			after(500 * time.Millisecond)
			w.Apply(two)
		}
		synctest.Wait()
		if n := len(q.requests()); n != 6 {
			t.Errorf("%d requests in 15 s of reloads, want 6", n)
		}
		if n := len(facts[event.Fed](w.tape, "a")); n != 6 {
			t.Errorf("%d feeds in 15 s of reloads, want 6", n)
		}
		// A shorter interval counts from the last request.
		c := config(1, e)
		c.CheckInterval = 100 * time.Millisecond
		w.Apply(c)
		after(time.Second)
		if n := len(q.requests()); n != 16 {
			t.Errorf("%d requests, want 16", n)
		}
		// A longer one too.
		c.CheckInterval = time.Hour
		w.Apply(c)
		after(59 * time.Minute)
		if n := len(q.requests()); n != 16 {
			t.Errorf("%d requests, want still 16", n)
		}
		if n := len(facts[event.Fed](w.tape, "a")); n != 16 {
			t.Errorf("%d feeds, want still 16", n)
		}
		w.finish(t)
	})
}

func TestNoEntries(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := start(t, config(2))
		after(time.Hour)
		q := newQueue(0, 0)
		w.Apply(config(2, entry("a", q)))
		synctest.Wait()
		if n := len(q.requests()); n != 1 {
			t.Errorf("%d requests, want 1 at once", n)
		}
		w.finish(t)
	})
}

func TestCrashesGiveEverythingBack(t *testing.T) {
	for _, c := range []struct {
		name  string
		crash func()
		text  string
	}{
		{"error", func() { clear(map[any]int{}); _ = []int{}[len(t.Name())] }, "index out of range"},
		{"value", func() { panic("glrt-secret") }, "panic with a string"},
		{"goexit", runtime.Goexit, "goroutine ended"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				q := newQueue(2, time.Second)
				n := 0
				e := entry("a", q)
				e.Limit = 1
				e.Request = func(ctx context.Context, ask scheduler.Ask) (scheduler.Task, scheduler.Result) {
					if n++; n == 1 {
						c.crash()
					}
					task, r := q.request(ctx, ask)
					if n == 2 {
						task = func(context.Context) scheduler.TaskResult { c.crash(); return scheduler.OK }
					}
					return task, r
				}
				w := start(t, config(1, e))
				after(6 * time.Second)
				if got := q.done(); got != 1 {
					t.Errorf("%d jobs done after two crashes, want 1", got)
				}
				if st := w.Status(); st.Running+st.Requests != 0 || st.Entries[0].Running+st.Entries[0].Requests != 0 {
					t.Errorf("%+v, want everything given back", st)
				}
				want := []event.TurnFailed{{Kind: "other"}, {Kind: "other"}}
				if d := cmp.Diff(want, facts[event.TurnFailed](w.tape, "a")); d != "" {
					t.Errorf("TurnFailed (-want +got):\n%s", d)
				}
				bad := facts[event.Degraded](w.tape, "a")
				if len(bad) != 2 || bad[0].What != "scheduler_request_panic" || bad[1].What != "scheduler_job_panic" {
					t.Fatalf("Degraded %v, want a request's and a job's", bad)
				}
				for _, f := range bad {
					if !strings.Contains(f.Err.Error(), c.text) || strings.Contains(f.Err.Error(), "secret") {
						t.Errorf("error %q, want %q", f.Err, c.text)
					}
				}
				w.finish(t)
			})
		})
	}
}

func TestTaskWithoutAWord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		// A task counts whatever the result says; a job without a task was refused.
		ran := 0
		e := entry("a", newQueue(0, 0))
		e.Request = func(context.Context, scheduler.Ask) (scheduler.Task, scheduler.Result) {
			if ran++; ran == 1 {
				return func(context.Context) scheduler.TaskResult { ran = 10; return scheduler.OK }, scheduler.Result{Kind: scheduler.RequestFailed}
			}
			return nil, scheduler.Result{Kind: scheduler.Job}
		}
		w := start(t, config(1, e))
		after(time.Second)
		if ran < 10 {
			t.Error("the task was not run")
		}
		if n := len(facts[event.Polled](w.tape, "a")); n != 5 {
			t.Errorf("%d requests, want 5: one job, three refused, one too many", n)
		}
		w.finish(t)
	})
}

// The bus is told of a runner in every fact but those of the process.
func TestScopes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := start(t, config(2, entry("a", newQueue(2, time.Second))))
		after(5 * time.Second)
		w.finish(t)
		for _, e := range w.tape.events {
			switch e.Fact.(type) {
			case event.SlotsChanged, event.PlacesChanged, event.Draining:
				if e.Runner != (job.Runner{}) {
					t.Errorf("%T of %v, want no runner", e.Fact, e.Runner)
				}
			default:
				if e.Runner.Name != "a" {
					t.Errorf("%T of %v, want runner a", e.Fact, e.Runner)
				}
			}
		}
	})
}
