package docker_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/executor/docker"
	"github.com/glassrunner/glassrunner/internal/job"
)

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
