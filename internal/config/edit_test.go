package config_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/job"
)

var (
	obtained = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	secrets  = cmp.Comparer(func(a, b job.Secret) bool { return a.Reveal() == b.Reveal() })
)

func newRunner(name string) config.Runner {
	return config.Runner{Name: name, URL: "https://gitlab.example.com", ID: 5, Token: job.Secret("glrt-" + name), TokenObtainedAt: obtained, Executor: "shell"}
}

func named(names ...string) func(*config.Runner) bool {
	return func(r *config.Runner) bool { return slices.Contains(names, r.Name) }
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAddRunnerCreatesFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etc", "config.toml")
	r := newRunner("first")
	r.Docker = &config.Docker{Image: "alpine", PullPolicy: config.PullPolicies{"never"}, Tmpfs: map[string]string{"/tmp": "rw"}}
	r.Docker.Services = []config.Service{{Name: "redis"}}
	if err := config.AddRunner(path, r); err != nil {
		t.Fatal(err)
	}
	want := `concurrent = 1
check_interval = 0

[session_server]
  session_timeout = 1800

[[runners]]
  name = "first"
  url = "https://gitlab.example.com"
  id = 5
  token = "glrt-first"
  token_obtained_at = 2026-01-02T03:04:05Z
  token_expires_at = 0001-01-01T00:00:00Z
  executor = "shell"
  [runners.docker]
    image = "alpine"
    pull_policy = ["never"]
    [runners.docker.tmpfs]
      "/tmp" = "rw"
    [[runners.docker.services]]
      name = "redis"
`
	if diff := cmp.Diff(want, string(read(t, path))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, mode := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: got %v, %v, want %v", name, info.Mode(), err, mode)
		}
	}
}

func TestAddRunnerKeepsFile(t *testing.T) {
	for _, c := range []struct{ name, text string }{
		{"plain", "concurrent = 3 # three\n"},
		{"no newline at the end", "# c\nconcurrent = 3"},
		{"CRLF", "concurrent = 3\r\n[[runners]]\r\n  name = \"a\"\r\n"},
		{"variables", "[[runners]]\n  token = \"$TOKEN\"\n  unknown = 1\n  [runners.docker]\n"},
		{"another table last", "[[runners]]\nname='a'\n[session_server]\n  session_timeout = 3\n"},
		{"other case", "Concurrent = 3\n[[Runners]]\n  Name = \"a\"\n"},
		{"byte order mark", "\xef\xbb\xbfconcurrent = 3\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, c.text)
			if err := config.AddRunner(path, newRunner("new")); err != nil {
				t.Fatal(err)
			}
			got := read(t, path)
			if !bytes.HasPrefix(got, []byte(c.text)) {
				t.Errorf("the old text changed:\n%s", got)
			}
			if strings.Contains(c.text, "\r\n") && bytes.Count(got, []byte("\n")) != bytes.Count(got, []byte("\r\n")) {
				t.Errorf("mixed line endings: %q", got)
			}
			before, _, _ := config.Parse(path, []byte(c.text), hermetic)
			after, _, err := config.Load(path, hermetic)
			if err != nil {
				t.Fatal(err)
			}
			want := append(slices.Clone(before.Runners), newRunner("new"))
			if diff := cmp.Diff(noLines(want), noLines(after.Runners), secrets); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func noLines(runners []config.Runner) []config.Runner {
	for i := range runners {
		runners[i].Line = 0
	}
	return runners
}

func TestEditRefuses(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"syntax error", "concurrent = \n", "line 1"},
		{"list in brackets", "runners = [{name = \"a\"}]\n", "in brackets"},
		{"duplicate key", "a = 1\na = 2\n", "line 2: given twice"},
		{"impossible number", "a = 99999999999999999999\n", "line 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, c.text)
			_, removeErr := config.RemoveRunners(path, named("a"))
			_, updateErr := config.UpdateToken(path, named("a"), "x", obtained, time.Time{})
			for _, err := range []error{config.AddRunner(path, newRunner("new")), removeErr, updateErr} {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
			}
			if got := string(read(t, path)); got != c.text {
				t.Errorf("the file changed: %q", got)
			}
		})
	}
}

const several = `# Managed by hand.
concurrent = 3

# The first one.
# It is old.
[[runners]] # header
  name = "a" # name
  token = "glrt-a"
  # limit = 3
  [runners.docker]
    image = """
# not a comment
"""

# Between, belongs to nobody.

[session_server]
  session_timeout = 1800
# The second one.
[[runners]]
  name = "b"
  token = "$TOKEN_B"
  [[runners.docker.services]]
    name = "x"
[runners.docker.tmpfs]
  "/tmp" = "rw"

[labels]
  site = "north"

[[runners]]
  name = "c"
  token = "glrt-c"
`

func TestRemoveRunners(t *testing.T) {
	for _, c := range []struct {
		name  string
		match func(*config.Runner) bool
		count int
		want  string
	}{
		{"none", named("z"), 0, several},
		{"first", named("a"), 1, `# Managed by hand.
concurrent = 3

# Between, belongs to nobody.

[session_server]
  session_timeout = 1800
# The second one.
[[runners]]
  name = "b"
  token = "$TOKEN_B"
  [[runners.docker.services]]
    name = "x"
[runners.docker.tmpfs]
  "/tmp" = "rw"

[labels]
  site = "north"

[[runners]]
  name = "c"
  token = "glrt-c"
`},
		{"last two", named("b", "c"), 2, `# Managed by hand.
concurrent = 3

# The first one.
# It is old.
[[runners]] # header
  name = "a" # name
  token = "glrt-a"
  # limit = 3
  [runners.docker]
    image = """
# not a comment
"""

# Between, belongs to nobody.

[session_server]
  session_timeout = 1800
[labels]
  site = "north"
`},
		{"all", func(*config.Runner) bool { return true }, 3, `# Managed by hand.
concurrent = 3

# Between, belongs to nobody.

[session_server]
  session_timeout = 1800
[labels]
  site = "north"
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, several)
			n, err := config.RemoveRunners(path, c.match)
			if err != nil || n != c.count {
				t.Fatalf("got %d, %v, want %d", n, err, c.count)
			}
			if diff := cmp.Diff(c.want, string(read(t, path))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestUpdateToken(t *testing.T) {
	path := write(t, several)
	expires := obtained.Add(24 * time.Hour)
	n, err := config.UpdateToken(path, named("b"), "glrt-\"new\"", obtained, expires)
	if err != nil || n != 1 {
		t.Fatalf("got %d, %v", n, err)
	}
	want := strings.Replace(several, `  token = "$TOKEN_B"
`, `  token = "glrt-\"new\""
  token_obtained_at = 2026-01-02T03:04:05Z
  token_expires_at = 2026-01-03T03:04:05Z
`, 1)
	if diff := cmp.Diff(want, string(read(t, path))); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if n, err := config.UpdateToken(path, named("b"), "glrt-b", obtained, time.Time{}); n != 1 || err != nil {
		t.Fatalf("got %d, %v", n, err)
	}
	want = strings.Replace(want, `"glrt-\"new\""`, `"glrt-b"`, 1)
	want = strings.Replace(want, "2026-01-03T03:04:05Z", "0001-01-01T00:00:00Z", 1)
	if diff := cmp.Diff(want, string(read(t, path))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUpdateTokenLayouts(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"no newline at the end", "[[runners]]\n\tname = 'a'\n\ttoken = 'x'", "[[runners]]\n\tname = 'a'\n\ttoken = \"new\"\n\ttoken_obtained_at = 2026-01-02T03:04:05Z\n\ttoken_expires_at = 0001-01-01T00:00:00Z"},
		{"no token", "[[runners]]\n[runners.docker]\n", "[[runners]]\n  token = \"new\"\n  token_obtained_at = 2026-01-02T03:04:05Z\n  token_expires_at = 0001-01-01T00:00:00Z\n[runners.docker]\n"},
		{"other case and quotes", "[[Runners]]\r\n\"Token\"=\"x\"   # old\r\nid=1\r\n", "[[Runners]]\r\n\"Token\"=\"new\"   # old\r\ntoken_obtained_at = 2026-01-02T03:04:05Z\r\ntoken_expires_at = 0001-01-01T00:00:00Z\r\nid=1\r\n"},
		{"multi-line value", "[[runners]]\ntoken = '''\nx'''\ntoken_obtained_at = 2020-01-01 00:00:00 # when\n", "[[runners]]\ntoken = \"new\"\ntoken_obtained_at = 2026-01-02T03:04:05Z # when\ntoken_expires_at = 0001-01-01T00:00:00Z\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, c.text)
			if n, err := config.UpdateToken(path, func(*config.Runner) bool { return true }, "new", obtained, time.Time{}); n != 1 || err != nil {
				t.Fatalf("got %d, %v", n, err)
			}
			if diff := cmp.Diff(c.want, string(read(t, path))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestEditKeepsModeAndLink(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "..data")
	if err := os.Mkdir(data, 0o750); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(data, "config.toml")
	if err := os.WriteFile(target, []byte("concurrent = 2\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(target, 0o640); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "config.toml")
	if err := os.Symlink(filepath.Join("..data", "config.toml"), link); err != nil {
		t.Skip("this system has no symbolic links for us")
	}
	if err := config.AddRunner(link, newRunner("a")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", info, err)
	}
	if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("got mode %v, %v", info.Mode(), err)
	}
	if cfg, _, err := config.Load(target, hermetic); err != nil || len(cfg.Runners) != 1 {
		t.Errorf("got %+v, %v", cfg, err)
	}
	for _, d := range []string{dir, data} {
		entries, err := os.ReadDir(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != "config.toml" && e.Name() != "..data" {
				t.Errorf("left over: %s", e.Name())
			}
		}
	}
}

func TestEditMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "config.toml")
	if _, err := config.RemoveRunners(path, named("a")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("remove: got %v", err)
	}
}

// TestEditsAtTheSameTime adds runners from many sides; none may get lost.
func TestEditsAtTheSameTime(t *testing.T) {
	path := write(t, "concurrent = 1\n")
	const n = 12
	var wg sync.WaitGroup
	errs := make(chan error, n)
	for i := range n {
		wg.Go(func() { errs <- config.AddRunner(path, newRunner(fmt.Sprintf("r%d", i))) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	cfg, _, err := config.Load(path, hermetic)
	if err != nil || len(cfg.Runners) != n {
		t.Errorf("got %d runners, %v, want %d", len(cfg.Runners), err, n)
	}
}

// TestRoundTrip makes random edits to realistic files and checks that each
// changes what it should and keeps every other line.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, source := range files(t, "testdata/good/*.toml") {
		t.Run(filepath.Base(source), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(1, uint64(len(source))))
			path := write(t, string(read(t, source)))
			for step := range 15 {
				before := read(t, path)
				old, _, _ := config.Parse(path, before, hermetic)
				want := slices.Clone(old.Runners)
				pick := -1
				if len(want) > 0 {
					pick = rng.IntN(len(want))
				}
				var err error
				switch {
				case pick < 0 || rng.IntN(3) == 0:
					r := newRunner(fmt.Sprintf("new %d", step))
					r.Environment = []string{"A=\"\\\n"}
					err = config.AddRunner(path, r)
					want = append(want, r)
				case rng.IntN(2) == 0:
					gone := want[pick].Token.Reveal()
					_, err = config.RemoveRunners(path, func(r *config.Runner) bool { return r.Token.Reveal() == gone })
					want = slices.Delete(want, pick, pick+1)
				default:
					token := want[pick].Token.Reveal()
					next := fmt.Sprintf("glrt-%d", step)
					_, err = config.UpdateToken(path, func(r *config.Runner) bool { return r.Token.Reveal() == token }, next, obtained, time.Time{})
					want[pick].Token, want[pick].TokenObtainedAt, want[pick].TokenExpiresAt = job.Secret(next), obtained, time.Time{}
				}
				if err != nil {
					t.Fatalf("step %d: %v", step, err)
				}
				now, _, err := config.Load(path, hermetic)
				if err != nil {
					t.Fatalf("step %d: %v", step, err)
				}
				if diff := cmp.Diff(noLines(want), noLines(now.Runners), secrets); diff != "" && len(want)+len(now.Runners) > 0 {
					t.Fatalf("step %d (-want +got):\n%s", step, diff)
				}
				old.Runners, now.Runners = nil, nil
				old.Hash, now.Hash = "", ""
				old.ModTime, now.ModTime = time.Time{}, time.Time{}
				if diff := cmp.Diff(old, now, secrets); diff != "" {
					t.Fatalf("step %d, outside of the runners (-want +got):\n%s", step, diff)
				}
			}
			// Whatever happened to the runners, the lines outside of them are
			// still there, in order.
			at := 0
			got := strings.Split(string(read(t, path)), "\n")
			for _, line := range outside(string(read(t, source))) {
				i := slices.IndexFunc(got[at:], func(s string) bool { return strings.TrimSpace(s) == line })
				if i < 0 {
					t.Fatalf("the line %q is gone or moved", line)
				}
				at += i + 1
			}
		})
	}
}

// outside returns the lines before the first runner, without the comments that
// belong to it.
func outside(text string) []string {
	head, _, _ := strings.Cut(text, "[[")
	var out []string
	for line := range strings.Lines(head) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	for len(out) > 0 && strings.HasPrefix(out[len(out)-1], "#") {
		out = out[:len(out)-1]
	}
	return out
}

func FuzzEdit(f *testing.F) {
	f.Add([]byte(several), 1)
	f.Add([]byte("[[runners]]\n#\n\n#\n[[runners]]\n[a]\n[runners.b]\n"), 0)
	f.Add([]byte("\xef\xbb\xbf[[runners]]\r\ntoken='''\r\n'''\r\n"), 0)
	f.Fuzz(func(t *testing.T, data []byte, pick int) {
		dir := t.TempDir()
		path := filepath.Join(dir, "config.toml")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		old, _, _ := config.Parse(path, data, hermetic)
		n := 0
		match := func(*config.Runner) bool { n++; return n-1 == pick }
		// A file that cannot be parsed is refused; whatever is accepted was
		// verified by the package itself and must load as well as before.
		if _, err := config.UpdateToken(path, match, "glrt-x", obtained, time.Time{}); err != nil {
			if got := read(t, path); !bytes.Equal(got, data) {
				t.Fatalf("refused with %v, but changed to %q", err, got)
			}
			if strings.Contains(err.Error(), "would not mean") {
				t.Fatalf("update of %q: %v", data, err)
			}
			return
		}
		n = 0
		removed, err := config.RemoveRunners(path, match)
		if err != nil {
			t.Fatalf("remove from %q: %v", read(t, path), err)
		}
		if err := config.AddRunner(path, newRunner("x")); err != nil {
			t.Fatalf("add to %q: %v", read(t, path), err)
		}
		now, _, _ := config.Load(path, hermetic)
		if len(now.Runners) != len(old.Runners)-removed+1 {
			t.Fatalf("got %d runners of %d after removing %d and adding one:\n%s", len(now.Runners), len(old.Runners), removed, read(t, path))
		}
	})
}
