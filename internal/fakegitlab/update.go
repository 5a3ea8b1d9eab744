package fakegitlab

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// updateRequest is the body of PUT jobs/:id.
type updateRequest struct {
	Token         *string         `json:"token"`
	Info          json.RawMessage `json:"info"`
	State         string          `json:"state"`
	FailureReason *string         `json:"failure_reason"`
	Checksum      string          `json:"checksum"`
	Output        *struct {
		Checksum string `json:"checksum"`
		Bytesize *int64 `json:"bytesize"`
	} `json:"output"`
	ExitCode *int64 `json:"exit_code"`
}

func (u *updateRequest) final() bool { return u.State == string(Success) || u.State == string(Failed) }

func (u *updateRequest) reason() string {
	if u.FailureReason == nil {
		return ""
	}
	return *u.FailureReason
}

func (u *updateRequest) exit() int64 {
	if u.ExitCode == nil {
		return 0
	}
	return *u.ExitCode
}

func (u *updateRequest) output() (checksum string, size int64) {
	if u.Output == nil {
		return "", 0
	}
	if u.Output.Bytesize != nil {
		size = *u.Output.Bytesize
	}
	return u.Output.Checksum, size
}

// answer is a reply that is decided under the lock and written without it.
type answer struct {
	status   int
	jobState Status
	interval int // 0 is no header
	stored   int64
	ranged   bool
	message  string
}

func (c *call) answer(a answer) {
	h := c.w.Header()
	if a.jobState != "" {
		h.Set("Job-Status", string(a.jobState))
	}
	if a.interval > 0 {
		h.Set("X-GitLab-Trace-Update-Interval", strconv.Itoa(a.interval))
	}
	if a.ranged {
		h.Set("Range", "0-"+strconv.FormatInt(a.stored, 10))
	}
	if a.message != "" {
		c.json(a.status, map[string]string{"message": a.message})
		return
	}
	text := strconv.Itoa(a.status)
	c.raw(a.status, "application/json", []byte(text))
}

// refusal is the 403 of a job that does not run here any more.
func refusal(state Status) answer {
	return answer{status: http.StatusForbidden, jobState: state, message: "403 Forbidden - Job is not processing on runner"}
}

// authenticate finds the job of a job endpoint by id and token and checks rule 5.
func (s *Server) authenticate(c *call, parameter string) *job {
	header := c.r.Header.Get("Job-Token")
	j := s.jobs[c.job]
	if header == "" {
		s.record(RuleJobToken, c.job, nil, "%s: no JOB-TOKEN header", c.endpoint)
	} else if parameter != "" && parameter != header {
		s.record(RuleJobToken, c.job, nil, "%s: JOB-TOKEN differs from the parameter token", c.endpoint)
	}
	token := parameter
	if token == "" {
		token = header
	}
	switch {
	case j == nil:
		s.record(RuleJobToken, c.job, nil, "%s: no such job", c.endpoint)
		return nil
	case token == "" || j.token != token:
		// A hand-out that the runner lost is followed by another token; the old one is no mistake then.
		if j.handouts < 2 {
			s.violateJob(j, RuleJobToken, "%s: token does not belong to the job", c.endpoint)
		}
		return nil
	case j.erased:
		return nil
	}
	return j
}

// handleUpdate is PUT jobs/:id.
func (s *Server) handleUpdate(c *call) {
	var req updateRequest
	if !c.wantJSON(&req) {
		return
	}
	if req.Token == nil {
		s.record(RuleJobToken, c.job, nil, "PUT without token in the body")
		c.missing("token")
		return
	}
	if req.final() {
		s.checkSecrets(c.job)
	}
	s.mu.Lock()
	j := s.authenticate(c, *req.Token)
	if j == nil {
		s.mu.Unlock()
		c.forbidden()
		return
	}
	a := s.update(c, j, &req)
	s.mu.Unlock()
	c.answer(a)
}

// update is the state machine of a PUT.
func (s *Server) update(c *call, j *job, req *updateRequest) answer {
	j.puts++
	if req.final() {
		j.finals++
	}
	s.checkSilence(j, s.now())
	if j.manager != nil && string(req.Info) != j.manager.raw {
		s.checkInfo(req.Info, "PUT", j.id)
	}
	if req.Output == nil {
		s.violateJob(j, RuleChecksum, "PUT without output")
	}
	if checksum, _ := req.output(); req.Checksum != "" && req.Checksum != checksum {
		s.violateJob(j, RuleChecksum, "checksum %q differs from output.checksum %q", req.Checksum, checksum)
	}
	switch {
	case j.waiting:
		return s.updateWaiting(j, req)
	case j.status != Running && j.status != Canceling:
		s.checkAfterEnd(j, "PUT "+req.State, req.final())
		if !j.acked && !req.final() {
			j.ackRefused = true
		}
		return refusal(j.status)
	}
	s.contact(j)
	switch {
	case req.State == string(Running):
		return s.keepAlive(j, req)
	case req.final():
		return s.finalUpdate(c, j, req)
	}
	s.violateJob(j, RuleFailureReason, "unknown state %q", req.State)
	return answer{status: http.StatusBadRequest, jobState: j.status}
}

// updateWaiting handles a PUT for a job that waits for its acknowledgement.
func (s *Server) updateWaiting(j *job, req *updateRequest) answer {
	switch req.State {
	case string(Running):
		j.waiting, j.status = false, Running
		j.ackTimer.Stop()
		s.contact(j)
		s.acknowledge(j)
		return answer{status: http.StatusOK, jobState: Running}
	case string(Pending):
		s.contact(j)
		j.ackTimer.Reset(s.opts.AckTimeout)
		return answer{status: http.StatusOK, jobState: Pending}
	}
	s.violateJob(j, RuleAcknowledge, "PUT %s before the job was acknowledged", req.State)
	return answer{status: http.StatusBadRequest, jobState: Pending}
}

func (s *Server) keepAlive(j *job, req *updateRequest) answer {
	_, size := req.output()
	if j.acked && size < j.size && !j.disturbed {
		s.violateJob(j, RuleChecksum, "PUT running says %d bytes, %d are stored", size, j.size)
	}
	if !j.acked {
		s.acknowledge(j)
		j.ackCanceling = j.status == Canceling
	}
	s.touched(j)
	return answer{status: http.StatusOK, jobState: j.status}
}

// acknowledge notes the first PUT running.
func (s *Server) acknowledge(j *job) {
	if j.patchEarly {
		s.violateJob(j, RuleAcknowledge, "PATCH before PUT running")
	}
	j.acked, j.ackedAt = true, s.now()
	s.touched(j)
}

// contact notes that something was heard of the job.
func (s *Server) contact(j *job) {
	j.lastContact = s.now()
	j.silent = false
}

// finalUpdate handles success and failed for a running or canceling job.
func (s *Server) finalUpdate(c *call, j *job, req *updateRequest) answer {
	now := s.now()
	checksum, size := req.output()
	s.checkFinal(j, req, checksum, size)
	if now.Before(j.notBefore) {
		s.violateJob(j, RuleFinal, "final PUT repeated %v too early", j.notBefore.Sub(now).Round(time.Millisecond))
	}
	rounds := s.opts.PersistRounds
	if j.spec.PersistRounds > 0 {
		rounds = j.spec.PersistRounds
	}
	if j.status == Running && checksum != "" && j.rounds < rounds {
		interval := s.opts.PersistInterval
		if interval == 0 {
			interval = min(64, 1<<min(j.rounds, 6))
		}
		j.rounds++
		j.interval = interval
		j.notBefore = now.Add(time.Duration(interval) * time.Second * 9 / 10)
		if c.fault != nil {
			j.notBefore = time.Time{} // the runner may not know of it
		}
		return answer{status: http.StatusAccepted, jobState: j.status, interval: interval}
	}
	j.checksum, j.bytesize = checksum, size
	j.byRunner = true
	j.exitCode = int(req.exit())
	j.looseFinal = j.looseFinal || c.fault != nil
	status, reason := Success, ""
	if req.State == string(Failed) {
		status, reason = Failed, knownReason(req.reason())
	}
	if j.status == Canceling {
		status = Canceled
	}
	s.finish(j, status, reason)
	return answer{status: http.StatusOK, jobState: status}
}

// knownReason is the reason that the server stores.
func knownReason(reason string) string {
	if !slices.Contains(failureReasons(), reason) {
		return "unknown_failure"
	}
	return reason
}

// checkFinal checks rules 9, 12, 13 and 14 on a final PUT.
func (s *Server) checkFinal(j *job, req *updateRequest, checksum string, size int64) {
	if !j.acked && (req.State != string(Failed) || req.reason() != "runner_system_failure") {
		s.violateJob(j, RuleAcknowledge, "PUT %s for a job that was never acknowledged", req.State)
	}
	says := fmt.Sprintf("%s %q %d %s %d", req.State, req.reason(), req.exit(), checksum, size)
	if j.firstFinal == "" || j.disturbed {
		j.firstFinal = says
	} else if j.firstFinal != says {
		s.violateJob(j, RuleFinal, "final PUT differs from the one before: %s, then %s", j.firstFinal, says)
	}
	if !j.patchRefused {
		want := "crc32:" + fmt.Sprintf("%08x", j.crc)
		switch {
		case size > j.size:
			s.violateJob(j, RuleFinal, "final PUT before all bytes were accepted: %d of %d", j.size, size)
		case size != j.size:
			s.violateJob(j, RuleChecksum, "output.bytesize is %d, %d bytes are stored", size, j.size)
		case checksum != want && (j.size > 0 || checksum != ""):
			s.violateJob(j, RuleChecksum, "output.checksum is %q, the trace has %q", checksum, want)
		}
	}
	s.checkResult(j, req)
}

// checkResult checks rule 14.
func (s *Server) checkResult(j *job, req *updateRequest) {
	reason := req.reason()
	if req.ExitCode != nil && *req.ExitCode == 0 {
		s.violateJob(j, RuleFailureReason, "exit_code 0 is sent")
	}
	if req.State == string(Success) {
		if req.FailureReason != nil || req.exit() != 0 {
			s.violateJob(j, RuleFailureReason, "success with failure_reason %q and exit_code %d", reason, req.exit())
		}
		return
	}
	switch reason {
	case "script_failure", "runner_system_failure", "job_execution_timeout", "unknown_failure":
		return
	case "":
		s.violateJob(j, RuleFailureReason, "failed without failure_reason")
		return
	case "job_canceled":
		if j.ackCanceling {
			return
		}
	}
	if !slices.Contains(j.sent.reasons, reason) {
		s.violateJob(j, RuleFailureReason, "failure_reason %q is not one of the payload's", reason)
	}
}

// maxAfterEnd is how many requests are normal after the end of a job was told: what was in flight, and
// one final update with its flush.
const maxAfterEnd = 4

// checkAfterEnd checks rules 9 and 13 on a request for a job that is over (or was never given out).
func (s *Server) checkAfterEnd(j *job, what string, final bool) {
	defer s.touched(j)
	j.afterEnd++
	switch {
	case !j.final():
		s.violateJob(j, RuleAcknowledge, "%s while the job is %s", what, j.status)
	case j.ackRefused:
		s.violateJob(j, RuleAcknowledge, "%s after the acknowledgement was refused", what)
	case j.byRunner && !(final && j.looseFinal):
		s.violateJob(j, RuleFinal, "%s after the final update was accepted", what)
	case j.afterEnd > maxAfterEnd && !j.disturbed:
		s.violateJob(j, RuleFinal, "%s: request %d after the end of the job was told", what, j.afterEnd)
	}
	j.patchRefused = true
}

// checkSilence checks rule 16.
func (s *Server) checkSilence(j *job, now time.Time) {
	if j.disturbed || j.silent || j.lost || j.runner == nil || j.status != Running && j.status != Canceling {
		return
	}
	const slack = 3 * time.Second
	allowed := time.Duration(max(33, 30+j.interval))*time.Second + slack
	if gap := now.Sub(j.lastContact); gap > allowed {
		j.silent = true
		s.violateJob(j, RuleContact, "nothing heard for %v", gap.Round(time.Second))
	}
}

// noteRefusal notes that a fault told the runner to drop or abort a job, or
// where to go on with its trace.
// A job request that only the fault answered counts for rule 20 like any other.
func (s *Server) noteRefusal(c *call, a *bufferedWriter) {
	if c.endpoint == RequestJob && c.fault.replaces() && !c.fault.Process {
		var req jobRequest
		if json.Unmarshal(c.body, &req) == nil {
			s.mu.Lock()
			s.checkUnhealthy(req.Token, a.status == http.StatusForbidden, c.repeated)
			s.mu.Unlock()
		}
	}
	if c.endpoint != UpdateJob && c.endpoint != PatchTrace {
		return
	}
	state := a.header.Get("Job-Status")
	aborts := a.status == http.StatusForbidden || a.status == http.StatusNotFound ||
		state == string(Canceled) || state == string(Failed)
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs[c.job]
	if j == nil {
		return
	}
	if aborts {
		j.patchRefused = true
	}
	if a.status == http.StatusRequestedRangeNotSatisfiable {
		j.loosePatch = true // it was sent to another place than the right one
	}
}
