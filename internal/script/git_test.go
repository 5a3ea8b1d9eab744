package script_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/script"
)

// world is a home, a repository to get sources from, and a job that does.
type world struct {
	t     *testing.T
	shell string
	home  string
	dir   string // where the repositories are made
	bare  string
	j     *script.Job
	first string // the first commit
}

// weird is a name that breaks careless quoting and that git takes.
const weird = "feature/it's-$(id)-`x`-\"q\";&|ü"

func newWorld(t *testing.T, shell string, vs ...job.Variable) *world {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	w := &world{t: t, shell: shell, home: t.TempDir(), dir: t.TempDir()}
	w.bare = filepath.Join(w.dir, "origin.git")
	w.write(filepath.Join(w.home, ".gitconfig"), "[user]\n\tname = n\n\temail = e@example.com\n[protocol \"file\"]\n\tallow = always\n[init]\n\tdefaultBranch = main\n")
	if originals.dir == "" {
		w.original()
	} else if err := os.CopyFS(w.dir, os.DirFS(originals.dir)); err != nil {
		t.Fatal(err)
	}
	w.git(filepath.Join(w.dir, "origin"), "remote", "set-url", "origin", w.bare)
	w.first = originals.first
	w.j = here(t, shell, vs)
	w.j.Spec.Git = job.Git{RepoURL: job.Secret("file://" + w.bare), Refspecs: []string{"+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"}}
	w.head("main")
	return w
}

// originals are the repositories that every world starts with: to make them
// takes a dozen processes.
var originals struct{ dir, first string }

func (w *world) original() {
	w.t.Helper()
	w.repository("origin", map[string]string{"README": "one\n", ".gitignore": "ignored\n", "it's a file": "x\n"})
	first := w.git(w.bare, "rev-parse", "HEAD")
	w.commit("origin", "two", map[string]string{"README": "two\n"})
	w.commit("origin", "three", map[string]string{"README": "three\n"})
	dir, err := os.MkdirTemp("", "glassrunner-test-")
	if err == nil {
		err = os.CopyFS(dir, os.DirFS(w.dir))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	originals.dir, originals.first = dir, first
}

func TestMain(m *testing.M) {
	code := m.Run()
	if originals.dir != "" {
		_ = os.RemoveAll(originals.dir)
	}
	os.Exit(code)
}

// head makes the job about a branch's last commit.
func (w *world) head(branch string) {
	w.j.Spec.Git.Ref = branch
	w.j.Spec.Git.SHA = w.git(w.bare, "rev-parse", branch)
}

func (w *world) write(path, text string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) git(dir string, args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + w.home, "PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// repository makes a bare repository with one commit.
func (w *world) repository(name string, files map[string]string) string {
	w.t.Helper()
	bare, work := filepath.Join(w.dir, name+".git"), filepath.Join(w.dir, name)
	w.git(w.dir, "init", "-q", "--bare", bare)
	w.git(w.dir, "init", "-q", work)
	w.git(work, "remote", "add", "origin", bare)
	w.commit(name, "one", files)
	return bare
}

// commit adds a commit to main and pushes it.
func (w *world) commit(name, message string, files map[string]string) {
	w.t.Helper()
	work := filepath.Join(w.dir, name)
	for f, text := range files {
		w.write(filepath.Join(work, f), text)
	}
	w.git(work, "add", "-A")
	w.git(work, "commit", "-q", "-m", message)
	w.git(work, "push", "-q", "origin", "HEAD:main")
}

// sources runs get_sources and wants it to succeed.
func (w *world) sources() string {
	w.t.Helper()
	out, code := stage(w.t, w.shell, w.home, w.j, job.GetSources)
	if code != 0 {
		w.t.Fatalf("get_sources: code %d:\n%s", code, out)
	}
	return out
}

// read returns a file of the project, "" when there is none.
func (w *world) read(name string) string {
	text, _ := os.ReadFile(filepath.Join(w.j.Dirs.Project, name))
	return string(text)
}

func (w *world) want(out string, texts ...string) {
	w.t.Helper()
	for _, x := range texts {
		if !strings.Contains(out, x) {
			w.t.Errorf("%q is not in:\n%s", x, out)
		}
	}
}

// each runs a test with the shells that are named, of those installed.
func each(t *testing.T, want string, f func(t *testing.T, shell string)) {
	for _, shell := range shells(t) {
		if strings.Contains(want, shell) {
			t.Run(shell, func(t *testing.T) { f(t, shell) })
		}
	}
}

func TestFetch(t *testing.T) {
	each(t, "bash dash", func(t *testing.T, shell string) {
		w := newWorld(t, shell, vars("GIT_STRATEGY", "fetch")...)
		out := w.sources()
		w.want(out, "Fetching changes...", "Initialized empty Git repository in", "Created fresh repository.",
			fmt.Sprintf("Checking out %.8s as detached HEAD (ref is main)...", w.j.Spec.Git.SHA), "Skipping Git submodules setup")
		if strings.Contains(out, "hint:") {
			t.Errorf("git gives advice:\n%s", out)
		}
		if got := w.read("README"); got != "three\n" {
			t.Errorf("README is %q", got)
		}
		if got := w.git(w.j.Dirs.Project, "rev-list", "--count", "HEAD"); got != "3" {
			t.Errorf("%s commits, want the whole history", got)
		}
		// What the last job and a killed git left behind.
		w.write(w.j.Dirs.Project+"/README", "dirty")
		w.write(w.j.Dirs.Project+"/untracked/file", "x")
		w.write(w.j.Dirs.Project+"/ignored", "x")
		w.git(w.j.Dirs.Project, "add", "README")
		for _, lock := range []string{"index.lock", "shallow.lock", "HEAD.lock", "config.lock", "refs/heads/main.lock", "refs/remotes/origin/main.lock"} {
			w.write(w.j.Dirs.Project+"/.git/"+lock, "")
		}
		w.write(w.j.Dirs.Project+"/.git/hooks/post-checkout", "#!/bin/sh\ntouch '"+w.home+"/pwned'\n")
		if err := os.Chmod(w.j.Dirs.Project+"/.git/hooks/post-checkout", 0o755); err != nil {
			t.Fatal(err)
		}
		w.commit("origin", "four", map[string]string{"README": "four\n"})
		w.head("main")
		out = w.sources()
		if strings.Contains(out, "Created fresh repository") {
			t.Errorf("the repository was made again:\n%s", out)
		}
		if got := w.git(w.j.Dirs.Project, "status", "--porcelain", "--ignored"); got != "" || w.read("README") != "four\n" {
			t.Errorf("README is %q, status:\n%s", w.read("README"), got)
		}
		if _, err := os.Stat(w.home + "/pwned"); err == nil {
			t.Error("a hook that a job left ran")
		}
		if got := w.git(w.j.Dirs.Project, "config", "--get-all", "include.path"); got != w.j.Dirs.Temp+"/.gitlab-runner.ext.conf" {
			t.Errorf("include.path is %q", got)
		}
		// Another address, as after a project moved.
		moved := w.dir + "/moved.git"
		if err := os.Rename(w.bare, moved); err != nil {
			t.Fatal(err)
		}
		w.j.Spec.Git.RepoURL = job.Secret("file://" + moved)
		w.sources()
	})
}

func TestClone(t *testing.T) {
	each(t, "dash", func(t *testing.T, shell string) {
		w := newWorld(t, shell)
		w.write(w.j.Dirs.Project+"/old/file", "x")
		if err := os.Chmod(w.j.Dirs.Project+"/old", 0o500); err != nil {
			t.Fatal(err)
		}
		w.want(w.sources(), "Created fresh repository.")
		if _, err := os.Stat(w.j.Dirs.Project + "/old"); err == nil || w.read("it's a file") != "x\n" {
			t.Errorf("not a fresh clone: %v", err)
		}
		w.want(w.sources(), "Created fresh repository.")
	})
}

func TestNativeClone(t *testing.T) {
	each(t, "dash", func(t *testing.T, shell string) {
		w := newWorld(t, shell, vars("FF_USE_GIT_NATIVE_CLONE", "true")...)
		w.sources() // with an old git: as without the flag
		if w.read("README") != "three\n" {
			t.Errorf("README is %q", w.read("README"))
		}
		// A newer git's command line, with a git that says that it is newer.
		bin := t.TempDir()
		w.write(bin+"/git", "#!/bin/sh\nif [ \"$1\" = version ]; then echo git version 2.50.1; exit; fi\n"+
			"for a; do [ \"$a\" != clone ] || { printf 'CLONE'; printf ' <%s>' \"$@\"; echo; }; done\nPATH=${PATH#*:} exec git \"$@\"\n")
		if err := os.Chmod(bin+"/git", 0o755); err != nil {
			t.Fatal(err)
		}
		w.j.Variables = append(w.j.Variables, vars("PATH", bin+":"+os.Getenv("PATH"))...)
		out := w.sources()
		w.want(out, "Cloning repository for main...", "<clone> <--no-checkout> <file://"+w.bare+"> <"+w.j.Dirs.Project+">", "<--branch> <main>")
		if w.read("README") != "three\n" {
			t.Errorf("README is %q", w.read("README"))
		}
		if got := w.git(w.j.Dirs.Project, "config", "include.path"); got != w.j.Dirs.Temp+"/.gitlab-runner.ext.conf" {
			t.Errorf("include.path is %q", got)
		}
	})
}

func TestDepth(t *testing.T) {
	each(t, "dash", func(t *testing.T, shell string) {
		w := newWorld(t, shell, vars("GIT_STRATEGY", "fetch")...)
		count := func() string { return w.git(w.j.Dirs.Project, "rev-list", "--count", "HEAD") }
		w.j.Spec.Git.Depth = 1
		w.want(w.sources(), "Fetching changes with git depth set to 1...")
		if got := count(); got != "1" {
			t.Errorf("%s commits, want 1", got)
		}
		w.j.Spec.Git.Depth = 2
		w.sources()
		if got := count(); got != "2" {
			t.Errorf("%s commits, want 2", got)
		}
		w.j.Spec.Git.Depth = 0
		w.sources()
		if got := count(); got != "3" {
			t.Errorf("%s commits, want all", got)
		}
		if _, err := os.Stat(w.j.Dirs.Project + "/.git/shallow"); err == nil {
			t.Error("the repository is still shallow")
		}
	})
}

func TestRefs(t *testing.T) {
	each(t, "dash", func(t *testing.T, shell string) {
		w := newWorld(t, shell)
		work := filepath.Join(w.dir, "origin")
		w.git(work, "checkout", "-q", "-b", weird)
		w.write(work+"/README", "weird\n")
		w.git(work, "commit", "-q", "-am", "weird")
		w.git(work, "tag", "v1.0'$(id)", "main~1")
		w.git(work, "push", "-q", "origin", weird, "v1.0'$(id)")
		w.git(w.bare, "update-ref", "refs/pipelines/990", weird)
		w.head(weird)
		w.j.Spec.Git.Refspecs = []string{"+refs/pipelines/990:refs/pipelines/990", "+refs/heads/" + weird + ":refs/remotes/origin/" + weird}
		w.j.Spec.Git.Depth = 1
		w.want(w.sources(), "(ref is "+weird+")")
		if w.read("README") != "weird\n" {
			t.Errorf("README is %q", w.read("README"))
		}
		w.j.Spec.Git.Refspecs = []string{"+refs/tags/v1.0'$(id):refs/tags/v1.0'$(id)"}
		w.j.Spec.Git.Ref, w.j.Spec.Git.SHA = "v1.0'$(id)", w.git(w.bare, "rev-parse", "v1.0'$(id)")
		w.sources()
		if w.read("README") != "two\n" {
			t.Errorf("README is %q", w.read("README"))
		}
		// A commit that is not there fails, and says which.
		w.j.Spec.Git.SHA = strings.Repeat("0123456789", 4)
		out, code := stage(t, shell, w.home, w.j, job.GetSources)
		if code == 0 || !strings.Contains(out, w.j.Spec.Git.SHA) {
			t.Errorf("code %d:\n%s", code, out)
		}
	})
}

func TestCheckoutSettings(t *testing.T) {
	each(t, "dash", func(t *testing.T, shell string) {
		w := newWorld(t, shell, vars("GIT_STRATEGY", "fetch")...)
		w.sources()
		w.write(w.j.Dirs.Project+"/keep", "x")
		w.write(w.j.Dirs.Project+"/drop", "x")
		w.j.Variables = append(w.j.Variables, vars("GIT_CLEAN_FLAGS", "-ffd -e keep", "GIT_FETCH_EXTRA_FLAGS", "--verbose")...)
		w.want(w.sources(), "From file://")
		if w.read("keep") != "x" || w.read("drop") != "" {
			t.Errorf("keep is %q, drop is %q", w.read("keep"), w.read("drop"))
		}
		w.write(w.j.Dirs.Project+"/drop", "x")
		w.j.Variables = append(w.j.Variables, vars("GIT_CLEAN_FLAGS", "none")...)
		w.sources()
		if w.read("drop") != "x" {
			t.Error("cleaned without being asked to")
		}
		w.j.Variables = append(w.j.Variables, vars("GIT_CHECKOUT", "false")...)
		w.j.Spec.Git.SHA = w.first
		w.want(w.sources(), "Skipping Git checkout")
		if w.read("README") != "three\n" {
			t.Errorf("README is %q", w.read("README"))
		}
	})
}

func TestHooks(t *testing.T) {
	each(t, "bash dash", func(t *testing.T, shell string) {
		w := newWorld(t, shell)
		w.write(w.j.Dirs.Project+"/left", "x")
		w.j.Settings.PreGetSources = `echo "config pre"; test -f "$CI_PROJECT_DIR/left"`
		w.j.Settings.PostGetSources = "echo config post; cat README"
		w.j.Spec.Hooks = []job.Hook{
			{Name: "post_get_sources_script", Script: []string{"echo job post"}},
			{Name: "pre_get_sources_script", Script: []string{"echo job pre"}},
		}
		w.j.Variables = append(w.j.Variables, vars("CI_PROJECT_DIR", w.j.Dirs.Project)...)
		out := w.sources()
		last := 0
		for _, want := range []string{"\nconfig pre\n", "\njob pre\n", "Created fresh repository", "\njob post\n", "\nconfig post\nthree\n"} {
			i := strings.Index(out[last:], want)
			if i < 0 {
				t.Fatalf("%q is missing or not in order:\n%s", want, out)
			}
			last += i
		}
		w.j.Spec.Hooks[0].Script = []string{"exit 5"}
		w.write(w.j.Dirs.Project+"/left", "x")
		if out, code := stage(t, shell, w.home, w.j, job.GetSources); code != 5 {
			t.Errorf("a failing hook: code %d:\n%s", code, out)
		}
	})
}

func TestSubmodules(t *testing.T) {
	each(t, "dash", func(t *testing.T, shell string) {
		w := newWorld(t, shell, vars("GIT_STRATEGY", "fetch", "GIT_SUBMODULE_STRATEGY", "recursive", "GIT_SUBMODULE_DEPTH", "1")...)
		inner := w.repository("inner", map[string]string{"f": "inner\n"})
		outer := w.repository("outer", map[string]string{"f": "outer\n"})
		w.git(w.dir+"/outer", "submodule", "add", "-q", inner, "deep")
		w.commit("outer", "add", nil)
		w.git(w.dir+"/origin", "submodule", "add", "-q", outer, "sub mod's")
		w.git(w.dir+"/origin", "submodule", "add", "-q", inner, "second")
		w.commit("origin", "add", nil)
		w.head("main")
		w.want(w.sources(), "Updating/initializing submodules recursively with git depth set to 1...", "Updated submodules",
			"Configuring submodules to use parent git credentials...")
		if w.read("sub mod's/f") != "outer\n" || w.read("second/f") != "inner\n" || w.read("sub mod's/deep/f") != "inner\n" {
			t.Errorf("recursive: %q, %q, %q", w.read("sub mod's/f"), w.read("second/f"), w.read("sub mod's/deep/f"))
		}
		if got := w.git(w.j.Dirs.Project+"/sub mod's/deep", "config", "include.path"); got != w.j.Dirs.Temp+"/.gitlab-runner.ext.conf" {
			t.Errorf("include.path of a submodule is %q", got)
		}
		// Dirt and a lock in a submodule.
		w.write(w.j.Dirs.Project+"/second/f", "dirty")
		w.write(w.j.Dirs.Project+"/second/new", "x")
		w.write(w.j.Dirs.Project+"/.git/modules/second/index.lock", "")
		w.j.Variables = append(w.j.Variables, vars("GIT_SUBMODULE_STRATEGY", "normal", "GIT_SUBMODULE_PATHS", "second", "GIT_SUBMODULE_UPDATE_FLAGS", "--jobs 2")...)
		w.sources()
		if w.read("second/f") != "inner\n" || w.read("second/new") != "" {
			t.Errorf("second is dirty: %q %q", w.read("second/f"), w.read("second/new"))
		}
		// One that cannot be had; the other was not asked for.
		w.j.Variables = append(w.j.Variables, vars("GIT_STRATEGY", "clone")...)
		if err := os.RemoveAll(inner); err != nil {
			t.Fatal(err)
		}
		out, code := stage(t, shell, w.home, w.j, job.GetSources)
		if code == 0 {
			t.Errorf("a missing submodule is no failure:\n%s", out)
		}
		w.want(out, "Updating submodules failed. Retrying...")
		if w.read("sub mod's/f") != "" {
			t.Error("a submodule outside of GIT_SUBMODULE_PATHS was updated")
		}
	})
}

func TestClearWorktree(t *testing.T) {
	each(t, "dash", func(t *testing.T, shell string) {
		w := newWorld(t, shell)
		w.j.Dirs.Project = filepath.Join(w.dir, "origin", "inside") // of another repository
		w.write(w.j.Dirs.Project+"/f", "x")
		w.git(w.dir+"/origin", "add", "-A")
		if out, code := stage(t, shell, w.home, w.j, job.ClearWorktree); code != 0 || w.read("f") != "x" {
			t.Errorf("code %d, f is %q:\n%s", code, w.read("f"), out)
		}
		w = newWorld(t, shell)
		w.sources()
		w.write(w.j.Dirs.Project+"/new", "x")
		if out, code := stage(t, shell, w.home, w.j, job.ClearWorktree); code != 0 {
			t.Errorf("code %d:\n%s", code, out)
		}
		entries, err := os.ReadDir(w.j.Dirs.Project)
		if err != nil || len(entries) != 1 {
			t.Errorf("left are %v, %v, want .git", entries, err)
		}
		w.sources()
	})
}

func TestCleanup(t *testing.T) {
	each(t, "dash", func(t *testing.T, shell string) {
		w := newWorld(t, shell, vars("GIT_STRATEGY", "fetch", "FF_ENABLE_JOB_CLEANUP", "true")...)
		w.j.Variables = append(w.j.Variables, job.Variable{Key: "SECRET", Value: "x", File: true})
		w.j.Settings.CleanGitConfig = true
		w.sources()
		temp, err := os.ReadDir(w.j.Dirs.Temp)
		if err != nil || len(temp) != 4 {
			t.Errorf("%v, %v, want SECRET, env file, configuration, template", temp, err)
		}
		w.write(w.j.Dirs.Project+"/new", "x")
		w.write(w.j.Dirs.Project+"/README", "x")
		if out, code := stage(t, shell, w.home, w.j, job.Cleanup); code != 0 {
			t.Errorf("code %d:\n%s", code, out)
		}
		if w.read("new") != "" || w.read("README") != "three\n" || w.read(".git/config") != "" {
			t.Errorf("new is %q, README is %q, configuration is %q", w.read("new"), w.read("README"), w.read(".git/config"))
		}
		temp, err = os.ReadDir(w.j.Dirs.Temp)
		if err != nil || len(temp) != 1 {
			t.Errorf("%v, %v, want the template's directory only", temp, err)
		}
		w.sources() // also without a configuration
		w.j.Variables = append(w.j.Variables, vars("GIT_STRATEGY", "clone")...)
		if out, code := stage(t, shell, w.home, w.j, job.Cleanup); code != 0 {
			t.Errorf("code %d:\n%s", code, out)
		}
		if _, err := os.Stat(w.j.Dirs.Project); err == nil {
			t.Error("the project is still there")
		}
	})
}

func TestRelativeDirectories(t *testing.T) {
	each(t, "dash", func(t *testing.T, shell string) {
		w := newWorld(t, shell)
		w.j.Dirs = script.Dirs{Builds: "builds", Project: "builds/a b/p", Temp: "builds/a b/p.tmp", Cache: "cache"}
		w.j.Variables = append(w.j.Variables, job.Variable{Key: "CI_PROJECT_DIR", Value: "builds/a b/p", Internal: true},
			job.Variable{Key: "F", Value: "text", File: true})
		w.j.Settings.PostGetSources = `echo "$CI_PROJECT_DIR"; cd /; cat "$F"`
		w.want(w.sources(), "\n"+w.home+"/builds/a b/p\ntext")
		project := w.home + "/builds/a b/p"
		if got := w.git(project, "config", "include.path"); got != project+".tmp/.gitlab-runner.ext.conf" {
			t.Errorf("include.path is %q", got)
		}
	})
}

// What git makes of the configuration that holds the credentials.
func TestRewrites(t *testing.T) {
	w := newWorld(t, shells(t)[0])
	const token = `tok'en"\`
	j := sample("bash", vars("GIT_SUBMODULE_FORCE_HTTPS", "true", "CI_SERVER_HOST", "gitlab.example.com"))
	j.Spec.Token = token
	j.Spec.Git.RepoURL = "https://gitlab-ci-token:tok%27en%22%5C@gitlab.example.com/group/project.git"
	config := func(name string) string {
		s, err := script.Stage(j, job.GetSources)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range s.Ops {
			if strings.HasSuffix(o.Path, "/"+name) && o.Kind == script.OpWrite {
				file := filepath.Join(t.TempDir(), "config")
				w.write(file, string(o.Data))
				return file
			}
		}
		t.Fatalf("%s is not written", name)
		return ""
	}
	// No address gets a token: git gives addresses to other programs as
	// arguments, which everybody can see.
	ext := config(".gitlab-runner.ext.conf")
	for url, want := range map[string]string{
		"https://gitlab.example.com/group/project.git":      "https://gitlab.example.com/group/project.git",
		"https://gitlab.example.com/other.git":              "https://gitlab.example.com/other.git",
		"git@gitlab.example.com:other.git":                  "https://gitlab.example.com/other.git",
		"ssh://git@gitlab.example.com/other.git":            "https://gitlab.example.com/other.git",
		"ssh://git@gitlab.example.com:22/other.git":         "https://gitlab.example.com/other.git",
		"https://gitlab.example.com.evil.example/other.git": "https://gitlab.example.com.evil.example/other.git",
		"https://gitlab.example.com:8443/other.git":         "https://gitlab.example.com:8443/other.git",
		"ssh://git@gitlab.example.com.evil.example/x":       "ssh://git@gitlab.example.com.evil.example/x",
		"https://example.com/other.git":                     "https://example.com/other.git",
	} {
		if got := w.git(w.home, "-c", "include.path="+ext, "ls-remote", "--get-url", url); got != want {
			t.Errorf("%s: got %s, want %s", url, got, want)
		}
	}
	filled := "protocol=https\nhost=gitlab.example.com\nusername=gitlab-ci-token\npassword=" + token
	w.asked(t, ext, map[string]string{"gitlab.example.com": filled, "gitlab.example.com:8443": "", "example.com": ""})
	// A job that has the token in its environment has it in no file.
	j.Variables = append(j.Variables, job.Variable{Key: "CI_JOB_TOKEN", Value: token, Masked: true})
	ext = config(".gitlab-runner.ext.conf")
	if text, err := os.ReadFile(ext); err != nil || strings.Contains(string(text), "tok'") {
		t.Errorf("the token is in the file: %v\n%s", err, text)
	}
	w.asked(t, ext, map[string]string{"gitlab.example.com": filled, "example.com": ""}, "CI_JOB_TOKEN="+token)
}

// asked asks git for the credentials of hosts.
func (w *world) asked(t *testing.T, ext string, hosts map[string]string, environ ...string) {
	t.Helper()
	for host, want := range hosts {
		cmd := exec.CommandContext(t.Context(), "git", "-c", "include.path="+ext, "credential", "fill")
		cmd.Env = append([]string{"HOME=" + w.home, "PATH=" + os.Getenv("PATH"), "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=false"}, environ...)
		cmd.Stdin = strings.NewReader("protocol=https\nhost=" + host + "\n\n")
		out, _ := cmd.Output()
		if got := strings.TrimSpace(string(out)); got != want {
			t.Errorf("%s: got %q, want %q", host, got, want)
		}
	}
}

func TestCloneURL(t *testing.T) {
	for _, tt := range []struct{ clone, want string }{
		{"", "https://gitlab.example.com/group/project.git"},
		{"https://mirror.example.com:8443/sub/", "https://mirror.example.com:8443/sub/group/project.git"},
		{"ssh://ssh.example.com", "ssh://git@ssh.example.com/group/project.git"},
		{"ssh://me:pass@ssh.example.com", "ssh://me@ssh.example.com/group/project.git"},
		{"mirror.example.com", "https://gitlab.example.com/group/project.git"},
	} {
		j := sample("bash", nil)
		j.Settings.CloneURL = tt.clone
		s, err := script.Stage(j, job.GetSources)
		if err != nil {
			t.Fatal(err)
		}
		if want := "git remote add origin '" + tt.want + "' "; !strings.Contains(string(s.Text), want) {
			t.Errorf("%q: %q is not in:\n%s", tt.clone, want, s.Text)
		}
	}
}

func TestCorrelationID(t *testing.T) {
	for id, sent := range map[string]bool{"01JABC-x_y": true, "a\nb": false, "a b": false, strings.Repeat("a", 300): false, "": false} {
		j := sample("bash", vars("FF_USE_GITALY_CORRELATION_ID", "true"))
		j.Spec.CorrelationID = id
		s, err := script.Stage(j, job.GetSources)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(show(s), "X-Gitaly-Correlation-ID"); got != sent {
			t.Errorf("%.20q: sent is %t, want %t", id, got, sent)
		}
	}
}

func TestStrategy(t *testing.T) {
	for _, tt := range []struct {
		value string
		fetch bool
		want  script.Strategy
		ok    bool
	}{
		{"", false, script.Clone, true}, {"", true, script.Fetch, true}, {"clone", true, script.Clone, true}, {"fetch", false, script.Fetch, true},
		{"none", false, script.None, true}, {"empty", false, script.Empty, true}, {"Fetch", true, script.Fetch, false}, {"x", false, script.Clone, false},
	} {
		j := sample("bash", vars("GIT_STRATEGY", tt.value))
		j.Spec.AllowGitFetch = tt.fetch
		got, ok := j.Strategy()
		if diff := cmp.Diff([]any{tt.want, tt.ok}, []any{got, ok}); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tt, diff)
		}
	}
}
