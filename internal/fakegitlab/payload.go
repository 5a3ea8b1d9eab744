package fakegitlab

import (
	"encoding/json"
	"maps"
)

// Payload is the JSON of a 201 answer to POST /api/v4/jobs/request, field by field as GitLab sends it.
type Payload struct {
	ID             int64              `json:"id"`
	Token          string             `json:"token"`
	AllowGitFetch  bool               `json:"allow_git_fetch"`
	JobInfo        JobInfo            `json:"job_info"`
	GitInfo        GitInfo            `json:"git_info"`
	RunnerInfo     RunnerInfo         `json:"runner_info"`
	Inputs         []Input            `json:"inputs,omitempty"`
	Variables      []Variable         `json:"variables"`
	Steps          []Step             `json:"steps,omitempty"`
	Run            *string            `json:"run,omitempty"`
	Hooks          []Hook             `json:"hooks"`
	Image          *Image             `json:"image"`
	Services       []Service          `json:"services"`
	Artifacts      []ArtifactSpec     `json:"artifacts"`
	Cache          []Cache            `json:"cache"`
	Credentials    []Credential       `json:"credentials"`
	Dependencies   []Dependency       `json:"dependencies"`
	Features       Features           `json:"features"`
	Secrets        map[string]any     `json:"secrets,omitempty"`
	PolicyOptions  *PolicyOptions     `json:"policy_options,omitempty"`
	SuspendOptions *SuspendOptions    `json:"suspend_options,omitempty"`
	Extra          map[string]RawJSON `json:"-"`
}

// RawJSON is a piece of JSON that is sent as it is. Payload.Extra adds or replaces top-level fields
// with it, which makes payloads of newer or hostile servers.
type RawJSON = json.RawMessage

// JobInfo names the job and its place in the server.
type JobInfo struct {
	ID                 int64   `json:"id"`
	Name               string  `json:"name"`
	Stage              string  `json:"stage"`
	PipelineID         int64   `json:"pipeline_id"`
	ProjectID          int64   `json:"project_id"`
	ProjectName        string  `json:"project_name"`
	ProjectFullPath    string  `json:"project_full_path"`
	NamespaceID        int64   `json:"namespace_id"`
	RootNamespaceID    int64   `json:"root_namespace_id"`
	OrganizationID     int64   `json:"organization_id"`
	InstanceID         string  `json:"instance_id"`
	InstanceUUID       string  `json:"instance_uuid"`
	UserID             int64   `json:"user_id"`
	ScopedUserID       *int64  `json:"scoped_user_id"`
	TimeInQueueSeconds float64 `json:"time_in_queue_seconds"`
	ProjectJobsRunning string  `json:"project_jobs_running_on_instance_runners_count"`
	QueueSize          int64   `json:"queue_size"`
	QueueDepth         int64   `json:"queue_depth"`
}

// GitInfo says what to fetch. RepoURL holds the job token as its password.
type GitInfo struct {
	RepoURL          string   `json:"repo_url"`
	Ref              string   `json:"ref"`
	SHA              string   `json:"sha"`
	BeforeSHA        string   `json:"before_sha"`
	RefType          string   `json:"ref_type"`
	Refspecs         []string `json:"refspecs"`
	Depth            int      `json:"depth"`
	RepoObjectFormat string   `json:"repo_object_format"`
	Protected        *bool    `json:"protected"`
}

// RunnerInfo holds what concerns the runner: Timeout is the job timeout in seconds.
type RunnerInfo struct {
	UUID             string  `json:"uuid"`
	Timeout          int     `json:"timeout"`
	RunnerSessionURL *string `json:"runner_session_url"`
}

// Input is one job input.
type Input struct {
	Key   string     `json:"key"`
	Value InputValue `json:"value"`
}

// InputValue is the typed value of an [Input]. Type is string, number, boolean, array or struct.
type InputValue struct {
	Type      string `json:"type"`
	Content   any    `json:"content"`
	Sensitive bool   `json:"sensitive"`
}

// Variable is one CI variable. The last one with a key wins.
type Variable struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Public bool   `json:"public"`
	Masked bool   `json:"masked"`
	File   bool   `json:"file,omitempty"`
	Raw    bool   `json:"raw,omitempty"`
}

// Step is one step of a job; the server names them script, release and after_script.
type Step struct {
	Name         string   `json:"name"`
	Script       []string `json:"script"`
	Timeout      int      `json:"timeout"`
	When         string   `json:"when"`
	AllowFailure bool     `json:"allow_failure"`
}

// Hook is a script around a stage, such as pre_get_sources_script.
type Hook struct {
	Name   string   `json:"name"`
	Script []string `json:"script"`
}

// Port is a port of an image or a service.
type Port struct {
	Number   int    `json:"number"`
	Protocol string `json:"protocol"`
	Name     string `json:"name"`
}

// Image is the container image of a job.
type Image struct {
	Name         string         `json:"name"`
	Entrypoint   []string       `json:"entrypoint"`
	Ports        []Port         `json:"ports"`
	ExecutorOpts map[string]any `json:"executor_opts"`
	PullPolicy   []string       `json:"pull_policy"`
}

// Service is a service container of a job.
type Service struct {
	Name         string            `json:"name"`
	Alias        *string           `json:"alias"`
	Entrypoint   []string          `json:"entrypoint"`
	Command      []string          `json:"command"`
	Ports        []Port            `json:"ports"`
	Variables    []ServiceVariable `json:"variables"`
	ExecutorOpts map[string]any    `json:"executor_opts"`
	PullPolicy   []string          `json:"pull_policy"`
}

// ServiceVariable is a variable of a service container.
type ServiceVariable struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// ArtifactSpec is one upload that the job asks for.
type ArtifactSpec struct {
	Name           *string  `json:"name"`
	Untracked      *bool    `json:"untracked"`
	Paths          []string `json:"paths"`
	Exclude        []string `json:"exclude,omitempty"`
	When           string   `json:"when"`
	ExpireIn       *string  `json:"expire_in"`
	ArtifactType   string   `json:"artifact_type"`
	ArtifactFormat string   `json:"artifact_format"`
}

// Cache is one cache of a job.
type Cache struct {
	Key          string   `json:"key"`
	Untracked    bool     `json:"untracked"`
	Policy       string   `json:"policy"`
	Paths        []string `json:"paths"`
	When         string   `json:"when"`
	FallbackKeys []string `json:"fallback_keys"`
}

// Credential is a login, normally for a container registry.
type Credential struct {
	Type     string `json:"type"`
	URL      string `json:"url"`
	Username string `json:"username"`
	Password string `json:"password"`
}

// Dependency is an earlier job whose artifacts are wanted.
type Dependency struct {
	ID            int64          `json:"id"`
	Name          string         `json:"name"`
	Token         string         `json:"token"`
	ArtifactsFile *ArtifactsFile `json:"artifacts_file,omitempty"`
}

// ArtifactsFile describes the archive of a [Dependency].
type ArtifactsFile struct {
	Filename string `json:"filename"`
	Size     int64  `json:"size"`
}

// Features tells the runner what this server understands.
type Features struct {
	TraceSections     bool     `json:"trace_sections"`
	TokenMaskPrefixes []string `json:"token_mask_prefixes"`
	FailureReasons    []string `json:"failure_reasons"`
	Tracing           any      `json:"tracing,omitempty"`
}

// PolicyOptions describe a job that an execution policy made.
type PolicyOptions struct {
	ExecutionPolicyJob       bool     `json:"execution_policy_job"`
	PolicyName               string   `json:"policy_name"`
	VariablesOverrideAllowed *bool    `json:"policy_variables_override_allowed,omitempty"`
	VariablesOverrideExcept  []string `json:"policy_variables_override_exceptions,omitempty"`
}

// SuspendOptions belong to suspendable environments (experimental in GitLab).
type SuspendOptions struct {
	SuspendOnSuccess      bool   `json:"suspend_on_success"`
	SuspendOnFailure      bool   `json:"suspend_on_failure"`
	RuntimeEnvironmentKey string `json:"runtime_environment_key"`
}

// failureReasons returns what a current server lists in features.failure_reasons.
func failureReasons() []string {
	return []string{
		"unknown_failure", "script_failure", "api_failure", "stuck_or_timeout_failure", "runner_system_failure",
		"missing_dependency_failure", "runner_unsupported", "stale_schedule", "job_execution_timeout",
		"archived_failure", "unmet_prerequisites", "scheduler_failure", "data_integrity_failure",
		"trace_size_exceeded", "job_execution_server_timeout", "no_updates_running", "no_updates_canceling",
		"server_timeout_running", "server_timeout_canceling", "runner_configuration_error",
		"runner_external_dependency_failure", "runner_interrupted", "job_router_failure", "job_token_expired",
	}
}

// marshal renders p with its Extra fields put over the typed ones.
func (p *Payload) marshal() ([]byte, error) {
	raw, err := json.Marshal(p)
	if err != nil || len(p.Extra) == 0 {
		return raw, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	maps.Copy(fields, p.Extra)
	return json.Marshal(fields)
}
