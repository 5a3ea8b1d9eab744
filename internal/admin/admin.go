// Package admin is the monitoring server: /metrics, profiles, readiness, the
// status page and the JSON API behind it, in the clear or with TLS, client
// certificates and passwords as a web configuration file says.
//
// It is made not to hurt the jobs that it shows. Once it listens, no failure
// of it leaves this package other than as a fact: a panic in a handler is an
// answer 500, a listener that breaks is opened again with growing pauses. Its
// use of the machine is bounded, whoever connects: so many connections, so
// many scrapes at once, so long for a request to arrive and for an answer to
// be taken. When connections run out, the one that has been silent for longest
// makes room, so that clients who open connections and say nothing cannot
// keep out one who asks.
package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/board"
	"github.com/glassrunner/glassrunner/internal/observe/history"
	"github.com/glassrunner/glassrunner/internal/pulse"
)

// Options are what a Server needs. Gatherer, Registry and Board are
// required.
type Options struct {
	Gatherer prometheus.Gatherer   // what /metrics shows
	Registry prometheus.Registerer // gets what the server counts of itself
	Board    *board.Board
	Pulse    *pulse.Monitor   // whose promises /-/healthy is about; nil: nothing hangs
	History  *history.History // nil: the charts stay empty
	Bus      *event.Bus       // is told what becomes of listeners and web configurations; may be nil
	Log      *slog.Logger     // debug entries only; nil: none
	Version  string           // shown on the status page
	SystemID string           // the same
	Started  time.Time        // of the process; zero: now
	// Scrub takes out of an error's text what looks like a secret; nil: as it is.
	Scrub func(string) string
	// Tail returns the end of a running job's masked log, at most n bytes;
	// nil: nobody can.
	Tail func(r job.Runner, id job.ID, n int64) ([]byte, error)

	// Bounds; 0 means the default.
	MaxConnections int           // open at once, 128
	MaxScrapes     int           // gathered at once, 8; more get a 503
	MaxProfiles    int           // under /debug/pprof at once, 4; more get a 503
	HeaderTimeout  time.Duration // for a request to arrive, 5 s
	IdleTimeout    time.Duration // of kept connections, 2 min
	ScrapeTimeout  time.Duration // for gathering, and again for sending, 10 s
	DrainTimeout   time.Duration // for answers under way when a listener is given up, 5 s
	MaxStreams     int           // open event streams, 16; more get a 503
	StreamInterval time.Duration // between two looks at what to tell them, 1 s
	WebConfigPoll  time.Duration // between two looks for changes of the web configuration, 2 s
}

func (o *Options) setDefaults() {
	set(&o.MaxConnections, 128)
	set(&o.MaxScrapes, 8)
	set(&o.MaxProfiles, 4)
	set(&o.HeaderTimeout, 5*time.Second)
	set(&o.IdleTimeout, 2*time.Minute)
	set(&o.ScrapeTimeout, 10*time.Second)
	set(&o.DrainTimeout, 5*time.Second)
	set(&o.MaxStreams, 16)
	set(&o.StreamInterval, time.Second)
	set(&o.WebConfigPoll, 2*time.Second)
	if o.Scrub == nil {
		o.Scrub = func(s string) string { return s }
	}
	if o.Started.IsZero() {
		o.Started = time.Now()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

func set[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Settings are what an operator decides. The zero value is a server that is
// off.
type Settings struct {
	Address        string // host:port, whose port may be 0; "": off
	DebugAddress   string // of a listener for all below /debug/; "": that is served with the rest
	WebConfigFile  string // "": no TLS, no passwords
	HidePprof      bool
	HideStatusPage bool
	LogTail        bool // ends of logs may be seen by who has a password or certificate
}

// Server is the monitoring server. Its methods may be called at the same
// time.
type Server struct {
	o           Options
	counts      counts
	conns       *connections
	streams     *streams
	main, debug site

	settings atomic.Pointer[Settings]
	web      atomic.Pointer[webConfig]

	change  sync.Mutex // held while settings change
	tried   *webConfig // that could not be loaded, nil when the last one could
	warned  string     // what the last warning was about
	watcher context.CancelFunc
	closed  bool
	wg      sync.WaitGroup // of every goroutine
}

// New returns a server that does not listen yet.
func New(o Options) *Server {
	o.setDefaults()
	s := &Server{o: o}
	s.settings.Store(&Settings{})
	s.web.Store(&webConfig{replaced: make(chan struct{})})
	s.conns = newConnections(o.MaxConnections, o.Registry)
	s.streams = newStreams(s)
	s.counts = newCounts(o.Registry)
	mux := s.routes()
	s.main.s, s.main.handler = s, s.part(mux, false)
	s.debug.s, s.debug.debug, s.debug.handler = s, true, s.part(mux, true)
	return s
}

// Handler answers as the server does, without a listener.
func (s *Server) Handler() http.Handler { return s.main.handler }

// Addr returns the address that the server really listens on, "" when it is
// off.
func (s *Server) Addr() string { return s.main.addr() }

// DebugAddr is Addr of the second listener.
func (s *Server) DebugAddr() string { return s.debug.addr() }

// Listen starts to serve. It returns when connections are accepted. The error
// names the address or the file and says what to do about it; facts are
// emitted either way. Without an address it is no error: the server is off,
// and that is emitted too.
func (s *Server) Listen(ctx context.Context, n Settings) error {
	s.change.Lock()
	defer s.change.Unlock()
	if n.Address == "" && s.Addr() == "" {
		s.main.emit(ctx, "", nil)
	}
	if err := s.useWebConfig(ctx, n.WebConfigFile); err != nil {
		return err
	}
	s.settings.Store(&n)
	if err := s.main.rebind(ctx, n.Address); err != nil {
		return err
	}
	if err := s.debug.rebind(ctx, n.DebugAddress); err != nil {
		return err
	}
	s.watch(ctx)
	s.warn(ctx)
	return nil
}

// Apply changes the settings of a server that runs. What cannot be changed
// stays as it was; the facts that are emitted say so.
func (s *Server) Apply(ctx context.Context, n Settings) error {
	s.change.Lock()
	defer s.change.Unlock()
	webErr := s.useWebConfig(ctx, n.WebConfigFile)
	old := *s.settings.Load()
	if webErr != nil && n.WebConfigFile != old.WebConfigFile {
		n.WebConfigFile = old.WebConfigFile
		// Nothing may become visible that the new file was meant to protect.
		n.Address, n.DebugAddress = old.Address, old.DebugAddress
		n.HidePprof, n.HideStatusPage = n.HidePprof || old.HidePprof, n.HideStatusPage || old.HideStatusPage
	}
	// What is served on the debug listener leaves the other one first.
	debugErr := s.debug.rebind(ctx, n.DebugAddress)
	if debugErr != nil {
		n.DebugAddress = old.DebugAddress
	}
	s.settings.Store(&n)
	mainErr := s.main.rebind(ctx, n.Address)
	s.watch(ctx)
	s.warn(ctx)
	return errors.Join(webErr, debugErr, mainErr)
}

// watch starts the goroutine that looks for changes of the web configuration,
// once there is one.
func (s *Server) watch(ctx context.Context) {
	if s.watcher != nil || s.closed || s.web.Load().path == "" && s.tried == nil {
		return
	}
	ctx, s.watcher = context.WithCancel(context.WithoutCancel(ctx))
	s.wg.Go(func() { s.watchWeb(ctx) })
}

// warn tells of a server that anybody on the network can look into: once for
// each way of being so.
func (s *Server) warn(ctx context.Context) {
	c, n := s.web.Load(), s.settings.Load()
	var f event.ListenerExposed
	main, debug := reachable(s.Addr()), reachable(s.DebugAddr())
	if main {
		f.Addresses = append(f.Addresses, s.Addr())
		f.Shown = append(f.Shown, "metrics")
		if !n.HideStatusPage {
			f.Shown = append(f.Shown, "the names, projects and errors of jobs on the status page")
		}
	}
	if debug {
		f.Addresses = append(f.Addresses, s.DebugAddr())
	}
	if debug || main && s.DebugAddr() == "" {
		f.Shown = append(f.Shown, "the addresses of running jobs")
		if !n.HidePprof {
			f.Shown = append(f.Shown, "the memory of this process by way of its profiles")
		}
	}
	f.Passwords = c.people != nil && c.tls == nil
	about := ""
	if len(f.Addresses) > 0 && (!c.authenticates() || f.Passwords) {
		about = f.String()
	}
	if about != "" && about != s.warned {
		s.o.Bus.Emit(ctx, f)
	}
	s.warned = about
}

// reachable says whether other machines can reach an address.
func reachable(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false // off
	}
	ip := net.ParseIP(host)
	return ip == nil || !ip.IsLoopback()
}

// Close stops to listen, waits at most DrainTimeout for answers that are
// under way, and for everything that the server started.
func (s *Server) Close() {
	s.change.Lock()
	s.closed = true
	if s.watcher != nil {
		s.watcher()
	}
	s.main.close()
	s.debug.close()
	s.change.Unlock()
	s.wg.Wait()
}
