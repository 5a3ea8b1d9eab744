package build_test

import (
	"context"
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

// A driver that learns where a job lives while it opens the place has its way
// over the configuration, and no directory is known before.
func TestArrange(t *testing.T) {
	for _, tt := range []struct {
		name    string
		layout  executor.Layout
		change  func(*bench)
		project string // "": the job fails
		cache   string
		text    string // of the failure
	}{
		{"all of it", executor.Layout{BuildsDir: "/cells/7", CacheDir: "/cells/c", SharedBuilds: new(false), Shell: "sh"}, nil, "/cells/7/acme/web", "/cells/c/acme/web", ""},
		{"shared", executor.Layout{BuildsDir: "/cells/7", CacheDir: "/c", SharedBuilds: new(true)}, nil, "/cells/7/abc/0/acme/web", "/c/acme/web", ""},
		{"nothing, as it is configured", executor.Layout{}, func(b *bench) { b.options.BuildsDir, b.options.CacheDir = "/b", "/c" }, "/b/acme/web", "/c/acme/web", ""},
		{"over what is configured", executor.Layout{BuildsDir: "/cells"}, func(b *bench) { b.options.BuildsDir, b.options.CacheDir = "/b", "/c" }, "/cells/acme/web", "/c/acme/web", ""},
		{"no directory", executor.Layout{CacheDir: "/c"}, nil, "", "", "builds_dir is not configured"},
		{"no directory of caches", executor.Layout{BuildsDir: "/b"}, nil, "", "", "cache_dir is not configured"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.place.traits = executor.Traits{Name: "test", Shell: "bash", Arranges: true}
			if tt.change != nil {
				tt.change(b)
			}
			var got executor.Arrangement
			b.place.arrange = func(r executor.Request) error {
				if r.Dirs != (executor.Dirs{}) || r.Variables.Value("CI_PROJECT_DIR") != "" || r.Variables.Value("RUNNER_TEMP_PROJECT_DIR") != "" || r.Variables.Value("CI_RUNNER_VERSION") == "" {
					t.Errorf("before: %+v, %q", r.Dirs, r.Variables.Value("CI_PROJECT_DIR"))
				}
				var err error
				got, err = r.Arrange(tt.layout)
				return err
			}
			var script strings.Builder
			b.place.run = func(_ context.Context, c executor.Command) error {
				if c.Phase == job.StepPhase("script") {
					script.Write(c.Script)
				}
				return nil
			}
			o := b.run(t.Context())
			if tt.project == "" {
				if o.OK() || o.Reason != job.ConfigurationError || !strings.Contains(o.Err.Error(), tt.text) || b.place.tries != 1 {
					t.Errorf("got %+v after %d tries, want %q", o, b.place.tries, tt.text)
				}
				return
			}
			if !o.OK() || got.Dirs.Project != tt.project || got.Dirs.Cache != tt.cache || got.Variables.Value("CI_PROJECT_DIR") != tt.project {
				t.Errorf("got %+v, %v", got.Dirs, o.Err)
			}
			if want := "export CI_PROJECT_DIR="; !strings.Contains(script.String(), want) || !strings.Contains(script.String(), tt.project) {
				t.Errorf("the script is not of %s", tt.project)
			}
			if bash := strings.Contains(script.String(), "; set -o pipefail;"); bash != (tt.layout.Shell != "sh") {
				t.Errorf("the script is for bash: %t, with the shell %q", bash, tt.layout.Shell)
			}
		})
	}
}
