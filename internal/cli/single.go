package cli

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/glassrunner/glassrunner/internal/app"
	"github.com/glassrunner/glassrunner/internal/config"
)

// single is what run-single is asked to do.
type single struct {
	entry          *entryFlags
	runner         string
	maxBuilds      int
	wait, shutdown int // seconds
}

func (c *command) runSingle() *cobra.Command {
	s := &single{}
	cmd := &cobra.Command{
		Use:     "run-single",
		Short:   "Run jobs of one runner that is described on the command line",
		GroupID: "run",
		Long: `Run jobs of one runner that the command line describes, until stopped or until
--max-builds or --wait-timeout ends it. The configuration is not read, unless
--runner takes the runner from there; flags on the command line then change it.

Signals mean what they mean to run; see 'glassrunner run --help'.`,
		Example: `  glassrunner run-single --url https://gitlab.example.com --token "$TOKEN" --executor shell
  glassrunner run-single --runner "build box" --max-builds 1 --wait-timeout 60`,
	}
	f := cmd.Flags()
	f.StringVarP(&s.runner, "runner", "r", "", "`name` of a runner in the configuration to run")
	f.IntVar(&s.maxBuilds, "max-builds", 0, "exit after this `number` of jobs; 0: never")
	f.IntVar(&s.wait, "wait-timeout", 0, "exit when no job came for so many `seconds`; 0: never")
	f.IntVar(&s.shutdown, "shutdown-timeout", 0, "`seconds` that a forceful shutdown may take; 0: 30, or the configuration's")
	shownHelp := helpAll(cmd)
	groupRest(f, "Run")
	s.entry = c.addEntryFlags(cmd, map[string]string{"url": "u", "token": "t"})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if shown, err := shownHelp(); shown {
			return err
		}
		o, err := c.singleOptions(s)
		if err != nil {
			return err
		}
		return c.serving(cmd.Context(), o, "")
	}
	return cmd
}

// singleOptions says what the command line asks for.
func (c *command) singleOptions(s *single) (app.Options, error) {
	one := &app.Single{
		MaxBuilds: s.maxBuilds, WaitTimeout: time.Duration(s.wait) * time.Second,
		ShutdownTimeout: time.Duration(s.shutdown) * time.Second,
	}
	o := app.Options{
		ConfigPath: c.configPath, LogOutput: c.Err, LogLevel: c.logLevel, LogFormat: c.logFormat, Color: c.Color, Single: one,
	}
	if s.maxBuilds < 0 || s.wait < 0 || s.shutdown < 0 {
		return o, &usageError{errors.New("--max-builds, --wait-timeout and --shutdown-timeout cannot be negative")}
	}
	r := &one.Runner
	which := func(config.Field) bool { return true }
	if s.runner != "" {
		cfg, err := c.load()
		if err != nil {
			return o, err
		}
		i := slices.IndexFunc(cfg.Runners, func(r config.Runner) bool { return r.Name == s.runner })
		if i < 0 {
			return o, fmt.Errorf("no runner in %s is named %q", cfg.Path, s.runner)
		}
		*r = cfg.Runners[i]
		r.Labels = cfg.MergedLabels(r)
		one.Tracing = cfg.Tracing
		if one.ShutdownTimeout == 0 {
			one.ShutdownTimeout = cfg.ShutdownTimeout()
		}
		// What the environment says is meant for entries that are made of it.
		which = func(f config.Field) bool { return !c.fromEnv[f.Flag] }
	}
	if err := s.entry.apply(r, which); err != nil {
		return o, err
	}
	for _, need := range []struct{ flag, env, value string }{
		{"url", "CI_SERVER_URL", r.URL}, {"token", "CI_SERVER_TOKEN", r.Token.Reveal()}, {"executor", "RUNNER_EXECUTOR", r.Executor},
	} {
		if need.value == "" {
			return o, &usageError{&neededError{need.flag, need.flag, need.env}}
		}
	}
	if has := app.Executors(); !slices.Contains(has, r.Executor) {
		return o, fmt.Errorf("this build of glassrunner has no executor %q; it has: %s", r.Executor, strings.Join(has, ", "))
	}
	if r.Name == "" {
		r.Name, _ = os.Hostname() // a name is for people only
	}
	return o, nil
}
