package docker_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/executor"
)

// TestDisks lists what the engine of the tests fills on this machine.
func TestDisks(t *testing.T) {
	engine(t)
	lent, socket := t.TempDir(), filepath.Join(t.TempDir(), "socket")
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	o := options(t)
	o.CacheDir = "/cache"
	o.Config.Volumes = []string{lent + ":/builds", lent + "/c:/cache:rw", "/usr:/usr:ro,z", socket + ":/run/socket", "named:/data", "/volatile"}
	got, err := newDriver(t, o).Disks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[2].Root != "engine" || !filepath.IsAbs(got[2].Path) {
		t.Fatalf("got %v, want two directories and the engine's", got)
	}
	if _, err := os.Stat(filepath.Join(got[2].Path, "containers")); err != nil {
		t.Errorf("%s is not the engine's directory: %v", got[2].Path, err)
	}
	if d := cmp.Diff([]executor.Disk{{Root: "builds", Path: lent}, {Root: "cache", Path: lent + "/c"}}, got[:2]); d != "" {
		t.Errorf("directories (-want +got):\n%s", d)
	}
	// An engine elsewhere fills other disks, one that is away nothing.
	o.Config.Host = "tcp://192.0.2.1:2375"
	if got, err := newDriver(t, o).Disks(t.Context()); len(got) != 0 || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	o.Config.Host = "unix://" + filepath.Join(t.TempDir(), "none")
	if got, err := newDriver(t, o).Disks(t.Context()); len(got) != 2 || err == nil {
		t.Errorf("got %v, %v", got, err)
	}
}
