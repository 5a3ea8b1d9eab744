package shell

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

const (
	// settle is how long output may be silent, after the shell ended, until
	// what still holds it is taken for a daemon; settleMax bounds the wait.
	settle    = 250 * time.Millisecond
	settleMax = 5 * time.Second
	// dormant is how long a killed process may take to be gone.
	dormant = 10 * time.Second
)

// env is one job's place. It implements executor.Env.
type env struct {
	d     *Driver
	argv  []string
	files *files
	tree  *tree
	claim func(executor.Claim) error
	stage func(string)
	temp  string
	loose []*output // of phases that ended while something held their output
}

// Place says where the job runs.
func (e *env) Place() executor.Place { return executor.Place{Hostname: e.d.hostname} }

// Run carries out c.
func (e *env) Run(ctx context.Context, c executor.Command) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := e.files.all(c.Files); err != nil {
		return err
	}
	if len(c.Script) == 0 {
		return nil
	}
	err := e.attempt(ctx, c)
	if errors.Is(err, errStillborn) { // once: the tree does without its group now
		err = e.attempt(ctx, c)
	}
	return err
}

// errStillborn says that the kernel ended a process before it was the shell.
var errStillborn = errors.New("the shell was killed before it began")

// attempt runs the script of c.
func (e *env) attempt(ctx context.Context, c executor.Command) error {
	stdin, err := anonymous(c.Script)
	if err != nil {
		return fmt.Errorf("keeping the script: %w", err)
	}
	out, ends, err := e.d.capture(c.Stdout, c.Stderr)
	if err != nil {
		return errors.Join(fmt.Errorf("catching the output: %w", err), stdin.Close())
	}
	p, err := e.tree.start(e.argv, e.d.o.Dir, e.d.o.Environ, []*os.File{stdin, ends[0], ends[1]})
	closeAll(stdin, ends[0], ends[1])
	if err != nil {
		out.close()
		return fmt.Errorf("starting the shell: %w", err)
	}
	out.start()
	if e.claim != nil {
		if c, more := e.tree.claimOf(p); more {
			// The first claim finds this process too, by other means.
			if err := e.claim(c); err != nil {
				e.d.o.Log.Debug("claiming a process", "error", err)
			}
		}
	}
	return e.follow(ctx, p, out, c.Grace)
}

// follow waits for the shell and for its output.
func (e *env) follow(ctx context.Context, p *process, out *output, grace time.Duration) error {
	exited := make(chan struct{})
	go func() {
		p.awaitExit()
		close(exited)
	}()
	stopped := false
	select {
	case <-exited:
	case <-ctx.Done():
		stopped = true
		if err := e.stop(p, exited, grace); err != nil {
			// It cannot be killed. Its output stays open until Close.
			out.detach()
			e.loose = append(e.loose, out)
			return errors.Join(context.Cause(ctx), err)
		}
	}
	<-exited
	status, err := e.tree.reap(p)
	if !out.settled(ctx) {
		e.loose = append(e.loose, out)
	}
	switch {
	case stopped:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("waiting for the shell: %w", err)
	case out.failed() != nil:
		return fmt.Errorf("job log: %w", out.failed())
	}
	return status
}

// stop ends everything of the job: politely, and after grace for good.
func (e *env) stop(p *process, exited <-chan struct{}, grace time.Duration) error {
	if grace <= 0 {
		grace = e.d.o.Grace
	}
	e.tree.terminate(p)
	late := time.NewTimer(grace)
	defer late.Stop()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	gone := exited
	for polite := true; polite; {
		select {
		case <-gone:
			gone = nil
			polite = e.tree.alive(p)
		case <-look.C:
			polite = gone != nil || e.tree.alive(p)
			e.tree.remind()
		case <-late.C:
			polite = false
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), dormant)
	defer cancel()
	_, err := e.tree.kill(ctx, p)
	if err != nil {
		return err
	}
	select {
	case <-exited:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("failed to kill process PID=%d, likely process is dormant", p.pid)
	}
}

// Usage returns what the job has used up to now.
func (e *env) Usage(context.Context) (job.Usage, error) { return e.tree.usage(), nil }

// Close ends all that the job left and removes its control group.
func (e *env) Close(ctx context.Context) error {
	if e.stage != nil {
		e.stage("cleanup")
	}
	_, err := e.tree.kill(ctx, nil)
	if err == nil {
		err = e.tree.uproot()
	}
	for _, o := range e.loose {
		o.close()
	}
	e.loose = nil
	e.d.o.Places.leave(e.temp)
	return errors.Join(err, e.files.close())
}

// Reap ends what a claim of an earlier process names.
func (d *Driver) Reap(ctx context.Context, c executor.Claim) (int, error) {
	t, err := d.replant(c)
	if err != nil {
		return 0, err
	}
	n := 0
	if t != nil {
		if n, err = t.kill(ctx, nil); err != nil {
			return n, err
		}
		if err := t.uproot(); err != nil {
			return n, err
		}
	}
	return n, d.o.Places.clear(c)
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close() // nothing was written through this end
		}
	}
}
