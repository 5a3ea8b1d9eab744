//go:build linux

package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// marks lists the processes of this test that carry a job's mark.
func (w *world) marks() []int {
	var pids []int
	for pid := range w.jobProcesses() {
		if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err == nil && bytes.Contains(env, []byte("GLASSRUNNER_JOB=")) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// freeze stops these processes, so that what they are stays true, and returns
// how many there are.
func (w *world) freeze() int {
	w.t.Helper()
	var last []int
	w.eventually("all processes to stop", func() bool {
		stopped := true
		now := w.marks()
		for _, pid := range now {
			_ = syscall.Kill(pid, syscall.SIGSTOP)
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			stopped = stopped && err == nil && bytes.Contains(stat, []byte(") T "))
		}
		same := slices.Equal(now, last)
		last = now
		return stopped && same
	})
	return len(last)
}

var orphanLine = regexp.MustCompile(`Something of jobs that are over was left behind" kind=(\w+) count=(\d+)`)

// counted is how many of a kind the process said that it found first.
func (p *process) counted(kind string) int {
	text, _ := p.log.look()
	for _, m := range orphanLine.FindAllStringSubmatch(text, -1) {
		if m[1] == kind {
			n, _ := strconv.Atoi(m[2])
			return n
		}
	}
	return 0
}

func noOrphans(m families) bool { return m.sum("glassrunner_orphans") == 0 }

// TestOrphansAfterKill kills the runner at random moments. The next one counts
// every process that is left, ends them all, and removes the files that held
// their variables.
func TestOrphansAfterKill(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{Concurrent: 100, UpdateInterval: 60})
	text := w.config("concurrent = 8")
	p := w.start(text)
	found := 0
	for round := range 12 {
		var ids []int64
		for range 3 {
			ids = append(ids, w.enqueue(fakegitlab.Job{
				Script:    []string{"setsid sleep 601 </dev/null >/dev/null 2>&1 & sleep 602 & sleep 600"},
				Variables: []fakegitlab.Variable{{Key: "CONTENT", Value: "secret", File: true}},
			}))
		}
		w.until(ids[0], "its hand-out", func(s fakegitlab.Snapshot) bool { return s.Handouts > 0 })
		<-time.After(time.Duration(rand.IntN(400)) * time.Millisecond)
		w.disturb(ids...)
		p.kill()
		left := w.freeze()
		found += left
		p = w.restart()
		if left > 0 {
			p.waitLog(orphanLine)
			p.waitMetrics("no orphans", noOrphans)
		}
		for _, id := range ids {
			s, err := w.server.Job(id)
			if err != nil {
				t.Fatal(err)
			}
			if !s.Status.Final() {
				// It runs only now, or the runner died before it knew of it.
				if err := w.server.Fail(id, "stuck_or_timeout_failure"); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.eventually("the end of all processes", func() bool { return len(w.marks()) == 0 })
		p.waitValue(0, "glassrunner_jobs_running")
		if got := p.counted("process"); left > 0 && got != left {
			t.Errorf("round %d: %d processes were counted, %d were left", round, got, left)
		}
	}
	if found < 12 {
		t.Errorf("%d processes were left in all rounds: the test shows nothing", found)
	}
	var files []string
	_ = filepath.WalkDir(filepath.Join(w.dir, "builds"), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Name() == "CONTENT" {
			files = append(files, path)
		}
		return nil
	})
	if len(files) > 0 {
		t.Errorf("file variables are left: %v", files)
	}
}

// TestOrphansWithoutJournal loses the journal of a runner that was killed:
// what is left is only reported, until the operator wants it removed.
func TestOrphansWithoutJournal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	text := w.config("")
	p := w.start(text)
	id := w.enqueue(fakegitlab.Job{Script: []string{"echo begun; sleep 600 & sleep 601"}})
	w.until(id, "its script", printed("\nbegun\n"))
	w.disturb(id)
	p.kill()
	left := w.freeze()
	if err := os.RemoveAll(filepath.Join(w.dir, ".glassrunner")); err != nil {
		t.Fatal(err)
	}
	if err := w.server.Fail(id, "stuck_or_timeout_failure"); err != nil {
		t.Fatal(err)
	}
	p = w.start(text + "[orphans]\ninterval = \"200ms\"\n")
	p.waitValue(float64(left), "glassrunner_orphans", "kind", "process")
	m := p.waitMetrics("an age", func(m families) bool { return m.sum("glassrunner_orphan_oldest_seconds", "kind", "process") > 1 })
	m.check(t, 0, "glassrunner_orphans_reaped_total")
	if len(w.marks()) != left {
		t.Error("a process was ended although nothing is to be removed")
	}
	w.write(text + "[orphans]\ninterval = \"200ms\"\nreap = true\nmin_age = \"1s\"\n")
	m = p.waitMetrics("no orphans", noOrphans)
	m.check(t, float64(left), "glassrunner_orphans_reaped_total", "kind", "process")
	if left := w.marks(); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	want(t, w.run(fakegitlab.Job{Script: []string{"true"}}), "success")
}

// TestOrphansOfOthers has two runners with state directories of their own on
// one machine, both of which remove what they find at once: neither touches the
// other's jobs, nor its own that live.
func TestOrphansOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{Concurrent: 8, LongPoll: time.Second})
	other := w.addRunner("other", fakegitlab.Limits{RequestConcurrency: 1})
	const eager = "[orphans]\ninterval = \"20ms\"\nreap = true\nmin_age = \"1ns\"\n"
	first := w.start(w.config("concurrent = 4") + eager)
	elsewhere := filepath.Join(w.dir, "elsewhere")
	if err := os.Mkdir(elsewhere, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(elsewhere, "config.toml")
	if err := os.WriteFile(path, []byte(w.config("concurrent = 4", entry{Token: other.Token, Name: "other"})+eager), 0o600); err != nil {
		t.Fatal(err)
	}
	second := w.command(nil, "run", "--config", path)
	second.addr = second.listening()
	var ids []int64
	for i := range 60 {
		token := w.runner.Token
		if i%2 == 1 {
			token = other.Token
		}
		script := "true"
		if i%10 < 2 {
			script = "sleep 1 & sleep 2; wait"
		}
		ids = append(ids, w.enqueue(fakegitlab.Job{Runner: token, Script: []string{script}}))
	}
	for _, id := range ids {
		want(t, w.wait(id), "success")
	}
	for _, p := range []*process{first, second} {
		m := p.waitValue(0, "glassrunner_jobs_running")
		m.check(t, 0, "glassrunner_orphans_reaped_total")
		m.check(t, 0, "glassrunner_orphans")
		hasNot(t, p.log.String(), "left behind")
	}
}

// TestOrphansOfDocker kills a runner whose job has containers, volumes and a
// network, and then one whose journal is lost.
func TestOrphansOfDocker(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	w := dockerWorld(t, e, fakegitlab.Options{})
	conf := w.docker(e, "", `disable_cache = true`)
	p := w.start(conf)
	begin := func() int64 {
		id := w.enqueue(fakegitlab.Job{
			Script: []string{"echo begun; sleep 600"}, Variables: public("FF_NETWORK_PER_BUILD", "true"),
			Services: []fakegitlab.Service{{Name: dockerImage, Command: []string{"sleep", "600"}}},
		})
		w.until(id, "its script", printed("\nbegun\n"))
		w.disturb(id)
		p.kill()
		return id
	}
	counts := func() map[string]int {
		text, err := json.Marshal(map[string][]string{"label": {"mark=" + w.mark, "glassrunner.run"}})
		if err != nil {
			t.Fatal(err)
		}
		filters := "filters=" + url.QueryEscape(string(text))
		out := map[string]int{}
		for kind, path := range map[string]string{"container": "/containers/json?all=1&", "network": "/networks?", "volume": "/volumes?"} {
			_, text := e.call(http.MethodGet, path+filters, nil)
			// Every object has the label once.
			out[kind] = strings.Count(text, `"glassrunner.run":`)
		}
		return out
	}
	id := begin()
	left := counts()
	if left["container"] != 3 || left["network"] != 1 || left["volume"] == 0 {
		t.Fatalf("the job left %v: want three containers, a network and a volume", left)
	}
	p = w.restart()
	want(t, w.wait(id), "failed runner_system_failure")
	p.waitMetrics("no orphans", func(m families) bool {
		return m.sum("glassrunner_recovered_jobs_total", "result", "settled") == 1 && noOrphans(m)
	})
	for kind, n := range left {
		if got := p.counted(kind); got != n {
			t.Errorf("%d of kind %s were counted, %d were left", got, kind, n)
		}
	}
	if text := e.left(w); text != "" {
		t.Errorf("the engine still has %s", text)
	}

	id = begin()
	if err := os.RemoveAll(filepath.Join(w.dir, ".glassrunner")); err != nil {
		t.Fatal(err)
	}
	if err := w.server.Fail(id, "stuck_or_timeout_failure"); err != nil {
		t.Fatal(err)
	}
	left = counts()
	p = w.start(conf + "[orphans]\ninterval = \"500ms\"\n")
	for kind, n := range left {
		p.waitValue(float64(n), "glassrunner_orphans", "kind", kind)
	}
	w.write(conf + "[orphans]\ninterval = \"500ms\"\nreap = true\nmin_age = \"1s\"\n")
	m := p.waitMetrics("no orphans", noOrphans)
	for kind, n := range left {
		m.check(t, float64(n), "glassrunner_orphans_reaped_total", "kind", kind)
	}
	if text := e.left(w); text != "" {
		t.Errorf("the engine still has %s", text)
	}
}

// TestCrashBeforeTheLog kills a runner that has stored a job and not yet made
// its log: the job is reported all the same.
func TestCrashBeforeTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{UpdateInterval: 60})
	p := w.start(w.config(""))
	id := w.enqueue(fakegitlab.Job{Script: []string{"echo begun; sleep 600"}})
	w.until(id, "its script", printed("\nbegun\n"))
	w.disturb(id)
	p.kill()
	// The server has all of it, so what is as if it had never been is the file.
	if err := w.server.CutTrace(id, 0); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(w.dir, ".glassrunner", "process-*", "*", "log"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("the logs are %v, %v", logs, err)
	}
	if err := os.Remove(logs[0]); err != nil {
		t.Fatal(err)
	}
	w.recovered(id)
}
