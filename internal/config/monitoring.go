package config

import (
	"time"
)

// Monitoring is [runners.monitoring].
type Monitoring struct {
	UsageInJobLog       *bool             `toml:"usage_in_job_log" default:"true" ours:"true" doc:"Say at the end of a job's log how much processor time, memory and disk traffic the job used."`
	OverdueFactor       *float64          `toml:"overdue_factor" default:"3" ours:"true" doc:"A job is overdue that runs this many times as long as 95 % of the runner's last jobs; 0 calls none overdue."`
	OverdueMinJobs      int               `toml:"overdue_min_jobs" default:"20" ours:"true" doc:"Number of jobs that the runner must have finished before any is called overdue."`
	JobQueuingDurations []QueuingDuration `toml:"job_queuing_durations" doc:"How long jobs may wait; the last entry whose period contains now decides."`
	PricePerHour        float64           `toml:"price_per_hour" ours:"true" doc:"What an hour of a job costs on this runner, in units of your choice; for glassrunner_project_cost_units_total."`
}

// Defaults of [runners.monitoring].
const (
	defaultOverdueFactor  = 3
	defaultOverdueMinJobs = 20
)

// UsageInJobLog says whether a job's log ends with what the job used.
func (r *Runner) UsageInJobLog() bool {
	return r.Monitoring == nil || r.Monitoring.UsageInJobLog == nil || *r.Monitoring.UsageInJobLog
}

// Overdue returns how many times as long as 95 % of the last jobs one may take
// until it is called overdue, and how many must have ended before. With a
// factor of 0 none is.
func (r *Runner) Overdue() (factor float64, minJobs int) {
	factor, minJobs = defaultOverdueFactor, defaultOverdueMinJobs
	if r.Monitoring == nil {
		return factor, minJobs
	}
	if f := r.Monitoring.OverdueFactor; f != nil {
		factor = max(*f, 0)
	}
	return factor, positive(r.Monitoring.OverdueMinJobs, defaultOverdueMinJobs)
}

// QueuingDuration is one of [[runners.monitoring.job_queuing_durations]]: the
// longest time that a job may wait during certain periods.
type QueuingDuration struct {
	Periods               []string      `toml:"periods" doc:"Cron expressions of seven fields: second, minute, hour, day, month, weekday, year."`
	Timezone              string        `toml:"timezone" doc:"Time zone of the periods; the local one when empty."`
	Threshold             time.Duration `toml:"threshold" doc:"Longest acceptable time in the queue; 0 turns the entry off."`
	JobsRunningForProject string        `toml:"jobs_running_for_project" doc:"Regular expression for the number of running jobs of the project that GitLab reports; empty matches all."`
}

// Referees is [runners.referees].
type Referees struct {
	Metrics *MetricsReferee `toml:"metrics" doc:"Metrics collected about the job's host."`
}

// MetricsReferee is [runners.referees.metrics].
type MetricsReferee struct {
	PrometheusAddress string   `toml:"prometheus_address" doc:"Address of the Prometheus server."`
	QueryInterval     int      `toml:"query_interval" unit:"s" doc:"Resolution of the queries."`
	Queries           []string `toml:"queries" doc:"Queries, each as name:expression."`
}
