package scheduler_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/pulse"
	"github.com/glassrunner/glassrunner/internal/scheduler"
)

// An observer that does not come back takes the loop with it, which is seen
// within half a minute; a runner with nothing to do is never late.
func TestWedgedLoop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		wedged := false
		bus := event.NewBus(event.ObserverFunc(func(e event.Event) {
			if wedged {
				<-release
			}
		}))
		m := pulse.New()
		s := scheduler.New(scheduler.Options{Bus: bus, Pulse: m})
		over := make(chan error, 1)
		c := config(1, entry("a", newQueue(0, 0)))
		c.CheckInterval = time.Hour
		go func() { over <- s.Run(t.Context(), c) }()
		for range 1000 {
			after(7 * time.Second)
			if late := m.Late(); late != nil {
				t.Fatalf("late: %v, want nothing", late)
			}
		}
		wedged = true
		c.Concurrent = 2
		s.Apply(c)
		after(30 * time.Second)
		late := m.Late()
		if len(late) != 1 || late[0].Component != pulse.Scheduler {
			t.Fatalf("late: %v, want the scheduler", late)
		}
		wedged = false
		close(release)
		after(time.Second)
		if late := m.Late(); late != nil {
			t.Errorf("late: %v after the loop came back", late)
		}
		s.Drain("test")
		if err := <-over; err != nil {
			t.Error(err)
		}
		after(time.Hour)
		if late := m.Late(); late != nil {
			t.Errorf("late: %v after the end", late)
		}
	})
}

func TestHangingRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tape := &tape{}
		release := make(chan struct{})
		e := entry("a", nil)
		e.Request = func(context.Context, scheduler.Ask) (scheduler.Task, scheduler.Result) {
			<-release
			return nil, scheduler.Result{}
		}
		s := scheduler.New(scheduler.Options{Bus: event.NewBus(tape)})
		over := make(chan error, 1)
		go func() { over <- s.Run(t.Context(), config(2, e)) }()
		after(119 * time.Second)
		if b := s.Status().Entries[0].Blocked; b != event.BlockNoJobs {
			t.Errorf("blocked by %s, want no_jobs for two minutes", b)
		}
		after(2 * time.Second)
		want := []event.BlockChanged{{Block: event.BlockNoJobs}, {Block: event.BlockCoordinator}}
		if d := cmp.Diff(want, facts[event.BlockChanged](tape, "a")); d != "" {
			t.Errorf("blocks (-want +got):\n%s", d)
		}
		close(release)
		after(time.Second)
		want = append(want, event.BlockChanged{Block: event.BlockNoJobs})
		if d := cmp.Diff(want, facts[event.BlockChanged](tape, "a")); d != "" {
			t.Errorf("blocks after the answer (-want +got):\n%s", d)
		}
		s.Drain("test")
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
}
