package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/job"
)

func newCompat(c *catalogue, o Options) *compat {
	full := runnerLabels
	queueBuckets := []float64{1, 3, 10, 30, 60, 120, 300, 900, 1800, 3600}
	m := &compat{
		executors:    make(map[string]bool),
		apis:         make(map[labels]*compatAPI),
		modeCounter:  make(map[[2]string]prometheus.Counter),
		attemptCount: make(map[[2]string]prometheus.Counter),
	}
	m.jobs = c.counter(def{
		name: "gitlab_runner_jobs_total", help: "Total number of handled jobs", labels: full(),
		note: "Counts starts. Use glassrunner_jobs_finished_total for ends and outcomes.",
	})
	m.modes = c.counter(def{
		name: "gitlab_runner_job_execution_mode_total", help: "Total number of jobs grouped by execution mode and executor", sets: sets{"mode": modes(), "executor": nil}, labels: []string{"mode", "executor"},
		values: "mode: traditional, steps; executor: of the configured runners",
		note:   "Only jobs whose preparation succeeded.",
	})
	m.duration = c.histogram(def{
		name: "gitlab_runner_job_duration_seconds", help: "Histogram of job durations", sets: sets{"mode": modes()}, labels: full("mode"),
		buckets: []float64{30, 60, 300, 600, 1800, 3600, 7200, 10800, 18000, 36000},
		values:  "mode: traditional, steps",
		note:    "Observed when a job's result was delivered; the delivery itself is not part of it. The first bucket ends at 30 s; glassrunner_job_duration_seconds tells short jobs apart.",
	})
	m.queueDuration = c.histogram(def{
		name: "gitlab_runner_job_queue_duration_seconds", help: "A histogram representing job queue duration.", sets: sets{"project_jobs_running": {"", "0", "1", "2", "3", "4", "5+", "+Inf"}}, labels: full("project_jobs_running"), buckets: queueBuckets,
		values: "project_jobs_running: 0…4, 5+, +Inf, empty; anything else a coordinator says is \"other\"",
		note:   "As the coordinator measured it, when a job starts: says nothing while no job is picked up. From a runner's first job on.",
	})
	m.queueSize = c.gauge(def{
		name: "gitlab_runner_job_queue_size", help: "A gauge representing the size of the queue for the runner", labels: full(),
		note: "As of the last job; see glassrunner_last_job_received_timestamp_seconds for its age. From a runner's first job on.",
	})
	m.queueDepth = c.gauge(def{
		name: "gitlab_runner_job_queue_depth", help: "A gauge representing the search depth in the queue for the runner", labels: full(),
		note: "As of the last job, like gitlab_runner_job_queue_size.",
	})
	m.exceeded = c.counter(def{
		name: "gitlab_runner_acceptable_job_queuing_duration_exceeded_total", help: "Counts how often jobs exceed the configured queuing time threshold", labels: full(),
		note: "Needs [[runners.monitoring.job_queuing_durations]].",
	})
	m.stageDuration = c.histogram(def{
		name: "gitlab_runner_job_stage_duration_seconds", help: "Histogram of each job stage duration", sets: sets{"stage": phases()}, labels: full("stage"), buckets: queueBuckets,
		values: "stage: the phases of a job; steps other than script, release and run are step_other",
		note:   "Only of jobs with FF_EXPORT_HIGH_CARDINALITY_METRICS. glassrunner_job_stage_duration_seconds is always on.",
	})
	m.failed = c.counter(def{
		name: "gitlab_runner_failed_jobs_total", help: "Total number of failed jobs", sets: sets{"failure_reason": words(job.Reasons()), "mode": modes()}, labels: []string{"runner", "runner_name", "failure_reason", "mode"},
		values: "failure_reason: " + reasonList() + "; mode: traditional, steps, unknown (failed before it ran)",
		note:   "Has no system_id and counts canceled jobs as failed; glassrunner_jobs_finished_total does neither.",
	})
	m.errors(c)
	m.workers(c)
	m.configuration(c)
	m.api(c)
	m.autoscaling(c)
	m.roles = newRoles(c)
	v := c.gauge(def{
		name: "gitlab_runner_version_info", help: "A metric with a constant '1' value labeled by different build stats fields.",
		sets:   sets{"architecture": nil, "branch": nil, "built_at": nil, "go_version": nil, "name": nil, "os": nil, "revision": nil, "version": nil},
		labels: []string{"architecture", "branch", "built_at", "go_version", "name", "os", "revision", "version"},
	})
	b := o.Build
	v.with(label(b.Architecture), label(b.Branch), label(b.BuiltAt), label(b.GoVersion), label(b.Name), label(b.OS), label(b.Revision), label(b.Version)).Set(1)
	return m
}

func (m *compat) errors(c *catalogue) {
	v := c.counter(def{
		name: "gitlab_runner_errors_total", help: "The number of caught errors.", sets: sets{"level": {"panic", "fatal", "error", "warning"}}, labels: []string{"level"},
		values: "level: panic, fatal, error, warning",
		note:   "Counts entries of the process log, so each ordinary failed job is a warning, and nothing that log_level suppresses is counted. glassrunner_jobs_finished_total and glassrunner_degraded_total tell them apart.",
	})
	m.errPanic, m.errFatal = v.with("panic"), v.with("fatal")
	m.errError, m.errWarning = v.with("error"), v.with("warning")
}

func (m *compat) workers(c *catalogue) {
	full := runnerLabels
	m.feeds = c.counter(def{
		name: "gitlab_runner_worker_feeds_total", help: "Total number of times that runner worker is fed to the main loop", labels: full(),
	})
	m.feedFailures = c.counter(def{
		name: "gitlab_runner_worker_feed_failures_total", help: "Total number of times that runner worker feeding have failed", labels: full(),
		note: "A turn that was skipped: no token, or the runner is switched off or held.",
	})
	m.processing = c.counter(def{
		name: "gitlab_runner_worker_processing_failures_total", help: "Total number of failures when processing runner worker", sets: sets{"failure_type": {"no_free_executor", "job_failure", other}}, labels: append([]string{"failure_type"}, full()...),
		values: "failure_type: no_free_executor, job_failure, other",
		note:   "Every ordinary failed job is a job_failure: no alert signal by itself.",
	})
	m.healthFailures = c.counter(def{
		name: "gitlab_runner_worker_health_check_failures_total", help: "Total number of runner worker health check failures", labels: full(),
		note: "A coordinator that is down is no health failure; see glassrunner_api_request_errors_total.",
	})
	m.slots = c.gauge(def{name: "gitlab_runner_worker_slots_number", help: "Current number of runner worker slots"}).with()
	ops := c.counter(def{
		name: "gitlab_runner_worker_slot_operations_total", help: "Total number of runner workers slot operations (starting and stopping slots)", sets: sets{"operation": {"started", "stopped"}}, labels: []string{"operation"},
		values: "operation: started, stopped",
	})
	m.slotStarted, m.slotStopped = ops.with("started"), ops.with("stopped")
}

func (m *compat) configuration(c *catalogue) {
	m.loaded = c.counter(def{name: "gitlab_runner_configuration_loaded_total", help: "Total number of times the configuration file was loaded by Runner process"}).with()
	m.loadErrors = c.counter(def{
		name: "gitlab_runner_configuration_loading_error_total", help: "Total number of times the configuration file was not loaded by Runner process due to errors",
		note: "glassrunner_config_last_reload_successful says whether it is still so.",
	}).with()
	m.saved = c.counter(def{name: "gitlab_runner_configuration_saved_total", help: "Total number of times the configuration file was saved by Runner process"}).with()
	m.saveErrors = c.counter(def{name: "gitlab_runner_configuration_saving_error_total", help: "Total number of times the configuration file was not saved by Runner process due to errors"}).with()
	m.interpolations = c.counter(def{
		name: "gitlab_runner_job_inputs_interpolations_total", help: "Total number of job input interpolations where expressions were actually used (output differs from input)",
		note: "Per field, not per job.",
	}).with()
	m.interpolationFailures = c.counter(def{
		name: "gitlab_runner_job_inputs_interpolation_failures_total", help: "Total number of failed job input interpolations, labeled by error type", sets: sets{"error_type": {"parse", "evaluation", "sensitive_unsupported"}}, labels: []string{"error_type"},
		values: "error_type: parse, evaluation, sensitive_unsupported",
	})
	for _, k := range []string{"parse", "evaluation", "sensitive_unsupported"} {
		m.interpolationFailures.with(k)
	}
}

func (m *compat) api(c *catalogue) {
	m.statuses = c.counter(def{
		name: "gitlab_runner_api_request_statuses_total", help: "The total number of api requests, partitioned by runner, endpoint and status.",
		sets: sets{"endpoint": endpoints(), "status": nil, "method": methods()}, labels: []string{"runner", "system_id", "endpoint", "status", "method"},
		values: "endpoint: request_job, update_job, patch_trace, reset_token, discovery; status: HTTP status of the last answer, -1: no usable answer; method: lower case",
		note:   "Once per logical call, retries included. patch_trace calls that got no answer are missing. glassrunner_api_request_errors_total has the failures below HTTP, glassrunner_api_request_retries_total what was retried.",
	})
	m.apiDuration = c.histogram(def{
		name: "gitlab_runner_api_request_duration_seconds", help: "Latency histogram of API requests made by GitLab Runner, partitioned by runner, system_id, endpoint, status_class and method.",
		sets: sets{"endpoint": endpoints(), "status_class": {"1xx", "2xx", "3xx", "4xx", "5xx", "unknown"}, "method": methods()}, labels: []string{"runner", "system_id", "endpoint", "status_class", "method"}, buckets: []float64{0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60},
		values: "endpoint, method: as above; status_class: 1xx…5xx, unknown",
		note:   "Includes retries, the waits before them and long polls. glassrunner_api_request_duration_seconds leaves the waits out.",
	})
	m.attempts = c.counter(def{
		name: "gitlab_runner_api_request_retries_total", help: "The total number of retries made by GitLab Runner in process of completing a request, partitioned by path and method.",
		sets: sets{"path": nil, "method": methods()}, labels: []string{"path", "method"},
		values: "path: of the URL, numbers replaced by {id}",
		note:   "Counts attempts, the first one of each call included. glassrunner_api_request_retries_total counts retries.",
	})
}

// autoscaling shows the series of the docker+machine executor, which the
// monitoring page lists and which GitLab Runner always has, at their zeros.
func (m *compat) autoscaling(c *catalogue) {
	executor := prometheus.Labels{"executor": "docker+machine"}
	target := []string{"target_zone", "target_region", "target_project", "target_machine_type"}
	empty := func(s sets) sets {
		for _, l := range target {
			s[l] = []string{""}
		}
		return s
	}
	const note = "Always zero: there is no docker+machine executor here. It is shown because rules made for GitLab Runner look for it."
	actions := c.counter(def{
		name: "gitlab_runner_autoscaling_actions_total", sets: empty(sets{"action": {"created", "creation-failed", "used", "removed"}}), help: "The total number of actions executed by the provider.", constant: executor, labels: append([]string{"action"}, target...),
		values: "action: created, creation-failed, used, removed; target_*: empty", note: note,
	})
	for _, a := range []string{"created", "creation-failed", "used", "removed"} {
		actions.with(a, "", "", "", "")
	}
	states := c.gauge(def{
		name: "gitlab_runner_autoscaling_machine_states", sets: empty(sets{"state": {"acquired", "creating", "idle", "used", "removing", "stuck-on-removing"}}), help: "The current number of machines per state in this provider.", constant: executor, labels: append([]string{"state"}, target...),
		values: "state: acquired, creating, idle, used, removing, stuck-on-removing; target_*: empty", note: note,
	})
	for _, s := range []string{"acquired", "creating", "idle", "used", "removing", "stuck-on-removing"} {
		states.with(s, "", "", "", "")
	}
	short := []float64{1, 3, 5, 10, 30, 50, 60, 80, 90, 120}
	for _, h := range []struct {
		name, help string
		buckets    []float64
	}{
		{"creation", "Histogram of machine creation time.", prometheus.ExponentialBuckets(30, 1.25, 10)},
		{"stopping", "Histogram of machine stopping time.", short},
		{"removal", "Histogram of machine removal time.", short},
		{"failed_creation", "Histogram of machine failed creation timings", short},
	} {
		c.histogram(def{
			name: "gitlab_runner_autoscaling_machine_" + h.name + "_duration_seconds", help: h.help, constant: executor, buckets: h.buckets, note: note,
		}).with()
	}
}
