package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

const (
	defaultBuildsDir = "/builds"
	defaultCacheDir  = "/cache"
	// helperCommand is where helper images have their binary. Ours has it
	// under this name too, so that both kinds of image work.
	helperCommand = "/usr/bin/gitlab-runner-helper"
	// cleanup bounds what happens after a failed Open, and each attempt to
	// remove what an engine that was away kept.
	cleanup = time.Minute
)

// Options configure a Driver.
type Options struct {
	// Config is [runners.docker].
	Config config.Docker
	// Token is the runner's token: cache volumes are named after a hash of it.
	Token job.Secret
	// BuildsDir is the root of project directories inside the containers; "":
	// /builds. CacheDir is the same for local caches; "": /cache.
	BuildsDir, CacheDir string
	// Shell is the default: "bash", "sh" or "pwsh"; "": bash.
	Shell string
	// Helper is the image of helper containers where Config names none. It is
	// never pulled; "": HelperImage.
	Helper string
	// Home holds .docker/config.json; "": the home directory of the process.
	Home string
	// Owner is on every object of a job: it tells those of this runner's state
	// directory from those of others; "": there are no others.
	Owner string
	// Bus hears how long images and services took; nil: nobody does.
	Bus *event.Bus
	// Log hears what only a developer needs; nil: nobody.
	Log *slog.Logger
}

// A Driver opens places on one engine. It implements executor.Driver.
type Driver struct {
	o        Options
	hostname string
	// delay is how long to wait until a registry is asked again.
	delay func() time.Duration

	mu   sync.Mutex
	left []string // runs whose removal failed because the engine was away
	root string   // of the engine's data on this machine, see Disks
}

// New returns a driver. It does not talk to the engine. An error says what in
// the configuration cannot be.
func New(o Options) (*Driver, error) {
	if o.BuildsDir == "" {
		o.BuildsDir = defaultBuildsDir
	}
	if o.CacheDir == "" {
		o.CacheDir = defaultCacheDir
	}
	for _, dir := range []string{o.BuildsDir, o.CacheDir} {
		if !path.IsAbs(dir) || path.Clean(dir) == "/" {
			return nil, fmt.Errorf("docker executor: the directory %q has to be absolute and not the root", dir)
		}
	}
	o.BuildsDir, o.CacheDir = path.Clean(o.BuildsDir), path.Clean(o.CacheDir)
	if o.Shell == "" {
		o.Shell = "bash"
	}
	if o.Home == "" {
		o.Home, _ = os.UserHomeDir() // without one there are no credentials
	}
	if o.Helper == "" {
		o.Helper = HelperImage
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d := &Driver{o: o, delay: pullDelay}
	d.hostname, _ = os.Hostname()
	return d, nil
}

// Traits says what the driver can do.
func (d *Driver) Traits() executor.Traits {
	return executor.Traits{
		Name:          "docker",
		BuildsDir:     d.o.BuildsDir,
		CacheDir:      d.o.CacheDir,
		SharedBuilds:  d.sharedBuilds(),
		CustomDirs:    true,
		SafeDirectory: true,
		CleanConfig:   true,
		Shell:         d.o.Shell,
		AnyShell:      true,
		HelperCommand: helperCommand,
		Claims:        claimKind,
		Where:         d.o.Config.Host,
		Features: []string{
			"variables", "image", "services", "image_executor_opts", "service_executor_opts",
			"service_variables", "service_multiple_aliases",
		},
	}
}

// sharedBuilds says whether all jobs see one builds directory, because it is
// a directory of the engine's machine.
func (d *Driver) sharedBuilds() bool {
	return slices.ContainsFunc(d.o.Config.Volumes, func(v string) bool {
		m, err := parseVolume(v)
		return err == nil && m.source != "" && (m.target == d.o.BuildsDir || strings.HasPrefix(d.o.BuildsDir, m.target+"/"))
	})
}

// Open makes a place for a job. An *executor.Error says what is wrong with
// the job, its images or the configuration.
func (d *Driver) Open(ctx context.Context, r executor.Request) (executor.Env, error) {
	p := newPlace(d, r)
	err := p.open(ctx)
	if err == nil {
		return p, nil
	}
	p.explain(err)
	if p.engine != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
		defer cancel()
		err = errors.Join(err, p.Close(undo))
	}
	if ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	return nil, err
}

// claimKind is that of the claims of this driver.
const claimKind = "docker"

// Reap removes the containers, volumes and networks of an earlier process'
// job. It counts the containers.
func (d *Driver) Reap(ctx context.Context, c executor.Claim) (int, error) {
	if c.Kind != claimKind || c.ID == "" {
		return 0, fmt.Errorf("docker executor: a claim of kind %q is not ours", c.Kind)
	}
	e, err := connect(ctx, connectionOf(c))
	if err != nil {
		return 0, err
	}
	defer e.close()
	return e.removeRun(ctx, c.ID, true)
}

// keep remembers a run that could not be removed.
func (d *Driver) keep(run string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = append(d.left, run)
}

// sweep removes what earlier jobs of this driver had to leave behind because
// the engine was away. What fails again is tried with the next job.
func (d *Driver) sweep(ctx context.Context, e *engine) {
	d.mu.Lock()
	left := d.left
	d.left = nil
	d.mu.Unlock()
	for i, run := range left {
		if _, err := e.removeRun(ctx, run, true); err != nil {
			d.o.Log.Debug("removing what a job left behind", "run", run, "error", err)
			d.mu.Lock()
			d.left = append(d.left, left[i:]...)
			d.mu.Unlock()
			return
		}
	}
}

// Colours of the job log.
const (
	reset  = "\x1b[0;m"
	yellow = "\x1b[0;33m"
	grey   = "\x1b[38;5;247m"
)

// say writes a line to the job log.
func (p *place) say(format string, args ...any) {
	if p.r.Log != nil {
		// The log keeps its own error and tells it to the next script.
		_, _ = io.WriteString(p.r.Log, fmt.Sprintf(format, args...)+"\n")
	}
}

// warn writes a yellow line to the job log.
func (p *place) warn(format string, args ...any) {
	p.say("%s", yellow+"WARNING: "+fmt.Sprintf(format, args...)+reset)
}

func (p *place) stage(name string) {
	if p.r.Stage != nil {
		p.r.Stage(name)
	}
}
