package fakegitlab_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	fake "github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// runGit runs git in dir, without the user's configuration.
func runGit(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(soon(t), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0", "HOME="+dir)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func mustGit(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := runGit(t, dir, args...)
	if err != nil {
		t.Fatalf("git %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

func addProject(t *testing.T, s *fake.Server, spec fake.ProjectSpec) *fake.Project {
	t.Helper()
	p, err := s.AddProject(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestGitFetch(t *testing.T) {
	t.Parallel()
	for _, bySHA := range []bool{false, true} {
		s := start(t, fake.Options{PathPrefix: "/sub", PipelineRefBySHA: bySHA})
		c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
		p := addProject(t, s, fake.ProjectSpec{Path: "acme/tools/web", Commits: []fake.Commit{
			{Files: map[string]string{"README": "one\n"}},
			{Files: map[string]string{"run.sh": "#!/bin/sh\n"}, Executable: []string{"run.sh"}, Message: "second\n\nwith a body\n", Tag: "v1"},
			{Branch: "dev", Delete: []string{"README"}, Files: map[string]string{"deep/file": "x"}},
		}})
		if got, want := p.SHA("main"), p.SHA("v1"); got == "" || got != want || p.SHA("dev") == got {
			t.Errorf("main is %s, v1 is %s", got, want)
		}
		s.MustEnqueue(fake.Job{Project: p.Path, Depth: 1})
		j := c.job().ack()
		g := j.payload.GitInfo
		dir := t.TempDir()
		mustGit(t, dir, "init", "-q")
		mustGit(t, dir, append([]string{"fetch", "-q", "--depth", "1", g.RepoURL}, g.Refspecs...)...)
		mustGit(t, dir, "checkout", "-q", g.SHA)
		if info, err := os.Stat(filepath.Join(dir, "run.sh")); err != nil || info.Mode()&0o100 == 0 {
			t.Errorf("run.sh: %v", err)
		}
		vars := map[string]string{}
		for _, v := range j.payload.Variables {
			vars[v.Key] = v.Value
		}
		for key, want := range map[string]string{
			"CI_COMMIT_SHA": p.SHA("main"), "CI_PROJECT_PATH": "acme/tools/web", "CI_COMMIT_TITLE": "second", "CI_SERVER_URL": s.URL(),
			"CI_COMMIT_DESCRIPTION": "with a body", "CI_PROJECT_NAMESPACE": "acme/tools", "CI_COMMIT_BRANCH": "main", "GIT_STRATEGY": "",
		} {
			if vars[key] != want {
				t.Errorf("%s: got %q, want %q", key, vars[key], want)
			}
		}
		out, err := runGit(t, dir, "push", "-q", g.RepoURL, "HEAD:refs/heads/new")
		if err == nil {
			t.Errorf("push was allowed: %s", out)
		}
		want(t, "final", j.put("success", nil), 200, "success")
		if out, err := runGit(t, dir, "ls-remote", g.RepoURL); err == nil {
			t.Errorf("the token of a finished job still works: %s", out)
		}
		clean(t, s)
	}
}

func TestGitStableCommits(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Options{})
	commits := []fake.Commit{{Files: map[string]string{"a": "b"}}}
	a, b := addProject(t, s, fake.ProjectSpec{Path: "x/a", Commits: commits}), addProject(t, s, fake.ProjectSpec{Path: "x/b", Commits: commits})
	if a.SHA("") != b.SHA("main") {
		t.Errorf("got %s and %s", a.SHA(""), b.SHA("main"))
	}
	if err := a.AddCommits(context.Background(), fake.Commit{Files: map[string]string{"c": "d"}}); err != nil {
		t.Fatal(err)
	}
	long := addProject(t, s, fake.ProjectSpec{Path: "x/c", SHA256: true, Commits: commits})
	if a.SHA("") == b.SHA("") || len(long.SHA("")) != 64 {
		t.Errorf("got %s and %s", a.SHA(""), long.SHA(""))
	}
	if _, err := s.AddProject(context.Background(), fake.ProjectSpec{Path: "../x"}); err == nil {
		t.Error("a path outside was taken")
	}
}

func TestGitSubmoduleAndPush(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Options{})
	c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
	lib := addProject(t, s, fake.ProjectSpec{Path: "acme/lib", Commits: []fake.Commit{{Files: map[string]string{"lib.txt": "lib"}}}})
	p := addProject(t, s, fake.ProjectSpec{Path: "acme/app", AllowPush: true, Commits: []fake.Commit{{
		Files: map[string]string{"app.txt": "app"}, Submodules: map[string]fake.Submodule{"vendor/lib": {URL: "../lib.git", SHA: lib.SHA("")}},
	}}})
	s.MustEnqueue(fake.Job{Project: p.Path, Depth: -1})
	j := c.job().ack()
	dir := t.TempDir()
	mustGit(t, dir, "clone", "-q", "--recurse-submodules", j.payload.GitInfo.RepoURL, "work")
	if data, err := os.ReadFile(filepath.Join(dir, "work", "vendor", "lib", "lib.txt")); err != nil || string(data) != "lib" {
		t.Errorf("got %q %v", data, err)
	}
	mustGit(t, filepath.Join(dir, "work"), "push", "-q", "origin", "HEAD:refs/heads/new")
	clean(t, s)
}

func TestLFS(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Options{})
	c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
	p := addProject(t, s, fake.ProjectSpec{Path: "acme/big", AllowPush: true, Commits: []fake.Commit{{LFS: map[string]string{"big.bin": "large content"}}}})
	s.MustEnqueue(fake.Job{Project: p.Path})
	j := c.job().ack()
	dir := t.TempDir()
	mustGit(t, dir, "clone", "-q", j.payload.GitInfo.RepoURL, "work")
	pointer, err := os.ReadFile(filepath.Join(dir, "work", "big.bin"))
	sum := sha256.Sum256([]byte("large content"))
	oid := hex.EncodeToString(sum[:])
	if err != nil || !strings.Contains(string(pointer), "oid sha256:"+oid+"\nsize 13\n") {
		t.Fatalf("pointer: %q %v", pointer, err)
	}
	base := strings.Replace(j.payload.GitInfo.RepoURL, "http://gitlab-ci-token:"+j.payload.Token+"@", "http://", 1)
	base = strings.TrimPrefix(base, s.URL())
	if r := c.send(soon(t), "POST", base+"/info/lfs/objects/batch", nil, nil); r.status != 401 {
		t.Errorf("without authentication: %d", r.status)
	}
	c.header["Authorization"] = []string{basicAuth("gitlab-ci-token", j.payload.Token)}
	batch := func(operation string, oids ...string) []map[string]any {
		t.Helper()
		var objects []map[string]any
		for _, o := range oids {
			objects = append(objects, map[string]any{"oid": o, "size": 1})
		}
		r := c.sendJSON("POST", base+"/info/lfs/objects/batch", nil, map[string]any{"operation": operation, "objects": objects})
		want(t, "batch", r, 200, "")
		var out struct{ Objects []map[string]any }
		if err := json.Unmarshal(r.body, &out); err != nil {
			t.Fatal(err)
		}
		return out.Objects
	}
	missing := strings.Repeat("0", 64)
	got := batch("download", oid, missing, "../x")
	if got[0]["actions"] == nil || got[1]["error"] == nil || got[2]["error"] == nil {
		t.Fatalf("got %v", got)
	}
	href := got[0]["actions"].(map[string]any)["download"].(map[string]any)["href"].(string)
	if r := c.send(soon(t), "GET", strings.TrimPrefix(href, s.URL()), nil, nil); string(r.body) != "large content" {
		t.Errorf("download: %d %q", r.status, r.body)
	}
	sum = sha256.Sum256([]byte("new"))
	fresh := hex.EncodeToString(sum[:])
	if got := batch("upload", fresh, oid); got[0]["actions"] == nil || got[1]["actions"] != nil {
		t.Errorf("upload: %v", got)
	}
	if r := c.send(soon(t), "PUT", base+"/gitlab-lfs/objects/"+fresh, nil, []byte("other")); r.status != 422 {
		t.Errorf("wrong content: %d", r.status)
	}
	if r := c.send(soon(t), "PUT", base+"/gitlab-lfs/objects/"+fresh, nil, []byte("new")); r.status != 200 {
		t.Errorf("upload: %d", r.status)
	}
	if got := batch("download", fresh); got[0]["actions"] == nil {
		t.Errorf("uploaded object: %v", got)
	}
	clean(t, s)
}
