package kubernetes

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilexec "k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/pause"
)

const (
	// silence is how long a connection may carry nothing, not even a sign of
	// life, until another one is made.
	silence = 45 * time.Second
	// again is the longest wait before another connection.
	again = 3 * time.Second
	// unsent is the exit code of follow.sh for a script that came in part.
	unsent = 75
)

// notUpgraded reports whether a server does not speak WebSocket for execs.
func notUpgraded(err error) bool {
	return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
}

// exitStatus is the exit code of a process that ran to its end.
func exitStatus(err error) (int, bool) {
	if err == nil {
		return 0, true
	}
	if e, ok := errors.AsType[utilexec.ExitError](err); ok {
		return e.ExitStatus(), true
	}
	return 0, false
}

// script is one script in a container.
type script struct {
	p      *place
	target string
	number int
	text   []byte
	mode   string // "one" or "two" streams
	out    sink
	err    sink

	brought bool   // the container has it
	result  string // the line that says how it ended, or ""
}

// Run carries out c.
func (p *place) Run(ctx context.Context, c executor.Command) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(c.Script) == 0 {
		return nil
	}
	p.number++
	s := &script{p: p, target: helperContainer, number: p.number, text: c.Script, mode: "two", out: sink{w: c.Stdout}, err: sink{w: c.Stderr}}
	if c.In == executor.Build {
		s.target = buildContainer
	}
	if executor.SameWriter(c.Stdout, c.Stderr) {
		s.mode = "one"
	}
	err := s.run(ctx, c.Grace)
	if err != nil && ctx.Err() == nil {
		p.explain(err)
		err = p.failed(ctx, err)
	}
	return err
}

// run follows the script to its end, over as many connections as that takes.
func (s *script) run(ctx context.Context, grace time.Duration) error {
	err := s.follow(ctx)
	if ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), s.stop(ctx, grace))
	}
	if e, ok := errors.AsType[*podError](err); ok {
		s.drain(ctx, e)
		if e.container == s.target && e.job == job.NoReason && s.target == buildContainer {
			// Its limits are the job's own affair, not the runner's.
			s.p.warn("%v", e)
			s.p.d.o.Bus.Emit(ctx, event.PodFailed{Reason: e.reason})
			return &executor.ExitError{Code: e.code, Text: fmt.Sprintf("command terminated with exit code %d", e.code)}
		}
	}
	if err != nil {
		return err
	}
	return s.verdict(ctx)
}

// verdict reads how the script ended.
func (s *script) verdict(ctx context.Context) error {
	if err := errors.Join(s.out.failed, s.err.failed); err != nil {
		return fmt.Errorf("job log: %w", err)
	}
	code, killed, usage, err := parseResult(s.result)
	if err != nil {
		return err
	}
	s.p.account(s.target, usage, killed)
	if code == 0 {
		return nil
	}
	if killed > 0 {
		s.p.warn("The kernel killed %d of the processes in the container %s: they needed more memory than its limit.", killed, s.target)
		s.p.d.o.Bus.Emit(ctx, event.PodFailed{Reason: event.PodOOMKilled})
	}
	return &executor.ExitError{Code: code, Text: fmt.Sprintf("command terminated with exit code %d", code)}
}

// parseResult reads a line of supervise.sh: exit code, processes killed for
// memory, CPU time, peak of memory, throttled time.
func parseResult(line string) (code int, killed int64, u job.Usage, err error) {
	f := strings.Fields(line)
	if len(f) != 5 {
		return 0, 0, u, fmt.Errorf("the container says %.100q of how a script ended", line)
	}
	code, err = strconv.Atoi(f[0])
	if err != nil || code < 0 || code > 255 {
		return 0, 0, u, fmt.Errorf("the container says %.100q of how a script ended", line)
	}
	n := func(s string, unit int64) job.Quantity {
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil || v < 0 || v > (1<<62)/unit {
			return job.Quantity{}
		}
		return job.Known(v * unit)
	}
	killed, _ = n(f[1], 1).Value()
	micro := int64(time.Microsecond)
	return code, killed, job.Usage{CPU: n(f[2], micro), MemoryPeak: n(f[3], 1), Throttled: n(f[4], micro)}, nil
}

// account remembers what a container has used by now.
func (p *place) account(container string, u job.Usage, killed int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.used[container]
	u.CPU, u.MemoryPeak, u.Throttled = u.CPU.Max(before.CPU), u.MemoryPeak.Max(before.MemoryPeak), u.Throttled.Max(before.Throttled)
	u.OOMKills, u.OOMKilled = before.OOMKills.Plus(job.Known(killed)), before.OOMKilled
	if killed > 0 && len(u.OOMKilled) == 0 {
		u.OOMKilled = []string{container + " container"}
	}
	p.used[container] = u
}

// follow goes on until the script has ended, the pod is lost or ctx ends.
func (s *script) follow(ctx context.Context) error {
	watched, lost := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { s.p.watch(watched, lost) })
	defer wg.Wait()
	defer lost(nil)
	wait := 100 * time.Millisecond
	for try := 1; ; try++ {
		before := s.out.n + s.err.n
		err := s.connect(watched)
		switch {
		case s.result != "":
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case watched.Err() != nil:
			return context.Cause(watched)
		}
		if err := s.p.look(watched); err != nil {
			return err
		}
		if code, ok := exitStatus(err); ok && code != unsent && code != 137 && code != 143 && try > 5 {
			return fmt.Errorf("the helper container cannot follow the script: exit code %d", code)
		}
		if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
			return executor.Misconfigured("running a script in the pod: %w", err)
		}
		s.p.d.o.Log.Debug("the connection to a pod broke", "pod", s.p.name, "error", err)
		if s.out.n+s.err.n > before {
			wait = 100 * time.Millisecond
		}
		if pause.For(watched, wait) != nil {
			continue
		}
		wait = min(2*wait, again)
		s.p.d.o.Bus.Emit(ctx, event.LogResumed{})
	}
}

// connect follows the script over one connection.
func (s *script) connect(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(silence, func() { cancel(fmt.Errorf("nothing came for %s", silence)) })
	defer idle.Stop()
	size, in := -1, io.Reader(nil)
	if !s.brought {
		size, in = len(s.text), bytes.NewReader(s.text)
	}
	said := &executor.Tail{Limit: 1 << 10}
	f := &frames{s: s, alive: func() { idle.Reset(silence) }}
	defer f.close()
	err := s.p.api.exec(ctx, s.p.namespace, s.p.name, helperContainer, []string{
		"sh", "-c", `b=$(command -v bash) && exec "$b" -c "$0" bash "$@"; exec sh -c "$0" sh "$@"`, followScript,
		s.target, s.p.scripts, s.p.logs, strconv.Itoa(s.number), strconv.Itoa(size), s.mode,
		strconv.FormatInt(s.out.n, 10), strconv.FormatInt(s.err.n, 10),
	}, streams{in: in, out: f, err: said})
	if err != nil && said.String() != "" {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
	}
	return err
}

// watch looks after the pod while a script runs, and ends ctx when it is lost.
// That the API server does not answer says nothing of the pod.
func (p *place) watch(ctx context.Context, lost context.CancelCauseFunc) {
	for pause.For(ctx, p.pollInterval()) == nil {
		if err := p.look(ctx); err != nil {
			lost(err)
			return
		}
	}
}

// look returns what is wrong with the pod.
func (p *place) look(ctx context.Context) error {
	pod := &corev1.Pod{}
	err := p.api.once(ctx, "get", http.MethodGet, core(p.namespace, "pods", p.name), nil, nil, pod)
	switch {
	case apierrors.IsNotFound(err), err == nil && string(pod.UID) != p.uid:
		return &podError{reason: event.PodDeleted, err: fmt.Errorf("pod %q was deleted", p.namespace+"/"+p.name)}
	case err == nil:
		return p.trouble(pod)
	}
	return nil
}

// drain passes on what a script had printed before its container was lost, if
// the helper container still has it.
func (s *script) drain(ctx context.Context, e *podError) {
	if e.container != buildContainer || s.target != buildContainer {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s.brought = true
	end := fmt.Sprintf(`umask 0; [ -e "$1" ] || echo "%d 0 - - -" >"$1"`, e.code&0xff)
	if s.p.order(ctx, end, fmt.Sprintf("%s/%d.code", s.p.logs, s.number)) == nil {
		for s.result == "" && ctx.Err() == nil {
			_ = s.connect(ctx)                       // the pod's error is what counts
			_ = pause.For(ctx, 200*time.Millisecond) // the next turn sees that it ended
		}
	}
}

// order runs a short script of ours in the helper container.
func (p *place) order(ctx context.Context, body string, args ...string) error {
	said := &executor.Tail{Limit: 1 << 10}
	err := p.api.exec(ctx, p.namespace, p.name, helperContainer, append([]string{"sh", "-c", body, "sh"}, args...), streams{out: said, err: said})
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
	}
	return nil
}

// stop ends what the script started, and waits for that.
func (s *script) stop(ctx context.Context, grace time.Duration) error {
	grace = cmp.Or(grace, executor.DefaultGrace)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace+30*time.Second)
	defer cancel()
	s.brought = true
	for s.result == "" {
		err := s.p.order(ctx, `echo "$2" >"$1"`, s.p.scripts+"/"+s.target, fmt.Sprintf("stop %d %d", s.number, grace.Milliseconds()/100))
		if err == nil {
			err = s.connect(ctx)
		}
		if s.result != "" {
			break
		}
		if lost := s.p.look(ctx); lost != nil {
			return lost
		}
		if pause.For(ctx, 200*time.Millisecond) != nil {
			return fmt.Errorf("the script could not be stopped in time: %w", err)
		}
	}
	return nil
}

// frames reads what follow.sh prints.
type frames struct {
	s     *script
	alive func()
	line  []byte
	left  int64 // bytes of a stream that are still to come
	to    *sink

	mu     sync.Mutex
	closed bool
}

// close lets nothing pass any more: a connection that is given up may still
// have something to say, which the next one brings again.
func (f *frames) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
}

// maxLine bounds the head of a frame, in bytes.
const maxLine = 200

func (f *frames) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, io.ErrClosedPipe
	}
	f.alive()
	all := len(b)
	for len(b) > 0 {
		if f.left > 0 {
			k := min(f.left, int64(len(b)))
			f.to.write(b[:k])
			f.left -= k
			b = b[k:]
			continue
		}
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			i = len(b)
		}
		if len(f.line)+i > maxLine {
			return 0, errors.New("the helper container does not speak the language of follow.sh")
		}
		f.line = append(f.line, b[:i]...)
		if i == len(b) {
			break
		}
		b = b[i+1:]
		if err := f.head(string(f.line)); err != nil {
			return 0, err
		}
		f.line = f.line[:0]
	}
	return all, nil
}

// head reads the first line of a frame.
func (f *frames) head(line string) error {
	kind, rest, _ := strings.Cut(line, " ")
	switch kind {
	case ".":
		return nil
	case "b":
		f.s.brought = true
		return nil
	case "c":
		f.s.result = rest
		return nil
	case "o":
		f.to = &f.s.out
	case "e":
		f.to = &f.s.err
	default:
		return fmt.Errorf("the helper container says %.100q", line)
	}
	n, err := strconv.ParseInt(rest, 10, 64)
	if err != nil || n <= 0 {
		return fmt.Errorf("the helper container says %.100q", line)
	}
	f.left = n
	return nil
}

// sink passes a stream on until its writer fails, and counts it.
type sink struct {
	w      io.Writer // nil: nobody listens
	n      int64
	failed error
}

func (s *sink) write(b []byte) {
	s.n += int64(len(b))
	if s.w != nil && s.failed == nil {
		_, s.failed = s.w.Write(b)
	}
}
