package docker_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
)

// cable is a connection to the engine that can be pulled out.
type cable struct {
	path, to string

	mu    sync.Mutex
	l     net.Listener
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

func newCable(t *testing.T) *cable {
	t.Helper()
	c := &cable{path: filepath.Join(t.TempDir(), "s"), to: strings.TrimPrefix(host(t), "unix://"), conns: map[net.Conn]bool{}}
	c.plug(t)
	t.Cleanup(func() {
		c.pull()
		c.wg.Wait()
	})
	return c
}

func (c *cable) plug(t *testing.T) {
	t.Helper()
	l, err := net.Listen("unix", c.path)
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	c.l = l
	c.mu.Unlock()
	c.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { c.join(conn) })
		}
	})
}

func (c *cable) join(near net.Conn) {
	far, err := net.Dial("unix", c.to)
	if err != nil {
		_ = near.Close()
		return
	}
	c.mu.Lock()
	c.conns[near], c.conns[far] = true, true
	c.mu.Unlock()
	var wg sync.WaitGroup
	one := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		if w, ok := to.(*net.UnixConn); ok {
			_ = w.CloseWrite()
		}
	}
	wg.Go(func() { one(far, near) })
	wg.Go(func() { one(near, far) })
	wg.Wait()
	_, _ = near.Close(), far.Close()
}

func (c *cable) pull() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.l.Close()
	for conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = map[net.Conn]bool{}
}

func TestEngineGoesAway(t *testing.T) {
	c := engine(t)
	cable := newCable(t)
	o, r := options(t), request(t)
	o.Config.Host = "unix://" + cable.path
	d := newDriver(t, o)
	log := &buffer{}
	r.Log = log
	env, err := d.Open(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeJob(t, c, r.Spec.ID) }) // if the test ends early
	for _, in := range []executor.Target{executor.Build, executor.Helper} {
		out, done := &buffer{}, make(chan error, 1)
		start := func() {
			done <- env.Run(t.Context(), executor.Command{In: in, Script: wrap(r, "echo started; sleep 1000"), Stdout: out, Stderr: out})
		}
		go start()
		for end := time.Now().Add(30 * time.Second); out.String() == ""; {
			if time.Now().After(end) {
				t.Fatal("the script does not start")
			}
			select {
			case err := <-done:
				// The helper's connection broke with the build's, and that
				// may be noticed with the next script only.
				if in != executor.Helper || err == nil || !strings.Contains(err.Error(), "its connection broke") {
					t.Fatalf("the script did not start: %v", err)
				}
				go start()
			case <-time.After(5 * time.Millisecond):
			}
		}
		cable.pull()
		select {
		case err = <-done:
		case <-time.After(90 * time.Second):
			t.Fatal("Run does not end")
		}
		var known *executor.Error
		if err == nil || errors.As(err, &known) || !strings.Contains(err.Error(), "does not answer") {
			t.Errorf("got %v, want trouble of the infrastructure", err)
		}
		if in == executor.Build {
			cable.plug(t)
		}
	}
	if !strings.Contains(log.String(), "systemctl status docker") {
		t.Errorf("the log has no remedy:\n%s", log)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := env.Close(ctx); err == nil {
		t.Error("Close had nothing to complain of")
	}
	if _, err := d.Open(t.Context(), request(t)); err == nil || !strings.Contains(err.Error(), cable.path) {
		t.Errorf("Open without an engine: %v", err)
	}
	if left := leftovers(t, c, r.Spec.ID); len(left) == 0 {
		t.Fatal("nothing is left behind, so nothing is tested")
	}
	// The next job finds the engine and tidies up.
	cable.plug(t)
	env, err = d.Open(t.Context(), request(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := env.Close(ctx); err != nil {
		t.Error(err)
	}
	if left := leftovers(t, c, r.Spec.ID); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
