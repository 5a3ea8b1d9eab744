package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/event"
)

// roles are GitLab Runner's metrics of the roles that are assumed for caches.
type roles struct {
	inFlight, cached       prometheus.Gauge
	wait, duration         prometheus.Observer
	hits, misses, failures prometheus.Counter

	kept map[string]time.Time // by holder: until when
}

func newRoles(c *catalogue) *roles {
	const prefix = "gitlab_runner_cache_s3_assume_role_"
	const note = "Moves only with RoleARN or UploadRoleARN in [runners.cache.s3]."
	gauge := func(name, help, note string) prometheus.Gauge {
		return c.gauge(def{name: prefix + name, help: help, note: note}).with()
	}
	histogram := func(name, help, note string, buckets ...float64) prometheus.Observer {
		return c.histogram(def{name: prefix + name, help: help, buckets: buckets, note: note}).with()
	}
	counter := func(name, help, note string) prometheus.Counter {
		return c.counter(def{name: prefix + name, help: help, note: note}).with()
	}
	return &roles{
		inFlight: gauge("requests_in_flight", "Number of AssumeRole requests to AWS STS in progress.", note),
		wait: histogram("wait_seconds", "Wait time to acquire a concurrency slot before an AssumeRole request.", note+" Nothing is observed with AssumeRoleMaxConcurrency = -1.",
			0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
		duration: histogram("duration_seconds", "Duration of AssumeRole API calls to AWS STS.", note, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
		hits:     counter("cache_hits_total", "Number of AssumeRole credential cache hits.", note),
		misses:   counter("cache_misses_total", "Number of AssumeRole credential cache misses (This is also a count of the STS calls for cache credentials that were made).", note),
		cached:   gauge("cached_credentials", "Current number of AssumeRole credentials held in the LRU cache.", "One for each role of a runner entry: jobs get signed addresses, so that credentials need not be made for each object."),
		failures: counter("failures_total", "Number of AssumeRole requests which failed.", note),
		kept:     make(map[string]time.Time),
	}
}

func (m *roles) observe(ev event.Event) {
	switch f := ev.Fact.(type) {
	case event.RoleCalling:
		if f.Done {
			m.inFlight.Dec()
		} else {
			m.inFlight.Inc()
		}
	case event.RoleCredentials:
		m.credentials(f)
	default:
	}
	for holder, until := range m.kept { // a few at most
		if ev.Time.After(until) {
			delete(m.kept, holder)
			m.cached.Set(float64(len(m.kept)))
		}
	}
}

func (m *roles) credentials(f event.RoleCredentials) {
	if f.Limited {
		m.wait.Observe(max(0, f.Waited.Seconds()))
	}
	if f.Kept {
		m.hits.Inc()
		return
	}
	m.misses.Inc()
	m.duration.Observe(max(0, f.Took.Seconds()))
	if !f.OK {
		m.failures.Inc()
		return
	}
	if !f.Until.IsZero() {
		m.kept[f.Holder] = f.Until
		m.cached.Set(float64(len(m.kept)))
	}
}
