package executortest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// stopped runs a body, cancels it once it printed something, and returns how
// long Run took from then on.
func (p *place) stopped(t *testing.T, body string, grace time.Duration) time.Duration {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	out := buffer{first: make(chan struct{})}
	c := p.command(body, &out, &out)
	c.Grace = grace
	done := make(chan error, 1)
	go func() { done <- p.env.Run(ctx, c) }()
	select {
	case <-out.first:
	case err := <-done:
		t.Fatalf("Run ended early: %v, %q", err, out.String())
	}
	start := time.Now()
	cancel(errStop)
	if err := <-done; !errors.Is(err, errStop) {
		t.Errorf("Run: %v, want one that wraps the context's cause", err)
	}
	return time.Since(start)
}

func cancelEndsAll(t *testing.T, p *place) {
	w := word()
	body := fmt.Sprintf("sleep %s &\nsh -c 'sleep %s & echo started; sleep %s; :'", w, w, w)
	if took := p.stopped(t, body, 10*time.Second); took > 5*time.Second {
		t.Errorf("Run took %v after the cancel", took)
	}
	if n := p.h.Alive(t, w); n > 0 {
		t.Errorf("%d processes are left when Run is back", n)
	}
}

func resistance(t *testing.T, p *place) {
	w := word()
	body := fmt.Sprintf("trap '' TERM\nsh -c 'trap \"\" TERM; echo started; sleep %s; sleep %s'", w, w)
	if took := p.stopped(t, body, 300*time.Millisecond); took > 8*time.Second {
		t.Errorf("Run took %v after the cancel", took)
	}
	if n := p.h.Alive(t, w); n > 0 {
		t.Errorf("%d processes are left when Run is back", n)
	}
}

func cancelBefore(t *testing.T, p *place) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errStop)
	var out buffer
	if err := p.env.Run(ctx, p.command("echo no", &out, &out)); !errors.Is(err, errStop) || out.String() != "" {
		t.Errorf("got %v, %q, want nothing run", err, out.String())
	}
}

func runAfterCancel(t *testing.T, p *place) {
	p.stopped(t, "echo started\nsleep 1000", time.Second)
	if out, err := p.run(t, "echo after"); err != nil || out != "after\n" {
		t.Errorf("got %q, %v, want a place that still works", out, err)
	}
}
