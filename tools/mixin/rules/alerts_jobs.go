package rules

import "fmt"

// waited is a runner's queue: jobs from one sample to the next, of which late
// ones waited too long.
func waited(all, late, samples int) []Series {
	count := fmt.Sprintf("0+%dx%d", all, samples)
	return []Series{
		ofRunner("gitlab_runner_jobs_total", "", count),
		ofRunner("gitlab_runner_job_queue_duration_seconds_count", `project_jobs_running="0"`, count),
		ofRunner("gitlab_runner_job_queue_duration_seconds_bucket", `project_jobs_running="0",le="60"`, fmt.Sprintf("0+%dx%d", all-late, samples)),
	}
}

func queue() []Alert {
	const fast, slow = 14.4 * lateBudget, 6 * lateBudget
	objective := fmt.Sprintf("%d%% within %d s", 100-int(100*lateBudget), onTime)
	return []Alert{
		{
			Name: "RunnerQueueBudgetBurnFast", Severity: Critical, For: 2 * minutes, TrueAt: 2 * minutes,
			Expr: fmt.Sprintf(`runner:job_queue_late:ratio_rate1h > %.2f and runner:job_queue_late:ratio_rate5m > %.2f
				and runner:jobs_started:increase1h >= 10`, fast, fast),
			Summary:     "Most jobs of runner {{ $labels.runner_name }} wait too long.",
			Description: "{{ $value | humanizePercentage }} of the jobs of the last hour waited longer than they should (objective: " + objective + "). At this pace a month's error budget is gone in two days.",
			Fires: []Case{{
				Name: "four of five jobs are late", At: 90 * minutes, Labels: fleetLabels(), Value: "80%",
				Series: waited(5, 4, 120),
			}},
			Silent: []Case{
				{Name: "one of ten jobs is late", At: 90 * minutes, Series: waited(10, 1, 120)},
				{Name: "the queue has recovered", At: 90 * minutes, Series: []Series{
					ofRunner("gitlab_runner_jobs_total", "", "0+5x120"),
					ofRunner("gitlab_runner_job_queue_duration_seconds_count", `project_jobs_running="0"`, "0+5x120"),
					ofRunner("gitlab_runner_job_queue_duration_seconds_bucket", `project_jobs_running="0",le="60"`, "0+0x79 0+5x40"),
				}},
				{Name: "no jobs", At: 90 * minutes, Series: waited(0, 0, 120)},
			},
		},
		{
			Name: "RunnerQueueBudgetBurnSlow", Severity: Warning, For: 15 * minutes, TrueAt: 15 * minutes,
			Expr: fmt.Sprintf(`runner:job_queue_late:ratio_rate6h > %.2f and runner:job_queue_late:ratio_rate30m > %.2f
				and runner:jobs_started:increase6h >= 20`, slow, slow),
			Summary:     "Many jobs of runner {{ $labels.runner_name }} wait too long.",
			Description: "{{ $value | humanizePercentage }} of the jobs of the last six hours waited longer than they should (objective: " + objective + "). At this pace a month's error budget is gone in five days.",
			Fires: []Case{{
				Name: "four of ten jobs are late", At: 8 * hours, Slow: true, Labels: fleetLabels(), Value: "40%",
				Series: waited(10, 4, 100),
			}},
			Silent: []Case{
				{Name: "one of ten jobs is late", At: 8 * hours, Slow: true, Series: waited(10, 1, 100)},
				{Name: "hardly any jobs", At: 8 * hours, Slow: true, Series: []Series{
					ofRunner("gitlab_runner_jobs_total", "", "0 1 2 3+0x100"),
					ofRunner("gitlab_runner_job_queue_duration_seconds_count", `project_jobs_running="0"`, "0 1 2 3+0x100"),
					ofRunner("gitlab_runner_job_queue_duration_seconds_bucket", `project_jobs_running="0",le="60"`, "0+0x100"),
				}},
			},
		},
		{
			Name: "RunnerSaturated", Severity: Warning, For: 15 * minutes, TrueAt: 14 * minutes,
			Expr:        `runner_reason:capacity_blocked:ratio_rate15m{reason=~"concurrent|limit|request_concurrency|executor_capacity"} > 0.9`,
			Summary:     "Runner {{ $labels.runner_name }} is full.",
			Description: "Runner {{ $labels.runner_name }} could not ask for more jobs in {{ $value | humanizePercentage }} of the last 15 minutes. What held it back: {{ $labels.reason }}.",
			Fires: []Case{{
				Name: "all slots are taken", At: 60 * minutes, Labels: fleetLabels("reason", "concurrent"), Value: "100%",
				Series: []Series{
					ofRunner("glassrunner_capacity_blocked_seconds_total", `reason="concurrent"`, "0+60x90"),
					ofRunner("glassrunner_capacity_blocked_seconds_total", `reason="no_jobs"`, "0+0x90"),
				},
			}},
			Silent: []Case{
				{Name: "nothing to do", At: 60 * minutes, Series: []Series{ofRunner("glassrunner_capacity_blocked_seconds_total", `reason="no_jobs"`, "0+60x90")}},
				{Name: "full now and then", At: 60 * minutes, Series: []Series{ofRunner("glassrunner_capacity_blocked_seconds_total", `reason="concurrent"`, "0+30x90")}},
			},
		},
	}
}

// finished is a runner's finished jobs a minute.
func finished(result, reason, values string) Series {
	return ofRunner("glassrunner_jobs_finished_total", fmt.Sprintf("result=%q,reason=%q", result, reason), values)
}

func jobs() []Alert {
	return []Alert{
		{
			Name: "RunnerInfrastructureFailures", Severity: Warning,
			Expr: `runner_reason:jobs_failed:ratio_rate30m{reason=~"runner_system_failure|image_pull_failure|runner_configuration_error|runner_external_dependency_failure|unknown_failure"} > 0.05
				and sum by (job, runner, runner_name, reason) (increase(glassrunner_jobs_finished_total{result="failed"}[30m])) >= 3`,
			Summary:     "Jobs of runner {{ $labels.runner_name }} fail through no fault of theirs.",
			Description: "{{ $value | humanizePercentage }} of the jobs that runner {{ $labels.runner_name }} finished in half an hour failed with {{ $labels.reason }}.",
			Fires: []Case{{
				Name: "images cannot be pulled", At: 40 * minutes, Labels: fleetLabels("reason", "image_pull_failure"), Value: "20%",
				Series: []Series{finished("success", "none", "0+4x60"), finished("failed", "image_pull_failure", "0+1x60")},
			}},
			Silent: []Case{
				{Name: "scripts fail", At: 40 * minutes, Series: []Series{finished("success", "none", "0+4x60"), finished("failed", "script_failure", "0+4x60")}},
				{Name: "a single failure", At: 40 * minutes, Series: []Series{finished("success", "none", "0+0x60"), finished("failed", "runner_system_failure", "0+0x19 1+0x40")}},
				{Name: "no jobs at all", At: 40 * minutes, Series: []Series{finished("success", "none", "5+0x60"), finished("failed", "runner_system_failure", "5+0x60")}},
			},
		},
		{
			Name: "RunnerFailureSpike", Severity: Warning, For: 5 * minutes, TrueAt: 385 * minutes,
			Expr: `runner_reason:jobs_failed:ratio_rate30m > 0.2
				and runner_reason:jobs_failed:ratio_rate30m > 2 * runner_reason:jobs_failed:ratio_rate1d
				and on (job, runner, runner_name) runner:jobs_finished:increase30m >= 10`,
			Summary:     "Jobs of runner {{ $labels.runner_name }} fail more often than usual.",
			Description: "{{ $value | humanizePercentage }} of the jobs that runner {{ $labels.runner_name }} finished in half an hour failed with {{ $labels.reason }}, more than twice as many as over the last day.",
			Fires: []Case{{
				Name: "scripts begin to fail", At: 430 * minutes, Slow: true, Labels: fleetLabels("reason", "script_failure"), Value: "50%",
				Series: []Series{finished("success", "none", "0+2x100"), finished("failed", "script_failure", "0+0x75 2+2x20")},
			}},
			Silent: []Case{
				{Name: "they always fail as often", At: 430 * minutes, Slow: true, Series: []Series{finished("success", "none", "0+2x100"), finished("failed", "script_failure", "0+2x100")}},
				{Name: "hardly any jobs", At: 430 * minutes, Slow: true, Series: []Series{finished("success", "none", "0+0x100"), finished("failed", "script_failure", "0+0x79 2+0x20")}},
			},
		},
		{
			Name: "RunnerJobsOverdue", Severity: Warning, For: 10 * minutes, TrueAt: 1 * minutes,
			Expr:        `glassrunner_jobs_overdue > 0`,
			Summary:     "Jobs of runner {{ $labels.runner_name }} run much longer than usual.",
			Description: "{{ $value | humanize }} jobs of runner {{ $labels.runner_name }} on {{ $labels.instance }} have run for a multiple of what its jobs usually take.",
			Fires: []Case{{
				Name: "two jobs", At: 15 * minutes, Labels: runnerLabels(), Value: "2",
				Series: []Series{ofRunner("glassrunner_jobs_overdue", "", "2+0x20")},
			}},
			Silent: []Case{
				{Name: "none", At: 15 * minutes, Series: []Series{ofRunner("glassrunner_jobs_overdue", "", "0+0x20")}},
				{Name: "one that ended", At: 15 * minutes, Series: []Series{ofRunner("glassrunner_jobs_overdue", "", "0 0 1 1 1 0+0x20")}},
			},
		},
		{
			Name: "RunnerJobSilent", Severity: Warning,
			Expr:        `glassrunner_job_output_silence_seconds_max > 3600`,
			Summary:     "A job of runner {{ $labels.runner_name }} prints nothing.",
			Description: "A job of runner {{ $labels.runner_name }} on {{ $labels.instance }} has printed nothing for {{ $value | humanizeDuration }}: it may hang.",
			Fires: []Case{{
				Name: "two scrapes after the hour", At: 62 * minutes, Labels: runnerLabels(), Value: "1h 2m 0s",
				Series: []Series{ofRunner("glassrunner_job_output_silence_seconds_max", "", "0+60x90")},
			}},
			Silent: []Case{{Name: "half an hour", At: 30 * minutes, Series: []Series{ofRunner("glassrunner_job_output_silence_seconds_max", "", "0+60x90")}}},
		},
		{
			Name: "RunnerJobStuckPreparing", Severity: Warning,
			Expr:        `glassrunner_job_phase_age_seconds_max{phase=~"resolve_secrets|prepare_executor|prepare_script|get_sources|restore_cache|download_artifacts"} > 1800`,
			Summary:     "A job of runner {{ $labels.runner_name }} does not get to its script.",
			Description: "A job of runner {{ $labels.runner_name }} on {{ $labels.instance }} has been in {{ $labels.phase }} for {{ $value | humanizeDuration }}: an image pull or a transfer hangs.",
			Fires: []Case{{
				Name: "an image pull hangs", At: 32 * minutes, Labels: runnerLabels("phase", "prepare_executor"), Value: "32m 0s",
				Series: []Series{ofRunner("glassrunner_job_phase_age_seconds_max", `phase="prepare_executor"`, "0+60x60")},
			}},
			Silent: []Case{
				{Name: "a long script", At: 60 * minutes, Series: []Series{ofRunner("glassrunner_job_phase_age_seconds_max", `phase="step_script"`, "0+60x90")}},
				{Name: "a slow pull", At: 20 * minutes, Series: []Series{ofRunner("glassrunner_job_phase_age_seconds_max", `phase="prepare_executor"`, "0+60x60")}},
			},
		},
		{
			Name: "RunnerJobStuckUploading", Severity: Warning,
			Expr:        `glassrunner_job_phase_age_seconds_max{phase=~"archive_cache|upload_artifacts|cleanup_file_variables|cleanup_executor"} > 1800`,
			Summary:     "A job of runner {{ $labels.runner_name }} does not end.",
			Description: "A job of runner {{ $labels.runner_name }} on {{ $labels.instance }} has been in {{ $labels.phase }} for {{ $value | humanizeDuration }}, after its script: an upload hangs.",
			Fires: []Case{{
				Name: "an upload hangs", At: 32 * minutes, Labels: runnerLabels("phase", "upload_artifacts"), Value: "32m 0s",
				Series: []Series{ofRunner("glassrunner_job_phase_age_seconds_max", `phase="upload_artifacts"`, "0+60x60")},
			}},
			Silent: []Case{{Name: "a slow upload", At: 20 * minutes, Series: []Series{ofRunner("glassrunner_job_phase_age_seconds_max", `phase="upload_artifacts"`, "0+60x60")}}},
		},
		{
			Name: "RunnerJobsOutOfMemory", Severity: Warning,
			Expr:        `sum by (job, runner, runner_name, container) (increase(glassrunner_job_oom_kills_total[1h])) >= 3`,
			Summary:     "Jobs of runner {{ $labels.runner_name }} run out of memory.",
			Description: "The kernel ended processes of about {{ $value | humanize }} {{ $labels.container }} containers of runner {{ $labels.runner_name }} in the last hour because they ran out of memory.",
			Fires: []Case{{
				Name: "a job again and again", At: 60 * minutes, Labels: fleetLabels("container", "job"), Value: "60",
				Series: []Series{ofRunner("glassrunner_job_oom_kills_total", `container="job"`, "0+1x90")},
			}},
			Silent: []Case{{Name: "a single one", At: 30 * minutes, Series: []Series{ofRunner("glassrunner_job_oom_kills_total", `container="job"`, "0 0 1+0x90")}}},
		},
		{
			Name: "RunnerJobsRefused", Severity: Warning,
			Expr:        `sum by (job, runner, runner_name, reason) (increase(glassrunner_jobs_refused_total{reason!="taken_back"}[30m])) >= 3`,
			Summary:     "Runner {{ $labels.runner_name }} receives jobs that it cannot run.",
			Description: "Runner {{ $labels.runner_name }} refused about {{ $value | humanize }} jobs with {{ $labels.reason }} in half an hour, before any of their scripts ran.",
			Fires: []Case{{
				Name: "jobs it has no way to run", At: 31 * minutes, Labels: fleetLabels("reason", "runner_configuration_error"), Value: "30",
				Series: []Series{ofRunner("glassrunner_jobs_refused_total", `reason="runner_configuration_error"`, "0+1x60")},
			}},
			Silent: []Case{{Name: "GitLab takes jobs back", At: 31 * minutes, Series: []Series{ofRunner("glassrunner_jobs_refused_total", `reason="taken_back"`, "0+1x60")}}},
		},
		{
			Name: "RunnerRecoveryFailing", Severity: Warning,
			Expr:        `sum by (job, instance) (increase(glassrunner_recovered_jobs_total{result="failed"}[1h])) >= 3`,
			Summary:     "{{ $labels.instance }} cannot settle jobs of an earlier run.",
			Description: "The runner on {{ $labels.instance }} tried again and again to settle jobs that an earlier process left behind, and failed. GitLab shows them as running.",
			Fires: []Case{{
				Name: "attempt after attempt", At: 30 * minutes, Labels: processLabels(),
				Series: []Series{ofProcess("glassrunner_recovered_jobs_total", `result="failed"`, "0+1x60")},
			}},
			Silent: []Case{{Name: "one, then it worked", At: 30 * minutes, Series: []Series{
				ofProcess("glassrunner_recovered_jobs_total", `result="failed"`, "0 1+0x60"),
				ofProcess("glassrunner_recovered_jobs_total", `result="settled"`, "0 0 1+0x60"),
			}}},
		},
	}
}

func delivery() []Alert {
	return []Alert{
		{
			Name: "RunnerJobLogLagging", Severity: Warning, For: 5 * minutes, TrueAt: 2 * minutes,
			Expr:        `glassrunner_job_log_lag_seconds > 60`,
			Summary:     "Job logs of runner {{ $labels.runner_name }} arrive late.",
			Description: "GitLab lacks {{ $value | humanizeDuration }} of the log of a job of runner {{ $labels.runner_name }} on {{ $labels.instance }}. Nothing is lost: it is kept on the runner's disk.",
			Fires: []Case{{
				Name: "nothing gets through", At: 10 * minutes, Labels: runnerLabels(), Value: "10m 0s",
				Series: []Series{ofRunner("glassrunner_job_log_lag_seconds", "", "0+60x20")},
			}},
			Silent: []Case{
				{Name: "seconds", At: 10 * minutes, Series: []Series{ofRunner("glassrunner_job_log_lag_seconds", "", "3+0x20")}},
				{Name: "a short jam", At: 10 * minutes, Series: []Series{ofRunner("glassrunner_job_log_lag_seconds", "", "0 0 90 120 2+0x20")}},
			},
		},
		{
			Name: "RunnerResultsDelayed", Severity: Warning, For: 10 * minutes, TrueAt: 1 * minutes,
			Expr: `(
					histogram_quantile(0.95, sum by (job, runner, runner_name, le) (rate(glassrunner_job_result_delivery_duration_seconds_bucket[15m])))
					or histogram_quantile(0.95, sum by (job, runner, runner_name) (rate(glassrunner_job_result_delivery_duration_seconds[15m])))
				) > 60`,
			Summary:     "Results of runner {{ $labels.runner_name }} arrive late.",
			Description: "One in twenty jobs of runner {{ $labels.runner_name }} had ended {{ $value | humanizeDuration }} or longer before GitLab knew its result.",
			Fires: []Case{{
				Name: "minutes", At: 40 * minutes, Labels: fleetLabels(), Value: "4m 48s",
				Series: []Series{
					ofRunner("glassrunner_job_result_delivery_duration_seconds_bucket", `le="60"`, "0+0x60"),
					ofRunner("glassrunner_job_result_delivery_duration_seconds_bucket", `le="300"`, "0+5x60"),
					ofRunner("glassrunner_job_result_delivery_duration_seconds_bucket", `le="+Inf"`, "0+5x60"),
				},
			}},
			Silent: []Case{{
				Name: "seconds", At: 40 * minutes,
				Series: []Series{
					ofRunner("glassrunner_job_result_delivery_duration_seconds_bucket", `le="1"`, "0+5x60"),
					ofRunner("glassrunner_job_result_delivery_duration_seconds_bucket", `le="60"`, "0+5x60"),
					ofRunner("glassrunner_job_result_delivery_duration_seconds_bucket", `le="+Inf"`, "0+5x60"),
				},
			}},
		},
		{
			Name: "RunnerResultsLost", Severity: Critical,
			Expr:        `increase(glassrunner_final_updates_lost_total[1h]) > 0`,
			Summary:     "Runner {{ $labels.runner_name }} could not deliver a job's result.",
			Description: "A job of runner {{ $labels.runner_name }} on {{ $labels.instance }} ended and GitLab would not take its result. GitLab shows it as running until it gives it up.",
			Fires: []Case{{
				Name: "one", At: 10 * minutes, Labels: runnerLabels(),
				Series: []Series{ofRunner("glassrunner_final_updates_lost_total", "", "0 0 1+0x20")},
			}},
			Silent: []Case{{Name: "none", At: 10 * minutes, Series: []Series{ofRunner("glassrunner_final_updates_lost_total", "", "1+0x20")}}},
		},
	}
}

func disk() []Alert {
	const where = `root="builds",path="/srv/builds"`
	labels := processLabels("root", "builds", "path", "/srv/builds")
	return []Alert{
		{
			Name: "RunnerDiskFilling", Severity: Warning, For: 10 * minutes, TrueAt: 1 * minutes,
			Expr:        `glassrunner_disk_full_seconds < 4 * 3600`,
			Summary:     "The disk of {{ $labels.path }} on {{ $labels.instance }} is filling up.",
			Description: "At the present pace the disk that holds {{ $labels.path }} ({{ $labels.root }}) on {{ $labels.instance }} is full in {{ $value | humanizeDuration }}.",
			Fires: []Case{{
				Name: "full in an hour", At: 15 * minutes, Labels: labels, Value: "1h 0m 0s",
				Series: []Series{ofProcess("glassrunner_disk_full_seconds", where, "3600+0x20")},
			}},
			Silent: []Case{
				{Name: "it does not fill", At: 15 * minutes, Series: []Series{ofProcess("glassrunner_disk_full_seconds", where, "Inf+0x20")}},
				{Name: "a short burst", At: 15 * minutes, Series: []Series{ofProcess("glassrunner_disk_full_seconds", where, "Inf Inf 600 600 Inf Inf Inf Inf Inf Inf Inf Inf Inf Inf Inf Inf Inf")}},
			},
		},
		{
			Name: "RunnerDiskLow", Severity: Warning, For: 10 * minutes, TrueAt: 1 * minutes,
			Expr:        `glassrunner_disk_free_bytes / glassrunner_disk_size_bytes < 0.1`,
			Summary:     "Little space is left for {{ $labels.path }} on {{ $labels.instance }}.",
			Description: "{{ $value | humanizePercentage }} of the disk that holds {{ $labels.path }} ({{ $labels.root }}) on {{ $labels.instance }} is free.",
			Fires: []Case{{
				Name: "a twentieth", At: 15 * minutes, Labels: labels, Value: "5%",
				Series: []Series{ofProcess("glassrunner_disk_free_bytes", where, "5e9+0x20"), ofProcess("glassrunner_disk_size_bytes", where, "100e9+0x20")},
			}},
			Silent: []Case{{
				Name: "half of it", At: 15 * minutes,
				Series: []Series{ofProcess("glassrunner_disk_free_bytes", where, "50e9+0x20"), ofProcess("glassrunner_disk_size_bytes", where, "100e9+0x20")},
			}},
		},
		{
			Name: "RunnerDiskBlocked", Severity: Critical, For: 1 * minutes, TrueAt: 1 * minutes,
			Expr:        `glassrunner_disk_blocked == 1`,
			Summary:     "{{ $labels.instance }} takes no jobs because the disk of {{ $labels.path }} is full.",
			Description: "The disk that holds {{ $labels.path }} ({{ $labels.root }}) on {{ $labels.instance }} is below its floor. Running jobs go on; new ones are taken when there is space again.",
			Fires: []Case{{
				Name: "below the floor", At: 5 * minutes, Labels: labels,
				Series: []Series{ofProcess("glassrunner_disk_blocked", where, "0 1+0x10")},
			}},
			Silent: []Case{{Name: "above it", At: 5 * minutes, Series: []Series{ofProcess("glassrunner_disk_blocked", where, "0+0x10")}}},
		},
		{
			Name: "RunnerInodesLow", Severity: Warning, For: 10 * minutes, TrueAt: 1 * minutes,
			Expr:        `glassrunner_disk_free_inodes < 20000`,
			Summary:     "Few inodes are left for {{ $labels.path }} on {{ $labels.instance }}.",
			Description: "The file system that holds {{ $labels.path }} ({{ $labels.root }}) on {{ $labels.instance }} has room for {{ $value | humanize }} more files.",
			Fires: []Case{{
				Name: "ten thousand", At: 15 * minutes, Labels: labels, Value: "10k",
				Series: []Series{ofProcess("glassrunner_disk_free_inodes", where, "10000+0x20")},
			}},
			Silent: []Case{{Name: "a million", At: 15 * minutes, Series: []Series{ofProcess("glassrunner_disk_free_inodes", where, "1e6+0x20")}}},
		},
	}
}

func leaks() []Alert {
	const machine = `executor="docker+machine"`
	labels := processLabels("executor", "docker+machine")
	return []Alert{
		{
			Name: "RunnerOrphans", Severity: Warning, For: 10 * minutes, TrueAt: 1 * minutes,
			Expr:        `glassrunner_orphans > 0 and glassrunner_orphan_oldest_seconds > 3600`,
			Summary:     "Things of jobs that are over are left on {{ $labels.instance }}.",
			Description: "{{ $value | humanize }} of the kind {{ $labels.kind }} on {{ $labels.instance }} belong to no running job, the oldest for more than an hour.",
			Fires: []Case{{
				Name: "old containers", At: 15 * minutes, Labels: processLabels("kind", "container"), Value: "3",
				Series: []Series{ofProcess("glassrunner_orphans", `kind="container"`, "3+0x20"), ofProcess("glassrunner_orphan_oldest_seconds", `kind="container"`, "7200+60x20")},
			}},
			Silent: []Case{
				{Name: "none", At: 15 * minutes, Series: []Series{ofProcess("glassrunner_orphans", `kind="container"`, "0+0x20"), ofProcess("glassrunner_orphan_oldest_seconds", `kind="container"`, "0+0x20")}},
				{Name: "young ones", At: 15 * minutes, Series: []Series{ofProcess("glassrunner_orphans", `kind="container"`, "3+0x20"), ofProcess("glassrunner_orphan_oldest_seconds", `kind="container"`, "60+60x20")}},
			},
		},
		{
			Name: "RunnerMachinesStuck", Severity: Warning, For: 10 * minutes, TrueAt: 1 * minutes,
			Expr:        `sum by (job, instance, executor) (gitlab_runner_autoscaling_machine_states{state="stuck-on-removing"}) > 0`,
			Summary:     "{{ $labels.instance }} cannot remove machines.",
			Description: "{{ $value | humanize }} machines of {{ $labels.instance }} could not be removed for ten minutes. They cost money until somebody removes them.",
			Fires: []Case{{
				Name: "two machines", At: 15 * minutes, Labels: labels, Value: "2",
				Series: []Series{ofProcess("gitlab_runner_autoscaling_machine_states", machine+`,state="stuck-on-removing"`, "2+0x20")},
			}},
			Silent: []Case{{
				Name: "removals go on", At: 15 * minutes,
				Series: []Series{
					ofProcess("gitlab_runner_autoscaling_machine_states", machine+`,state="stuck-on-removing"`, "0+0x20"),
					ofProcess("gitlab_runner_autoscaling_machine_states", machine+`,state="removing"`, "3+0x20"),
				},
			}},
		},
		{
			Name: "RunnerMachineCreationFailing", Severity: Warning,
			Expr:        `sum by (job, instance, executor) (increase(gitlab_runner_autoscaling_actions_total{action="creation-failed"}[15m])) >= 3`,
			Summary:     "{{ $labels.instance }} cannot create machines.",
			Description: "The creation of {{ $value | humanize }} machines for {{ $labels.instance }} failed in 15 minutes. Jobs wait for machines.",
			Fires: []Case{{
				Name: "one a minute", At: 20 * minutes, Labels: labels, Value: "15",
				Series: []Series{ofProcess("gitlab_runner_autoscaling_actions_total", machine+`,action="creation-failed"`, "0+1x30")},
			}},
			Silent: []Case{{
				Name: "machines are created", At: 20 * minutes,
				Series: []Series{
					ofProcess("gitlab_runner_autoscaling_actions_total", machine+`,action="creation-failed"`, "0+0x30"),
					ofProcess("gitlab_runner_autoscaling_actions_total", machine+`,action="created"`, "0+1x30"),
				},
			}},
		},
	}
}
