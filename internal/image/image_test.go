package image_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/image"
	"github.com/glassrunner/glassrunner/internal/job"
)

func TestService(t *testing.T) {
	for _, tt := range []struct{ in, repo, version string }{
		{"mysql", "mysql", "latest"},
		{"mysql:8", "mysql", "8"},
		{"group/mysql:8.0", "group/mysql", "8.0"},
		{"registry.example.com:5000/group/mysql:8", "registry.example.com/group/mysql", "8"},
		{"registry.example.com:5000/mysql", "registry.example.com/mysql", "latest"},
		{"mysql@sha256:abc", "mysql", "sha256:abc"},
		{"host:5000/mysql:8@sha256:abc", "host/mysql", "sha256:abc"},
	} {
		if repo, version := image.Service(tt.in); repo != tt.repo || version != tt.version {
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
		"ErrImageNeverPull: Container image is not present with pull policy of Never":       job.ConfigurationError,
		"insufficient_scope: authorization failed":                                          job.ConfigurationError,
	} {
		if got := image.PullReason(text); got != want {
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
		if got := image.Match(tt.pattern, tt.name); got != tt.want {
			t.Errorf("%s on %s: got %v, want %v", tt.pattern, tt.name, got, tt.want)
		}
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
			home, log := t.TempDir(), &strings.Builder{}
			if tt.home != "" {
				if err := os.MkdirAll(filepath.Join(home, ".docker"), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(home, ".docker", "config.json"), []byte(tt.home), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			named, err := reference.ParseNormalizedNamed(tt.image)
			if err != nil {
				t.Fatal(err)
			}
			auth, part, source := image.Sources{
				Config: tt.variable, Home: home, Job: tt.creds, Warn: func(text string) { log.WriteString(text + "\n") },
			}.Read().Lookup(t.Context(), named)
			if !strings.HasSuffix(source, tt.source) || tt.source == "" && source != "" {
				t.Errorf("got the source %q, want %q", source, tt.source)
			}
			if !strings.Contains(log.String(), tt.warns) || tt.warns == "" && log.String() != "" {
				t.Errorf("got the log %q, want %q", log.String(), tt.warns)
			}
			if strings.Contains(log.String(), "password") || strings.Contains(log.String(), "secret") {
				t.Errorf("the log has a secret: %q", log.String())
			}
			if source == "" {
				if tt.user+tt.token != "" {
					t.Error("got nothing")
				}
				return
			}
			if got := auth.Username + ":" + auth.Password.Reveal(); tt.user != "" && got != tt.user {
				t.Errorf("got %s, want %s", got, tt.user)
			}
			if auth.IdentityToken.Reveal() != tt.token {
				t.Errorf("got the token %q, want %q", auth.IdentityToken.Reveal(), tt.token)
			}
			if full := reference.Domain(named) + "/" + reference.Path(named); part == "" || !strings.HasPrefix(full+"/", part+"/") {
				t.Errorf("the password is for %q of %q", part, full)
			}
			if text := fmt.Sprintf("%v %+v %#v", auth, auth, auth); tt.user != "" && strings.Contains(text, strings.SplitN(tt.user, ":", 2)[1]+"}") {
				t.Errorf("it prints itself: %s", text)
			}
		})
	}
}

func TestPolicies(t *testing.T) {
	for _, tt := range []struct {
		p      image.Policies
		wanted []string
		want   []image.Policy
		bad    string
	}{
		{p: image.Policies{Default: image.Always}, want: []image.Policy{image.Always}},
		{p: image.Policies{}, want: []image.Policy{image.Unset}},
		{p: image.Policies{}, wanted: []string{"never"}, bad: "pull_policy ([never]) defined in GitLab pipeline config is not one of the allowed_pull_policies ([])"},
		{p: image.Policies{Allowed: []string{"never", "always"}}, wanted: []string{"never"}, want: []image.Policy{image.Never}},
		{p: image.Policies{Configured: []string{"always", "if-not-present"}, Default: image.Always}, want: []image.Policy{image.Always, image.IfNotPresent}},
		{p: image.Policies{Configured: []string{"always"}, Allowed: []string{"never"}}, bad: "defined in Runner config is not one of"},
		{p: image.Policies{Default: image.Always}, wanted: []string{""}, bad: `unsupported pull_policy ""`},
	} {
		got, err := tt.p.Choose("x", tt.wanted)
		if (err == nil) != (tt.bad == "") || err != nil && !strings.Contains(err.Error(), tt.bad) {
			t.Errorf("%+v of %v: got %v, want %q", tt.p, tt.wanted, err, tt.bad)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%+v of %v (-want +got):\n%s", tt.p, tt.wanted, d)
		}
	}
}

func TestList(t *testing.T) {
	l := image.List{Key: "`allowed_images`", What: "images", Patterns: []string{"ruby:*"}, Own: []string{"own"}}
	var said []string
	say := func(line string) { said = append(said, line) }
	for name, want := range map[string]bool{"ruby:3": true, "own": true, "python:3": false} {
		said = nil
		if err := l.Check(name, say); (err == nil) != want || want != (len(said) == 0) {
			t.Errorf("%s: got %v and %q", name, err, said)
		}
		if !want && (!slices.Contains(said, "- ruby:*") || !strings.Contains(said[1], `The "python:3" image is not present on list of allowed images:`)) {
			t.Errorf("said %q", said)
		}
	}
	if err := (image.List{}).Check("anything", say); err != nil {
		t.Errorf("no list: %v", err)
	}
}

func TestAliases(t *testing.T) {
	got := image.Aliases("group/mysql", "db, sql", "group-mysql", "")
	if d := cmp.Diff([]string{"group__mysql", "group-mysql", "db", "sql"}, got); d != "" {
		t.Error(d)
	}
}

func TestWellFormed(t *testing.T) {
	for name, ok := range map[string]bool{
		"ruby": true, "r.example.com:5000/a/b:1@sha256:" + strings.Repeat("a", 64): true, strings.Repeat("f", 64): true,
		"": false, "Ruby": false, "a b": false, "a\nb": false, "-x": false, "../x": false,
	} {
		if err := image.WellFormed(name); (err == nil) != ok {
			t.Errorf("%q: got %v", name, err)
		}
	}
}

func FuzzService(f *testing.F) {
	for _, s := range []string{"mysql", "host:5000/a/b:1", "a@sha256:b", ":", "/", "@"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		repo, version := image.Service(name)
		if len(repo) > len(name) || len(version) > max(len(name), len("latest")) {
			t.Errorf("%q is %q and %q", name, repo, version)
		}
		for _, a := range image.Aliases(repo) {
			if strings.Contains(a, "/") {
				t.Errorf("%q has the alias %q", name, a)
			}
		}
	})
}
