//go:build linux

package e2e_test

import (
	"math"
	"regexp"
	"strconv"
	"testing"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// timeLine is a line of a job's log that says where time went.
var timeLine = regexp.MustCompile(`(?m)^(?:(Cache|Artifact) (\w+): (\w+), (\d+) bytes in ([\d.]+) s|Got the sources in ([\d.]+) s \(strategy (\w+)\))\r?$`)

// moved is what such lines add up to.
type moved struct {
	count          int
	bytes, seconds float64
}

// TestWhereTheTimeGoes runs a series of jobs and adds up what their logs say:
// the metrics have to say the same.
func TestWhereTheTimeGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{Concurrent: 1})
	p := w.start(w.config("concurrent = 1"))
	project(t, w, "acme/app", map[string]string{"a.txt": "first\n"})
	sums := map[string]moved{}
	run := func(j fakegitlab.Job, result string) int64 {
		t.Helper()
		j.Project = "acme/app"
		id := w.enqueue(j)
		s := w.wait(id)
		want(t, s, result)
		for _, m := range timeLine.FindAllStringSubmatch(text(s.Trace), -1) {
			key, seconds := m[1]+" "+m[2]+" "+m[3], m[5]
			if m[7] != "" {
				key, seconds = "sources "+m[7], m[6]
			}
			sum := sums[key]
			n, _ := strconv.ParseFloat(m[4], 64)
			d, err := strconv.ParseFloat(seconds, 64)
			if err != nil {
				t.Fatal(err)
			}
			sums[key] = moved{sum.count + 1, sum.bytes + n, sum.seconds + d}
		}
		return id
	}
	cache := []fakegitlab.Cache{{Key: "k", Policy: "pull-push", Paths: []string{"vendor/"}, When: "on_success", FallbackKeys: []string{"main"}}}
	keep := []fakegitlab.ArtifactSpec{archiveOf("out/")}
	build := run(fakegitlab.Job{ // two misses, stored, an upload
		Clone: true, Cache: cache, Artifacts: keep,
		Script: []string{"mkdir -p vendor out; head -c 100000 /dev/urandom > vendor/x; head -c 50000 /dev/urandom > out/y"},
	}, "success")
	run(fakegitlab.Job{Cache: cache, Dependencies: []int64{build}, Script: []string{"true"}}, "success")                                                                                                                           // a hit, unchanged, a download
	run(fakegitlab.Job{Cache: cache, Script: []string{"echo new > vendor/z"}, Artifacts: []fakegitlab.ArtifactSpec{archiveOf("none")}}, "success")                                                                                 // a hit, stored, nothing to send
	run(fakegitlab.Job{Clone: true, Script: []string{"ls vendor && exit 1; true"}, Cache: []fakegitlab.Cache{{Key: "other", Policy: "pull", Paths: []string{"vendor/"}, FallbackKeys: []string{"k"}}}}, "failed script_failure 1") // a miss, a stale one
	run(fakegitlab.Job{Variables: empty(), Script: []string{"true"}}, "success")                                                                                                                                                   // no sources
	run(fakegitlab.Job{Script: []string{"true"}, Variables: []fakegitlab.Variable{{Key: "GIT_SUBMODULE_STRATEGY", Value: "sideways"}}}, "failed runner_configuration_error")
	bad := w.server.AddFault(fakegitlab.Fault{Endpoint: fakegitlab.Git, Status: 500})
	run(fakegitlab.Job{Clone: true, Script: []string{"true"}}, "failed script_failure 128")
	w.server.RemoveFault(bad)

	m := p.waitValue(7, "glassrunner_jobs_finished_total")
	for _, tt := range []struct {
		line, kind         string
		way, value, result string
		count              int
	}{
		{"Cache restore hit", "cache", "operation", "restore", "hit", 2},
		{"Cache restore stale", "cache", "operation", "restore", "stale", 1},
		{"Cache restore miss", "cache", "operation", "restore", "miss", 3},
		{"Cache restore error", "cache", "operation", "restore", "error", 0},
		{"Cache save stored", "cache", "operation", "save", "stored", 2},
		{"Cache save unchanged", "cache", "operation", "save", "unchanged", 1},
		{"Cache save empty", "cache", "operation", "save", "empty", 0},
		{"Artifact upload ok", "artifact", "direction", "upload", "ok", 1},
		{"Artifact upload empty", "artifact", "direction", "upload", "empty", 1},
		{"Artifact download ok", "artifact", "direction", "download", "ok", 1},
	} {
		if got := sums[tt.line].count; got != tt.count {
			t.Errorf("the logs tell %d times of %s, want %d", got, tt.line, tt.count)
		}
		m.check(t, float64(tt.count), "glassrunner_"+tt.kind+"_requests_total", tt.way, tt.value, "result", tt.result)
	}
	for _, tt := range []struct {
		kind, way, value string
		lines            []string
	}{
		{"cache", "operation", "restore", []string{"Cache restore hit", "Cache restore stale", "Cache restore miss"}},
		{"cache", "operation", "save", []string{"Cache save stored", "Cache save unchanged"}},
		{"artifact", "direction", "upload", []string{"Artifact upload ok", "Artifact upload empty"}},
		{"artifact", "direction", "download", []string{"Artifact download ok"}},
	} {
		var total moved
		for _, l := range tt.lines {
			total = moved{total.count + sums[l].count, total.bytes + sums[l].bytes, total.seconds + sums[l].seconds}
		}
		if total.bytes == 0 {
			t.Errorf("the logs tell of no bytes: %v", tt.lines)
		}
		m.check(t, total.bytes, "glassrunner_"+tt.kind+"_bytes_total", tt.way, tt.value)
		m.check(t, float64(total.count), "glassrunner_"+tt.kind+"_duration_seconds", tt.way, tt.value)
		m.near(t, total.seconds, 0.001*float64(total.count), "glassrunner_"+tt.kind+"_duration_seconds", tt.way, tt.value)
	}
	for strategy, n := range map[string]int{"clone": 2, "fetch": 2} {
		sum := sums["sources "+strategy]
		if sum.count != n {
			t.Errorf("the logs tell of %d sources by %s, want %d", sum.count, strategy, n)
		}
		m.check(t, float64(n), "glassrunner_source_fetch_duration_seconds", "strategy", strategy)
		m.near(t, sum.seconds, 0.001*float64(n), "glassrunner_source_fetch_duration_seconds", "strategy", strategy)
	}
	m.check(t, 1, "glassrunner_source_fetch_failures_total", "strategy", "clone")
	m.check(t, 0, "glassrunner_source_fetch_failures_total", "strategy", "fetch")
	// Each job's log is sent in pieces; all of it has arrived.
	written, sent := m.sum("glassrunner_job_log_written_bytes_total"), m.sum("glassrunner_job_log_sent_bytes_total")
	if written == 0 || written != sent {
		t.Errorf("job logs have %v bytes, %v were sent", written, sent)
	}
	if n := m.sum("glassrunner_job_log_patches_total", "result", "accepted"); n < 7 {
		t.Errorf("%v pieces of logs were sent, want one a job at least", n)
	}
	m.check(t, 0, "glassrunner_job_log_patches_total", "result", "failed")
	m.check(t, 0, "glassrunner_job_log_unsent_bytes")
	m.check(t, 0, "glassrunner_job_log_lag_seconds")
	for phase, n := range map[string]float64{
		"prepare_executor": 7, "prepare_script": 7, "get_sources": 6, "restore_cache": 4, "download_artifacts": 1, "step_script": 5,
		"archive_cache": 3, "upload_artifacts": 2, "cleanup_file_variables": 7,
	} {
		m.check(t, n, "glassrunner_job_stage_duration_seconds", "phase", phase)
	}
}

// near compares the sum of a histogram.
func (f families) near(t *testing.T, want, within float64, name string, labels ...string) {
	t.Helper()
	got := 0.0
	for _, m := range f[name].GetMetric() {
		if matches(m, labels) {
			got += m.GetHistogram().GetSampleSum()
		}
	}
	if math.Abs(got-want) > within {
		t.Errorf("%s%v sums up to %v, the logs to %v", name, labels, got, want)
	}
}
