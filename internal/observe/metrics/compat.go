package metrics

import (
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// compat is GitLab Runner 19.4's metrics, by its names.
type compat struct {
	jobs, exceeded, feeds, feedFailures, healthFailures counterVec
	processing, failed, modes                           counterVec
	duration, queueDuration, stageDuration              histogramVec
	queueSize, queueDepth                               gaugeVec
	slots                                               prometheus.Gauge
	slotStarted, slotStopped                            prometheus.Counter
	loaded, loadErrors, saved, saveErrors               prometheus.Counter
	interpolations                                      prometheus.Counter
	interpolationFailures                               counterVec
	statuses, attempts                                  counterVec
	apiDuration                                         histogramVec
	errPanic, errFatal, errError, errWarning            prometheus.Counter
	roles                                               *roles

	executors    map[string]bool
	apis         map[labels]*compatAPI // of runner and system id
	modeCounter  map[[2]string]prometheus.Counter
	attemptCount map[[2]string]prometheus.Counter
}

// compatRunner holds the children of one runner.
type compatRunner struct {
	labels
	jobs, exceeded, feeds, feedFailures, healthFailures prometheus.Counter
	noExecutor, jobFailure, otherFailure                prometheus.Counter
	queueSize, queueDepth                               prometheus.Gauge
	failed                                              map[failure]prometheus.Counter
	duration                                            map[string]prometheus.Observer // by mode
	queueDuration                                       map[string]prometheus.Observer // by project_jobs_running
	stages                                              map[string]prometheus.Observer
	api                                                 *compatAPI
}

type failure struct {
	reason job.Reason
	mode   string
}

// compatAPI holds the children of what carries no runner_name.
type compatAPI struct {
	labels
	statuses map[call]prometheus.Counter
	duration map[call]prometheus.Observer
}

// call is an endpoint, a method, and a status or its class.
type call struct {
	endpoint, method string
	status           int
}

func (m *compat) addRunner(l labels) *compatRunner {
	r := &compatRunner{
		labels:         l,
		jobs:           m.jobs.with(l.short, l.name, l.system),
		exceeded:       m.exceeded.with(l.short, l.name, l.system),
		feeds:          m.feeds.with(l.short, l.name, l.system),
		feedFailures:   m.feedFailures.with(l.short, l.name, l.system),
		healthFailures: m.healthFailures.with(l.short, l.name, l.system),
		noExecutor:     m.processing.with("no_free_executor", l.short, l.name, l.system),
		jobFailure:     m.processing.with("job_failure", l.short, l.name, l.system),
		otherFailure:   m.processing.with("other", l.short, l.name, l.system),
		failed:         make(map[failure]prometheus.Counter),
		duration:       make(map[string]prometheus.Observer),
		queueDuration:  make(map[string]prometheus.Observer),
		stages:         make(map[string]prometheus.Observer),
	}
	for _, reason := range job.Reasons() {
		m.failedOf(r, reason, modeTraditional)
	}
	m.durationOf(r, modeTraditional)
	k := labels{short: l.short, system: l.system}
	if m.apis[k] == nil {
		m.apis[k] = &compatAPI{labels: k, statuses: make(map[call]prometheus.Counter), duration: make(map[call]prometheus.Observer)}
	}
	r.api = m.apis[k]
	return r
}

func (m *compat) dropRunner(r *compatRunner, api, failed bool) {
	full := prometheus.Labels{"runner": r.short, "runner_name": r.name, "system_id": r.system}
	for _, v := range []interface{ drop(prometheus.Labels) }{
		m.jobs, m.exceeded, m.feeds, m.feedFailures, m.healthFailures, m.processing,
		m.duration, m.queueDuration, m.stageDuration, m.queueSize, m.queueDepth,
	} {
		v.drop(full)
	}
	if failed {
		m.failed.drop(prometheus.Labels{"runner": r.short, "runner_name": r.name})
	}
	if api {
		l := prometheus.Labels{"runner": r.short, "system_id": r.system}
		m.statuses.drop(l)
		m.apiDuration.drop(l)
		delete(m.apis, r.api.labels)
	}
}

func (m *compat) addExecutor(name string) {
	name = executorLabel(name)
	if m.executors[name] || len(m.executors) >= maxNames {
		return
	}
	m.executors[name] = true
	m.modeOf(modeTraditional, name)
	m.modeOf(modeSteps, name)
}

func executorLabel(name string) string {
	if name == "" {
		return "unknown"
	}
	return label(name)
}

func (m *compat) modeOf(mode, executor string) prometheus.Counter {
	k := [2]string{mode, executor}
	c := m.modeCounter[k]
	if c == nil && len(m.modeCounter) >= maxNames {
		k[1] = other
		c = m.modeCounter[k]
	}
	if c == nil {
		c = m.modes.with(k[0], k[1])
		m.modeCounter[k] = c
	}
	return c
}

func (m *compat) failedOf(r *compatRunner, reason job.Reason, mode string) prometheus.Counter {
	k := failure{reason, mode}
	c := r.failed[k]
	if c == nil {
		c = m.failed.with(r.short, r.name, string(reason), mode)
		r.failed[k] = c
	}
	return c
}

func (m *compat) durationOf(r *compatRunner, mode string) prometheus.Observer {
	o := r.duration[mode]
	if o == nil {
		o = m.duration.with(r.short, r.name, r.system, mode)
		r.duration[mode] = o
	}
	return o
}

func (m *compat) configLoaded(f event.ConfigLoaded) {
	if f.Err != nil {
		m.loadErrors.Inc()
		return
	}
	m.loaded.Inc()
}

func (m *compat) jobStarted(e *entry, t event.Trace, f event.JobStarted) {
	r := e.compat
	r.jobs.Inc()
	running := projectJobs(f.Info.ProjectJobsRunningOnInstanceRunners)
	o := r.queueDuration[running]
	if o == nil {
		o = m.queueDuration.with(r.short, r.name, r.system, running)
		r.queueDuration[running] = o
	}
	observe(o, max(0, f.Info.TimeInQueue.Seconds()), t)
	if r.queueSize == nil {
		r.queueSize = m.queueSize.with(r.short, r.name, r.system)
		r.queueDepth = m.queueDepth.with(r.short, r.name, r.system)
	}
	r.queueSize.Set(float64(max(0, f.Info.QueueSize)))
	r.queueDepth.Set(float64(max(0, f.Info.QueueDepth)))
	if f.QueueTooLong {
		r.exceeded.Inc()
	}
}

// projectJobs bounds what a coordinator says of a project's running jobs.
func projectJobs(s string) string {
	switch s {
	case "", "0", "1", "2", "3", "4", "5+", "+Inf":
		return s
	}
	return "other"
}

func (m *compat) jobRemoved(j *jobRecord) {
	if j.finished {
		observe(m.durationOf(j.entry.compat, j.mode), max(0, j.took.Seconds()), j.trace)
	}
}

func (m *compat) countLog(level slog.Level) {
	switch {
	case level >= slog.LevelError+8:
		m.errPanic.Inc()
	case level >= slog.LevelError+4:
		m.errFatal.Inc()
	case level >= slog.LevelError:
		m.errError.Inc()
	case level >= slog.LevelWarn:
		m.errWarning.Inc()
	}
}

func (m *compat) observe(ev event.Event, e *entry, j *jobRecord) {
	switch f := ev.Fact.(type) {
	case event.ConfigSaved:
		if f.Err != nil {
			m.saveErrors.Inc()
		} else {
			m.saved.Inc()
		}
	case event.SlotsChanged:
		m.slots.Set(float64(max(0, f.Slots)))
		m.slotStarted.Add(float64(max(0, f.Started)))
		m.slotStopped.Add(float64(max(0, f.Stopped)))
	case event.Interpolated:
		m.interpolations.Add(float64(max(0, f.Fields)))
	case event.InterpolationFailed:
		switch f.Kind {
		case "parse", "evaluation", "sensitive_unsupported":
			m.interpolationFailures.with(f.Kind).Inc()
		default:
			m.interpolationFailures.with("evaluation").Inc()
		}
	case event.Called:
		m.called(f, e)
	case event.JobFinished:
		if j != nil {
			m.jobFinished(ev, f, j)
		}
	case event.PhaseFinished:
		if f.Phase == job.CleanupExecutor {
			return // GitLab Runner has no such stage
		}
		if j != nil && j.high {
			m.stage(j, f.Phase, f.Took)
		}
	default:
	}
	if e == nil {
		return
	}
	r := e.compat
	switch f := ev.Fact.(type) {
	case event.Fed:
		r.feeds.Inc()
	case event.FeedSkipped:
		r.feedFailures.Inc()
	case event.TurnFailed:
		switch f.Kind {
		case "no_free_executor":
			r.noExecutor.Inc()
		case "job_failure":
			r.jobFailure.Inc()
		default:
			r.otherFailure.Inc()
		}
	case event.HealthChecked:
		if !f.OK {
			r.healthFailures.Inc()
		}
	case event.JobRefused:
		// What was taken back or asks for what is not supported was never
		// counted as a failure.
		if f.Reason != job.NoReason && f.Reason != job.ConfigurationError {
			m.failedOf(r, knownReason(f.Reason), modeUnknown).Inc()
		}
	default:
	}
}

func (m *compat) jobFinished(e event.Event, f event.JobFinished, j *jobRecord) {
	if f.Outcome.Prepared {
		m.modeOf(j.mode, executorLabel(e.Runner.Executor)).Inc()
	}
	if !f.Outcome.OK() {
		m.failedOf(j.entry.compat, knownReason(f.Outcome.Reason), j.mode).Inc()
	}
}

func (m *compat) stage(j *jobRecord, p job.Phase, took time.Duration) {
	r := j.entry.compat
	stage := phaseLabel(p)
	o := r.stages[stage]
	if o == nil {
		o = m.stageDuration.with(r.short, r.name, r.system, stage)
		r.stages[stage] = o
	}
	observe(o, max(0, took.Seconds()), j.trace)
}

// maxStatuses bounds how many statuses of one endpoint get a series of their
// own, should a coordinator make some up.
const maxStatuses = 64

func (m *compat) called(f event.Called, e *entry) {
	k := [2]string{f.Path, f.Method}
	c := m.attemptCount[k]
	if c == nil {
		if len(m.attemptCount) >= maxStatuses {
			k = [2]string{"other", "other"}
		}
		c = m.attempts.with(label(k[0]), label(k[1]))
		m.attemptCount[k] = c
	}
	c.Add(float64(max(0, f.Attempts)))

	if e == nil || f.Status == -100 || f.Status == -1 && f.Endpoint == "patch_trace" {
		return
	}
	switch f.Endpoint {
	case "request_job", "update_job", "patch_trace", "reset_token", "discovery":
	default:
		return
	}
	a := e.compat.api
	s := call{f.Endpoint, f.Method, f.Status}
	counter := a.statuses[s]
	if counter == nil {
		counter = a.addStatus(m, s)
	}
	counter.Inc()
	s.status = statusClass(f.Status)
	o := a.duration[s]
	if o == nil {
		o = m.apiDuration.with(a.short, a.system, f.Endpoint, className(s.status), label(f.Method))
		a.duration[s] = o
	}
	o.Observe(max(0, f.Took.Seconds()))
}

func (a *compatAPI) addStatus(m *compat, s call) prometheus.Counter {
	status := strconv.Itoa(s.status)
	if http.StatusText(s.status) == "" && s.status != -1 {
		odd := 0
		for k := range a.statuses {
			if http.StatusText(k.status) == "" {
				odd++
			}
		}
		if odd >= maxStatuses {
			s.status, status = 0, "other"
			if c := a.statuses[s]; c != nil {
				return c
			}
		}
	}
	c := m.statuses.with(a.short, a.system, s.endpoint, status, label(s.method))
	a.statuses[s] = c
	return c
}

// statusClass returns 1 to 5, or 0 for what has no class.
func statusClass(status int) int {
	if status < 100 || status > 599 {
		return 0
	}
	return status / 100
}

func className(class int) string {
	if class == 0 {
		return "unknown"
	}
	return strconv.Itoa(class) + "xx"
}

func reasonList() string {
	var b strings.Builder
	for i, r := range job.Reasons() {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(r))
	}
	return b.String()
}
