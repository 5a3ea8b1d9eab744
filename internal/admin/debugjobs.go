package admin

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/board"
)

// debugJobs is /debug/jobs: what running jobs are at and since when, for who
// looks for one that is stuck.
type debugJobs struct {
	Time time.Time  `json:"time"`
	Jobs []debugJob `json:"jobs"` // oldest first
}

type debugJob struct {
	ID             job.ID     `json:"id"`
	URL            string     `json:"url"`
	Project        string     `json:"project"`
	Runner         string     `json:"runner"`
	RunnerName     string     `json:"runner_name"`
	State          job.State  `json:"state"`
	Started        time.Time  `json:"started"`
	AgeSeconds     float64    `json:"age_seconds"`
	TimeoutSeconds float64    `json:"timeout_seconds"`
	Overdue        bool       `json:"overdue"` // as in glassrunner_jobs_overdue
	Ending         bool       `json:"ending"`  // the result is being delivered
	Stage          job.Phase  `json:"stage"`   // last that began
	Phase          job.Phase  `json:"phase"`   // that runs, "" between two
	PhaseSince     *time.Time `json:"phase_since,omitempty"`
	PhaseAge       float64    `json:"phase_age_seconds"`
	ExecutorStage  string     `json:"executor_stage"`
	LastOutput     *time.Time `json:"last_output,omitempty"` // absent: none yet
	Silence        float64    `json:"silence_seconds"`       // since then, or since the job began
	LastPatch      *time.Time `json:"last_patch,omitempty"`  // of the log that was accepted; absent: none yet
	UnsentBytes    int64      `json:"unsent_bytes"`
	UnsentAge      float64    `json:"unsent_age_seconds"` // of the oldest of these
	SendFailures   int        `json:"send_failures"`      // since the last that was accepted
	Usage          *jobUsage  `json:"usage,omitempty"`    // absent: not sampled yet
}

// jobUsage is what a job has used; what is not known is absent.
type jobUsage struct {
	At              time.Time `json:"at"`
	CPUSeconds      *float64  `json:"cpu_seconds,omitempty"`
	Throttled       *float64  `json:"throttled_seconds,omitempty"`
	MemoryBytes     *int64    `json:"memory_bytes,omitempty"`
	MemoryPeakBytes *int64    `json:"memory_peak_bytes,omitempty"`
	ReadBytes       *int64    `json:"read_bytes,omitempty"`
	WrittenBytes    *int64    `json:"written_bytes,omitempty"`
	OOMKills        *int64    `json:"oom_kills,omitempty"`
	ServiceOOMKills *int64    `json:"service_oom_kills,omitempty"`
}

func (s *Server) debugJobs(w http.ResponseWriter, r *http.Request) {
	if !reads(w, r) {
		return
	}
	snap := s.o.Board.Present()
	typical := make(map[job.Runner]board.Typical, len(snap.Runners))
	for i := range snap.Runners {
		typical[snap.Runners[i].Runner] = snap.Runners[i].Typical
	}
	out := debugJobs{Time: time.Now(), Jobs: make([]debugJob, 0, len(snap.Jobs))}
	for i := range snap.Jobs {
		j := &snap.Jobs[i]
		out.Jobs = append(out.Jobs, describe(j, typical[j.Runner], out.Time))
	}
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	write(w, http.StatusOK, string(text)+"\n")
}

func describe(j *board.Job, typical board.Typical, now time.Time) debugJob {
	d := debugJob{
		ID: j.ID, URL: j.URL, Project: j.Info.ProjectFullPath, Runner: j.Runner.Short, RunnerName: j.Runner.Name,
		State: j.State, Started: j.Started, AgeSeconds: now.Sub(j.Started).Seconds(), TimeoutSeconds: j.Timeout.Seconds(),
		Overdue: typical.Overdue(j, now), Ending: j.Ending, Stage: j.Stage, Phase: j.Phase, ExecutorStage: j.ExecutorStage,
		LastOutput: present(j.LastOutput), LastPatch: present(j.LastSent), UnsentBytes: max(0, j.Written-j.Sent), SendFailures: j.SendFailures,
	}
	if j.Phase != "" {
		d.PhaseSince, d.PhaseAge = present(j.PhaseSince), now.Sub(j.PhaseSince).Seconds()
	}
	since := j.Started
	if j.LastOutput.After(since) {
		since = j.LastOutput
	}
	d.Silence = now.Sub(since).Seconds()
	if !j.UnsentSince.IsZero() {
		d.UnsentAge = now.Sub(j.UnsentSince).Seconds()
	}
	if !j.UsageAt.IsZero() {
		u := &j.Usage
		d.Usage = &jobUsage{
			At: j.UsageAt, CPUSeconds: seconds(u.CPU), Throttled: seconds(u.Throttled), MemoryBytes: number(u.Memory), MemoryPeakBytes: number(u.MemoryPeak),
			ReadBytes: number(u.Read), WrittenBytes: number(u.Written), OOMKills: number(u.OOMKills), ServiceOOMKills: number(u.ServiceOOMKills),
		}
	}
	return d
}

func present(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func seconds(q job.Quantity) *float64 {
	if s, known := q.Seconds(); known {
		return &s
	}
	return nil
}

func number(q job.Quantity) *int64 {
	if n, known := q.Value(); known {
		return &n
	}
	return nil
}
