// Package executortest says, by trying it, what every executor.Driver must
// hold to. A driver's tests call Run and need few others.
package executortest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

// Harness is a driver under test, with what the suite needs to know of it.
type Harness struct {
	Driver executor.Driver
	// Request returns what opens the place of a job that no other has. The
	// suite sets Claim and Log.
	Request func(t *testing.T) executor.Request
	// Script makes a script for the job's shell of a body.
	Script func(r executor.Request, body string) []byte
	// Alive counts the processes on the driver's machine whose command line
	// holds the word.
	Alive func(t *testing.T, word string) int
	// Successor returns a driver as a later process would have it, for Reap.
	// nil: the driver makes no claims.
	Successor func(t *testing.T) executor.Driver
	// Unmeasured: the driver cannot tell what a job uses.
	Unmeasured bool
	// Stranger returns a driver on the same machine of a runner with another
	// state directory. nil: the driver makes no claims.
	Stranger func(t *testing.T) executor.Driver
	// Containers: a command is all that keeps its container running, so that
	// daemons end with the command that started them, and Reap counts
	// containers.
	Containers bool
}

// Run tries the drivers that open makes, one per test.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	tests := []struct {
		name string
		run  func(*testing.T, *place)
	}{
		{"Traits", traits},
		{"Exit", exits},
		{"Persistence", persistence},
		{"Nothing", nothing},
		{"Output", outputs},
		{"OutputOrder", order},
		{"OutputExact", exact},
		{"OutputBig", big},
		{"WriterFails", writerFails},
		{"Stdin", stdin},
		{"NoSecretsInCommandLines", commandLines},
		{"CancelEndsAll", cancelEndsAll},
		{"CancelAgainstResistance", resistance},
		{"CancelBefore", cancelBefore},
		{"RunAfterCancel", runAfterCancel},
		{"DaemonDoesNotHoldRun", daemonHolds},
		{"DaemonLivesUntilClose", daemonLives},
		{"Files", fileOps},
		{"FilesStayInside", inside},
		{"TwoAtOnce", two},
		{"Usage", usage},
		{"UsageBesideRun", usageBeside},
		{"Reap", reap},
		{"ReapNothing", reapNothing},
		{"Leftovers", leftovers},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := open(t)
			tt.run(t, h.open(t))
		})
	}
}

// place is an open environment of a test.
type place struct {
	h      Harness
	r      executor.Request
	env    executor.Env
	closed bool
	idle   func() // ends the command that keep started

	mu     sync.Mutex
	claims []executor.Claim
	log    buffer
}

func (h Harness) open(t *testing.T) *place {
	t.Helper()
	p := &place{h: h, r: h.Request(t)}
	p.r.Log = &p.log
	p.r.Claim = func(c executor.Claim) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.claims = append(p.claims, c)
		return nil
	}
	env, err := h.Driver.Open(t.Context(), p.r)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	p.env = env
	t.Cleanup(func() { p.close(t) })
	return p
}

func (p *place) close(t *testing.T) {
	t.Helper()
	if p.closed {
		return
	}
	p.closed = true
	if p.idle != nil {
		p.idle()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := p.env.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// command makes a command of a body whose output goes to out and errs.
func (p *place) command(body string, out, errs *buffer) executor.Command {
	c := executor.Command{Phase: job.StepPhase("script"), In: executor.Build, Grace: 500 * time.Millisecond}
	if out != nil {
		c.Stdout = out
	}
	if errs != nil {
		c.Stderr = errs
	}
	if body != "" {
		c.Script = p.h.Script(p.r, body)
	}
	return c
}

// run runs a body and returns both streams as one.
func (p *place) run(t *testing.T, body string) (string, error) {
	t.Helper()
	var out buffer
	err := p.env.Run(t.Context(), p.command(body, &out, &out))
	return out.String(), err
}

// keep makes a process with the word in its command line that lives until the
// place is closed: a daemon, or a command where there can be none.
func (p *place) keep(t *testing.T, w string) {
	t.Helper()
	if !p.h.Containers {
		if _, err := p.run(t, fmt.Sprintf("sleep %s >/dev/null 2>&1 &", w)); err != nil {
			t.Fatal(err)
		}
	} else {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = p.env.Run(ctx, p.command("sleep "+w, nil, nil)) // it is ended, and says so
		}()
		p.idle = func() {
			cancel()
			<-done
		}
	}
	until(t, "the process runs", func() bool { return p.h.Alive(t, w) > 0 })
}

// buffer is a bytes.Buffer that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
	// first is closed at the first byte.
	first chan struct{}
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.first != nil && b.b.Len() == 0 && len(p) > 0 {
		close(b.first)
	}
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// word returns a number that is a word of no other command line.
func word() string { return fmt.Sprint(100_000_000 + rand.IntN(800_000_000)) }

// until polls for a condition that another process brings about.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 15s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func traits(t *testing.T, p *place) {
	tr := p.h.Driver.Traits()
	if tr.Name == "" || tr.Shell == "" {
		t.Errorf("Traits() = %+v, want a name and a shell", tr)
	}
	if p.env.Place().Hostname == "" {
		t.Error("Place() names no host")
	}
	if p.log.String() == "" {
		t.Error("Open told the job log nothing")
	}
}

func exits(t *testing.T, p *place) {
	for _, tt := range []struct {
		body string
		code int
	}{
		{"true", 0},
		{"exit 7", 7},
		{"false\necho not reached", 1},
		{"exit 255", 255},
		{"set +e\nfalse", 1},
		{"set +e\nfalse\ntrue", 0},
		{"false || true", 0},
		{"no-such-command-here", 127},
	} {
		out, err := p.run(t, tt.body)
		if strings.Contains(out, "not reached") {
			t.Errorf("%q: went on after a failure", tt.body)
		}
		var exit *executor.ExitError
		switch {
		case tt.code == 0 && err != nil:
			t.Errorf("%q: %v, want no error", tt.body, err)
		case tt.code != 0 && !errors.As(err, &exit):
			t.Errorf("%q: %v, want an ExitError", tt.body, err)
		case tt.code != 0 && exit.Code != tt.code:
			t.Errorf("%q: code %d, want %d", tt.body, exit.Code, tt.code)
		}
	}
}

func persistence(t *testing.T, p *place) {
	out, err := p.run(t, "cd /\nX=1\nexport Y=2\nf() { echo \"$X$Y $PWD\"; }\nf")
	if err != nil || out != "12 /\n" {
		t.Errorf("got %q, %v, want %q", out, err, "12 /\n")
	}
	if out, err = p.run(t, `echo "${X-none}"`); err != nil || out != "none\n" {
		t.Errorf("a later command got %q, %v, want a shell of its own", out, err)
	}
}

func nothing(t *testing.T, p *place) {
	if out, err := p.run(t, ""); err != nil || out != "" {
		t.Errorf("an empty script: %q, %v", out, err)
	}
}

func outputs(t *testing.T, p *place) {
	var out, errs buffer
	if err := p.env.Run(t.Context(), p.command("echo one\necho two >&2", &out, &errs)); err != nil {
		t.Fatal(err)
	}
	if out.String() != "one\n" || errs.String() != "two\n" {
		t.Errorf("got %q and %q, want one and two", out.String(), errs.String())
	}
	if err := p.env.Run(t.Context(), p.command("echo one\necho two >&2", nil, nil)); err != nil {
		t.Errorf("without writers: %v", err)
	}
}

func order(t *testing.T, p *place) {
	out, err := p.run(t, "i=0; while [ $i -lt 500 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for i := range 500 {
		fmt.Fprintf(&want, "o%d\ne%d\n", i, i)
	}
	if out != want.String() {
		t.Errorf("streams of one writer are not in order: %.200q…", out)
	}
}

func exact(t *testing.T, p *place) {
	out, err := p.run(t, `printf 'a\000b\r\033[0m\377\n\n no newline'`)
	if want := "a\x00b\r\x1b[0m\xff\n\n no newline"; err != nil || out != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}

func big(t *testing.T, p *place) {
	const lines = 200_000
	var out, errs buffer
	body := fmt.Sprintf(`i=0; while [ $i -lt 20 ]; do seq %d; seq %d >&2; i=$((i+1)); done`, lines/20, lines/20)
	if err := p.env.Run(t.Context(), p.command(body, &out, &errs)); err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for range 20 {
		for i := range lines / 20 {
			fmt.Fprintln(&want, i+1)
		}
	}
	if out.String() != want.String() || errs.String() != want.String() {
		t.Errorf("got %d and %d bytes, want %d each", len(out.String()), len(errs.String()), want.Len())
	}
}

type brokenWriter struct{}

var errBroken = errors.New("broken")

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func writerFails(t *testing.T, p *place) {
	c := p.command("seq 100000", nil, nil)
	c.Stdout, c.Stderr = brokenWriter{}, brokenWriter{}
	if err := p.env.Run(t.Context(), c); !errors.Is(err, errBroken) {
		t.Errorf("got %v, want the writer's error", err)
	}
}

func stdin(t *testing.T, p *place) {
	out, err := p.run(t, "cat\nread x || echo eof\nsh -c 'cat; echo end'")
	if err != nil || out != "eof\nend\n" {
		t.Errorf("got %q, %v, want an empty standard input", out, err)
	}
}

func commandLines(t *testing.T, p *place) {
	secret, sleeper := "secret"+word(), word()
	done := make(chan error, 1)
	out := buffer{first: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		done <- p.env.Run(ctx, p.command("X="+secret+"\necho ready\nsleep "+sleeper, &out, &out))
	}()
	<-out.first
	until(t, "the script runs", func() bool { return p.h.Alive(t, sleeper) > 0 })
	if n := p.h.Alive(t, secret); n > 0 {
		t.Errorf("%d command lines hold text of the script", n)
	}
	cancel()
	<-done
}

var errStop = errors.New("stop it")

func daemonHolds(t *testing.T, p *place) {
	w := word()
	start := time.Now()
	out, err := p.run(t, fmt.Sprintf("sleep %s &\necho done", w))
	if took := time.Since(start); err != nil || out != "done\n" || took > 8*time.Second {
		t.Errorf("got %q, %v after %v: output that a daemon holds must not hold Run", out, err, took)
	}
	p.close(t)
	until(t, "the daemon ends", func() bool { return p.h.Alive(t, w) == 0 })
}

func daemonLives(t *testing.T, p *place) {
	if p.h.Containers {
		t.Skip("daemons end with the command that started them")
	}
	w := word()
	// Twice forked, in a session of its own, with nothing of ours open.
	_, err := p.run(t, fmt.Sprintf("(setsid sh -c 'sleep %s </dev/null >/dev/null 2>&1 &' &)", w))
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the daemon runs", func() bool { return p.h.Alive(t, w) > 0 })
	if _, err := p.run(t, "true"); err != nil {
		t.Fatal(err)
	}
	if p.h.Alive(t, w) == 0 {
		t.Error("the daemon ended before Close")
	}
	p.close(t)
	if n := p.h.Alive(t, w); n > 0 {
		t.Errorf("%d processes outlive Close", n)
	}
}

func two(t *testing.T, p *place) {
	q := p.h.open(t)
	w := word()
	var wg sync.WaitGroup
	for i, x := range []*place{p, q} {
		wg.Go(func() {
			want := fmt.Sprintf("%d\n", i)
			for range 5 {
				if out, err := x.run(t, "echo "+fmt.Sprint(i)); err != nil || out != want {
					t.Errorf("got %q, %v, want %q", out, err, want)
				}
			}
		})
	}
	wg.Wait()
	q.keep(t, w)
	p.close(t)
	if p.h.Alive(t, w) == 0 {
		t.Error("closing one place ended a process of another")
	}
	q.close(t)
	if n := p.h.Alive(t, w); n > 0 {
		t.Errorf("%d processes outlive Close", n)
	}
}

func reap(t *testing.T, p *place) {
	if p.h.Successor == nil {
		t.Skip("the driver makes no claims")
	}
	bystander := p.h.open(t)
	w, other := word(), word()
	bystander.keep(t, other)
	out := buffer{first: make(chan struct{})}
	body := fmt.Sprintf("(setsid sh -c 'sleep %s </dev/null >/dev/null 2>&1 &' &)\necho started\nsleep %s", w, w)
	done := make(chan error, 1)
	go func() { done <- p.env.Run(t.Context(), p.command(body, &out, &out)) }()
	<-out.first
	until(t, "script and daemon run", func() bool { return p.h.Alive(t, w) == 2 })
	p.mu.Lock()
	claims := append([]executor.Claim(nil), p.claims...)
	p.mu.Unlock()
	if len(claims) == 0 {
		t.Fatal("there is no claim while the script runs")
	}
	next := p.h.Successor(t)
	ended := 0
	slices.Reverse(claims)
	for _, c := range claims {
		n, err := next.Reap(t.Context(), c)
		if err != nil {
			t.Errorf("Reap: %v", err)
		}
		ended += n
	}
	if ended < 1 || ended < 2 && !p.h.Containers {
		t.Errorf("Reap ended %d processes, want the shell, its child and the daemon", ended)
	}
	if n := p.h.Alive(t, w); n > 0 {
		t.Errorf("%d processes outlive Reap", n)
	}
	if p.h.Alive(t, other) != 1 {
		t.Error("Reap ended a process of another job")
	}
	<-done
	for _, c := range claims { // all of it again finds nothing
		if n, err := next.Reap(t.Context(), c); err != nil || n != 0 {
			t.Errorf("Reap again: %d, %v, want 0", n, err)
		}
	}
}

func reapNothing(t *testing.T, p *place) {
	if p.h.Successor == nil {
		t.Skip("the driver makes no claims")
	}
	p.close(t)
	for _, c := range p.claims {
		if n, err := p.h.Successor(t).Reap(t.Context(), c); err != nil || n != 0 {
			t.Errorf("Reap of a job that was closed: %d, %v, want 0", n, err)
		}
	}
	if _, err := p.h.Successor(t).Reap(t.Context(), executor.Claim{Kind: "something else", ID: "1"}); err == nil {
		t.Error("Reap took a claim of another kind")
	}
}
