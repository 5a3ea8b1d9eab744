//go:build linux

package shell

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/glassrunner/glassrunner/internal/executor"
)

// TestPlaces removes temporary directories of jobs that are over, and nothing
// else, whatever a job left there.
func TestPlaces(t *testing.T) {
	builds, outside := t.TempDir(), t.TempDir()
	canary := filepath.Join(outside, "project.tmp", "canary")
	write := func(path string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("alive"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	claim := func(builds, temp string) executor.Claim {
		return executor.Claim{Kind: claimKind, ID: "x", Data: map[string]string{claimBuilds: builds, claimTemp: temp}}
	}
	write(canary)
	temp := filepath.Join(builds, "abc", "0", "group", "project.tmp")
	write(filepath.Join(temp, "SECRET"))
	p := new(Places)
	p.enter(temp)
	p.enter(temp)
	p.leave(temp)
	if err := p.clear(claim(builds, temp)); err != nil {
		t.Fatal(err)
	}
	if _, is := p.left(claim(builds, temp)); is {
		t.Error("a directory in use was left behind")
	}
	if _, err := os.Stat(filepath.Join(temp, "SECRET")); err != nil {
		t.Errorf("a directory in use was touched: %v", err)
	}
	p.leave(temp)
	if info, is := p.left(claim(builds, temp)); !is || time.Since(info.ModTime()) > time.Minute {
		t.Errorf("a directory that nobody uses is not found: %v", is)
	}
	if err := p.clear(claim(builds, temp)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(temp); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}

	// A job put links in the way.
	if err := os.Remove(filepath.Dir(temp)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Dir(temp)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]executor.Claim{
		"a link":              claim(builds, temp),
		"another directory":   claim(builds, filepath.Join(outside, "project.tmp")),
		"above":               claim(builds, filepath.Join(builds, "..", filepath.Base(outside), "project.tmp")),
		"the root itself":     claim(outside, outside),
		"not a temporary one": claim(outside, filepath.Join(outside, "project")),
		"a relative root":     claim(".", "project.tmp"),
		"an old claim":        claim("", ""),
	} {
		_ = p.clear(c) // an error is as good as nothing done
		if _, err := os.Stat(canary); err != nil {
			t.Fatalf("%s: the canary is gone: %v", name, err)
		}
	}
}

func TestParseTally(t *testing.T) {
	fields := strings.Fields("S 1 2 3 0 -1 4194560 100 200 0 0 11 22 33 44 20 0 1 0 12345 1000000 77")
	got, ok := parseTally("42 (a b) c) " + strings.Join(fields, " ") + " 18446744073709551615 1")
	if want := (tally{cpu: 110 * tick, rss: 77 * int64(os.Getpagesize())}); !ok || got != want {
		t.Errorf("got %+v, %v, want %+v", got, ok, want)
	}
	for _, text := range []string{"", "42", "42 (x)", "42 (x) S 1 2", "42 (x) " + strings.Repeat("z ", 30)} {
		if _, ok := parseTally(text); ok {
			t.Errorf("%q was understood", text)
		}
	}
	if r, w := parseIO("rchar: 1\nwchar: 2\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 1\n"); r != 4096 || w != 8192 {
		t.Errorf("got %d and %d", r, w)
	}
}

func FuzzParseTally(f *testing.F) {
	f.Add("42 (a) S 1 2 3 0 -1 4194560 100 200 0 0 11 22 33 44 20 0 1 0 12345 1000000 77 1")
	f.Fuzz(func(t *testing.T, text string) {
		if got, ok := parseTally(text); ok && (got.cpu < 0 || got.rss < 0) {
			t.Errorf("%q is %+v", text, got)
		}
		if r, w := parseIO(text); r < 0 || w < 0 {
			t.Errorf("%q is %d and %d", text, r, w)
		}
	})
}

// TestDelegated finds the directory that systemd has given away.
func TestDelegated(t *testing.T) {
	d, err := New(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if d.cgroups == "" {
		t.Skip("there is no cgroup v2 hierarchy that can be written to")
	}
	unit := filepath.Join(d.cgroups, groupPrefix+"delegated-test")
	runner := filepath.Join(unit, "runner")
	for _, dir := range []string{unit, runner} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(dir) })
	}
	if got := delegated(runner); got != "" {
		t.Errorf("%s was found although nobody gave it away", got)
	}
	if err := unix.Setxattr(unit, "user.delegate", []byte("1"), 0); err != nil {
		t.Skipf("the hierarchy takes no attributes: %v", err)
	}
	if got := delegated(runner); got != unit {
		t.Errorf("found %q, want %q", got, unit)
	}
	if got := delegated(""); got != "" {
		t.Errorf("found %q above nothing", got)
	}
}
