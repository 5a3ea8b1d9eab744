// Package demo shows the whole thing on one machine: a GitLab-compatible
// server hands real jobs to a real runner, and everything that happens can be
// seen on the runner's metrics server. Nothing leaves the loopback interface,
// and nothing is left behind.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/glassrunner/glassrunner/internal/app"
	"github.com/glassrunner/glassrunner/internal/fakegitlab"
	"github.com/glassrunner/glassrunner/internal/pause"
)

// Options say what to show.
type Options struct {
	Pipeline      string // a .gitlab-ci.yml; "": the built-in one
	Once          bool   // run it once and check what came of it
	ListenAddress string // of the runner's metrics server
	Concurrent    int    // jobs at once; 0: 3
	Out           io.Writer
	// Live redraws a table; otherwise each event is a line. Size is that of
	// the terminal.
	Live bool
	Size func() (columns, rows int)
}

// betweenRounds is the time between two rounds of the pipeline.
const betweenRounds = 2 * time.Second

// demo is one run of it.
type demo struct {
	o        Options
	pipeline *Pipeline
	dir      string
	server   *fakegitlab.Server
	token    string
	runner   *app.App
	finished chan fakegitlab.Snapshot
	started  time.Time
}

// Run shows the demo until ctx ends or, with Once, until the pipeline ran and
// was checked. The error says what was not as it should be.
func Run(ctx context.Context, o Options) (err error) {
	d := &demo{o: o, finished: make(chan fakegitlab.Snapshot, 1024), started: time.Now()}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d.o.Out = &audience{w: o.Out, gone: cancel}
	if d.o.Concurrent == 0 {
		d.o.Concurrent = 3
	}
	if o.Pipeline == "" {
		d.pipeline, err = Sample()
	} else {
		d.pipeline, err = Load(o.Pipeline)
	}
	if err != nil {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "glassrunner-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	if err := d.startServer(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.server.Close()) }()
	stop, err := d.startRunner(ctx)
	if err != nil {
		return err
	}
	d.introduce()
	shown, hide := context.WithCancel(context.WithoutCancel(ctx))
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		d.show(shown)
	}()
	ids, err := d.rounds(ctx)
	hide()
	<-gone
	if cause := context.Cause(ctx); errors.Is(cause, errNobodyReads) {
		err = cause
	}
	if o.Once && err == nil {
		err = d.check(ctx, ids)
	}
	return errors.Join(err, stop())
}

// errNobodyReads is why a demo ends whose output cannot be written.
var errNobodyReads = errors.New("the demo ends because nobody reads its output")

// audience ends the demo when what it shows can no longer be written.
type audience struct {
	w    io.Writer
	gone context.CancelCauseFunc
}

func (a *audience) Write(p []byte) (int, error) {
	n, err := a.w.Write(p)
	if err != nil {
		a.gone(fmt.Errorf("%w: %w", errNobodyReads, err))
	}
	return n, err
}

func (d *demo) startServer() error {
	d.server = fakegitlab.New(fakegitlab.Options{
		LongPoll: 5 * time.Second, Concurrent: d.o.Concurrent, DiscardFinished: !d.o.Once, KeepResults: 200,
		OnFinish: func(s fakegitlab.Snapshot) {
			select {
			case d.finished <- s:
			default: // nobody looks at so many
			}
		},
	})
	if err := d.server.Start("127.0.0.1:0"); err != nil {
		return err
	}
	d.token = d.server.AddRunner(fakegitlab.RunnerConfig{Description: "demo"}).Token
	return nil
}

// config is the runner's config.toml, as an operator would write it.
const config = `concurrent = %d
check_interval = 1

[[runners]]
  name = "demo"
  url = %q
  token = %q
  executor = "shell"
  shell = "sh"
  request_concurrency = %d
  builds_dir = %q
  cache_dir = %q
  graceful_kill_timeout = "2s"
`

func (d *demo) startRunner(ctx context.Context) (stop func() error, err error) {
	path := filepath.Join(d.dir, "config.toml")
	text := fmt.Sprintf(config, d.o.Concurrent, d.server.URL(), d.token, d.o.Concurrent,
		filepath.Join(d.dir, "builds"), filepath.Join(d.dir, "cache"))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(d.dir, "runner.log"))
	if err != nil {
		return nil, err
	}
	d.runner, err = app.New(app.Options{ConfigPath: path, ListenAddress: d.o.ListenAddress, LogOutput: log, LogFormat: "text"})
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	ended := make(chan error, 1)
	// The runner outlives ctx: it is stopped by name, in its own time.
	go func() { ended <- d.runner.Run(context.WithoutCancel(ctx)) }()
	up := time.NewTicker(5 * time.Millisecond)
	defer up.Stop()
	for d.runner.Address() == "" {
		select {
		case err := <-ended:
			return nil, errors.Join(err, log.Close())
		case <-up.C:
		}
		if ctx.Err() != nil {
			break
		}
	}
	return func() error {
		d.runner.Abort("interrupt")
		return errors.Join(<-ended, log.Close())
	}, nil
}

// introduce says where to look.
func (d *demo) introduce() {
	base := "http://" + d.runner.Address()
	fmt.Fprintf(d.o.Out, `A GitLab-compatible server is at  %s
A runner with %d slots works for it. Look at it here:
  status     %s/
  metrics    %s/metrics
  profiles   %s/debug/pprof/
  jobs now   %s/debug/jobs/list
  its log    %s
`, d.server.URL(), d.o.Concurrent, base, base, base, base, filepath.Join(d.dir, "runner.log"))
	if !d.o.Once {
		fmt.Fprintln(d.o.Out, "Ctrl-C stops everything.")
	}
	fmt.Fprintln(d.o.Out)
}

// rounds feeds the pipeline: once, or again and again until ctx ends.
func (d *demo) rounds(ctx context.Context) ([]int64, error) {
	for {
		ids, err := d.round(ctx)
		if d.o.Once || err != nil && ctx.Err() == nil {
			return ids, err
		}
		if pause.For(ctx, betweenRounds) != nil {
			return nil, nil //nolint:nilerr // to be ended is no failure
		}
	}
}

// round runs the pipeline's stages one after another, as GitLab does: a
// failed job that may not fail ends it.
func (d *demo) round(ctx context.Context) ([]int64, error) {
	var all []int64
	for _, stage := range d.pipeline.Stages {
		var ids []int64
		for _, j := range stage {
			id, err := d.server.Enqueue(d.payload(j))
			if err != nil {
				return all, err
			}
			ids = append(ids, id)
		}
		all = append(all, ids...)
		for i, id := range ids {
			s, err := d.server.Wait(ctx, id)
			if err != nil {
				return all, err
			}
			if s.Status != fakegitlab.Success && !stage[i].AllowFailure {
				return all, nil
			}
		}
	}
	return all, nil
}

// secret is a masked variable of every job: it must never show in a log.
const secret = "demo-s3cr3t-value"

func (d *demo) payload(j Job) fakegitlab.Job {
	vars := []fakegitlab.Variable{
		{Key: "GIT_STRATEGY", Value: "empty", Public: true},
		{Key: "DEMO_SECRET", Value: secret, Masked: true},
	}
	for _, v := range j.Variables {
		vars = append(vars, fakegitlab.Variable{Key: v.Key, Value: v.Value, Public: true})
	}
	return fakegitlab.Job{
		Name: j.Name, Stage: j.Stage, Script: j.Script, AfterScript: slices.Clone(j.AfterScript),
		Variables: vars, Timeout: j.Timeout, AllowFailure: j.AllowFailure, Runner: d.token,
	}
}
