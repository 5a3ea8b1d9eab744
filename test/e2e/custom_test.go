//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// cells are places for jobs, made by programs: a directory each.
type cells struct {
	w   *world
	dir string // of the programs
}

// Programs that give each job a directory below $CELLS. The helper is there
// as "glassrunner" in $PATH, and nothing of the runner's environment is.
const (
	cellConfig = `#!/bin/sh
echo "config $CUSTOM_ENV_CI_JOB_ID" >>"$CELLS/calls"
cat <<EOF
{"driver": {"name": "cells", "version": "v1"}, "hostname": "cell-$CUSTOM_ENV_CI_JOB_ID",
 "builds_dir": "$CELLS/$CUSTOM_ENV_CI_JOB_ID/builds", "cache_dir": "$CELLS/cache", "shell": "bash",
 "job_env": {"CELL": "$CELLS/$CUSTOM_ENV_CI_JOB_ID"}}
EOF
`
	cellPrepare = `#!/bin/sh
echo "prepare $CUSTOM_ENV_CI_JOB_ID" >>"$CELLS/calls"
[ "$CUSTOM_ENV_PREPARE" != job ] || { echo "this job cannot be" >&2; exit "$BUILD_FAILURE_EXIT_CODE"; }
[ "$CUSTOM_ENV_PREPARE" != once ] || [ -e "$CELLS/again" ] || { : >"$CELLS/again"; echo "not yet"; exit "$SYSTEM_FAILURE_EXIT_CODE"; }
[ "$CUSTOM_ENV_PREPARE" != never ] || { echo "broken"; exit "$SYSTEM_FAILURE_EXIT_CODE"; }
mkdir -p "$CELL" && echo "cell is ready in $CUSTOM_ENV_CI_PROJECT_DIR"
setsid sleep 7777 >/dev/null 2>&1 </dev/null & echo $! >"$CELL/daemon"
`
	cellRun = `#!/bin/sh
echo "run $CUSTOM_ENV_CI_JOB_ID $2" >>"$CELLS/calls"
cd "$CELL" || exit "$SYSTEM_FAILURE_EXIT_CODE"
env -i HOME="$CELL" PATH="$CELLS/bin:$PATH" GLASSRUNNER_E2E_MARK="$GLASSRUNNER_E2E_MARK" bash <"$1" && exit
echo $? >"$BUILD_EXIT_CODE_FILE"
exit "$BUILD_FAILURE_EXIT_CODE"
`
	cellCleanup = `#!/bin/sh
echo "cleanup $CUSTOM_ENV_CI_JOB_ID" >>"$CELLS/calls"
[ -z "$CELL" ] || [ ! -e "$CELL/daemon" ] || kill -9 "$(cat "$CELL/daemon")" 2>/dev/null
[ -z "$CELL" ] || rm -rf "$CELL"
`
)

// newCells writes the programs.
func newCells(w *world) *cells {
	w.t.Helper()
	c := &cells{w: w, dir: filepath.Join(w.dir, "cells")}
	if err := os.MkdirAll(filepath.Join(c.dir, "bin"), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Symlink(binary, filepath.Join(c.dir, "bin", "glassrunner")); err != nil {
		w.t.Fatal(err)
	}
	for name, text := range map[string]string{"config": cellConfig, "prepare": cellPrepare, "run": cellRun, "cleanup": cellCleanup} {
		text = strings.Replace(text, "\n", "\nCELLS="+c.dir+"\n", 1)
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o700); err != nil {
			w.t.Fatal(err)
		}
	}
	return c
}

// entry is the runner with those programs; more are lines of [runners.custom].
func (c *cells) entry(more string) entry {
	var b strings.Builder
	b.WriteString("  [runners.custom]\n")
	for _, name := range []string{"config", "prepare", "run", "cleanup"} {
		fmt.Fprintf(&b, "    %s_exec = %q\n", name, filepath.Join(c.dir, name))
	}
	return entry{Executor: "custom", Extra: b.String() + more}
}

// calls lists the calls for a job, without its number.
func (c *cells) calls(id int64) string {
	text, err := os.ReadFile(filepath.Join(c.dir, "calls"))
	if err != nil {
		c.w.t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) > 1 && f[1] == fmt.Sprint(id) {
			out = append(out, strings.Join(append(f[:1], f[2:]...), ":"))
		}
	}
	return strings.Join(out, " ")
}

// empty reports whether all jobs' places are gone, the runner's temporary
// directories included.
func (c *cells) empty() bool {
	left, err := filepath.Glob(filepath.Join(c.dir, "[0-9]*"))
	temp, terr := filepath.Glob(filepath.Join(c.w.dir, "tmp", "custom-executor*"))
	return err == nil && terr == nil && len(left)+len(temp) == 0
}

func TestCustomExecutor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{UpdateInterval: 1})
	c := newCells(w)
	p := w.start(w.config("", c.entry("    graceful_kill_timeout = 1\n")))

	build := w.enqueue(fakegitlab.Job{
		Name: "build", Variables: empty("GREETING", "hello"),
		Script:      []string{"echo $GREETING from $PWD", "mkdir out vendor; echo made > out/f; echo v1 > vendor/gem", "echo ${HOME##*/}"},
		AfterScript: []string{"echo after"},
		Artifacts:   []fakegitlab.ArtifactSpec{archiveOf("out/")},
		Cache:       []fakegitlab.Cache{{Key: "gems", Policy: "pull-push", Paths: []string{"vendor/"}, When: "on_success"}},
	})
	s := w.wait(build)
	want(t, s, "success")
	log := text(s.Trace)
	has(t, log, `Preparing the "custom" executor`, "Using Custom executor with driver cells v1...", "cell is ready in "+c.dir, fmt.Sprintf("Running on cell-%d...", build),
		"build_script, which will become step_script", "hello from "+c.dir, fmt.Sprintf("\n%d\n", build), "\nafter\n", "Created cache", `Uploading artifacts as "archive" to coordinator... 201 Created`)
	hasNot(t, log, "cleanup")
	if got, wanted := c.calls(build), "config prepare run:prepare_script run:get_sources run:restore_cache run:build_script run:after_script run:archive_cache run:upload_artifacts_on_success run:cleanup_file_variables cleanup"; got != wanted {
		t.Errorf("calls: %s\n  want: %s", got, wanted)
	}

	s = w.run(fakegitlab.Job{
		Variables: empty(), Dependencies: []int64{build}, Script: []string{"cat out/f vendor/gem"},
		Cache: []fakegitlab.Cache{{Key: "gems", Policy: "pull", Paths: []string{"vendor/"}, When: "on_success"}},
	})
	want(t, s, "success")
	has(t, text(s.Trace), "\nmade\nv1\n")

	s = w.run(fakegitlab.Job{Variables: empty(), Script: []string{"exit 7"}})
	want(t, s, "failed script_failure 7")
	has(t, text(s.Trace), "ERROR: Job failed: exit status 7")

	s = w.run(fakegitlab.Job{Variables: empty("PREPARE", "job"), Script: []string{"true"}})
	want(t, s, "failed script_failure 1")
	has(t, text(s.Trace), "this job cannot be", "ERROR: Job failed: exit status 1")
	if got := c.calls(s.ID); got != "config prepare cleanup" {
		t.Errorf("calls: %s", got)
	}

	s = w.run(fakegitlab.Job{Variables: empty("PREPARE", "once"), Script: []string{"true"}})
	want(t, s, "success")
	has(t, text(s.Trace), "not yet", "Preparation failed: prepare_exec: exit status 2", "Will be retried in 3s ...")
	if got := c.calls(s.ID); !strings.HasPrefix(got, "config prepare cleanup config prepare run:prepare_script") {
		t.Errorf("calls: %s", got)
	}

	// A cancel ends the script, and after_script has its turn.
	id := w.enqueue(fakegitlab.Job{Variables: empty(), Script: []string{"echo begun; sleep 600"}, AfterScript: []string{"echo status $CI_JOB_STATUS"}})
	w.until(id, "its script", printed("\nbegun\n"))
	if err := w.server.Cancel(id); err != nil {
		t.Fatal(err)
	}
	s = w.until(id, "after_script", func(s fakegitlab.Snapshot) bool {
		return s.Status.Final() && strings.Contains(string(s.Trace), "status canceled")
	})
	if s.Status != fakegitlab.Canceled {
		t.Errorf("status %s, want canceled", s.Status)
	}
	w.eventually("empty cells", c.empty)
	p.waitValue(0, "glassrunner_jobs_running")
}

// TestCustomCrash kills the runner while a program of a job runs.
func TestCustomCrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	c := newCells(w)
	p := w.start(w.config("", c.entry("")))
	id := w.enqueue(fakegitlab.Job{Variables: empty(), Script: []string{"echo begun; sleep 600"}})
	w.until(id, "its script", printed("\nbegun\n"))
	w.disturb(id)
	p.kill()
	if c.empty() || sleeping(w, "600", "7777") != 2 {
		t.Error("the job's place went with the runner: the test shows nothing")
	}
	w.recovered(id)
	if got := c.calls(id); !strings.HasSuffix(got, "run:build_script cleanup") {
		t.Errorf("calls: %s", got)
	}
	w.eventually("empty cells", c.empty)
}

// TestCustomIsolation runs jobs in a root directory and in namespaces of
// their own: programs that a chroot, a container or a machine could stand for.
func TestCustomIsolation(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("a root directory of its own takes root")
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("busybox is not installed")
	}
	if out, err := exec.Command("unshare", "--mount", "--pid", "--fork", "--net", "true").CombinedOutput(); err != nil {
		t.Skipf("there are no namespaces: %v: %s", err, out)
	}
	w := newWorld(t, fakegitlab.Options{})
	dir := filepath.Join(w.dir, "roots")
	program := func(name, body string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		text := fmt.Sprintf("#!/bin/sh\nset -e\nROOT=%s/$CUSTOM_ENV_CI_JOB_ID\n%s\n", dir, body)
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	extra := "  [runners.custom]\n"
	for name, body := range map[string]string{
		"config":  `echo '{"builds_dir": "/builds", "cache_dir": "/cache", "shell": "sh", "hostname": "root"}'`,
		"prepare": fmt.Sprintf(`mkdir -p $ROOT/bin $ROOT/proc $ROOT/tmp $ROOT/dev; cp %s $ROOT/bin/; chroot $ROOT /bin/busybox --install -s /bin; mknod $ROOT/dev/null c 1 3`, busybox),
		"run": `cp "$1" $ROOT/script
unshare --mount --pid --net --fork --kill-child sh -c 'mount -t proc proc '$ROOT'/proc && exec chroot '$ROOT' /bin/sh /script' || {
  echo $? >"$BUILD_EXIT_CODE_FILE"; exit "$BUILD_FAILURE_EXIT_CODE"; }`,
		"cleanup": `rm -rf $ROOT`,
	} {
		extra += fmt.Sprintf("    %s_exec = %q\n", name, program(name, body))
	}
	w.start(w.config("", entry{Executor: "custom", Extra: extra}))
	s := w.run(fakegitlab.Job{
		Variables: empty(), Script: []string{"pwd; ls /; id -u", "ps | grep -c . ; ls /etc 2>&1 || true"}, AfterScript: []string{"echo $CI_JOB_STATUS"},
		Artifacts: []fakegitlab.ArtifactSpec{archiveOf("f")},
	})
	want(t, s, "success")
	has(t, text(s.Trace), "Running on root...", "\n/builds/", "\nbin\nbuilds\n", "\nsuccess\n", "Missing glassrunner. Uploading artifacts is disabled.")
	s = w.run(fakegitlab.Job{Variables: empty(), Script: []string{"exit 9"}})
	want(t, s, "failed script_failure 9")
	if left, err := filepath.Glob(filepath.Join(dir, "[0-9]*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
