//go:build linux

package e2e_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// freePort is a port that was free a moment ago.
func freePort(t *testing.T, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Skipf("NOT TESTED: no %s here: %v", host, err)
	}
	defer func() { _ = l.Close() }()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// busyPort is a port of the loopback interface that is taken while the test runs.
func busyPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// TestListenAddress starts the metrics server in every way that it can be asked for.
func TestListenAddress(t *testing.T) {
	t.Parallel()
	listenOnDefaultPort(t) // before the others: it takes the port on all addresses
	port := func(host string) func(*testing.T) string {
		return func(t *testing.T) string { return freePort(t, host) }
	}
	fixed := func(address string) func(*testing.T) string {
		return func(t *testing.T) string {
			l, err := net.Listen("tcp", address)
			if err != nil {
				t.Skipf("NOT TESTED: this machine has no room at %s: %v", address, err)
			}
			_ = l.Close()
			return ""
		}
	}
	tests := []struct {
		name            string
		port            func(*testing.T) string // replaces PORT
		file, flag, env string
		at              string // where it has to answer
	}{
		{"IPv4 in the file", port("127.0.0.1"), "127.0.0.1:PORT", "", "", "127.0.0.1:PORT"},
		{"name in the file", port("127.0.0.1"), "localhost:PORT", "", "", "localhost:PORT"},
		{"all interfaces", port(""), ":PORT", "", "", "127.0.0.1:PORT"},
		{"IPv6", port("::1"), "[::1]:PORT", "", "", "[::1]:PORT"},
		{"flag", port("127.0.0.1"), "", "127.0.0.1:PORT", "", "127.0.0.1:PORT"},
		{"environment", port("127.0.0.1"), "", "", "127.0.0.1:PORT", "127.0.0.1:PORT"},
		{"the flag wins over the file", port("127.0.0.1"), "127.0.0.1:1", "127.0.0.1:PORT", "", "127.0.0.1:PORT"},
		{"the flag wins over a bad file", port("127.0.0.1"), "::::", "127.0.0.1:PORT", "", "127.0.0.1:PORT"},
		{"the flag wins over the environment", port("127.0.0.1"), "", "127.0.0.1:PORT", "127.0.0.1:1", "127.0.0.1:PORT"},
		{"the environment wins over the file", port("127.0.0.1"), "127.0.0.1:1", "", "127.0.0.1:PORT", "127.0.0.1:PORT"},
		// A loopback address of its own keeps tests of fixed ports apart.
		{"no port is 9252", fixed("127.9.2.52:9252"), "127.9.2.52", "", "", "127.9.2.52:9252"},
		{"an empty port is 9252", fixed("127.9.2.53:9252"), "127.9.2.53:", "", "", "127.9.2.53:9252"},
		{"a service's name", fixed("127.9.2.54:8080"), "127.9.2.54:http-alt", "", "", "127.9.2.54:8080"},
		{"http, where that is allowed", fixed("127.9.2.55:80"), "127.9.2.55:http", "", "", "127.9.2.55:80"},
		{"any port", nil, "127.0.0.1:0", "", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fakegitlab.Options{})
			free := ""
			if tt.port != nil {
				free = tt.port(t)
			}
			fill := func(s string) string { return strings.ReplaceAll(s, "PORT", free) }
			if strings.Contains(tt.file, ":http") && !exists("/etc/services") {
				t.Skip("NOT TESTED: there is no /etc/services")
			}
			text := w.config("listen_address = " + strconv.Quote(fill(tt.file)))
			if tt.file == "" {
				text = strings.Replace(text, `listen_address = ""`, "", 1)
			}
			w.write(text)
			args := []string{"run", "--config", w.path}
			if tt.flag != "" {
				args = append(args, "--listen-address", fill(tt.flag))
			}
			var env []string
			if tt.env != "" {
				env = append(env, "LISTEN_ADDRESS="+fill(tt.env))
			}
			p := w.command(env, args...)
			p.addr = p.listening()
			if at := fill(tt.at); at != "" {
				p.addr = at
			}
			p.scrape().check(t, 4, "gitlab_runner_concurrent")
		})
	}
}

// listenOnDefaultPort is the default port on all interfaces, which may be
// taken: then the message says so.
func listenOnDefaultPort(t *testing.T) {
	t.Helper()
	for _, address := range []string{":9252", ":"} {
		w := newWorld(t, fakegitlab.Options{})
		w.write(w.config("listen_address = " + strconv.Quote(address)))
		p := w.command(nil, "run", "--config", w.path)
		w.eventually("a start or an end", func() bool { return !p.running() || listeningLine.MatchString(p.log.String()) })
		if !p.running() {
			has(t, p.log.String(), ":9252", "in use")
			t.Logf("%q: port 9252 is in use here, and the runner said so", address)
			continue
		}
		if m := listeningLine.FindStringSubmatch(p.log.String()); !strings.HasSuffix(m[1], ":9252") {
			t.Errorf("%q: the metrics server listens on %s", address, m[1])
		}
		p.addr = "127.0.0.1:9252"
		p.scrape().check(t, 4, "gitlab_runner_concurrent")
		p.end()
	}
}

// TestListenAddressRefused ends the start with a message that names the
// address and what to do.
func TestListenAddressRefused(t *testing.T) {
	t.Parallel()
	busy := busyPort(t)
	w := newWorld(t, fakegitlab.Options{})
	for _, tt := range []struct {
		address string
		says    []string
	}{
		{"127.0.0.1:" + busy, []string{"127.0.0.1:" + busy, "in use", "choose another"}},
		{"9252", []string{"9252", ":9252"}},
		{"::1", []string{"::1", "[::1]"}},
		{"::1:9252", []string{"[::1]:9252"}},
		{"http://127.0.0.1:9252", []string{"127.0.0.1:9252", "URL"}},
		{"127.0.0.1:99999", []string{"127.0.0.1:99999", "65535"}},
		{"127.0.0.1:no-such-service", []string{"no-such-service"}},
		{"192.0.2.1:9252", []string{"192.0.2.1:9252", "no address of this machine"}},
		{"no-such-host.invalid:9252", []string{"no-such-host.invalid", "cannot be resolved"}},
		{"unix:/tmp/socket", []string{"TCP"}},
		{"127.0.0.1:1:2", []string{"127.0.0.1:1:2"}},
		{"[::1", []string{"[::1"}},
		{" 127.0.0.1:9252", []string{"127.0.0.1:9252"}},
	} {
		for _, way := range []string{"file", "flag", "environment"} {
			var env []string
			args := []string{"run", "--config", w.path}
			text := w.config("")
			switch way {
			case "file":
				text = w.config("listen_address = " + strconv.Quote(tt.address))
			case "flag":
				args = append(args, "--listen-address", tt.address)
			default:
				env = append(env, "LISTEN_ADDRESS="+tt.address)
			}
			w.write(text)
			p := w.command(env, args...)
			if code := p.exit(); code != 1 {
				t.Errorf("%s %q: exit code %d, want 1\n%s", way, tt.address, code, p.log)
				continue
			}
			has(t, p.log.String(), tt.says...)
			if n := strings.Count(strings.TrimSpace(p.log.String()), "\n"); n > 3 {
				t.Errorf("%s %q: the message has %d lines:\n%s", way, tt.address, n+1, p.log)
			}
		}
	}
	if s := w.server.Stats(); s.Requests[fakegitlab.RequestJob] > 0 {
		t.Errorf("jobs were asked for %d times by runners that could not start", s.Requests[fakegitlab.RequestJob])
	}
}

// TestLowPort needs root or a capability, and says so to others.
func TestLowPort(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		w := newWorld(t, fakegitlab.Options{})
		w.write(w.config(`listen_address = "127.9.2.56:81"`))
		p := w.command(nil, "run", "--config", w.path)
		if code := p.exit(); code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
		has(t, p.log.String(), "127.9.2.56:81", "below 1024")
		return
	}
	setpriv := needs(t, "setpriv")
	w := newWorld(t, fakegitlab.Options{})
	w.write(w.config(`listen_address = "127.9.2.56:81"`))
	if err := os.Chmod(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	prefix := []string{setpriv, "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service", binary}
	p := w.program(prefix[0], nil, append(prefix[1:], "run", "--config", w.path)...)
	if code := p.exit(); code != 1 {
		t.Errorf("exit code %d, want 1\n%s", code, p.log)
	}
	has(t, p.log.String(), "127.9.2.56:81", "below 1024")
}

// TestNoListenAddress says that there is no metrics server, and runs jobs.
func TestNoListenAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	w.write(strings.Replace(w.config(`listen_address = ""`), `listen_address = ""`, "", 1))
	p := w.command(nil, "run", "--config", w.path)
	p.waitLog(regexp.MustCompile("listen_address not defined, metrics & debug endpoints disabled"))
	want(t, w.run(fakegitlab.Job{Script: []string{"true"}}), "success")
	if at := listening(t, p.cmd.Process.Pid); len(at) > 0 {
		t.Errorf("the process listens: %v", at)
	}
}

// listening lists the sockets on which a process listens.
func listening(t *testing.T, pid int) []string {
	t.Helper()
	var inodes []string
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:[") {
			inodes = append(inodes, strings.Trim(to, "socket:[]"))
		}
	}
	if len(inodes) == 0 {
		t.Fatal("the process has no sockets at all")
	}
	var at []string
	for _, table := range []string{"tcp", "tcp6"} {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == "0A" {
				for _, inode := range inodes {
					if f[9] == inode {
						at = append(at, f[1])
					}
				}
			}
		}
	}
	return at
}

// TestListenAddressReload adds, changes and removes the address while a job runs.
func TestListenAddressReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	without := strings.Replace(w.config(`listen_address = ""`), `listen_address = ""`, "", 1)
	at := func(address string) string { return w.config("listen_address = " + strconv.Quote(address)) }
	w.write(without)
	p := w.command(nil, "run", "--config", w.path)
	p.waitLog(regexp.MustCompile("listen_address not defined"))
	id := w.enqueue(fakegitlab.Job{Script: []string{"echo begun; until [ -e $CI_BUILDS_DIR/go ]; do sleep 0.1; done; echo ended"}})
	w.until(id, "its script", printed("\nbegun\n"))

	w.write(at("127.0.0.1:0"))
	p.addr = p.listening()
	p.scrape().check(t, 1, "glassrunner_jobs_running")

	next := "127.0.0.1:" + freePort(t, "127.0.0.1")
	old := p.addr
	w.write(at(next))
	p.waitLog(regexp.MustCompile(`Metrics server listening"? address=` + regexp.QuoteMeta(next)))
	p.addr = next
	p.scrape().check(t, 1, "glassrunner_jobs_running")
	w.eventually("the end of the old listener", func() bool {
		c, err := net.Dial("tcp", old)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})

	// The same port on all interfaces, and back.
	_, port, _ := strings.Cut(next, ":")
	w.write(at(":" + port))
	p.waitLog(regexp.MustCompile(`Metrics server listening"? address=\S*\[::\]:` + port))
	p.scrape().check(t, 1, "glassrunner_jobs_running")
	w.write(at(next))
	p.waitLog(regexp.MustCompile(`Metrics server listening"? address=` + regexp.QuoteMeta(next) + `\n[^$]*\[::\]:` + port + `(.|\n)*address=` + regexp.QuoteMeta(next)))

	// It cannot: the old listener stays, and that is counted.
	busy := "127.0.0.1:" + busyPort(t)
	w.write(at(busy))
	m := p.waitValue(1, "glassrunner_listener_errors_total")
	m.check(t, 1, "glassrunner_jobs_running")
	has(t, p.log.String(), busy, "in use")
	if got := listening(t, p.cmd.Process.Pid); len(got) != 1 {
		t.Errorf("the process listens on %v", got)
	}

	w.write(without)
	w.eventually("the end of the listener", func() bool { return len(listening(t, p.cmd.Process.Pid)) == 0 })
	touch(t, filepath.Join(w.dir, "builds", "go"))
	s := w.wait(id)
	want(t, s, "success")
	has(t, text(s.Trace), "\nbegun\nended\n")
}

// TestListenAddressFlagOverReload keeps the flag's address whatever the file says.
func TestListenAddressFlagOverReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config(`listen_address = "127.0.0.1:1"`), "--listen-address", "127.0.0.1:0")
	w.write(w.config("listen_address = \"not an address\"\nconcurrent = 3"))
	m := p.waitValue(3, "gitlab_runner_concurrent")
	m.check(t, 0, "glassrunner_listener_errors_total")
}
