package logs

import (
	"log/slog"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// observeJob logs the facts of a job.
func (o *Observer) observeJob(e event.Event) {
	k := runKey{e.Run, e.Job}
	switch f := e.Fact.(type) {
	case event.JobReceived:
		o.project[k] = f.Info.ProjectID
		o.say(e, slog.LevelInfo, "Checking for jobs... received", slog.String("repo_url", f.RepoURL))
		if len(o.project) > 16*maxState {
			clear(o.project) // only a field of later entries
		}
	case event.JobStarted:
		o.running++
		o.project[k] = f.Info.ProjectID
		o.say(e, slog.LevelInfo, "Added job to processing list", slog.Int("builds", o.running), slog.String("url", f.URL),
			slog.String("name", f.Info.Name), slog.Float64("time_in_queue_s", f.Info.TimeInQueue.Seconds()))
	case event.JobState:
		o.say(e, slog.LevelDebug, "Job state changed", slog.String("state", string(f.State)))
	case event.ExecutorStage:
		o.say(e, slog.LevelDebug, "Executor stage changed", slog.String("executor_stage", f.Stage))
	case event.PhaseStarted:
		o.say(e, slog.LevelDebug, "Phase started", slog.String("phase", string(f.Phase)))
	case event.PhaseFinished:
		level := slog.LevelDebug
		if f.Panicked {
			level = slog.LevelError
		}
		o.say(e, level, "Phase finished", slog.String("phase", string(f.Phase)), slog.Float64("duration_s", f.Took.Seconds()),
			slog.Bool("panicked", f.Panicked), errField(f.Err))
	case event.LogSent:
		o.logSent(e, f, k)
	case event.Directed:
		if f.Directive != job.GoOn {
			o.say(e, slog.LevelInfo, "Job is to be stopped", slog.String("directive", f.Directive.String()))
		}
	case event.JobFinished:
		o.finished(e, f)
	case event.JobRemoved:
		o.removed(e, f, k)
	case event.JobRefused:
		if f.Reason == job.NoReason {
			o.say(e, slog.LevelInfo, "Job was taken back before it ran", errField(f.Err))
		} else {
			o.say(e, slog.LevelWarn, "Job was refused", slog.String("reason", string(f.Reason)), errField(f.Err))
		}
		delete(o.project, k)
	case event.InterpolationFailed:
		o.say(e, slog.LevelDebug, "Job inputs could not be interpolated", slog.String("error_type", f.Kind))
	default:
	}
}

func (o *Observer) logSent(e event.Event, f event.LogSent, k runKey) {
	if !f.Failed {
		o.say(e, slog.LevelDebug, "Appending trace to coordinator... ok", slog.Int64("bytes", f.Bytes), slog.Int64("total", f.Total), slog.Float64("duration_s", f.Took.Seconds()))
		if t := o.sending[k]; t != nil {
			delete(o.sending, k)
			o.say(e, slog.LevelInfo, "Appending trace to coordinator works again", slog.Float64("failed_for_s", e.Time.Sub(t.since).Seconds()))
		}
		return
	}
	t := o.sending[k]
	if t == nil {
		t = new(trouble)
		o.sending[k] = t
	}
	if unsaid, say := t.again(e.Time); say {
		o.say(e, slog.LevelWarn, "Appending trace to coordinator...failed", slog.Int64("bytes", f.Bytes), slog.Int64("total", f.Total), slog.Int("repeated", unsaid))
	}
}

func (o *Observer) finished(e event.Event, f event.JobFinished) {
	took := slog.Float64("duration_s", f.Took.Seconds())
	if f.Outcome.OK() {
		o.say(e, slog.LevelInfo, "Job succeeded", took)
		return
	}
	text := string(f.Outcome.Reason)
	if f.Outcome.Err != nil {
		text = f.Outcome.Err.Error()
	}
	fields := []slog.Attr{took, slog.String("failure_reason", string(f.Outcome.Reason))}
	if f.Outcome.ExitCode != 0 {
		fields = append(fields, slog.Int("exit_code", f.Outcome.ExitCode))
	}
	if f.Outcome.Reason == job.SystemFailure {
		o.say(e, slog.LevelError, "Job failed (system failure): "+text, fields...)
		return
	}
	o.say(e, slog.LevelWarn, "Job failed: "+text, fields...)
}

func (o *Observer) removed(e event.Event, f event.JobRemoved, k runKey) {
	fields := []slog.Attr{slog.Float64("delivery_s", f.Took.Seconds()), errField(f.Err)}
	if f.Lost {
		o.say(e, slog.LevelError, "Submitting job to coordinator...failed", fields...)
	} else {
		o.say(e, slog.LevelInfo, "Submitting job to coordinator... ok", fields...)
	}
	o.running = max(0, o.running-1)
	o.say(e, slog.LevelInfo, "Removed job from processing list", slog.Int("builds", o.running))
	delete(o.project, k)
	delete(o.sending, k)
}
