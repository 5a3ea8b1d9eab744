package metrics

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/board"
)

// present collects the gauges of the present from one snapshot of the board.
type present struct {
	board    *board.Board
	systemID string
	now      func() time.Time
	most     int // runners that are told apart
	states   int // states of jobs that are told apart
	health   health

	// compatible
	jobs, inFlight, exceeded, hardLimit, adaptiveLimit, usedLimit *now
	processInfo, concurrent, limit                                *now
	// ours
	running, unsent, lag                        *now
	lastPoll, lastJob, disabledUntil, healthy   *now
	processState, oursConcurrent, oursEffective *now
	spans                                       spansNow
	stuck                                       stuck
}

func newPresent(c *catalogue, o Options) *present {
	p := &present{board: o.Board, systemID: label(o.SystemID), now: o.Now, most: o.Budget.Runners, states: o.Budget.Metric, health: newHealth(c, o)}
	p.jobs = c.present("gauge", def{
		name: "gitlab_runner_jobs", help: "The current number of running builds.", sets: sets{"state": jobStates(), "stage": nil, "executor_stage": nil}, labels: runnerLabels("state", "stage", "executor_stage"),
		values: "state: idle, pending, running, success, failed, canceled, timedout, terminated, empty; stage: idle, empty, or the last script stage that began; executor_stage: depends on the executor",
		note:   "Sum it. Each configured runner always has a series with state=\"idle\" and the value 0; other series exist only while a job is so. glassrunner_jobs_running is one number for each runner.",
	})
	request := []string{"runner", "system_id"}
	p.inFlight = c.present("gauge", def{name: "gitlab_runner_request_concurrency", help: "The current number of concurrent requests for a new job", labels: request})
	p.exceeded = c.present("counter", def{name: "gitlab_runner_request_concurrency_exceeded_total", help: "Count of excess requests above the configured request_concurrency limit", labels: request})
	p.hardLimit = c.present("gauge", def{name: "gitlab_runner_request_concurrency_hard_limit", help: "Configured request_concurrency limit", labels: request})
	p.adaptiveLimit = c.present("gauge", def{
		name: "gitlab_runner_request_concurrency_adaptive_limit", help: "Computed adaptive request concurrency limit", labels: request,
		note: "0 until the first request has ended, and for ever with FF_USE_ADAPTIVE_REQUEST_CONCURRENCY off.",
	})
	p.usedLimit = c.present("gauge", def{name: "gitlab_runner_request_concurrency_used_limit", help: "Used request concurrency limit", labels: request})
	p.processInfo = c.present("gauge", def{
		name: "gitlab_runner_process_state_info", help: "This metric provides info about the current state of the GitLab Runner process", sets: sets{"state": processStates()}, labels: []string{"state"},
		values: "state: starting, running, graceful-shutdown, forceful-shutdown",
		note:   "Only the present state has a series; glassrunner_process_state has all of them.",
	})
	p.concurrent = c.present("gauge", def{
		name: "gitlab_runner_concurrent", help: "The current value of concurrent setting",
		note: "Has no labels; glassrunner_concurrent has the system_id.",
	})
	p.limit = c.present("gauge", def{
		name: "gitlab_runner_limit", help: "The current value of limit setting", labels: runnerLabels(),
		note: "0 is unlimited, so do not divide by it: glassrunner_limit is what the limit comes to. Entries with the same three labels are added up.",
	})
	p.running = c.present("gauge", def{name: "glassrunner_jobs_running", help: "Jobs that were accepted and whose result is not delivered yet.", labels: runnerLabels()})
	p.unsent = c.present("gauge", def{name: "glassrunner_job_log_unsent_bytes", help: "Bytes of the logs of running jobs that the coordinator does not have yet.", labels: runnerLabels()})
	p.lag = c.present("gauge", def{name: "glassrunner_job_log_lag_seconds", help: "Age of the oldest byte of a running job's log that the coordinator does not have yet.", labels: runnerLabels(), note: "0 when everything is sent. Up to a second too large."})
	p.lastPoll = c.present("gauge", def{
		name: "glassrunner_last_successful_poll_timestamp_seconds", help: "When the coordinator last answered a request for a job, with a job or with none.", labels: runnerLabels(),
		note: "0 before the first time.",
	})
	p.lastJob = c.present("gauge", def{name: "glassrunner_last_job_received_timestamp_seconds", help: "When the last job was received.", labels: runnerLabels(), note: "0 before the first time."})
	p.disabledUntil = c.present("gauge", def{name: "glassrunner_runner_disabled_until_timestamp_seconds", help: "Until when the runner asks for no jobs because the coordinator refused it too often.", labels: runnerLabels(), note: "0 when it is not switched off."})
	p.healthy = c.present("gauge", def{name: "glassrunner_runner_healthy", help: "Whether the coordinator accepts this runner, as far as the last request told: 1 or 0.", labels: runnerLabels(), note: "A coordinator that cannot be reached does not make a runner unhealthy."})
	p.processState = c.present("gauge", def{
		name: "glassrunner_process_state", help: "State of the process: 1 for the present state, 0 for the others.", sets: sets{"state": processStates()}, labels: []string{"state"},
		values: "state: starting, running, graceful-shutdown, forceful-shutdown",
	})
	p.oursConcurrent = c.present("gauge", def{name: "glassrunner_concurrent", help: "How many jobs the configuration allows at once.", labels: []string{"system_id"}})
	p.oursEffective = c.present("gauge", def{name: "glassrunner_limit", help: "How many jobs the runner entry may run at once: its limit, at most what concurrent allows.", labels: runnerLabels()})
	p.spans = newSpansNow(c, o.Spans)
	p.stuck = newStuck(c)
	return p
}

func (p *present) all() []*now {
	return append(append(p.health.all(), p.stuck.all()...),
		p.jobs, p.inFlight, p.exceeded, p.hardLimit, p.adaptiveLimit, p.usedLimit, p.processInfo, p.concurrent, p.limit,
		p.running, p.unsent, p.lag, p.lastPoll, p.lastJob, p.disabledUntil, p.healthy, p.processState, p.oursConcurrent, p.oursEffective, p.spans.total,
	)
}

// Describe sends what Collect collects.
func (p *present) Describe(ch chan<- *prometheus.Desc) {
	for _, n := range p.all() {
		ch <- n.desc
	}
}

// Collect sends the present. A sample that cannot be made becomes an error
// of the scrape, which leaves the others alone.
func (p *present) Collect(ch chan<- prometheus.Metric) {
	p.collect(func(n *now, v float64, l ...string) {
		m, err := prometheus.NewConstMetric(n.desc, n.value, v, l...)
		if err != nil {
			m = prometheus.NewInvalidMetric(n.desc, err)
		}
		ch <- m
	})
}

// send is told one sample of the present.
type send func(n *now, v float64, labels ...string)

// jobState is a combination that gitlab_runner_jobs counts.
type jobState struct {
	labels
	state, stage, executorStage string
}

// runnerNow is what is added up for entries that share the labels of a
// runner.
type runnerNow struct {
	labels
	configured    bool
	limit         int
	unlimited     bool
	running       int
	unsent        int64
	unsentSince   time.Time
	lastPoll      time.Time
	lastJob       time.Time
	disabledUntil time.Time
	healthy       bool
	ready         bool
	tokenExpires  time.Time // the first one; zero: never
	stuck         stuckNow
}

// requestsNow is the same for entries that share a token.
type requestsNow struct {
	short, system string
	inFlight      int
	exceeded      uint64
	hard, used    int
	adaptive      float64
}

// collect sends the present, each metric's samples in any order.
func (p *present) collect(send send) {
	s := p.board.Present()
	told := send
	send = func(n *now, v float64, l ...string) { told(n, v, n.closed(l)...) }
	p.process(send, s)
	p.spans.collect(send)
	stuck := p.health.process(send, s)
	states := make(map[jobState]int, len(s.Jobs)+len(s.Runners))
	runners := make([]runnerNow, 0, len(s.Runners))
	requests := make([]requestsNow, 0, len(s.Runners))
	at := make(map[labels]int, len(s.Runners))
	find := func(r job.Runner) *runnerNow {
		k := labels{r.Short, r.Name, r.SystemID}
		i, ok := at[k]
		if !ok && len(runners) >= p.most {
			k = crowd()
			i, ok = at[k]
		}
		if !ok {
			i = len(runners)
			at[k] = i
			runners = append(runners, runnerNow{labels: labels{label(k.short), label(k.name), label(k.system)}, healthy: true})
		}
		return &runners[i]
	}
	for i := range s.Runners {
		r := &s.Runners[i]
		n := find(r.Runner)
		n.add(r)
		if r.Entries > 0 || s.Config.Generation == 0 {
			n.configured = true
			requests = addRequests(requests, n.labels, r.Requests)
		}
	}
	now := p.now()
	typical := make(map[job.Runner]board.Typical, len(s.Runners))
	for i := range s.Runners {
		typical[s.Runners[i].Runner] = s.Runners[i].Typical
	}
	for i := range s.Jobs {
		j := &s.Jobs[i]
		n := find(j.Runner)
		n.stuck.add(j, now, typical[j.Runner])
		n.running++
		n.unsent += max(0, j.Written-j.Sent)
		if !j.UnsentSince.IsZero() && (n.unsentSince.IsZero() || j.UnsentSince.Before(n.unsentSince)) {
			n.unsentSince = j.UnsentSince
		}
		state := jobState{n.labels, label(string(j.State)), label(string(j.Stage)), label(j.ExecutorStage)}
		if _, known := states[state]; !known && len(states) >= p.states {
			state = jobState{crowd(), other, overflow, overflow}
		}
		states[state]++
	}
	for i := range runners {
		n := &runners[i]
		if n.configured {
			states[jobState{n.labels, "idle", "idle", "idle"}] += 0
		}
		p.runner(send, n, s.Config.Concurrent, now, stuck)
	}
	for k, n := range states {
		send(p.jobs, float64(n), k.short, k.name, k.system, k.state, k.stage, k.executorStage)
	}
	for i := range requests {
		r := &requests[i]
		send(p.inFlight, float64(r.inFlight), r.short, r.system)
		send(p.exceeded, float64(r.exceeded), r.short, r.system)
		send(p.hardLimit, float64(r.hard), r.short, r.system)
		send(p.adaptiveLimit, r.adaptive, r.short, r.system)
		send(p.usedLimit, float64(r.used), r.short, r.system)
	}
}

func (p *present) process(send send, s board.Snapshot) {
	send(p.processInfo, 1, label(s.Process.State))
	for _, state := range []string{event.ProcessStarting, event.ProcessRunning, event.ProcessGracefulShutdown, event.ProcessForcefulShutdown} {
		send(p.processState, truth(state == s.Process.State), state)
	}
	send(p.concurrent, float64(s.Config.Concurrent))
	send(p.oursConcurrent, float64(s.Config.Concurrent), p.systemID)
}

func (p *present) runner(send send, n *runnerNow, concurrent int, now time.Time, stuck bool) {
	l := []string{n.short, n.name, n.system}
	send(p.running, float64(n.running), l...)
	send(p.unsent, float64(n.unsent), l...)
	lag := 0.0
	if !n.unsentSince.IsZero() {
		lag = max(0, now.Sub(n.unsentSince).Seconds())
	}
	send(p.lag, lag, l...)
	p.stuck.send(send, &n.stuck, l)
	if !n.configured {
		return
	}
	limit, effective := n.limit, n.limit
	if n.unlimited {
		limit, effective = 0, concurrent
	}
	send(p.limit, float64(limit), l...)
	send(p.oursEffective, float64(min(effective, concurrent)), l...)
	send(p.lastPoll, seconds(n.lastPoll), l...)
	send(p.lastJob, seconds(n.lastJob), l...)
	send(p.disabledUntil, seconds(n.disabledUntil), l...)
	send(p.healthy, truth(n.healthy), l...)
	send(p.health.ready, truth(n.ready && !stuck), l...)
	if !n.tokenExpires.IsZero() {
		send(p.health.token, seconds(n.tokenExpires), l...)
	}
}

func (n *runnerNow) add(r *board.Runner) {
	if r.Entries > 0 {
		n.limit += max(0, r.Limit)
		n.unlimited = n.unlimited || r.Limit <= 0
		n.ready = n.ready || r.Block.Ready()
		if at := r.TokenExpires; !at.IsZero() && (n.tokenExpires.IsZero() || at.Before(n.tokenExpires)) {
			n.tokenExpires = at
		}
	}
	n.lastPoll = later(n.lastPoll, r.LastSuccess)
	n.lastJob = later(n.lastJob, r.LastJob)
	n.disabledUntil = later(n.disabledUntil, r.Health.DisabledUntil)
	n.healthy = n.healthy && r.Health.OK
}

func addRequests(all []requestsNow, l labels, r board.Requests) []requestsNow {
	i := slices.IndexFunc(all, func(o requestsNow) bool { return o.short == l.short && o.system == l.system })
	if i < 0 {
		i = len(all)
		all = append(all, requestsNow{short: l.short, system: l.system})
	}
	n := &all[i]
	n.inFlight += r.InFlight
	n.exceeded += r.Exceeded
	n.hard += r.HardLimit
	n.used += r.UsedLimit
	n.adaptive += r.AdaptiveLimit
	return all
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
