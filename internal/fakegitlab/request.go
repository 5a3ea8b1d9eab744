package fakegitlab

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

func hexString(p []byte) string { return hex.EncodeToString(p) }

// jobRequest is the body of POST jobs/request.
type jobRequest struct {
	Token      string          `json:"token"`
	SystemID   string          `json:"system_id"`
	Info       json.RawMessage `json:"info"`
	LastUpdate string          `json:"last_update"`
	Session    *struct {
		URL           string `json:"url"`
		Certificate   string `json:"certificate"`
		Authorization string `json:"authorization"`
	} `json:"session"`
}

// handleRequestJob is POST jobs/request, Workhorse's part included.
func (s *Server) handleRequestJob(c *call) {
	if len(c.body) > maxJobRequestBytes {
		s.violate(RuleRequestSize, "job request of %d bytes", len(c.body))
		c.json(http.StatusRequestEntityTooLarge, map[string]string{"error": "413 Request Entity Too Large"})
		return
	}
	var req jobRequest
	if !c.wantJSON(&req) {
		return
	}
	if req.Token == "" {
		s.violate(RuleRunnerToken, "%s: no token in the body", c.endpoint)
		c.missing("token")
		return
	}
	s.checkRunnerToken(c, req.Token, true)
	s.checkSystemID(c, req.SystemID)
	if s.opts.LongPoll > 0 {
		c.w.Header().Set("Gitlab-Ci-Builds-Polling", "yes")
	}

	s.poll(c, &req)()
}

// poll decides a job request and returns what answers it. The request no longer counts as in flight when
// the answer is sent, because the next one may follow before this handler returns.
func (s *Server) poll(c *call, req *jobRequest) func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	ru := s.findRunner(req.Token)
	s.checkUnhealthy(req.Token, ru == nil, c.repeated)
	if ru == nil {
		return func() { c.forbidden() }
	}
	m := s.touchManager(ru, req.SystemID, req.Info, "jobs/request")
	m.requests++
	s.checkPace(c, ru, m)
	ru.requests++
	s.requests++
	defer func() {
		ru.requests--
		s.requests--
	}()
	s.checkConcurrency(ru)

	value := ru.queue
	if s.opts.LongPoll > 0 && req.LastUpdate == value {
		changed := ru.changed
		s.mu.Unlock()
		s.hold(c, changed)
		s.mu.Lock()
		return func() { c.empty(http.StatusNoContent) } // as Workhorse answers: without X-GitLab-Last-Update
	}
	var j *job
	if !ru.config.Paused && req.LastUpdate != value {
		j = s.pick(ru, m)
	}
	if j == nil {
		return func() { c.noJob(value) }
	}
	c.handed = j
	h := s.describe(j, ru)
	return func() {
		h.base = s.base(c.r)
		if req.Session != nil {
			h.session = &req.Session.URL
		}
		body, sent := h.render()
		s.mu.Lock()
		j.sent = sent
		s.mu.Unlock()
		c.raw(http.StatusCreated, cmp.Or(h.spec.ContentType, "application/json"), body)
	}
}

func (c *call) noJob(value string) {
	c.w.Header().Set("X-GitLab-Last-Update", value)
	c.empty(http.StatusNoContent)
}

// hold keeps a long poll until the queue changes, the time is over, or somebody leaves.
func (s *Server) hold(c *call, changed <-chan struct{}) {
	t := time.NewTimer(s.opts.LongPoll)
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	case <-c.r.Context().Done():
	case <-s.closing:
	}
}

// checkUnhealthy checks rule 20.
func (s *Server) checkUnhealthy(token string, refused, repeated bool) {
	now := s.now()
	r := s.forbidden[token]
	if r != nil && r.count >= 3 && s.opts.UnhealthyInterval > 0 && !repeated {
		if silent := now.Sub(r.since); silent < s.opts.UnhealthyInterval*9/10 {
			s.violate(RuleUnhealthy, "job request %v after the third 403", silent.Round(time.Millisecond))
		}
		r.count = 0
	}
	if !refused {
		delete(s.forbidden, token)
		return
	}
	if r == nil {
		if len(s.forbidden) >= 1000 {
			clear(s.forbidden)
		}
		r = &refusals{}
		s.forbidden[token] = r
	}
	r.count++
	r.since = now
}

// checkPace checks rule 18. After a received job, or a job that ended, the next request may follow at once.
func (s *Server) checkPace(c *call, ru *runner, m *manager) {
	want := ru.config.Limits.CheckInterval
	if gap := c.start.Sub(m.lastStart); want > 0 && !m.free && !c.repeated && gap < want*9/10 {
		s.violate(RuleCheckInterval, "job request %v after the last one, check_interval is %v", gap.Round(time.Millisecond), want)
	}
	m.lastStart = c.start
	m.free = false
}

// checkConcurrency checks rule 17 with the request that is being made counted.
func (s *Server) checkConcurrency(ru *runner) {
	limits := ru.config.Limits
	if n := limits.RequestConcurrency; n > 0 && ru.requests > n {
		s.violate(RuleConcurrency, "%d job requests of runner %d in flight, request_concurrency is %d", ru.requests, ru.id, n)
	}
	if n := limits.Limit; n > 0 && ru.requests+ru.running > n {
		s.violate(RuleConcurrency, "%d jobs and %d job requests of runner %d, limit is %d", ru.running, ru.requests, ru.id, n)
	}
	if n := s.opts.Concurrent; n > 0 {
		running := 0
		for _, other := range s.runners {
			running += other.running
		}
		if running+s.requests > n {
			s.violate(RuleConcurrency, "%d jobs and %d job requests, concurrent is %d", running, s.requests, n)
		}
	}
}

// pick takes the first pending job that the runner may have. Jobs that need a feature the manager
// did not announce are failed, as the real server does.
func (s *Server) pick(ru *runner, m *manager) *job {
	for i := 0; i < len(s.pending); {
		j := s.pending[i]
		if !j.suits(ru) {
			i++
			continue
		}
		if i == 0 {
			s.pending[0] = nil
			s.pending = s.pending[1:]
		} else {
			s.pending = slices.Delete(s.pending, i, i+1)
		}
		if missing := j.missingFeature(m.info); missing != "" {
			s.finish(j, Failed, "runner_unsupported")
			continue
		}
		s.handOut(j, ru, m)
		return j
	}
	return nil
}

// suits tells whether the runner may have the job.
func (j *job) suits(ru *runner) bool {
	if j.runnerID != 0 && j.runnerID != ru.id {
		return false
	}
	if len(j.spec.Tags) == 0 {
		return !ru.config.OnlyTagged
	}
	for _, tag := range j.spec.Tags {
		if !slices.Contains(ru.config.Tags, tag) {
			return false
		}
	}
	return true
}

// missingFeature names a feature that the job needs and the manager lacks.
func (j *job) missingFeature(info *runnerInfo) string {
	spec := &j.spec
	needs := make(map[string]bool)
	needs["refspecs"] = spec.Project != ""
	for _, a := range spec.Artifacts {
		if a.ArtifactType != "" && a.ArtifactType != "archive" {
			needs["upload_multiple_artifacts"] = true
		}
		if len(a.Exclude) > 0 {
			needs["artifacts_exclude"] = true
		}
	}
	for _, c := range spec.Cache {
		if len(c.FallbackKeys) > 0 {
			needs["fallback_cache_keys"] = true
		}
	}
	needs["vault_secrets"] = len(spec.Secrets) > 0
	needs["multi_build_steps"] = len(spec.Release) > 0
	needs["job_inputs"] = len(spec.Inputs) > 0
	for feature, needed := range needs {
		if needed && !info.has(feature) {
			return feature
		}
	}
	return ""
}

// handOut moves a pending job to a manager.
func (s *Server) handOut(j *job, ru *runner, m *manager) {
	now := s.now()
	j.runner, j.manager = ru, m
	j.handedOut, j.lastContact = now, now
	j.handouts++
	j.generation++
	j.token = s.secret("glcbt-64_", "job", uint64(j.id), j.generation)
	j.rules = rules{loosePatch: j.loosePatch, disturbed: j.disturbed}
	j.acked, j.lost = false, false
	m.free = true
	j.counted = true
	ru.running++
	s.stats.HandedOut++
	if s.opts.TwoPhase && m.info.has("two_phase_job_commit") {
		j.waiting = true
		j.setTimer(&j.ackTimer, s.opts.AckTimeout, func() { s.ackTimedOut(j) })
	} else {
		j.status = Running
	}
	if d := s.opts.ContactTimeout; d > 0 {
		j.setTimer(&j.contactTimer, d, func() { s.contactTimedOut(j) })
	}
	if d := s.opts.TimeoutGrace; d > 0 {
		j.setTimer(&j.limitTimer, j.timeout()+d, func() { s.serverTimeout(j) })
	}
	s.touched(j)
}

// loseHandout notes that the runner does not know of the job it was given.
func (s *Server) loseHandout(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Lost++
	if j.final() || j.acked {
		return
	}
	j.lost = true
	j.release()
	if s.opts.RequeueLost {
		s.requeue(j)
		return
	}
	s.touched(j)
}

// requeue puts a handed-out job back in the queue.
func (s *Server) requeue(j *job) {
	j.stopTimers()
	j.release()
	j.status, j.waiting = Pending, false
	j.runner, j.manager = nil, nil
	s.pending = slices.Insert(s.pending, 0, j)
	s.announce(j)
	s.touched(j)
}

// announce changes the queue value of all runners that may have the job.
func (s *Server) announce(j *job) {
	for _, ru := range s.runners {
		if j.suits(ru) {
			s.tick(ru)
		}
	}
}
