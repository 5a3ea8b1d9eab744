//go:build linux

package e2e_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// TestJobUsage runs a job with a known load: its log, the metrics and the
// kernel's own figures agree.
func TestJobUsage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config("", entry{Shell: "bash"}))
	s := w.run(fakegitlab.Job{Script: []string{
		// Children that live for a moment, and one that is big.
		`n=0; while [ $n -lt 20 ]; do bash -c 'i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done'; n=$((n+1)); done`,
		"head -c 300000000 /dev/zero | tail -n 1 | wc -c",
		"echo; times; echo end of times",
	}})
	want(t, s, "success")
	kernel := 0.0
	out := text(s.Trace)
	block := out[strings.LastIndex(out[:strings.Index(out, "\nend of times")], "$"):strings.Index(out, "\nend of times")]
	for _, m := range regexp.MustCompile(`(\d+)m([\d.]+)s`).FindAllStringSubmatch(block, -1) {
		minutes, _ := strconv.ParseFloat(m[1], 64)
		seconds, _ := strconv.ParseFloat(m[2], 64)
		kernel += 60*minutes + seconds
	}
	if kernel < 0.5 {
		t.Fatalf("the shell says that it used %v s: %q", kernel, block)
	}
	m := p.waitValue(0, "glassrunner_jobs_running")
	cpu := m.total("glassrunner_job_cpu_seconds")
	if math.Abs(cpu-kernel) > 0.05*kernel {
		t.Errorf("the job used %.3f s by the metrics, %.3f s by the shell", cpu, kernel)
	}
	peak := m.total("glassrunner_job_memory_peak_bytes")
	if peak < 0.95*300e6 {
		t.Errorf("the peak of memory was %.0f, want 300 MB at least", peak)
	}
	line := regexp.MustCompile(`Job used ([\d.]+) s of CPU time, (\S+ \S+) of memory at its peak, read \S+ \S+, wrote \S+ \S+`).FindStringSubmatch(out)
	if line == nil {
		t.Fatalf("the log does not say what the job used:\n%s", tail(out, 2<<10))
	}
	if line[1] != fmt.Sprintf("%.2f", cpu) {
		t.Errorf("the log says %s s, the metric %v", line[1], cpu)
	}
	m.check(t, 0, "glassrunner_job_oom_kills_total")
	if at := strings.Index(out, "Job used"); at < strings.Index(out, "Cleaning up") || at > strings.Index(out, "Job succeeded") {
		t.Error("the line is not at the end of the log")
	}

	// Switched off, it is not in the log and in the metrics all the same.
	w.write(w.config("", entry{Shell: "bash", Extra: "[runners.monitoring]\nusage_in_job_log = false"}))
	p.waitValue(2, "glassrunner_config_generation")
	s = w.run(fakegitlab.Job{Script: []string{"true"}})
	want(t, s, "success")
	hasNot(t, text(s.Trace), "Job used")
	m = p.waitValue(0, "glassrunner_jobs_running")
	m.check(t, 2, "glassrunner_job_cpu_seconds")
}

// total adds up what histograms have observed.
func (f families) total(name string, labels ...string) float64 {
	total := 0.0
	for _, m := range f[name].GetMetric() {
		if matches(m, labels) {
			total += m.GetHistogram().GetSampleSum()
		}
	}
	return total
}

// TestPhasesAddUp runs jobs with every phase: they take the time that the jobs
// take, and a runner's phases are at most sixty lines of a scrape.
func TestPhasesAddUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config("", entry{Shell: "bash"}))
	cache := []fakegitlab.Cache{{Key: "k", Paths: []string{"kept"}, Policy: "pull-push", When: "always"}}
	artifacts := []fakegitlab.ArtifactSpec{{Paths: []string{"kept"}, When: "always", ArtifactType: "archive", ArtifactFormat: "zip"}}
	first := int64(0)
	for _, script := range []string{"mkdir -p kept; date >kept/x; sleep 1", "sleep 1; false"} {
		j := fakegitlab.Job{
			Script: []string{script}, AfterScript: []string{"sleep 0.2"}, Release: []string{"sleep 0.1"}, Cache: cache, Artifacts: artifacts, Variables: empty(),
		}
		if first != 0 {
			j.Dependencies = []int64{first}
		}
		first = w.run(j).ID
	}
	m := p.waitValue(0, "glassrunner_jobs_running")
	jobs, phases := m.total("glassrunner_job_duration_seconds"), m.total("glassrunner_job_stage_duration_seconds")
	if jobs < 2.4 || math.Abs(jobs-phases) > 0.01*jobs {
		t.Errorf("the jobs took %.4f s, their phases %.4f s", jobs, phases)
	}
	_, body := p.get("/metrics")
	lines := 0
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "glassrunner_job_stage_duration_seconds") {
			lines++
		}
	}
	// Two classic buckets, +Inf, sum and count for each.
	if n := m.series("glassrunner_job_stage_duration_seconds"); n < 10 || n > 12 || lines != 5*n {
		t.Errorf("%d phases are %d lines of the scrape, want 5 each and 12 phases at most", n, lines)
	}
}

// TestCacheHitRatio runs a hundred jobs of which it is known how many find
// their cache.
func TestCacheHitRatio(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{Concurrent: 4})
	p := w.start(w.config(""))
	job := func(key, policy string) fakegitlab.Job {
		return fakegitlab.Job{
			Script: []string{"mkdir -p kept; echo x >kept/x"}, Variables: empty(),
			Cache: []fakegitlab.Cache{{Key: key, Paths: []string{"kept"}, Policy: policy, When: "on_success"}},
		}
	}
	const keys, jobs, misses = 8, 100, 20
	for i := range keys { // nothing is there to be found
		want(t, w.run(job(fmt.Sprintf("key-%d", i), "push")), "success")
	}
	var ids []int64
	for i := range jobs - keys {
		key := fmt.Sprintf("key-%d", i%keys)
		if i < misses {
			key = fmt.Sprintf("nobody-has-stored-%d", i)
		}
		ids = append(ids, w.enqueue(job(key, "pull")))
	}
	for _, id := range ids {
		want(t, w.wait(id), "success")
	}
	m := p.waitValue(0, "glassrunner_jobs_running")
	m.check(t, jobs, "glassrunner_job_duration_seconds")
	m.check(t, keys, "glassrunner_cache_requests_total", "operation", "save", "result", "stored")
	m.check(t, jobs-keys-misses, "glassrunner_cache_requests_total", "operation", "restore", "result", "hit")
	m.check(t, misses, "glassrunner_cache_requests_total", "operation", "restore", "result", "miss")
	m.check(t, 0, "glassrunner_cache_requests_total", "operation", "restore", "result", "stale")
	m.check(t, 0, "glassrunner_cache_requests_total", "operation", "restore", "result", "error")
}

// TestDeliveryInOutage has the coordinator gone over the end of a job: the lag
// rises and returns, the delivery takes as long as the outage, nothing is lost.
func TestDeliveryInOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{UpdateInterval: 1, RequeueLost: true})
	p := w.start(w.config(""))
	command, printedWant := lines(40, "0.05")
	id := w.enqueue(fakegitlab.Job{Script: []string{command}})
	w.until(id, "some output", printed("line 3 of"))
	if err := w.server.Disturb(id); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	outage := w.server.AddFault(fakegitlab.Fault{Drop: fakegitlab.DropBeforeRead, Reset: true})
	m := p.waitMetrics("a lag above 5 s after the job's end", func(m families) bool {
		return m.sum("glassrunner_job_log_lag_seconds") > 5 && m.sum("glassrunner_job_duration_seconds") == 1
	})
	if m.sum("glassrunner_job_log_unsent_bytes") == 0 {
		t.Error("no byte is unsent in the outage")
	}
	m.check(t, 1, "glassrunner_jobs_running")
	m.check(t, 0, "glassrunner_oldest_running_job_seconds") // it has ended
	ended := time.Now()
	<-time.After(time.Until(began.Add(10 * time.Second)))
	w.server.RemoveFault(outage)
	exact(t, w.wait(id), command, printedWant)
	m = p.waitValue(0, "glassrunner_jobs_running")
	m.check(t, 0, "glassrunner_job_log_lag_seconds")
	m.check(t, 0, "glassrunner_job_log_unsent_bytes")
	m.check(t, 0, "glassrunner_final_updates_lost_total")
	m.check(t, 1, "glassrunner_job_result_delivery_duration_seconds")
	if took := m.total("glassrunner_job_result_delivery_duration_seconds"); took < time.Until(ended).Abs().Seconds()-60 || took < 1 || took > 60 {
		t.Errorf("the delivery took %v s", took)
	}
}

// TestUpdateGivenUp has the coordinator refuse results until the runner gives
// up, which is counted.
func TestUpdateGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{UpdateInterval: 1})
	p := w.start(w.config("", entry{Extra: "job_status_final_update_retry_limit = 2"}))
	w.server.AddFault(fakegitlab.Fault{Endpoint: fakegitlab.UpdateJob, State: "final", Status: 500})
	id := w.enqueue(fakegitlab.Job{Script: []string{"true"}})
	m := p.waitValue(1, "glassrunner_final_updates_lost_total")
	if m.sum("glassrunner_job_result_delivery_duration_seconds") != 0 {
		t.Error("a result that was given up counts as delivered")
	}
	w.server.ClearFaults()
	if err := w.server.Fail(id, "stuck_or_timeout_failure"); err != nil {
		t.Fatal(err)
	}
}

// TestStuckJobs tells a silent script and a log that does not get away apart,
// and a job that takes longer than its like.
func TestStuckJobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{UpdateInterval: 1, RequeueLost: true})
	p := w.start(w.config("", entry{Extra: "[runners.monitoring]\noverdue_factor = 2.0\noverdue_min_jobs = 3"}))
	for range 3 {
		want(t, w.run(fakegitlab.Job{Script: []string{"sleep 0.2"}}), "success")
	}
	p.waitValue(0, "glassrunner_jobs_running")
	p.scrape().check(t, 0, "glassrunner_jobs_overdue")

	silent := w.enqueue(fakegitlab.Job{Script: []string{"echo begun; until [ -e $CI_BUILDS_DIR/go ]; do sleep 0.1; done"}})
	w.until(silent, "its script", printed("\nbegun\n"))
	m := p.waitMetrics("two seconds of silence", func(m families) bool { return m.sum("glassrunner_job_output_silence_seconds_max") > 2 })
	if age := m.sum("glassrunner_job_phase_age_seconds_max", "phase", "step_script"); age < 2 {
		t.Errorf("the phase is %v s old", age)
	}
	if age := m.sum("glassrunner_oldest_running_job_seconds"); age < 2 {
		t.Errorf("the job is %v s old", age)
	}
	m.check(t, 1, "glassrunner_jobs_overdue")
	m.check(t, 0, "glassrunner_job_log_lag_seconds")

	var list struct {
		Jobs []struct {
			ID            int64   `json:"id"`
			Phase         string  `json:"phase"`
			PhaseAge      float64 `json:"phase_age_seconds"`
			ExecutorStage string  `json:"executor_stage"`
			LastOutput    string  `json:"last_output"`
			LastPatch     string  `json:"last_patch"`
			Overdue       bool    `json:"overdue"`
		} `json:"jobs"`
	}
	resp, body := p.get("/debug/jobs")
	if err := json.Unmarshal(body, &list); err != nil || resp.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%v: %s", err, body)
	}
	if len(list.Jobs) != 1 || list.Jobs[0].ID != silent || list.Jobs[0].Phase != "step_script" || list.Jobs[0].PhaseAge < 2 ||
		list.Jobs[0].LastOutput == "" || list.Jobs[0].LastPatch == "" || !list.Jobs[0].Overdue {
		t.Errorf("/debug/jobs says %s", body)
	}
	touch(t, filepath.Join(w.dir, "builds", "go"))
	want(t, w.wait(silent), "success")

	// A wedged upload: the script talks, the coordinator takes nothing.
	chatty := w.enqueue(fakegitlab.Job{Script: []string{"until [ -e $CI_BUILDS_DIR/stop ]; do echo alive; sleep 0.2; done"}})
	w.until(chatty, "its script", printed("\nalive\n"))
	if err := w.server.Disturb(chatty); err != nil {
		t.Fatal(err)
	}
	fault := w.server.AddFault(fakegitlab.Fault{Endpoint: fakegitlab.PatchTrace, Status: 503})
	m = p.waitMetrics("a lag of three seconds", func(m families) bool { return m.sum("glassrunner_job_log_lag_seconds") > 3 })
	if silence := m.sum("glassrunner_job_output_silence_seconds_max"); silence > 2 {
		t.Errorf("a script that talks is silent for %v s", silence)
	}
	if n := m.series("glassrunner_job_phase_age_seconds_max"); n != 1 {
		t.Errorf("there are %d phases with jobs in them, want 1", n)
	}
	w.server.RemoveFault(fault)
	touch(t, filepath.Join(w.dir, "builds", "stop"))
	want(t, w.wait(chatty), "success")
	m = p.waitValue(0, "glassrunner_jobs_running")
	for _, name := range []string{"glassrunner_oldest_running_job_seconds", "glassrunner_job_output_silence_seconds_max", "glassrunner_jobs_overdue"} {
		m.check(t, 0, name)
	}
}

// TestHungPull has a registry that accepts connections and says nothing: the
// job is old in its preparation, and neither silent nor late with its log.
func TestHungPull(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	w := dockerWorld(t, e, fakegitlab.Options{UpdateInterval: 1})
	l, err := net.Listen("tcp", net.JoinHostPort(e.host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var conns []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		}
	}()
	hangUp := func() {
		_ = l.Close()
		<-done
		for _, c := range conns {
			_ = c.Close()
		}
	}
	p := w.start(strings.Replace(w.docker(e, "", ""), `pull_policy = "never"`, `pull_policy = ["always"]`, 1))
	id := w.enqueue(fakegitlab.Job{Image: &fakegitlab.Image{Name: l.Addr().String() + "/none:1"}, Script: []string{"true"}})
	m := p.waitMetrics("three seconds of preparation", func(m families) bool {
		return m.sum("glassrunner_job_phase_age_seconds_max", "phase", "prepare_executor") > 3
	})
	m.check(t, 0, "glassrunner_job_output_silence_seconds_max")
	if lag := m.sum("glassrunner_job_log_lag_seconds"); lag > 2.5 {
		t.Errorf("the log lags by %v s", lag)
	}
	_, body := p.get("/debug/jobs")
	has(t, string(body), `"executor_stage": "docker_pulling_image"`)
	if err := w.server.Cancel(id); err != nil {
		t.Fatal(err)
	}
	w.wait(id)
	hangUp()
	p.waitValue(0, "glassrunner_jobs_running")
}

// TestOutOfMemory has memory run out in a container of a job and in one of a
// service: the log names both, and both are counted.
func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	w := dockerWorld(t, e, fakegitlab.Options{})
	p := w.start(w.docker(e, "", "memory = \"48m\"\nservice_memory = \"48m\"\nwait_for_services_timeout = -1"))
	const eat = "awk 'BEGIN { s = \"x\"; while (1) s = s s }'"
	s := w.run(fakegitlab.Job{
		Script:   []string{"sleep 2; echo begun; " + eat},
		Services: []fakegitlab.Service{{Name: dockerImage, Command: []string{"sh", "-c", eat + "; sleep 600"}}},
	})
	if s.Status != fakegitlab.Failed {
		t.Errorf("the job is %s", s.Status)
	}
	has(t, text(s.Trace), "WARNING: Memory ran out in the build container: the kernel killed a process there.",
		"WARNING: Memory ran out in the service "+dockerImage+": the kernel killed a process there.", "Job used ")
	m := p.waitValue(0, "glassrunner_jobs_running")
	m.check(t, 1, "glassrunner_job_oom_kills_total", "container", "job")
	m.check(t, 1, "glassrunner_job_oom_kills_total", "container", "service")
	if peak := m.total("glassrunner_job_memory_peak_bytes"); peak < 40<<20 || peak > 110<<20 {
		t.Errorf("the peak of memory is %.0f, want about the limit", peak)
	}
}
