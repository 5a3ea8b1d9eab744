package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/pause"
	"github.com/glassrunner/glassrunner/internal/pulse"
)

const (
	prepareTries = 3
	retryDelay   = 3 * time.Second
	// slack is what a promise to the pulse monitor has beyond the bounds that
	// hold anyway.
	slack = 2 * time.Minute
	// afterScriptTimeout holds unless RUNNER_AFTER_SCRIPT_TIMEOUT says otherwise.
	afterScriptTimeout = 5 * time.Minute
)

// run is one run of a Build.
type run struct {
	*Build
	out  *printer
	env  executor.Env
	part *pulse.Part // of the monitor
	vars job.Variables
	dirs executor.Dirs

	reached    bool   // the user's script began
	reportMark string // see mark

	// mu guards what a directive may find: which context a cancel ends.
	mu     sync.Mutex
	cancel context.CancelCauseFunc // nil: a cancel has no effect any more
	abort  context.CancelCauseFunc
}

// Run takes the job to its end and tells its coordinator. It is called once.
// ctx ends with an *Interruption as its cause when the process shuts down by
// force; the outcome is still delivered.
func (b *Build) Run(ctx context.Context) job.Outcome {
	ctx = event.WithScope(ctx, b.scope)
	free := context.WithoutCancel(ctx)
	started := time.Now()
	b.o.Bus.Emit(ctx, event.JobState{State: job.Pending})

	jobCtx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	limited, stop := context.WithTimeoutCause(jobCtx, b.spec.Timeout, &jobTimeout{b.spec.Timeout})
	defer stop()
	// While a job runs it owes nobody an end; once its time is over, it does.
	part := b.o.Pulse.Part(pulse.Executors, fmt.Sprintf("job %d", b.spec.ID))
	defer part.End()
	owes := context.AfterFunc(limited, func() { part.Within(stuckAfter + b.o.Grace + b.closeTimeout() + slack) })
	r := &run{Build: b, out: b.out, cancel: abort, abort: abort, part: part}
	b.log.Start(free, func(d job.Directive) { r.directed(free, d) })

	outcome := outcomeOf(r.guarded(limited))
	owes()
	part.End() // what is left is the upload's, which GitLab may keep waiting
	outcome.Prepared = r.reached
	state := stateOf(outcome, r.reached)
	b.o.Bus.Emit(ctx, event.JobState{State: state})
	r.verdict(outcome)
	finished := time.Now()
	told := outcome
	told.Err = b.hide(outcome.Err)
	b.o.Bus.Emit(ctx, event.JobFinished{Outcome: told, State: state, Took: finished.Sub(started), Mode: "traditional"})

	delivery := event.Below(free)
	err := b.final(delivery, outcome)
	b.o.Bus.Emit(delivery, event.JobRemoved{Lost: err != nil, Took: time.Since(finished), Err: b.hide(err)})
	return outcome
}

// A panicked error is a fault of this program. It fails the job, so that the
// coordinator hears of it, and not the runner.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// guard runs f and turns a panic into an error.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &executor.Error{Reason: job.SystemFailure, Err: &panicked{p, debug.Stack()}}
		}
	}()
	return f()
}

// guarded runs the job and tells of a panic with its stack.
func (r *run) guarded(ctx context.Context) error {
	err := guard(func() error { return r.job(ctx) })
	if p, ok := errors.AsType[*panicked](err); ok {
		r.o.Bus.Emit(ctx, event.Degraded{What: "job_panic", Err: r.hide(fmt.Errorf("%w\n%s", p, p.stack))})
	}
	return r.hide(err)
}

// verdict is the last line of the log.
func (r *run) verdict(o job.Outcome) {
	switch {
	case o.OK():
		r.out.Good("Job succeeded")
	case o.Reason == job.SystemFailure:
		r.out.Error(fmt.Sprintf("Job failed (system failure): %v", o.Err))
	default:
		r.out.Error(fmt.Sprintf("Job failed: %v", o.Err))
	}
}

// directed obeys the coordinator. It is called from the upload of the log.
func (r *run) directed(ctx context.Context, d job.Directive) {
	if d == job.GoOn {
		return
	}
	r.o.Bus.Emit(ctx, event.Directed{Directive: d})
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case d == job.Abort:
		r.abort(errAborted)
	case r.cancel != nil:
		r.cancel(errCanceled)
	}
}

// cancels says which context a cancel of the coordinator ends from now on.
func (r *run) cancels(f context.CancelCauseFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cancel = f
}

func (r *run) job(ctx context.Context) error {
	r.header()
	spec, fields, err := r.inputs(ctx)
	if err != nil {
		return err
	}
	if fields > 0 {
		r.spec = spec
		r.o.Bus.Emit(ctx, event.Interpolated{Fields: fields})
	}
	if len(r.spec.Secrets) > 0 {
		return executor.Misconfigured("the job wants secrets of an external provider (`secrets:`), which this runner does not support")
	}
	slot, projectSlot, release := r.o.Slots.Take(r.spec.Info.ProjectID)
	defer release()
	prepare := ctx
	if d := r.o.PrepareTimeout; d > 0 && d < r.spec.Timeout {
		var stop context.CancelFunc
		prepare, stop = context.WithTimeoutCause(ctx, d, &phaseTimeout{"prepare timeout", d})
		defer stop()
	}
	if err := r.prepare(prepare, slot, projectSlot); err != nil {
		return err
	}
	defer r.close(ctx)
	stop := r.sample(ctx)
	defer func() {
		stop()
		r.used(ctx)
	}()
	r.o.Bus.Emit(ctx, event.JobState{State: job.Running})
	return r.scripts(ctx, prepare)
}

func (r *run) inputs(ctx context.Context) (*job.Spec, int, error) {
	if !r.flags["FF_ENABLE_JOB_INPUTS_INTERPOLATION"] {
		return r.spec, 0, nil
	}
	spec, n, err := interpolate(r.spec)
	if bad, ok := errors.AsType[*inputError](err); ok {
		r.o.Bus.Emit(ctx, event.InterpolationFailed{Kind: bad.kind})
		return nil, 0, &executor.Error{Reason: job.ConfigurationError, Err: err}
	}
	return spec, n, err
}

// header says who runs the job.
func (r *run) header() {
	v := r.o.Version
	r.out.Line("Running with %s %s (%s)", v.Name, v.Version, v.Revision)
	r.out.Line("  on %s %s, system ID: %s", r.o.Runner.Name, r.o.Runner.Short, r.o.Runner.SystemID)
	var changed []string
	for _, f := range r.flagList {
		if f.On != f.Default {
			changed = append(changed, fmt.Sprintf("%s:%t", f.Name, f.On))
		}
	}
	if len(changed) > 0 {
		r.out.Line("  feature flags: %s", strings.Join(changed, ", "))
	}
	if p := r.spec.Policy; p.ExecutionPolicyJob {
		r.out.Line("Job triggered by policy %q", p.Name)
	}
}

// prepare opens the job's place, in up to three tries.
func (r *run) prepare(ctx context.Context, slot, projectSlot int) error {
	return r.phaseOf(ctx, job.PrepareExecutor, func(ctx context.Context) error {
		r.out.Begin(job.PrepareExecutor)
		defer r.out.End(job.PrepareExecutor)
		r.out.Head(fmt.Sprintf("Preparing the %q executor", r.o.Driver.Traits().Name))
		for try := 1; ; try++ {
			err := r.open(ctx, slot, projectSlot)
			if err == nil {
				return nil
			}
			if ctx.Err() != nil {
				return errors.Join(context.Cause(ctx), err)
			}
			var known *executor.Error
			if errors.As(err, &known) || try == prepareTries {
				return err
			}
			delay := r.o.RetryDelay
			if delay == 0 {
				delay = retryDelay
			}
			r.out.Error(fmt.Sprintf("Preparation failed: %v", err))
			r.out.Line("Will be retried in %s ...", delay)
			if err := pause.For(ctx, delay); err != nil {
				return err
			}
		}
	})
}

func (r *run) open(ctx context.Context, slot, projectSlot int) error {
	t := r.o.Driver.Traits()
	r.layout, r.dirs = executor.Layout{}, executor.Dirs{}
	stage := func(name string) { r.o.Bus.Emit(ctx, event.ExecutorStage{Stage: name}) }
	req := executor.Request{
		Spec: r.spec, Runner: r.o.Runner, Log: r.out.w,
		Concurrent: slot, ConcurrentProject: projectSlot, Claim: r.entry.Claim, Stage: stage,
		ServiceLog: func(n int) io.WriteCloser { return r.log.Stream(byte(15+min(max(n, 0), 240)), false) },
	}
	arrange := func(l executor.Layout) (executor.Arrangement, error) {
		r.layout = l
		dirs, err := r.placeOf(t, slot, projectSlot)
		if err != nil {
			return executor.Arrangement{}, err
		}
		r.dirs = dirs
		r.vars = r.variables(t, dirs, slot, projectSlot)
		return executor.Arrangement{Dirs: dirs, Variables: r.vars, Shell: r.shell(t)}, nil
	}
	if t.Arranges {
		r.vars = r.variables(t, r.dirs, slot, projectSlot)
		req.Variables, req.Shell, req.Arrange = r.vars, r.shell(t), arrange
	} else {
		a, err := arrange(executor.Layout{})
		if err != nil {
			return err
		}
		req.Dirs, req.Variables, req.Shell = a.Dirs, a.Variables, a.Shell
	}
	stage("prepare")
	env, err := r.o.Driver.Open(ctx, req)
	r.env = env
	return err
}

func (r *run) shell(t executor.Traits) string { return cmp.Or(r.layout.Shell, r.o.Shell, t.Shell) }

// closeTimeout is how long a place may take to be given back.
func (b *Build) closeTimeout() time.Duration {
	return cmp.Or(b.o.Driver.Traits().CloseTimeout, executor.DefaultCloseTimeout)
}

// close gives the place back, whatever happened to the job.
func (r *run) close(ctx context.Context) {
	limit := r.closeTimeout()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	r.part.Within(limit + slack)
	r.o.Bus.Emit(ctx, event.ExecutorStage{Stage: "finish"})
	err := r.o.Bus.Phase(ctx, job.CleanupExecutor, func(ctx context.Context) error {
		r.o.Bus.Emit(ctx, event.ExecutorStage{Stage: "cleanup"})
		return r.env.Close(ctx)
	})
	if err != nil {
		r.o.Bus.Emit(ctx, event.Degraded{What: "environment_cleanup", Err: r.hide(err)})
	}
}
