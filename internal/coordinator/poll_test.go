package coordinator_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/coordinator"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

const smallJob = `{"id":4711,"token":"` + jobToken + `","steps":[{"name":"script","script":["true"]}]}`

func TestRequestJobOnTheWire(t *testing.T) {
	rec := &recorder{}
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/gitlab/api/v4/jobs/request" || r.URL.RawQuery != "" {
			t.Errorf("got %s %s", r.Method, r.URL)
		}
		for h, want := range map[string]string{
			"User-Agent":   "glassrunner 1.2.3 (main; go1.26.0; linux/amd64)",
			"Content-Type": "application/json", "Accept": "application/json", "Runner-Token": runnerToken,
		} {
			if got := r.Header.Get(h); got != want {
				t.Errorf("%s: got %q, want %q", h, got, want)
			}
		}
		if id := r.Header.Get("X-Request-Id"); !regexp.MustCompile(`^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$`).MatchString(id) {
			t.Errorf("X-Request-Id: %q", id)
		}
		if r.ContentLength <= 0 {
			t.Errorf("Content-Length: %d", r.ContentLength)
		}
		m := body(t, r)
		info, _ := m["info"].(map[string]any)
		features, _ := info["features"].(map[string]any)
		if len(features) != 31 {
			t.Errorf("got %d features, want 31", len(features))
		}
		var on []string
		for k, v := range features {
			if b, ok := v.(bool); !ok {
				t.Errorf("feature %s is %T", k, v)
			} else if b {
				on = append(on, k)
			}
		}
		slices.Sort(on)
		want := []string{
			"cancel_gracefully", "cancelable", "job_inputs", "refspecs", "shared", "trace_checksum", "trace_reset", "trace_size",
			"two_phase_job_commit", "variables",
		}
		if d := cmp.Diff(want, on); d != "" {
			t.Errorf("features (-want +got):\n%s", d)
		}
		delete(info, "features")
		delete(m, "info")
		if d := cmp.Diff(map[string]any{"token": runnerToken, "system_id": "s_0123456789ab"}, m); d != "" {
			t.Errorf("body (-want +got):\n%s", d)
		}
		if d := cmp.Diff(map[string]any{
			"name": "glassrunner", "version": "1.2.3", "revision": "abcdef12", "platform": "linux", "architecture": "amd64",
			"executor": "shell", "shell": "bash", "config": map[string]any{"gpus": ""}, "labels": map[string]any{"zone": "b"},
		}, info); d != "" {
			t.Errorf("info (-want +got):\n%s", d)
		}
		w.Header().Set("X-Request-Id", "server-made-id")
		sendJSON(w, 201, smallJob)
	})
	c := newClient(t, options(url+"/gitlab/ci/", rec))
	spec, res, err := c.RequestJob(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if res.Kind != coordinator.PollJob || res.Status != 201 || res.Retried {
		t.Errorf("got %+v", res)
	}
	if spec.ID != 4711 || spec.Token != jobToken || spec.Timeout != 2*time.Hour || spec.CorrelationID != "server-made-id" || spec.Received.IsZero() {
		t.Errorf("got %+v", spec)
	}
	called := rec.last(t)
	if called.Took <= 0 || !called.Dated || called.Skew.Abs() > time.Minute {
		t.Errorf("took %v, skew %v, dated %v", called.Took, called.Skew, called.Dated)
	}
	called.Took, called.Skew, called.Dated = 0, 0, false
	if d := cmp.Diff(event.Called{
		Endpoint: "request_job", Method: "post", Path: "/gitlab/api/v4/jobs/request", Status: 201, Attempts: 1,
	}, called); d != "" {
		t.Errorf("event (-want +got):\n%s", d)
	}
	if got := rec.events[0].Runner.Short; got != "t1_RunnerS" {
		t.Errorf("scope: got runner %q", got)
	}
}

func TestLastUpdate(t *testing.T) {
	var step atomic.Int32
	want := []string{"", "8f2b9d", "8f2b9d", "8f2b9d", "", `tricky"value`, `tricky"value`}
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n := int(step.Add(1)) - 1
		got, _ := body(t, r)["last_update"].(string)
		if got != want[n] {
			t.Errorf("request %d: got last_update %q, want %q", n, got, want[n])
		}
		if h := r.Header.Get("X-GitLab-Last-Update"); h != "" {
			t.Errorf("request %d: header %q sent", n, h)
		}
		switch n {
		case 0:
			w.Header().Set("X-GitLab-Last-Update", "8f2b9d")
			w.WriteHeader(http.StatusNoContent)
		case 1: // Workhorse answers without the header
			w.WriteHeader(http.StatusNoContent)
		case 2: // an undecodable answer is not stored
			w.Header().Set("X-GitLab-Last-Update", "wrong")
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusCreated)
		case 3: // neither is one that cannot be sent back
			w.Header().Set("X-GitLab-Last-Update", strings.Repeat("x", 1000))
			w.WriteHeader(http.StatusNoContent)
		case 4: // of any status
			w.Header().Set("X-GitLab-Last-Update", `tricky"value`)
			sendJSON(w, 400, `{"error":"token is missing"}`)
		case 5:
			sendJSON(w, 409, `{"message":"409 Conflict"}`)
		default:
			sendJSON(w, 201, smallJob)
		}
	})
	c := newClient(t, options(url, &recorder{}))
	for i := range want {
		if i == 4 { // not to be held
			_, _, _ = c.RequestJob(t.Context(), true)
			continue
		}
		_, _, _ = c.RequestJob(t.Context(), false)
	}
	if int(step.Load()) != len(want) {
		t.Errorf("got %d requests, want %d", step.Load(), len(want))
	}
}

// TestRequestJobMatrix is the row jobs/request of the contract's matrix.
func TestRequestJobMatrix(t *testing.T) {
	for _, tt := range []struct {
		name    string
		status  int
		ctype   string
		body    string
		kind    coordinator.PollKind
		told    int // Called.Status
		class   event.ErrorClass
		tries   int
		text    string // of the error, "" for none
		retried bool
	}{
		{name: "job", status: 201, body: smallJob, kind: coordinator.PollJob, told: 201, tries: 1},
		{name: "none", status: 204, kind: coordinator.PollNone, told: 204, tries: 1},
		{name: "conflict", status: 409, body: `{"message":"409 Conflict"}`, kind: coordinator.PollNone, told: 409, tries: 1},
		{name: "forbidden", status: 403, body: `{"message":"403 Forbidden"}`, kind: coordinator.PollForbidden, told: 403, class: event.ErrHTTP4xx, tries: 1, text: "/api/v4/jobs/request: 403 Forbidden"},
		{name: "forbidden with a reason", status: 403, body: `{"message":"403 Forbidden - paused"}`, kind: coordinator.PollForbidden, told: 403, class: event.ErrHTTP4xx, tries: 1, text: ": 403 Forbidden (403 Forbidden - paused)"},
		{name: "bad request", status: 400, body: `{"error":"token is missing"}`, told: 400, class: event.ErrHTTP4xx, tries: 1, text: "400 Bad Request (token is missing)"},
		{name: "not found", status: 404, body: `<h1>404</h1>`, ctype: "text/html", told: 404, class: event.ErrHTTP4xx, tries: 1, text: ": 404 Not Found"},
		{name: "too large", status: 413, told: 413, class: event.ErrHTTP4xx, tries: 1, text: "413 Request Entity Too Large"},
		{name: "orphaned", status: 422, body: `{"message":{"runner":["is orphaned","for ever"],"a":["b"]}}`, told: 422, class: event.ErrHTTP4xx, tries: 1, text: "(a: b, runner: is orphaned; for ever)"},
		{name: "rate limit", status: 429, body: `{"message":{"error":"too many times"}}`, told: 429, class: event.ErrHTTP4xx, tries: 5, retried: true, text: "429 Too Many Requests (error: too many times)"},
		{name: "timeout", status: 408, told: 408, class: event.ErrHTTP4xx, tries: 5, retried: true, text: "408"},
		{name: "server error", status: 500, told: 500, class: event.ErrHTTP5xx, tries: 5, retried: true, text: "500"},
		{name: "not implemented", status: 501, told: 501, class: event.ErrHTTP5xx, tries: 1, text: "501"},
		{name: "bad gateway", status: 502, ctype: "text/plain", body: "upstream is gone\nmore", told: 502, class: event.ErrHTTP5xx, tries: 5, retried: true, text: "502 Bad Gateway (upstream is gone)"},
		{name: "unavailable", status: 503, told: 503, class: event.ErrHTTP5xx, tries: 5, retried: true, text: "503"},
		{name: "gateway timeout", status: 504, told: 504, class: event.ErrHTTP5xx, tries: 5, retried: true, text: "504"},
		{name: "version", status: 505, told: 505, class: event.ErrHTTP5xx, tries: 1, text: "505"},
		{name: "proxy's own", status: 520, told: 520, class: event.ErrHTTP5xx, tries: 5, retried: true, text: ": 520"},
		{name: "login page", status: 200, ctype: "text/html", body: "<form>", told: 200, class: event.ErrDecode, tries: 1, text: "not an answer"},
		{name: "job as HTML", status: 201, ctype: "text/html; charset=utf-8", body: "<form>", told: -1, class: event.ErrDecode, tries: 1, text: "proxy or a login page"},
		{name: "broken JSON", status: 201, body: `{"id":`, told: -1, class: event.ErrDecode, tries: 1, text: "unexpected end"},
		{name: "no token", status: 201, body: `{"id":5}`, told: -1, class: event.ErrDecode, tries: 1, text: "token: there is none"},
		{name: "array", status: 201, body: `[1]`, told: -1, class: event.ErrDecode, tries: 1, text: "want an object, got array"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec := &recorder{}
				c := newClient(t, options("http://gitlab.test", rec))
				tries, ids := 0, map[string]bool{}
				c.SetRoundTripper(direct{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					tries++
					ids[r.Header.Get("X-Request-Id")] = true
					if got := body(t, r)["token"]; got != runnerToken {
						t.Errorf("attempt %d: token %v", tries, got)
					}
					if tt.ctype == "" {
						tt.ctype = "application/json"
					}
					w.Header().Set("Content-Type", tt.ctype)
					w.WriteHeader(tt.status)
					_, _ = io.WriteString(w, tt.body)
				})})
				spec, res, err := c.RequestJob(t.Context(), false)
				if res.Kind != tt.kind || res.Retried != tt.retried {
					t.Errorf("got %+v, want kind %v, retried %v", res, tt.kind, tt.retried)
				}
				if (spec != nil) != (tt.kind == coordinator.PollJob) {
					t.Errorf("spec: %v", spec)
				}
				if (err != nil) != (tt.text != "") {
					t.Errorf("err: got %v", err)
				}
				if tt.text != "" {
					wantText(t, err, "POST http://gitlab.test/api/v4/jobs/request: ", tt.text)
				}
				noSecret(t, err)
				if tries != tt.tries || len(ids) != 1 {
					t.Errorf("got %d attempts with %d ids, want %d with 1", tries, len(ids), tt.tries)
				}
				called := rec.last(t)
				if called.Status != tt.told || called.Class != tt.class || called.Attempts != tt.tries || len(called.Statuses) != tt.tries-1 {
					t.Errorf("event: got %+v, want status %d, class %q, %d attempts", called, tt.told, tt.class, tt.tries)
				}
			})
		})
	}
}

func TestLongPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, options("http://gitlab.test", &recorder{}))
		c.SetRoundTripper(direct{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(9 * time.Minute) // fake time: Workhorse holds the request
			w.WriteHeader(http.StatusNoContent)
		})})
		start := time.Now()
		_, res, err := c.RequestJob(t.Context(), false)
		if err != nil || res.Kind != coordinator.PollNone || time.Since(start) != 9*time.Minute {
			t.Errorf("got %+v, %v after %v", res, err, time.Since(start))
		}
	})
}

func TestPollCanceled(t *testing.T) {
	rec := &recorder{}
	arrived, leave := make(chan struct{}), make(chan struct{})
	defer close(leave)
	url, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(arrived)
		select {
		case <-leave:
		case <-r.Context().Done():
		}
	})
	c := newClient(t, options(url, rec))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	_, res, err := c.RequestJob(ctx, false)
	if res.Kind != coordinator.PollFailed || !errors.Is(err, context.Canceled) {
		t.Errorf("got %+v, %v", res, err)
	}
	if got := rec.last(t); got.Class != event.ErrCanceled || got.Status != -1 {
		t.Errorf("event: %+v", got)
	}
}

// A job that is on its way is received although the caller has stopped.
func TestJobOutlivesCancel(t *testing.T) {
	halfway, rest := make(chan struct{}), make(chan struct{})
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, smallJob[:20])
		_ = http.NewResponseController(w).Flush()
		close(halfway)
		<-rest
		_, _ = io.WriteString(w, smallJob[20:])
	})
	c := newClient(t, options(url, &recorder{}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-halfway
		// Let the client see the header; then it no longer listens to ctx.
		time.AfterFunc(50*time.Millisecond, func() { cancel(); close(rest) })
	}()
	spec, res, err := c.RequestJob(ctx, false)
	if err != nil || spec == nil || spec.ID != 4711 {
		t.Fatalf("got %v, %+v, %v", spec, res, err)
	}
}

func TestBadJob(t *testing.T) {
	for name, payload := range map[string]string{
		"truncated":       `{"id":4711,"token":"` + jobToken + `","steps":[{"name":"scr`,
		"wrong type":      `{"steps":17,"id":4711,"token":"` + jobToken + `"}`,
		"id as text":      `{"id":"4711","token":"` + jobToken + `","variables":"none"}`,
		"null run":        `{"job_info":{"id":1,"token":"x"},"id":4711,"token":"` + jobToken + `","run":null}`,
		"bad input":       `{"id":4711,"token":"` + jobToken + `","inputs":[{"key":"a"}]}`,
		"too many values": `{"id":4711,"token":"` + jobToken + `","services":[` + strings.Repeat("{},", 150_000) + `{}]}`,
		"too large":       `{"id":4711,"token":"` + jobToken + `","x":"` + strings.Repeat("x", coordinator.MaxJobBody) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			rec := &recorder{}
			url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { sendJSON(w, 201, payload) })
			_, res, err := newClient(t, options(url, rec)).RequestJob(t.Context(), false)
			var bad *coordinator.BadJobError
			if !errors.As(err, &bad) || bad.ID != 4711 || bad.Token != jobToken {
				t.Fatalf("got %v, %+v", err, bad)
			}
			noSecret(t, err)
			if res.Kind != coordinator.PollFailed || res.Status != -1 {
				t.Errorf("got %+v", res)
			}
			if got := rec.last(t); got.Status != -1 || got.Class != event.ErrDecode {
				t.Errorf("event: %+v", got)
			}
			var e *coordinator.Error
			if !errors.As(err, &e) || e.Class != event.ErrDecode {
				t.Errorf("got %#v", e)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for url, want := range map[string]string{
		"":                              "is empty",
		"gitlab.example.com":            "has no scheme",
		"ftp://gitlab.example.com":      `has the scheme "ftp"`,
		"https://":                      "names no host",
		"https://host/?a=b":             "has a query",
		"https://user:hunter2@ho st/":   "is not a valid URL",
		"https://user:hunter2@h:port/x": "is not a valid URL",
		"ssh://user:hunter2@host":       "only http and https",
	} {
		_, err := coordinator.New(options(url, nil))
		wantText(t, err, want)
		noSecret(t, err)
		var e *coordinator.Error
		if !errors.As(err, &e) || e.Status != coordinator.StatusNoClient || e.Class != event.ErrClient {
			t.Errorf("%s: got %#v", url, err)
		}
	}
	o := options("https://host", nil)
	o.Info.Labels = map[string]string{"x": strings.Repeat("y", 40_000)}
	_, err := coordinator.New(o)
	wantText(t, err, "too many labels")
	o.Info.Labels, o.Info.Features = nil, []string{"telepathy"}
	_, err = coordinator.New(o)
	wantText(t, err, `no feature "telepathy"`)
}

func TestURL(t *testing.T) {
	for in, want := range map[string]string{
		"https://gitlab.example.com/":                  "https://gitlab.example.com",
		"https://gitlab.example.com/ci//":              "https://gitlab.example.com",
		"https://user:hunter2@gitlab.example.com:8443": "https://gitlab.example.com:8443",
		" http://host/gitlab/ci ":                      "http://host/gitlab",
		"http://host/a%20b/":                           "http://host/a%20b",
	} {
		if got := newClient(t, options(in, nil)).URL(); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestScopeOfContextIsKept(t *testing.T) {
	rec := &recorder{}
	url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	c := newClient(t, options(url, rec))
	ctx := event.WithScope(t.Context(), event.Scope{Runner: job.Runner{Short: "other"}, Job: 9, Run: 3})
	if _, err := c.Job(4711, jobToken, false).Update(ctx, job.Update{State: job.WireRunning}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Job(4711, jobToken, false).Update(t.Context(), job.Update{State: job.WireRunning}); err != nil {
		t.Fatal(err)
	}
	if s := rec.events[0].Scope; s.Runner.Short != "other" || s.Job != 9 || s.Run != 3 {
		t.Errorf("got %+v", s)
	}
	if s := rec.events[1].Scope; s.Runner.Short != "t1_RunnerS" || s.Job != 4711 {
		t.Errorf("got %+v", s)
	}
}
