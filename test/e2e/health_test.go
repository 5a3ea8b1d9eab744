//go:build linux

package e2e_test

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// readiness is the answer of /-/ready, as documented.
type readiness struct {
	Ready   bool   `json:"ready"`
	Reason  string `json:"reason"`
	Runners []struct {
		Name   string    `json:"runner_name"`
		Ready  bool      `json:"ready"`
		Reason string    `json:"reason"`
		Poll   time.Time `json:"last_successful_poll"`
	} `json:"runners"`
}

func (p *process) readiness() (int, readiness) {
	p.w.t.Helper()
	res, body := p.get("/-/ready")
	var r readiness
	if err := json.Unmarshal(body, &r); err != nil {
		p.w.t.Fatalf("/-/ready: %v in %q", err, body)
	}
	return res.StatusCode, r
}

// TestHealthInAnOutage has GitLab gone in several ways: the process stays
// healthy, its runner is not ready and says why, and the time is accounted for.
func TestHealthInAnOutage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fault fakegitlab.Fault
	}{
		{"a proxy answers 502", fakegitlab.Fault{Status: 502, Body: fakegitlab.HTMLPage(), Header: http.Header{"Content-Type": {"text/html"}}}},
		{"connections are reset", fakegitlab.Fault{Drop: fakegitlab.DropBeforeRead, Reset: true}},
		{"a login page", fakegitlab.Fault{Status: 200, Body: fakegitlab.HTMLPage(), Header: http.Header{"Content-Type": {"text/html"}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fakegitlab.Options{LongPoll: time.Second})
			p := w.start(w.config(""))
			p.waitMetrics("a poll", func(m families) bool { return m.sum("glassrunner_last_successful_poll_timestamp_seconds") > 0 })
			if code, r := p.readiness(); code != 200 || !r.Ready || len(r.Runners) != 1 || r.Runners[0].Reason != "no_jobs" || r.Runners[0].Poll.IsZero() {
				t.Errorf("before: %d %+v", code, r)
			}
			outage := w.server.AddFault(tt.fault)
			p.waitMetrics("the outage", func(m families) bool { return m.sum("glassrunner_runner_ready") == 0 })
			if code, r := p.readiness(); code != 503 || r.Ready || r.Reason != "coordinator" || r.Runners[0].Reason != "coordinator" {
				t.Errorf("in the outage: %d %+v", code, r)
			}
			m := p.waitMetrics("blocked time", func(m families) bool {
				return m.sum("glassrunner_capacity_blocked_seconds_total", "reason", "coordinator") > 1
			})
			for _, c := range []string{"scheduler", "polling", "executors"} {
				m.check(t, 1, "glassrunner_healthy", "component", c)
			}
			if res, body := p.get("/-/healthy"); res.StatusCode != 200 {
				t.Errorf("/-/healthy in the outage: %s %s", res.Status, body)
			}
			if res, _ := p.get("/health/ready"); res.StatusCode != 200 {
				t.Errorf("/health/ready in the outage: %s", res.Status)
			}
			w.server.RemoveFault(outage)
			p.waitMetrics("the end of the outage", func(m families) bool { return m.sum("glassrunner_runner_ready") == 1 })
			want(t, w.run(fakegitlab.Job{Script: []string{"true"}}), "success")
		})
	}
}

// TestFaultClasses injects one fault after the other: each shows in its own
// class and in no other. What takes minutes to time out is tested in
// internal/coordinator.
func TestFaultClasses(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	html := http.Header{"Content-Type": {"text/html"}}
	for _, tt := range []struct {
		class string
		url   func(server string) string
		fault fakegitlab.Fault
	}{
		{class: "dns", url: func(string) string { return "http://gitlab.invalid" }},
		{class: "connect", url: func(string) string { return "http://" + nobody }},
		{class: "tls", url: func(s string) string { return strings.Replace(s, "http://", "https://", 1) }},
		{class: "reset", fault: fakegitlab.Fault{Drop: fakegitlab.DropAfterRead, Reset: true}},
		{class: "http_4xx", fault: fakegitlab.Fault{Status: 404}},
		{class: "http_5xx", fault: fakegitlab.Fault{Status: 503}},
		{class: "decode", fault: fakegitlab.Fault{Status: 201, Body: fakegitlab.HTMLPage(), Header: html}},
	} {
		t.Run(tt.class, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fakegitlab.Options{LongPoll: time.Second})
			text := w.config("")
			if tt.url != nil {
				text = strings.Replace(text, w.server.URL(), tt.url(w.server.URL()), 1)
			} else {
				tt.fault.Endpoint = fakegitlab.RequestJob
				w.server.AddFault(tt.fault)
			}
			p := w.start(text)
			m := p.waitMetrics("the fault", func(m families) bool {
				return m.sum("glassrunner_api_request_errors_total", "endpoint", "request_job", "class", tt.class) > 0
			})
			if all, own := m.sum("glassrunner_api_request_errors_total"), m.sum("glassrunner_api_request_errors_total", "class", tt.class); all != own {
				t.Errorf("%v errors, %v of class %s", all, own, tt.class)
			}
			if code, r := p.readiness(); code != 503 || r.Reason != "coordinator" {
				t.Errorf("/-/ready: %d %+v", code, r)
			}
		})
	}
}

// TestBlockedByWork: a runner that is full is blocked and ready.
func TestBlockedByWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{LongPoll: time.Second, Concurrent: 1})
	p := w.start(w.config("concurrent = 1\n[monitoring.projects]"))
	id := w.enqueue(fakegitlab.Job{Script: []string{"until [ -e $CI_BUILDS_DIR/go ]; do sleep 0.1; done"}})
	w.until(id, "its start", func(s fakegitlab.Snapshot) bool { return s.Status == fakegitlab.Running })
	m := p.waitMetrics("time in which it is full", func(m families) bool {
		return m.sum("glassrunner_capacity_blocked_seconds_total", "reason", "concurrent") > 1
	})
	m.check(t, 1, "glassrunner_slots", "state", "running")
	m.check(t, 0, "glassrunner_slots", "state", "idle")
	m.check(t, 1, "glassrunner_runner_ready")
	if code, r := p.readiness(); code != 200 || r.Runners[0].Reason != "concurrent" {
		t.Errorf("/-/ready: %d %+v, want a runner that is full and ready", code, r)
	}
	if skew := m.sum("glassrunner_coordinator_clock_skew_seconds"); skew < -2 || skew > 2 {
		t.Errorf("the clock skew on one machine is %v s", skew)
	}
	touch(t, w.dir+"/builds/go")
	want(t, w.wait(id), "success")
	m = p.waitValue(0, "glassrunner_jobs_running")
	all := 0.0
	for _, h := range m["glassrunner_job_duration_seconds"].GetMetric() {
		all += h.GetHistogram().GetSampleSum()
	}
	if seconds := m.sum("glassrunner_project_job_seconds_total"); seconds < 1 || seconds-all > 1e-3 || all-seconds > 1e-3 {
		t.Errorf("%v s by project, %v s in all", seconds, all)
	}
}

// TestMetricsCommands: what the program lists is what it shows, and what it
// simulates is what it has.
func TestMetricsCommands(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{LongPoll: time.Second})
	text := w.config("", entry{Name: "one"}, entry{Name: "two", Token: w.addRunner("two", fakegitlab.Limits{}).Token})
	p := w.start(text)
	m := p.scrape()
	list := w.output(t, "metrics", "list", "--format", "json")
	var contract []struct {
		Name   string `json:"name"`
		Labels []struct {
			Name   string   `json:"name"`
			Values []string `json:"values"`
		} `json:"labels"`
	}
	if err := json.Unmarshal(list, &contract); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, c := range contract {
		known[c.Name] = true
	}
	for name := range m {
		if !known[name] {
			t.Errorf("%s is shown and not listed", name)
		}
	}
	var counts []struct {
		Name  string `json:"name"`
		Start int    `json:"start"`
	}
	if err := json.Unmarshal(w.output(t, "metrics", "simulate", "--format", "json", "--config", w.path), &counts); err != nil {
		t.Fatal(err)
	}
	simulated := map[string]int{}
	for _, c := range counts {
		simulated[c.Name] = c.Start
	}
	for _, name := range []string{"glassrunner_capacity_blocked_seconds_total", "glassrunner_jobs_finished_total", "glassrunner_slots", "gitlab_runner_failed_jobs_total"} {
		if got := len(m[name].Metric); got == 0 || got != simulated[name] {
			t.Errorf("%s has %d series, simulated are %d", name, got, simulated[name])
		}
	}
	if text := string(w.output(t, "metrics", "simulate", "--config", w.path)); !strings.Contains(text, "in all") {
		t.Errorf("got %q", text)
	}
}

// output runs the program to its end and returns what it prints.
func (w *world) output(t *testing.T, args ...string) []byte {
	t.Helper()
	c := w.command(nil, args...)
	if code := c.exit(); code != 0 {
		t.Fatalf("%v: exit code %d\n%s", args, code, c.log)
	}
	return []byte(c.log.String())
}
