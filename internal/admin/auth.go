package admin

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/config"
	"golang.org/x/crypto/bcrypt"
)

// protected lets through to next who the web configuration lets.
func (s *Server) protected(next http.Handler) http.Handler {
	n := &s.counts
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := s.web.Load()
		if v := connOf(r.Context()); v != nil && v.web != c {
			// The connection was made before the present configuration and is
			// to be made again. Where that one asks more of it, at once.
			w.Header().Set("Connection", "close")
			if c.tls != nil && (r.TLS == nil || c.verified) {
				n.stale.Inc()
				http.Error(w, "the server's configuration has changed: connect again", http.StatusMisdirectedRequest)
				return
			}
		}
		if c.limiter != nil && !c.limiter.Allow() {
			n.limited.Inc()
			http.Error(w, http.StatusText(http.StatusTooManyRequests), http.StatusTooManyRequests)
			return
		}
		for k, v := range c.headers {
			w.Header().Set(k, v)
		}
		if c.people != nil {
			user, password, given := r.BasicAuth()
			ok, busy := false, false
			if given {
				ok, busy = c.people.know(r.Context(), user, password)
			}
			if busy {
				n.overloaded.Inc()
				w.Header().Set("Retry-After", "1")
				http.Error(w, "too many passwords are being checked: try again later", http.StatusServiceUnavailable)
				return
			}
			if !ok {
				n.unknown.Inc()
				w.Header().Set("WWW-Authenticate", `Basic realm="glassrunner", charset="UTF-8"`)
				http.Error(w, http.StatusText(http.StatusUnauthorized), http.StatusUnauthorized)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// counts is what the server counts of requests that it does not answer.
type counts struct {
	panics                              prometheus.Counter
	limited, unknown, overloaded, stale prometheus.Counter
}

func newCounts(reg prometheus.Registerer) counts {
	panics := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "glassrunner_http_panics_total", Help: "Requests to the monitoring server that ended in a panic of this program.",
	})
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "glassrunner_http_requests_refused_total", Help: "Requests to the monitoring server that its web configuration refused.",
	}, []string{"reason"})
	reg.MustRegister(panics, refused)
	return counts{
		panics:  panics,
		limited: refused.WithLabelValues("rate_limit"), unknown: refused.WithLabelValues("authentication"),
		overloaded: refused.WithLabelValues("overload"), stale: refused.WithLabelValues("stale_connection"),
	}
}

// people know their passwords. A password is slow to check on purpose, so one
// is checked at a time, few may wait for that, and one that was right is
// remembered: who guesses keeps out nobody that has been here before, and
// takes one processor at most from the jobs.
type people struct {
	hashes map[string]config.Secret
	decoy  config.Secret // is compared with when there is no such user, which takes as long
	key    [32]byte      // of what is remembered
	turn   chan struct{}
	queue  chan struct{}

	mu    sync.Mutex
	right map[[sha256.Size]byte]struct{}
}

const (
	maxRemembered = 128
	maxGuessers   = 16
	guessTimeout  = 5 * time.Second
)

func newPeople(hashes map[string]config.Secret) *people {
	p := &people{
		hashes: hashes, turn: make(chan struct{}, 1), queue: make(chan struct{}, maxGuessers),
		right: make(map[[sha256.Size]byte]struct{}),
	}
	p.decoy = hashes[slices.Min(slices.Collect(maps.Keys(hashes)))]
	_, _ = rand.Read(p.key[:]) // never fails
	return p
}

// know says whether that is the password of user, or that there is no time to
// find out.
func (p *people) know(ctx context.Context, user, password string) (ok, busy bool) {
	hash, known := p.hashes[user]
	m := hmac.New(sha256.New, p.key[:])
	m.Write([]byte(user))
	m.Write([]byte{0})
	m.Write([]byte(password))
	var sum [sha256.Size]byte
	m.Sum(sum[:0])
	if p.remembers(sum) {
		return true, false
	}
	select {
	case p.queue <- struct{}{}:
		defer func() { <-p.queue }()
	default:
		return false, true
	}
	late := time.NewTimer(guessTimeout)
	defer late.Stop()
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-late.C:
		return false, true
	case <-ctx.Done():
		return false, true
	}
	if p.remembers(sum) { // of the one before in the queue
		return true, false
	}
	if !known {
		hash = p.decoy
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) != nil || !known {
		return false, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.right) >= maxRemembered {
		clear(p.right)
	}
	p.right[sum] = struct{}{}
	return true, false
}

func (p *people) remembers(sum [sha256.Size]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.right[sum]
	return ok
}
