package fakegitlab_test

import (
	"crypto/tls"
	"crypto/x509"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	fake "github.com/glassrunner/glassrunner/internal/fakegitlab"
)

func TestRegistration(t *testing.T) {
	s := start(t, fake.Options{TokenTTL: time.Hour})
	c := newClient(t, s, "")
	register := func(token string, more map[string]any) reply {
		body := map[string]any{"token": token, "info": goodInfo(), "run_untagged": true, "locked": false, "paused": false}
		maps.Copy(body, more)
		return c.sendJSON("POST", "/api/v4/runners", map[string]string{"RUNNER-TOKEN": token}, body)
	}
	for _, tt := range []struct {
		name, token string
		more        map[string]any
		want        int
	}{
		{"wrong token", "GR1348941wrong", nil, 403},
		{"untagged without tags", fake.DefaultRegistrationToken, map[string]any{"run_untagged": false}, 400},
		{"access level", fake.DefaultRegistrationToken, map[string]any{"access_level": "none"}, 400},
		{"both notes", fake.DefaultRegistrationToken, map[string]any{"maintenance_note": "a", "maintainer_note": "b"}, 400},
		{"tag array", fake.DefaultRegistrationToken, map[string]any{"tag_list": []string{"x"}}, 201},
		{"good", fake.DefaultRegistrationToken, map[string]any{"tag_list": "a, b,a", "description": "me"}, 201},
	} {
		if r := register(tt.token, tt.more); r.status != tt.want {
			t.Errorf("%s: got %d %s, want %d", tt.name, r.status, r.body, tt.want)
		}
	}
	all := s.Runners()
	ru := all[len(all)-1]
	if strings.Join(ru.Tags, "|") != "a|b" || ru.Description != "me" || !strings.HasPrefix(ru.Token, "glrtr-") || ru.ExpiresAt.IsZero() {
		t.Errorf("runner: %v %q, expires %v", ru.Tags, ru.Description, ru.ExpiresAt)
	}
	clean(t, s)

	gone := start(t, fake.Options{RegistrationDisabled: true})
	c.url = gone.URL()
	if r := register(fake.DefaultRegistrationToken, nil); r.status != 410 {
		t.Errorf("disabled: got %d", r.status)
	}
}

func TestRunnerEndpoints(t *testing.T) {
	s := start(t, fake.Options{})
	ru := s.AddRunner(fake.RunnerConfig{})
	c := newClient(t, s, ru.Token)
	call := func(method, path, token string, more map[string]any) reply {
		body := map[string]any{"token": token}
		maps.Copy(body, more)
		return c.sendJSON(method, path, map[string]string{"RUNNER-TOKEN": token}, body)
	}
	machine := map[string]any{"system_id": systemID, "info": goodInfo()}
	r := call("POST", "/api/v4/runners/verify", ru.Token, machine)
	want(t, "verify", r, 200, "")
	if got := r.json(t); got["id"] != float64(ru.ID) || got["token"] != ru.Token || got["token_expires_at"] != nil {
		t.Errorf("verify: got id %v, expiry %v", got["id"], got["token_expires_at"])
	}
	want(t, "verify unknown", call("POST", "/api/v4/runners/verify", "glrt-no", machine), 403, "")
	got, err := s.Runner(ru.Token)
	if err != nil || len(got.Managers) != 1 || !got.Managers[0].CancelGracefully || got.Managers[0].SystemID != systemID {
		t.Errorf("managers: %v %+v", err, got.Managers)
	}
	other := map[string]any{"system_id": "r_zzzzzzzzzzzz"}
	want(t, "no such manager", call("DELETE", "/api/v4/runners/managers", ru.Token, other), 404, "")
	want(t, "bad token", call("DELETE", "/api/v4/runners/managers", "glrt-no", other), 403, "")
	want(t, "manager", call("DELETE", "/api/v4/runners/managers", ru.Token, machine), 204, "")

	head := map[string]string{"RUNNER-TOKEN": ru.Token}
	if r := c.send(soon(t), "GET", "/api/v4/runners/router/discovery", head, nil); r.status != 501 {
		t.Errorf("discovery: got %d", r.status)
	}
	if r := c.send(soon(t), "GET", "/api/v4/runners/router/discovery", nil, nil); r.status != 403 {
		t.Errorf("discovery without token: got %d", r.status)
	}

	r = c.sendJSON("POST", "/api/v4/runners/reset_authentication_token", nil, map[string]any{"token": ru.Token})
	want(t, "reset", r, 201, "")
	fresh, _ := r.json(t)["token"].(string)
	if fresh == ru.Token || !strings.HasPrefix(fresh, "glrt-t1_") {
		t.Error("the token did not change")
	}
	want(t, "old token", call("POST", "/api/v4/runners/verify", ru.Token, machine), 403, "")
	want(t, "unregister", call("DELETE", "/api/v4/runners", fresh, nil), 204, "")
	want(t, "unregister again", call("DELETE", "/api/v4/runners", fresh, nil), 403, "")
	clean(t, s)
}

func TestResetByAdmin(t *testing.T) {
	s := start(t, fake.Options{})
	s.AddRunner(fake.RunnerConfig{})
	c := newClient(t, s, "")
	for _, tt := range []struct {
		path, token string
		want        int
	}{
		{"1", fake.DefaultAdminToken, 201}, {"1", "", 401}, {"1", "nonsense", 401}, {"1", "glpat-other", 403},
		{"9", fake.DefaultAdminToken, 404}, {"x", fake.DefaultAdminToken, 400},
	} {
		r := c.sendJSON("POST", "/api/v4/runners/"+tt.path+"/reset_authentication_token", map[string]string{"PRIVATE-TOKEN": tt.token}, []byte("null"))
		if r.status != tt.want {
			t.Errorf("%+v: got %d", tt, r.status)
		}
	}
	clean(t, s)
}

func TestTLSPrefixAndPage(t *testing.T) {
	s := start(t, fake.Options{TLS: true, PathPrefix: "/gitlab/"})
	ru := s.AddRunner(fake.RunnerConfig{Description: "shown"})
	s.MustEnqueue(fake.Job{Name: "listed"})
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.CAPEM()) {
		t.Fatal("no certificate")
	}
	c := newClient(t, s, ru.Token)
	c.http.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	defer c.http.CloseIdleConnections()
	if !strings.HasPrefix(s.URL(), "https://127.0.0.1:") || !strings.HasSuffix(s.URL(), "/gitlab") {
		t.Errorf("URL %s", s.URL())
	}
	r := c.send(soon(t), "GET", "/", nil, nil)
	if text := string(r.body); r.status != 200 || !strings.Contains(text, "shown") || !strings.Contains(text, "listed") || strings.Contains(text, ru.Token) {
		t.Errorf("page: %d %s", r.status, text)
	}
	if got := c.send(soon(t), "GET", "/api/v4/version", nil, nil).json(t)["version"]; got != fake.Version {
		t.Errorf("version: %v", got)
	}
	if got := c.job().payload.GitInfo.RepoURL; !strings.HasPrefix(got, "https://gitlab-ci-token:glcbt-64_") || !strings.HasSuffix(got, "/gitlab/acme/web.git") {
		t.Error("repo_url is not below the prefix")
	}
	if r := c.send(soon(t), "GET", "/api/v4/nothing", nil, nil); r.status != 404 {
		t.Errorf("unknown endpoint: %d", r.status)
	}
}

func TestDeterministicTokens(t *testing.T) {
	token := func(seed uint64) string {
		s := fake.New(fake.Options{Seed: seed})
		return s.AddRunner(fake.RunnerConfig{}).Token
	}
	if first, again := token(1), token(1); first != again || first == token(2) {
		t.Error("tokens do not follow the seed")
	}
}
