package main

import (
	"slices"

	"github.com/glassrunner/glassrunner/tools/mixin/names"
)

// pending are metrics that rules and panels name before the program has them.
// The check takes them as emitted, and fails once the program has them, so that
// no entry outlives its reason. A release has an empty list.
func pending() []names.Metric {
	runner := []names.Label{{Name: "runner"}, {Name: "runner_name"}, {Name: "system_id"}}
	of := func(name string, values ...string) names.Label { return names.Label{Name: name, Values: values} }
	with := func(more ...names.Label) []names.Label { return append(slices.Clip(runner), more...) }
	disk := []names.Label{of("root", "builds", "cache", "state", "engine"), {Name: "path"}}
	kind := []names.Label{of("kind", "container", "volume", "network", "process", "directory")}
	return []names.Metric{
		{Name: "glassrunner_capacity_blocked_seconds_total", Type: "counter", Labels: with(of("reason", "concurrent", "limit", "request_concurrency", "executor_capacity", "disk", "paused", "unhealthy", "coordinator", "shutdown", "no_jobs"))},
		{Name: "glassrunner_slots", Type: "gauge", Labels: []names.Label{of("state", "running", "requesting", "idle")}},
		{Name: "glassrunner_coordinator_clock_skew_seconds", Type: "gauge", Labels: runner},
		{Name: "glassrunner_healthy", Type: "gauge", Labels: []names.Label{of("component", "scheduler", "polling", "executors")}},
		{Name: "glassrunner_runner_ready", Type: "gauge", Labels: runner},
		{Name: "glassrunner_runner_token_expiry_timestamp_seconds", Type: "gauge", Labels: runner},
		{Name: "glassrunner_certificate_expiry_timestamp_seconds", Type: "gauge", Labels: []names.Label{of("certificate", "web_server", "web_client_ca", "coordinator_client", "coordinator_ca")}},
		{Name: "glassrunner_series_budget", Type: "gauge"},
		{Name: "glassrunner_series_overflow_total", Type: "counter", Labels: []names.Label{{Name: "metric"}}},
		{Name: "glassrunner_project_job_seconds_total", Type: "counter", Labels: []names.Label{{Name: "project"}}},
		{Name: "glassrunner_project_cpu_seconds_total", Type: "counter", Labels: []names.Label{{Name: "project"}}},
		{Name: "glassrunner_job_cpu_seconds", Type: "histogram", Labels: runner},
		{Name: "glassrunner_job_memory_peak_bytes", Type: "histogram", Labels: runner},
		{Name: "glassrunner_job_cpu_throttled_seconds", Type: "histogram", Labels: runner},
		{Name: "glassrunner_job_io_read_bytes", Type: "histogram", Labels: runner},
		{Name: "glassrunner_job_io_written_bytes", Type: "histogram", Labels: runner},
		{Name: "glassrunner_job_oom_kills_total", Type: "counter", Labels: with(of("container", "job", "service"))},
		{Name: "glassrunner_job_result_delivery_duration_seconds", Type: "histogram", Labels: runner},
		{Name: "glassrunner_oldest_running_job_seconds", Type: "gauge", Labels: runner},
		{Name: "glassrunner_job_output_silence_seconds_max", Type: "gauge", Labels: runner},
		{Name: "glassrunner_job_phase_age_seconds_max", Type: "gauge", Labels: with(of("phase", "resolve_secrets", "prepare_executor", "prepare_script", "get_sources", "restore_cache", "download_artifacts", "step_script", "after_script", "archive_cache", "upload_artifacts", "cleanup_file_variables", "cleanup_executor"))},
		{Name: "glassrunner_jobs_overdue", Type: "gauge", Labels: runner},
		{Name: "glassrunner_disk_free_bytes", Type: "gauge", Labels: disk},
		{Name: "glassrunner_disk_size_bytes", Type: "gauge", Labels: disk},
		{Name: "glassrunner_disk_free_inodes", Type: "gauge", Labels: disk},
		{Name: "glassrunner_disk_full_seconds", Type: "gauge", Labels: disk},
		{Name: "glassrunner_disk_blocked", Type: "gauge", Labels: disk},
		{Name: "glassrunner_orphans", Type: "gauge", Labels: kind},
		{Name: "glassrunner_orphan_oldest_seconds", Type: "gauge", Labels: kind},
		{Name: "glassrunner_web_config_last_load_successful", Type: "gauge"},
	}
}
