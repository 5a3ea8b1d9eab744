package coordinator_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/glassrunner/glassrunner/internal/coordinator"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/version"
)

const (
	runnerToken = "glrt-t1_RunnerSecret0123456789"
	jobToken    = "glcbt-64_JobSecret0123456789"
)

// recorder keeps the facts that a client told.
type recorder struct {
	mu     sync.Mutex
	events []event.Event
}

func (r *recorder) Observe(e event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) called() []event.Called {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []event.Called
	for _, e := range r.events {
		if c, ok := e.Fact.(event.Called); ok {
			out = append(out, c)
		}
	}
	return out
}

// last returns the only Called since the recorder was emptied.
func (r *recorder) last(t *testing.T) event.Called {
	t.Helper()
	c := r.called()
	if len(c) != 1 {
		t.Fatalf("got %d Called events, want 1: %+v", len(c), c)
	}
	return c[0]
}

func (r *recorder) degraded() []event.Degraded {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []event.Degraded
	for _, e := range r.events {
		if d, ok := e.Fact.(event.Degraded); ok {
			out = append(out, d)
		}
	}
	return out
}

func options(url string, rec *recorder) coordinator.Options {
	var bus *event.Bus
	if rec != nil {
		bus = event.NewBus(rec)
	}
	return coordinator.Options{
		URL: url, Token: runnerToken, SystemID: "s_0123456789ab",
		Runner: job.Runner{Short: "t1_RunnerS", Name: "test", SystemID: "s_0123456789ab", Executor: "shell"},
		Info: coordinator.Info{
			Version: version.Info{
				Name: "glassrunner", Version: "1.2.3", Revision: "abcdef12", Branch: "main",
				GoVersion: "go1.26.0", OS: "linux", Architecture: "amd64",
			},
			Executor: "shell", Shell: "bash", Features: []string{"variables", "shared", "refspecs"},
			Labels: map[string]string{"zone": "b"},
		},
		Bus: bus,
	}
}

func newClient(tb testing.TB, o coordinator.Options) *coordinator.Client {
	tb.Helper()
	c, err := coordinator.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.CloseIdle)
	return c
}

func serve(tb testing.TB, h http.HandlerFunc) (string, *httptest.Server) {
	tb.Helper()
	s := httptest.NewServer(h)
	tb.Cleanup(s.Close)
	return s.URL, s
}

// direct answers requests from a handler without a network, for tests in a
// bubble of fake time.
type direct struct{ h http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	rec := httptest.NewRecorder()
	d.h.ServeHTTP(rec, r)
	if r.Body != nil {
		_ = r.Body.Close()
	}
	res := rec.Result()
	res.Request = r
	return res, nil
}

func body(tb testing.TB, r *http.Request) map[string]any {
	tb.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		tb.Errorf("body: %v", err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		tb.Errorf("body %q: %v", b, err)
	}
	return m
}

func sendJSON(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// noSecret fails when text or anything that err wraps prints a secret.
func noSecret(t *testing.T, err error, more ...string) {
	t.Helper()
	for err != nil {
		for _, s := range append([]string{runnerToken, jobToken, "hunter2"}, more...) {
			if strings.Contains(err.Error(), s) {
				t.Errorf("error holds the secret %q: %v", s, err)
			}
		}
		err = errors.Unwrap(err)
	}
}

func wantText(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("got no error, want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("got error %q, want it to contain %q", err, p)
		}
	}
}
