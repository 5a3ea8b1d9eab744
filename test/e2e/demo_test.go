//go:build linux

package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// leftovers lists what a demo left in its temporary directory.
func leftovers(w *world) []string {
	left, _ := filepath.Glob(filepath.Join(w.dir, "tmp", "*"))
	return left
}

// TestDemoOnce runs the built-in pipeline and its checks.
func TestDemoOnce(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	t.Cleanup(w.finish)
	p := w.command(nil, "demo", "--once", "--listen-address", "127.0.0.1:0")
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	has(t, p.log.String(), "/metrics", "compile", "8 jobs, results and metrics are as they should be.")
	if left := leftovers(w); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

// TestDemoPipeline runs jobs of a file.
func TestDemoPipeline(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	t.Cleanup(w.finish)
	out := filepath.Join(w.dir, "out")
	pipeline := file(t, w, ".gitlab-ci.yml", `
stages: [first, second]
variables:
  WHO: world
before_script:
  - echo before >> `+out+`
one:
  stage: first
  variables: {WHO: you}
  script: echo "hello $WHO" >> `+out+`
two:
  stage: second
  script:
    - echo "hello $WHO" >> `+out+`
  after_script: ["echo after $CI_JOB_STATUS >> `+out+`"]
`)
	p := w.command(nil, "demo", "--once", "--pipeline", pipeline, "--listen-address", "127.0.0.1:0")
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d, want 0\n%s", code, p.log)
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if want := "before\nhello you\nbefore\nhello world\nafter success\n"; string(got) != want {
		t.Errorf("the jobs wrote %q, want %q", got, want)
	}
}

// TestDemoRefuses names what it does not know, with the line.
func TestDemoRefuses(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	t.Cleanup(w.finish)
	for _, tt := range []struct {
		name, text string
		says       []string
	}{
		{"a keyword of a job", "a:\n  script: [\"true\"]\n  parallel: 3\n", []string{".gitlab-ci.yml:3", "parallel"}},
		{"a global keyword", "include: other.yml\na:\n  script: [\"true\"]\n", []string{".gitlab-ci.yml:1", "include"}},
		{"a stage that is not there", "a:\n  stage: never\n  script: [\"true\"]\n", []string{"never"}},
		{"a wrong type", "a:\n  script: {b: c}\n", []string{".gitlab-ci.yml:2"}},
		{"no jobs", "stages: [a]\n", []string{"there are no jobs"}},
		{"no YAML", "a: [\n", []string{".gitlab-ci.yml"}},
		{"a job without a script", "a:\n  stage: test\n", []string{"script"}},
	} {
		path := file(t, w, ".gitlab-ci.yml", tt.text)
		p := w.command(nil, "demo", "--once", "--pipeline", path, "--listen-address", "127.0.0.1:0")
		if code := p.exit(); code != 1 {
			t.Errorf("%s: exit code %d, want 1\n%s", tt.name, code, p.log)
		}
		has(t, p.log.String(), tt.says...)
	}
	p := w.command(nil, "demo", "--pipeline", filepath.Join(w.dir, "not-there.yml"))
	if code := p.exit(); code != 1 {
		t.Errorf("exit code %d without the file, want 1", code)
	}
	if left := leftovers(w); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

// TestDemoFails has an exit code of 1 when the address is taken.
func TestDemoFails(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	t.Cleanup(w.finish)
	busy := "127.0.0.1:" + busyPort(t)
	p := w.command(nil, "demo", "--once", "--listen-address", busy)
	if code := p.exit(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	has(t, p.log.String(), busy, "in use")
	if left := leftovers(w); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

// TestDemoStops ends cleanly while jobs run, however it is asked to.
func TestDemoStops(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		w := bareWorld(t)
		p := startDemo(w)
		p.waitMetrics("a running job", func(m families) bool { return m.sum("gitlab_runner_jobs", "state", "running") > 0 })
		p.signal(s)
		if code := p.exit(); code != 0 {
			t.Errorf("%v: exit code %d, want 0\n%s", s, code, tail(p.log.String(), 1000))
		}
		if left := leftovers(w); len(left) > 0 {
			t.Errorf("%v: it left %v", s, left)
		}
		if strings.Contains(p.log.String(), "\x1b[") {
			t.Errorf("%v: it draws although its output is no terminal", s)
		}
		w.finish()
	}
}

// TestDemoWithoutReaders ends cleanly when nobody reads what it prints.
func TestDemoWithoutReaders(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	p := w.program("/bin/sh", nil, "-c", binary+" demo --listen-address 127.0.0.1:0 | head -n 2")
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d, want that of head\n%s", code, p.log)
	}
	has(t, p.log.String(), "nobody reads its output")
	if left := leftovers(w); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
	w.finish()
}

func TestDemoUsage(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	t.Cleanup(w.finish)
	for _, args := range [][]string{{"--listen-address", ""}, {"--concurrent", "0"}, {"--concurrent", "-1"}} {
		p := w.command(nil, append([]string{"demo"}, args...)...)
		if code := p.exit(); code != 2 {
			t.Errorf("%q: exit code %d, want 2\n%s", args, code, p.log)
		}
		has(t, p.log.String(), args[0])
	}
}
