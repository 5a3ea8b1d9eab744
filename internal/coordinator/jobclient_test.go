package coordinator_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/coordinator"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

var errConn = errors.New("connection lost")

// broken is a transport that never gets an answer.
type broken struct{}

func (broken) RoundTrip(*http.Request) (*http.Response, error) { return nil, errConn }

func answer(status int, h map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for k, v := range h {
			w.Header().Set(k, v)
		}
		w.WriteHeader(status)
	}
}

type headers = map[string]string

func TestUpdateMatrix(t *testing.T) {
	final := job.Update{State: job.WireFailed, Reason: job.ScriptFailure}
	running := job.Update{State: job.WireRunning}
	for _, tt := range []struct {
		name   string
		u      job.Update
		status int // 0: no answer
		h      headers
		want   job.Ack
		err    bool
	}{
		{name: "ok", u: running, status: 200, h: headers{"Job-Status": "running"}, want: job.Ack{Result: job.Accepted, JobStatus: "running"}},
		{name: "final ok", u: final, status: 200, h: headers{"Job-Status": "success"}, want: job.Ack{Result: job.Accepted, JobStatus: "success"}},
		{name: "final failed", u: final, status: 200, h: headers{"Job-Status": "failed"}, want: job.Ack{Result: job.Accepted, Directive: job.Abort, JobStatus: "failed"}},
		{name: "running but failed", u: running, status: 200, h: headers{"Job-Status": "failed"}, want: job.Ack{Result: job.Refused, Directive: job.Abort, JobStatus: "failed"}},
		{name: "running but canceled", u: running, status: 200, h: headers{"Job-Status": "canceled"}, want: job.Ack{Result: job.Refused, Directive: job.Abort, JobStatus: "canceled"}},
		{name: "canceling", u: running, status: 200, h: headers{"Job-Status": "canceling"}, want: job.Ack{Result: job.Accepted, Directive: job.Cancel, JobStatus: "canceling"}},
		{name: "wait", u: final, status: 202, h: headers{"X-GitLab-Trace-Update-Interval": "4"}, want: job.Ack{Result: job.Incomplete, Interval: 4 * time.Second}},
		{name: "mismatch", u: final, status: 412, want: job.Ack{Result: job.Mismatch}},
		{name: "forbidden", u: running, status: 403, want: job.Ack{Result: job.Refused, Directive: job.Abort}},
		{name: "forbidden, finished", u: final, status: 403, h: headers{"Job-Status": "success"}, want: job.Ack{Result: job.Refused, Directive: job.Abort, JobStatus: "success"}},
		{name: "not found", u: running, status: 404, want: job.Ack{Result: job.Gone, Directive: job.Abort}},
		{name: "conflict", u: running, status: 409, want: job.Ack{Result: job.Trouble}, err: true},
		{name: "bad request", u: final, status: 400, h: headers{"Job-Status": "running"}, want: job.Ack{Result: job.Trouble, JobStatus: "running"}, err: true},
		{name: "bad request, canceling", u: final, status: 400, h: headers{"Job-Status": "canceling"}, want: job.Ack{Result: job.Trouble, Directive: job.Cancel, JobStatus: "canceling"}, err: true},
		{name: "range", u: running, status: 416, want: job.Ack{Result: job.Trouble}, err: true},
		{name: "rate limit", u: running, status: 429, want: job.Ack{Result: job.Trouble}, err: true},
		{name: "unavailable", u: final, status: 503, want: job.Ack{Result: job.Trouble}, err: true},
		{name: "unavailable, canceled", u: running, status: 503, h: headers{"Job-Status": "canceled"}, want: job.Ack{Result: job.Refused, Directive: job.Abort, JobStatus: "canceled"}},
		{name: "no answer", u: running, want: job.Ack{Result: job.Trouble, Status: -1}, err: true},
		{name: "huge interval", u: running, status: 200, h: headers{"X-GitLab-Trace-Update-Interval": "99999999999"}, want: job.Ack{Interval: 15 * time.Minute}},
		{name: "no interval", u: running, status: 200, h: headers{"X-GitLab-Trace-Update-Interval": "soon"}, want: job.Ack{}},
		{name: "strange status", u: running, status: 200, h: headers{"Job-Status": "<b>canceled</b>"}, want: job.Ack{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec := &recorder{}
				c := newClient(t, options("http://gitlab.test", rec))
				c.SetRoundTripper(direct{answer(tt.status, tt.h)})
				if tt.status == 0 {
					c.SetRoundTripper(broken{})
				} else {
					tt.want.Status = tt.status
				}
				got, err := c.Job(4711, jobToken, false).Update(t.Context(), tt.u)
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Errorf("(-want +got):\n%s", d)
				}
				if (err != nil) != tt.err {
					t.Errorf("err: %v", err)
				}
				noSecret(t, err)
				if tt.err {
					wantText(t, err, "PUT http://gitlab.test/api/v4/jobs/4711: ")
				}
				called := rec.last(t)
				if told := [3]string{called.Endpoint, called.Method, called.Path}; called.Status != got.Status ||
					told != [3]string{"update_job", "put", "/api/v4/jobs/{id}"} {
					t.Errorf("event: %+v", called)
				}
			})
		})
	}
}

func TestAppendMatrix(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		h      headers
		want   job.Ack
		err    bool
	}{
		{name: "ok", status: 202, h: headers{"Job-Status": "running", "Range": "0-15", "X-GitLab-Trace-Update-Interval": "60"}, want: job.Ack{Offset: 15, JobStatus: "running", Interval: time.Minute}},
		{name: "canceling", status: 202, h: headers{"Job-Status": "canceling"}, want: job.Ack{Offset: 15, Directive: job.Cancel, JobStatus: "canceling"}},
		{name: "canceled", status: 202, h: headers{"Job-Status": "canceled"}, want: job.Ack{Result: job.Refused, Offset: 10, Directive: job.Abort, JobStatus: "canceled"}},
		{name: "other success", status: 200, want: job.Ack{Result: job.Trouble, Offset: 10}, err: true},
		{name: "forbidden", status: 403, want: job.Ack{Result: job.Refused, Offset: 10, Directive: job.Abort}},
		{name: "not found", status: 404, want: job.Ack{Result: job.Gone, Offset: 10}},
		{name: "conflict", status: 409, want: job.Ack{Result: job.Trouble, Offset: 10}, err: true},
		{name: "mismatch", status: 412, want: job.Ack{Result: job.Trouble, Offset: 10}, err: true},
		{name: "back", status: 416, h: headers{"Range": "0-3"}, want: job.Ack{Result: job.Rewind, Offset: 3}},
		{name: "forward", status: 416, h: headers{"Range": "0-3000000000"}, want: job.Ack{Result: job.Rewind, Offset: 3000000000}},
		{name: "to the start", status: 416, want: job.Ack{Result: job.Rewind}},
		{name: "broken range", status: 416, h: headers{"Range": "bytes"}, want: job.Ack{Result: job.Rewind}},
		{name: "rate limit", status: 429, want: job.Ack{Result: job.Trouble, Offset: 10}, err: true},
		{name: "error", status: 500, want: job.Ack{Result: job.Trouble, Offset: 10}, err: true},
		{name: "no answer", want: job.Ack{Result: job.Trouble, Status: -1, Offset: 10}, err: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec := &recorder{}
				c := newClient(t, options("http://gitlab.test", rec))
				c.SetRoundTripper(direct{answer(tt.status, tt.h)})
				if tt.status == 0 {
					c.SetRoundTripper(broken{})
				} else {
					tt.want.Status = tt.status
				}
				got, err := c.Job(4711, jobToken, false).Append(t.Context(), 10, []byte("hello"))
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Errorf("(-want +got):\n%s", d)
				}
				if (err != nil) != tt.err {
					t.Errorf("err: %v", err)
				}
				noSecret(t, err)
				called := rec.last(t)
				if told := [3]string{called.Endpoint, called.Method, called.Path}; called.Status != got.Status ||
					told != [3]string{"patch_trace", "patch", "/api/v4/jobs/{id}/trace"} {
					t.Errorf("event: %+v", called)
				}
			})
		})
	}
}

func TestUpdateOnTheWire(t *testing.T) {
	for _, tt := range []struct {
		name string
		u    job.Update
		want map[string]any
	}{
		{"ack", job.Update{State: job.WireRunning}, map[string]any{"state": "running", "output": map[string]any{}}},
		{"no reason unless failed", job.Update{State: job.WireSuccess, Reason: job.ScriptFailure, Checksum: "crc32:00000001", Size: 12}, map[string]any{
			"state": "success", "checksum": "crc32:00000001", "output": map[string]any{"checksum": "crc32:00000001", "bytesize": 12.0},
		}},
		{"failed", job.Update{State: job.WireFailed, Reason: `odd"reason`, ExitCode: -7, Size: 3}, map[string]any{
			"state": "failed", "failure_reason": `odd"reason`, "exit_code": -7.0, "output": map[string]any{"bytesize": 3.0},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			token := job.Secret(jobToken + `"ä`)
			url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPut || r.URL.Path != "/api/v4/jobs/4711" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Accept") != "" {
					t.Errorf("got %s %s %v", r.Method, r.URL, r.Header)
				}
				if _, sent := r.Header["Idempotency-Key"]; sent {
					t.Error("Idempotency-Key was sent")
				}
				m := body(t, r)
				if info, _ := m["info"].(map[string]any); info["executor"] != "shell" {
					t.Errorf("info: %v", m["info"])
				}
				if m["token"] != token.Reveal() || r.Header.Get("Runner-Token") != "" {
					t.Errorf("token: %v", m["token"])
				}
				delete(m, "info")
				delete(m, "token")
				if d := cmp.Diff(tt.want, m); d != "" {
					t.Errorf("(-want +got):\n%s", d)
				}
				w.Header().Set("Job-Status", "running")
				w.WriteHeader(http.StatusOK)
				_, _ = io.WriteString(w, "200")
			})
			if _, err := newClient(t, options(url, nil)).Job(4711, token, false).Update(t.Context(), tt.u); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestAppendOnTheWire(t *testing.T) {
	var got []byte
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got = b
		if r.Method != http.MethodPatch || r.URL.String() != "/api/v4/jobs/4711/trace?debug_trace=true" {
			t.Errorf("got %s %s", r.Method, r.URL)
		}
		for h, want := range (headers{"Content-Type": "text/plain", "Job-Token": jobToken, "Content-Range": "10-1048585", "Accept": ""}) {
			if g := r.Header.Get(h); g != want {
				t.Errorf("%s: got %q, want %q", h, g, want)
			}
		}
		if r.ContentLength != int64(len(b)) {
			t.Errorf("Content-Length: %d", r.ContentLength)
		}
		w.WriteHeader(http.StatusAccepted)
	})
	rec := &recorder{}
	j := newClient(t, options(url, rec)).Job(4711, jobToken, true)
	if ack, err := j.Append(t.Context(), 7, nil); err != nil || ack.Offset != 7 || len(rec.called()) != 0 {
		t.Errorf("empty: got %+v, %v", ack, err)
	}
	data := bytes.Repeat([]byte("0123456\x00"), 200_000)
	ack, err := j.Append(t.Context(), 10, data)
	if err != nil || ack.Offset != 10+coordinator.MaxChunk || !bytes.Equal(got, data[:coordinator.MaxChunk]) {
		t.Errorf("got %+v, %v, %d bytes", ack, err, len(got))
	}
}

// The caller may use its buffer again as soon as Append has returned, also
// when the server answered before it had read everything (run with -race).
func TestAppendLeavesTheBufferAlone(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	j := newClient(t, options(url, nil)).Job(4711, jobToken, false)
	buf := make([]byte, coordinator.MaxChunk)
	for i := range 20 {
		ack, err := j.Append(t.Context(), 0, buf)
		if err == nil && ack.Result != job.Refused {
			t.Fatalf("got %+v", ack)
		}
		for k := range buf {
			buf[k] = byte(i)
		}
	}
}

func TestUpdateBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{}
		c := newClient(t, options("http://gitlab.test", rec))
		c.SetRoundTripper(hang{})
		start := time.Now()
		ack, err := c.Job(1, jobToken, false).Update(t.Context(), job.Update{State: job.WireRunning})
		if took := time.Since(start); took != 2*time.Minute || ack.Result != job.Trouble {
			t.Errorf("got %+v after %v", ack, took)
		}
		wantText(t, err, "took too long")
		if got := rec.last(t); got.Class != event.ErrTimeout || got.Status != -1 || got.Took != 2*time.Minute {
			t.Errorf("event: %+v", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = c.Job(1, jobToken, false).Append(ctx, 0, []byte("x"))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if got := rec.called()[1]; got.Class != event.ErrTimeout {
			t.Errorf("event: %+v", got)
		}
	})
}

// hang never answers.
type hang struct{}

func (hang) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, context.Cause(r.Context())
}

// A connection that the server has closed while it was idle costs an update
// nothing.
func TestStaleConnection(t *testing.T) {
	var n atomic.Int32
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if n.Add(1) == 2 { // kept connection: take the request and cut
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.Close()
			return
		}
		w.WriteHeader(http.StatusAccepted)
	})
	j := newClient(t, options(url, nil)).Job(1, jobToken, false)
	for i := range 2 {
		if ack, err := j.Append(t.Context(), 0, []byte("abc")); err != nil || ack.Result != job.Accepted {
			t.Errorf("%d: got %+v, %v", i, ack, err)
		}
	}
	if n.Load() != 3 {
		t.Errorf("got %d requests, want 3", n.Load())
	}
}
