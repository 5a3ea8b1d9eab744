package shell_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/executor/executortest"
	"github.com/glassrunner/glassrunner/internal/executor/shell"
	"github.com/glassrunner/glassrunner/internal/job"
)

func newDriver(t testing.TB, o shell.Options) *shell.Driver {
	t.Helper()
	d, err := shell.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func request(t testing.TB, d *shell.Driver, name string) executor.Request {
	builds := d.Traits().BuildsDir
	project := filepath.Join(builds, "abc", "0", strings.ReplaceAll(t.Name(), "/", "-"), time.Now().Format("150405.000000000"))
	return executor.Request{
		Spec:  &job.Spec{},
		Shell: name,
		Dirs:  executor.Dirs{Builds: builds, Project: project, Temp: project + ".tmp", Cache: d.Traits().CacheDir},
	}
}

func conform(t *testing.T, name string, o shell.Options) {
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	executortest.Run(t, func(t *testing.T) executortest.Harness {
		o := o
		o.Dir = t.TempDir()
		o.Environ = executortest.Environ(o.Dir)
		o.Shell = name
		o.Owner = "0123456789ab"
		d := newDriver(t, o)
		return executortest.Harness{
			Driver:    d,
			Request:   func(t *testing.T) executor.Request { return request(t, d, name) },
			Script:    executortest.Wrap,
			Alive:     executortest.Alive,
			Successor: func(t *testing.T) executor.Driver { return newDriver(t, o) },
			Stranger: func(t *testing.T) executor.Driver {
				other := o
				other.Owner = "ba9876543210"
				return newDriver(t, other)
			},
		}
	})
}

func TestConformanceBash(t *testing.T) { conform(t, "bash", shell.Options{}) }

func TestConformanceSh(t *testing.T) { conform(t, "sh", shell.Options{}) }

func TestConformanceWithoutCgroups(t *testing.T) {
	conform(t, "bash", shell.Options{CgroupRoot: shell.NoCgroup})
}

func TestDefaultShell(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("it is pwsh on Windows")
	}
	for _, tt := range []struct {
		programs []string
		want     string
	}{
		{[]string{"sh", "bash"}, "bash"},
		{[]string{"sh"}, "sh"},
		{nil, "bash"}, // whose absence the job tells
	} {
		dir := t.TempDir()
		for _, name := range tt.programs {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		t.Setenv("PATH", dir)
		d, err := shell.New(shell.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if got := d.Traits().Shell; got != tt.want {
			t.Errorf("with %q: got %s, want %s", tt.programs, got, tt.want)
		}
	}
}
