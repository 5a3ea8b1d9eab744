// Package helper holds the commands that scripts of jobs call: they move
// artifacts and caches where the job's files are, as the job's user, in the
// project's directory. The commands, their options and the variables that
// they read are GitLab Runner's. They are part of the runner's own binary,
// for jobs on the same machine, and of a small one for containers.
//
// Tokens and signed addresses come through the environment; no line that is
// printed holds one. What was moved is reported in one line that the runner
// takes out of the output (see Report).
package helper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/glassrunner/glassrunner/internal/archive"
	"github.com/glassrunner/glassrunner/internal/script"
)

// ErrTold marks a failure that has been printed in full.
var ErrTold = errors.New("told")

// World is what the commands touch besides files and the network.
type World struct {
	Out    io.Writer
	Getenv func(string) string
	// Environ is what the programs that a command starts get.
	Environ []string
	Dir     string // of the project; "": the working directory
}

// System is the process's own world.
func System() World { return World{Out: os.Stdout, Getenv: os.Getenv, Environ: os.Environ()} }

// Commands are all commands, hidden from help.
func Commands(w World) []*cobra.Command {
	list := []*cobra.Command{uploader(w), downloader(w), archiver(w), extractor(w), cacheInit(w), healthCheck(w)}
	for _, c := range list {
		c.Hidden = true
		if c.Args == nil {
			c.Args = cobra.NoArgs
		}
		c.SilenceErrors, c.SilenceUsage = true, true
	}
	return list
}

// Report tells what one call moved.
type Report struct {
	// Kind is "cache" or "artifact".
	Kind string `json:"kind"`
	// Op is "restore" or "save", "upload" or "download".
	Op     string `json:"op"`
	Result string `json:"result"`
	Bytes  int64  `json:"bytes"`
	Millis int64  `json:"ms"`
}

// task is one call.
type task struct {
	World
	dir string
}

// start begins a call.
func (w World) start() (*task, error) {
	t := &task{World: w, dir: w.Dir}
	if t.dir == "" {
		var err error
		if t.dir, err = os.Getwd(); err != nil {
			return nil, t.fatal(err)
		}
	}
	return t, nil
}

// interruptible ends with the signals with which a job is stopped, so that no
// half written file stays.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// Colours of the job log.
const (
	reset   = "\x1b[0;m"
	yellow  = "\x1b[0;33m"
	boldRed = "\x1b[31;1m"
)

func (t *task) put(color, text string) {
	end := ""
	if color != "" {
		end = reset
	}
	_, _ = io.WriteString(t.Out, color+text+end+"\n") // there is no other place to tell it
}

// Info prints a line.
func (t *task) Info(text string) { t.put("", text) }

// Warn prints a warning.
func (t *task) Warn(text string) { t.put(yellow, "WARNING: "+text) }

// Error prints an error.
func (t *task) Error(text string) { t.put(boldRed, "ERROR: "+text) }

// fatal prints why a call failed.
func (t *task) fatal(err error) error {
	t.put(boldRed, "FATAL: "+err.Error())
	return ErrTold
}

// report prints the line that the runner takes out of the output.
func (t *task) report(kind, op, result string, n int64, took time.Duration) {
	mark := t.Getenv(script.EnvReport)
	if mark == "" {
		return
	}
	line, err := json.Marshal(Report{kind, op, result, n, took.Milliseconds()})
	if err == nil { // strings and numbers always can be
		t.put("", mark+" "+string(line))
	}
}

// number reads a positive number of the environment, 0 when there is none.
func (t *task) number(name string) int {
	n, err := strconv.Atoi(t.Getenv(name))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// on reads a switch of the environment.
func (t *task) on(name string, def bool) bool {
	if b, err := strconv.ParseBool(t.Getenv(name)); err == nil {
		return b
	}
	return def
}

func (t *task) level(name string) archive.Level {
	l, ok := archive.ParseLevel(t.Getenv(name))
	if !ok {
		t.Warn(fmt.Sprintf("%s: unknown level %q, taking default", name, t.Getenv(name)))
	}
	return l
}

// files are the options that say which files are meant.
type files struct {
	paths, exclude []string
	untracked      bool
}

func (f *files) flags(s *pflag.FlagSet) {
	s.StringArrayVar(&f.paths, "path", nil, "file, directory or pattern to archive")
	s.StringArrayVar(&f.exclude, "exclude", nil, "pattern of files to leave out")
	s.BoolVar(&f.untracked, "untracked", false, "archive the files that git does not know")
}

// rules expands what the options name. Untracked files are git's to tell.
func (f *files) rules(ctx context.Context, t *task) (archive.Rules, error) {
	r := archive.Rules{WithUntracked: f.untracked}
	for _, p := range f.paths {
		r.Paths = append(r.Paths, os.Expand(p, t.Getenv))
	}
	for _, p := range f.exclude {
		r.Exclude = append(r.Exclude, os.Expand(p, t.Getenv))
	}
	if !f.untracked {
		return r, nil
	}
	cmd := exec.CommandContext(ctx, "git", "ls-files", "--others", "-z")
	cmd.Dir = t.dir
	cmd.Env = slices.DeleteFunc(slices.Clone(t.Environ), func(v string) bool {
		return strings.HasPrefix(v, script.EnvCacheLinks+"=") || strings.HasPrefix(v, script.EnvReport+"=")
	})
	var trouble bytes.Buffer
	cmd.Stderr = &trouble
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("listing untracked files: %w: %s", err, strings.TrimSpace(trouble.String()))
	}
	for p := range strings.SplitSeq(string(out), "\x00") {
		if p != "" {
			r.Untracked = append(r.Untracked, p)
		}
	}
	return r, nil
}

// bounds are the options that limit what an archive may become.
type bounds struct{ size, ratio int64 }

func (b *bounds) flags(s *pflag.FlagSet) {
	s.Int64Var(&b.size, "max-extracted-size", 0, "most `bytes` that are extracted")
	s.Int64Var(&b.ratio, "max-extraction-ratio", 0, "most bytes that a byte of the archive may become")
}

func (b *bounds) limits() archive.Limits { return archive.Limits{Bytes: b.size, Ratio: b.ratio} }

// environment gives options that were not set the value of a variable.
func environment(t *task, s *pflag.FlagSet, names map[string]string) {
	for flag, name := range names {
		if f := s.Lookup(flag); f != nil && !f.Changed {
			if v := t.Getenv(name); v != "" {
				_ = s.Set(flag, v) // all of them are texts
			}
		}
	}
}
