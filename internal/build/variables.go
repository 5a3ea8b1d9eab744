package build

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

// repoURL is the repository's address without credentials, or "" when it is
// no URL.
func repoURL(s *job.Spec) string {
	u, err := url.Parse(s.Git.RepoURL.Reveal())
	if err != nil || u.Host == "" {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// jobURL is the address of the job's page, made from its repository's.
func jobURL(s *job.Spec) string {
	repo := repoURL(s)
	if repo == "" {
		return ""
	}
	return strings.TrimSuffix(repo, ".git") + "/-/jobs/" + s.ID.String()
}

// projectPath is where below the builds root a project lives.
func projectPath(s *job.Spec) string {
	fallback := "project-" + strconv.FormatInt(s.Info.ProjectID, 10)
	u, err := url.Parse(s.Git.RepoURL.Reveal())
	if err != nil || u.Host == "" {
		return fallback
	}
	p := strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git")
	if p == "" || path.Clean("/"+p) != "/"+p || strings.Contains(p, "..") || strings.ContainsRune(p, 0) {
		return fallback
	}
	return p
}

// dirs places the job below the builds root. The variables may move it by
// GIT_CLONE_PATH where that is allowed.
func (b *Build) dirs(t executor.Traits, slot int, vars job.Variables) (executor.Dirs, error) {
	root, cache := b.buildsDir(t), cmp.Or(b.layout.CacheDir, b.o.CacheDir, t.CacheDir)
	shared := t.SharedBuilds
	if b.layout.SharedBuilds != nil {
		shared = *b.layout.SharedBuilds
	}
	switch {
	case root == "":
		return executor.Dirs{}, executor.Misconfigured("the builds_dir is not configured")
	case cache == "":
		return executor.Dirs{}, executor.Misconfigured("the cache_dir is not configured")
	}
	slug := projectPath(b.spec)
	project := path.Join(root, slug)
	if shared {
		project = path.Join(root, b.o.Runner.Short, strconv.Itoa(slot), slug)
	}
	if clone := vars.Value("GIT_CLONE_PATH"); clone != "" {
		moved, err := b.clonePath(t, root, clone, vars)
		if err != nil {
			return executor.Dirs{}, err
		}
		project = moved
	}
	if strings.EqualFold(vars.Value("GIT_STRATEGY"), "empty") {
		project += "-empty"
	}
	return executor.Dirs{Builds: root, Project: project, Temp: project + ".tmp", Cache: path.Join(cache, slug)}, nil
}

func (b *Build) buildsDir(t executor.Traits) string {
	return cmp.Or(b.layout.BuildsDir, b.o.BuildsDir, t.BuildsDir)
}

func (b *Build) clonePath(t executor.Traits, root, clone string, vars job.Variables) (string, error) {
	allowed := t.CustomDirs
	if b.o.CustomDirs != nil {
		allowed = *b.o.CustomDirs
	}
	if !allowed {
		return "", executor.Misconfigured("setting GIT_CLONE_PATH is not allowed, enable `custom_build_dir` feature")
	}
	clone = path.Clean(vars.Expand(clone, nil)) // a variable of its own may lead to it
	rel, err := filepath.Rel(root, clone)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", executor.Misconfigured("the GIT_CLONE_PATH=%q has to be within %q", clone, root)
	}
	return clone, nil
}

// before are the variables of the runner and the payload, unexpanded, in order
// of precedence, without what depends on the job's place.
func (b *Build) before() job.Variables {
	var vs job.Variables
	internal := func(key, value string) {
		vs = append(vs, job.Variable{Key: key, Value: value, Public: true, Internal: true})
	}
	if t := b.scope.Trace; t.On() {
		internal(traceParent, t.Parentage()) // first, so that any other of that name wins
	}
	for _, f := range b.flagList {
		internal(f.Name, strconv.FormatBool(f.On))
	}
	if b.spec.Image.Name != "" {
		internal("CI_JOB_IMAGE", b.spec.Image.Name)
	}
	internal("CI_RUNNER_SHORT_TOKEN", b.o.Runner.Short)
	for _, e := range b.o.Environment {
		if k, v, ok := strings.Cut(e, "="); ok {
			internal(k, v)
		}
	}
	return vs
}

// variables puts everything together, for the place in d and expanded. Before
// there is a place, what depends on it is left out.
func (b *Build) variables(t executor.Traits, d executor.Dirs, slot, projectSlot int) job.Variables {
	vs := b.before()
	add := func(key, value string) {
		vs = append(vs, job.Variable{Key: key, Value: value, Public: true, Internal: true})
	}
	file := func(key, value string, public bool) {
		if value != "" {
			vs = append(vs, job.Variable{Key: key, Value: value, File: true, Public: public, Internal: true, Raw: true})
		}
	}
	placed := d.Project != ""
	if placed {
		add("CI_BUILDS_DIR", d.Builds)
		add("CI_PROJECT_DIR", d.Project)
	}
	add("CI_CONCURRENT_ID", strconv.Itoa(slot))
	add("CI_CONCURRENT_PROJECT_ID", strconv.Itoa(projectSlot))
	add("CI_SERVER", "yes")
	add("CI_JOB_STATUS", "running")
	add("CI_JOB_TIMEOUT", strconv.Itoa(int(b.spec.Timeout.Seconds())))
	file("CI_SERVER_TLS_CA_FILE", b.spec.TLS.CA, true)
	file("CI_SERVER_TLS_CERT_FILE", b.spec.TLS.Cert, true)
	file("CI_SERVER_TLS_KEY_FILE", b.spec.TLS.Key.Reveal(), false)
	for _, v := range b.spec.Variables {
		if _, isFlag := b.flags[v.Key]; !isFlag {
			vs = append(vs, v)
		}
	}
	if b.o.DebugTraceDisabled {
		add("CI_DEBUG_TRACE", "false")
		add("CI_DEBUG_SERVICES", "false")
	}
	if t.SharedEnv {
		add("CI_SHARED_ENVIRONMENT", "true")
	} else {
		add("CI_DISPOSABLE_ENVIRONMENT", "true")
	}
	add("CI_RUNNER_VERSION", b.o.Version.Version)
	add("CI_RUNNER_REVISION", b.o.Version.Revision)
	add("CI_RUNNER_EXECUTABLE_ARCH", b.o.Version.OS+"/"+b.o.Version.Architecture)
	if !placed {
		return vs.Expanded(nil)
	}
	add("RUNNER_TEMP_PROJECT_DIR", d.Temp)
	return vs.Expanded(func(key string) string { return path.Join(d.Temp, key) })
}

// traceParent is the variable by which the tools of a job join its trace, as
// the OpenTelemetry specification of environment variables as carriers names it.
const traceParent = "TRACEPARENT"

// joining are the variables of the phase in ctx's scope: what its script
// traces belongs below the phase. A TRACEPARENT that is not ours stays.
func (r *run) joining(ctx context.Context) job.Variables {
	if !r.scope.Trace.On() {
		return r.vars
	}
	ours := r.scope.Trace.Parentage()
	for i := len(r.vars) - 1; i >= 0; i-- {
		if r.vars[i].Key != traceParent {
			continue
		}
		if r.vars[i].Value != ours {
			break
		}
		vars := slices.Clone(r.vars)
		vars[i].Value = event.ScopeOf(ctx).Trace.Parentage()
		return vars
	}
	return r.vars
}

// placeOf reads the variables that say where the job lives, which there is
// no place yet to expand the others for.
func (b *Build) placeOf(t executor.Traits, slot, projectSlot int) (executor.Dirs, error) {
	vs := b.before()
	for _, v := range [][2]string{
		{"CI_BUILDS_DIR", b.buildsDir(t)}, {"CI_CONCURRENT_ID", strconv.Itoa(slot)}, {"CI_CONCURRENT_PROJECT_ID", strconv.Itoa(projectSlot)},
	} {
		vs = append(vs, job.Variable{Key: v[0], Value: v[1], Public: true, Internal: true})
	}
	return b.dirs(t, projectSlot, append(vs, b.spec.Variables...).Expanded(nil))
}

// duration reads a setting such as RUNNER_SCRIPT_TIMEOUT. What is wrong with
// it is noted for the log.
func (b *Build) duration(vars job.Variables, name string, def time.Duration) time.Duration {
	text := strings.TrimSpace(vars.Value(name))
	if text == "" {
		return def
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		b.note("Ignoring malformed %s timeout: %s", name, text)
	case d < 0:
		b.note("Ignoring relative %s timeout: %s", name, text)
	case d == 0:
	default:
		return d
	}
	return def
}

// attempts reads a setting such as GET_SOURCES_ATTEMPTS, from 1 to 10.
func (b *Build) attempts(vars job.Variables, name string) int {
	text := vars.Value(name)
	if text == "" {
		return 1
	}
	n, err := strconv.Atoi(text)
	if err == nil && n >= 1 && n <= 10 {
		return n
	}
	b.note("%s: want a number from 1 to 10, found %q", name, text)
	if err != nil {
		return 1
	}
	return min(max(n, 1), 10)
}

func (b *Build) note(format string, args ...any) {
	b.out.Warn(fmt.Sprintf(format, args...))
}
