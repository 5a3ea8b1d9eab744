package docker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"github.com/glassrunner/glassrunner/internal/executor"
)

// settle is how long output may take to arrive after what printed it ended.
const settle = 5 * time.Second

// sink passes output on until its writer fails, and takes all of it even then:
// a container that nobody listens to would stop.
type sink struct {
	w io.Writer // nil: nobody listens

	mu     sync.Mutex
	err    error
	bytes  int64
	closed bool
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes += int64(len(p))
	if s.w != nil && s.err == nil && !s.closed {
		_, s.err = s.w.Write(p)
	}
	return len(p), nil
}

// close lets nothing pass any more.
func (s *sink) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

func (s *sink) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// exchange is a connection to the standard streams of a process.
type exchange struct {
	conn     client.HijackedResponse
	out, err *sink
	copied   chan error // of the output, once
	fed      chan error // of the script, once
}

// exchange begins to feed a script to a process and to pass on its output.
func newExchange(conn client.HijackedResponse, c executor.Command, script []byte) *exchange {
	x := &exchange{conn: conn, out: &sink{w: c.Stdout}, err: &sink{w: c.Stderr}, copied: make(chan error, 1), fed: make(chan error, 1)}
	go func() {
		_, err := io.Copy(conn.Conn, bytes.NewReader(script))
		x.fed <- errors.Join(err, conn.CloseWrite())
	}()
	go func() {
		_, err := stdcopy.StdCopy(x.out, x.err, conn.Reader)
		x.copied <- err
	}()
	return x
}

// settled waits for the rest of the output, not for long.
func (x *exchange) settled(ctx context.Context) error {
	t := time.NewTimer(settle)
	defer t.Stop()
	select {
	case err := <-x.copied:
		x.copied <- err
		return err
	case <-t.C:
	case <-ctx.Done():
	}
	return nil
}

// end closes the connection and waits for everything that uses it.
func (x *exchange) end() {
	x.out.close()
	x.err.close()
	x.conn.Close()
	<-x.copied //nolint:errcheck // told where it matters
	<-x.fed    //nolint:errcheck // as above
}

// failed is the error of who listens to the output.
func (x *exchange) failed() error { return errors.Join(x.out.failed(), x.err.failed()) }

// attach connects to the standard streams of a container. The client does not
// tell one that is gone from other refusals.
func (e *engine) attach(ctx context.Context, id string, stdin bool) (client.HijackedResponse, error) {
	conn, err := e.ContainerAttach(ctx, id, client.ContainerAttachOptions{Stream: true, Stdin: stdin, Stdout: true, Stderr: true})
	if err != nil {
		if _, ierr := e.ContainerInspect(ctx, id, client.ContainerInspectOptions{}); ierr != nil {
			err = ierr
		}
	}
	return conn.HijackedResponse, err
}

// merged makes a shell print both streams to one, when both go to one writer:
// the engine does not keep the order between two.
func merged(c executor.Command, shell string) []byte {
	if shell == "pwsh" || shell == "powershell" || !executor.SameWriter(c.Stdout, c.Stderr) {
		return c.Script
	}
	return append([]byte("exec 2>&1\n"), c.Script...)
}

// cut reports whether a connection ended in the middle.
func cut(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed)
}
