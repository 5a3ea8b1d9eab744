//go:build linux

package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// touch makes an empty file.
func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestGracefulShutdown lets the running job end and takes no other.
func TestGracefulShutdown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{Concurrent: 1})
	p := w.start(w.config("concurrent = 1"))
	hold := filepath.Join(w.dir, "hold")
	id := w.enqueue(fakegitlab.Job{Script: []string{"echo begun; until [ -e " + hold + " ]; do sleep 0.1; done; echo ended"}, AfterScript: []string{"echo after"}})
	w.until(id, "its script", printed("\nbegun\n"))
	next := w.enqueue(fakegitlab.Job{Script: []string{"true"}})
	p.signal(syscall.SIGQUIT)
	m := p.waitValue(1, "gitlab_runner_process_state_info", "state", "graceful-shutdown")
	m.check(t, 1, "glassrunner_jobs_running")
	if res, body := p.get("/-/ready"); res.StatusCode != 503 || !bytes.Contains(body, []byte(`"reason": "shutdown"`)) {
		t.Errorf("/-/ready: %s %q while shutting down", res.Status, body)
	}
	if res, body := p.get("/-/healthy"); res.StatusCode != 200 {
		t.Errorf("/-/healthy: %s %q while shutting down", res.Status, body)
	}
	p.signal(syscall.SIGQUIT) // a second one changes nothing
	touch(t, hold)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	s := w.wait(id)
	want(t, s, "success")
	has(t, text(s.Trace), "\nended\n", "\nafter\n", "Job succeeded")
	if s, err := w.server.Job(next); err != nil || s.Status != fakegitlab.Pending {
		t.Errorf("the next job is %s (%v), want pending", s.Status, err)
	}
	if left := w.stateLeft(); len(left) > 0 {
		t.Errorf("the state directory is not empty: %v", left)
	}
}

// TestIdleShutdown ends a runner that has nothing to do, in the middle of a long poll.
func TestIdleShutdown(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT} {
		w := newWorld(t, fakegitlab.Options{LongPoll: 50 * time.Second})
		p := w.start(w.config(""))
		p.waitValue(1, "gitlab_runner_request_concurrency")
		p.signal(s)
		began := time.Now()
		if code := p.exit(); code != 0 {
			t.Errorf("%v: exit code %d, want 0", s, code)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%v: it took %v to end", s, took)
		}
	}
}

// TestForcefulShutdown interrupts the running jobs and reports each.
func TestForcefulShutdown(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		signal syscall.Signal
		edit   func(*fakegitlab.Payload)
		want   string
		says   string
	}{
		{"SIGTERM", syscall.SIGTERM, nil, "failed runner_interrupted", "aborted: terminated"},
		{"SIGINT", syscall.SIGINT, nil, "failed runner_interrupted", "aborted: interrupt"},
		{"a server that knows no such reason", syscall.SIGTERM, func(p *fakegitlab.Payload) {
			p.Features.FailureReasons = []string{"script_failure"}
		}, "failed unknown_failure", "aborted: terminated"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fakegitlab.Options{})
			p := w.start(w.config(""))
			ids := w.enqueueMany(3, fakegitlab.Job{
				Script: []string{"echo begun; sleep 600"}, AfterScript: []string{"echo after"}, Edit: tt.edit,
			})
			for _, id := range ids {
				w.until(id, "its script", printed("\nbegun\n"))
			}
			p.signal(tt.signal)
			if code := p.exit(); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}
			for _, s := range w.waitAll(ids, tt.want) {
				has(t, text(s.Trace), "\nbegun\n", "ERROR: Job failed: "+tt.says)
				hasNot(t, text(s.Trace), "\nafter\n")
			}
			if left := w.stateLeft(); len(left) > 0 {
				t.Errorf("the state directory is not empty: %v", left)
			}
		})
	}
}

// TestForcefulAfterGraceful changes its mind.
func TestForcefulAfterGraceful(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config(""))
	id := w.enqueue(fakegitlab.Job{Script: []string{"echo begun; sleep 600"}})
	w.until(id, "its script", printed("\nbegun\n"))
	p.signal(syscall.SIGQUIT)
	p.waitValue(1, "gitlab_runner_process_state_info", "state", "graceful-shutdown")
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	want(t, w.wait(id), "failed runner_interrupted")
}

// TestSecondSignal ends the process at once; the next start reports the job.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	text1 := w.config("", entry{Extra: "  graceful_kill_timeout = \"1m\"\n"})
	p := w.start(text1)
	id := w.enqueue(fakegitlab.Job{Script: []string{`trap "" TERM; echo begun; while :; do sleep 1; done`}})
	w.until(id, "its script", printed("\nbegun\n"))
	p.signal(syscall.SIGTERM)
	p.waitLog(regexp.MustCompile("Starting forceful shutdown"))
	if err := w.server.Disturb(id); err != nil {
		t.Fatal(err)
	}
	// At once it would be the first one again.
	w.eventually("the end", func() bool {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		return !p.running()
	})
	if code := p.exit(); code == 0 {
		t.Error("exit code 0 although a job was not reported")
	}
	w.restart()
	want(t, w.wait(id), "failed runner_system_failure")
	w.eventually("the end of the job's processes", func() bool { return len(w.jobProcesses()) == 0 })
}

// TestSignalTwiceAtOnce is what timeout(1) and some supervisors do: the jobs
// are reported all the same.
func TestSignalTwiceAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config(""))
	id := w.enqueue(fakegitlab.Job{Script: []string{"echo begun; sleep 600"}})
	w.until(id, "its script", printed("\nbegun\n"))
	p.signal(syscall.SIGTERM)
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	want(t, w.wait(id), "failed runner_interrupted")
}

// TestShutdownTimeout has a job that cannot be reported in time.
func TestShutdownTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config("shutdown_timeout = 2"))
	id := w.enqueue(fakegitlab.Job{Script: []string{"echo begun; sleep 600"}})
	w.until(id, "its script", printed("\nbegun\n"))
	outage := w.server.AddFault(fakegitlab.Fault{Status: 503})
	if err := w.server.Disturb(id); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code == 0 {
		t.Error("exit code 0 although a job was not reported")
	}
	if took := time.Since(began); took < time.Second || took > 10*time.Second {
		t.Errorf("it took %v, shutdown_timeout is 2 s", took)
	}
	has(t, p.log.String(), "the next start reports them")
	w.server.RemoveFault(outage)
	w.restart()
	s := w.wait(id)
	if s.Status != fakegitlab.Failed {
		t.Errorf("the job is %s", s.Status)
	}
	has(t, text(s.Trace), "\nbegun\n")
	w.eventually("an empty state directory", func() bool { return len(w.stateLeft()) == 0 })
}

// TestHangup reloads at once, without a change of the file as well.
func TestHangup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config(""))
	p.signal(syscall.SIGHUP)
	m := p.waitValue(2, "gitlab_runner_configuration_loaded_total")
	m.check(t, 0, "gitlab_runner_configuration_loading_error_total")
	m.check(t, 2, "glassrunner_config_generation")
	want(t, w.run(fakegitlab.Job{Script: []string{"true"}}), "success")
}

// TestReloadOfAChangedFile takes at most 3 s.
func TestReloadOfAChangedFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{Concurrent: 7})
	p := w.start(w.config(""))
	began := time.Now()
	w.write(w.config("concurrent = 7"))
	m := p.waitValue(7, "gitlab_runner_concurrent")
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("the change took %v", took)
	}
	m.check(t, 2, "gitlab_runner_configuration_loaded_total")

	// In place, as an editor may.
	if err := os.WriteFile(w.path, []byte(w.config("concurrent = 6")), 0o600); err != nil {
		t.Fatal(err)
	}
	p.waitValue(6, "gitlab_runner_concurrent")
}

// TestReloadThroughSymlinks swaps a directory as Kubernetes does for a ConfigMap.
func TestReloadThroughSymlinks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	mount := filepath.Join(w.dir, "mount")
	version := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(mount, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(mount, name, "config.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		next := filepath.Join(mount, "..data_tmp")
		if err := os.Symlink(name, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(mount, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..2026_01", w.config("concurrent = 2"))
	w.path = filepath.Join(mount, "config.toml")
	if err := os.Symlink(filepath.Join("..data", "config.toml"), w.path); err != nil {
		t.Fatal(err)
	}
	p := w.restart()
	p.waitValue(2, "gitlab_runner_concurrent")
	version("..2026_02", w.config("concurrent = 3"))
	if err := os.RemoveAll(filepath.Join(mount, "..2026_01")); err != nil {
		t.Fatal(err)
	}
	p.waitValue(3, "gitlab_runner_concurrent")
}

// TestReloadOfABadFile keeps the generation that is in force, says so once, and
// takes the next good file.
func TestReloadOfABadFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config(""))
	const complaint = "Failed to load the configuration"
	bad := []struct{ text, says string }{
		{"concurrent = ", "config.toml:1:"},
		{"concurrent = \"many\"", "concurrent"},
	}
	for i, b := range bad {
		w.write(b.text)
		m := p.waitValue(float64(i+1), "gitlab_runner_configuration_loading_error_total")
		m.check(t, 1, "gitlab_runner_configuration_loaded_total")
		m.check(t, 0, "glassrunner_config_last_reload_successful")
		m.check(t, 4, "gitlab_runner_concurrent")
		want(t, w.run(fakegitlab.Job{Script: []string{"true"}}), "success")
		if n := strings.Count(p.log.String(), complaint); n != i+1 {
			t.Errorf("the log has %d complaints after %d bad files", n, i+1)
		}
		has(t, p.log.String(), complaint, w.path, b.says)
	}
	w.write(w.config("concurrent = 3"))
	m := p.waitValue(3, "gitlab_runner_concurrent")
	m.check(t, 1, "glassrunner_config_last_reload_successful")
	m.check(t, 2, "gitlab_runner_configuration_loaded_total")
	m.check(t, float64(len(bad)), "gitlab_runner_configuration_loading_error_total")
}

// TestReloadWithoutAFile keeps what is in force while the file is away, asked
// to reload or not.
func TestReloadWithoutAFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config(""))
	if err := os.Remove(w.path); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGHUP)
	m := p.waitValue(1, "gitlab_runner_configuration_loading_error_total")
	m.check(t, 1, "gitlab_runner_configuration_loaded_total")
	m.check(t, 4, "gitlab_runner_concurrent")
	has(t, p.log.String(), "Failed to load the configuration", w.path)
	want(t, w.run(fakegitlab.Job{Script: []string{"true"}}), "success")
	w.write(w.config("concurrent = 3"))
	p.waitValue(3, "gitlab_runner_concurrent")
}

// TestBrokenEntry has an entry that cannot work beside one that can.
func TestBrokenEntry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	other := w.addRunner("other", fakegitlab.Limits{})
	text := w.config("", entry{Name: "fine"}, entry{Name: "broken", Token: other.Token})
	text = text[:strings.LastIndex(text, `executor = "shell"`)] + "executor = \"abacus\"\n"
	p := w.start(text)
	want(t, w.run(fakegitlab.Job{Script: []string{"true"}}), "success")
	m := p.waitValue(0, "glassrunner_runner_healthy", "runner_name", "broken")
	m.check(t, 1, "glassrunner_runner_healthy", "runner_name", "fine")
	has(t, p.log.String(), "abacus", "takes no jobs")
	if n := strings.Count(p.log.String(), "is not in this build"); n != 1 {
		t.Errorf("the log says %d times why", n)
	}
}

// TestBadStart does not run what cannot work, and says why.
func TestBadStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	for _, tt := range []struct {
		name, text string
		args       []string
		code       int
		says       []string
	}{
		{"broken file", "concurrent = [", nil, 1, []string{w.path}},
		{"wrong type", "concurrent = \"x\"\n", nil, 1, []string{w.path, "concurrent"}},
		{"state directory is a file", w.config("state_dir = \"config.toml\""), nil, 1, []string{"state_dir"}},
		{"unknown flag", w.config(""), []string{"--no-such-flag"}, 2, []string{"--no-such-flag"}},
		{"argument", w.config(""), []string{"now"}, 2, []string{"now"}},
		{"log level", w.config(""), []string{"--log-level", "loud"}, 2, []string{"loud"}},
	} {
		w.write(tt.text)
		p := w.command(nil, append([]string{"run", "--config", w.path}, tt.args...)...)
		if code := p.exit(); code != tt.code {
			t.Errorf("%s: exit code %d, want %d\n%s", tt.name, code, tt.code, p.log)
		}
		has(t, p.log.String(), tt.says...)
	}
}

// TestLogWithoutReaders goes on when nobody reads its log any more.
func TestLogWithoutReaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	w.write(w.config(""))
	p := w.program("/bin/sh", nil, "-c", "exec 3>&1; "+binary+" run --config "+w.path+" 2>&1 >/dev/null | { head -n 2; exec >&-; echo gone >&3; }; echo ended")
	p.waitLog(regexp.MustCompile("gone"))
	for range 3 {
		// A reader of a pipe that closes has to be a job's own matter still.
		if s := w.run(fakegitlab.Job{Script: []string{"yes | head -n 1", "echo done"}}); s.Status != fakegitlab.Success || !printed("done")(s) {
			t.Fatalf("the job is %s\n%s", s.Status, s.Trace)
		}
	}
	for pid := range w.jobProcesses() {
		if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); exe == binary {
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
	}
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
