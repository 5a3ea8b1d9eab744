// Package build takes one job from its Spec to exactly one Outcome: it
// accepts the job from its coordinator, prepares a place for it, runs its
// phases in order, obeys timeouts, cancels and shutdowns, cleans up, and
// delivers the log and the final state. It knows no executor, no coordinator
// and no metric: those are the ports of Options.
//
// Three lifetimes, three contexts. The job's context ends with its timeout, a
// directive of the coordinator or a shutdown, and says which as its cause.
// Within it the scripts have one of their own, so that a cancel stops the
// user's script and not after_script. What must happen whatever became of the
// job (closing the place, the final update) runs under a context that none of
// these can end.
package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/pulse"
	"github.com/glassrunner/glassrunner/internal/redact"
	"github.com/glassrunner/glassrunner/internal/version"
)

// Options are what all jobs of one runner entry share.
type Options struct {
	Runner   job.Runner
	URL      string // of the coordinator, as configured
	CloneURL string // "": clone from the address in the job
	Version  version.Info
	Driver   executor.Driver
	Bus      *event.Bus
	Journal  Journal
	OpenLog  LogOpener
	Slots    *Slots
	// Trace begins the trace of a job; nil: there are none.
	Trace func(*job.Spec) event.Trace
	// Flags resolves the feature flags for a job's variables. The texts are
	// warnings about values that could not be read.
	Flags func(job.Variables) ([]Flag, []string)
	// QueueWatch judges the time that a job waited in its queue.
	QueueWatch func(now time.Time, queued time.Duration, projectJobs string) (watched, exceeded bool)

	BuildsDir, CacheDir string // "": the driver's
	Shell               string // "": the driver's
	Environment         []string
	// The scripts of the runner's configuration around the user's.
	PreGetSources, PostGetSources, PreBuild, PostBuild string
	// PrepareTimeout and GetSourcesTimeout are bounded by the job's timeout; 0: only by that.
	PrepareTimeout, GetSourcesTimeout time.Duration
	DebugTraceDisabled                bool
	CustomDirs, SafeDirectory         *bool // nil: the driver's
	CleanConfig                       *bool
	Grace                             time.Duration // between SIGTERM and SIGKILL
	// Caches makes addresses of caches in an object storage; nil: caches stay
	// on the job's machine.
	Caches Caches
	// UploadTimeout and UploadHeaderTimeout bound the upload of one artifact
	// and the answer to it; 0: the helper's defaults.
	UploadTimeout, UploadHeaderTimeout time.Duration
	MaxCacheSize                       int64 // of an uploaded cache, in bytes; 0: no limit
	// MaxExtractedSize in bytes and MaxExtractionRatio bound what an archive
	// may become; 0: the helper's defaults.
	MaxExtractedSize, MaxExtractionRatio int64
	Pulse                                *pulse.Monitor // is promised that jobs come to their end; may be nil
	// Sampler asks running jobs' places what they use; nil: nobody does.
	Sampler *Sampler
	// UsageLine ends a job's log with what the job used.
	UsageLine bool
	// RetryDelay is the time between two tries of preparation; 0: 3 s.
	RetryDelay time.Duration
}

// Flag is one resolved feature flag.
type Flag struct {
	Name        string
	On, Default bool
}

// Conn is the coordinator's end of one job.
type Conn interface {
	Append(ctx context.Context, off int64, p []byte) (job.Ack, error)
	Update(ctx context.Context, u job.Update) (job.Ack, error)
}

// Journal remembers on disk which jobs this process has taken.
type Journal interface {
	// Begin stores s before its first phase. timestamps says how its log is written.
	Begin(s *job.Spec, r job.Runner, timestamps bool) (Entry, error)
}

// Entry is one job in the Journal.
type Entry interface {
	LogPath() string
	// Claim stores what must be ended if this process dies.
	Claim(c executor.Claim) error
	// Ended stores what is left to be told of the job.
	Ended(u job.Update) error
	// Done forgets the job: its coordinator has its final state.
	Done() error
}

// LogOpener makes the log of a job at path.
type LogOpener func(path string, m *redact.Masker, timestamps bool, c Conn) (Log, error)

// Log is a job's log on its way to the coordinator.
type Log interface {
	// Stream returns a writer with a masking state of its own. Stream 0 is
	// the runner's.
	Stream(id byte, stderr bool) io.WriteCloser
	// Start begins to upload; on hears what the coordinator wants.
	Start(ctx context.Context, on func(job.Directive))
	// Finish ends the streams, uploads the rest and delivers u. An error
	// means that the coordinator may not know how the job ended.
	Finish(ctx context.Context, u job.Update) error
	// Close stops everything and keeps the file.
	Close() error
}

// Build is a job that its coordinator has seen accepted.
type Build struct {
	o     *Options
	spec  *job.Spec
	conn  Conn
	entry Entry
	log   Log
	masks *redact.Masker
	scope event.Scope

	flags    map[string]bool
	flagList []Flag
	notes    []string // warnings about settings, printed once
	out      *printer
	url      string
	layout   executor.Layout // that the driver wants for this job
}

// ErrNotRun says that a job was received and will not run; all that had to
// be told has been told.
var ErrNotRun = errors.New("the job is not run")

// acceptTimeout bounds what is said to the coordinator before a job runs.
const acceptTimeout = 2 * time.Minute

// Accept stores a job and tells its coordinator that it will run. The error
// wraps ErrNotRun when the job was taken back or cannot run here.
func Accept(ctx context.Context, o *Options, s *job.Spec, c Conn) (*Build, error) {
	// A shutdown that comes now must not lose a job that has been handed out.
	ctx = context.WithoutCancel(ctx)
	scope := event.Scope{Runner: o.Runner, Job: s.ID, Run: o.Bus.NextRun()}
	if o.Trace != nil {
		scope.Trace = o.Trace(s)
	}
	ctx = event.WithScope(ctx, scope)
	b := &Build{o: o, spec: s, conn: c, scope: scope, url: jobURL(s)}
	b.flagList, b.notes = o.Flags(s.Variables)
	b.flags = make(map[string]bool, len(b.flagList))
	for _, f := range b.flagList {
		b.flags[f.Name] = f.On
	}
	b.masks = b.masker()
	o.Bus.Emit(ctx, event.JobReceived{Info: b.info(), RepoURL: repoURL(s)})
	timestamps := b.flags["FF_TIMESTAMPS"]
	entry, err := o.Journal.Begin(s, o.Runner, timestamps)
	if err != nil {
		return nil, b.refuse(ctx, job.SystemFailure, fmt.Errorf("cannot store the job before it runs: %w", err))
	}
	b.entry = entry
	b.log, err = o.OpenLog(entry.LogPath(), b.masks, timestamps, c)
	if err != nil {
		return nil, errors.Join(b.refuse(ctx, job.SystemFailure, fmt.Errorf("cannot create the job's log: %w", err)), entry.Done())
	}
	b.out = &printer{w: b.log.Stream(0, false), sections: s.Features.TraceSections, now: time.Now}
	if err := unsupported(s); err != nil {
		b.out.Error("Job failed (system failure): " + err.Error())
		err = errors.Join(b.hide(err), b.final(ctx, job.Outcome{Reason: job.SystemFailure, ExitCode: 3, Err: err}))
		o.Bus.Emit(ctx, event.JobRefused{Reason: job.SystemFailure, Err: err})
		return nil, fmt.Errorf("%w: %w", ErrNotRun, err)
	}
	return b.acknowledge(ctx)
}

// acknowledge sends the first update, state running.
func (b *Build) acknowledge(ctx context.Context) (*Build, error) {
	actx, cancel := context.WithTimeout(ctx, acceptTimeout)
	defer cancel()
	// A failed call does not stop the job: the coordinator has handed it
	// out, and hears of it again with the first bytes of its log.
	ack, _ := b.conn.Update(actx, job.Update{State: job.WireRunning})
	switch {
	case ack.Result == job.Refused || ack.Result == job.Gone || ack.Directive == job.Abort:
		err := errors.Join(b.log.Close(), b.entry.Done())
		b.o.Bus.Emit(ctx, event.JobRefused{Err: b.hide(err)})
		return nil, fmt.Errorf("%w: the coordinator took it back (%s)", ErrNotRun, ack.JobStatus)
	case ack.Directive == job.Cancel:
		b.out.Error("Job failed: canceled")
		err := b.final(ctx, job.Outcome{Reason: job.Canceled, Err: errCanceled})
		b.o.Bus.Emit(ctx, event.JobRefused{Reason: job.Canceled, Err: b.hide(err)})
		return nil, fmt.Errorf("%w: it was canceled before it began", ErrNotRun)
	}
	watched, exceeded := false, false
	if b.o.QueueWatch != nil {
		watched, exceeded = b.o.QueueWatch(time.Now(), b.spec.Info.TimeInQueue, b.spec.Info.ProjectJobsRunningOnInstanceRunners)
	}
	b.o.Bus.Emit(ctx, event.JobStarted{
		Info: b.info(), URL: b.url, Timeout: b.spec.Timeout,
		HighCardinality: b.flags["FF_EXPORT_HIGH_CARDINALITY_METRICS"],
		QueueWatched:    watched, QueueTooLong: exceeded,
	})
	return b, nil
}

// refuse tells the coordinator once that a job cannot even begin.
func (b *Build) refuse(ctx context.Context, r job.Reason, err error) error {
	actx, cancel := context.WithTimeout(ctx, acceptTimeout)
	defer cancel()
	_, uerr := b.conn.Update(actx, job.Update{State: job.WireFailed, Reason: r.Known(b.spec.Features.FailureReasons)})
	b.o.Bus.Emit(ctx, event.JobRefused{Reason: r, Err: b.hide(err)})
	return fmt.Errorf("%w: %w", ErrNotRun, errors.Join(err, uerr))
}

// unsupported names what would change the job's meaning if it were ignored.
func unsupported(s *job.Spec) error {
	switch {
	case len(s.Unsupported) > 0:
		return fmt.Errorf("unsupported executor options: %v", s.Unsupported)
	case s.Run != "":
		for _, st := range s.Steps {
			if len(st.Script) > 0 {
				return errors.New("a job cannot have both `run` and `script`")
			}
		}
		return errors.New("the `run` keyword (native steps) is not supported by this runner: use `script`")
	}
	return nil
}

// final closes the log with the outcome and delivers both. When they could
// not be delivered the job stays in the journal: the next start of the runner
// tries again.
func (b *Build) final(ctx context.Context, o job.Outcome) error {
	u := job.Update{State: job.WireSuccess}
	if !o.OK() {
		u = job.Update{State: job.WireFailed, Reason: o.Reason.Known(b.spec.Features.FailureReasons), ExitCode: o.ExitCode}
	}
	stored := b.entry.Ended(u)
	if err := b.log.Finish(ctx, u); err != nil {
		return errors.Join(err, stored)
	}
	return b.entry.Done()
}

// masker knows every secret of the job that is known before it runs.
func (b *Build) masker() *redact.Masker {
	rules := redact.Rules{Phrases: []string{b.spec.Token.Reveal()}, TokenPrefixes: tokenPrefixes(b.flags["FF_MASK_ALL_DEFAULT_TOKENS"], b.spec.Features.TokenMaskPrefixes)}
	expanded := b.spec.Variables.Expanded(nil)
	for i, v := range b.spec.Variables {
		if v.Masked {
			rules.Phrases = append(rules.Phrases, v.Value, expanded[i].Value)
		}
	}
	return redact.New(rules)
}

// tokenPrefixes lists what GitLab's tokens begin with.
func tokenPrefixes(all bool, more []string) []string {
	p := []string{"glpat-"}
	if all {
		p = append(p, "gloas-", "gldt-", "glrt-", "glcbt-", "glrtr-", "glptt-", "glft-", "glimt-", "glagent-", "glsoat-", "glffct-", "_gitlab_session=", "gltok-")
	}
	return append(p, more...)
}
