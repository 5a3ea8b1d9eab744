package admin

import (
	"context"
	"fmt"
	"net/http"
	"net/http/pprof"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
)

// routes is everything that the server answers.
func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", s.landing)
	mux.HandleFunc("/static/", s.static)
	mux.Handle("/metrics", s.metrics())
	s.apiRoutes(mux)
	mux.HandleFunc("/health/ready", s.ready)
	mux.HandleFunc("/-/healthy", s.healthy)
	mux.HandleFunc("/-/ready", s.readiness)
	mux.HandleFunc("/debug/process/state", s.processState)
	mux.HandleFunc("/debug/jobs/list", s.jobs)
	mux.HandleFunc("/debug/jobs", s.debugJobs)
	p := &profiles{slots: make(chan struct{}, s.o.MaxProfiles)}
	mux.Handle("/debug/pprof/", p.limited(pprof.Index))
	mux.Handle("/debug/pprof/cmdline", p.limited(pprof.Cmdline))
	mux.Handle("/debug/pprof/symbol", p.limited(pprof.Symbol))
	mux.Handle("/debug/pprof/profile", p.limited(alone(&p.cpu, "CPU profile", pprof.Profile)))
	mux.Handle("/debug/pprof/trace", p.limited(alone(&p.trace, "execution trace", pprof.Trace)))
	return mux
}

// part is what one of the two listeners shows of next, guarded and protected.
func (s *Server) part(next http.Handler, debug bool) http.Handler {
	return s.guarded(s.protected(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.shows(r.URL.Path, debug) {
			next.ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
	})))
}

// shows says whether a path is served, and by this listener.
func (s *Server) shows(path string, debug bool) bool {
	n := s.settings.Load()
	switch {
	case strings.HasPrefix(path, "/debug/pprof/"):
		return !n.HidePprof && debug == (n.DebugAddress != "")
	case strings.HasPrefix(path, "/debug/"):
		return debug == (n.DebugAddress != "")
	case debug:
		return false
	case strings.HasPrefix(path, "/api/"), strings.HasPrefix(path, "/static/"):
		return !n.HideStatusPage
	default:
		return true
	}
}

// guarded keeps what a handler does wrong, and what a client does slowly,
// inside the one request.
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := connOf(r.Context()); c != nil {
			c.busy(true)
			defer c.busy(false)
		}
		rc := http.NewResponseController(w)
		if r.ContentLength != 0 {
			// Nothing here needs a body but symbol look-ups of pprof.
			_ = rc.SetReadDeadline(time.Now().Add(s.o.HeaderTimeout)) // not every writer has deadlines; then there are none
			r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
		}
		_ = rc.SetWriteDeadline(time.Now().Add(writeTime(r, s.o.ScrapeTimeout)))
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		defer func() {
			v := recover()
			if v == nil || v == http.ErrAbortHandler { //nolint:errorlint // the value itself is what net/http compares
				if v != nil {
					panic(v) //nolint:forbidigo // net/http cuts the connection, as was asked for
				}
				return
			}
			s.counts.panics.Inc()
			s.o.Log.Debug("Monitoring server: panic", "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			s.o.Bus.Emit(context.WithoutCancel(r.Context()), event.Degraded{What: "monitoring_request", Err: fmt.Errorf("panic: %v", v)})
			http.Error(w, "internal error", http.StatusInternalServerError)
		}()
		next.ServeHTTP(w, r)
	})
}

// writeTime is how long an answer may take in all: profiles take as long as
// they are asked to.
func writeTime(r *http.Request, scrape time.Duration) time.Duration {
	d := 2 * scrape
	if strings.HasPrefix(r.URL.Path, "/debug/pprof/") {
		d = time.Minute
		if sec, err := strconv.ParseFloat(r.URL.Query().Get("seconds"), 64); err == nil && sec > 0 {
			d += time.Duration(min(sec, maxProfile.Seconds()) * float64(time.Second))
		} else {
			d += 30 * time.Second
		}
	}
	return d
}

// reads reports whether r is a GET or HEAD; otherwise it has been answered.
func reads(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
	return false
}

// maxProfile bounds ?seconds=.
const maxProfile = 10 * time.Minute

type profiles struct {
	slots      chan struct{}
	cpu, trace sync.Mutex
}

func (p *profiles) limited(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// With other methods a body could say what the query is checked for.
		symbol := r.Method == http.MethodPost && r.URL.Path == "/debug/pprof/symbol"
		if !symbol && !reads(w, r) {
			return
		}
		if sec := r.URL.Query().Get("seconds"); sec != "" {
			if n, err := strconv.ParseFloat(sec, 64); err == nil && n > maxProfile.Seconds() {
				http.Error(w, fmt.Sprintf("seconds=%s is too long: at most %.0f", sec, maxProfile.Seconds()), http.StatusBadRequest)
				return
			}
		}
		select {
		case p.slots <- struct{}{}:
			defer func() { <-p.slots }()
		default:
			http.Error(w, "too many profiles are being taken: try again later", http.StatusServiceUnavailable)
			return
		}
		next(w, r)
	})
}

// alone answers 409 while next is still busy with another request: the Go
// runtime can take one such profile at a time.
func alone(mu *sync.Mutex, what string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !mu.TryLock() {
			http.Error(w, "another "+what+" is being taken: only one at a time is possible, try again when it is done", http.StatusConflict)
			return
		}
		defer mu.Unlock()
		next(w, r)
	}
}

func (s *Server) processState(w http.ResponseWriter, _ *http.Request) {
	plain(w, http.StatusOK, s.o.Board.Present().Process.State+"\n")
}

// jobs lists the running jobs, a line for each, in the form that GitLab
// Runner's tools read.
func (s *Server) jobs(w http.ResponseWriter, _ *http.Request) {
	var b strings.Builder
	now := time.Now()
	for _, j := range s.o.Board.Present().Jobs {
		fmt.Fprintf(&b, "url=%s state=%s stage=%s executor_stage=%s duration=%s\n",
			word(j.URL), word(string(j.State)), word(string(j.Stage)), word(j.ExecutorStage), now.Sub(j.Started))
	}
	w.Header().Set("X-List-Version", "2")
	w.Header().Set("Content-Type", "text/plain")
	write(w, http.StatusOK, b.String())
}

// word keeps a value from breaking the line it stands in.
func word(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, s)
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	write(w, code, text)
}

// write answers; a client that does not take it has gone, and nobody else
// cares.
func write(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text)) //nolint:gosec // never HTML but for the embedded page: every answer has its type, and sniffing is off
}
