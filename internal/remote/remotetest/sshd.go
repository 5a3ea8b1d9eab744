// Package remotetest starts real SSH servers for tests.
package remotetest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/remote"
)

// A Server is an sshd on loopback that lets in the user of the test.
type Server struct {
	Addr       string // host:port
	Host, Port string
	User       string
	KeyFile    string // that is let in
	KnownHosts string // holds the server's key
	Home       string // of the user, as commands see it
	conf       string
	t          testing.TB
	cmd        *exec.Cmd
}

// Start starts a server, or skips the test where there is none. Commands get
// the variables of env, each NAME=value.
func Start(t testing.TB, env ...string) *Server {
	t.Helper()
	if _, err := exec.LookPath("/usr/sbin/sshd"); err != nil {
		t.Skip("openssh-server is not installed")
	}
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := &Server{
		t: t, Host: "127.0.0.1", User: u.Username, Home: filepath.Join(dir, "home"),
		KeyFile: filepath.Join(dir, "id"), KnownHosts: filepath.Join(dir, "known_hosts"), conf: filepath.Join(dir, "sshd_config"),
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(s.Home, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Addr = l.Addr().String()
	_, s.Port, _ = net.SplitHostPort(s.Addr)
	_ = l.Close()
	for _, key := range []string{s.KeyFile, filepath.Join(dir, "host")} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
	}
	host, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	s.write(s.KnownHosts, fmt.Sprintf("[127.0.0.1]:%s %s", s.Port, host))
	// The user's own start-up files are none of the tests' business.
	s.write(s.conf, strings.Join([]string{
		"ListenAddress " + s.Addr, "HostKey " + filepath.Join(dir, "host"), "PidFile none", "UsePAM no", "StrictModes no",
		"PermitRootLogin yes", "PasswordAuthentication no", "AuthorizedKeysFile " + s.KeyFile + ".pub", "MaxStartups 100", "MaxSessions 100",
		"SetEnv " + strings.Join(append(env, "HOME="+s.Home), " "), "PrintMotd no", "PrintLastLog no", "",
	}, "\n"))
	s.Run()
	return s
}

func (s *Server) write(path, text string) {
	s.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// Run starts the server again after a Stop.
func (s *Server) Run() {
	s.t.Helper()
	s.cmd = exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", s.conf)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	errs, err := os.Create(s.conf + ".log")
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd.Stderr = errs
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	_ = errs.Close() // sshd has it
	cmd := s.cmd
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", s.Addr)
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(s.conf + ".log")
			s.t.Fatalf("sshd does not answer: %v\n%s", err, log)
		}
	}
}

// Sever ends every connection, as a broken network would: what commands started
// may go on.
func (s *Server) Sever() {
	s.t.Helper()
	for _, pid := range children(s.cmd.Process.Pid) {
		for _, child := range children(pid) {
			if comm(child) == "sshd" {
				_ = syscall.Kill(child, syscall.SIGKILL)
			}
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// Stop takes the server away: nobody can connect any more.
func (s *Server) Stop() {
	s.t.Helper()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.Sever()
}

func children(pid int) (out []int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for f := range strings.FieldsSeq(string(text)) {
		var n int
		if _, err := fmt.Sscan(f, &n); err == nil {
			out = append(out, n)
		}
	}
	return out
}

func comm(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(text))
}

// Login is how the server is entered.
func (s *Server) Login() remote.Login {
	s.t.Helper()
	key, err := os.ReadFile(s.KeyFile)
	if err != nil {
		s.t.Fatal(err)
	}
	return remote.Login{Address: s.Addr, User: s.User, Key: job.Secret(key), KnownHosts: s.KnownHosts, Timeout: 20 * time.Second}
}
