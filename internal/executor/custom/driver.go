package custom

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
)

// A Program is one of the operator's.
type Program struct {
	Path    string // or its name in $PATH; "": there is none
	Args    []string
	Timeout time.Duration // 0: none
}

// Options configure a Driver.
type Options struct {
	Config, Prepare, Run, Cleanup Program
	// Grace is the time between the polite and the hard signal for commands
	// that name none; 0: DefaultGrace. Force is how long a killed program may
	// take to be gone; 0: DefaultForce.
	Grace, Force time.Duration
	// Shell is the default: "bash", "sh", "pwsh" or "powershell"; "": bash,
	// or pwsh on Windows.
	Shell string
	// Dir is where relative paths of programs begin; "": the runner's working
	// directory.
	Dir string
	// TempDir holds a directory for each job; "": os.TempDir.
	TempDir string
	// Environ is the environment that programs inherit; nil: the runner's own.
	Environ []string
	// Helper is how scripts call the helper in the job's place; "": by
	// DefaultHelper.
	Helper string
	// Log hears what cleanup_exec prints; nil: nobody.
	Log *slog.Logger
}

// Defaults of Options.
const (
	DefaultGrace  = 10 * time.Minute
	DefaultForce  = 10 * time.Second
	DefaultHelper = "glassrunner"
)

// A Driver opens places by the operator's programs. It implements
// executor.Driver.
type Driver struct{ o Options }

// New returns a driver. It fails when there is no program that runs scripts.
func New(o Options) (*Driver, error) {
	if o.Run.Path == "" {
		return nil, errors.New("custom executor is missing RunExec: set run_exec in [runners.custom]")
	}
	if o.Dir == "" {
		dir, err := os.Getwd()
		if err != nil {
			return nil, fmt.Errorf("custom executor: working directory: %w", err)
		}
		o.Dir = dir
	}
	for _, p := range []*Program{&o.Config, &o.Prepare, &o.Run, &o.Cleanup} {
		p.Path = under(o.Dir, p.Path)
	}
	def := "bash"
	if runtime.GOOS == "windows" {
		def = "pwsh"
	}
	o.Shell = cmp.Or(o.Shell, def)
	o.Helper = cmp.Or(o.Helper, DefaultHelper)
	o.Grace, o.Force = cmp.Or(max(o.Grace, 0), DefaultGrace), cmp.Or(max(o.Force, 0), DefaultForce)
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Driver{o}, nil
}

// under makes a path absolute, from dir. A bare name is left for $PATH.
func under(dir, path string) string {
	if path == "" || filepath.IsAbs(path) || !strings.ContainsAny(path, `/`+string(filepath.Separator)) {
		return path
	}
	return filepath.Join(dir, path)
}

// Traits says what the driver can do. Where a job lives, config_exec may say.
func (d *Driver) Traits() executor.Traits {
	t := executor.Traits{
		Name:          "custom",
		SharedEnv:     true,
		Shell:         d.o.Shell,
		HelperCommand: d.o.Helper,
		Claims:        placeClaim,
		Arranges:      true,
		Features:      []string{"variables", "shared", "service_variables"},
	}
	if d.o.Cleanup.Path != "" {
		t.CloseTimeout = d.o.Cleanup.Timeout + d.o.Grace + d.o.Force + time.Minute
	}
	return t
}

// Open has the operator's programs make a job's place. What they have begun
// is cleaned up after an error.
func (d *Driver) Open(ctx context.Context, r executor.Request) (executor.Env, error) {
	stage(r, "prepare")
	p := &place{d: d, r: r}
	err := p.open(ctx)
	if err == nil {
		return p, nil
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), cmp.Or(d.Traits().CloseTimeout, executor.DefaultCloseTimeout))
	defer cancel()
	if cerr := p.Close(limit); cerr != nil {
		_ = p.tell("WARNING: " + cerr.Error()) // the job fails with its own error
	}
	return nil, err
}

func stage(r executor.Request, s string) {
	if r.Stage != nil {
		r.Stage(s)
	}
}

// Reap ends what a claim of an earlier process names. See the function Reap.
func (d *Driver) Reap(ctx context.Context, c executor.Claim) (int, error) { return Reap(ctx, c) }

// command makes a command of a program, in the job's temporary directory.
func command(p Program, args []string, dir string, environ []string) (*exec.Cmd, error) {
	path := p.Path
	if !filepath.IsAbs(path) {
		found, err := exec.LookPath(path)
		if err != nil {
			return nil, err
		}
		path = found
	}
	cmd := exec.Command(path, slices.Concat(p.Args, args)...) //nolint:noctx // run ends it
	cmd.Dir, cmd.Env = dir, environ
	cmd.SysProcAttr = ownGroup()
	return cmd, nil
}

// tell writes a line to the job log.
func (p *place) tell(text string) error {
	if p.r.Log == nil {
		return nil
	}
	if _, err := io.WriteString(p.r.Log, text+"\n"); err != nil {
		return fmt.Errorf("job log: %w", err)
	}
	return nil
}
