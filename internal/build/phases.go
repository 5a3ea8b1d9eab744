package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/pause"
	"github.com/glassrunner/glassrunner/internal/script"
)

// scripts runs the phases that run scripts, in GitLab's order. prepare is the
// context that bounds preparation.
func (r *run) scripts(ctx, prepare context.Context) error {
	if err := r.phase(prepare, job.PrepareScript, executor.Helper); err != nil {
		return fmt.Errorf("prepare environment: %w", err)
	}
	err := r.sources(ctx)
	var late *phaseTimeout
	if errors.As(err, &late) || ctx.Err() != nil {
		return err
	}
	if err == nil {
		err = r.user(ctx)
		if ctx.Err() != nil {
			return err
		}
	}
	// What follows ends with the job only: a cancel comes too late.
	r.cancels(nil)
	archive, upload := job.ArchiveCache, job.UploadArtifacts
	if err != nil {
		archive, upload = job.ArchiveCacheFailed, job.UploadArtifactsF
	}
	aerr := r.phase(ctx, archive, executor.Helper)
	uerr := r.phase(ctx, upload, executor.Helper)
	if cerr := r.phase(ctx, job.Cleanup, executor.Helper); cerr != nil {
		r.o.Bus.Emit(ctx, event.Degraded{What: "job_cleanup", Err: r.hide(cerr)})
	}
	return firstOf(err, aerr, uerr, ctxErr(ctx))
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func ctxErr(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// sources brings everything that the user's script finds when it begins.
func (r *run) sources(ctx context.Context) error {
	sctx := ctx
	if d := r.o.GetSourcesTimeout; d > 0 && d < r.spec.Timeout {
		var stop context.CancelFunc
		sctx, stop = context.WithTimeoutCause(ctx, d, &phaseTimeout{"get_sources timeout", d})
		defer stop()
	}
	again := func(ctx context.Context, try int) error {
		if try != 2 {
			return nil
		}
		return r.phase(ctx, job.ClearWorktree, executor.Helper)
	}
	if err := r.retried(sctx, job.GetSources, "GET_SOURCES_ATTEMPTS", again); err != nil {
		return err
	}
	if err := r.retried(ctx, job.RestoreCache, "RESTORE_CACHE_ATTEMPTS", nil); err != nil {
		return err
	}
	return r.retried(ctx, job.DownloadArtifacts, "ARTIFACT_DOWNLOAD_ATTEMPTS", nil)
}

// retried runs a phase until it succeeds or the setting's number of attempts
// is used up. before runs ahead of every try but the first.
func (r *run) retried(ctx context.Context, p job.Phase, setting string, before func(context.Context, int) error) error {
	tries := r.attempts(r.vars, setting)
	delay, most := time.Second, 5*time.Second
	if r.flags["FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY"] {
		delay, most = 5*time.Second, 5*time.Minute
	}
	for try := 1; ; try++ {
		var err error
		if before != nil && try > 1 {
			err = before(ctx, try)
		}
		if err == nil {
			err = r.phase(ctx, p, executor.Helper)
		}
		if err == nil || ctx.Err() != nil || try >= tries {
			return err
		}
		r.out.Warn("Retrying...")
		if err := pause.For(ctx, delay); err != nil {
			return err
		}
		delay = min(2*delay, most)
	}
}

// user runs the user's steps and then after_script.
func (r *run) user(ctx context.Context) error {
	err := r.steps(ctx)
	r.cancels(nil)
	if ctx.Err() != nil {
		return err
	}
	aerr := r.afterScript(ctx, err)
	if err == nil && aerr != nil {
		return aerr
	}
	return err
}

func (r *run) steps(ctx context.Context) error {
	sctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.cancels(cancel)
	if ctx.Err() != nil { // a cancel that came just before ended the whole job
		return context.Cause(ctx)
	}
	if d := r.duration(r.vars, "RUNNER_SCRIPT_TIMEOUT", 0); d > 0 {
		if deadline, ok := ctx.Deadline(); ok && d > time.Until(deadline) {
			r.out.Warn("RUNNER_SCRIPT_TIMEOUT timeout: " + d.String() + " is longer than job timeout. Setting to job timeout")
		} else {
			var stop context.CancelFunc
			sctx, stop = context.WithTimeoutCause(sctx, d, &phaseTimeout{"script timeout", d})
			defer stop()
		}
	}
	r.reached = true
	for _, s := range r.spec.Steps {
		if s.Name == string(job.AfterScript) {
			continue
		}
		if err := r.phase(sctx, job.StepPhase(s.Name), executor.Build); err != nil {
			if errors.Is(err, errCanceled) && ctx.Err() == nil {
				r.out.Warn("script canceled externally (UI, API)")
			}
			return err
		}
	}
	return nil
}

// afterScript runs with what became of the script in CI_JOB_STATUS. Its own
// failure counts only when the user wants it to.
func (r *run) afterScript(ctx context.Context, scriptErr error) error {
	vars := r.vars
	r.vars = append(slices.Clip(vars), job.Variable{Key: "CI_JOB_STATUS", Value: status(scriptErr), Public: true, Internal: true})
	defer func() { r.vars = vars }()
	d := r.duration(vars, "RUNNER_AFTER_SCRIPT_TIMEOUT", afterScriptTimeout)
	actx, stop := context.WithTimeoutCause(ctx, d, &phaseTimeout{"after_script timeout", d})
	defer stop()
	err := r.phase(actx, job.AfterScript, executor.Build)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if ignore, _ := vars.Bool("AFTER_SCRIPT_IGNORE_ERRORS", true); ignore {
		r.out.Warn(fmt.Sprintf("after_script failed, but job will continue unaffected: %v", err))
		return nil
	}
	return err
}

// status is CI_JOB_STATUS for after_script.
func status(err error) string {
	o := outcomeOf(err)
	switch {
	case o.OK():
		return "success"
	case o.Reason == job.Canceled:
		return "canceled"
	case o.Reason == job.ExecutionTimeout:
		return "timedout"
	}
	return "failed"
}

// phase runs one phase's script, if it has any work.
func (r *run) phase(ctx context.Context, p job.Phase, in executor.Target) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx = event.Below(ctx)
	j := r.scriptJob()
	j.Variables = r.joining(ctx)
	if transfers(p) {
		j.CacheLinks = r.cacheLinks(ctx, j, p)
	}
	s, err := script.Stage(j, p)
	if err != nil {
		return &executor.Error{Reason: job.ConfigurationError, Err: err}
	}
	if s.Skip {
		return nil
	}
	return r.o.Bus.PhaseHere(ctx, p, func(ctx context.Context) error {
		r.out.Begin(p)
		defer r.out.End(p)
		r.out.Head(heading(p))
		if p == job.PrepareScript {
			r.where()
			r.settings()
		}
		for _, n := range s.Notices {
			r.out.put(n + "\n")
		}
		began := time.Now()
		err := r.hide(r.command(ctx, p, in, s))
		if p == job.GetSources {
			r.fetched(ctx, j, err == nil, time.Since(began))
		}
		var late *phaseTimeout
		if cause := context.Cause(ctx); errors.As(cause, &late) {
			r.out.Warn(fmt.Sprintf("%s could not run to completion because the timeout was exceeded. For more control over job and script timeouts see the RUNNER_SCRIPT_TIMEOUT and RUNNER_AFTER_SCRIPT_TIMEOUT variables.", p))
		}
		return err
	})
}

// fetched tells how long the sources took.
func (r *run) fetched(ctx context.Context, j *script.Job, ok bool, took time.Duration) {
	strategy, _ := j.Strategy()
	r.o.Bus.Emit(ctx, event.SourcesFetched{Strategy: string(strategy), OK: ok, Took: took})
	if ok && (strategy == script.Clone || strategy == script.Fetch) {
		r.out.Line("Got the sources in %.3f s (strategy %s)", took.Seconds(), strategy)
	}
}

// stuckAfter is how long an executor may take to come back after its context
// ended, beyond the grace that it gives to the job's processes.
const stuckAfter = 5 * time.Minute

// command runs a script and does not trust the executor to come back.
func (r *run) command(ctx context.Context, p job.Phase, in executor.Target, s script.Script) error {
	t := r.o.Driver.Traits()
	ops, text := fileOps(s.Ops), s.Text
	if !t.LocalFiles {
		ops, text = nil, append(script.RenderOps(r.scriptJob(), s.Ops), s.Text...)
	}
	if len(ops) == 0 && len(text) == 0 {
		return nil
	}
	if len(text) > 0 {
		text = script.Wrap(r.scriptJob(), text)
	}
	stream := r.log.Stream(1, false)
	defer func() { _ = stream.Close() }() // the log keeps its own error
	var out io.Writer = stream
	if transfers(p) {
		began := time.Now()
		filter := newReports(stream, r.mark(), func(p report) string {
			f := p.fact(time.Since(began))
			if f == nil {
				return ""
			}
			r.o.Bus.Emit(ctx, f)
			return told(f)
		})
		defer func() { _ = filter.Close() }() // as above
		out = filter
	}
	ended := make(chan error, 1)
	go func() {
		ended <- guard(func() error {
			return r.env.Run(ctx, executor.Command{
				Phase: p, In: in, Files: ops, Script: text, Stdout: out, Stderr: out, Grace: r.o.Grace,
			})
		})
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	late := time.NewTimer(stuckAfter + r.o.Grace)
	defer late.Stop()
	select {
	case err := <-ended:
		return err
	case <-late.C:
		return errors.Join(context.Cause(ctx), errors.New("timed out waiting for the build to finish"))
	}
}

func fileOps(ops []script.Op) []executor.FileOp {
	out := make([]executor.FileOp, len(ops))
	for i, o := range ops {
		out[i] = executor.FileOp{Kind: executor.OpKind(o.Kind), Path: o.Path, Data: o.Data, Mode: o.Mode, Names: o.Names}
	}
	return out
}

// where says on which machine the job runs.
func (r *run) where() {
	switch p := r.env.Place(); p.Via {
	case "":
		r.out.put("Running on " + p.Hostname + "...\n")
	default:
		r.out.put("Running on " + p.Hostname + " via " + p.Via + "...\n")
	}
}

// settings prints once what is wrong with the job's settings.
func (r *run) settings() {
	for _, n := range r.notes {
		r.out.Warn(n)
	}
	r.notes = nil
	if on, _ := r.spec.Variables.Bool("CI_DEBUG_TRACE", false); on && r.o.DebugTraceDisabled {
		r.out.Warn("CI_DEBUG_TRACE: usage is disabled on this Runner")
	}
}

// scriptJob is the job as scripts are made of it.
func (r *run) scriptJob() *script.Job {
	t := r.o.Driver.Traits()
	choose := func(configured *bool, def bool) bool {
		if configured != nil {
			return *configured
		}
		return def
	}
	shell := r.shell(t)
	if t.AnyShell && shell == "bash" {
		shell = "sh"
	}
	return &script.Job{
		Spec: r.spec, Variables: r.vars, Dirs: script.Dirs(r.dirs), Shell: shell,
		Settings: script.Settings{
			URL: r.o.URL, CloneURL: r.o.CloneURL,
			UserAgent:     r.o.Version.Name + " " + r.o.Version.Version + " " + r.o.Version.OS + "/" + r.o.Version.Architecture,
			PreGetSources: r.o.PreGetSources, PostGetSources: r.o.PostGetSources, PreBuild: r.o.PreBuild, PostBuild: r.o.PostBuild,
			CleanGitConfig: choose(r.o.CleanConfig, t.CleanConfig), SafeDirectory: choose(r.o.SafeDirectory, t.SafeDirectory),
			SharedEnv: t.SharedEnv, Helper: t.HelperCommand,
			Transfer: script.Transfer{
				UploadTimeout: r.o.UploadTimeout, HeaderTimeout: r.o.UploadHeaderTimeout, MaxCacheSize: r.o.MaxCacheSize,
				MaxExtractedSize: r.o.MaxExtractedSize, MaxExtractionRatio: r.o.MaxExtractionRatio,
				ReportMark: r.mark(), RunnerName: r.o.Runner.Name, Executor: r.o.Runner.Executor,
			},
		},
	}
}
