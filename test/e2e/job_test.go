//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// public makes variables of names and values in turns.
func public(pairs ...string) []fakegitlab.Variable {
	var out []fakegitlab.Variable
	for i := 0; i+1 < len(pairs); i += 2 {
		out = append(out, fakegitlab.Variable{Key: pairs[i], Value: pairs[i+1], Public: true})
	}
	return out
}

// empty are variables that give a job an empty directory of its own.
func empty(more ...string) []fakegitlab.Variable {
	return public(append([]string{"GIT_STRATEGY", "empty"}, more...)...)
}

// TestJob runs jobs of all kinds through one runner.
func TestJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{Concurrent: 8})
	p := w.start(w.config("concurrent = 8"))
	bare := fakegitlab.Job{}
	tests := []struct {
		name string
		job  fakegitlab.Job
		want string
		has  []string
		not  []string
	}{
		{"succeeds", fakegitlab.Job{Script: []string{"echo hello"}, Variables: empty()}, "success", []string{
			"Running with ", "  on box-0 ", ", system ID: ", `Preparing the "shell" executor`, "Using Shell (sh) executor...",
			"Preparing environment", "Running on ", "Getting source from Git repository",
			"Skipping Git repository setup and creating an empty build directory",
			`Executing "step_script" stage of the job script`, "$ echo hello", "hello", "Job succeeded",
		}, []string{"ERROR", "WARNING", "after_script", "Restoring cache", "Uploading"}},
		{"has an empty script", bare, "success", []string{"Job succeeded"}, nil},
		{"exit code", fakegitlab.Job{Script: []string{"echo one", "exit 7", "echo two"}}, "failed script_failure 7",
			[]string{"one", "ERROR: Job failed: exit status 7"}, []string{"\ntwo\n", "Job succeeded"}},
		{"a command fails", fakegitlab.Job{Script: []string{"false", "echo next"}}, "failed script_failure 1",
			[]string{"ERROR: Job failed: exit status 1"}, []string{"\nnext\n"}},
		{"killed by its own signal", fakegitlab.Job{Script: []string{"kill -9 $$"}}, "failed script_failure 137",
			[]string{"ERROR: Job failed"}, nil},
		{"no such command", fakegitlab.Job{Script: []string{"glassrunner-no-such-command"}}, "failed script_failure 127",
			[]string{"not found", "ERROR: Job failed: exit status 127"}, nil},
		{"script and release are steps", fakegitlab.Job{Script: []string{"X=1", "echo script"}, Release: []string{`echo "release${X}"`}}, "success",
			[]string{`Executing "step_script"`, "\nscript\n", `Executing "step_release"`, "\nrelease\n"}, nil},
		{"a failing step ends the steps", fakegitlab.Job{Script: []string{"exit 3"}, Release: []string{"echo released"}}, "failed script_failure 3",
			nil, []string{"step_release", "\nreleased\n"}},
		{"lines share a shell", fakegitlab.Job{Script: []string{"X=kept; cd /", "echo $X in $PWD"}}, "success", []string{"kept in /"}, nil},
		{"stages do not share a shell", fakegitlab.Job{Script: []string{"X=kept"}, AfterScript: []string{`echo "after:$X."`}}, "success", []string{"\nafter:.\n"}, nil},
		{"multi-line command", fakegitlab.Job{Script: []string{"echo first\necho second"}}, "success",
			[]string{"$ echo first # collapsed multi-line command", "\nfirst\n", "second\n"}, []string{"$ echo second"}},
		{"stdin is empty", fakegitlab.Job{Script: []string{"cat; echo over"}}, "success", []string{"\nover\n"}, nil},
		{"after_script after success", fakegitlab.Job{Script: []string{"true"}, AfterScript: []string{"echo was $CI_JOB_STATUS"}}, "success",
			[]string{"Running after_script", "was success", "Job succeeded"}, nil},
		{"after_script after failure", fakegitlab.Job{Script: []string{"exit 5"}, AfterScript: []string{"echo was $CI_JOB_STATUS"}}, "failed script_failure 5",
			[]string{"was failed", "ERROR: Job failed: exit status 5"}, nil},
		{"after_script fails", fakegitlab.Job{Script: []string{"true"}, AfterScript: []string{"exit 9"}}, "success",
			[]string{"WARNING: after_script failed, but job will continue unaffected"}, nil},
		{"after_script fails and counts", fakegitlab.Job{
			Script: []string{"true"}, AfterScript: []string{"exit 9"}, Variables: public("AFTER_SCRIPT_IGNORE_ERRORS", "false"),
		}, "failed script_failure 9", []string{"ERROR: Job failed: exit status 9"}, nil},
		{"variables of the job", fakegitlab.Job{
			Script:    []string{`echo "$CI_JOB_NAME/$CI_JOB_STAGE/$CI_SERVER/$CI_JOB_STATUS/$CI_SHARED_ENVIRONMENT/$CI_PROJECT_PATH/$CI_JOB_TIMEOUT"`},
			Variables: empty(), Name: "vars", Stage: "build", Timeout: 100 * time.Second,
		}, "success", []string{"\nvars/build/yes/running/true/acme/web/100\n"}, nil},
		{"variables are expanded once", fakegitlab.Job{
			Script:    []string{`printf '%s|%s|%s|%s\n' "$A" "$B" "$C" "$D"`},
			Variables: append(public("A", "a", "B", "<$A>", "C", "${B} $$A $NO_SUCH."), fakegitlab.Variable{Key: "D", Value: "$A ${B}", Raw: true}),
		}, "success", []string{"\na|<a>|<$A> $A .|$A ${B}\n"}, nil},
		{"values of every kind", fakegitlab.Job{
			Script:    []string{`printf '%s' "$ODD" | od -An -tx1 | tr -d ' \n'; echo .`},
			Variables: []fakegitlab.Variable{{Key: "ODD", Value: "a'\"\\`$(id)\t\n\r!é\x01", Raw: true}},
		}, "success", []string{"\n612722" + "5c602428696429090a0d21c3a901.\n"}, nil},
		{"file variable", fakegitlab.Job{
			Script: []string{`echo "$(cat "$CERT") $REF"; [ "$CERT" = "$REF" ] && echo same; stat -c %a "$CERT"`},
			Variables: append(empty(), fakegitlab.Variable{Key: "CERT", Value: "line 1\nline 2", File: true},
				fakegitlab.Variable{Key: "REF", Value: "$CERT", Public: true}),
		}, "success", []string{"line 1\nline 2", "same\n600"}, nil},
		{"GITLAB_ENV passes variables on", fakegitlab.Job{
			Script: []string{`echo "PASSED=a b=c" >> "$GITLAB_ENV"`}, Release: []string{"env | grep ^PASSED"},
			AfterScript: []string{`echo "after got $PASSED."`}, Variables: empty(),
		}, "success", []string{"\nPASSED=a b=c\n", "after got a b=c."}, nil},
		{"the job's hooks need sources", fakegitlab.Job{
			Script: []string{"true"}, Hooks: []fakegitlab.Hook{{Name: "pre_get_sources_script", Script: []string{"echo hooked"}}},
		}, "success", nil, []string{"hooked"}},
		{"inputs", fakegitlab.Job{
			Script: []string{"echo go-${{ job.inputs.where }}-${{ job.inputs.count }}"},
			Inputs: []fakegitlab.Input{
				{Key: "where", Value: fakegitlab.InputValue{Type: "string", Content: "north"}},
				{Key: "count", Value: fakegitlab.InputValue{Type: "number", Content: 3}},
			},
		}, "success", []string{"\ngo-north-3\n"}, nil},
		{"an input that is not there", fakegitlab.Job{
			Script: []string{"echo ${{ job.inputs.nowhere }}"},
			Inputs: []fakegitlab.Input{{Key: "where", Value: fakegitlab.InputValue{Type: "string", Content: "north"}}},
		}, "failed runner_configuration_error", []string{`the job has no input "nowhere"`}, []string{"step_script"}},
		{"GIT_CLONE_PATH is refused", fakegitlab.Job{Script: []string{"pwd"}, Variables: public("GIT_CLONE_PATH", "$CI_BUILDS_DIR/mine")},
			"failed runner_configuration_error", []string{"setting GIT_CLONE_PATH is not allowed, enable `custom_build_dir` feature"}, nil},
		{"secrets are refused", fakegitlab.Job{Script: []string{"true"}, Edit: func(p *fakegitlab.Payload) {
			// A server would not hand it out to a runner that announces no such feature.
			p.Secrets = map[string]any{"PW": map[string]any{"vault": map[string]any{"path": "x"}}}
		}},
			"failed runner_configuration_error", []string{"secrets"}, []string{"step_script"}},
		{"native steps are refused", fakegitlab.Job{
			Script: []string{}, Edit: func(p *fakegitlab.Payload) { run := `[{"name":"x","script":"echo"}]`; p.Run, p.Steps = &run, nil },
		}, "failed runner_system_failure 3", []string{"`run` keyword"}, nil},
		{"reasons that the server does not list are mapped", fakegitlab.Job{
			Script: []string{"pwd"}, Variables: public("GIT_CLONE_PATH", "/x"),
			Edit: func(p *fakegitlab.Payload) { p.Features.FailureReasons = nil },
		}, "failed script_failure", []string{"GIT_CLONE_PATH"}, nil},
		{"no sections when the server has none", fakegitlab.Job{
			Script: []string{"echo hello"}, Edit: func(p *fakegitlab.Payload) { p.Features.TraceSections = false },
		}, "success", []string{"\nhello\n"}, nil},
		{"sections of the script", fakegitlab.Job{
			Script: []string{"echo a\necho b"}, Variables: public("FF_SCRIPT_SECTIONS", "true"),
		}, "success", []string{"feature flags: ", "FF_SCRIPT_SECTIONS:true", "$ echo a\necho b", "\na\nb\n"}, nil},
		{"debug trace", fakegitlab.Job{Script: []string{"echo traced"}, Variables: public("CI_DEBUG_TRACE", "true")}, "success", []string{"+ echo traced"}, nil},
		{"wrong settings are told", fakegitlab.Job{
			Script: []string{"true"}, AfterScript: []string{"true"},
			Variables: public("GET_SOURCES_ATTEMPTS", "many", "RUNNER_SCRIPT_TIMEOUT", "soon", "RUNNER_AFTER_SCRIPT_TIMEOUT", "-5m"),
		}, "success", []string{
			"GET_SOURCES_ATTEMPTS", "Ignoring malformed RUNNER_SCRIPT_TIMEOUT timeout: soon", "Ignoring relative RUNNER_AFTER_SCRIPT_TIMEOUT timeout: -5m",
		}, nil},
		{"script timeout longer than the job's", fakegitlab.Job{Script: []string{"true"}, Timeout: time.Minute, Variables: public("RUNNER_SCRIPT_TIMEOUT", "2h")},
			"success", []string{"RUNNER_SCRIPT_TIMEOUT timeout: 2h0m0s is longer than job timeout. Setting to job timeout"}, nil},
		{"allow_failure is the server's matter", fakegitlab.Job{Script: []string{"exit 4"}, AllowFailure: true}, "failed script_failure 4", nil, nil},
		{"job timeout", fakegitlab.Job{Script: []string{"echo begun; sleep 600"}, AfterScript: []string{"echo after"}, Timeout: 2 * time.Second},
			"failed job_execution_timeout", []string{"begun", "execution took longer than 2s seconds"}, []string{"\nafter\n"}},
		{"script timeout", fakegitlab.Job{
			Script: []string{"echo begun; sleep 600"}, AfterScript: []string{"echo was $CI_JOB_STATUS"}, Variables: public("RUNNER_SCRIPT_TIMEOUT", "1s"),
		}, "failed job_execution_timeout", []string{"begun", "step_script could not run to completion because the timeout was exceeded", "was timedout", "script timeout: context deadline exceeded"}, nil},
		{"after_script timeout", fakegitlab.Job{
			Script: []string{"true"}, AfterScript: []string{"echo begun; sleep 600"}, Variables: public("RUNNER_AFTER_SCRIPT_TIMEOUT", "1s"),
		}, "success", []string{"begun", "after_script could not run to completion because the timeout was exceeded", "WARNING: after_script failed, but job will continue unaffected"}, nil},
		{"what ignores SIGTERM is killed", fakegitlab.Job{Script: []string{`trap "" TERM; echo deaf; while :; do sleep 1; done`}, Timeout: time.Second},
			"failed job_execution_timeout", []string{"deaf"}, nil},
		{"a background process does not hold the job", fakegitlab.Job{Script: []string{"sleep 600 & echo started"}}, "success", []string{"started", "Job succeeded"}, nil},
		{"a daemon does not outlive the job", fakegitlab.Job{Script: []string{"setsid sh -c 'setsid sleep 600 &' >/dev/null 2>&1 </dev/null; echo started"}}, "success", []string{"started"}, nil},
		{"an unknown executor option is refused", fakegitlab.Job{
			Script: []string{"true"},
			Edit: func(p *fakegitlab.Payload) {
				p.Image = &fakegitlab.Image{Name: "x", ExecutorOpts: map[string]any{"docker": map[string]any{"no_such_option": "1"}}}
			},
		}, "failed runner_system_failure 3", []string{"no_such_option"}, nil},
	}
	t.Run("all", func(t *testing.T) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				s := wait(t, w, enqueue(t, w, tt.job))
				want(t, s, tt.want)
				got := text(s.Trace)
				has(t, got, tt.has...)
				hasNot(t, got, tt.not...)
				if !s.ByRunner || s.Handouts != 1 {
					t.Errorf("ended by the runner: %v, handed out %d times", s.ByRunner, s.Handouts)
				}
			})
		}
	})
	m := p.waitValue(0, "glassrunner_jobs_running")
	m.check(t, 0, "gitlab_runner_jobs", "state", "running")
	const refused = 2 // before they began
	m.check(t, float64(len(tests)-refused), "gitlab_runner_jobs_total")
	m.check(t, refused, "glassrunner_jobs_refused_total")
	if left := w.stateLeft(); len(left) > 0 {
		t.Errorf("the state directory is not empty: %v", left)
	}
	if left := w.jobProcesses(); len(left) > 0 {
		t.Errorf("processes outlived their jobs: %v", left)
	}
}

// TestSections checks names and order of the markers of sections, which
// GitLab's job page folds.
func TestSections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	w.start(w.config(""))
	s := w.run(fakegitlab.Job{Script: []string{"echo hello"}, AfterScript: []string{"echo bye"}, Variables: empty()})
	want(t, s, "success")
	var got []string
	open := ""
	for _, m := range regexp.MustCompile(`section_(start|end):(\d+):([a-z_]+)\r\x1b\[0K`).FindAllStringSubmatch(string(s.Trace), -1) {
		switch {
		case m[1] == "start" && open == "":
			open = m[3]
			got = append(got, open)
		case m[1] == "end" && open == m[3]:
			open = ""
		default:
			t.Errorf("%s of section %s while %q is open", m[1], m[3], open)
		}
	}
	if want := "prepare_executor prepare_script get_sources step_script after_script cleanup_file_variables"; strings.Join(got, " ") != want {
		t.Errorf("sections are %q, want %q", strings.Join(got, " "), want)
	}
}

// TestTimestamps compares a log with timestamps, which are on by default, with
// what was printed.
func TestTimestamps(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	w.start(w.config("", entry{Timestamps: true}))
	long := strings.Repeat("0123456789abcdef", 2000) // longer than an entry
	printed := "one\ntwo\r\n" + long + "\n\n\u00e9\u4e16\nno line end"
	if err := os.WriteFile(filepath.Join(w.dir, "data"), []byte(printed), 0o600); err != nil {
		t.Fatal(err)
	}
	command := "cat " + filepath.Join(w.dir, "data")
	s := w.run(fakegitlab.Job{Script: []string{command}})
	want(t, s, "success")
	got := joined(t, s.Trace)
	_, rest, ok := strings.Cut(string(got), "$ "+command+"\x1b[0;m\n")
	if !ok || !strings.HasPrefix(rest, printed+"\n") {
		t.Errorf("after the command the log has %q, want %q", tail(rest, 300), printed+"\n")
	}
	has(t, text(got), "Running with ", "no line end", "Job succeeded")
}

// TestShells runs the same job in each shell that is here.
func TestShells(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	bash := w.addRunner("bash", fakegitlab.Limits{})
	w.start(w.config("", entry{Shell: "sh"}, entry{Shell: "bash", Token: bash.Token}))
	for _, tt := range []struct{ token, shell, has string }{
		{w.runner.Token, "sh", "bash:."}, {bash.Token, "bash", "bash:5"},
	} {
		s := w.run(fakegitlab.Job{
			Runner: tt.token, Script: []string{`echo "bash:${BASH_VERSION%%[!0-9]*}."`, "false | true", "echo through"}, Variables: empty(),
		})
		has(t, text(s.Trace), "Using Shell ("+tt.shell+") executor...", tt.has)
		if tt.shell == "bash" { // it has pipefail
			want(t, s, "failed script_failure 1")
		}
	}
}

// TestRunnerScripts checks the scripts and variables of the runner's own
// configuration, and their order with the job's hooks.
func TestRunnerScripts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	project(t, w, "acme/hooks", map[string]string{"README": "hi\n"})
	w.start(w.config("", entry{Extra: `
  pre_get_sources_script = "echo config-before-sources"
  post_get_sources_script = "echo config-after-sources"
  pre_build_script = "echo before-build $MACHINE"
  post_build_script = "echo after-build"
  environment = ["MACHINE=m1", "GREETING=machine"]
  debug_trace_disabled = true
`}))
	s := w.run(fakegitlab.Job{
		Project: "acme/hooks", Script: []string{`echo "script $GREETING"`}, AfterScript: []string{"echo after"},
		Variables: public("GREETING", "job", "CI_DEBUG_TRACE", "true"),
		Hooks: []fakegitlab.Hook{
			{Name: "pre_get_sources_script", Script: []string{"echo job-before-sources"}},
			{Name: "post_get_sources_script", Script: []string{"echo job-after-sources"}},
		},
	})
	want(t, s, "success")
	has(t, text(s.Trace), "CI_DEBUG_TRACE: usage is disabled on this Runner",
		"\nconfig-before-sources\n", "\njob-before-sources\n", "Checking out", "\njob-after-sources\n", "\nconfig-after-sources\n",
		"\nbefore-build m1\n", "\nscript job\n", "\nafter-build\n", "\nafter\n")
	s = w.run(fakegitlab.Job{Script: []string{"exit 2"}, AfterScript: []string{"echo after"}})
	want(t, s, "failed script_failure 2")
	has(t, text(s.Trace), "before-build", "\nafter\n")
	hasNot(t, text(s.Trace), "\nafter-build\n", "before-sources")
}

// TestRunnerVariables compares the variables that the runner sets itself.
func TestRunnerVariables(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config("", entry{Extra: "  environment = [\"CI_PROJECT_DIR=/of/the/entry\", \"FROM_ENTRY=entry\", \"BOTH=entry\"]\n"}))
	names := []string{
		"CI_RUNNER_SHORT_TOKEN", "CI_BUILDS_DIR", "CI_PROJECT_DIR", "RUNNER_TEMP_PROJECT_DIR", "CI_CONCURRENT_ID", "CI_CONCURRENT_PROJECT_ID",
		"CI_SERVER", "CI_JOB_STATUS", "CI_JOB_TIMEOUT", "CI_SHARED_ENVIRONMENT", "CI_DISPOSABLE_ENVIRONMENT", "CI_RUNNER_VERSION",
		"CI_RUNNER_REVISION", "CI_RUNNER_EXECUTABLE_ARCH", "CI_JOB_IMAGE", "FF_TIMESTAMPS", "FROM_ENTRY", "BOTH", "GITLAB_ENV",
	}
	var script []string
	for _, n := range names {
		script = append(script, `printf '%s=%s\n' `+n+` "${`+n+`-unset}"`)
	}
	builds := filepath.Join(w.dir, "builds")
	short := regexp.MustCompile(`^(glrt-(t[123]_)?)?`).ReplaceAllString(w.runner.Token, "")[:9]
	dir := func(n int) string { return filepath.Join(builds, short, fmt.Sprint(n), "acme/web") }
	// Another job of the project has the first place.
	hold := w.enqueue(fakegitlab.Job{Script: []string{"echo begun; until [ -e $CI_BUILDS_DIR/go ]; do sleep 0.1; done"}})
	w.until(hold, "its script", printed("\nbegun\n"))
	s := w.run(fakegitlab.Job{
		Timeout: 77 * time.Second, Script: []string{strings.Join(script, "\n")},
		Image: &fakegitlab.Image{Name: "alpine:$TAG"}, Variables: public("GIT_STRATEGY", "none", "TAG", "3", "BOTH", "job", "CI_RUNNER_VERSION", "job"),
	})
	touch(t, filepath.Join(builds, "go"))
	want(t, s, "success")
	m := p.scrape()["gitlab_runner_version_info"]
	label := func(name string) string {
		for _, l := range m.GetMetric()[0].GetLabel() {
			if l.GetName() == name {
				return l.GetValue()
			}
		}
		return ""
	}
	expected := map[string]string{
		"CI_RUNNER_SHORT_TOKEN": short, "CI_BUILDS_DIR": builds, "CI_PROJECT_DIR": dir(1), "RUNNER_TEMP_PROJECT_DIR": dir(1) + ".tmp",
		"CI_CONCURRENT_ID": "1", "CI_CONCURRENT_PROJECT_ID": "1", "CI_SERVER": "yes", "CI_JOB_STATUS": "running", "CI_JOB_TIMEOUT": "77",
		"CI_SHARED_ENVIRONMENT": "true", "CI_DISPOSABLE_ENVIRONMENT": "unset", "CI_RUNNER_VERSION": label("version"),
		"CI_RUNNER_REVISION": label("revision"), "CI_RUNNER_EXECUTABLE_ARCH": runtime.GOOS + "/" + runtime.GOARCH, "CI_JOB_IMAGE": "alpine:3",
		"FF_TIMESTAMPS": "false", "FROM_ENTRY": "entry", "BOTH": "job", "GITLAB_ENV": dir(1) + ".tmp/gitlab_runner_env",
	}
	for _, n := range names {
		has(t, text(s.Trace), "\n"+n+"="+expected[n]+"\n")
	}
	want(t, w.wait(hold), "success")
}

// TestEnvironment checks that a job has the runner's environment and not its secrets.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	w.start(w.config(""))
	s := w.run(fakegitlab.Job{Script: []string{"env | sort", "ls -la /proc/self/fd"}})
	want(t, s, "success")
	got := text(s.Trace)
	has(t, got, "CI_JOB_STATUS=running", "GLASSRUNNER_E2E_MARK=")
	hasNot(t, got, w.runner.Token, w.path, ".glassrunner", "socket:")
}
