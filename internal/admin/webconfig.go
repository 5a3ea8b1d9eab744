package admin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v2"
	"golang.org/x/time/rate"

	"github.com/glassrunner/glassrunner/internal/event"
)

// webConfig is what a web configuration file says, in the format of
// Prometheus's exporter-toolkit, ready to be used: nothing is read again
// until a file has changed. The zero value is no protection.
type webConfig struct {
	path     string
	files    []stamp // that it was made of
	tls      *tls.Config
	verified bool // every client has a certificate that was verified
	headers  map[string]string
	people   *people // nil: no passwords
	limiter  *rate.Limiter

	certificate, clientCA time.Time     // when the earliest one ends; zero: none
	replaced              chan struct{} // closed when another one is in force
}

// authenticates says whether every client has to say who it is.
func (c *webConfig) authenticates() bool { return c.people != nil || c.verified }

// stamp tells whether a file is still the same.
type stamp struct {
	path string
	size int64
	at   time.Time
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{path: path} // that it is missing is found out by who reads it
	}
	return stamp{path, info.Size(), info.ModTime()}
}

// stamps returns the present stamps of the same files.
func (c *webConfig) stamps() []stamp {
	now := make([]stamp, len(c.files))
	for i, f := range c.files {
		now[i] = stampOf(f.path)
	}
	return now
}

// loadWebConfig reads the file at path and those that it names. On an error
// the configuration that comes back has only the stamps of these files.
func loadWebConfig(path string) (*webConfig, error) {
	c := &webConfig{path: path, replaced: make(chan struct{})}
	if path == "" {
		return c, nil
	}
	c.files = []stamp{stampOf(path)}
	fail := func(err error) (*webConfig, error) {
		return c, fmt.Errorf("web configuration %s: %w; its format is that of Prometheus exporters, see docs/monitoring.md", path, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fail(unwrapPath(err))
	}
	// The toolkit's own values where nothing is said.
	y := web.Config{
		TLSConfig:  web.TLSConfig{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS13},
		HTTPConfig: web.HTTPConfig{HTTP2: true},
	}
	if err := yaml.UnmarshalStrict(text, &y); err != nil {
		return fail(err)
	}
	y.TLSConfig.SetDirectory(filepath.Dir(path))
	for _, f := range []string{y.TLSConfig.TLSCertPath, y.TLSConfig.TLSKeyPath, y.TLSConfig.ClientCAs} {
		if f != "" {
			c.files = append(c.files, stampOf(f))
		}
	}
	// The toolkit checks more than it lets others use: header names, hashes.
	if err := web.Validate(path); err != nil {
		return fail(err)
	}
	if y.TLSConfig.IsEnabled() {
		if err := c.secure(&y); err != nil {
			return fail(err)
		}
	}
	c.headers = y.HTTPConfig.Header
	if len(y.Users) > 0 {
		c.people = newPeople(y.Users)
	}
	if r := y.RateLimiterConfig; r.Interval > 0 {
		c.limiter = rate.NewLimiter(rate.Every(r.Interval), r.Burst)
	}
	return c, nil
}

// secure makes the TLS configuration.
func (c *webConfig) secure(y *web.Config) error {
	t, err := web.ConfigToTLSConfig(&y.TLSConfig)
	if err != nil {
		return err
	}
	// The toolkit reads the key pair for every handshake. Here it is read
	// once for every change of its files.
	pair, err := t.GetCertificate(nil)
	if err != nil {
		return err
	}
	t.GetCertificate, t.Certificates = nil, []tls.Certificate{*pair}
	if c.certificate, err = earliest(pair.Certificate); err != nil {
		return err
	}
	t.NextProtos = []string{"http/1.1"}
	if y.HTTPConfig.HTTP2 {
		if len(t.CipherSuites) > 0 && t.MinVersion < tls.VersionTLS13 && !slices.ContainsFunc(t.CipherSuites, forHTTP2) {
			return errors.New("HTTP/2 needs one of the ciphers TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 and TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: add one to cipher_suites, or set http2: false")
		}
		t.NextProtos = []string{"h2", "http/1.1"}
	}
	if check := t.VerifyPeerCertificate; check != nil {
		// The other hook is not called for a session that is resumed.
		t.VerifyPeerCertificate = nil
		t.VerifyConnection = func(c tls.ConnectionState) error {
			if len(c.PeerCertificates) == 0 {
				return nil // none was given; whether one has to be is client_auth_type's matter
			}
			return check([][]byte{c.PeerCertificates[0].Raw}, nil)
		}
	}
	if t.ClientCAs == nil {
		// Nobody can be verified then. Go would take the system's authorities,
		// who vouch for anybody.
		t.ClientCAs = x509.NewCertPool()
	}
	c.verified = t.ClientAuth == tls.RequireAndVerifyClientCert
	if c.clientCA, err = clientCA(&y.TLSConfig); err != nil {
		return err
	}
	c.tls = t
	return nil
}

func forHTTP2(id uint16) bool {
	return id == tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 || id == tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
}

// clientCA returns when the earliest certificate that clients are verified
// with ends. The toolkit does not mind a file without any.
func clientCA(t *web.TLSConfig) (time.Time, error) {
	text := []byte(t.ClientCAsText)
	if t.ClientCAs != "" {
		var err error
		if text, err = os.ReadFile(t.ClientCAs); err != nil {
			return time.Time{}, err
		}
	}
	if len(text) == 0 {
		return time.Time{}, nil
	}
	var raw [][]byte
	for b, rest := pem.Decode(text); b != nil; b, rest = pem.Decode(rest) {
		if b.Type == "CERTIFICATE" {
			raw = append(raw, b.Bytes)
		}
	}
	if len(raw) == 0 {
		return time.Time{}, errors.New("client_ca_file (or client_ca) has no certificate")
	}
	return earliest(raw)
}

func earliest(raw [][]byte) (time.Time, error) {
	var first time.Time
	for _, r := range raw {
		c, err := x509.ParseCertificate(r)
		if err != nil {
			return first, err
		}
		if first.IsZero() || c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return first, nil
}

// unwrapPath takes the path off an error whose message has it already.
func unwrapPath(err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		return p.Err
	}
	return err
}

// useWebConfig puts the file at path in force. When that fails, what is in
// force stays, unless nothing was ever.
func (s *Server) useWebConfig(ctx context.Context, path string) error {
	old := s.web.Load()
	if s.tried == nil && old.path == path && slices.Equal(old.stamps(), old.files) {
		return nil
	}
	c, err := loadWebConfig(path)
	if err != nil {
		s.tried = c
		s.o.Bus.Emit(ctx, event.WebConfigLoaded{Path: path, Err: err})
		return err
	}
	s.tried = nil
	s.web.Store(c)
	close(old.replaced)
	s.conns.dropWaiting()
	if path != "" {
		s.o.Bus.Emit(ctx, event.WebConfigLoaded{Path: path, TLS: c.tls != nil, Auth: c.authenticates()})
	}
	s.tellExpiry(ctx, "web_server", old.certificate, c.certificate)
	s.tellExpiry(ctx, "web_client_ca", old.clientCA, c.clientCA)
	return nil
}

func (s *Server) tellExpiry(ctx context.Context, name string, old, now time.Time) {
	if !old.IsZero() || !now.IsZero() {
		s.o.Bus.Emit(ctx, event.CertificateLoaded{Certificate: name, NotAfter: now})
	}
}

// watchWeb loads the web configuration again when one of its files changes
// and has not changed since the look before: who replaces a certificate
// writes two files.
func (s *Server) watchWeb(ctx context.Context) {
	t := time.NewTicker(s.o.WebConfigPoll)
	defer t.Stop()
	var before []stamp
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		before = s.lookAtWeb(ctx, before)
	}
}

func (s *Server) lookAtWeb(ctx context.Context, before []stamp) []stamp {
	s.change.Lock()
	defer s.change.Unlock()
	c := s.web.Load()
	if s.tried != nil {
		c = s.tried
	}
	now := c.stamps()
	if slices.Equal(now, c.files) {
		return nil
	}
	if !slices.Equal(now, before) {
		return now
	}
	if s.useWebConfig(ctx, c.path) == nil {
		s.warn(ctx)
	}
	return nil
}

// gate hands on connections the way the web configuration of their time wants
// them: encrypted or not.
type gate struct {
	net.Listener
	s *Server
}

// Accept returns the next connection. Its handshake happens later, when
// somebody reads from it, and so keeps nobody else waiting.
func (g *gate) Accept() (net.Conn, error) {
	n, err := g.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := g.s.web.Load()
	if v, ok := n.(*conn); ok {
		v.web = c
	}
	if c.tls != nil {
		return tls.Server(n, c.tls), nil
	}
	return n, nil
}
