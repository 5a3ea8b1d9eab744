package build_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/glassrunner/glassrunner/internal/build"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/pulse"
	"github.com/glassrunner/glassrunner/internal/redact"
)

// hanging is an environment whose end does not come.
type hanging struct {
	*place
	until chan struct{}
}

func (h hanging) Open(ctx context.Context, r executor.Request) (executor.Env, error) {
	if _, err := h.place.Open(ctx, r); err != nil {
		return nil, err
	}
	return h, nil
}

func (h hanging) Close(context.Context) error {
	<-h.until
	return nil
}

// An executor that does not end in its time makes the process unhealthy, a
// job that runs for long or waits for its coordinator does not.
func TestPulse(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(b *bench, until chan struct{})
		// quiet is how long nothing is late, loud when something is.
		quiet, loud time.Duration
	}{
		{
			name: "cleanup that hangs", quiet: 6 * time.Minute, loud: 8 * time.Minute,
			change: func(b *bench, until chan struct{}) { b.options.Driver = hanging{b.place, until} },
		},
		{
			name: "preparation that hangs over the timeout", quiet: time.Hour + 11*time.Minute, loud: time.Hour + 13*time.Minute,
			change: func(b *bench, until chan struct{}) {
				b.place.open = func(int) error { <-until; return nil }
			},
		},
		{
			name: "delivery that takes long", quiet: 30 * time.Hour,
			change: func(b *bench, until chan struct{}) {
				b.options.OpenLog = func(string, *redact.Masker, bool, build.Conn) (build.Log, error) { return slow{b.log, until}, nil }
			},
		},
		{
			name: "script that runs long", quiet: 30 * time.Hour,
			change: func(b *bench, until chan struct{}) {
				b.spec.Timeout = 1000 * time.Hour
				b.place.run = func(context.Context, executor.Command) error { <-until; return nil }
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, until := pulse.New(), make(chan struct{})
				b := newBench(t)
				b.options.Pulse = m
				tt.change(b, until)
				over := make(chan struct{})
				go func() { defer close(over); b.run(t.Context()) }()
				time.Sleep(tt.quiet) // faked
				if late := m.Late(); late != nil {
					t.Errorf("late after %s: %v", tt.quiet, late)
				}
				if tt.loud > 0 {
					time.Sleep(tt.loud - tt.quiet)
					if late := m.Late(); len(late) != 1 || late[0].Component != pulse.Executors || late[0].What != "job 4711" {
						t.Errorf("late after %s: %v, want the job", tt.loud, late)
					}
				}
				close(until)
				<-over
				time.Sleep(time.Hour)
				if late := m.Late(); late != nil {
					t.Errorf("late after the end: %v", late)
				}
			})
		})
	}
}

// slow is a log whose delivery takes until a channel is closed.
type slow struct {
	build.Log
	until chan struct{}
}

func (l slow) Finish(ctx context.Context, u job.Update) error {
	<-l.until
	return l.Log.Finish(ctx, u)
}
