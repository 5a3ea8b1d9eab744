package shell

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

// Options configure a Driver.
type Options struct {
	// BuildsDir and CacheDir are the roots of all jobs' directories; "":
	// "builds" and "cache" below Dir.
	BuildsDir, CacheDir string
	// Shell is the default: "bash", "sh", "pwsh" or "powershell"; "": bash, sh
	// where there is no bash, or pwsh on Windows.
	Shell string
	// User runs the jobs, through su; "": the runner's own user. Linux only.
	User string
	// Dir is where shells start; "": the runner's working directory.
	Dir string
	// Environ is the environment that jobs inherit; nil: the runner's own.
	Environ []string
	// Helper is the program with the commands that move caches and artifacts,
	// "" when there is none.
	Helper string
	// Grace is the time between the polite and the hard signal for commands
	// that name none; 0: executor.DefaultGrace.
	Grace time.Duration
	// Owner is in the mark of every job's processes: it tells those of this
	// runner's state directory from those of others; "": there are no others.
	Owner string
	// Places are the jobs' temporary directories in use, shared by all drivers
	// of a process; nil: those of this driver alone.
	Places *Places
	// CgroupRoot is the cgroup v2 directory below which jobs get groups; "":
	// the one the runner is in, when that is writable; NoCgroup: none.
	CgroupRoot string
	// Log hears what only a developer needs; nil: nobody.
	Log *slog.Logger
}

// claimKind is that of the claims of this driver.
const claimKind = "process"

// NoCgroup as Options.CgroupRoot keeps jobs in the runner's control group.
const NoCgroup = "none"

// A Driver opens places on this machine. It implements executor.Driver.
type Driver struct {
	o        Options
	owner    *owner // nil: files belong to the runner's own user
	hostname string
	cgroups  string // directory for the jobs' groups, "" when there is none
	buffers  sync.Pool
	found    sync.Map // programs by name: where they are
}

// owner is whose the job's files are.
type owner struct{ uid, gid int }

// New returns a driver. It fails when a directory cannot be made absolute or
// the user does not exist.
func New(o Options) (*Driver, error) {
	if o.Dir == "" {
		dir, err := os.Getwd()
		if err != nil {
			return nil, fmt.Errorf("shell executor: working directory: %w", err)
		}
		o.Dir = dir
	}
	if o.Shell == "" {
		o.Shell = defaultShell()
	}
	if o.BuildsDir == "" {
		o.BuildsDir = "builds"
	}
	if o.CacheDir == "" {
		o.CacheDir = "cache"
	}
	o.BuildsDir, o.CacheDir = under(o.Dir, o.BuildsDir), under(o.Dir, o.CacheDir)
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	if o.Grace <= 0 {
		o.Grace = executor.DefaultGrace
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Places == nil {
		o.Places = new(Places)
	}
	d := &Driver{o: o}
	d.buffers.New = func() any { b := make([]byte, 64<<10); return &b }
	if o.User != "" {
		own, err := lookup(o.User)
		if err != nil {
			return nil, fmt.Errorf("shell executor: user %q: %w", o.User, err)
		}
		d.owner = own
	}
	d.hostname, _ = os.Hostname()
	d.cgroups = findCgroups(o.CgroupRoot, o.Log)
	return d, nil
}

// defaultShell is bash. Small systems have only sh.
func defaultShell() string {
	if runtime.GOOS == "windows" {
		return "pwsh"
	}
	if _, err := exec.LookPath("bash"); err != nil {
		if _, err := exec.LookPath("sh"); err == nil {
			return "sh"
		}
	}
	return "bash"
}

// under makes path absolute, from dir.
func under(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

func lookup(name string) (*owner, error) {
	if runtime.GOOS == "windows" || name[0] == '-' {
		return nil, errors.New("jobs cannot run as this user")
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return &owner{uid, gid}, errors.Join(err1, err2)
}

// Traits says what the driver can do.
func (d *Driver) Traits() executor.Traits {
	return executor.Traits{
		Name:          "shell",
		BuildsDir:     filepath.ToSlash(d.o.BuildsDir),
		CacheDir:      filepath.ToSlash(d.o.CacheDir),
		SharedBuilds:  true,
		SharedEnv:     true,
		Shell:         d.o.Shell,
		HelperCommand: d.o.Helper,
		Claims:        claimKind,
		LocalFiles:    true,
		Features:      []string{"variables", "shared"},
	}
}

// Disks are the directories of working copies and of local caches.
func (d *Driver) Disks(context.Context) ([]executor.Disk, error) {
	return []executor.Disk{{Root: "builds", Path: d.o.BuildsDir}, {Root: "cache", Path: d.o.CacheDir}}, nil
}

// Open makes a place for a job. An *executor.Error says that the shell is not
// installed or not known.
func (d *Driver) Open(_ context.Context, r executor.Request) (executor.Env, error) {
	stage(r, "prepare")
	name := r.Shell
	if name == "" {
		name = d.o.Shell
	}
	argv, err := d.command(name)
	if err != nil {
		return nil, &executor.Error{Reason: job.ConfigurationError, Err: err}
	}
	if r.Log != nil {
		if _, err := io.WriteString(r.Log, "Using Shell ("+name+") executor...\n"); err != nil {
			return nil, fmt.Errorf("job log: %w", err)
		}
	}
	files, err := openFiles(r.Dirs, d.owner)
	if err != nil {
		return nil, err
	}
	tree := d.plant(d.o.Owner + rand.Text())
	d.o.Places.enter(r.Dirs.Temp)
	e := &env{d: d, argv: argv, files: files, tree: tree, stage: r.Stage, temp: r.Dirs.Temp}
	if r.Claim != nil {
		e.claim = r.Claim
		c := tree.claim()
		c.Data[claimBuilds], c.Data[claimTemp] = r.Dirs.Builds, r.Dirs.Temp
		if err := r.Claim(c); err != nil {
			d.o.Places.leave(r.Dirs.Temp)
			return nil, errors.Join(fmt.Errorf("remembering the job's processes: %w", err), files.close())
		}
	}
	tree.root(d.o.Log) // what is claimed first is never lost
	return e, nil
}

func stage(r executor.Request, s string) {
	if r.Stage != nil {
		r.Stage(s)
	}
}

// look finds a program; what was found once is not looked for again.
func (d *Driver) look(name string) (string, error) {
	if path, ok := d.found.Load(name); ok {
		return path.(string), nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", err
	}
	d.found.Store(name, path)
	return path, nil
}

// command is the command line of a shell that reads its script from the
// standard input.
func (d *Driver) command(name string) ([]string, error) {
	switch name {
	case "bash", "sh":
		if d.owner != nil && runtime.GOOS == "linux" {
			su, err := d.look("su")
			if err != nil {
				return nil, fmt.Errorf("jobs run as user %s: %w", d.o.User, err)
			}
			return []string{su, "-s", "/bin/" + name, d.o.User, "-c", name + " -l"}, nil
		}
		path, err := d.look(name)
		if err != nil {
			return nil, fmt.Errorf("the shell is not installed: %w", err)
		}
		return []string{path, "-l"}, nil
	case "pwsh", "powershell":
		if d.owner != nil {
			return nil, fmt.Errorf("%s cannot run jobs as another user", name)
		}
		path, err := d.look(name)
		if err != nil {
			return nil, fmt.Errorf("the shell is not installed: %w", err)
		}
		return []string{path, "-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-Command", "-"}, nil
	}
	return nil, fmt.Errorf("shell: want bash, sh, pwsh or powershell, found %q", name)
}
