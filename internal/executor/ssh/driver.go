package ssh

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/remote"
)

// A Machine is where a job runs.
type Machine struct {
	Name  string // for the job log
	Login remote.Login
	// Lost is closed when the machine is no more; nil: nobody watches it.
	Lost <-chan struct{}
	// Release gives the machine back; nil: there is nothing to give back.
	Release func(context.Context) error
}

// Machines gives each job a machine.
type Machines interface {
	// Acquire waits for a machine. It writes to r.Log what a person should know.
	Acquire(ctx context.Context, r executor.Request) (Machine, error)
	// All are those that may have something of this runner's jobs.
	All() []Machine
}

// One is the one machine that all jobs of a runner use.
type One remote.Login

// Acquire returns the machine.
func (o One) Acquire(context.Context, executor.Request) (Machine, error) {
	return Machine{Name: o.Address, Login: remote.Login(o)}, nil
}

// All returns the machine.
func (o One) All() []Machine { return []Machine{{Name: o.Address, Login: remote.Login(o)}} }

// Options configure a Driver.
type Options struct {
	Name     string // of the executor; "": "ssh"
	Title    string // for the job log; "": "SSH"
	Machines Machines
	// LoginShell has the shell read its start-up files of a login.
	LoginShell bool
	// BuildsDir and CacheDir are the roots of all jobs' directories, relative
	// to the directory of a login; "": "builds" and "cache".
	BuildsDir, CacheDir string
	Shell               string // default: "bash" or "sh"; "": bash
	Helper              string // how scripts call the helper; "": DefaultHelper
	Grace               time.Duration
	Owner               string        // see shell.Options
	Tries               int           // of connecting; 0: 3
	Pause               time.Duration // between them; 0: 3 s
}

// DefaultHelper is looked for in the machine's $PATH.
const DefaultHelper = "glassrunner"

// claimKind is that of the claims of this driver.
const claimKind = "ssh-process"

// A Driver opens places on machines. It implements executor.Driver.
type Driver struct{ o Options }

// New returns a driver. It fails for a shell that takes no script from its
// standard input.
func New(o Options) (*Driver, error) {
	o.Name, o.Title = cmp.Or(o.Name, "ssh"), cmp.Or(o.Title, "SSH")
	o.Shell = cmp.Or(o.Shell, "bash")
	if _, err := shellCommand(o.Shell, o.LoginShell); err != nil {
		return nil, fmt.Errorf("%s executor: %w", o.Name, err)
	}
	o.BuildsDir, o.CacheDir = cmp.Or(o.BuildsDir, "builds"), cmp.Or(o.CacheDir, "cache")
	o.Helper = cmp.Or(o.Helper, DefaultHelper)
	o.Grace = cmp.Or(max(o.Grace, 0), executor.DefaultGrace)
	o.Tries, o.Pause = cmp.Or(o.Tries, 3), cmp.Or(o.Pause, 3*time.Second)
	return &Driver{o}, nil
}

func shellCommand(name string, login bool) (string, error) {
	if name != "bash" && name != "sh" {
		return "", fmt.Errorf("shell: want bash or sh, found %q", name)
	}
	if login {
		name += " -l"
	}
	return name, nil
}

// Traits says what the driver can do.
func (d *Driver) Traits() executor.Traits {
	return executor.Traits{
		Name: d.o.Name, BuildsDir: d.o.BuildsDir, CacheDir: d.o.CacheDir,
		SharedBuilds: true, SharedEnv: true, Shell: d.o.Shell, HelperCommand: d.o.Helper,
		Claims: claimKind, Where: d.where(), Arranges: true, Features: []string{"variables", "shared"},
	}
}

// where names the machines.
func (d *Driver) where() string {
	var names []string
	for _, m := range d.o.Machines.All() {
		names = append(names, m.Login.User+"@"+m.Login.Address)
	}
	return strings.Join(names, " ")
}

// Disks are none: jobs fill those of other machines.
func (d *Driver) Disks(context.Context) ([]executor.Disk, error) { return nil, nil }

// Open enters a machine.
func (d *Driver) Open(ctx context.Context, r executor.Request) (executor.Env, error) {
	if r.Stage != nil {
		r.Stage("prepare")
	}
	e := &env{d: d, r: r, mark: d.o.Owner + rand.Text()}
	if err := e.tell("Using " + d.o.Title + " executor..."); err != nil {
		return nil, err
	}
	m, err := d.o.Machines.Acquire(ctx, r)
	if err != nil {
		return nil, err
	}
	e.machine = m
	if err := e.open(ctx); err != nil {
		return nil, errors.Join(err, e.leave(context.WithoutCancel(ctx)))
	}
	return e, nil
}

// tell writes a line to the job log.
func (e *env) tell(text string) error {
	if e.r.Log == nil {
		return nil
	}
	if _, err := io.WriteString(e.r.Log, text+"\n"); err != nil {
		return fmt.Errorf("job log: %w", err)
	}
	return nil
}

// open connects, asks where a login begins, and settles the job's place.
func (e *env) open(ctx context.Context) error {
	var out []byte
	err := e.on(ctx, func(c *remote.Conn) (err error) {
		out, err = c.Output(ctx, "cd && pwd && uname -n", nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("looking at %s: %w", e.machine.Name, err)
	}
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	if len(lines) < 2 || !path.IsAbs(lines[len(lines)-2]) {
		return fmt.Errorf("looking at %s: it tells no directory but %.100q", e.machine.Name, out)
	}
	// What start-up files print comes before.
	home := lines[len(lines)-2]
	e.host = strings.TrimSpace(lines[len(lines)-1])
	if e.r.Arrange != nil {
		a, err := e.r.Arrange(executor.Layout{BuildsDir: under(home, e.d.o.BuildsDir), CacheDir: under(home, e.d.o.CacheDir)})
		if err != nil {
			return err
		}
		e.r.Shell = a.Shell
	}
	if e.shell, err = shellCommand(cmp.Or(e.r.Shell, e.d.o.Shell), e.d.o.LoginShell); err != nil {
		return &executor.Error{Reason: job.ConfigurationError, Err: err}
	}
	if e.r.Claim == nil {
		return nil
	}
	if err := e.r.Claim(claimOf(e.machine.Name, e.mark)); err != nil {
		return fmt.Errorf("remembering the job's processes: %w", err)
	}
	return nil
}

// claimOf is the claim of a job.
func claimOf(machine, mark string) executor.Claim {
	return executor.Claim{Kind: claimKind, ID: mark, Data: map[string]string{"mark": mark, "machine": machine}}
}

// under makes a path absolute, from dir.
func under(dir, p string) string {
	if path.IsAbs(p) {
		return path.Clean(p)
	}
	return path.Join(dir, p)
}

// Reap ends what a claim of an earlier process names.
func (d *Driver) Reap(ctx context.Context, c executor.Claim) (int, error) {
	mark, machine := c.Data["mark"], c.Data["machine"]
	if c.Kind != claimKind || !plain(mark) {
		return 0, fmt.Errorf("not a claim of the %s executor: %q", d.o.Name, c.Kind)
	}
	all := d.o.Machines.All()
	at := slices.IndexFunc(all, func(m Machine) bool { return m.Name == machine })
	if at < 0 {
		return 0, fmt.Errorf("%s: %w", machine, executor.ErrElsewhere)
	}
	conn, err := remote.Dial(ctx, all[at].Login)
	if err != nil {
		return 0, err
	}
	n, err := end(ctx, conn, mark, 0)
	return n, errors.Join(err, conn.Close())
}

// Leftovers asks each machine for processes with the mark of the owner.
func (d *Driver) Leftovers(ctx context.Context, _ []executor.Claim) ([]executor.Leftover, error) {
	if !plain(d.o.Owner) {
		return nil, nil // nothing tells its jobs from those of others
	}
	var out []executor.Leftover
	var errs []error
	for _, m := range d.o.Machines.All() {
		found, err := d.leftovers(ctx, m)
		out = append(out, found...)
		if err != nil {
			errs = append(errs, err)
		}
	}
	return out, errors.Join(errs...)
}

func (d *Driver) leftovers(ctx context.Context, m Machine) ([]executor.Leftover, error) {
	conn, err := remote.Dial(ctx, m.Login)
	if err != nil {
		return nil, err
	}
	found, err := list(ctx, conn, m.Name, d.o.Owner)
	return found, errors.Join(err, conn.Close())
}
