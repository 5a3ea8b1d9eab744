package scheduler

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"
)

// turn is one request and the job that it brought. The loop owns it; its own
// goroutine reads what does not change after spawn.
type turn struct {
	entry      *entry
	conf       Entry // as it was when the request started
	id         *identity
	ask        Ask
	generation int

	// The loop's:
	cancel context.CancelCauseFunc // of the request
	cut    bool                    // the request was canceled by a hold
	job    RunningJob              // set when one came
}

// crash is a panic, or a runtime.Goexit, inside Request or a Task.
type crash struct {
	err   error
	stack []byte
}

// live makes the request and runs what it brings, and posts both ends, on
// every way out.
func (t *turn) live(asking, jobs context.Context, post func(func(*loop)) bool) {
	answered, over := false, false
	defer func() {
		if over {
			return
		}
		c := crashed(recover())
		if answered {
			post(func(l *loop) { l.finished(t, SystemFailed, c) })
			return
		}
		post(func(l *loop) { l.answered(t, Result{Kind: RequestFailed}, false, time.Time{}, c) })
	}()
	task, result := t.conf.Request(asking, t.ask)
	answered = true
	since := time.Now()
	if task == nil {
		over = true
		post(func(l *loop) { l.answered(t, result, false, since, nil) })
		return
	}
	post(func(l *loop) { l.answered(t, result, true, since, nil) })
	out := task(jobs)
	over = true
	post(func(l *loop) { l.finished(t, out, nil) })
}

// crashed describes a panic's value. Only the runtime's own are quoted: any
// other may hold what must not be seen.
func crashed(p any) *crash {
	c := &crash{stack: debug.Stack()}
	switch p := p.(type) {
	case nil:
		c.err = errors.New("goroutine ended")
	case runtime.Error:
		c.err = fmt.Errorf("panic: %w", p)
	default:
		c.err = fmt.Errorf("panic with a %T", p)
	}
	return c
}
