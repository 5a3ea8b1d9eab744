// Package remote runs commands on other machines over SSH. It knows neither
// jobs nor where the machines come from: the ssh executor and fleets share it.
//
// A host key is checked against a known_hosts file unless a Login says that
// any will do. Every connection sends signs of life, and one that gets no
// answer to them is closed, so that nothing waits for a machine that is gone.
package remote

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/glassrunner/glassrunner/internal/job"
)

// What a Login gets that leaves these values out.
const (
	DefaultTimeout   = 30 * time.Second
	DefaultKeepalive = 30 * time.Second
)

// missed is how many signs of life in a row may stay without an answer.
const missed = 3

// Login says how a machine is entered.
type Login struct {
	Address  string // host:port
	User     string
	Password job.Secret // "": none
	Key      job.Secret // private key, PEM or OpenSSH format; "": none
	// KnownHosts is a file in the format of sshd(8); what it does not hold is
	// refused. AnyHostKey does without.
	KnownHosts string
	AnyHostKey bool
	Timeout    time.Duration // of connecting, the handshake included; 0: DefaultTimeout
	Keepalive  time.Duration // between signs of life; 0: DefaultKeepalive
}

// A HostKeyError says that a machine is not known to be the one it should be.
// Trying again is of no use.
type HostKeyError struct {
	Address string
	Err     error
}

// Error says which machine, and what an operator can do.
func (e *HostKeyError) Error() string { return fmt.Sprintf("host key of %s: %v", e.Address, e.Err) }

// Unwrap returns the error inside.
func (e *HostKeyError) Unwrap() error { return e.Err }

// ErrLost says that a connection ended before the command did.
var ErrLost = errors.New("the SSH connection was lost")

// A Conn is a connection to one machine. Its methods may be called at the same
// time.
type Conn struct {
	client *ssh.Client
	dead   chan struct{} // closed when the connection is
	wg     sync.WaitGroup
}

// Dial enters a machine.
func Dial(ctx context.Context, l Login) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(l.Timeout, DefaultTimeout))
	defer cancel()
	conf, err := l.config()
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	tcp, err := d.DialContext(ctx, "tcp", l.Address)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", l.Address, err)
	}
	// The handshake knows no context.
	stop := context.AfterFunc(ctx, func() { _ = tcp.Close() })
	conn, chans, reqs, err := ssh.NewClientConn(tcp, l.Address, conf)
	if !stop() && err == nil {
		_ = conn.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = tcp.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if key, ok := errors.AsType[*HostKeyError](err); ok {
			return nil, key
		}
		return nil, fmt.Errorf("logging in to %s as %s: %w", l.Address, l.User, err)
	}
	c := &Conn{client: ssh.NewClient(conn, chans, reqs), dead: make(chan struct{})}
	c.wg.Go(func() {
		defer close(c.dead)
		_ = c.client.Wait() // why it ended, what is in flight tells
	})
	c.wg.Go(func() { c.live(cmp.Or(l.Keepalive, DefaultKeepalive)) })
	return c, nil
}

func (l Login) config() (*ssh.ClientConfig, error) {
	conf := &ssh.ClientConfig{User: l.User}
	if l.Password != "" {
		secret := l.Password.Reveal()
		conf.Auth = append(conf.Auth, ssh.Password(secret), ssh.KeyboardInteractive(
			func(_, _ string, questions []string, _ []bool) ([]string, error) {
				answers := make([]string, len(questions))
				for i := range answers {
					answers[i] = secret
				}
				return answers, nil
			}))
	}
	if l.Key != "" {
		key, err := ssh.ParsePrivateKey([]byte(l.Key.Reveal()))
		if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
			return nil, errors.New("the private key has a passphrase: use one without")
		}
		if err != nil {
			return nil, fmt.Errorf("private key: %w", err)
		}
		conf.Auth = append(conf.Auth, ssh.PublicKeys(key))
	}
	return conf, l.hostKeys(conf)
}

// live sends signs of life and closes the connection when nobody answers.
func (c *Conn) live(every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-c.dead:
			return
		case <-t.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), missed*every)
		err := c.Ping(ctx)
		cancel()
		if err != nil {
			_ = c.client.Close()
			return
		}
	}
}

// Ping waits for the machine's answer. All that the machine sent before it has
// arrived then.
func (c *Conn) Ping(ctx context.Context) error {
	done := make(chan error, 1)
	c.wg.Go(func() { // ends with the connection at the latest
		_, _, err := c.client.SendRequest("keepalive@openssh.com", true, nil)
		done <- err
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Dead is closed when the connection is no more.
func (c *Conn) Dead() <-chan struct{} { return c.dead }

// Close ends the connection and what waits for it. Commands that run on the
// machine may go on.
func (c *Conn) Close() error {
	err := c.client.Close()
	c.wg.Wait()
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		return nil // it had ended by itself
	}
	return err
}

// Output runs a command and returns what it prints on standard output. An
// error holds what it printed on the other stream.
func (c *Conn) Output(ctx context.Context, line string, stdin []byte) ([]byte, error) {
	var out, errs bytes.Buffer
	s, err := c.Start(ctx, line, stdin, &out, &errs)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	select {
	case <-s.Exited():
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case <-s.drained:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	code, err := s.Status()
	if err == nil && code != 0 {
		err = fmt.Errorf("exit status %d: %.200s", code, bytes.TrimSpace(errs.Bytes()))
	}
	return out.Bytes(), err
}
