package config

import (
	"strings"
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
)

// Defaults of keys of a runner that are absent or not positive.
const (
	defaultOutputLimitKiB    = 4096
	defaultUnhealthyLimit    = 3
	defaultUnhealthyInterval = 60 * time.Minute
	defaultFinalUpdateLimit  = 10
	defaultStatusInterval    = 5 * time.Second
	defaultKillTimeout       = 10 * time.Second
	defaultUploadTimeout     = time.Hour
	defaultHeaderTimeout     = 10 * time.Minute
)

// Runner is one [[runners]] entry.
type Runner struct {
	Name                string        `toml:"name" flag:"name" alias:"description" env:"RUNNER_NAME" doc:"Name of the runner in logs and metrics."`
	URL                 string        `toml:"url" flag:"url" env:"CI_SERVER_URL" required:"true" private:"true" doc:"Address of GitLab; environment variables in it are replaced."`
	ID                  int64         `toml:"id" doc:"Number of the runner in GitLab."`
	Token               job.Secret    `toml:"token" flag:"token" env:"CI_SERVER_TOKEN" required:"true" doc:"Authentication token; environment variables in it are replaced."`
	TokenObtainedAt     time.Time     `toml:"token_obtained_at" doc:"When the token was obtained."`
	TokenExpiresAt      time.Time     `toml:"token_expires_at" doc:"When the token expires; 0001-01-01T00:00:00Z means never."`
	TLSCAFile           string        `toml:"tls-ca-file" flag:"tls-ca-file" env:"CI_SERVER_TLS_CA_FILE" doc:"File with the certificate authorities that GitLab's certificate is verified with."`
	TLSCertFile         string        `toml:"tls-cert-file" flag:"tls-cert-file" env:"CI_SERVER_TLS_CERT_FILE" doc:"File with the client certificate."`
	TLSKeyFile          string        `toml:"tls-key-file" flag:"tls-key-file" env:"CI_SERVER_TLS_KEY_FILE" doc:"File with the key of the client certificate."`
	Limit               int           `toml:"limit" flag:"limit" env:"RUNNER_LIMIT" default:"0" doc:"Number of jobs that this runner runs at the same time; 0 means no limit but concurrent."`
	OutputLimitKiB      int           `toml:"output_limit" flag:"output-limit" env:"RUNNER_OUTPUT_LIMIT" default:"4096" unit:"KiB" doc:"Largest size of a job's log in KiB."`
	RequestLimit        int           `toml:"request_concurrency" flag:"request-concurrency" env:"RUNNER_REQUEST_CONCURRENCY" default:"1" doc:"Number of requests for jobs that may be under way at the same time."`
	StrictCheckInterval bool          `toml:"strict_check_interval" flag:"strict-check-interval" env:"RUNNER_STRICT_CHECK_INTERVAL" default:"false" doc:"Wait for check_interval also after a request that brought a job."`
	UnhealthyRequests   int           `toml:"unhealthy_requests_limit" flag:"unhealthy-requests-limit" env:"RUNNER_UNHEALTHY_REQUESTS_LIMIT" default:"3" doc:"Refused requests in a row after which the runner pauses."`
	UnhealthyPause      time.Duration `toml:"unhealthy_interval" flag:"unhealthy-interval" default:"60m" doc:"How long the runner pauses after unhealthy_requests_limit refusals."`
	FinalUpdateRetries  int           `toml:"job_status_final_update_retry_limit" flag:"job-status-final-update-retry-limit" env:"RUNNER_job_status_final_update_retry_limit" default:"10" doc:"Attempts to report the result of a job."`
	StatusInterval      time.Duration `toml:"job_status_interval" flag:"job-status-interval" env:"RUNNER_JOB_STATUS_INTERVAL" default:"5s" ours:"true" doc:"How often GitLab is asked whether a job that prints nothing was cancelled."`

	Executor              string            `toml:"executor" flag:"executor" env:"RUNNER_EXECUTOR" required:"true" allowed:"shell|docker|docker-windows|docker-autoscaler|docker+machine|instance|kubernetes|custom|ssh|parallels|virtualbox" doc:"Where jobs run."`
	Labels                map[string]string `toml:"labels" doc:"Labels of this runner, sent to GitLab."`
	BuildsDir             string            `toml:"builds_dir" flag:"builds-dir" env:"RUNNER_BUILDS_DIR" doc:"Directory for the working copies of jobs; depends on the executor when absent."`
	CacheDir              string            `toml:"cache_dir" flag:"cache-dir" env:"RUNNER_CACHE_DIR" doc:"Directory for local caches; depends on the executor when absent."`
	CloneURL              string            `toml:"clone_url" flag:"clone-url" env:"CLONE_URL" private:"true" doc:"Address that jobs clone from instead of url."`
	Environment           []string          `toml:"environment" flag:"env" env:"RUNNER_ENV" private:"true" doc:"Variables of all jobs, each as NAME=value."`
	ProxyExec             bool              `toml:"proxy_exec" flag:"proxy-exec" env:"RUNNER_PROXY_EXEC" default:"false" doc:"Run scripts through a helper that collects their output."`
	PreGetSourcesScript   string            `toml:"pre_get_sources_script" flag:"pre-get-sources-script" env:"RUNNER_PRE_GET_SOURCES_SCRIPT" private:"true" doc:"Commands run before the sources are fetched."`
	PostGetSourcesScript  string            `toml:"post_get_sources_script" flag:"post-get-sources-script" env:"RUNNER_POST_GET_SOURCES_SCRIPT" private:"true" doc:"Commands run after the sources are fetched."`
	PreBuildScript        string            `toml:"pre_build_script" flag:"pre-build-script" env:"RUNNER_PRE_BUILD_SCRIPT" private:"true" doc:"Commands run before the script of a job."`
	PostBuildScript       string            `toml:"post_build_script" flag:"post-build-script" env:"RUNNER_POST_BUILD_SCRIPT" private:"true" doc:"Commands run after the script of a job and before its after_script."`
	PrepareTimeout        time.Duration     `toml:"prepare_timeout" flag:"prepare-timeout" env:"RUNNER_PREPARE_TIMEOUT" doc:"How long the preparation of the environment may take; the timeout of the job when absent."`
	GetSourcesTimeout     time.Duration     `toml:"get_sources_timeout" flag:"get-sources-timeout" env:"RUNNER_GET_SOURCES_TIMEOUT" doc:"How long fetching the sources may take; the timeout of the job when absent."`
	DebugTraceDisabled    bool              `toml:"debug_trace_disabled" flag:"debug-trace-disabled" env:"RUNNER_DEBUG_TRACE_DISABLED" default:"false" doc:"Ignore CI_DEBUG_TRACE of jobs."`
	SafeDirectoryCheckout *bool             `toml:"safe_directory_checkout" flag:"safe-directory-checkout" env:"RUNNER_SAFE_DIRECTORY_CHECKOUT" doc:"Tell git to trust the working copy; on for containers and virtual machines when absent."`
	CleanGitConfig        *bool             `toml:"clean_git_config" flag:"clean-git-config" env:"RUNNER_CLEAN_GIT_CONFIG" doc:"Remove git configuration and hooks that an earlier job left; on except for the shell executor when absent."`
	Shell                 string            `toml:"shell" flag:"shell" env:"RUNNER_SHELL" allowed:"bash|sh|pwsh|powershell" doc:"Shell that scripts are written for; depends on executor and system when absent."`
	FeatureFlags          map[string]bool   `toml:"feature_flags" flag:"feature-flags" env:"FEATURE_FLAGS" doc:"Feature flags by name; they win over those that a job sets."`
	UseSlotCgroups        bool              `toml:"use_slot_cgroups" flag:"use-slot-cgroups" env:"RUNNER_USE_SLOT_CGROUPS" default:"false" doc:"Give each slot of an autoscaled instance its own cgroup."`
	SlotCgroupTemplate    string            `toml:"slot_cgroup_template" flag:"slot-cgroup-template" env:"RUNNER_SLOT_CGROUP_TEMPLATE" default:"gitlab-runner/slot-${slot}" doc:"Name of that cgroup; ${slot} stands for the number of the slot."`
	StepRunnerImage       string            `toml:"step_runner_image" flag:"step-runner-image" env:"STEP_RUNNER_IMAGE" doc:"Image of the step runner."`
	KillTimeout           time.Duration     `toml:"graceful_kill_timeout" flag:"graceful-kill-timeout" env:"RUNNER_GRACEFUL_KILL_TIMEOUT" default:"10s" ours:"true" doc:"Time between the request to end (SIGTERM) and the kill (SIGKILL) of a job's processes, shell executor."`

	CustomBuildDir *CustomBuildDir     `toml:"custom_build_dir" doc:"Whether jobs may choose where they are cloned to."`
	Artifact       *Artifact           `toml:"artifact" doc:"Upload of artifacts."`
	Experimental   *RunnerExperimental `toml:"experimental" doc:"Features that may change."`
	Referees       *Referees           `toml:"referees" doc:"Data collected about a job."`
	Monitoring     *Monitoring         `toml:"monitoring" doc:"Thresholds that are watched."`
	Cache          *Cache              `toml:"cache" doc:"Where caches are stored for all machines."`
	SSH            *SSH                `toml:"ssh" doc:"Settings of the executors ssh, parallels and virtualbox."`
	Docker         *Docker             `toml:"docker" doc:"Settings of the executors that use Docker."`
	Parallels      *Parallels          `toml:"parallels" doc:"Settings of the executor parallels."`
	VirtualBox     *VirtualBox         `toml:"virtualbox" doc:"Settings of the executor virtualbox."`
	Machine        *Machine            `toml:"machine" doc:"Settings of the executor docker+machine."`
	Kubernetes     *Kubernetes         `toml:"kubernetes" doc:"Settings of the executor kubernetes."`
	Custom         *Custom             `toml:"custom" doc:"Settings of the executor custom."`
	Autoscaler     *Autoscaler         `toml:"autoscaler" doc:"Settings of the executors docker-autoscaler and instance."`
	Instance       *Instance           `toml:"instance" doc:"Settings of the executor instance."`

	// Line is the line of the entry's header in the file, 0 when the entry
	// does not come from a file.
	Line int `toml:"-"`
}

// CustomBuildDir is [runners.custom_build_dir].
type CustomBuildDir struct {
	Enabled *bool `toml:"enabled" flag:"custom_build_dir-enabled" env:"CUSTOM_BUILD_DIR_ENABLED" doc:"Allow GIT_CLONE_PATH; on for Docker and Kubernetes when absent."`
}

// Artifact is [runners.artifact].
type Artifact struct {
	UploadTimeout         time.Duration `toml:"upload_timeout" default:"1h" doc:"How long the upload of one archive may take."`
	ResponseHeaderTimeout time.Duration `toml:"response_header_timeout" default:"10m" doc:"How long GitLab may take to answer after an upload."`
	MaxExtractedSize      int64         `toml:"max_extracted_size" default:"1099511627776" unit:"bytes" ours:"true" doc:"Most that one archive of artifacts or of a cache may become when it is extracted, in bytes."`
	MaxExtractionRatio    int64         `toml:"max_extraction_ratio" default:"1100" ours:"true" doc:"How many bytes one byte of such an archive may become, once 256 MiB were extracted."`
}

// RunnerExperimental is [runners.experimental].
type RunnerExperimental struct {
	BootVerify *BootVerify `toml:"boot_verify" doc:"A trial job at start."`
}

// BootVerify is [runners.experimental.boot_verify].
type BootVerify struct {
	Enabled           bool          `toml:"enabled" default:"false" doc:"Run a trial job at start and end when it fails."`
	Timeout           time.Duration `toml:"timeout" default:"5m" doc:"How long the trial may take."`
	AcquireMinBackoff time.Duration `toml:"acquire_min_backoff" default:"1s" doc:"First pause between attempts to get capacity."`
	AcquireMaxBackoff time.Duration `toml:"acquire_max_backoff" default:"10s" doc:"Longest pause between attempts to get capacity."`
}

// ShortToken returns the short form of the runner's token.
func (r *Runner) ShortToken() string { return ShortToken(r.Token.Reveal()) }

// PublicURL returns the address of GitLab without a password, for messages.
func (r *Runner) PublicURL() string { return safeURL(r.URL) }

// OutputLimit returns the largest size of a job's log in bytes.
func (r *Runner) OutputLimit() int64 {
	if r.OutputLimitKiB < 1 {
		return defaultOutputLimitKiB << 10
	}
	return min(int64(r.OutputLimitKiB), 1<<52) << 10
}

// RequestConcurrency returns how many requests for jobs may be under way at
// the same time; at least 1.
func (r *Runner) RequestConcurrency() int { return max(r.RequestLimit, 1) }

// UnhealthyLimit returns the number of refused requests in a row after which
// the runner pauses.
func (r *Runner) UnhealthyLimit() int { return positive(r.UnhealthyRequests, defaultUnhealthyLimit) }

// UnhealthyInterval returns how long an unhealthy runner pauses.
func (r *Runner) UnhealthyInterval() time.Duration {
	return positive(r.UnhealthyPause, defaultUnhealthyInterval)
}

// FinalUpdateRetryLimit returns how often the result of a job is reported
// before the runner gives up.
func (r *Runner) FinalUpdateRetryLimit() int {
	return positive(r.FinalUpdateRetries, defaultFinalUpdateLimit)
}

// JobStatusInterval returns how often GitLab is asked about a job that prints
// nothing.
func (r *Runner) JobStatusInterval() time.Duration {
	return positive(r.StatusInterval, defaultStatusInterval)
}

// GracefulKillTimeout returns the time between SIGTERM and SIGKILL for the
// processes of a job.
func (r *Runner) GracefulKillTimeout() time.Duration {
	if r.Executor == "custom" {
		return r.Custom.gracefulKill()
	}
	return positive(r.KillTimeout, defaultKillTimeout)
}

// ArtifactTimeouts returns how long the upload of an archive and the answer to
// it may take.
func (r *Runner) ArtifactTimeouts() (upload, response time.Duration) {
	var a Artifact
	if r.Artifact != nil {
		a = *r.Artifact
	}
	return positive(a.UploadTimeout, defaultUploadTimeout), positive(a.ResponseHeaderTimeout, defaultHeaderTimeout)
}

// CustomBuildDirEnabled says whether jobs may choose where they are cloned to.
func (r *Runner) CustomBuildDirEnabled() bool {
	if r.CustomBuildDir != nil && r.CustomBuildDir.Enabled != nil {
		return *r.CustomBuildDir.Enabled
	}
	return isContainer(r.Executor)
}

// SafeDirectory says whether git is told to trust the working copy.
func (r *Runner) SafeDirectory() bool {
	if r.SafeDirectoryCheckout != nil {
		return *r.SafeDirectoryCheckout
	}
	return isContainer(r.Executor) || r.Executor == "virtualbox" || r.Executor == "parallels"
}

// CleansGitConfig says whether git configuration that an earlier job left is
// removed. strategy is the job's GIT_STRATEGY.
func (r *Runner) CleansGitConfig(strategy string) bool {
	if r.CleanGitConfig != nil {
		return *r.CleanGitConfig
	}
	return r.Executor != "shell" && strategy != "none"
}

// isContainer says whether jobs of the executor run in containers.
func isContainer(executor string) bool {
	return executor == "kubernetes" || strings.HasPrefix(executor, "docker")
}

// positive returns v, or the default when v is not positive.
func positive[T int | time.Duration](v, byDefault T) T {
	if v <= 0 {
		return byDefault
	}
	return v
}
