package scheduler

import (
	"math/bits"
	"slices"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// holds is a set of blocks, a bit for each, the one of the highest precedence
// the lowest.
type holds uint16

// holdOf returns the set of one reason.
func holdOf(reason string) holds {
	paused := holds(0)
	for i, b := range event.Blocks() {
		switch b {
		case event.Block(reason):
			return 1 << i
		case event.BlockPaused:
			paused = 1 << i
		default:
		}
	}
	return paused
}

// first returns the block of the highest precedence of a set that is not empty.
func (h holds) first() event.Block { return event.Blocks()[bits.TrailingZeros16(uint16(h))] }

// hold sets or takes back one reason to keep the entries of key from asking.
func (l *loop) hold(key string, reason holds, on bool) {
	if on {
		l.held[key] |= reason
	} else if l.held[key] &^= reason; l.held[key] == 0 {
		delete(l.held, key)
	}
	if id := l.ids[key]; id != nil {
		id.held = l.held[key]
	}
	if !on {
		return
	}
	for t := range l.asking {
		if t.conf.Key == key && !t.cut {
			t.cut = true
			t.cancel(ErrHeld)
		}
	}
}

// blocked is why e takes no job. It changes with the loop's state, and when a
// request has been in flight for slowAnswer, which next provides for.
//
// The conditions stand in the order of event.Blocks. What the last answer
// said, no place at the executor or no answer that could be used, holds until
// the next one; but a request that is in flight has been given a place.
func (l *loop) blocked(e *entry) event.Block {
	switch {
	case l.draining:
		return event.BlockShutdown
	case !e.Valid, e.disabled():
		return event.BlockUnhealthy
	case e.id.held != 0:
		return e.id.held.first()
	case e.requests > 0:
		// The last request, for as long as it hangs no other may be made.
		if e.failing || !l.now.Before(e.started.Add(slowAnswer)) {
			return event.BlockCoordinator
		}
		return event.BlockNoJobs
	case l.free() <= 0:
		return event.BlockConcurrent
	case e.limited():
		return event.BlockLimit
	case e.saturated():
		return event.BlockRequests
	case e.full:
		return event.BlockExecutor
	case e.failing:
		return event.BlockCoordinator
	}
	return event.BlockNoJobs
}

// told is what observers know of the blocks and places.
type told struct {
	blocks map[job.Runner]event.Block // of each runner that an entry has
	best   map[job.Runner]event.Block // scratch: by labels, the executor left out
	places event.PlacesChanged
	any    bool // something was told
	stale  bool // the entries are others than before
}

// tellBlocked reports what changed since it was called last. It is called
// whenever the loop has come to rest, so nothing is told that lasted no time.
func (l *loop) tellBlocked() {
	t := &l.told
	for _, e := range l.entries {
		if b := l.blocked(e); b != e.block {
			e.block, t.stale = b, true
		}
	}
	if t.stale {
		t.stale = false
		l.tellBlocks(t)
	}
	p := event.PlacesChanged{Running: len(l.running), Requesting: l.requests, Idle: max(0, l.free())}
	if l.draining {
		p.Idle = 0
	}
	if !t.any || p != t.places {
		t.places, t.any = p, true
		l.emit(job.Runner{}, p)
	}
}

func (l *loop) tellBlocks(t *told) {
	if t.blocks == nil {
		t.blocks, t.best = map[job.Runner]event.Block{}, map[job.Runner]event.Block{}
	}
	clear(t.best)
	for _, e := range l.entries {
		k := labels(e.Runner)
		if o, shared := t.best[k]; !shared || rank(e.block) > rank(o) {
			t.best[k] = e.block
		}
	}
	for _, e := range l.entries {
		if b := t.best[labels(e.Runner)]; t.blocks[e.Runner] != b {
			t.blocks[e.Runner] = b
			l.emit(e.Runner, event.BlockChanged{Block: b})
		}
	}
	for r := range t.blocks {
		if !slices.ContainsFunc(l.entries, func(e *entry) bool { return e.Runner == r }) {
			delete(t.blocks, r)
			if _, stays := t.best[labels(r)]; !stays {
				l.emit(r, event.BlockChanged{Block: event.BlockShutdown})
			}
		}
	}
}

// labels is what tells runners apart in metrics.
func labels(r job.Runner) job.Runner {
	r.Executor = ""
	return r
}

// rank is the place of b in the order of precedence.
func rank(b event.Block) int {
	for i, o := range event.Blocks() {
		if o == b {
			return i
		}
	}
	return -1
}
