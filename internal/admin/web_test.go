package admin_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/glassrunner/glassrunner/internal/admin"
	"github.com/glassrunner/glassrunner/internal/event"
)

// secured is a rig with a web configuration.
type secured struct {
	*rig
	dir string
	ca  *authority
}

func newSecured(t testing.TB, config string, change func(*admin.Options)) *secured {
	t.Helper()
	s := &secured{dir: t.TempDir(), ca: newAuthority(t)}
	s.ca.files(s.dir, "server", forLoopback)
	put(t, filepath.Join(s.dir, "ca.crt"), s.ca.pem)
	s.write(t, config)
	s.rig = newRig(t, func(o *admin.Options) {
		o.WebConfigPoll = 10 * time.Millisecond
		if change != nil {
			change(o)
		}
	})
	if err := s.Listen(t.Context(), s.settings()); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *secured) settings() admin.Settings {
	return admin.Settings{Address: "127.0.0.1:0", WebConfigFile: filepath.Join(s.dir, "web.yml")}
}

func (s *secured) write(t testing.TB, config string) {
	t.Helper()
	put(t, filepath.Join(s.dir, "web.yml"), []byte(config))
}

// client trusts the authority and keeps no connections.
func (s *secured) client(t testing.TB, pair *tls.Certificate) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(s.ca.cert)
	c := &tls.Config{RootCAs: pool}
	if pair != nil {
		// Even where the server's list of authorities does not have it.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	}
	tr := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func get(t testing.TB, c *http.Client, url, user, password string) (int, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

const (
	tlsConfig = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
	mutual    = tlsConfig + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"
)

func TestPasswords(t *testing.T) {
	s := newSecured(t, tlsConfig+"basic_auth_users:\n  alice: "+hashed(t, "wonder land")+"\nhttp_server_config:\n  headers:\n    Strict-Transport-Security: max-age=60\n", nil)
	c := s.client(t, nil)
	base := "https://" + s.Addr()
	for _, tt := range []struct {
		name, user, password string
		code                 int
	}{
		{"none", "", "", 401},
		{"wrong", "alice", "wonder", 401},
		{"empty", "alice", "", 401},
		{"of nobody", "bob", "wonder land", 401},
		{"right", "alice", "wonder land", 200},
		{"right again", "alice", "wonder land", 200},
		{"wrong after right", "alice", "wonderland", 401},
	} {
		for _, path := range []string{"/metrics", "/", "/api/v1/status", "/debug/pprof/", "/health/ready", "/nothing"} {
			code, body, err := get(t, c, base+path, tt.user, tt.password)
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			want := tt.code
			switch {
			case want == 200 && path == "/health/ready":
				want = 503 // still starting
			case want == 200 && path == "/nothing":
				want = 404
			}
			if code != want {
				t.Errorf("%s, %s: got %d %.80q, want %d", tt.name, path, code, body, want)
			}
			if want == 401 && (strings.Contains(body, "gitlab") || strings.Contains(body, "goroutine")) {
				t.Errorf("%s, %s shows %q", tt.name, path, body)
			}
		}
	}
	if v, ok := s.sample(t, `glassrunner_http_requests_refused_total{reason="authentication"}`); !ok || v != 30 {
		t.Errorf("refused: %v, want 30", v)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.Header.Get("Strict-Transport-Security") != "max-age=60" || !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Basic ") || resp.ProtoMajor != 2 {
		t.Errorf("HTTP/%d, headers %v", resp.ProtoMajor, resp.Header)
	}
}

// sample gathers one value by its name and labels.
func (r *rig) sample(t testing.TB, series string) (float64, bool) {
	t.Helper()
	text, err := r.m.Gatherer().(interface {
		AppendText([]byte, bool) ([]byte, error)
	}).AppendText(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			var v float64
			if _, err := fmt.Sscan(rest, &v); err != nil {
				t.Fatal(err)
			}
			return v, true
		}
	}
	return 0, false
}

func TestClientCertificates(t *testing.T) {
	stranger := newAuthority(t)
	s := newSecured(t, mutual+"  client_allowed_sans: [prometheus.example, 10.1.2.3]\n", nil)
	allowed := func(c *x509.Certificate) { c.DNSNames = []string{"prometheus.example"} }
	base := "https://" + s.Addr()
	for _, tt := range []struct {
		name string
		pair *tls.Certificate
		ok   bool
	}{
		{"allowed", s.ca.client(allowed), true},
		{"allowed by address", s.ca.client(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 1, 2, 3)} }), true},
		{"none", nil, false},
		{"of another authority", stranger.client(allowed), false},
		{"expired", s.ca.client(func(c *x509.Certificate) { allowed(c); c.NotAfter = time.Now().Add(-time.Hour) }), false},
		{"of the future", s.ca.client(func(c *x509.Certificate) { allowed(c); c.NotBefore = time.Now().Add(time.Hour) }), false},
		{"with another name", s.ca.client(func(c *x509.Certificate) { c.DNSNames = []string{"grafana.example"} }), false},
		{"for servers only", s.ca.client(func(c *x509.Certificate) {
			allowed(c)
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), false},
	} {
		c := s.client(t, tt.pair)
		for range 2 { // the second may resume the session
			code, body, err := get(t, c, base+"/metrics", "", "")
			c.CloseIdleConnections()
			if tt.ok != (err == nil && code == 200) {
				t.Errorf("%s: got %d %.80q, %v", tt.name, code, body, err)
			}
			if !tt.ok && err == nil {
				t.Errorf("%s: was answered: %d", tt.name, code)
			}
		}
	}
	// Who talks without TLS is told so and shown nothing.
	code, body, err := get(t, http.DefaultClient, "http://"+s.Addr()+"/metrics", "", "")
	if err == nil && (code != 400 || strings.Contains(body, "gitlab_runner")) {
		t.Errorf("plain HTTP: %d %q", code, body)
	}
	// Without authorities nobody can be verified, whoever the system trusts.
	s.write(t, strings.ReplaceAll(mutual, "  client_ca_file: ca.crt\n", ""))
	poll(t, "nobody to be let in", func() bool {
		_, _, err := get(t, s.client(t, s.ca.client(allowed)), base+"/metrics", "", "")
		return err != nil
	})
	// A client that does not know the authority goes away.
	if _, _, err := get(t, http.DefaultClient, base+"/metrics", "", ""); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("unknown authority: %v", err)
	}
}

// TestExpiredServerCertificate: it is served, which clients refuse, and the
// metric says why.
func TestExpiredServerCertificate(t *testing.T) {
	s := newSecured(t, tlsConfig, nil)
	old := s.ca.files(s.dir, "server", func(c *x509.Certificate) {
		forLoopback(c)
		c.NotAfter = time.Now().Add(-time.Hour).Truncate(time.Second)
	})
	poll(t, "the expired certificate", func() bool {
		v, _ := s.sample(t, `glassrunner_certificate_expiry_timestamp_seconds{certificate="web_server"}`)
		return v == float64(old.NotAfter.Unix())
	})
	if _, _, err := get(t, s.client(t, nil), "https://"+s.Addr()+"/metrics", "", ""); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("got %v", err)
	}
}

func TestWebConfigIsReloaded(t *testing.T) {
	s := newSecured(t, mutual, nil)
	pair := s.ca.client(func(*x509.Certificate) {})
	c := s.client(t, pair)
	base := "https://" + s.Addr()
	serial := func() string {
		resp, err := c.Get(base + "/health/ready")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.TLS.PeerCertificates[0].SerialNumber.String()
	}
	first := serial()
	if v, _ := s.sample(t, `glassrunner_certificate_expiry_timestamp_seconds{certificate="web_client_ca"}`); v != float64(s.ca.cert.NotAfter.Unix()) {
		t.Errorf("client CA: %v", v)
	}

	// A renewed certificate is served to new connections; those that idle are closed.
	next := s.ca.files(s.dir, "server", forLoopback)
	poll(t, "the renewed certificate", func() bool { return serial() == next.SerialNumber.String() })
	if first == next.SerialNumber.String() {
		t.Fatal("the test is wrong")
	}

	// A broken one changes nothing, and is told once.
	put(t, filepath.Join(s.dir, "server.crt"), []byte("broken"))
	failed := `glassrunner_web_config_loads_total{result="failed"}`
	poll(t, "the failure to be counted", func() bool { v, _ := s.sample(t, failed); return v == 1 })
	<-time.After(100 * time.Millisecond) // ten looks later it is still one
	if v, _ := s.sample(t, failed); v != 1 {
		t.Errorf("counted %v times", v)
	}
	if v, ok := s.sample(t, "glassrunner_web_config_last_load_successful"); !ok || v != 0 {
		t.Errorf("last load: %v", v)
	}
	if got := serial(); got != next.SerialNumber.String() {
		t.Errorf("served %s", got)
	}

	// Put right, it is in force again; so is another way to log in.
	s.ca.files(s.dir, "server", forLoopback)
	s.write(t, tlsConfig+"basic_auth_users: {alice: "+hashed(t, "secret")+"}\n")
	anyone := s.client(t, nil)
	poll(t, "the password", func() bool {
		code, _, err := get(t, anyone, base+"/metrics", "alice", "secret")
		return err == nil && code == 200
	})
	if code, _, err := get(t, c, base+"/metrics", "", ""); err != nil || code != 401 {
		t.Errorf("a certificate alone: %d, %v", code, err)
	}
	if v, ok := s.sample(t, `glassrunner_certificate_expiry_timestamp_seconds{certificate="web_client_ca"}`); ok {
		t.Errorf("the client CA that is gone: %v", v)
	}

	// Without the file's protection a connection in the clear is possible.
	n := s.settings()
	n.WebConfigFile = ""
	if err := s.Apply(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if code, _, err := get(t, http.DefaultClient, "http://"+s.Addr()+"/metrics", "", ""); err != nil || code != 200 {
		t.Errorf("without: %d, %v", code, err)
	}
	// And back: who is connected in the clear is not served any more.
	if err := s.Apply(t.Context(), s.settings()); err != nil {
		t.Fatal(err)
	}
	if code, body, err := get(t, http.DefaultClient, "http://"+s.Addr()+"/metrics", "", ""); err == nil && code == 200 {
		t.Errorf("in the clear: %d %.50q", code, body)
	}
}

// TestChangeThatCannotBeProtected: a file that is refused must not take the
// protection away, nor show more.
func TestChangeThatCannotBeProtected(t *testing.T) {
	s := newSecured(t, tlsConfig+"basic_auth_users: {alice: "+hashed(t, "secret")+"}\n", nil)
	n := s.settings()
	n.HidePprof = true
	if err := s.Apply(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	was := s.Addr()
	put(t, filepath.Join(s.dir, "bad.yml"), []byte("tls_server_config: {}\nno_such_key: 1\n"))
	err := s.Apply(t.Context(), admin.Settings{Address: "localhost:0", WebConfigFile: filepath.Join(s.dir, "bad.yml")})
	if err == nil || !strings.Contains(err.Error(), "bad.yml") || !strings.Contains(err.Error(), "no_such_key") {
		t.Errorf("got %v", err)
	}
	c := s.client(t, nil)
	if code, _, err := get(t, c, "https://"+was+"/metrics", "", ""); err != nil || code != 401 {
		t.Errorf("without a password: %d, %v", code, err)
	}
	if code, _, err := get(t, c, "https://"+was+"/debug/pprof/", "alice", "secret"); err != nil || code != 404 {
		t.Errorf("profiles: %d, %v", code, err)
	}
}

// TestToolkitSamples: what the toolkit's own tests call good and bad is so here.
func TestToolkitSamples(t *testing.T) {
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/exporter-toolkit").Output()
	if err != nil {
		t.Fatal(err)
	}
	all, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "web", "testdata", "*.y*ml"))
	if err != nil || len(all) < 30 {
		t.Fatalf("%d samples, %v", len(all), err)
	}
	for _, path := range all {
		name := filepath.Base(path)
		if name == "web_config_auth_client_san.bad.yaml" || name == "web_config_auth_clientCAs_missing.bad.yml" {
			continue // good ones, which the client of the toolkit's tests does not satisfy
		}
		good := !strings.Contains(name, ".bad.") && !strings.Contains(name, "junk")
		r := newRig(t, nil)
		err := r.Listen(t.Context(), admin.Settings{Address: "127.0.0.1:0", WebConfigFile: path})
		if good != (err == nil) {
			t.Errorf("%s: got %v", name, err)
		}
		if err != nil && (!strings.Contains(err.Error(), path) || r.Addr() != "") {
			t.Errorf("%s: listens on %q after %v", name, r.Addr(), err)
		}
		r.Close()
	}
}

// TestExposed: one warning for a server that strangers can look into.
func TestExposed(t *testing.T) {
	dir := t.TempDir()
	newAuthority(t).files(dir, "server", forLoopback)
	file := func(name, text string) string {
		put(t, filepath.Join(dir, name), []byte(text))
		return filepath.Join(dir, name)
	}
	users := "basic_auth_users: {alice: " + hashed(t, "secret") + "}\n"
	for _, tt := range []struct {
		name     string
		settings admin.Settings
		shown    []string // parts of what is shown; nil: no warning
		password bool
	}{
		{"loopback", admin.Settings{Address: "127.0.0.1:0"}, nil, false},
		{"loopback by name", admin.Settings{Address: "localhost:0"}, nil, false},
		{"everywhere", admin.Settings{Address: ":0"}, []string{"metrics", "status page", "profiles"}, false},
		{"everywhere, without profiles", admin.Settings{Address: "0.0.0.0:0", HidePprof: true}, []string{"metrics", "status page"}, false},
		{"metrics only", admin.Settings{Address: "0.0.0.0:0", DebugAddress: "127.0.0.1:0", HideStatusPage: true}, []string{"metrics"}, false},
		{"debug only", admin.Settings{Address: "127.0.0.1:0", DebugAddress: "0.0.0.0:0"}, []string{"profiles"}, false},
		{"TLS alone protects nothing", admin.Settings{Address: ":0", WebConfigFile: file("tls.yml", tlsConfig)}, []string{"metrics"}, false},
		{"TLS and passwords", admin.Settings{Address: ":0", WebConfigFile: file("both.yml", tlsConfig+users)}, nil, false},
		{"passwords in the clear", admin.Settings{Address: ":0", WebConfigFile: file("users.yml", users)}, []string{"metrics"}, true},
		{"passwords on loopback", admin.Settings{Address: "127.0.0.1:0", WebConfigFile: file("users.yml", users)}, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil)
			if err := r.Listen(t.Context(), tt.settings); err != nil {
				t.Fatal(err)
			}
			// The same again is no news.
			if err := r.Apply(t.Context(), tt.settings); err != nil {
				t.Fatal(err)
			}
			var got []event.ListenerExposed
			r.facts.mu.Lock()
			for _, f := range r.facts.all {
				if e, ok := f.(event.ListenerExposed); ok {
					got = append(got, e)
				}
			}
			r.facts.mu.Unlock()
			if tt.shown == nil {
				if len(got) > 0 {
					t.Fatalf("got %v", got)
				}
				return
			}
			if len(got) != 1 || got[0].Passwords != tt.password {
				t.Fatalf("got %v, want one warning", got)
			}
			text := strings.Join(got[0].Shown, ", ")
			for _, s := range tt.shown {
				if !strings.Contains(text, s) {
					t.Errorf("%q does not have %q", text, s)
				}
			}
			if tt.settings.HidePprof && strings.Contains(text, "profiles") {
				t.Errorf("%q has profiles", text)
			}
		})
	}
}

// TestGuessing: who guesses passwords keeps out nobody who has been here.
func TestGuessing(t *testing.T) {
	h, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.DefaultCost)
	if err != nil {
		t.Fatal(err)
	}
	s := newSecured(t, "basic_auth_users: {alice: "+string(h)+"}\n", nil)
	base := "http://" + s.Addr()
	if code, _, err := get(t, http.DefaultClient, base+"/metrics", "alice", "secret"); err != nil || code != 200 {
		t.Fatalf("%d, %v", code, err)
	}
	var wg sync.WaitGroup
	var busy atomic.Int32
	done := make(chan struct{})
	for i := range 40 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				code, _, err := get(t, http.DefaultClient, base+"/metrics", "alice", fmt.Sprint(i, n))
				switch {
				case err != nil: // made room for another connection
				case code == 503:
					busy.Add(1)
				case code != 401:
					t.Errorf("a guess: %d", code)
				}
			}
		})
	}
	defer func() { close(done); wg.Wait() }()
	poll(t, "guessers to be sent away", func() bool { return busy.Load() > 0 })
	began := time.Now()
	for range 20 {
		if code, body, err := get(t, http.DefaultClient, base+"/debug/process/state", "alice", "secret"); err != nil || code != 200 || body != "starting\n" {
			t.Fatalf("the one who knows: %d %q, %v", code, body, err)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the one who knows waited %v", took)
	}
}

func TestRateLimit(t *testing.T) {
	s := newSecured(t, "rate_limit: {interval: 1h, burst: 3}\n", nil)
	var codes []int
	for range 5 {
		code, _, err := get(t, http.DefaultClient, "http://"+s.Addr()+"/health/ready", "", "")
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, code)
	}
	if want := []int{503, 503, 503, 429, 429}; !slices.Equal(codes, want) {
		t.Errorf("got %v, want %v", codes, want)
	}
}

// TestSlowHandshakes: hundreds of clients that connect and begin no TLS, or
// half of one, keep out nobody who does.
func TestSlowHandshakes(t *testing.T) {
	s := newSecured(t, tlsConfig, func(o *admin.Options) { o.MaxConnections, o.HeaderTimeout = 32, 500*time.Millisecond })
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	var d net.Dialer
	for i := range 300 {
		c, err := d.DialContext(t.Context(), "tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
		if i%2 == 0 {
			_, _ = c.Write([]byte{22, 3, 1, 2, 0, 1, 0})
		}
		if i%50 == 0 {
			if code, _, err := get(t, s.client(t, nil), "https://"+s.Addr()+"/metrics", "", ""); err != nil || code != 200 {
				t.Fatalf("after %d: %d, %v", i, code, err)
			}
		}
	}
	// Those that are left are cut off in their time.
	for _, c := range held {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadAll(c); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a client that says nothing stays connected")
		}
	}
}

// TestThousandScrapes: all at once, with TLS and passwords. Some are turned
// away; the server is there afterwards.
func TestThousandScrapes(t *testing.T) {
	s := newSecured(t, tlsConfig+"basic_auth_users: {alice: "+hashed(t, "secret")+"}\n", nil)
	base := "https://" + s.Addr()
	var wg sync.WaitGroup
	var whole atomic.Int32
	start := make(chan struct{})
	for range 1000 {
		c := s.client(t, nil)
		wg.Go(func() {
			<-start
			if code, body, err := get(t, c, base+"/metrics", "alice", "secret"); err == nil && code == 200 {
				if !strings.Contains(body, "gitlab_runner_version_info") {
					t.Errorf("cut: %d bytes", len(body))
				}
				whole.Add(1)
			}
			c.CloseIdleConnections()
		})
	}
	close(start)
	wg.Wait()
	if whole.Load() == 0 {
		t.Error("nobody was answered")
	}
	t.Logf("%d of 1000 were answered in full", whole.Load())
	if code, _, err := get(t, s.client(t, nil), base+"/metrics", "alice", "secret"); err != nil || code != 200 {
		t.Errorf("afterwards: %d, %v", code, err)
	}
}

func TestDebugListener(t *testing.T) {
	r := newRig(t, nil)
	if err := r.Listen(t.Context(), admin.Settings{Address: "127.0.0.1:0", DebugAddress: "127.0.0.1:0"}); err != nil {
		t.Fatal(err)
	}
	check := func(what string, want map[string]int) {
		t.Helper()
		for path, code := range want {
			at := "http://" + r.Addr()
			if rest, ok := strings.CutPrefix(path, "debug:"); ok {
				path, at = rest, "http://"+r.DebugAddr()
			}
			if resp, body := do(t, "GET", at+path); resp.StatusCode != code {
				t.Errorf("%s: %s%s: got %d %.60q, want %d", what, at, path, resp.StatusCode, body, code)
			}
		}
	}
	check("two listeners", map[string]int{
		"/metrics": 200, "/": 200, "/api/v1/status": 200, "/debug/pprof/": 404, "/debug/jobs/list": 404,
		"debug:/metrics": 404, "debug:/": 404, "debug:/api/v1/status": 404, "debug:/debug/pprof/": 200, "debug:/debug/jobs/list": 200,
	})
	_, body := do(t, "GET", "http://"+r.Addr()+"/api/v1/status")
	if strings.Contains(body, "/debug/") {
		t.Errorf("links to what is elsewhere: %s", body)
	}
	was := r.DebugAddr()
	if err := r.Apply(t.Context(), admin.Settings{Address: "127.0.0.1:0", HidePprof: true, HideStatusPage: true}); err != nil {
		t.Fatal(err)
	}
	check("one listener, little shown", map[string]int{
		"/metrics": 200, "/": 200, "/api/v1/status": 404, "/api/v1/events": 404, "/static/app.js": 404, "/debug/pprof/": 404, "/debug/pprof/heap": 404, "/debug/jobs/list": 200,
	})
	if _, body := do(t, "GET", "http://"+r.Addr()+"/"); strings.Contains(body, "pprof") || !strings.Contains(body, "/metrics") {
		t.Errorf("without a status page: %q", body)
	}
	gone(t, "http://"+was)
	if err := r.Apply(t.Context(), admin.Settings{DebugAddress: "127.0.0.1:0"}); err != nil || r.Addr() != "" {
		t.Errorf("debug alone: %v, %q", err, r.Addr())
	}
	if resp, _ := do(t, "GET", "http://"+r.DebugAddr()+"/debug/pprof/"); resp.StatusCode != 200 {
		t.Errorf("debug alone: %d", resp.StatusCode)
	}
}

// TestNoSecretInPages: a password's hash and a key are nowhere to be seen.
func TestNoSecretInPages(t *testing.T) {
	hash := hashed(t, "secret-word")
	s := newSecured(t, tlsConfig+"basic_auth_users: {alice: "+hash+"}\n", nil)
	s.bus.Emit(t.Context(), event.ConfigLoaded{Path: "/etc/x", Err: errors.New("nothing")})
	key, err := os.ReadFile(filepath.Join(s.dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(key)
	c := s.client(t, nil)
	for _, path := range []string{"/", "/static/app.js", "/api/v1/status", "/api/v1/runners", "/api/v1/jobs", "/api/v1/finished", "/metrics", "/debug/jobs/list", "/debug/pprof/goroutine?debug=2", "/debug/pprof/cmdline"} {
		code, body, err := get(t, c, "https://"+s.Addr()+path, "alice", "secret-word")
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"secret-word", hash, string(block.Bytes)} {
			if strings.Contains(body, secret) {
				t.Errorf("%s (%d) shows a secret", path, code)
			}
		}
		if strings.HasPrefix(path, "/api/") && (!json.Valid([]byte(body)) || bytes.Contains([]byte(body), []byte("alice"))) {
			t.Errorf("%s: %s", path, body)
		}
	}
}
