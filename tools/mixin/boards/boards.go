package boards

// Boards returns the dashboards.
func Boards() []Dashboard {
	return []Dashboard{fleet(), runner(), queueing(), anatomy(), autoscaling(), process()}
}

// Reasons why the demo, a healthy shell runner, has no data.
const (
	noAlert    = "nothing is wrong in the demo"
	noEngine   = "the demo runs no containers"
	noProjects = "usage by project is off unless it is configured"
	noExpiry   = "the demo's token and connection do not expire"
	noTransfer = "the demo's jobs have neither cache nor artifacts"
	noTraces   = "tracing is off in the demo"
	noCgroup   = "depends on what the machine's cgroups tell"
)

const (
	queueSeconds = "gitlab_runner_job_queue_duration_seconds"
	jobSeconds   = "glassrunner_job_duration_seconds"
	stageSeconds = "glassrunner_job_stage_duration_seconds"
)

// results colours a share of successes.
func results() look {
	return look{unit: "percentunit", max: 1, steps: []any{"red", 0.8, "orange", 0.95, "green"}}
}

// bad is a number that should be 0.
func bad() look { return look{unit: "none", steps: []any{"green", 1.0, "red"}} }

// toRunner opens the board of the runner that was clicked.
func toRunner() *Property {
	return &Property{ID: "links", Value: []map[string]any{{
		"title": "This runner", "url": "/d/glassrunner-runner?${datasource:queryparam}&${job:queryparam}&var-runner_name=${__value.raw}&${__url_time_range}",
	}}}
}

func fleet() Dashboard {
	b := board("fleet", "Fleet", "All runners at a glance: are they up, how full are they, do jobs succeed.", allVariables()...)
	b.row("Now")
	b.stat("Processes up", "Processes that answer Prometheus.", look{unit: "none"}, q(`count(glassrunner_process_state{@p,state="running"} == 1)`, ""))
	b.stat("Runners not ready", "Runner entries that can take no job now; /-/ready says why.", bad(), q(`sum(glassrunner_runner_ready{@r} == bool 0)`, ""))
	b.stat("Jobs running", "Accepted jobs whose result is not delivered yet.", look{unit: "none"}, q(`sum(glassrunner_jobs_running{@r})`, ""))
	b.stat("Slots in use", "Jobs running, of all that the processes may run at once.", look{unit: "percentunit", max: 1, steps: []any{"green", 0.8, "orange", 0.95, "red"}}, q(`sum(glassrunner_jobs_running{@p}) / sum(glassrunner_concurrent{@p})`, ""))
	b.stat("Jobs that succeeded", "Of those that ended in the chosen time.", results(), q(`sum(increase(glassrunner_jobs_finished_total{@r,result="success"}[$__range])) / sum(increase(glassrunner_jobs_finished_total{@r}[$__range]))`, ""))
	b.stat("Alerts", "Alerts of the shipped rules that fire now.", bad(), quiet(noAlert, `count(ALERTS{alertname=~"Runner.*",alertstate="firing"})`, ""))
	b.table("Firing alerts", "Each alert's page in docs/runbooks says what to do.", map[string]string{"alertname": "Alert", "severity": "Severity", "instance": "Instance", "runner_name": "Runner", "reason": "Reason"}, nil,
		column{"Firing", "none", quiet(noAlert, `sum by (alertname, severity, instance, runner_name, reason) (ALERTS{alertname=~"Runner.*",alertstate="firing"})`, "")})
	b.table("Runners", "A click on a name opens its board.", map[string]string{"instance": "Instance", "runner_name": "Runner"}, toRunner(),
		column{"Ready", "none", q(`min by (instance, runner_name) (glassrunner_runner_ready{@r})`, "")},
		column{"Running", "none", q(`sum by (instance, runner_name) (glassrunner_jobs_running{@r})`, "")},
		column{"Limit", "none", q(`sum by (instance, runner_name) (glassrunner_limit{@r})`, "")},
		column{"Jobs an hour", "none", q(`3600 * sum by (instance, runner_name) (rate(glassrunner_jobs_finished_total{@r}[$__range]))`, "")},
		column{"Last answer", "s", q(`time() - max by (instance, runner_name) (glassrunner_last_successful_poll_timestamp_seconds{@r} > 0)`, "")},
	)
	b.row("Jobs")
	b.graph(half, "Jobs running", "By runner.", look{unit: "none", stack: true}, q(`sum by (runner_name) (glassrunner_jobs_running{@r})`, "{{runner_name}}"))
	b.graph(half, "Jobs a minute", "By result.", look{unit: "none", stack: true}, q(`60 * sum by (result) (rate(glassrunner_jobs_finished_total{@r}[$__rate_interval]))`, "{{result}}"))
	b.graph(half, "Failures a minute", "By reason.", look{unit: "none", stack: true}, q(`60 * sum by (reason) (rate(glassrunner_jobs_finished_total{@r,result="failed"}[$__rate_interval]))`, "{{reason}}"))
	b.graph(half, "Waiting in the queue", "As GitLab measured it when a job was handed out.", look{unit: "s"},
		q(quantile(0.5, queueSeconds, "@r", ""), "median"), q(quantile(0.95, queueSeconds, "@r", ""), "95 %"))
	b.row("GitLab and results")
	b.graph(third, "Failed requests a minute", "To GitLab, by class.", look{unit: "none"}, q(`60 * sum by (class) (rate(glassrunner_api_request_errors_total{@p}[$__rate_interval]))`, "{{class}}"))
	b.graph(third, "Log lag", "Age of the oldest byte of a running job's log that GitLab lacks.", look{unit: "s"}, q(`max by (runner_name) (glassrunner_job_log_lag_seconds{@r})`, "{{runner_name}}"))
	b.graph(third, "Result delivery", "From a job's end to GitLab's acknowledgement.", look{unit: "s"},
		q(quantile(0.5, "glassrunner_job_result_delivery_duration_seconds", "@r", ""), "median"), q(quantile(0.95, "glassrunner_job_result_delivery_duration_seconds", "@r", ""), "95 %"))
	b.row("Machines' disks and usage")
	b.graph(third, "Disk space free", "Of what the runner writes to.", look{unit: "percentunit", max: 1}, q(`min by (instance, root) (glassrunner_disk_free_bytes{@p} / glassrunner_disk_size_bytes{@p})`, "{{instance}} {{root}}"))
	b.graph(third, "Left behind", "Containers, processes and files of jobs that are over.", look{unit: "none"}, q(`sum by (kind) (glassrunner_orphans{@p})`, "{{kind}}"))
	b.graph(third, "Processors used by projects", "The projects with most job time, and the rest; opt-in.", look{unit: "none", stack: true}, quiet(noProjects, `topk(10, sum by (project) (rate(glassrunner_project_cpu_seconds_total{@p}[$__rate_interval])))`, "{{project}}"))
	return b.d
}

func runner() Dashboard {
	b := board("runner", "One runner", "One runner entry: what holds it, what its jobs do, how GitLab answers it.", allVariables()...)
	b.row("Now")
	b.stat("Ready", "1: it can take a job now.", look{unit: "none", steps: []any{"red", 1.0, "green"}}, q(`min(glassrunner_runner_ready{@r})`, ""))
	b.stat("Accepted by GitLab", "0: GitLab refuses its token.", look{unit: "none", steps: []any{"red", 1.0, "green"}}, q(`min(glassrunner_runner_healthy{@r})`, ""))
	b.stat("Running", "Jobs now.", look{unit: "none"}, q(`sum(glassrunner_jobs_running{@r})`, ""))
	b.stat("Limit", "Jobs that it may run at once.", look{unit: "none"}, q(`sum(glassrunner_limit{@r})`, ""))
	b.stat("Since GitLab's last answer", "To a request for a job.", look{unit: "s", steps: []any{"green", 60.0, "orange", 300.0, "red"}}, q(`time() - max(glassrunner_last_successful_poll_timestamp_seconds{@r} > 0)`, ""))
	b.stat("Token expires in", "Nothing: never.", look{unit: "s", steps: []any{"red", 86400.0, "green"}}, quiet(noExpiry, `min(glassrunner_runner_token_expiry_timestamp_seconds{@r}) - time()`, ""))
	b.row("Capacity")
	b.graph(half, "Why it is not asking for more", "Share of the time by reason; the reasons of a runner add up to one.", look{unit: "percentunit", max: 1, stack: true}, q(`avg by (reason) (rate(glassrunner_capacity_blocked_seconds_total{@r}[$__rate_interval]))`, "{{reason}}"))
	b.graph(half, "Jobs and limit", "", look{unit: "none"}, q(`sum by (instance) (glassrunner_jobs_running{@r})`, "running {{instance}}"), q(`sum by (instance) (glassrunner_limit{@r})`, "limit {{instance}}"))
	b.graph(half, "Requests for jobs a minute", "By what came of them.", look{unit: "none"}, q(`60 * sum by (result) (rate(glassrunner_polls_total{@r}[$__rate_interval]))`, "{{result}}"))
	b.graph(half, "Phase of the running jobs", "GitLab Runner's gauge: the last script stage that began.", look{unit: "none", stack: true}, q(`sum by (stage) (gitlab_runner_jobs{@r})`, "{{stage}}"))
	b.row("Jobs")
	b.graph(third, "Jobs a minute", "By result.", look{unit: "none", stack: true}, q(`60 * sum by (result) (rate(glassrunner_jobs_finished_total{@r}[$__rate_interval]))`, "{{result}}"))
	b.graph(third, "Failures a minute", "By reason.", look{unit: "none", stack: true}, q(`60 * sum by (reason) (rate(glassrunner_jobs_finished_total{@r,result="failed"}[$__rate_interval]))`, "{{reason}}"))
	b.graph(third, "Duration", "From acceptance to the end of cleanup.", look{unit: "s"}, q(quantile(0.5, jobSeconds, "@r", ""), "median"), q(quantile(0.95, jobSeconds, "@r", ""), "95 %"))
	b.graph(third, "Oldest job, longest silence", "", look{unit: "s"}, q(`max(glassrunner_oldest_running_job_seconds{@r})`, "oldest job"), q(`max(glassrunner_job_output_silence_seconds_max{@r})`, "longest silence"))
	b.graph(third, "Longest time in a phase", "Of the jobs that run now.", look{unit: "s"}, q(`max by (phase) (glassrunner_job_phase_age_seconds_max{@r} > 0)`, "{{phase}}"))
	b.graph(third, "Overdue jobs", "Running for a multiple of what this runner's jobs take.", look{unit: "none"}, q(`sum by (instance) (glassrunner_jobs_overdue{@r})`, "{{instance}}"))
	b.row("Logs and results")
	b.graph(third, "Log bytes", "Written by jobs and accepted by GitLab.", look{unit: "Bps"}, q(`sum(rate(glassrunner_job_log_written_bytes_total{@r}[$__rate_interval]))`, "written"), q(`sum(rate(glassrunner_job_log_sent_bytes_total{@r}[$__rate_interval]))`, "sent"))
	b.graph(third, "Unsent log", "", look{unit: "bytes"}, q(`sum(glassrunner_job_log_unsent_bytes{@r})`, "unsent"))
	b.graph(third, "Delivery failures", "Chunks that have to be sent again, results that were given up.", look{unit: "none"}, q(`60 * sum(rate(glassrunner_job_log_send_failures_total{@r}[$__rate_interval]))`, "log chunks a minute"), q(`sum(increase(glassrunner_final_updates_lost_total{@r}[$__rate_interval]))`, "results lost"))
	b.row("Stopped and refused")
	b.graph(half, "Jobs stopped by GitLab", "cancel: scripts only; abort: all at once.", look{unit: "none"}, q(`60 * sum by (directive) (rate(glassrunner_job_directives_total{@r}[$__rate_interval]))`, "{{directive}}"))
	b.graph(half, "Jobs refused", "Received and not run, a minute.", look{unit: "none"}, q(`60 * sum by (reason) (rate(glassrunner_jobs_refused_total{@r}[$__rate_interval]))`, "{{reason}}"))
	return b.d
}

func queueing() Dashboard {
	b := board("queueing", "Queueing", "Why is nothing starting? How long jobs wait, and what keeps runners from taking them.", allVariables()...)
	b.row("Objective: 95 % of the jobs start within 60 s")
	b.stat("Late, last hour", "Jobs that waited for more than 60 s.", look{unit: "percentunit", max: 1, steps: []any{"green", 0.05, "orange", 0.3, "red"}}, q(`max(runner:job_queue_late:ratio_rate1h{job=~"$job",runner_name=~"$runner_name"})`, ""))
	b.stat("Late, six hours", "", look{unit: "percentunit", max: 1, steps: []any{"green", 0.05, "orange", 0.3, "red"}}, q(`max(runner:job_queue_late:ratio_rate6h{job=~"$job",runner_name=~"$runner_name"})`, ""))
	b.stat("Jobs an hour", "", look{unit: "none"}, q(`sum(runner:jobs_started:increase1h{job=~"$job",runner_name=~"$runner_name"})`, ""))
	b.stat("Queue size", "As GitLab told it with the last job.", look{unit: "none"}, quiet("only some versions of GitLab tell it", `max(gitlab_runner_job_queue_size{@r})`, ""))
	b.stat("Slots in use", "", look{unit: "percentunit", max: 1, steps: []any{"green", 0.8, "orange", 0.95, "red"}}, q(`max(instance:job_slots:utilisation{@p})`, ""))
	b.stat("Disks that stop work", "Roots below their floor.", bad(), q(`sum(glassrunner_disk_blocked{@p})`, ""))
	b.graph(half, "Late jobs by runner", "Share of the jobs of half an hour that waited for more than 60 s; dashed: where the error budget begins to burn.", look{unit: "percentunit", max: 1, steps: []any{"transparent", 0.05, "orange", 0.3, "red"}}, q(`runner:job_queue_late:ratio_rate30m{job=~"$job",runner_name=~"$runner_name"}`, "{{runner_name}}"))
	b.graph(half, "Time in the queue", "As GitLab measured it.", look{unit: "s"},
		q(quantile(0.5, queueSeconds, "@r", ""), "median"), q(quantile(0.95, queueSeconds, "@r", ""), "95 %"), q(quantile(0.99, queueSeconds, "@r", ""), "99 %"))
	b.heat(full, "Time in the queue, all jobs", "", "s", `sum by (le) (increase(gitlab_runner_job_queue_duration_seconds_bucket{@r}[$__rate_interval])) or sum(increase(gitlab_runner_job_queue_duration_seconds{@r}[$__rate_interval]))`)
	b.row("Why is nothing starting?")
	b.graph(full, "What kept runners from asking for more", "Share of the time, all chosen runners. concurrent, limit: full. executor_capacity: no machine. disk: no space. coordinator: GitLab does not answer. no_jobs: nothing to do.", look{unit: "percentunit", max: 1, stack: true}, q(`avg by (reason) (rate(glassrunner_capacity_blocked_seconds_total{@r}[$__rate_interval]))`, "{{reason}}"))
	b.graph(half, "Slots", "", look{unit: "none", stack: true}, q(`sum by (state) (glassrunner_slots{@p})`, "{{state}}"))
	b.graph(half, "Full by runner", "Share of 15 minutes in which it could not take more.", look{unit: "percentunit", max: 1}, q(`sum by (runner_name) (runner_reason:capacity_blocked:ratio_rate15m{job=~"$job",runner_name=~"$runner_name",reason=~"concurrent|limit|request_concurrency|executor_capacity"})`, "{{runner_name}}"))
	b.row("Requests for jobs")
	b.graph(third, "Requests at once", "", look{unit: "none"}, q(`sum(gitlab_runner_request_concurrency{@p})`, "now"), q(`sum(gitlab_runner_request_concurrency_used_limit{@p})`, "limit"))
	b.graph(third, "Since the last answer", "Time since GitLab last answered a request for a job.", look{unit: "s"}, q(`max by (runner_name) (time() - (glassrunner_last_successful_poll_timestamp_seconds{@r} > 0))`, "{{runner_name}}"))
	b.graph(third, "Since the last job", "", look{unit: "s"}, q(`min by (runner_name) (time() - (glassrunner_last_job_received_timestamp_seconds{@r} > 0))`, "{{runner_name}}"))
	return b.d
}

func anatomy() Dashboard {
	b := board("jobs", "Job anatomy", "Where the time of jobs goes, and what they use.", allVariables()...)
	const byPhase = "phase"
	b.row("Time")
	b.graph(half, "Time by phase", "Seconds spent in each phase, a second: where the time of all jobs together goes.", look{unit: "none", stack: true},
		q(`sum by (phase) (rate(glassrunner_job_stage_duration_seconds_sum{@r}[$__rate_interval])) or histogram_sum(sum by (phase) (rate(glassrunner_job_stage_duration_seconds{@r}[$__rate_interval])))`, "{{phase}}"))
	b.graph(half, "Mean of a phase", "", look{unit: "s"}, q(mean(stageSeconds, "@r", byPhase), "{{phase}}"))
	b.graph(half, "Slowest phases", "95th percentile.", look{unit: "s"}, q(quantile(0.95, stageSeconds, "@r", byPhase), "{{phase}}"))
	b.graph(half, "Jobs' duration", "From acceptance to the end of cleanup.", look{unit: "s"}, q(quantile(0.5, jobSeconds, "@r", ""), "median"), q(quantile(0.95, jobSeconds, "@r", ""), "95 %"), q(quantile(0.99, jobSeconds, "@r", ""), "99 %"))
	b.heat(full, "Jobs' duration, all jobs", "", "s", `sum by (le) (increase(glassrunner_job_duration_seconds_bucket{@r}[$__rate_interval])) or sum(increase(glassrunner_job_duration_seconds{@r}[$__rate_interval]))`)
	b.row("Resources")
	b.graph(third, "Processor time of a job", "", look{unit: "s"}, quiet(noCgroup, quantile(0.5, "glassrunner_job_cpu_seconds", "@r", ""), "median"), quiet(noCgroup, quantile(0.95, "glassrunner_job_cpu_seconds", "@r", ""), "95 %"))
	b.graph(third, "Peak memory of a job", "", look{unit: "bytes"}, quiet(noCgroup, quantile(0.5, "glassrunner_job_memory_peak_bytes", "@r", ""), "median"), quiet(noCgroup, quantile(0.95, "glassrunner_job_memory_peak_bytes", "@r", ""), "95 %"))
	b.graph(third, "Throttled", "Time that a job waited for its processor quota, 95th percentile.", look{unit: "s"}, quiet(noCgroup, quantile(0.95, "glassrunner_job_cpu_throttled_seconds", "@r", ""), "95 %"))
	b.graph(third, "Read and written by a job", "95th percentile.", look{unit: "bytes"}, quiet(noCgroup, quantile(0.95, "glassrunner_job_io_read_bytes", "@r", ""), "read"), quiet(noCgroup, quantile(0.95, "glassrunner_job_io_written_bytes", "@r", ""), "written"))
	b.graph(third, "Out of memory", "Ended by the kernel, in the chosen interval.", look{unit: "none"}, q(`sum by (container) (increase(glassrunner_job_oom_kills_total{@r}[$__rate_interval]))`, "{{container}}"))
	b.graph(third, "Job time by project", "The projects with most job time, and the rest; opt-in.", look{unit: "none", stack: true}, quiet(noProjects, `topk(10, sum by (project) (rate(glassrunner_project_job_seconds_total{@p}[$__rate_interval])))`, "{{project}}"))
	b.row("Images and services")
	b.graph(third, "Making sure of an image", "95th percentile by what was done.", look{unit: "s"}, quiet(noEngine, quantile(0.95, "glassrunner_image_pull_duration_seconds", "@r", "result"), "{{result}}"))
	b.graph(third, "Images downloaded", "", look{unit: "Bps"}, quiet(noEngine, `sum by (policy) (rate(glassrunner_image_pull_bytes_total{@r}[$__rate_interval]))`, "{{policy}}"))
	b.graph(third, "Services until ready", "95th percentile.", look{unit: "s"}, quiet(noEngine, quantile(0.95, "glassrunner_service_ready_duration_seconds", "@r", "result"), "{{result}}"))
	b.row("Cache and artifacts")
	b.graph(third, "Cache hits", "Of the caches that jobs looked for.", look{unit: "percentunit", max: 1}, quiet(noTransfer, `sum(rate(glassrunner_cache_requests_total{@r,operation="restore",result=~"hit|stale"}[$__rate_interval])) / sum(rate(glassrunner_cache_requests_total{@r,operation="restore"}[$__rate_interval]))`, "hits"))
	b.graph(third, "Cache and artifact time", "95th percentile.", look{unit: "s"}, quiet(noTransfer, quantile(0.95, "glassrunner_cache_duration_seconds", "@r", "operation"), "cache {{operation}}"), quiet(noTransfer, quantile(0.95, "glassrunner_artifact_duration_seconds", "@r", "direction"), "artifacts {{direction}}"))
	b.graph(third, "Cache and artifact bytes", "", look{unit: "Bps"}, quiet(noTransfer, `sum by (operation) (rate(glassrunner_cache_bytes_total{@r}[$__rate_interval]))`, "cache {{operation}}"), quiet(noTransfer, `sum by (direction) (rate(glassrunner_artifact_bytes_total{@r}[$__rate_interval]))`, "artifacts {{direction}}"))
	b.graph(half, "Artifact requests a minute", "", look{unit: "none"}, quiet(noTransfer, `60 * sum by (direction, result) (rate(glassrunner_artifact_requests_total{@r}[$__rate_interval]))`, "{{direction}} {{result}}"))
	b.graph(half, "Result delivery", "From a job's end to GitLab's acknowledgement.", look{unit: "s"}, q(quantile(0.5, "glassrunner_job_result_delivery_duration_seconds", "@r", ""), "median"), q(quantile(0.95, "glassrunner_job_result_delivery_duration_seconds", "@r", ""), "95 %"))
	return b.d
}

func autoscaling() Dashboard {
	b := board("autoscaling", "Autoscaling", "Machines that are created for jobs and removed again.", processVariables()...)
	const machines = "gitlab_runner_autoscaling_machine_"
	b.row("Machines")
	b.graph(half, "Machines", "By state. stuck-on-removing needs a person.", look{unit: "none", stack: true}, q(`sum by (state) (gitlab_runner_autoscaling_machine_states{@p})`, "{{state}}"))
	b.graph(half, "Created, used and removed a minute", "", look{unit: "none"}, q(`60 * sum by (action) (rate(gitlab_runner_autoscaling_actions_total{@p}[$__rate_interval]))`, "{{action}}"))
	b.row("Time")
	for _, g := range []struct{ title, name string }{
		{"Creating a machine", "creation"}, {"Failing to create one", "failed_creation"}, {"Removing a machine", "removal"}, {"Stopping a machine", "stopping"},
	} {
		name := machines + g.name + "_duration_seconds"
		b.graph(half, g.title, "", look{unit: "s"}, q(quantile(0.5, name, "@p", ""), "median"), q(quantile(0.95, name, "@p", ""), "95 %"))
	}
	b.row("Does the fleet hold jobs up?")
	b.graph(half, "Time without a machine to be had", "Share of the time in which runners could ask for no more because their executor had no capacity.", look{unit: "percentunit", max: 1}, q(`avg by (runner_name) (rate(glassrunner_capacity_blocked_seconds_total{@p,reason="executor_capacity"}[$__rate_interval]))`, "{{runner_name}}"))
	b.graph(half, "Left behind", "", look{unit: "none"}, q(`sum by (kind) (glassrunner_orphans{@p})`, "{{kind}}"))
	return b.d
}

func process() Dashboard {
	b := board("process", "Process", "The runner's own process: health, configuration, requests to GitLab, cost.", processVariables()...)
	b.row("Health")
	b.stat("Parts that hang", "Of scheduler, polling and executors.", bad(), q(`sum(glassrunner_healthy{@p} == bool 0)`, ""))
	b.stat("Configurations not in force", "Changed files that could not be loaded.", bad(), q(`sum(glassrunner_config_last_reload_successful{@p} == bool 0)`, ""))
	b.stat("Warnings of the configuration", "", look{unit: "none", steps: []any{"green", 1.0, "orange"}}, q(`sum(glassrunner_config_warnings{@p})`, ""))
	b.stat("Clock skew", "Largest difference to GitLab's clock.", look{unit: "s", steps: []any{"green", 30.0, "red"}}, q(`max(abs(glassrunner_coordinator_clock_skew_seconds{@p}))`, ""))
	b.stat("Certificates expire in", "The first one.", look{unit: "s", steps: []any{"red", 1209600.0, "green"}}, quiet(noExpiry, `min(glassrunner_certificate_expiry_timestamp_seconds{@p}) - time()`, ""))
	b.stat("Panics", "Caught defects in the chosen time.", bad(), q(`sum(increase(glassrunner_job_phase_panics_total{@p}[$__range])) + sum(increase(glassrunner_http_panics_total{@p}[$__range]))`, ""))
	b.table("Versions", "", map[string]string{"instance": "Instance", "version": "Version", "revision": "Revision", "go_version": "Go"}, nil,
		column{"Processes", "none", q(`count by (instance, version, revision, go_version) (gitlab_runner_version_info{@p})`, "")})
	b.table("Configurations", "Machines with the same configuration have the same hash.", map[string]string{"instance": "Instance", "hash": "Hash"}, nil,
		column{"Processes", "none", q(`count by (instance, hash) (glassrunner_config_info{@p})`, "")})
	b.row("Requests to GitLab")
	b.graph(third, "Duration", "Without the waits before retries; requests for jobs include long polling.", look{unit: "s"}, q(quantile(0.95, "glassrunner_api_request_duration_seconds", "@p", "endpoint"), "95 % {{endpoint}}"))
	b.graph(third, "Requests a minute", "", look{unit: "none"}, q(`60 * sum by (endpoint) (rate(glassrunner_api_request_attempts_total{@p}[$__rate_interval]))`, "{{endpoint}}"))
	b.graph(third, "Failures and repetitions a minute", "", look{unit: "none"}, q(`60 * sum by (endpoint, class) (rate(glassrunner_api_request_errors_total{@p}[$__rate_interval]))`, "{{endpoint}} {{class}}"),
		q(`60 * sum by (endpoint, status) (rate(glassrunner_api_request_retries_total{@p}[$__rate_interval]))`, "{{endpoint}} repeated after {{status}}"))
	b.row("Process")
	b.graph(third, "Processors", "", look{unit: "none"}, q(`rate(process_cpu_seconds_total{@p}[$__rate_interval]) and on (job, instance) glassrunner_process_state`, "{{instance}}"))
	b.graph(third, "Memory", "", look{unit: "bytes"}, q(`process_resident_memory_bytes{@p} and on (job, instance) glassrunner_process_state`, "resident {{instance}}"), q(`go_memstats_heap_inuse_bytes{@p} and on (job, instance) glassrunner_process_state`, "heap {{instance}}"))
	b.graph(third, "Goroutines and file descriptors", "", look{unit: "none"}, q(`go_goroutines{@p} and on (job, instance) glassrunner_process_state`, "goroutines {{instance}}"), q(`process_open_fds{@p} and on (job, instance) glassrunner_process_state`, "descriptors {{instance}}"))
	b.row("Monitoring")
	b.graph(third, "Series", "And what they are bounded by.", look{unit: "none"}, q(`glassrunner_series{@p}`, "{{instance}}"), q(`glassrunner_series_budget{@p}`, "budget {{instance}}"))
	b.graph(third, "Scrapes a minute", "", look{unit: "none"}, q(`60 * sum by (instance, code) (rate(promhttp_metric_handler_requests_total{@p}[$__rate_interval]) and on (job, instance) glassrunner_process_state)`, "{{instance}} {{code}}"))
	b.graph(third, "Spans a minute", "Of traces, by what became of them.", look{unit: "none"}, quiet(noTraces, `60 * sum by (result) (rate(glassrunner_tracing_spans_total{@p}[$__rate_interval]))`, "{{result}}"))
	b.graph(half, "Small failures an hour", "Cleanup, cache and the like: no job lost its result over them.", look{unit: "none"}, quiet(noAlert, `3600 * sum by (what) (rate(glassrunner_degraded_total{@p}[$__rate_interval]))`, "{{what}}"))
	b.graph(half, "Messages of the log a minute", "GitLab Runner's counter, by level; each ordinary failed job is a warning.", look{unit: "none"}, q(`60 * sum by (level) (rate(gitlab_runner_errors_total{@p}[$__rate_interval]))`, "{{level}}"))
	return b.d
}
