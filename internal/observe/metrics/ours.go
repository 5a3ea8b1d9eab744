package metrics

import (
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// ours is what GitLab Runner does not count, or not rightly.
type ours struct {
	finished, refused, lost, directives counterVec
	logWritten, logSent, logFailures    counterVec
	polls                               counterVec
	caches, artifacts                   moves
	duration, phases                    histogramVec
	panics                              prometheus.Counter
	blocked                             blocked
	skew                                gaugeVec
	projects                            *projects
	certificates                        certificates
	containers                          containers
	travel                              travel
	pods                                pods
	usage                               usage
	machine                             *machine
	web                                 *web

	apiErrors, apiAttempts, apiRetries, apiWaits counterVec
	apiDuration                                  histogramVec
	endpoints                                    map[string]*oursEndpoint

	degraded                    counterVec
	degradedOf                  map[string]prometheus.Counter
	settled, unsettled, killed  prometheus.Counter
	tokenResets, tokenFailures  prometheus.Counter
	listenerErrors              prometheus.Counter
	configOK, configAt          prometheus.Gauge
	configGeneration, configWar prometheus.Gauge
	configInfo                  gaugeVec
}

// oursRunner holds the children of one runner.
type oursRunner struct {
	labels
	finished                                 map[job.Reason]prometheus.Counter // NoReason: success
	refused                                  map[job.Reason]prometheus.Counter // NoReason: taken back
	lost, cancels, aborts                    prometheus.Counter
	logWritten, logSent, logFailures         prometheus.Counter
	pollJob, pollNone, pollForbidden, pollNo prometheus.Counter
	duration                                 prometheus.Observer
	phases                                   map[string]prometheus.Observer
	caches, artifacts                        runnerMoves
	usage                                    usageRunner
	containers                               containersRunner
	travel                                   runnerTravel
	pods                                     podsRunner
	blocked                                  *blockedTime
	skew                                     prometheus.Gauge
	skews                                    skews
	price                                    float64 // of an hour of a job
}

// oursEndpoint holds the children of one endpoint.
type oursEndpoint struct {
	name            string
	errors          map[event.ErrorClass]prometheus.Counter
	retries         map[int]prometheus.Counter
	attempts, waits prometheus.Counter
	duration        prometheus.Observer
}

func newOurs(c *catalogue, o Options) *ours {
	m := &ours{endpoints: make(map[string]*oursEndpoint), degradedOf: make(map[string]prometheus.Counter)}
	m.jobs(c)
	m.blocked = newBlocked(c, o)
	m.projects = newProjects(c)
	m.certificates = newCertificates(c)
	m.containers = newContainers(c)
	m.usage, m.machine = newUsage(c), newMachine(c)
	m.web = newWeb(c)
	m.logs(c)
	m.caches, m.artifacts = newCacheMoves(c), newArtifactMoves(c)
	m.travel = newTravel(c)
	m.pods = newPods(c)
	m.api(c)
	m.process(c)
	return m
}

func (m *ours) jobs(c *catalogue) {
	m.finished = c.counter(def{
		name: "glassrunner_jobs_finished_total", help: "Jobs that ran to their end, by what came of them.", sets: sets{"result": {"success", "failed", "canceled"}, "reason": words(job.Reasons(), "none")}, labels: runnerLabels("result", "reason"),
		values: "result: success, failed, canceled; reason: none (success), or " + reasonList(),
		note:   "Present with 0 for every result, so that the first failure is seen by increase().",
	})
	m.refused = c.counter(def{
		name: "glassrunner_jobs_refused_total", help: "Jobs that were received and not run.", sets: sets{"reason": words(job.Reasons(), "taken_back")}, labels: runnerLabels("reason"),
		values: "reason: taken_back (by the coordinator), or one of glassrunner_jobs_finished_total's",
	})
	m.lost = c.counter(def{
		name: "glassrunner_final_updates_lost_total", help: "Jobs whose result could not be delivered to the coordinator.", labels: runnerLabels(),
	})
	m.directives = c.counter(def{
		name: "glassrunner_job_directives_total", help: "Running jobs that the coordinator wanted stopped.", sets: sets{"directive": {"cancel", "abort"}}, labels: runnerLabels("directive"),
		values: "directive: cancel (scripts only), abort (everything at once)",
	})
	m.duration = c.histogram(def{
		name: "glassrunner_job_duration_seconds", help: "Duration of jobs from acceptance to the end of cleanup.", labels: runnerLabels(),
		buckets: []float64{0.25, 1, 5, 15, 60, 600, 3600},
		note:    "Few classic buckets, from a quarter of a second on; scrape native histograms for more.",
	})
	m.phases = c.histogram(def{
		name: "glassrunner_job_stage_duration_seconds", help: "Duration of the phases of jobs.", sets: sets{"phase": phaseNames()}, labels: runnerLabels("phase"),
		buckets: []float64{5, 60},
		values:  phaseList(),
		note:    "Always on. The sums of a runner's phases are the sum of its glassrunner_job_duration_seconds. Two classic buckets keep all phases of a runner within 60 lines; scrape native histograms for quantiles. The label is phase because stage collides with a usual target label. A phase exists from its first use on; phases that did nothing are not run and so not observed.",
	})
	m.panics = c.counter(def{
		name: "glassrunner_job_phase_panics_total", help: "Phases of jobs that ended in a panic of this program.",
	}).with()
	m.polls = c.counter(def{
		name: "glassrunner_polls_total", help: "Requests for a job, by what came of them.", sets: sets{"result": {"job", "none", "forbidden", "failed"}}, labels: runnerLabels("result"),
		values: "result: job, none, forbidden, failed",
	})
}

func (m *ours) logs(c *catalogue) {
	m.logWritten = c.counter(def{
		name: "glassrunner_job_log_written_bytes_total", help: "Bytes that jobs wrote to their logs, after masking.", labels: runnerLabels(),
	})
	m.logSent = c.counter(def{
		name: "glassrunner_job_log_sent_bytes_total", help: "Bytes of job logs that the coordinator accepted.", labels: runnerLabels(),
		note: "Bytes that had to be sent twice count twice.",
	})
	m.logFailures = c.counter(def{
		name: "glassrunner_job_log_send_failures_total", help: "Attempts to send a piece of a job log that failed.", labels: runnerLabels(),
	})
}

func (m *ours) api(c *catalogue) {
	endpoint := []string{"endpoint"}
	m.apiErrors = c.counter(def{
		name: "glassrunner_api_request_errors_total", help: "Calls to the coordinator that failed, by how.", sets: sets{"endpoint": nil, "class": words(event.ErrorClasses())}, labels: []string{"endpoint", "class"},
		values: "class: " + classList(),
		note:   "http_4xx and http_5xx are what was answered in the end, after all retries; the others never show in gitlab_runner_api_request_statuses_total but as -1. A poll that is refused (403) is an http_4xx; statuses by which the protocol answers, such as 404 for a job that is over, are no failures. request_job, update_job and patch_trace are present from the start, other endpoints once used.",
	})
	m.apiAttempts = c.counter(def{
		name: "glassrunner_api_request_attempts_total", help: "HTTP requests made to the coordinator, the first one and the repeated ones of each call.", sets: sets{"endpoint": nil}, labels: endpoint,
	})
	m.apiRetries = c.counter(def{
		name: "glassrunner_api_request_retries_total", help: "HTTP requests that were repeated, by the status that was the cause.", sets: sets{"endpoint": nil, "status": nil}, labels: []string{"endpoint", "status"},
		values: "status: HTTP status; 408, 429, 500, 502, 503 and 504 are present from an endpoint's first use on",
		note:   "Shows rate limits (429) that a later attempt got past.",
	})
	m.apiWaits = c.counter(def{
		name: "glassrunner_api_request_retry_wait_seconds_total", help: "Time spent waiting before a request was repeated.", sets: sets{"endpoint": nil}, labels: endpoint,
	})
	m.apiDuration = c.histogram(def{
		name: "glassrunner_api_request_duration_seconds", help: "Duration of calls to the coordinator without the waits before retries.", sets: sets{"endpoint": nil}, labels: endpoint,
		buckets: []float64{0.005, 0.025, 0.1, 0.5, 2.5, 10, 60},
		note:    "request_job includes the time that the coordinator holds a request open (long polling).",
	})
	m.skew = c.gauge(def{
		name: "glassrunner_coordinator_clock_skew_seconds", help: "How far this machine's clock is ahead of the coordinator's, as the Date of its answers tells.", labels: runnerLabels(),
		note: "The median of the last five answers, within about half a second. 0 before the first one. A skew of minutes breaks TLS, tokens of caches and the times in logs.",
	})
	for _, e := range []string{"request_job", "update_job", "patch_trace"} {
		m.endpoint(e)
	}
}

func (m *ours) process(c *catalogue) {
	m.degraded = c.counter(def{
		name: "glassrunner_degraded_total", help: "Failures that cost no job its result: cleanup, cache, the monitoring server.", sets: sets{"what": nil}, labels: []string{"what"},
		values: "what: a fixed set of names in the program", note: "A name is present from its first failure on.",
	})
	recovered := c.counter(def{
		name: "glassrunner_recovered_jobs_total", help: "Attempts to settle a job that an earlier process left behind.", sets: sets{"result": {"settled", "failed"}}, labels: []string{"result"}, values: "result: settled, failed (will be tried again)",
	})
	m.settled, m.unsettled = recovered.with("settled"), recovered.with("failed")
	m.killed = c.counter(def{name: "glassrunner_recovered_processes_killed_total", help: "Processes of an earlier run's jobs that were still alive and were ended."}).with()
	m.tokenResets = c.counter(def{name: "glassrunner_token_resets_total", help: "Runner tokens that were rotated."}).with()
	m.tokenFailures = c.counter(def{name: "glassrunner_token_reset_failures_total", help: "Rotations of runner tokens that failed."}).with()
	m.listenerErrors = c.counter(def{name: "glassrunner_listener_errors_total", help: "Times that the monitoring server could not listen where it should, or stopped serving."}).with()
	m.configOK = c.gauge(def{
		name: "glassrunner_config_last_reload_successful", help: "Whether the last attempt to load the configuration succeeded: 1 or 0.",
		note: "With 0 the generation before is in force.",
	}).with()
	m.configAt = c.gauge(def{name: "glassrunner_config_last_reload_success_timestamp_seconds", help: "When the configuration in force was loaded."}).with()
	m.configGeneration = c.gauge(def{name: "glassrunner_config_generation", help: "How many configurations this process has loaded."}).with()
	m.configWar = c.gauge(def{name: "glassrunner_config_warnings", help: "Warnings about the configuration in force, such as unknown keys."}).with()
	m.configInfo = c.gauge(def{
		name: "glassrunner_config_info", help: "The configuration in force: constant 1, labeled by the hash of its content.", sets: sets{"hash": nil}, labels: []string{"hash"},
		note: "One series; compare it between machines that should run the same configuration.",
	})
}

func (m *ours) addRunner(l labels) *oursRunner {
	r := &oursRunner{
		labels:        l,
		finished:      make(map[job.Reason]prometheus.Counter),
		refused:       make(map[job.Reason]prometheus.Counter),
		lost:          m.lost.with(l.short, l.name, l.system),
		cancels:       m.directives.with(l.short, l.name, l.system, "cancel"),
		aborts:        m.directives.with(l.short, l.name, l.system, "abort"),
		logWritten:    m.logWritten.with(l.short, l.name, l.system),
		logSent:       m.logSent.with(l.short, l.name, l.system),
		logFailures:   m.logFailures.with(l.short, l.name, l.system),
		pollJob:       m.polls.with(l.short, l.name, l.system, "job"),
		pollNone:      m.polls.with(l.short, l.name, l.system, "none"),
		pollForbidden: m.polls.with(l.short, l.name, l.system, "forbidden"),
		pollNo:        m.polls.with(l.short, l.name, l.system, "failed"),
		duration:      m.duration.with(l.short, l.name, l.system),
		phases:        make(map[string]prometheus.Observer),
		caches:        m.caches.addRunner(l),
		artifacts:     m.artifacts.addRunner(l),
		travel:        m.travel.addRunner(l),
		blocked:       m.blocked.addRunner(l),
		skew:          m.skew.with(l.short, l.name, l.system),
		usage:         m.usage.addRunner(l),
	}
	r.finished[job.NoReason] = m.finished.with(l.short, l.name, l.system, "success", "none")
	for _, reason := range job.Reasons() {
		result := "failed"
		if reason == job.Canceled {
			result = "canceled"
		}
		r.finished[reason] = m.finished.with(l.short, l.name, l.system, result, string(reason))
	}
	for _, reason := range []job.Reason{job.NoReason, job.ConfigurationError, job.SystemFailure, job.Canceled} {
		m.refusedOf(r, reason)
	}
	return r
}

func (m *ours) refusedOf(r *oursRunner, reason job.Reason) prometheus.Counter {
	c := r.refused[reason]
	if c == nil {
		text := string(reason)
		if reason == job.NoReason {
			text = "taken_back"
		}
		c = m.refused.with(r.short, r.name, r.system, text)
		r.refused[reason] = c
	}
	return c
}

func (m *ours) dropRunner(r *oursRunner) {
	l := prometheus.Labels{"runner": r.short, "runner_name": r.name, "system_id": r.system}
	for _, v := range []interface{ drop(prometheus.Labels) }{
		m.finished, m.refused, m.lost, m.directives, m.logWritten, m.logSent, m.logFailures, m.polls, m.duration, m.phases, m.blocked.seconds, m.skew,
		m.containers.pulls, m.containers.bytes, m.containers.services,
	} {
		v.drop(l)
	}
	m.caches.dropRunner(l)
	m.artifacts.dropRunner(l)
	m.travel.dropRunner(l)
	m.pods.dropRunner(l)
	m.usage.dropRunner(l)
}

func (m *ours) configLoaded(at time.Time, f event.ConfigLoaded) {
	if f.Err != nil {
		m.configOK.Set(0)
		return
	}
	m.projects.configure(f.TopProjects)
	m.configOK.Set(1)
	m.configAt.Set(seconds(at))
	m.configGeneration.Set(float64(f.Generation))
	m.configWar.Set(float64(max(0, f.Warnings)))
	m.configInfo.drop(nil)
	m.configInfo.with(label(f.Hash)).Set(1)
}

func (m *ours) jobRemoved(j *jobRecord, f event.JobRemoved) {
	if f.Lost {
		j.entry.ours.lost.Inc()
	}
	m.usage.removed(&j.entry.ours.usage, f)
}

func (m *ours) observe(ev event.Event, e *entry, j *jobRecord) {
	m.machine.observe(ev.Fact)
	switch f := ev.Fact.(type) {
	case event.Called:
		m.called(f)
	case event.KubernetesCalled:
		m.pods.called(f)
	case event.CertificateLoaded:
		m.certificates.observe(f)
	case event.Degraded:
		m.degradedBy(f.What).Inc()
	case event.Recovered:
		m.killed.Add(float64(max(0, f.Killed)))
		if f.Err != nil {
			m.unsettled.Inc()
		} else {
			m.settled.Inc()
		}
	case event.TokenReset:
		if f.Err != nil {
			m.tokenFailures.Inc()
		} else {
			m.tokenResets.Inc()
		}
	case event.ListenerChanged:
		if f.Err != nil {
			m.listenerErrors.Inc()
		}
	case event.PhaseFinished:
		if f.Panicked {
			m.panics.Inc()
		}
	case event.WebConfigLoaded:
		m.web.observe(ev)
	default:
	}
	if j != nil {
		m.observeJob(ev, j)
	}
	if e == nil {
		return
	}
	r := e.ours
	switch f := ev.Fact.(type) {
	case event.Polled:
		switch f.Result {
		case "job":
			r.pollJob.Inc()
		case "none":
			r.pollNone.Inc()
		case "forbidden":
			r.pollForbidden.Inc()
		default:
			r.pollNo.Inc()
		}
	case event.BlockChanged:
		r.blocked.change(f.Block, ev.Time)
	case event.Called:
		if f.Dated {
			r.skew.Set(r.skews.add(f.Skew).Seconds())
		}
	case event.JobRefused:
		reason := f.Reason
		if reason != job.NoReason {
			reason = knownReason(reason)
		}
		m.refusedOf(r, reason).Inc()
	default:
	}
}

func (m *ours) observeJob(ev event.Event, j *jobRecord) {
	r := j.entry.ours
	r.observeMoves(ev.Fact)
	r.travel.observe(ev.Fact)
	m.containers.observe(r, ev.Fact)
	m.pods.observe(r, ev.Fact)
	m.usage.observe(&r.usage, ev.Fact)
	switch f := ev.Fact.(type) {
	case event.LogWritten:
		r.logWritten.Add(float64(max(0, f.Bytes)))
	case event.LogSent:
		if f.Failed {
			r.logFailures.Inc()
		} else {
			r.logSent.Add(float64(max(0, f.Bytes)))
		}
	case event.PhaseFinished:
		phase := phaseName(f.Phase)
		o := r.phases[phase]
		if o == nil {
			o = m.phases.with(r.short, r.name, r.system, phase)
			r.phases[phase] = o
		}
		observe(o, max(0, f.Took.Seconds()), j.trace)
	case event.Directed:
		switch f.Directive {
		case job.Cancel:
			r.cancels.Inc()
		case job.Abort:
			r.aborts.Inc()
		default:
		}
	case event.JobUsed:
		if nanoseconds, known := f.Usage.CPU.Value(); known && j.project != "" {
			m.projects.add(j.project, use{cpu: time.Duration(nanoseconds)})
		}
	case event.JobFinished:
		reason := job.NoReason
		if !f.Outcome.OK() {
			reason = knownReason(f.Outcome.Reason)
		}
		r.finished[reason].Inc()
		observe(r.duration, max(0, f.Took.Seconds()), j.trace)
		if j.project != "" {
			took := max(0, f.Took)
			m.projects.add(j.project, use{seconds: took, cost: costOf(r.price, took)})
		}
	default:
	}
}

// maxNames bounds what is a fixed set of names anyway.
const maxNames = 64

func (m *ours) degradedBy(what string) prometheus.Counter {
	c := m.degradedOf[what]
	if c == nil {
		if len(m.degradedOf) >= maxNames {
			what = "other"
		}
		c = m.degraded.with(label(what))
		m.degradedOf[what] = c
	}
	return c
}

func (m *ours) endpoint(name string) *oursEndpoint {
	e := m.endpoints[name]
	if e != nil {
		return e
	}
	if len(m.endpoints) >= maxNames {
		name = "other"
		if e = m.endpoints[name]; e != nil {
			return e
		}
	}
	shown := label(name)
	e = &oursEndpoint{
		name:     shown,
		errors:   make(map[event.ErrorClass]prometheus.Counter),
		retries:  make(map[int]prometheus.Counter),
		attempts: m.apiAttempts.with(shown),
		waits:    m.apiWaits.with(shown),
		duration: m.apiDuration.with(shown),
	}
	for _, class := range event.ErrorClasses() {
		e.errors[class] = m.apiErrors.with(shown, string(class))
	}
	for _, status := range []int{408, 429, 500, 502, 503, 504} {
		e.retries[status] = m.apiRetries.with(shown, strconv.Itoa(status))
	}
	m.endpoints[name] = e
	return e
}

func (m *ours) called(f event.Called) {
	e := m.endpoint(f.Endpoint)
	e.attempts.Add(float64(max(0, f.Attempts)))
	e.waits.Add(max(0, f.Waited.Seconds()))
	e.duration.Observe(max(0, (f.Took - max(0, f.Waited)).Seconds()))
	for _, status := range f.Statuses {
		c := e.retries[status]
		if c == nil {
			text := strconv.Itoa(status)
			if len(e.retries) >= maxStatuses {
				status, text = 0, "other"
			}
			c = m.apiRetries.with(e.name, text)
			e.retries[status] = c
		}
		c.Inc()
	}
	if f.Class == "" {
		return
	}
	c := e.errors[f.Class]
	if c == nil {
		c = e.errors[event.ErrOther]
	}
	c.Inc()
}

func classList() string {
	var s strings.Builder
	for i, c := range event.ErrorClasses() {
		if i > 0 {
			s.WriteString(", ")
		}
		s.WriteString(string(c))
	}
	return s.String()
}

// phaseLabel bounds a phase: the names of steps come from the coordinator.
func phaseLabel(p job.Phase) string {
	switch p {
	case job.ResolveSecrets, job.PrepareExecutor, job.PrepareScript, job.GetSources, job.ClearWorktree, job.RestoreCache,
		job.DownloadArtifacts, job.AfterScript, job.ArchiveCache, job.ArchiveCacheFailed, job.UploadArtifacts, job.UploadArtifactsF,
		job.Cleanup, job.CleanupExecutor, "step_script", "step_release", "step_run", "concrete":
		return string(p)
	}
	if len(p) > 5 && p[:5] == "step_" {
		return "step_other"
	}
	return "other"
}

// seconds returns t as Prometheus writes times, 0 for no time.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1e3
}
