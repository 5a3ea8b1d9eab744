//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
	"github.com/glassrunner/glassrunner/internal/remote/remotetest"
)

// newMachine starts an SSH server whose commands find the helper, and whose
// processes the world counts as its own.
func newMachine(w *world) *remotetest.Server {
	w.t.Helper()
	bin := filepath.Join(w.dir, "bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Symlink(binary, filepath.Join(bin, "glassrunner")); err != nil {
		w.t.Fatal(err)
	}
	s := remotetest.Start(w.t, "GLASSRUNNER_E2E_MARK="+w.mark)
	// A login shell sets PATH.
	profile := fmt.Sprintf("PATH=%s:$PATH\n", bin)
	if err := os.WriteFile(filepath.Join(s.Home, ".profile"), []byte(profile), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// sshEntry is a runner that enters a machine; more are lines of [runners.ssh].
func sshEntry(s *remotetest.Server, more string) entry {
	return entry{Executor: "ssh", Shell: "bash", Extra: fmt.Sprintf(`  [runners.ssh]
    host = %q
    port = %q
    user = %q
    identity_file = %q
    known_hosts_file = %q
%s`, s.Host, s.Port, s.User, s.KeyFile, s.KnownHosts, more)}
}

func TestSSHExecutor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{UpdateInterval: 1})
	m := newMachine(w)
	p := w.start(w.config("", sshEntry(m, "")))

	build := w.enqueue(fakegitlab.Job{
		Name: "build", Variables: empty("GREETING", "hello"),
		Script:      []string{"echo $GREETING from $PWD", "[ -n \"$SSH_CONNECTION\" ]", "mkdir out vendor; echo made > out/f; echo v1 > vendor/gem", "sleep 7777 & echo daemon"},
		AfterScript: []string{"echo after"},
		Artifacts:   []fakegitlab.ArtifactSpec{archiveOf("out/")},
		Cache:       []fakegitlab.Cache{{Key: "gems", Policy: "pull-push", Paths: []string{"vendor/"}, When: "on_success"}},
	})
	s := w.wait(build)
	want(t, s, "success")
	log := text(s.Trace)
	has(t, log, `Preparing the "ssh" executor`, "Using SSH executor...", "hello from "+filepath.Join(w.dir, "builds")+"/", "\ndaemon\n", "\nafter\n",
		"Created cache", `Uploading artifacts as "archive" to coordinator... 201 Created`)
	w.eventually("the end of the daemon", func() bool { return sleeping(w, "7777") == 0 })

	s = w.run(fakegitlab.Job{
		Variables: empty(), Dependencies: []int64{build}, Script: []string{"cat out/f vendor/gem"},
		Cache: []fakegitlab.Cache{{Key: "gems", Policy: "pull", Paths: []string{"vendor/"}, When: "on_success"}},
	})
	want(t, s, "success")
	has(t, text(s.Trace), "\nmade\nv1\n")

	s = w.run(fakegitlab.Job{Variables: empty(), Script: []string{"exit 7"}})
	want(t, s, "failed script_failure 7")
	has(t, text(s.Trace), "ERROR: Job failed: exit status 7")

	id := w.enqueue(fakegitlab.Job{Variables: empty(), Script: []string{"echo begun; sh -c 'sleep 6543; :'"}, AfterScript: []string{"echo status $CI_JOB_STATUS"}})
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
	if n := sleeping(w, "6543"); n > 0 {
		t.Errorf("%d processes outlive the cancel", n)
	}
	p.waitValue(0, "glassrunner_jobs_running")
}

// TestSSHHostKey has a server whose key nobody knows.
func TestSSHHostKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	m := newMachine(w)
	if err := os.WriteFile(m.KnownHosts, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.start(w.config("", sshEntry(m, "")))
	s := w.run(fakegitlab.Job{Variables: empty(), Script: []string{"true"}})
	want(t, s, "failed runner_configuration_error")
	has(t, text(s.Trace), "has no key of this host, which shows the ssh-ed25519 key SHA256:")
	hasNot(t, text(s.Trace), "trying again", "Will be retried")
}

// TestSSHCrash kills the runner while a job runs on the machine.
func TestSSHCrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	m := newMachine(w)
	p := w.start(w.config("", sshEntry(m, "")))
	id := w.enqueue(fakegitlab.Job{Variables: empty(), Script: []string{"(setsid sleep 7777 >/dev/null 2>&1 </dev/null &); echo begun; sleep 600"}})
	w.until(id, "its script", printed("\nbegun\n"))
	w.disturb(id)
	p.kill()
	if sleeping(w, "600", "7777") != 2 {
		t.Error("the job's processes went with the runner: the test shows nothing")
	}
	w.recovered(id)
}
