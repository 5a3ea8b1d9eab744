package coordinator

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
)

// maxValues bounds the values of one payload: an element of a list takes a
// hundred times the two bytes that it can have on the wire.
const maxValues = 200_000

// wireJob is the answer to POST jobs/request. Its parts are decoded one by
// one so that what only informs cannot lose the job and an error names its
// place.
type wireJob struct {
	ID            integer         `json:"id"`
	Token         text            `json:"token"`
	AllowGitFetch loose[flag]     `json:"allow_git_fetch"`
	JobInfo       loose[wireFrom] `json:"job_info"`
	GitInfo       json.RawMessage `json:"git_info"`
	RunnerInfo    loose[struct {
		Timeout loose[integer] `json:"timeout"`
	}] `json:"runner_info"`
	Inputs       json.RawMessage     `json:"inputs"`
	Variables    json.RawMessage     `json:"variables"`
	Steps        json.RawMessage     `json:"steps"`
	Run          json.RawMessage     `json:"run"`
	Hooks        json.RawMessage     `json:"hooks"`
	Image        json.RawMessage     `json:"image"`
	Services     json.RawMessage     `json:"services"`
	Artifacts    json.RawMessage     `json:"artifacts"`
	Cache        json.RawMessage     `json:"cache"`
	Credentials  json.RawMessage     `json:"credentials"`
	Dependencies json.RawMessage     `json:"dependencies"`
	Features     loose[wireFeatures] `json:"features"`
	Secrets      json.RawMessage     `json:"secrets"`
	Policy       loose[wirePolicy]   `json:"policy_options"`
}

type wireFrom struct {
	Name            loose[text]    `json:"name"`
	Stage           loose[text]    `json:"stage"`
	PipelineID      loose[integer] `json:"pipeline_id"`
	ProjectID       loose[integer] `json:"project_id"`
	ProjectName     loose[text]    `json:"project_name"`
	ProjectFullPath loose[text]    `json:"project_full_path"`
	NamespaceID     loose[integer] `json:"namespace_id"`
	RootNamespaceID loose[integer] `json:"root_namespace_id"`
	OrganizationID  loose[integer] `json:"organization_id"`
	UserID          loose[integer] `json:"user_id"`
	TimeInQueue     loose[float]   `json:"time_in_queue_seconds"`
	Running         loose[text]    `json:"project_jobs_running_on_instance_runners_count"`
	QueueSize       loose[integer] `json:"queue_size"`
	QueueDepth      loose[integer] `json:"queue_depth"`
}

func (w wireFrom) info() job.Info {
	return job.Info{
		Name: string(w.Name.v), Stage: string(w.Stage.v),
		PipelineID: int64(w.PipelineID.v), ProjectID: int64(w.ProjectID.v),
		ProjectName: string(w.ProjectName.v), ProjectFullPath: string(w.ProjectFullPath.v),
		NamespaceID: int64(w.NamespaceID.v), RootNamespaceID: int64(w.RootNamespaceID.v),
		OrganizationID: int64(w.OrganizationID.v), UserID: int64(w.UserID.v),
		TimeInQueue:                         seconds(float64(w.TimeInQueue.v)),
		ProjectJobsRunningOnInstanceRunners: string(w.Running.v),
		QueueSize:                           int64(w.QueueSize.v), QueueDepth: int64(w.QueueDepth.v),
	}
}

// seconds is at least 0 and never overflows.
func seconds(s float64) time.Duration {
	if s <= 0 {
		return 0
	}
	if s >= float64(math.MaxInt64/int64(time.Second)) {
		return math.MaxInt64
	}
	return time.Duration(s * float64(time.Second))
}

type wireGit struct {
	RepoURL      text  `json:"repo_url"`
	ObjectFormat text  `json:"repo_object_format"`
	Ref          text  `json:"ref"`
	SHA          text  `json:"sha"`
	BeforeSHA    text  `json:"before_sha"`
	RefType      text  `json:"ref_type"`
	Refspecs     list  `json:"refspecs"`
	Depth        depth `json:"depth"`
	Protected    *flag `json:"protected"`
}

// depth is never negative and fits everywhere.
type depth int

// UnmarshalJSON implements json.Unmarshaler.
func (d *depth) UnmarshalJSON(b []byte) error {
	var i integer
	if err := i.UnmarshalJSON(b); err != nil {
		return err
	}
	*d = depth(min(max(i, 0), math.MaxInt32))
	return nil
}

type wireScript struct {
	Name   text `json:"name"`
	Script list `json:"script"`
}

type wireVariable struct {
	Key    text `json:"key"`
	Value  text `json:"value"`
	Public flag `json:"public"`
	Masked flag `json:"masked"`
	File   flag `json:"file"`
	Raw    flag `json:"raw"`
}

type wireArtifact struct {
	Name      text `json:"name"`
	Untracked flag `json:"untracked"`
	Paths     list `json:"paths"`
	Exclude   list `json:"exclude"`
	When      text `json:"when"`
	ExpireIn  text `json:"expire_in"`
	Type      text `json:"artifact_type"`
	Format    text `json:"artifact_format"`
}

type wireCache struct {
	Key          text `json:"key"`
	Untracked    flag `json:"untracked"`
	Policy       text `json:"policy"`
	Paths        list `json:"paths"`
	When         text `json:"when"`
	FallbackKeys list `json:"fallback_keys"`
}

type wireCredential struct {
	Type     text `json:"type"`
	URL      text `json:"url"`
	Username text `json:"username"`
	Password text `json:"password"`
}

type wireDependency struct {
	ID    integer `json:"id"`
	Name  text    `json:"name"`
	Token text    `json:"token"`
	File  struct {
		Filename text           `json:"filename"`
		Size     loose[integer] `json:"size"`
	} `json:"artifacts_file"`
}

type wireFeatures struct {
	TraceSections     loose[flag]     `json:"trace_sections"`
	TokenMaskPrefixes loose[list]     `json:"token_mask_prefixes"`
	FailureReasons    loose[list]     `json:"failure_reasons"`
	Tracing           json.RawMessage `json:"tracing"`
}

type wirePolicy struct {
	Job        loose[flag]  `json:"execution_policy_job"`
	Name       loose[text]  `json:"policy_name"`
	Allowed    loose[*flag] `json:"policy_variables_override_allowed"`
	Exceptions loose[list]  `json:"policy_variables_override_exceptions"`
}

// decodeJob reads a payload. What must be right for the job to mean what its
// author wrote is checked; everything else is taken as far as it goes.
func decodeJob(body []byte) (*job.Spec, error) {
	if err := checkSize(body); err != nil {
		return nil, err
	}
	var w wireJob
	if err := json.Unmarshal(body, &w); err != nil {
		return nil, plain(err)
	}
	if w.ID <= 0 {
		return nil, errors.New("id: want a positive number")
	}
	if w.Token == "" {
		return nil, errors.New("token: there is none")
	}
	s := &job.Spec{
		ID: job.ID(w.ID), Token: job.Secret(w.Token), AllowGitFetch: bool(w.AllowGitFetch.v),
		Info: w.JobInfo.v.info(), Timeout: job.DefaultTimeout,
		Features: w.Features.v.features(), Policy: w.Policy.v.policy(),
	}
	if t := w.RunnerInfo.v.Timeout.v; t > 0 {
		s.Timeout = seconds(float64(t))
	}
	// The order is that of the job's life: the first thing that is wrong is told.
	for _, part := range []func(*job.Spec) error{
		w.git, w.inputs, w.variables, w.scripts, w.run, w.images, w.files, w.access,
	} {
		if err := part(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// checkSize counts the values of a payload without decoding it.
func checkSize(body []byte) error {
	if len(body) < maxValues {
		return nil
	}
	n, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ',' || c == '[' || c == '{'):
			n++
		}
	}
	if n > maxValues {
		return fmt.Errorf("has more than %d values", maxValues)
	}
	return nil
}

func (w *wireJob) git(s *job.Spec) error {
	var g wireGit
	if err := section("git_info", w.GitInfo, &g); err != nil {
		return err
	}
	s.Git = job.Git{
		RepoURL: job.Secret(g.RepoURL), ObjectFormat: string(g.ObjectFormat), Ref: string(g.Ref), SHA: string(g.SHA),
		BeforeSHA: string(g.BeforeSHA), RefType: string(g.RefType), Refspecs: g.Refspecs, Depth: int(g.Depth),
	}
	if s.Git.ObjectFormat == "" {
		s.Git.ObjectFormat = "sha1"
	}
	if g.Protected != nil {
		p := bool(*g.Protected)
		s.Git.Protected = &p
	}
	return nil
}

func (w *wireJob) variables(s *job.Spec) error {
	vs, err := variables("variables", w.Variables)
	s.Variables = vs
	return err
}

// variables leaves out what has no name: nothing could refer to it.
func variables(name string, raw json.RawMessage) (job.Variables, error) {
	var ws []wireVariable
	if err := section(name, raw, &ws); err != nil {
		return nil, err
	}
	if len(ws) == 0 {
		return nil, nil
	}
	vs := make(job.Variables, 0, len(ws))
	for _, v := range ws {
		if v.Key != "" {
			vs = append(vs, job.Variable{
				Key: string(v.Key), Value: string(v.Value), Public: bool(v.Public), Masked: bool(v.Masked),
				File: bool(v.File), Raw: bool(v.Raw),
			})
		}
	}
	return vs, nil
}

func (w *wireJob) scripts(s *job.Spec) error {
	var steps, hooks []wireScript
	if err := section("steps", w.Steps, &steps); err != nil {
		return err
	}
	if err := section("hooks", w.Hooks, &hooks); err != nil {
		return err
	}
	for _, st := range steps {
		if st.Name == "" && len(st.Script) == 0 {
			continue // null
		}
		s.Steps = append(s.Steps, job.Step{Name: string(st.Name), Script: st.Script})
	}
	for _, h := range hooks {
		if h.Name != "" {
			s.Hooks = append(s.Hooks, job.Hook{Name: string(h.Name), Script: h.Script})
		}
	}
	return nil
}

// run is the one field that must not be null: a job that has it means
// nothing without it.
func (w *wireJob) run(s *job.Spec) error {
	if w.Run == nil {
		return nil
	}
	if kindOf(w.Run) != "string" {
		return fmt.Errorf("run: %w", wrong("a string", w.Run))
	}
	run, err := unquote(w.Run)
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	if !json.Valid([]byte(run)) {
		return errors.New("run: the string holds no JSON")
	}
	s.Run = run
	for _, st := range s.Steps {
		if len(st.Script) > 0 {
			s.Unsupported = append(s.Unsupported, "run together with a script")
			break
		}
	}
	if _, ok := s.Variables.Lookup("STEPS"); ok {
		s.Unsupported = append(s.Unsupported, "run together with a variable STEPS")
	}
	return nil
}

func (w *wireJob) files(s *job.Spec) error {
	var artifacts []wireArtifact
	if err := section("artifacts", w.Artifacts, &artifacts); err != nil {
		return err
	}
	for _, a := range artifacts {
		if len(a.Paths) == 0 && !bool(a.Untracked) {
			continue // null, or nothing that could ever match
		}
		s.Artifacts = append(s.Artifacts, job.Artifact{
			Name: string(a.Name), Untracked: bool(a.Untracked), Paths: a.Paths, Exclude: a.Exclude, When: string(a.When),
			ExpireIn: string(a.ExpireIn), Type: string(a.Type), Format: string(a.Format),
		})
	}
	var caches []wireCache
	if err := section("cache", w.Cache, &caches); err != nil {
		return err
	}
	for _, c := range caches {
		if c.Key == "" && len(c.Paths) == 0 && !bool(c.Untracked) {
			continue // null
		}
		s.Caches = append(s.Caches, job.Cache{
			Key: string(c.Key), Untracked: bool(c.Untracked), Policy: string(c.Policy), Paths: c.Paths,
			When: string(c.When), FallbackKeys: c.FallbackKeys,
		})
	}
	var deps []wireDependency
	if err := section("dependencies", w.Dependencies, &deps); err != nil {
		return err
	}
	for _, d := range deps {
		if d.ID > 0 {
			s.Dependencies = append(s.Dependencies, job.Dependency{
				ID: job.ID(d.ID), Name: string(d.Name), Token: job.Secret(d.Token),
				Filename: string(d.File.Filename), Size: int64(d.File.Size.v),
			})
		}
	}
	return nil
}

func (w *wireJob) access(s *job.Spec) error {
	var credentials []wireCredential
	if err := section("credentials", w.Credentials, &credentials); err != nil {
		return err
	}
	for _, c := range credentials {
		if c.URL == "" {
			continue // null
		}
		s.Credentials = append(s.Credentials, job.Credential{
			Type: string(c.Type), URL: string(c.URL), Username: string(c.Username), Password: job.Secret(c.Password),
		})
	}
	var secrets map[string]json.RawMessage
	if err := section("secrets", w.Secrets, &secrets); err != nil {
		return err
	}
	if len(secrets) > 0 {
		s.Secrets = w.Secrets
	}
	return nil
}

func (w wireFeatures) features() job.Features {
	f := job.Features{
		TraceSections: bool(w.TraceSections.v), TokenMaskPrefixes: w.TokenMaskPrefixes.v, FailureReasons: w.FailureReasons.v,
	}
	if kindOf(w.Tracing) == "object" {
		f.Tracing = w.Tracing
	}
	return f
}

func (w wirePolicy) policy() job.Policy {
	p := job.Policy{
		ExecutionPolicyJob: bool(w.Job.v), Name: string(w.Name.v), OverrideExceptions: w.Exceptions.v,
	}
	if w.Allowed.v != nil {
		allowed := bool(*w.Allowed.v)
		p.VariablesOverrideAllowed = &allowed
	}
	return p
}
