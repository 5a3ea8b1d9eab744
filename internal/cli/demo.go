package cli

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/glassrunner/glassrunner/internal/demo"
)

func (c *command) demo() *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use:     "demo",
		Short:   "Show a server, a runner and its metrics on this machine",
		GroupID: "run",
		Long: `Start a GitLab-compatible server and a runner on the loopback interface, run a
sample pipeline again and again, and say where to look. Nothing is left behind.

With --once the pipeline runs once; results and metrics are compared with what
the server handed out, and the exit code says whether they agree.

--pipeline reads jobs from a .gitlab-ci.yml. It knows stages, variables,
default, and jobs with script, before_script, after_script, stage, variables,
timeout and allow_failure; anything else is refused by name.`,
		Example: `  glassrunner demo
  glassrunner demo --once
  glassrunner demo --pipeline .gitlab-ci.yml --listen-address 127.0.0.1:9253`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case o.ListenAddress == "":
				return &usageError{errors.New("--listen-address: the demo shows metrics, so it needs an address")}
			case o.Concurrent < 1:
				return &usageError{fmt.Errorf("--concurrent: found %d, want at least 1", o.Concurrent)}
			}
			o.Out, o.Live = c.Out, c.Terminal && !o.Once
			o.Size = func() (int, int) {
				columns, rows, err := term.GetSize(int(os.Stdout.Fd()))
				if err != nil {
					return 80, 24
				}
				return columns, rows
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), stopSignals()...)
			defer stop()
			defer surviveReaders()()
			return demo.Run(ctx, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.Once, "once", false, "run the pipeline once, check the results and exit")
	f.StringVar(&o.Pipeline, "pipeline", "", "`file` in the form of .gitlab-ci.yml; the built-in pipeline without it")
	f.StringVar(&o.ListenAddress, "listen-address", "127.0.0.1:9252", "`address` of the runner's metrics server")
	f.IntVar(&o.Concurrent, "concurrent", 3, "`number` of jobs at once")
	return cmd
}

// stopSignals end the demo: Ctrl-C, Ctrl-\, a polite kill, and the end of the
// terminal.
func stopSignals() []os.Signal {
	return []os.Signal{os.Interrupt, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP}
}
