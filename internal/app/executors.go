package app

import (
	"fmt"
	"log/slog"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/executor/shell"
)

// Executors lists the executors of this build, by their name in config.toml.
func Executors() []string { return []string{"shell"} }

// driver builds the executor of one [[runners]] entry.
func driver(c *config.Config, r *config.Runner, o Options, log *slog.Logger) (executor.Driver, error) {
	switch r.Executor {
	case "shell":
		user := c.User
		if o.User != "" {
			user = o.User
		}
		return shell.New(shell.Options{
			BuildsDir: r.BuildsDir, CacheDir: r.CacheDir, Shell: r.Shell, User: user,
			Dir: o.WorkingDirectory, Grace: r.GracefulKillTimeout(), Log: log,
		})
	case "":
		return nil, fmt.Errorf("no executor is configured: set executor to one of %v", Executors())
	}
	return nil, fmt.Errorf("executor %q is not in this build: use one of %v", r.Executor, Executors())
}
