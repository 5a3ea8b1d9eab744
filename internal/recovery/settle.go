package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/pause"
)

// Settler ends and reports jobs of processes that are no more.
type Settler struct {
	Bus *event.Bus
	// Reap ends what a claim names, through the driver of that name.
	Reap func(ctx context.Context, driver string, c executor.Claim) (ended int, err error)
	// Deliver sends the rest of the log at path and reports how the job
	// ended, which is failed unless the record says otherwise. It returns how
	// much of the log had not been sent.
	Deliver func(ctx context.Context, r Record, logPath string) (unsent int64, err error)
	// Settled is called after each job that was settled; nil: nothing is.
	Settled func()
	// First and Most bound the time between two tries; 0: 1 s and 1 min.
	First, Most time.Duration
}

// atOnce is how many jobs are settled at the same time.
const atOnce = 16

// Settle takes care of all orphans and returns when each is settled or ctx
// has ended. A coordinator that cannot be reached is tried again and again:
// what is left when ctx ends stays for the next process.
func (s *Settler) Settle(ctx context.Context, orphans []*Entry) {
	var wg sync.WaitGroup
	room := make(chan struct{}, atOnce)
	for _, o := range orphans {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			s.settle(ctx, o)
		})
	}
	wg.Wait()
}

func (s *Settler) settle(ctx context.Context, e *Entry) {
	ctx = event.WithScope(ctx, event.Scope{Runner: e.Record.Runner, Job: e.Record.Job, Run: s.Bus.NextRun()})
	delay, most := s.First, s.Most
	if delay == 0 {
		delay = time.Second
	}
	if most == 0 {
		most = time.Minute
	}
	done := event.Recovered{Job: e.Record.Job}
	for {
		ended, unsent, err := s.once(ctx, e)
		done.Killed += ended
		done.Unsent = max(done.Unsent, unsent)
		done.Err = err
		s.Bus.Emit(ctx, done)
		if err == nil {
			if s.Settled != nil {
				s.Settled()
			}
			return
		}
		if pause.For(ctx, delay) != nil {
			return
		}
		delay = min(2*delay, most)
	}
}

// once ends what runs and reports. The job is forgotten when both are done.
func (s *Settler) once(ctx context.Context, e *Entry) (ended int, unsent int64, err error) {
	var errs []error
	// The newest first: what was started last may need what was there before.
	var left []executor.Claim
	for _, c := range slices.Backward(e.claims) {
		n, rerr := s.Reap(ctx, e.Record.Runner.Executor, c)
		ended += n
		if rerr != nil {
			left = append(left, c)
			errs = append(errs, fmt.Errorf("ending what job %d left behind: %w", e.Record.Job, rerr))
		}
	}
	slices.Reverse(left)
	e.claims = left // another try has less to do
	unsent, err = s.Deliver(ctx, e.Record, e.LogPath())
	if err != nil {
		return ended, unsent, errors.Join(append(errs, err)...)
	}
	if len(errs) > 0 {
		return ended, unsent, errors.Join(errs...)
	}
	return ended, unsent, e.Done()
}
