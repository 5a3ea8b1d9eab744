package admin

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// connections bounds how many connections are open at once, over all
// listeners. Connections without a request in a handler stand in a queue,
// ordered by when they last had one; when there is no room, the first of the
// queue is closed. A client whose request has arrived is never closed for
// another.
type connections struct {
	max     int
	evicted prometheus.Counter
	refused prometheus.Counter

	mu   sync.Mutex
	open int
	// waiting is a ring list: next is the longest waiting.
	waiting conn
}

func newConnections(limit int, reg prometheus.Registerer) *connections {
	c := &connections{max: limit}
	c.waiting.next, c.waiting.prev = &c.waiting, &c.waiting
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "glassrunner_http_connections_dropped_total",
		Help: "Connections to the monitoring server that were closed because too many were open.",
	}, []string{"what"})
	c.evicted, c.refused = dropped.WithLabelValues("silent"), dropped.WithLabelValues("new")
	reg.MustRegister(dropped, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "glassrunner_http_connections", Help: "Open connections to the monitoring server.",
	}, func() float64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return float64(c.open)
	}))
	return c
}

// limit returns l with its connections bounded.
func (c *connections) limit(l net.Listener) net.Listener { return &limited{Listener: l, all: c} }

type limited struct {
	net.Listener
	all *connections
}

// Accept returns the next connection there is room for.
func (l *limited) Accept() (net.Conn, error) {
	for {
		n, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.all.add(n); c != nil {
			return c, nil
		}
	}
}

// add makes room for n, or closes it and returns nil.
func (c *connections) add(n net.Conn) *conn {
	c.mu.Lock()
	var out *conn
	if c.open >= c.max {
		if out = c.waiting.next; out == &c.waiting {
			c.mu.Unlock()
			c.refused.Inc()
			_ = n.Close() // it has said nothing and was told nothing
			return nil
		}
		c.forget(out)
	}
	v := &conn{Conn: n, all: c}
	c.open++
	c.enqueue(v)
	c.mu.Unlock()
	if out != nil {
		c.evicted.Inc()
		// No data is pending on it; a deadline keeps Close from waiting.
		_ = out.SetDeadline(time.Now())
		_ = out.Conn.Close()
	}
	return v
}

// enqueue puts v last. c.mu is held.
func (c *connections) enqueue(v *conn) {
	v.prev, v.next = c.waiting.prev, &c.waiting
	v.prev.next, v.next.prev = v, v
}

// dequeue takes v out if it is in. c.mu is held.
func (c *connections) dequeue(v *conn) {
	if v.next == nil {
		return
	}
	v.prev.next, v.next.prev = v.next, v.prev
	v.next, v.prev = nil, nil
}

// forget gives v's room back. c.mu is held.
func (c *connections) forget(v *conn) {
	c.dequeue(v)
	if !v.gone {
		v.gone = true
		c.open--
	}
}

// conn is a connection that knows whether it waits for a request.
type conn struct {
	net.Conn
	all        *connections
	web        *webConfig // in force when the connection was made; nil: none was
	prev, next *conn      // in the queue; nil: a request is in a handler
	requests   int        // in handlers; more than one with HTTP/2
	gone       bool
}

// Close closes the connection and makes room.
func (v *conn) Close() error {
	v.all.mu.Lock()
	v.all.forget(v)
	v.all.mu.Unlock()
	return v.Conn.Close()
}

// busy says that a request of v has reached a handler, or has been answered.
func (v *conn) busy(yes bool) {
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	if v.gone {
		return
	}
	if yes {
		v.requests++
		v.all.dequeue(v)
		return
	}
	if v.requests--; v.requests == 0 {
		v.all.enqueue(v)
	}
}

// dropWaiting closes every connection that has no request in a handler.
func (c *connections) dropWaiting() {
	c.mu.Lock()
	var out []*conn
	for c.waiting.next != &c.waiting {
		v := c.waiting.next
		c.forget(v)
		out = append(out, v)
	}
	c.mu.Unlock()
	for _, v := range out {
		_ = v.SetDeadline(time.Now())
		_ = v.Conn.Close()
	}
}

type connKey struct{}

// connContext makes a request's connection known to its handlers.
func connContext(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if v, ok := c.(*conn); ok {
		return context.WithValue(ctx, connKey{}, v)
	}
	return ctx
}

func connOf(ctx context.Context) *conn {
	v, _ := ctx.Value(connKey{}).(*conn)
	return v
}
