package bench_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// coordinator hands out jobs and takes what is told of them, as little as that
// can be: checking what the runner says is the tests' business, and its cost
// would be part of the figures. The runner and the floor talk to the same one.
type coordinator struct {
	url  string
	hold time.Duration // how long a request without a job is kept waiting
	jobs chan *task

	mu      sync.Mutex
	byID    map[int64]*task
	next    int64
	payload map[string][]byte // by script and after_script
}

// task is one job from its 201 to its accepted final update.
type task struct {
	id       int64
	body     []byte
	handed   time.Time
	running  chan struct{} // closed with the first update
	done     chan struct{} // closed with the final update
	once     sync.Once
	mu       sync.Mutex
	took     time.Duration
	failed   string // why the job, or what was told of it, is not as it should be
	size     int64
	crc      uint32
	canceled bool
	quiet    bool // its log need not match
}

func newCoordinator(b *testing.B, hold time.Duration) *coordinator {
	b.Helper()
	c := &coordinator{hold: hold, jobs: make(chan *task, 1<<12), byID: map[int64]*task{}, payload: map[string][]byte{}, next: firstID}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &http.Server{Handler: c, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	c.url = "http://" + l.Addr().String()
	b.Cleanup(func() {
		_ = s.Close() // nobody is left to answer
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			b.Error(err)
		}
	})
	return c
}

// firstID has a form that nothing else in a payload has.
const firstID = 7_300_000_001

// render makes the 201 of a job as a real server would, with some hundred
// variables. It is made once and filled in after that.
func (c *coordinator) render(b *testing.B, j fakegitlab.Job) []byte {
	b.Helper()
	key := strings.Join(j.Script, "\n") + "\x00" + strings.Join(j.AfterScript, "\n")
	if p := c.payload[key]; p != nil {
		return p
	}
	fake := fakegitlab.New(fakegitlab.Options{ExternalURL: c.url, FirstJobID: firstID})
	defer func() { _ = fake.Close() }() // it never listened
	token := fake.AddRunner(fakegitlab.RunnerConfig{Description: "bench"}).Token
	if _, err := fake.Enqueue(j); err != nil {
		b.Fatal(err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/api/v4/jobs/request",
		strings.NewReader(fmt.Sprintf(`{"token":%q,"info":{"features":{}}}`, token)))
	r.Header.Set("Content-Type", "application/json")
	fake.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusCreated {
		b.Fatalf("a payload: %d %s", w.Code, w.Body)
	}
	c.payload[key] = w.Body.Bytes()
	return c.payload[key]
}

// enqueue adds n jobs.
func (c *coordinator) enqueue(b *testing.B, n int, j fakegitlab.Job) []*task {
	b.Helper()
	body := c.render(b, j)
	out := make([]*task, n)
	c.mu.Lock()
	for i := range out {
		id := c.next
		c.next++
		out[i] = &task{
			id: id, running: make(chan struct{}), done: make(chan struct{}),
			body: bytes.ReplaceAll(body, []byte(strconv.Itoa(firstID)), strconv.AppendInt(nil, id, 10)),
		}
		c.byID[id] = out[i]
	}
	c.mu.Unlock()
	for _, t := range out {
		c.jobs <- t
	}
	return out
}

// finished waits for the final updates and returns how long each job took.
func (c *coordinator) finished(b *testing.B, tasks []*task) []time.Duration {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	took := make([]time.Duration, len(tasks))
	for i, t := range tasks {
		select {
		case <-t.done:
		case <-ctx.Done():
			b.Fatalf("job %d of %d did not end", i+1, len(tasks))
		}
		if t.failed != "" {
			b.Fatalf("job %d: %s", t.id, t.failed)
		}
		took[i] = t.took
		c.mu.Lock()
		delete(c.byID, t.id)
		c.mu.Unlock()
	}
	return took
}

func (c *coordinator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/api/v4/jobs/request" {
		c.request(w, r)
		return
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/api/v4/jobs/")
	rest, trace := strings.CutSuffix(rest, "/trace")
	id, err := strconv.ParseInt(rest, 10, 64)
	c.mu.Lock()
	t := c.byID[id]
	c.mu.Unlock()
	switch {
	case !ok || err != nil || t == nil:
		http.NotFound(w, r)
	case trace:
		t.append(w, r)
	default:
		t.update(w, r)
	}
}

func (c *coordinator) request(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // the client is on this machine
	var none <-chan time.Time
	if c.hold > 0 {
		timer := time.NewTimer(c.hold)
		defer timer.Stop()
		none = timer.C
	} else {
		closed := make(chan time.Time)
		close(closed)
		none = closed
	}
	var t *task
	select {
	case t = <-c.jobs:
	default:
		select {
		case t = <-c.jobs:
		case <-none:
		case <-r.Context().Done():
		}
	}
	if t == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(t.body)))
	t.handed = time.Now()
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(t.body)
}

// append is PATCH jobs/:id/trace.
func (t *task) append(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	first, _, _ := strings.Cut(r.Header.Get("Content-Range"), "-")
	off, err := strconv.ParseInt(first, 10, 64)
	t.mu.Lock()
	defer t.mu.Unlock()
	h := w.Header()
	if err != nil || off != t.size {
		h.Set("Range", "0-"+strconv.FormatInt(t.size, 10))
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return
	}
	t.size += int64(len(body))
	t.crc = crc32.Update(t.crc, crc32.IEEETable, body)
	h.Set("Range", "0-"+strconv.FormatInt(t.size, 10))
	h.Set("Job-Status", t.status())
	h.Set("X-GitLab-Trace-Update-Interval", "3")
	w.WriteHeader(http.StatusAccepted)
}

// update is PUT jobs/:id.
func (t *task) update(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	t.mu.Lock()
	defer t.mu.Unlock()
	if bytes.Contains(body, []byte(`"state":"running"`)) {
		t.once.Do(func() { close(t.running) })
	} else {
		t.took = time.Since(t.handed)
		switch {
		case t.quiet:
		case !bytes.Contains(body, []byte(`"state":"success"`)):
			t.failed = "the last update is " + string(body)
		case !bytes.Contains(body, fmt.Appendf(nil, "crc32:%08x", t.crc)):
			t.failed = fmt.Sprintf("the log has %d bytes with the sum %08x, the last update is %s", t.size, t.crc, body)
		}
		defer close(t.done)
	}
	w.Header().Set("Job-Status", t.status())
	w.WriteHeader(http.StatusOK)
}

func (t *task) status() string {
	if t.canceled {
		return "canceled"
	}
	return "running"
}

// cancel is what a user does.
func (t *task) cancel() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.canceled, t.quiet = true, true
	t.handed = time.Now()
}
