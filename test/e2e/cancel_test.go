//go:build linux

package e2e_test

import (
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// TestCancel cancels a job that prints nothing: the script ends, after_script
// runs and knows why.
func TestCancel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config(""))
	id := w.enqueue(fakegitlab.Job{Script: []string{"echo begun; sleep 600"}, AfterScript: []string{"echo was $CI_JOB_STATUS"}, Variables: empty()})
	w.until(id, "its script", printed("\nbegun\n"))
	began := time.Now()
	if err := w.server.Cancel(id); err != nil {
		t.Fatal(err)
	}
	s := w.until(id, "after_script", func(s fakegitlab.Snapshot) bool { return s.Status.Final() })
	// 5 s until it is noticed, and what the end takes on a busy machine.
	if took := time.Since(began); took > 9*time.Second {
		t.Errorf("it took %v until the job had ended", took)
	}
	if s.Status != fakegitlab.Canceled {
		t.Errorf("the job is %s, want canceled", s.Status)
	}
	has(t, text(s.Trace), "WARNING: script canceled externally (UI, API)", "was canceled", "ERROR: Job failed: canceled")
	m := p.waitValue(0, "glassrunner_jobs_running")
	m.check(t, 1, "glassrunner_job_directives_total", "directive", "cancel")
	m.check(t, 1, "glassrunner_jobs_finished_total", "result", "canceled")
}

// TestCancelAtOnce is a cancel that has the answer to the acknowledgement say so.
func TestCancelAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	w.start(w.config(""))
	w.server.AddFault(fakegitlab.Fault{Endpoint: fakegitlab.UpdateJob, State: "running", Delay: 500 * time.Millisecond, Count: 1})
	id := w.enqueue(fakegitlab.Job{Script: []string{"echo begun"}})
	w.until(id, "a runner", func(s fakegitlab.Snapshot) bool { return s.Status == fakegitlab.Running })
	if err := w.server.Cancel(id); err != nil {
		t.Fatal(err)
	}
	s := w.wait(id)
	if s.Status != fakegitlab.Canceled {
		t.Errorf("the job is %s, want canceled", s.Status)
	}
	hasNot(t, text(s.Trace), "\nbegun\n")
}

// TestAbort ends a job on the server: the runner stops everything, and
// after_script does not run.
func TestAbort(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config(""))
	ways := map[string]func(int64) error{
		"canceled by force": w.server.ForceCancel,
		"failed":            func(id int64) error { return w.server.Fail(id, "stuck_or_timeout_failure") },
		"erased":            w.server.Erase,
	}
	for name, end := range ways {
		id := w.enqueue(fakegitlab.Job{Script: []string{"echo begun; sleep 600"}, AfterScript: []string{"echo after > $CI_BUILDS_DIR/after"}})
		w.until(id, "its script", printed("\nbegun\n"))
		if err := end(id); err != nil {
			t.Fatal(err)
		}
		p.waitValue(0, "glassrunner_jobs_running")
		if exists(w.dir + "/builds/after") {
			t.Errorf("%s: after_script ran", name)
		}
		if left := w.jobProcesses(); len(left) > 0 {
			t.Errorf("%s: processes still run: %v", name, left)
		}
	}
	m := p.scrape()
	m.check(t, float64(len(ways)), "glassrunner_job_directives_total", "directive", "abort")
	want(t, w.run(fakegitlab.Job{Script: []string{"true"}}), "success")
}
