package app

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/executor/docker"
	"github.com/glassrunner/glassrunner/internal/executor/shell"
)

// Executors lists the executors of this build, by their name in config.toml.
func Executors() []string { return []string{"docker", "shell"} }

// belongings tells what this process's jobs make from what others made. The
// zero value is for who runs no jobs.
type belongings struct {
	owner  string // see App.owner
	places *shell.Places
}

// driver builds the executor of one [[runners]] entry.
func driver(c *config.Config, r *config.Runner, o Options, own belongings, bus *event.Bus, log *slog.Logger) (executor.Driver, error) {
	switch r.Executor {
	case "shell":
		user := c.User
		if o.User != "" {
			user = o.User
		}
		return shell.New(shell.Options{
			BuildsDir: r.BuildsDir, CacheDir: r.CacheDir, Shell: r.Shell, User: user,
			Dir: o.WorkingDirectory, Grace: r.GracefulKillTimeout(), Log: log, Helper: self(),
			Owner: own.owner, Places: own.places,
		})
	case "docker":
		d := dockerOptions(r, bus, log)
		d.Owner = own.owner
		return docker.New(d)
	case "":
		return nil, fmt.Errorf("no executor is configured: set executor to one of %v", Executors())
	}
	return nil, fmt.Errorf("executor %q is not in this build: use one of %v", r.Executor, Executors())
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
