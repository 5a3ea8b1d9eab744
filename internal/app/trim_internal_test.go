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
		jobs.Store(2)
		time.Sleep(startTakes)
		synctest.Wait()
		if got := freed.Load(); got != 1 {
			t.Errorf("after the start memory was given back %d times, want once", got)
		}
		for _, step := range []struct{ jobs, want int64 }{{2, 1}, {0, 2}, {0, 2}, {3, 2}, {1, 2}, {0, 3}, {0, 3}} {
			jobs.Store(step.jobs)
			time.Sleep(restLook)
			synctest.Wait()
			if got := freed.Load(); got != step.want {
				t.Errorf("after %s with %d jobs: gave memory back %d times, want %d", restLook, step.jobs, got, step.want)
			}
		}
		stop()
		<-done
	})
}
