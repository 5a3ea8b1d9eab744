package coordinator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
)

// RegisterOptions describe a runner to be made with a registration token.
type RegisterOptions struct {
	Description     string
	MaintenanceNote string // at most 1024 characters
	Tags            string // separated by commas
	RunUntagged     bool
	Locked          bool
	Paused          bool
	AccessLevel     string // "not_protected" or "ref_protected"; "" is the coordinator's default
	MaximumTimeout  time.Duration
}

// Registered is a runner as its coordinator knows it.
type Registered struct {
	ID        int64 // 0 when a very old coordinator did not say
	Token     job.Secret
	ExpiresAt time.Time // zero: never
}

// Register makes a runner (POST runners). The client's token is the
// registration token. An *Error with status 403 means that it is wrong, 410
// that the coordinator registers runners by their own tokens only.
func (c *Client) Register(ctx context.Context, o RegisterOptions) (Registered, error) {
	body, err := json.Marshal(struct {
		Info            json.RawMessage `json:"info"`
		Token           string          `json:"token"`
		Description     string          `json:"description,omitempty"`
		MaintenanceNote string          `json:"maintenance_note,omitempty"`
		TagList         string          `json:"tag_list,omitempty"`
		RunUntagged     bool            `json:"run_untagged"`
		Locked          bool            `json:"locked"`
		AccessLevel     string          `json:"access_level,omitempty"`
		MaximumTimeout  int64           `json:"maximum_timeout,omitempty"`
		Paused          bool            `json:"paused"`
	}{
		Info: c.bare, Token: c.token.Reveal(), Description: o.Description, MaintenanceNote: o.MaintenanceNote,
		TagList: o.Tags, RunUntagged: o.RunUntagged, Locked: o.Locked, AccessLevel: o.AccessLevel,
		MaximumTimeout: int64(o.MaximumTimeout / time.Second), Paused: o.Paused,
	})
	if err != nil {
		return Registered{}, fmt.Errorf("register: %w", err)
	}
	cl := c.runnerCall("register", http.MethodPost, "runners", body)
	cl.wants = 201
	return c.registered(ctx, cl, true)
}

// Verify asks whether the runner is still known (POST runners/verify). Only
// an *Error with status 403 says that it is not; any other error says nothing
// about the runner. Very old coordinators answer without an ID.
func (c *Client) Verify(ctx context.Context) (Registered, error) {
	body, err := json.Marshal(struct {
		Info     json.RawMessage `json:"info"`
		Token    string          `json:"token"`
		SystemID string          `json:"system_id,omitempty"`
	}{Info: c.info, Token: c.token.Reveal(), SystemID: c.opts.SystemID})
	if err != nil {
		return Registered{}, fmt.Errorf("verify: %w", err)
	}
	cl := c.runnerCall("verify", http.MethodPost, "runners/verify", body)
	cl.wants = 200
	return c.registered(ctx, cl, false)
}

// Unregister removes the runner itself (DELETE runners).
func (c *Client) Unregister(ctx context.Context) error {
	return c.unregister(ctx, "runners", "")
}

// UnregisterManager removes this machine from the runner, which stays
// (DELETE runners/managers).
func (c *Client) UnregisterManager(ctx context.Context) error {
	return c.unregister(ctx, "runners/managers", c.opts.SystemID)
}

func (c *Client) unregister(ctx context.Context, path, systemID string) error {
	body, err := json.Marshal(struct {
		Token    string `json:"token"`
		SystemID string `json:"system_id,omitempty"`
	}{Token: c.token.Reveal(), SystemID: systemID})
	if err != nil {
		return fmt.Errorf("unregister: %w", err)
	}
	cl := c.runnerCall("unregister", http.MethodDelete, path, body)
	cl.accept = false
	_, failure := c.exchange(ctx, cl, func(ans *answer) *Error {
		if ans.status == 204 {
			return nil
		}
		return c.refused(cl, ans)
	})
	return asError(failure)
}

// ResetToken replaces the runner's token, which is invalid at once (POST
// runners/reset_authentication_token). The client itself keeps the old one.
func (c *Client) ResetToken(ctx context.Context) (Registered, error) {
	body := append([]byte(`{"token":`), appendString(nil, c.token.Reveal())...)
	cl := c.runnerCall("reset_token", http.MethodPost, "runners/reset_authentication_token", append(body, '}'))
	cl.wants = 201
	cl.tokenHeader = ""
	return c.registered(ctx, cl, true)
}

// ResetTokenByPAT replaces the token of the runner with that number by the
// right of a personal access token.
func (c *Client) ResetTokenByPAT(ctx context.Context, id int64, pat job.Secret) (Registered, error) {
	path := "runners/" + strconv.FormatInt(id, 10) + "/reset_authentication_token"
	cl := c.runnerCall("reset_token", http.MethodPost, path, []byte("null"))
	cl.wants = 201
	cl.tokenHeader, cl.token = headerPrivateToken, pat
	return c.registered(ctx, cl, true)
}

func (c *Client) runnerCall(endpoint, method, path string, body []byte) *call {
	return &call{
		endpoint: endpoint, method: method, to: c.target(path), tokenHeader: headerRunnerToken, token: c.token,
		contentType: "application/json", accept: true, body: inMemory(body), bound: boundDefault, keep: maxSmallBody,
	}
}

// registered makes a call whose answer is a Registered. needToken says that
// the answer makes no sense without one.
func (c *Client) registered(ctx context.Context, cl *call, needToken bool) (Registered, error) {
	var r Registered
	_, failure := c.exchange(ctx, cl, func(ans *answer) *Error {
		if ans.status != cl.wants {
			return c.refused(cl, ans)
		}
		var err error
		if r, err = readRegistered(ans, cl.keep, needToken); err != nil {
			return c.undecodable(cl, ans, err)
		}
		return nil
	})
	return r, asError(failure)
}

// readRegistered is as tolerant as can be: a new token has already replaced
// the old one, so that it is lost for good when it is not read here. An
// answer without the right content type will do, and so will a date that
// cannot be read.
func readRegistered(ans *answer, limit int64, needToken bool) (Registered, error) {
	var w struct {
		ID        loose[integer] `json:"id"`
		Token     text           `json:"token"`
		ExpiresAt loose[text]    `json:"token_expires_at"`
	}
	body := bytes.TrimSpace(ans.body.Bytes())
	err := ans.complete(limit)
	if !needToken && err != nil && ans.err == nil && bytes.Equal(body, []byte("200")) {
		return Registered{}, nil
	}
	decodeErr := json.Unmarshal(body, &w)
	if decodeErr == nil && w.Token != "" || err == nil && decodeErr == nil && !needToken {
		return Registered{ID: int64(w.ID.v), Token: job.Secret(w.Token), ExpiresAt: expiry(string(w.ExpiresAt.v))}, nil
	}
	switch {
	case err != nil:
		return Registered{}, err
	case decodeErr != nil:
		return Registered{}, plain(decodeErr)
	}
	return Registered{}, errors.New("the answer holds no token")
}

func expiry(v string) time.Time {
	t, err := time.Parse(time.RFC3339, v)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}
