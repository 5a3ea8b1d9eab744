package rules

import (
	"fmt"
	"strings"
)

// The service level of the queue: of all jobs, lateBudget may wait longer than
// onTime seconds. onTime must be a bound of the histogram's buckets.
const (
	onTime     = 60
	lateBudget = 0.05
)

// byRunner are the labels of a runner as GitLab sees it: several processes
// with one token are one runner.
const byRunner = "job, runner, runner_name"

// records are what several alerts and panels ask for, or what is too much to
// compute for each of them.
func records() Group {
	g := Group{Name: "glassrunner.rules"}
	for _, window := range []string{"5m", "30m", "1h", "6h"} {
		g.Records = append(g.Records, Record{"runner:job_queue_late:ratio_rate" + window, late(window)})
	}
	for _, window := range []string{"1h", "6h"} {
		g.Records = append(g.Records, Record{
			"runner:jobs_started:increase" + window,
			fmt.Sprintf("sum by (%s) (increase(gitlab_runner_jobs_total[%s]))", byRunner, window),
		})
	}
	g.Records = append(g.Records, Record{
		"runner:jobs_finished:increase30m",
		fmt.Sprintf("sum by (%s) (increase(glassrunner_jobs_finished_total[30m]))", byRunner),
	})
	for _, window := range []string{"30m", "1d"} {
		g.Records = append(g.Records, Record{"runner_reason:jobs_failed:ratio_rate" + window, failed(window)})
	}
	return Group{Name: g.Name, Records: append(g.Records,
		Record{
			"runner_reason:capacity_blocked:ratio_rate15m",
			fmt.Sprintf("avg by (%s, reason) (rate(glassrunner_capacity_blocked_seconds_total[15m]))", byRunner),
		},
		Record{
			"instance:job_slots:utilisation",
			"sum by (job, instance) (glassrunner_jobs_running) / sum by (job, instance) (glassrunner_concurrent)",
		},
	)}
}

// late is the share of the jobs that waited too long. A Prometheus that
// scrapes native histograms may have no classic buckets, so both are asked.
func late(window string) string {
	return strings.NewReplacer("BY", byRunner, "WINDOW", window, "BOUND", fmt.Sprint(onTime)).Replace(`
	1 - sum by (BY) (rate(gitlab_runner_job_queue_duration_seconds_bucket{le=~"BOUND(\\.0)?"}[WINDOW]))
	  / sum by (BY) (rate(gitlab_runner_job_queue_duration_seconds_count[WINDOW]))
	or
	1 - histogram_fraction(0, BOUND, sum by (BY) (rate(gitlab_runner_job_queue_duration_seconds[WINDOW])))`)
}

// failed is the share of the finished jobs that failed for each reason.
func failed(window string) string {
	return strings.NewReplacer("BY", byRunner, "WINDOW", window).Replace(`
	sum by (BY, reason) (rate(glassrunner_jobs_finished_total{result="failed"}[WINDOW]))
	  / on (BY) group_left () sum by (BY) (rate(glassrunner_jobs_finished_total[WINDOW]))`)
}
