package docker_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/container"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/executor/docker"
	"github.com/glassrunner/glassrunner/internal/job"
)

func TestSplitService(t *testing.T) {
	for _, tt := range []struct{ in, repo, version string }{
		{"mysql", "mysql", "latest"},
		{"mysql:8", "mysql", "8"},
		{"group/mysql:8.0", "group/mysql", "8.0"},
		{"registry.example.com:5000/group/mysql:8", "registry.example.com/group/mysql", "8"},
		{"registry.example.com:5000/mysql", "registry.example.com/mysql", "latest"},
		{"mysql@sha256:abc", "mysql", "sha256:abc"},
		{"host:5000/mysql:8@sha256:abc", "host/mysql", "sha256:abc"},
	} {
		if repo, version := docker.SplitService(tt.in); repo != tt.repo || version != tt.version {
			t.Errorf("%s: got %s and %s, want %s and %s", tt.in, repo, version, tt.repo, tt.version)
		}
	}
}

func TestPullReason(t *testing.T) {
	for text, want := range map[string]job.Reason{
		"Error response from daemon: Get \"https://x/v2/\": dial tcp 10.0.0.1:443: connect: connection refused": job.ExternalDependency,
		"net/http: TLS handshake timeout":                                                   job.ExternalDependency,
		"lookup registry.example.com: no such host":                                         job.ExternalDependency,
		"read: connection reset by peer":                                                    job.ExternalDependency,
		"manifest for x:1 not found: manifest unknown: manifest unknown":                    job.ConfigurationError,
		"pull access denied for x, repository does not exist or may require 'docker login'": job.ConfigurationError,
		"Get x: no basic auth credentials":                                                  job.ConfigurationError,
		"unauthorized: HTTP Basic: Access denied":                                           job.ConfigurationError,
		"denied: requested access to the resource is denied":                                job.ConfigurationError,
		"toomanyrequests: You have reached your pull rate limit":                            job.ImagePullFailure,
		"failed to register layer: write /big: no space left on device":                     job.ImagePullFailure,
	} {
		if got := docker.PullReason(errors.New(text)); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"ruby:*", "ruby:3.3", true},
		{"ruby:*", "library/ruby:3.3", false},
		{"registry.example.com/**", "registry.example.com/a/b/c:1", true},
		{"registry.example.com/*", "registry.example.com/a/b", false},
		{"**/ruby:*", "x/y/ruby:1", true},
		{"{ruby,python}:*", "python:3", true},
		{"*", "anything", true},
		{"[", "[", false},
	} {
		if got := docker.Match(tt.pattern, tt.name); got != tt.want {
			t.Errorf("%s on %s: got %v, want %v", tt.pattern, tt.name, got, tt.want)
		}
	}
}

func TestHostname(t *testing.T) {
	long := strings.Repeat("x", 80)
	for in, want := range map[string]string{
		"runner-aB_c1-project-1": "runner-abc1-project-1", "ünï": "n", long: long[:63], "-a-": "a",
	} {
		if got := docker.Hostname(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func FuzzParseVolume(f *testing.F) {
	for _, s := range []string{"/cache", "/a:/b", "vol:/b:ro,z", ":/b", "a:", "", "a:b:c:d", "/a:/b:rx"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		source, target, opts, err := docker.ParseVolume(s)
		if err != nil {
			return
		}
		if target == "" || strings.Contains(source+target+opts, ":") {
			t.Errorf("%q: got %q, %q, %q", s, source, target, opts)
		}
	})
}

func TestGPUs(t *testing.T) {
	gpu := [][]string{{"gpu"}}
	for _, tt := range []struct {
		text string
		want container.DeviceRequest
	}{
		{"all", container.DeviceRequest{Count: -1, Capabilities: gpu}},
		{"2", container.DeviceRequest{Count: 2, Capabilities: gpu}},
		{`"device=0,1"`, container.DeviceRequest{DeviceIDs: []string{"0", "1"}, Capabilities: gpu}},
		{"driver=nvidia,count=1", container.DeviceRequest{Driver: "nvidia", Count: 1, Capabilities: gpu}},
		{`all,"capabilities=utility,compute"`, container.DeviceRequest{Count: -1, Capabilities: [][]string{{"utility", "compute", "gpu"}}}},
	} {
		got, err := docker.GPUs(tt.text)
		if err != nil || len(got) != 1 {
			t.Errorf("%s: %v, %v", tt.text, got, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got[0]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.text, diff)
		}
	}
	for _, bad := range []string{"some", "count=x", "-1", `"`, "shape=round", "all,x"} {
		if got, err := docker.GPUs(bad); err == nil {
			t.Errorf("%s: got %+v, want an error", bad, got)
		}
	}
}

func TestPolicies(t *testing.T) {
	for _, tt := range []struct {
		config, allowed, job, want []string
		bad                        string
	}{
		{want: []string{"always"}},
		{config: []string{"never"}, want: []string{"never"}},
		{config: []string{"always", "if-not-present"}, want: []string{"always", "if-not-present"}},
		{config: []string{"always"}, allowed: []string{"always", "never"}, job: []string{"never"}, want: []string{"never"}},
		{config: []string{"always"}, allowed: []string{"never"}, job: []string{"if-not-present", "never"}, want: []string{"never"}},
		{job: []string{"never"}, bad: "pull_policy ([never]) defined in GitLab pipeline config is not one of the allowed_pull_policies ([always])"},
		{config: []string{"always"}, allowed: []string{"never"}, bad: "defined in Runner config is not one"},
		{allowed: []string{"never"}, bad: "defined in Runner config (default) is not one"},
		{job: []string{"sometimes"}, bad: `unsupported pull_policy "sometimes"`},
	} {
		got, err := docker.Policies(config.Docker{PullPolicy: tt.config, AllowedPullPolicies: tt.allowed}, tt.job)
		if tt.bad != "" {
			wantReason(t, err, job.ConfigurationError, tt.bad)
			continue
		}
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%+v: %v\n%s", tt, err, diff)
		}
	}
}

func TestPlatform(t *testing.T) {
	if p := docker.Platform("linux/arm/v7"); p.OS != "linux" || p.Architecture != "arm" || p.Variant != "v7" {
		t.Errorf("got %+v", p)
	}
	if p := docker.Platform("arm64"); p.OS != "linux" || p.Architecture != "arm64" {
		t.Errorf("got %+v", p)
	}
	if p := docker.Platform(""); p != nil {
		t.Errorf("got %+v", p)
	}
}

func TestBinds(t *testing.T) {
	yes := true
	r := executor.Request{
		Spec:      &job.Spec{Info: job.Info{ProjectID: 7}, AllowGitFetch: true, Git: job.Git{Protected: &yes}},
		Runner:    job.Runner{Short: "abc", SystemID: "s_1"},
		Variables: job.Variables{{Key: "WHERE", Value: "deps"}},
		Dirs:      executor.Dirs{Builds: "/builds", Project: "/builds/g/p", Temp: "/builds/g/p.tmp"},
	}
	o := docker.Options{Token: "glrt-secret", Config: config.Docker{Volumes: []string{"/srv:/srv:ro", "named:/data", "/cache", "$WHERE"}}}
	got, err := docker.Binds(o, r)
	if err != nil {
		t.Fatal(err)
	}
	// The names are a hash of token, system, project and slot, and one of the directory.
	const unique = "runner-cb4fe4d9f0b0bd4d3e4ed9a3bb9d8b2b"
	if len(got) != 5 || got[0] != "/srv:/srv:ro" || got[1] != "named:/data" || !strings.HasSuffix(got[2], "-cache-3c3f060a0374fc8bc39395164f415a70-protected:/cache") ||
		!strings.HasSuffix(got[3], "-protected:/builds/g/p/deps") || !strings.HasSuffix(got[4], "-cache-c33bcaa1fd2c77edfc3893b41966cea8-protected:/builds") {
		t.Errorf("got %q", got)
	}
	if strings.Contains(strings.Join(got, " "), "secret") || len(strings.Split(got[2], "-cache-")[0]) != len(unique) {
		t.Errorf("got %q", got)
	}
}

func TestCredentials(t *testing.T) {
	basic := func(user, password string) string {
		return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	}
	dir := t.TempDir()
	helper := "#!/bin/sh\nread server\ncase $server in\n*hub*|*docker.io*) echo '{\"Username\":\"hub\",\"Secret\":\"h\"}' ;;\nbad.example.com) echo secret; exit 1 ;;\n" +
		"token.example.com) echo '{\"Username\":\"<token>\",\"Secret\":\"id\"}' ;;\n*) echo credentials not found in native keychain; exit 1 ;;\nesac\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte(helper), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, tt := range []struct {
		name, variable, home, image string
		creds                       []job.Credential
		user, token, source, warns  string
	}{
		{name: "none", image: "ruby:3"},
		{name: "exact", variable: fmt.Sprintf(`{"auths":{"r.example.com":{"auth":%q}}}`, basic("u", "p:w")), image: "r.example.com/a/b:1", user: "u:p:w", source: "$DOCKER_AUTH_CONFIG"},
		{name: "longest", variable: fmt.Sprintf(`{"auths":{"r.example.com":{"auth":%q},"r.example.com/a":{"auth":%q}}}`, basic("u", "p"), basic("a", "p")), image: "r.example.com/a/b:1", user: "a:p", source: "$DOCKER_AUTH_CONFIG"},
		{name: "other path", variable: fmt.Sprintf(`{"auths":{"r.example.com/ab":{"auth":%q}}}`, basic("a", "p")), image: "r.example.com/a/b:1"},
		{name: "hub", variable: fmt.Sprintf(`{"auths":{"https://index.docker.io/v1/":{"auth":%q}}}`, basic("u", "p")), image: "ruby", user: "u:p", source: "$DOCKER_AUTH_CONFIG"},
		{name: "store", variable: `{"auths":{"https://index.docker.io/v1/":{}},"credsStore":"test"}`, image: "ruby", user: "hub:h", source: "$DOCKER_AUTH_CONFIG"},
		{name: "helper", home: `{"credHelpers":{"token.example.com":"test"}}`, image: "token.example.com/x", token: "id", source: "config.json"},
		{name: "helper knows nothing", home: `{"credHelpers":{"r.example.com":"test"}}`, image: "r.example.com/x",
			creds: []job.Credential{{Type: "registry", URL: "r.example.com", Username: "job", Password: "j"}}, user: "job:j", source: "job payload (GitLab Registry)"},
		{name: "helper fails", home: `{"credHelpers":{"bad.example.com":"test"}}`, image: "bad.example.com/x", warns: "docker-credential-test: exit status 1"},
		{name: "path", variable: `{"credHelpers":{"r.example.com":"../../tmp/evil"}}`, image: "r.example.com/x", warns: "is not the name of a program"},
		{name: "no JSON", variable: `{"auths": password`, image: "r.example.com/x", warns: "$DOCKER_AUTH_CONFIG are not used"},
		{name: "no base64", variable: `{"auths":{"r.example.com":{"auth":"?"}}}`, image: "r.example.com/x", warns: "not base64"},
		{name: "other type", creds: []job.Credential{{Type: "other", URL: "r.example.com", Username: "x", Password: "y"}}, image: "r.example.com/x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			home, log := t.TempDir(), &buffer{}
			if tt.home != "" {
				if err := os.MkdirAll(filepath.Join(home, ".docker"), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(home, ".docker", "config.json"), []byte(tt.home), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			r := executor.Request{Spec: &job.Spec{Credentials: tt.creds}, Log: log}
			if tt.variable != "" {
				r.Variables = job.Variables{{Key: "DOCKER_AUTH_CONFIG", Value: tt.variable}}
			}
			header, source, err := docker.Lookup(t.Context(), docker.Options{Home: home}, r, tt.image)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(source, tt.source) || tt.source == "" && source != "" {
				t.Errorf("got the source %q, want %q", source, tt.source)
			}
			if !strings.Contains(log.String(), tt.warns) || tt.warns == "" && log.String() != "" {
				t.Errorf("got the log %q, want %q", log, tt.warns)
			}
			if strings.Contains(log.String(), "password") || strings.Contains(log.String(), "secret") {
				t.Errorf("the log has a secret: %q", log)
			}
			if header == "" {
				if tt.user+tt.token != "" {
					t.Error("got nothing")
				}
				return
			}
			auth, err := authconfig.Decode(header)
			if err != nil {
				t.Fatal(err)
			}
			if got := auth.Username + ":" + auth.Password; tt.user != "" && got != tt.user {
				t.Errorf("got %s, want %s", got, tt.user)
			}
			if auth.IdentityToken != tt.token {
				t.Errorf("got the token %q, want %q", auth.IdentityToken, tt.token)
			}
		})
	}
}
