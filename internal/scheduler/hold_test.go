package scheduler_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/scheduler"
)

func blocks(w *world, runner string) []event.Block {
	var out []event.Block
	for _, f := range facts[event.BlockChanged](w.tape, runner) {
		out = append(out, f.Block)
	}
	return out
}

func TestHold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q, other := newQueue(-1, 10*time.Second), newQueue(0, 0)
		a := entry("a", q)
		a.Limit = 1
		w := start(t, config(4, a, entry("b", other)))
		after(5 * time.Second)
		w.Hold("a", "disk", true)
		w.Hold("a", "paused", true)
		w.Hold("nobody", "disk", true)
		after(35 * time.Second)
		if got := q.done(); got != 1 {
			t.Errorf("%d jobs, want the one that ran when the hold began", got)
		}
		if got := len(other.requests()); got < 13 {
			t.Errorf("%d requests of the other runner, want 13 at least", got)
		}
		skips := facts[event.FeedSkipped](w.tape, "a")
		if len(skips) < 10 || skips[0].Why != "disk" {
			t.Errorf("skipped %d turns, the first for %v; want 10 at least, for disk", len(skips), skips[:min(1, len(skips))])
		}
		w.Hold("a", "disk", false)
		after(10 * time.Second)
		if got := len(q.requests()); got != 1 {
			t.Errorf("%d requests while one of two holds is left, want 1", got)
		}
		w.Hold("a", "paused", false)
		after(4 * time.Second)
		if got := len(q.requests()); got != 2 {
			t.Errorf("%d requests after the holds, want 2", got)
		}
		want := []event.Block{event.BlockNoJobs, event.BlockLimit, event.BlockDisk, event.BlockPaused, event.BlockNoJobs, event.BlockLimit}
		if d := cmp.Diff(want, blocks(w, "a")); d != "" {
			t.Errorf("blocks (-want +got):\n%s", d)
		}
		w.finish(t)
	})
}

// A request in flight is cut, which says nothing about the coordinator; a job
// that it brings nevertheless is run.
func TestHoldCutsRequests(t *testing.T) {
	for _, brings := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			q := newQueue(1, time.Second)
			e := entry("a", q)
			var cause error
			e.Request = func(ctx context.Context, _ scheduler.Ask) (scheduler.Task, scheduler.Result) {
				<-ctx.Done()
				cause = context.Cause(ctx)
				if brings {
					return q.task, scheduler.Result{Kind: scheduler.Job, Job: 7}
				}
				return nil, scheduler.Result{Kind: scheduler.RequestFailed}
			}
			w := start(t, config(4, e))
			after(10 * time.Second)
			w.Hold("a", "disk", true)
			synctest.Wait()
			if !errors.Is(cause, scheduler.ErrHeld) {
				t.Errorf("the request ended with %v, want ErrHeld", cause)
			}
			after(time.Minute)
			if got := q.done(); got != map[bool]int{false: 0, true: 1}[brings] {
				t.Errorf("ran %d jobs, brings is %v", got, brings)
			}
			for _, f := range facts[event.Polled](w.tape, "a") {
				if f.Result == "failed" {
					t.Error("told of a failed poll")
				}
			}
			if st := w.Status().Entries[0]; st.Blocked != event.BlockDisk || st.Requests != 0 {
				t.Errorf("got %+v, want it held for disk", st)
			}
			w.finish(t)
		})
	}
}

// A hold in the middle of an outage leaves what was known of the coordinator.
func TestHoldInAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(0, 0)
		q.latency = 20 * time.Second
		q.answer = func(int) (scheduler.Result, bool) { return scheduler.Result{Kind: scheduler.RequestFailed}, true }
		w := start(t, config(1, entry("a", q)))
		after(30 * time.Second) // in the second request
		w.Hold("a", "disk", true)
		after(10 * time.Second)
		w.Hold("a", "disk", false)
		after(time.Minute)
		want := []event.Block{event.BlockNoJobs, event.BlockCoordinator, event.BlockDisk, event.BlockCoordinator}
		if d := cmp.Diff(want, blocks(w, "a")); d != "" {
			t.Errorf("blocks (-want +got):\n%s", d)
		}
		w.finish(t)
	})
}

func TestHoldOutlivesReloads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(0, 0)
		s := scheduler.New(scheduler.Options{})
		s.Hold("a", "a word that nobody knows", true) // before Run
		over := make(chan error, 1)
		go func() { over <- s.Run(t.Context(), config(1, entry("a", q))) }()
		after(time.Minute)
		s.Apply(config(1, entry("b", newQueue(0, 0))))
		after(time.Minute)
		s.Apply(config(1, entry("a", q)))
		after(time.Minute)
		if got := s.Status().Entries[0].Blocked; got != event.BlockPaused {
			t.Errorf("blocked by %q, want paused", got)
		}
		if got := len(q.requests()); got != 0 {
			t.Errorf("%d requests, want none", got)
		}
		s.Hold("a", "paused", false)
		after(4 * time.Second)
		if got := len(q.requests()); got == 0 {
			t.Error("no request after the hold")
		}
		s.Drain("test")
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
}

func TestBlockAndPlaceFacts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := newQueue(0, 0)
		q.answer = script(scheduler.Result{Kind: scheduler.RequestFailed}, scheduler.Result{Kind: scheduler.RequestFailed})
		q.latency = time.Second
		// Two entries with the same labels are one runner, and the one that
		// may ask counts.
		twin := entry("a", newQueue(0, 0))
		twin.Valid, twin.Key = false, "other"
		w := start(t, config(2, entry("a", q), twin))
		after(9500 * time.Millisecond)
		want := []event.Block{event.BlockNoJobs, event.BlockCoordinator, event.BlockNoJobs}
		if d := cmp.Diff(want, blocks(w, "a")); d != "" {
			t.Errorf("blocks (-want +got):\n%s", d)
		}
		w.Apply(config(3, entry("b", newQueue(1, time.Minute))))
		after(time.Second)
		w.Drain("test")
		want = append(want, event.BlockShutdown)
		if d := cmp.Diff(want, blocks(w, "a")); d != "" {
			t.Errorf("after its removal (-want +got):\n%s", d)
		}
		w.wait(t)
		places := facts[event.PlacesChanged](w.tape, "")
		first := []event.PlacesChanged{{Requesting: 1, Idle: 1}, {Idle: 2}, {Requesting: 1, Idle: 1}}
		if d := cmp.Diff(first, places[:min(3, len(places))]); d != "" {
			t.Errorf("places (-want +got):\n%s", d)
		}
		if last := places[len(places)-1]; last != (event.PlacesChanged{}) {
			t.Errorf("places at the end: %+v, want none", last)
		}
		if d := cmp.Diff(job.Runner{}, w.tape.events[len(w.tape.events)-1].Runner); d != "" {
			t.Errorf("places are nobody's (-want +got):\n%s", d)
		}
	})
}
