package job

// Reason says why a job failed, in the words of GitLab's API.
type Reason string

// The reasons a runner can find.
const (
	NoReason           Reason = ""
	ScriptFailure      Reason = "script_failure"
	SystemFailure      Reason = "runner_system_failure"
	ExecutionTimeout   Reason = "job_execution_timeout"
	ImagePullFailure   Reason = "image_pull_failure"
	ConfigurationError Reason = "runner_configuration_error"
	ExternalDependency Reason = "runner_external_dependency_failure"
	Interrupted        Reason = "runner_interrupted"
	UnknownFailure     Reason = "unknown_failure"
	Canceled           Reason = "job_canceled"
)

// Reasons lists every reason, for series that exist before the first failure.
func Reasons() []Reason {
	return []Reason{
		ScriptFailure, SystemFailure, ExecutionTimeout, ImagePullFailure, ConfigurationError,
		ExternalDependency, Interrupted, UnknownFailure, Canceled,
	}
}

// Known maps r to a reason that a coordinator with the given list of
// understood reasons accepts. An empty reason is a script failure.
func (r Reason) Known(understood []string) Reason {
	switch r {
	case NoReason:
		return ScriptFailure
	case ScriptFailure, SystemFailure, ExecutionTimeout:
		return r
	default:
	}
	for _, u := range understood {
		if Reason(u) == r {
			return r
		}
	}
	switch r {
	case ImagePullFailure, ExternalDependency:
		return SystemFailure
	case ConfigurationError:
		return ScriptFailure
	default:
		return UnknownFailure
	}
}

// Outcome is what came of a job. The zero value is success.
type Outcome struct {
	Reason   Reason
	ExitCode int   // of the user's script; 0 when it did not fail by itself
	Err      error // nil on success
	// Prepared is true when the user's script was reached.
	Prepared bool
}

// OK reports success.
func (o Outcome) OK() bool { return o.Reason == NoReason && o.Err == nil }

// State is how far a job is, in the words of the `state` label of
// gitlab_runner_jobs.
type State string

// The states of a job within this process.
const (
	Pending    State = "pending"
	Running    State = "running"
	Success    State = "success"
	Failed     State = "failed"
	CanceledS  State = "canceled"
	TimedOut   State = "timedout"
	Terminated State = "terminated"
)

// Phase is a stretch of a job's life, in the words of GitLab's log sections
// and of the `stage` label.
type Phase string

// The phases, in the order in which a job meets them. The user's steps are
// "step_" plus their lower-cased name (see StepPhase).
const (
	ResolveSecrets     Phase = "resolve_secrets"
	PrepareExecutor    Phase = "prepare_executor"
	PrepareScript      Phase = "prepare_script"
	GetSources         Phase = "get_sources"
	ClearWorktree      Phase = "clear_worktree"
	RestoreCache       Phase = "restore_cache"
	DownloadArtifacts  Phase = "download_artifacts"
	AfterScript        Phase = "after_script"
	ArchiveCache       Phase = "archive_cache"
	ArchiveCacheFailed Phase = "archive_cache_on_failure"
	UploadArtifacts    Phase = "upload_artifacts_on_success"
	UploadArtifactsF   Phase = "upload_artifacts_on_failure"
	Cleanup            Phase = "cleanup_file_variables"
	CleanupExecutor    Phase = "cleanup_executor"
)

// Directive is what a coordinator wants of a running job.
type Directive int

// Directives, from weakest to strongest.
const (
	GoOn   Directive = iota
	Cancel           // stop the user's script, then after_script and the on-failure phases
	Abort            // stop everything at once
)

// String returns "go on", "cancel" or "abort".
func (d Directive) String() string {
	switch d {
	case Cancel:
		return "cancel"
	case Abort:
		return "abort"
	default:
		return "go on"
	}
}
