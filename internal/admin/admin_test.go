package admin_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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
	if err := r.Listen(t.Context(), "127.0.0.1:0"); err != nil {
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
		{"GET", "/", 200, `(?s)^<!DOCTYPE html>.*1\.2\.3 &lt;beta&gt;.*href="/metrics"`},
		{"POST", "/", 405, ``},
		{"GET", "/favicon.ico", 404, ``},
		{"GET", "/-/healthy", 404, ``},
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
	_, page := do(t, "GET", base+"/")
	if strings.Contains(page, "//") {
		t.Errorf("the landing page names something outside:\n%s", page)
	}
}

func TestReady(t *testing.T) {
	r := newRig(t, nil)
	base := r.listen(t)
	for _, c := range []struct {
		fact event.Fact
		code int
		body string
	}{
		{event.Fed{}, 503, "starting\n"},
		{event.ProcessChanged{State: event.ProcessRunning}, 200, "ready\n"},
		{event.Draining{Signal: "quit"}, 503, "draining\n"},
		{event.ProcessChanged{State: event.ProcessGracefulShutdown}, 503, "graceful-shutdown\n"},
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

// blocking is a Gatherer that waits.
type blocking struct{ enter, leave chan struct{} }

func (b *blocking) Gather() ([]*dto.MetricFamily, error) {
	b.enter <- struct{}{}
	<-b.leave
	return nil, nil
}

func (b *blocking) AppendText(dst []byte, _ bool) ([]byte, error) {
	b.enter <- struct{}{}
	<-b.leave
	return append(dst, "a 1\n"...), nil
}

func TestTooManyScrapes(t *testing.T) {
	for _, accept := range []string{"", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"} {
		g := &blocking{make(chan struct{}), make(chan struct{})}
		r := newRig(t, func(o *admin.Options) { o.Gatherer, o.MaxScrapes = g, 2 })
		base := r.listen(t)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if resp, _ := do(t, "GET", base+"/metrics", "Accept", accept); resp.StatusCode != 200 {
					t.Errorf("got %d", resp.StatusCode)
				}
			})
			<-g.enter
		}
		resp, body := do(t, "GET", base+"/metrics", "Accept", accept)
		if resp.StatusCode != 503 || !strings.Contains(body, "try again later") {
			t.Errorf("the third: got %d %q, want 503", resp.StatusCode, body)
		}
		if resp, _ := do(t, "GET", base+"/health/ready"); resp.StatusCode != 503 {
			t.Errorf("others: got %d", resp.StatusCode)
		}
		close(g.leave)
		wg.Wait()
	}
}

// failing has some metrics and an error.
type failing struct{}

func (failing) Gather() ([]*dto.MetricFamily, error) { return nil, errors.New("x") }

func (failing) AppendText(dst []byte, _ bool) ([]byte, error) {
	return append(dst, "a 1\n"...), errors.New("x")
}

func TestGatherError(t *testing.T) {
	r := newRig(t, func(o *admin.Options) { o.Gatherer = failing{} })
	base := r.listen(t)
	if resp, body := do(t, "GET", base+"/metrics"); resp.StatusCode != 200 || body != "a 1\n" {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	all, err := r.m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, f := range all {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(b.String(), `promhttp_metric_handler_errors_total{cause="gathering"} 1`) {
		t.Error("the error was not counted")
	}
}

type panicking struct{ failing }

func (panicking) AppendText([]byte, bool) ([]byte, error) { panic("oh") }

func TestPanic(t *testing.T) {
	r := newRig(t, func(o *admin.Options) { o.Gatherer = panicking{} })
	base := r.listen(t)
	for range 20 { // more than there are slots
		if resp, body := do(t, "GET", base+"/metrics"); resp.StatusCode != 500 || strings.Contains(body, "oh") {
			t.Fatalf("got %d %q", resp.StatusCode, body)
		}
	}
	if f, ok := r.facts.last().(event.Degraded); !ok || f.What != "monitoring_request" {
		t.Errorf("emitted: %v", r.facts.last())
	}
	all, err := r.m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(f *dto.MetricFamily) bool { return f.GetName() == "glassrunner_http_panics_total" })
	if i < 0 || all[i].Metric[0].Counter.GetValue() != 20 {
		t.Error("the panics were not counted")
	}
}

func TestSecondProfile(t *testing.T) {
	r := newRig(t, nil)
	base := r.listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil { // until it is not the one that is refused
			req, err := http.NewRequestWithContext(ctx, "GET", base+"/debug/pprof/trace?seconds=60", nil)
			if err != nil {
				t.Error(err)
				return
			}
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}
	})
	poll(t, "the second trace to be refused", func() bool {
		resp, body := do(t, "GET", base+"/debug/pprof/trace?seconds=0.001")
		return resp.StatusCode == 409 && strings.Contains(body, "only one at a time")
	})
	cancel()
	wg.Wait()
	poll(t, "a trace to be possible again", func() bool {
		resp, _ := do(t, "GET", base+"/debug/pprof/trace?seconds=0.001")
		return resp.StatusCode == 200
	})
}

// TestHalfOpen: hundreds of clients that open a connection and send half a
// request must not keep out one that asks, nor may their number matter.
func TestHalfOpen(t *testing.T) {
	r := newRig(t, func(o *admin.Options) { o.MaxConnections = 32 })
	base := r.listen(t)
	kept := &http.Client{Transport: &http.Transport{}}
	defer kept.CloseIdleConnections()
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	var d net.Dialer
	for i := range 500 {
		c, err := d.DialContext(t.Context(), "tcp", r.Addr())
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		held = append(held, c)
		if i%3 > 0 {
			fmt.Fprint(c, "GET /metrics HTTP/1.1\r\nHost: x\r\nX-")
		}
		if i%50 == 0 {
			for range 2 {
				req, err := http.NewRequestWithContext(t.Context(), "GET", base+"/metrics", nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := kept.Do(req)
				if err != nil {
					t.Fatalf("scrape beside %d half-open connections: %v", i, err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
					t.Fatalf("scrape beside %d half-open connections: %d %v", i, resp.StatusCode, err)
				}
				resp.Body.Close()
			}
		}
	}
	_, body := do(t, "GET", base+"/metrics")
	if !regexp.MustCompile(`(?m)^glassrunner_http_connections ([0-9]|[12][0-9]|3[0-2])$`).MatchString(body) || !regexp.MustCompile(`(?m)^glassrunner_http_connections_dropped_total\{what="silent"\} 4[0-9][0-9]$`).MatchString(body) {
		t.Errorf("connections: %s", regexp.MustCompile(`(?m)^glassrunner_http_connections.*$`).FindAllString(body, -1))
	}
}

func TestHeaderTimeout(t *testing.T) {
	r := newRig(t, func(o *admin.Options) { o.HeaderTimeout = 50 * time.Millisecond })
	r.listen(t)
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /metrics HT")
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("the connection is still open: %v", err)
	}
}

// TestSlowBody: a body that never comes holds nothing.
func TestSlowBody(t *testing.T) {
	r := newRig(t, func(o *admin.Options) { o.HeaderTimeout = 50 * time.Millisecond })
	r.listen(t)
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST /debug/jobs/list HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("got %v, %v", resp, err)
	}
	resp.Body.Close()
	if _, err := io.ReadAll(c); err != nil && !errors.Is(err, net.ErrClosed) && strings.Contains(err.Error(), "timeout") {
		t.Errorf("the connection is still open: %v", err)
	}
}

func TestRebind(t *testing.T) {
	r := newRig(t, nil)
	if r.Addr() != "" {
		t.Errorf("before: %q", r.Addr())
	}
	if err := r.Listen(t.Context(), ""); err != nil || r.facts.last() != (event.ListenerChanged{}) {
		t.Errorf("off: %v, emitted %v", err, r.facts.last())
	}
	first := r.listen(t)
	if f, ok := r.facts.last().(event.ListenerChanged); !ok || "http://"+f.Address != first || strings.HasSuffix(first, ":0") {
		t.Errorf("emitted %v for %s", r.facts.last(), first)
	}
	n := len(r.facts.all)
	if err := r.Rebind(t.Context(), "127.0.0.1:0"); err != nil || len(r.facts.all) != n {
		t.Errorf("the same address: %v, %d facts", err, len(r.facts.all)-n)
	}

	// A failure keeps what there is.
	var lc net.ListenConfig
	taken, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	err = r.Rebind(t.Context(), taken.Addr().String())
	if err == nil || !strings.Contains(err.Error(), "is in use") || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("taken: %v", err)
	}
	if f, ok := r.facts.last().(event.ListenerChanged); !ok || f.Err == nil {
		t.Errorf("emitted %v", r.facts.last())
	}
	if resp, body := do(t, "GET", first+"/metrics"); resp.StatusCode != 200 || !strings.Contains(body, "\nglassrunner_listener_errors_total 1\n") {
		t.Errorf("the old listener: %d", resp.StatusCode)
	}

	if err := r.Rebind(t.Context(), "localhost:0"); err != nil {
		t.Fatal(err)
	}
	second := "http://" + r.Addr()
	if second == first {
		t.Errorf("still %s", first)
	}
	if resp, _ := do(t, "GET", second+"/"); resp.StatusCode != 200 {
		t.Errorf("the new one: %d", resp.StatusCode)
	}
	gone(t, first)

	// The same port on all addresses, and back.
	_, port, err := net.SplitHostPort(r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"0.0.0.0:" + port, "127.0.0.1:" + port} {
		if err := r.Rebind(t.Context(), addr); err != nil {
			t.Fatalf("to %s: %v", addr, err)
		}
		if resp, _ := do(t, "GET", "http://127.0.0.1:"+port+"/"); resp.StatusCode != 200 {
			t.Errorf("on %s: %d", addr, resp.StatusCode)
		}
	}
	if err := r.Rebind(t.Context(), ""); err != nil || r.Addr() != "" {
		t.Errorf("off: %v, %q", err, r.Addr())
	}
	gone(t, "http://127.0.0.1:"+port)
	r.Close()
	if err := r.Rebind(t.Context(), "127.0.0.1:0"); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestRebindOverlap: when the wider address cannot be had either, the old one
// is there again.
func TestRebindOverlap(t *testing.T) {
	r := newRig(t, nil)
	base := r.listen(t)
	_, port, err := net.SplitHostPort(r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	var lc net.ListenConfig
	other, err := lc.Listen(t.Context(), "tcp", "127.0.0.2:"+port)
	if err != nil {
		t.Skipf("needs a second loopback address: %v", err)
	}
	defer other.Close()
	if err := r.Rebind(t.Context(), "0.0.0.0:"+port); err == nil || !strings.Contains(err.Error(), "is in use") {
		t.Errorf("got %v", err)
	}
	if got := "http://" + r.Addr(); got != base {
		t.Errorf("listens on %s, want %s", got, base)
	}
	for range 3 {
		if resp, _ := do(t, "GET", base+"/"); resp.StatusCode != 200 {
			t.Errorf("got %d", resp.StatusCode)
		}
	}
}

// TestRebindFinishes: an answer under way is finished on the old listener.
func TestRebindFinishes(t *testing.T) {
	g := &blocking{make(chan struct{}), make(chan struct{})}
	r := newRig(t, func(o *admin.Options) { o.Gatherer, o.DrainTimeout = g, 10*time.Second })
	first := r.listen(t)
	code := make(chan int)
	go func() {
		resp, _ := do(t, "GET", first+"/metrics")
		code <- resp.StatusCode
	}()
	<-g.enter
	if err := r.Rebind(t.Context(), "localhost:0"); err != nil {
		t.Fatal(err)
	}
	gone(t, first)
	close(g.leave)
	if got := <-code; got != 200 {
		t.Errorf("the answer under way: %d", got)
	}
}

func gone(t *testing.T, base string) {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
	if err == nil {
		c.Close()
		t.Errorf("%s still listens", base)
	}
}

func TestListenErrors(t *testing.T) {
	r := newRig(t, nil)
	for addr, want := range map[string]string{
		"127.0.0.1:nosuchservice": `unknown port "nosuchservice"`,
		"192.0.2.1:9252":          "192.0.2.1 is no address of this machine",
		"127.0.0.1":               "[host]:port",
		"127.0.0.1:70000":         "port",
		"no such host:1":          "",
	} {
		err := r.Listen(t.Context(), addr)
		var le *admin.ListenError
		if !errors.As(err, &le) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), addr) || errors.Unwrap(err) == nil {
			t.Errorf("%s: got %v, want %q", addr, err, want)
		}
	}
	if r.Addr() != "" {
		t.Errorf("listens on %q", r.Addr())
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
