package app

import (
	"context"
	"time"
)

// trimAfter is how often is looked whether the process rests.
const trimAfter = 10 * time.Second

// trim gives memory that nobody needs back to the system, once whenever the
// process has come to rest: after the start, and after the last of some jobs.
// The runtime itself gives it back later, and only what is above its goal.
func trim(ctx context.Context, running func() int, free func()) {
	tick := time.NewTicker(trimAfter)
	defer tick.Stop()
	busy := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		was := busy
		busy = running() > 0
		if was && !busy {
			free()
		}
	}
}
