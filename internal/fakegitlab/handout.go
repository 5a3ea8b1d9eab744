package fakegitlab

import (
	"bytes"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// handout is all that a payload is made of, taken under the lock and rendered without it.
type handout struct {
	id          int64
	spec        Job
	token       string
	project     *Project
	commit      commitInfo
	runnerID    int64
	description string
	tags        []string
	queued      time.Duration
	now         time.Time
	depth       int
	deps        []Dependency
	base        string // URL of the server
	session     *string
	refBySHA    bool
}

// sentPayload is what the rules need to know of a payload.
type sentPayload struct {
	secrets  []string
	prefixes []string
	reasons  []string
}

// describe collects what the payload of a job needs.
func (s *Server) describe(j *job, ru *runner) *handout {
	return &handout{
		id: j.id, spec: j.spec, token: j.token, project: j.project, commit: j.commit,
		runnerID: ru.id, description: ru.config.Description, tags: ru.config.Tags,
		queued: j.handedOut.Sub(j.enqueued), now: j.handedOut, depth: len(s.pending), deps: s.dependencies(j),
		refBySHA: s.opts.PipelineRefBySHA,
	}
}

// dependencies lists the jobs whose artifacts a job may fetch.
func (s *Server) dependencies(j *job) []Dependency {
	out := []Dependency{}
	for _, id := range j.spec.Dependencies {
		d := s.jobs[id]
		if d == nil {
			continue
		}
		dep := Dependency{ID: id, Name: d.spec.Name, Token: j.token}
		if a := d.artifacts["archive"]; a != nil {
			dep.ArtifactsFile = &ArtifactsFile{Filename: a.Filename, Size: a.Size}
		}
		out = append(out, dep)
	}
	return out
}

// render makes the JSON of the 201 answer.
func (h *handout) render() ([]byte, sentPayload) {
	if h.spec.Raw != nil {
		body := bytes.ReplaceAll(h.spec.Raw, []byte("%ID%"), strconv.AppendInt(nil, h.id, 10))
		return bytes.ReplaceAll(body, []byte("%TOKEN%"), []byte(h.token)), sentPayload{reasons: failureReasons()}
	}
	p := h.payload()
	if h.spec.Edit != nil {
		h.spec.Edit(p)
	}
	sent := sentPayload{prefixes: p.Features.TokenMaskPrefixes, reasons: p.Features.FailureReasons}
	for _, v := range p.Variables {
		if value := strings.TrimSpace(v.Value); v.Masked && value != "" && !slices.Contains(sent.secrets, value) {
			sent.secrets = append(sent.secrets, value)
		}
	}
	body, err := p.marshal()
	if err != nil {
		// Only Edit can cause it, with a value that JSON does not know.
		body = []byte(`{"message":"500 Internal Server Error"}`)
	}
	return body, sent
}

func (h *handout) timeout() int {
	if h.spec.Timeout <= 0 {
		return 3600
	}
	return int(h.spec.Timeout / time.Second)
}

// payload fills the fields as a real server does.
func (h *handout) payload() *Payload {
	spec := &h.spec
	protected := true
	path := h.projectPath()
	p := &Payload{
		ID: h.id, Token: h.token, AllowGitFetch: !spec.Clone,
		JobInfo: JobInfo{
			ID: h.id, Name: spec.Name, Stage: spec.Stage, PipelineID: spec.PipelineID,
			ProjectID: h.projectID(), ProjectName: path[strings.LastIndex(path, "/")+1:], ProjectFullPath: path,
			NamespaceID: 5, RootNamespaceID: 5, OrganizationID: 1,
			InstanceID: "8f14e45fceea167a5a36dedd4bea2543", InstanceUUID: "0b5a3a0e-58a4-4a69-9f2b-0c7b4a0a9d11",
			UserID: 42, TimeInQueueSeconds: h.queued.Seconds(), ProjectJobsRunning: "0",
			QueueSize: int64(h.depth) + 1, QueueDepth: int64(h.depth),
		},
		GitInfo: GitInfo{
			RepoURL: h.repoURL(), Ref: h.commit.ref, SHA: h.commit.sha, BeforeSHA: h.commit.before,
			RefType: h.commit.refType, Refspecs: h.refspecs(), Depth: h.gitDepth(), RepoObjectFormat: h.commit.format,
			Protected: &protected,
		},
		RunnerInfo:   RunnerInfo{UUID: "c0ffee00c0ffee00", Timeout: h.timeout(), RunnerSessionURL: h.session},
		Inputs:       spec.Inputs,
		Steps:        []Step{{Name: "script", Script: orEmpty(spec.Script), Timeout: h.timeout(), When: "on_success", AllowFailure: spec.AllowFailure}},
		Hooks:        orEmpty(spec.Hooks),
		Image:        spec.Image,
		Services:     orEmpty(spec.Services),
		Artifacts:    spec.Artifacts,
		Cache:        orEmpty(spec.Cache),
		Dependencies: h.deps,
		Features: Features{
			TraceSections: true, TokenMaskPrefixes: []string{"glpat-"}, FailureReasons: failureReasons(),
		},
		Secrets:       spec.Secrets,
		PolicyOptions: &PolicyOptions{},
	}
	if h.commit.sha == "" {
		p.GitInfo.SHA, p.GitInfo.BeforeSHA = inventedSHA, zeroSHA
		p.GitInfo.Ref, p.GitInfo.RefType, p.GitInfo.RepoObjectFormat = "main", "branch", "sha1"
	}
	if len(spec.Release) > 0 {
		p.Steps = append(p.Steps, Step{Name: "release", Script: spec.Release, Timeout: h.timeout(), When: "on_success"})
	}
	if len(spec.AfterScript) > 0 {
		p.Steps = append(p.Steps, Step{
			Name: "after_script", Script: spec.AfterScript, Timeout: h.timeout(), When: "always", AllowFailure: true,
		})
	}
	p.Credentials = []Credential{
		{Type: "registry", URL: "registry.example.test", Username: "gitlab-ci-token", Password: h.token},
	}
	p.Variables = h.variables(p)
	return p
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

const (
	inventedSHA = "3f786850e387550fdab836ed7e6dc881de23001b"
	zeroSHA     = "0000000000000000000000000000000000000000"
)

func (h *handout) projectPath() string {
	if h.project != nil {
		return h.project.Path
	}
	return "acme/web"
}

func (h *handout) projectID() int64 {
	if h.project != nil {
		return h.project.ID
	}
	return 17
}

func (h *handout) gitDepth() int {
	switch {
	case h.spec.Depth < 0:
		return 0
	case h.spec.Depth == 0:
		return 20
	}
	return h.spec.Depth
}

// repoURL holds the job token, as on a real server.
func (h *handout) repoURL() string {
	scheme, rest, _ := strings.Cut(h.base, "://")
	return scheme + "://gitlab-ci-token:" + h.token + "@" + rest + "/" + h.projectPath() + ".git"
}

func (h *handout) refspecs() []string {
	pipeline := fmt.Sprintf("refs/pipelines/%d", h.spec.PipelineID)
	first := "+" + pipeline + ":" + pipeline
	if h.refBySHA && h.commit.sha != "" {
		first = "+" + h.commit.sha + ":" + pipeline
	}
	ref := h.commit.ref
	if ref == "" {
		ref = "main"
	}
	switch {
	case h.gitDepth() == 0:
		return []string{first, "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"}
	case h.commit.refType == "tag":
		return []string{first, "+refs/tags/" + ref + ":refs/tags/" + ref}
	}
	return []string{first, "+refs/heads/" + ref + ":refs/remotes/origin/" + ref}
}

// variables are the predefined ones in GitLab's order of precedence, then the job's own.
func (h *handout) variables(p *Payload) []Variable {
	u, err := url.Parse(h.base)
	if err != nil {
		u = &url.URL{Scheme: "http", Host: "gitlab.example.test"}
	}
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = map[string]string{"https": "443"}[u.Scheme]
		if port == "" {
			port = "80"
		}
	}
	fqdn := u.Host
	path := p.JobInfo.ProjectFullPath
	namespace, _, _ := strings.Cut(path, "/")
	if i := strings.LastIndex(path, "/"); i >= 0 {
		namespace = path[:i]
	}
	root, _, _ := strings.Cut(path, "/")
	project := h.base + "/" + path
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	ref, sha := p.GitInfo.Ref, p.GitInfo.SHA
	commit := h.commit
	if commit.when.IsZero() {
		commit.when = h.now
	}
	stamp := func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

	out := make([]Variable, 0, 90+len(h.spec.Variables))
	add := func(key, value string) {
		out = append(out, Variable{Key: key, Value: value, Public: true})
	}
	secret := func(key, value string) {
		out = append(out, Variable{Key: key, Value: value, Masked: true})
	}
	add("CI", "true")
	add("GITLAB_CI", "true")
	add("CI_PIPELINE_ID", number(h.spec.PipelineID))
	add("CI_PIPELINE_URL", project+"/-/pipelines/"+number(h.spec.PipelineID))
	add("CI_JOB_ID", number(h.id))
	add("CI_JOB_URL", project+"/-/jobs/"+number(h.id))
	secret("CI_JOB_TOKEN", h.token)
	add("CI_JOB_STARTED_AT", stamp(h.now))
	out = append(out,
		Variable{Key: "CI_REGISTRY_USER", Value: "gitlab-ci-token", Public: true},
		Variable{Key: "CI_REGISTRY_PASSWORD", Value: h.token, Masked: true},
		Variable{Key: "CI_REPOSITORY_URL", Value: p.GitInfo.RepoURL},
	)
	add("CI_JOB_NAME", h.spec.Name)
	add("CI_JOB_NAME_SLUG", slug(h.spec.Name))
	add("CI_JOB_STAGE", h.spec.Stage)
	add("CI_NODE_TOTAL", "1")
	add("CI_SERVER_URL", h.base)
	add("CI_SERVER_HOST", host)
	add("CI_SERVER_PORT", port)
	add("CI_SERVER_PROTOCOL", u.Scheme)
	add("CI_SERVER_FQDN", fqdn)
	add("CI_SERVER_SHELL_SSH_HOST", host)
	add("CI_SERVER_SHELL_SSH_PORT", "22")
	add("CI_SERVER_NAME", "GitLab")
	add("CI_SERVER_VERSION", Version)
	add("CI_SERVER_VERSION_MAJOR", "19")
	add("CI_SERVER_VERSION_MINOR", "4")
	add("CI_SERVER_VERSION_PATCH", "0")
	add("CI_SERVER_REVISION", "fa4e91a1ab0")
	add("GITLAB_FEATURES", "")
	add("CI_API_V4_URL", h.base+"/api/v4")
	add("CI_API_GRAPHQL_URL", h.base+"/api/graphql")
	add("CI_TEMPLATE_REGISTRY_HOST", "registry.gitlab.com")
	add("CI_PROJECT_ID", number(p.JobInfo.ProjectID))
	add("CI_PROJECT_NAME", p.JobInfo.ProjectName)
	add("CI_PROJECT_TITLE", p.JobInfo.ProjectName)
	add("CI_PROJECT_DESCRIPTION", "")
	add("CI_PROJECT_PATH", path)
	add("CI_PROJECT_PATH_SLUG", slug(path))
	add("CI_PROJECT_NAMESPACE", namespace)
	add("CI_PROJECT_NAMESPACE_ID", "5")
	add("CI_PROJECT_ROOT_NAMESPACE", root)
	add("CI_PROJECT_URL", project)
	add("CI_PROJECT_VISIBILITY", "private")
	add("CI_PROJECT_REPOSITORY_LANGUAGES", "")
	add("CI_DEFAULT_BRANCH", h.defaultBranch())
	add("CI_CONFIG_PATH", ".gitlab-ci.yml")
	add("CI_PIPELINE_IID", number(h.spec.PipelineID-5000))
	add("CI_PIPELINE_SOURCE", "push")
	add("CI_PIPELINE_CREATED_AT", stamp(h.now))
	add("CI_COMMIT_SHA", sha)
	add("CI_COMMIT_SHORT_SHA", sha[:min(8, len(sha))])
	add("CI_COMMIT_BEFORE_SHA", p.GitInfo.BeforeSHA)
	add("CI_COMMIT_REF_NAME", ref)
	add("CI_COMMIT_REF_SLUG", slug(ref))
	if p.GitInfo.RefType == "tag" {
		add("CI_COMMIT_TAG", ref)
		add("CI_COMMIT_TAG_MESSAGE", "")
	} else {
		add("CI_COMMIT_BRANCH", ref)
	}
	title, description, _ := strings.Cut(strings.TrimRight(commit.message, "\n"), "\n")
	add("CI_COMMIT_REF_PROTECTED", "true")
	add("CI_COMMIT_TIMESTAMP", commit.when.UTC().Format(time.RFC3339))
	add("CI_COMMIT_AUTHOR", commitAuthor)
	add("CI_COMMIT_MESSAGE", commit.message)
	add("CI_COMMIT_TITLE", title)
	add("CI_COMMIT_DESCRIPTION", strings.TrimLeft(description, "\n"))
	add("CI_RUNNER_ID", number(h.runnerID))
	add("CI_RUNNER_DESCRIPTION", h.description)
	add("CI_RUNNER_TAGS", rubyList(h.tags))
	add("CI_DEPENDENCY_PROXY_SERVER", net.JoinHostPort(host, port))
	add("GITLAB_USER_ID", "42")
	add("GITLAB_USER_EMAIL", "dev@example.test")
	add("GITLAB_USER_LOGIN", "dev")
	add("GITLAB_USER_NAME", "Dev")
	if h.project == nil {
		add("GIT_STRATEGY", "none")
	}
	return append(out, h.spec.Variables...)
}

func (h *handout) defaultBranch() string {
	if h.project != nil {
		return h.project.DefaultBranch
	}
	return "main"
}

// rubyList renders tags as CI_RUNNER_TAGS has them.
func rubyList(tags []string) string {
	quoted := make([]string, len(tags))
	for i, tag := range tags {
		quoted[i] = strconv.Quote(tag)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// slug is GitLab's: lower case, at most 63 bytes, other characters than a-z and 0-9 become "-", none at the ends.
func slug(text string) string {
	out := []byte(strings.ToLower(text))
	for i, b := range out {
		if (b < 'a' || b > 'z') && (b < '0' || b > '9') {
			out[i] = '-'
		}
	}
	return strings.Trim(string(out[:min(63, len(out))]), "-")
}
