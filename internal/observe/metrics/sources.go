package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/event"
)

// strategies are the ways to get sources that get any.
func strategies() []string { return []string{"clone", "fetch"} }

// travel counts what goes in and out of jobs besides caches and artifacts:
// sources and pieces of logs.
type travel struct {
	fetches         histogramVec
	failed, patches counterVec
}

// runnerTravel are the children of one runner.
type runnerTravel struct {
	fetches                   map[string]prometheus.Observer
	failed                    map[string]prometheus.Counter
	patchAccepted, patchFails prometheus.Counter
}

func newTravel(c *catalogue) travel {
	const values = "strategy: clone, fetch"
	strategies := sets{"strategy": {"clone", "fetch"}}
	return travel{
		fetches: c.histogram(def{
			name: "glassrunner_source_fetch_duration_seconds", help: "Time that getting a job's sources took, submodules and hooks included.",
			labels: runnerLabels("strategy"), sets: strategies, values: values, buckets: []float64{0.1, 1, 10, 60, 600},
			note: "Jobs that fetch nothing (none, empty) and tries that failed are not observed; see glassrunner_source_fetch_failures_total.",
		}),
		failed: c.counter(def{
			name: "glassrunner_source_fetch_failures_total", help: "Tries to get a job's sources that failed, cancels included.", labels: runnerLabels("strategy"), sets: strategies, values: values,
		}),
		patches: c.counter(def{
			name: "glassrunner_job_log_patches_total", help: "Pieces of job logs that were sent, repeated ones included.", labels: runnerLabels("result"),
			sets: sets{"result": {"accepted", "failed"}}, values: "result: accepted, failed",
		}),
	}
}

// addRunner makes all series of a runner.
func (m *travel) addRunner(l labels) runnerTravel {
	r := runnerTravel{fetches: map[string]prometheus.Observer{}, failed: map[string]prometheus.Counter{}}
	for _, s := range strategies() {
		r.fetches[s] = m.fetches.with(l.short, l.name, l.system, s)
		r.failed[s] = m.failed.with(l.short, l.name, l.system, s)
	}
	r.patchAccepted = m.patches.with(l.short, l.name, l.system, "accepted")
	r.patchFails = m.patches.with(l.short, l.name, l.system, "failed")
	return r
}

func (m *travel) dropRunner(l prometheus.Labels) {
	m.fetches.drop(l)
	m.failed.drop(l)
	m.patches.drop(l)
}

func (r *runnerTravel) observe(f event.Fact) {
	switch f := f.(type) {
	case event.SourcesFetched:
		o := r.fetches[f.Strategy]
		switch {
		case o == nil: // none of the fixed set
		case f.OK:
			o.Observe(max(0, f.Took.Seconds()))
		default:
			r.failed[f.Strategy].Inc()
		}
	case event.LogSent:
		if f.Failed {
			r.patchFails.Inc()
		} else {
			r.patchAccepted.Inc()
		}
	default:
	}
}
