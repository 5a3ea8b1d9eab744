package script_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/script"
)

var update = flag.Bool("update", false, "write the golden files")

const (
	token = "TOKEN-0123456789" // of the job
	sha   = "8f1c1c9f0e6d7a5b4c3d2e1f0a9b8c7d6e5f4a3b"
)

// vars makes variables of pairs.
func vars(pairs ...string) (vs job.Variables) {
	for i := 0; i < len(pairs); i += 2 {
		vs = append(vs, job.Variable{Key: pairs[i], Value: pairs[i+1], Public: true})
	}
	return vs
}

// sample is a job as a coordinator would send it, on a shared machine.
func sample(shell string, vs job.Variables) *script.Job {
	return &script.Job{
		Spec: &job.Spec{
			ID: 42, Token: token, CorrelationID: "01JABC",
			Git: job.Git{
				RepoURL: "https://gitlab-ci-token:" + token + "@gitlab.example.com/group/project.git",
				SHA:     sha, Ref: "main", Depth: 20,
				Refspecs: []string{"+refs/pipelines/990:refs/pipelines/990", "+refs/heads/main:refs/remotes/origin/main"},
			},
			Steps: []job.Step{
				{Name: "script", Script: []string{"echo one", " echo 'two'  ", "", "if true; then\n  echo three\nfi", `echo back\`}},
				{Name: "after_script", Script: []string{"echo after"}},
				{Name: "release", Script: []string{"release-cli create --name $NAME"}},
			},
			Features: job.Features{TraceSections: true},
		},
		Variables: append(job.Variables{
			{Key: "CI_PROJECT_DIR", Value: "/builds/group/project", Internal: true},
			{Key: "NAME", Value: "it's a $name\nwith \"quotes\"", Masked: true},
			{Key: "KUBECONFIG", Value: "secret: 1\n", File: true},
			{Key: "CI_PROJECT_PATH", Value: "group/project"},
		}, vs...),
		Dirs:  script.Dirs{Builds: "/builds", Project: "/builds/group/project", Temp: "/builds/group/project.tmp", Cache: "/cache/group/project"},
		Shell: shell,
		Settings: script.Settings{
			URL: "https://gitlab.example.com/", UserAgent: "glassrunner 1.0.0 linux/amd64", SharedEnv: true,
		},
	}
}

// show writes a script for people to read.
func show(s script.Script) string {
	var b strings.Builder
	if s.Skip {
		b.WriteString("skip\n")
	}
	for _, n := range s.Notices {
		fmt.Fprintf(&b, "notice %q\n", n)
	}
	for _, o := range s.Ops {
		name := [...]string{"mkdir", "write", "touch", "remove", "sweep"}[o.Kind]
		fmt.Fprintf(&b, "%s %s", name, o.Path)
		if o.Mode != 0 {
			fmt.Fprintf(&b, " %v", o.Mode)
		}
		for _, n := range o.Names {
			fmt.Fprintf(&b, " %s", n)
		}
		b.WriteByte('\n')
		for line := range strings.Lines(string(o.Data)) {
			fmt.Fprintf(&b, "    %s", strings.TrimSuffix(line, "\n")+"\n")
		}
	}
	if len(s.Text) > 0 {
		b.WriteString("text\n" + strings.ReplaceAll(string(s.Text), "\x1b", "␛"))
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	tests := []struct {
		name   string
		phase  job.Phase
		shells string
		vars   job.Variables
		change func(*script.Job)
	}{
		{name: "prepare", phase: job.PrepareScript},
		{name: "fetch", phase: job.GetSources, shells: "bash pwsh", vars: vars("GIT_STRATEGY", "fetch")},
		{name: "clone", phase: job.GetSources},
		{name: "clone-full", phase: job.GetSources, vars: vars("FF_USE_GIT_NATIVE_CLONE", "true", "FF_USE_GIT_PROACTIVE_AUTH", "true",
			"FF_GIT_URLS_WITHOUT_TOKENS", "true", "FF_USE_GITALY_CORRELATION_ID", "true", "FF_USE_GIT_BUNDLE_URIS", "true"),
			change: func(j *script.Job) {
				j.Spec.Git.Depth = 0
				j.Spec.Git.Ref = "refs/merge-requests/7/head"
				j.Spec.Git.ObjectFormat = "sha256"
				j.Spec.Hooks = []job.Hook{{Name: "pre_get_sources_script", Script: []string{"echo job pre"}}, {Name: "post_get_sources_script", Script: []string{"echo job post"}}}
				j.Settings.PreGetSources, j.Settings.PostGetSources = "echo pre", "echo post"
				j.Settings.SafeDirectory, j.Settings.CleanGitConfig = true, true
				j.Settings.SharedEnv = false
				j.Variables = append(j.Variables, job.Variable{Key: "CI_SERVER_TLS_CA_FILE", Value: "PEM", File: true})
			}},
		{name: "submodules", phase: job.GetSources, shells: "bash pwsh", vars: vars("GIT_SUBMODULE_STRATEGY", "recursive", "GIT_SUBMODULE_DEPTH", "3",
			"GIT_SUBMODULE_PATHS", "lib :(exclude)vendor", "GIT_SUBMODULE_UPDATE_FLAGS", "--remote --jobs 4", "GIT_SUBMODULE_FORCE_HTTPS", "1",
			"CI_SERVER_SHELL_SSH_HOST", "ssh.example.com", "CI_SERVER_SHELL_SSH_PORT", "2222", "GIT_CHECKOUT", "false")},
		{name: "none", phase: job.GetSources, vars: vars("GIT_STRATEGY", "none", "bad-key", "x", "GIT_CHECKOUT", "perhaps")},
		{name: "empty", phase: job.GetSources, vars: vars("GIT_STRATEGY", "empty")},
		{name: "strategy-unknown", phase: job.GetSources, vars: vars("GIT_STRATEGY", "cl\x1b[0mone", "GIT_CHECKOUT", "perhaps", "GIT_LFS_SKIP_SMUDGE", "true", "GIT_CLEAN_FLAGS", "none")},
		{name: "relative", phase: job.GetSources, shells: "sh pwsh", change: func(j *script.Job) {
			j.Dirs = script.Dirs{Builds: "builds", Project: "builds/p", Temp: "builds/p.tmp", Cache: "cache/p"}
			j.Variables[0].Value = "builds/p"
		}},
		{name: "clear", phase: job.ClearWorktree, shells: "bash pwsh"},
		{name: "step", phase: "step_script", shells: "bash pwsh", change: func(j *script.Job) {
			j.Settings.PreBuild, j.Settings.PostBuild = "echo before", "echo\necho behind"
		}},
		{name: "step-sections", phase: "step_script", shells: "bash sh pwsh", vars: vars("FF_SCRIPT_SECTIONS", "true", "FF_ENABLE_BASH_EXIT_CODE_CHECK", "true", "CI_DEBUG_TRACE", "true")},
		{name: "release", phase: "step_release"},
		{name: "after", phase: job.AfterScript},
		{name: "cleanup", phase: job.Cleanup, shells: "bash pwsh", vars: vars("FF_ENABLE_JOB_CLEANUP", "true", "GIT_STRATEGY", "fetch", "GIT_SUBMODULE_STRATEGY", "normal"),
			change: func(j *script.Job) { j.Settings.CleanGitConfig, j.Settings.SharedEnv = true, false }},
		{name: "cleanup-none", phase: job.Cleanup, vars: vars("FF_ENABLE_JOB_CLEANUP", "true", "GIT_STRATEGY", "none")},
	}
	for _, tt := range tests {
		if tt.shells == "" {
			tt.shells = "bash"
		}
		for shell := range strings.FieldsSeq(tt.shells) {
			t.Run(tt.name+"-"+shell, func(t *testing.T) {
				j := sample(shell, tt.vars)
				if tt.change != nil {
					tt.change(j)
				}
				s, err := script.Stage(j, tt.phase)
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(s.Text), token) {
					t.Error("the job's token is in the text")
				}
				file := filepath.Join("testdata", tt.name+"."+shell)
				got := show(s)
				if *update {
					if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", file, diff)
				}
			})
		}
	}
}

func TestSkips(t *testing.T) {
	j := sample("bash", nil)
	j.Spec.Steps = []job.Step{{Name: "Build"}, {Name: "after_script", Script: []string{" ", ""}}}
	asked := sample("bash", nil)
	asked.Spec.Caches = []job.Cache{{Key: "k", Paths: []string{"x"}, When: "on_failure"}, {Key: "empty", When: "always"}}
	asked.Spec.Artifacts = []job.Artifact{{Paths: []string{"x"}}, {When: "on_failure"}}
	asked.Spec.Dependencies = []job.Dependency{{ID: 1, Name: "a"}, {ID: 2, Name: "b", Filename: "artifacts.zip"}}
	const notice = "is not supported by this executor."
	for _, tt := range []struct {
		j      *script.Job
		phase  job.Phase
		skip   bool
		notice string
	}{
		{j, "step_build", true, ""},
		{j, "step_script", true, ""},
		{j, job.AfterScript, true, ""},
		{j, job.RestoreCache, true, ""},
		{j, job.DownloadArtifacts, true, ""},
		{j, job.ArchiveCache, true, ""},
		{j, job.ArchiveCacheFailed, true, ""},
		{j, job.UploadArtifacts, true, ""},
		{j, job.UploadArtifactsF, true, ""},
		{j, job.PrepareScript, false, ""},
		{asked, job.RestoreCache, false, "Extracting cache " + notice},
		{asked, job.DownloadArtifacts, false, "Artifacts downloading " + notice},
		{asked, job.ArchiveCache, true, ""},
		{asked, job.ArchiveCacheFailed, false, "Creating cache " + notice},
		{asked, job.UploadArtifacts, false, "Uploading artifacts " + notice},
		{asked, job.UploadArtifactsF, true, ""},
	} {
		s, err := script.Stage(tt.j, tt.phase)
		if err != nil || s.Skip != tt.skip || !strings.Contains(strings.Join(s.Notices, ""), tt.notice) || len(s.Text) > 0 {
			t.Errorf("%s: %+v, %v, want skip %t and %q", tt.phase, s, err, tt.skip, tt.notice)
		}
	}
	if _, err := script.Stage(j, "no_such_phase"); err == nil {
		t.Error("a phase that does not exist was taken")
	}
}

func TestRefusals(t *testing.T) {
	for name, change := range map[string]func(*script.Job){
		"option for a refspec":  func(j *script.Job) { j.Spec.Git.Refspecs = []string{"--upload-pack=touch /tmp/x"} },
		"empty refspec":         func(j *script.Job) { j.Spec.Git.Refspecs = []string{""} },
		"option for a commit":   func(j *script.Job) { j.Spec.Git.SHA = "--orphan" },
		"object format":         func(j *script.Job) { j.Spec.Git.ObjectFormat = "sha1 --bare" },
		"negative depth":        func(j *script.Job) { j.Spec.Git.Depth = -1 },
		"no address":            func(j *script.Job) { j.Spec.Git.RepoURL = "" },
		"option for an address": func(j *script.Job) { j.Spec.Git.RepoURL = "-u" },
		"broken address":        func(j *script.Job) { j.Spec.Git.RepoURL = "https://u:" + token + "@h:port/%zz" },
		"submodule strategy":    func(j *script.Job) { j.Variables = append(j.Variables, vars("GIT_SUBMODULE_STRATEGY", "some")...) },
		"bare exclude": func(j *script.Job) {
			j.Variables = append(j.Variables, vars("GIT_SUBMODULE_STRATEGY", "normal", "GIT_SUBMODULE_PATHS", "a :(exclude)")...)
		},
		"submodule depth": func(j *script.Job) {
			j.Variables = append(j.Variables, vars("GIT_SUBMODULE_STRATEGY", "normal", "GIT_SUBMODULE_DEPTH", "x")...)
		},
		"line break in refspec":  func(j *script.Job) { j.Spec.Git.Refspecs = []string{"a\nb"} },
		"line break in address":  func(j *script.Job) { j.Spec.Git.RepoURL = "https://h/\n" },
		"NUL in commit":          func(j *script.Job) { j.Spec.Git.SHA = "a\x00b" },
		"control byte in format": func(j *script.Job) { j.Spec.Git.ObjectFormat = "sha\n1" },
	} {
		j := sample("bash", nil)
		change(j)
		s, err := script.Stage(j, job.GetSources)
		if err == nil {
			t.Errorf("%s: got %q, want an error", name, s.Text)
		} else if strings.Contains(err.Error(), token) {
			t.Errorf("%s: the error holds the token: %v", name, err)
		}
	}
}

func TestWrapPowerShell(t *testing.T) {
	got := string(script.Wrap(&script.Job{Shell: "pwsh"}, []byte("echo 1\n")))
	want := "& {\n$OutputEncoding = [Console]::InputEncoding = [Console]::OutputEncoding = New-Object System.Text.UTF8Encoding $false\n" +
		"$ErrorActionPreference = \"Stop\"\necho 1\nexit 0\n}\n\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
