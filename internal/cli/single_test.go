package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/cli"
)

func environment(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestRunSingleOfFlags(t *testing.T) {
	o, code, stderr := cli.Served(environment(map[string]string{"CI_SERVER_TOKEN": "glrt-fromenvironment", "RUNNER_ENV": "A=1"}),
		"run-single", "--url", "https://gitlab.example.com", "--executor", "shell", "--description", "one", "--limit", "2",
		"--max-builds", "3", "--wait-timeout", "60", "--shutdown-timeout", "5", "--log-level", "warn", "-c", "some.toml")
	if code != 0 || o.Single == nil {
		t.Fatalf("got exit code %d and %q", code, stderr)
	}
	s := o.Single
	if s.MaxBuilds != 3 || s.WaitTimeout != time.Minute || s.ShutdownTimeout != 5*time.Second {
		t.Errorf("got %d, %v and %v, want 3, 1m0s and 5s", s.MaxBuilds, s.WaitTimeout, s.ShutdownTimeout)
	}
	r := s.Runner
	if r.URL != "https://gitlab.example.com" || r.Token.Reveal() != "glrt-fromenvironment" || r.Executor != "shell" ||
		r.Name != "one" || r.Limit != 2 || strings.Join(r.Environment, " ") != "A=1" {
		t.Errorf("got %+v", r)
	}
	if o.LogLevel != "warn" || o.ConfigPath != "some.toml" {
		t.Errorf("got log level %q and configuration %q", o.LogLevel, o.ConfigPath)
	}
}

func TestRunSingleOfConfiguration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	text := `shutdown_timeout = 7
[labels]
  zone = "north"
[[runners]]
  name = "other"
[[runners]]
  name = "box"
  url = "https://gitlab.example.com"
  token = "glrt-ofthefile1234"
  executor = "shell"
  limit = 4
  [runners.labels]
    team = "blue"
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// The environment is for other entries; the command line is meant.
	o, code, stderr := cli.Served(environment(map[string]string{"CI_SERVER_URL": "https://elsewhere.example.com", "CONFIG_FILE": path}),
		"run-single", "--runner", "box", "--limit", "1", "--shell", "sh")
	if code != 0 || o.Single == nil {
		t.Fatalf("got exit code %d and %q", code, stderr)
	}
	r := o.Single.Runner
	if r.URL != "https://gitlab.example.com" || r.Token.Reveal() != "glrt-ofthefile1234" || r.Limit != 1 || r.Shell != "sh" {
		t.Errorf("got %+v", r)
	}
	if r.Labels["zone"] != "north" || r.Labels["team"] != "blue" {
		t.Errorf("got labels %v, want those of the runner and of the file", r.Labels)
	}
	if o.Single.ShutdownTimeout != 7*time.Second {
		t.Errorf("got a shutdown timeout of %v, want that of the file", o.Single.ShutdownTimeout)
	}
}

func TestRunOptions(t *testing.T) {
	o, code, stderr := cli.Served(environment(map[string]string{"LISTEN_ADDRESS": ":9999", "LOG_FORMAT": "json", "RUNNER_DEBUG": "true"}),
		"run", "-d", "/srv", "-u", "ci", "-c", "x.toml")
	if code != 0 {
		t.Fatalf("got exit code %d and %q", code, stderr)
	}
	if o.ListenAddress != ":9999" || o.WorkingDirectory != "/srv" || o.User != "ci" || o.LogFormat != "json" || o.LogLevel != "debug" || o.ConfigPath != "x.toml" {
		t.Errorf("got %+v", o)
	}
	o, _, _ = cli.Served(environment(map[string]string{"LISTEN_ADDRESS": ":9999"}), "run", "--listen-address", "localhost:1")
	if o.ListenAddress != "localhost:1" {
		t.Errorf("got %q, want the flag's address", o.ListenAddress)
	}
}
