package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/pulse"
)

// What a configuration gets that leaves these values out.
const (
	DefaultCheckInterval     = 3 * time.Second
	DefaultUnhealthyLimit    = 3
	DefaultUnhealthyInterval = time.Hour
)

// The loop reports at least every beat, and then within grace; so whoever
// watches knows within half a minute that it hangs.
const (
	beat  = 10 * time.Second
	grace = 15 * time.Second
)

// slowAnswer is how long a request for a job may take before its runner counts
// as blocked by the coordinator. GitLab holds one for 50 s, proxies rarely more
// than a minute.
const slowAnswer = 2 * time.Minute

// badInRow is how many refused jobs in a row still earn a credit: enough to
// get past a few that this runner cannot run. As many jobs in a row that
// failed by the runner's own fault end the credits.
const badInRow = 3

// ErrDraining is the cancel cause of requests that are in flight when
// draining begins.
var ErrDraining = errors.New("scheduler: no more jobs are taken")

// ErrHeld is the cancel cause of requests that are in flight when a hold begins.
var ErrHeld = errors.New("scheduler: the runner is kept from taking jobs")

// ErrStarted is returned by a second Run.
var ErrStarted = errors.New("scheduler: already started")

// Entry is one [[runners]] entry of the configuration in force.
type Entry struct {
	Runner job.Runner
	// Key identifies the token at its coordinator. Entries with equal keys
	// share limit, request slots and health. It is opaque and never logged.
	Key   string
	Valid bool // false: there is no token, turns are skipped

	Limit              int  // jobs and requests at once, 0: unlimited
	RequestConcurrency int  // requests at once, < 1: 1
	Adaptive           bool // FF_USE_ADAPTIVE_REQUEST_CONCURRENCY
	StrictInterval     bool // strict_check_interval

	UnhealthyLimit    int           // < 1: DefaultUnhealthyLimit
	UnhealthyInterval time.Duration // <= 0: DefaultUnhealthyInterval

	// Request asks for one job and acknowledges it. ctx is canceled when
	// draining or a hold begins; a job that came nevertheless is acknowledged or
	// refused to the end, under context.WithoutCancel, and its Task returned.
	Request func(ctx context.Context, ask Ask) (Task, Result)
}

// Ask is how a request is to be made.
type Ask struct {
	// Brief says that other entries wait for the place that this request
	// takes: the coordinator should not hold it. (A request without
	// last_update is never a long poll, runner-api.md 2.6.)
	Brief bool
}

// Task runs a job to its very end. Its ctx lives until Abort, whose cause it
// then carries, and belongs to no runner's or job's scope.
type Task func(ctx context.Context) TaskResult

// TaskResult is how a turn that brought a job ended.
type TaskResult int

// The results of tasks.
const (
	OK           TaskResult = iota
	Failed                  // the job failed by its own fault
	SystemFailed            // the runner failed
)

// Kind is how a request ended.
type Kind int

// The kinds of results.
const (
	NoJob         Kind = iota // nothing to do, the coordinator is fine
	Job                       // a job was received
	Forbidden                 // 403: the token is not accepted
	ClientError               // no request could be made with this configuration
	RequestFailed             // any other failure
	NoCapacity                // the executor has no place for a job; nothing was asked
)

// Result is what came of a request.
type Result struct {
	Kind    Kind
	Job     job.ID // of a received job, for Running
	Retried bool   // the coordinator asked to slow down, in any attempt
	Refused bool   // with Job: it was taken back or cannot be run, there is no Task
}

// Config is a configuration generation.
type Config struct {
	Concurrent    int           // jobs at once over all entries, >= 1
	CheckInterval time.Duration // <= 0: DefaultCheckInterval
	Entries       []Entry
	Generation    int
}

// Options are what a Scheduler is made of. A nil Log discards.
type Options struct {
	Bus   *event.Bus
	Log   *slog.Logger   // debug records only
	Pulse *pulse.Monitor // is promised that the loop comes round; may be nil
}

// Scheduler asks for jobs and runs them. All methods are safe for concurrent
// use, but none may be called from an observer of its Bus. Apply, Drain,
// Abort and Hold never block and may be called before Run.
type Scheduler struct {
	bus   *event.Bus
	log   *slog.Logger
	pulse *pulse.Monitor

	wake chan struct{} // holds one: there is something in posted

	mu     sync.Mutex
	posted []func(*loop)
	stage  stage
	last   Status // of the end of Run
}

type stage int

const (
	fresh stage = iota
	running
	ended
)

// New returns a scheduler that waits for Run.
func New(o Options) *Scheduler {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Scheduler{bus: o.Bus, log: log, pulse: o.Pulse, wake: make(chan struct{}, 1)}
}

// Run asks for jobs and runs them until a drain is over: it returns when the
// last job has ended. The end of ctx asks for a drain, it does not end jobs.
// It fails for a configuration without slots and when it was called before.
func (s *Scheduler) Run(ctx context.Context, c Config) error {
	if c.Concurrent < 1 {
		return fmt.Errorf("scheduler: concurrent is %d, must be at least 1", c.Concurrent)
	}
	if !s.begin() {
		return ErrStarted
	}
	base := context.WithoutCancel(ctx)
	asking, stopAsking := context.WithCancelCause(base)
	defer stopAsking(nil)
	jobs, abort := context.WithCancelCause(base)
	defer abort(nil)

	var turns sync.WaitGroup
	l := newLoop(s.log, time.Now())
	l.emit = func(r job.Runner, f event.Fact) { s.bus.Emit(event.WithRunner(base, r), f) }
	l.stopAsking = func() { stopAsking(ErrDraining) }
	l.abortJobs = abort
	l.spawn = func(t *turn) {
		request, cancel := context.WithCancelCause(event.WithRunner(asking, t.conf.Runner))
		t.cancel = cancel
		turns.Go(func() {
			defer cancel(nil)
			t.live(request, jobs, s.post)
		})
	}
	l.apply(c)

	heart := s.pulse.Part(pulse.Scheduler, "loop")
	defer heart.End()
	timer := time.NewTimer(0)
	defer timer.Stop()
	stop := ctx.Done()
	for {
		heart.Within(grace)
		for _, do := range s.take() {
			l.now = time.Now()
			do(l)
		}
		if l.idle() {
			l.tellBlocked()
			break
		}
		l.now = time.Now()
		next := l.step()
		sleep := beat
		if !next.IsZero() {
			sleep = min(beat, time.Until(next))
		}
		timer.Reset(sleep)
		heart.Within(beat + grace)
		select {
		case <-s.wake:
		case <-timer.C:
		case <-stop:
			stop = nil
			l.now = time.Now()
			l.drain("context")
		}
	}
	heart.Rest()
	turns.Wait()
	s.end(l)
	return nil
}

// Apply puts c in force. Running jobs go on with what they started with,
// entries that stay keep their pace, and the health of every entry is
// forgotten. A Concurrent below 1 is taken as 1.
func (s *Scheduler) Apply(c Config) {
	s.post(func(l *loop) { l.apply(c) })
}

// Drain stops asking: requests in flight are canceled and Run returns when
// every job, one that arrives in spite of that included, has ended. by names
// what asked for it, in the Draining fact.
func (s *Scheduler) Drain(by string) {
	s.post(func(l *loop) { l.drain(by) })
}

// Abort is Drain that also cancels every job with cause. A job that arrives
// later is started with its context canceled, so that it can be reported.
func (s *Scheduler) Abort(by string, cause error) {
	s.post(func(l *loop) { l.abort(by, cause) })
}

// Hold keeps the entries of one key from asking for jobs, with on, until the
// same reason is taken back. Requests in flight are canceled; jobs go on, and
// so does one that such a request brings. Reason is one of event.Blocks, any
// other counts as event.BlockPaused; several may hold a key at once. A hold
// outlives reloads, also those that take the key away for a time. It never
// blocks and may be called before Run.
func (s *Scheduler) Hold(key, reason string, on bool) {
	s.post(func(l *loop) { l.hold(key, holdOf(reason), on) })
}

// post hands do to the goroutine of Run. It is false after the end of Run.
func (s *Scheduler) post(do func(*loop)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stage == ended {
		return false
	}
	s.posted = append(s.posted, do)
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return true
}

func (s *Scheduler) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stage != fresh {
		return false
	}
	s.stage = running
	return true
}

func (s *Scheduler) take() []func(*loop) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do := s.posted
	s.posted = nil
	return do
}

// end answers what was asked since the last take, and no more after that.
func (s *Scheduler) end(l *loop) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stage = ended
	for _, do := range s.posted {
		do(l)
	}
	s.posted = nil
	s.last = l.status()
}
