//go:build linux

package ssh_test

import (
	"bytes"
	"cmp"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/executor/executortest"
	"github.com/glassrunner/glassrunner/internal/executor/ssh"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/remote/remotetest"
)

func driver(t testing.TB, s *remotetest.Server, o ssh.Options) *ssh.Driver {
	t.Helper()
	o.Machines, o.LoginShell, o.Pause = ssh.One(s.Login()), true, 10*time.Millisecond
	o.Owner = cmp.Or(o.Owner, "0123456789ab")
	d, err := ssh.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func request() executor.Request {
	r := executor.Request{Spec: &job.Spec{}, Shell: "bash"}
	r.Arrange = func(l executor.Layout) (executor.Arrangement, error) {
		return executor.Arrangement{
			Dirs:  executor.Dirs{Builds: l.BuildsDir, Project: l.BuildsDir + "/p", Temp: l.BuildsDir + "/p.tmp", Cache: l.CacheDir},
			Shell: "bash",
		}, nil
	}
	return r
}

func TestConformance(t *testing.T) {
	s := remotetest.Start(t)
	executortest.Run(t, func(t *testing.T) executortest.Harness {
		return executortest.Harness{
			Driver:    driver(t, s, ssh.Options{}),
			Request:   func(*testing.T) executor.Request { return request() },
			Script:    executortest.Wrap,
			Alive:     executortest.Alive,
			Successor: func(t *testing.T) executor.Driver { return driver(t, s, ssh.Options{}) },
			Stranger: func(t *testing.T) executor.Driver {
				return driver(t, s, ssh.Options{Owner: "ba9876543210"})
			},
			Unmeasured: true,
		}
	})
}

// TestPlace looks where jobs live: below the directory of a login, unless the
// configuration names another.
func TestPlace(t *testing.T) {
	s := remotetest.Start(t)
	for _, tt := range []struct {
		o             ssh.Options
		builds, cache string
	}{
		{ssh.Options{}, s.Home + "/builds", s.Home + "/cache"},
		{ssh.Options{BuildsDir: "ci/b", CacheDir: "/var/cache/ci/"}, s.Home + "/ci/b", "/var/cache/ci"},
	} {
		var got executor.Layout
		r := request()
		inner := r.Arrange
		r.Arrange = func(l executor.Layout) (executor.Arrangement, error) { got = l; return inner(l) }
		env, err := driver(t, s, tt.o).Open(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if got.BuildsDir != tt.builds || got.CacheDir != tt.cache {
			t.Errorf("layout %+v, want %s and %s", got, tt.builds, tt.cache)
		}
		if err := env.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestShells(t *testing.T) {
	for name, ok := range map[string]bool{"": true, "bash": true, "sh": true, "pwsh": false, "cmd": false} {
		_, err := ssh.New(ssh.Options{Shell: name})
		if ok != (err == nil) {
			t.Errorf("shell %q: %v", name, err)
		}
	}
}

// TestLostConnection cuts the network while a script runs. The next command
// gets a new connection, and Close ends what the first left.
func TestLostConnection(t *testing.T) {
	s := remotetest.Start(t)
	env, err := driver(t, s, ssh.Options{}).Open(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	printed := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		w := &once{c: printed}
		done <- env.Run(t.Context(), executor.Command{Script: executortest.Wrap(request(), "trap '' HUP PIPE; (setsid sleep 765432123 &) >/dev/null 2>&1; echo begun; sleep 765432123"), Stdout: w, Stderr: w})
	}()
	<-printed
	s.Sever()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "connection was lost") {
		t.Errorf("got %v, want a lost connection", err)
	}
	var out bytes.Buffer
	if err := env.Run(t.Context(), executor.Command{Script: executortest.Wrap(request(), "echo again"), Stdout: &out, Stderr: &out}); err != nil || out.String() != "again\n" {
		t.Errorf("afterwards: %v, %q", err, out.String())
	}
	if executortest.Alive(t, "765432123") == 0 {
		t.Error("nothing was left: the test shows nothing")
	}
	if err := env.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := executortest.Alive(t, "765432123"); n > 0 {
		t.Errorf("%d processes outlive Close", n)
	}
}

type once struct{ c chan struct{} }

func (o *once) Write(p []byte) (int, error) {
	if o.c != nil {
		close(o.c)
		o.c = nil
	}
	return len(p), nil
}

// TestTries counts attempts to connect in the job log.
func TestTries(t *testing.T) {
	s := remotetest.Start(t)
	s.Stop()
	var log bytes.Buffer
	r := request()
	r.Log = &log
	_, err := driver(t, s, ssh.Options{}).Open(t.Context(), r)
	if err == nil || !strings.Contains(err.Error(), "connecting to "+s.Addr) {
		t.Errorf("got %v, want that nobody is there", err)
	}
	if n := strings.Count(log.String(), "trying again in 10ms"); n != 2 {
		t.Errorf("%d further attempts, want 2: %s", n, log.String())
	}
}

// TestHostKey puts another key where the server's should be.
func TestHostKey(t *testing.T) {
	s := remotetest.Start(t)
	good, err := os.ReadFile(s.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(s.KeyFile + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ := strings.Cut(string(good), " ")
	for _, tt := range []struct{ name, file, want string }{
		{"unknown", "", "has no key of this host"},
		{"another", host + " " + string(other), "has another key"},
		{"missing", "-", "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.file == "-" {
				s.KnownHosts += ".none"
			} else if err := os.WriteFile(s.KnownHosts, []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := driver(t, s, ssh.Options{}).Open(t.Context(), request())
			var known *executor.Error
			if !errors.As(err, &known) || known.Reason != job.ConfigurationError || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a configuration error that says %q", err, tt.want)
			}
		})
	}
}
