package app

import (
	"fmt"
	"io"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/admin"
	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/board"
	"github.com/glassrunner/glassrunner/internal/observe/metrics"
)

// fromServer registers what the monitoring server counts of itself.
func fromServer(r prometheus.Registerer) {
	admin.New(admin.Options{Registry: r, Board: board.New(board.Options{})})
}

// MetricReference writes what is known of every metric that a process of this
// build can show, as Markdown.
func MetricReference(w io.Writer) error { return metrics.Reference(w, fromServer) }

// MetricList writes the contract of every metric, as "json" or "text".
func MetricList(w io.Writer, format string) error {
	all, err := metrics.List(fromServer)
	if err != nil {
		return err
	}
	if format == "json" {
		return metrics.WriteJSON(w, all)
	}
	return metrics.WriteText(w, all)
}

// MetricSimulation writes how many series a configuration will have, as
// "json" or "text". Nothing is run and nothing is written.
func MetricSimulation(w io.Writer, path, format string) error {
	c, report, err := config.Load(path, config.Options{})
	if err != nil {
		return err
	}
	if report.Missing {
		return fmt.Errorf("there is no %s", path)
	}
	loaded := event.ConfigLoaded{Generation: 1, Concurrent: c.Concurrency(), TopProjects: c.TopProjects()}
	for i := range c.Runners {
		r := &c.Runners[i]
		loaded.Runners = append(loaded.Runners, limitsOf(r, job.Runner{
			Short: r.ShortToken(), Name: r.Name, SystemID: "s_000000000000", Executor: r.Executor,
		}))
	}
	all, err := metrics.Simulate(loaded, metrics.Options{}, fromServer)
	if err != nil {
		return err
	}
	if format == "json" {
		return metrics.WriteCountsJSON(w, all)
	}
	return metrics.WriteCounts(w, all)
}
