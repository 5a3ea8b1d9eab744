//go:build !linux

package shell

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
)

// tree is the process groups of one job's shells; on Windows, the shells.
type tree struct {
	mark  string
	pids  []int
	meter meter
}

func (d *Driver) plant(mark string) *tree { return &tree{mark: mark} }

func (t *tree) root(*slog.Logger) {}

// process is a shell of a job.
type process struct {
	pid    int
	p      *os.Process
	ended  chan struct{}
	status *os.ProcessState
	err    error
}

func (t *tree) start(argv []string, dir string, environ []string, files []*os.File) (*process, error) {
	p, err := os.StartProcess(argv[0], argv, &os.ProcAttr{
		Dir:   dir,
		Env:   append(slices.Clip(environ), "GLASSRUNNER_JOB="+t.mark),
		Files: files,
		Sys:   groupLeader(),
	})
	if err != nil {
		return nil, err
	}
	t.pids = append(t.pids, p.Pid)
	return &process{pid: p.Pid, p: p, ended: make(chan struct{})}, nil
}

// awaitExit returns when the process has ended.
func (p *process) awaitExit() {
	p.status, p.err = p.p.Wait()
	close(p.ended)
}

// reap returns what awaitExit saw. A group that is empty is forgotten, for
// another may get its number.
func (t *tree) reap(p *process) (status, err error) {
	<-p.ended
	t.meter.done(p.status)
	t.pids = slices.DeleteFunc(t.pids, func(pid int) bool { return !groupsAlive([]int{pid}) })
	if p.err != nil {
		return nil, p.err
	}
	return result(p.status), nil
}

func (t *tree) terminate(p *process) { terminate(p) }

func (t *tree) remind() {}

func (t *tree) alive(p *process) bool {
	if p != nil {
		select {
		case <-p.ended:
		default:
			return true
		}
	}
	return groupsAlive(t.pids)
}

func (t *tree) kill(ctx context.Context, p *process) (int, error) {
	if p != nil {
		killProcess(p)
	}
	killed := 0
	for wait := time.Millisecond; groupsAlive(t.pids); wait = min(2*wait, 50*time.Millisecond) {
		killed = killGroups(t.pids)
		select {
		case <-ctx.Done():
			return killed, fmt.Errorf("processes of the job do not end: %w", context.Cause(ctx))
		case <-time.After(wait):
		}
	}
	return killed, nil
}

func (t *tree) uproot() error { return nil }

// claim names the job; its processes cannot be told from others that got
// their numbers after a crash, so Reap ends none.
func (t *tree) claim() executor.Claim {
	return executor.Claim{Kind: claimKind, ID: t.mark, Data: map[string]string{"mark": t.mark}}
}

func (t *tree) claimOf(p *process) (executor.Claim, bool) {
	c := t.claim()
	c.ID = strconv.Itoa(p.pid)
	return c, false
}

func (d *Driver) replant(c executor.Claim) (*tree, error) {
	if c.Kind != claimKind {
		return nil, errors.New("the shell executor makes no such claims")
	}
	return nil, nil
}

func findCgroups(string, *slog.Logger) string { return "" }
