package admin

import (
	"math"
	"slices"
	"time"

	"github.com/glassrunner/glassrunner/internal/api"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/board"
	"github.com/glassrunner/glassrunner/internal/observe/history"
)

// presenter turns what the board knows into what the API says.
type presenter struct{ s *Server }

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func (p presenter) err(e error) string {
	if e == nil {
		return ""
	}
	return p.s.o.Scrub(e.Error())
}

func (p presenter) status(snap *board.Snapshot) api.Status {
	n := p.s.settings.Load()
	c := &snap.Config
	st := api.Status{
		Version: p.s.o.Version, SystemID: p.s.o.SystemID,
		State: snap.Process.State, StateSince: snap.Process.Since.UTC(), Draining: snap.Process.Draining,
		Started: p.s.o.Started.UTC(), Now: time.Now().UTC(), Jobs: len(snap.Jobs),
		Config: api.Config{
			Path: c.Path, Hash: c.Hash, Generation: c.Generation, Concurrent: c.Concurrent, Warnings: c.Warnings,
			LastSuccess: moment(c.LastSuccess), LastTry: moment(c.LastTry), LastError: p.err(c.LastErr),
		},
		LogTail: p.s.tails(),
		Links:   []api.Link{{Name: "Metrics", Path: "/metrics"}, {Name: "Readiness", Path: "/-/ready"}, {Name: "API", Path: "/api/v1/status"}},
	}
	if n.DebugAddress == "" {
		st.Links = append(st.Links, api.Link{Name: "Job list", Path: "/debug/jobs/list"})
		if !n.HidePprof {
			st.Links = append(st.Links, api.Link{Name: "Profiles", Path: "/debug/pprof/"})
		}
	}
	requesting := 0
	for i := range snap.Runners {
		requesting += snap.Runners[i].Requests.InFlight
	}
	total := max(snap.Slots, snap.Config.Concurrent)
	st.Slots = api.Slots{Total: total, Running: len(snap.Jobs)}
	// More can be running than there are slots: after a reload that took some away.
	st.Slots.Requesting = max(0, min(requesting, total-len(snap.Jobs)))
	st.Slots.Idle = max(0, total-len(snap.Jobs)-st.Slots.Requesting)
	if p := snap.Places; p.Running+p.Requesting+p.Idle > 0 { // the scheduler has told
		st.Slots.Requesting, st.Slots.Idle = p.Requesting, p.Idle
	}
	return st
}

// tails says whether ends of logs may be seen.
func (s *Server) tails() bool {
	return s.settings.Load().LogTail && s.web.Load().authenticates() && s.o.Tail != nil
}

func (p presenter) runners(all []board.Runner) []api.Runner {
	out := make([]api.Runner, 0, len(all))
	for i := range all {
		r := &all[i]
		out = append(out, api.Runner{
			Runner: r.Short, Name: r.Name, Executor: r.Executor, URL: r.URL, Entries: r.Entries, Limit: r.Limit,
			RequestConcurrency: r.RequestConcurrency, Running: r.Running, Requests: r.Requests.InFlight,
			Healthy: r.Health.OK, Failures: r.Health.Failures, DisabledUntil: moment(r.Health.DisabledUntil),
			LastPoll: moment(r.LastPoll), LastPollResult: r.LastPollResult, LastSuccess: moment(r.LastSuccess), LastJob: moment(r.LastJob),
			Blocked: string(r.Block),
		})
	}
	return out
}

func (p presenter) job(j *board.Job) api.Job {
	out := api.Job{
		Run: j.Run, ID: int64(j.ID), Runner: j.Runner.Short, RunnerName: j.Runner.Name, Executor: j.Runner.Executor,
		Name: j.Info.Name, JobStage: j.Info.Stage, Project: j.Info.ProjectFullPath, ProjectID: j.Info.ProjectID, PipelineID: j.Info.PipelineID,
		URL: j.URL, State: string(j.State), Stage: string(j.Stage), StageSince: j.StateSince.UTC(), ExecutorStage: j.ExecutorStage,
		Started: j.Started.UTC(), Queued: j.Info.TimeInQueue.Seconds(), Timeout: j.Timeout.Seconds(),
		LastOutput: moment(j.LastOutput), LogBytes: j.Written, LogUnsent: max(0, j.Written-j.Sent), UnsentSince: moment(j.UnsentSince),
		SendFailures: j.SendFailures, Ending: j.Ending,
	}
	if v, ok := j.Usage.CPU.Seconds(); ok {
		out.CPU = &v
	}
	if v, ok := j.Usage.Memory.Value(); ok {
		out.Memory = &v
	}
	if out.Project == "" {
		out.Project = j.Info.ProjectName
	}
	if j.Directive != job.GoOn {
		out.Directive = j.Directive.String()
	}
	if n := len(j.Timeline); n > 0 {
		last := j.Timeline[n-1]
		out.StageSince = last.Start.Add(last.Took).UTC()
	}
	if j.Phase != "" {
		out.Stage, out.StageSince = string(j.Phase), j.PhaseSince.UTC()
	}
	return out
}

func (p presenter) timeline(all []board.Phase) []api.Phase {
	out := make([]api.Phase, 0, len(all))
	for _, f := range all {
		out = append(out, api.Phase{Phase: string(f.Phase), Start: f.Start.UTC(), Took: f.Took.Seconds(), Failed: f.Failed, Error: p.err(f.Err)})
	}
	return out
}

func (p presenter) finished(f *board.Finished) api.Finished {
	out := api.Finished{
		Job: p.job(&f.Job), Ended: f.Ended.UTC(), Took: f.Took.Seconds(), Result: api.Success, Reason: string(f.Outcome.Reason),
		ExitCode: f.Outcome.ExitCode, Error: p.err(f.Outcome.Err), Delivery: f.Delivery.Seconds(), Lost: f.Lost, Timeline: p.timeline(f.Timeline),
	}
	switch {
	case f.Refused:
		out.Result = api.Refused
	case f.Outcome.Reason == job.Canceled:
		out.Result = api.Canceled
	case !f.Outcome.OK():
		out.Result = api.Failed
	}
	if out.Error == "" {
		out.Error = p.err(f.DeliveryErr)
	}
	return out
}

func (p presenter) snapshot(snap *board.Snapshot) api.Snapshot {
	out := api.Snapshot{
		Status: p.status(snap), Runners: p.runners(snap.Runners),
		Jobs: make([]api.Job, 0, len(snap.Jobs)), Finished: make([]api.Finished, 0, len(snap.Finished)),
	}
	for i := range snap.Jobs {
		out.Jobs = append(out.Jobs, p.job(&snap.Jobs[i]))
	}
	for _, f := range snap.Finished {
		out.Finished = append(out.Finished, p.finished(f))
	}
	slices.SortStableFunc(out.Finished, func(a, b api.Finished) int { return a.Ended.Compare(b.Ended) })
	return out
}

// history makes lists of points.
func (p presenter) history(tier history.Tier, points []history.Point) api.History {
	h := api.History{Step: tier.Step.Seconds()}
	for i := range points {
		pt := &points[i]
		if i == 0 {
			h.Start = pt.Start.UTC()
		}
		known := pt.Sampled
		h.Running, h.Slots = append(h.Running, ifKnown(known, pt.Running)), append(h.Slots, ifKnown(known, pt.Slots))
		h.Lag = append(h.Lag, ifKnown(known, pt.Lag.Seconds()))
		h.Succeeded, h.Failed = append(h.Succeeded, ifKnown(known, pt.Succeeded)), append(h.Failed, ifKnown(known, pt.Failed))
		h.Errored, h.Canceled = append(h.Errored, ifKnown(known, pt.Errored)), append(h.Canceled, ifKnown(known, pt.Canceled))
		h.Requests, h.RequestErrors = append(h.Requests, ifKnown(known, pt.Calls)), append(h.RequestErrors, ifKnown(known, pt.CallsBad))
		h.WaitMedian, h.WaitP95 = append(h.WaitMedian, quantile(&pt.Wait, 0.5)), append(h.WaitP95, quantile(&pt.Wait, 0.95))
		h.LatencyMedian, h.LatencyP95 = append(h.LatencyMedian, quantile(&pt.Latency, 0.5)), append(h.LatencyP95, quantile(&pt.Latency, 0.95))
	}
	return h
}

func ifKnown[T any](known bool, v T) *T {
	if !known {
		return nil
	}
	return &v
}

func quantile(h *history.Histogram, q float64) *float64 {
	v := h.Quantile(q)
	if math.IsNaN(v) {
		return nil
	}
	v = math.Round(v*1e4) / 1e4
	return &v
}
