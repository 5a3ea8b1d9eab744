package config_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/job"
)

var update = flag.Bool("update", false, "write golden files")

// noEnv is an empty environment.
func noEnv(string) (string, bool) { return "", false }

var hermetic = config.Options{LookupEnv: noEnv}

// golden compares with a file of testdata, or writes it.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: no files (%v)", pattern, err)
	}
	return paths
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestLoadRealistic(t *testing.T) {
	for _, path := range files(t, "testdata/good/*.toml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			cfg, report, err := config.Load(path, hermetic)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range report.Problems {
				if !strings.Contains(p.Text, "glassrunner does not ") {
					t.Errorf("unexpected problem: %s", p)
				}
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if !cfg.ModTime.Equal(info.ModTime()) || cfg.Path != path || len(cfg.Hash) != 64 {
				t.Errorf("got time %v, path %q, hash %q", cfg.ModTime, cfg.Path, cfg.Hash)
			}
		})
	}
}

func TestLoadValues(t *testing.T) {
	cfg, _, err := config.Load("testdata/good/shell.toml", hermetic)
	if err != nil {
		t.Fatal(err)
	}
	r := &cfg.Runners[0]
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"concurrent", cfg.Concurrency(), 4},
		{"check_interval", cfg.CheckInterval(), 3 * time.Second},
		{"shutdown_timeout", cfg.ShutdownTimeout(), 30 * time.Second},
		{"connection_max_age", cfg.ConnectionMaxAge(), 15 * time.Minute},
		{"level", cfg.Level(), "warning"},
		{"format", cfg.Format(), "runner"},
		{"state", cfg.StateDir(), filepath.Join("testdata", "good", ".glassrunner")},
		{"session", cfg.SessionServer.SessionTimeout(), 30 * time.Minute},
		{"name", r.Name, "build box"},
		{"id", r.ID, int64(17)},
		{"token", r.Token.Reveal(), "glrt-t1_AbCdEfGhIjKlMnOpQr"},
		{"short", r.ShortToken(), "AbCdEfGhI"},
		{"obtained", r.TokenObtainedAt, time.Date(2025, 3, 1, 10, 0, 0, 0, time.UTC)},
		{"expires", r.TokenExpiresAt.IsZero(), true},
		{"output_limit", r.OutputLimit(), int64(8 << 20)},
		{"requests", r.RequestConcurrency(), 2},
		{"environment", r.Environment, []string{"LC_ALL=C.UTF-8", "GIT_DEPTH=10"}},
		{"hook", r.PreBuildScript, "  ulimit -n 4096\n  "},
		{"build dir", r.CustomBuildDirEnabled(), true},
		{"flags", r.FeatureFlags, map[string]bool{"FF_SCRIPT_SECTIONS": true}},
		{"threshold", r.Monitoring.JobQueuingDurations[0].Threshold, 2 * time.Minute},
		{"labels", cfg.MergedLabels(r), map[string]string{"site": "north"}},
		{"line", r.Line, 12},
		{"second", cfg.Runners[1].Line, 47},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestLoadIgnoresCase(t *testing.T) {
	cfg, _, err := config.Load("testdata/good/global.toml", hermetic)
	if err != nil {
		t.Fatal(err)
	}
	r := &cfg.Runners[0]
	if cfg.Concurrency() != 3 || cfg.CheckInterval() != 10*time.Second || r.Name != "case" || r.Token == "" || r.Line == 0 {
		t.Errorf("got %+v", cfg)
	}
	if got, want := cfg.StateDir(), filepath.Join("testdata", "good", "state"); got != want {
		t.Errorf("state: got %q, want %q", got, want)
	}
	if cfg.ConnectionMaxAge() != 0 {
		t.Errorf("connection_max_age: got %v, want 0", cfg.ConnectionMaxAge())
	}
	if upload, response := r.ArtifactTimeouts(); upload != 2*time.Hour || response != 10*time.Minute {
		t.Errorf("artifact: got %v and %v", upload, response)
	}
	if r.JobStatusInterval() != 2*time.Second || r.GracefulKillTimeout() != time.Minute || r.UnhealthyInterval() != 30*time.Minute || !r.SafeDirectory() {
		t.Errorf("got %+v", r)
	}
}

func TestDefaults(t *testing.T) {
	var (
		cfg config.Config
		r   config.Runner
	)
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"concurrent", cfg.Concurrency(), 1},
		{"check_interval", cfg.CheckInterval(), 3 * time.Second},
		{"shutdown_timeout", cfg.ShutdownTimeout(), 30 * time.Second},
		{"connection_max_age", cfg.ConnectionMaxAge(), 15 * time.Minute},
		{"session", cfg.SessionServer.SessionTimeout(), 30 * time.Minute},
		{"output_limit", r.OutputLimit(), int64(4 << 20)},
		{"request_concurrency", r.RequestConcurrency(), 1},
		{"unhealthy_requests_limit", r.UnhealthyLimit(), 3},
		{"unhealthy_interval", r.UnhealthyInterval(), time.Hour},
		{"final", r.FinalUpdateRetryLimit(), 10},
		{"job_status_interval", r.JobStatusInterval(), 5 * time.Second},
		{"graceful_kill_timeout", r.GracefulKillTimeout(), 10 * time.Second},
		{"docker build dir", (&config.Runner{Executor: "docker"}).CustomBuildDirEnabled(), true},
		{"shell build dir", (&config.Runner{Executor: "shell"}).CustomBuildDirEnabled(), false},
		{"shell safe", (&config.Runner{Executor: "shell"}).SafeDirectory(), false},
		{"vm safe", (&config.Runner{Executor: "parallels"}).SafeDirectory(), true},
		{"shell clean", (&config.Runner{Executor: "shell"}).CleansGitConfig("fetch"), false},
		{"ssh clean", (&config.Runner{Executor: "ssh"}).CleansGitConfig("fetch"), true},
		{"ssh none", (&config.Runner{Executor: "ssh"}).CleansGitConfig("none"), false},
		{"huge", (&config.Config{CheckIntervalSeconds: 1 << 62}).CheckInterval() > 0, true},
		{"huge log", (&config.Runner{OutputLimitKiB: 1 << 62}).OutputLimit() > 0, true},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// TestLoadProblems has one file for each rule, beside it what Load says.
func TestLoadProblems(t *testing.T) {
	for _, path := range files(t, "testdata/bad/*.toml") {
		name := strings.TrimSuffix(filepath.Base(path), ".toml")
		t.Run(name, func(t *testing.T) {
			_, report, err := config.Load(path, hermetic)
			var b strings.Builder
			for _, p := range report.Problems {
				p.File = filepath.Base(p.File)
				fmt.Fprintln(&b, p)
			}
			golden(t, strings.TrimSuffix(path, ".toml")+".want", []byte(b.String()))
			var invalid *config.InvalidError
			switch harmless := strings.HasPrefix(name, "warn-"); {
			case harmless && err != nil:
				t.Errorf("got error %v, want warnings only", err)
			case !harmless && !errors.As(err, &invalid):
				t.Errorf("got %v, want an InvalidError", err)
			case !harmless && len(invalid.Problems) != len(report.Errors()):
				t.Errorf("the error has %d problems, the report %d errors", len(invalid.Problems), len(report.Errors()))
			}
		})
	}
}

// TestNoSecrets checks that no message of any file repeats what was in a place
// for secrets.
func TestNoSecrets(t *testing.T) {
	for _, path := range append(files(t, "testdata/bad/*.toml"), files(t, "testdata/good/*.toml")...) {
		cfg, report, err := config.Load(path, hermetic)
		var b bytes.Buffer
		if err := config.Describe(&b, cfg, report); err != nil {
			t.Fatal(err)
		}
		for i := range cfg.Runners {
			cfg.Runners[i].URL = "" // It may hold a password, which PublicURL leaves out.
		}
		text := b.String() + fmt.Sprintf("%v %+v %#v", err, cfg, report)
		for _, secret := range []string{"verysecret", "glrt-", "A=secret", "12345 ", "password@", "correct horse", "not for anyone", "key@sentry"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s: a message holds %q", path, secret)
			}
		}
	}
}

func TestLoadMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	cfg, report, err := config.Load(path, hermetic)
	if err != nil || !report.Missing || len(cfg.Runners) != 0 || cfg.Concurrency() != 1 {
		t.Errorf("got %+v, %+v, %v", cfg, report, err)
	}
	empty, _, err := config.Parse(path, nil, hermetic)
	if err != nil || empty.Hash != cfg.Hash {
		t.Errorf("got hash %q and error %v, want %q as without a file", empty.Hash, err, cfg.Hash)
	}
}

func TestLoadUnreadable(t *testing.T) {
	dir := t.TempDir()
	if cfg, _, err := config.Load(dir, hermetic); err == nil || cfg != nil {
		t.Errorf("directory: got %v, %v", cfg, err)
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, bytes.Repeat([]byte("# filler\n"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := config.Load(large, hermetic); err == nil || !strings.Contains(err.Error(), "larger than 4 MiB") {
		t.Errorf("large: got %v", err)
	}
}

func TestLoadEnvironment(t *testing.T) {
	env := map[string]string{"HOST": "gitlab.example.com", "TOKEN": "glrt-abcdefghijklmnop", "SENTRY_DSN": "https://dsn"}
	opts := config.Options{LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
	text := "[[runners]]\nurl = \"https://${HOST}/\"\ntoken = \"$TOKEN\"\nname = \"$HOST\"\nexecutor = \"shell\"\n"
	cfg, report, err := config.Parse("config.toml", []byte(text), opts)
	if err != nil || len(report.Errors()) > 0 {
		t.Fatal(err, report)
	}
	r := cfg.Runners[0]
	if r.URL != "https://gitlab.example.com/" || r.Token.Reveal() != "glrt-abcdefghijklmnop" || r.Name != "$HOST" {
		t.Errorf("got %q, %q, %q", r.URL, r.Token.Reveal(), r.Name)
	}
	if cfg.SentryDSN.Reveal() != "https://dsn" {
		t.Errorf("sentry: got %q", cfg.SentryDSN.Reveal())
	}
	cfg, _, err = config.Parse("config.toml", []byte("sentry_dsn = \"\"\n"), opts)
	if err != nil || cfg.SentryDSN != "" {
		t.Errorf("an empty key wins: got %q, %v", cfg.SentryDSN.Reveal(), err)
	}
}

func TestLoadByteOrderMarkAndCRLF(t *testing.T) {
	text := "\xef\xbb\xbfconcurrent = 7\r\n[[runners]]\r\n  name = \"a\"\r\n  limit = \"x\"\r\n"
	cfg, report, _ := config.Parse("config.toml", []byte(text), hermetic)
	if cfg.Concurrency() != 7 || len(cfg.Runners) != 1 || cfg.Runners[0].Name != "a" {
		t.Errorf("got %+v", cfg)
	}
	failed := report.Errors()
	if len(failed) != 1 || failed[0].Line != 4 || failed[0].Column != 11 {
		t.Errorf("got %v", failed)
	}
}

func TestSkipListenAddress(t *testing.T) {
	data := []byte("listen_address = \"::1\"\n")
	if _, _, err := config.Parse("c", data, hermetic); err == nil {
		t.Error("got no error for ::1")
	}
	if _, _, err := config.Parse("c", data, config.Options{LookupEnv: noEnv, SkipListenAddress: true}); err != nil {
		t.Errorf("got %v", err)
	}
}

// TestEveryKey writes a file with every key that there is and reads it back.
func TestEveryKey(t *testing.T) {
	var r config.Runner
	fillSample(reflect.ValueOf(&r).Elem(), 0)
	r.Line = 0
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := config.AddRunner(path, r); err != nil {
		t.Fatal(err)
	}
	cfg, report, _ := config.Load(path, hermetic)
	for _, p := range report.Problems {
		if strings.Contains(p.Text, "unknown key") || strings.Contains(p.Text, "found a") {
			t.Errorf("unexpected problem: %s", p)
		}
	}
	got := cfg.Runners[0]
	got.Line = 0
	if diff := cmp.Diff(r, got, cmp.Comparer(func(a, b job.Secret) bool { return a.Reveal() == b.Reveal() })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// fillSample gives every field a value that is not the zero value.
func fillSample(v reflect.Value, n int) {
	switch v.Type() {
	case reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)))
		return
	case reflect.TypeFor[map[string]any]():
		v.Set(reflect.ValueOf(map[string]any{"text": "a\"b\\\n", "n": int64(3), "f": 1.5, "list": []any{true, "x"}, "in": map[string]any{"a b": "c"}}))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillSample(v.Elem(), n+1)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("toml") != "-" {
				fillSample(v.Field(i), n+i)
			}
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("té\t\"%d\x01", n))
	case reflect.Bool:
		v.SetBool(n%3 != 0)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(n + 1))
	case reflect.Float64:
		v.SetFloat(float64(n) + 1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fillSample(v.Index(0), n+1)
		fillSample(v.Index(1), n+2)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for _, key := range []string{"plain", "with.dot", "with space"} {
			e := reflect.New(v.Type().Elem()).Elem()
			fillSample(e, n+len(key))
			v.SetMapIndex(reflect.ValueOf(key), e)
		}
	}
}

func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.toml", "testdata/bad/*.toml"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Add([]byte("a.b = 1\n[a]\nc = {d.e = [1, {f = 2}]}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, report, err := config.Parse("config.toml", data, hermetic)
		if (err != nil) != (len(report.Errors()) > 0) {
			t.Fatalf("error %v, but %d errors in the report", err, len(report.Errors()))
		}
		lines := bytes.Count(data, []byte("\n")) + 1
		for _, p := range report.Problems {
			if p.Line < 0 || p.Line > lines || p.Text == "" {
				t.Fatalf("bad problem %+v in %d lines", p, lines)
			}
		}
		var b bytes.Buffer
		if err := config.Describe(&b, cfg, report); err != nil {
			t.Fatal(err)
		}
		for i := range cfg.Runners {
			cfg.Runners[i].QueueThreshold(time.Unix(1700000000, 0), time.Hour, "0")
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	data, err := os.ReadFile("testdata/good/shell.toml")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := config.Parse("config.toml", data, hermetic); err != nil {
			b.Fatal(err)
		}
	}
}
