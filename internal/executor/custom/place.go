package custom

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/redact"
)

// Names in a job's temporary directory.
const (
	dirPrefix    = "custom-executor"
	payloadFile  = "response.json"
	exitCodeFile = "build_exit_code"
)

// place is one job's. It implements executor.Env.
type place struct {
	d      *Driver
	r      executor.Request
	dir    string   // "": there is nothing to clean up
	env    []string // beyond the runner's own
	answer answer
}

// open asks where the job lives and has the place made.
func (p *place) open(ctx context.Context) error {
	dir, err := os.MkdirTemp(p.d.o.TempDir, dirPrefix)
	if err != nil {
		return fmt.Errorf("temporary directory: %w", err)
	}
	p.dir = dir
	if err := os.WriteFile(filepath.Join(dir, payloadFile), []byte(p.r.Spec.Payload.Reveal()), 0o600); err != nil {
		return fmt.Errorf("storing the job for the programs: %w", err)
	}
	p.env = environ(dir, nil, p.r.Variables, p.r.Spec.Services)
	if err := p.claim(true); err != nil {
		return err
	}
	if err := p.configure(ctx); err != nil {
		return err
	}
	if p.r.Arrange != nil {
		a, err := p.r.Arrange(p.answer.layout())
		if err != nil {
			return err
		}
		p.r.Dirs, p.r.Variables, p.r.Shell = a.Dirs, a.Variables, a.Shell
	}
	p.env = environ(dir, p.answer.JobEnv, p.r.Variables, p.r.Spec.Services)
	if err := p.claim(false); err != nil {
		return err
	}
	if err := p.tell(p.answer.greeting()); err != nil {
		return err
	}
	if p.d.o.Prepare.Path == "" {
		return nil
	}
	return p.run(ctx, "prepare_exec", p.d.o.Prepare, nil, executor.Command{Stdout: p.r.Log, Stderr: p.r.Log})
}

// configure runs config_exec and reads what it prints.
func (p *place) configure(ctx context.Context) error {
	if p.d.o.Config.Path == "" {
		return nil
	}
	var out bounded
	if err := p.run(ctx, "config_exec", p.d.o.Config, nil, executor.Command{Stdout: &out, Stderr: p.r.Log}); err != nil {
		return err
	}
	if out.over {
		return fmt.Errorf("config_exec: %w", errTooLong)
	}
	a, err := parseAnswer(out.Bytes())
	if err != nil {
		return fmt.Errorf("config_exec: %w", err)
	}
	p.answer = a
	return nil
}

// Place says where the job runs, as config_exec named it.
func (p *place) Place() executor.Place {
	if p.answer.Hostname != "" {
		return executor.Place{Hostname: p.answer.Hostname}
	}
	name, _ := os.Hostname()
	return executor.Place{Hostname: name}
}

// oldStepName is what programs know the user's script by.
const (
	stepName    = "step_script"
	oldStepName = "build_script"
)

// Run has run_exec run a script.
func (p *place) Run(ctx context.Context, c executor.Command) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(c.Script) == 0 {
		return nil
	}
	name := string(c.Phase)
	if name == stepName {
		name = oldStepName
		if err := p.tell("WARNING: run_exec gets the stage step_script under its old name build_script, which will become step_script."); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp(p.dir, "script")
	if err != nil {
		return fmt.Errorf("keeping the script: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // Close removes all of it
	path, text := filepath.Join(dir, "script"), c.Script
	if strings.HasPrefix(p.r.Shell, "p") { // pwsh, powershell
		path += ".ps1"
	} else {
		// The program may run it as a program.
		text = slices.Concat([]byte("#!/usr/bin/env "+p.r.Shell+"\n\n"), text)
	}
	if err := os.WriteFile(path, text, 0o700); err != nil { //nolint:gosec // a program that is run
		return fmt.Errorf("keeping the script: %w", err)
	}
	return p.run(ctx, "run_exec", p.d.o.Run, []string{path, name}, c)
}

// Close has cleanup_exec remove the place, and removes the temporary directory.
func (p *place) Close(ctx context.Context) error {
	if p.dir == "" {
		return nil
	}
	stage(p.r, "cleanup")
	// Some machines tidy up among temporary files that are days old.
	err := os.MkdirAll(p.dir, 0o700)
	if err == nil && p.d.o.Cleanup.Path != "" {
		out := p.listen()
		err = p.run(ctx, "cleanup_exec", p.d.o.Cleanup, nil, executor.Command{Stdout: out, Stderr: out})
		if said := out.close(); err != nil && said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
	}
	err = errors.Join(err, os.RemoveAll(p.dir))
	p.dir = ""
	return err
}

// listener hears what cleanup_exec prints: for developers, and the last of it
// for an error. What the job masks is masked here as well.
type listener struct {
	log *slog.Logger
	m   *redact.Writer

	mu   sync.Mutex
	line []byte
	last string
}

// listen masks what the job masks.
func (p *place) listen() *listener {
	rules := redact.Rules{Phrases: []string{p.r.Spec.Token.Reveal()}}
	for _, v := range p.r.Variables {
		if v.Masked {
			rules.Phrases = append(rules.Phrases, v.Value)
		}
	}
	l := &listener{log: p.d.o.Log}
	l.m = redact.New(rules).Writer(lines{l})
	return l
}

func (l *listener) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.m.Write(b)
}

// close returns the last line.
func (l *listener) close() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.m.Close() // it writes into memory
	l.say()
	return l.last
}

func (l *listener) say() {
	text := string(bytes.TrimSpace(l.line))
	l.line = l.line[:0]
	if text != "" {
		l.last = text
		l.log.Debug("cleanup_exec", "printed", text)
	}
}

// maxLine bounds a line of what cleanup_exec prints.
const maxLine = 1 << 10

// lines cuts masked text into lines. The listener's lock is held.
type lines struct{ l *listener }

func (w lines) Write(b []byte) (int, error) {
	for _, c := range b {
		if c == '\n' {
			w.l.say()
		} else if len(w.l.line) < maxLine {
			w.l.line = append(w.l.line, c)
		}
	}
	return len(b), nil
}

var _ io.Writer = (*listener)(nil)
