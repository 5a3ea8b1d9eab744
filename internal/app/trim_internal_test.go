package app

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestTrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var jobs, freed atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			trim(ctx, func() int { return int(jobs.Load()) }, func() { freed.Add(1) })
		}()
		for _, step := range []struct{ jobs, want int64 }{{0, 1}, {0, 1}, {3, 1}, {1, 1}, {0, 2}, {0, 2}} {
			jobs.Store(step.jobs)
			time.Sleep(trimAfter)
			synctest.Wait()
			if got := freed.Load(); got != step.want {
				t.Errorf("after %s with %d jobs: gave memory back %d times, want %d", trimAfter, step.jobs, got, step.want)
			}
		}
		stop()
		<-done
	})
}
