package scheduler_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/scheduler"
)

// tape keeps what a bus told.
type tape struct {
	mu     sync.Mutex
	events []event.Event
}

func (t *tape) Observe(e event.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, e)
}

// facts returns the facts of one type, of the runner of that name or of all ("").
func facts[F event.Fact](t *tape, runner string) []F {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []F
	for _, e := range t.events {
		if f, ok := e.Fact.(F); ok && (runner == "" || e.Runner.Name == runner) {
			out = append(out, f)
		}
	}
	return out
}

// asked is one request that a queue saw.
type asked struct {
	at    time.Duration // since the queue was made
	brief bool
}

// queue plays the coordinator of one entry.
type queue struct {
	latency  time.Duration // of every answer
	hold     time.Duration // more, of an answer without a job that was not to be brief
	stubborn bool          // held although it was to be brief
	work     func(ctx context.Context) scheduler.TaskResult
	answer   func(n int) (scheduler.Result, bool) // overrides jobs; false: take from jobs

	start time.Time

	mu      sync.Mutex
	jobs    int // in the queue, -1: no end
	log     []asked
	ran     int
	running int
	peak    int
}

func newQueue(jobs int, work time.Duration) *queue {
	return &queue{jobs: jobs, start: time.Now(), work: func(ctx context.Context) scheduler.TaskResult {
		select {
		case <-time.After(work):
			return scheduler.OK
		case <-ctx.Done():
			return scheduler.SystemFailed
		}
	}}
}

func (q *queue) requests() []asked {
	q.mu.Lock()
	defer q.mu.Unlock()
	return append([]asked(nil), q.log...)
}

func (q *queue) done() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ran
}

func (q *queue) take() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.jobs == 0 {
		return false
	}
	q.jobs--
	return true
}

func (q *queue) request(ctx context.Context, ask scheduler.Ask) (scheduler.Task, scheduler.Result) {
	q.mu.Lock()
	q.log = append(q.log, asked{time.Since(q.start), ask.Brief})
	n := len(q.log)
	q.mu.Unlock()
	if !sleep(ctx, q.latency) {
		return nil, scheduler.Result{Kind: scheduler.RequestFailed}
	}
	if q.answer != nil {
		if r, mine := q.answer(n); mine {
			if r.Kind == scheduler.Job && !r.Refused {
				return q.task, r
			}
			return nil, r
		}
	}
	got := q.take()
	if !got && q.hold > 0 && (!ask.Brief || q.stubborn) {
		if !sleep(ctx, q.hold) {
			return nil, scheduler.Result{Kind: scheduler.RequestFailed}
		}
	}
	if !got {
		return nil, scheduler.Result{Kind: scheduler.NoJob}
	}
	return q.task, scheduler.Result{Kind: scheduler.Job, Job: job.ID(n)}
}

func (q *queue) task(ctx context.Context) scheduler.TaskResult {
	q.mu.Lock()
	q.running++
	q.peak = max(q.peak, q.running)
	q.mu.Unlock()
	var r scheduler.TaskResult
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.running--
		q.ran++
	}()
	r = q.work(ctx)
	return r
}

// sleep is false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return true
	}
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// entry makes a valid entry of a queue; name is its key too.
func entry(name string, q *queue) scheduler.Entry {
	return scheduler.Entry{
		Runner: job.Runner{Name: name, Short: name, Executor: "shell"}, Key: name, Valid: true, Request: q.request,
	}
}

// world is a running scheduler. Use it in a synctest bubble.
type world struct {
	*scheduler.Scheduler
	tape *tape
	stop context.CancelCauseFunc
	err  chan error
}

func start(t *testing.T, c scheduler.Config) *world {
	t.Helper()
	w := &world{tape: &tape{}, err: make(chan error, 1)}
	w.Scheduler = scheduler.New(scheduler.Options{Bus: event.NewBus(w.tape)})
	ctx, stop := context.WithCancelCause(context.WithoutCancel(t.Context()))
	w.stop = stop
	go func() { w.err <- w.Run(ctx, c) }()
	return w
}

// finish drains and waits.
func (w *world) finish(t *testing.T) {
	t.Helper()
	w.Drain("test")
	w.wait(t)
}

func (w *world) wait(t *testing.T) {
	t.Helper()
	if err := <-w.err; err != nil {
		t.Errorf("Run: %v, want nil", err)
	}
	w.stop(nil)
	if st := w.Status(); st.Running != 0 || st.Requests != 0 || !st.Draining {
		t.Errorf("after Run: %+v, want a drained scheduler at rest", st)
	}
}

// bubble runs f with faked time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// after lets d pass, and everything settle.
func after(d time.Duration) {
	time.Sleep(d) // faked: the bubble's clock
	synctest.Wait()
}

func config(concurrent int, entries ...scheduler.Entry) scheduler.Config {
	return scheduler.Config{Concurrent: concurrent, CheckInterval: 3 * time.Second, Entries: entries, Generation: 1}
}
