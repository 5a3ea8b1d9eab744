package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/config"
)

func TestShortToken(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"glrt-xyz", "xyz"},
		{"glrt-t3_AbCdEfGhIjKl", "AbCdEfGhI"},
		{"glrt-t1_AbCdEfGhIjKl", "AbCdEfGhI"},
		{"t2_AbCdEfGhIjKl", "AbCdEfGhI"},
		{"glrt-t4_AbCdEfGhIjKl", "t4_AbCdEf"},
		{"glrtr-AbCdEfGhIjKl", "AbCdEfGhI"},
		{"glrtr-t1_AbCdEfGhIjKl", "t1_AbCdEf"},
		{"glcbt-AbCdEfGhIjKl", "AbCdEfGhI"},
		{"glrt-glcbt-AbCdEfGhIjKl", "AbCdEfGhI"},
		{"GR1348941AbCdEfGhIjKl", "AbCdEfGhI"},
		{"GR1348941AbC", "AbC"},
		{"GRxyz8941AbC", "GRxyz8941"},
		{"GR134", "GR134"},
		{"glrt-t1_GR1348941AbCdEfGhIjKl", "AbCdEfGhI"},
		{"plainoldtoken", "plainoldt"},
		{"prefix-glrt-AbCdEf", "prefix-gl"},
	} {
		if got := config.ShortToken(c.in); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

func TestSystemID(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	first, err := config.SystemID(dir)
	if err != nil || !regexp.MustCompile(`^([s]_[0-9a-f]{12}|r_[0-9a-zA-Z]{12})$`).MatchString(first) {
		t.Fatalf("got %q, %v", first, err)
	}
	path := filepath.Join(dir, ".runner_system_id")
	if got := string(read(t, path)); got != first {
		t.Errorf("file: got %q, want %q", got, first)
	}
	for _, c := range []struct {
		name, stored, want string
	}{
		{"kept", "r_abcABC012345", "r_abcABC012345"},
		{"trimmed", " s_0123456789ab\n", "s_0123456789ab"},
		{"short", "s_0123456789a", ""},
		{"other letter", "x_0123456789ab", ""},
		{"empty", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(c.stored), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := config.SystemID(dir)
			if err != nil {
				t.Fatal(err)
			}
			if c.want != "" && got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if c.want == "" && (got == c.stored || string(read(t, path)) != got) {
				t.Errorf("got %q, file %q", got, read(t, path))
			}
		})
	}
}

func TestSystemIDNotKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	id, err := config.SystemID(filepath.Join(file, "dir"))
	if err == nil || len(id) != 14 {
		t.Errorf("got %q, %v, want an id and an error", id, err)
	}
}

func TestResolve(t *testing.T) {
	vars := map[string]string{"FF_TIMESTAMPS": "true", "FF_SCRIPT_SECTIONS": "T", "FF_HASH_CACHE_KEYS": "maybe", "FF_USE_ADAPTIVE_REQUEST_CONCURRENCY": "false"}
	set := config.Resolve(map[string]bool{"FF_TIMESTAMPS": false, "FF_UNKNOWN": true}, func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	})
	for _, c := range []struct {
		flag config.Flag
		want bool
	}{
		{config.FFTimestamps, false},
		{config.FFScriptSections, true},
		{config.FFHashCacheKeys, false},
		{config.FFUseAdaptiveRequestConcurrency, true},
		{config.FFUseFastzip, true},
		{"FF_UNKNOWN", false},
	} {
		if got := set.Enabled(c.flag); got != c.want {
			t.Errorf("%s: got %v, want %v", c.flag, got, c.want)
		}
	}
	if got, want := set.Changed(), "FF_SCRIPT_SECTIONS:true, FF_TIMESTAMPS:false"; got != want {
		t.Errorf("changed: got %q, want %q", got, want)
	}
	if diff := cmp.Diff([]config.Flag{config.FFHashCacheKeys}, set.Unreadable()); diff != "" {
		t.Errorf("unreadable: %s", diff)
	}
	if got := set.Variables()["FF_SCRIPT_SECTIONS"]; got != "true" {
		t.Errorf("variable: got %q", got)
	}
	if !(config.FlagSet{}).Enabled(config.FFTimestamps) {
		t.Error("the zero value does not have the defaults")
	}
}

func TestFlagTable(t *testing.T) {
	seen := make(map[config.Flag]bool)
	on := 0
	for _, f := range config.FeatureFlags() {
		if seen[f.Name] || !strings.HasPrefix(string(f.Name), "FF_") || !strings.HasSuffix(f.Doc, ".") {
			t.Errorf("bad entry %+v", f)
		}
		seen[f.Name] = true
		if f.Default {
			on++
		}
	}
	if len(seen) != 52 || on != 12 {
		t.Errorf("got %d flags, %d on, want 52 and 12", len(seen), on)
	}
}

func TestQueueThreshold(t *testing.T) {
	monday := time.Date(2026, 11, 23, 10, 30, 15, 500, time.UTC)
	always := "* * * * * * *"
	entry := func(threshold time.Duration, jobs string, periods ...string) config.QueuingDuration {
		return config.QueuingDuration{Periods: periods, Timezone: "UTC", Threshold: threshold, JobsRunningForProject: jobs}
	}
	for _, c := range []struct {
		name                 string
		entries              []config.QueuingDuration
		queued               time.Duration
		jobs                 string
		configured, exceeded bool
	}{
		{"none", nil, time.Hour, "0", false, false},
		{"over", []config.QueuingDuration{entry(time.Minute, "", always)}, 61 * time.Second, "5+", true, true},
		{"equal", []config.QueuingDuration{entry(time.Minute, "", always)}, time.Minute, "0", true, false},
		{"off", []config.QueuingDuration{entry(0, "", always)}, time.Hour, "0", true, false},
		{"last wins", []config.QueuingDuration{entry(time.Minute, "", always), entry(time.Hour, "", always)}, 2 * time.Minute, "0", true, false},
		{"last does not apply", []config.QueuingDuration{entry(time.Minute, "", always), entry(time.Hour, "", "* * 3 * * * *")}, 2 * time.Minute, "0", true, true},
		{"no period", []config.QueuingDuration{entry(time.Minute, "")}, time.Hour, "0", true, false},
		{"second alternative", []config.QueuingDuration{entry(time.Minute, "", "* * 3 * * * *", "* * 10 * * mon *")}, time.Hour, "0", true, true},
		{"weekend", []config.QueuingDuration{entry(time.Minute, "", "* * * * * sat,sun *")}, time.Hour, "0", true, false},
		{"five fields", []config.QueuingDuration{entry(time.Minute, "", "* * * * *")}, time.Hour, "0", true, false},
		{"jobs match", []config.QueuingDuration{entry(time.Minute, "^[0-4]$", always)}, time.Hour, "4", true, true},
		{"jobs do not match", []config.QueuingDuration{entry(time.Minute, "^[0-4]$", always)}, time.Hour, "5+", true, false},
		{"only one entry is asked", []config.QueuingDuration{entry(time.Minute, "", always), entry(time.Minute, "^9$", always)}, time.Hour, "0", true, false},
		{"bad cron", []config.QueuingDuration{entry(time.Minute, "", "x")}, time.Hour, "0", true, false},
		{"bad regexp", []config.QueuingDuration{entry(time.Minute, "(", always)}, time.Hour, "0", true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := config.Runner{}
			if c.entries != nil {
				r.Monitoring = &config.Monitoring{JobQueuingDurations: c.entries}
			}
			configured, exceeded := r.QueueThreshold(monday, c.queued, c.jobs)
			if configured != c.configured || exceeded != c.exceeded {
				t.Errorf("got %v, %v, want %v, %v", configured, exceeded, c.configured, c.exceeded)
			}
		})
	}
	minute := monday.Truncate(time.Minute)
	r := config.Runner{Monitoring: &config.Monitoring{JobQueuingDurations: []config.QueuingDuration{entry(1, "", "* * * * *")}}}
	if _, exceeded := r.QueueThreshold(minute.Add(-500*time.Millisecond), time.Hour, "0"); !exceeded {
		t.Error("five fields apply in the second before the full minute")
	}
	zone := entry(time.Minute, "", "* * 19 * * * *")
	zone.Timezone = "Asia/Tokyo"
	r.Monitoring.JobQueuingDurations = []config.QueuingDuration{zone}
	if _, exceeded := r.QueueThreshold(monday, time.Hour, "0"); !exceeded {
		t.Error("the time zone of the entry does not count")
	}
}

func BenchmarkQueueThreshold(b *testing.B) {
	r := config.Runner{Monitoring: &config.Monitoring{JobQueuingDurations: []config.QueuingDuration{
		{Periods: []string{"* * * * * * *"}, Timezone: "UTC", Threshold: time.Minute, JobsRunningForProject: "^[0-4]$"},
	}}}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		r.QueueThreshold(now, time.Hour, "3")
	}
}

func TestDescribe(t *testing.T) {
	for _, name := range []string{"good/shell", "good/docker", "good/global", "bad/types", "bad/warn-values"} {
		t.Run(name, func(t *testing.T) {
			cfg, report, _ := config.Load("testdata/"+name+".toml", hermetic)
			var b bytes.Buffer
			if err := config.Describe(&b, cfg, report); err != nil {
				t.Fatal(err)
			}
			golden(t, "testdata/describe/"+filepath.Base(name)+".txt", b.Bytes())
		})
	}
	var b bytes.Buffer
	if err := config.Describe(&b, nil, &config.Report{Path: "x", Missing: true}); err != nil || !strings.Contains(b.String(), "no such file") {
		t.Errorf("missing: got %q, %v", b.String(), err)
	}
}

func TestMarkdown(t *testing.T) {
	var b bytes.Buffer
	if err := config.Markdown(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/reference.md", b.Bytes())
}

func TestFields(t *testing.T) {
	flags, envs, paths := make(map[string]string), make(map[string]string), make(map[string]bool)
	for _, f := range config.Fields() {
		if paths[f.Path] {
			t.Errorf("%s: described twice", f.Path)
		}
		paths[f.Path] = true
		if f.Doc == "" || !strings.HasSuffix(f.Doc, ".") || strings.Contains(f.Doc, ". ") {
			t.Errorf("%s: the doc is not one sentence: %q", f.Path, f.Doc)
		}
		for _, name := range append([]string{f.Flag}, f.Aliases...) {
			if other := flags[name]; other != "" && name != "" {
				t.Errorf("--%s: of %s and %s", name, other, f.Path)
			}
			flags[name] = f.Path
		}
		if other := envs[f.Env]; other != "" && f.Env != "" {
			t.Errorf("%s: of %s and %s", f.Env, other, f.Path)
		}
		envs[f.Env] = f.Path
	}
	for _, want := range []string{"concurrent", "runners.token", "runners.docker.services.name", "runners.cache.s3.BucketName", "runners.kubernetes.service_cpu_limit_overwrite_max_allowed"} {
		if !paths[want] {
			t.Errorf("%s is missing", want)
		}
	}
	for flag, want := range map[string]string{
		"docker-image": "runners.docker.image", "env": "runners.environment", "description": "runners.name",
		"kubernetes-service-ephemeral_storage-limit": "runners.kubernetes.service_ephemeral_storage_limit",
		"kubernetes-ephemeral-storage-limit":         "runners.kubernetes.ephemeral_storage_limit",
		"cache-max_uploaded_archive_size":            "runners.cache.MaxUploadedArchiveSize",
	} {
		if flags[flag] != want {
			t.Errorf("--%s: got %q, want %q", flag, flags[flag], want)
		}
	}
}

func TestSet(t *testing.T) {
	var r config.Runner
	for _, c := range []struct {
		path   string
		values []string
		want   string // part of the error
	}{
		{"runners.name", []string{"a", "b"}, ""},
		{"runners.token", []string{"glrt-x"}, ""},
		{"runners.limit", []string{"3"}, ""},
		{"runners.limit", []string{"three"}, "whole number"},
		{"runners.unhealthy_interval", []string{"5m"}, ""},
		{"runners.unhealthy_interval", []string{"5"}, "duration"},
		{"runners.clean_git_config", []string{"false"}, ""},
		{"runners.clean_git_config", []string{"perhaps"}, "true or false"},
		{"runners.environment", []string{"A=1", "B=2,3"}, ""},
		{"runners.docker.image", []string{"alpine"}, ""},
		{"runners.docker.pull_policy", []string{"always,never", "if-not-present"}, ""},
		{"runners.docker.tmpfs", []string{"/tmp:rw"}, ""},
		{"runners.docker.tmpfs", []string{"/tmp"}, "name:value"},
		{"runners.docker.services_devices", []string{"x:/dev/a,/dev/b"}, ""},
		{"runners.feature_flags", []string{"FF_TIMESTAMPS:false"}, ""},
		{"runners.machine.IdleScaleFactor", []string{"1.5"}, ""},
		{"runners.machine.IdleScaleFactor", []string{"much"}, "a number"},
		{"runners.cache.s3.SecretKey", []string{"secret"}, ""},
		{"runners.docker.imag", []string{"x"}, "no such key"},
		{"runners.name.x", []string{"x"}, "not a table"},
		{"runners.token_obtained_at", []string{"x"}, "command line"},
		{"concurrent", []string{"1"}, "no key of a runner"},
		{"runners.name", nil, "no value"},
	} {
		err := r.Set(c.path, c.values...)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.path, err, c.want)
		}
	}
	off := false
	want := config.Runner{
		Name: "b", Token: "glrt-x", Limit: 3, UnhealthyPause: 5 * time.Minute, CleanGitConfig: &off, Environment: []string{"A=1", "B=2,3"},
		FeatureFlags: map[string]bool{"FF_TIMESTAMPS": false},
		Docker: &config.Docker{
			Image: "alpine", PullPolicy: config.PullPolicies{"always", "never", "if-not-present"},
			Tmpfs: map[string]string{"/tmp": "rw"}, ServicesDevices: map[string][]string{"x": {"/dev/a", "/dev/b"}},
		},
		Machine: &config.Machine{IdleScaleFactor: 1.5},
		Cache:   &config.Cache{S3: &config.CacheS3{SecretKey: "secret"}},
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFillFrom(t *testing.T) {
	template := config.Runner{
		Name: "t", Limit: 2, Docker: &config.Docker{Image: "t", Memory: "1g", Tmpfs: map[string]string{"/a": "t", "/b": "t"}},
		Cache: &config.Cache{Type: "s3", S3: &config.CacheS3{BucketName: "t"}},
	}
	r := config.Runner{Name: "r", Docker: &config.Docker{Image: "r", Tmpfs: map[string]string{"/a": "r"}}}
	r.FillFrom(&template)
	want := config.Runner{
		Name: "r", Limit: 2, Docker: &config.Docker{Image: "r", Memory: "1g", Tmpfs: map[string]string{"/a": "r", "/b": "t"}},
		Cache: &config.Cache{Type: "s3", S3: &config.CacheS3{BucketName: "t"}},
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r.Cache.S3.BucketName = "changed"
	if template.Cache.S3.BucketName != "t" {
		t.Error("the template changed with the runner")
	}
}
