package recovery_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/recovery"
)

// world is a machine that a test makes up.
type world struct {
	mu     sync.Mutex
	things map[string]executor.Leftover // by kind and id
	reaped []string                     // marks
	err    error
	facts  map[string]event.OrphansCounted // the last of each kind
	bad    []string                        // what of Degraded
}

func newWorld() *world {
	return &world{things: map[string]executor.Leftover{}, facts: map[string]event.OrphansCounted{}}
}

func (w *world) add(kind, id, mark string, since time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.things[kind+id] = executor.Leftover{Kind: kind, ID: id, Since: since, Claim: executor.Claim{Kind: "test", ID: mark}}
}

func (w *world) remove(mark string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, l := range w.things {
		if l.Claim.Mark() == mark {
			delete(w.things, k)
		}
	}
}

func (w *world) reconciler(j *recovery.Journal) *recovery.Reconciler {
	return &recovery.Reconciler{
		Journal: j,
		Bus: event.NewBus(event.ObserverFunc(func(e event.Event) {
			switch f := e.Fact.(type) {
			case event.OrphansCounted:
				w.facts[f.Kind] = f
			case event.Degraded:
				w.bad = append(w.bad, f.What)
			default:
			}
		})),
		Find: func(context.Context, []executor.Claim) ([]executor.Leftover, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			var out []executor.Leftover
			for _, l := range w.things {
				out = append(out, l)
			}
			return out, w.err
		},
		Reap: func(_ context.Context, l executor.Leftover) error {
			w.remove(l.Claim.Mark())
			w.reaped = append(w.reaped, l.Claim.Mark())
			return nil
		},
	}
}

func TestOrphans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := t.TempDir()
		j, other := open(t, state), open(t, state)
		crash(t, state, 9)
		begin := func(j *recovery.Journal, id job.ID, mark string) *recovery.Entry {
			t.Helper()
			e, err := j.Begin(record(id))
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Claim(executor.Claim{Kind: "test", ID: mark}); err != nil {
				t.Fatal(err)
			}
			return e
		}
		mine := begin(j, 1, "mine")
		begin(other, 2, "theirs")
		w := newWorld()
		now := time.Now()
		w.add("container", "a", "mine", now)
		w.add("container", "b", "theirs", now)
		w.add("container", "c", "nobody's", now.Add(-time.Hour))
		w.add("volume", "c", "nobody's", now.Add(-time.Minute))
		w.add("process", "d", "unknown age", time.Time{})
		// Of a process that is no more: its journal does not make it live.
		w.add("directory", "e", "9a", now.Add(-2*time.Hour))
		es, release := orphans(t, j)
		defer release()
		if len(es) != 1 {
			t.Fatalf("%d jobs of dead processes", len(es))
		}
		r := w.reconciler(j)
		counts := func() map[string]int {
			out := map[string]int{}
			for k, f := range w.facts {
				if f.Count > 0 {
					out[k] = f.Count
				}
			}
			return out
		}
		r.Look(t.Context(), false, time.Second)
		if d := cmp.Diff(map[string]int{"container": 1, "volume": 1, "process": 1, "directory": 1}, counts()); d != "" {
			t.Errorf("counts (-want +got):\n%s", d)
		}
		if len(w.facts) != len(event.OrphanKinds()) || w.facts["container"].Oldest != time.Hour || w.facts["process"].Oldest != 0 {
			t.Errorf("facts %+v", w.facts)
		}
		if len(w.reaped) > 0 {
			t.Errorf("reaped %v although that is not wanted", w.reaped)
		}
		time.Sleep(time.Second)
		r.Look(t.Context(), true, 10*time.Minute)
		if d := cmp.Diff(map[string]int{"container": 1, "volume": 1, "process": 1}, counts()); d != "" {
			t.Errorf("after what is old was removed (-want +got):\n%s", d) // a young volume protects its container
		}
		if w.facts["directory"].Reaped != 1 || w.facts["process"].Oldest != time.Second {
			t.Errorf("facts %+v", w.facts)
		}
		time.Sleep(10 * time.Minute)
		r.Look(t.Context(), true, 10*time.Minute)
		if d := cmp.Diff(map[string]int{}, counts()); d != "" {
			t.Errorf("after all was removed (-want +got):\n%s", d)
		}
		if got := slices.Sorted(slices.Values(w.reaped)); !slices.Equal(got, []string{"9a", "nobody's", "unknown age"}) {
			t.Errorf("reaped %v", got)
		}
		// A job that has ended has given its place back; what is still there
		// was left behind, although its result is not delivered yet.
		if err := mine.Ended(job.Update{State: job.WireSuccess}); err != nil {
			t.Fatal(err)
		}
		r.Look(t.Context(), false, time.Second)
		if w.facts["container"].Count != 1 {
			t.Errorf("facts %+v", w.facts)
		}
		w.err = errors.New("no answer")
		r.Look(t.Context(), false, time.Second)
		if d := cmp.Diff([]string{"orphans"}, w.bad); d != "" {
			t.Errorf("Degraded (-want +got):\n%s", d)
		}
	})
}

// TestNothingLiveIsAnOrphan begins and ends jobs as quickly as it can while
// another goroutine looks, and removes whatever it takes for an orphan.
func TestNothingLiveIsAnOrphan(t *testing.T) {
	state := t.TempDir()
	j := open(t, state)
	other := open(t, state)
	w := newWorld()
	r := w.reconciler(j)
	ctx, cancel := context.WithCancel(t.Context())
	var looking sync.WaitGroup
	looking.Go(func() {
		for ctx.Err() == nil {
			r.Look(ctx, true, 0)
		}
	})
	var jobs sync.WaitGroup
	for worker := range 4 {
		journal := j
		if worker%2 == 1 {
			journal = other
		}
		jobs.Go(func() {
			for i := range 150 {
				mark := fmt.Sprintf("%d-%d", worker, i)
				e, err := journal.Begin(record(job.ID(i + 1)))
				if err == nil {
					err = e.Claim(executor.Claim{Kind: "test", ID: mark})
				}
				if err != nil {
					t.Error(err)
					return
				}
				w.add("process", mark, mark, time.Time{})
				if rand.IntN(3) == 0 {
					time.Sleep(time.Millisecond)
				}
				w.mu.Lock()
				_, there := w.things["process"+mark]
				w.mu.Unlock()
				if !there {
					t.Errorf("what job %s was using was removed", mark)
				}
				w.remove(mark)
				if err := errors.Join(e.Ended(job.Update{State: job.WireSuccess}), e.Done()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	jobs.Wait()
	cancel()
	looking.Wait()
	if len(w.reaped) > 0 {
		t.Errorf("%d things were taken for orphans", len(w.reaped))
	}
}
