package fakegitlab

import (
	"bytes"
	"cmp"
	"hash/crc32"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// parseContentRange reads "<first>-<last>". ok is false if the text has another shape; start is then what a
// lenient server makes of it: the leading digits, or 0.
func parseContentRange(text string) (start, last int64, ok bool) {
	digits := len(text) - len(strings.TrimLeft(text, "0123456789"))
	start, ok = parseOffset(text[:digits])
	rest, dash := strings.CutPrefix(text[digits:], "-")
	last, whole := parseOffset(rest)
	if !ok || !dash || !whole {
		return start, 0, false
	}
	return start, last, true
}

// parseOffset reads a number without sign that fits an int64.
func parseOffset(text string) (int64, bool) {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, false
	}
	return int64(n), true
}

// handleTrace is PATCH jobs/:id/trace.
func (s *Server) handleTrace(c *call) {
	if ct := mediaType(c.r.Header.Get("Content-Type")); ct != "text/plain" {
		s.record(RuleContentType, c.job, nil, "PATCH: Content-Type %q", ct)
	}
	query := c.r.URL.Query()
	debug := query.Get("debug_trace")
	if debug != "true" && debug != "false" {
		s.record(RuleDebugTrace, c.job, nil, "debug_trace is %q", debug)
	}
	if c.r.ContentLength < 0 {
		s.record(RuleTraceRange, c.job, nil, "PATCH without Content-Length")
	}
	s.mu.Lock()
	j := s.authenticate(c, query.Get("token"))
	if j == nil {
		s.mu.Unlock()
		c.forbidden()
		return
	}
	a := s.patch(c, j, debug == "true")
	s.mu.Unlock()
	if a.status == http.StatusBadRequest {
		c.json(a.status, map[string]string{"error": a.message})
		return
	}
	c.answer(a)
}

// patch is the state machine of a PATCH.
func (s *Server) patch(c *call, j *job, debug bool) answer {
	j.patches++
	s.checkSilence(j, s.now())
	if j.waiting {
		s.violateJob(j, RuleAcknowledge, "PATCH before PUT running")
		return refusal(Pending)
	}
	if j.status != Running && j.status != Canceling {
		s.checkAfterEnd(j, "PATCH", false)
		return refusal(j.status)
	}
	s.contact(j)
	j.loosePatch = j.loosePatch || c.fault != nil
	if !j.acked {
		// Legitimate only for a job that is rejected at once; its final PUT tells.
		j.patchEarly = true
	}
	header := c.r.Header.Get("Content-Range")
	if header == "" {
		s.violateJob(j, RuleTraceRange, "PATCH without Content-Range")
		return answer{status: http.StatusBadRequest, message: "400 Missing header Content-Range"}
	}
	start, last, ok := parseContentRange(header)
	n := int64(len(c.body))
	switch {
	case !ok:
		s.violateJob(j, RuleTraceRange, "Content-Range %q", header)
	case n == 0 || n > maxTracePatchBytes:
		s.violateJob(j, RuleTraceRange, "PATCH of %d bytes", n)
	case last != start+n-1:
		s.violateJob(j, RuleTraceRange, "Content-Range %q with %d bytes", header, n)
	}
	return s.store(j, start, debug, c.body)
}

// store appends a chunk as the server does: where it starts decides, where it claims to end does not.
func (s *Server) store(j *job, start int64, debug bool, chunk []byte) answer {
	n := int64(len(chunk))
	appended := start == j.size
	if appended {
		if j.size+n > s.opts.TraceLimit {
			s.finish(j, Failed, "trace_size_exceeded")
			j.patchRefused = true
			return answer{status: http.StatusForbidden, message: "403 Forbidden - Trace size exceeded"}
		}
		if start == 0 {
			j.debug = debug
			j.firstOutput = s.now()
		}
		j.trace = append(j.trace, chunk...)
		j.crc = crc32.Update(j.crc, crc32.IEEETable, chunk)
		j.size += n
		s.stats.Bytes += n
	} else if !j.loosePatch {
		s.violateJob(j, RuleTraceRange, "PATCH starts at %d, %d bytes are stored", start, j.size)
	}
	s.touched(j)
	if start+n != j.size {
		j.resets++
		return answer{status: http.StatusRequestedRangeNotSatisfiable, stored: j.size, ranged: true, message: "416 Range Not Satisfiable"}
	}
	if !appended {
		j.replays++ // the last chunk once more: its answer was lost
	}
	j.interval = max(0, cmp.Or(j.spec.UpdateInterval, s.opts.UpdateInterval))
	return answer{status: http.StatusAccepted, jobState: j.status, stored: j.size, ranged: true, interval: j.interval}
}

// defaultMaskPrefixes are the token prefixes that a runner masks on its own.
func defaultMaskPrefixes() []string {
	return []string{
		"glpat-", "gloas-", "gldt-", "glrt-", "glcbt-", "glrtr-", "glptt-", "glft-", "glimt-", "glagent-",
		"glsoat-", "glffct-", "_gitlab_session=", "gltok-",
	}
}

// maskPrefixes are the prefixes that must be masked: runners use the 15 shortest.
func maskPrefixes(extra []string) []string {
	all := append(defaultMaskPrefixes(), extra...)
	slices.SortStableFunc(all, func(a, b string) int { return len(a) - len(b) })
	var out []string
	for _, p := range all {
		if p != "" && !slices.Contains(out, p) && len(out) < 15 {
			out = append(out, p)
		}
	}
	return out
}

// minSecret is the length below which a masked value cannot be told from ordinary text.
const minSecret = 6

// checkSecrets checks rule 15 on the whole trace. The search runs without the lock: what is stored never changes.
func (s *Server) checkSecrets(id int64) {
	s.mu.Lock()
	j := s.jobs[id]
	if j == nil || j.final() {
		s.mu.Unlock()
		return
	}
	trace, sent, token := slices.Clip(j.trace), j.sent, j.token
	s.mu.Unlock()
	if len(trace) == 0 {
		return
	}
	if token != "" && bytes.Contains(trace, []byte(token)) {
		s.violateJob(j, RuleSecrets, "the job token is in the trace")
	}
	for i, secret := range sent.secrets {
		if secret != token && len(secret) >= minSecret && bytes.Contains(trace, []byte(secret)) {
			s.violateJob(j, RuleSecrets, "masked value %d of %d bytes is in the trace", i+1, len(secret))
		}
	}
	for _, prefix := range maskPrefixes(sent.prefixes) {
		if at := unmaskedToken(trace, prefix); at >= 0 {
			s.violateJob(j, RuleSecrets, "a token with prefix %s is in the trace at byte %d", prefix, at)
		}
	}
}

// unmaskedToken finds a prefix that is followed by a character of a token.
func unmaskedToken(trace []byte, prefix string) int {
	for at := 0; ; {
		i := bytes.Index(trace[at:], []byte(prefix))
		if i < 0 {
			return -1
		}
		at += i + len(prefix)
		if at < len(trace) && isTokenByte(trace[at]) {
			return at - len(prefix)
		}
	}
}

func isTokenByte(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b == '.' || b == '_' || b == '=' || b == '-'
}
