//go:build linux

package e2e_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// mixedWorkload runs jobs of many sorts, so that every metric has something to say.
func mixedWorkload(w *world) {
	w.t.Helper()
	ids := []int64{
		w.enqueue(fakegitlab.Job{Script: []string{"echo hello"}, AfterScript: []string{"true"}, Variables: public("FF_EXPORT_HIGH_CARDINALITY_METRICS", "true")}),
		w.enqueue(fakegitlab.Job{Script: []string{"exit 3"}}),
		w.enqueue(fakegitlab.Job{Script: []string{"sleep 600"}, Timeout: time.Second}),
		w.enqueue(fakegitlab.Job{Script: []string{"true"}, Variables: public("GIT_CLONE_PATH", "/")}),
		w.enqueue(fakegitlab.Job{Script: []string{"echo ${{ job.inputs.a }}"}, Inputs: []fakegitlab.Input{{Key: "a", Value: fakegitlab.InputValue{Type: "string", Content: "b"}}}}),
		w.enqueue(fakegitlab.Job{Script: []string{"echo ${{ job.inputs.b }}"}, Inputs: []fakegitlab.Input{{Key: "a", Value: fakegitlab.InputValue{Type: "string", Content: "b"}}}}),
	}
	for _, id := range ids {
		w.wait(id)
	}
	fault := w.server.AddFault(fakegitlab.Fault{Endpoint: fakegitlab.RequestJob, Status: 429, Header: http.Header{"Retry-After": {"1"}}, Count: 1})
	w.run(fakegitlab.Job{Script: []string{"true"}})
	w.eventually("a retry", func() bool { return w.server.FaultHits(fault) > 0 })
	w.run(fakegitlab.Job{Script: []string{"true"}})
}

// contract lists the metrics of GitLab Runner that this build has: name, type,
// labels, buckets and HELP, separated by tabs.
//
//go:embed testdata/metrics.tsv
var contract string

// seedHelp are the HELP lines that GitLab's page on monitoring shows.
//
//go:embed testdata/seed-help.txt
var seedHelp string

// TestMetricsContract compares names, types, labels, buckets and HELP with the contract.
func TestMetricsContract(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config("", entry{Extra: "  [runners.monitoring]\n    [[runners.monitoring.job_queuing_durations]]\n      periods = [\"* * * * * * *\"]\n      threshold = \"1ns\"\n"}))
	id := w.enqueue(fakegitlab.Job{Script: []string{"echo begun; sleep 600"}})
	w.until(id, "its script", printed("\nbegun\n"))
	mixedWorkload(w)
	p.waitValue(1, "glassrunner_jobs_running")
	res, body := p.get("/metrics")
	if ct := res.Header.Get("Content-Type"); !strings.HasPrefix(ct, "text/plain; version=0.0.4") {
		t.Errorf("Content-Type is %q", ct)
	}
	m, err := parse(body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(contract) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 5 {
			t.Fatalf("testdata/metrics.tsv: a line of %d fields: %q", len(f), line)
		}
		checkFamily(t, m[f[0]], f[0], f[1], f[2], f[3], f[4])
	}
	for line := range strings.Lines(seedHelp) {
		if !bytes.Contains(body, []byte(line)) {
			t.Errorf("/metrics lacks the line %q", strings.TrimSpace(line))
		}
	}
	if err := w.server.ForceCancel(id); err != nil {
		t.Fatal(err)
	}
}

func checkFamily(t *testing.T, f *dto.MetricFamily, name, kind, labels, buckets, help string) {
	t.Helper()
	if f == nil {
		t.Errorf("there is no metric %s", name)
		return
	}
	if got := strings.ToLower(f.GetType().String()); got != kind {
		t.Errorf("%s is a %s, want %s", name, got, kind)
	}
	if help != "-" && f.GetHelp() != help {
		t.Errorf("%s: HELP is %q, want %q", name, f.GetHelp(), help)
	}
	var expected []string
	if labels != "-" {
		for l := range strings.SplitSeq(labels, ",") {
			l, _, _ = strings.Cut(l, "(")
			expected = append(expected, l)
		}
		slices.Sort(expected)
	}
	for _, s := range f.GetMetric() {
		var got []string
		for _, l := range s.GetLabel() {
			got = append(got, l.GetName())
		}
		slices.Sort(got)
		if kind == "summary" {
			expected = nil // quantile is no label of the data model
		}
		if !slices.Equal(got, expected) {
			t.Errorf("%s has the labels %v, want %v", name, got, expected)
			return
		}
		if kind == "histogram" && buckets != "-" {
			var bounds []string
			for _, b := range s.GetHistogram().GetBucket() {
				if le := strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64); le != "+Inf" {
					bounds = append(bounds, le)
				}
			}
			if got := strings.Join(bounds, ","); got != buckets {
				t.Errorf("%s has the buckets %s, want %s", name, got, buckets)
				return
			}
		}
	}
}

// TestMetricsFromTheStart has series at zero before anything happened.
func TestMetricsFromTheStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config(""))
	p.waitMetrics("the configuration", func(m families) bool { return m.series("gitlab_runner_limit") == 1 })
	m := p.scrape()
	for _, level := range []string{"panic", "fatal", "error", "warning"} {
		if n := m.series("gitlab_runner_errors_total", "level", level); n != 1 {
			t.Errorf("gitlab_runner_errors_total{level=%q} has %d series", level, n)
		}
	}
	for _, reason := range []string{"script_failure", "runner_system_failure", "job_execution_timeout"} {
		if n := m.series("gitlab_runner_failed_jobs_total", "failure_reason", reason); n != 1 {
			t.Errorf("gitlab_runner_failed_jobs_total{failure_reason=%q} has %d series", reason, n)
		}
	}
	m.check(t, 0, "gitlab_runner_jobs_total")
	m.check(t, 1, "gitlab_runner_version_info")
	for _, l := range m["gitlab_runner_version_info"].GetMetric()[0].GetLabel() {
		if l.GetValue() == "" {
			t.Errorf("gitlab_runner_version_info: label %s is empty", l.GetName())
		}
	}
	m.check(t, 1, "gitlab_runner_configuration_loaded_total")
	m.check(t, 1, "glassrunner_config_last_reload_successful")
	for _, name := range []string{"glassrunner_last_successful_poll_timestamp_seconds", "glassrunner_config_last_reload_success_timestamp_seconds", "go_goroutines", "process_open_fds", "go_info"} {
		if m[name] == nil {
			t.Errorf("there is no metric %s", name)
		}
	}
}

// TestMetricsOfJobs compares what the metrics say with what was run.
func TestMetricsOfJobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config(""))
	mixedWorkload(w)
	m := p.waitValue(0, "glassrunner_jobs_running")
	m.check(t, 8, "gitlab_runner_jobs_total")
	m.check(t, 8, "gitlab_runner_job_duration_seconds")
	m.check(t, 8, "glassrunner_jobs_finished_total")
	m.check(t, 4, "glassrunner_jobs_finished_total", "result", "success")
	m.check(t, 1, "gitlab_runner_failed_jobs_total", "failure_reason", "script_failure")
	m.check(t, 1, "gitlab_runner_failed_jobs_total", "failure_reason", "job_execution_timeout")
	m.check(t, 2, "gitlab_runner_failed_jobs_total", "failure_reason", "runner_configuration_error")
	m.check(t, 1, "gitlab_runner_job_inputs_interpolations_total")
	m.check(t, 1, "gitlab_runner_job_inputs_interpolation_failures_total")
	m.check(t, 8, "gitlab_runner_api_request_statuses_total", "endpoint", "request_job", "status", "201", "method", "post")
	m.check(t, 1, "glassrunner_api_request_retries_total", "endpoint", "request_job", "status", "429")
	for name, labels := range map[string][]string{
		"gitlab_runner_api_request_statuses_total": {"endpoint", "update_job", "status", "200"},
		"glassrunner_job_log_sent_bytes_total":     nil,
	} {
		if m.sum(name, labels...) == 0 {
			t.Errorf("%s%v is 0", name, labels)
		}
	}
	var bytesStored int64
	for _, s := range w.server.Jobs() {
		bytesStored += s.TraceSize
	}
	m.check(t, float64(bytesStored), "glassrunner_job_log_sent_bytes_total")
	m.check(t, float64(bytesStored), "glassrunner_job_log_written_bytes_total")
}

// TestFormats reads the metrics in each format that is offered.
func TestFormats(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config(""))
	want(t, w.run(fakegitlab.Job{Script: []string{"true"}}), "success")
	p.waitValue(0, "glassrunner_jobs_running")

	res, body := p.get("/metrics", "Accept", "application/openmetrics-text;version=1.0.0")
	if ct := res.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/openmetrics-text; version=1.0.0") {
		t.Errorf("OpenMetrics: Content-Type is %q", ct)
	}
	if !bytes.HasSuffix(body, []byte("\n# EOF\n")) {
		t.Errorf("OpenMetrics: it ends with %q", tail(string(body), 60))
	}
	for _, line := range []string{
		`(?m)^# TYPE gitlab_runner_failed_jobs counter$`, `(?m)^gitlab_runner_failed_jobs_created\{.*\} 1\.\d+e\+09$`,
		`(?m)^gitlab_runner_job_duration_seconds_created\{`,
		// As a counter it would take the name of the gauge gitlab_runner_jobs.
		`(?m)^# TYPE gitlab_runner_jobs_total unknown$`, `(?m)^gitlab_runner_jobs_total\{.*\} 1(\.0)?( #.*)?$`,
	} {
		if !regexp.MustCompile(line).Match(body) {
			t.Errorf("OpenMetrics: nothing matches %s", line)
		}
	}

	res, body = p.get("/metrics", "Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	if ct := res.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/vnd.google.protobuf") {
		t.Errorf("protobuf: Content-Type is %q", ct)
	}
	dec := expfmt.NewDecoder(bytes.NewReader(body), expfmt.ResponseFormat(res.Header))
	pb := families{}
	for {
		f := new(dto.MetricFamily)
		if err := dec.Decode(f); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			break
		}
		pb[f.GetName()] = f
	}
	pb.check(t, 1, "gitlab_runner_jobs_total")
	h := pb["gitlab_runner_job_duration_seconds"].GetMetric()[0].GetHistogram()
	if len(h.GetBucket()) < 10 {
		t.Errorf("protobuf: the histogram has %d classic buckets", len(h.GetBucket()))
	}
	if h.Schema == nil || len(h.GetPositiveSpan()) == 0 {
		t.Error("protobuf: the histogram is not a native one")
	}

	// Go's transport asks for gzip only when nobody else decides.
	res, body = p.get("/metrics", "Accept-Encoding", "gzip")
	if res.Header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("gzip: Content-Encoding is %q", res.Header.Get("Content-Encoding"))
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	m, err := parse(plain)
	if err != nil {
		t.Fatal(err)
	}
	m.check(t, 1, "gitlab_runner_jobs_total")
	if res, _ = p.get("/metrics", "Accept-Encoding", "zstd"); res.Header.Get("Content-Encoding") != "zstd" {
		t.Errorf("zstd: Content-Encoding is %q", res.Header.Get("Content-Encoding"))
	}
}

// TestMethods allows reading only.
func TestMethods(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config(""))
	for method, code := range map[string]int{"GET": 200, "HEAD": 200, "POST": 405, "PUT": 405, "DELETE": 405, "PATCH": 405, "OPTIONS": 405} {
		res, body, err := w.request(method, "http://"+p.addr+"/metrics")
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != code {
			t.Errorf("%s /metrics: %s, want %d", method, res.Status, code)
		}
		if method == "HEAD" && len(body) > 0 {
			t.Errorf("HEAD has a body of %d bytes", len(body))
		}
	}
	for path, code := range map[string]int{
		"/": 200, "/debug/jobs/list": 200, "/debug/process/state": 200, "/health/ready": 200, "/debug/pprof/": 200,
		"/nowhere": 404, "/metrics/": 404, "/debug": 404,
	} {
		if res, _ := p.get(path); res.StatusCode != code {
			t.Errorf("%s: %s, want %d", path, res.Status, code)
		}
	}
	_, body := p.get("/")
	has(t, string(body), "/metrics", "/api/v1/status") // the other links are the script's: see test/browser
	if _, body := p.get("/debug/process/state"); string(body) != "running\n" {
		t.Errorf("/debug/process/state is %q", body)
	}
}

// TestJobsList lists the running jobs.
func TestJobsList(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config(""))
	if _, body := p.get("/debug/jobs/list"); len(body) > 0 {
		t.Errorf("without jobs the list is %q", body)
	}
	id := w.enqueue(fakegitlab.Job{Script: []string{"echo begun; sleep 600"}})
	w.until(id, "its script", printed("\nbegun\n"))
	res, body := p.get("/debug/jobs/list?v=2")
	if v := res.Header.Get("X-List-Version"); v != "2" {
		t.Errorf("X-List-Version is %q, want 2", v)
	}
	if ct := res.Header.Get("Content-Type"); ct != "text/plain" {
		t.Errorf("Content-Type is %q, want text/plain", ct)
	}
	line := regexp.MustCompile(`^url=` + regexp.QuoteMeta(w.server.URL()) + `/acme/web/-/jobs/` + strconv.FormatInt(id, 10) +
		` state=running stage=step_script executor_stage=\S* duration=([\d.hmµn]+s)\n$`)
	f := line.FindSubmatch(body)
	if f == nil {
		t.Fatalf("the list is %q", body)
	}
	if d, err := time.ParseDuration(string(f[1])); err != nil || d <= 0 || d > time.Minute {
		t.Errorf("duration is %v, %v", d, err)
	}
	m := p.scrape()
	m.check(t, 1, "gitlab_runner_jobs", "state", "running", "stage", "step_script")
	if err := w.server.ForceCancel(id); err != nil {
		t.Fatal(err)
	}
	w.eventually("an empty list", func() bool {
		_, body := p.get("/debug/jobs/list")
		return len(body) == 0
	})
}

// TestProfiles reads a profile with Go's own tool.
func TestProfiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config(""))
	for profile, has := range map[string]string{"heap": "inuse_space", "goroutine": "goroutine", "profile?seconds=1": "cpu"} {
		ctx, cancel := w.bounded()
		cmd := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "http://"+p.addr+"/debug/pprof/"+profile)
		cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+w.dir)
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil || !strings.Contains(string(out), "Type: "+has) || !strings.Contains(string(out), "flat%") {
			t.Errorf("go tool pprof -top %s: %v\n%s", profile, err, tail(string(out), 2000))
		}
	}
	if res, _ := p.get("/debug/pprof/profile?seconds=86400"); res.StatusCode != http.StatusBadRequest {
		t.Errorf("a profile of a day: %s, want 400", res.Status)
	}
}

// TestHalfOpenConnections opens hundreds of connections that say nothing, or
// half of something, or do not read. Scrapes and jobs go on.
func TestHalfOpenConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config(""))
	before := p.scrape().sum("process_open_fds")
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for i := range 500 {
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		// What is written may meet a connection that was closed: that is the server's right.
		switch i % 4 {
		case 1:
			_, _ = io.WriteString(c, "GET /metrics HT")
		case 2:
			_, _ = io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\n")
		case 3:
			_, _ = io.WriteString(c, strings.Repeat("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 50)) // and reads nothing
		}
	}
	for range 10 {
		// The clients that do not read may be asking at this very moment; then
		// the answer is 503 with a request to come again. The bound is for a
		// machine that has much else to do.
		if err := poll(20*time.Second, func() bool { _, err := p.tryScrape(); return err == nil }); err != nil {
			t.Errorf("no scrape succeeds: %v", err)
		}
	}
	want(t, w.run(fakegitlab.Job{Script: []string{"echo hello"}}), "success")
	m := p.scrape()
	if n := m.sum("glassrunner_http_connections"); n > 200 {
		t.Errorf("%v connections are open", n)
	}
	if n := m.sum("process_open_fds"); n > before+250 {
		t.Errorf("%v file descriptors are open, %v before", n, before)
	}
	for _, c := range conns {
		_ = c.Close()
	}
	p.waitMetrics("the end of the connections", func(m families) bool { return m.sum("glassrunner_http_connections") <= 3 })
}

// TestTwoEntriesOfOneToken scrapes a configuration that has everything twice.
func TestTwoEntriesOfOneToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	w.server.Relax(fakegitlab.RuleConcurrency, fakegitlab.RuleCheckInterval) // one token, two entries
	p := w.start(w.config("", entry{Name: "same"}, entry{Name: "same"}))
	for range 4 {
		want(t, w.run(fakegitlab.Job{Script: []string{"true"}}), "success")
	}
	m := p.waitValue(0, "glassrunner_jobs_running")
	m.check(t, 4, "gitlab_runner_jobs_total")
	if n := m.series("gitlab_runner_jobs_total"); n != 1 {
		t.Errorf("gitlab_runner_jobs_total has %d series, want 1", n)
	}
}

// TestSecretsOfTheProcess looks for tokens and masked values everywhere that
// the runner shows something, after a job that does its best to get them there.
func TestSecretsOfTheProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config("log_level = \"debug\""))
	const masked = "a-masked-value-0815"
	vars := append(empty("GIT_CLONE_PATH_", "x"), fakegitlab.Variable{Key: "SECRET", Value: masked, Masked: true})
	ids := []int64{
		w.enqueue(fakegitlab.Job{
			Name: "job with glpat-abcdefghij", Variables: vars, Timeout: time.Minute,
			Script: []string{"echo $SECRET $CI_JOB_TOKEN; echo begun; sleep 600 # " + masked},
		}),
		w.enqueue(fakegitlab.Job{Variables: append(public("GIT_CLONE_PATH", "/$SECRET"), vars[len(vars)-1]), Script: []string{"true"}}),
		w.enqueue(fakegitlab.Job{Variables: append(public("GIT_STRATEGY", "fetch"), vars[len(vars)-1]), Script: []string{"true"}}),
		w.enqueue(fakegitlab.Job{Raw: []byte(`{"id":%ID%,"token":"%TOKEN%","variables":"` + masked + `"}`)}),
	}
	w.until(ids[0], "its script", printed("\nbegun\n"))
	secrets := []string{w.runner.Token, masked, "glpat-abcdefghij"}
	for _, id := range ids[1:] {
		secrets = append(secrets, w.wait(id).Token)
	}
	s, err := w.server.Job(ids[0])
	if err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, s.Token)
	places := map[string]string{"the log": p.log.String()}
	for _, path := range []string{
		"/", "/metrics", "/debug/jobs/list", "/debug/process/state", "/debug/pprof/", "/debug/pprof/cmdline",
		"/debug/pprof/goroutine?debug=1", "/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1",
	} {
		_, body := p.get(path)
		places[path] = string(body)
	}
	_, body := p.get("/metrics", "Accept", "application/openmetrics-text;version=1.0.0")
	places["OpenMetrics"] = string(body)
	for pid := range marked(w.mark) {
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		places[fmt.Sprintf("the command line of process %d", pid)] = string(args)
	}
	if err := w.server.ForceCancel(ids[0]); err != nil {
		t.Fatal(err)
	}
	p.waitValue(0, "glassrunner_jobs_running")
	places["the log after the jobs"] = p.log.String()
	for place, text := range places {
		for i, secret := range secrets {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("%s has secret %d: %q", place, i, text[max(0, at-80):min(len(text), at+80)])
			}
		}
	}
	for _, s := range secrets {
		noSecretOnDisk(t, w, s)
	}
}

// TestCounters has no counter go back while jobs run and the configuration is reloaded.
func TestCounters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config(""))
	last := map[string]float64{}
	ids := w.enqueueMany(20, fakegitlab.Job{Script: []string{"sleep 0.1; exit $((CI_JOB_ID % 2))"}})
	for i := range 40 {
		if i%10 == 5 {
			w.write(w.config(fmt.Sprintf("concurrent = %d", 2+i/10%3)))
		}
		for name, f := range p.scrape() {
			for _, s := range f.GetMetric() {
				v, ok := s.GetCounter().GetValue(), s.Counter != nil
				if s.Histogram != nil {
					v, ok = float64(s.GetHistogram().GetSampleCount()), true
				}
				if key := name + fmt.Sprint(s.GetLabel()); ok {
					if v < last[key] {
						t.Errorf("%s went from %v to %v", key, last[key], v)
					}
					last[key] = v
				}
			}
		}
	}
	for _, id := range ids {
		w.wait(id)
	}
	p.waitValue(0, "glassrunner_jobs_running").check(t, 20, "gitlab_runner_job_duration_seconds")
}

// TestScrapeStorm scrapes from many sides at the same time.
func TestScrapeStorm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config(""))
	id := w.enqueue(fakegitlab.Job{Script: []string{"sleep 0.5; echo hello"}})
	results := make(chan string)
	const clients, each = 30, 10
	for range clients {
		go func() {
			got := ""
			for range each {
				m, err := p.tryScrape()
				switch {
				case err != nil && strings.Contains(err.Error(), "503"):
				case err != nil:
					got = err.Error()
				case m.sum("gitlab_runner_concurrent") != 4:
					got = "gitlab_runner_concurrent is wrong"
				}
			}
			results <- got
		}()
	}
	for range clients {
		if got := <-results; got != "" {
			t.Error(got)
		}
	}
	want(t, w.wait(id), "success")
}

// TestProcessLogFormats writes the log in each format.
func TestProcessLogFormats(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	for format, line := range map[string]*regexp.Regexp{
		"json":   regexp.MustCompile(`(?m)^\{.*"msg":"Job succeeded".*"job":\d+.*\}$`),
		"text":   regexp.MustCompile(`(?m)^time=\S+ level=info msg="Job succeeded" .*job=\d+`),
		"runner": regexp.MustCompile(`(?m)^.*Job succeeded.*job.*=.*\d+`),
	} {
		w.write(w.config("log_format = \"json\"")) // the flag wins
		p := w.command(nil, "--log-format", format, "run", "--config", w.path)
		want(t, w.run(fakegitlab.Job{Script: []string{"true"}}), "success")
		p.end()
		if !line.MatchString(p.log.String()) {
			t.Errorf("format %s: no line matches %s:\n%s", format, line, tail(p.log.String(), 2000))
		}
		if format == "json" {
			sc := bufio.NewScanner(strings.NewReader(p.log.String()))
			for sc.Scan() {
				if !strings.HasPrefix(sc.Text(), "{") {
					t.Errorf("a line is not JSON: %q", sc.Text())
				}
			}
		}
	}
}
