// Package app is the process: it wires the packages below, starts them in
// order, reloads the configuration, and stops them. Nothing here is global;
// two apps can live in one process.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/glassrunner/glassrunner/internal/admin"
	"github.com/glassrunner/glassrunner/internal/build"
	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/coordinator"
	"github.com/glassrunner/glassrunner/internal/disk"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor/shell"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/joblog"
	"github.com/glassrunner/glassrunner/internal/observe/board"
	"github.com/glassrunner/glassrunner/internal/observe/history"
	"github.com/glassrunner/glassrunner/internal/observe/logs"
	"github.com/glassrunner/glassrunner/internal/observe/metrics"
	"github.com/glassrunner/glassrunner/internal/observe/traces"
	"github.com/glassrunner/glassrunner/internal/pulse"
	"github.com/glassrunner/glassrunner/internal/recovery"
	"github.com/glassrunner/glassrunner/internal/scheduler"
	"github.com/glassrunner/glassrunner/internal/version"
)

// Options are what the command line decides.
type Options struct {
	ConfigPath string
	// ListenAddress wins over the configuration file unless it is empty.
	ListenAddress string
	// WebConfigFile protects the monitoring server; it wins over the
	// configuration file unless it is empty.
	WebConfigFile    string
	WorkingDirectory string // of jobs of the shell executor; "": the process's
	User             string // of jobs of the shell executor; wins over the file
	CertDir          string // "": the default one

	LogOutput io.Writer
	LogLevel  string // wins over the file unless empty
	LogFormat string // the same
	Color     bool

	// Single runs this entry instead of those of a file.
	Single *Single

	// WatchInterval is how often the configuration file is looked at; 0: 1 s.
	WatchInterval time.Duration
}

// App is one runner process.
type App struct {
	o        Options
	version  version.Info
	systemID string

	level   *slog.LevelVar
	format  *logs.Switch
	log     *slog.Logger
	board   *board.Board
	history *history.History
	metrics *metrics.Metrics
	traces  *traces.Traces
	bus     *event.Bus
	admin   *admin.Server
	pulse   *pulse.Monitor

	expiries expiries

	journal    *recovery.Journal
	transports *coordinator.Transports
	buffers    *joblog.Buffers
	tails      tails
	scheduler  *scheduler.Scheduler
	sampler    *build.Sampler
	disks      *disk.Guard
	own        belongings

	mu      sync.Mutex // guards the maps
	clients map[clientKey]*coordinator.Client
	slots   map[job.Secret]*build.Slots

	reload  sync.Mutex // one configuration change at a time
	current atomic.Pointer[generation]

	aborted chan struct{}
	abort   sync.Once
	budget  *budget // of run-single
}

// ErrForced says that jobs were still running, or not yet reported, when
// shutdown_timeout had passed. The next start settles them.
var ErrForced = errors.New("shutdown_timeout has passed")

// sampleInterval is about how often a running job's place is asked what the
// job uses.
const sampleInterval = 5 * time.Second

// New reads the configuration and makes an app of it. Nothing runs yet.
func New(o Options) (*App, error) {
	a := &App{
		o: o, version: version.Get(), level: new(slog.LevelVar),
		transports: coordinator.NewTransports(), buffers: new(joblog.Buffers), clients: map[clientKey]*coordinator.Client{},
		slots: map[job.Secret]*build.Slots{}, pulse: pulse.New(), expiries: expiries{told: map[string]time.Time{}}, aborted: make(chan struct{}),
	}
	c, report, err := a.load()
	if err != nil {
		return nil, err
	}
	var idErr error
	a.systemID, idErr = config.SystemID(c.Dir())
	if a.o.CertDir == "" {
		a.o.CertDir = config.DefaultCertDir()
	}
	a.board = board.New(board.Options{})
	facts := metrics.Build(a.version)
	facts.Name = "gitlab-runner" // the label's constant, see docs/adr/0008
	a.traces = traces.New(traces.Options{Version: a.version.Version, SystemID: a.systemID, Failed: a.tracingFailed})
	a.metrics = metrics.New(metrics.Options{Board: a.board, SystemID: a.systemID, Build: facts, Pulse: a.pulse, Spans: a.traces.Counts})
	handler, err := a.handler(c)
	if err != nil {
		return nil, err
	}
	a.log = slog.New(handler)
	if idErr != nil {
		a.log.Warn("The system id could not be kept: unless it comes from the machine id, GitLab will take this for another machine after a restart",
			"system_id", a.systemID, "error", idErr)
	}
	a.history = history.New()
	a.bus = event.NewBus(a.board, a.metrics, logs.New(a.log), a.traces, a.history)
	a.admin = admin.New(admin.Options{
		Gatherer: a.metrics.Gatherer(), Registry: a.metrics.Registry(), Board: a.board, History: a.history, Pulse: a.pulse, Bus: a.bus, Log: a.log,
		Version: a.version.Version, SystemID: a.systemID, Scrub: logs.Scrub, Tail: a.tails.read,
	})
	a.scheduler = scheduler.New(scheduler.Options{Bus: a.bus, Log: a.log, Pulse: a.pulse})
	a.sampler = build.NewSampler(sampleInterval)
	a.disks = a.guard()
	a.own = belongings{owner: a.owner(c), places: new(shell.Places)}
	a.current.Store(&generation{config: c, report: report})
	return a, nil
}

// handler makes the process's log handler for the level and the format in force.
func (a *App) handler(c *config.Config) (slog.Handler, error) {
	if err := a.setLevel(c); err != nil {
		return nil, err
	}
	h, err := a.formatted(c)
	if err != nil {
		return nil, err
	}
	a.format = logs.NewSwitch(h)
	return logs.Counting(logs.Scrubbing(a.format), a.metrics.CountLog), nil
}

// formatted writes log entries in the format in force.
func (a *App) formatted(c *config.Config) (slog.Handler, error) {
	format := a.o.LogFormat
	if format == "" {
		format = c.Format()
	}
	return logs.NewHandler(a.o.LogOutput, format, a.level, a.o.Color)
}

func (a *App) setLevel(c *config.Config) error {
	name := a.o.LogLevel
	if name == "" {
		name = c.Level()
	}
	l, err := logs.ParseLevel(name)
	if err != nil {
		return err
	}
	a.level.Set(l)
	return nil
}

// Log is the process's logger.
func (a *App) Log() *slog.Logger { return a.log }

// Run runs jobs until Drain or Abort was called and everything has ended, or
// until ctx ends, which is a graceful shutdown. It fails when it cannot
// start, and with ErrForced.
func (a *App) Run(ctx context.Context) (err error) {
	a.setProcess(ctx, event.ProcessStarting)
	first := a.current.Load()
	c := first.config
	if a.journal, err = recovery.Open(c.StateDir()); err != nil {
		return fmt.Errorf("%w (state_dir in %s must be a directory that this user can write)", err, c.Path)
	}
	defer func() { err = errors.Join(err, a.journal.Close()) }()
	// The configuration first: no scrape sees a process without it.
	if err := a.apply(ctx, c, first.report); err != nil {
		return err
	}
	defer a.stopTracing(ctx)
	stopMonitoring, err := a.startMonitoring(ctx, c)
	if err != nil {
		return err
	}
	defer stopMonitoring()

	// Helpers of the run end with it: what they were at stays for later.
	helpers, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { a.recover(helpers) })
	wg.Go(func() { trim(helpers, a.board.Running, release) })
	wg.Go(func() { a.sampler.Run(helpers) })
	a.disks.Check(helpers) // before any job is asked for
	wg.Go(func() { a.disks.Run(helpers) })
	wg.Go(func() { a.sample(helpers) })
	if a.o.Single == nil {
		wg.Go(func() { a.watch(helpers) })
		wg.Go(func() { a.rotate(helpers) })
	}

	a.setProcess(ctx, event.ProcessRunning)
	a.budget.start()
	defer a.budget.close()
	ended := make(chan error, 1)
	go func() { ended <- a.scheduler.Run(ctx, a.plan(a.current.Load())) }()
	select {
	case err := <-ended:
		return err
	case <-a.aborted:
	}
	timeout := time.NewTimer(a.current.Load().config.ShutdownTimeout())
	defer timeout.Stop()
	select {
	case err := <-ended:
		return err
	case <-timeout.C:
		return ErrForced
	}
}

// Drain stops taking jobs; Run returns when those that run have ended.
func (a *App) Drain(signal string) {
	a.setProcess(context.Background(), event.ProcessGracefulShutdown)
	a.scheduler.Drain(signal)
}

// Abort stops taking jobs and interrupts those that run. Run returns when
// they have been reported, at the latest after shutdown_timeout.
func (a *App) Abort(signal string) {
	a.abort.Do(func() {
		a.setProcess(context.Background(), event.ProcessForcefulShutdown)
		a.scheduler.Abort(signal, &build.Interruption{Signal: signal})
		close(a.aborted)
	})
}

func (a *App) setProcess(ctx context.Context, state string) {
	a.bus.Emit(ctx, event.ProcessChanged{State: state})
}

// Address is where the monitoring server listens, "" when it does not.
func (a *App) Address() string { return a.admin.Addr() }

// load reads the configuration: a file, or the one entry of run-single.
func (a *App) load() (*config.Config, *config.Report, error) {
	if a.o.Single != nil {
		a.budget = newBudget(a.o.Single, func(why string) { a.Drain(why) })
		return a.o.Single.config(a.o.ConfigPath), &config.Report{}, nil
	}
	return config.Load(a.o.ConfigPath, config.Options{SkipListenAddress: a.o.ListenAddress != ""})
}
