// Package job holds the facts of one CI job: what a coordinator asks for
// (Spec), how far it got (Phase, State) and what came of it (Outcome). It
// knows neither the wire nor any executor and imports the standard library
// only, so that every other package can share its words.
package job

import (
	"strconv"
	"time"
)

// ID is a job's number on its coordinator, unique per coordinator.
type ID int64

// String returns the decimal form.
func (id ID) String() string { return strconv.FormatInt(int64(id), 10) }

// DefaultTimeout bounds a job whose coordinator names no timeout.
const DefaultTimeout = 2 * time.Hour

// Runner identifies one [[runners]] entry in facts, labels and log lines.
type Runner struct {
	Short    string `json:"short"`     // short token, the `runner` label
	Name     string `json:"name"`      // the entry's name, may be empty
	SystemID string `json:"system_id"` // of this machine
	Executor string `json:"executor"`  // "shell", "docker", …
}

// Spec is one job as its coordinator describes it. It is immutable once it
// has been handed out. The fields follow the answer to POST
// /api/v4/jobs/request.
type Spec struct {
	ID            ID
	Token         Secret // job token: authenticates everything about this job
	AllowGitFetch bool   // default GIT_STRATEGY: fetch instead of clone
	Info          Info
	Git           Git
	Timeout       time.Duration // > 0, of the whole job
	Inputs        []Input
	Variables     Variables // in order of precedence, the last one wins
	Steps         []Step
	Run           string // JSON of native steps, "" when there are none
	Hooks         []Hook
	Image         Image
	Services      []Image
	Artifacts     []Artifact
	Caches        []Cache
	Credentials   []Credential
	Dependencies  []Dependency
	Features      Features
	Secrets       []byte // JSON object of external secrets, nil when there are none
	Policy        Policy
	TLS           TLS
	// Unsupported names options that this runner does not understand and
	// that would change the job's meaning; such a job is refused.
	Unsupported []string
	// CorrelationID is the request id under which the job was received.
	CorrelationID string
	// Received is when the job arrived at this process.
	Received time.Time
	// Payload is the answer as it came, JSON, for executors that hand it on;
	// "" unless it is asked for.
	Payload Secret
}

// Info says where a job comes from.
type Info struct {
	Name, Stage                         string
	PipelineID, ProjectID               int64
	ProjectName, ProjectFullPath        string
	NamespaceID, RootNamespaceID        int64
	OrganizationID, UserID              int64
	TimeInQueue                         time.Duration // as the coordinator measured it
	ProjectJobsRunningOnInstanceRunners string        // "0"…"4", "5+", "+Inf" or ""
	QueueSize, QueueDepth               int64
}

// Git says what to check out.
type Git struct {
	RepoURL      Secret // carries credentials
	ObjectFormat string // "sha1" or "sha256"
	Ref          string
	SHA          string
	BeforeSHA    string
	RefType      string // "branch" or "tag"
	Refspecs     []string
	Depth        int   // 0: full history
	Protected    *bool // nil: the coordinator did not say
}

// Step is one named script of a job.
type Step struct {
	Name   string // "script", "after_script", "release", …
	Script []string
}

// Hook is a script that runs around getting the sources.
type Hook struct {
	Name   string // "pre_get_sources_script" or "post_get_sources_script"
	Script []string
}

// Input is a value for ${{ job.inputs.NAME }}.
type Input struct {
	Key       string
	Type      string // "string", "number", "boolean", "array", "struct"
	Content   any    // as encoding/json decodes it, numbers as json.Number
	Sensitive bool
}

// Image names a container image, of the job itself or of a service.
type Image struct {
	Name       string
	Aliases    []string
	Entrypoint []string
	Command    []string
	Variables  Variables
	PullPolicy []string
	// Platform and User come from executor_opts.
	Platform, User, KubernetesUser string
}

// Artifact is one upload that a job asks for.
type Artifact struct {
	Name      string
	Untracked bool
	Paths     []string
	Exclude   []string
	When      string // "on_success" (or ""), "on_failure", "always"
	ExpireIn  string
	Type      string // "archive", "junit", …
	Format    string // "", "zip", "gzip", "raw", …
}

// Cache is one cache entry of a job.
type Cache struct {
	Key          string
	Untracked    bool
	Policy       string // "pull-push" (or ""), "pull", "push"; may hold variables
	Paths        []string
	When         string
	FallbackKeys []string
}

// Credential opens a container registry.
type Credential struct {
	Type, URL, Username string
	Password            Secret
}

// Dependency is an earlier job whose artifacts this one wants.
type Dependency struct {
	ID       ID
	Name     string
	Token    Secret
	Filename string // "": nothing to download
	Size     int64
}

// Features is what the coordinator can do.
type Features struct {
	TraceSections     bool
	TokenMaskPrefixes []string
	FailureReasons    []string
	// Tracing is the JSON of features.tracing, nil when absent.
	Tracing []byte
}

// Policy tells that a job was made by a pipeline execution policy.
type Policy struct {
	ExecutionPolicyJob       bool
	Name                     string
	VariablesOverrideAllowed *bool
	OverrideExceptions       []string
}

// TLS is certificate material (PEM) that a job gets as file variables.
type TLS struct {
	CA, Cert string
	Key      Secret
}

// Step returns the step of that name.
func (s *Spec) Step(name string) (Step, bool) {
	for _, st := range s.Steps {
		if st.Name == name {
			return st, true
		}
	}
	return Step{}, false
}
