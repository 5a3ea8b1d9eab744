// Package admin is the monitoring server: /metrics, profiles, the list of
// running jobs, readiness and a landing page over plain HTTP.
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
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/observe/board"
	"github.com/glassrunner/glassrunner/internal/pulse"
)

// Options are what a Server needs. Gatherer, Registry and Board are
// required.
type Options struct {
	Gatherer prometheus.Gatherer   // what /metrics shows
	Registry prometheus.Registerer // gets what the server counts of itself
	Board    *board.Board
	Pulse    *pulse.Monitor // whose promises /-/healthy is about; nil: nothing hangs
	Bus      *event.Bus     // is told ListenerChanged and Degraded; may be nil
	Log      *slog.Logger   // debug entries only; nil: none
	Version  string         // shown on the landing page
	Started  time.Time      // of the process; zero: now

	// Bounds; 0 means the default.
	MaxConnections int           // open at once, 128
	MaxScrapes     int           // gathered at once, 8; more get a 503
	MaxProfiles    int           // under /debug/pprof at once, 4; more get a 503
	HeaderTimeout  time.Duration // for a request to arrive, 5 s
	IdleTimeout    time.Duration // of kept connections, 2 min
	ScrapeTimeout  time.Duration // for gathering, and again for sending, 10 s
	DrainTimeout   time.Duration // for answers under way when a listener is given up, 5 s
}

func (o *Options) setDefaults() {
	set(&o.MaxConnections, 128)
	set(&o.MaxScrapes, 8)
	set(&o.MaxProfiles, 4)
	set(&o.HeaderTimeout, 5*time.Second)
	set(&o.IdleTimeout, 2*time.Minute)
	set(&o.ScrapeTimeout, 10*time.Second)
	set(&o.DrainTimeout, 5*time.Second)
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

// Server is the monitoring server. Its methods may be called at the same
// time.
type Server struct {
	o       Options
	handler http.Handler
	page    *template.Template
	conns   *connections

	change sync.Mutex // held by Listen, Rebind and Close, never by what serves

	mu     sync.Mutex
	now    *serving // nil: off
	closed bool
	wg     sync.WaitGroup // of every goroutine
}

// serving is one listener and what answers on it.
type serving struct {
	wanted string // address as asked for
	http   *http.Server
	stop   context.CancelFunc // of the goroutine that serves

	mu       sync.Mutex
	listener net.Listener
	given    bool // up: do not open it again
}

// New returns a server that does not listen yet.
func New(o Options) *Server {
	o.setDefaults()
	s := &Server{o: o, page: template.Must(template.New("landing").Parse(landingPage))}
	s.conns = newConnections(o.MaxConnections, o.Registry)
	s.handler = s.routes()
	return s
}

// Handler answers as the server does, without a listener.
func (s *Server) Handler() http.Handler { return s.handler }

// Addr returns the address that the server really listens on, "" when it is
// off.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil {
		return ""
	}
	return s.now.addr()
}

func (v *serving) addr() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.listener.Addr().String()
}

// Listen starts to serve on addr, a host:port whose port may be 0. It
// returns when connections are accepted. The error names the address and
// says what to do about it; the fact ListenerChanged is emitted either way.
// An empty addr is no error: the server is off, and that is emitted too.
func (s *Server) Listen(ctx context.Context, addr string) error {
	if addr == "" && s.Addr() == "" {
		s.o.Bus.Emit(ctx, event.ListenerChanged{})
		return nil
	}
	return s.Rebind(ctx, addr)
}

// Rebind makes the server listen on addr instead of where it does now, or
// stop when addr is empty. The new listener is opened before the old one is
// given up, so on an error the old one is still there. Answers that are
// under way are finished. ListenerChanged is emitted unless nothing changes.
func (s *Server) Rebind(ctx context.Context, addr string) error {
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.Lock()
	old, closed := s.now, s.closed
	s.mu.Unlock()
	if closed {
		return http.ErrServerClosed
	}
	if addr == "" && old == nil || old != nil && addr == old.wanted {
		return nil
	}
	if addr == "" {
		s.put(nil)
		s.giveUp(old)
		s.o.Bus.Emit(ctx, event.ListenerChanged{})
		return nil
	}
	l, err := listen(ctx, addr)
	if err != nil && old != nil && errors.Is(err, syscall.EADDRINUSE) && overlap(addr, old.addr()) {
		l, err = s.takeOver(ctx, old, addr)
	}
	if err != nil {
		err = explain(addr, err)
		s.o.Bus.Emit(ctx, event.ListenerChanged{Address: addr, Err: err})
		return err
	}
	v := s.serve(ctx, addr, l)
	s.put(v)
	if old != nil {
		s.giveUp(old)
	}
	s.o.Bus.Emit(ctx, event.ListenerChanged{Address: v.addr()})
	return nil
}

func (s *Server) put(v *serving) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = v
}

// takeOver listens on addr when old is in the way: the same port on another
// or on every address. For a moment nobody listens.
func (s *Server) takeOver(ctx context.Context, old *serving, addr string) (net.Listener, error) {
	old.mu.Lock()
	defer old.mu.Unlock()
	was := old.listener.Addr().String()
	old.given = true
	if err := old.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return nil, err
	}
	l, err := listen(ctx, addr)
	if err == nil {
		return l, nil
	}
	back, backErr := listen(ctx, was)
	if backErr != nil {
		// The goroutine that serves tries again until it can.
		old.given = false
		return nil, fmt.Errorf("%w (and the former address %s could not be opened again: %w)", err, was, backErr)
	}
	old.listener, old.given = back, false
	return nil, err
}

// Close stops to listen, waits at most DrainTimeout for answers that are
// under way, and for everything that the server started.
func (s *Server) Close() {
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.Lock()
	old := s.now
	s.now, s.closed = nil, true
	s.mu.Unlock()
	if old != nil {
		s.giveUp(old)
	}
	s.wg.Wait()
}

// giveUp ends v without waiting for answers under way.
func (s *Server) giveUp(v *serving) {
	v.mu.Lock()
	v.given = true
	l := v.listener
	v.mu.Unlock()
	v.stop()
	s.closeQuietly(l)
	s.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.o.DrainTimeout)
		defer cancel()
		if err := v.http.Shutdown(ctx); err != nil {
			s.o.Log.Debug("Monitoring server: answers under way were cut", "error", err)
			if err := v.http.Close(); err != nil {
				s.o.Log.Debug("Monitoring server: closing", "error", err)
			}
		}
	})
}

func (s *Server) closeQuietly(l net.Listener) {
	if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		s.o.Log.Debug("Monitoring server: closing the listener", "error", err)
	}
}

func (s *Server) serve(ctx context.Context, wanted string, l net.Listener) *serving {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	v := &serving{wanted: wanted, listener: l, stop: stop}
	v.http = &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: s.o.HeaderTimeout,
		IdleTimeout:       s.o.IdleTimeout,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
		ConnContext:       connContext,
		// There is no ReadTimeout and no WriteTimeout: they would end a
		// profile that takes a minute. Handlers set their own deadlines.
	}
	s.wg.Go(func() { s.keepServing(ctx, v) })
	return v
}

// keepServing serves until v is given up. A listener that breaks is opened
// again.
func (s *Server) keepServing(ctx context.Context, v *serving) {
	pause := firstPause
	for ctx.Err() == nil {
		v.mu.Lock()
		l := v.listener
		v.mu.Unlock()
		began := time.Now()
		err := v.http.Serve(s.conns.limit(l))
		if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
			return
		}
		v.mu.Lock()
		replaced, given := v.listener != l, v.given
		v.mu.Unlock()
		switch {
		case given: // another one has the address now; ctx ends soon
			<-ctx.Done()
			return
		case replaced:
			continue
		}
		addr := l.Addr().String()
		s.o.Bus.Emit(ctx, event.ListenerChanged{Address: addr, Err: fmt.Errorf("the monitoring server stopped serving on %s and will try again: %w", addr, err)})
		s.closeQuietly(l)
		if time.Since(began) > maxPause {
			pause = firstPause
		}
		if s.reopen(ctx, v, l, &pause) {
			s.o.Bus.Emit(ctx, event.ListenerChanged{Address: addr})
		}
	}
}

const (
	firstPause = 100 * time.Millisecond
	maxPause   = 30 * time.Second
)

// reopen opens a listener in place of the broken one, trying until it can or
// v is given up.
func (s *Server) reopen(ctx context.Context, v *serving, broken net.Listener, pause *time.Duration) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(*pause):
		}
		*pause = min(2**pause, maxPause)
		if done, err := v.reopen(ctx, broken); done {
			return true
		} else if err != nil {
			s.o.Log.Debug("Monitoring server: listening again", "error", err)
		}
	}
}

func (v *serving) reopen(ctx context.Context, broken net.Listener) (done bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.listener != broken {
		return true, nil // by takeOver
	}
	if v.given || ctx.Err() != nil {
		return false, nil // ctx ends soon
	}
	l, err := listen(ctx, broken.Addr().String())
	if err != nil {
		return false, err
	}
	v.listener = l
	return true, nil
}
