package metrics_test

import (
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
)

func TestContainers(t *testing.T) {
	s, _, m := newStream(t)
	r := runner("abcdefghi")
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 1, Runners: []event.Limits{{Runner: r}}})
	if got := text(t, m, false); strings.Contains(got, "glassrunner_image_pull_duration_seconds_count") {
		t.Error("a runner without containers has series of images")
	}
	job := event.Scope{Runner: r, Job: 1, Run: 1}
	s.emit(job, event.JobStarted{})
	s.emit(job, event.ImagePulled{Policy: "always", Result: "pulled", Bytes: 1000, Took: 2 * time.Second})
	s.emit(job, event.ImagePulled{Policy: "always", Result: "pulled", Bytes: 500, Took: 2 * time.Second})
	s.emit(job, event.ImagePulled{Policy: "odd", Result: "odd", Bytes: -1, Took: -time.Second})
	s.emit(job, event.ServiceReady{Took: 3 * time.Second, OK: true})
	s.emit(job, event.ServiceReady{Took: 30 * time.Second})
	got := text(t, m, false)
	const who = `runner="abcdefghi",runner_name="one",system_id="s_0123456789ab"`
	for _, want := range []string{
		`glassrunner_image_pull_duration_seconds_sum{policy="always",result="pulled",` + who + `} 4`,
		`glassrunner_image_pull_duration_seconds_count{policy="other",result="failed",` + who + `} 1`,
		`glassrunner_image_pull_bytes_total{policy="always",` + who + `} 1500`,
		`glassrunner_image_pull_bytes_total{policy="other",` + who + `} 0`,
		`glassrunner_service_ready_duration_seconds_bucket{result="ready",` + who + `,le="5"} 1`,
		`glassrunner_service_ready_duration_seconds_sum{result="failed",` + who + `} 30`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("there is no %s", want)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 2})
	s.emit(job, event.JobFinished{})
	s.emit(job, event.JobRemoved{})
	if got := text(t, m, false); strings.Contains(got, "glassrunner_service_ready_duration_seconds_count{") {
		t.Error("the series outlive their runner")
	}
}
