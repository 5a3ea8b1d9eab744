package board

import (
	"slices"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// Snapshot is the present at one moment.
type Snapshot struct {
	Process Process
	Config  Config
	Slots   int // jobs that may run at once
	Places  Places
	Runners []Runner // configured ones first, in their order; then those that only finish their jobs
	Disks   []Disk   // in the order in which they were first measured; shared, never changed
	Orphans []Orphans
	Jobs    []Job // accepted and not yet reported to the end, oldest first
	// Finished holds the last jobs that ended or were refused, oldest first.
	// It is empty when the snapshot was made by Present.
	Finished []*Finished
}

// Process is the state of the whole program.
type Process struct {
	State     string // one of the event.Process constants
	Since     time.Time
	Listening string // address of the monitoring server, "" when it is off
	Draining  bool   // no more jobs are taken
	Signal    string // what asked for it
	Forced    bool
}

// Config is the configuration in force.
type Config struct {
	Path, Hash  string
	Generation  int // 0: none was loaded yet
	Concurrent  int
	Warnings    int
	LastSuccess time.Time
	LastTry     time.Time
	LastErr     error // of the last try
}

// Places is what the places for jobs are used for; see event.PlacesChanged.
type Places struct{ Running, Requesting, Idle int }

// Runner is a [[runners]] entry. Entries that cannot be told apart by
// job.Runner share one, their limits added up.
type Runner struct {
	job.Runner
	URL                string
	Entries            int // in the configuration; 0: it was removed and finishes its jobs
	Limit              int // jobs at once, 0: unlimited
	RequestConcurrency int
	TokenExpires       time.Time // the first of them; zero: never
	Running            int       // jobs
	Requests           Requests
	Health             Health
	LastPoll           time.Time // whatever came of it
	LastPollResult     string    // of event.Polled
	LastSuccess        time.Time // of the last poll that was answered with a job or with none
	LastJob            time.Time // when the last job was received
	// Block is why it takes no job, "" until the scheduler has told.
	Block      event.Block
	BlockSince time.Time
	Typical    Typical
}

// Requests is how many requests for a job a runner has in flight and may have.
type Requests struct {
	InFlight, HardLimit, UsedLimit int
	AdaptiveLimit                  float64
	Exceeded                       uint64 // turns that found no free slot
}

// Health says whether the coordinator accepts a runner.
type Health struct {
	OK            bool
	Failures      int // in a row
	CheckedAt     time.Time
	DisabledUntil time.Time // zero: not switched off
}

// Job is a job that runs.
type Job struct {
	Run        uint64
	ID         job.ID
	Runner     job.Runner
	Info       job.Info
	URL        string // of its page, without credentials
	Timeout    time.Duration
	Started    time.Time
	State      job.State // "" until the first state is told
	StateSince time.Time
	// Phase is the one that runs, "" between phases.
	Phase      job.Phase
	PhaseSince time.Time
	// Stage is the last script stage that began, as GitLab's `stage` label
	// has it: it stays after its end, and neither secrets nor the executor's
	// preparation and cleanup count.
	Stage         job.Phase
	ExecutorStage string
	Directive     job.Directive // strongest so far
	Written       int64         // bytes of its log, after masking
	Sent          int64         // bytes that the coordinator has
	LastOutput    time.Time     // zero: none yet
	LastSent      time.Time     // of the last accepted chunk
	UnsentSince   time.Time     // when the oldest byte was written that is not sent; zero: none
	SendFailures  int           // since the last chunk that was accepted
	Ending        bool          // scripts and cleanup are over, the result is being delivered
	Timeline      []Phase       // that ended, in order
	Usage         job.Usage     // so far; nothing is known before the first sample
	UsageAt       time.Time     // when it was so; zero: never sampled
}

// Phase is a phase that ended.
type Phase struct {
	Phase  job.Phase
	Start  time.Time
	Took   time.Duration
	Failed bool
	Err    error // masked
}

// Finished is a job that ended. It never changes.
type Finished struct {
	Job
	Ended       time.Time
	Took        time.Duration // from start to the end of cleanup
	Outcome     job.Outcome
	Refused     bool          // it was received but not run
	Lost        bool          // its result could not be delivered
	Delivery    time.Duration // of the result
	DeliveryErr error
}

func (r *runner) observe(e event.Event) {
	switch f := e.Fact.(type) {
	case event.HealthChecked:
		r.Health = Health{OK: f.OK, Failures: f.Failures, CheckedAt: e.Time, DisabledUntil: f.DisabledUntil}
	case event.RequestSlots:
		r.requestSlots = true
		r.Requests.InFlight, r.Requests.HardLimit = max(0, f.InFlight), f.HardLimit
		r.Requests.UsedLimit, r.Requests.AdaptiveLimit = f.UsedLimit, f.AdaptiveLimit
		if f.Exceeded {
			r.Requests.Exceeded++
		}
	case event.BlockChanged:
		if r.Block != f.Block {
			r.Block, r.BlockSince = f.Block, e.Time
		}
	case event.Polled:
		r.LastPoll, r.LastPollResult = e.Time, f.Result
		if f.Result == "job" || f.Result == "none" {
			r.LastSuccess = e.Time
		}
	default:
	}
}

// running is a Job and what is needed to keep it.
type running struct {
	Job
	open     []openPhase // innermost last
	outcome  job.Outcome
	took     time.Duration
	finished bool
	unsent   segments
}

type openPhase struct {
	phase job.Phase
	start time.Time
}

func (j *running) copy() Job {
	c := j.Job
	if n := len(j.open); n > 0 {
		c.Phase, c.PhaseSince = j.open[n-1].phase, j.open[n-1].start
	}
	// The array behind is only ever appended to.
	c.Timeline = slices.Clip(j.Timeline)
	return c
}

func (j *running) observe(e event.Event) {
	switch f := e.Fact.(type) {
	case event.JobState:
		if j.State != f.State {
			j.State, j.StateSince = f.State, e.Time
		}
	case event.ExecutorStage:
		j.ExecutorStage = f.Stage
	case event.PhaseStarted:
		if len(j.open) < maxPhases {
			j.open = append(j.open, openPhase{f.Phase, e.Time})
		}
		if f.Phase != job.ResolveSecrets && f.Phase != job.PrepareExecutor && f.Phase != job.CleanupExecutor {
			j.Stage = f.Phase
		}
	case event.PhaseFinished:
		j.endPhase(f, e.Time)
	case event.LogWritten:
		j.Written = max(j.Written, f.Total)
		j.LastOutput = e.Time
		j.unsent.written(j.Written, e.Time)
		j.UnsentSince = j.unsent.oldest()
	case event.LogSent:
		if f.Failed {
			j.SendFailures++
			return
		}
		j.SendFailures, j.LastSent = 0, e.Time
		// A coordinator may have less than before: it lost some and the
		// log is sent again. Then what is unsent is as old as it gets.
		if f.Total < j.Sent {
			j.unsent.rewound(f.Total, j.Written, j.Started)
		}
		j.Sent = f.Total
		j.unsent.sent(j.Sent)
		j.UnsentSince = j.unsent.oldest()
	case event.UsageSampled:
		j.Usage, j.UsageAt = f.Usage, e.Time
	case event.JobUsed:
		j.Usage, j.UsageAt = f.Usage, e.Time
	case event.Directed:
		j.Directive = max(j.Directive, f.Directive)
	case event.JobFinished:
		j.outcome, j.took, j.finished, j.Ending = f.Outcome, f.Took, true, true
		if f.State != "" && j.State != f.State {
			j.State, j.StateSince = f.State, e.Time
		}
	default:
	}
}

func (j *running) endPhase(f event.PhaseFinished, at time.Time) {
	start := at.Add(-f.Took)
	for i, v := range slices.Backward(j.open) {
		if v.phase == f.Phase {
			start = v.start
			j.open = slices.Delete(j.open, i, i+1)
			break
		}
	}
	j.addPhase(Phase{Phase: f.Phase, Start: start, Took: f.Took, Failed: f.Err != nil || f.Panicked, Err: f.Err})
}

// endPhases ends what was left open: the job died in it.
func (j *running) endPhases(at time.Time) {
	for _, o := range slices.Backward(j.open) {

		j.addPhase(Phase{Phase: o.phase, Start: o.start, Took: at.Sub(o.start), Failed: true})
	}
	j.open = nil
}

func (j *running) addPhase(p Phase) {
	if len(j.Timeline) < maxPhases {
		j.Timeline = append(j.Timeline, p)
	}
}

// segments remembers when the unsent bytes of a log were written, in at most
// a few stretches: bytes up to upTo were written from since on. What does
// not fit is counted to the last stretch, so an age is never too small.
type segments struct {
	n    int
	list [16]segment
}

type segment struct {
	upTo  int64
	since time.Time
}

// segmentLength is how much time one stretch covers at least.
const segmentLength = time.Second

func (s *segments) written(total int64, at time.Time) {
	if s.n > 0 {
		last := &s.list[s.n-1]
		if total <= last.upTo {
			return
		}
		if s.n == len(s.list) || at.Sub(last.since) < segmentLength {
			last.upTo = total
			return
		}
	}
	s.list[s.n] = segment{total, at}
	s.n++
}

func (s *segments) sent(total int64) {
	drop := 0
	for drop < s.n && s.list[drop].upTo <= total {
		drop++
	}
	s.n = copy(s.list[:], s.list[drop:s.n])
}

// rewound says that of a log only so much is there (sent), and that the
// rest, up to written, is at worst as old as since.
func (s *segments) rewound(sent, written int64, since time.Time) {
	s.n = 0
	if written > sent {
		s.list[0], s.n = segment{written, since}, 1
	}
}

func (s *segments) oldest() time.Time {
	if s.n == 0 {
		return time.Time{}
	}
	return s.list[0].since
}
