package rules

import (
	"fmt"
	"maps"
	"time"
)

func alertGroups() []Group {
	return []Group{
		{Name: "glassrunner.process", Alerts: process()},
		{Name: "glassrunner.gitlab", Alerts: gitlab()},
		{Name: "glassrunner.queue", Alerts: queue()},
		{Name: "glassrunner.jobs", Alerts: jobs()},
		{Name: "glassrunner.delivery", Alerts: delivery()},
		{Name: "glassrunner.disk", Alerts: disk()},
		{Name: "glassrunner.leaks", Alerts: leaks()},
	}
}

// Labels of the tests' series.
const (
	target   = `job="glassrunner",instance="ci-1:9252"`
	identity = `runner="AbCdEfGhI",runner_name="shell",system_id="s_1"`
)

// ofProcess is a series of a process.
func ofProcess(metric, labels, values string) Series {
	return Series{Series: metric + "{" + target + comma(labels) + "}", Values: values}
}

// ofRunner is a series of a runner.
func ofRunner(metric, labels, values string) Series {
	return Series{Series: metric + "{" + target + "," + identity + comma(labels) + "}", Values: values}
}

func comma(labels string) string {
	if labels == "" {
		return ""
	}
	return "," + labels
}

// processLabels are the labels of an alert about a process, and pairs of more.
func processLabels(more ...string) map[string]string {
	return with(map[string]string{"job": "glassrunner", "instance": "ci-1:9252"}, more)
}

// runnerLabels are the labels of an alert about a runner in one process.
func runnerLabels(more ...string) map[string]string {
	m := processLabels("runner", "AbCdEfGhI", "runner_name", "shell", "system_id", "s_1")
	return with(m, more)
}

// fleetLabels are the labels of an alert about a runner in all its processes.
func fleetLabels(more ...string) map[string]string {
	return with(map[string]string{"job": "glassrunner", "runner": "AbCdEfGhI", "runner_name": "shell"}, more)
}

func with(m map[string]string, pairs []string) map[string]string {
	m = maps.Clone(m)
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

const (
	minutes = time.Minute
	hours   = time.Hour
)

// alive is the series that tells a glassrunner from other processes.
func alive(values string) Series {
	return ofProcess("glassrunner_process_state", `state="running"`, values)
}

func process() []Alert {
	return []Alert{
		{
			Name: "RunnerDown", Severity: Critical, For: 2 * minutes, TrueAt: 3 * minutes,
			// A target is known by its job's name, or by what it answered before.
			Expr: `up{job=~".*glassrunner.*"} == 0
				or up == 0 and on (job, instance) last_over_time(glassrunner_process_state{state="running"}[1d])`,
			Summary:     "{{ $labels.instance }} does not answer.",
			Description: "Prometheus has failed to scrape {{ $labels.instance }} (job {{ $labels.job }}) for two minutes. Jobs that ran there are reported as failed when the runner starts again.",
			Fires: []Case{
				{
					Name: "a process that answered before stops to", At: 6 * minutes,
					Series: []Series{{`up{job="ci",instance="ci-1:9252"}`, "1 1 1 0+0x10"}, {`glassrunner_process_state{job="ci",instance="ci-1:9252",state="running"}`, "1 1 1 stale"}},
					Labels: map[string]string{"job": "ci", "instance": "ci-1:9252"},
				},
				{
					Name: "one that never answered", At: 3 * minutes,
					Series: []Series{ofProcess("up", "", "0+0x10")},
					Labels: processLabels(),
				},
			},
			Silent: []Case{
				{Name: "it answers", At: 6 * minutes, Series: []Series{ofProcess("up", "", "1+0x10"), alive("1+0x10")}},
				{Name: "one scrape failed", At: 6 * minutes, Series: []Series{ofProcess("up", "", "1 1 0 1+0x10"), alive("1+0x10")}},
				{Name: "something else is down", At: 6 * minutes, Series: []Series{{`up{job="node",instance="ci-1:9100"}`, "0+0x10"}}},
			},
		},
		{
			Name: "RunnerAbsent", Severity: Critical, For: 10 * minutes, TrueAt: 3 * minutes,
			Expr:        `absent(glassrunner_process_state)`,
			Summary:     "No runner is scraped.",
			Description: "Prometheus has had no glassrunner among its targets for ten minutes: the runners or their discovery are gone.",
			Fires: []Case{{
				Name: "the only target goes", At: 20 * minutes, Labels: map[string]string{},
				Series: []Series{alive("1 1 1 stale")},
			}},
			Silent: []Case{
				{Name: "there is one", At: 20 * minutes, Series: []Series{alive("1+0x30")}},
				{Name: "it is gone for five minutes", At: 20 * minutes, Series: []Series{alive("1 1 1 1 1 1 1 1 stale _ _ _ _ 1+0x10")}},
			},
		},
		{
			Name: "RunnerRestarting", Severity: Warning,
			Expr: `changes(process_start_time_seconds[30m]) >= 3
				and on (job, instance) glassrunner_process_state{state="running"} == 1`,
			Summary:     "{{ $labels.instance }} restarts again and again.",
			Description: "The runner on {{ $labels.instance }} has started {{ $value | humanize }} times in half an hour. Each start ends the jobs that ran.",
			Fires: []Case{{
				Name: "three starts", At: 20 * minutes, Labels: processLabels(), Value: "3",
				Series: []Series{ofProcess("process_start_time_seconds", "", "10 10 70 70 70 200 200 200 400+0x30"), alive("1+0x40")},
			}},
			Silent: []Case{
				{Name: "one start", At: 20 * minutes, Series: []Series{ofProcess("process_start_time_seconds", "", "10 10 70+0x30"), alive("1+0x40")}},
				{Name: "another program restarts", At: 20 * minutes, Series: []Series{{`process_start_time_seconds{job="node",instance="ci-1:9100"}`, "10 20 30 40+0x30"}, alive("1+0x40")}},
			},
		},
		{
			Name: "RunnerUnhealthy", Severity: Critical, For: 1 * minutes, TrueAt: 2 * minutes,
			Expr:        `glassrunner_healthy == 0`,
			Summary:     "The {{ $labels.component }} of {{ $labels.instance }} makes no progress.",
			Description: "The {{ $labels.component }} of the runner on {{ $labels.instance }} has not moved in time, so its /-/healthy answers 503. It is the runner's own fault, not GitLab's.",
			Fires: []Case{{
				Name: "a poll loop hangs", At: 5 * minutes, Labels: processLabels("component", "polling"),
				Series: []Series{ofProcess("glassrunner_healthy", `component="polling"`, "1 1 0+0x10"), ofProcess("glassrunner_healthy", `component="scheduler"`, "1+0x10")},
			}},
			Silent: []Case{{Name: "it moves", At: 5 * minutes, Series: []Series{ofProcess("glassrunner_healthy", `component="polling"`, "1+0x10")}}},
		},
		{
			Name: "RunnerNotReady", Severity: Warning, For: 15 * minutes, TrueAt: 2 * minutes,
			Expr:        `glassrunner_runner_ready == 0`,
			Summary:     "Runner {{ $labels.runner_name }} cannot take jobs.",
			Description: "Runner {{ $labels.runner_name }} on {{ $labels.instance }} has been unable to take a job for 15 minutes; /-/ready there says why.",
			Fires: []Case{{
				Name: "not ready for long", At: 20 * minutes, Labels: runnerLabels(),
				Series: []Series{ofRunner("glassrunner_runner_ready", "", "1 1 0+0x30")},
			}},
			Silent: []Case{
				{Name: "ready", At: 20 * minutes, Series: []Series{ofRunner("glassrunner_runner_ready", "", "1+0x30")}},
				{Name: "not ready for a moment", At: 20 * minutes, Series: []Series{ofRunner("glassrunner_runner_ready", "", "1 1 0 0 0 1+0x30")}},
			},
		},
		{
			Name: "RunnerReloadFailing", Severity: Warning, For: 5 * minutes, TrueAt: 2 * minutes,
			Expr:        `glassrunner_config_last_reload_successful == 0`,
			Summary:     "The configuration of {{ $labels.instance }} is not in force.",
			Description: "The runner on {{ $labels.instance }} could not load its changed configuration and goes on with the one before. It would not start with the file as it is.",
			Fires: []Case{{
				Name: "a broken file", At: 10 * minutes, Labels: processLabels(),
				Series: []Series{ofProcess("glassrunner_config_last_reload_successful", "", "1 1 0+0x20")},
			}},
			Silent: []Case{
				{Name: "a good file", At: 10 * minutes, Series: []Series{ofProcess("glassrunner_config_last_reload_successful", "", "1+0x20")}},
				{Name: "a mistake soon put right", At: 10 * minutes, Series: []Series{ofProcess("glassrunner_config_last_reload_successful", "", "1 0 0 1+0x20")}},
			},
		},
		{
			Name: "RunnerWebConfigFailing", Severity: Warning, For: 5 * minutes, TrueAt: 2 * minutes,
			Expr:        `glassrunner_web_config_last_load_successful == 0`,
			Summary:     "The web configuration of {{ $labels.instance }} is not in force.",
			Description: "The monitoring server of {{ $labels.instance }} could not load its changed web configuration, or a certificate that it names, and goes on with the one before.",
			Fires: []Case{{
				Name: "a certificate without its key", At: 10 * minutes, Labels: processLabels(),
				Series: []Series{ofProcess("glassrunner_web_config_last_load_successful", "", "1 1 0+0x20")},
			}},
			Silent: []Case{
				{Name: "a good file", At: 10 * minutes, Series: []Series{ofProcess("glassrunner_web_config_last_load_successful", "", "1+0x20")}},
				{Name: "certificate and key are replaced one after the other", At: 10 * minutes, Series: []Series{ofProcess("glassrunner_web_config_last_load_successful", "", "1 1 0 1+0x20")}},
			},
		},
		{
			Name: "RunnerPanicked", Severity: Warning,
			Expr: `sum by (job, instance) (increase(glassrunner_job_phase_panics_total[1h]))
				+ sum by (job, instance) (increase(glassrunner_http_panics_total[1h])) > 0`,
			Summary:     "A defect of the program on {{ $labels.instance }}.",
			Description: "The runner on {{ $labels.instance }} caught a panic of its own in the last hour. The job or request it belonged to failed, the rest goes on. The stack is in the log.",
			Fires: []Case{{
				Name: "a phase panics", At: 10 * minutes, Labels: processLabels(),
				Series: []Series{ofProcess("glassrunner_job_phase_panics_total", "", "0 0 1+0x20"), ofProcess("glassrunner_http_panics_total", "", "0+0x20")},
			}},
			Silent: []Case{{
				Name: "none since long", At: 10 * minutes,
				Series: []Series{ofProcess("glassrunner_job_phase_panics_total", "", "3+0x20"), ofProcess("glassrunner_http_panics_total", "", "0+0x20")},
			}},
		},
		{
			Name: "RunnerMonitoringFailing", Severity: Warning,
			Expr:        `increase(glassrunner_listener_errors_total[15m]) > 0`,
			Summary:     "The monitoring server of {{ $labels.instance }} cannot listen.",
			Description: "The monitoring server of {{ $labels.instance }} stopped serving, or could not move to a changed address, in the last 15 minutes. Jobs are not touched.",
			Fires: []Case{{
				Name: "a failed move", At: 10 * minutes, Labels: processLabels(),
				Series: []Series{ofProcess("glassrunner_listener_errors_total", "", "0 0 1+0x20")},
			}},
			Silent: []Case{{Name: "no failure", At: 10 * minutes, Series: []Series{ofProcess("glassrunner_listener_errors_total", "", "1+0x20")}}},
		},
		{
			Name: "RunnerFileDescriptorsLow", Severity: Warning, For: 10 * minutes, TrueAt: 1 * minutes,
			Expr: `process_open_fds / process_max_fds > 0.8
				and on (job, instance) glassrunner_process_state{state="running"} == 1`,
			Summary:     "{{ $labels.instance }} is running out of file descriptors.",
			Description: "The runner on {{ $labels.instance }} has used {{ $value | humanizePercentage }} of its file descriptors for ten minutes. When they are gone, jobs fail.",
			Fires: []Case{{
				Name: "nine tenths are used", At: 15 * minutes, Labels: processLabels(), Value: "90%",
				Series: []Series{ofProcess("process_open_fds", "", "900+0x20"), ofProcess("process_max_fds", "", "1000+0x20"), alive("1+0x20")},
			}},
			Silent: []Case{
				{Name: "half of them", At: 15 * minutes, Series: []Series{ofProcess("process_open_fds", "", "500+0x20"), ofProcess("process_max_fds", "", "1000+0x20"), alive("1+0x20")}},
				{Name: "another program", At: 15 * minutes, Series: []Series{ofProcess("process_open_fds", "", "900+0x20"), ofProcess("process_max_fds", "", "1000+0x20")}},
			},
		},
		{
			Name: "RunnerSeriesOverflow", Severity: Info,
			Expr:        `sum by (job, instance, metric) (increase(glassrunner_series_overflow_total[1h])) > 0`,
			Summary:     "{{ $labels.metric }} has more series than its budget.",
			Description: "Label values of {{ $labels.metric }} on {{ $labels.instance }} were folded into the overflow series in the last hour: sums are exact, but the details are incomplete.",
			Fires: []Case{{
				Name: "too many names", At: 10 * minutes, Labels: processLabels("metric", "glassrunner_project_job_seconds_total"),
				Series: []Series{ofProcess("glassrunner_series_overflow_total", `metric="glassrunner_project_job_seconds_total"`, "0 0 1+1x20")},
			}},
			Silent: []Case{{
				Name: "enough room", At: 10 * minutes,
				Series: []Series{ofProcess("glassrunner_series_overflow_total", `metric="glassrunner_project_job_seconds_total"`, "0+0x20")},
			}},
		},
		{
			Name: "RunnerTracesLost", Severity: Info, For: 30 * minutes, TrueAt: 1 * minutes,
			Expr:        `sum by (job, instance, result) (increase(glassrunner_tracing_spans_total{result=~"dropped|failed"}[30m])) > 0`,
			Summary:     "Traces of {{ $labels.instance }} are incomplete.",
			Description: "Spans of the runner on {{ $labels.instance }} have been {{ $labels.result }} for half an hour. Jobs are not touched.",
			Fires: []Case{{
				Name: "the collector is gone", At: 45 * minutes, Labels: processLabels("result", "failed"),
				Series: []Series{ofProcess("glassrunner_tracing_spans_total", `result="failed"`, "0+5x60"), ofProcess("glassrunner_tracing_spans_total", `result="exported"`, "9+0x60")},
			}},
			Silent: []Case{
				{Name: "all arrive", At: 45 * minutes, Series: []Series{ofProcess("glassrunner_tracing_spans_total", `result="failed"`, "0+0x60"), ofProcess("glassrunner_tracing_spans_total", `result="exported"`, "0+9x60")}},
				{Name: "a few were lost", At: 70 * minutes, Series: []Series{ofProcess("glassrunner_tracing_spans_total", `result="dropped"`, "0 0 5+0x90")}},
			},
		},
		{
			Name: "RunnerDegraded", Severity: Warning,
			Expr:        `sum by (job, instance, what) (increase(glassrunner_degraded_total[1h])) > 5`,
			Summary:     "{{ $labels.what }} keeps failing on {{ $labels.instance }}.",
			Description: "The runner on {{ $labels.instance }} failed at {{ $labels.what }} about {{ $value | humanize }} times in the last hour. No job lost its result over it.",
			Fires: []Case{{
				Name: "cleanup fails each time", At: 60 * minutes, Labels: processLabels("what", "environment_cleanup"), Value: "60",
				Series: []Series{ofProcess("glassrunner_degraded_total", `what="environment_cleanup"`, "0+1x90")},
			}},
			Silent: []Case{{
				Name: "twice", At: 60 * minutes,
				Series: []Series{ofProcess("glassrunner_degraded_total", `what="environment_cleanup"`, "0 0 1 1 1 2+0x90")},
			}},
		},
	}
}

// faults are the classes of failed requests that mean GitLab is out of reach.
func faults() []string {
	return []string{"dns", "connect", "tls", "timeout", "reset", "decode", "http_4xx", "http_5xx"}
}

func gitlab() []Alert {
	// An entry that has never had an answer counts from its start.
	const silence = `time() - (
			glassrunner_last_successful_poll_timestamp_seconds > 0
			or glassrunner_last_successful_poll_timestamp_seconds * 0 + on (job, instance) group_left () process_start_time_seconds
		)`
	reach := Alert{
		Name: "RunnerCannotReachGitLab", Severity: Critical, For: 2 * minutes, TrueAt: 3 * minutes,
		// A runner that is full does not ask, so silence alone says nothing. And a
		// request that hangs has not failed yet: only it is there, for longer than
		// GitLab holds one open.
		Expr: silence + ` > 60 and sum without (result) (increase(glassrunner_polls_total{result=~"failed|forbidden"}[5m])) > 0
			or ` + silence + ` > 120 and on (job, instance, runner, system_id) gitlab_runner_request_concurrency > 0`,
		Summary:     "Runner {{ $labels.runner_name }} gets no answer from GitLab.",
		Description: "Runner {{ $labels.runner_name }} on {{ $labels.instance }} has asked GitLab for jobs without success for {{ $value | humanizeDuration }}. Class of the failures: {{ why }}.",
		Why:         `topk(1, sum by (class) (increase(glassrunner_api_request_errors_total{job=%q,instance=%q,endpoint="request_job"}[10m])) > 0)`,
		WhyLabels:   []string{"job", "instance"}, WhySays: "class",
		Silent: []Case{
			{
				Name: "it answers", At: 10 * minutes,
				Series: []Series{
					ofRunner("glassrunner_last_successful_poll_timestamp_seconds", "", "1+60x20"),
					ofRunner("glassrunner_polls_total", `result="failed"`, "3+0x20"),
				},
			},
			{
				Name: "the runner is full and does not ask", At: 15 * minutes,
				Series: []Series{
					ofRunner("glassrunner_last_successful_poll_timestamp_seconds", "", "1 60 119 120+0x20"),
					ofRunner("glassrunner_polls_total", `result="failed"`, "3+0x20"),
				},
			},
			{
				Name: "a runner that was full for long asks again", At: 15 * minutes,
				Series: []Series{
					ofRunner("glassrunner_last_successful_poll_timestamp_seconds", "", "60+0x20"),
					{Series: `gitlab_runner_request_concurrency{` + target + `,runner="AbCdEfGhI",system_id="s_1"}`, Values: "0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 1 1"},
				},
			},
			{
				Name: "a single request failed", At: 10 * minutes,
				Series: []Series{
					ofRunner("glassrunner_last_successful_poll_timestamp_seconds", "", "1+60x20"),
					ofRunner("glassrunner_polls_total", `result="failed"`, "0 0 0 0 0 0 0 0 1+0x20"),
				},
			},
		},
	}
	for _, class := range faults() {
		reach.Fires = append(reach.Fires, Case{
			Name: "five minutes after faults of the class " + class + " began", At: 6 * minutes,
			Labels: runnerLabels(), Value: "5m 0s", Why: class,
			Series: []Series{
				ofRunner("glassrunner_last_successful_poll_timestamp_seconds", "", "60+0x20"),
				ofRunner("glassrunner_polls_total", `result="failed"`, "0 0 1+1x20"),
				ofProcess("glassrunner_api_request_errors_total", fmt.Sprintf(`endpoint="request_job",class=%q`, class), "0 0 1+1x20"),
				ofProcess("glassrunner_api_request_errors_total", `endpoint="request_job",class="other"`, "0+0x20"),
			},
		})
	}
	reach.Fires = append(reach.Fires, Case{
		Name: "five minutes after a request began to hang", At: 6 * minutes,
		Labels: runnerLabels(), Value: "5m 0s", Why: "none yet",
		Series: []Series{
			ofRunner("glassrunner_last_successful_poll_timestamp_seconds", "", "60+0x20"),
			{Series: `gitlab_runner_request_concurrency{` + target + `,runner="AbCdEfGhI",system_id="s_1"}`, Values: "1+0x20"},
		},
	}, Case{
		Name: "it never answered since the start", At: 6 * minutes,
		Labels: runnerLabels(), Value: "5m 50s", Why: "connect",
		Series: []Series{
			ofProcess("process_start_time_seconds", "", "10+0x20"),
			ofRunner("glassrunner_last_successful_poll_timestamp_seconds", "", "0+0x20"),
			ofRunner("glassrunner_polls_total", `result="failed"`, "0+1x20"),
			ofProcess("glassrunner_api_request_errors_total", `endpoint="request_job",class="connect"`, "0+1x20"),
		},
	})
	return []Alert{
		reach,
		{
			Name: "RunnerRefused", Severity: Critical, For: 1 * minutes, TrueAt: 2 * minutes,
			Expr:        `glassrunner_runner_healthy == 0`,
			Summary:     "GitLab refuses runner {{ $labels.runner_name }}.",
			Description: "GitLab answers the requests of runner {{ $labels.runner_name }} on {{ $labels.instance }} with 403: its token is wrong, was revoked, or has expired.",
			Fires: []Case{{
				Name: "a revoked token", At: 5 * minutes, Labels: runnerLabels(),
				Series: []Series{ofRunner("glassrunner_runner_healthy", "", "1 1 0+0x10")},
			}},
			Silent: []Case{{Name: "a good one", At: 5 * minutes, Series: []Series{ofRunner("glassrunner_runner_healthy", "", "1+0x10")}}},
		},
		{
			Name: "RunnerGitLabRequestsFailing", Severity: Warning, For: 10 * minutes, TrueAt: 1 * minutes,
			// A 4xx answer to a job's requests is how GitLab takes a job away.
			Expr: `sum by (job, instance, endpoint) (rate(glassrunner_api_request_errors_total{class!~"canceled|http_4xx"}[10m]))
				/ sum by (job, instance, endpoint) (rate(glassrunner_api_request_attempts_total[10m])) > 0.1`,
			Summary:     "Requests from {{ $labels.instance }} to GitLab fail.",
			Description: "{{ $value | humanizePercentage }} of the {{ $labels.endpoint }} requests from {{ $labels.instance }} have failed for ten minutes, most of them by {{ why }}. Logs and results of jobs arrive late.",
			Why:         `topk(1, sum by (class) (increase(glassrunner_api_request_errors_total{job=%q,instance=%q,endpoint=%q,class!="canceled"}[10m])) > 0)`,
			WhyLabels:   []string{"job", "instance", "endpoint"}, WhySays: "class",
			Fires: []Case{{
				Name: "half of the log chunks", At: 30 * minutes, Labels: processLabels("endpoint", "patch_trace"), Value: "50%", Why: "http_5xx",
				Series: []Series{
					ofProcess("glassrunner_api_request_errors_total", `endpoint="patch_trace",class="http_5xx"`, "0+10x40"),
					ofProcess("glassrunner_api_request_attempts_total", `endpoint="patch_trace"`, "0+20x40"),
				},
			}},
			Silent: []Case{
				{
					Name: "one of a hundred", At: 30 * minutes,
					Series: []Series{
						ofProcess("glassrunner_api_request_errors_total", `endpoint="patch_trace",class="http_5xx"`, "0+1x40"),
						ofProcess("glassrunner_api_request_attempts_total", `endpoint="patch_trace"`, "0+100x40"),
					},
				},
				{
					Name: "jobs are cancelled", At: 30 * minutes,
					Series: []Series{
						ofProcess("glassrunner_api_request_errors_total", `endpoint="patch_trace",class="http_4xx"`, "0+10x40"),
						ofProcess("glassrunner_api_request_attempts_total", `endpoint="patch_trace"`, "0+20x40"),
					},
				},
			},
		},
		{
			Name: "RunnerRateLimited", Severity: Warning, For: 10 * minutes, TrueAt: 6 * minutes,
			Expr:        `60 * sum by (job, instance, endpoint) (rate(glassrunner_api_request_retries_total{status="429"}[10m])) > 1`,
			Summary:     "GitLab limits the requests of {{ $labels.instance }}.",
			Description: "GitLab answers {{ $labels.endpoint }} requests from {{ $labels.instance }} with 429, {{ $value | humanize }} times a minute. The runner waits and repeats them.",
			Fires: []Case{{
				Name: "two a minute", At: 30 * minutes, Labels: processLabels("endpoint", "request_job"), Value: "2",
				Series: []Series{ofProcess("glassrunner_api_request_retries_total", `endpoint="request_job",status="429"`, "0+2x40")},
			}},
			Silent: []Case{
				{Name: "none", At: 30 * minutes, Series: []Series{ofProcess("glassrunner_api_request_retries_total", `endpoint="request_job",status="429"`, "7+0x40")}},
				{Name: "retries of another kind", At: 30 * minutes, Series: []Series{ofProcess("glassrunner_api_request_retries_total", `endpoint="request_job",status="503"`, "0+5x40")}},
			},
		},
		{
			Name: "RunnerClockSkew", Severity: Warning, For: 10 * minutes, TrueAt: 1 * minutes,
			Expr:        `abs(glassrunner_coordinator_clock_skew_seconds) > 30`,
			Summary:     "The clocks of {{ $labels.instance }} and GitLab differ.",
			Description: "The clock of {{ $labels.instance }} and that of GitLab have differed by {{ $value | humanizeDuration }} for ten minutes: signed addresses and tokens may be refused, and times in logs do not match.",
			Fires: []Case{{
				Name: "it is slow", At: 15 * minutes, Labels: runnerLabels(), Value: "1m 30s",
				Series: []Series{ofRunner("glassrunner_coordinator_clock_skew_seconds", "", "-90+0x20")},
			}},
			Silent: []Case{{Name: "two seconds", At: 15 * minutes, Series: []Series{ofRunner("glassrunner_coordinator_clock_skew_seconds", "", "2+0x20")}}},
		},
		{
			Name: "RunnerTokenExpiring", Severity: Warning, For: 1 * hours, TrueAt: 5 * minutes,
			// A token is rotated with a quarter of its life left.
			Expr:        `glassrunner_runner_token_expiry_timestamp_seconds - time() < 86400`,
			Summary:     "The token of runner {{ $labels.runner_name }} is about to expire.",
			Description: "The token of runner {{ $labels.runner_name }} on {{ $labels.instance }} expires in {{ $value | humanizeDuration }}, and it was not rotated in time.",
			Fires: []Case{{
				Name: "twelve hours left", At: 2 * hours, Slow: true, Labels: runnerLabels(), Value: "12h 0m 0s",
				Series: []Series{ofRunner("glassrunner_runner_token_expiry_timestamp_seconds", "", fmt.Sprintf("%d+0x200", 14*3600))},
			}},
			Silent: []Case{
				{Name: "a month left", At: 2 * hours, Slow: true, Series: []Series{ofRunner("glassrunner_runner_token_expiry_timestamp_seconds", "", "2592000+0x200")}},
				{Name: "it never expires", At: 2 * hours, Slow: true, Series: []Series{ofRunner("glassrunner_runner_healthy", "", "1+0x200")}},
			},
		},
		{
			Name: "RunnerTokenResetFailing", Severity: Warning,
			Expr:        `increase(glassrunner_token_reset_failures_total[6h]) > 0`,
			Summary:     "{{ $labels.instance }} cannot rotate a runner's token.",
			Description: "A runner on {{ $labels.instance }} failed to rotate its token in the last six hours. When the token expires, GitLab refuses the runner.",
			Fires: []Case{{
				Name: "a failure", At: 10 * minutes, Labels: processLabels(),
				Series: []Series{ofProcess("glassrunner_token_reset_failures_total", "", "0 0 1+0x20")},
			}},
			Silent: []Case{{Name: "none", At: 10 * minutes, Series: []Series{ofProcess("glassrunner_token_reset_failures_total", "", "0+0x20")}}},
		},
		{
			Name: "RunnerCertificateExpiring", Severity: Warning, For: 1 * hours, TrueAt: 5 * minutes,
			Expr:        `0 < glassrunner_certificate_expiry_timestamp_seconds - time() < 14 * 86400`,
			Summary:     "The certificate {{ $labels.certificate }} of {{ $labels.instance }} is about to expire.",
			Description: "The certificate {{ $labels.certificate }} that the runner on {{ $labels.instance }} uses expires in {{ $value | humanizeDuration }}.",
			Fires: []Case{{
				Name: "ten days left", At: 2 * hours, Slow: true, Labels: processLabels("certificate", "web_server"), Value: "10d 0h 0m 0s",
				Series: []Series{ofProcess("glassrunner_certificate_expiry_timestamp_seconds", `certificate="web_server"`, fmt.Sprintf("%d+0x200", 10*86400+2*3600))},
			}},
			Silent: []Case{
				{Name: "a month left", At: 2 * hours, Slow: true, Series: []Series{ofProcess("glassrunner_certificate_expiry_timestamp_seconds", `certificate="web_server"`, "2592000+0x200")}},
				{Name: "it is over, which another alert says", At: 2 * hours, Slow: true, Series: []Series{ofProcess("glassrunner_certificate_expiry_timestamp_seconds", `certificate="web_server"`, "60+0x200")}},
			},
		},
		{
			Name: "RunnerCertificateExpired", Severity: Critical,
			Expr:        `glassrunner_certificate_expiry_timestamp_seconds - time() <= 0`,
			Summary:     "The certificate {{ $labels.certificate }} of {{ $labels.instance }} has expired.",
			Description: "The certificate {{ $labels.certificate }} that the runner on {{ $labels.instance }} uses is no longer valid: connections that need it fail.",
			Fires: []Case{{
				Name: "a minute ago", At: 10 * minutes, Labels: processLabels("certificate", "coordinator_client"),
				Series: []Series{ofProcess("glassrunner_certificate_expiry_timestamp_seconds", `certificate="coordinator_client"`, "540+0x20")},
			}},
			Silent: []Case{{Name: "a month left", At: 10 * minutes, Series: []Series{ofProcess("glassrunner_certificate_expiry_timestamp_seconds", `certificate="coordinator_client"`, "2592000+0x20")}}},
		},
	}
}
