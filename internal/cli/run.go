package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"

	"github.com/glassrunner/glassrunner/internal/app"
)

func (c *command) run() *cobra.Command {
	var o app.Options
	var service string
	var syslog bool
	cmd := &cobra.Command{
		Use:     "run",
		Short:   "Run jobs of the configured runners",
		GroupID: "run",
		Long: `Run jobs of every [[runners]] entry of the configuration until stopped.

SIGQUIT          take no more jobs, wait for those that run, exit 0
SIGTERM, SIGINT  interrupt the jobs that run, report them, exit; at the
                 latest after shutdown_timeout
                 a second one: exit at once
SIGHUP           reload the configuration, as does a change of the file`,
		Example: `  glassrunner run
  glassrunner run --config /etc/gitlab-runner/config.toml --listen-address localhost:9252`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.ConfigPath, o.LogOutput, o.Color = c.configPath, c.Err, c.Color
			o.LogLevel, o.LogFormat = c.logLevel, c.logFormat
			if !syslog {
				service = ""
			}
			return c.serving(cmd.Context(), o, service)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.ListenAddress, "listen-address", "", "`address` of the metrics server as [host]:port; wins over the configuration")
	f.StringVar(&o.WebConfigFile, "web.config.file", "", "`file` with TLS, client certificates and passwords of the metrics server, in the format of Prometheus exporters; wins over the configuration")
	f.StringVarP(&service, "service", "n", "gitlab-runner", "`name` of the service, for the system log")
	f.StringVarP(&o.WorkingDirectory, "working-directory", "d", "", "`directory` below which the shell executor puts builds and caches")
	f.StringVarP(&o.User, "user", "u", "", "`user` that jobs of the shell executor run as")
	f.BoolVar(&syslog, "syslog", false, "log to the system logger as well")
	env(f, map[string]string{"listen-address": "LISTEN_ADDRESS", "web.config.file": "WEB_CONFIG_FILE", "syslog": "LOG_SYSLOG"})
	return cmd
}

// serve runs an app and turns signals into what they ask for. It logs to the
// system logger as well, under the name of a service unless that is empty.
func (c *command) serve(ctx context.Context, o app.Options, service string) error {
	if c.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(share(runtime.GOMAXPROCS(0)))
	}
	if service != "" {
		w, err := systemLog(service)
		if err != nil {
			return fmt.Errorf("--syslog: %w", err)
		}
		o.LogOutput = both{c.Err, w}
	}
	// Signals first: a SIGHUP while the program starts is no reason to end.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, handled()...)
	defer signal.Stop(signals)
	defer surviveReaders()()
	a, err := app.New(o)
	if err != nil {
		return err
	}
	// A container's memory limit is one for the garbage collector too.
	if _, err := memlimit.Set(memlimit.WithProvider(memlimit.FromCgroup), memlimit.WithRatio(0.9)); err != nil {
		a.Log().Debug("No memory limit is known", "error", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	for h := (handling{}); ; {
		select {
		case err := <-ended:
			if errors.Is(err, app.ErrForced) {
				a.Log().Error("Exiting although jobs have not been reported: the next start reports them", "error", err)
				return errTold
			}
			return err
		case s := <-signals:
			switch h.next(s, time.Now()) {
			case actReload:
				// A failure is logged by the app, which goes on as it was.
				_ = a.Reload(ctx)
			case actDrain:
				a.Drain(s.String())
			case actAbort:
				a.Abort(s.String())
			case actExit:
				a.Log().Error("Second signal: exiting at once; the next start reports jobs that have not been", "signal", s.String())
				return errTold
			case actNothing:
			}
		}
	}
}

// share is how many processors a runner uses of those that it may use. They
// are the jobs': a runner has little to compute, in many small pieces, and to
// hand those from one processor to another costs more than it gains.
func share(processors int) int { return max(1, processors/4) }

// action is what a signal makes run do.
type action int

const (
	actReload action = iota
	actDrain         // take no more jobs, let those that run end
	actAbort         // interrupt those that run
	actExit          // at once
	actNothing
)

// bounce is the time within which the same signal again is the same wish: no
// person is that quick, but timeout(1) and some supervisors send it to the
// process and to its group.
const bounce = 100 * time.Millisecond

// handling knows which signals came before.
type handling struct {
	draining, aborting bool
	last               os.Signal
	at                 time.Time
}

// next returns what a signal asks for.
func (h *handling) next(s os.Signal, now time.Time) action {
	if isReload(s) {
		return actReload
	}
	again := s == h.last && now.Sub(h.at) < bounce
	if !again {
		h.last, h.at = s, now
	}
	switch {
	case again:
		return actNothing
	case h.aborting && isGraceful(s, true):
		return actDrain // which changes nothing any more
	case h.aborting:
		return actExit
	case isGraceful(s, h.draining):
		h.draining = true
		return actDrain
	default:
		h.aborting = true
		return actAbort
	}
}

// both writes to two writers, of which the second may fail.
type both [2]interface{ Write([]byte) (int, error) }

func (b both) Write(p []byte) (int, error) {
	_, _ = b[1].Write(p) // the system logger may come and go
	return b[0].Write(p)
}
