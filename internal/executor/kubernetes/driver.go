package kubernetes

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
)

const (
	defaultBuildsDir = "/builds"
	defaultCacheDir  = "/cache"
	// helperCommand is where helper images have their binary. Ours has it
	// under this name too, so that both kinds of image work.
	helperCommand = "/usr/bin/gitlab-runner-helper"
	// HelperImage is the image of helper containers where the configuration
	// names none. `make helper-image` builds it; it is in no registry.
	HelperImage = "glassrunner/helper:1"
)

// Options configure a Driver.
type Options struct {
	// Config is [runners.kubernetes].
	Config config.Kubernetes
	// BuildsDir is the root of project directories inside the containers; "":
	// /builds. CacheDir is the same for local caches; "": /cache.
	BuildsDir, CacheDir string
	// Shell is the default: "bash" or "sh"; "": bash.
	Shell string
	// Helper is the image of helper containers where Config names none; "":
	// HelperImage.
	Helper string
	// Home holds .docker/config.json; "": the home directory of the process.
	Home string
	// Owner is on every pod: it tells those of this runner's state directory
	// from others. "": pods that are left behind are found by claims only.
	Owner string
	// Bus hears how pods fare; nil: nobody does.
	Bus *event.Bus
	// Log hears what only a developer needs; nil: nobody.
	Log *slog.Logger
}

// A Driver opens places in one cluster. It implements executor.Driver.
type Driver struct {
	o        Options
	hostname string

	mu      sync.Mutex
	known   *api            // made when it is needed first
	own     string          // namespace that its source names, or ""
	checked map[string]bool // namespaces in which the permissions suffice
}

// New returns a driver. It does not talk to the cluster. An error says what in
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
			return nil, fmt.Errorf("kubernetes executor: the directory %q has to be absolute and not the root", dir)
		}
	}
	o.BuildsDir, o.CacheDir = path.Clean(o.BuildsDir), path.Clean(o.CacheDir)
	if o.Shell == "" {
		o.Shell = "bash"
	}
	if o.Shell == "pwsh" || o.Shell == "powershell" {
		return nil, errors.New("kubernetes executor: pods of this executor run the shells bash and sh")
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
	if err := checkConfig(&o.Config); err != nil {
		return nil, fmt.Errorf("kubernetes executor: %w", err)
	}
	d := &Driver{o: o, checked: map[string]bool{}}
	d.hostname, _ = os.Hostname()
	return d, nil
}

// Traits says what the driver can do.
func (d *Driver) Traits() executor.Traits {
	return executor.Traits{
		Name:          "kubernetes",
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
		Where:         where(&d.o.Config),
		CloseTimeout:  d.o.Config.CleanupResourcesTimeout,
		Features: []string{
			"variables", "image", "services", "image_executor_opts", "service_variables", "service_multiple_aliases",
		},
	}
}

// sharedBuilds says whether several jobs see one builds directory, because a
// volume that outlives pods is mounted there.
func (d *Driver) sharedBuilds() bool {
	v := d.o.Config.Volumes
	if v == nil {
		return false
	}
	at := func(mount string) bool { return path.Clean(mount) == d.o.BuildsDir }
	return slices.ContainsFunc(v.HostPath, func(h config.HostPathVolume) bool { return at(h.MountPath) }) ||
		slices.ContainsFunc(v.PVC, func(p config.PVCVolume) bool { return at(p.MountPath) }) ||
		slices.ContainsFunc(v.CSI, func(c config.CSIVolume) bool { return at(c.MountPath) }) ||
		slices.ContainsFunc(v.NFS, func(n config.NFSVolume) bool { return at(n.MountPath) })
}

// api returns the connection of this driver and the namespace of its source.
func (d *Driver) api() (*api, string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil {
		a, own, err := connect(&d.o.Config, "", d.o.Bus)
		if err != nil {
			return nil, "", executor.Misconfigured("connecting to the Kubernetes API server: %w", err)
		}
		d.known, d.own = a, own
	}
	return d.known, d.own, nil
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
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	err = errors.Join(err, p.Close(undo))
	if ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	return nil, err
}

// claimKind is that of the claims of this driver.
const claimKind = "kubernetes"

// claim says how a later process finds what a job made.
func (p *place) claim() executor.Claim {
	c := p.c
	return executor.Claim{Kind: claimKind, ID: p.name, Data: map[string]string{
		"mark": p.run, "namespace": p.namespace, "own_namespace": fmt.Sprint(p.ownNamespace), "host": c.Host, "context": c.Context,
		"ca_file": c.CAFile, "cert_file": c.CertFile, "key_file": c.KeyFile,
	}}
}

// where names the cluster and the namespace of a configuration.
func where(c *config.Kubernetes) string { return c.Host + "\x00" + c.Context + "\x00" + c.Namespace }

// Reap deletes the pod of an earlier process' job and waits until it is gone.
// What belongs to the pod goes with it.
func (d *Driver) Reap(ctx context.Context, c executor.Claim) (int, error) {
	if c.Kind != claimKind || c.ID == "" || c.Data["namespace"] == "" {
		return 0, fmt.Errorf("kubernetes executor: a claim of kind %q is not ours", c.Kind)
	}
	if c.Data["host"] != d.o.Config.Host || c.Data["context"] != d.o.Config.Context {
		return 0, fmt.Errorf("cluster %s%s: %w", c.Data["host"], c.Data["context"], executor.ErrElsewhere)
	}
	a, _, err := d.api()
	if err != nil {
		return 0, err
	}
	return d.remains(ctx, a, c.ID, c.Data["namespace"], c.Data["own_namespace"] == "true")
}

// Reap is that of a driver, for who has none that reaches the claim's cluster:
// the claim says how that was reached, but for what is secret.
func Reap(ctx context.Context, c executor.Claim, bus *event.Bus) (int, error) {
	d, err := New(Options{Bus: bus, Config: config.Kubernetes{
		Host: c.Data["host"], Context: c.Data["context"],
		CAFile: c.Data["ca_file"], CertFile: c.Data["cert_file"], KeyFile: c.Data["key_file"],
	}})
	if err != nil {
		return 0, err
	}
	return d.Reap(ctx, c)
}

// Colours of the job log.
const (
	reset  = "\x1b[0;m"
	red    = "\x1b[31;1m"
	yellow = "\x1b[0;33m"
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
	p.say("%s", yellow+"WARNING: "+strings.TrimSpace(fmt.Sprintf(format, args...))+reset)
}

func (p *place) stage(name string) {
	if p.r.Stage != nil {
		p.r.Stage(name)
	}
}
