package coordinator

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/pause"
)

// Header names of the API.
const (
	headerRunnerToken  = "RUNNER-TOKEN"
	headerJobToken     = "JOB-TOKEN"
	headerPrivateToken = "PRIVATE-TOKEN"
	headerRequestID    = "X-Request-Id"
	headerLastUpdate   = "X-Gitlab-Last-Update"
	headerJobStatus    = "Job-Status"
	headerInterval     = "X-Gitlab-Trace-Update-Interval"
)

// Bounds of one attempt.
const (
	// boundDefault is the time until an answer's header: a long poll blocks
	// for 50 s and more, a loaded server for minutes.
	boundDefault = 10 * time.Minute
	// boundUpdate is much tighter than the hour that GitLab's runner allows:
	// a log chunk or a state is small, and while one hangs, its job neither
	// shows progress nor learns that it was canceled.
	boundUpdate = 2 * time.Minute
	// boundBody is the time for the body of an answer that is wanted.
	boundBody = 2 * time.Minute
	// boundRest is the time for what is read only to use the connection again
	// or to find a message for people.
	boundRest = 5 * time.Second
)

// Limits of what is read of an answer, in bytes.
const (
	// MaxJobBody is the largest description of a job that is accepted.
	MaxJobBody   = 16 << 20
	maxSmallBody = 1 << 20
	maxErrorBody = 64 << 10
)

// call is one logical call.
type call struct {
	endpoint    string // of event.Called
	method      string
	to          target
	query       string
	tokenHeader string
	token       job.Secret
	job         job.ID
	contentType string
	accept      bool   // the success body is parsed
	content     string // Content-Range
	body        source // nil: none
	replayable  bool   // may be sent again when a kept connection turns out dead
	bound       time.Duration
	// headerBound is the time from the end of the request to the answer's
	// header; 0: only bound counts.
	headerBound time.Duration
	// wants is the status whose body is read, up to keep bytes.
	wants int
	keep  int64
	// stream leaves the body of the wanted status open.
	stream bool
	// detach goes on reading the wanted body when ctx ends.
	detach bool
}

// answer is what a coordinator said in the end.
type answer struct {
	status  int
	header  http.Header
	body    *bytes.Buffer // of the wanted status, else nil
	huge    bool          // body is only the beginning
	err     error         // why body is incomplete
	text    string        // of an error
	id      string        // correlation id
	conn    *tls.ConnectionState
	state   *state
	retried bool
	flight  *flight // with call.stream
	skew    time.Duration
	dated   bool // skew is known
}

// exchange makes one logical call: attempts and the waits between them, then
// use, which judges the answer, then the event. use owns nothing of the answer
// after it has returned.
func (c *Client) exchange(ctx context.Context, cl *call, use func(*answer) *Error) (retried bool, failure *Error) {
	ctx = c.scoped(ctx, cl.job)
	start := time.Now()
	called := event.Called{
		Endpoint: cl.endpoint, Method: strings.ToLower(cl.method), Path: cl.to.template, Status: StatusNoAnswer,
	}
	if cl.body != nil {
		defer cl.body.release()
	}
	ans, failure := c.attempts(ctx, cl, &called)
	if failure == nil {
		called.Status = ans.status
		failure = use(ans)
		c.free(ans)
	}
	if ans != nil {
		retried = ans.retried
	}
	if failure != nil {
		called.Status, called.Class, called.Err = failure.Status, failure.Class, failure
		if called.Class == "" {
			called.Class = classOfStatus(failure.Status)
		}
	}
	called.Took = time.Since(start)
	c.opts.Bus.Emit(ctx, called)
	return retried || len(called.Statuses) > 0, failure
}

func (c *Client) attempts(ctx context.Context, cl *call, called *event.Called) (*answer, *Error) {
	id := requestID()
	for n := 1; ; n++ {
		called.Attempts = n
		ans, failure := c.attempt(ctx, cl, id)
		if failure != nil {
			return nil, failure
		}
		called.Skew, called.Dated = ans.skew, ans.dated
		if !retriable(ans.status) {
			return ans, nil
		}
		ans.retried = true
		if n == maxAttempts {
			return ans, nil
		}
		wait, cut := retryWait(ans.header, time.Now(), n)
		called.Statuses = append(called.Statuses, ans.status)
		c.log.DebugContext(ctx, "coordinator asks to try again", "method", cl.method, "url", cl.to.shown,
			"status", ans.status, "wait", wait, "attempt", n)
		if cut {
			c.opts.Bus.Emit(ctx, event.Degraded{What: "rate_limit_wait", Err: fmt.Errorf(
				"%s %s: %s asks for a wait of more than %s; trying again after that", cl.method, cl.to.shown, statusLine(ans.status), MaxWait)})
		}
		c.free(ans)
		paused := time.Now()
		err := pause.For(ctx, wait)
		called.Waited += time.Since(paused)
		if err != nil {
			return nil, c.failure(ctx, cl, fmt.Errorf("while waiting after %s: %w", statusLine(ans.status), ctx.Err()))
		}
	}
}

// flight is one attempt whose answer is not done with.
type flight struct {
	resp   *http.Response
	state  *state
	timer  *time.Timer
	cancel context.CancelCauseFunc
	stop   func() bool // ends the link to the caller's context
	slow   atomic.Bool
}

func (f *flight) expire() {
	f.slow.Store(true)
	f.cancel(errSlow)
}

func (f *flight) end() {
	if f.resp != nil {
		_ = f.resp.Body.Close() // everything of interest was read
	}
	f.timer.Stop()
	f.stop()
	f.cancel(nil)
}

// cause puts the reason of the end in place of what the HTTP client says.
func (f *flight) cause(ctx context.Context, err error) error {
	if f.slow.Load() {
		return errSlow
	}
	if e := ctx.Err(); e != nil {
		return e
	}
	return err
}

// send makes one attempt up to the answer's header.
func (c *Client) send(ctx context.Context, cl *call, id string) (*flight, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, p := range c.link.refresh() {
		c.opts.Bus.Emit(ctx, event.Degraded{What: "tls_files", Err: p})
	}
	// The request has a context of its own: it ends with ctx, with its bound,
	// and, for a job that was handed out, with neither of them too early.
	own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	f := &flight{cancel: cancel, state: c.link.current.Load()}
	f.stop = context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	f.timer = time.AfterFunc(cl.bound, f.expire)
	if cl.headerBound > 0 {
		var late *time.Timer
		var mu sync.Mutex
		own = httptrace.WithClientTrace(own, &httptrace.ClientTrace{
			WroteRequest: func(httptrace.WroteRequestInfo) {
				mu.Lock()
				defer mu.Unlock()
				if late == nil {
					late = time.AfterFunc(cl.headerBound, f.expire)
				} else {
					late.Reset(cl.headerBound)
				}
			},
			GotFirstResponseByte: func() {
				mu.Lock()
				defer mu.Unlock()
				if late != nil {
					late.Stop()
				}
			},
		})
		stop := f.stop
		f.stop = func() bool {
			mu.Lock()
			defer mu.Unlock()
			if late != nil {
				late.Stop()
			}
			return stop()
		}
	}
	req, err := c.request(own, cl, id)
	if err == nil {
		f.resp, err = c.http.Do(req) //nolint:bodyclose // flight.end closes it.
	}
	if err != nil {
		err = f.cause(ctx, err)
		f.resp = nil // of a refused redirect: the client has closed its body
		f.end()
		return nil, err
	}
	return f, nil
}

func (c *Client) request(ctx context.Context, cl *call, id string) (*http.Request, error) {
	address := cl.to.url
	if cl.query != "" {
		address += "?" + cl.query
	}
	var body io.ReadCloser
	if cl.body != nil {
		var err error
		if body, err = cl.body.open(); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, cl.method, address, nil)
	if err != nil {
		return nil, err
	}
	if cl.body != nil {
		req.Body, req.GetBody, req.ContentLength = body, cl.body.open, cl.body.size()
	}
	h := req.Header
	h.Set("User-Agent", c.userAgent)
	h.Set(headerRequestID, id)
	if cl.contentType != "" {
		h.Set("Content-Type", cl.contentType)
	}
	if cl.accept {
		h.Set("Accept", "application/json")
	}
	if cl.tokenHeader != "" {
		h.Set(cl.tokenHeader, cl.token.Reveal())
	}
	if cl.content != "" {
		h.Set("Content-Range", cl.content)
	}
	if cl.replayable {
		// Not sent: it tells net/http that a request which met a connection
		// that the server had just closed may go out on another one.
		h["Idempotency-Key"] = []string{}
	}
	return req, nil
}

// attempt makes one attempt and reads what is wanted of the answer.
func (c *Client) attempt(ctx context.Context, cl *call, id string) (*answer, *Error) {
	f, err := c.send(ctx, cl, id)
	if err != nil {
		return nil, c.failure(ctx, cl, err)
	}
	resp := f.resp
	ans := &answer{status: resp.StatusCode, header: resp.Header, conn: resp.TLS, state: f.state, id: id}
	ans.skew, ans.dated = skewOf(resp.Header, time.Now())
	if v := resp.Header.Get(headerRequestID); correlation(v) {
		ans.id = v
	}
	wanted := cl.wants != 0 && ans.status == cl.wants
	if wanted && cl.stream {
		ans.flight = f
		return ans, nil
	}
	defer f.end()
	switch {
	case wanted:
		if cl.detach {
			f.stop()
		}
		f.timer.Reset(boundBody)
		ans.body = c.buffer()
		n, err := ans.body.ReadFrom(io.LimitReader(resp.Body, cl.keep+1))
		if ans.huge = n > cl.keep; ans.huge {
			ans.body.Truncate(int(cl.keep))
		}
		if err != nil {
			ans.err = f.cause(ctx, err)
		}
	case ans.status >= 400:
		f.timer.Reset(boundRest)
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // any part will do
		ans.text = c.clean(errorText(resp.Header, body), cl.token)
	default:
		f.timer.Reset(boundRest)
		_, _ = io.CopyN(io.Discard, resp.Body, maxErrorBody) // only to use the connection again
	}
	return ans, nil
}

func (c *Client) buffer() *bytes.Buffer {
	b, ok := c.buffers.Get().(*bytes.Buffer)
	if !ok {
		return new(bytes.Buffer)
	}
	b.Reset()
	return b
}

// maxPooled keeps a huge answer from staying in memory.
const maxPooled = 1 << 20

func (c *Client) free(a *answer) {
	if a.body != nil && a.body.Cap() <= maxPooled {
		c.buffers.Put(a.body)
	}
	a.body = nil
}

// failure makes an Error of what the HTTP client returned.
func (c *Client) failure(ctx context.Context, cl *call, err error) *Error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // its text repeats method and URL
	}
	e := &Error{Method: cl.method, URL: cl.to.shown, Status: StatusNoAnswer, Err: err}
	var re *redirectError
	switch {
	case errors.As(err, &re):
		e.Status, e.Text = re.status, re.text
		return e
	case cl.body != nil && cl.body.failure() != nil:
		e.Class, e.Err = event.ErrClient, cl.body.failure()
		e.Text = c.clean(e.Err.Error(), cl.token)
		return e
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		e.Class = event.ErrCanceled
		if errors.Is(err, context.DeadlineExceeded) {
			e.Class = event.ErrTimeout
		}
	default:
		e.Class = classOf(err)
	}
	text := err.Error() + remedy(err)
	if e.Class == event.ErrTLS {
		if s := c.link.current.Load(); s != nil && s.trouble != "" {
			text += " (" + s.trouble + ")"
		}
	}
	e.Text = c.clean(text, cl.token)
	return e
}

// refused makes an Error of an answer whose status is not what was hoped for.
func (c *Client) refused(cl *call, ans *answer) *Error {
	e := &Error{Method: cl.method, URL: cl.to.shown, Status: ans.status, Text: statusLine(ans.status)}
	if ans.text != "" && ans.text != e.Text {
		e.Text += " (" + ans.text + ")"
	}
	if ans.status/100 == 2 || ans.status/100 == 3 {
		e.Text += ": not an answer to this request"
	}
	return e
}

// undecodable makes an Error of an answer that has the right status and the
// wrong content.
func (c *Client) undecodable(cl *call, ans *answer, err error, secrets ...job.Secret) *Error {
	e := &Error{Method: cl.method, URL: cl.to.shown, Status: StatusNoAnswer, Class: event.ErrDecode, Err: err}
	if ans.err != nil {
		e.Class = classOf(ans.err)
		if errors.Is(ans.err, context.Canceled) {
			e.Class = event.ErrCanceled
		}
	}
	e.Text = statusLine(ans.status) + ": " + c.clean(err.Error(), append(secrets, cl.token)...)
	return e
}

// complete tells why an answer's body cannot be decoded at all.
func (a *answer) complete(limit int64) error {
	switch {
	case a.err != nil:
		return fmt.Errorf("the answer broke off after %d bytes: %w", a.body.Len(), a.err)
	case a.huge:
		return fmt.Errorf("the answer is larger than %d bytes", limit)
	case !isJSON(a.header):
		return fmt.Errorf("the answer is no JSON but %q; is there a proxy or a login page in front of the coordinator?",
			oneLine(a.header.Get("Content-Type"), 80))
	}
	return nil
}

// requestID returns a random UUID (version 4) without dashes.
func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return hex.EncodeToString(b[:])
}

// correlation accepts a request id that can go into log lines and headers.
func correlation(id string) bool {
	if id == "" || len(id) > 128 {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-', c == '_', c == '.', c == ':':
		default:
			return false
		}
	}
	return true
}
