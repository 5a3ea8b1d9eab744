package metrics

import (
	"github.com/glassrunner/glassrunner/internal/observe/board"
	"github.com/glassrunner/glassrunner/internal/pulse"
)

// health is the part of the present that says whether the process makes
// progress and its runners can take work.
type health struct {
	pulse *pulse.Monitor

	slots, healthy, ready, token *now
}

func newHealth(c *catalogue, o Options) health {
	h := health{pulse: o.Pulse}
	h.slots = c.present("gauge", def{
		name: "glassrunner_slots", help: "Places for jobs, by what they are used for.", sets: sets{"state": {"running", "requesting", "idle"}}, labels: []string{"state"},
		values: "state: running (a job), requesting (reserved by a request for a job), idle",
		note:   "The sum is concurrent; for a while more after a reload lowered it, and without idle ones while the process drains.",
	})
	h.healthy = c.present("gauge", def{
		name: "glassrunner_healthy", help: "Whether a part of the process makes progress: 1 or 0.", sets: sets{"component": words(pulse.Components())}, labels: []string{"component"},
		values: "component: scheduler (decides who asks for a job), polling (requests for a job), executors (jobs end and are cleaned up in their time)",
		note:   "What /-/healthy says. An outage of GitLab changes nothing here.",
	})
	h.ready = c.present("gauge", def{
		name: "glassrunner_runner_ready", help: "Whether the runner takes jobs as far as it has room: 1 or 0.", labels: runnerLabels(),
		note: "What /-/ready says. A runner that is full is ready; glassrunner_capacity_blocked_seconds_total says why one takes no jobs.",
	})
	h.token = c.present("gauge", def{
		name: "glassrunner_runner_token_expiry_timestamp_seconds", help: "When the runner's token expires.", labels: runnerLabels(),
		note: "Absent when it never does. Tokens with a known date of issue are replaced after three quarters of their life.",
	})
	return h
}

func (h *health) all() []*now { return []*now{h.slots, h.healthy, h.ready, h.token} }

// process sends what is not about a single runner, and returns whether the
// scheduler hangs.
func (h *health) process(send send, s board.Snapshot) (stuck bool) {
	send(h.slots, float64(s.Places.Running), "running")
	send(h.slots, float64(s.Places.Requesting), "requesting")
	send(h.slots, float64(s.Places.Idle), "idle")
	for c, ok := range h.pulse.Healthy() {
		send(h.healthy, truth(ok), string(c))
		stuck = stuck || c == pulse.Scheduler && !ok
	}
	return stuck
}

// truth returns 1 or 0.
func truth(ok bool) float64 {
	if ok {
		return 1
	}
	return 0
}
