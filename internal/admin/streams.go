package admin

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/api"
	"github.com/glassrunner/glassrunner/internal/observe/board"
	"github.com/glassrunner/glassrunner/internal/observe/history"
)

// streams tells the status pages that are open what changes, as server-sent
// events: a snapshot first, then what has become different since the event
// before. One goroutine looks and encodes for all of them, and only while
// there is one. A client that does not take its events in time is cut off; it
// connects again and begins with a snapshot.
type streams struct {
	s       *Server
	open    prometheus.Gauge
	dropped prometheus.Counter

	mu      sync.Mutex
	clients map[*streamClient]struct{}
	last    api.Snapshot // that all clients know
	step    time.Time    // of the history, the last that clients were told of
	running bool         // the goroutine is
}

type streamClient struct {
	frames chan []byte // closed when the client was too slow
}

const (
	streamQueue     = 16 // events that may wait for a client
	streamHeartbeat = 15 * time.Second
	streamWrite     = 10 * time.Second // for one event
)

func newStreams(s *Server) *streams {
	t := &streams{
		s: s, clients: make(map[*streamClient]struct{}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "glassrunner_http_event_streams", Help: "Status pages and other clients that are being told what changes.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "glassrunner_http_event_streams_dropped_total", Help: "Event streams that were ended because the client did not take the events in time.",
		}),
	}
	s.o.Registry.MustRegister(t.open, t.dropped)
	return t
}

// join adds a client, or returns nil when there are too many. What it knows
// first is what all the others know.
func (t *streams) join() *streamClient {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.clients) >= t.s.o.MaxStreams {
		return nil
	}
	c := &streamClient{frames: make(chan []byte, streamQueue)}
	if !t.running {
		t.running = true
		snap := t.s.o.Board.Snapshot()
		t.last = presenter{t.s}.snapshot(&snap)
		t.s.wg.Go(t.look)
	}
	t.clients[c] = struct{}{}
	t.open.Set(float64(len(t.clients)))
	now := t.last
	now.Status.Now = time.Now().UTC()
	c.frames <- frame("snapshot", now)
	return c
}

func (t *streams) leave(c *streamClient) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.clients, c)
	t.open.Set(float64(len(t.clients)))
}

// look tells what changes until there is nobody to be told.
func (t *streams) look() {
	tick := time.NewTicker(t.s.o.StreamInterval)
	defer tick.Stop()
	for range tick.C {
		if !t.tell() {
			return
		}
	}
}

func (t *streams) tell() (goOn bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.clients) == 0 {
		t.running, t.last = false, api.Snapshot{}
		return false
	}
	snap := t.s.o.Board.Snapshot()
	if d, any := t.delta(&snap); any {
		t.send(frame("delta", d))
	}
	if h, any := t.newSteps(time.Now()); any {
		t.send(frame("history", h))
	}
	t.open.Set(float64(len(t.clients)))
	return true
}

// newSteps returns the last steps of the finest history, once for each: the
// one that has just ended, the one before it, for who missed its end, and the
// one that has begun.
func (t *streams) newSteps(now time.Time) (h api.History, any bool) {
	if t.s.o.History == nil {
		return h, false
	}
	step := history.Tiers()[0].Step
	if now.Truncate(step).Equal(t.step) {
		return h, false
	}
	t.step = now.Truncate(step)
	return presenter{t.s}.history(t.s.o.History.Since(now, 3*step)), true
}

// send gives every client an event; who has too many already is cut off.
func (t *streams) send(f []byte) {
	for c := range t.clients {
		select {
		case c.frames <- f:
		default:
			close(c.frames)
			delete(t.clients, c)
			t.dropped.Inc()
		}
	}
}

// delta compares the present with what clients know, and remembers it.
func (t *streams) delta(b *board.Snapshot) (d api.Delta, any bool) {
	now := presenter{t.s}.snapshot(b)
	old := t.last
	t.last = now
	same := now.Status
	same.Now = old.Status.Now // the time alone is no news
	if !reflect.DeepEqual(same, old.Status) {
		d.Status, any = &now.Status, true
	}
	if !reflect.DeepEqual(now.Runners, old.Runners) {
		d.Runners, any = now.Runners, true
	}
	known := make(map[uint64]*api.Job, len(old.Jobs))
	for i := range old.Jobs {
		known[old.Jobs[i].Run] = &old.Jobs[i]
	}
	for i := range now.Jobs {
		j := &now.Jobs[i]
		if o := known[j.Run]; o == nil || !reflect.DeepEqual(o, j) {
			d.Jobs = append(d.Jobs, *j)
		}
		delete(known, j.Run)
	}
	for run := range known {
		d.Gone = append(d.Gone, run)
	}
	ended := make(map[uint64]struct{}, len(old.Finished))
	for i := range old.Finished {
		ended[old.Finished[i].Run] = struct{}{}
	}
	for i := range now.Finished {
		if _, told := ended[now.Finished[i].Run]; !told {
			d.Finished = append(d.Finished, now.Finished[i])
		}
	}
	return d, any || len(d.Jobs) > 0 || len(d.Gone) > 0 || len(d.Finished) > 0
}

// frame is an event as it goes over the wire. JSON has no line ends in it.
func frame(event string, v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		return []byte(": " + event + " could not be encoded\n\n")
	}
	var b bytes.Buffer
	b.Grow(len(data) + 32)
	b.WriteString("event: " + event + "\ndata: ")
	b.Write(data)
	b.WriteString("\n\n")
	return b.Bytes()
}

// serve answers /api/v1/events until the client leaves, is too slow, or the
// server has another web configuration or gives its listener up.
func (t *streams) serve(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // or a proxy waits for the end
	if r.Method == http.MethodHead {
		return
	}
	replaced := t.s.web.Load().replaced
	c := t.join()
	if c == nil {
		h.Set("Retry-After", "10")
		answerJSON(w, http.StatusServiceUnavailable, api.Error{Error: "as many event streams are open as can be at once: try again later"})
		return
	}
	defer t.leave(c)
	beat := time.NewTicker(streamHeartbeat)
	defer beat.Stop()
	out := []byte("retry: 2000\n\n")
	for {
		_ = rc.SetWriteDeadline(time.Now().Add(streamWrite)) // a writer without deadlines is a test's
		if _, err := w.Write(out); err != nil {
			return
		}
		if err := rc.Flush(); err != nil {
			return
		}
		select {
		case f, ok := <-c.frames:
			if !ok {
				return
			}
			out = f
		case <-beat.C:
			out = []byte(": still here\n\n")
		case <-r.Context().Done():
			return
		case <-goneOf(r):
			return
		case <-replaced:
			return
		}
		if t.s.settings.Load().HideStatusPage {
			return
		}
	}
}
