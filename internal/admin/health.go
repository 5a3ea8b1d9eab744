package admin

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/observe/board"
	"github.com/glassrunner/glassrunner/internal/pulse"
)

// The reasons of readiness beside the values of event.Block.
const (
	reasonStarting  = "starting"   // the scheduler has told nothing yet
	reasonStuck     = "stuck"      // the scheduler does not come round
	reasonNoRunners = "no_runners" // the configuration has none
)

// Liveness is the answer of /-/healthy.
type Liveness struct {
	Healthy    bool                     `json:"healthy"`
	Components map[pulse.Component]bool `json:"components"`
	Late       []LatePart               `json:"late,omitempty"`
}

// LatePart is something that should have reported and has not.
type LatePart struct {
	Component   pulse.Component `json:"component"`
	What        string          `json:"what"`
	LateSeconds float64         `json:"late_seconds"`
}

// Readiness is the answer of /-/ready. Times that never were are left out.
type Readiness struct {
	Ready   bool            `json:"ready"`
	Reason  string          `json:"reason,omitempty"` // why not
	Runners []RunnerReadied `json:"runners"`
}

// RunnerReadied is one runner entry in Readiness. Reason is always set: also
// a runner that is ready has one why it takes no job at this moment.
type RunnerReadied struct {
	Runner   string `json:"runner"`
	Name     string `json:"runner_name"`
	SystemID string `json:"system_id"`
	Executor string `json:"executor"`

	Ready              bool      `json:"ready"`
	Reason             string    `json:"reason"`
	Since              time.Time `json:"since,omitzero"`
	LastSuccessfulPoll time.Time `json:"last_successful_poll,omitzero"`
	LastJobReceived    time.Time `json:"last_job_received,omitzero"`
	DisabledUntil      time.Time `json:"disabled_until,omitzero"`
}

// healthy says whether this process makes progress. It asks for no lock that
// a part that hangs could hold, and for nothing outside of the process.
func (s *Server) healthy(w http.ResponseWriter, r *http.Request) {
	if !reads(w, r) {
		return
	}
	l := Liveness{Healthy: true, Components: s.o.Pulse.Healthy()}
	for _, late := range s.o.Pulse.Late() {
		l.Components[late.Component] = false // it may have become late in between
		l.Late = append(l.Late, LatePart{late.Component, late.What, late.By.Seconds()})
	}
	excluded := r.URL.Query()["exclude"]
	for c, ok := range l.Components {
		l.Healthy = l.Healthy && (ok || slices.Contains(excluded, string(c)))
	}
	answer(w, l.Healthy, l)
}

// readiness says of each runner whether it can take work.
func (s *Server) readiness(w http.ResponseWriter, r *http.Request) {
	if !reads(w, r) {
		return
	}
	stuck := !s.o.Pulse.Healthy()[pulse.Scheduler]
	a := readinessOf(s.o.Board.Present(), stuck)
	answer(w, a.Ready, a)
}

func readinessOf(p board.Snapshot, stuck bool) Readiness {
	a := Readiness{Reason: reasonNoRunners, Runners: []RunnerReadied{}}
	for i := range p.Runners {
		r := &p.Runners[i]
		if r.Entries == 0 {
			continue // it only finishes its jobs
		}
		n := RunnerReadied{
			Runner: r.Short, Name: r.Name, SystemID: r.SystemID, Executor: r.Executor,
			Ready: !stuck && r.Block.Ready(), Reason: string(r.Block), Since: r.BlockSince,
			LastSuccessfulPoll: r.LastSuccess, LastJobReceived: r.LastJob, DisabledUntil: r.Health.DisabledUntil,
		}
		switch {
		case stuck:
			n.Reason = reasonStuck
		case r.Block == "":
			n.Reason = reasonStarting
		}
		a.Ready = a.Ready || n.Ready
		if len(a.Runners) == 0 {
			a.Reason = n.Reason
		} else if a.Reason != n.Reason {
			a.Reason = "" // more than one: the runners tell
		}
		a.Runners = append(a.Runners, n)
	}
	switch {
	case a.Ready:
		a.Reason = ""
	case a.Reason == "":
		a.Reason = reasons(a.Runners)
	}
	return a
}

// reasons joins those of several runners, each once, as they come.
func reasons(runners []RunnerReadied) string {
	var all []string
	for i := range runners {
		if !slices.Contains(all, runners[i].Reason) {
			all = append(all, runners[i].Reason)
		}
	}
	return strings.Join(all, ", ")
}

// answer sends v as JSON, with 200 or 503.
func answer(w http.ResponseWriter, ok bool, v any) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	code := http.StatusOK
	if !ok {
		code = http.StatusServiceUnavailable
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	write(w, code, string(text)+"\n")
}

// ready is GitLab Runner's: 503 until the process runs, and never again. Its
// text before that names boot verification, the only thing it waits for there.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if s.o.Board.Present().Process.State == event.ProcessStarting {
		plain(w, http.StatusServiceUnavailable, "boot-verify pending\n")
		return
	}
	plain(w, http.StatusOK, "ready\n")
}
