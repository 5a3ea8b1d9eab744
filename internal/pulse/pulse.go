// Package pulse finds what makes no progress.
//
// Whatever has to come round again (a loop, a request, a cleanup) is a Part
// and promises when it will report next. A part that breaks its promise is
// late, and so is the component that it belongs to. Nothing is asked and
// nothing is waited for: a part that hangs, with whatever locks, cannot keep
// anybody from seeing that it is late.
//
// Promises are about this process alone. A coordinator that cannot be reached
// breaks none, as long as requests to it end in their time.
package pulse

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Component is a part of the process that health is told of.
type Component string

// The components.
const (
	Scheduler Component = "scheduler" // the loop that decides who asks for a job
	Polling   Component = "polling"   // requests for a job
	Executors Component = "executors" // what runs jobs and cleans up after them
)

// Components lists every component.
func Components() []Component { return []Component{Scheduler, Polling, Executors} }

// Monitor knows all parts. A nil Monitor has none and takes none.
type Monitor struct {
	start time.Time

	mu    sync.Mutex // held for moments only
	parts map[*Part]struct{}
}

// New returns a monitor without parts.
func New() *Monitor { return &Monitor{start: time.Now(), parts: map[*Part]struct{}{}} }

// Part is what makes promises. Its methods may be called at the same time; a
// nil Part does nothing.
type Part struct {
	monitor   *Monitor
	component Component
	what      string
	due       atomic.Int64 // after monitor.start, in nanoseconds; 0: promises nothing
}

// Part adds a part that promises nothing yet. What says in a few words, of
// which none may be secret, what it does. End it.
func (m *Monitor) Part(c Component, what string) *Part {
	if m == nil {
		return nil
	}
	p := &Part{monitor: m, component: c, what: what}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.parts[p] = struct{}{}
	return p
}

// Within promises that the part calls one of its methods before d has passed.
func (p *Part) Within(d time.Duration) {
	if p != nil {
		p.due.Store(max(1, int64(time.Since(p.monitor.start)+d)))
	}
}

// Rest takes the promise back.
func (p *Part) Rest() {
	if p != nil {
		p.due.Store(0)
	}
}

// End removes the part.
func (p *Part) End() {
	if p == nil {
		return
	}
	p.monitor.mu.Lock()
	defer p.monitor.mu.Unlock()
	delete(p.monitor.parts, p)
}

// Late is a part that has broken its promise.
type Late struct {
	Component Component
	What      string
	By        time.Duration // since it should have reported
}

// Late returns the parts that are late, the latest first.
func (m *Monitor) Late() []Late {
	if m == nil {
		return nil
	}
	var late []Late
	m.mu.Lock()
	now := time.Since(m.start)
	for p := range m.parts {
		if due := time.Duration(p.due.Load()); due != 0 && now > due {
			late = append(late, Late{p.component, p.what, now - due})
		}
	}
	m.mu.Unlock()
	slices.SortFunc(late, func(a, b Late) int {
		return cmp.Or(cmp.Compare(b.By, a.By), cmp.Compare(a.Component, b.Component), cmp.Compare(a.What, b.What))
	})
	return late
}

// Healthy reports of every component whether none of its parts is late.
func (m *Monitor) Healthy() map[Component]bool {
	healthy := map[Component]bool{}
	for _, c := range Components() {
		healthy[c] = true
	}
	for _, l := range m.Late() {
		healthy[l.Component] = false
	}
	return healthy
}
