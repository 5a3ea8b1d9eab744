package app_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/app"
	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// output keeps the process log.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// started is an app at work with its server.
type started struct {
	t      *testing.T
	server *fakegitlab.Server
	path   string
	app    *app.App
	log    *output
	ended  chan error
}

func server(t *testing.T, o fakegitlab.Options) *fakegitlab.Server {
	t.Helper()
	s := fakegitlab.New(o)
	if err := s.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// start runs an app with a configuration that has more for its runner entry.
func start(t *testing.T, s *fakegitlab.Server, token, more string, change ...func(*app.Options)) *started {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	dir := t.TempDir()
	st := &started{t: t, server: s, path: filepath.Join(dir, "config.toml"), log: new(output), ended: make(chan error, 1)}
	text := fmt.Sprintf("check_interval = 1\nlog_format = \"text\"\n[[runners]]\n  name = \"test\"\n  url = %q\n  token = %q\n  executor = \"shell\"\n  shell = \"sh\"\n  builds_dir = %q\n  cache_dir = %q\n%s",
		s.URL(), token, filepath.Join(dir, "builds"), filepath.Join(dir, "cache"), more)
	if err := os.WriteFile(st.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o := app.Options{ConfigPath: st.path, LogOutput: st.log, ListenAddress: "127.0.0.1:0", WatchInterval: 20 * time.Millisecond}
	for _, c := range change {
		c(&o)
	}
	a, err := app.New(o)
	if err != nil {
		t.Fatal(err)
	}
	st.app = a
	go func() { st.ended <- a.Run(context.WithoutCancel(t.Context())) }()
	t.Cleanup(func() {
		a.Abort("test")
		if err, ok := <-st.ended; ok && err != nil {
			t.Errorf("Run: %v\n%s", err, st.log)
		}
		if t.Failed() {
			t.Log(st.log)
		}
	})
	return st
}

func (st *started) wait(what string, ok func() bool) {
	st.t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			st.t.Fatalf("not in time: %s\n%s", what, st.log)
		}
		<-tick.C
	}
}

func (st *started) job(j fakegitlab.Job) fakegitlab.Snapshot {
	st.t.Helper()
	id, err := st.server.Enqueue(j)
	if err != nil {
		st.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(st.t.Context(), 20*time.Second)
	defer cancel()
	s, err := st.server.Wait(ctx, id)
	if err != nil {
		st.t.Fatalf("%v\n%s", err, st.log)
	}
	return s
}

func TestATokenIsReplacedBeforeItExpires(t *testing.T) {
	s := server(t, fakegitlab.Options{TokenTTL: time.Hour})
	old := s.AddRunner(fakegitlab.RunnerConfig{}).Token
	obtained, expires := time.Now().Add(-50*time.Minute), time.Now().Add(10*time.Minute)
	st := start(t, s, old, fmt.Sprintf("  token_obtained_at = %s\n  token_expires_at = %s\n", obtained.UTC().Format(time.RFC3339), expires.UTC().Format(time.RFC3339)))
	var fresh *config.Config
	st.wait("a new token in the file", func() bool {
		c, _, err := config.Load(st.path, config.Options{})
		fresh = c
		return err == nil && c.Runners[0].Token.Reveal() != old
	})
	if left := time.Until(fresh.Runners[0].TokenExpiresAt); left < 50*time.Minute {
		t.Errorf("the new token expires in %v", left)
	}
	if got := st.job(fakegitlab.Job{Script: []string{"echo hello"}}); got.Status != fakegitlab.Success {
		t.Errorf("a job with the new token: %+v", got)
	}
	for _, token := range []string{old, fresh.Runners[0].Token.Reveal()} {
		if strings.Contains(st.log.String(), token) {
			t.Error("a token is in the log")
		}
	}
}

func TestSingleEndsAfterItsJobs(t *testing.T) {
	s := server(t, fakegitlab.Options{})
	token := s.AddRunner(fakegitlab.RunnerConfig{}).Token
	dir := t.TempDir()
	st := start(t, s, token, "", func(o *app.Options) {
		o.Single = &app.Single{MaxBuilds: 2, Runner: config.Runner{
			URL: s.URL(), Token: "", Executor: "shell", Shell: "sh", BuildsDir: dir, CacheDir: dir,
		}}
		o.Single.Runner.Token = configToken(t, token)
	})
	for range 3 {
		if _, err := s.Enqueue(fakegitlab.Job{Script: []string{"echo hello"}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-st.ended; err != nil {
		t.Fatal(err)
	}
	close(st.ended)
	if n := s.Stats().HandedOut; n != 2 {
		t.Errorf("it took %d jobs, want 2", n)
	}
}

func TestSingleEndsWithoutJobs(t *testing.T) {
	s := server(t, fakegitlab.Options{})
	token := s.AddRunner(fakegitlab.RunnerConfig{}).Token
	st := start(t, s, token, "", func(o *app.Options) {
		o.Single = &app.Single{WaitTimeout: 100 * time.Millisecond, Runner: config.Runner{
			URL: s.URL(), Token: configToken(t, token), Executor: "shell",
		}}
	})
	if err := <-st.ended; err != nil {
		t.Fatal(err)
	}
	close(st.ended)
}

func TestAnEntryThatCannotRunDoesNotStopTheOthers(t *testing.T) {
	s := server(t, fakegitlab.Options{})
	token := s.AddRunner(fakegitlab.RunnerConfig{}).Token
	st := start(t, s, token, "[[runners]]\n  name = \"later\"\n  url = \"https://gitlab.example.test\"\n  token = \"glrt-other12345\"\n  executor = \"parallels\"\n")
	if got := st.job(fakegitlab.Job{Script: []string{"echo hello"}}); got.Status != fakegitlab.Success {
		t.Errorf("got %+v", got)
	}
	if !strings.Contains(st.log.String(), "parallels") {
		t.Errorf("the log does not say that parallels jobs are not run:\n%s", st.log)
	}
}

func TestReloadAtTheStart(t *testing.T) {
	s := server(t, fakegitlab.Options{})
	st := start(t, s, s.AddRunner(fakegitlab.RunnerConfig{}).Token, "")
	for range 20 {
		if err := st.app.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := st.job(fakegitlab.Job{Script: []string{"echo hello"}}); got.Status != fakegitlab.Success {
		t.Errorf("a job after it: %+v", got)
	}
}

func TestReloadChangesTheLog(t *testing.T) {
	s := server(t, fakegitlab.Options{})
	st := start(t, s, s.AddRunner(fakegitlab.RunnerConfig{}).Token, "")
	st.wait("the first configuration", func() bool { return strings.Contains(st.log.String(), `msg="Configuration loaded"`) })
	text, err := os.ReadFile(st.path)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), `log_format = "text"`, "log_format = \"json\"\nlog_level = \"debug\"", 1))
	if err := os.WriteFile(st.path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	st.wait("an entry of the second as JSON", func() bool { return strings.Contains(st.log.String(), `"msg":"Configuration loaded"`) })
	st.wait("debugging", func() bool { return strings.Contains(st.log.String(), `"level":"debug"`) })
}

func TestSystemIDThatCannotBeKept(t *testing.T) {
	s := server(t, fakegitlab.Options{})
	state := filepath.Join(t.TempDir(), "state")
	st := start(t, s, s.AddRunner(fakegitlab.RunnerConfig{}).Token, "", func(o *app.Options) {
		text, err := os.ReadFile(o.ConfigPath)
		if err != nil {
			t.Fatal(err)
		}
		// No file can be there: not even root writes into a directory of that name.
		if err := os.Mkdir(filepath.Join(filepath.Dir(o.ConfigPath), ".runner_system_id"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(o.ConfigPath, append(fmt.Appendf(nil, "state_dir = %q\n", state), text...), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	if got := st.job(fakegitlab.Job{Script: []string{"echo hello"}}); got.Status != fakegitlab.Success {
		t.Errorf("a job: %+v", got)
	}
	if !strings.Contains(st.log.String(), "The system id could not be kept") {
		t.Error("nothing in the log says so")
	}
}
