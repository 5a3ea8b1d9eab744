package event

import (
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
)

// Fact is one of the types of this package that have its method.
//
//sumtype:decl
type Fact interface{ fact() }

// Limits is what a configuration generation allows one runner entry.
type Limits struct {
	Runner             job.Runner
	URL                string    // coordinator, without credentials
	Limit              int       // jobs at once, 0: unlimited
	RequestConcurrency int       // >= 1
	TokenExpires       time.Time // zero: never
	PricePerHour       float64   // of a running job, in units of the operator's choice
	// OverdueFactor is how many times as long as most a job may take until it
	// is called overdue, once OverdueMinJobs have ended; 0: none is.
	OverdueFactor  float64
	OverdueMinJobs int
}

// ConfigLoaded: a configuration file was read and is in force, or, with Err,
// was refused; then the generation before it stays.
type ConfigLoaded struct {
	Path       string
	Hash       string
	Generation int // counts good loads from 1
	Concurrent int
	Runners    []Limits
	Warnings   int
	// TopProjects is how many projects get series of their own; 0: projects
	// are not told apart.
	TopProjects int
	Err         error
}

// ConfigSaved: the process wrote its configuration file, or, with Err, failed.
type ConfigSaved struct{ Err error }

// ProcessChanged: the process is starting, running, shutting down gracefully
// or forcefully (see the Process constants).
type ProcessChanged struct{ State string }

// The states of the process, the values of gitlab_runner_process_state_info.
const (
	ProcessStarting         = "starting"
	ProcessRunning          = "running"
	ProcessGracefulShutdown = "graceful-shutdown"
	ProcessForcefulShutdown = "forceful-shutdown"
)

// SlotsChanged: the number of jobs that may run at once changed to Slots;
// Started and Stopped are how many this change added and took away.
type SlotsChanged struct{ Slots, Started, Stopped int }

// Fed: a runner entry got its turn to ask for a job.
type Fed struct{}

// FeedSkipped: a runner entry lost its turn. Why is "no_token", "unhealthy" or
// the Block by which it is held.
type FeedSkipped struct{ Why string }

// TurnFailed: a turn ended with an error. Kind is "no_free_executor",
// "job_failure" or "other".
type TurnFailed struct{ Kind string }

// HealthChecked: a request told whether the coordinator accepts this runner.
// DisabledUntil is set while the runner is switched off.
type HealthChecked struct {
	OK            bool
	Failures      int // in a row
	DisabledUntil time.Time
}

// RequestSlots: how many requests for a job one runner has in flight and may have.
type RequestSlots struct {
	InFlight, HardLimit, UsedLimit int
	AdaptiveLimit                  float64
	Exceeded                       bool // this change is a refusal
}

// ErrorClass is the bounded set of ways in which a request can fail: below
// HTTP, beside it, or with a status.
type ErrorClass string

// The error classes of requests.
const (
	ErrDNS      ErrorClass = "dns"
	ErrConnect  ErrorClass = "connect"
	ErrTLS      ErrorClass = "tls"
	ErrTimeout  ErrorClass = "timeout"
	ErrReset    ErrorClass = "reset"    // connection cut, unexpected end of file
	ErrDecode   ErrorClass = "decode"   // answered, but not with what was asked for
	ErrCanceled ErrorClass = "canceled" // by this process
	ErrClient   ErrorClass = "client"   // no request could be built
	ErrHTTP4xx  ErrorClass = "http_4xx" // answered with such a status, in the end
	ErrHTTP5xx  ErrorClass = "http_5xx" // the same
	ErrOther    ErrorClass = "other"
)

// ErrorClasses lists every error class.
func ErrorClasses() []ErrorClass {
	return []ErrorClass{ErrDNS, ErrConnect, ErrTLS, ErrTimeout, ErrReset, ErrDecode, ErrCanceled, ErrClient, ErrHTTP4xx, ErrHTTP5xx, ErrOther}
}

// Called: one logical call to the coordinator ended, retries included.
type Called struct {
	Endpoint string // "request_job", "update_job", "patch_trace", "reset_token", …
	Method   string // lower case
	Path     string // numbers replaced by {id}
	Status   int    // HTTP status of the last answer; -1: none that could be used; -100: no client
	Attempts int
	Statuses []int // of the attempts that were retried; nil when there were none
	Class    ErrorClass
	Took     time.Duration // attempts and the waits between them
	Waited   time.Duration // of Took: the waits before retries
	Err      error         // why the answer is not what was hoped for; nil when it is
	// Skew is how far this machine's clock was ahead of the coordinator's when
	// the last answer came, within about a second; Dated says that it is known.
	Skew  time.Duration
	Dated bool
}

// Polled: the coordinator was asked for a job. Result is "job", "none",
// "forbidden" or "failed".
type Polled struct{ Result string }

// JobReceived: a job was handed to this process, not yet accepted.
type JobReceived struct {
	Info    job.Info
	RepoURL string // without credentials
}

// JobStarted: a job was accepted and is about to run.
type JobStarted struct {
	Info            job.Info
	URL             string // of the job's page, without credentials
	Timeout         time.Duration
	HighCardinality bool // stage durations are wanted in the compatible histogram
	QueueTooLong    bool // longer in the queue than [runners.monitoring] accepts
	QueueWatched    bool // [runners.monitoring] has a threshold in force now
}

// JobState: a running job entered a state.
type JobState struct{ State job.State }

// ExecutorStage: what the executor is at, the `executor_stage` label.
type ExecutorStage struct{ Stage string }

// PhaseStarted: a phase of a job began.
type PhaseStarted struct{ Phase job.Phase }

// PhaseFinished: a phase of a job ended.
type PhaseFinished struct {
	Phase    job.Phase
	Took     time.Duration
	Err      error // masked
	Panicked bool
}

// ImagePulled: an executor looked for a container image. Result is "pulled",
// "present" (the engine had it) or "failed".
type ImagePulled struct {
	Policy string // "always", "if-not-present", "never"
	Result string
	Bytes  int64 // that were downloaded
	Took   time.Duration
}

// ServiceReady: a service of a job accepted a connection, or, without OK, did
// not in the time that it had.
type ServiceReady struct {
	Took time.Duration // since its container was started
	OK   bool
}

// LogWritten: bytes were added to a job's log, after masking.
type LogWritten struct{ Bytes, Total int64 }

// LogSent: the coordinator has this much of a job's log. Failed says that the
// attempt did not succeed; Total stays what it was.
type LogSent struct {
	Bytes, Total int64
	Took         time.Duration
	Failed       bool
}

// Directed: the coordinator wants a running job canceled or aborted.
type Directed struct{ Directive job.Directive }

// JobFinished: a job's scripts and its environment's cleanup are over.
type JobFinished struct {
	Outcome job.Outcome // Err is masked
	State   job.State
	Took    time.Duration
	Mode    string // "traditional" or "steps"
}

// JobRemoved: a job's final state was delivered, or given up (Lost).
type JobRemoved struct {
	Lost bool
	Took time.Duration // from JobFinished
	Err  error
}

// JobRefused: a job was received but not run: the coordinator took it back
// or it cannot be run here.
type JobRefused struct {
	Reason job.Reason // NoReason: taken back
	Err    error
}

// Interpolated: input expressions of a job were replaced, in so many fields.
type Interpolated struct{ Fields int }

// InterpolationFailed: Kind is "parse", "evaluation" or "sensitive_unsupported".
type InterpolationFailed struct{ Kind string }

// TokenReset: a runner's token was rotated, or, with Err, was not.
type TokenReset struct{ Err error }

// Recovered: a job that an earlier process left behind was settled.
type Recovered struct {
	Job    job.ID
	Killed int   // processes
	Unsent int64 // log bytes that were delivered late
	Err    error // it could not be settled yet
}

// ListenerChanged: the monitoring server listens on Address, stopped (empty
// Address), or, with Err, could not do what it was asked.
type ListenerChanged struct {
	Address string
	Debug   bool // it is the second listener, for profiles
	Err     error
}

// Draining: no more jobs are taken. Signal names what asked for it.
type Draining struct {
	Signal  string
	Forced  bool
	Running int // jobs
}

// CacheDone: a cache was looked for or stored. Op is "restore" or "save";
// Result is "hit", "stale" (found under another key), "miss" or "error" of the
// one, "stored", "unchanged", "empty", "too_large" or "error" of the other.
type CacheDone struct {
	Op     string
	Result string
	Bytes  int64 // of the archive that was transferred, or, without a storage, read or written
	Took   time.Duration
}

// ArtifactDone: an artifact was sent or fetched. Direction is "upload" or
// "download"; Result is "ok", "empty" (nothing to send), "too_large",
// "forbidden", "not_found", "unsafe" (the archive was refused) or "error".
type ArtifactDone struct {
	Direction string
	Result    string
	Bytes     int64 // of the archive
	Took      time.Duration
}

// Degraded: something that is not worth a job failed: cleanup, a cache.
// What is from a bounded set of names.
type Degraded struct {
	What string
	Err  error
}

// RunnerEntry is the What of a [[runners]] entry that cannot ask for jobs. It
// is told once, when the configuration comes into force.
const RunnerEntry = "runner_entry"

func (ConfigLoaded) fact()        {}
func (ConfigSaved) fact()         {}
func (ProcessChanged) fact()      {}
func (SlotsChanged) fact()        {}
func (Fed) fact()                 {}
func (FeedSkipped) fact()         {}
func (TurnFailed) fact()          {}
func (HealthChecked) fact()       {}
func (RequestSlots) fact()        {}
func (Called) fact()              {}
func (Polled) fact()              {}
func (JobReceived) fact()         {}
func (JobStarted) fact()          {}
func (JobState) fact()            {}
func (ExecutorStage) fact()       {}
func (PhaseStarted) fact()        {}
func (PhaseFinished) fact()       {}
func (ImagePulled) fact()         {}
func (ServiceReady) fact()        {}
func (LogWritten) fact()          {}
func (LogSent) fact()             {}
func (Directed) fact()            {}
func (JobFinished) fact()         {}
func (JobRemoved) fact()          {}
func (JobRefused) fact()          {}
func (Interpolated) fact()        {}
func (InterpolationFailed) fact() {}
func (TokenReset) fact()          {}
func (Recovered) fact()           {}
func (ListenerChanged) fact()     {}
func (Draining) fact()            {}
func (CacheDone) fact()           {}
func (ArtifactDone) fact()        {}
func (Degraded) fact()            {}
