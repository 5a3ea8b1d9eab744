//go:build unix

package cli_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/glassrunner/glassrunner/internal/cli"
	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// person answers prompts as they come, which lets a test act between two.
type person struct {
	mu      sync.Mutex
	printed bytes.Buffer
	answers map[string]func() string // by a part of the prompt
	pending string
}

// Write takes what the program prints.
func (p *person) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.printed.Write(b)
}

// Read answers the last prompt.
func (p *person) Read(b []byte) (int, error) {
	p.mu.Lock()
	prompt := p.printed.String()
	p.printed.Reset()
	p.mu.Unlock()
	if p.pending == "" {
		for part, answer := range p.answers {
			if strings.Contains(prompt, part) {
				p.pending = answer() + "\n"
			}
		}
	}
	if p.pending == "" {
		return 0, io.EOF
	}
	n := copy(b, p.pending)
	p.pending = p.pending[n:]
	return n, nil
}

func constant(s string) func() string { return func() string { return s } }

func TestRegisterTakesBackWhatItCannotSave(t *testing.T) {
	for _, leave := range []bool{false, true} {
		server := fakegitlab.New(fakegitlab.Options{})
		if err := server.Start(""); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = server.Close() }()
		config := filepath.Join(t.TempDir(), "config")
		p := &person{answers: map[string]func() string{
			"instance URL":   constant(server.URL()),
			"authentication": constant(fakegitlab.DefaultRegistrationToken),
			"description":    constant("x"),
			"tags":           constant(""),
			"note":           constant(""),
			"executor": func() string {
				// A file takes the place of the directory meanwhile.
				if err := os.RemoveAll(config); err != nil {
					t.Error(err)
				}
				if err := os.WriteFile(config, nil, 0o600); err != nil {
					t.Error(err)
				}
				return "shell"
			},
		}}
		args := []string{"register", "--config", filepath.Join(config, "config.toml")}
		want, left := "removed from the server again", 0
		if leave {
			args = append(args, "--leave-runner")
			want, left = "the runner stays on the server", 1
		}
		var stderr bytes.Buffer
		code := cli.Main(args, cli.World{In: p, Out: p, Err: &stderr, Getenv: func(string) string { return "" }})
		if code != 1 {
			t.Errorf("got exit code %d, want 1", code)
		}
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("got %q, want it to say %q", stderr.String(), want)
		}
		if n := len(server.Runners()); n != left {
			t.Errorf("%d runners are left on the server, want %d", n, left)
		}
	}
}

func TestRegisterInterrupted(t *testing.T) {
	server := fakegitlab.New(fakegitlab.Options{})
	if err := server.Start(""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	token := server.AddRunner(fakegitlab.RunnerConfig{}).Token
	path := filepath.Join(t.TempDir(), "config.toml")
	hang := make(chan string)
	defer close(hang)
	p := &person{answers: map[string]func() string{
		"instance URL":   constant(server.URL()),
		"authentication": constant(token),
		"name": func() string {
			if r, err := server.Runner(token); err != nil || len(r.Managers) != 1 {
				t.Errorf("got %+v, %v: the server should know this machine by now", r, err)
			}
			// The program listens for the signal since before the first prompt.
			if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
				t.Error(err)
			}
			return <-hang
		},
	}}
	var stderr bytes.Buffer
	code := cli.Main([]string{"register", "--config", path},
		cli.World{In: p, Out: p, Err: &stderr, Getenv: func(string) string { return "" }})
	if code != 1 || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("got exit code %d and %q, want 1 and an interruption", code, stderr.String())
	}
	if r, err := server.Runner(token); err != nil || len(r.Managers) != 0 {
		t.Errorf("got %+v, %v, want a runner without this machine", r, err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("got %v, want no configuration", err)
	}
}
