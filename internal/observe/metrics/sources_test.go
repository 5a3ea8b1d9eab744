package metrics_test

import (
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
)

// expect compares lines of the exposition.
func expect(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, "\n"+w+"\n") {
			name, _, _ := strings.Cut(w, "{")
			name, _, _ = strings.Cut(name, " ")
			var have []string
			for line := range strings.Lines(got) {
				if strings.HasPrefix(line, name) {
					have = append(have, line)
				}
			}
			t.Errorf("there is no %s, but:\n%s", w, strings.Join(have, ""))
		}
	}
}

func TestSources(t *testing.T) {
	s, _, m := newStream(t)
	r := runner("abcdefghi")
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 1, Runners: []event.Limits{{Runner: r}}})
	const who = `system_id="s_0123456789ab"`
	series := func(name, label, value string) string {
		labels := []string{`runner="abcdefghi"`, `runner_name="one"`, who}
		if label == "strategy" {
			labels = []string{labels[0], labels[1], `strategy="` + value + `"`, who}
		} else {
			labels = append([]string{label + `="` + value + `"`}, labels...)
		}
		return name + "{" + strings.Join(labels, ",") + "} "
	}
	expect(t, text(t, m, false),
		series("glassrunner_source_fetch_duration_seconds_count", "strategy", "clone")+"0",
		series("glassrunner_source_fetch_failures_total", "strategy", "fetch")+"0",
		series("glassrunner_job_log_patches_total", "result", "failed")+"0")
	job := event.Scope{Runner: r, Job: 1, Run: 1}
	s.emit(job, event.JobStarted{})
	for _, f := range []event.Fact{
		event.SourcesFetched{Strategy: "clone", OK: true, Took: 2 * time.Second},
		event.SourcesFetched{Strategy: "clone", OK: true, Took: 3 * time.Second},
		event.SourcesFetched{Strategy: "fetch", Took: time.Second},
		event.SourcesFetched{Strategy: "empty", OK: true, Took: time.Second},
		event.SourcesFetched{Strategy: "made\nup", OK: true, Took: time.Second},
		event.LogSent{Bytes: 10, Total: 10}, event.LogSent{Bytes: 5, Total: 15}, event.LogSent{Failed: true, Total: 15},
	} {
		s.emit(job, f)
	}
	got := text(t, m, false)
	expect(t, got,
		series("glassrunner_source_fetch_duration_seconds_count", "strategy", "clone")+"2",
		series("glassrunner_source_fetch_duration_seconds_sum", "strategy", "clone")+"5",
		series("glassrunner_source_fetch_duration_seconds_count", "strategy", "fetch")+"0",
		series("glassrunner_source_fetch_failures_total", "strategy", "fetch")+"1",
		series("glassrunner_source_fetch_failures_total", "strategy", "clone")+"0",
		series("glassrunner_job_log_patches_total", "result", "accepted")+"2",
		series("glassrunner_job_log_patches_total", "result", "failed")+"1")
	if strings.Contains(got, `made\nup`) || strings.Contains(got, `strategy="empty"`) {
		t.Error("there is a strategy that fetches nothing")
	}
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 2})
	s.emit(job, event.JobFinished{})
	s.emit(job, event.JobRemoved{})
	if got := text(t, m, false); strings.Contains(got, "glassrunner_source_fetch_duration_seconds_count{") || strings.Contains(got, "glassrunner_job_log_patches_total{") {
		t.Error("the series outlive their runner")
	}
}

func TestRoles(t *testing.T) {
	s, _, m := newStream(t)
	const p = "gitlab_runner_cache_s3_assume_role_"
	expect(t, text(t, m, false), p+"requests_in_flight 0", p+"cached_credentials 0", p+"failures_total 0", p+"wait_seconds_count 0")
	now := s.now
	call := func(f event.RoleCredentials) {
		s.emit(event.Scope{}, event.RoleCalling{})
		s.emit(event.Scope{}, event.RoleCalling{Done: true})
		s.emit(event.Scope{}, f)
	}
	s.emit(event.Scope{}, event.RoleCalling{})
	expect(t, text(t, m, false), p+"requests_in_flight 1")
	s.emit(event.Scope{}, event.RoleCalling{Done: true})
	s.emit(event.Scope{}, event.RoleCredentials{Limited: true, Waited: time.Second, Took: 2 * time.Second})
	call(event.RoleCredentials{OK: true, Limited: true, Waited: time.Second, Took: time.Second, Holder: "a", Until: now.Add(time.Hour)})
	call(event.RoleCredentials{OK: true, Took: time.Second, Holder: "b", Until: now.Add(2 * time.Hour)})
	call(event.RoleCredentials{OK: true, Took: time.Second, Holder: "a", Until: now.Add(time.Hour)})
	call(event.RoleCredentials{OK: true, Took: time.Second, Holder: "c"})
	s.emit(event.Scope{}, event.RoleCredentials{Kept: true, OK: true})
	s.emit(event.Scope{}, event.RoleCredentials{Kept: true, OK: true, Limited: true, Waited: time.Second})
	expect(t, text(t, m, false), p+"requests_in_flight 0", p+"cached_credentials 2", p+"failures_total 1", p+"cache_hits_total 2",
		p+"cache_misses_total 5", p+"duration_seconds_count 5", p+"duration_seconds_sum 6", p+"wait_seconds_count 3", p+"wait_seconds_sum 3")
	s.now = now.Add(90 * time.Minute)
	s.emit(event.Scope{}, event.Degraded{What: "x"})
	expect(t, text(t, m, false), p+"cached_credentials 1")
}
