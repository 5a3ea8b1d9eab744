package coordinator_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/coordinator"
)

func TestRunnerCallsOnTheWire(t *testing.T) {
	const ok = `{"id":12,"token":"glrt-new","token_expires_at":"2026-01-31T10:00:00.000Z"}`
	full := coordinator.Registered{ID: 12, Token: "glrt-new", ExpiresAt: time.Date(2026, 1, 31, 10, 0, 0, 0, time.UTC)}
	type call func(context.Context, *coordinator.Client) (coordinator.Registered, error)
	for _, tt := range []struct {
		name, method, path, endpoint string
		token, pat                   string
		bare                         bool
		accept                       string
		status                       int
		want                         map[string]any
		reg                          coordinator.Registered
		call                         call
	}{
		{
			name: "register", method: "POST", path: "runners", endpoint: "register", token: runnerToken, accept: "application/json",
			status: 201, bare: true, reg: full,
			want: map[string]any{
				"token": runnerToken, "description": "d", "tag_list": "a,b", "run_untagged": true, "locked": false, "paused": true,
				"access_level": "ref_protected", "maximum_timeout": 3600.0,
			},
			call: func(ctx context.Context, c *coordinator.Client) (coordinator.Registered, error) {
				return c.Register(ctx, coordinator.RegisterOptions{
					Description: "d", Tags: "a,b", RunUntagged: true, Paused: true, AccessLevel: "ref_protected", MaximumTimeout: time.Hour,
				})
			},
		},
		{
			name: "verify", method: "POST", path: "runners/verify", endpoint: "verify", token: runnerToken, accept: "application/json", status: 200,
			reg: full, want: map[string]any{"token": runnerToken, "system_id": "s_0123456789ab"},
			call: func(ctx context.Context, c *coordinator.Client) (coordinator.Registered, error) { return c.Verify(ctx) },
		},
		{
			name: "unregister", method: "DELETE", path: "runners", endpoint: "unregister", token: runnerToken, status: 204,
			want: map[string]any{"token": runnerToken},
			call: func(ctx context.Context, c *coordinator.Client) (coordinator.Registered, error) {
				return coordinator.Registered{}, c.Unregister(ctx)
			},
		},
		{
			name: "unregister manager", method: "DELETE", path: "runners/managers", endpoint: "unregister", token: runnerToken, status: 204,
			want: map[string]any{"token": runnerToken, "system_id": "s_0123456789ab"},
			call: func(ctx context.Context, c *coordinator.Client) (coordinator.Registered, error) {
				return coordinator.Registered{}, c.UnregisterManager(ctx)
			},
		},
		{
			name: "reset", method: "POST", path: "runners/reset_authentication_token", endpoint: "reset_token", accept: "application/json", status: 201,
			want: map[string]any{"token": runnerToken}, reg: full,
			call: func(ctx context.Context, c *coordinator.Client) (coordinator.Registered, error) {
				return c.ResetToken(ctx)
			},
		},
		{
			name: "reset by PAT", method: "POST", path: "runners/12/reset_authentication_token", endpoint: "reset_token", pat: "glpat-x",
			accept: "application/json", status: 201, reg: full,
			call: func(ctx context.Context, c *coordinator.Client) (coordinator.Registered, error) {
				return c.ResetTokenByPAT(ctx, 12, "glpat-x")
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != tt.method || r.URL.String() != "/api/v4/"+tt.path {
					t.Errorf("got %s %s", r.Method, r.URL)
				}
				if r.Header.Get("Runner-Token") != tt.token || r.Header.Get("Private-Token") != tt.pat || r.Header.Get("Accept") != tt.accept ||
					r.Header.Get("Content-Type") != "application/json" {
					t.Errorf("got %v", r.Header)
				}
				if tt.want == nil {
					if b, _ := io.ReadAll(r.Body); string(b) != "null" {
						t.Errorf("got body %q", b)
					}
				} else {
					m := body(t, r)
					if info, ok := m["info"].(map[string]any); ok {
						features, _ := info["features"].(map[string]any)
						if _, has := info["executor"]; has == tt.bare || len(features) != 31 || features["shared"] == tt.bare {
							t.Errorf("info: %v", info)
						}
						delete(m, "info")
					}
					if d := cmp.Diff(tt.want, m); d != "" {
						t.Errorf("(-want +got):\n%s", d)
					}
				}
				if tt.status == 204 {
					w.WriteHeader(http.StatusNoContent)
					return
				}
				sendJSON(w, tt.status, ok)
			})
			rec := &recorder{}
			got, err := tt.call(t.Context(), newClient(t, options(url, rec)))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.reg, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if c := rec.last(t); c.Endpoint != tt.endpoint || c.Status != tt.status || c.Method != strings.ToLower(tt.method) {
				t.Errorf("event: %+v", c)
			}
			if c := rec.last(t); tt.name == "reset by PAT" && c.Path != "/api/v4/runners/{id}/reset_authentication_token" {
				t.Errorf("event: %+v", c)
			}
		})
	}
}

func TestRegisteredAnswers(t *testing.T) {
	for _, tt := range []struct {
		name, ctype, body string
		status            int
		verify            bool
		want              coordinator.Registered
		text              string
		code              int
	}{
		{name: "no expiry", status: 201, body: `{"id":1,"token":"t","token_expires_at":null}`, want: coordinator.Registered{ID: 1, Token: "t"}},
		{name: "odd expiry", status: 201, body: `{"id":null,"token":"t","token_expires_at":"soon"}`, want: coordinator.Registered{Token: "t"}},
		{name: "a token is never lost", status: 201, ctype: "text/plain", body: ` {"token":"t"} `, want: coordinator.Registered{Token: "t"}},
		{name: "no token", status: 201, body: `{"id":1}`, text: "holds no token", code: -1},
		{name: "HTML", status: 201, ctype: "text/html", body: `<html>`, text: "proxy or a login page", code: -1},
		{name: "cut", status: 201, body: `{"token":"t`, text: "unexpected end", code: -1},
		{name: "forbidden", status: 403, body: `{"message":"403 Forbidden"}`, text: ": 403 Forbidden", code: 403},
		{name: "gone", status: 410, body: `{"message":"410 Gone - use a runner token"}`, text: "(410 Gone - use a runner token)", code: 410},
		{name: "old server", verify: true, status: 200, ctype: "text/plain", body: "200"},
		{name: "verify HTML", verify: true, status: 200, ctype: "text/html", body: "<p>200</p>", text: "login page", code: -1},
		{name: "verify without token", verify: true, status: 200, body: `{"id":5}`, want: coordinator.Registered{ID: 5}},
		{name: "verify gone", verify: true, status: 403, text: "403 Forbidden", code: 403},
		{name: "verify orphaned", verify: true, status: 422, text: "422", code: 422},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if tt.ctype == "" {
					tt.ctype = "application/json"
				}
				w.Header().Set("Content-Type", tt.ctype)
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			})
			c := newClient(t, options(url, nil))
			f := c.ResetToken
			if tt.verify {
				f = c.Verify
			}
			got, err := f(t.Context())
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if tt.text == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantText(t, err, tt.text)
			var e *coordinator.Error
			if !errors.As(err, &e) || e.Status != tt.code {
				t.Errorf("got %#v, want status %d", e, tt.code)
			}
		})
	}
}
