package archive_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/archive"
)

// TestSame compares an archive with files that were changed since.
func TestSame(t *testing.T) {
	made := time.Date(2026, 5, 4, 3, 2, 1, 700_000_000, time.UTC)
	old := made.Add(-time.Hour)
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, put func(name, text string, at time.Time), dir string)
		want   bool
	}{
		{"nothing", nil, true},
		{"the time, within its second", func(_ *testing.T, put func(string, string, time.Time), _ string) {
			put("new", "one", made.Add(200*time.Millisecond))
		}, true},
		{"the content, within the second of the archive", func(_ *testing.T, put func(string, string, time.Time), _ string) {
			put("new", "two", made.Add(200*time.Millisecond))
		}, false},
		{"the content, later", func(_ *testing.T, put func(string, string, time.Time), _ string) {
			put("old", "two", made.Add(time.Minute))
		}, false},
		{"the size, with its time kept", func(_ *testing.T, put func(string, string, time.Time), _ string) { put("old", "three", old) }, false},
		{"the mode", func(t *testing.T, _ func(string, string, time.Time), dir string) {
			if err := os.Chmod(filepath.Join(dir, "old"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"one more", func(_ *testing.T, put func(string, string, time.Time), _ string) { put("more", "x", old) }, false},
		{"one less", func(t *testing.T, _ func(string, string, time.Time), dir string) {
			if err := os.Remove(filepath.Join(dir, "old")); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			put := func(name, text string, at time.Time) {
				path := filepath.Join(dir, name)
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chtimes(path, at, at); err != nil {
					t.Fatal(err)
				}
			}
			files := func() []archive.File {
				s, err := archive.Select(dir, archive.Rules{Paths: []string{"*"}})
				if err != nil {
					t.Fatal(err)
				}
				return s.Files
			}
			put("old", "one", old)
			put("new", "one", made)
			var z bytes.Buffer
			if err := archive.Write(t.Context(), &z, archive.Zip, dir, files(), archive.WriteOptions{}); err != nil {
				t.Fatal(err)
			}
			if tt.change != nil {
				tt.change(t, put, dir)
			}
			got, err := archive.Same(bytes.NewReader(z.Bytes()), int64(z.Len()), dir, files())
			if err != nil || got != tt.want {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}
