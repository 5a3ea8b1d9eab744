package scheduler

import (
	"cmp"
	"slices"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// RunningJob is a job that runs now.
type RunningJob struct {
	ID         job.ID // 0 when the request did not tell
	Runner     job.Runner
	Generation int // of the configuration that it runs with
	Since      time.Time
}

// Status is the state of a scheduler at one moment.
type Status struct {
	Generation int
	Concurrent int
	Running    int // jobs
	Requests   int // in flight
	Draining   bool
	Aborted    bool
	Entries    []EntryStatus // in the order of the configuration
}

// EntryStatus is the state of one entry.
type EntryStatus struct {
	Runner        job.Runner
	Blocked       event.Block // why it takes no job now
	Running       int         // jobs that this entry brought
	Requests      int         // in flight, of this entry
	Hot           bool        // the last answer brought a job
	NextTurn      time.Time   // may be past while it waits
	Failures      int         // refusals in a row
	DisabledUntil time.Time   // zero while it is in use
	Limit         int
	HardLimit     int // requests at once
	UsedLimit     int // the same, as adapted
}

// Status returns the state of now: zero before Run, the last one after it.
func (s *Scheduler) Status() Status {
	var st Status
	if s.ask(func(l *loop) { st = l.status() }) {
		return st
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Running returns the jobs of now, oldest first.
func (s *Scheduler) Running() []RunningJob {
	var jobs []RunningJob
	s.ask(func(l *loop) {
		jobs = make([]RunningJob, 0, len(l.running))
		for t := range l.running {
			jobs = append(jobs, t.job)
		}
	})
	slices.SortFunc(jobs, func(a, b RunningJob) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID))
	})
	return jobs
}

// ask has the goroutine of Run do something and waits for it. It is false
// when Run does not run.
func (s *Scheduler) ask(do func(*loop)) bool {
	s.mu.Lock()
	runs := s.stage == running
	s.mu.Unlock()
	done := make(chan struct{})
	if !runs || !s.post(func(l *loop) { do(l); close(done) }) {
		return false
	}
	<-done
	return true
}

func (l *loop) status() Status {
	st := Status{
		Generation: l.generation, Concurrent: l.concurrent, Running: len(l.running), Requests: l.requests,
		Draining: l.draining, Aborted: l.aborted, Entries: make([]EntryStatus, len(l.entries)),
	}
	for i, e := range l.entries {
		st.Entries[i] = EntryStatus{
			Runner: e.Runner, Blocked: l.blocked(e), Running: e.jobs, Requests: e.requests, Hot: e.hot, NextTurn: e.due,
			Failures: e.id.failures, DisabledUntil: e.disabledUntil(), Limit: e.Limit,
			HardLimit: e.RequestConcurrency, UsedLimit: e.usedLimit(),
		}
	}
	return st
}
