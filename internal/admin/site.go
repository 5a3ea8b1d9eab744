package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
)

// site is an address that the server listens on, or does not: the one of the
// metrics, or the one for debugging.
type site struct {
	s       *Server
	debug   bool
	handler http.Handler

	change sync.Mutex // held by rebind and close, never by what serves

	mu     sync.Mutex
	now    *serving // nil: off
	closed bool
}

// serving is one listener and what answers on it.
type serving struct {
	wanted string // address as asked for
	http   *http.Server
	stop   context.CancelFunc // of the goroutine that serves
	gone   chan struct{}      // closed when it is given up

	mu       sync.Mutex
	listener net.Listener
	given    bool // up: do not open it again
}

// addr returns where the site really listens, "" when it is off.
func (t *site) addr() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now == nil {
		return ""
	}
	return t.now.addr()
}

func (v *serving) addr() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.listener.Addr().String()
}

func (t *site) emit(ctx context.Context, addr string, err error) {
	t.s.o.Bus.Emit(ctx, event.ListenerChanged{Address: addr, Debug: t.debug, Err: err})
}

// rebind makes the site listen on addr instead of where it does now, or stop
// when addr is empty. The new listener is opened before the old one is given
// up, so on an error the old one is still there. Answers that are under way
// are finished. ListenerChanged is emitted unless nothing changes.
func (t *site) rebind(ctx context.Context, addr string) error {
	t.change.Lock()
	defer t.change.Unlock()
	t.mu.Lock()
	old, closed := t.now, t.closed
	t.mu.Unlock()
	if closed {
		return http.ErrServerClosed
	}
	if addr == "" && old == nil || old != nil && addr == old.wanted {
		return nil
	}
	if addr == "" {
		t.put(nil)
		t.giveUp(old)
		t.emit(ctx, "", nil)
		return nil
	}
	l, err := listen(ctx, addr)
	if err != nil && old != nil && errors.Is(err, syscall.EADDRINUSE) && overlap(addr, old.addr()) {
		l, err = t.takeOver(ctx, old, addr)
	}
	if err != nil {
		err = explain(addr, err)
		t.emit(ctx, addr, err)
		return err
	}
	v := t.serve(ctx, addr, l)
	t.put(v)
	if old != nil {
		t.giveUp(old)
	}
	t.emit(ctx, v.addr(), nil)
	return nil
}

func (t *site) put(v *serving) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now = v
}

// takeOver listens on addr when old is in the way: the same port on another
// or on every address. For a moment nobody listens.
func (t *site) takeOver(ctx context.Context, old *serving, addr string) (net.Listener, error) {
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

// close stops to listen for good.
func (t *site) close() {
	t.change.Lock()
	defer t.change.Unlock()
	t.mu.Lock()
	old := t.now
	t.now, t.closed = nil, true
	t.mu.Unlock()
	if old != nil {
		t.giveUp(old)
	}
}

// giveUp ends v without waiting for answers under way.
func (t *site) giveUp(v *serving) {
	v.mu.Lock()
	v.given = true
	l := v.listener
	v.mu.Unlock()
	v.stop()
	close(v.gone)
	s := t.s
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

type servingKey struct{}

// goneOf is closed when the listener that r came by is given up: what answers
// without end has to end then.
func goneOf(r *http.Request) <-chan struct{} {
	if v, ok := r.Context().Value(servingKey{}).(*serving); ok {
		return v.gone
	}
	return nil
}

func (t *site) serve(ctx context.Context, wanted string, l net.Listener) *serving {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	v := &serving{wanted: wanted, listener: l, stop: stop, gone: make(chan struct{})}
	o := &t.s.o
	requests := context.WithValue(context.WithoutCancel(ctx), servingKey{}, v)
	v.http = &http.Server{
		Handler:           t.handler,
		ReadHeaderTimeout: o.HeaderTimeout, // bounds TLS handshakes, too
		IdleTimeout:       o.IdleTimeout,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return requests },
		ConnContext:       connContext,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerConnection: 1 << 16, MaxReceiveBufferPerStream: 1 << 16, MaxReadFrameSize: 1 << 14},
		// There is no ReadTimeout and no WriteTimeout: they would end a
		// profile that takes a minute. Handlers set their own deadlines.
	}
	t.s.wg.Go(func() { t.keepServing(ctx, v) })
	return v
}

// maxStreams bounds the requests at once of one HTTP/2 connection.
const maxStreams = 16

// keepServing serves until v is given up. A listener that breaks is opened
// again.
func (t *site) keepServing(ctx context.Context, v *serving) {
	pause := firstPause
	for ctx.Err() == nil {
		v.mu.Lock()
		l := v.listener
		v.mu.Unlock()
		began := time.Now()
		err := v.http.Serve(&gate{t.s.conns.limit(l), t.s})
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
		t.emit(ctx, addr, fmt.Errorf("the monitoring server stopped serving on %s and will try again: %w", addr, err))
		t.s.closeQuietly(l)
		if time.Since(began) > maxPause {
			pause = firstPause
		}
		if t.reopen(ctx, v, l, &pause) {
			t.emit(ctx, addr, nil)
		}
	}
}

const (
	firstPause = 100 * time.Millisecond
	maxPause   = 30 * time.Second
)

// reopen opens a listener in place of the broken one, trying until it can or
// v is given up.
func (t *site) reopen(ctx context.Context, v *serving, broken net.Listener, pause *time.Duration) bool {
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
			t.s.o.Log.Debug("Monitoring server: listening again", "error", err)
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
