//go:build linux

package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// collector is a real OpenTelemetry collector that writes what it gets to a file.
type collector struct {
	w          *world
	grpc, http string // addresses
	path       string
}

// otelcol returns the collector's binary, which scripts/tool.sh builds.
func otelcol(t *testing.T) string {
	t.Helper()
	path := os.Getenv("GLASSRUNNER_OTELCOL")
	switch {
	case path != "":
		return path
	case os.Getenv("CI") != "":
		t.Fatal("GLASSRUNNER_OTELCOL is not set, and this is CI")
	case os.Getenv("GLASSRUNNER_TEST_OTELCOL") == "":
		t.Skip("NOT TESTED: the OpenTelemetry collector takes minutes to build: GLASSRUNNER_TEST_OTELCOL=1 builds and uses it")
	}
	out, err := exec.Command("../../scripts/tool.sh", "otelcol").Output()
	if err != nil {
		t.Fatalf("scripts/tool.sh otelcol: %v", err)
	}
	return strings.TrimSpace(string(out))
}

func newCollector(w *world) *collector {
	w.t.Helper()
	program := otelcol(w.t)
	c := &collector{
		w: w, path: filepath.Join(w.dir, "otlp.jsonl"),
		grpc: "127.0.0.1:" + freePort(w.t, "127.0.0.1"), http: "127.0.0.1:" + freePort(w.t, "127.0.0.1"),
	}
	config := file(w.t, w, "otelcol.yaml", fmt.Sprintf(`
receivers:
  otlp:
    protocols:
      grpc: {endpoint: %q}
      http: {endpoint: %q}
exporters:
  file: {path: %q, flush_interval: 100ms}
service:
  telemetry: {metrics: {level: none}, logs: {level: warn}}
  pipelines:
    traces: {receivers: [otlp], exporters: [file]}
    metrics: {receivers: [otlp], exporters: [file]}
`, c.grpc, c.http, c.path))
	p := w.program(program, nil, "--config", "file:"+config)
	w.eventually("a collector that listens", func() bool {
		if !p.running() {
			w.t.Fatalf("the collector has ended:\n%s", p.log)
		}
		conn, err := net.Dial("tcp", c.http)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return c
}

// otlp is what the file has of a span.
type otlp struct {
	TraceID    string `json:"traceId"`
	ID         string `json:"spanId"`
	Parent     string `json:"parentSpanId"`
	Name       string
	Start      string `json:"startTimeUnixNano"`
	End        string `json:"endTimeUnixNano"`
	Attributes attributes
	Status     struct {
		Code    int
		Message string
	}
}

type attributes []struct {
	Key   string
	Value map[string]any
}

// get returns an attribute as text.
func (a attributes) get(key string) string {
	for _, kv := range a {
		if kv.Key == key {
			for _, v := range kv.Value {
				return fmt.Sprint(v)
			}
		}
	}
	return ""
}

// record is a line of the file.
type record struct {
	ResourceSpans []struct {
		ScopeSpans []struct{ Spans []otlp }
	}
	ResourceMetrics []struct {
		Resource     struct{ Attributes attributes }
		ScopeMetrics []struct {
			Metrics []struct {
				Name      string
				Sum       struct{ DataPoints []point }
				Histogram struct{ DataPoints []point }
			}
		}
	}
}

type point struct {
	Attributes attributes
	AsInt      string
	Count      string
	Exemplars  []struct {
		TraceID string `json:"traceId"`
	}
}

// read returns what the collector has so far.
func (c *collector) read() (all []record, raw []byte) {
	c.w.t.Helper()
	raw, err := os.ReadFile(c.path)
	if err != nil {
		return nil, nil
	}
	lines := bufio.NewScanner(bytes.NewReader(raw[:bytes.LastIndexByte(raw, '\n')+1]))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			c.w.t.Fatalf("%v in %s", err, lines.Bytes())
		}
		all = append(all, r)
	}
	return all, raw
}

// traces returns the spans by trace and id.
func (c *collector) traces() map[string]map[string]otlp {
	found := map[string]map[string]otlp{}
	all, _ := c.read()
	for _, r := range all {
		for _, rs := range r.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					if found[s.TraceID] == nil {
						found[s.TraceID] = map[string]otlp{}
					}
					found[s.TraceID][s.ID] = s
				}
			}
		}
	}
	return found
}

// job waits for the trace of a job: its root and all spans by id.
func (c *collector) job(id int64) (root otlp, spans map[string]otlp) {
	c.w.t.Helper()
	c.w.eventually(fmt.Sprintf("the trace of job %d", id), func() bool {
		for _, t := range c.traces() {
			for _, s := range t {
				if s.Attributes.get("cicd.pipeline.task.run.id") == strconv.FormatInt(id, 10) {
					root, spans = s, t
					return true
				}
			}
		}
		return false
	})
	return root, spans
}

var traceparent = regexp.MustCompile(`tp=00-([0-9a-f]{32})-([0-9a-f]{16})-0([01])`)

// TestTracing runs jobs with both protocols, configured in both ways.
func TestTracing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		// settings returns [tracing] and variables.
		settings func(c *collector) (table string, env []string)
	}{
		{"grpc by the table", func(c *collector) (string, []string) {
			return fmt.Sprintf("[tracing]\nendpoint = %q\nprotocol = \"grpc\"\ninsecure = true\n[tracing.headers]\nx-key = \"header-SECRET-0001\"\n", c.grpc), nil
		}},
		{"http by variables", func(c *collector) (string, []string) {
			return "", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + c.http, "OTEL_EXPORTER_OTLP_HEADERS=x-key=header-SECRET-0001"}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fakegitlab.Options{Concurrent: 8})
			c := newCollector(w)
			table, env := tt.settings(c)
			w.write(w.config("concurrent = 8\nlog_format = \"json\"", entry{Extra: "  [runners.custom_build_dir]\n    enabled = true\n"}) + table)
			p := w.command(append(env, "OTEL_BSP_SCHEDULE_DELAY=100"), "run", "--config", w.path)
			p.addr = p.waitLog(regexp.MustCompile(`Metrics server listening[^\n]*"address":"([^"]+)"`))[1]
			runTraced(t, w, p, c)
			p.signal(syscall.SIGTERM)
			if code := p.exit(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			_, raw := c.read()
			for _, secret := range []string{"masked-SECRET-0001", "header-SECRET-0001", w.runner.Token} {
				for where, text := range map[string]string{"the collector": string(raw), "the process log": p.log.String()} {
					if strings.Contains(text, secret) {
						t.Errorf("%s has %q", where, secret)
					}
				}
			}
			if !strings.Contains(string(raw), "[MASKED]") {
				t.Error("no masked text was exported, so nothing was proved")
			}
		})
	}
}

func runTraced(t *testing.T, w *world, p *process, c *collector) {
	t.Helper()
	const id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	script := []string{`echo "tp=$TRACEPARENT"`, `env | grep -c OTEL_EXPORTER_OTLP_HEADERS || true`}
	secret := append(empty("GIT_CLONE_PATH", "/nowhere/$TOPSECRET"), fakegitlab.Variable{Key: "TOPSECRET", Value: "masked-SECRET-0001", Masked: true})
	jobs := map[string]int64{
		"plain":  w.enqueue(fakegitlab.Job{Script: script, AfterScript: script[:1], Variables: empty()}),
		"failed": w.enqueue(fakegitlab.Job{Script: []string{"exit 3"}, Variables: empty()}),
		"own":    w.enqueue(fakegitlab.Job{Script: script, Variables: empty("TRACEPARENT", "mine")}),
		"secret": w.enqueue(fakegitlab.Job{Script: script, Variables: secret}),
		"gitlab": w.enqueue(fakegitlab.Job{Script: script, Variables: empty(), Edit: func(p *fakegitlab.Payload) {
			p.Features.Tracing = map[string]any{"trace_id": id, "span_parent_id": parent, "otel_endpoints": []any{}}
		}}),
	}
	done := map[string]fakegitlab.Snapshot{}
	for name, id := range jobs {
		done[name] = w.wait(id)
	}

	for name, job := range jobs {
		root, spans := c.job(job)
		within(t, name, spans)
		if got, want := root.Parent, map[bool]string{true: parent}[name == "gitlab"]; got != want {
			t.Errorf("%s: the job's span is below %q, want %q", name, got, want)
		}
		if (root.TraceID == id) != (name == "gitlab") {
			t.Errorf("%s: trace %s", name, root.TraceID)
		}
		result := map[string]string{"failed": "failure", "secret": "error"}[name]
		if result == "" {
			result = "success"
		}
		if got := root.Attributes.get("cicd.pipeline.task.run.result"); got != result {
			t.Errorf("%s: result %q, want %q", name, got, result)
		}
		if failed := root.Status.Code == 2; failed != (result != "success") {
			t.Errorf("%s: status %+v", name, root.Status)
		}
		var names []string
		for _, s := range spans {
			names = append(names, s.Name)
		}
		want := []string{"prepare_executor", "deliver_result", "PUT /api/v4/jobs/{id}", "PATCH /api/v4/jobs/{id}/trace"}
		if name != "secret" {
			want = append(want, "prepare_script", "get_sources", "step_script")
		}
		for _, n := range want {
			if !slices.Contains(names, n) {
				t.Errorf("%s: there is no span %q in %q", name, n, names)
			}
		}
		trace := string(done[name].Trace)
		switch name {
		case "plain", "gitlab":
			seen := traceparent.FindAllStringSubmatch(trace, -1)
			wanted := []string{"step_script", "after_script"}[:len(seen)]
			if len(seen) == 0 || name == "plain" && len(seen) != 2 {
				t.Errorf("%s: the job saw %q", name, seen)
			}
			for i, m := range seen {
				if m[1] != root.TraceID || spans[m[2]].Name != wanted[i] || m[3] != "1" {
					t.Errorf("%s: the job saw %q, which is no span %s of %s", name, m[0], wanted[i], root.TraceID)
				}
			}
			if !strings.Contains(trace, "\n0\n") {
				t.Errorf("%s: the job sees the headers of the exporter:\n%s", name, trace)
			}
		case "own":
			if !strings.Contains(trace, "tp=mine\n") {
				t.Errorf("the job's own TRACEPARENT is lost:\n%s", trace)
			}
		}
		if !strings.Contains(p.log.String(), `"trace_id":"`+root.TraceID+`","span_id":"`) {
			t.Errorf("%s: the process log does not name the trace", name)
		}
	}
	if n := len(c.traces()); n != len(jobs) {
		t.Errorf("%d traces for %d jobs", n, len(jobs))
	}
	m := p.scrape()
	if m.sum("glassrunner_tracing_spans_total", "result", "exported") == 0 || m.sum("glassrunner_tracing_spans_total", "result", "dropped") != 0 ||
		m.sum("glassrunner_tracing_spans_total", "result", "failed") != 0 {
		t.Errorf("spans: %v", m["glassrunner_tracing_spans_total"])
	}
}

// within fails the test unless spans have their parents around them.
func within(t *testing.T, job string, spans map[string]otlp) {
	t.Helper()
	time := func(text string) int64 {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	outside := 0
	for _, s := range spans {
		p, ok := spans[s.Parent]
		switch {
		case !ok:
			outside++
		case time(s.Start) < time(p.Start) || time(s.End) > time(p.End):
			t.Errorf("%s: %s is not within %s", job, s.Name, p.Name)
		}
	}
	if outside != 1 {
		t.Errorf("%s: %d spans have no parent, want one", job, outside)
	}
}

// TestCollectorDown has collectors that refuse, and that accept and say nothing.
func TestCollectorDown(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	for name, at := range map[string]string{"refuses": "127.0.0.1:" + freePort(t, "127.0.0.1"), "is silent": silent.Addr().String()} {
		for _, protocol := range []string{"grpc", "http/protobuf"} {
			t.Run(name+" "+protocol, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, fakegitlab.Options{})
				w.write(w.config("") + fmt.Sprintf("[tracing]\nendpoint = \"http://%s\"\nprotocol = %q\n", at, protocol))
				p := w.command([]string{"OTEL_BSP_SCHEDULE_DELAY=50", "OTEL_BSP_MAX_QUEUE_SIZE=2", "OTEL_BSP_EXPORT_TIMEOUT=2000"}, "run", "--config", w.path)
				p.addr = p.listening()
				for range 3 {
					if s := w.run(fakegitlab.Job{Script: []string{"echo on"}, Variables: empty()}); s.Status != "success" {
						t.Errorf("the job is %s", s.Status)
					}
				}
				p.waitMetrics("spans that were lost", func(m families) bool {
					return m.sum("glassrunner_tracing_spans_total", "result", "failed") > 0 &&
						// Who is refused at once has no queue.
						(name == "refuses" || m.sum("glassrunner_tracing_spans_total", "result", "dropped") > 0)
				})
				if n := p.scrape().sum("glassrunner_tracing_spans_total", "result", "exported"); n != 0 {
					t.Errorf("%v spans were exported to nobody", n)
				}
				p.signal(syscall.SIGTERM)
				if code := p.exitWithin(15 * time.Second); code != 0 {
					t.Errorf("exit code %d", code)
				}
				if n := strings.Count(p.log.String(), "what=tracing_export"); n < 1 || n > 2 {
					t.Errorf("the trouble is told %d times", n)
				}
			})
		}
	}
}

// TestExemplars leads from Prometheus to a trace.
func TestExemplars(t *testing.T) {
	t.Parallel()
	prometheus := needs(t, "prometheus")
	w := newWorld(t, fakegitlab.Options{})
	c := newCollector(w)
	w.write(w.config("") + fmt.Sprintf("[tracing]\nendpoint = \"http://%s\"\n", c.http))
	p := w.command([]string{"OTEL_BSP_SCHEDULE_DELAY=100"}, "run", "--config", w.path)
	p.addr = p.listening()
	job := w.enqueue(fakegitlab.Job{Script: []string{"true"}, Variables: append(empty(), public("FF_EXPORT_HIGH_CARDINALITY_METRICS", "true")...)})
	w.wait(job)
	root, _ := c.job(job)

	const openMetrics = "application/openmetrics-text; version=1.0.0"
	_, om := p.get("/metrics", "Accept", openMetrics)
	_, plain := p.get("/metrics", "Accept", "text/plain")
	if bytes.Contains(plain, []byte("trace_id")) {
		t.Error("the classic text format has exemplars")
	}
	histograms := []string{
		"glassrunner_job_duration_seconds", "glassrunner_job_stage_duration_seconds", "gitlab_runner_job_duration_seconds",
		"gitlab_runner_job_queue_duration_seconds", "gitlab_runner_job_stage_duration_seconds",
	}
	for _, name := range histograms {
		if !regexp.MustCompile(`(?m)^` + name + `_bucket\{.*\} \d+ # \{trace_id="` + root.TraceID + `"\} `).Match(om) {
			t.Errorf("%s has no exemplar of trace %s", name, root.TraceID)
		}
	}

	// Without protobuf, whose native histograms this Prometheus takes no exemplars of.
	config := file(t, w, "prometheus.yml", fmt.Sprintf(`
global: {scrape_interval: 500ms, scrape_timeout: 400ms}
scrape_configs:
  - job_name: glassrunner
    static_configs: [{targets: [%q]}]
`, p.addr))
	at := "127.0.0.1:" + freePort(t, "127.0.0.1")
	server := w.program(prometheus, nil, "--config.file", config, "--storage.tsdb.path", filepath.Join(w.dir, "tsdb"),
		"--web.listen-address", at, "--enable-feature", "exemplar-storage", "--log.level", "warn")
	for _, name := range histograms {
		w.eventually("an exemplar of "+name, func() bool {
			if !server.running() {
				t.Fatalf("prometheus has ended:\n%s", server.log)
			}
			query := url.Values{"query": {name + "_bucket"}, "start": {time.Now().Add(-time.Hour).Format(time.RFC3339)}, "end": {time.Now().Add(time.Hour).Format(time.RFC3339)}}
			res, body, err := w.request("GET", "http://"+at+"/api/v1/query_exemplars?"+query.Encode())
			return err == nil && res.StatusCode == 200 && bytes.Contains(body, []byte(`"trace_id":"`+root.TraceID+`"`))
		})
	}
}

// TestMetricsOfAShortLife has run-single send what nobody is there to scrape.
func TestMetricsOfAShortLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	c := newCollector(w)
	w.enqueue(fakegitlab.Job{Script: []string{"true"}, Variables: empty()})
	p := w.command([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + c.grpc, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_METRICS_EXPORTER=otlp", "OTEL_SERVICE_NAME=ci"},
		"run-single", "--config", w.path, "--url", w.server.URL(), "--token", w.runner.Token, "--executor", "shell", "--shell", "sh",
		"--builds-dir", filepath.Join(w.dir, "builds"), "--cache-dir", filepath.Join(w.dir, "cache"), "--name", "once", "--max-builds", "1")
	if code := p.exit(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	// Everything is there once the process has ended; the collector still has to write it.
	want := map[string]string{
		"cicd.pipeline.task.run.duration success": "1",
		"cicd.worker.count available":             "1",
		"cicd.worker.count busy":                  "0",
	}
	var got map[string]string
	if err := poll(patience, func() bool {
		got = map[string]string{}
		all, _ := c.read()
		for _, r := range all {
			for _, rm := range r.ResourceMetrics {
				if rm.Resource.Attributes.get("service.name") != "ci" {
					t.Errorf("service.name is %q", rm.Resource.Attributes.get("service.name"))
				}
				for _, sm := range rm.ScopeMetrics {
					for _, m := range sm.Metrics {
						for _, p := range m.Histogram.DataPoints {
							got[m.Name+" "+p.Attributes.get("cicd.pipeline.task.run.result")] = p.Count
						}
						for _, p := range m.Sum.DataPoints {
							got[m.Name+" "+p.Attributes.get("cicd.worker.state")] = p.AsInt
						}
					}
				}
			}
		}
		return maps.Equal(got, want)
	}); err != nil {
		t.Errorf("got %v, want %v", got, want)
	}
	if n := len(c.traces()); n != 1 {
		t.Errorf("%d traces for one job", n)
	}
}

// TestTracingDocument does what docs/tracing.md says.
func TestTracingDocument(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/tracing.md")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, fakegitlab.Options{})
	tables := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllSubmatch(text, -1)
	if len(tables) != 2 {
		t.Fatalf("%d tables, want 2", len(tables))
	}
	for _, m := range tables {
		w.write(w.config("") + string(m[1]))
		p := w.command(nil, "check-config", "--config", w.path)
		if code := p.exit(); code != 0 || !strings.Contains(p.log.String(), "no problems") {
			t.Errorf("check-config of\n%s\nends with %d:\n%s", m[1], code, p.log)
		}
	}
	for _, name := range []string{"glassrunner demo", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318"} {
		if !bytes.Contains(text, []byte(name)) {
			t.Errorf("the document does not have %q", name)
		}
	}
	c := newCollector(w)
	demo := w.command([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + c.http, "OTEL_BSP_SCHEDULE_DELAY=100"}, "demo", "--listen-address", "127.0.0.1:0")
	w.eventually("traces of the demo's jobs", func() bool { return len(c.traces()) >= 2 })
	stopDemo(demo)
}

// TestEndpointsOfGitLab has jobs name where their traces go; the runner itself has no settings.
func TestEndpointsOfGitLab(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	c := newCollector(w)
	p := w.start(w.config(""))
	want := map[string]int64{}
	for i, at := range []string{"http://" + c.http, "grpc://" + c.grpc} {
		id := fmt.Sprintf("0af7651916cd43dd8448eb211c80319%d", i)
		job := w.enqueue(fakegitlab.Job{Script: []string{`echo "tp=$TRACEPARENT"`}, Variables: empty(), Edit: func(p *fakegitlab.Payload) {
			p.Features.Tracing = map[string]any{"trace_id": id, "span_parent_id": "b7ad6b7169203331", "otel_endpoints": []any{map[string]any{"url": at}}}
		}})
		if s := w.wait(job); !strings.Contains(string(s.Trace), "tp=00-"+id+"-") {
			t.Errorf("the job is not told its trace:\n%s", s.Trace)
		}
		want[id] = job
	}
	if s := w.run(fakegitlab.Job{Script: []string{`echo "tp=$TRACEPARENT"`}, Variables: empty()}); !strings.Contains(string(s.Trace), "tp=\n") {
		t.Errorf("a job without endpoints is traced:\n%s", s.Trace)
	}
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for id, job := range want {
		root, spans := c.job(job)
		if root.TraceID != id || root.Parent != "b7ad6b7169203331" {
			t.Errorf("job %d: %+v", job, root)
		}
		within(t, strconv.FormatInt(job, 10), spans)
	}
	if n := len(c.traces()); n != 2 {
		t.Errorf("%d traces, want 2", n)
	}
}
