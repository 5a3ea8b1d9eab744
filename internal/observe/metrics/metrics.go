// Package metrics turns the stream of events into Prometheus metrics.
//
// Two observers share one registry. The compatible one (compat.go) carries
// GitLab Runner's names, labels, buckets and meaning, quirks included, so
// that dashboards and rules made for it go on working. Ours (ours.go) is
// prefixed glassrunner_ and says right what GitLab Runner lacks or has wrong.
//
// Counters and histograms are folded as facts arrive; gauges of the present
// are read from the board at each scrape, in one consistent cut. A
// configuration creates the series of its runners at zero, as far as their
// label values are known, and removes those of runners that left, at the
// latest with their last job. No label takes a job id, a branch or another
// name that a pipeline's author is free to choose: such values are mapped to
// a bounded set first.
package metrics

import (
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/board"
	"github.com/glassrunner/glassrunner/internal/pulse"
)

const (
	compatPrefix = "gitlab_runner_"
	oursPrefix   = "glassrunner_"
)

// Build is what gitlab_runner_version_info says of this build.
type Build struct {
	Name, Version, Revision, Branch, BuiltAt string
	GoVersion, OS, Architecture              string
}

// Options are what Metrics needs. Board is required, and must observe the
// same stream before Metrics does.
type Options struct {
	Board    *board.Board
	SystemID string // of this process, for series without a runner
	Build    Build
	Now      func() time.Time // nil: time.Now
	// Spans returns what became of the spans of traces; nil: nothing.
	Spans  func() (exported, dropped, failed uint64)
	Pulse  *pulse.Monitor // whose components are shown; nil: nothing hangs
	Budget Budget
}

// Metrics is an event.Observer with a registry. Observe must not be called at
// the same time with itself, as a Bus promises; everything else may be.
type Metrics struct {
	rest   *prometheus.Registry // of others
	now    func() time.Time
	expo   *exposition
	compat *compat
	ours   *ours

	configured bool
	most       int               // runners with series of their own
	runners    map[labels]*entry // at most one more: that of crowd
	jobs       map[run]*jobRecord
	free       []*jobRecord
}

// labels are the values of the three labels of a runner.
type labels struct{ short, name, system string }

// crowd returns what stands for all runners that have no series of their own.
func crowd() labels { return labels{overflow, overflow, overflow} }

// run tells job runs apart.
type run struct {
	run uint64
	id  job.ID
}

// entry is a runner as far as its labels tell it apart, with its series.
type entry struct {
	labels
	configured bool
	running    int
	compat     *compatRunner
	ours       *oursRunner
}

// jobRecord is what has to be remembered of a job until it is removed.
type jobRecord struct {
	entry    *entry
	high     bool // stage durations are wanted in the compatible histogram
	finished bool
	mode     string
	took     time.Duration
	trace    event.Trace
	project  string // as it is shown; "" when projects are not told apart
}

// New returns Metrics with a registry of its own that also holds the Go
// runtime's and the process's metrics.
func New(o Options) *Metrics {
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Budget.setDefaults()
	own, rest := prometheus.NewRegistry(), prometheus.NewRegistry()
	cat := &catalogue{reg: own, budget: &budget{Budget: o.Budget}}
	m := &Metrics{
		now:     o.Now,
		rest:    rest,
		most:    o.Budget.Runners,
		runners: make(map[labels]*entry),
		jobs:    make(map[run]*jobRecord),
	}
	m.compat = newCompat(cat, o)
	m.ours = newOurs(cat, o)
	p := newPresent(cat, o)
	own.MustRegister(p)
	rest.MustRegister(collectors.NewGoCollector(), newProcessCollector())
	m.expo = newExposition(cat, p, own, rest)
	return m
}

// Registry is where others add what they count themselves, such as the
// monitoring server. Their names must differ from those of this package.
func (m *Metrics) Registry() prometheus.Registerer { return m.rest }

// Gatherer returns what /metrics shows. It also has a method
//
//	AppendText(dst []byte, openMetrics bool) ([]byte, error)
//
// that appends the same in one of the text formats, many times faster than
// gathering and encoding it.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.expo }

// CountLog counts an entry of the process log in gitlab_runner_errors_total.
// Levels below slog.LevelWarn are not counted. It may be called at any time.
func (m *Metrics) CountLog(level slog.Level) { m.compat.countLog(level) }

// Observe folds e into the metrics.
func (m *Metrics) Observe(e event.Event) {
	switch f := e.Fact.(type) {
	case event.ConfigLoaded:
		m.configLoaded(f)
		m.compat.configLoaded(f)
		m.ours.configLoaded(e.Time, f)
	case event.JobStarted:
		m.jobStarted(e, f)
	case event.JobRemoved:
		m.jobRemoved(e, f)
	default:
		m.observe(e)
	}
}

// observe handles what neither creates nor ends anything.
func (m *Metrics) observe(e event.Event) {
	var j *jobRecord
	if e.Job != 0 || e.Run != 0 {
		j = m.jobs[run{e.Run, e.Job}]
	}
	r := m.entry(e.Runner)
	if f, ok := e.Fact.(event.JobFinished); ok && j != nil {
		if j.finished {
			return
		}
		j.finished, j.mode, j.took = true, modeOf(f.Mode), f.Took
	}
	m.compat.observe(e, r, j)
	m.compat.roles.observe(e)
	m.ours.observe(e, r, j)
}

// entry returns the series of r, or nil when it has none: facts outside of
// runners, and late facts of a runner that left the configuration.
func (m *Metrics) entry(r job.Runner) *entry {
	if r.Short == "" && r.Name == "" && r.SystemID == "" {
		return nil
	}
	l := labels{r.Short, r.Name, r.SystemID}
	if have := m.runners[l]; have != nil {
		return have
	}
	if m.configured {
		return m.runners[crowd()] // nil unless there are too many runners
	}
	return m.addEntry(l)
}

// addEntry makes the series of l. A runner too many gets those of the crowd.
func (m *Metrics) addEntry(l labels) *entry {
	if len(m.runners) >= m.most {
		l = crowd()
		if have := m.runners[l]; have != nil {
			return have
		}
	}
	n := &entry{labels: l}
	shown := labels{label(l.short), label(l.name), label(l.system)}
	n.compat = m.compat.addRunner(shown)
	n.ours = m.ours.addRunner(shown)
	m.runners[l] = n
	return n
}

func (m *Metrics) configLoaded(f event.ConfigLoaded) {
	if f.Err != nil {
		return
	}
	m.configured = true
	for _, r := range m.runners {
		r.configured = false
	}
	for _, l := range f.Runners {
		k := labels{l.Runner.Short, l.Runner.Name, l.Runner.SystemID}
		r := m.runners[k]
		if r == nil {
			r = m.addEntry(k)
		}
		r.configured = true
		r.ours.price = l.PricePerHour
		m.compat.addExecutor(l.Runner.Executor)
	}
	for _, r := range m.runners {
		m.dropIfGone(r)
	}
}

// dropIfGone removes the series of r if nothing needs them any more. Series
// that it shares with another runner stay: not every metric has all three
// labels.
func (m *Metrics) dropIfGone(r *entry) {
	if !m.configured || r.configured || r.running > 0 {
		return
	}
	delete(m.runners, r.labels)
	var shortSystem, shortName bool
	for o := range maps.Keys(m.runners) {
		shortSystem = shortSystem || o.short == r.short && o.system == r.system
		shortName = shortName || o.short == r.short && o.name == r.name
	}
	m.compat.dropRunner(r.compat, !shortSystem, !shortName)
	m.ours.dropRunner(r.ours)
}

func (m *Metrics) jobStarted(e event.Event, f event.JobStarted) {
	k := run{e.Run, e.Job}
	if m.jobs[k] != nil {
		return
	}
	r := m.entry(e.Runner)
	if r == nil {
		r = m.addEntry(labels{e.Runner.Short, e.Runner.Name, e.Runner.SystemID})
		// It left while the job was on its way, and takes no other.
		r.ours.blocked.change(event.BlockShutdown, e.Time)
	}
	r.running++
	var j *jobRecord
	if n := len(m.free); n > 0 {
		j, m.free = m.free[n-1], m.free[:n-1]
	} else {
		j = new(jobRecord)
	}
	*j = jobRecord{entry: r, high: f.HighCardinality, trace: e.Trace}
	if m.ours.projects.top > 0 {
		j.project = projectOf(&f.Info)
	}
	m.jobs[k] = j
	m.compat.jobStarted(r, e.Trace, f)
}

func (m *Metrics) jobRemoved(e event.Event, f event.JobRemoved) {
	k := run{e.Run, e.Job}
	j := m.jobs[k]
	if j == nil {
		return
	}
	delete(m.jobs, k)
	m.compat.jobRemoved(j)
	m.ours.jobRemoved(j, f)
	j.entry.running--
	m.dropIfGone(j.entry)
	j.entry = nil
	if len(m.free) < 64 {
		m.free = append(m.free, j)
	}
}

// modeOf bounds the `mode` label.
func modeOf(mode string) string {
	switch mode {
	case "", modeTraditional:
		return modeTraditional
	case modeSteps:
		return modeSteps
	}
	return modeUnknown
}

const (
	modeTraditional = "traditional"
	modeSteps       = "steps"
	modeUnknown     = "unknown"
)

// knownReason bounds a reason to those the API knows. A failure without one
// is the script's.
func knownReason(r job.Reason) job.Reason {
	if r == job.NoReason {
		return job.ScriptFailure
	}
	if slices.Contains(job.Reasons(), r) {
		return r
	}
	return job.UnknownFailure
}
