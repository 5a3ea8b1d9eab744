// Package cli is the command line: a file a command. Commands parse flags and
// the environment, call the packages below, and print for people. Names of
// commands, flags and environment variables that GitLab Runner has mean here
// what they mean there.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/pprof"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/glassrunner/glassrunner/internal/app"
	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/observe/logs"
	"github.com/glassrunner/glassrunner/internal/version"
)

// World is what a command touches besides files and the network.
type World struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	// Terminal reports whether Out and In are a person's.
	Terminal bool
	// Color reports whether Err may be coloured.
	Color bool
	// Width of the terminal in columns; 0 when it is not known.
	Width int
}

// System is the process's own world.
func System() World {
	w := World{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv,
		Terminal: term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd())),
		Color:    term.IsTerminal(int(os.Stderr.Fd())) && os.Getenv("NO_COLOR") == "",
	}
	if columns, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
		w.Width = columns
	}
	return w
}

// Main runs the command that args name and returns the exit code: 0 when all
// went well, 1 when something failed, 2 when the command line is wrong.
func Main(args []string, w World) int {
	c := &command{World: w, args: args, fromEnv: map[string]bool{}}
	return c.main()
}

func (c *command) main() int {
	root := c.root()
	root.SetArgs(c.args)
	root.SetIn(c.In)
	root.SetOut(c.Out)
	root.SetErr(c.Err)
	if len(c.args) > 0 && (c.args[0] == cobra.ShellCompRequestCmd || c.args[0] == cobra.ShellCompNoDescRequestCmd) {
		if err := c.completes(root); err != nil {
			fmt.Fprintln(c.Err, version.Name+": "+err.Error())
			return 1
		}
	}
	err := root.ExecuteContext(context.Background())
	if c.profile != nil {
		pprof.StopCPUProfile()
		err = errors.Join(err, c.profile.Close())
	}
	if err == nil {
		return 0
	}
	err = asUsage(err)
	if !errors.Is(err, errTold) {
		fmt.Fprintln(c.Err, version.Name+": "+logs.Scrub(err.Error()))
	}
	if _, isUsage := errors.AsType[*usageError](err); isUsage {
		return 2
	}
	return 1
}

// errTold marks a failure that has been printed in full.
var errTold = errors.New("told")

// usageError is a wrong command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// command is what the commands share: the world and the global flags.
type command struct {
	World
	args       []string
	configPath string
	debug      bool
	logLevel   string
	logFormat  string
	cpuProfile string
	profile    *os.File
	// fromEnv are the flags that the environment gave their value.
	fromEnv map[string]bool
	// serving runs an app until it ends; serve, but for tests.
	serving func(ctx context.Context, o app.Options, service string) error
	// log is what commands other than run tell of what they do.
	log teller
}

func (c *command) root() *cobra.Command {
	if c.serving == nil {
		c.serving = c.serve
	}
	root := &cobra.Command{
		Use:   version.Name,
		Short: "A CI/CD runner for GitLab that its operator can see into",
		Long: `glassrunner runs CI/CD jobs of a GitLab server. It reads the config.toml of
GitLab Runner, speaks the same runner API and exports the same Prometheus
metrics, and more of them.

See it work first:          glassrunner demo
Connect it to a server:     glassrunner register
Check the configuration:    glassrunner check-config
Run jobs:                   glassrunner run --listen-address localhost:9252`,
		Version:           version.Get().Version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return c.prepare(cmd) },
	}
	root.SetVersionTemplate(version.Get().String())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{fmt.Errorf("%w\nSee '%s --help'", err, cmd.CommandPath())}
	})
	f := root.PersistentFlags()
	f.StringVarP(&c.configPath, "config", "c", config.DefaultPath(), "configuration `file`")
	f.BoolVar(&c.debug, "debug", false, "log everything, the same as --log-level debug")
	f.StringVarP(&c.logLevel, "log-level", "l", "", "least `level` to log: debug, info, warn, error, fatal, panic")
	f.StringVar(&c.logFormat, "log-format", "", "`format` of the log: runner, text, json")
	f.StringVar(&c.cpuProfile, "cpuprofile", "", "write a CPU profile of the whole process to `file`")
	env(f, map[string]string{
		"config": "CONFIG_FILE", "debug": "RUNNER_DEBUG", "log-level": "LOG_LEVEL",
		"log-format": "LOG_FORMAT", "cpuprofile": "CPU_PROFILE",
	})
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run jobs:"},
		&cobra.Group{ID: "manage", Title: "Manage runners:"},
		&cobra.Group{ID: "look", Title: "Look and check:"},
	)
	root.AddCommand(c.commands()...)
	root.AddCommand(c.helperCommands()...)
	root.SetHelpCommand(helpCommand())
	root.SetUsageFunc(c.usage)
	for _, sub := range root.Commands() {
		sub.Flags().SortFlags = false
		if sub.HasSubCommands() && !sub.Runnable() {
			sub.Args, sub.RunE = noSuchCommand, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
		if sub.Args == nil {
			sub.Args = noArgs
		}
	}
	return root
}

// commands lists all commands.
func (c *command) commands() []*cobra.Command {
	return []*cobra.Command{
		c.run(), c.runSingle(), c.demo(),
		c.register(), c.verify(), c.unregister(), c.resetToken(),
		c.list(), c.top(), c.checkConfig(), c.autoscale(), c.metrics(), c.hashPassword(), c.docs(), c.completion(), c.versionCommand(),
	}
}

// startLog makes the logger that commands tell people with. The settings of
// the file are for run only, as in GitLab Runner.
func (c *command) startLog() error {
	level, err := logs.ParseLevel(c.logLevel)
	if err != nil {
		return &usageError{fmt.Errorf("--log-level: %w", err)}
	}
	h, err := logs.NewHandler(c.Err, c.logFormat, level, c.Color)
	if err != nil {
		return &usageError{fmt.Errorf("--log-format: %w", err)}
	}
	c.log = teller{slog.New(logs.Scrubbing(h))}
	return nil
}

// noArgs refuses arguments in words that help: a boolean flag's value must be
// joined to it by an equals sign.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return &usageError{fmt.Errorf("%s takes no arguments, found %q (a switch's value follows an equals sign, as in --locked=false)\nSee '%s --help'",
		cmd.CommandPath(), args[0], cmd.CommandPath())}
}

// noSuchCommand refuses what is no command of a group of them.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return &usageError{fmt.Errorf("%s has no command %q\nSee '%s --help'", cmd.CommandPath(), args[0], cmd.CommandPath())}
}

// envKey is the annotation that names a flag's environment variable.
const envKey = "glassrunner_env"

// env names the environment variables of flags; their help says so.
func env(f *pflag.FlagSet, names map[string]string) {
	for flag, name := range names {
		fl := f.Lookup(flag)
		if fl == nil || name == "" {
			continue
		}
		if fl.Annotations == nil {
			fl.Annotations = map[string][]string{}
		}
		fl.Annotations[envKey] = []string{name}
	}
}

// prepare gives flags that were not set the value of their environment
// variable, and starts what the global flags ask for.
func (c *command) prepare(cmd *cobra.Command) error {
	var errs []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		names := f.Annotations[envKey]
		if len(names) == 0 || f.Changed {
			return
		}
		if v := c.Getenv(names[0]); v != "" {
			if err := cmd.Flags().Set(f.Name, v); err != nil {
				errs = append(errs, fmt.Errorf("environment variable %s: %w", names[0], err))
			}
			c.fromEnv[f.Name] = true
		}
	})
	if err := errors.Join(errs...); err != nil {
		return &usageError{err}
	}
	if c.debug {
		c.logLevel = "debug"
	}
	if err := c.startLog(); err != nil {
		return err
	}
	if c.cpuProfile == "" {
		return nil
	}
	f, err := os.Create(c.cpuProfile)
	if err != nil {
		return fmt.Errorf("--cpuprofile: %w", err)
	}
	c.profile = f
	return pprof.StartCPUProfile(f)
}
