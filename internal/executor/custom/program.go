package custom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

// settle is how long a program's output may be held by what it started, once
// it has ended itself.
const settle = 2 * time.Second

// run runs a program to its end and says what its exit code means.
func (p *place) run(ctx context.Context, what string, pr Program, args []string, c executor.Command) error {
	if pr.Timeout > 0 {
		limited, cancel := context.WithTimeoutCause(ctx, pr.Timeout, fmt.Errorf("%s took longer than %s", what, pr.Timeout))
		defer cancel()
		ctx = limited
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	codeFile := filepath.Join(p.dir, exitCodeFile)
	if err := os.RemoveAll(codeFile); err != nil { // of an earlier program
		return fmt.Errorf("%s: %w", what, err)
	}
	cmd, err := command(pr, args, p.dir, slices.Concat(p.d.o.Environ, p.env))
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	var failed firstError
	out := &kept{to: c.Stdout, err: &failed}
	cmd.Stdout, cmd.Stderr = out, out
	if !executor.SameWriter(c.Stdout, c.Stderr) {
		cmd.Stderr = &kept{to: c.Stderr, err: &failed}
	}
	cmd.WaitDelay = settle
	if err := cmd.Start(); err != nil {
		if tooLong(err) {
			name, n := largest(p.env)
			return executor.Misconfigured("%s: the job's variables do not fit into the environment of a program; the largest is %s with %d bytes: %w", what, name, n, err)
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	p.claimProgram(cmd.Process.Pid)
	grace := c.Grace
	if grace <= 0 {
		grace = p.d.o.Grace
	}
	err = await(ctx, cmd, grace, p.d.o.Force)
	if errors.Is(err, errStopped) || dormant(err) != nil {
		return errors.Join(context.Cause(ctx), dormant(err))
	}
	if ferr := failed.get(); ferr != nil {
		return fmt.Errorf("job log: %w", ferr)
	}
	return meaning(what, err, codeFile)
}

// firstError keeps the first error of a program's outputs.
type firstError struct {
	mu  sync.Mutex
	err error
}

func (f *firstError) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// kept passes on what a program prints until that fails. A program is not
// made to fail by it.
type kept struct {
	to  io.Writer // nil: nobody listens
	err *firstError
}

func (k *kept) Write(b []byte) (int, error) {
	k.err.mu.Lock()
	defer k.err.mu.Unlock()
	if k.to != nil && k.err.err == nil {
		_, k.err.err = k.to.Write(b)
	}
	return len(b), nil
}

// dormantError says that a process cannot be killed.
type dormantError struct{ pid int }

func (e *dormantError) Error() string {
	return fmt.Sprintf("failed to kill process PID=%d, likely process is dormant", e.pid)
}

// dormant returns the dormantError in err, if there is one.
func dormant(err error) error {
	if d, ok := errors.AsType[*dormantError](err); ok {
		return d
	}
	return nil
}

// await waits for a program's end, or ends its group when ctx ends.
func await(ctx context.Context, cmd *exec.Cmd, grace, force time.Duration) error {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return withoutDelay(err)
	case <-ctx.Done():
	}
	pid := cmd.Process.Pid
	terminate(pid)
	late := time.NewTimer(grace)
	defer late.Stop()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	var err error
	gone := false
	for polite := true; polite; {
		select {
		case err = <-ended:
			ended, gone = nil, true
			polite = alive(pid)
		case <-look.C:
			polite = !gone || alive(pid)
		case <-late.C:
			polite = false
		}
	}
	dead := time.NewTimer(force)
	defer dead.Stop()
	for kill(cmd); ; {
		select {
		case err = <-ended:
			ended, gone = nil, true
		case <-look.C:
			kill(cmd)
		case <-dead.C:
			return &dormantError{pid}
		}
		if gone && !alive(pid) {
			return errors.Join(errStopped, err)
		}
	}
}

// errStopped says that a program was told to end.
var errStopped = errors.New("stopped")

// withoutDelay takes a program that ended well as that, whatever else holds
// its output.
func withoutDelay(err error) error {
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	return err
}

// meaning says what a program's end means.
func meaning(what string, err error, codeFile string) error {
	exit, ok := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return nil
	case !ok:
		return fmt.Errorf("%s: %w", what, err)
	case exit.ExitCode() == systemFailure:
		return fmt.Errorf("%s: %w", what, err)
	case exit.ExitCode() != buildFailure:
		return fmt.Errorf("unknown Custom executor executable exit code %d; executable execution terminated with: %w", exit.ExitCode(), err)
	}
	code, cerr := readCode(codeFile)
	if cerr != nil {
		return fmt.Errorf("unknown Custom executor executable exit code %d; executable execution terminated with: %w", systemFailure, cerr)
	}
	failed := &executor.ExitError{Code: code, Text: "exit status " + strconv.Itoa(code)}
	if what != "run_exec" {
		// It is the job's failure: another try would end in the same way.
		return &executor.Error{Reason: job.ScriptFailure, Err: failed}
	}
	return failed
}

// readCode reads the exit code of the job's script; 1 when none was left.
func readCode(path string) (int, error) {
	fi, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return buildFailure, nil
	case err != nil:
		return 0, err
	case !fi.Mode().IsRegular(): // reading a pipe might never end
		return 0, errors.New("BUILD_EXIT_CODE_FILE is not a file")
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	text, err := io.ReadAll(io.LimitReader(f, 64))
	_ = f.Close() // it was only read
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	code, err := strconv.ParseInt(strings.TrimSpace(first), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("BUILD_EXIT_CODE_FILE: want a number, found %q", first)
	}
	return int(int32(code)), nil // as signed 32 bits, whatever the system counts in
}
