//go:build linux

package e2e_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// binary is the program under test.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	parallel := false
	flag.Visit(func(f *flag.Flag) { parallel = parallel || f.Name == "test.parallel" })
	if !parallel {
		// Most tests wait most of the time: for timeouts, polls, signals.
		_ = flag.Set("test.parallel", "8")
	}
	os.Exit(build(m))
}

// build makes the binary and runs the tests.
func build(m *testing.M) int {
	if binary = os.Getenv("GLASSRUNNER_E2E_BINARY"); binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "glassrunner-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "glassrunner")
	cmd := exec.Command("go", "build", "-o", binary, "../../cmd/glassrunner")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "building the program under test:", err)
		return 1
	}
	return m.Run()
}

// patience is how long a test waits for what must happen. The machine may be
// slow; a test that fails has time.
const patience = 60 * time.Second

// world is a server with directories for runners.
type world struct {
	t      *testing.T
	ctx    context.Context
	server *fakegitlab.Server
	runner fakegitlab.Runner // the first runner of the server
	dir    string
	path   string // of config.toml
	mark   string // in the environment of every process of this test

	client *http.Client
	mu     sync.Mutex
	procs  []*process
}

// newWorld starts a server. The test ends with its checks.
func newWorld(t *testing.T, o fakegitlab.Options) *world {
	t.Helper()
	if o.Concurrent == 0 {
		o.Concurrent = 4
	}
	if o.LongPoll == 0 {
		o.LongPoll = 5 * time.Second
	}
	w := bareWorld(t)
	w.server = fakegitlab.New(o)
	if err := w.server.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	w.runner = w.addRunner("e2e", fakegitlab.Limits{RequestConcurrency: 1})
	t.Cleanup(w.finish)
	return w
}

// bareWorld has no server of its own.
func bareWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // tests of many jobs wait for one another
	t.Cleanup(cancel)
	w := &world{
		t: t, ctx: ctx, dir: t.TempDir(),
		mark:   fmt.Sprintf("%d-%s", os.Getpid(), strings.Map(markRune, t.Name())),
		client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}},
	}
	w.path = filepath.Join(w.dir, "config.toml")
	if err := os.Mkdir(filepath.Join(w.dir, "home"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(w.dir, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	return w
}

func markRune(r rune) rune {
	if r == '/' || r <= ' ' {
		return '_'
	}
	return r
}

// addRunner adds a runner to the server that promises limits.
func (w *world) addRunner(name string, limits fakegitlab.Limits) fakegitlab.Runner {
	return w.server.AddRunner(fakegitlab.RunnerConfig{Description: name, Limits: limits})
}

// finish stops what runs and asks the questions that every test ends with.
func (w *world) finish() {
	w.mu.Lock()
	procs := slices.Clone(w.procs)
	w.mu.Unlock()
	for _, p := range procs {
		p.end()
	}
	if w.server != nil {
		for _, v := range w.server.Violations() {
			w.t.Errorf("violation: %s", v)
		}
		if err := w.server.Close(); err != nil {
			w.t.Errorf("closing the server: %v", err)
		}
	}
	for _, p := range procs {
		for _, bad := range []string{"panic:", "goroutine 1 [", "job_panic", "DATA RACE", "fatal error:"} {
			if strings.Contains(p.log.String(), bad) {
				w.t.Errorf("the log of process %d has %q", p.cmd.Process.Pid, bad)
			}
		}
	}
	for pid, args := range w.waitGone() {
		w.t.Errorf("process %d outlived the test: %s", pid, args)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if w.t.Failed() {
		for _, p := range procs {
			w.t.Logf("log of process %d (%v):\n%s", p.cmd.Process.Pid, p.cmd.Args[1:], tail(p.log.String(), 12<<10))
		}
	}
}

// tail is the end of a long text.
func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return fmt.Sprintf("[%d bytes left out]\n%s", len(s)-n, s[len(s)-n:])
}

// waitGone waits a little for marked processes to end and returns those that do not.
func (w *world) waitGone() map[int]string {
	var left map[int]string
	_ = poll(5*time.Second, func() bool {
		left = marked(w.mark)
		return len(left) == 0
	})
	return left
}

// marked lists the processes that have mark in their environment.
func marked(mark string) map[int]string {
	found := map[int]string{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		env, err := os.ReadFile(filepath.Join(d, "environ"))
		if err != nil || !bytes.Contains(env, []byte("GLASSRUNNER_E2E_MARK="+mark+"\x00")) {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(d, "stat"))
		if err != nil {
			continue
		}
		if i := bytes.LastIndexByte(stat, ')'); i > 0 && i+2 < len(stat) && (stat[i+2] == 'Z' || stat[i+2] == 'X') {
			continue
		}
		args, _ := os.ReadFile(filepath.Join(d, "cmdline"))
		pid, _ := strconv.Atoi(filepath.Base(d))
		found[pid] = string(bytes.ReplaceAll(args, []byte{0}, []byte{' '}))
	}
	return found
}

// jobProcesses are the marked processes that are no runner.
func (w *world) jobProcesses() map[int]string {
	all := marked(w.mark)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.procs {
		delete(all, p.cmd.Process.Pid)
	}
	return all
}

// entry is one [[runners]] entry of a configuration.
type entry struct {
	Token, Name, Shell string
	Executor           string // "": shell
	Timestamps         bool
	Extra              string // further lines
}

// config makes a config.toml: the global lines, which win over the default
// ones, and the entries; without any, one for the server's first runner.
func (w *world) config(global string, entries ...entry) string {
	var b strings.Builder
	defaults := map[string]string{
		"concurrent": "4", "check_interval": "1", "shutdown_timeout": "15", "listen_address": `"127.0.0.1:0"`, "log_format": `"text"`,
	}
	for line := range strings.Lines(global) {
		key, _, _ := strings.Cut(line, "=")
		delete(defaults, strings.TrimSpace(key))
	}
	for _, key := range slices.Sorted(maps.Keys(defaults)) {
		fmt.Fprintf(&b, "%s = %s\n", key, defaults[key])
	}
	b.WriteString(global + "\n")
	if len(entries) == 0 {
		entries = []entry{{}}
	}
	for i, e := range entries {
		if e.Token == "" {
			e.Token = w.runner.Token
		}
		if e.Name == "" {
			e.Name = fmt.Sprintf("box-%d", i)
		}
		e.Shell, e.Executor = cmp.Or(e.Shell, "sh"), cmp.Or(e.Executor, "shell")
		fmt.Fprintf(&b, `
[[runners]]
  name = %q
  url = %q
  token = %q
  executor = %q
  shell = %q
  builds_dir = %q
  cache_dir = %q
`, e.Name, w.server.URL(), e.Token, e.Executor, e.Shell, filepath.Join(w.dir, "builds"), filepath.Join(w.dir, "cache"))
		if !strings.Contains(e.Extra, "graceful_kill_timeout") {
			b.WriteString("  graceful_kill_timeout = \"2s\"\n")
		}
		if !e.Timestamps {
			b.WriteString("  feature_flags = { FF_TIMESTAMPS = false }\n")
		}
		b.WriteString(e.Extra + "\n")
	}
	return b.String()
}

// write replaces config.toml at once.
func (w *world) write(text string) {
	w.t.Helper()
	next := w.path + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(next, w.path); err != nil {
		w.t.Fatal(err)
	}
}

// process is a running glassrunner.
type process struct {
	w    *world
	cmd  *exec.Cmd
	log  *journal // stderr and stdout
	done chan struct{}
	err  error // of Wait, after done
	addr string
}

// command starts the binary with args.
func (w *world) command(env []string, args ...string) *process {
	w.t.Helper()
	return w.program(binary, env, args...)
}

// program starts any program as command does.
func (w *world) program(path string, env []string, args ...string) *process {
	w.t.Helper()
	p := &process{w: w, log: newJournal(), done: make(chan struct{})}
	p.cmd = exec.Command(path, args...)
	p.cmd.Dir = w.dir
	p.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(w.dir, "home"), "TMPDIR=" + filepath.Join(w.dir, "tmp"),
		"LC_ALL=C.UTF-8", "GOTRACEBACK=all", "GLASSRUNNER_E2E_MARK=" + w.mark,
	}, env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.WaitDelay = 5 * time.Second
	// A signal to the tests' own group is the tests' matter.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.start(); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// start must not be tied to a thread that ends before the process, which would
// have Pdeathsig kill it: the goroutine that waits for it holds its thread.
func (p *process) start() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := p.cmd.Start(); err != nil {
			started <- err
			return
		}
		p.w.mu.Lock()
		p.w.procs = append(p.w.procs, p)
		p.w.mu.Unlock()
		started <- nil
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return <-started
}

// start writes text as config.toml, runs it and waits for the metrics server.
func (w *world) start(text string, args ...string) *process {
	w.t.Helper()
	w.write(text)
	return w.restart(args...)
}

// restart runs the config.toml that is there.
func (w *world) restart(args ...string) *process {
	w.t.Helper()
	p := w.command(nil, append([]string{"run", "--config", w.path}, args...)...)
	p.addr = p.listening()
	return p
}

var listeningLine = regexp.MustCompile(`Metrics server listening"?[^\n]*address=(\S+)`)

// listening waits for the address of the metrics server.
func (p *process) listening() string {
	p.w.t.Helper()
	m := p.waitLog(listeningLine)
	return m[1]
}

// waitLog waits until the log matches, and returns the last match with its groups.
func (p *process) waitLog(re *regexp.Regexp) []string {
	p.w.t.Helper()
	ctx, cancel := context.WithTimeout(p.w.ctx, patience)
	defer cancel()
	for {
		text, changed := p.log.look()
		if all := re.FindAllStringSubmatch(text, -1); len(all) > 0 {
			return all[len(all)-1]
		}
		select {
		case <-changed:
		case <-p.done:
			if text, _ := p.log.look(); re.MatchString(text) {
				continue
			}
			p.w.t.Fatalf("the process ended (%v) without %q in its log", p.err, re)
		case <-ctx.Done():
			p.w.t.Fatalf("the log does not have %q", re)
		}
	}
}

// signal sends one.
func (p *process) signal(s syscall.Signal) {
	p.w.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.w.t.Fatalf("signal %v: %v", s, err)
	}
}

// exit waits for the end of the process and returns its exit code, -1 after a
// signal that killed it.
func (p *process) exit() int {
	p.w.t.Helper()
	return p.exitWithin(patience)
}

func (p *process) exitWithin(d time.Duration) int {
	p.w.t.Helper()
	late := time.NewTimer(d)
	defer late.Stop()
	select {
	case <-p.done:
		if errors.Is(p.err, exec.ErrWaitDelay) {
			p.w.t.Errorf("something that the process left behind holds its output")
		}
		return p.cmd.ProcessState.ExitCode()
	case <-late.C:
		p.w.t.Fatalf("the process has not ended within %v", d)
		return 0
	}
}

// running reports whether the process has not ended.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the process without giving it a chance.
func (p *process) kill() {
	p.w.t.Helper()
	p.signal(syscall.SIGKILL)
	<-p.done
}

// end stops the process at the end of a test: politely, since that has to work as well.
func (p *process) end() {
	if !p.running() {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	late := time.NewTimer(20 * time.Second)
	defer late.Stop()
	select {
	case <-p.done:
	case <-late.C:
		p.w.t.Errorf("the process did not end after SIGTERM; its goroutines are in the log")
		_ = p.cmd.Process.Signal(syscall.SIGABRT)
		<-p.done
	}
}

// enqueue adds a job.
func (w *world) enqueue(j fakegitlab.Job) int64 {
	w.t.Helper()
	return enqueue(w.t, w, j)
}

func enqueue(t *testing.T, w *world, j fakegitlab.Job) int64 {
	t.Helper()
	id, err := w.server.Enqueue(j)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// wait waits for the end of a job.
func (w *world) wait(id int64) fakegitlab.Snapshot {
	w.t.Helper()
	return wait(w.t, w, id)
}

func wait(t *testing.T, w *world, id int64) fakegitlab.Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	s, err := w.server.Wait(ctx, id)
	if err != nil {
		t.Fatalf("job %d is %s: %v\n%s", id, s.Status, err, tail(string(s.Trace), 4<<10))
	}
	return s
}

// run is a job from its beginning to its end.
func (w *world) run(j fakegitlab.Job) fakegitlab.Snapshot {
	w.t.Helper()
	return w.wait(w.enqueue(j))
}

// until waits for a job to fulfil a condition.
func (w *world) until(id int64, what string, ok func(fakegitlab.Snapshot) bool) fakegitlab.Snapshot {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	s, err := w.server.WaitForJob(ctx, id, ok)
	if err != nil {
		last, _ := w.server.Job(id)
		w.t.Fatalf("job %d, which is %s, does not come to %s: %v\n%s", id, last.Status, what, err, tail(string(last.Trace), 4<<10))
	}
	return s
}

// printed is a condition for until: the trace has text.
func printed(text string) func(fakegitlab.Snapshot) bool {
	return func(s fakegitlab.Snapshot) bool { return bytes.Contains(s.Trace, []byte(text)) }
}

// poll asks until ok, for at most d.
func poll(d time.Duration, ok func() bool) error {
	deadline := time.Now().Add(d)
	for !ok() {
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v", d)
		}
		<-time.After(20 * time.Millisecond)
	}
	return nil
}

// eventually fails the test when ok does not become true.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	if err := poll(patience, ok); err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
}

// exists reports whether a file is there.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// stateLeft lists what is in the state directory besides its lock.
func (w *world) stateLeft() []string {
	var left []string
	_ = filepath.WalkDir(filepath.Join(w.dir, ".glassrunner"), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.Contains(filepath.Base(path), "lock") {
			left = append(left, path)
		}
		return nil
	})
	return left
}

// journal collects what a process prints.
type journal struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{}
}

func newJournal() *journal { return &journal{changed: make(chan struct{})} }

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	close(j.changed)
	j.changed = make(chan struct{})
	return j.buf.Write(p)
}

// look returns the text so far and what tells of more.
func (j *journal) look() (string, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String(), j.changed
}

func (j *journal) String() string {
	s, _ := j.look()
	return s
}
