package metrics

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/event"
)

// What can come of caches and artifacts; see event.CacheDone and event.ArtifactDone.
func cacheResults() map[string][]string {
	return map[string][]string{
		"restore": {"hit", "stale", "miss", "error"},
		"save":    {"stored", "unchanged", "empty", "too_large", "error"},
	}
}

func artifactResults() map[string][]string {
	return map[string][]string{
		"upload":   {"ok", "empty", "too_large", "forbidden", "error"},
		"download": {"ok", "not_found", "forbidden", "unsafe", "error"},
	}
}

// moves counts one kind of transfer, by its way and its result.
type moves struct {
	results  map[string][]string
	requests counterVec
	bytes    counterVec
	duration histogramVec
}

// runnerMoves are the children of one runner.
type runnerMoves struct {
	requests map[[2]string]prometheus.Counter
	bytes    map[string]prometheus.Counter
	duration map[string]prometheus.Observer
}

func newCacheMoves(c *catalogue) moves {
	m := moves{results: cacheResults()}
	m.requests = c.counter(def{
		name: "glassrunner_cache_requests_total", sets: sets{"operation": ways(m.results), "result": m.all()}, help: "Caches that jobs looked for or stored.", labels: runnerLabels("operation", "result"),
		values: "operation and result: restore " + strings.Join(m.results["restore"], ", ") + "; save " + strings.Join(m.results["save"], ", "),
		note:   "stale: found under another key than the cache's own. A cache with fallback keys is one request for each key that was tried.",
	})
	m.bytes = c.counter(def{
		name: "glassrunner_cache_bytes_total", sets: sets{"operation": ways(m.results)}, help: "Bytes of cache archives that were transferred or, without a storage, read or written.",
		labels: runnerLabels("operation"), values: "operation: restore, save",
	})
	m.duration = c.histogram(def{
		name: "glassrunner_cache_duration_seconds", sets: sets{"operation": ways(m.results)}, help: "Time that cache requests took, archiving and extraction included.",
		labels: runnerLabels("operation"), values: "operation: restore, save", buckets: []float64{0.1, 1, 10, 60, 600},
	})
	return m
}

func newArtifactMoves(c *catalogue) moves {
	m := moves{results: artifactResults()}
	m.requests = c.counter(def{
		name: "glassrunner_artifact_requests_total", sets: sets{"direction": ways(m.results), "result": m.all()}, help: "Artifacts that jobs sent or fetched.", labels: runnerLabels("direction", "result"),
		values: "direction and result: upload " + strings.Join(m.results["upload"], ", ") + "; download " + strings.Join(m.results["download"], ", "),
		note:   "empty: no file matched. unsafe: the archive was refused. Tries that were repeated count once.",
	})
	m.bytes = c.counter(def{
		name: "glassrunner_artifact_bytes_total", sets: sets{"direction": ways(m.results)}, help: "Bytes of artifacts that were transferred.", labels: runnerLabels("direction"), values: "direction: upload, download",
	})
	m.duration = c.histogram(def{
		name: "glassrunner_artifact_duration_seconds", sets: sets{"direction": ways(m.results)}, help: "Time that artifacts took, archiving and extraction included.",
		labels: runnerLabels("direction"), values: "direction: upload, download", buckets: []float64{0.1, 1, 10, 60, 600},
	})
	return m
}

func ways(results map[string][]string) []string { return slices.Sorted(maps.Keys(results)) }

// all returns every result, whatever its way.
func (m *moves) all() []string {
	var all []string
	for _, way := range ways(m.results) {
		for _, r := range m.results[way] {
			if !slices.Contains(all, r) {
				all = append(all, r)
			}
		}
	}
	return all
}

// addRunner makes all series of a runner.
func (m *moves) addRunner(l labels) runnerMoves {
	r := runnerMoves{map[[2]string]prometheus.Counter{}, map[string]prometheus.Counter{}, map[string]prometheus.Observer{}}
	for way, results := range m.results {
		for _, result := range results {
			r.requests[[2]string{way, result}] = m.requests.with(l.short, l.name, l.system, way, result)
		}
		r.bytes[way] = m.bytes.with(l.short, l.name, l.system, way)
		r.duration[way] = m.duration.with(l.short, l.name, l.system, way)
	}
	return r
}

func (m *moves) dropRunner(l prometheus.Labels) {
	m.requests.drop(l)
	m.bytes.drop(l)
	m.duration.drop(l)
}

// done counts one transfer. What is not of the fixed set is not counted.
func (r *runnerMoves) done(way, result string, n int64, took time.Duration) {
	c := r.requests[[2]string{way, result}]
	if c == nil {
		return
	}
	c.Inc()
	r.bytes[way].Add(float64(max(0, n)))
	r.duration[way].Observe(max(0, took.Seconds()))
}

// observeMoves folds the facts of a job's transfers.
func (r *oursRunner) observeMoves(f event.Fact) {
	switch f := f.(type) {
	case event.CacheDone:
		r.caches.done(f.Op, f.Result, f.Bytes, f.Took)
	case event.ArtifactDone:
		r.artifacts.done(f.Direction, f.Result, f.Bytes, f.Took)
	default:
	}
}
