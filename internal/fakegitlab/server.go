package fakegitlab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Version is the GitLab version that the server claims to be.
const Version = "19.4.0-ee"

// Options configure a [Server]. The zero value is a usable, strict server.
type Options struct {
	// ExternalURL is the base URL put into payloads; empty means the listener's, or the Host of the request.
	ExternalURL string
	// PathPrefix is a relative URL root such as "/gitlab".
	PathPrefix string
	// TLS serves HTTPS with a generated self-signed certificate, see [Server.CAPEM].
	TLS bool
	// ClientCAs is a PEM bundle; when set (with TLS) clients must present a certificate signed by it.
	ClientCAs []byte
	// Seed makes tokens and probabilities differ between servers; equal seeds give equal ones.
	Seed uint64

	// LongPoll is how long a job request with a current last_update is held; 0 switches long polling off.
	LongPoll time.Duration
	// TwoPhase keeps a job pending until the runner acknowledges it with PUT running.
	TwoPhase bool
	// AckTimeout returns an unacknowledged two-phase job to the queue; 0 means two minutes.
	AckTimeout time.Duration
	// UpdateInterval is X-GitLab-Trace-Update-Interval of PATCH answers in seconds; 0 means 3, negative leaves it out.
	UpdateInterval int
	// PersistRounds is how often a final PUT is answered 202 before it is accepted.
	PersistRounds int
	// PersistInterval is the interval of those 202 in seconds; 0 means 1, 2, 4 ... 64.
	PersistInterval int
	// ContactTimeout fails a job with no_updates_running when nothing is heard of it; 0 means never.
	ContactTimeout time.Duration
	// TimeoutGrace fails a job with server_timeout_running that long after its timeout; 0 means never.
	TimeoutGrace time.Duration
	// RequeueLost returns a job to the queue when a fault destroyed the answer that handed it out.
	// A real server would leave it to its timeout.
	RequeueLost bool

	// RegistrationToken is accepted by POST runners; empty means [DefaultRegistrationToken].
	RegistrationToken string
	// RegistrationDisabled answers POST runners with 410.
	RegistrationDisabled bool
	// AdminToken is the personal access token accepted by runners/:id/reset_authentication_token;
	// empty means [DefaultAdminToken].
	AdminToken string
	// TokenTTL is the life of runner tokens made by registration and reset; 0 means without end.
	TokenTTL time.Duration

	// TraceLimit is the plan limit of a trace in bytes; 0 means 100 MB.
	TraceLimit int64
	// ArtifactLimit is the plan limit of an upload in bytes; 0 means 100 MiB.
	ArtifactLimit int64
	// DirectDownload answers direct_download=true with a 302 to an object store (of this server).
	DirectDownload bool
	// UploadRedirect answers uploads with a 307 to a second listener; it needs [Server.Start].
	UploadRedirect bool
	// RouterURL is answered by runners/router/discovery; empty answers 501.
	RouterURL string
	// PipelineRefBySHA makes refspecs of the newer form <sha>:refs/pipelines/<id>.
	PipelineRefBySHA bool

	// DiscardFinished drops payload, trace and artifacts of a finished job, so later jobs cannot fetch them;
	// counters, results and the trace's checksum stay.
	DiscardFinished bool
	// KeepResults bounds the finished jobs kept with DiscardFinished; 0 means 10000.
	KeepResults int
	// Transcript is the number of requests kept for [Server.Transcript]; 0 keeps none.
	Transcript int

	// Concurrent is the expected bound of jobs and job requests in all (rule 17); 0 is not checked.
	Concurrent int
	// UnhealthyInterval is the expected silence after three 403 (rule 20); 0 is not checked.
	UnhealthyInterval time.Duration
	// Relax lists rules that are not checked.
	Relax []Rule

	// OnFinish is called once for each job that reached a final status, after the state has changed
	// and before the runner has its answer. It must be quick and may call the server.
	OnFinish func(Snapshot)
	// GitRoot is where projects live; empty means a temporary directory that Close removes.
	GitRoot string
	// FirstJobID is the id of the first job; 0 means 1001.
	FirstJobID int64
	// Now replaces the clock for what is recorded; nil means time.Now.
	Now func() time.Time
}

// Server is a fake GitLab. Make it with [New].
type Server struct {
	opts    Options
	now     func() time.Time
	started time.Time

	mu        sync.Mutex // guards everything down to the blank line, and the fields of jobs and runners
	url       string
	altURL    string
	jobs      map[int64]*job
	order     []int64 // finished jobs kept with DiscardFinished, oldest first
	pending   []*job
	nextJob   int64
	runners   map[int64]*runner
	byToken   map[string]*runner
	nextID    int64
	forbidden map[string]*refusals
	watchers  map[*watcher]struct{}
	finished  []Snapshot // waiting for OnFinish
	stats     Stats
	projects  map[string]*Project
	gitRoot   string
	gitOwned  bool
	gitExec   string
	requests  int // job requests in flight

	vmu        sync.Mutex // guards violations and seen request ids
	violations []Violation
	relaxed    map[Rule]bool
	seen       map[string]seenRequest
	seenRing   []string
	seenNext   int

	tmu        sync.Mutex // guards the transcript
	transcript []Exchange
	tnext      int

	fmu       sync.Mutex // guards the faults
	faults    []*activeFault
	nextFault FaultID
	armed     atomic.Bool

	serial  atomic.Uint64
	buffers sync.Pool
	closing chan struct{}
	once    sync.Once
	serving sync.WaitGroup
	servers []*http.Server
	tls     *certificate
	apiRoot string
}

// New makes a server that does not listen yet: use [Server.Start], or [Server.Handler] in a server of your own.
func New(opts Options) *Server {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.UpdateInterval == 0 {
		opts.UpdateInterval = 3
	}
	if opts.AckTimeout == 0 {
		opts.AckTimeout = 2 * time.Minute
	}
	if opts.RegistrationToken == "" {
		opts.RegistrationToken = DefaultRegistrationToken
	}
	if opts.AdminToken == "" {
		opts.AdminToken = DefaultAdminToken
	}
	if opts.TraceLimit == 0 {
		opts.TraceLimit = 100e6
	}
	if opts.ArtifactLimit == 0 {
		opts.ArtifactLimit = 100 << 20
	}
	if opts.KeepResults == 0 {
		opts.KeepResults = 10000
	}
	if opts.FirstJobID == 0 {
		opts.FirstJobID = 1001
	}
	opts.PathPrefix = strings.TrimRight(opts.PathPrefix, "/")
	opts.ExternalURL = strings.TrimRight(opts.ExternalURL, "/")
	s := &Server{
		opts:      opts,
		now:       opts.Now,
		started:   opts.Now(),
		jobs:      make(map[int64]*job),
		nextJob:   opts.FirstJobID,
		runners:   make(map[int64]*runner),
		byToken:   make(map[string]*runner),
		nextID:    1,
		forbidden: make(map[string]*refusals),
		watchers:  make(map[*watcher]struct{}),
		projects:  make(map[string]*Project),
		relaxed:   make(map[Rule]bool),
		seen:      make(map[string]seenRequest),
		closing:   make(chan struct{}),
		apiRoot:   opts.PathPrefix + "/api/v4/",
	}
	s.stats.Requests = make(map[Endpoint]int64)
	s.stats.Statuses = make(map[int]int64)
	s.Relax(opts.Relax...)
	return s
}

// Start listens on addr; empty means 127.0.0.1 with a free port. Close ends it.
func (s *Server) Start(addr string) error {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	if s.opts.TLS && s.tls == nil {
		cert, err := newCertificate(s.opts.ClientCAs)
		if err != nil {
			return fmt.Errorf("make certificate: %w", err)
		}
		s.tls = cert
	}
	url, err := s.listen(addr, s.Handler())
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.url = url
	s.mu.Unlock()
	if !s.opts.UploadRedirect {
		return nil
	}
	alt, err := s.listen("127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.serve(w, r, true)
	}))
	if err != nil {
		return errors.Join(err, s.Close())
	}
	s.mu.Lock()
	s.altURL = alt
	s.mu.Unlock()
	return nil
}

func (s *Server) listen(addr string, h http.Handler) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return "", fmt.Errorf("listen: %w", err)
	}
	// HTTP/1.1 only: several faults take the connection out of the server's hands.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	hs := &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	scheme := "http"
	serve := func() error { return hs.Serve(l) }
	if s.tls != nil {
		scheme = "https"
		hs.TLSConfig = s.tls.config
		serve = func() error { return hs.ServeTLS(l, "", "") }
	}
	s.servers = append(s.servers, hs)
	s.serving.Go(func() { _ = serve() }) // always ErrServerClosed after Close
	return scheme + "://" + l.Addr().String() + s.opts.PathPrefix, nil
}

// URL is the base URL of the server, with the path prefix and without a slash at the end.
// It is empty before Start unless ExternalURL is set.
func (s *Server) URL() string {
	if s.opts.ExternalURL != "" {
		return s.opts.ExternalURL
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url
}

// Close ends long polls and faults, stops the listeners and removes the temporary git root.
func (s *Server) Close() error {
	var errs []error
	s.once.Do(func() {
		close(s.closing)
		for _, hs := range s.servers {
			ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
			if hs.Shutdown(ctx) != nil {
				errs = append(errs, hs.Close())
			}
			cancel()
		}
		s.serving.Wait()
		s.mu.Lock()
		for _, j := range s.jobs {
			j.stopTimers()
		}
		root, owned := s.gitRoot, s.gitOwned
		s.mu.Unlock()
		if owned {
			errs = append(errs, os.RemoveAll(root))
		}
	})
	return errors.Join(errs...)
}

// Handler serves the whole of the fake GitLab.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, false) })
}

// base is the URL that payloads mention.
func (s *Server) base(r *http.Request) string {
	if u := s.URL(); u != "" {
		return u
	}
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	return scheme + r.Host + s.opts.PathPrefix
}

// Stats counts what happened since the start.
type Stats struct {
	Requests  map[Endpoint]int64 // by endpoint
	Statuses  map[int]int64      // answers by status, 0 for a connection that was cut
	Enqueued  int64
	HandedOut int64
	Lost      int64 // hand-outs whose answer a fault destroyed
	Finished  map[Status]int64
	Bytes     int64 // trace bytes accepted
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	out.Requests = make(map[Endpoint]int64, len(s.stats.Requests))
	maps.Copy(out.Requests, s.stats.Requests)
	out.Statuses = make(map[int]int64, len(s.stats.Statuses))
	maps.Copy(out.Statuses, s.stats.Statuses)
	out.Finished = make(map[Status]int64, len(s.stats.Finished))
	maps.Copy(out.Finished, s.stats.Finished)
	return out
}
