package scheduler

import (
	"math"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
)

// identity is what the entries with one key share. It outlives reloads as
// long as an entry, a request or a job needs it.
type identity struct {
	requests, jobs int
	adaptive       float64 // 0 before the first give-back
	used           int     // the limit when a slot was wanted last
	held           holds   // by which it is kept from asking

	failures int       // refusals in a row
	healthy  time.Time // last good answer, forced check, or reload
}

// entry is an Entry and where it stands.
type entry struct {
	Entry
	id *identity

	due     time.Time // of its next turn
	started time.Time // its last request
	asked   uint64    // the same, as a place in the order of all requests
	waiting bool      // has a turn that it could not use yet
	credits int       // requests that received jobs have earned
	hot     bool      // the last answer brought a job
	refused int       // refused jobs in a row
	broken  int       // jobs in a row that failed by the runner's fault
	full    bool      // the last answer was NoCapacity
	failing bool      // the last answer was RequestFailed or ClientError

	block event.Block // as tellBlocked found it last

	requests, jobs int // of this entry
}

func normalized(e Entry) Entry {
	e.Limit = max(e.Limit, 0)
	e.RequestConcurrency = max(e.RequestConcurrency, 1)
	if e.UnhealthyLimit < 1 {
		e.UnhealthyLimit = DefaultUnhealthyLimit
	}
	if e.UnhealthyInterval <= 0 {
		e.UnhealthyInterval = DefaultUnhealthyInterval
	}
	return e
}

// usedLimit is how many requests the key of e may have in flight now
// (metrics.md 1.4).
func (e *entry) usedLimit() int {
	if !e.Adaptive {
		return e.RequestConcurrency
	}
	return min(max(1, int(math.Ceil(e.id.adaptive))), e.RequestConcurrency)
}

// adapt is the other half of metrics.md 1.4: what a request teaches when its
// slot is given back.
func (id *identity) adapt(retried, got bool, hard int) {
	switch {
	case retried:
		id.adaptive *= 0.5
	case got:
		id.adaptive *= 1.1
	default:
		id.adaptive *= 0.95
	}
	id.adaptive = min(max(id.adaptive, 1), float64(hard))
}

// limited: jobs and requests of its key leave no room below its limit.
func (e *entry) limited() bool {
	return e.Limit > 0 && e.id.jobs+e.id.requests >= e.Limit
}

// saturated: its key has no request slot left.
func (e *entry) saturated() bool { return e.id.requests >= e.usedLimit() }

// disabledUntil is when the entry may be tried again; zero while it is in use.
func (e *entry) disabledUntil() time.Time {
	if e.id.failures < e.UnhealthyLimit {
		return time.Time{}
	}
	return e.id.healthy.Add(e.UnhealthyInterval)
}

// disabled: too many refusals and no forced check yet.
func (e *entry) disabled() bool { return e.id.failures >= e.UnhealthyLimit }

// earn gives the credit of a received job.
func (e *entry) earn(refused bool) {
	e.refused++
	if !refused {
		e.refused = 0
	}
	if e.StrictInterval || e.refused > badInRow || e.broken >= badInRow {
		e.cool()
		return
	}
	e.hot = true
	e.credits++
}

// cool makes the entry wait for its next turn.
func (e *entry) cool() { e.hot, e.credits = false, 0 }
