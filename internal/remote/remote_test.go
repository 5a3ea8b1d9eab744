package remote_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/remote"
	"github.com/glassrunner/glassrunner/internal/remote/remotetest"
)

func dial(t *testing.T, l remote.Login) *remote.Conn {
	t.Helper()
	c, err := remote.Dial(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

func TestOutput(t *testing.T) {
	c := dial(t, remotetest.Start(t).Login())
	out, err := c.Output(t.Context(), "cat; echo there", []byte("here\n"))
	if err != nil || string(out) != "here\nthere\n" {
		t.Errorf("got %q, %v", out, err)
	}
	_, err = c.Output(t.Context(), "echo why >&2; exit 3", nil)
	if err == nil || err.Error() != "exit status 3: why" {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Output(ctx, "exec sleep 100", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the end of the context", err)
	}
}

func TestStatus(t *testing.T) {
	c := dial(t, remotetest.Start(t).Login())
	for line, want := range map[string]int{"true": 0, "exit 255": 255, "kill -9 $$": 137, "kill -TERM $$": 143, "kill -USR1 $$": 138} {
		s, err := c.Start(t.Context(), line, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		<-s.Exited()
		if code, err := s.Status(); code != want || err != nil {
			t.Errorf("%s: %d, %v, want %d", line, code, err, want)
		}
		s.Close()
	}
}

// TestSlowWriter has a writer that takes longer than output may be silent.
func TestSlowWriter(t *testing.T) {
	c := dial(t, remotetest.Start(t).Login())
	var out slow
	s, err := c.Start(t.Context(), "seq 200000", nil, &out, nil)
	if err != nil {
		t.Fatal(err)
	}
	<-s.Exited()
	if whole, err := s.Settle(t.Context()); !whole || err != nil {
		t.Errorf("Settle: %v, %v, want all", whole, err)
	}
	if got := strings.Count(out.String(), "\n"); got != 200000 {
		t.Errorf("%d lines, want 200000", got)
	}
}

type slow struct {
	bytes.Buffer
	waited bool
}

func (s *slow) Write(p []byte) (int, error) {
	if !s.waited {
		s.waited = true
		t := time.NewTimer(time.Second)
		<-t.C
	}
	return s.Buffer.Write(p)
}

func TestDead(t *testing.T) {
	m := remotetest.Start(t)
	c := dial(t, m.Login())
	s, err := c.Start(t.Context(), "exec sleep 100", nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Sever()
	<-s.Exited()
	if _, err := s.Status(); !errors.Is(err, remote.ErrLost) {
		t.Errorf("status: %v, want a lost connection", err)
	}
	<-c.Dead()
	if _, err := c.Start(t.Context(), "true", nil, nil, nil); !errors.Is(err, remote.ErrLost) {
		t.Errorf("start: %v, want a lost connection", err)
	}
}

// server is a small SSH server with a password, for what sshd shows to none
// but its system's users.
type server struct {
	addr string
	key  ssh.Signer
	mute bool // answers no sign of life
	wg   sync.WaitGroup
}

func newServer(t *testing.T, conf *ssh.ServerConfig, mute bool) *server {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{mute: mute}
	if s.key, err = ssh.NewSignerFromKey(secret); err != nil {
		t.Fatal(err)
	}
	conf.AddHostKey(s.key)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { s.serve(c, conf) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.wg.Wait()
	})
	return s
}

func (s *server) serve(c net.Conn, conf *ssh.ServerConfig) {
	defer c.Close()
	conn, chans, reqs, err := ssh.NewServerConn(c, conf)
	if err != nil {
		return
	}
	s.wg.Go(func() {
		for r := range reqs {
			if !s.mute && r.WantReply {
				_ = r.Reply(true, nil)
			}
		}
	})
	for ch := range chans {
		_ = ch.Reject(ssh.Prohibited, "none")
	}
	_ = conn.Wait()
}

func (s *server) known(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "known_hosts")
	line := knownhosts.Line([]string{s.addr}, s.key.PublicKey()) + "\n"
	if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPasswords(t *testing.T) {
	want := errors.New("no")
	plain := &ssh.ServerConfig{PasswordCallback: func(_ ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
		if string(p) != "sesame" {
			return nil, want
		}
		return nil, nil
	}}
	asked := &ssh.ServerConfig{KeyboardInteractiveCallback: func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		answers, err := ask("", "", []string{"Password:"}, []bool{false})
		if err != nil || answers[0] != "sesame" {
			return nil, want
		}
		return nil, nil
	}}
	for name, conf := range map[string]*ssh.ServerConfig{"password": plain, "keyboard-interactive": asked} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, conf, false)
			l := remote.Login{Address: s.addr, User: "ci", Password: "sesame", KnownHosts: s.known(t)}
			if err := dial(t, l).Ping(t.Context()); err != nil {
				t.Error(err)
			}
			l.Password = "open"
			if c, err := remote.Dial(t.Context(), l); err == nil {
				_ = c.Close()
				t.Error("another password let us in")
			} else if strings.Contains(err.Error(), "open") {
				t.Errorf("the password is in the error: %v", err)
			}
		})
	}
}

// TestSilence has a machine that takes everything and answers nothing.
func TestSilence(t *testing.T) {
	s := newServer(t, &ssh.ServerConfig{NoClientAuth: true}, true)
	c := dial(t, remote.Login{Address: s.addr, User: "ci", AnyHostKey: true, Keepalive: 10 * time.Millisecond})
	<-c.Dead()
}

// TestHandshakeTimeout has a port where nobody speaks.
func TestHandshakeTimeout(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = remote.Dial(t.Context(), remote.Login{Address: l.Addr().String(), User: "ci", AnyHostKey: true, Timeout: 50 * time.Millisecond})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the end of the time", err)
	}
}

func TestKeys(t *testing.T) {
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKeyWithPassphrase(secret, "", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ key, want string }{
		{string(pem.EncodeToMemory(block)), "has a passphrase"},
		{"secret-rubbish", "private key"},
	} {
		_, err := remote.Dial(t.Context(), remote.Login{Address: "127.0.0.1:1", Key: job.Secret(tt.key), AnyHostKey: true})
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "rubbish") {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}
