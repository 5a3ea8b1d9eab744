package scheduler

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// loop is the state of a running scheduler. Only the goroutine of Run touches it.
type loop struct {
	log        *slog.Logger
	emit       func(job.Runner, event.Fact)
	stopAsking func()
	abortJobs  func(error)
	spawn      func(*turn)

	now        time.Time
	concurrent int
	interval   time.Duration
	gap        time.Duration // between the turns of different entries
	generation int
	entries    []*entry
	ids        map[string]*identity
	held       map[string]holds // by key, whether or not an entry has it
	slots      int              // what SlotsChanged told last
	told       told             // what tellBlocked told last

	requests int                // in flight
	asking   map[*turn]struct{} // what requests counts
	running  map[*turn]struct{}
	order    uint64    // counts requests
	turnAt   time.Time // no turn is given before
	askAt    time.Time // no turn is used before

	draining, aborted bool
}

func newLoop(log *slog.Logger, now time.Time) *loop {
	return &loop{log: log, now: now, ids: map[string]*identity{}, held: map[string]holds{}, asking: map[*turn]struct{}{}, running: map[*turn]struct{}{}}
}

func (l *loop) used() int  { return l.requests + len(l.running) }
func (l *loop) free() int  { return l.concurrent - l.used() }
func (l *loop) idle() bool { return l.draining && l.used() == 0 }

// apply puts a configuration in force.
func (l *loop) apply(c Config) {
	l.generation = c.Generation
	l.concurrent = max(c.Concurrent, 1)
	l.interval = c.CheckInterval
	if l.interval <= 0 {
		l.interval = DefaultCheckInterval
	}
	l.gap = l.interval / time.Duration(max(len(c.Entries), 1))

	// The n-th entry of a key stays what the n-th entry of that key was.
	old := make(map[string][]*entry, len(l.entries))
	for _, e := range l.entries {
		old[e.Key] = append(old[e.Key], e)
	}
	ids := make(map[string]*identity, len(c.Entries))
	l.entries = make([]*entry, 0, len(c.Entries))
	for _, conf := range c.Entries {
		id := cmp.Or(ids[conf.Key], l.ids[conf.Key], &identity{})
		ids[conf.Key] = id
		e := &entry{due: l.now}
		if same := old[conf.Key]; len(same) > 0 {
			e, old[conf.Key] = same[0], same[1:]
			e.due = e.started.Add(l.interval)
		}
		e.Entry, e.id = normalized(conf), id
		if e.StrictInterval {
			e.cool()
		}
		l.entries = append(l.entries, e)
	}
	for key, id := range l.ids {
		if ids[key] == nil && id.requests+id.jobs > 0 {
			ids[key] = id // a later reload may bring the key back
		}
	}
	l.ids = ids
	for key, id := range ids {
		id.failures, id.healthy, id.held = 0, l.now, l.held[key]
	}
	if next := l.now.Add(l.gap); l.turnAt.After(next) {
		l.turnAt = next
	}
	if next := l.now.Add(l.gap); l.askAt.After(next) {
		l.askAt = next
	}
	l.told.stale = true
	l.tellSlots()
}

// tellSlots reports places as a pool of workers would: new ones appear at
// once, surplus ones go as they become idle.
func (l *loop) tellSlots() {
	if l.draining {
		return
	}
	want := max(l.concurrent, min(l.slots, l.used()))
	if want == l.slots {
		return
	}
	f := event.SlotsChanged{Slots: want, Started: max(want-l.slots, 0), Stopped: max(l.slots-want, 0)}
	l.slots = want
	l.emit(job.Runner{}, f)
}

// step gives turns and starts requests. It returns when the passing of time
// alone can change something, zero when it cannot.
func (l *loop) step() time.Time {
	defer l.tellBlocked()
	if l.draining {
		return time.Time{}
	}
	l.giveTurn()
	for l.free() > 0 {
		e := l.pick()
		if e == nil {
			break
		}
		l.start(e)
	}
	return l.next()
}

// canTurn: a turn that meets the entry's own bounds is replaced by the next
// one. A turn that only waits for a place, or for its distance, stays the
// same (and is counted once), unless the entry lost the right to use it.
func (l *loop) canTurn(e *entry) bool {
	return !e.waiting || !e.Valid || e.disabled() || e.id.held != 0 || l.free() > 0 && (e.limited() || e.saturated())
}

// giveTurn gives at most one entry its turn, the one that is due longest.
func (l *loop) giveTurn() {
	if l.now.Before(l.turnAt) {
		return
	}
	var e *entry
	for _, c := range l.entries {
		if !c.due.After(l.now) && l.canTurn(c) && (e == nil || c.due.Before(e.due)) {
			e = c
		}
	}
	if e == nil {
		return
	}
	l.turnAt = l.now.Add(l.gap)
	e.due = l.now.Add(l.interval)
	switch {
	case !e.Valid:
		l.emit(e.Runner, event.FeedSkipped{Why: "no_token"})
		return
	case e.disabled() && l.now.Before(e.disabledUntil()):
		l.emit(e.Runner, event.FeedSkipped{Why: "unhealthy"})
		return
	case e.id.held != 0:
		l.emit(e.Runner, event.FeedSkipped{Why: string(e.id.held.first())})
		return
	case e.disabled():
		l.log.Debug("Runner is not healthy, but check for a new job will be forced!", slog.String("runner", e.Runner.Short))
		e.id.failures, e.id.healthy = 0, l.now
	}
	l.emit(e.Runner, event.Fed{})
	e.waiting = true
	if l.free() > 0 && !e.limited() && e.saturated() {
		e.id.used = e.usedLimit()
		l.tellRequests(e, true)
	}
}

// mayAsk: nothing but time and the places of all stands between e and a request.
func (l *loop) mayAsk(e *entry) bool {
	return e.Valid && !e.disabled() && e.id.held == 0 && (e.waiting || e.credits > 0) && !e.limited() && !e.saturated()
}

// opens is when e may ask. A turn keeps the distance to other entries and to
// the entry's own last request, unless there is a queue to be drained by
// more than one request at a time.
func (l *loop) opens(e *entry) time.Time {
	if e.credits > 0 {
		return time.Time{}
	}
	at := l.askAt
	if own := e.started.Add(l.interval); own.After(at) && !e.hot {
		at = own
	}
	return at
}

// pick returns the entry that asks next: of those that may, the one that was
// asked longest ago.
func (l *loop) pick() *entry {
	var best *entry
	for _, e := range l.entries {
		if l.mayAsk(e) && (best == nil || e.asked < best.asked) && !l.opens(e).After(l.now) {
			best = e
		}
	}
	return best
}

// next is when step is worth calling again.
func (l *loop) next() time.Time {
	var at time.Time
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	for _, e := range l.entries {
		if slow := e.started.Add(slowAnswer); e.requests > 0 && slow.After(l.now) {
			sooner(slow)
		}
		if l.canTurn(e) {
			turn := e.due
			if turn.Before(l.turnAt) {
				turn = l.turnAt
			}
			sooner(turn)
		}
		if l.free() > 0 && l.mayAsk(e) {
			sooner(l.opens(e))
		}
	}
	return at
}

// start makes e ask.
func (l *loop) start(e *entry) {
	if e.credits > 0 {
		e.credits--
	} else {
		e.waiting = false
		e.due = l.now.Add(l.interval)
		l.askAt = l.now.Add(l.gap)
	}
	l.order++
	e.asked, e.started = l.order, l.now
	e.id.used = e.usedLimit()
	e.requests++
	e.id.requests++
	l.requests++
	l.tellRequests(e, false)
	t := &turn{entry: e, conf: e.Entry, id: e.id, ask: Ask{Brief: l.scarce(e)}, generation: l.generation}
	l.asking[t] = struct{}{}
	l.spawn(t)
}

// scarce: if e's request, which is counted already, were held, others would
// wait for its place.
func (l *loop) scarce(e *entry) bool {
	others := 0
	for _, o := range l.entries {
		if o == e || !o.Valid || o.disabled() || o.id.held != 0 || o.requests > 0 {
			continue
		}
		if o.id == e.id && (o.limited() || o.saturated()) {
			return true
		}
		if !o.limited() && !o.saturated() {
			others++
		}
	}
	return others > 0 && l.free() <= others
}

func (l *loop) tellRequests(e *entry, exceeded bool) {
	l.emit(e.Runner, event.RequestSlots{
		InFlight: e.id.requests, HardLimit: e.RequestConcurrency, UsedLimit: e.id.used,
		AdaptiveLimit: e.id.adaptive, Exceeded: exceeded,
	})
}

// answered takes back a request slot; with got, a job runs in its place.
func (l *loop) answered(t *turn, r Result, got bool, since time.Time, c *crash) {
	e := t.entry
	delete(l.asking, t)
	if got {
		r.Kind, r.Refused = Job, false
	} else if r.Kind == Job {
		r.Refused = true
	}
	e.requests--
	t.id.requests--
	l.requests--
	if got {
		t.job = RunningJob{ID: r.Job, Runner: t.conf.Runner, Generation: t.generation, Since: since}
		l.running[t] = struct{}{}
		e.jobs++
		t.id.jobs++
	}
	if e.Adaptive {
		t.id.adapt(r.Retried, r.Kind == Job, e.RequestConcurrency)
	}
	l.tellRequests(e, false)
	if c != nil {
		l.crashed(t, "scheduler_request_panic", c)
		l.emit(t.conf.Runner, event.TurnFailed{Kind: "other"})
	}

	switch r.Kind {
	case Job:
		l.healthy(t, "job")
		e.full, e.failing = false, false
		e.earn(r.Refused)
	case NoJob:
		l.healthy(t, "none")
		l.cold(e, e.started)
	case NoCapacity:
		l.emit(t.conf.Runner, event.TurnFailed{Kind: "no_free_executor"})
		l.cold(e, l.now)
		e.full = true
	case Forbidden:
		l.unhealthy(t, "forbidden")
		l.cold(e, l.now)
	case ClientError:
		l.unhealthy(t, "failed")
		l.cold(e, l.now)
		e.failing = true
	default:
		was := e.failing
		l.cold(e, l.now)
		// A request that was cut says nothing about the coordinator.
		if l.draining || t.cut {
			e.failing = was
		} else {
			l.healthy(t, "failed")
			e.failing = true
		}
	}
	l.tellSlots()
}

// cold: no request before a turn, and that no sooner than an interval after
// since, which is the answer when something was wrong, else the request.
func (l *loop) cold(e *entry, since time.Time) {
	e.cool()
	e.refused, e.full, e.failing = 0, false, false
	if next := since.Add(l.interval); next.After(e.due) {
		e.due = next
	}
	if since.After(e.started) {
		e.waiting = false
	}
}

func (l *loop) healthy(t *turn, polled string) {
	l.emit(t.conf.Runner, event.Polled{Result: polled})
	t.id.failures, t.id.healthy = 0, l.now
	l.emit(t.conf.Runner, event.HealthChecked{OK: true})
}

func (l *loop) unhealthy(t *turn, polled string) {
	l.emit(t.conf.Runner, event.Polled{Result: polled})
	t.id.failures++
	l.emit(t.conf.Runner, event.HealthChecked{Failures: t.id.failures, DisabledUntil: t.entry.disabledUntil()})
}

// finished gives a job's place back.
func (l *loop) finished(t *turn, r TaskResult, c *crash) {
	e := t.entry
	delete(l.running, t)
	e.jobs--
	t.id.jobs--
	if c != nil {
		l.crashed(t, "scheduler_job_panic", c)
	}
	switch r {
	case OK:
		e.broken = 0
	case Failed:
		e.broken = 0
		l.emit(t.conf.Runner, event.TurnFailed{Kind: "job_failure"})
	default:
		l.emit(t.conf.Runner, event.TurnFailed{Kind: "other"})
		if e.broken++; e.broken >= badInRow {
			e.cool()
		}
	}
	l.tellSlots()
}

func (l *loop) crashed(t *turn, what string, c *crash) {
	l.log.Debug("crash", slog.String("what", what), slog.Any("error", c.err), slog.String("stack", string(c.stack)))
	l.emit(t.conf.Runner, event.Degraded{What: what, Err: c.err})
}

func (l *loop) drain(by string) {
	if l.draining {
		return
	}
	l.draining = true
	l.stopAsking()
	l.emit(job.Runner{}, event.Draining{Signal: by, Running: len(l.running)})
}

func (l *loop) abort(by string, cause error) {
	if l.aborted {
		return
	}
	l.aborted, l.draining = true, true
	l.stopAsking()
	l.emit(job.Runner{}, event.Draining{Signal: by, Forced: true, Running: len(l.running)})
	l.abortJobs(cause)
}
