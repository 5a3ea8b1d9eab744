package config

import (
	"time"
)

// Monitoring is [runners.monitoring].
type Monitoring struct {
	JobQueuingDurations []QueuingDuration `toml:"job_queuing_durations" doc:"How long jobs may wait; the last entry whose period contains now decides."`
	PricePerHour        float64           `toml:"price_per_hour" ours:"true" doc:"What an hour of a job costs on this runner, in units of your choice; for glassrunner_project_cost_units_total."`
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
