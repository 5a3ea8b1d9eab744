package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestDefaultDir(t *testing.T) {
	for _, c := range []struct {
		goos string
		euid int
		home string
		want string
	}{
		{"linux", 0, "/root", "/etc/gitlab-runner"},
		{"linux", 1000, "/home/a", filepath.Join("/home/a", ".gitlab-runner")},
		{"darwin", 501, "/Users/a", filepath.Join("/Users/a", ".gitlab-runner")},
		{"linux", 1000, "", "/cwd"},
		{"windows", -1, `C:\Users\a`, "/cwd"},
	} {
		if got := defaultDir(c.goos, c.euid, c.home, "/cwd"); got != c.want {
			t.Errorf("%+v: got %q", c, got)
		}
	}
}

func TestSystemIDFromMachine(t *testing.T) {
	// printf gitlab-runner | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
	got, err := systemID(t.TempDir(), func() string { return "0123456789abcdef0123456789abcdef" })
	if want := "s_ee3af03959fe"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	first, _ := systemID(t.TempDir(), func() string { return "" })
	second, _ := systemID(t.TempDir(), func() string { return "" })
	if first == second || first[:2] != "r_" {
		t.Errorf("got %q and %q, want two random ids", first, second)
	}
}

func TestParseListenWithoutServices(t *testing.T) {
	none := func(string) (int, error) { return 0, errors.New("unknown") }
	if a, err := parseListen(":http-alt", none); err != nil || a.Port != 8080 {
		t.Errorf("got %v, %v", a, err)
	}
	if _, err := parseListen(":http", none); err == nil {
		t.Error("got no error")
	}
}

// TestReplaceMounted stands for a file that is mounted into a container by
// itself, which cannot be renamed over.
func TestReplaceMounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte("old and longer"), 0o640); err != nil {
		t.Fatal(err)
	}
	busy := func(string, string) error { return &os.LinkError{Op: "rename", Err: syscall.EBUSY} }
	if err := replaceFile(path, []byte("new"), busy); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); string(got) != "new" {
		t.Errorf("got %q", got)
	}
	if names, _ := os.ReadDir(filepath.Dir(path)); len(names) != 1 {
		t.Errorf("left over: %v", names)
	}
	failing := func(string, string) error { return fs.ErrInvalid }
	if err := replaceFile(path, []byte("newer"), failing); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "new" {
		t.Errorf("got %q after a failure", got)
	}
}

func TestClosest(t *testing.T) {
	names := []string{"image", "memory", "memory_swap", "cpus", "dns"}
	for _, c := range []struct{ in, want string }{
		{"imgae", "image"},
		{"Memory-Swap", "memory_swap"},
		{"memroy", "memory"},
		{"ports", ""},
		{"xyz", ""},
		{"", ""},
	} {
		if got := closest(c.in, names); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}
