package admin_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/admin"
	"github.com/glassrunner/glassrunner/internal/api"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/board"
	"github.com/glassrunner/glassrunner/internal/observe/history"
)

var update = flag.Bool("update", false, "write the examples of docs/api.md")

// morning has a runner take two jobs, of which one ends.
func morning(t *testing.T, bus *event.Bus, h *history.History) {
	t.Helper()
	r := job.Runner{Short: "t3kW71930", Name: "build-01", SystemID: "s_3f9ac21b77d0", Executor: "shell"}
	ctx := event.WithRunner(t.Context(), r)
	sample := func(n int) { h.Sample(time.Now(), history.Gauges{Running: n, Slots: 4}) }
	bus.Emit(ctx, event.ProcessChanged{State: event.ProcessRunning})
	bus.Emit(ctx, event.ConfigLoaded{
		Path: "/etc/gitlab-runner/config.toml", Hash: "9d1c0f6a5be14c77", Generation: 1, Concurrent: 4,
		Runners: []event.Limits{{Runner: r, URL: "https://gitlab.example.com", RequestConcurrency: 1}},
	})
	bus.Emit(ctx, event.SlotsChanged{Slots: 4})
	bus.Emit(ctx, event.HealthChecked{OK: true})
	for i, name := range []string{"lint", "unit"} {
		bus.Emit(ctx, event.Polled{Result: "job"})
		jobCtx := event.WithScope(t.Context(), event.Scope{Runner: r, Job: job.ID(48210 + i), Run: uint64(i + 1)})
		info := job.Info{Name: name, Stage: "test", ProjectFullPath: "platform/api", ProjectID: 7, PipelineID: 9100, TimeInQueue: 1500 * time.Millisecond}
		bus.Emit(jobCtx, event.JobReceived{Info: info})
		bus.Emit(jobCtx, event.JobStarted{Info: info, URL: fmt.Sprintf("https://gitlab.example.com/platform/api/-/jobs/%d", 48210+i), Timeout: time.Hour})
		bus.Emit(jobCtx, event.JobState{State: job.Running})
		sample(i + 1)
		for _, p := range []job.Phase{job.GetSources, "step_script"} {
			bus.Emit(jobCtx, event.PhaseStarted{Phase: p})
			time.Sleep(2 * time.Second)
			if i == 1 && p != job.GetSources {
				break
			}
			var err error
			if p != job.GetSources {
				err = errors.New("exit status 1")
			}
			bus.Emit(jobCtx, event.PhaseFinished{Phase: p, Took: 2 * time.Second, Err: err})
		}
		bus.Emit(jobCtx, event.LogWritten{Bytes: 512, Total: 512})
		bus.Emit(jobCtx, event.LogSent{Bytes: 512, Total: 512})
		bus.Emit(jobCtx, event.UsageSampled{Usage: job.Usage{CPU: job.KnownTime(1200 * time.Millisecond), Memory: job.Known(73400320)}})
		bus.Emit(jobCtx, event.Called{Endpoint: "patch_trace", Method: "patch", Status: 202, Took: 60 * time.Millisecond})
		if i == 0 {
			bus.Emit(jobCtx, event.JobFinished{Outcome: job.Outcome{Reason: job.ScriptFailure, ExitCode: 1, Err: errors.New("exit status 1")}, Took: 4 * time.Second})
			bus.Emit(jobCtx, event.JobRemoved{Took: 120 * time.Millisecond})
		}
	}
	time.Sleep(8 * time.Second)
	sample(1)
	time.Sleep(2 * time.Second)
}

// apiServer is a server in a bubble whose clock is not the world's.
func apiServer(t *testing.T, change func(*admin.Options)) (*admin.Server, *event.Bus, *history.History) {
	t.Helper()
	b, h := board.New(board.Options{}), history.New()
	bus := event.NewBus(b, h)
	reg := prometheus.NewRegistry()
	o := admin.Options{
		Gatherer: reg, Registry: reg, Board: b, History: h, Bus: bus, Version: "1.0.0", SystemID: "s_3f9ac21b77d0",
		Tail: func(_ job.Runner, id job.ID, n int64) ([]byte, error) {
			return fmt.Appendf(nil, "$ make test # of job %d\nok\n\xff", id), nil
		},
	}
	if change != nil {
		change(&o)
	}
	return admin.New(o), bus, h
}

func ask(t *testing.T, s *admin.Server, url string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, url, nil))
	return w
}

// TestDocumentedExamples: what docs/api.md shows is what is answered.
func TestDocumentedExamples(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "api.md")
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	put(t, filepath.Join(dir, "web.yml"), []byte("basic_auth_users: {alice: "+hashed(t, "secret")+"}\n"))
	example := regexp.MustCompile("(?s)```shell\ncurl -s '?http://localhost:9252([^'\n]*)'?\n```\n\n```(json|text)\n(.*?)```")
	found := 0
	synctest.Test(t, func(t *testing.T) {
		s, bus, h := apiServer(t, nil)
		defer s.Close()
		if err := s.Listen(t.Context(), admin.Settings{WebConfigFile: filepath.Join(dir, "web.yml"), LogTail: true}); err != nil {
			t.Fatal(err)
		}
		morning(t, bus, h)
		got := example.ReplaceAllFunc(doc, func(all []byte) []byte {
			found++
			m := example.FindSubmatch(all)
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, string(m[1]), nil)
			r.SetBasicAuth("alice", "secret")
			s.Handler().ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				t.Errorf("%s: %d %s", m[1], w.Code, w.Body)
			}
			body := bytes.TrimRight(w.Body.Bytes(), "\n\uFFFD")
			if string(m[2]) == "json" {
				var b bytes.Buffer
				if err := json.Indent(&b, body, "", "  "); err != nil {
					t.Fatal(err)
				}
				// Lists of numbers on one line.
				body = regexp.MustCompile(`\[[\s\d.,nul]+\]`).ReplaceAllFunc(b.Bytes(), func(l []byte) []byte {
					return regexp.MustCompile(`\s+`).ReplaceAll(l, nil)
				})
			}
			return bytes.Replace(all, append(append([]byte("```"+string(m[2])+"\n"), m[3]...), "```"...), append(append([]byte("```"+string(m[2])+"\n"), body...), "\n```"...), 1)
		})
		if *update {
			if err := os.WriteFile(path, got, 0o600); err != nil {
				t.Fatal(err)
			}
		} else if !bytes.Equal(doc, got) {
			t.Errorf("the examples of docs/api.md are not what is answered: go test ./internal/admin -run TestDocumentedExamples -update; it would say\n%s", got)
		}
	})
	if found != 7 {
		t.Errorf("%d examples, want one for each endpoint but the stream", found)
	}
}

func TestAPIRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, bus, h := apiServer(t, nil)
		morning(t, bus, h)
		for url, code := range map[string]int{
			"/api/v1/jobs/2":                 200,
			"/api/v1/jobs/1":                 200,
			"/api/v1/jobs/3":                 404,
			"/api/v1/jobs/x":                 400,
			"/api/v1/jobs/-1":                400,
			"/api/v1/jobs/2/log":             403,
			"/api/v1/finished?limit=0":       200,
			"/api/v1/finished?limit=-1":      400,
			"/api/v1/finished?limit=x":       400,
			"/api/v1/history?range=24h":      200,
			"/api/v1/history?range=25h":      400,
			"/api/v1/history?range=0s":       400,
			"/api/v1/history?range=tomorrow": 400,
			"/api/v2/status":                 404,
		} {
			w := ask(t, s, url)
			if w.Code != code || !json.Valid(w.Body.Bytes()) || code >= 400 && !strings.HasPrefix(w.Body.String(), `{"error":"`) {
				t.Errorf("%s: got %d %s, want %d", url, w.Code, w.Body, code)
			}
		}
	})
}

// TestLogTail: only where it is switched on and people say who they are.
func TestLogTail(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "web.yml"), []byte("basic_auth_users: {alice: "+hashed(t, "secret")+"}\n"))
	for _, tt := range []struct {
		name    string
		n       admin.Settings
		without bool // no reader of logs
		code    int
	}{
		{"both", admin.Settings{LogTail: true, WebConfigFile: filepath.Join(dir, "web.yml")}, false, 200},
		{"no passwords", admin.Settings{LogTail: true}, false, 403},
		{"not switched on", admin.Settings{WebConfigFile: filepath.Join(dir, "web.yml")}, false, 403},
		{"no logs", admin.Settings{LogTail: true, WebConfigFile: filepath.Join(dir, "web.yml")}, true, 403},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, bus, h := apiServer(t, func(o *admin.Options) {
				if tt.without {
					o.Tail = nil
				}
			})
			defer s.Close()
			if err := s.Listen(t.Context(), tt.n); err != nil {
				t.Fatal(err)
			}
			morning(t, bus, h)
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/jobs/2/log", nil)
			r.SetBasicAuth("alice", "secret")
			s.Handler().ServeHTTP(w, r)
			if w.Code != tt.code || tt.code == 200 && w.Body.String() != "$ make test # of job 48211\nok\n\uFFFD" {
				t.Errorf("%s: got %d %q, want %d", tt.name, w.Code, w.Body, tt.code)
			}
			var st api.Status
			w = httptest.NewRecorder()
			r.URL.Path = "/api/v1/status"
			s.Handler().ServeHTTP(w, r)
			if err := json.Unmarshal(w.Body.Bytes(), &st); err != nil || st.LogTail != (tt.code == 200) {
				t.Errorf("%s: the status says %t, %v", tt.name, st.LogTail, err)
			}
		})
	}
}

// events is a client of the stream.
type events struct {
	t    *testing.T
	resp *http.Response
	r    *bufio.Reader
	stop context.CancelFunc
}

func openEvents(t *testing.T, base string) *events {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	e := &events{t, resp, bufio.NewReader(resp.Body), stop}
	t.Cleanup(e.close)
	return e
}

func (e *events) close() {
	e.stop()
	e.resp.Body.Close()
}

// next returns the next event that is not the history.
func (e *events) next(v any) string {
	e.t.Helper()
	name := ""
	for {
		line, err := e.r.ReadString('\n')
		if err != nil {
			return err.Error()
		}
		if rest, ok := strings.CutPrefix(line, "event: "); ok {
			name = strings.TrimSpace(rest)
		}
		if rest, ok := strings.CutPrefix(line, "data: "); ok && name != "history" {
			if err := json.Unmarshal([]byte(rest), v); err != nil {
				e.t.Fatalf("%s: %v", rest, err)
			}
			return name
		}
	}
}

func TestStream(t *testing.T) {
	r := newRig(t, func(o *admin.Options) {
		o.StreamInterval, o.MaxStreams, o.History = 10*time.Millisecond, 2, history.New()
	})
	base := r.listen(t)
	run := func(n uint64) context.Context {
		return event.WithScope(t.Context(), event.Scope{Runner: job.Runner{Short: "a"}, Job: job.ID(n), Run: n})
	}
	r.bus.Emit(run(1), event.JobStarted{Info: job.Info{Name: "first"}})
	e := openEvents(t, base)
	if e.resp.StatusCode != 200 || e.resp.Header.Get("Content-Type") != "text/event-stream" || e.resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d, %v", e.resp.StatusCode, e.resp.Header)
	}
	var s api.Snapshot
	if name := e.next(&s); name != "snapshot" || len(s.Jobs) != 1 || s.Jobs[0].Name != "first" {
		t.Fatalf("%s: %+v", name, s)
	}

	// What has not changed is not told again.
	r.bus.Emit(run(2), event.JobStarted{Info: job.Info{Name: "second"}})
	var d api.Delta
	if name := e.next(&d); name != "delta" || len(d.Jobs) != 1 || d.Jobs[0].Run != 2 || d.Status == nil || d.Status.Jobs != 2 || d.Finished != nil || d.Gone != nil {
		t.Fatalf("%s: %+v", name, d)
	}
	d = api.Delta{}
	r.bus.Emit(run(1), event.LogWritten{Bytes: 7, Total: 7})
	if name := e.next(&d); name != "delta" || len(d.Jobs) != 1 || d.Jobs[0].LogBytes != 7 || d.Runners != nil || d.Status != nil {
		t.Fatalf("%s: %+v", name, d)
	}
	d = api.Delta{}
	r.bus.Emit(run(1), event.JobFinished{})
	r.bus.Emit(run(1), event.JobRemoved{})
	for len(d.Gone) == 0 {
		if name := e.next(&d); name != "delta" {
			t.Fatal(name)
		}
	}
	if d.Gone[0] != 1 || len(d.Finished) != 1 || d.Finished[0].Result != api.Success || d.Finished[0].Name != "first" {
		t.Fatalf("%+v", d)
	}

	// A second one begins with what is; a third one is too many.
	second := openEvents(t, base)
	s = api.Snapshot{}
	if name := second.next(&s); name != "snapshot" || len(s.Jobs) != 1 || len(s.Finished) != 1 {
		t.Fatalf("%s: %+v", name, s)
	}
	third := openEvents(t, base)
	if third.resp.StatusCode != 503 || third.resp.Header.Get("Retry-After") == "" {
		t.Errorf("the third: %d", third.resp.StatusCode)
	}
	second.close()
	poll(t, "the second to be forgotten", func() bool {
		v, _ := r.sample(t, "glassrunner_http_event_streams")
		return v == 1
	})

	// The end of the listener is the end of the stream, without a wait.
	began := time.Now()
	r.Close()
	for name := ""; !strings.Contains(name, "EOF"); {
		name = e.next(&d)
	}
	if took := time.Since(began); took > 150*time.Millisecond {
		t.Errorf("closing took %v: the stream was cut, not ended", took)
	}
}

// TestStreamEndsWithItsConfiguration: who was let in before a change has to
// come in again.
func TestStreamEndsWithItsConfiguration(t *testing.T) {
	s := newSecured(t, "", nil)
	e := openEvents(t, "http://"+s.Addr())
	s.write(t, "basic_auth_users: {alice: "+hashed(t, "secret")+"}\n")
	var d map[string]any
	for name := ""; !strings.Contains(name, "EOF"); {
		name = e.next(&d)
	}
	if code, _, err := get(t, http.DefaultClient, "http://"+s.Addr()+"/api/v1/events", "", ""); err != nil || code != 401 {
		t.Errorf("again: %d, %v", code, err)
	}
}

// TestSlowStream: a client that takes nothing is cut off and costs the others
// nothing.
func TestSlowStream(t *testing.T) {
	r := newRig(t, func(o *admin.Options) { o.StreamInterval = 10 * time.Millisecond })
	base := r.listen(t)
	slow := openEvents(t, base)
	good := openEvents(t, base)
	ctx := event.WithScope(t.Context(), event.Scope{Runner: job.Runner{Short: "a"}, Job: 1, Run: 1})
	r.bus.Emit(ctx, event.JobStarted{Info: job.Info{Name: strings.Repeat("x", 256<<10)}})
	total := int64(0)
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, good.resp.Body)
		ended <- err
	}()
	poll(t, "the slow one to be cut off", func() bool {
		total++
		r.bus.Emit(ctx, event.LogWritten{Bytes: 1, Total: total})
		v, _ := r.sample(t, "glassrunner_http_event_streams_dropped_total")
		return v == 1
	})
	poll(t, "one stream to be left", func() bool {
		v, _ := r.sample(t, "glassrunner_http_event_streams")
		return v == 1
	})
	select {
	case err := <-ended:
		t.Errorf("the good one ended: %v", err)
	default:
	}
	slow.close()
	good.close()
	<-ended
}

// TestErrorsAreScrubbed: what looks like a secret in an error is not shown.
func TestErrorsAreScrubbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, bus, h := apiServer(t, func(o *admin.Options) {
			o.Scrub = func(text string) string { return strings.ReplaceAll(text, "glrt-secret", "[MASKED]") }
		})
		morning(t, bus, h)
		secret := errors.New("what glrt-secret did")
		ctx := event.WithScope(t.Context(), event.Scope{Runner: job.Runner{Short: "a"}, Job: 9, Run: 9})
		bus.Emit(ctx, event.ConfigLoaded{Err: secret})
		bus.Emit(ctx, event.JobStarted{})
		bus.Emit(ctx, event.PhaseFinished{Phase: "step_script", Err: secret})
		bus.Emit(ctx, event.JobFinished{Outcome: job.Outcome{Reason: job.SystemFailure, Err: secret}})
		bus.Emit(ctx, event.JobRemoved{Lost: true, Err: secret})
		masked := 0
		for _, url := range []string{"/api/v1/status", "/api/v1/finished", "/api/v1/jobs/9", "/api/v1/jobs"} {
			body := ask(t, s, url).Body.String()
			if strings.Contains(body, "glrt-secret") {
				t.Errorf("%s: %s", url, body)
			}
			masked += strings.Count(body, "[MASKED]")
		}
		if masked < 4 {
			t.Errorf("%d errors are shown", masked)
		}
	})
}
