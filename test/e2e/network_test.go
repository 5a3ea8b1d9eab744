//go:build linux

package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// TestProxy reaches a server that only the proxy of the environment knows, and
// keeps what authorises it to itself.
func TestProxy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	server, err := url.Parse(w.server.URL())
	if err != nil {
		t.Fatal(err)
	}
	const name, secret = "gitlab.proxied.test", "s3cret-of-the-proxy"
	authorised := "Basic " + base64.StdEncoding.EncodeToString([]byte("runner:"+secret))
	var through atomic.Int64
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Host = server.Host }}
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Host != name || r.Header.Get("Proxy-Authorization") != authorised {
			http.Error(rw, "not authorised", http.StatusProxyAuthRequired)
			return
		}
		through.Add(1)
		forward.ServeHTTP(rw, r)
	}))
	t.Cleanup(proxy.Close)
	w.write(strings.Replace(w.config(""), w.server.URL(), "http://"+name, 1))
	at := strings.TrimPrefix(proxy.URL, "http://")
	p := w.command([]string{"HTTP_PROXY=http://runner:" + secret + "@" + at}, "run", "--config", w.path)
	p.addr = p.listening()
	s := w.run(fakegitlab.Job{Script: []string{"echo by proxy"}})
	want(t, s, "success")
	has(t, text(s.Trace), "\nby proxy\n")
	if through.Load() == 0 {
		t.Error("nothing went through the proxy")
	}
	p.end()
	hasNot(t, p.log.String(), secret, authorised)
	hasNot(t, text(s.Trace), secret)

	// Where the proxy refuses, the log says what was asked and nothing of the secret.
	p = w.command([]string{"HTTP_PROXY=http://runner:wrong-secret@" + at}, "run", "--config", w.path)
	p.addr = p.listening()
	p.waitMetrics("a refusal by the proxy", func(m families) bool {
		return m.sum("gitlab_runner_api_request_statuses_total", "endpoint", "request_job", "status", "407") > 0
	})
	has(t, p.log.String(), "407")
	hasNot(t, p.log.String(), "wrong-secret")
}

// TestClientCertificate shows the certificate of an entry to a server that
// asks for one, and says what is the matter without it.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	authority := newAuthority(t)
	w := newWorld(t, fakegitlab.Options{TLS: true, ClientCAs: authority.pem, LongPoll: time.Second})
	project(t, w, "acme/app", map[string]string{"a.txt": "shown a certificate\n"})
	cert, key := authority.issue(t, "runner")
	ca := fmt.Sprintf("  tls-ca-file = %q\n", file(t, w, "ca.pem", string(w.server.CAPEM())))
	p := w.start(w.config("", entry{Extra: ca}))
	p.waitMetrics("a refused handshake", func(m families) bool {
		return m.sum("glassrunner_api_request_errors_total", "endpoint", "request_job", "class", "tls") > 0
	})
	has(t, p.log.String(), "certificate required")
	w.write(w.config("", entry{Extra: ca + fmt.Sprintf("  tls-cert-file = %q\n  tls-key-file = %q\n",
		file(t, w, "runner.pem", cert), file(t, w, "runner.key", key))}))
	s := w.run(fakegitlab.Job{Project: "acme/app", Script: []string{"cat a.txt", `grep -c BEGIN "$CI_SERVER_TLS_CERT_FILE"`}})
	want(t, s, "success")
	has(t, text(s.Trace), "shown a certificate\n", "\n1\n")
	const expiry = "glassrunner_certificate_expiry_timestamp_seconds"
	m := p.scrape()
	if at := m.sum(expiry, "certificate", "coordinator_client"); at < float64(time.Now().Unix()) || at > float64(time.Now().Add(time.Hour).Unix()) {
		t.Errorf("the client certificate ends at %v", at)
	}
	if at := m.sum(expiry, "certificate", "coordinator_ca"); at < float64(time.Now().Unix()) {
		t.Errorf("the authority ends at %v", at)
	}
}

// authority signs certificates of clients.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clients"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}}
	var der []byte
	a.key, der = sign(t, a.cert, a.cert, nil)
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

func (a *authority) issue(t *testing.T, name string) (cert, key string) {
	t.Helper()
	k, der := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, a.cert, a.key)
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// sign makes a key and a certificate for it; without by it signs itself.
func sign(t *testing.T, cert, parent *x509.Certificate, by *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}
