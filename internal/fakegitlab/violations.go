package fakegitlab

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Rule is the number of a rule that a correct runner keeps.
type Rule int

// The rules, numbered as in the checklist of the runner API.
const (
	RulePath           Rule = 1  // Paths start with /api/v4/, without double slashes.
	RuleUserAgent      Rule = 2  // User-Agent is NAME VERSION (...).
	RuleRequestID      Rule = 3  // X-Request-Id is 32 hex digits, new for each logical request.
	RuleRunnerToken    Rule = 4  // The runner token is in the body and in RUNNER-TOKEN.
	RuleJobToken       Rule = 5  // The job token is in JOB-TOKEN (and in the body of a PUT) and fits the job.
	RuleContentType    Rule = 6  // JSON, text/plain or multipart, as the endpoint wants.
	RuleRequestSize    Rule = 7  // A job request has at most 32 KiB.
	RuleInfo           Rule = 8  // info, its 31 features, its config, and system_id are complete.
	RuleAcknowledge    Rule = 9  // PUT running comes first, and nothing follows its refusal.
	RuleTraceRange     Rule = 10 // Content-Range fits the body and what is stored.
	RuleDebugTrace     Rule = 11 // debug_trace is always in the query of a PATCH.
	RuleChecksum       Rule = 12 // Checksum and size of the final PUT are those of the trace.
	RuleFinal          Rule = 13 // One final update, after all bytes, repeated while answered 202.
	RuleFailureReason  Rule = 14 // failed has a known failure_reason; exit_code only when not zero.
	RuleSecrets        Rule = 15 // No masked value and no token in the trace.
	RuleContact        Rule = 16 // The server hears of a running job at least every 33 s.
	RuleConcurrency    Rule = 17 // request_concurrency, limit and concurrent are kept.
	RuleCheckInterval  Rule = 18 // Job requests of one entry are check_interval apart.
	RuleUpload         Rule = 19 // An upload has one part named file with a file name.
	RuleUnhealthy      Rule = 20 // After three 403 in a row the runner is silent for unhealthy_interval.
	maxViolations           = 1000
	maxJobRequestBytes      = 32 << 10
	maxTracePatchBytes      = 1 << 20
)

// Violation is one deviation of the runner from a [Rule]. Job is 0 when no job is concerned.
type Violation struct {
	Rule Rule
	Text string
	Job  int64
}

// String says the rule, the job and what was seen. It never holds a token.
func (v Violation) String() string {
	if v.Job != 0 {
		return fmt.Sprintf("rule %d: job %d: %s", v.Rule, v.Job, v.Text)
	}
	return fmt.Sprintf("rule %d: %s", v.Rule, v.Text)
}

// Violations returns what was recorded so far, oldest first (at most 1000), and checks first
// whether a running job has fallen silent.
func (s *Server) Violations() []Violation {
	s.mu.Lock()
	now := s.now()
	for _, j := range s.jobs {
		s.checkSilence(j, now)
	}
	s.mu.Unlock()
	s.vmu.Lock()
	defer s.vmu.Unlock()
	return slices.Clone(s.violations)
}

// ResetViolations forgets what was recorded.
func (s *Server) ResetViolations() {
	s.vmu.Lock()
	defer s.vmu.Unlock()
	s.violations = nil
}

// Relax stops the check of rules from now on.
func (s *Server) Relax(rules ...Rule) {
	s.vmu.Lock()
	defer s.vmu.Unlock()
	for _, r := range rules {
		s.relaxed[r] = true
	}
}

// violate records a violation that concerns no job.
func (s *Server) violate(rule Rule, format string, args ...any) {
	s.record(rule, 0, nil, format, args...)
}

// violateJob records a violation of a job, unless the job relaxes the rule.
func (s *Server) violateJob(j *job, rule Rule, format string, args ...any) {
	s.record(rule, j.id, j.spec.Relax, format, args...)
}

func (s *Server) record(rule Rule, id int64, relaxed []Rule, format string, args ...any) {
	if slices.Contains(relaxed, rule) {
		return
	}
	s.vmu.Lock()
	defer s.vmu.Unlock()
	if s.relaxed[rule] || len(s.violations) >= maxViolations {
		return
	}
	s.violations = append(s.violations, Violation{Rule: rule, Text: fmt.Sprintf(format, args...), Job: id})
}

var (
	userAgentPattern = regexp.MustCompile(`^\S+ \S+ \(.*\)$`)
	requestIDPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)
	systemIDPattern  = regexp.MustCompile(`^[sr]_[0-9a-zA-Z]{12}$`)
)

// featureKeys returns the 31 keys of info.features.
func featureKeys() []string {
	return []string{
		"trace_reset", "trace_checksum", "trace_size", "cancelable", "cancel_gracefully", "two_phase_job_commit",
		"job_inputs", "artifacts", "upload_multiple_artifacts", "upload_raw_artifacts", "cache",
		"fallback_cache_keys", "refspecs", "masking", "raw_variables", "artifacts_exclude", "multi_build_steps",
		"vault_secrets", "return_exit_code", "variables", "image", "image_executor_opts", "services",
		"service_variables", "service_multiple_aliases", "service_executor_opts", "session", "terminal", "shared",
		"proxy", "native_steps_integration",
	}
}

// runnerInfo is the object info of a request.
type runnerInfo struct {
	Name         string                     `json:"name"`
	Version      string                     `json:"version"`
	Revision     string                     `json:"revision"`
	Platform     string                     `json:"platform"`
	Architecture string                     `json:"architecture"`
	Executor     string                     `json:"executor"`
	Shell        string                     `json:"shell"`
	Features     map[string]json.RawMessage `json:"features"`
	Config       json.RawMessage            `json:"config"`
	Labels       map[string]string          `json:"labels"`
}

// has tells whether the feature key is announced as true.
func (i *runnerInfo) has(key string) bool {
	return string(i.Features[key]) == "true"
}

// parseInfo decodes info and lists what is wrong with it.
func parseInfo(raw json.RawMessage) (*runnerInfo, []string) {
	var info runnerInfo
	if len(raw) == 0 || string(raw) == "null" {
		return &info, []string{"info is missing"}
	}
	if err := json.Unmarshal(raw, &info); err != nil {
		return &info, []string{"info cannot be decoded: " + err.Error()}
	}
	var wrong []string
	for _, field := range []struct{ key, value string }{
		{"name", info.Name}, {"version", info.Version}, {"platform", info.Platform}, {"architecture", info.Architecture},
	} {
		if field.value == "" {
			wrong = append(wrong, "info."+field.key+" is missing")
		}
	}
	keys := featureKeys()
	for _, key := range keys {
		if v, ok := info.Features[key]; !ok {
			wrong = append(wrong, "info.features."+key+" is missing")
		} else if b := string(v); b != "true" && b != "false" {
			wrong = append(wrong, "info.features."+key+" is not a boolean")
		}
	}
	for key := range info.Features {
		if !slices.Contains(keys, key) {
			wrong = append(wrong, "info.features."+key+" is unknown")
		}
	}
	var config map[string]any
	if len(info.Config) == 0 || json.Unmarshal(info.Config, &config) != nil || config == nil {
		wrong = append(wrong, "info.config is not an object")
	}
	slices.Sort(wrong)
	return &info, wrong
}

// checkInfo checks rule 8 for info and system_id and returns the decoded info.
func (s *Server) checkInfo(raw json.RawMessage, what string, id int64) *runnerInfo {
	info, wrong := parseInfo(raw)
	if len(wrong) > 0 {
		s.record(RuleInfo, id, nil, "%s: %s", what, strings.Join(wrong, ", "))
	}
	return info
}

// checkCommon checks the rules that hold for every API request.
func (s *Server) checkCommon(c *call) {
	r := c.r
	if strings.Contains(r.URL.Path, "//") || strings.Contains(r.URL.Path, "/ci/api") {
		s.violate(RulePath, "%s %s", r.Method, r.URL.Path)
	}
	if c.endpoint == Unknown {
		if strings.Contains(r.URL.Path, "/api") {
			s.violate(RulePath, "unknown endpoint %s %s", r.Method, r.URL.Path)
		}
		return
	}
	if !c.endpoint.isRunnerAPI() {
		return
	}
	// The first try of a direct download is made with a bare client, so it may carry Go's default headers.
	bare := c.endpoint == DownloadArtifacts && r.URL.Query().Get("direct_download") == "true"
	if ua := r.UserAgent(); !bare && !userAgentPattern.MatchString(ua) {
		s.violate(RuleUserAgent, "%s %s: User-Agent %q", r.Method, r.URL.Path, ua)
	}
	id := r.Header.Get("X-Request-Id")
	if !requestIDPattern.MatchString(id) {
		if !bare {
			s.violate(RuleRequestID, "%s %s: X-Request-Id %q", r.Method, r.URL.Path, id)
		}
		return
	}
	if !bare {
		c.requestID = id
		s.checkRequestID(c)
	}
}

// seenRequest remembers a request id: a repetition is legitimate for the same path
// after an answer that asked for one, or after a fault.
type seenRequest struct {
	path      string
	retryable bool
}

const seenRequests = 2048

func (s *Server) checkRequestID(c *call) {
	path := c.r.Method + " " + c.r.URL.Path
	s.vmu.Lock()
	old, known := s.seen[c.requestID]
	if !known {
		if len(s.seenRing) < seenRequests {
			s.seenRing = append(s.seenRing, c.requestID)
		} else {
			delete(s.seen, s.seenRing[s.seenNext])
			s.seenRing[s.seenNext] = c.requestID
			s.seenNext = (s.seenNext + 1) % seenRequests
		}
	}
	s.seen[c.requestID] = seenRequest{path: path}
	s.vmu.Unlock()
	c.repeated = known
	switch {
	case !known:
	case old.path != path:
		s.violate(RuleRequestID, "id of %s used again for %s", old.path, path)
	case !old.retryable:
		s.violate(RuleRequestID, "%s: id used again after an answer that asks for no retry", path)
	}
}

// noteAnswer remembers whether the request may be repeated with the same id.
func (s *Server) noteAnswer(c *call, status int) {
	if c.requestID == "" {
		return
	}
	retryable := status == 0 || c.fault != nil || status == 307 || status == 408 || status == 429 ||
		status == 500 || status == 502 || status == 503 || status == 504 || status >= 512
	s.vmu.Lock()
	defer s.vmu.Unlock()
	if seen, ok := s.seen[c.requestID]; ok {
		seen.retryable = retryable
		s.seen[c.requestID] = seen
	}
}
