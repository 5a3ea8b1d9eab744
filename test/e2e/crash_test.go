//go:build linux

package e2e_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// disturb tells the server that the test is about to kill the runner of jobs.
func (w *world) disturb(ids ...int64) {
	w.t.Helper()
	for _, id := range ids {
		if err := w.server.Disturb(id); err != nil {
			w.t.Fatal(err)
		}
	}
}

// recovered restarts the runner and checks that within 10 s every job is
// reported, none of its processes lives, and nothing is left to do.
func (w *world) recovered(ids ...int64) []fakegitlab.Snapshot {
	w.t.Helper()
	return w.recoveredAs("failed runner_system_failure", ids...)
}

func (w *world) recoveredAs(result string, ids ...int64) []fakegitlab.Snapshot {
	w.t.Helper()
	began := time.Now()
	p := w.restart()
	out := make([]fakegitlab.Snapshot, len(ids))
	for i, id := range ids {
		out[i] = w.wait(id)
		want(w.t, out[i], result)
		if !out[i].ByRunner {
			w.t.Errorf("job %d was not ended by the runner", id)
		}
	}
	w.eventually("the end of the jobs' processes", func() bool { return len(w.jobProcesses()) == 0 })
	w.eventually("an empty state directory", func() bool { return len(w.stateLeft()) == 0 })
	if took := time.Since(began); took > 10*time.Second {
		w.t.Errorf("it took %v to settle everything, want 10 s at most", took)
	}
	m := p.waitValue(float64(len(ids)), "glassrunner_recovered_jobs_total", "result", "settled")
	m.check(w.t, 0, "glassrunner_jobs_running")
	want(w.t, w.run(fakegitlab.Job{Script: []string{"true"}}), "success")
	return out
}

// TestCrash kills the runner while jobs of all sorts run.
func TestCrash(t *testing.T) {
	t.Parallel()
	// Between two uploads, so that output is unsent when the runner dies. The
	// server counts the jobs of a runner that died as running.
	w := newWorld(t, fakegitlab.Options{UpdateInterval: 60, Concurrent: 9})
	p := w.start(w.config(""))
	quiet := w.enqueue(fakegitlab.Job{Script: []string{"echo begun; sleep 600"}, AfterScript: []string{"echo after"}})
	daemon := w.enqueue(fakegitlab.Job{Script: []string{
		"echo begun; setsid sh -c 'setsid sleep 601 & setsid sleep 602 &' </dev/null >/dev/null 2>&1", "echo daemons are there; sleep 600",
	}})
	chatty := w.enqueue(fakegitlab.Job{Script: []string{
		"echo begun; until [ -e $CI_BUILDS_DIR/go ]; do sleep 0.1; done; i=0; while [ $i -lt 2000 ]; do echo unsent line $i; i=$((i+1)); done; touch $CI_BUILDS_DIR/said; sleep 600",
	}})
	deaf := w.enqueue(fakegitlab.Job{Script: []string{`trap "" TERM INT HUP; echo begun; while :; do sleep 1; done`}})
	ids := []int64{quiet, daemon, chatty, deaf}
	for _, id := range ids {
		w.until(id, "its script", printed("\nbegun\n"))
	}
	touch(t, filepath.Join(w.dir, "builds", "go"))
	w.eventually("the unsent output", func() bool { return exists(filepath.Join(w.dir, "builds", "said")) })
	p.waitMetrics("the unsent output in the log", func(m families) bool {
		return m.sum("glassrunner_job_log_written_bytes_total") > 2000*16
	})
	w.eventually("the daemons", func() bool { return sleeping(w, "601", "602") == 2 })
	w.disturb(ids...)
	p.kill()
	if s, err := w.server.Job(chatty); err != nil || strings.Contains(string(s.Trace), "unsent line 1999") {
		t.Errorf("the server has the unsent output already (%v): the test shows nothing", err)
	}
	if left := w.jobProcesses(); len(left) < 4 {
		t.Errorf("the jobs died with the runner: the test shows nothing: %v", left)
	}
	out := w.recovered(ids...)
	has(t, text(out[2].Trace), "unsent line 0\n", "unsent line 1999\n")
	if n := strings.Count(string(out[2].Trace), "unsent line 1000\n"); n != 1 {
		t.Errorf("a line is in the log %d times", n)
	}
	hasNot(t, text(out[0].Trace), "\nafter\n")
	for _, s := range out {
		if s.TraceSize != s.Bytesize {
			t.Errorf("job %d: the log has %d bytes, the runner said %d", s.ID, s.TraceSize, s.Bytesize)
		}
	}
}

// sleeping counts the marked sleep processes with an argument.
func sleeping(w *world, args ...string) int {
	n := 0
	for _, line := range w.jobProcesses() {
		for _, a := range args {
			if strings.TrimSpace(line) == "sleep "+a {
				n++
			}
		}
	}
	return n
}

// TestCrashBeforeAcknowledgement kills the runner after it has been handed a
// job, and before it could say that it has it.
func TestCrashBeforeAcknowledgement(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config(""))
	fault := w.server.AddFault(fakegitlab.Fault{Endpoint: fakegitlab.UpdateJob, State: "running", Status: 503, Header: http.Header{"Retry-After": {"60"}}})
	id := w.enqueue(fakegitlab.Job{Script: []string{"echo begun"}})
	w.eventually("the acknowledgement", func() bool { return w.server.FaultHits(fault) > 0 })
	w.disturb(id)
	p.kill()
	w.server.RemoveFault(fault)
	s := w.recovered(id)[0]
	hasNot(t, text(s.Trace), "\nbegun\n")
}

// TestCrashWithoutAServer restarts while the coordinator is away: the runner
// keeps what it has to tell.
func TestCrashWithoutAServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config(""))
	id := w.enqueue(fakegitlab.Job{Script: []string{"echo begun; sleep 600"}})
	w.until(id, "its script", printed("\nbegun\n"))
	w.disturb(id)
	p.kill()
	outage := w.server.AddFault(fakegitlab.Fault{Status: 503})
	q := w.restart()
	w.eventually("the end of the job's processes", func() bool { return len(w.jobProcesses()) == 0 })
	q.waitMetrics("a failed attempt", func(m families) bool { return m.sum("glassrunner_recovered_jobs_total", "result", "failed") > 0 })
	if len(w.stateLeft()) == 0 {
		t.Error("the state directory is empty although the job is not reported")
	}
	// It dies again, and the next one still knows.
	q.kill()
	w.server.RemoveFault(outage)
	w.recovered(id)
}

// TestCrashOfSeveral has two processes die with jobs, one after the other.
func TestCrashOfSeveral(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	var ids []int64
	for range 2 {
		outage := w.server.AddFault(fakegitlab.Fault{Endpoint: fakegitlab.UpdateJob, State: "failed", Status: 503})
		p := w.start(w.config(""))
		id := w.enqueue(fakegitlab.Job{Script: []string{"echo begun; sleep 600"}})
		w.until(id, "its script", printed("\nbegun\n"))
		ids = append(ids, id)
		w.disturb(ids...)
		p.kill()
		w.server.RemoveFault(outage)
	}
	w.recovered(ids...)
}

// TestCrashAfterTheJob kills the runner when the job is over and its result is
// not delivered: the next process tells that result.
func TestCrashAfterTheJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config(""))
	fault := w.server.AddFault(fakegitlab.Fault{Endpoint: fakegitlab.UpdateJob, State: "success", Status: 503})
	id := w.enqueue(fakegitlab.Job{Script: []string{"echo begun"}})
	w.eventually("the result", func() bool { return w.server.FaultHits(fault) > 0 })
	w.disturb(id)
	p.kill()
	w.server.RemoveFault(fault)
	s := w.recoveredAs("success", id)[0]
	if n := strings.Count(text(s.Trace), "Job succeeded"); n != 1 {
		t.Errorf("the log says %d times that the job succeeded", n)
	}
}

// TestTwoRunnersOfOneState start with one configuration: none settles jobs of
// the other that lives.
func TestTwoRunnersOfOneState(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	w.server.Relax(fakegitlab.RuleConcurrency, fakegitlab.RuleCheckInterval) // they are two processes
	w.start(w.config(""))
	id := w.enqueue(fakegitlab.Job{Script: []string{"echo begun; until [ -e $CI_BUILDS_DIR/go ]; do sleep 0.1; done"}})
	w.until(id, "its script", printed("\nbegun\n"))
	q := w.restart()
	q.waitMetrics("a poll", func(m families) bool {
		return m.sum("gitlab_runner_request_concurrency") > 0 || m.sum("glassrunner_polls_total") > 0
	})
	touch(t, filepath.Join(w.dir, "builds", "go"))
	want(t, w.wait(id), "success")
	q.scrape().check(t, 0, "glassrunner_recovered_jobs_total")
}

// TestCrashOfALineWithoutEnd has timestamps, which need a whole line: one
// that stays without an end is not lost.
func TestCrashOfALineWithoutEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{UpdateInterval: 1})
	p := w.start(w.config("", entry{Timestamps: true}))
	id := w.enqueue(fakegitlab.Job{Script: []string{"printf 'Password: '; sleep 600"}})
	w.until(id, "the prompt", printed("O Password: \n"))
	w.disturb(id)
	p.kill()
	s := w.recovered(id)[0]
	if n := strings.Count(string(s.Trace), "O Password: "); n != 1 {
		t.Errorf("the prompt is in the log %d times", n)
	}
}

// TestCrashInPhases kills the runner in phases other than the script.
func TestCrashInPhases(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{Concurrent: 9})
	project(t, w, "acme/app", map[string]string{"a.txt": "here\n"})
	p := w.start(w.config(""))
	slow := w.server.AddFault(fakegitlab.Fault{Endpoint: fakegitlab.Git, Delay: 2 * time.Minute})
	ids := []int64{
		w.enqueue(fakegitlab.Job{Project: "acme/app", Script: []string{"true"}}),
		w.enqueue(fakegitlab.Job{Script: []string{"true"}, AfterScript: []string{"echo begun; sleep 600"}}),
		w.enqueue(fakegitlab.Job{Script: []string{"echo begun; sleep 600"}}),
	}
	for _, id := range ids[1:] {
		w.until(id, "its script", printed("\nbegun\n"))
	}
	w.eventually("git", func() bool { return w.server.FaultHits(slow) > 0 })
	if err := w.server.Cancel(ids[2]); err != nil {
		t.Fatal(err)
	}
	w.until(ids[2], "the canceling state", func(s fakegitlab.Snapshot) bool { return s.Status == fakegitlab.Canceling })
	w.disturb(ids...)
	p.kill()
	w.server.RemoveFault(slow)
	began := time.Now()
	w.restart()
	want(t, w.wait(ids[0]), "failed runner_system_failure")
	want(t, w.wait(ids[1]), "failed runner_system_failure")
	if s := w.wait(ids[2]); s.Status != fakegitlab.Canceled || !s.ByRunner {
		t.Errorf("the canceled job is %s, by the runner: %v", s.Status, s.ByRunner)
	}
	w.eventually("the end of the jobs' processes", func() bool { return len(w.jobProcesses()) == 0 })
	w.eventually("an empty state directory", func() bool { return len(w.stateLeft()) == 0 })
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v to settle everything, want 10 s at most", took)
	}
	// What git left behind does not stop the next job.
	want(t, w.run(fakegitlab.Job{Project: "acme/app", Script: []string{"cat a.txt"}}), "success")
}
