package metrics

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/event"
)

// pods is how the pods of jobs fare, and the API server that makes them.
type pods struct {
	created, scheduled, ready histogramVec
	failures, resumed         counterVec
	calls                     histogramVec
	errors                    counterVec

	durations map[string]prometheus.Observer           // by verb
	errorsOf  map[string]map[string]prometheus.Counter // by verb and class
}

// podsRunner holds the children of one runner, made with its first pod: other
// executors have none.
type podsRunner struct {
	stages   map[event.PodStage]prometheus.Observer
	failures map[event.PodReason]prometheus.Counter
	resumed  prometheus.Counter
}

func kubernetesVerbs() []string { return []string{"create", "get", "list", "patch", "delete", "exec"} }

func kubernetesClasses() []string { return []string{"http_4xx", "http_5xx", "network"} }

func podReasons() []string {
	var out []string
	for _, r := range event.PodReasons() {
		out = append(out, string(r))
	}
	return out
}

func newPods(c *catalogue) pods {
	const lazily = "Series exist from the runner's first pod on."
	verbs := "verb: " + strings.Join(kubernetesVerbs(), ", ")
	return pods{
		created: c.histogram(def{
			name: "glassrunner_kubernetes_pod_create_duration_seconds", help: "How long the API server took to accept a job's pod, repeated requests included.", labels: runnerLabels(),
			buckets: []float64{0.05, 0.25, 1, 5, 30, 120}, note: lazily,
		}),
		scheduled: c.histogram(def{
			name: "glassrunner_kubernetes_pod_schedule_duration_seconds", help: "Time from the creation of a job's pod until it had a node.", labels: runnerLabels(),
			buckets: []float64{0.5, 1, 5, 15, 60, 180}, note: lazily + " The runner looks several times a second at first, more seldom later.",
		}),
		ready: c.histogram(def{
			name: "glassrunner_kubernetes_pod_ready_duration_seconds", help: "Time from the creation of a job's pod until all its containers ran.", labels: runnerLabels(),
			buckets: []float64{1, 3, 10, 30, 60, 180, 600}, note: lazily + " Time to pull images is in it; see glassrunner_image_pull_duration_seconds.",
		}),
		failures: c.counter(def{
			name: "glassrunner_kubernetes_pod_failures_total", help: "Pods of jobs that could not be had or were lost, by the reason.", labels: runnerLabels("reason"),
			sets:   map[string][]string{"reason": podReasons()},
			values: "reason: " + strings.Join(podReasons(), ", "), note: lazily,
		}),
		resumed: c.counter(def{
			name: "glassrunner_kubernetes_log_reconnects_total", help: "Connections for a job's output that broke and were made again, from the byte where they had broken.", labels: runnerLabels(), note: lazily,
		}),
		calls: c.histogram(def{
			name: "glassrunner_kubernetes_api_request_duration_seconds", help: "How long the Kubernetes API server took to answer a request.", labels: []string{"verb"},
			sets:    map[string][]string{"verb": kubernetesVerbs()},
			buckets: []float64{0.01, 0.1, 0.5, 1, 5, 30}, values: verbs,
			note: "Of an exec: until its first output. A verb exists from its first use on.",
		}),
		errors: c.counter(def{
			name: "glassrunner_kubernetes_api_request_errors_total", help: "Requests to the Kubernetes API server that failed, repeated ones included.", labels: []string{"verb", "class"},
			sets:   map[string][]string{"verb": kubernetesVerbs(), "class": kubernetesClasses()},
			values: verbs + "; class: " + strings.Join(kubernetesClasses(), ", "),
			note:   "An object that is not found is an answer, not an error. A verb exists from its first use on.",
		}),
		durations: make(map[string]prometheus.Observer), errorsOf: make(map[string]map[string]prometheus.Counter),
	}
}

// called folds what belongs to no runner.
func (m *pods) called(f event.KubernetesCalled) {
	verb := f.Verb
	if !slices.Contains(kubernetesVerbs(), verb) {
		verb = "other"
	}
	o := m.durations[verb]
	if o == nil {
		o = m.calls.with(verb)
		m.durations[verb] = o
		m.errorsOf[verb] = make(map[string]prometheus.Counter)
		for _, class := range kubernetesClasses() {
			m.errorsOf[verb][class] = m.errors.with(verb, class)
		}
	}
	o.Observe(max(0, f.Took.Seconds()))
	if f.Class == "" {
		return
	}
	c := m.errorsOf[verb][f.Class]
	if c == nil {
		c = m.errors.with(verb, "other")
		m.errorsOf[verb][f.Class] = c
	}
	c.Inc()
}

// observe folds what concerns a job of a runner.
func (m *pods) observe(r *oursRunner, fact event.Fact) {
	switch f := fact.(type) {
	case event.PodReached:
		m.begin(r)
		if o := r.pods.stages[f.Stage]; o != nil {
			o.Observe(max(0, f.Took.Seconds()))
		}
	case event.PodFailed:
		m.begin(r)
		c := r.pods.failures[f.Reason]
		if c == nil {
			c = r.pods.failures[event.PodOther]
		}
		c.Inc()
	case event.LogResumed:
		m.begin(r)
		r.pods.resumed.Inc()
	default:
	}
}

// begin makes all series of a runner.
func (m *pods) begin(r *oursRunner) {
	if r.pods.stages != nil {
		return
	}
	r.pods.stages = map[event.PodStage]prometheus.Observer{
		event.PodCreated:   m.created.with(r.short, r.name, r.system),
		event.PodScheduled: m.scheduled.with(r.short, r.name, r.system),
		event.PodReady:     m.ready.with(r.short, r.name, r.system),
	}
	r.pods.failures = make(map[event.PodReason]prometheus.Counter)
	for _, reason := range event.PodReasons() {
		r.pods.failures[reason] = m.failures.with(r.short, r.name, r.system, string(reason))
	}
	r.pods.resumed = m.resumed.with(r.short, r.name, r.system)
}

func (m *pods) dropRunner(l prometheus.Labels) {
	for _, v := range []interface{ drop(prometheus.Labels) }{m.created, m.scheduled, m.ready, m.failures, m.resumed} {
		v.drop(l)
	}
}
