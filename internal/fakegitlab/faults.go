package fakegitlab

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Drop says when a fault cuts the connection instead of answering.
type Drop int

// The moments of a cut.
const (
	DropNone       Drop = iota
	DropBeforeRead      // Before the request body is read.
	DropAfterRead       // After the body is read, before anything is done with it.
	DropAnswer          // After the request is done: the answer is lost.
)

// Fault is one way to misbehave. The first added fault that matches a request is applied to it.
// The zero match fields match everything. Without Status, Body and Endless, or with Process, the request
// is handled as usual and the rest of the fault acts on its answer.
type Fault struct {
	Name string // for transcripts

	// What it matches.
	Endpoint    Endpoint // "" is any
	Method      string   // "" is any
	Job         int64    // 0 is any
	State       string   // of a PUT: running, success, failed, or "final" for the last two
	Skip        int      // leave the first Skip matching requests alone
	Probability float64  // 0 is always; drawn from a generator seeded by Options.Seed and the fault's number
	Count       int      // ends after so many applications; 0 is without end

	// What it does.
	Delay   time.Duration // before anything else but reading
	Drop    Drop
	Reset   bool // cut with a TCP reset, not with FIN
	Process bool // handle the request although Status, Body or Endless replace the answer
	Status  int
	Header  http.Header // added to the answer, replacing what it has; an empty list removes
	Body    []byte      // replaces the body if not nil
	// Truncate cuts the connection after TruncateAt bytes of the body, under the full Content-Length.
	Truncate   bool
	TruncateAt int
	// Drip is the pause between the bytes of the body.
	Drip time.Duration
	// Endless repeats Body (or spaces) until the client goes away.
	Endless bool
}

// FaultID names an added fault.
type FaultID uint64

type activeFault struct {
	Fault
	id     FaultID
	mu     sync.Mutex // guards what follows
	random *rand.Rand
	calls  int
	hits   int
}

// AddFault starts a fault.
func (s *Server) AddFault(f Fault) FaultID {
	s.fmu.Lock()
	defer s.fmu.Unlock()
	s.nextFault++
	s.faults = append(s.faults, &activeFault{
		Fault: f, id: s.nextFault, random: rand.New(rand.NewPCG(s.opts.Seed, uint64(s.nextFault))),
	})
	s.armed.Store(true)
	return s.nextFault
}

// RemoveFault ends a fault and returns how often it was applied.
func (s *Server) RemoveFault(id FaultID) int {
	hits := s.FaultHits(id)
	s.fmu.Lock()
	defer s.fmu.Unlock()
	s.faults = slices.DeleteFunc(s.faults, func(f *activeFault) bool { return f.id == id })
	s.armed.Store(len(s.faults) > 0)
	return hits
}

// ClearFaults ends all faults.
func (s *Server) ClearFaults() {
	s.fmu.Lock()
	defer s.fmu.Unlock()
	s.faults = nil
	s.armed.Store(false)
}

// FaultHits is how often the fault was applied; 0 when it is not active.
func (s *Server) FaultHits(id FaultID) int {
	s.fmu.Lock()
	defer s.fmu.Unlock()
	for _, f := range s.faults {
		if f.id == id {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.hits
		}
	}
	return 0
}

// pickFault finds the fault of a request. It is asked twice: before the body is known (state is empty)
// for the faults that do not match on the state, and afterwards for those that do.
func (s *Server) pickFault(c *call, state string) *activeFault {
	if !s.armed.Load() {
		return nil
	}
	s.fmu.Lock()
	defer s.fmu.Unlock()
	for _, f := range s.faults {
		if (f.State != "") == (state != "") && f.matches(c, state) && f.fires() {
			return f
		}
	}
	return nil
}

func (f *activeFault) matches(c *call, state string) bool {
	return (f.Endpoint == "" || f.Endpoint == c.endpoint) && (f.Method == "" || f.Method == c.r.Method) &&
		(f.Job == 0 || f.Job == c.job) &&
		(f.State == "" || f.State == state || f.State == "final" && state != "running")
}

// fires counts a matching call and decides whether it is hit.
func (f *activeFault) fires() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.calls <= f.Skip || f.Count > 0 && f.hits >= f.Count {
		return false
	}
	if f.Probability > 0 && f.random.Float64() >= f.Probability {
		return false
	}
	f.hits++
	return true
}

// replaces tells whether the answer does not come from the request's handler.
func (f *Fault) replaces() bool { return f.Status != 0 || f.Body != nil || f.Endless }

// losesAnswer tells whether the client does not learn what the handler did.
func (f *Fault) losesAnswer() bool {
	return f.Drop != DropNone || f.Truncate || f.replaces()
}

// applyFault answers the request under c.fault.
func (s *Server) applyFault(c *call) {
	f := c.fault
	s.disturb(c.job)
	if f.Drop == DropBeforeRead {
		s.pause(c, f.Delay)
		s.cut(c)
		return
	}
	s.pause(c, f.Delay)
	if f.Drop == DropAfterRead {
		s.cut(c)
		return
	}
	answer := &bufferedWriter{header: make(http.Header)}
	if f.Process || !f.replaces() {
		direct := c.w
		c.w = answer
		s.dispatch(c)
		c.w = direct
	}
	if c.handed != nil && f.losesAnswer() {
		s.loseHandout(c.handed)
	}
	if f.Drop == DropAnswer {
		s.cut(c)
		return
	}
	if f.Status != 0 {
		answer.status = f.Status
	}
	if answer.status == 0 {
		answer.status = http.StatusOK
	}
	if f.Body != nil {
		answer.body.Reset()
		_, _ = answer.body.Write(f.Body) // a bytes.Buffer never fails
	}
	for key, values := range f.Header {
		answer.header.Del(key)
		for _, v := range values {
			answer.header.Add(key, v)
		}
	}
	s.noteRefusal(c, answer)
	s.emit(c, answer)
}

// emit sends an answer as the fault wants it.
func (s *Server) emit(c *call, answer *bufferedWriter) {
	f := c.fault
	h := c.w.Header()
	maps.Copy(h, answer.header)
	h.Del("Content-Length")
	body := answer.body.Bytes()
	if f.Endless {
		s.endless(c, answer.status, body)
		return
	}
	if answer.status != http.StatusNoContent && answer.status != http.StatusNotModified {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	c.settleNow(answer.status, body)
	c.w.WriteHeader(answer.status)
	if f.Truncate {
		body = body[:min(len(body), max(0, f.TruncateAt))]
	}
	if f.Drip <= 0 {
		_, _ = c.w.Write(body) // a client that went away needs no answer
	} else {
		control := http.NewResponseController(c.w)
		for i := range body {
			if _, err := c.w.Write(body[i : i+1]); err != nil || control.Flush() != nil || !s.pause(c, f.Drip) {
				return
			}
		}
	}
	if f.Truncate {
		_ = http.NewResponseController(c.w).Flush() // what matters is the cut
		s.hangUp(c)
	}
}

// endless writes until the client or the server ends.
func (s *Server) endless(c *call, status int, body []byte) {
	if len(body) == 0 {
		body = []byte(" ")
	}
	chunk := bytes.Repeat(body, max(1, 16384/len(body)))
	c.settleNow(status, body)
	c.w.WriteHeader(status)
	for {
		if _, err := c.w.Write(chunk); err != nil || !s.pause(c, 0) {
			return
		}
		if f := c.fault; f.Drip > 0 && !s.pause(c, f.Drip) {
			return
		}
	}
}

// pause waits and tells whether client and server are still there.
func (s *Server) pause(c *call, d time.Duration) bool {
	if d <= 0 {
		select {
		case <-s.closing:
			return false
		case <-c.r.Context().Done():
			return false
		default:
			return true
		}
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.closing:
	case <-c.r.Context().Done():
	}
	return false
}

// cut closes the connection without an answer.
func (s *Server) cut(c *call) {
	c.settle(0, nil, nil)
	s.hangUp(c)
}

// hangUp takes the connection from the HTTP server and closes it.
func (s *Server) hangUp(c *call) {
	conn, _, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		// The documented way to cut a connection that cannot be hijacked.
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok && c.fault.Reset {
		_ = tcp.SetLinger(0) // best effort: without it the client sees EOF
	}
	_ = conn.Close() // nobody is interested any more
}

// bufferedWriter collects an answer that a fault changes.
type bufferedWriter struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements [http.ResponseWriter].
func (w *bufferedWriter) Header() http.Header { return w.header }

// WriteHeader implements [http.ResponseWriter].
func (w *bufferedWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// Write implements [http.ResponseWriter].
func (w *bufferedWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// HTMLPage is the login page of a proxy, for Fault.Body; send it with Content-Type text/html.
func HTMLPage() []byte {
	return []byte("<!DOCTYPE html><html><head><title>Sign in</title></head><body><form>…</form></body></html>\n")
}

// HugeJSON is a valid JSON object of at least n bytes, for Fault.Body.
func HugeJSON(n int) []byte {
	return slices.Concat([]byte(`{"id":1,"token":"glcbt-64_x","padding":"`), bytes.Repeat([]byte("x"), max(0, n)), []byte(`"}`))
}

// Garbage is n bytes of noise that depend on seed only, for Fault.Body.
func Garbage(seed uint64, n int) []byte {
	random := rand.New(rand.NewPCG(seed, 1))
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(random.Uint32())
	}
	return out
}
