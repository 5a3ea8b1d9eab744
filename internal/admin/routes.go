package admin

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/pprof"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/event"
)

func (s *Server) routes() http.Handler {
	panics := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "glassrunner_http_panics_total", Help: "Requests to the monitoring server that ended in a panic of this program.",
	})
	s.o.Registry.MustRegister(panics)
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", s.landing)
	mux.Handle("/metrics", s.metrics())
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
	return s.guarded(mux, panics)
}

// guarded keeps what a handler does wrong, and what a client does slowly,
// inside the one request.
func (s *Server) guarded(next http.Handler, panics prometheus.Counter) http.Handler {
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
			panics.Inc()
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
	_, _ = w.Write([]byte(text))
}

func (s *Server) landing(w http.ResponseWriter, r *http.Request) {
	if !reads(w, r) {
		return
	}
	snap := s.o.Board.Present()
	var b bytes.Buffer
	err := s.page.Execute(&b, struct {
		Version, State            string
		Jobs, Runners, Concurrent int
	}{s.o.Version, snap.Process.State, len(snap.Jobs), len(snap.Runners), snap.Config.Concurrent})
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	write(w, http.StatusOK, b.String())
}

const landingPage = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>glassrunner</title>
<style>
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem; }
dt { float: left; clear: left; width: 9rem; }
</style>
</head>
<body>
<h1>glassrunner</h1>
<dl>
<dt>Version</dt><dd>{{.Version}}</dd>
<dt>State</dt><dd>{{.State}}</dd>
<dt>Runners</dt><dd>{{.Runners}}</dd>
<dt>Jobs running</dt><dd>{{.Jobs}} of {{.Concurrent}}</dd>
</dl>
<ul>
<li><a href="/metrics">Metrics</a> for Prometheus</li>
<li><a href="/debug/jobs/list">Jobs</a> that are running, <a href="/debug/jobs">in detail</a></li>
<li><a href="/-/healthy">Health</a> of the process, and <a href="/-/ready">readiness</a> of its runners</li>
<li><a href="/debug/process/state">State</a> of the process</li>
<li><a href="/debug/pprof/">Profiles</a> of the process</li>
</ul>
</body>
</html>
`
