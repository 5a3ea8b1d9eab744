package config

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/hashicorp/cronexpr"
)

// QueueThreshold says whether a job waited too long. configured is whether
// the runner has [[runners.monitoring.job_queuing_durations]] entries at all.
// The last entry one of whose periods contains now decides: exceeded is true
// when the job was queued for longer than its threshold and projectJobs, the
// number of running jobs of the project as GitLab reports it, matches its
// expression. An entry that does not compile never applies; [Load] refuses it.
func (r *Runner) QueueThreshold(now time.Time, queued time.Duration, projectJobs string) (configured, exceeded bool) {
	if r.Monitoring == nil || len(r.Monitoring.JobQueuingDurations) == 0 {
		return false, false
	}
	entries := r.Monitoring.JobQueuingDurations
	for i := len(entries) - 1; i >= 0; i-- {
		q := &entries[i]
		if !q.contains(now) {
			continue
		}
		if q.Threshold <= 0 || queued <= q.Threshold {
			return true, false
		}
		matches, err := regexp.MatchString(q.JobsRunningForProject, projectJobs)
		return true, err == nil && matches
	}
	return true, false
}

// contains says whether one of the periods contains now.
func (q *QueuingDuration) contains(now time.Time) bool {
	zone, err := location(q.Timezone)
	if err != nil {
		return false
	}
	for _, period := range q.Periods {
		expr, err := parseCron(period)
		if err == nil && inPeriod(expr, now.In(zone)) {
			return true
		}
	}
	return false
}

// inPeriod says whether the expression fires within a second from now, which
// is how GitLab Runner makes periods of points in time.
func inPeriod(expr *cronexpr.Expression, now time.Time) bool {
	next := expr.Next(now)
	return !next.IsZero() && next.Sub(now) <= time.Second
}

// location returns a time zone by name; the local one for no name.
func location(name string) (*time.Location, error) {
	if name == "" {
		return time.Local, nil
	}
	return time.LoadLocation(name)
}

// parseCron parses a cron expression of five to seven fields.
func parseCron(text string) (*cronexpr.Expression, error) {
	const longest = 1000
	if len(text) > longest {
		return nil, fmt.Errorf("longer than %d characters", longest)
	}
	return cronexpr.Parse(text)
}

// everySecond says whether a cron expression has seven fields of which the
// first stands for every second, so that it covers periods without gaps.
func everySecond(text string) bool {
	fields := strings.Fields(text)
	return len(fields) >= 7 && (fields[0] == "*" || fields[0] == "0-59" || fields[0] == "*/1")
}

// Contains says whether the policy holds at a moment: whether one of its
// periods fires within the minute of now, in the policy's time zone. A policy
// without periods always holds.
func (s *ScalingPolicy) Contains(now time.Time) bool {
	if len(s.Periods) == 0 {
		return true
	}
	zone, err := location(s.Timezone)
	if err != nil {
		return false
	}
	minute := now.In(zone).Truncate(time.Minute)
	for _, period := range s.Periods {
		expr, err := parseCron(period)
		if err != nil {
			continue // Load refuses it
		}
		if next := expr.Next(minute.Add(-time.Nanosecond)); !next.IsZero() && next.Before(minute.Add(time.Minute)) {
			return true
		}
	}
	return false
}
