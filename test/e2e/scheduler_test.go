//go:build linux

package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// enqueueMany adds n jobs.
func (w *world) enqueueMany(n int, j fakegitlab.Job) []int64 {
	w.t.Helper()
	ids := make([]int64, n)
	for i := range ids {
		ids[i] = w.enqueue(j)
	}
	return ids
}

// waitAll waits for jobs and checks how they ended.
func (w *world) waitAll(ids []int64, expected string) []fakegitlab.Snapshot {
	w.t.Helper()
	out := make([]fakegitlab.Snapshot, len(ids))
	for i, id := range ids {
		out[i] = w.wait(id)
		want(w.t, out[i], expected)
		if out[i].Handouts != 1 || !out[i].ByRunner {
			w.t.Errorf("job %d: handed out %d times, ended by the runner: %v", id, out[i].Handouts, out[i].ByRunner)
		}
	}
	return out
}

// most is the largest number of jobs that ran at the same time.
func most(jobs []fakegitlab.Snapshot) int {
	top := 0
	for _, a := range jobs {
		n := 0
		for _, b := range jobs {
			if !b.HandedOutAt.After(a.HandedOutAt) && b.FinishedAt.After(a.HandedOutAt) {
				n++
			}
		}
		top = max(top, n)
	}
	return top
}

// TestQueueIsDrained runs many short jobs: places are filled as they become
// free, not once in a check_interval. The server holds the runner to its limits.
func TestQueueIsDrained(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{Concurrent: 8})
	// Half of check_interval: a busy machine delays a request here and there.
	if err := w.server.SetLimits(w.runner.Token, fakegitlab.Limits{RequestConcurrency: 1, CheckInterval: 2500 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	p := w.start(w.config("concurrent = 8\ncheck_interval = 5"))
	p.waitMetrics("a poll", func(m families) bool { return m.sum("gitlab_runner_request_concurrency") == 1 })
	began := time.Now()
	jobs := w.waitAll(w.enqueueMany(60, fakegitlab.Job{Script: []string{"true"}}), "success")
	took := time.Since(began)
	// One request at a time and one in a check_interval would take five minutes.
	if took > 40*time.Second {
		t.Errorf("60 jobs took %v", took)
	}
	if n := most(jobs); n < 2 || n > 8 {
		t.Errorf("at most %d jobs ran at the same time, want 2 to 8", n)
	}
	t.Logf("60 jobs took %v, at most %d at a time", took.Round(time.Millisecond), most(jobs))
	m := p.waitValue(0, "glassrunner_jobs_running")
	m.check(t, 60, "gitlab_runner_jobs_total")
	m.check(t, 60, "gitlab_runner_api_request_statuses_total", "endpoint", "request_job", "status", "201")
	m.check(t, 8, "gitlab_runner_concurrent")
	m.check(t, 8, "gitlab_runner_worker_slots_number")
}

// TestLimits has several entries with limits of their own below the common one.
func TestLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{Concurrent: 3})
	one := w.addRunner("one", fakegitlab.Limits{Limit: 1, RequestConcurrency: 1})
	two := w.addRunner("two", fakegitlab.Limits{Limit: 2, RequestConcurrency: 2})
	p := w.start(w.config("concurrent = 3",
		entry{Name: "one", Token: one.Token, Extra: "  limit = 1\n"},
		entry{Name: "two", Token: two.Token, Extra: "  limit = 2\n  request_concurrency = 2\n"}))
	short := func(token string) fakegitlab.Job {
		return fakegitlab.Job{Runner: token, Script: []string{"sleep 0.3"}}
	}
	a, b := w.enqueueMany(5, short(one.Token)), w.enqueueMany(10, short(two.Token))
	ones, twos := w.waitAll(a, "success"), w.waitAll(b, "success")
	if n := most(ones); n != 1 {
		t.Errorf("runner one had %d jobs at a time, its limit is 1", n)
	}
	if n := most(twos); n != 2 {
		t.Errorf("runner two had %d jobs at a time, want 2", n)
	}
	m := p.waitValue(0, "glassrunner_jobs_running")
	m.check(t, 1, "gitlab_runner_limit", "runner_name", "one")
	m.check(t, 2, "gitlab_runner_limit", "runner_name", "two")
	m.check(t, 2, "gitlab_runner_request_concurrency_hard_limit", "runner", m.label(t, "gitlab_runner_limit", "runner", "runner_name", "two"))
}

// label returns the value of a label of the one series that matches.
func (f families) label(t *testing.T, name, label string, labels ...string) string {
	t.Helper()
	for _, m := range f[name].GetMetric() {
		if matches(m, labels) {
			for _, l := range m.GetLabel() {
				if l.GetName() == label {
					return l.GetValue()
				}
			}
		}
	}
	t.Errorf("%s%v has no label %s", name, labels, label)
	return ""
}

// TestFairness gives two runners with full queues one place: they take turns.
func TestFairness(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{Concurrent: 1})
	a := w.addRunner("a", fakegitlab.Limits{RequestConcurrency: 1})
	b := w.addRunner("b", fakegitlab.Limits{RequestConcurrency: 1})
	as := w.enqueueMany(12, fakegitlab.Job{Runner: a.Token, Script: []string{"true"}})
	bs := w.enqueueMany(12, fakegitlab.Job{Runner: b.Token, Script: []string{"true"}})
	w.start(w.config("concurrent = 1", entry{Name: "a", Token: a.Token}, entry{Name: "b", Token: b.Token}))
	first, second := w.waitAll(as, "success"), w.waitAll(bs, "success")
	// From the second one's first job on, the lead of the first stays what it is.
	least, largest := len(first), -len(first)
	for i := range first {
		n := 0
		for _, s := range second {
			if s.HandedOutAt.Before(first[i].HandedOutAt) {
				n++
			}
		}
		if n > 0 && n < len(second) {
			least, largest = min(least, i-n), max(largest, i-n)
		}
	}
	if largest-least > 2 {
		t.Errorf("the lead of one runner over the other went from %d to %d jobs", least, largest)
	}
	if n := most(append(first, second...)); n != 1 {
		t.Errorf("%d jobs ran at the same time, want 1", n)
	}
}

// TestIdle polls an empty queue at the pace of check_interval, with a server
// that knows no long polling.
func TestIdle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{LongPoll: -1})
	p := w.start(w.config("check_interval = 1"))
	m := p.waitMetrics("a poll", func(m families) bool { return m.sum("glassrunner_polls_total", "result", "none") >= 1 })
	began, first := time.Now(), m.sum("glassrunner_polls_total")
	m = p.waitMetrics("five polls more", func(m families) bool { return m.sum("glassrunner_polls_total") >= first+5 })
	took := time.Since(began)
	if took < 3500*time.Millisecond || took > 20*time.Second {
		t.Errorf("five polls took %v, want about 5 s", took)
	}
	m.check(t, 0, "glassrunner_polls_total", "result", "failed")
}

// TestStrictCheckInterval has a full queue polled at the pace of check_interval.
func TestStrictCheckInterval(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	w.start(w.config("", entry{Extra: "  strict_check_interval = true\n"}))
	jobs := w.waitAll(w.enqueueMany(4, fakegitlab.Job{Script: []string{"true"}}), "success")
	for i := 1; i < len(jobs); i++ {
		if gap := jobs[i].HandedOutAt.Sub(jobs[i-1].HandedOutAt); gap < 700*time.Millisecond {
			t.Errorf("job %d came %v after the one before, check_interval is 1 s", i, gap)
		}
	}
}

// TestReloadWhileJobsRun changes everything while jobs run: these are not touched.
func TestReloadWhileJobsRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{Concurrent: 2})
	second := w.addRunner("second", fakegitlab.Limits{})
	p := w.start(w.config("concurrent = 2", entry{Name: "first"}))
	hold := w.dir + "/hold"
	job := func(token, file string) fakegitlab.Job {
		return fakegitlab.Job{Runner: token, Script: []string{fmt.Sprintf("echo begun; until [ -e %s ]; do sleep 0.1; done; echo ended", file)}}
	}
	ids := w.enqueueMany(2, job(w.runner.Token, hold))
	for _, id := range ids {
		w.until(id, "its script", printed("\nbegun\n"))
	}
	waiting := w.enqueue(fakegitlab.Job{Runner: w.runner.Token, Script: []string{"true"}})

	// More places: the waiting job runs, a new entry too.
	w.server.SetConcurrent(4)
	w.write(w.config("concurrent = 4", entry{Name: "first"}, entry{Name: "second", Token: second.Token}))
	w.wait(waiting)
	want(t, w.run(fakegitlab.Job{Runner: second.Token, Script: []string{"true"}}), "success")
	m := p.scrape()
	m.check(t, 4, "gitlab_runner_concurrent")

	// One place, and the first entry is gone: its jobs go on, its series stay until they have ended.
	w.write(w.config("concurrent = 1", entry{Name: "second", Token: second.Token}))
	m = p.waitValue(1, "gitlab_runner_concurrent")
	m.check(t, 2, "glassrunner_jobs_running")
	held := w.enqueue(fakegitlab.Job{Runner: second.Token, Script: []string{"true"}})
	p.waitMetrics("a turn that found no place", func(now families) bool {
		return now.sum("process_cpu_seconds_total") > m.sum("process_cpu_seconds_total") // it had time to
	})
	if s, err := w.server.Job(held); err != nil || s.Status != fakegitlab.Pending {
		t.Errorf("a job began although two run and one may: %s, %v", s.Status, err)
	}
	touch(t, hold)
	for _, s := range w.waitAll(ids, "success") {
		has(t, text(s.Trace), "\nbegun\n", "ended\n")
	}
	w.server.SetConcurrent(1)
	want(t, w.wait(held), "success")
	m = p.waitMetrics("the end of the first entry's series", func(m families) bool {
		return m.sum("glassrunner_jobs_running") == 0 && m.series("glassrunner_jobs_running", "runner_name", "first") == 0
	})
	for name := range m {
		if n := m.series(name, "runner_name", "first"); n > 0 {
			t.Errorf("%s still has %d series of the runner that is gone", name, n)
		}
	}
	m.check(t, 3, "gitlab_runner_configuration_loaded_total")
}
