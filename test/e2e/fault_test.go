//go:build linux

package e2e_test

import (
	"bytes"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// lines is a command that prints n numbered lines, over some time, and what it prints.
func lines(n int, pause string) (command, want string) {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "line %d of a log\n", i)
	}
	return fmt.Sprintf(`i=0; while [ $i -lt %d ]; do echo "line $i of a log"; i=$((i+1)); sleep %s; done`, n, pause), b.String()
}

// exact fails the test unless a job succeeded with exactly this output, told once.
func exact(t *testing.T, s fakegitlab.Snapshot, command, expected string) {
	t.Helper()
	want(t, s, "success")
	sameBytes(t, output(t, s.Trace, command), []byte(expected))
}

// TestFaults has the coordinator, or what is in between, misbehave once or
// twice at each endpoint. Nothing is lost or told twice.
func TestFaults(t *testing.T) {
	t.Parallel()
	retryAfter := http.Header{"Retry-After": {"1"}}
	html := http.Header{"Content-Type": {"text/html"}}
	tests := []struct {
		name  string
		fault fakegitlab.Fault
	}{
		{"502 for a job request", fakegitlab.Fault{Endpoint: fakegitlab.RequestJob, Status: 502, Count: 2}},
		{"429 for a job request", fakegitlab.Fault{Endpoint: fakegitlab.RequestJob, Status: 429, Header: retryAfter, Count: 2}},
		{"503 for the acknowledgement", fakegitlab.Fault{Endpoint: fakegitlab.UpdateJob, State: "running", Status: 503, Header: retryAfter, Count: 1}},
		{"lost acknowledgement", fakegitlab.Fault{Endpoint: fakegitlab.UpdateJob, State: "running", Drop: fakegitlab.DropAfterRead, Count: 1}},
		{"lost answer to the acknowledgement", fakegitlab.Fault{Endpoint: fakegitlab.UpdateJob, State: "running", Drop: fakegitlab.DropAnswer, Reset: true, Count: 1}},
		{"500 for the log", fakegitlab.Fault{Endpoint: fakegitlab.PatchTrace, Status: 500, Count: 2}},
		{"429 for the log", fakegitlab.Fault{Endpoint: fakegitlab.PatchTrace, Status: 429, Header: retryAfter, Count: 1}},
		{"log reset before it is read", fakegitlab.Fault{Endpoint: fakegitlab.PatchTrace, Drop: fakegitlab.DropBeforeRead, Reset: true, Count: 2}},
		{"log taken, answer lost", fakegitlab.Fault{Endpoint: fakegitlab.PatchTrace, Drop: fakegitlab.DropAnswer, Count: 2}},
		{"log taken, answer an HTML page", fakegitlab.Fault{Endpoint: fakegitlab.PatchTrace, Process: true, Status: 200, Body: fakegitlab.HTMLPage(), Header: html, Count: 1}},
		{"log taken, answer 502", fakegitlab.Fault{Endpoint: fakegitlab.PatchTrace, Process: true, Status: 502, Count: 1}},
		{"503 for the result", fakegitlab.Fault{Endpoint: fakegitlab.UpdateJob, State: "final", Status: 503, Count: 2}},
		{"lost result", fakegitlab.Fault{Endpoint: fakegitlab.UpdateJob, State: "final", Drop: fakegitlab.DropAfterRead, Count: 2}},
		{"lost answer to the result", fakegitlab.Fault{Endpoint: fakegitlab.UpdateJob, State: "final", Drop: fakegitlab.DropAnswer, Reset: true, Count: 1}},
		{"slow answers", fakegitlab.Fault{Endpoint: fakegitlab.PatchTrace, Delay: 2 * time.Second}},
		{"dripping answers", fakegitlab.Fault{Endpoint: fakegitlab.UpdateJob, Process: true, Drip: 20 * time.Millisecond, Body: bytes.Repeat([]byte(" "), 50)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fakegitlab.Options{UpdateInterval: 1, LongPoll: time.Second, RequeueLost: true})
			p := w.start(w.config(""))
			command, printed := lines(30, "0.1")
			fault := w.server.AddFault(tt.fault)
			s := w.run(fakegitlab.Job{Script: []string{command}})
			exact(t, s, command, printed)
			if w.server.FaultHits(fault) == 0 {
				t.Error("the fault was never applied")
			}
			p.waitValue(0, "glassrunner_jobs_running")
			if !p.running() {
				t.Error("the runner has ended")
			}
		})
	}
}

// TestForgetfulServer has the server lose a part of the log, and has it claim
// to have more than there is.
func TestForgetfulServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{UpdateInterval: 1})
	p := w.start(w.config(""))
	_, expected := lines(60, "0")
	// It prints the second and the last third when the test says so.
	command := `i=0; while [ $i -lt 60 ]; do echo "line $i of a log"; i=$((i+1)); case $i in 20|40) until [ -e $CI_BUILDS_DIR/go-$i ]; do sleep 0.1; done;; esac; done`
	id := w.enqueue(fakegitlab.Job{Script: []string{command}})
	for i, keep := range []int64{100, 0} {
		n := 20 * (i + 1)
		w.until(id, "a part of the output", printed(fmt.Sprintf("line %d of", n-1)))
		if err := w.server.CutTrace(id, keep); err != nil {
			t.Fatal(err)
		}
		touch(t, filepath.Join(w.dir, "builds", fmt.Sprintf("go-%d", n)))
	}
	s := w.wait(id)
	exact(t, s, command, expected)
	if s.Resets < 2 {
		t.Errorf("there were %d answers 416, want 2", s.Resets)
	}

	// 416 with an offset beyond the log: nothing is lost either.
	fault := w.server.AddFault(fakegitlab.Fault{
		Endpoint: fakegitlab.PatchTrace, Status: 416, Header: http.Header{"Range": {"0-99999999"}}, Skip: 1, Count: 1,
	})
	s = w.run(fakegitlab.Job{Script: []string{command}})
	exact(t, s, command, expected)
	if w.server.FaultHits(fault) == 0 {
		t.Error("the fault was never applied")
	}
	p.waitValue(0, "glassrunner_jobs_running")
}

// TestPersistRounds has the server need time to store the log.
func TestPersistRounds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{PersistRounds: 3, PersistInterval: 1})
	w.start(w.config(""))
	s := w.run(fakegitlab.Job{Script: []string{"echo hello"}})
	want(t, s, "success")
	if s.Finals != 4 {
		t.Errorf("the result was told %d times, want 4", s.Finals)
	}
}

// TestTwoPhase has the server wait for the acknowledgement.
func TestTwoPhase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{TwoPhase: true})
	w.start(w.config(""))
	s := w.run(fakegitlab.Job{Script: []string{"echo hello"}})
	want(t, s, "success")
	if !s.Acked || s.Handouts != 1 {
		t.Errorf("acknowledged: %v, handed out %d times", s.Acked, s.Handouts)
	}
}

// TestOutage has the coordinator gone in the middle of one job and over the end
// of another.
func TestOutage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fault fakegitlab.Fault
	}{
		{"connections are cut", fakegitlab.Fault{Drop: fakegitlab.DropBeforeRead, Reset: true}},
		{"a proxy answers", fakegitlab.Fault{Status: 502, Body: fakegitlab.HTMLPage(), Header: http.Header{"Content-Type": {"text/html"}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fakegitlab.Options{UpdateInterval: 1, RequeueLost: true})
			p := w.start(w.config(""))
			long, longWant := lines(90, "0.1")
			short, shortWant := lines(25, "0.1")
			over := w.enqueue(fakegitlab.Job{Script: []string{long}})
			ends := w.enqueue(fakegitlab.Job{Script: []string{short}})
			w.until(over, "some output", printed("line 3 of"))
			w.until(ends, "some output", printed("line 3 of"))
			outage := w.server.AddFault(tt.fault)
			for _, id := range []int64{over, ends} {
				if err := w.server.Disturb(id); err != nil {
					t.Fatal(err)
				}
			}
			// The short job ends in the outage, the long one goes on after it.
			p.waitMetrics("the end of the short job", func(m families) bool {
				return m.sum("glassrunner_job_duration_seconds") == 1 && m.sum("glassrunner_job_log_send_failures_total") > 0
			})
			hits := w.server.FaultHits(outage)
			w.eventually("attempts in the outage", func() bool { return w.server.FaultHits(outage) >= hits+3 })
			w.server.RemoveFault(outage)
			exact(t, w.wait(ends), short, shortWant)
			exact(t, w.wait(over), long, longWant)
			m := p.waitValue(0, "glassrunner_jobs_running")
			m.check(t, 0, "glassrunner_final_updates_lost_total")
			if m.sum("glassrunner_api_request_errors_total")+m.sum("glassrunner_api_request_retries_total") == 0 {
				t.Error("no metric tells of the outage")
			}
		})
	}
}

// TestServerThatIsNotThere starts a runner before its server.
func TestServerThatIsNotThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	addr := strings.TrimPrefix(w.server.URL(), "http://")
	if err := w.server.Close(); err != nil {
		t.Fatal(err)
	}
	p := w.start(w.config(""))
	m := p.waitMetrics("a failed poll", func(m families) bool { return m.sum("glassrunner_polls_total", "result", "failed") >= 1 })
	if m.sum("glassrunner_api_request_errors_total", "endpoint", "request_job", "class", "connect") == 0 {
		t.Errorf("glassrunner_api_request_errors_total does not have class connect: %v", m["glassrunner_api_request_errors_total"])
	}
	m.check(t, 0, "glassrunner_last_successful_poll_timestamp_seconds")
	m.check(t, 1, "glassrunner_runner_healthy")
	// It is told once, with the reason, however often it happens.
	p.waitMetrics("more failed polls", func(m families) bool { return m.sum("glassrunner_polls_total", "result", "failed") >= 4 })
	if n := strings.Count(p.log.String(), "connection refused"); n != 1 {
		t.Errorf("the log says %d times that the connection is refused", n)
	}
	w.server = fakegitlab.New(fakegitlab.Options{LongPoll: time.Second})
	w.server.AddRunner(fakegitlab.RunnerConfig{Token: w.runner.Token})
	if err := w.server.Start(addr); err != nil {
		t.Skipf("the port was taken meanwhile: %v", err)
	}
	want(t, w.run(fakegitlab.Job{Script: []string{"true"}}), "success")
}

// TestHostilePayloads hands out what is no job. Where the answer has an id and
// a token the job is failed on the server; nothing else happens.
func TestHostilePayloads(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body string
		told       bool // the server hears that the job failed
	}{
		{"broken after the token", `{"id":%ID%,"token":"%TOKEN%","job_info":{"name":`, true},
		{"a wrong type", `{"id":%ID%,"token":"%TOKEN%","variables":{"a":"b"},"steps":[]}`, true},
		{"steps of a wrong type", `{"id":%ID%,"token":"%TOKEN%","steps":"none"}`, true},
		{"no JSON", "hello", false},
		{"an array", "[1,2,3]", false},
		{"null", "null", false},
		{"no id", `{"token":"%TOKEN%"}`, false},
		{"deep nesting", `{"id":%ID%,"token":"%TOKEN%","secrets":` + strings.Repeat("[", 100000), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fakegitlab.Options{})
			p := w.start(w.config(""))
			id := w.enqueue(fakegitlab.Job{Raw: []byte(tt.body)})
			if tt.told {
				want(t, w.wait(id), "failed runner_system_failure")
			} else {
				w.until(id, "a hand-out", func(s fakegitlab.Snapshot) bool { return s.Handouts == 1 })
				// Nobody will ever tell of it.
				if err := w.server.Fail(id, "stuck_or_timeout_failure"); err != nil {
					t.Fatal(err)
				}
			}
			want(t, w.run(fakegitlab.Job{Script: []string{"echo the next one"}}), "success")
			hasNot(t, p.log.String(), "glcbt-")
			m := p.waitValue(0, "glassrunner_jobs_running")
			if m.sum("glassrunner_jobs_refused_total")+m.sum("glassrunner_degraded_total")+m.sum("glassrunner_api_request_errors_total") == 0 {
				t.Error("no metric tells of it")
			}
		})
	}
}

// TestHostileAnswers answers job requests with what no GitLab would say. The
// runner's memory stays bounded and the next job runs.
func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	html := http.Header{"Content-Type": {"text/html"}}
	json := http.Header{"Content-Type": {"application/json"}}
	tests := []struct {
		name  string
		fault fakegitlab.Fault
	}{
		{"201 with a login page", fakegitlab.Fault{Status: 201, Body: fakegitlab.HTMLPage(), Header: html}},
		{"200 with a login page", fakegitlab.Fault{Status: 200, Body: fakegitlab.HTMLPage(), Header: html}},
		{"201 without a body", fakegitlab.Fault{Status: 201, Body: []byte{}, Header: json}},
		{"noise", fakegitlab.Fault{Status: 201, Body: fakegitlab.Garbage(1, 4096), Header: json}},
		{"huge", fakegitlab.Fault{Status: 201, Body: fakegitlab.HugeJSON(200 << 20), Header: json}},
		{"endless", fakegitlab.Fault{Status: 201, Endless: true, Header: json}},
		{"cut", fakegitlab.Fault{Status: 201, Body: []byte(`{"id":1,"token":"x"}`), Truncate: true, TruncateAt: 7, Header: json}},
		{"redirect to nowhere", fakegitlab.Fault{Status: 302, Header: http.Header{"Location": {"http://127.0.0.1:1/"}}}},
		{"redirect in a circle", fakegitlab.Fault{Status: 307, Header: http.Header{"Location": {"/api/v4/jobs/request"}}}},
		{"teapot", fakegitlab.Fault{Status: 418}},
		{"long header", fakegitlab.Fault{Status: 204, Header: http.Header{"X-Gitlab-Last-Update": {strings.Repeat("x", 1<<20)}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fakegitlab.Options{LongPoll: time.Second})
			tt.fault.Endpoint = fakegitlab.RequestJob
			if tt.fault.Status != 307 {
				tt.fault.Count = 2
			}
			fault := w.server.AddFault(tt.fault)
			w.server.Relax(fakegitlab.RuleJobToken) // the huge answer has an id and a token, and both are wrong
			p := w.start(w.config(""))
			w.eventually("the fault", func() bool { return w.server.FaultHits(fault) >= 2 })
			if !p.running() {
				t.Fatal("the runner has ended")
			}
			w.server.ClearFaults()
			want(t, w.run(fakegitlab.Job{Script: []string{"true"}}), "success")
			m := p.scrape()
			if rss := m.sum("process_resident_memory_bytes"); rss > 256<<20 {
				t.Errorf("the runner uses %.0f MiB", rss/(1<<20))
			}
		})
	}
}

// TestForbidden revokes a token: after three refusals the runner is silent,
// and a gauge says so. A reload lets it try again at once.
func TestForbidden(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{UnhealthyInterval: time.Hour})
	other := w.addRunner("other", fakegitlab.Limits{})
	text := w.config("", entry{Name: "revoked"}, entry{Name: "fine", Token: other.Token})
	p := w.start(text)
	m := p.waitMetrics("a poll of each", func(m families) bool {
		return m.sum("glassrunner_last_successful_poll_timestamp_seconds", "runner_name", "revoked") > 0 || m.sum("glassrunner_polls_total", "runner_name", "revoked") > 0
	})
	m.check(t, 1, "glassrunner_runner_healthy", "runner_name", "revoked")
	if err := w.server.RemoveRunner(w.runner.Token); err != nil {
		t.Fatal(err)
	}
	m = p.waitMetrics("the pause", func(m families) bool {
		return m.sum("glassrunner_runner_disabled_until_timestamp_seconds", "runner_name", "revoked") > 0
	})
	m.check(t, 0, "glassrunner_runner_healthy", "runner_name", "revoked")
	until := m.sum("glassrunner_runner_disabled_until_timestamp_seconds", "runner_name", "revoked")
	if left := time.Until(time.Unix(int64(until), 0)); left < 50*time.Minute || left > 70*time.Minute {
		t.Errorf("the runner is disabled for %v more, want an hour", left)
	}
	m.check(t, 1, "glassrunner_runner_healthy", "runner_name", "fine")
	m.check(t, 3, "glassrunner_polls_total", "runner_name", "revoked", "result", "forbidden")
	m.check(t, 3, "gitlab_runner_worker_health_check_failures_total", "runner_name", "revoked")
	want(t, w.run(fakegitlab.Job{Runner: other.Token, Script: []string{"true"}}), "success")
	p.scrape().check(t, 3, "glassrunner_polls_total", "runner_name", "revoked", "result", "forbidden")
	has(t, p.log.String(), "Runner is not healthy and will be disabled!")

	w.server.Relax(fakegitlab.RuleUnhealthy) // a reload forgets the silence
	w.server.AddRunner(fakegitlab.RunnerConfig{Token: w.runner.Token})
	w.write(text + "\n# changed\n")
	p.waitValue(1, "glassrunner_runner_healthy", "runner_name", "revoked")
	want(t, w.run(fakegitlab.Job{Runner: w.runner.Token, Script: []string{"true"}}), "success")
}
