//go:build linux

package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// webConfig writes a web configuration with TLS and the user ops, and returns
// a client that trusts it.
func (w *world) webConfig(password string) (path string, client *http.Client) {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		w.t.Fatal(err)
	}
	pk, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		w.t.Fatal(err)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		w.t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"web.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"web.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk}),
		"web.yml": fmt.Appendf(nil, "tls_server_config:\n  cert_file: web.crt\n  key_file: web.key\nbasic_auth_users:\n  ops: %s\n", hash),
	} {
		if err := os.WriteFile(filepath.Join(w.dir, name), text, 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		w.t.Fatal(err)
	}
	pool.AddCert(leaf)
	return filepath.Join(w.dir, "web.yml"), &http.Client{
		Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool}},
	}
}

func ask(t *testing.T, c *http.Client, url, password string) (int, string) {
	t.Helper()
	code, body, err := tryAsk(t, c, url, password)
	if err != nil {
		t.Fatal(err)
	}
	return code, body
}

func tryAsk(t *testing.T, c *http.Client, url, password string) (int, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if password != "" {
		req.SetBasicAuth("ops", password)
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// TestProtectedServer: TLS and passwords from config.toml, the end of a log,
// and whatever befalls the server, a job that runs is not touched.
func TestProtectedServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	_, client := w.webConfig("s3cret-pass")
	conf := w.config("[monitoring]\nweb_config_file = \"web.yml\"\nlog_tail = true\ndebug_listen_address = \"127.0.0.1:0\"\n")
	p := w.start(conf)
	debug := "https://" + p.waitLog(regexp.MustCompile(`Debug server listening"?[^\n]*address=(\S+)`))[1]
	base := "https://" + p.addr
	id := w.enqueue(fakegitlab.Job{
		Script:    []string{"echo hello $TOKEN_OF_MINE", "while [ ! -e " + filepath.Join(w.dir, "go") + " ]; do sleep 0.1; done", "echo done"},
		Variables: []fakegitlab.Variable{{Key: "TOKEN_OF_MINE", Value: "very-s3cret-value", Masked: true}},
	})
	w.until(id, "say hello", printed("hello"))
	if code, _ := ask(t, client, base+"/metrics", ""); code != 401 {
		t.Errorf("without a password: %d", code)
	}
	if code, _ := ask(t, client, base+"/debug/pprof/", "s3cret-pass"); code != 404 {
		t.Errorf("profiles beside the metrics: %d", code)
	}
	if code, _ := ask(t, client, debug+"/debug/pprof/", "s3cret-pass"); code != 200 {
		t.Errorf("profiles where they belong: %d", code)
	}
	_, body := ask(t, client, base+"/api/v1/jobs", "s3cret-pass")
	m := regexp.MustCompile(`"run":(\d+),"id":` + fmt.Sprint(id) + `\b`).FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("the job is not in %s", body)
	}
	code, log := ask(t, client, base+"/api/v1/jobs/"+m[1]+"/log", "s3cret-pass")
	if code != 200 || !strings.Contains(log, "hello [MASKED]") || strings.Contains(log, "very-s3cret") {
		t.Errorf("the log: %d %q", code, log)
	}

	// Broken files, a thousand scrapes, a taken address: the job goes on.
	if err := os.WriteFile(filepath.Join(w.dir, "web.crt"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.waitLog(regexp.MustCompile(`Web configuration was not loaded`))
	var wg sync.WaitGroup
	var ok atomic.Int32
	for range 1000 {
		wg.Go(func() {
			if code, _, err := tryAsk(t, client, base+"/metrics", "s3cret-pass"); err == nil && code == 200 {
				ok.Add(1)
			}
		})
	}
	wg.Wait()
	if ok.Load() == 0 {
		t.Error("no scrape was answered")
	}
	// A reload tries again, and still moves the server where it can.
	w.write(strings.Replace(conf, `listen_address = "127.0.0.1:0"`, `listen_address = "127.0.0.1:`+busyPort(t)+`"`, 1))
	p.waitLog(regexp.MustCompile(`Metrics server: listening failed`))
	_, body = ask(t, client, base+"/metrics", "s3cret-pass")
	for _, line := range []string{
		"\nglassrunner_web_config_loads_total{result=\"failed\"} 2\n", "\nglassrunner_web_config_last_load_successful 0\n", "\nglassrunner_listener_errors_total 1\n",
		"\nglassrunner_certificate_expiry_timestamp_seconds{certificate=\"web_server\"} ",
	} {
		if !strings.Contains(body, line) {
			t.Errorf("the metrics do not have %q", line)
		}
	}
	if err := os.WriteFile(filepath.Join(w.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s := w.wait(id); s.Status != fakegitlab.Success {
		t.Errorf("the job is %s", s.Status)
	}
	for _, secret := range []string{"s3cret-pass", "$2a$"} {
		if strings.Contains(p.log.String(), secret) {
			t.Errorf("the process log has %q", secret)
		}
	}
}

// TestWebConfigAtStart: the flag wins over the file, and a configuration that
// cannot be used ends the start with its name and what to do.
func TestWebConfigAtStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	path, client := w.webConfig("s3cret-pass")
	p := w.start(w.config("[monitoring]\nweb_config_file = \"there-is-none.yml\"\n"), "--web.config.file", path)
	if code, _ := ask(t, client, "https://"+p.addr+"/metrics", "s3cret-pass"); code != 200 {
		t.Errorf("got %d", code)
	}
	p.end()
	for _, text := range []string{"", "no_such_key: 1\n", "basic_auth_users: {ops: plain}\n", "tls_server_config: {cert_file: no.crt, key_file: no.key}\n"} {
		bad := filepath.Join(w.dir, "bad.yml")
		if text == "" {
			bad = filepath.Join(w.dir, "there-is-none.yml")
		} else if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p := w.command(nil, "run", "--config", w.path, "--web.config.file", bad)
		if code := p.exit(); code != 1 || !strings.Contains(p.log.String(), bad) || !strings.Contains(p.log.String(), "docs/monitoring.md") {
			t.Errorf("%q: exit code %d\n%s", text, code, p.log)
		}
	}
}

// TestOneWarning: a server that everybody can reach is warned of once.
func TestOneWarning(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config("listen_address = \"0.0.0.0:0\"\n"))
	w.run(fakegitlab.Job{Script: []string{"true"}})
	p.signal(syscall.SIGHUP)
	w.eventually("the reload", func() bool { return strings.Count(p.log.String(), "Configuration loaded") > 1 })
	if n := strings.Count(p.log.String(), "asks nobody who they are"); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
	for _, part := range []string{"basic_auth_users", "profiles", "[monitoring]"} {
		if !strings.Contains(p.log.String(), part) {
			t.Errorf("the warning does not say %q", part)
		}
	}
}

// TestDocumentedProtection runs the commands of docs/monitoring.md.
func TestDocumentedProtection(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"openssl", "curl"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("NOT TESTED: %s is missing", name)
		}
	}
	doc, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "\n## TLS and passwords\n")
	blocks := regexp.MustCompile("(?s)```(shell|toml)\n(.*?)```").FindAllStringSubmatch(section, 3)
	if len(blocks) != 3 || blocks[1][1] != "toml" {
		t.Fatalf("the section has not a shell, a toml and a shell block: %q", blocks)
	}
	w := newWorld(t, fakegitlab.Options{})
	if err := os.Symlink(binary, filepath.Join(w.dir, "glassrunner")); err != nil {
		t.Fatal(err)
	}
	run := func(script string) string {
		cmd := exec.CommandContext(w.ctx, "bash", "-euc", script)
		cmd.Dir = w.dir
		cmd.Env = append(os.Environ(), "PATH="+w.dir+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		return string(out)
	}
	run(blocks[0][2])
	p := w.start(w.config(blocks[1][2]))
	_, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		t.Fatal(err)
	}
	if out := run(strings.ReplaceAll(blocks[2][2], "localhost:9252", "127.0.0.1:"+port)); !strings.Contains(out, "gitlab_runner_version_info") {
		t.Errorf("curl: %s", out)
	}
}

// pane is a terminal in tmux.
type pane struct {
	t      *testing.T
	socket string
}

func (w *world) pane(columns, rows int, command ...string) *pane {
	w.t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		w.t.Skip("NOT TESTED: tmux is missing")
	}
	p := &pane{w.t, filepath.Join(w.dir, "tmux")}
	w.t.Cleanup(func() { _ = exec.Command("tmux", "-S", p.socket, "kill-server").Run() })
	p.tmux(append([]string{"-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(columns), "-y", fmt.Sprint(rows)}, command...)...)
	return p
}

func (p *pane) tmux(args ...string) string {
	p.t.Helper()
	cmd := exec.Command("tmux", append([]string{"-S", p.socket}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TERM=xterm-256color", "SHELL=/bin/sh")
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("tmux %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func (p *pane) shows(w *world, what, text string) {
	p.t.Helper()
	last := ""
	if err := poll(patience, func() bool {
		last = p.tmux("capture-pane", "-p")
		return strings.Contains(last, text)
	}); err != nil {
		p.t.Fatalf("%s: the pane does not show %q:\n%s", what, text, last)
	}
}

// TestTop: in a pane of tmux, and in a pipe.
func TestTop(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	w.webConfig("s3cret-pass")
	p := w.start(w.config("[monitoring]\nweb_config_file = \"web.yml\"\n"))
	pass := filepath.Join(w.dir, "pass")
	if err := os.WriteFile(pass, []byte("s3cret-pass\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"top", "--url", "https://" + p.addr, "--username", "ops", "--password-file", pass, "--tls-ca-file", filepath.Join(w.dir, "web.crt"), "--interval", "200ms"}
	long := w.enqueue(fakegitlab.Job{Name: "long-one", Script: []string{"echo hi", "while [ ! -e " + filepath.Join(w.dir, "go") + " ]; do sleep 0.1; done"}})
	w.until(long, "say hi", printed("hi"))
	w.run(fakegitlab.Job{Name: "short-one", Script: []string{"exit 3"}})

	pn := w.pane(110, 24, append([]string{binary}, args...)...)
	pn.shows(w, "at first", "long-one")
	pn.shows(w, "at first", "short-one")
	pn.shows(w, "at first", "script failure, ex")
	pn.shows(w, "the keys", "q quit")
	pn.tmux("resize-window", "-x", "60", "-y", "14")
	if err := poll(patience, func() bool {
		s := pn.tmux("capture-pane", "-p")
		return strings.Contains(s, "long-one") && !strings.Contains(s, "EXECUTOR") && strings.Count(strings.TrimRight(s, "\n"), "\n") == 13
	}); err != nil {
		t.Errorf("a small pane:\n%s", pn.tmux("capture-pane", "-p"))
	}
	pn.tmux("send-keys", "s", "Down", "Up", "r")
	if err := os.WriteFile(filepath.Join(w.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	pn.shows(w, "when it ended", "no job runs right now")
	pn.tmux("send-keys", "q")
	if err := poll(patience, func() bool {
		return exec.Command("tmux", "-S", pn.socket, "has-session").Run() != nil
	}); err != nil {
		t.Error("q does not quit")
	}

	once := w.command(nil, args...)
	if code := once.exit(); code != 0 || !strings.Contains(once.log.String(), "short-one") || strings.Contains(once.log.String(), "\x1b") {
		t.Errorf("in a pipe: %d\n%s", code, once.log)
	}
	wrong := w.command(nil, "top", "--url", "https://"+p.addr, "--tls-ca-file", filepath.Join(w.dir, "web.crt"))
	if code := wrong.exit(); code != 1 || !strings.Contains(wrong.log.String(), "--password-file") {
		t.Errorf("without a password: %d\n%s", code, wrong.log)
	}
}
