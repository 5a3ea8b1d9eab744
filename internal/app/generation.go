package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/glassrunner/glassrunner/internal/build"
	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/coordinator"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/pulse"
	"github.com/glassrunner/glassrunner/internal/recovery"
	"github.com/glassrunner/glassrunner/internal/scheduler"
	"github.com/glassrunner/glassrunner/internal/version"
)

// generation is one configuration with everything that was built from it.
// Jobs keep the generation that they began in.
type generation struct {
	number  int // 1 is the first that was put in force
	config  *config.Config
	report  *config.Report
	entries []*entry
}

// entry is one [[runners]] entry at work.
type entry struct {
	app    *App
	runner job.Runner
	config *config.Runner
	client *coordinator.Client
	driver executor.Driver
	build  *build.Options
	broken error // why it cannot ask for jobs
}

// clientKey says which entries share a client, and with it the place in the
// coordinator's queue.
type clientKey struct {
	url, ca, cert, key string
	token              job.Secret
	info               string
}

// generation builds what a configuration asks for. It changes nothing that is
// in force.
func (a *App) generation(c *config.Config) *generation {
	g := &generation{config: c}
	for i := range c.Runners {
		g.entries = append(g.entries, a.entry(c, &c.Runners[i]))
	}
	return g
}

func (a *App) entry(c *config.Config, r *config.Runner) *entry {
	e := &entry{app: a, config: r, runner: job.Runner{
		Short: r.ShortToken(), Name: r.Name, SystemID: a.systemID, Executor: r.Executor,
	}}
	log := a.log.With("runner", e.runner.Short)
	var err error
	if e.driver, err = driver(c, r, a.o, a.own, a.bus, log); err != nil {
		e.broken = err
		return e
	}
	if e.client, err = a.client(c, e, log); err != nil {
		e.broken = err
		return e
	}
	e.build = a.buildOptions(e)
	return e
}

func (a *App) client(c *config.Config, e *entry, log *slog.Logger) (*coordinator.Client, error) {
	r := e.config
	info := infoOf(a.version, c, r, e.driver.Traits())
	key := clientKey{r.URL, r.TLSCAFile, r.TLSCertFile, r.TLSKeyFile, r.Token, fmt.Sprint(info, c.ConnectionMaxAge())}
	a.mu.Lock()
	defer a.mu.Unlock()
	if known := a.clients[key]; known != nil {
		return known, nil
	}
	client, err := coordinator.New(coordinator.Options{
		URL: r.URL, Token: r.Token, SystemID: a.systemID, Runner: e.runner,
		TLSCAFile: r.TLSCAFile, TLSCertFile: r.TLSCertFile, TLSKeyFile: r.TLSKeyFile, CertDir: a.o.CertDir,
		ConnectionMaxAge: c.ConnectionMaxAge(), Info: info, Bus: a.bus, Log: log, Transports: a.transports,
		ResolveFullTLSChain: r.FeatureFlags["FF_RESOLVE_FULL_TLS_CHAIN"],
		KeepPayload:         r.Executor == "custom", // its programs are given it
	})
	if err != nil {
		return nil, err
	}
	a.clients[key] = client
	return client, nil
}

// Info is what a runner entry tells a coordinator of itself. GitLab keeps what
// it hears first for most of an hour, so every command has to say the same.
func Info(c *config.Config, r *config.Runner) coordinator.Info {
	var t executor.Traits
	// What cannot run has nothing to add.
	if d, err := driver(c, r, Options{}, belongings{}, nil, slog.New(slog.DiscardHandler)); err == nil {
		t = d.Traits()
	}
	return infoOf(version.Get(), c, r, t)
}

func infoOf(v version.Info, c *config.Config, r *config.Runner, t executor.Traits) coordinator.Info {
	i := coordinator.Info{
		Version: v, Executor: r.Executor, Shell: r.Shell, Labels: c.MergedLabels(r),
		Features: append(shellFeatures(), t.Features...),
	}
	if t.HelperCommand != "" {
		i.Features = append(i.Features, helperFeatures()...)
	}
	if i.Shell == "" {
		i.Shell = t.Shell
	}
	if r.Docker != nil {
		i.GPUs = r.Docker.GPUs
	}
	return i
}

// shellFeatures are what a runner that generates shell scripts can do. What a
// later executor or helper adds to them, its driver's traits say.
func shellFeatures() []string {
	return []string{"refspecs", "masking", "raw_variables", "multi_build_steps", "return_exit_code"}
}

// helperFeatures are what scripts can do that call the helper.
func helperFeatures() []string {
	return []string{"artifacts", "upload_multiple_artifacts", "upload_raw_artifacts", "artifacts_exclude", "cache", "fallback_cache_keys"}
}

func (a *App) buildOptions(e *entry) *build.Options {
	r := e.config
	o := &build.Options{
		Runner: e.runner, URL: r.URL, CloneURL: r.CloneURL, Version: a.version, Driver: e.driver, Bus: a.bus, Pulse: a.pulse,
		Journal: journal{a.journal, recovery.Coordinator{
			URL: r.URL, TLSCAFile: r.TLSCAFile, TLSCertFile: r.TLSCertFile, TLSKeyFile: r.TLSKeyFile,
		}, &a.tails},
		OpenLog:    logFiles{a.bus, r.OutputLimit(), r.JobStatusInterval(), r.FinalUpdateRetryLimit(), a.buffers}.open,
		Slots:      a.slotsOf(r.Token),
		Trace:      a.traces.Begin,
		Flags:      flags(r),
		QueueWatch: r.QueueThreshold,
		BuildsDir:  r.BuildsDir, CacheDir: r.CacheDir, Shell: r.Shell, Environment: r.Environment,
		PreGetSources: r.PreGetSourcesScript, PostGetSources: r.PostGetSourcesScript,
		PreBuild: r.PreBuildScript, PostBuild: r.PostBuildScript,
		PrepareTimeout: r.PrepareTimeout, GetSourcesTimeout: r.GetSourcesTimeout,
		DebugTraceDisabled: r.DebugTraceDisabled, SafeDirectory: r.SafeDirectoryCheckout, CleanConfig: r.CleanGitConfig,
		Grace: r.GracefulKillTimeout(), Sampler: a.sampler, UsageLine: r.UsageInJobLog(),
	}
	a.transfers(o, r, e.runner)
	if r.CustomBuildDir != nil {
		o.CustomDirs = r.CustomBuildDir.Enabled
	}
	return o
}

// flags resolves feature flags for the variables of a job.
func flags(r *config.Runner) func(job.Variables) ([]build.Flag, []string) {
	all := config.FeatureFlags()
	return func(vs job.Variables) ([]build.Flag, []string) {
		set := config.Resolve(r.FeatureFlags, func(name string) (string, bool) {
			v, ok := vs.Lookup(name)
			return v.Value, ok
		})
		out := make([]build.Flag, len(all))
		for i, f := range all {
			out[i] = build.Flag{Name: string(f.Name), On: set.Enabled(f.Name), Default: f.Default}
		}
		var warnings []string
		for _, name := range set.Unreadable() {
			warnings = append(warnings, fmt.Sprintf("%s: want true or false, found %q: the default holds", name, vs.Value(string(name))))
		}
		return out, warnings
	}
}

// slotsOf returns the numbering of the jobs of one token, which outlives
// reloads because jobs do.
func (a *App) slotsOf(token job.Secret) *build.Slots {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.slots[token]
	if s == nil {
		s = new(build.Slots)
		a.slots[token] = s
	}
	return s
}

// plan is what the scheduler does with a generation.
func (a *App) plan(g *generation) scheduler.Config {
	c := scheduler.Config{Concurrent: g.config.Concurrency(), CheckInterval: g.config.CheckInterval(), Generation: g.number}
	for _, e := range g.entries {
		r := e.config
		adaptive, set := r.FeatureFlags["FF_USE_ADAPTIVE_REQUEST_CONCURRENCY"]
		c.Entries = append(c.Entries, scheduler.Entry{
			Runner: e.runner, Key: e.key(), Valid: strings.TrimSpace(r.Token.Reveal()) != "",
			Limit: r.Limit, RequestConcurrency: r.RequestConcurrency(), Adaptive: adaptive || !set,
			StrictInterval: r.StrictCheckInterval,
			UnhealthyLimit: r.UnhealthyLimit(), UnhealthyInterval: r.UnhealthyInterval(),
			Request: e.request,
		})
		if last := &c.Entries[len(c.Entries)-1]; a.budget != nil {
			last.Request = a.budget.around(last.Request)
		}
	}
	return c
}

// key is what entries share that are one runner to the coordinator.
func (e *entry) key() string { return e.config.URL + "\x00" + e.config.Token.Reveal() }

// limits tells observers what a generation allows.
func (g *generation) limits() []event.Limits {
	out := make([]event.Limits, 0, len(g.entries))
	for _, e := range g.entries {
		l := limitsOf(e.config, e.runner)
		if e.client != nil {
			l.URL = e.client.URL()
		}
		out = append(out, l)
	}
	return out
}

func limitsOf(r *config.Runner, as job.Runner) event.Limits {
	l := event.Limits{
		Runner: as, Limit: r.Limit, RequestConcurrency: r.RequestConcurrency(),
		TokenExpires: r.TokenExpiresAt, PricePerHour: r.PricePerHour(),
	}
	l.OverdueFactor, l.OverdueMinJobs = r.Overdue()
	return l
}

// request asks for a job once and takes it.
func (e *entry) request(ctx context.Context, ask scheduler.Ask) (scheduler.Task, scheduler.Result) {
	if e.broken != nil {
		return nil, scheduler.Result{Kind: scheduler.ClientError}
	}
	ctx = event.WithRunner(ctx, e.runner)
	spec, poll, err := e.poll(ctx, ask)
	res := scheduler.Result{Retried: poll.Retried}
	switch poll.Kind {
	case coordinator.PollNone:
		res.Kind = scheduler.NoJob
		return nil, res
	case coordinator.PollForbidden:
		res.Kind = scheduler.Forbidden
	case coordinator.PollFailed:
		res.Kind = scheduler.RequestFailed
	case coordinator.PollJob:
		return e.accept(ctx, spec, res)
	}
	if bad, ok := errors.AsType[*coordinator.BadJobError](err); ok {
		e.failBad(ctx, bad)
	}
	return nil, res // event.Called has told why
}

// poll makes the request and promises that it ends in the time of its timeouts.
func (e *entry) poll(ctx context.Context, ask scheduler.Ask) (*job.Spec, coordinator.PollResult, error) {
	part := e.app.pulse.Part(pulse.Polling, "request of runner "+e.runner.Short)
	defer part.End()
	part.Within(coordinator.RequestJobBound + time.Minute)
	defer e.app.tellCertificates(ctx) // they are read when they are used
	return e.client.RequestJob(ctx, ask.Brief)
}

func (e *entry) accept(ctx context.Context, spec *job.Spec, res scheduler.Result) (scheduler.Task, scheduler.Result) {
	res.Kind, res.Job = scheduler.Job, spec.ID
	debug, _ := spec.Variables.Bool("CI_DEBUG_TRACE", false)
	conn := e.client.Job(spec.ID, spec.Token, debug && !e.config.DebugTraceDisabled)
	b, err := build.Accept(ctx, e.build, spec, conn)
	if err != nil {
		res.Refused = true // all has been told; see build.Accept
		return nil, res
	}
	return func(ctx context.Context) scheduler.TaskResult {
		switch o := b.Run(ctx); {
		case o.OK():
			return scheduler.OK
		case o.Reason == job.SystemFailure:
			return scheduler.SystemFailed
		}
		return scheduler.Failed
	}, res
}

// failBad tells the coordinator that a job it has handed out will not run,
// so that it does not wait for the job's timeout.
func (e *entry) failBad(ctx context.Context, bad *coordinator.BadJobError) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	_, err := e.client.Job(bad.ID, bad.Token, false).Update(ctx, job.Update{State: job.WireFailed, Reason: job.SystemFailure})
	ctx = event.WithScope(ctx, event.Scope{Runner: e.runner, Job: bad.ID, Run: e.app.bus.NextRun()})
	e.app.bus.Emit(ctx, event.JobRefused{Reason: job.SystemFailure, Err: errors.Join(bad, err)})
}
