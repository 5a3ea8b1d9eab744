package fakegitlab

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// runnerRequest is the body of the runner endpoints.
type runnerRequest struct {
	Token           string          `json:"token"`
	SystemID        string          `json:"system_id"`
	Info            json.RawMessage `json:"info"`
	Description     string          `json:"description"`
	MaintenanceNote string          `json:"maintenance_note"`
	MaintainerNote  string          `json:"maintainer_note"`
	TagList         json.RawMessage `json:"tag_list"`
	RunUntagged     *bool           `json:"run_untagged"`
	Locked          *bool           `json:"locked"`
	AccessLevel     string          `json:"access_level"`
	MaximumTimeout  *int            `json:"maximum_timeout"`
	Paused          *bool           `json:"paused"`
	Active          *bool           `json:"active"`
}

// runnerCall decodes a request of a runner endpoint and checks rules 4, 6 and 8.
func (s *Server) runnerCall(c *call, req *runnerRequest, header, system bool) bool {
	if !c.wantJSON(req) {
		return false
	}
	if req.Token == "" {
		s.violate(RuleRunnerToken, "%s: no token in the body", c.endpoint)
		c.missing("token")
		return false
	}
	s.checkRunnerToken(c, req.Token, header)
	if system {
		s.checkSystemID(c, req.SystemID)
	}
	return true
}

func (s *Server) checkRunnerToken(c *call, token string, header bool) {
	sent, present := c.r.Header["Runner-Token"]
	switch {
	case header && (!present || sent[0] != token):
		s.violate(RuleRunnerToken, "%s: RUNNER-TOKEN is missing or differs from the body's token", c.endpoint)
	case !header && present:
		s.violate(RuleRunnerToken, "%s: RUNNER-TOKEN is not expected", c.endpoint)
	}
}

func (s *Server) checkSystemID(c *call, id string) {
	if !systemIDPattern.MatchString(id) {
		s.violate(RuleInfo, "%s: system_id %q", c.endpoint, id)
	}
}

// handleRegister is POST runners.
func (s *Server) handleRegister(c *call) {
	var req runnerRequest
	if !s.runnerCall(c, &req, true, false) {
		return
	}
	if s.opts.RegistrationDisabled {
		c.json(http.StatusGone, map[string]string{"message": "410 Gone - Runner registration tokens are disabled"})
		return
	}
	if req.Token != s.opts.RegistrationToken {
		c.forbidden()
		return
	}
	s.checkInfo(req.Info, string(c.endpoint), 0)
	if req.RunUntagged == nil || req.Locked == nil || req.Paused == nil && req.Active == nil {
		s.violate(RuleInfo, "%s: run_untagged, locked and paused are always sent", c.endpoint)
	}
	if problem := req.problem(); problem != "" {
		c.json(http.StatusBadRequest, map[string]string{"error": problem})
		return
	}
	tags, ok := req.tags()
	untagged := req.RunUntagged == nil || *req.RunUntagged
	if !ok || !untagged && len(tags) == 0 {
		c.json(http.StatusBadRequest, map[string]any{"message": map[string][]string{
			"tags_list": {"can not be empty when runner is not allowed to pick untagged jobs"},
		}})
		return
	}
	config := RunnerConfig{Description: req.Description, Tags: tags, OnlyTagged: !untagged}
	config.Paused = req.Paused != nil && *req.Paused || req.Active != nil && !*req.Active
	s.mu.Lock()
	ru := s.addRunner(config, "glrtr-", s.newExpiry())
	body := ru.credentials()
	s.mu.Unlock()
	c.json(http.StatusCreated, body)
}

// problem is the validation of the parameters.
func (req *runnerRequest) problem() string {
	switch {
	case req.AccessLevel != "" && req.AccessLevel != "not_protected" && req.AccessLevel != "ref_protected":
		return "access_level does not have a valid value"
	case req.MaintenanceNote != "" && req.MaintainerNote != "":
		return "maintainer_note, maintenance_note are mutually exclusive"
	case req.Paused != nil && req.Active != nil:
		return "active, paused are mutually exclusive"
	case len([]rune(req.MaintenanceNote)) > 1024:
		return "maintenance_note is too long (maximum is 1024 characters)"
	case req.MaximumTimeout != nil && *req.MaximumTimeout < 600:
		return "maximum_timeout needs to be at least 10 minutes"
	}
	return ""
}

// tags reads tag_list, a comma-separated string or an array.
func (req *runnerRequest) tags() ([]string, bool) {
	if len(req.TagList) == 0 || string(req.TagList) == "null" {
		return nil, true
	}
	var text string
	var list []string
	if json.Unmarshal(req.TagList, &text) == nil {
		list = strings.Split(text, ",")
	} else if json.Unmarshal(req.TagList, &list) != nil {
		return nil, false
	}
	var out []string
	for _, tag := range list {
		if tag = strings.TrimSpace(tag); tag != "" && !slices.Contains(out, tag) {
			out = append(out, tag)
		}
	}
	return out, true
}

func (s *Server) newExpiry() time.Time {
	if s.opts.TokenTTL == 0 {
		return time.Time{}
	}
	return s.now().Add(s.opts.TokenTTL)
}

// credentials is the body of register and verify.
func (ru *runner) credentials() map[string]any {
	return map[string]any{"id": ru.id, "token": ru.token, "token_expires_at": ru.expiry()}
}

func (ru *runner) expiry() any {
	if ru.expires.IsZero() {
		return nil
	}
	return ru.expires.UTC().Format("2006-01-02T15:04:05.000Z")
}

// handleVerify is POST runners/verify.
func (s *Server) handleVerify(c *call) {
	var req runnerRequest
	if !s.runnerCall(c, &req, true, true) {
		return
	}
	s.mu.Lock()
	ru := s.findRunner(req.Token)
	var body map[string]any
	if ru != nil {
		s.touchManager(ru, req.SystemID, req.Info, "verify")
		body = ru.credentials()
	}
	s.mu.Unlock()
	if ru == nil {
		c.forbidden()
		return
	}
	c.json(http.StatusOK, body)
}

// handleUnregister is DELETE runners.
func (s *Server) handleUnregister(c *call) {
	var req runnerRequest
	if !s.runnerCall(c, &req, true, false) {
		return
	}
	s.mu.Lock()
	ru := s.findRunner(req.Token)
	if ru != nil {
		s.dropRunner(ru)
	}
	s.mu.Unlock()
	if ru == nil {
		c.forbidden()
		return
	}
	c.empty(http.StatusNoContent)
}

// handleUnregisterManager is DELETE runners/managers.
func (s *Server) handleUnregisterManager(c *call) {
	var req runnerRequest
	if !s.runnerCall(c, &req, true, true) {
		return
	}
	if req.SystemID == "" {
		c.missing("system_id")
		return
	}
	s.mu.Lock()
	ru := s.findRunner(req.Token)
	found := false
	if ru != nil {
		_, found = ru.managers[req.SystemID]
		delete(ru.managers, req.SystemID)
	}
	s.mu.Unlock()
	switch {
	case ru == nil:
		c.forbidden()
	case !found:
		c.json(http.StatusNotFound, map[string]string{"message": "404 Runner manager Not Found"})
	default:
		c.empty(http.StatusNoContent)
	}
}

// handleResetToken is both forms of reset_authentication_token.
func (s *Server) handleResetToken(c *call) {
	if c.rest != "" {
		s.resetByAdmin(c)
		return
	}
	var req runnerRequest
	if !s.runnerCall(c, &req, false, false) {
		return
	}
	s.mu.Lock()
	ru := s.findRunner(req.Token)
	body := s.resetToken(ru)
	s.mu.Unlock()
	if ru == nil {
		c.forbidden()
		return
	}
	c.json(http.StatusCreated, body)
}

func (s *Server) resetByAdmin(c *call) {
	if ct := mediaType(c.r.Header.Get("Content-Type")); ct != "application/json" {
		s.violate(RuleContentType, "%s: Content-Type %q", c.endpoint, ct)
	}
	token := c.r.Header.Get("Private-Token")
	id, err := strconv.ParseInt(c.rest, 10, 64)
	switch {
	case token == "" || token != s.opts.AdminToken && !strings.HasPrefix(token, "glpat-"):
		c.json(http.StatusUnauthorized, map[string]string{"message": "401 Unauthorized"})
		return
	case token != s.opts.AdminToken:
		c.forbidden()
		return
	case err != nil:
		c.json(http.StatusBadRequest, map[string]string{"error": "id is invalid"})
		return
	}
	s.mu.Lock()
	ru := s.runners[id]
	body := s.resetToken(ru)
	s.mu.Unlock()
	if ru == nil {
		c.json(http.StatusNotFound, map[string]string{"message": "404 Runner Not Found"})
		return
	}
	c.json(http.StatusCreated, body)
}

// resetToken gives a runner a new token of the same kind; the old one is refused at once.
func (s *Server) resetToken(ru *runner) map[string]any {
	if ru == nil {
		return nil
	}
	prefix := "glrtr-"
	if strings.HasPrefix(ru.token, "glrt-") {
		prefix = "glrt-t1_"
	}
	delete(s.byToken, ru.token)
	ru.token = s.secret(prefix, "runner", uint64(ru.id), ru.ticks)
	ru.expires = s.newExpiry()
	s.byToken[ru.token] = ru
	s.tick(ru)
	return map[string]any{"token": ru.token, "token_expires_at": ru.expiry()}
}

// handleDiscovery is GET runners/router/discovery.
func (s *Server) handleDiscovery(c *call) {
	s.mu.Lock()
	ru := s.findRunner(c.r.Header.Get("Runner-Token"))
	s.mu.Unlock()
	switch {
	case ru == nil:
		c.forbidden()
	case s.opts.RouterURL == "":
		c.json(http.StatusNotImplemented, map[string]string{"message": "501 Not Implemented"})
	default:
		c.json(http.StatusOK, map[string]string{"server_url": s.opts.RouterURL})
	}
}
