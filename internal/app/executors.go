package app

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/user"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/executor/custom"
	"github.com/glassrunner/glassrunner/internal/executor/docker"
	"github.com/glassrunner/glassrunner/internal/executor/kubernetes"
	"github.com/glassrunner/glassrunner/internal/executor/shell"
)

// Executors lists the executors of this build, by their name in config.toml.
func Executors() []string { return []string{"custom", "docker", "kubernetes", "shell", "ssh"} }

// belongings tells what this process's jobs make from what others made. The
// zero value is for who runs no jobs.
type belongings struct {
	owner  string // see App.owner
	places *shell.Places
}

// driver builds the executor of one [[runners]] entry.
func driver(c *config.Config, r *config.Runner, o Options, own belongings, bus *event.Bus, log *slog.Logger) (executor.Driver, error) {
	account := cmp.Or(o.User, c.User)
	switch r.Executor {
	case "shell":
		return shell.New(shell.Options{
			BuildsDir: r.BuildsDir, CacheDir: r.CacheDir, Shell: r.Shell, User: account,
			Dir: o.WorkingDirectory, Grace: r.GracefulKillTimeout(), Log: log, Helper: self(), Environ: jobEnviron(),
			Owner: own.owner, Places: own.places,
		})
	case "custom":
		return custom.New(customOptions(r, o, log))
	case "docker":
		d := dockerOptions(r, bus, log)
		d.Home, d.Owner = homeOf(account, log), own.owner
		return docker.New(d)
	case "kubernetes":
		k := kubernetesOptions(r, bus, log)
		k.Home, k.Owner = homeOf(account, log), own.owner
		return kubernetes.New(k)
	case "ssh":
		return sshDriver(r, account, own, log)
	case "":
		return nil, fmt.Errorf("no executor is configured: set executor to one of %v", Executors())
	}
	return nil, fmt.Errorf("executor %q is not in this build: use one of %v", r.Executor, Executors())
}

// homeOf is the home directory of a user; "" when there is none of that name, or
// no name: the executor takes that of this process.
func homeOf(name string, log *slog.Logger) string {
	if name == "" {
		return ""
	}
	u, err := user.Lookup(name)
	if err != nil {
		log.Debug("looking for credentials of registries", "user", name, "error", err)
		return ""
	}
	return u.HomeDir
}

// reapForsaken ends what a claim names that no runner of the configuration
// reaches any more, by what the claim itself says.
func (a *App) reapForsaken(ctx context.Context, name string, c executor.Claim) (int, error) {
	switch name {
	case "custom":
		return custom.Reap(ctx, c)
	case "kubernetes":
		return kubernetes.Reap(ctx, c, a.bus)
	case "ssh": // it took a key that no claim has
		return 0, fmt.Errorf("%s: %w", c.Data["machine"], executor.ErrElsewhere)
	}
	d, err := driver(a.current.Load().config, &config.Runner{Executor: name}, a.o, a.own, a.bus, a.log)
	if err != nil {
		return 0, err
	}
	return d.Reap(ctx, c)
}

// self is the running program, which has the commands that move caches and
// artifacts; "" when its path cannot be found.
func self() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	return path
}

// dockerOptions are those of the executor that uses Docker. Without a
// [runners.docker] section everything has its default.
func dockerOptions(r *config.Runner, bus *event.Bus, log *slog.Logger) docker.Options {
	o := docker.Options{Token: r.Token, BuildsDir: r.BuildsDir, CacheDir: r.CacheDir, Shell: r.Shell, Bus: bus, Log: log}
	if r.Docker != nil {
		o.Config = *r.Docker
	}
	return o
}

// kubernetesOptions are those of the executor that makes pods. Without a
// [runners.kubernetes] section everything has its default.
func kubernetesOptions(r *config.Runner, bus *event.Bus, log *slog.Logger) kubernetes.Options {
	o := kubernetes.Options{BuildsDir: r.BuildsDir, CacheDir: r.CacheDir, Shell: r.Shell, Bus: bus, Log: log}
	if r.Kubernetes != nil {
		o.Config = *r.Kubernetes
	}
	return o
}

// customOptions are those of the executor that runs programs of the operator.
func customOptions(r *config.Runner, o Options, log *slog.Logger) custom.Options {
	opts := custom.Options{Grace: r.GracefulKillTimeout(), Shell: r.Shell, Dir: o.WorkingDirectory, Log: log}
	if c := r.Custom; c != nil {
		opts.Config = custom.Program{Path: c.ConfigExec, Args: c.ConfigArgs, Timeout: c.ConfigTimeout()}
		opts.Prepare = custom.Program{Path: c.PrepareExec, Args: c.PrepareArgs, Timeout: c.PrepareTimeout()}
		opts.Run = custom.Program{Path: c.RunExec, Args: c.RunArgs}
		opts.Cleanup = custom.Program{Path: c.CleanupExec, Args: c.CleanupArgs, Timeout: c.CleanupTimeout()}
		opts.Force = c.ForceKill()
	}
	return opts
}
