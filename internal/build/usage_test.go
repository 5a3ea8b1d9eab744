package build_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/glassrunner/glassrunner/internal/build"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

// TestUsageLine ends a job's log with what it used, unless that is switched
// off, and names what memory ran out in.
func TestUsageLine(t *testing.T) {
	full := job.Usage{
		CPU: job.KnownTime(12345 * time.Millisecond), MemoryPeak: job.Known(300 << 20), Memory: job.Known(1),
		Read: job.Known(0), Written: job.Known(1536), Throttled: job.KnownTime(500 * time.Millisecond),
	}
	killed := job.Usage{CPU: job.Known(0), OOMKills: job.Known(1), ServiceOOMKills: job.Known(2), OOMKilled: []string{"build container", "service db:1"}}
	for _, tt := range []struct {
		name string
		u    job.Usage
		err  error
		off  bool
		want []string
		not  []string
	}{
		{"all", full, nil, false, []string{"Job used 12.35 s of CPU time, 300 MiB of memory at its peak, read 0 B, wrote 1.50 KiB, was throttled for 0.50 s\x1b"}, []string{"Memory ran out"}},
		{"some", job.Usage{CPU: job.Known(0)}, nil, false, []string{"Job used 0.00 s of CPU time\x1b"}, nil},
		{"off", full, nil, true, nil, []string{"Job used"}},
		{"nothing", job.Usage{}, nil, false, nil, []string{"Job used"}},
		{"an error", job.Usage{}, errors.New("no answer"), false, nil, []string{"Job used", "no answer"}},
		{"out of memory", killed, nil, true, []string{
			"WARNING: Memory ran out in the build container: the kernel killed a process there.",
			"WARNING: Memory ran out in the service db:1: the kernel killed a process there.",
		}, []string{"Job used"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, func(b *bench) {
				b.options.UsageLine = !tt.off
				b.place.usage = func(context.Context) (job.Usage, error) {
					if b.place.closed > 0 {
						t.Error("the place was asked after it was closed")
					}
					return tt.u, tt.err
				}
			})
			if o := b.run(t.Context()); !o.OK() {
				t.Errorf("outcome %+v", o)
			}
			for _, s := range tt.want {
				if !strings.Contains(b.log.text.String(), s) {
					t.Errorf("the log lacks %q:\n%s", s, b.log.text.String())
				}
			}
			for _, s := range tt.not {
				if strings.Contains(b.log.text.String(), s) {
					t.Errorf("the log has %q:\n%s", s, b.log.text.String())
				}
			}
			if got := fact[event.JobUsed](b).Usage; got.Known() != tt.u.Known() || !got.CPU.Equal(tt.u.CPU) {
				t.Errorf("the fact says %+v, want %+v", got, tt.u)
			}
			if degraded := fact[event.Degraded](b).What == "job_usage"; degraded != (tt.err != nil) {
				t.Errorf("Degraded: %v", degraded)
			}
		})
	}
}

// TestSampler asks a job's place while it runs and not afterwards, and is not
// held up by one that does not answer.
func TestSampler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := build.NewSampler(5 * time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			s.Run(ctx)
			close(done)
		}()
		hangs := newBench(t, func(b *bench) {
			b.options.Sampler = s
			b.place.usage = func(ctx context.Context) (job.Usage, error) {
				<-ctx.Done() // an engine that hangs
				return job.Usage{}, context.Cause(ctx)
			}
			b.place.run = func(context.Context, executor.Command) error {
				time.Sleep(time.Minute)
				return nil
			}
		})
		stuck := make(chan job.Outcome, 1)
		go func() { stuck <- hangs.run(t.Context()) }()

		var asked atomic.Int64
		b := newBench(t, func(b *bench) {
			b.options.Sampler = s
			b.place.usage = func(context.Context) (job.Usage, error) {
				return job.Usage{CPU: job.Known(asked.Add(1))}, nil
			}
			b.place.run = func(_ context.Context, c executor.Command) error {
				if c.Phase == "step_script" {
					time.Sleep(time.Minute)
				}
				return nil
			}
		})
		if o := b.run(t.Context()); !o.OK() {
			t.Errorf("outcome %+v", o)
		}
		samples := 0
		for _, f := range b.facts {
			if _, ok := f.(event.UsageSampled); ok {
				samples++
			}
		}
		if samples < 10 || samples > 15 || int64(samples)+1 != asked.Load() {
			t.Errorf("%d samples in a minute and %d questions, want about 12 and one more", samples, asked.Load())
		}
		time.Sleep(time.Minute)
		if int64(samples)+1 != asked.Load() {
			t.Error("a place is asked after its job's end")
		}
		if o := <-stuck; !o.OK() {
			t.Errorf("outcome %+v", o)
		}
		cancel()
		<-done
	})
}
