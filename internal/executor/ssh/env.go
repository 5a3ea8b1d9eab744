package ssh

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/pause"
	"github.com/glassrunner/glassrunner/internal/remote"
)

const (
	// endTime bounds the end of a job's processes beyond the grace they have.
	endTime = 30 * time.Second
	// dormant is how long a killed shell may take to be gone.
	dormant = 10 * time.Second
)

// errVanished says that the machine went while a job ran on it.
var errVanished = errors.New("instance unexpectedly removed")

// env is one job's place. It implements executor.Env.
type env struct {
	d       *Driver
	r       executor.Request
	machine Machine
	mark    string
	host    string // as it calls itself
	shell   string // command line
	conn    *remote.Conn
}

// Place says where the job runs.
func (e *env) Place() executor.Place { return executor.Place{Hostname: cmp.Or(e.host, e.machine.Name)} }

// connect returns a connection that lives. It tries several times.
func (e *env) connect(ctx context.Context) (*remote.Conn, error) {
	if e.conn != nil {
		return e.conn, nil
	}
	for try := 1; ; try++ {
		conn, err := remote.Dial(ctx, e.machine.Login)
		if err == nil {
			e.conn = conn
			return conn, nil
		}
		if key, ok := errors.AsType[*remote.HostKeyError](err); ok {
			return nil, &executor.Error{Reason: job.ConfigurationError, Err: key}
		}
		if try >= e.d.o.Tries {
			return nil, err
		}
		if err := e.tell(fmt.Sprintf("%v: trying again in %s", err, e.d.o.Pause)); err != nil {
			return nil, err
		}
		if err := pause.For(ctx, e.d.o.Pause); err != nil {
			return nil, err
		}
	}
}

// on does something on a connection. One that turns out to be lost is made
// again, once: do has had no effect then.
func (e *env) on(ctx context.Context, do func(*remote.Conn) error) error {
	for again := false; ; again = true {
		conn, err := e.connect(ctx)
		if err != nil {
			return err
		}
		if err = do(conn); again || !errors.Is(err, remote.ErrLost) {
			return err
		}
		_ = conn.Close() // it tells nothing new
		e.conn = nil
	}
}

// Run runs the script of c in a session of its own.
func (e *env) Run(ctx context.Context, c executor.Command) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(c.Script) == 0 {
		return nil
	}
	line := "exec " + e.shell
	if executor.SameWriter(c.Stdout, c.Stderr) { // two streams would lose their order on the way
		line += " 2>&1"
	}
	// Whatever shell reads this, sh reads what is in the quotes.
	line = fmt.Sprintf("exec sh -c 'export %s=%s; %s'", markName, e.mark, line)
	var s *remote.Session
	err := e.on(ctx, func(conn *remote.Conn) (err error) {
		s, err = conn.Start(ctx, line, c.Script, c.Stdout, c.Stderr)
		return err
	})
	if err != nil {
		return fmt.Errorf("starting the shell: %w", err)
	}
	select {
	case <-s.Exited():
	case <-ctx.Done():
		return e.stop(ctx, s, c.Grace)
	case <-e.machine.Lost: // nil, which blocks, when nobody watches
		s.Close()
		return errVanished
	}
	whole, werr := s.Settle(ctx)
	if whole {
		s.Close() // else it stays open, as what holds it may still write
	}
	code, err := s.Status()
	switch {
	case ctx.Err() != nil:
		return e.stop(ctx, s, c.Grace)
	case err != nil:
		return fmt.Errorf("on %s: %w", e.machine.Name, err)
	case werr != nil:
		return fmt.Errorf("job log: %w", werr)
	case code != 0:
		return &executor.ExitError{Code: code, Text: fmt.Sprintf("exit status %d", code)}
	}
	return nil
}

// stop ends everything of the job, politely and after grace for good, and
// returns the cause of ctx.
func (e *env) stop(ctx context.Context, s *remote.Session, grace time.Duration) error {
	cause := context.Cause(ctx)
	if grace <= 0 {
		grace = e.d.o.Grace
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace+endTime)
	defer cancel()
	err := e.end(limit, grace)
	s.Kill()
	gone := time.NewTimer(dormant)
	defer gone.Stop()
	select {
	case <-s.Exited():
	case <-gone.C:
		err = errors.Join(err, errors.New("failed to kill the shell, likely it is dormant"))
	}
	_, _ = s.Settle(limit) // what it printed last
	s.Close()
	return errors.Join(cause, err)
}

// end ends all processes of the job.
func (e *env) end(ctx context.Context, grace time.Duration) error {
	return e.on(ctx, func(conn *remote.Conn) error {
		_, err := end(ctx, conn, e.mark, grace)
		return err
	})
}

// Usage is not known.
func (e *env) Usage(context.Context) (job.Usage, error) { return job.Usage{}, nil }

// Close ends all that the job left and gives the machine back.
func (e *env) Close(ctx context.Context) error {
	if e.r.Stage != nil {
		e.r.Stage("cleanup")
	}
	var err error
	select {
	case <-e.machine.Lost: // with all that was on it
	default:
		err = e.end(ctx, 0)
	}
	return errors.Join(err, e.leave(ctx))
}

// leave closes the connection and gives the machine back.
func (e *env) leave(ctx context.Context) error {
	var err error
	if e.conn != nil {
		err = e.conn.Close()
		e.conn = nil
	}
	if e.machine.Release != nil {
		err = errors.Join(err, e.machine.Release(ctx))
	}
	return err
}
