package app

import (
	"context"
	"runtime/debug"
	"time"
)

const (
	// startTakes is when the start is over, and what only it needed can go.
	startTakes = 2 * time.Second
	// restLook is how often is looked whether the process rests.
	restLook = 10 * time.Second
)

// release gives memory that nobody needs now back to the system: free pages of
// the heap, which the runtime itself gives back later and only above its goal,
// and pages of the program, most of which only the start has touched.
func release() {
	debug.FreeOSMemory()
	releaseProgram()
}

// trim calls free once when the start is over, and once whenever the process
// has come to rest: after the last of some jobs.
func trim(ctx context.Context, running func() int, free func()) {
	wait := time.NewTimer(startTakes)
	defer wait.Stop()
	busy := true
	for first := true; ; first = false {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		was := busy
		busy = running() > 0
		if first || was && !busy {
			free()
		}
		wait.Reset(restLook)
	}
}
