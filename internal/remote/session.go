package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// settle is how long output may be silent, after a command ended, until
	// what still holds it is taken for a daemon; settleMax bounds the wait.
	settle    = 250 * time.Millisecond
	settleMax = 5 * time.Second
)

// A Session is one command on a machine.
type Session struct {
	c       *Conn
	ch      ssh.Channel
	exited  chan struct{} // the command has ended, or the channel
	drained chan struct{} // both streams have ended
	code    int
	err     error // instead of code

	reads   atomic.Int64 // grows with every read
	writing atomic.Int64 // writers that are busy

	mu       sync.Mutex // one write at a time: the writers may be one
	detached bool
	werr     error
}

// Start starts a command line, which the login shell of the user reads. A nil
// writer discards.
func (c *Conn) Start(ctx context.Context, line string, stdin []byte, stdout, stderr io.Writer) (*Session, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	ch, reqs, err := c.client.OpenChannel("session", nil)
	if err != nil {
		return nil, c.lost(fmt.Errorf("opening a session: %w", err))
	}
	ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{line}))
	if err != nil || !ok {
		_ = ch.Close()
		go ssh.DiscardRequests(reqs) // ends with the channel
		if err == nil {
			err = errors.New("the server refuses commands")
		}
		return nil, c.lost(fmt.Errorf("starting a command: %w", err))
	}
	s := &Session{c: c, ch: ch, exited: make(chan struct{}), drained: make(chan struct{})}
	c.wg.Go(func() { s.listen(reqs) })
	c.wg.Go(func() {
		_, _ = ch.Write(stdin) // a command need not read all
		_ = ch.CloseWrite()
	})
	var streams sync.WaitGroup
	streams.Go(func() { s.copy(ch, stdout) })
	streams.Go(func() { s.copy(ch.Stderr(), stderr) })
	c.wg.Go(func() {
		streams.Wait()
		close(s.drained)
	})
	return s, nil
}

// lost names the end of the connection as the reason of an error.
func (c *Conn) lost(err error) error {
	if errors.Is(err, io.EOF) {
		return ErrLost
	}
	select {
	case <-c.dead:
		return errors.Join(ErrLost, err)
	default:
		return err
	}
}

// listen waits for word of how the command ended.
func (s *Session) listen(reqs <-chan *ssh.Request) {
	told := false
	for r := range reqs {
		var status struct{ Code uint32 }
		var signal struct {
			Name    string
			Core    bool
			Message string
			Lang    string
		}
		switch {
		case told:
		case r.Type == "exit-status" && ssh.Unmarshal(r.Payload, &status) == nil:
			s.code, told = int(status.Code), true
		case r.Type == "exit-signal" && ssh.Unmarshal(r.Payload, &signal) == nil:
			s.code, told = 128+signalNumber(signal.Name), true
		}
		if told {
			select {
			case <-s.exited:
			default:
				close(s.exited)
			}
		}
		if r.WantReply {
			_ = r.Reply(false, nil) // the channel's end is told below
		}
	}
	if !told {
		s.err = ErrLost
		close(s.exited)
	}
}

// signalNumber is 9 for what it does not know: most likely an OOM kill.
func signalNumber(name string) int {
	switch name {
	case "HUP":
		return 1
	case "INT":
		return 2
	case "QUIT":
		return 3
	case "ILL":
		return 4
	case "ABRT":
		return 6
	case "FPE":
		return 8
	case "USR1":
		return 10
	case "SEGV":
		return 11
	case "USR2":
		return 12
	case "PIPE":
		return 13
	case "ALRM":
		return 14
	case "TERM":
		return 15
	}
	return 9
}

// copy copies a stream to its end, whatever its writer makes of it.
func (s *Session) copy(r io.Reader, w io.Writer) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			s.writing.Add(1)
			s.write(w, buf[:n])
			s.reads.Add(1)
			s.writing.Add(-1)
		}
		if err != nil {
			return
		}
	}
}

func (s *Session) write(w io.Writer, p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w == nil || s.detached || s.werr != nil {
		return
	}
	_, s.werr = w.Write(p)
}

// Exited is closed when the command has ended, or its connection.
func (s *Session) Exited() <-chan struct{} { return s.exited }

// Status returns the exit code of a command that has ended; 128 and the number
// of the signal for one that was killed.
func (s *Session) Status() (int, error) { return s.code, s.err }

// Settle waits, once the command has ended, for its output. Output that a
// daemon holds open is not waited for: Settle is false then, and what comes
// later is discarded. The error is that of a writer.
func (s *Session) Settle(ctx context.Context) (bool, error) {
	ended := s.settled(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detached = true
	return ended, s.werr
}

func (s *Session) settled(ctx context.Context) bool {
	most := time.NewTimer(settleMax)
	defer most.Stop()
	quiet := time.NewTicker(settle)
	defer quiet.Stop()
	last, asked := s.reads.Load(), false
	for {
		select {
		case <-s.drained:
			return true
		case <-ctx.Done():
			return false
		case <-most.C:
			if s.writing.Load() == 0 {
				return false
			}
			most.Reset(settleMax) // whoever takes the output is slow
		case <-quiet.C:
			now := s.reads.Load()
			switch {
			case now != last || s.writing.Load() > 0:
				last, asked = now, false
			case asked:
				return false
			default: // the network may be what is silent
				ask, cancel := context.WithTimeout(ctx, settleMax)
				err := s.c.Ping(ask)
				cancel()
				if err != nil {
					return false
				}
				asked = true
			}
		}
	}
}

// Kill asks the server to kill the command. Not every server does.
func (s *Session) Kill() {
	_, _ = s.ch.SendRequest("signal", false, ssh.Marshal(struct{ Name string }{string(ssh.SIGKILL)}))
}

// Close ends the session: nothing more is read from the command.
func (s *Session) Close() { _ = s.ch.Close() }
