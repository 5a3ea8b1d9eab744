package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/event"
)

// containers is where the time goes before a job's script begins: images and
// services.
type containers struct {
	pulls, services histogramVec
	bytes           counterVec
}

// pull is what labels an image's duration, besides its runner.
type pull struct{ policy, result string }

// containersRunner holds the children of one runner, made when they are used
// first: most executors have none.
type containersRunner struct {
	pulls    map[pull]prometheus.Observer
	bytes    map[string]prometheus.Counter
	services map[bool]prometheus.Observer
}

func newContainers(c *catalogue) containers {
	const lazily = "Series exist from their first use on: only executors with containers have them."
	return containers{
		pulls: c.histogram(def{
			name: "glassrunner_image_pull_duration_seconds", help: "How long it took to make sure that a container image is there.", sets: sets{"policy": policies(), "result": {"pulled", "present", "failed"}}, labels: runnerLabels("policy", "result"),
			buckets: []float64{0.1, 1, 5, 15, 60, 300},
			values:  "policy: always, if-not-present, never, other; result: pulled, present (nothing to pull), failed",
			note:    lazily,
		}),
		bytes: c.counter(def{
			name: "glassrunner_image_pull_bytes_total", help: "Bytes of container images that were downloaded, as the engine reports them.", sets: sets{"policy": policies()}, labels: runnerLabels("policy"),
			values: "policy: always, if-not-present, never, other", note: lazily,
		}),
		services: c.histogram(def{
			name: "glassrunner_service_ready_duration_seconds", help: "Time from the start of a job's service until it accepted a connection or was given up.", sets: sets{"result": {"ready", "failed"}}, labels: runnerLabels("result"),
			buckets: []float64{0.1, 0.5, 2, 5, 15, 30, 60},
			values:  "result: ready, failed (the job goes on all the same)", note: lazily,
		}),
	}
}

// policyLabel and resultLabel bound what executors say.
func policyLabel(p string) string {
	switch p {
	case "always", "if-not-present", "never":
		return p
	}
	return "other"
}

func resultLabel(r string) string {
	switch r {
	case "pulled", "present":
		return r
	}
	return "failed"
}

func (m *containers) observe(r *oursRunner, fact event.Fact) {
	switch f := fact.(type) {
	case event.ImagePulled:
		m.pulled(r, f)
	case event.ServiceReady:
		o := r.containers.services[f.OK]
		if o == nil {
			result := "failed"
			if f.OK {
				result = "ready"
			}
			o = m.services.with(r.short, r.name, r.system, result)
			if r.containers.services == nil {
				r.containers.services = make(map[bool]prometheus.Observer, 2)
			}
			r.containers.services[f.OK] = o
		}
		o.Observe(max(0, f.Took.Seconds()))
	default:
	}
}

func (m *containers) pulled(r *oursRunner, f event.ImagePulled) {
	k := pull{policyLabel(f.Policy), resultLabel(f.Result)}
	o := r.containers.pulls[k]
	if o == nil {
		if r.containers.pulls == nil {
			r.containers.pulls = make(map[pull]prometheus.Observer)
			r.containers.bytes = make(map[string]prometheus.Counter)
		}
		o = m.pulls.with(r.short, r.name, r.system, k.policy, k.result)
		r.containers.pulls[k] = o
	}
	o.Observe(max(0, f.Took.Seconds()))
	b := r.containers.bytes[k.policy]
	if b == nil {
		b = m.bytes.with(r.short, r.name, r.system, k.policy)
		r.containers.bytes[k.policy] = b
	}
	b.Add(float64(max(0, f.Bytes)))
}
