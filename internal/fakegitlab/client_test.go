package fakegitlab_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	fake "github.com/glassrunner/glassrunner/internal/fakegitlab"
)

const systemID = "s_0123456789ab"

// start makes a listening server that ends with the test.
func start(t testing.TB, opts fake.Options) *fake.Server {
	t.Helper()
	s := fake.New(opts)
	if err := s.Start(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// client speaks the runner API correctly, unless told otherwise.
type client struct {
	t      testing.TB
	url    string
	http   *http.Client
	token  string
	header http.Header // replaces headers; an empty list removes one
	info   map[string]any
	last   string
}

var serial atomic.Uint64

func requestID() string { return fmt.Sprintf("%032x", serial.Add(1)) }

func newClient(t testing.TB, s *fake.Server, token string) *client {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{
		t: t, url: s.URL(), token: token, info: goodInfo(), header: http.Header{},
		http: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

func goodInfo() map[string]any {
	features := map[string]any{}
	for key := range strings.FieldsSeq(`trace_reset trace_checksum trace_size cancelable cancel_gracefully two_phase_job_commit
		job_inputs artifacts upload_multiple_artifacts upload_raw_artifacts cache fallback_cache_keys refspecs masking
		raw_variables artifacts_exclude multi_build_steps vault_secrets return_exit_code variables image
		image_executor_opts services service_variables service_multiple_aliases service_executor_opts session terminal
		shared proxy native_steps_integration`) {
		features[key] = true
	}
	return map[string]any{
		"name": "gitlab-runner", "version": "19.4.0", "revision": "abcdef12", "platform": "linux", "architecture": "amd64",
		"executor": "shell", "shell": "bash", "features": features, "config": map[string]any{"gpus": ""},
	}
}

type reply struct {
	status int
	header http.Header
	body   []byte
	err    error
}

func (r reply) json(t testing.TB) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal(r.body, &out); err != nil {
		t.Fatalf("body %q: %v", r.body, err)
	}
	return out
}

func (c *client) send(ctx context.Context, method, path string, header map[string]string, body []byte) reply {
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return reply{err: err}
	}
	r.Header.Set("User-Agent", "gitlab-runner 19.4.0 (main; go1.26.1; linux/amd64)")
	r.Header.Set("X-Request-Id", requestID())
	for k, v := range header {
		if v != "" {
			r.Header.Set(k, v)
		}
	}
	maps.Copy(r.Header, c.header)
	resp, err := c.http.Do(r)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return reply{status: resp.StatusCode, header: resp.Header, body: data, err: err}
}

func (c *client) sendJSON(method, path string, header map[string]string, body any) reply {
	raw, ok := body.([]byte)
	if !ok {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			c.t.Fatal(err)
		}
	}
	h := map[string]string{"Content-Type": "application/json"}
	maps.Copy(h, header)
	return c.send(context.Background(), method, path, h, raw)
}

func (c *client) request() reply {
	body := map[string]any{"token": c.token, "system_id": systemID, "info": c.info}
	if c.last != "" {
		body["last_update"] = c.last
	}
	r := c.sendJSON("POST", "/api/v4/jobs/request", map[string]string{"RUNNER-TOKEN": c.token, "Accept": "application/json"}, body)
	if v := r.header.Get("X-GitLab-Last-Update"); v != "" {
		c.last = v
	}
	return r
}

// job requests a job that must be there.
func (c *client) job() *held {
	c.t.Helper()
	r := c.request()
	if r.status != http.StatusCreated {
		c.t.Fatalf("job request: got %d %s %v, want 201", r.status, r.body, r.err)
	}
	j := &held{c: c}
	if err := json.Unmarshal(r.body, &j.payload); err != nil {
		c.t.Fatal(err)
	}
	j.path = "/api/v4/jobs/" + strconv.FormatInt(j.payload.ID, 10)
	return j
}

// held is a job in the hands of a client.
type held struct {
	c       *client
	payload fake.Payload
	path    string
	log     []byte
}

func (j *held) put(state string, more map[string]any) reply {
	body := map[string]any{"token": j.payload.Token, "info": j.c.info, "state": state, "output": map[string]any{}}
	if len(j.log) > 0 {
		sum := fmt.Sprintf("crc32:%08x", crc32.ChecksumIEEE(j.log))
		body["checksum"] = sum
		body["output"] = map[string]any{"checksum": sum, "bytesize": len(j.log)}
	}
	maps.Copy(body, more)
	return j.c.sendJSON("PUT", j.path, map[string]string{"JOB-TOKEN": j.payload.Token}, body)
}

func (j *held) patch(at int, chunk string, header ...string) reply {
	h := map[string]string{
		"JOB-TOKEN": j.payload.Token, "Content-Type": "text/plain",
		"Content-Range": fmt.Sprintf("%d-%d", at, at+len(chunk)-1),
	}
	for i := 0; i+1 < len(header); i += 2 {
		h[header[i]] = header[i+1]
	}
	return j.c.send(context.Background(), "PATCH", j.path+"/trace?debug_trace=false", h, []byte(chunk))
}

func (j *held) write(text string) reply {
	r := j.patch(len(j.log), text)
	j.log = append(j.log, text...)
	return r
}

func (j *held) ack() *held {
	j.c.t.Helper()
	want(j.c.t, "acknowledgement", j.put("running", nil), 200, "running")
	return j
}

func (j *held) upload(query string, parts ...[3]string) reply {
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	for _, p := range parts {
		h := textproto.MIMEHeader{}
		h.Set("Content-Disposition", fmt.Sprintf(`form-data; name=%q; filename=%q`, p[0], p[1]))
		if p[1] == "" {
			h.Set("Content-Disposition", fmt.Sprintf(`form-data; name=%q`, p[0]))
		}
		h.Set("Content-Type", "application/octet-stream")
		part, err := w.CreatePart(h)
		if err != nil {
			j.c.t.Fatal(err)
		}
		_, _ = io.WriteString(part, p[2])
	}
	_ = w.Close()
	return j.c.send(context.Background(), "POST", j.path+"/artifacts?"+query, map[string]string{
		"JOB-TOKEN": j.payload.Token, "Content-Type": w.FormDataContentType(),
	}, buf.Bytes())
}

// want checks the status and, if given, the Job-Status.
func want(t testing.TB, what string, r reply, status int, jobStatus string) {
	t.Helper()
	if r.err != nil || r.status != status {
		t.Fatalf("%s: got %d %q (%v), want %d", what, r.status, r.body, r.err, status)
	}
	if got := r.header.Get("Job-Status"); got != jobStatus {
		t.Fatalf("%s: got Job-Status %q, want %q", what, got, jobStatus)
	}
}

func wantHeader(t testing.TB, r reply, key, value string) {
	t.Helper()
	if got := r.header.Get(key); got != value {
		t.Fatalf("header %s: got %q, want %q", key, got, value)
	}
}

// clean fails the test on any violation.
func clean(t testing.TB, s *fake.Server) {
	t.Helper()
	for _, v := range s.Violations() {
		t.Errorf("violation: %v", v)
	}
}

func snapshot(t testing.TB, s *fake.Server, id int64) fake.Snapshot {
	t.Helper()
	snap, err := s.Job(id)
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func basicAuth(user, password string) string {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

// waitPolling waits until n job requests of a runner are in flight.
func waitPolling(t testing.TB, s *fake.Server, token string, n int) {
	t.Helper()
	ctx := soon(t)
	for ctx.Err() == nil {
		if ru, err := s.Runner(token); err != nil || ru.Polling == n {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("never saw %d job requests in flight", n)
}
