package coordinator_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/coordinator"
	"github.com/glassrunner/glassrunner/internal/event"
)

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
	dir  string
	file string
}

var serial atomic.Int64

func newAuthority(t *testing.T) *authority {
	t.Helper()
	return newAuthorityUntil(t, time.Now().Add(time.Hour))
}

func newAuthorityUntil(t *testing.T, end time.Time) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: end,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{cert: cert, key: key, dir: t.TempDir()}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	a.file = write(t, filepath.Join(a.dir, "ca.crt"), a.pem)
	return a
}

// issue returns certificate and key as PEM.
func (a *authority) issue(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: kder})
}

// serve answers with TLS; clients, when not nil, signs the certificates that
// clients have to show.
func (a *authority) serve(t *testing.T, clients *authority, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	cert, key := a.issue(t, "server")
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if clients != nil {
		s.TLS.ClientAuth = tls.RequireAndVerifyClientCert
		s.TLS.ClientCAs = x509.NewCertPool()
		s.TLS.ClientCAs.AddCert(clients.cert)
	}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func write(t *testing.T, path string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestUnknownAuthority(t *testing.T) {
	srv := newAuthority(t).serve(t, nil, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	rec := &recorder{}
	o := options(srv.URL, rec)
	o.CertDir = t.TempDir() // nothing there: no trouble
	_, _, err := newClient(t, o).RequestJob(t.Context(), false)
	wantText(t, err, "certificate signed by unknown authority", "tls-ca-file")
	if got := rec.last(t); got.Class != event.ErrTLS {
		t.Errorf("event: %+v", got)
	}
	if d := rec.degraded(); len(d) != 0 {
		t.Errorf("got %+v", d)
	}
	rec = &recorder{}
	o = options(srv.URL, rec)
	o.TLSCAFile = filepath.Join(t.TempDir(), "none.crt")
	c := newClient(t, o)
	_, _, err = c.RequestJob(t.Context(), false)
	wantText(t, err, "unknown authority", "none.crt")
	_, _, _ = c.RequestJob(t.Context(), false)
	if d := rec.degraded(); len(d) != 1 || d[0].What != "tls_files" {
		t.Errorf("got %+v, want one tls_files", d)
	}
}

func TestCAFileAndTLSForJobs(t *testing.T) {
	ca := newAuthority(t)
	var proto atomic.Value
	srv := ca.serve(t, nil, func(w http.ResponseWriter, r *http.Request) {
		proto.Store(r.Proto)
		sendJSON(w, 201, smallJob)
	})
	o := options(srv.URL, nil)
	o.TLSCAFile = ca.file
	spec, _, err := newClient(t, o).RequestJob(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if spec.TLS.CA != string(ca.pem) || spec.TLS.Cert != "" || spec.TLS.Key != "" {
		t.Errorf("got %+v", spec.TLS)
	}
	if proto.Load() != "HTTP/2.0" {
		t.Errorf("got %v", proto.Load())
	}
}

// Without a CA file a job gets the chain of the connection.
func TestTLSChainForJobs(t *testing.T) {
	ca := newAuthority(t)
	srv := ca.serve(t, nil, func(w http.ResponseWriter, _ *http.Request) { sendJSON(w, 201, smallJob) })
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	for full, want := range map[bool]int{false: 1, true: 2} {
		o := options(srv.URL, nil)
		o.ResolveFullTLSChain = full
		c := newClient(t, o)
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
		defer tr.CloseIdleConnections()
		c.SetRoundTripper(tr)
		spec, _, err := c.RequestJob(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(spec.TLS.CA, "BEGIN CERTIFICATE"); got != want {
			t.Errorf("full %v: got %d certificates, want %d", full, got, want)
		}
	}
}

func TestClientCertificateFromCertDir(t *testing.T) {
	ca := newAuthority(t)
	srv := ca.serve(t, ca, func(w http.ResponseWriter, _ *http.Request) { sendJSON(w, 201, smallJob) })
	dir := t.TempDir()
	write(t, filepath.Join(dir, "127.0.0.1.crt"), ca.pem)
	rec := &recorder{}
	o := options(srv.URL, rec)
	o.CertDir = dir
	_, _, err := newClient(t, o).RequestJob(t.Context(), false)
	if err == nil {
		t.Fatal("no error without a client certificate")
	}
	// With TLS 1.3 the alert can lose a race against the request.
	if got := rec.last(t); got.Class != event.ErrTLS && got.Class != event.ErrReset {
		t.Errorf("event: %+v, %v", got, err)
	}
	cert, key := ca.issue(t, "runner")
	write(t, filepath.Join(dir, "127.0.0.1.auth.crt"), cert)
	write(t, filepath.Join(dir, "127.0.0.1.auth.key"), key)
	spec, _, err := newClient(t, o).RequestJob(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if spec.TLS.Cert != string(cert) || spec.TLS.Key.Reveal() != string(key) {
		t.Errorf("got %+v", spec.TLS)
	}
}

func TestReloadOfTLSFiles(t *testing.T) {
	good, other := newAuthority(t), newAuthority(t)
	srv := good.serve(t, nil, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	file := write(t, filepath.Join(t.TempDir(), "ca.crt"), other.pem)
	rec := &recorder{}
	o := options(srv.URL, rec)
	o.TLSCAFile = file
	c := newClient(t, o)
	c.SetLookEvery(0)
	ask := func() error {
		_, _, err := c.RequestJob(t.Context(), false)
		return err
	}
	change := func(text []byte, minutes int) {
		write(t, file, text)
		when := time.Now().Add(time.Duration(minutes) * time.Minute)
		if err := os.Chtimes(file, when, when); err != nil {
			t.Fatal(err)
		}
	}
	wantText(t, ask(), "unknown authority")
	change(good.pem, 1)
	if err := ask(); err != nil {
		t.Errorf("after the change: %v", err)
	}
	change([]byte("half writ"), 2) // stays with what worked, tells it once
	for range 2 {
		if err := ask(); err != nil {
			t.Errorf("with a broken file: %v", err)
		}
	}
	if d := rec.degraded(); len(d) != 1 {
		t.Errorf("got %+v", d)
	} else {
		wantText(t, d[0].Err, "ca.crt", "no certificate")
	}
	change(other.pem, 3)
	wantText(t, ask(), "unknown authority")
}

func TestCertificateNeedsKey(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	cert, _ := newAuthority(t).issue(t, "runner")
	rec := &recorder{}
	o := options(url, rec)
	o.TLSCertFile = write(t, filepath.Join(t.TempDir(), "c.crt"), cert)
	if _, _, err := newClient(t, o).RequestJob(t.Context(), false); err != nil {
		t.Error(err)
	}
	if d := rec.degraded(); len(d) != 1 {
		t.Errorf("got %+v", d)
	} else {
		wantText(t, d[0].Err, "must be set together")
	}
}

func TestConnections(t *testing.T) {
	remote := map[string]bool{}
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		remote[r.RemoteAddr] = true
		w.WriteHeader(http.StatusNoContent)
	})
	pool := coordinator.NewTransports()
	defer pool.CloseIdle()
	o := options(url, nil)
	o.Transports = pool
	a, b := newClient(t, o), newClient(t, o)
	for range 3 {
		_, _, _ = a.RequestJob(t.Context(), false)
		_, _, _ = b.RequestJob(t.Context(), false)
	}
	if len(remote) != 1 {
		t.Errorf("got %d connections, want 1", len(remote))
	}
	o.ConnectionMaxAge = time.Nanosecond
	c := newClient(t, o)
	for range 3 {
		_, _, _ = c.RequestJob(t.Context(), false)
	}
	if len(remote) != 4 {
		t.Errorf("got %d connections, want 4", len(remote))
	}
}
