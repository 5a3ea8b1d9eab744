package event_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// list is an observer that keeps what it was told.
type list struct{ events []event.Event }

func (l *list) Observe(e event.Event) { l.events = append(l.events, e) }

func TestEmitOrdersAndScopes(t *testing.T) {
	var a, b list
	bus := event.NewBus(&a, &b)
	var wg sync.WaitGroup
	for id := range 8 {
		wg.Go(func() {
			ctx := event.WithScope(t.Context(), event.Scope{Job: job.ID(id)})
			for range 100 {
				bus.Emit(ctx, event.Fed{})
			}
		})
	}
	wg.Wait()
	if len(a.events) != 800 {
		t.Fatalf("got %d events, want 800", len(a.events))
	}
	for i, e := range a.events {
		if e.Seq != uint64(i+1) {
			t.Fatalf("event %d has number %d", i, e.Seq)
		}
	}
	if diff := cmp.Diff(a.events, b.events); diff != "" {
		t.Errorf("two observers saw different streams:\n%s", diff)
	}
}

func TestPhaseTellsItsEndOnEveryWayOut(t *testing.T) {
	bad := errors.New("bad")
	for _, tt := range []struct {
		name     string
		do       func(context.Context) error
		want     error
		panicked bool
	}{
		{"well", func(context.Context) error { return nil }, nil, false},
		{"error", func(context.Context) error { return bad }, bad, false},
		{"panic", func(context.Context) error { panic("oh") }, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var l list
			func() {
				defer func() {
					if p := recover(); (p != nil) != tt.panicked {
						t.Errorf("panic: got %v", p)
					}
				}()
				err := event.NewBus(&l).Phase(t.Context(), job.GetSources, tt.do)
				if !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
			}()
			if len(l.events) != 2 {
				t.Fatalf("got %d events, want start and finish", len(l.events))
			}
			f, ok := l.events[1].Fact.(event.PhaseFinished)
			if !ok || f.Phase != job.GetSources || f.Panicked != tt.panicked || !errors.Is(f.Err, tt.want) {
				t.Errorf("got %+v", l.events[1].Fact)
			}
		})
	}
}

func TestNilBusDiscards(t *testing.T) {
	var bus *event.Bus
	bus.Emit(t.Context(), event.Fed{})
	if err := bus.Phase(t.Context(), job.GetSources, func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
	bus.NextRun()
}

func TestAsyncBoundsAndCounts(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var got int
	q := event.Async(2, event.ObserverFunc(func(event.Event) {
		if got == 0 {
			close(entered)
			<-leave
		}
		got++
	}))
	q.Observe(event.Event{Seq: 1})
	<-entered
	for i := range 5 {
		q.Observe(event.Event{Seq: uint64(i + 2)})
	}
	close(leave)
	q.Close()
	q.Observe(event.Event{})
	if got != 3 || q.Dropped() != 4 {
		t.Errorf("handed on %d and dropped %d, want 3 and 4", got, q.Dropped())
	}
	q.Close()
}

func BenchmarkEmit(b *testing.B) {
	var n int
	bus := event.NewBus(event.ObserverFunc(func(event.Event) { n++ }), event.ObserverFunc(func(event.Event) { n++ }))
	ctx := event.WithScope(b.Context(), event.Scope{Job: 1})
	b.ReportAllocs()
	for b.Loop() {
		bus.Emit(ctx, event.PhaseStarted{Phase: job.GetSources})
	}
}
