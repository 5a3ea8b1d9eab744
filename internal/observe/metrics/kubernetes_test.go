package metrics_test

import (
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
)

func TestPods(t *testing.T) {
	s, _, m := newStream(t)
	r := runner("abcdefghi")
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 1, Runners: []event.Limits{{Runner: r}}})
	if got := text(t, m, false); strings.Contains(got, "glassrunner_kubernetes_pod_failures_total{") {
		t.Error("a runner without pods has series of pods")
	}
	in := event.Scope{Runner: r, Job: 7, Run: 1}
	for _, f := range []event.Fact{
		event.JobStarted{Timeout: time.Hour},
		event.PodReached{Stage: event.PodCreated, Took: 200 * time.Millisecond},
		event.PodReached{Stage: event.PodScheduled, Took: 2 * time.Second},
		event.PodReached{Stage: event.PodReady, Took: 4 * time.Second},
		event.PodFailed{Reason: event.PodOOMKilled},
		event.PodFailed{Reason: "made up"},
		event.LogResumed{},
		event.KubernetesCalled{Verb: "get", Took: time.Second},
		event.KubernetesCalled{Verb: "get", Class: "network", Took: time.Second},
		event.KubernetesCalled{Verb: "made up", Class: "made up"},
	} {
		s.emit(in, f)
	}
	const who = `runner="abcdefghi",runner_name="one",system_id="s_0123456789ab"`
	failures := func(reason, n string) string {
		return `glassrunner_kubernetes_pod_failures_total{reason="` + reason + `",` + who + `} ` + n
	}
	expect(t, text(t, m, false),
		`glassrunner_kubernetes_pod_create_duration_seconds_sum{`+who+`} 0.2`,
		`glassrunner_kubernetes_pod_schedule_duration_seconds_sum{`+who+`} 2`,
		`glassrunner_kubernetes_pod_ready_duration_seconds_bucket{`+who+`,le="10"} 1`,
		failures("oom_killed", "1"), failures("other", "1"), failures("evicted", "0"),
		`glassrunner_kubernetes_log_reconnects_total{`+who+`} 1`,
		`glassrunner_kubernetes_api_request_duration_seconds_count{verb="get"} 2`,
		`glassrunner_kubernetes_api_request_errors_total{class="network",verb="get"} 1`,
		`glassrunner_kubernetes_api_request_errors_total{class="http_5xx",verb="get"} 0`,
		`glassrunner_kubernetes_api_request_errors_total{class="other",verb="other"} 1`,
	)
	s.emit(in, event.JobFinished{})
	s.emit(in, event.JobRemoved{})
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 2})
	if got := text(t, m, false); strings.Contains(got, "glassrunner_kubernetes_pod_failures_total{") {
		t.Error("a runner that went leaves series of pods")
	}
}
