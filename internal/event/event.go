// Package event tells a job's life once. Whoever causes something emits a
// fact on a Bus; metrics, the status page, spans and the process log are
// observers of the one stream, so they cannot disagree.
//
// A fact is past tense, immutable, small and one of a closed set (facts.go).
// Emit calls every observer before it returns, in one total order: when it is
// back, counters and page agree, and a test needs no waiting. An observer is
// therefore quick, does no I/O and cannot emit; one that does I/O stands
// behind Async. Facts never steer: nothing decides by what an observer saw.
// Bytes of job logs never enter, only their accounting.
package event

import (
	"context"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
)

// Scope is whose fact it is. It rides in a context.
type Scope struct {
	Runner job.Runner
	Job    job.ID // 0 outside jobs
	// Run is unique per job run in this process: two coordinators may hand
	// out the same job id.
	Run uint64
	// Trace is the span of the job's trace that the fact belongs to.
	Trace Trace
}

// Event is a fact with its place in the stream.
type Event struct {
	Seq  uint64    // 1, 2, 3…
	Time time.Time // when it was emitted
	Scope
	Fact Fact
}

// An Observer is told every event, one at a time, in order.
type Observer interface{ Observe(Event) }

// ObserverFunc makes an Observer of a function.
type ObserverFunc func(Event)

// Observe calls f.
func (f ObserverFunc) Observe(e Event) { f(e) }

// Bus orders facts and hands them to its observers. A nil Bus discards.
type Bus struct {
	observers []Observer

	mu  sync.Mutex
	seq uint64
	run uint64
}

// NewBus returns a bus with a fixed list of observers, called in that order.
func NewBus(observers ...Observer) *Bus { return &Bus{observers: observers} }

// Emit tells every observer f, in the scope that ctx carries.
func (b *Bus) Emit(ctx context.Context, f Fact) {
	if b == nil {
		return
	}
	scope := ScopeOf(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq++
	e := Event{Seq: b.seq, Time: time.Now(), Scope: scope, Fact: f}
	for _, o := range b.observers {
		o.Observe(e)
	}
}

// NextRun returns a number for Scope.Run that this bus has not given before.
func (b *Bus) NextRun() uint64 {
	if b == nil {
		return 1
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.run++
	return b.run
}

// PhaseHere is Phase for who made the phase's span beforehand, with Below, to
// know it before the phase begins.
func (b *Bus) PhaseHere(ctx context.Context, p job.Phase, do func(context.Context) error) (err error) {
	start := time.Now()
	b.Emit(ctx, PhaseStarted{Phase: p})
	finished := false
	defer func() {
		f := PhaseFinished{Phase: p, Took: time.Since(start), Err: err}
		f.Panicked = !finished
		b.Emit(ctx, f)
	}()
	err = do(ctx)
	finished = true
	return err
}

type scopeKey struct{}

// WithScope returns ctx with s as the scope of what is emitted under it.
func WithScope(ctx context.Context, s Scope) context.Context {
	return context.WithValue(ctx, scopeKey{}, s)
}

// WithRunner returns ctx scoped to a runner and no job.
func WithRunner(ctx context.Context, r job.Runner) context.Context {
	return WithScope(ctx, Scope{Runner: r})
}

// ScopeOf returns the scope that ctx carries, the zero Scope without one.
func ScopeOf(ctx context.Context) Scope {
	s, _ := ctx.Value(scopeKey{}).(Scope)
	return s
}
