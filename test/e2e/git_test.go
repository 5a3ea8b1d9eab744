//go:build linux

package e2e_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// project adds a repository of one commit.
func project(t *testing.T, w *world, path string, files map[string]string) *fakegitlab.Project {
	t.Helper()
	p, err := w.server.AddProject(w.ctx, fakegitlab.ProjectSpec{Path: path, Commits: []fakegitlab.Commit{{Files: files}}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// commit adds one to a project.
func commit(t *testing.T, w *world, p *fakegitlab.Project, c fakegitlab.Commit) {
	t.Helper()
	if err := p.AddCommits(w.ctx, c); err != nil {
		t.Fatal(err)
	}
}

// TestGitStrategies runs real git over HTTP.
func TestGitStrategies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{Concurrent: 1})
	w.start(w.config("concurrent = 1"))
	repo := project(t, w, "acme/app", map[string]string{"a.txt": "first\n", ".gitignore": "ignored\n"})
	show := []string{"cat a.txt", "git rev-list --count HEAD", "git status --porcelain --ignored", "ls"}

	s := w.run(fakegitlab.Job{Project: "acme/app", Script: append(show, "echo x > left; echo x > ignored")})
	want(t, s, "success")
	has(t, text(s.Trace), "Fetching changes with git depth set to 20...", "Created fresh repository.",
		"Checking out "+repo.SHA("main")[:8]+" as detached HEAD (ref is main)...", "Skipping Git submodules setup", "$ cat a.txt", "first", "\n1\n")

	commit(t, w, repo, fakegitlab.Commit{Files: map[string]string{"a.txt": "second\n"}})
	s = w.run(fakegitlab.Job{Project: "acme/app", Script: show})
	want(t, s, "success")
	has(t, text(s.Trace), "Fetching changes", "second", "\n2\n")
	hasNot(t, text(s.Trace), "Created fresh repository.", "\nleft\n", "\nignored\n", "!! ignored")

	s = w.run(fakegitlab.Job{Project: "acme/app", Depth: 1, Clone: true, Script: show})
	want(t, s, "success")
	has(t, text(s.Trace), "git depth set to 1", "Created fresh repository.", "second", "\n1\n")

	s = w.run(fakegitlab.Job{Project: "acme/app", Depth: -1, Script: show})
	want(t, s, "success")
	has(t, text(s.Trace), "Fetching changes...", "second", "\n2\n")

	s = w.run(fakegitlab.Job{Project: "acme/app", Script: []string{"cat a.txt", "echo changed > a.txt"}, Variables: public("GIT_STRATEGY", "none")})
	want(t, s, "success")
	has(t, text(s.Trace), "Skipping Git repository setup", "Skipping Git checkout", "second")

	s = w.run(fakegitlab.Job{Project: "acme/app", Script: show, Variables: public("GIT_CHECKOUT", "false")})
	want(t, s, "success")
	has(t, text(s.Trace), "Skipping Git checkout", "changed")

	s = w.run(fakegitlab.Job{Project: "acme/app", Script: []string{"ls -a | wc -l"}, Variables: public("GIT_STRATEGY", "empty")})
	want(t, s, "success")
	has(t, text(s.Trace), "creating an empty build directory", "\n2\n")

	// What a killed git leaves behind does not stop the next one.
	s = w.run(fakegitlab.Job{Project: "acme/app", Script: []string{
		"touch .git/index.lock .git/shallow.lock .git/HEAD.lock .git/config.lock .git/refs/heads/x.lock", "mkdir -p .git/hooks; printf '#!/bin/sh\\nexit 1\\n' > .git/hooks/post-checkout; chmod +x .git/hooks/post-checkout",
	}})
	want(t, s, "success")
	want(t, w.run(fakegitlab.Job{Project: "acme/app", Script: show}), "success")

	s = w.run(fakegitlab.Job{Project: "acme/app", Script: []string{"true"}, Variables: public("GIT_STRATEGY", "sideways")})
	want(t, s, "success")
	has(t, text(s.Trace), "WARNING", "GIT_STRATEGY")
	s = w.run(fakegitlab.Job{Project: "acme/app", Script: []string{"true"}, Variables: public("GIT_SUBMODULE_STRATEGY", "sideways")})
	want(t, s, "failed runner_configuration_error")
	has(t, text(s.Trace), "unknown GIT_SUBMODULE_STRATEGY")
}

// TestGitCredentials looks for the job token where it must not be: on disk
// outside the temporary directory of the job while it runs, anywhere after the
// job, on the command line of any process, and in the log.
func TestGitCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	w.start(w.config(""))
	project(t, w, "acme/secretive", map[string]string{"a": "a\n"})
	watch := filepath.Join(w.dir, "argv")
	// A git in front of the real one notes how it is called.
	bin := filepath.Join(w.dir, "bin")
	real, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	wrapper := "#!/bin/sh\nprintf '%s\\n' \"$*\" >> " + watch + "\nexec " + real + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "git"), []byte(wrapper), 0o700); err != nil {
		t.Fatal(err)
	}
	w.write(w.config("", entry{Extra: `  environment = ["PATH=` + bin + ":" + os.Getenv("PATH") + `"]`}))
	p := w.procs[0]
	p.waitValue(2, "gitlab_runner_configuration_loaded_total")

	s := w.run(fakegitlab.Job{Project: "acme/secretive", Script: []string{
		"git remote -v", "cat .git/config", `git ls-remote origin | head -1`,
		`if grep -rqF "$CI_JOB_TOKEN" .; then echo "token is"" here"; fi`,
	}, AfterScript: []string{"git fetch -q origin && echo fetched again"}})
	want(t, s, "success")
	has(t, text(s.Trace), "origin\t"+w.server.URL()+"/acme/secretive.git", "url = "+w.server.URL()+"/acme/secretive.git", "\nfetched again\n")
	hasNot(t, text(s.Trace), "token is here", "gitlab-ci-token:", s.Token)
	argv, err := os.ReadFile(watch)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(argv, []byte("fetch")) {
		t.Errorf("the watch on git saw no fetch:\n%s", argv)
	}
	if bytes.Contains(argv, []byte(s.Token)) {
		t.Errorf("the job token is on git's command line:\n%s", argv)
	}
	noSecretOnDisk(t, w, s.Token)
}

// noSecretOnDisk searches all that the runner and its jobs left.
func noSecretOnDisk(t *testing.T, w *world, secret string) {
	t.Helper()
	// While a job runs its token is in the state directory.
	w.eventually("an empty state directory", func() bool { return len(w.stateLeft()) == 0 })
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || path == w.path {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(secret)) {
			t.Errorf("the secret is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestGitSubmodules fetches submodules, which only the job token gives access to.
func TestGitSubmodules(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	w.start(w.config(""))
	deep := project(t, w, "acme/deep", map[string]string{"deep.txt": "deep\n"})
	lib := project(t, w, "acme/lib", map[string]string{"lib.txt": "lib\n"})
	commit(t, w, lib, fakegitlab.Commit{Submodules: map[string]fakegitlab.Submodule{"inner": {URL: "../deep.git", SHA: deep.SHA("main")}}})
	app := project(t, w, "acme/app", map[string]string{"a": "a\n"})
	commit(t, w, app, fakegitlab.Commit{Submodules: map[string]fakegitlab.Submodule{
		"mod/one": {URL: "../lib.git", SHA: lib.SHA("main")}, "mod/two": {URL: w.server.URL() + "/acme/deep.git", SHA: deep.SHA("main")},
	}})
	show := []string{"for f in mod/one/lib.txt mod/two/deep.txt mod/one/inner/deep.txt; do test -e $f && echo has $f || echo lacks $f; done"}
	for _, tt := range []struct {
		name string
		vars []string
		has  []string
	}{
		{"recursive", []string{"GIT_SUBMODULE_STRATEGY", "recursive", "GIT_SUBMODULE_DEPTH", "1"}, []string{"recursively with git depth set to 1", "has mod/one/lib.txt", "has mod/two/deep.txt", "has mod/one/inner/deep.txt"}},
		{"paths", []string{"GIT_SUBMODULE_STRATEGY", "normal", "GIT_SUBMODULE_PATHS", "mod/two"}, []string{"Updating/initializing submodules", "Updated submodules", "lacks mod/one/lib.txt", "has mod/two/deep.txt"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := wait(t, w, enqueue(t, w, fakegitlab.Job{Project: "acme/app", Clone: true, Script: show, Variables: public(tt.vars...)}))
			want(t, s, "success")
			has(t, text(s.Trace), tt.has...)
			hasNot(t, text(s.Trace), s.Token)
			noSecretOnDisk(t, w, s.Token)
		})
	}
}

// TestGitOddRefs checks out branches whose names mean something to shells and
// to git's command line.
func TestGitOddRefs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	w.start(w.config(""))
	repo := project(t, w, "acme/app", map[string]string{"a.txt": "here\n"})
	for _, ref := range []string{"we$ird`id`'\"&|;\u00fc#(x)", "$(touch${IFS}pwned)", "-x", "HEAD", "@"} {
		commit(t, w, repo, fakegitlab.Commit{Branch: ref, Files: map[string]string{"b.txt": "of " + ref}})
		for _, clone := range []bool{false, true} {
			s := w.run(fakegitlab.Job{
				Project: "acme/app", Ref: ref, Clone: clone, Script: []string{`cat b.txt; echo; echo "ref $REF"; ls`},
				Variables: []fakegitlab.Variable{{Key: "REF", Value: ref, Raw: true}},
			})
			want(t, s, "success")
			has(t, text(s.Trace), "(ref is "+ref+")", "\nof "+ref+"\nref "+ref+"\n")
			hasNot(t, text(s.Trace), "\npwned\n", "uid=")
		}
	}
}

// TestGitLFS needs git-lfs.
func TestGitLFS(t *testing.T) {
	t.Parallel()
	needs(t, "git-lfs")
	w := newWorld(t, fakegitlab.Options{})
	w.start(w.config(""))
	p := project(t, w, "acme/big", map[string]string{".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n"})
	big := strings.Repeat("large file\n", 1000)
	commit(t, w, p, fakegitlab.Commit{LFS: map[string]string{"data.bin": big}})
	s := w.run(fakegitlab.Job{Project: "acme/big", Script: []string{"wc -c < data.bin"}})
	want(t, s, "success")
	has(t, text(s.Trace), "$ wc -c", "\n11000\n")
	s = w.run(fakegitlab.Job{Project: "acme/big", Clone: true, Script: []string{"head -c 7 data.bin; echo ."}, Variables: public("GIT_LFS_SKIP_SMUDGE", "true")})
	want(t, s, "success")
	has(t, text(s.Trace), "\nversion.\n")
}

// needs skips a test whose program is not installed; in CI that is a failure.
func needs(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") != "":
		t.Fatalf("%s is not installed, and this is CI", program)
	default:
		t.Skipf("NOT TESTED: %s is not installed", program)
	}
	return ""
}

// TestGitClonePath lets a job choose its directory, within limits.
func TestGitClonePath(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	project(t, w, "acme/app", map[string]string{"a.txt": "here\n"})
	w.start(w.config("", entry{Extra: "  [runners.custom_build_dir]\n    enabled = true\n"}))
	s := w.run(fakegitlab.Job{Project: "acme/app", Script: []string{"pwd", "cat a.txt"}, Variables: public("GIT_CLONE_PATH", "$CI_BUILDS_DIR/mine/$CI_CONCURRENT_ID")})
	want(t, s, "success")
	has(t, text(s.Trace), "\n"+filepath.Join(w.dir, "builds", "mine", "0")+"\n", "here")
	for _, path := range []string{"/tmp/elsewhere", "$CI_BUILDS_DIR/../elsewhere", "$CI_BUILDS_DIR-elsewhere"} {
		s = w.run(fakegitlab.Job{Project: "acme/app", Script: []string{"pwd"}, Variables: public("GIT_CLONE_PATH", path)})
		want(t, s, "failed runner_configuration_error")
		has(t, text(s.Trace), "has to be within")
	}
}

// TestGitAttempts fails the first fetch and lets the second succeed.
func TestGitAttempts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	project(t, w, "acme/app", map[string]string{"a.txt": "here\n"})
	w.start(w.config("", entry{}))
	fast := []string{"FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY", "false"}
	w.server.AddFault(fakegitlab.Fault{Endpoint: fakegitlab.Git, Status: 500, Count: 1})
	s := w.run(fakegitlab.Job{Project: "acme/app", Script: []string{"cat a.txt"}, Variables: public(append(fast, "GET_SOURCES_ATTEMPTS", "3")...)})
	want(t, s, "success")
	has(t, text(s.Trace), "500", "Retrying...", "here", "Job succeeded")
	w.server.ClearFaults()
	w.server.AddFault(fakegitlab.Fault{Endpoint: fakegitlab.Git, Status: 500})
	s = w.run(fakegitlab.Job{Project: "acme/app", Script: []string{"cat a.txt"}, AfterScript: []string{"echo after"}, Variables: public(fast...)})
	want(t, s, "failed script_failure 128")
	hasNot(t, text(s.Trace), "Retrying...", "step_script", "\nafter\n", s.Token)
}
