package metrics_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

func TestUsageOfJobs(t *testing.T) {
	s, _, m := newStream(t)
	r := runner("abcdefghi")
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 1, Runners: []event.Limits{{Runner: r}}})
	const who = `runner="abcdefghi",runner_name="one",system_id="s_0123456789ab"`
	want(t, m, `glassrunner_job_oom_kills_total{container="job",`+who+`}`, "0")
	if strings.Contains(text(t, m, false), "glassrunner_job_cpu_seconds_count{") {
		t.Error("a runner without jobs has series of what they used")
	}
	for i, u := range []job.Usage{
		{
			CPU: job.KnownTime(90 * time.Second), Throttled: job.KnownTime(time.Second), MemoryPeak: job.Known(1 << 30), Read: job.Known(5), Written: job.Known(6),
			OOMKills: job.Known(2), ServiceOOMKills: job.Known(1),
		},
		{CPU: job.Known(0)}, // nothing else is known
	} {
		scope := event.Scope{Runner: r, Job: job.ID(i + 1), Run: uint64(i + 1)}
		s.emit(scope, event.JobStarted{})
		s.emit(scope, event.UsageSampled{Usage: u}) // moves nothing here
		s.emit(scope, event.JobUsed{Usage: u})
		s.emit(scope, event.JobFinished{})
		s.emit(scope, event.JobRemoved{Took: 3 * time.Second, Lost: i == 1})
	}
	for series, v := range map[string]string{
		"glassrunner_job_cpu_seconds_count": "2", "glassrunner_job_cpu_seconds_sum": "90", "glassrunner_job_cpu_throttled_seconds_count": "1",
		"glassrunner_job_memory_peak_bytes_sum": "1.073741824e+09", "glassrunner_job_io_read_bytes_sum": "5", "glassrunner_job_io_written_bytes_count": "1",
		"glassrunner_job_result_delivery_duration_seconds_count": "1", "glassrunner_job_result_delivery_duration_seconds_sum": "3",
		"glassrunner_final_updates_lost_total": "1",
	} {
		want(t, m, series+"{"+who+"}", v)
	}
	want(t, m, `glassrunner_job_oom_kills_total{container="job",`+who+`}`, "2")
	want(t, m, `glassrunner_job_oom_kills_total{container="service",`+who+`}`, "1")
	// What a runner's jobs used is sixty lines at most.
	lines := 0
	for line := range strings.Lines(text(t, m, false)) {
		for _, name := range []string{"cpu_seconds", "memory_peak_bytes", "cpu_throttled_seconds", "io_read_bytes", "io_written_bytes", "oom_kills_total"} {
			if strings.HasPrefix(line, "glassrunner_job_"+name) {
				lines++
			}
		}
	}
	if lines < 20 || lines > 60 {
		t.Errorf("%d lines, want 60 at most", lines)
	}
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 2})
	if strings.Contains(text(t, m, false), "glassrunner_job_cpu_seconds_count{") {
		t.Error("the series outlive their runner")
	}
}

// TestPhaseNames gives jobs every phase that there is: the names are bounded.
func TestPhaseNames(t *testing.T) {
	s, _, m := newStream(t)
	r := runner("abcdefghi")
	scope := event.Scope{Runner: r, Job: 1, Run: 1}
	s.emit(scope, event.JobStarted{})
	phases := []job.Phase{
		job.ResolveSecrets, job.PrepareExecutor, job.PrepareScript, job.GetSources, job.ClearWorktree, job.RestoreCache, job.DownloadArtifacts,
		job.StepPhase("script"), job.StepPhase("release"), job.AfterScript, job.ArchiveCache, job.ArchiveCacheFailed, job.UploadArtifacts,
		job.UploadArtifactsF, job.Cleanup, job.CleanupExecutor,
	}
	for i := range 100 {
		phases = append(phases, job.StepPhase(fmt.Sprintf("hostile-%d", i)))
	}
	for _, p := range phases {
		s.emit(scope, event.PhaseFinished{Phase: p, Took: time.Second})
	}
	lines := strings.Count(text(t, m, false), "\nglassrunner_job_stage_duration_seconds")
	if lines != 60 {
		t.Errorf("all phases of a runner are %d lines, want 60", lines)
	}
}

// TestStuck looks at what running jobs are at.
func TestStuck(t *testing.T) {
	s, _, m := newStream(t)
	r := runner("abcdefghi")
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 1, Runners: []event.Limits{{Runner: r, OverdueFactor: 2, OverdueMinJobs: 1}}})
	const who = `runner="abcdefghi",runner_name="one",system_id="s_0123456789ab"`
	scope := func(id int) event.Scope { return event.Scope{Runner: r, Job: job.ID(id), Run: uint64(id)} }
	s.emit(scope(9), event.JobStarted{})
	s.emit(scope(9), event.JobFinished{Took: time.Second})
	s.emit(scope(9), event.JobRemoved{})
	for id, phase := range []job.Phase{job.PrepareExecutor, job.StepPhase("script"), job.UploadArtifactsF, job.StepPhase("script")} {
		s.emit(scope(id+1), event.JobStarted{})
		s.emit(scope(id+1), event.PhaseStarted{Phase: phase})
	}
	s.emit(scope(4), event.LogWritten{Bytes: 1, Total: 1})
	s.emit(scope(4), event.JobFinished{}) // it waits for the coordinator only
	s.now = s.now.Add(10 * time.Second)
	s.emit(scope(2), event.LogWritten{Bytes: 1, Total: 1})
	s.emit(scope(1), event.PhaseFinished{Phase: job.PrepareExecutor})
	s.emit(scope(1), event.PhaseStarted{Phase: job.RestoreCache})
	s.now = s.now.Add(5 * time.Second)
	for series, v := range map[string]string{
		"glassrunner_oldest_running_job_seconds{" + who + "}":                         "15",
		"glassrunner_job_output_silence_seconds_max{" + who + "}":                     "5",
		"glassrunner_jobs_overdue{" + who + "}":                                       "3",
		`glassrunner_job_phase_age_seconds_max{phase="restore_cache",` + who + "}":    "5",
		`glassrunner_job_phase_age_seconds_max{phase="step_script",` + who + "}":      "15",
		`glassrunner_job_phase_age_seconds_max{phase="upload_artifacts",` + who + "}": "15",
	} {
		want(t, m, series, v)
	}
	if n := strings.Count(text(t, m, false), "\nglassrunner_job_phase_age_seconds_max{"); n != 3 {
		t.Errorf("%d phases have an age, want 3", n)
	}
	for id := range 4 {
		s.emit(scope(id+1), event.JobFinished{})
		s.emit(scope(id+1), event.JobRemoved{})
	}
	want(t, m, "glassrunner_oldest_running_job_seconds{"+who+"}", "0")
	want(t, m, "glassrunner_job_output_silence_seconds_max{"+who+"}", "0")
	want(t, m, "glassrunner_jobs_overdue{"+who+"}", "0")
}

func TestMachine(t *testing.T) {
	s, _, m := newStream(t)
	disk := event.DiskMeasured{Root: "builds", Path: "/srv/builds", Free: 5, Size: 10, FreeInodes: 7, Full: time.Minute}
	s.emit(event.Scope{}, disk)
	const where = `path="/srv/builds",root="builds"`
	for name, v := range map[string]string{"free_bytes": "5", "size_bytes": "10", "free_inodes": "7", "full_seconds": "60", "blocked": "0"} {
		want(t, m, "glassrunner_disk_"+name+"{"+where+"}", v)
	}
	disk.Blocked, disk.Full = true, -1
	s.emit(event.Scope{}, disk)
	want(t, m, "glassrunner_disk_blocked{"+where+"}", "1")
	want(t, m, "glassrunner_disk_full_seconds{"+where+"}", "+Inf")
	s.emit(event.Scope{}, event.DiskMeasured{Root: "builds", Path: "/srv/builds", Err: fmt.Errorf("stale handle")})
	want(t, m, `glassrunner_disk_errors_total{root="builds"}`, "1")
	want(t, m, "glassrunner_disk_free_bytes{"+where+"}", "5")
	s.emit(event.Scope{}, event.DiskForgotten{Root: "builds", Path: "/srv/builds"})
	if strings.Contains(text(t, m, false), "glassrunner_disk_free_bytes{") {
		t.Error("a disk that is not watched any more has series")
	}
	want(t, m, `glassrunner_orphans{kind="volume"}`, "0")
	s.emit(event.Scope{}, event.OrphansCounted{Kind: "volume", Count: 3, Oldest: time.Hour, Reaped: 2})
	want(t, m, `glassrunner_orphans{kind="volume"}`, "3")
	want(t, m, `glassrunner_orphan_oldest_seconds{kind="volume"}`, "3600")
	want(t, m, `glassrunner_orphans_reaped_total{kind="volume"}`, "2")
}
