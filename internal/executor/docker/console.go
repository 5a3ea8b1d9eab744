package docker

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"github.com/glassrunner/glassrunner/internal/executor"
)

// console is a connection to the first process of the helper's container,
// helperMain: it is told one script after the other and marks the end of each
// in both streams of its output.
type console struct {
	conn     client.HijackedResponse
	out, err stream
	closed   chan struct{} // nothing will come any more
}

// errHungUp says that the container, or the engine, closed the connection.
var errHungUp = errors.New("it ended, or its connection broke")

func newConsole(conn client.HijackedResponse) *console {
	c := &console{conn: conn, closed: make(chan struct{})}
	go func() {
		defer close(c.closed)
		// Why it ended is of no use: whoever waits asks the engine.
		_, _ = stdcopy.StdCopy(&c.out, &c.err, conn.Reader)
	}()
	return c
}

// lives says whether the connection is there.
func (c *console) lives() bool {
	select {
	case <-c.closed:
		return false
	default:
		return true
	}
}

// close gives the connection up and waits for who reads from it.
func (c *console) close() {
	c.conn.Close()
	<-c.closed
}

// expect lets output pass to out and err up to the mark. The exit code comes
// when both streams have it.
func (c *console) expect(mark string, out, err *sink) <-chan int {
	code := make(chan int, 1)
	var mu sync.Mutex
	seen := 0
	end := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		if seen++; seen == 2 {
			code <- n
		}
	}
	c.out.expect(mark, out, end)
	c.err.expect(mark, err, end)
	return code
}

// run has a script run and returns its exit code. After an error the container
// is in no known state.
func (c *console) run(ctx context.Context, cmd executor.Command, script []byte) (int, error) {
	out, errs := &sink{w: cmd.Stdout}, &sink{w: cmd.Stderr}
	defer out.close()
	defer errs.close()
	mark := rand.Text()
	done := c.expect(mark, out, errs)
	fed := make(chan error, 1)
	go func() {
		_, err := c.conn.Conn.Write(append(fmt.Appendf(nil, "%s %d\n", mark, len(script)), script...))
		fed <- err
	}()
	var code int
	select {
	case code = <-done:
		<-fed //nolint:errcheck // the script ran
	case <-c.closed:
		// The connection is closed: nothing is fed any more.
		c.conn.Close()
		return 0, errors.Join(errHungUp, <-fed)
	case <-ctx.Done():
		c.conn.Close()
		<-fed //nolint:errcheck // what ended ctx counts
		return 0, context.Cause(ctx)
	}
	if err := errors.Join(out.failed(), errs.failed()); err != nil {
		return 0, fmt.Errorf("job log: %w", err)
	}
	return code, nil
}

// stream passes on what comes between two marks. A mark is
// "\x1eTEXT CODE\x1e"; what comes while none is expected is nobody's.
type stream struct {
	mu   sync.Mutex
	mark []byte // with the byte before and the space behind; nil: none is expected
	to   io.Writer
	end  func(code int)
	held []byte // may be the beginning of the mark
}

// maxCode is more than the digits of any exit code.
const maxCode = 12

func (s *stream) expect(mark string, to io.Writer, end func(int)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mark, s.to, s.end, s.held = []byte("\x1e"+mark+" "), to, end, nil
}

// Write never fails: what cannot be passed on is the sink's matter.
func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mark == nil {
		return len(p), nil
	}
	b := p
	if len(s.held) > 0 {
		b = append(s.held, p...)
	}
	s.held = nil
	at := bytes.Index(b, s.mark)
	if at < 0 {
		at = len(b) - suffix(b, s.mark)
		s.pass(b[:at])
		s.held = bytes.Clone(b[at:])
		return len(p), nil
	}
	code, _, whole := bytes.Cut(b[at+len(s.mark):], []byte("\x1e"))
	if !whole && len(code) <= maxCode {
		s.pass(b[:at])
		s.held = bytes.Clone(b[at:])
		return len(p), nil
	}
	s.pass(b[:at])
	n, err := strconv.ParseInt(string(code), 10, 32)
	if err != nil {
		n = -1 // nobody but helperMain knows the mark
	}
	s.mark = nil
	s.end(int(n))
	return len(p), nil
}

func (s *stream) pass(p []byte) {
	if len(p) > 0 {
		_, _ = s.to.Write(p) // a sink takes all
	}
}

// suffix is how many bytes at the end of b are a beginning of mark.
func suffix(b, mark []byte) int {
	for n := min(len(b), len(mark)-1); n > 0; n-- {
		if bytes.HasPrefix(mark, b[len(b)-n:]) {
			return n
		}
	}
	return 0
}
