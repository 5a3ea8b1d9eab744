package bench_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program builds the binary, as `make build` does, when the first benchmark
// wants it.
type program struct {
	dir  string
	once sync.Once
	path string
	err  error
}

var binary program

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "glassrunner-bench-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary.dir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func (p *program) get(b *testing.B) string {
	b.Helper()
	p.once.Do(func() {
		if p.path = os.Getenv("GLASSRUNNER_BENCH_BINARY"); p.path != "" {
			p.path, p.err = filepath.Abs(p.path)
			return
		}
		p.path = filepath.Join(p.dir, "glassrunner")
		var flags []byte
		if flags, p.err = exec.Command("../../scripts/ldflags.sh").Output(); p.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", strings.TrimSpace(string(flags)), "-o", p.path, "../../cmd/glassrunner")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		p.err = cmd.Run()
	})
	if p.err != nil {
		b.Fatalf("the program to be measured: %v", p.err)
	}
	return p.path
}

// place is a directory for a runner with an environment that no start-up file
// of a person's gets into.
type place struct {
	dir string
	env []string
}

func newPlace(b *testing.B) *place {
	b.Helper()
	p := &place{dir: b.TempDir()}
	for _, d := range []string{"home", "tmp"} {
		if err := os.Mkdir(filepath.Join(p.dir, d), 0o700); err != nil {
			b.Fatal(err)
		}
	}
	p.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(p.dir, "home"), "TMPDIR=" + filepath.Join(p.dir, "tmp"),
		"LC_ALL=C.UTF-8", "GIT_CONFIG_NOSYSTEM=1",
	}
	return p
}

// config writes a config.toml with some runner entries.
func (p *place) config(b *testing.B, url string, concurrent, entries int, more string) string {
	b.Helper()
	var t strings.Builder
	fmt.Fprintf(&t, "concurrent = %d\ncheck_interval = 3\nshutdown_timeout = 5\n", concurrent)
	for i := range entries {
		fmt.Fprintf(&t, "\n[[runners]]\n  name = \"box-%d\"\n  url = %q\n  token = \"glrt-bench%08d\"\n  executor = \"shell\"\n  shell = \"bash\"\n  builds_dir = %q\n  cache_dir = %q\n%s",
			i, url, i, filepath.Join(p.dir, "builds"), filepath.Join(p.dir, "cache"), more)
	}
	path := filepath.Join(p.dir, "config.toml")
	if err := os.WriteFile(path, []byte(t.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

// runner is a running glassrunner.
type runner struct {
	b      *testing.B
	cmd    *exec.Cmd
	addr   string
	log    bytes.Buffer
	begun  time.Time
	client *http.Client
	ended  chan error
}

// command starts the binary, or what prefix makes of it.
func (p *place) command(b *testing.B, config string, prefix ...string) *runner {
	b.Helper()
	r := &runner{b: b, addr: freeAddress(b), ended: make(chan error, 1), client: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 8, DisableCompression: true}, Timeout: time.Minute,
	}}
	args := append(slices.Clip(prefix), binary.get(b), "run", "--config", config, "--listen-address", r.addr)
	if profile := os.Getenv("GLASSRUNNER_BENCH_CPUPROFILE"); profile != "" {
		args = append(args, "--cpuprofile", profile)
	}
	r.cmd = exec.Command(args[0], args[1:]...)
	r.cmd.Dir, r.cmd.Env = p.dir, p.env
	r.cmd.Stdout, r.cmd.Stderr = &r.log, &r.log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r.begun = time.Now()
	if err := r.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	go func() { r.ended <- r.cmd.Wait() }()
	return r
}

// start starts the binary and waits for its metrics. The benchmark's end is its end.
func (p *place) start(b *testing.B, config string, prefix ...string) *runner {
	b.Helper()
	r := p.command(b, config, prefix...)
	b.Cleanup(r.stop)
	r.ready()
	return r
}

// ready waits for the first 200 of /metrics and returns how long that took.
func (r *runner) ready() time.Duration {
	r.b.Helper()
	tick := time.NewTicker(500 * time.Microsecond)
	defer tick.Stop()
	for time.Since(r.begun) < time.Minute {
		if status, _, err := r.get("/metrics"); err == nil && status == http.StatusOK {
			return time.Since(r.begun)
		}
		select {
		case err := <-r.ended:
			r.ended <- err
			r.b.Fatalf("the runner ended: %v\n%s", err, &r.log)
		case <-tick.C:
		}
	}
	r.b.Fatal("no metrics within a minute")
	return 0
}

// stop ends the runner.
func (r *runner) stop() {
	_ = r.cmd.Process.Signal(syscall.SIGTERM) // unless it has ended by itself
	late := time.NewTimer(20 * time.Second)
	defer late.Stop()
	select {
	case err := <-r.ended:
		if err != nil {
			r.b.Errorf("the runner: %v\n%s", err, &r.log)
		}
		r.ended <- err
	case <-late.C:
		r.b.Error("the runner did not end")
		_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
	}
	r.client.CloseIdleConnections()
}

// get asks the monitoring server.
func (r *runner) get(path string, header ...string) (status int, body []byte, err error) {
	var b bytes.Buffer
	status, err = r.fetch(&b, path, header...)
	return status, b.Bytes(), err
}

// fetch is get into a buffer.
func (r *runner) fetch(into *bytes.Buffer, path string, header ...string) (status int, err error) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(r.b.Context()), http.MethodGet, "http://"+r.addr+path, nil)
	if err != nil {
		return 0, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := r.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	_, err = io.Copy(into, res.Body)
	return res.StatusCode, err
}

func freeAddress(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }() // only its number was wanted
	return l.Addr().String()
}

// proc reads a file of the runner's process.
func (r *runner) proc(name string) string {
	r.b.Helper()
	if runtime.GOOS != "linux" {
		r.b.Skip("needs /proc")
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", r.cmd.Process.Pid, name))
	if err != nil {
		r.b.Fatal(err)
	}
	return string(text)
}

// cpu is the processor time that the runner itself has used, without its
// children: what the scheduler has counted for its threads, to the nanosecond.
func (r *runner) cpu() time.Duration {
	r.b.Helper()
	r.proc("stat") // is there a /proc
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", r.cmd.Process.Pid))
	if err != nil || len(tasks) == 0 {
		r.b.Fatalf("no threads: %v", err)
	}
	var sum time.Duration
	for _, path := range tasks { // Go's threads live as long as the process
		text, err := os.ReadFile(path)
		if err != nil {
			r.b.Fatal(err)
		}
		ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			r.b.Fatal(err)
		}
		sum += time.Duration(ns)
	}
	return sum
}

// memory reads a value of /proc/PID/status, in MiB.
func (r *runner) memory(key string) float64 {
	r.b.Helper()
	for line := range strings.Lines(r.proc("status")) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == key+":" {
			kib, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				r.b.Fatal(err)
			}
			return kib / 1024
		}
	}
	r.b.Fatalf("/proc/PID/status has no %s", key)
	return 0
}
