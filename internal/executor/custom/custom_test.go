//go:build unix

package custom_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/executor/custom"
	"github.com/glassrunner/glassrunner/internal/executor/executortest"
	"github.com/glassrunner/glassrunner/internal/job"
)

// runScript is a run_exec for a plain directory: the job's script in bash, and
// its exit code where the executor looks for it.
const runScript = `#!/bin/sh
cd "${JOB_DIR:-/}" || exit "$SYSTEM_FAILURE_EXIT_CODE"
bash "$1" && exit
echo $? >"$BUILD_EXIT_CODE_FILE"
exit "$BUILD_FAILURE_EXIT_CODE"
`

// cleanupScript ends what the job's scripts left running.
const cleanupScript = `#!/bin/bash
for e in /proc/[0-9]*/environ; do
  pid=${e#/proc/}; pid=${pid%/environ}
  [ "$pid" = $$ ] && continue
  if tr '\0' '\n' <"$e" 2>/dev/null | grep -qxF "JOB_RESPONSE_FILE=$JOB_RESPONSE_FILE"; then
    [ "$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -c '^sleep ')" = 1 ] && kill -9 "$pid"
  fi
done
exit 0
`

// program writes a program and returns its path.
func program(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func driver(t testing.TB, o custom.Options) *custom.Driver {
	t.Helper()
	if o.Environ == nil {
		o.Environ = executortest.Environ(t.TempDir())
	}
	d, err := custom.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func request(t testing.TB, vs ...job.Variable) executor.Request {
	dir := t.TempDir()
	r := executor.Request{
		Spec:  &job.Spec{ID: 7, Token: "job-token", Payload: `{"id":7}`},
		Shell: "bash", Variables: vs,
	}
	r.Arrange = func(executor.Layout) (executor.Arrangement, error) {
		return executor.Arrangement{
			Dirs:  executor.Dirs{Builds: dir, Project: dir + "/p", Temp: dir + "/p.tmp", Cache: dir + "/c"},
			Shell: "bash", Variables: vs,
		}, nil
	}
	return r
}

func TestConformance(t *testing.T) {
	executortest.Run(t, func(t *testing.T) executortest.Harness {
		o := custom.Options{
			Environ: executortest.Environ(t.TempDir()), TempDir: t.TempDir(), Force: 5 * time.Second,
			Run:     custom.Program{Path: program(t, runScript)},
			Cleanup: custom.Program{Path: program(t, cleanupScript), Timeout: time.Minute},
		}
		return executortest.Harness{
			Driver:    driver(t, o),
			Request:   func(t *testing.T) executor.Request { return request(t) },
			Script:    executortest.Wrap,
			Alive:     executortest.Alive,
			Successor: func(t *testing.T) executor.Driver { return driver(t, o) }, Unmeasured: true,
		}
	})
}

// recorder is a program that writes down how it was called.
func recorder(t *testing.T, dir, name, more string) string {
	return program(t, fmt.Sprintf(`#!/bin/bash
{ echo "%[2]s $*"; } >>%[1]s/order
env >%[1]s/env.%[2]s
pwd >%[1]s/pwd.%[2]s
cp "$JOB_RESPONSE_FILE" %[1]s/payload.%[2]s 2>/dev/null
stat -c %%a "$JOB_RESPONSE_FILE" >%[1]s/mode.%[2]s 2>/dev/null
[ -f "$3" ] && stat -c %%a "$3" >%[1]s/script-mode && cp "$3" %[1]s/script
%[3]s
exit 0
`, dir, name, more))
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// lookup returns a variable of an environment that a recorder wrote.
func lookup(t *testing.T, path, key string) string {
	t.Helper()
	for line := range strings.Lines(read(t, path)) {
		if v, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), key+"="); ok {
			return v
		}
	}
	return "(unset)"
}

func TestProtocol(t *testing.T) {
	dir, temp := t.TempDir(), t.TempDir()
	o := custom.Options{
		TempDir: temp, Environ: append(executortest.Environ(dir), "OF_THE_RUNNER=yes"),
		Config: custom.Program{Path: recorder(t, dir, "config", `echo to-the-log >&2
echo '{"driver":{"name":"chroot","version":"v1.2"},"hostname":"cell-7","builds_dir":"/b","cache_dir":"/c","builds_dir_is_shared":true,"job_env":{"CELL":"7","OF_THE_RUNNER":"no"},"shell":"sh","new":1}'`), Args: []string{"-c", "one"}, Timeout: time.Minute},
		Prepare: custom.Program{Path: recorder(t, dir, "prepare", "echo prepared; echo errors >&2"), Args: []string{"-p"}},
		Run:     custom.Program{Path: recorder(t, dir, "run", "echo ran"), Args: []string{"-r", "x"}},
		Cleanup: custom.Program{Path: recorder(t, dir, "cleanup", "echo not in the log"), Args: []string{"-d"}},
	}
	d := driver(t, o)
	var log, out bytes.Buffer
	var layout executor.Layout
	r := executor.Request{
		Spec: &job.Spec{
			Payload: `{"id":7,"token":"t"}`,
			Services: []job.Image{{Name: "db:$VERSION", Aliases: []string{"db", "other"}, Entrypoint: []string{"/e"}, Variables: job.Variables{
				{Key: "A", Value: "v$VERSION", Public: true}, {Key: "B", Value: "v$VERSION", Raw: true},
			}}, {Name: "plain"}},
		},
		Shell: "bash", Log: &log,
		Variables: job.Variables{{Key: "VERSION", Value: "1"}, {Key: "FILE", Value: "content", File: true}, {Key: "NUL", Value: "a\x00b"}, {Key: "BAD=KEY", Value: "x"}},
	}
	r.Arrange = func(l executor.Layout) (executor.Arrangement, error) {
		layout = l
		project := l.BuildsDir + "/p"
		return executor.Arrangement{
			Dirs: executor.Dirs{Builds: l.BuildsDir, Project: project}, Shell: l.Shell,
			Variables: append(r.Variables, job.Variable{Key: "CI_PROJECT_DIR", Value: project}),
		}, nil
	}
	env, err := d.Open(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if got := env.Place(); got != (executor.Place{Hostname: "cell-7"}) {
		t.Errorf("Place: %+v, want cell-7", got)
	}
	if layout.BuildsDir != "/b" || layout.CacheDir != "/c" || layout.SharedBuilds == nil || !*layout.SharedBuilds || layout.Shell != "sh" {
		t.Errorf("layout: %+v", layout)
	}
	for _, phase := range []job.Phase{job.GetSources, job.StepPhase("script")} {
		if err := env.Run(t.Context(), executor.Command{Phase: phase, Script: []byte("echo hi\n"), Stdout: &out, Stderr: &out}); err != nil {
			t.Fatal(err)
		}
	}
	if err := env.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	order := strings.Split(strings.TrimSpace(read(t, filepath.Join(dir, "order"))), "\n")
	if len(order) != 5 || order[0] != "config -c one" || order[1] != "prepare -p" || order[4] != "cleanup -d" {
		t.Errorf("calls: %q", order)
	}
	for i, stage := range map[int]string{2: "get_sources", 3: "build_script"} {
		f := strings.Fields(order[i])
		if len(f) != 5 || f[1] != "-r" || f[2] != "x" || filepath.Base(f[3]) != "script" || f[4] != stage {
			t.Errorf("call %d: %q, want run -r x PATH/script %s", i, order[i], stage)
		}
	}
	for _, want := range []string{"to-the-log\n", "Using Custom executor with driver chroot v1.2...\n", "prepared\n", "errors\n", "build_script, which will become step_script"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q: %q", want, log.String())
		}
	}
	if strings.Contains(log.String(), "not in the log") || strings.Contains(log.String(), `"driver"`) {
		t.Errorf("the log has what is not for it: %q", log.String())
	}
	if out.String() != "ran\nran\n" {
		t.Errorf("output: %q", out.String())
	}
	if got := read(t, filepath.Join(dir, "script")); got != "#!/usr/bin/env sh\n\necho hi\n" {
		t.Errorf("script: %q", got)
	}
	if got := read(t, filepath.Join(dir, "script-mode")); got != "700\n" {
		t.Errorf("mode of the script: %q, want 700", got)
	}
	for _, call := range []string{"config", "prepare", "run", "cleanup"} {
		at := filepath.Join(dir, "env."+call)
		pwd := strings.TrimSpace(read(t, filepath.Join(dir, "pwd."+call)))
		jobEnv, runner, project := "7", "no", "/b/p"
		if call == "config" {
			jobEnv, runner, project = "(unset)", "yes", "(unset)"
		}
		for k, want := range map[string]string{
			"TMPDIR": pwd, "BUILD_FAILURE_EXIT_CODE": "1", "SYSTEM_FAILURE_EXIT_CODE": "2",
			"BUILD_EXIT_CODE_FILE": pwd + "/build_exit_code", "JOB_RESPONSE_FILE": pwd + "/response.json",
			"CELL": jobEnv, "OF_THE_RUNNER": runner, "CUSTOM_ENV_VERSION": "1", "CUSTOM_ENV_FILE": "content", "CUSTOM_ENV_NUL": "ab",
			"CUSTOM_ENV_CI_PROJECT_DIR": project, "CUSTOM_ENV_BAD": "(unset)",
		} {
			if got := lookup(t, at, k); got != want {
				t.Errorf("%s: %s=%q, want %q", call, k, got, want)
			}
		}
		if filepath.Dir(pwd) != temp || !strings.HasPrefix(filepath.Base(pwd), "custom-executor") {
			t.Errorf("%s ran in %s", call, pwd)
		}
		if got := read(t, filepath.Join(dir, "payload."+call)); got != r.Spec.Payload.Reveal() {
			t.Errorf("%s: payload %q", call, got)
		}
		if got := read(t, filepath.Join(dir, "mode."+call)); got != "600\n" {
			t.Errorf("%s: mode of the payload %q, want 600", call, got)
		}
		var services []map[string]any
		if err := json.Unmarshal([]byte(lookup(t, at, "CUSTOM_ENV_CI_JOB_SERVICES")), &services); err != nil {
			t.Fatal(err)
		}
		if s := services[0]; s["name"] != "db:1" || s["alias"] != "db" || fmt.Sprint(s["entrypoint"]) != "[/e]" || s["command"] != nil {
			t.Errorf("service: %v", s)
		}
		if s := services[1]; s["name"] != "plain" || s["alias"] != "" || s["entrypoint"] != nil || s["variables"] != nil {
			t.Errorf("service: %v", s)
		}
		vars := fmt.Sprint(services[0]["variables"])
		if !strings.Contains(vars, "key:A") || !strings.Contains(vars, "value:v1") || !strings.Contains(vars, "value:v$VERSION") {
			t.Errorf("variables of a service: %s", vars)
		}
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestWithoutServices(t *testing.T) {
	dir := t.TempDir()
	d := driver(t, custom.Options{Run: custom.Program{Path: recorder(t, dir, "run", "")}})
	env, err := d.Open(t.Context(), request(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := env.Run(t.Context(), executor.Command{Phase: job.GetSources, Script: []byte("true\n")}); err != nil {
		t.Fatal(err)
	}
	if got := lookup(t, filepath.Join(dir, "env.run"), "CUSTOM_ENV_CI_JOB_SERVICES"); got != "" {
		t.Errorf("CUSTOM_ENV_CI_JOB_SERVICES=%q, want empty", got)
	}
	if err := env.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// failure is what a test expects of an error.
type failure struct {
	code   int        // of an ExitError, -1: none
	reason job.Reason // of an executor.Error
	text   string
}

func (f failure) check(t *testing.T, err error) {
	t.Helper()
	exit, isExit := errors.AsType[*executor.ExitError](err)
	known, isKnown := errors.AsType[*executor.Error](err)
	switch {
	case err == nil:
		t.Fatal("no error")
	case f.code >= 0 && (!isExit || exit.Code != f.code):
		t.Errorf("%v: want an ExitError with code %d", err, f.code)
	case f.code < 0 && isExit:
		t.Errorf("%v: want no ExitError", err)
	case f.reason != "" && (!isKnown || known.Reason != f.reason):
		t.Errorf("%v: want the reason %s", err, f.reason)
	case f.reason == "" && isKnown:
		t.Errorf("%v: want no reason, so that it is tried again", err)
	}
	if !strings.Contains(err.Error(), f.text) {
		t.Errorf("%v: want %q", err, f.text)
	}
}

func TestExitCodes(t *testing.T) {
	tests := []struct {
		name, body string
		want       failure
	}{
		{"build failure", `exit "$BUILD_FAILURE_EXIT_CODE"`, failure{1, "", "exit status 1"}},
		{"with a code", `echo 42 >"$BUILD_EXIT_CODE_FILE"; exit 1`, failure{42, "", "exit status 42"}},
		{"with lines", `printf ' 7 \nmore\n' >"$BUILD_EXIT_CODE_FILE"; exit 1`, failure{7, "", "exit status 7"}},
		{"beyond 32 bits", `echo 4294967298 >"$BUILD_EXIT_CODE_FILE"; exit 1`, failure{2, "", "exit status 2"}},
		{"no number", `echo x >"$BUILD_EXIT_CODE_FILE"; exit 1`, failure{-1, "", "unknown Custom executor executable exit code 2"}},
		{"empty file", `: >"$BUILD_EXIT_CODE_FILE"; exit 1`, failure{-1, "", "unknown Custom executor executable exit code 2"}},
		{"a pipe", `mkfifo "$BUILD_EXIT_CODE_FILE"; exit 1`, failure{-1, "", "is not a file"}},
		{"a link", `ln -s /etc/shadow "$BUILD_EXIT_CODE_FILE"; exit 1`, failure{-1, "", "is not a file"}},
		{"a directory", `mkdir -p "$BUILD_EXIT_CODE_FILE/x"; exit 1`, failure{-1, "", "is not a file"}},
		{"system failure", `exit "$SYSTEM_FAILURE_EXIT_CODE"`, failure{-1, "", "exit status 2"}},
		{"system failure with a code", `echo 42 >"$BUILD_EXIT_CODE_FILE"; exit 2`, failure{-1, "", "exit status 2"}},
		{"another", `exit 3`, failure{-1, "", "unknown Custom executor executable exit code 3; executable execution terminated with: exit status 3"}},
		{"a signal", `kill -9 $$`, failure{-1, "", "signal: killed"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			prog := program(t, "#!/bin/bash\n"+tt.body+"\n")
			d := driver(t, custom.Options{Run: custom.Program{Path: prog}})
			env, err := d.Open(t.Context(), request(t))
			if err != nil {
				t.Fatal(err)
			}
			err = env.Run(t.Context(), executor.Command{Phase: job.GetSources, Script: []byte("true\n")})
			tt.want.check(t, err)
			if err := env.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			// The same of prepare_exec: the job's failure ends it, all else is tried again.
			if tt.want.code >= 0 {
				tt.want.reason = job.ScriptFailure
			}
			temp := t.TempDir()
			d = driver(t, custom.Options{TempDir: temp, Prepare: custom.Program{Path: prog}, Run: custom.Program{Path: "true"}})
			_, err = d.Open(t.Context(), request(t))
			tt.want.check(t, err)
			if left, rerr := os.ReadDir(temp); rerr != nil || len(left) != 0 {
				t.Errorf("left after a failed Open: %v, %v", left, rerr)
			}
		})
	}
}

// A code that an earlier script left does not count.
func TestStaleExitCode(t *testing.T) {
	prog := program(t, `#!/bin/bash
[ "$2" = get_sources ] && echo 42 >"$BUILD_EXIT_CODE_FILE" && exit 0
exit 1
`)
	d := driver(t, custom.Options{Run: custom.Program{Path: prog}})
	env, err := d.Open(t.Context(), request(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := env.Run(t.Context(), executor.Command{Phase: job.GetSources, Script: []byte("true\n")}); err != nil {
		t.Fatal(err)
	}
	failure{1, "", ""}.check(t, env.Run(t.Context(), executor.Command{Phase: job.Cleanup, Script: []byte("true\n")}))
	if err := env.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestConfigExec(t *testing.T) {
	tests := []struct {
		name, body string
		want       failure // no text and code 0: Open succeeds
		log        string
	}{
		{"nothing", "", failure{}, "Using Custom executor...\n"},
		{"white space", "echo; echo ' '", failure{}, "Using Custom executor...\n"},
		{"empty object", "echo '{}'", failure{}, "Using Custom executor...\n"},
		{"only a name", `echo '{"driver":{"name":"a\nb"}}'`, failure{}, "Using Custom executor with driver a b...\n"},
		{"no JSON", "echo hello", failure{-1, "", "config_exec: want JSON"}, ""},
		{"half of it", `echo '{"shell":'`, failure{-1, "", "config_exec: want JSON"}, ""},
		{"a list", `echo '[]'`, failure{-1, "", "config_exec: want JSON"}, ""},
		{"a wrong type", `echo '{"builds_dir_is_shared":"yes"}'`, failure{-1, "", "config_exec: want JSON"}, ""},
		{"a bad variable", `echo '{"job_env":{"A=B":"x"}}'`, failure{-1, "", "cannot be an environment variable"}, ""},
		{"an unknown shell", `echo '{"shell":"fish"}'`, failure{-1, "", "shell: want bash"}, ""},
		{"too much", "head -c 1100000 /dev/zero", failure{-1, "", "printed more than 1 MiB"}, ""},
		{"build failure", "exit 1", failure{1, job.ScriptFailure, "exit status 1"}, ""},
		{"too long", "sleep 1000", failure{-1, "", "config_exec took longer than 200ms"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			temp, seen := t.TempDir(), filepath.Join(t.TempDir(), "cleaned")
			limit := time.Minute
			if tt.name == "too long" {
				limit = 200 * time.Millisecond
			}
			d := driver(t, custom.Options{
				TempDir: temp, Grace: 100 * time.Millisecond,
				Config:  custom.Program{Path: program(t, "#!/bin/bash\n"+tt.body+"\n"), Timeout: limit},
				Run:     custom.Program{Path: "true"},
				Cleanup: custom.Program{Path: program(t, "#!/bin/bash\ntouch "+seen+"\n"), Timeout: time.Minute},
			})
			var log bytes.Buffer
			r := request(t)
			r.Log = &log
			env, err := d.Open(t.Context(), r)
			if tt.want != (failure{}) {
				tt.want.check(t, err)
				if _, err := os.Stat(seen); err != nil {
					t.Errorf("cleanup_exec did not run: %v", err)
				}
			} else if err != nil {
				t.Fatal(err)
			} else if err := env.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(log.String(), tt.log) {
				t.Errorf("log: %q, want %q", log.String(), tt.log)
			}
			if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

func TestBadPrograms(t *testing.T) {
	if _, err := custom.New(custom.Options{}); err == nil || !strings.Contains(err.Error(), "custom executor is missing RunExec") {
		t.Errorf("without run_exec: %v", err)
	}
	none := filepath.Join(t.TempDir(), "none")
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{none, plain, "no-such-program-here", t.TempDir()} {
		d := driver(t, custom.Options{Run: custom.Program{Path: path}})
		env, err := d.Open(t.Context(), request(t))
		if err != nil {
			t.Fatal(err)
		}
		failure{-1, "", "run_exec: "}.check(t, env.Run(t.Context(), executor.Command{Phase: job.GetSources, Script: []byte("true\n")}))
		if err := env.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestVariableTooLarge(t *testing.T) {
	d := driver(t, custom.Options{Prepare: custom.Program{Path: "true"}, Run: custom.Program{Path: "true"}})
	_, err := d.Open(t.Context(), request(t, job.Variable{Key: "BIG", Value: strings.Repeat("x", 300_000)}))
	failure{-1, job.ConfigurationError, "the largest is CUSTOM_ENV_BIG with 300015 bytes"}.check(t, err)
}

func TestRelativeProgram(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(program(t, "#!/bin/sh\necho relative\n"), filepath.Join(dir, "bin/run")); err != nil {
		t.Fatal(err)
	}
	d := driver(t, custom.Options{Dir: dir, Run: custom.Program{Path: "./bin/run"}})
	env, err := d.Open(t.Context(), request(t))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := env.Run(t.Context(), executor.Command{Phase: job.GetSources, Script: []byte("true\n"), Stdout: &out}); err != nil || out.String() != "relative\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if err := env.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// What cleanup_exec prints is no part of the job's log, and its error tells
// the last of it without what the job masks.
func TestCleanupFails(t *testing.T) {
	temp := t.TempDir()
	d := driver(t, custom.Options{
		TempDir: temp, Run: custom.Program{Path: "true"},
		Cleanup: custom.Program{Path: program(t, "#!/bin/sh\necho first\necho no $CUSTOM_ENV_SECRET here >&2\nexit 3\n")},
	})
	env, err := d.Open(t.Context(), request(t, job.Variable{Key: "SECRET", Value: "hush-hush-hush", Masked: true}))
	if err != nil {
		t.Fatal(err)
	}
	err = env.Close(t.Context())
	if err == nil || !strings.Contains(err.Error(), "exit status 3: no [MASKED] here") || strings.Contains(err.Error(), "hush") {
		t.Errorf("Close: %v", err)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A program that does not heed the polite signal has graceful_kill_timeout.
func TestGrace(t *testing.T) {
	d := driver(t, custom.Options{
		Run: custom.Program{Path: program(t, "#!/bin/bash\ntrap 'echo asked' TERM\necho started\nwhile :; do sleep 0.05; done\n")}, Grace: 300 * time.Millisecond,
	})
	env, err := d.Open(t.Context(), request(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	out := &watched{on: "started", do: func() { cancel(errors.New("no more")) }}
	began := time.Now()
	err = env.Run(ctx, executor.Command{Phase: job.GetSources, Script: []byte("true\n"), Stdout: out, Stderr: out})
	if err == nil || err.Error() != "no more" {
		t.Errorf("Run: %v, want the cause", err)
	}
	if took := time.Since(began); took < 300*time.Millisecond || !strings.Contains(out.String(), "asked") {
		t.Errorf("ended after %v, printed %q", took, out.String())
	}
	if err := env.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// watched calls do when it has seen a text.
type watched struct {
	mu sync.Mutex
	b  bytes.Buffer
	on string
	do func()
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.b.Write(p)
	if w.do != nil && strings.Contains(w.b.String(), w.on) {
		w.do()
		w.do = nil
	}
	return n, err
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// claims collects what a driver claims.
type claims struct {
	mu   sync.Mutex
	list []executor.Claim
}

func (c *claims) add(x executor.Claim) error {
	// As they come back from the journal.
	text, err := json.Marshal(x)
	if err != nil {
		return err
	}
	var y executor.Claim
	if err := json.Unmarshal(text, &y); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, y)
	return nil
}

// A runner that crashed has its programs ended and its places cleaned up, with
// the environment that they had, though the machine was started since.
func TestReap(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprint("restarted=", restarted), func(t *testing.T) {
			dir, temp := t.TempDir(), t.TempDir()
			d := driver(t, custom.Options{
				TempDir: temp, Config: custom.Program{Path: program(t, "#!/bin/sh\necho '{\"job_env\":{\"CELL\":\"9\"}}'\n")},
				Run: custom.Program{Path: "true"}, Cleanup: custom.Program{Path: recorder(t, dir, "cleanup", ""), Args: []string{"-d"}, Timeout: time.Minute},
			})
			var cs claims
			r := request(t)
			r.Claim = cs.add
			if _, err := d.Open(t.Context(), r); err != nil { // and no Close
				t.Fatal(err)
			}
			if restarted {
				left, err := filepath.Glob(temp + "/*")
				if err != nil || len(left) != 1 {
					t.Fatal(left, err)
				}
				if err := os.RemoveAll(left[0]); err != nil {
					t.Fatal(err)
				}
			}
			total := 0
			for i := range cs.list {
				c := cs.list[len(cs.list)-1-i]
				if restarted {
					c.Data["boot"] = "another"
				}
				n, err := custom.Reap(t.Context(), c)
				if err != nil {
					t.Errorf("Reap: %v", err)
				}
				total += n
			}
			if total != 1 {
				t.Errorf("Reap ended %d, want the one cleanup", total)
			}
			if got := read(t, filepath.Join(dir, "order")); got != "cleanup -d\n" {
				t.Errorf("calls: %q, want one cleanup", got)
			}
			if got := lookup(t, filepath.Join(dir, "env.cleanup"), "CELL"); got != "9" {
				t.Errorf("CELL=%q, want what config_exec said", got)
			}
			if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

// The number of a program that is gone may belong to anybody.
func TestReapSparesStrangers(t *testing.T) {
	stranger, err := os.StartProcess("/bin/sleep", []string{"sleep", "1000"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{Setpgid: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stranger.Kill(); err != nil {
			t.Errorf("the stranger was killed: %v", err)
		}
		_, _ = stranger.Wait()
	}()
	boot := strings.TrimSpace(read(t, "/proc/sys/kernel/random/boot_id"))
	c := executor.Claim{Kind: "custom-program", ID: fmt.Sprint(stranger.Pid), Data: map[string]string{"boot": boot, "start": "5", "mark": "JOB_RESPONSE_FILE=/x"}}
	if n, err := custom.Reap(t.Context(), c); err != nil || n != 0 {
		t.Errorf("Reap: %d, %v, want 0", n, err)
	}
	for _, bad := range []executor.Claim{
		{Kind: "custom-program", ID: "1", Data: map[string]string{"boot": boot, "start": "5", "mark": "x"}},
		{Kind: "custom-program", ID: "x", Data: map[string]string{"boot": boot, "start": "5", "mark": "x"}},
		{Kind: "custom-program", ID: "77", Data: map[string]string{"boot": boot, "start": "5"}},
		{Kind: "custom-place", ID: "/etc", Data: map[string]string{"cleanup": "{}"}},
		{Kind: "custom-place", ID: "custom-executor1", Data: map[string]string{"cleanup": "{}"}},
		{Kind: "custom-place", ID: "/tmp/custom-executor1", Data: map[string]string{"cleanup": "{"}},
	} {
		if n, err := custom.Reap(t.Context(), bad); err == nil || n != 0 {
			t.Errorf("Reap(%+v): %d, %v, want an error", bad, n, err)
		}
	}
}
