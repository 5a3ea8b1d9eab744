package app

import (
	"context"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/scheduler"
)

// Single makes an app of one runner entry that is in no file: run-single.
type Single struct {
	Runner          config.Runner
	MaxBuilds       int           // jobs until the end; 0: no end
	WaitTimeout     time.Duration // without a job until the end; 0: no end
	ShutdownTimeout time.Duration // 0: the default
	Tracing         *config.Tracing
}

// config is what a file at path would say that has this one entry only.
func (s *Single) config(path string) *config.Config {
	return &config.Config{
		Concurrent: 1, Path: path,
		ShutdownTimeoutSeconds: int(s.ShutdownTimeout.Seconds()), Runners: []config.Runner{s.Runner}, Tracing: s.Tracing,
	}
}

// budget ends an app after a number of jobs or after a time without any.
type budget struct {
	s    *Single
	stop func(why string)

	mu      sync.Mutex
	jobs    int
	running int
	idle    *time.Timer
}

func newBudget(s *Single, stop func(string)) *budget {
	return &budget{s: s, stop: stop}
}

// start begins to count the time without a job.
func (b *budget) start() {
	if b == nil || b.s.WaitTimeout <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.idle = time.AfterFunc(b.s.WaitTimeout, b.expired)
}

func (b *budget) expired() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running == 0 {
		b.stop("wait-timeout")
	}
}

// around counts the jobs that a request brings.
func (b *budget) around(request func(context.Context, scheduler.Ask) (scheduler.Task, scheduler.Result)) func(context.Context, scheduler.Ask) (scheduler.Task, scheduler.Result) {
	return func(ctx context.Context, ask scheduler.Ask) (scheduler.Task, scheduler.Result) {
		task, result := request(ctx, ask)
		if task == nil {
			return nil, result
		}
		b.began()
		return func(ctx context.Context) scheduler.TaskResult {
			defer b.ended()
			return task(ctx)
		}, result
	}
}

func (b *budget) began() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.jobs++
	b.running++
	if b.s.MaxBuilds > 0 && b.jobs >= b.s.MaxBuilds {
		b.stop("max-builds")
	}
}

func (b *budget) ended() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running--
	if b.idle != nil {
		b.idle.Reset(b.s.WaitTimeout)
	}
}

func (b *budget) close() {
	if b != nil && b.idle != nil {
		b.idle.Stop()
	}
}
