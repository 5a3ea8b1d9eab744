package admin_test

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/glassrunner/glassrunner/internal/admin"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/board"
	"github.com/glassrunner/glassrunner/internal/observe/metrics"
)

// facts remembers what the server emits.
type facts struct {
	mu  sync.Mutex
	all []event.Fact
}

func (f *facts) Observe(e event.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, e.Fact)
}

func (f *facts) last() event.Fact {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.all) == 0 {
		return nil
	}
	return f.all[len(f.all)-1]
}

type rig struct {
	*admin.Server
	bus   *event.Bus
	facts *facts
	m     *metrics.Metrics
}

func newRig(t testing.TB, change func(*admin.Options)) *rig {
	t.Helper()
	b := board.New(board.Options{})
	m := metrics.New(metrics.Options{Board: b, SystemID: "s_0123456789ab"})
	f := &facts{}
	bus := event.NewBus(b, m, f)
	o := admin.Options{Gatherer: m.Gatherer(), Registry: m.Registry(), Board: b, Bus: bus, Version: "1.2.3 <beta>", DrainTimeout: 200 * time.Millisecond}
	if change != nil {
		change(&o)
	}
	before := runtime.NumGoroutine()
	s := admin.New(o)
	t.Cleanup(func() {
		s.Close()
		http.DefaultClient.CloseIdleConnections()
		poll(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
	})
	return &rig{s, bus, f, m}
}

func (r *rig) listen(t testing.TB) string {
	t.Helper()
	if err := r.Listen(t.Context(), admin.Settings{Address: "127.0.0.1:0"}); err != nil {
		t.Fatal(err)
	}
	return "http://" + r.Addr()
}

// poll waits at most 10 s.
func poll(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			buf := make([]byte, 1<<16)
			t.Fatalf("waited in vain for %s\n%s", what, buf[:runtime.Stack(buf, true)])
		}
		<-time.After(5 * time.Millisecond)
	}
}

func do(t testing.TB, method, url string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestRoutes(t *testing.T) {
	r := newRig(t, nil)
	base := r.listen(t)
	ctx := event.WithScope(t.Context(), event.Scope{Runner: job.Runner{Short: "abcdefghi"}, Job: 1, Run: 1})
	r.bus.Emit(t.Context(), event.ProcessChanged{State: event.ProcessRunning})
	r.bus.Emit(ctx, event.JobStarted{URL: "https://gitlab.example.org/g/p/-/jobs/1"})
	r.bus.Emit(ctx, event.JobState{State: job.Running})
	r.bus.Emit(ctx, event.ExecutorStage{Stage: "odd one"})
	r.bus.Emit(ctx, event.PhaseStarted{Phase: "step_script"})
	for _, c := range []struct {
		method, path string
		code         int
		body         string // regular expression
	}{
		{"GET", "/metrics", 200, `(?s)^# HELP .*\ngitlab_runner_jobs\{.*\npromhttp_metric_handler_errors_total`},
		{"HEAD", "/metrics", 200, `^$`},
		{"POST", "/metrics", 405, `^Method Not Allowed\n$`},
		{"DELETE", "/metrics", 405, ``},
		{"BREW", "/metrics", 405, ``},
		{"GET", "/metrics/", 404, ``},
		{"GET", "/metrics?name[]=gitlab_runner_jobs_total", 200, `(?s)^# HELP gitlab_runner_jobs_total [^#]*# TYPE [^#]*$`},
		{"GET", "/", 200, `(?s)^<!DOCTYPE html>.*src="/static/app\.js".*href="/metrics"`},
		{"GET", "/static/app.js", 200, `EventSource`},
		{"GET", "/static/style.css", 200, `light-dark`},
		{"GET", "/static/icon.svg", 200, `<svg`},
		{"GET", "/static/", 404, ``},
		{"GET", "/static/../../admin.go", 404, ``},
		{"POST", "/static/app.js", 405, ``},
		{"GET", "/api/v1/nothing", 404, `^\{"error":`},
		{"POST", "/api/v1/status", 405, ``},
		{"POST", "/", 405, ``},
		{"GET", "/favicon.ico", 404, ``},
		{"GET", "/-/healthy", 200, `"healthy": true`},
		{"GET", "/health/ready", 200, `^ready\n$`},
		{"GET", "/debug/process/state", 200, `^running\n$`},
		{"GET", "/debug/jobs/list?v=2", 200, `^url=https://gitlab\.example\.org/g/p/-/jobs/1 state=running stage=step_script executor_stage=odd_one duration=[0-9.µmns]+\n$`},
		{"POST", "/debug/jobs/list", 200, `^url=`},
		{"GET", "/debug/pprof/", 200, `goroutine`},
		{"GET", "/debug/pprof/heap", 200, `.`},
		{"GET", "/debug/pprof/goroutine?debug=1", 200, `goroutine profile`},
		{"GET", "/debug/pprof/allocs", 200, `.`},
		{"GET", "/debug/pprof/block", 200, `.`},
		{"GET", "/debug/pprof/mutex", 200, `.`},
		{"GET", "/debug/pprof/threadcreate", 200, `.`},
		{"GET", "/debug/pprof/cmdline", 200, `admin\.test`},
		{"GET", "/debug/pprof/symbol", 200, `num_symbols`},
		{"POST", "/debug/pprof/symbol", 200, `num_symbols`},
		{"POST", "/debug/pprof/profile", 405, ``},
		{"GET", "/debug/pprof/profile?seconds=1", 200, `.`},
		{"GET", "/debug/pprof/trace?seconds=0.01", 200, `^go 1\.`},
		{"GET", "/debug/pprof/profile?seconds=99999", 400, `at most 600`},
		{"GET", "/debug/pprof/nonsense", 404, ``},
	} {
		resp, body := do(t, c.method, base+c.path)
		if resp.StatusCode != c.code || !regexp.MustCompile(c.body).MatchString(body) {
			t.Errorf("%s %s: got %d %.300q, want %d and %s", c.method, c.path, resp.StatusCode, body, c.code, c.body)
		}
		if c.code == 405 && resp.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s %s: Allow: %q", c.method, c.path, resp.Header.Get("Allow"))
		}
	}
	resp, _ := do(t, "GET", base+"/debug/jobs/list")
	if v, ct := resp.Header.Get("X-List-Version"), resp.Header.Get("Content-Type"); v != "2" || ct != "text/plain" {
		t.Errorf("job list: version %q, type %q", v, ct)
	}
	for _, path := range []string{"/", "/static/app.js", "/static/style.css", "/static/icon.svg"} {
		resp, page := do(t, "GET", base+path)
		if regexp.MustCompile(`https?://[a-z]`).MatchString(strings.ReplaceAll(page, "http://www.w3.org/2000/svg", "")) {
			t.Errorf("%s names something outside", path)
		}
		if csp := resp.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none';") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
		again, _ := do(t, "GET", base+path, "If-None-Match", resp.Header.Get("ETag"))
		if again.StatusCode != 304 {
			t.Errorf("%s: asked for again: %d", path, again.StatusCode)
		}
	}
}

func TestCompatibleReady(t *testing.T) {
	r := newRig(t, nil)
	base := r.listen(t)
	for _, c := range []struct {
		fact event.Fact
		code int
		body string
	}{
		{event.Fed{}, 503, "boot-verify pending\n"},
		{event.ProcessChanged{State: event.ProcessRunning}, 200, "ready\n"},
		{event.Draining{Signal: "quit"}, 200, "ready\n"},
		{event.ProcessChanged{State: event.ProcessGracefulShutdown}, 200, "ready\n"},
	} {
		r.bus.Emit(t.Context(), c.fact)
		resp, body := do(t, "GET", base+"/health/ready")
		if resp.StatusCode != c.code || body != c.body {
			t.Errorf("after %T: got %d %q, want %d %q", c.fact, resp.StatusCode, body, c.code, c.body)
		}
	}
}

func TestFormats(t *testing.T) {
	r := newRig(t, nil)
	base := r.listen(t)
	r.bus.Emit(t.Context(), event.ConfigLoaded{Generation: 1, Runners: []event.Limits{{Runner: job.Runner{Short: "abcdefghi"}}}})
	const om = "application/openmetrics-text; version=1.0.0"
	for _, c := range []struct{ accept, encoding, contentType, wantEncoding string }{
		{"", "identity", "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", ""},
		{"text/html,*/*", "identity", "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", ""},
		{"text/plain;version=0.0.4", "gzip", "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", "gzip"},
		{om, "gzip", "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores", "gzip"},
		{om + ";escaping=allow-utf-8;q=0.6,text/plain;q=0.2", "zstd, gzip;q=0.5", "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8", "zstd"},
		{om, "gzip;q=0, br", "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores", ""},
		{"application/openmetrics-text; version=0.0.1", "gzip", "application/openmetrics-text; version=0.0.1; charset=utf-8; escaping=underscores", "gzip"},
		{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", "gzip", "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores", "gzip"},
		{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", "zstd", "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores", "zstd"},
	} {
		t.Run(c.accept+" "+c.encoding, func(t *testing.T) {
			resp, body := do(t, "GET", base+"/metrics", "Accept", c.accept, "Accept-Encoding", c.encoding)
			if ct, ce := resp.Header.Get("Content-Type"), resp.Header.Get("Content-Encoding"); ct != c.contentType || ce != c.wantEncoding {
				t.Fatalf("got type %q, encoding %q; want %q, %q", ct, ce, c.contentType, c.wantEncoding)
			}
			families := decode(t, unpack(t, body, c.wantEncoding), c.contentType)
			if families == nil {
				return
			}
			h := families["gitlab_runner_job_duration_seconds"]
			if h == nil || len(h.Metric) != 1 {
				t.Fatalf("families: %d, job duration %v", len(families), h)
			}
			native := h.Metric[0].Histogram.Schema != nil
			if wantNative := strings.Contains(c.contentType, "protobuf"); native != wantNative {
				t.Errorf("native histogram: got %t, want %t", native, wantNative)
			}
		})
	}
}

func unpack(t *testing.T, body, encoding string) string {
	t.Helper()
	var r io.Reader = strings.NewReader(body)
	switch encoding {
	case "gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		r = z
	case "zstd":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
	}
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// decode returns nil for OpenMetrics, of which it looks at the form only.
func decode(t *testing.T, body, contentType string) map[string]*dto.MetricFamily {
	t.Helper()
	if strings.Contains(contentType, "openmetrics") {
		if !strings.HasSuffix(body, "\n# EOF\n") || !strings.Contains(body, "\ngitlab_runner_configuration_loaded_total 1.0\n") {
			t.Errorf("no OpenMetrics: %.200q", body)
		}
		if !strings.Contains(body, "\ngitlab_runner_configuration_loaded_created 1.") {
			t.Error("no _created")
		}
		families := make(map[string]bool)
		for line := range strings.Lines(body) {
			if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
				if families[rest[:strings.IndexByte(rest, ' ')]] && strings.Contains(contentType, "1.0.0") {
					t.Errorf("family twice: %s", line)
				}
				families[rest[:strings.IndexByte(rest, ' ')]] = true
			}
		}
		return nil
	}
	h := http.Header{}
	h.Set("Content-Type", contentType)
	d := expfmt.NewDecoder(strings.NewReader(body), expfmt.ResponseFormat(h))
	all := make(map[string]*dto.MetricFamily)
	for {
		f := new(dto.MetricFamily)
		err := d.Decode(f)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all[f.GetName()] = f
	}
}

func TestPlainRegistry(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := admin.New(admin.Options{Gatherer: reg, Registry: reg, Board: board.New(board.Options{})})
	for _, accept := range []string{"", "application/openmetrics-text; version=1.0.0"} {
		w := httptest.NewRecorder()
		req := httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil)
		req.Header.Set("Accept", accept)
		s.Handler().ServeHTTP(w, req)
		if w.Code != 200 || !strings.Contains(w.Body.String(), "promhttp_metric_handler_requests_in_flight 1") {
			t.Errorf("%q: %d %.100q", accept, w.Code, w.Body.String())
		}
	}
}

func BenchmarkScrape(b *testing.B) {
	for _, c := range []struct{ name, accept, encoding string }{
		{"text", "", "identity"}, {"text-gzip", "", "gzip"}, {"openmetrics-gzip", "application/openmetrics-text; version=1.0.0", "gzip"},
		{"protobuf-gzip", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", "gzip"},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b, nil)
			base := r.listen(b)
			fill(b, r.bus)
			var took []time.Duration
			size := 0
			req, err := http.NewRequestWithContext(b.Context(), "GET", base+"/metrics", nil)
			if err != nil {
				b.Fatal(err)
			}
			req.Header.Set("Accept", c.accept)
			req.Header.Set("Accept-Encoding", c.encoding)
			buf := make([]byte, 1<<20)
			for b.Loop() {
				start := time.Now()
				resp, err := http.DefaultClient.Do(req)
				if err != nil || resp.StatusCode != 200 {
					b.Fatal(resp, err)
				}
				size, err = io.ReadFull(resp.Body, buf)
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					b.Fatal(err)
				}
				resp.Body.Close()
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64(size), "bytes")
		})
	}
}

// fill makes ten runner entries that have had jobs, and 100 running jobs.
func fill(tb testing.TB, bus *event.Bus) {
	tb.Helper()
	cfg := event.ConfigLoaded{Generation: 1, Concurrent: 100}
	for i := range 10 {
		cfg.Runners = append(cfg.Runners, event.Limits{Runner: job.Runner{Short: fmt.Sprintf("abcdefg%02d", i), Name: fmt.Sprintf("runner %d", i), SystemID: "s_0123456789ab", Executor: "shell"}})
	}
	bus.Emit(tb.Context(), cfg)
	for i := range 110 {
		ctx := event.WithScope(tb.Context(), event.Scope{Runner: cfg.Runners[i%10].Runner, Job: job.ID(i + 1), Run: uint64(i + 1)})
		for _, c := range []event.Called{{Endpoint: "request_job", Method: "post", Status: 201}, {Endpoint: "update_job", Method: "put", Status: 200}, {Endpoint: "patch_trace", Method: "patch", Status: 202}} {
			bus.Emit(ctx, c)
		}
		bus.Emit(ctx, event.JobStarted{})
		bus.Emit(ctx, event.JobState{State: job.Running})
		for _, p := range []job.Phase{job.PrepareExecutor, job.PrepareScript, job.GetSources, "step_script", job.AfterScript} {
			bus.Emit(ctx, event.PhaseStarted{Phase: p})
			bus.Emit(ctx, event.LogWritten{Bytes: 10, Total: 10})
			if i >= 10 && p == "step_script" {
				break
			}
			bus.Emit(ctx, event.PhaseFinished{Phase: p, Took: time.Second})
		}
		if i < 10 {
			bus.Emit(ctx, event.JobFinished{})
			bus.Emit(ctx, event.JobRemoved{})
		}
	}
}
