package coordinator

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
)

const (
	dialTimeout      = 30 * time.Second
	keepAlive        = 30 * time.Second
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 90 * time.Second
	idleConns        = 100
	maxHeaderBytes   = 256 << 10
	// lookEvery is how often TLS files are looked at when requests are made.
	lookEvery = 3 * time.Second
	// maxTLSFile bounds what is read of a certificate or key file, in bytes.
	maxTLSFile = 4 << 20
)

// tlsFile is where one file of TLS material is expected.
type tlsFile struct {
	path string // "": nowhere
	// configured files have to exist; the others are a convention.
	configured bool
}

type tlsFiles struct{ ca, cert, key tlsFile }

func resolveFiles(o Options, host string) tlsFiles {
	find := func(configured, suffix string) tlsFile {
		if configured != "" {
			return tlsFile{path: configured, configured: true}
		}
		// A host is a DNS name or an address; anything else is no file name.
		if o.CertDir == "" || strings.ContainsAny(host, `/\`) || strings.HasPrefix(host, ".") {
			return tlsFile{}
		}
		return tlsFile{path: filepath.Join(o.CertDir, strings.ToLower(host)+suffix)}
	}
	return tlsFiles{
		ca:   find(o.TLSCAFile, ".crt"),
		cert: find(o.TLSCertFile, ".auth.crt"),
		key:  find(o.TLSKeyFile, ".auth.key"),
	}
}

type linkKey struct {
	files  tlsFiles
	maxAge time.Duration
}

// Transports lets clients with equal TLS files share connections.
type Transports struct {
	mu    sync.Mutex
	links map[linkKey]*link
}

// NewTransports returns an empty set.
func NewTransports() *Transports { return &Transports{links: map[linkKey]*link{}} }

// CloseIdle closes the connections that nothing uses at the moment.
func (t *Transports) CloseIdle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.links {
		l.closeIdle()
	}
}

func (t *Transports) link(k linkKey) *link {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l, ok := t.links[k]; ok {
		return l
	}
	l := &link{key: k, every: lookEvery}
	t.links[k] = l
	return l
}

// stamp is how a file looked when it was read.
type stamp struct {
	exists bool
	mtime  time.Time
	size   int64
}

func stampOf(f tlsFile) stamp {
	if f.path == "" {
		return stamp{}
	}
	fi, err := os.Stat(f.path)
	if err != nil {
		return stamp{}
	}
	return stamp{exists: true, mtime: fi.ModTime(), size: fi.Size()}
}

// link is an http.RoundTripper over a transport that is replaced when one of
// its TLS files changes.
type link struct {
	key     linkKey
	every   time.Duration
	current atomic.Pointer[state]

	mu     sync.Mutex
	stamps [3]stamp
	looked time.Time
	swept  time.Time
}

// state is a transport with the material that it was made of.
type state struct {
	transport *http.Transport
	roots     *x509.CertPool // nil: the system's
	pair      *tls.Certificate
	ca, cert  string // PEM
	keyPEM    job.Secret
	trouble   string                    // what could not be used, for errors of TLS
	anchored  atomic.Pointer[time.Time] // see Expiry.Authority
}

// Expiry says until when the TLS material of a client holds.
type Expiry struct {
	Client time.Time // the client certificate; zero: there is none
	// Authority is when the certificate of the CA file expires by which the
	// last connection was verified: a file may hold others, older ones for
	// example, that nobody needs. Zero: no CA file, or no connection yet.
	Authority time.Time
}

func (l *link) expiry() (e Expiry) {
	s := l.current.Load()
	if s == nil {
		return e
	}
	if s.pair != nil && s.pair.Leaf != nil {
		e.Client = s.pair.Leaf.NotAfter
	}
	if at := s.anchored.Load(); at != nil {
		e.Authority = *at
	}
	return e
}

// refresh makes the transport ready for a request. It returns what could not
// be used of the TLS files when they were read just now.
func (l *link) refresh() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	cur := l.current.Load()
	var problems []error
	if cur == nil || now.Sub(l.looked) >= l.every {
		l.looked = now
		stamps := [3]stamp{stampOf(l.key.files.ca), stampOf(l.key.files.cert), stampOf(l.key.files.key)}
		if cur == nil || stamps != l.stamps {
			l.stamps = stamps
			var next *state
			next, problems = load(l.key.files, cur)
			l.current.Store(next)
			if cur != nil {
				cur.transport.CloseIdleConnections()
			}
			cur = next
			l.swept = now
		}
	}
	if l.key.maxAge > 0 && now.Sub(l.swept) >= l.key.maxAge {
		l.swept = now
		cur.transport.CloseIdleConnections()
	}
	return problems
}

// RoundTrip sends one request. refresh comes before the first one.
func (l *link) RoundTrip(r *http.Request) (*http.Response, error) {
	return l.current.Load().transport.RoundTrip(r)
}

func (l *link) closeIdle() {
	if cur := l.current.Load(); cur != nil {
		cur.transport.CloseIdleConnections()
	}
}

// load reads the TLS files. What is missing is left out; what cannot be
// understood leaves the material of before in force, because a file may be
// half written. Both are reported.
func load(files tlsFiles, before *state) (*state, []error) {
	s := &state{}
	var problems []error
	if err := s.loadCA(files.ca); err != nil {
		problems = append(problems, err)
		if before != nil && !errors.Is(err, fs.ErrNotExist) {
			s.ca, s.roots = before.ca, before.roots
		}
	}
	if err := s.loadPair(files.cert, files.key); err != nil {
		problems = append(problems, err)
		if before != nil && !errors.Is(err, fs.ErrNotExist) {
			s.cert, s.keyPEM, s.pair = before.cert, before.keyPEM, before.pair
		}
	}
	if len(problems) > 0 {
		s.trouble = oneLine(errors.Join(problems...).Error(), 300)
	}
	s.transport = s.newTransport()
	return s, problems
}

func (s *state) loadCA(f tlsFile) error {
	text, err := f.read("tls-ca-file")
	if text == nil || err != nil {
		return err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(text) {
		return fmt.Errorf("tls-ca-file %s holds no certificate in PEM form", f.path)
	}
	s.ca, s.roots = string(text), pool
	return nil
}

func (s *state) loadPair(certFile, keyFile tlsFile) error {
	if certFile.configured != keyFile.configured && (certFile.path == "" || keyFile.path == "") {
		return errors.New("tls-cert-file and tls-key-file must be set together; the client certificate is not used")
	}
	cert, err := certFile.read("tls-cert-file")
	if err != nil {
		return err
	}
	key, err := keyFile.read("tls-key-file")
	if err != nil {
		return err
	}
	switch {
	case cert == nil && key == nil:
		return nil
	case cert == nil || key == nil:
		return fmt.Errorf("a client certificate needs both %s and %s, one of them is missing", certFile.path, keyFile.path)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("client certificate %s with key %s: %w", certFile.path, keyFile.path, err)
	}
	s.cert, s.keyPEM, s.pair = string(cert), job.Secret(key), &pair
	return nil
}

// read returns the file's text, nil when there is none and need be none.
func (f tlsFile) read(setting string) ([]byte, error) {
	if f.path == "" {
		return nil, nil
	}
	fi, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) && !f.configured {
		return nil, nil
	}
	if err == nil && (!fi.Mode().IsRegular() || fi.Size() > maxTLSFile) {
		return nil, fmt.Errorf("%s %s is no regular file of at most %d bytes", setting, f.path, maxTLSFile)
	}
	text, err := os.ReadFile(f.path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return text, nil
}

func (s *state) newTransport() *http.Transport {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.roots}
	if s.ca != "" {
		cfg.VerifyConnection = s.verified
	}
	if s.pair != nil {
		cfg.Certificates = []tls.Certificate{*s.pair}
	}
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        cfg,
		TLSHandshakeTimeout:    handshakeTimeout,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConns:           idleConns,
		MaxIdleConnsPerHost:    idleConns, // nearly all requests go to one host
		MaxResponseHeaderBytes: maxHeaderBytes,
		ForceAttemptHTTP2:      true,
		// A long poll on a dead HTTP/2 connection must be noticed.
		HTTP2: &http.HTTP2Config{SendPingTimeout: keepAlive, PingTimeout: 15 * time.Second},
	}
}

// verified takes note of the authority that a connection was verified by.
func (s *state) verified(c tls.ConnectionState) error {
	var at time.Time
	for _, chain := range c.VerifiedChains {
		// One chain that holds for longer is enough.
		if end := chain[len(chain)-1].NotAfter; end.After(at) {
			at = end
		}
	}
	if !at.IsZero() {
		s.anchored.Store(&at)
	}
	return nil
}

// jobTLS is what a job gets to trust the coordinator. full completes the
// chain of the connection up to its root.
func (s *state) jobTLS(conn *tls.ConnectionState, full bool) job.TLS {
	t := job.TLS{CA: s.ca, Cert: s.cert, Key: s.keyPEM}
	if t.CA != "" || conn == nil {
		return t
	}
	chain := conn.PeerCertificates
	if full && len(conn.VerifiedChains) > 0 {
		chain = conn.VerifiedChains[0]
	}
	var b strings.Builder
	for _, cert := range chain {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	}
	t.CA = b.String()
	return t
}
