// Package board folds the stream of events into the present: which jobs run
// and how far each is, what every runner entry may do and did last, which
// configuration is in force, and the last jobs that finished.
//
// Whoever shows the present (the gauges of /metrics, the job list, the status
// page) takes a Snapshot. It is a consistent cut between two events: what it
// says was true at one moment. The board keeps nothing that grows: running
// jobs, configured runners and two rings of fixed size.
package board

import (
	"slices"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// Bounds of what one job or the moment before it may hold.
const (
	maxPhases   = 128  // of a job's timeline
	maxReceived = 1024 // jobs received and neither started nor refused
	maxGuests   = 1024 // runners before there is a configuration
)

// Options are the sizes of a board. The zero value is usable.
type Options struct {
	// Finished is how many finished jobs are kept, whatever became of them.
	// 0 means 200, negative none.
	Finished int
	// Failed is how many failed jobs are kept beyond those. 0 means half of
	// Finished, negative none.
	Failed int
}

// Board is the event.Observer that knows the present. Its methods may be
// called at the same time.
type Board struct {
	mu         sync.Mutex
	process    Process
	config     Config
	slots      int
	places     Places
	runners    map[job.Runner]*runner
	order      []job.Runner // of runners, as configured, then as met
	jobs       map[key]*running
	jobOrder   []*running // as started
	received   map[key]job.Info
	finished   ring // of everything
	failed     ring // what finished has pushed out and had failed
	machine    machine
	configured bool // a configuration was loaded: runners beside it are guests
}

// key tells job runs apart. Run alone would do but for facts from before
// there was a run number.
type key struct {
	run uint64
	id  job.ID
}

type runner struct {
	Runner
	requestSlots bool // facts of the request slots have come
	durations    durations
}

// New returns a board on which nothing happened yet.
func New(o Options) *Board {
	if o.Finished == 0 {
		o.Finished = 200
	}
	if o.Failed == 0 {
		o.Failed = o.Finished / 2
	}
	return &Board{
		process:  Process{State: event.ProcessStarting},
		runners:  make(map[job.Runner]*runner),
		jobs:     make(map[key]*running),
		received: make(map[key]job.Info),
		finished: ring{size: max(o.Finished, 0)},
		failed:   ring{size: max(o.Failed, 0)},
	}
}

// Observe folds e.
func (b *Board) Observe(e event.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch f := e.Fact.(type) {
	case event.ConfigLoaded:
		b.configLoaded(e, f)
	case event.ProcessChanged:
		b.process.State, b.process.Since = f.State, e.Time
	case event.Draining:
		b.process.Draining, b.process.Signal, b.process.Forced = true, f.Signal, f.Forced
	case event.ListenerChanged:
		if f.Err == nil && !f.Debug {
			b.process.Listening = f.Address
		}
	case event.SlotsChanged:
		b.slots = f.Slots
	case event.PlacesChanged:
		b.places = Places(f)
	case event.DiskMeasured, event.DiskForgotten, event.OrphansCounted:
		b.machine.observe(e)
	case event.HealthChecked, event.RequestSlots, event.Polled, event.BlockChanged:
		if r := b.runner(e.Runner); r != nil {
			r.observe(e)
		}
	case event.JobReceived:
		if r := b.runner(e.Runner); r != nil {
			r.LastJob = e.Time
		}
		if len(b.received) < maxReceived {
			b.received[keyOf(e)] = f.Info
		}
	case event.JobRefused:
		b.refused(e, f)
	case event.JobStarted:
		b.started(e, f)
	case event.JobRemoved:
		b.removed(e, f)
	default:
		if j := b.jobs[keyOf(e)]; j != nil {
			j.observe(e)
		}
	}
}

func keyOf(e event.Event) key { return key{e.Run, e.Job} }

// runner returns the entry of r. Once there is a configuration, only what it
// names or what still runs jobs has one: a late answer to a removed runner
// must not bring it back.
func (b *Board) runner(r job.Runner) *runner {
	if have := b.runners[r]; have != nil {
		return have
	}
	if b.configured || r == (job.Runner{}) || len(b.runners) >= maxGuests {
		return nil
	}
	return b.addRunner(r)
}

func (b *Board) addRunner(r job.Runner) *runner {
	n := &runner{Runner: Runner{Runner: r, Health: Health{OK: true}}}
	b.runners[r] = n
	b.order = append(b.order, r)
	return n
}

func (b *Board) dropRunner(r job.Runner) {
	delete(b.runners, r)
	b.order = slices.DeleteFunc(b.order, func(o job.Runner) bool { return o == r })
}

func (b *Board) configLoaded(e event.Event, f event.ConfigLoaded) {
	b.config.LastTry, b.config.LastErr = e.Time, f.Err
	if f.Err != nil {
		return
	}
	b.configured = true
	b.config.Path, b.config.Hash, b.config.Generation = f.Path, f.Hash, f.Generation
	b.config.Concurrent, b.config.Warnings, b.config.LastSuccess = f.Concurrent, f.Warnings, e.Time

	for _, r := range b.runners {
		r.Entries, r.Limit, r.RequestConcurrency, r.TokenExpires = 0, 0, 0, time.Time{}
		// The scheduler forgets with each reload what was wrong with a runner.
		r.Health = Health{OK: true, CheckedAt: r.Health.CheckedAt}
	}
	order := make([]job.Runner, 0, len(f.Runners))
	for _, l := range f.Runners {
		r := b.runners[l.Runner]
		if r == nil {
			r = b.addRunner(l.Runner)
		}
		if r.Entries == 0 {
			order = append(order, l.Runner)
			r.URL, r.Limit = l.URL, l.Limit
		} else if r.Limit == 0 || l.Limit == 0 {
			r.Limit = 0
		} else {
			r.Limit += l.Limit
		}
		r.Entries++
		if at := l.TokenExpires; !at.IsZero() && (r.TokenExpires.IsZero() || at.Before(r.TokenExpires)) {
			r.TokenExpires = at
		}
		r.Typical.Factor, r.durations.minimum = l.OverdueFactor, l.OverdueMinJobs
		r.Typical.P95 = r.durations.p95()
		r.RequestConcurrency += max(1, l.RequestConcurrency)
	}
	for _, o := range b.order {
		r := b.runners[o]
		switch {
		case r.Entries > 0:
			r.Requests.HardLimit = r.RequestConcurrency
			if !r.requestSlots {
				r.Requests.UsedLimit = 1
			}
		case r.Running > 0:
			order = append(order, o)
		default:
			delete(b.runners, o)
		}
	}
	b.order = order
}

func (b *Board) started(e event.Event, f event.JobStarted) {
	k := keyOf(e)
	if b.jobs[k] != nil {
		return // told twice; the first one counts
	}
	delete(b.received, k)
	r := b.runners[e.Runner]
	if r == nil {
		r = b.addRunner(e.Runner)
		// It left while the job was on its way, and takes no other.
		r.Block, r.BlockSince = event.BlockShutdown, e.Time
	}
	r.Running++
	j := &running{Job: Job{
		Run: e.Run, ID: e.Job, Runner: e.Runner, Info: f.Info, URL: f.URL, Timeout: f.Timeout,
		Started: e.Time, StateSince: e.Time,
	}}
	b.jobs[k] = j
	b.jobOrder = append(b.jobOrder, j)
}

func (b *Board) removed(e event.Event, f event.JobRemoved) {
	k := keyOf(e)
	j := b.jobs[k]
	if j == nil {
		return
	}
	delete(b.jobs, k)
	b.jobOrder = slices.DeleteFunc(b.jobOrder, func(o *running) bool { return o == j })
	if r := b.runners[j.Runner]; r != nil {
		if j.finished {
			r.typical(j.took, j.outcome)
		}
		r.Running--
		if r.Running == 0 && r.Entries == 0 && b.configured {
			b.dropRunner(j.Runner)
		}
	}
	if !j.finished {
		j.took = e.Time.Sub(j.Started)
	}
	j.endPhases(e.Time)
	b.remember(&Finished{
		Job: j.Job, Ended: e.Time, Took: j.took, Outcome: j.outcome, Delivery: f.Took,
		Lost: f.Lost, DeliveryErr: f.Err,
	})
}

func (b *Board) refused(e event.Event, f event.JobRefused) {
	k := keyOf(e)
	info := b.received[k]
	delete(b.received, k)
	if b.jobs[k] != nil {
		b.removed(e, event.JobRemoved{Err: f.Err})
		return
	}
	b.remember(&Finished{
		Job:   Job{Run: e.Run, ID: e.Job, Runner: e.Runner, Info: info, Started: e.Time, StateSince: e.Time},
		Ended: e.Time, Outcome: job.Outcome{Reason: f.Reason, Err: f.Err}, Refused: true,
	})
}

func (b *Board) remember(f *Finished) {
	if out := b.finished.push(f); out != nil && !out.Outcome.OK() {
		b.failed.push(out)
	}
}

// ring keeps the last size values.
type ring struct {
	size int
	next int
	all  []*Finished
}

// push adds f and returns what it pushed out.
func (r *ring) push(f *Finished) *Finished {
	if r.size == 0 {
		return f
	}
	if len(r.all) < r.size {
		r.all = append(r.all, f)
		return nil
	}
	out := r.all[r.next]
	r.all[r.next] = f
	r.next = (r.next + 1) % r.size
	return out
}

// appendTo appends what is kept, oldest first.
func (r *ring) appendTo(dst []*Finished) []*Finished {
	return append(append(dst, r.all[r.next:]...), r.all[:r.next]...)
}

// Snapshot returns the present. What it returns is the caller's, but for
// finished jobs and timelines, which are shared and never change.
func (b *Board) Snapshot() Snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.present()
	s.Finished = make([]*Finished, 0, len(b.failed.all)+len(b.finished.all))
	s.Finished = b.failed.appendTo(s.Finished)
	s.Finished = b.finished.appendTo(s.Finished)
	return s
}

// Running returns how many jobs run.
func (b *Board) Running() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.jobs)
}

// Present is Snapshot without the finished jobs.
func (b *Board) Present() Snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.present()
}

func (b *Board) present() Snapshot {
	s := Snapshot{
		Process: b.process, Config: b.config, Slots: b.slots, Places: b.places, Disks: b.machine.disks, Orphans: b.machine.orphans,
		Runners: make([]Runner, 0, len(b.order)),
		Jobs:    make([]Job, 0, len(b.jobOrder)),
	}
	for _, o := range b.order {
		s.Runners = append(s.Runners, b.runners[o].Runner)
	}
	for _, j := range b.jobOrder {
		s.Jobs = append(s.Jobs, j.copy())
	}
	return s
}
