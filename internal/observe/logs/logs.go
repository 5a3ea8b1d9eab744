// Package logs writes the process log: an observer that says in words what
// the stream of events tells, and the handlers that print it.
//
// Messages and field names are those that operators of GitLab Runner search
// for. An ordinary failed job is a warning, a failure of the system an error.
// What goes wrong again and again, such as a coordinator that cannot be
// reached, is said once, then once a minute with a count, and once more when
// it is over.
package logs

import (
	"context"
	"log/slog"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// Observer is an event.Observer that logs. One goroutine at a time may call
// it, as a Bus does.
type Observer struct {
	log     *slog.Logger
	running int
	project map[runKey]int64
	health  map[job.Runner]bool // switched off
	polls   map[job.Runner]*trouble
	sending map[runKey]*trouble
	last    map[job.Runner]event.Called // failed request_job before its Polled

	disks   map[diskKey]*trouble
	blocked map[diskKey]bool
	orphans map[string]int
}

type runKey struct {
	run uint64
	id  job.ID
}

// trouble is something that fails again and again.
type trouble struct {
	since, said time.Time
	unsaid      int
}

// repeatAfter is how often trouble that goes on is said again.
const repeatAfter = time.Minute

// Fields that join an entry to a job's trace.
const (
	traceID = "trace_id"
	spanID  = "span_id"
)

// maxState bounds what is remembered of runners that may have gone.
const maxState = 1024

// New returns an observer that writes to log.
func New(log *slog.Logger) *Observer {
	return &Observer{
		log:     log,
		project: make(map[runKey]int64),
		health:  make(map[job.Runner]bool),
		polls:   make(map[job.Runner]*trouble),
		sending: make(map[runKey]*trouble),
		last:    make(map[job.Runner]event.Called),

		disks: make(map[diskKey]*trouble), blocked: make(map[diskKey]bool),
		orphans: make(map[string]int),
	}
}

// say logs an entry with the scope of e and fields.
func (o *Observer) say(e event.Event, level slog.Level, msg string, fields ...slog.Attr) {
	ctx := context.Background() // observers have none
	if !o.log.Enabled(ctx, level) {
		return
	}
	all := make([]slog.Attr, 0, 7+len(fields))
	if e.Job != 0 {
		all = append(all, slog.Int64("job", int64(e.Job)))
		if p, ok := o.project[runKey{e.Run, e.Job}]; ok {
			all = append(all, slog.Int64("project", p))
		}
	}
	all = append(all, fields...)
	if e.Runner.Short != "" {
		all = append(all, slog.String("runner", e.Runner.Short))
		if e.Runner.Name != "" {
			all = append(all, slog.String("runner_name", e.Runner.Name))
		}
	}
	if e.Trace.Sampled {
		all = append(all, slog.String(traceID, e.Trace.ID.String()), slog.String(spanID, e.Trace.Span.String()))
	}
	o.log.LogAttrs(ctx, level, msg, all...) //nolint:sloglint // the callers' messages are constants
}

// Observe logs e if it is worth it.
func (o *Observer) Observe(e event.Event) {
	switch f := e.Fact.(type) {
	case event.ConfigLoaded:
		o.configLoaded(e, f)
	case event.ConfigSaved:
		if f.Err != nil {
			o.say(e, slog.LevelError, "Failed to save the configuration", errField(f.Err))
		} else {
			o.say(e, slog.LevelInfo, "Configuration saved")
		}
	case event.ProcessChanged:
		o.say(e, slog.LevelDebug, "Process state changed", slog.String("state", f.State))
	case event.Draining:
		o.draining(e, f)
	case event.ListenerChanged:
		o.listener(e, f)
	case event.WebConfigLoaded:
		o.webConfigLoaded(e, f)
	case event.ListenerExposed:
		o.exposed(e, f)
	case event.SlotsChanged:
		o.say(e, slog.LevelDebug, "Worker slots changed", slog.Int("slots", f.Slots), slog.Int("started", f.Started), slog.Int("stopped", f.Stopped))
	case event.FeedSkipped:
		o.say(e, slog.LevelDebug, "Runner is not asked for jobs", slog.String("why", f.Why))
	case event.TurnFailed:
		if f.Kind != "job_failure" {
			o.say(e, slog.LevelDebug, "Failed to process runner", slog.String("kind", f.Kind))
		}
	case event.HealthChecked:
		o.healthChecked(e, f)
	case event.Called:
		o.called(e, f)
	case event.Polled:
		o.polled(e, f)
	case event.TokenReset:
		if f.Err != nil {
			o.say(e, slog.LevelError, "Failed to reset the runner token", errField(f.Err))
		} else {
			o.say(e, slog.LevelInfo, "Runner token was reset")
		}
	case event.Recovered:
		o.recovered(e, f)
	case event.DiskMeasured:
		o.diskMeasured(e, f)
	case event.DiskSearched:
		o.diskSearched(e, f)
	case event.DiskForgotten:
		o.diskForgotten(f)
	case event.OrphansCounted:
		o.orphansCounted(e, f)
	case event.Degraded:
		if f.What == event.RunnerEntry {
			o.say(e, slog.LevelError, "This runner takes no jobs", errField(f.Err))
			return
		}
		o.say(e, slog.LevelWarn, "Something went wrong that costs no job its result", slog.String("what", f.What), errField(f.Err))
	default:
		o.observeJob(e)
	}
}

func errField(err error) slog.Attr {
	if err == nil {
		return slog.Attr{}
	}
	return slog.String("error", err.Error())
}

func (o *Observer) configLoaded(e event.Event, f event.ConfigLoaded) {
	if f.Err != nil {
		o.say(e, slog.LevelError, "Failed to load the configuration", slog.String("config", f.Path), errField(f.Err))
		return
	}
	o.say(e, slog.LevelInfo, "Configuration loaded", slog.String("config", f.Path), slog.Int("generation", f.Generation),
		slog.Int("concurrent", f.Concurrent), slog.Int("runners", len(f.Runners)), slog.Int("warnings", f.Warnings), slog.Int("builds", o.running))
	if len(o.health)+len(o.polls)+len(o.last) > maxState {
		clear(o.health)
		clear(o.polls)
		clear(o.last)
	}
}

func (o *Observer) draining(e event.Event, f event.Draining) {
	fields := []slog.Attr{slog.String("StopSignal", f.Signal), slog.Int("builds", f.Running)}
	if f.Forced {
		o.say(e, slog.LevelWarn, "Starting forceful shutdown", fields...)
		return
	}
	o.say(e, slog.LevelInfo, "Starting graceful shutdown, waiting for builds to finish", fields...)
}

func (o *Observer) healthChecked(e event.Event, f event.HealthChecked) {
	off := !f.DisabledUntil.IsZero()
	was := o.health[e.Runner]
	switch {
	case off && !was:
		o.health[e.Runner] = true
		o.say(e, slog.LevelError, "Runner is not healthy and will be disabled!", slog.Int("unhealthy_requests", f.Failures), slog.Time("disabled_until", f.DisabledUntil))
	case !off && was:
		delete(o.health, e.Runner)
		if f.OK {
			o.say(e, slog.LevelInfo, "Runner is healthy again")
		}
	}
}

func (o *Observer) called(e event.Event, f event.Called) {
	o.say(e, slog.LevelDebug, "Called the coordinator", slog.String("endpoint", f.Endpoint), slog.String("method", f.Method),
		slog.Int("code", f.Status), slog.Int("attempts", f.Attempts), slog.String("class", string(f.Class)), slog.Float64("duration_s", f.Took.Seconds()))
	if f.Endpoint == "request_job" {
		if f.Class != "" || f.Status >= 400 {
			o.last[e.Runner] = f
		} else {
			delete(o.last, e.Runner)
		}
	}
}

func (o *Observer) polled(e event.Event, f event.Polled) {
	switch f.Result {
	case "job", "none":
		if f.Result == "none" {
			o.say(e, slog.LevelDebug, "Checking for jobs... nothing")
		}
		if t := o.polls[e.Runner]; t != nil {
			delete(o.polls, e.Runner)
			o.say(e, slog.LevelInfo, "Checking for jobs works again", slog.Float64("failed_for_s", e.Time.Sub(t.since).Seconds()))
		}
		return
	}
	t := o.polls[e.Runner]
	if t == nil {
		t = new(trouble)
		o.polls[e.Runner] = t
	}
	unsaid, say := t.again(e.Time)
	if !say {
		return
	}
	fields := make([]slog.Attr, 0, 5)
	if c, ok := o.last[e.Runner]; ok {
		fields = append(fields, slog.Int("code", c.Status), slog.Int("attempts", c.Attempts))
		if c.Class != "" {
			fields = append(fields, slog.String("class", string(c.Class)))
		}
		if c.Err != nil {
			fields = append(fields, errField(c.Err))
		}
	}
	if unsaid > 0 {
		fields = append(fields, slog.Int("repeated", unsaid))
	}
	if f.Result == "forbidden" {
		o.say(e, slog.LevelError, "Checking for jobs... forbidden", fields...)
		return
	}
	o.say(e, slog.LevelWarn, "Checking for jobs... failed", fields...)
}

// again notes that the trouble goes on. It returns whether to say so, and
// how often that was not done since the last time.
func (t *trouble) again(now time.Time) (unsaid int, say bool) {
	if t.since.IsZero() {
		t.since = now
	}
	if !t.said.IsZero() && now.Sub(t.said) < repeatAfter {
		t.unsaid++
		return 0, false
	}
	unsaid, t.unsaid, t.said = t.unsaid, 0, now
	return unsaid, true
}

func (o *Observer) recovered(e event.Event, f event.Recovered) {
	fields := []slog.Attr{slog.Int64("job", int64(f.Job)), slog.Int("killed", f.Killed), slog.Int64("late_log_bytes", f.Unsent)}
	e.Job = 0
	if f.Err != nil {
		o.say(e, slog.LevelError, "Failed to settle a job that an earlier process left behind", append(fields, errField(f.Err))...)
		return
	}
	o.say(e, slog.LevelWarn, "Settled a job that an earlier process left behind", fields...)
}
