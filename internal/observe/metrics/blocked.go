package metrics

import (
	"slices"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
)

// blockedTime adds up how long a runner was in each block. What has passed
// since the last change is added when it is read, so at every moment the sum
// is the time since the first change.
type blockedTime struct {
	mu    sync.Mutex
	spent []time.Duration // by place in event.Blocks
	block int             // that holds; -1: nothing was told yet
	// since is when the block began, or when it was read last: the next one
	// begins no sooner, so that no series ever goes back.
	since time.Time
}

func newBlockedTime() *blockedTime {
	return &blockedTime{spent: make([]time.Duration, len(event.Blocks())), block: -1}
}

// change says that the block is another one from at on.
func (b *blockedTime) change(to event.Block, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settle(at)
	b.block = slices.Index(event.Blocks(), to)
}

// settle accounts for the time up to now.
func (b *blockedTime) settle(now time.Time) {
	if b.block >= 0 && !now.After(b.since) {
		return
	}
	if b.block >= 0 {
		b.spent[b.block] += now.Sub(b.since)
	}
	b.since = now
}

// seconds returns the time in the i-th block.
func (b *blockedTime) seconds(i int, now time.Time) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.block == i { // the others stand still
		b.settle(now)
	}
	return b.spent[i].Seconds()
}

// blocked is glassrunner_capacity_blocked_seconds_total.
type blocked struct {
	seconds computedVec
	now     func() time.Time
}

func newBlocked(c *catalogue, o Options) blocked {
	return blocked{now: o.Now, seconds: c.computed("counter", def{
		name: "glassrunner_capacity_blocked_seconds_total", help: "Time that a runner spent without being able to take another job, by what kept it from it.",
		sets: sets{"reason": words(event.Blocks())}, labels: runnerLabels("reason"),
		values: "reason: shutdown, unhealthy (no token, or refused too often), disk, paused (held), concurrent, limit, request_concurrency, executor_capacity, coordinator (the last request failed, or is not answered for two minutes), no_jobs (nothing to do); of those that apply, the first counts",
		note:   "At every moment the reasons of a runner add up to the time since it was configured, so rate() is the share of the time. no_jobs is the good one: the runner asks, or waits for its turn, and there is nothing for it. Not kept for runners that the budget of series has no room for.",
	})}
}

func (m *blocked) addRunner(l labels) *blockedTime {
	t := newBlockedTime()
	for i, b := range event.Blocks() {
		m.seconds.with(func() float64 { return t.seconds(i, m.now()) }, l.short, l.name, l.system, string(b))
	}
	return t
}
