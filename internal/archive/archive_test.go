package archive_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"

	"github.com/glassrunner/glassrunner/internal/archive"
)

// text is compressible and different everywhere.
func text(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "func %d() { return %x }\n", r.IntN(1000), r.IntN(1<<20))
	}
	return b.Bytes()[:n]
}

func put(t testing.TB, dir, name string, data []byte, mode fs.FileMode) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_600_000_000, 0)
	if err := os.Chtimes(file, at, at); err != nil {
		t.Fatal(err)
	}
}

// tree is a project with all that an archive can hold.
func tree(t testing.TB) string {
	dir := t.TempDir()
	put(t, dir, "a.txt", []byte("hello\n"), 0o644)
	put(t, dir, "bin/tool", text(1, 3000), 0o755)
	put(t, dir, "secret", []byte("x"), 0o600)
	put(t, dir, "empty", nil, 0o644)
	put(t, dir, "large", text(2, 3<<20+17), 0o640)
	put(t, dir, "exact", text(3, 512<<10), 0o644)
	put(t, dir, "twice", text(4, 1<<20), 0o644)
	noise := make([]byte, 700<<10)
	r := rand.New(rand.NewPCG(9, 9))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	put(t, dir, "noise", noise, 0o644)
	put(t, dir, "noise-small", noise[:5000], 0o644)
	put(t, dir, "odd/é ü\nname", []byte("odd"), 0o644)
	put(t, dir, "deep/er/est/f", []byte("f"), 0o644)
	for i := range 200 {
		put(t, dir, fmt.Sprintf("many/%d/%d.go", i%7, i), text(uint64(i), i*37), 0o644)
	}
	for name, target := range map[string]string{"link": "a.txt", "bin/up": "../a.txt", "out": "/usr/bin/env", "dangling": "nowhere", "dirlink": "deep"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "hollow"), 0o750); err != nil {
		t.Fatal(err)
	}
	return dir
}

// shape describes a directory so that two can be compared.
func shape(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		line := fi.Mode().String()
		switch {
		case rel == ".":
			return nil
		case fi.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			line += " -> " + target
		case fi.Mode().IsRegular():
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %x %d", len(data), sha256.Sum256(data), fi.ModTime().Unix())
		}
		out[rel] = line
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func all(t testing.TB, dir string) []archive.File {
	t.Helper()
	s, err := archive.Select(dir, archive.Rules{Paths: []string{"."}})
	if err != nil {
		t.Fatal(err)
	}
	return s.Files
}

func pack(t testing.TB, format archive.Format, dir string, o archive.WriteOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := archive.Write(context.Background(), &b, format, dir, all(t, dir), o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	dir := tree(t)
	want := shape(t, dir)
	for _, format := range []archive.Format{archive.Zip, archive.ZipZstd, archive.TarZstd} {
		for _, level := range []archive.Level{archive.Fastest, archive.Fast, archive.Default, archive.Slow, archive.Slowest} {
			if format != archive.Zip && level != archive.Default {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", format, level), func(t *testing.T) {
				data := pack(t, format, dir, archive.WriteOptions{Level: level, Workers: 3})
				to := t.TempDir()
				stats, err := archive.Extract(t.Context(), bytes.NewReader(data), int64(len(data)), to, archive.ExtractOptions{Workers: 3})
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, shape(t, to)); diff != "" {
					t.Errorf("after a round trip (-want +got):\n%s", diff)
				}
				if stats.Entries != len(want) || stats.Bytes < 3<<20 {
					t.Errorf("stats: got %+v, want %d entries", stats, len(want))
				}
				// Over what is there.
				if _, err = archive.Extract(t.Context(), bytes.NewReader(data), int64(len(data)), to, archive.ExtractOptions{}); err != nil {
					t.Fatalf("a second time: %v", err)
				}
				if diff := cmp.Diff(want, shape(t, to)); diff != "" {
					t.Errorf("after a second time (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestWriteIsRepeatable(t *testing.T) {
	dir := tree(t)
	for _, format := range []archive.Format{archive.Zip, archive.ZipZstd, archive.TarZstd} {
		one, two := pack(t, format, dir, archive.WriteOptions{Workers: 4}), pack(t, format, dir, archive.WriteOptions{Workers: 4})
		if !bytes.Equal(one, two) {
			t.Errorf("%s: two archives of the same files differ", format)
		}
	}
}

// Others must be able to read what we write.
func TestUnzipReadsIt(t *testing.T) {
	unzip, err := exec.LookPath("unzip")
	if err != nil {
		t.Skip("unzip is not installed")
	}
	dir := tree(t)
	data := pack(t, archive.Zip, dir, archive.WriteOptions{})
	file := filepath.Join(t.TempDir(), "a.zip")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	cmd := exec.Command(unzip, "-q", file, "-d", to)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("unzip: %v\n%s", err, out)
	}
	want, got := shape(t, dir), shape(t, to)
	delete(want, "odd/é ü\nname") // unzip replaces line ends in names
	for name := range got {
		if strings.HasPrefix(name, "odd/") {
			delete(got, name)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("unzip (-want +got):\n%s", diff)
	}
}

func TestZipFields(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", []byte("content of f"), 0o640)
	put(t, dir, "é", text(1, 600<<10), 0o644)
	data := pack(t, archive.Zip, dir, archive.WriteOptions{Extra: []archive.Extra{{Path: "meta.json", Content: []byte("{}"), Time: time.Unix(1e9, 0)}}})
	r, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.File) != 3 || r.File[2].Name != "meta.json" {
		t.Fatalf("entries: %v", r.File)
	}
	if f := r.File[0]; !bytes.Contains(f.Extra, []byte{0x75, 0x78, 11, 0, 1, 4}) || !bytes.Contains(f.Extra, []byte{0x55, 0x54, 5, 0, 1}) {
		t.Errorf("extra fields: % x", f.Extra)
	}
	if f := r.File[1]; f.Flags&0x800 == 0 || f.Method != zip.Deflate {
		t.Errorf("flags %x, method %d", f.Flags, f.Method)
	}
}

func TestGzipAndRaw(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "r/one.xml", []byte("<one/>"), 0o644)
	put(t, dir, "r/zwei ü%.xml", []byte("<two/>"), 0o644)
	s, err := archive.Select(dir, archive.Rules{Paths: []string{"r/*.xml"}})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := archive.Write(t.Context(), &b, archive.Gzip, dir, s.Files, archive.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	in := bytes.NewReader(b.Bytes())
	r, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	r.Multistream(false)
	var got []string
	for {
		var content bytes.Buffer
		if _, err := content.ReadFrom(r); err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Name+"|"+r.Comment+"|"+content.String())
		if err := r.Reset(in); err != nil {
			break
		}
		r.Multistream(false)
	}
	want := []string{"one.xml|r/one.xml|<one/>", "e:zwei%20%C3%BC%25.xml|e:r%2Fzwei%20%C3%BC%25.xml|<two/>"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("gzip (-want +got):\n%s", diff)
	}
	if err := archive.Write(t.Context(), &b, archive.Raw, dir, s.Files, archive.WriteOptions{}); !errors.Is(err, archive.ErrOneFile) {
		t.Errorf("raw with two files: %v", err)
	}
	b.Reset()
	if err := archive.Write(t.Context(), &b, archive.Raw, dir, s.Files[:1], archive.WriteOptions{}); err != nil || b.String() != "<one/>" {
		t.Errorf("raw: %q, %v", b.String(), err)
	}
	if err := archive.Write(t.Context(), &b, archive.Gzip, dir, all(t, dir), archive.WriteOptions{}); err == nil {
		t.Error("gzip took a directory")
	}
}

func TestSelect(t *testing.T) {
	dir := tree(t)
	if err := os.WriteFile(filepath.Join(t.TempDir(), "outside"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		rules archive.Rules
		want  []string
		notes []string
	}{
		{"file", archive.Rules{Paths: []string{"a.txt"}}, []string{"a.txt"}, []string{"a.txt: found 1 matching artifact files and directories"}},
		{"directory", archive.Rules{Paths: []string{"deep/"}}, []string{"deep", "deep/er", "deep/er/est", "deep/er/est/f"},
			[]string{"deep/: found 4 matching artifact files and directories"}},
		{"absolute", archive.Rules{Paths: []string{dir + "/deep/er/est"}}, []string{"deep/er/est", "deep/er/est/f"},
			[]string{dir + "/deep/er/est: found 2 matching artifact files and directories"}},
		{"double star", archive.Rules{Paths: []string{"many/**/1*.go"}, Exclude: []string{"many/**/1??.go", "many/[0-5]/*"}}, []string{"many/6/13.go"},
			[]string{"many/**/1*.go: found 1 matching artifact files and directories", "many/**/1??.go: excluded 100 files", "many/[0-5]/*: excluded 10 files"}},
		{"braces", archive.Rules{Paths: []string{"{a.txt,empty}"}}, []string{"a.txt", "empty"}, []string{"{a.txt,empty}: found 2 matching artifact files and directories"}},
		{"links are not followed", archive.Rules{Paths: []string{"dirlink", "dirl*/**/f"}}, []string{"dirlink"},
			[]string{"dirlink: found 1 matching artifact files and directories", "W dirl*/**/f: no matching files. Ensure that the artifact path is relative to the working directory (" + dir + ")"}},
		{"outside", archive.Rules{Paths: []string{"../x", "/etc/passwd", "a/../../y", "{../a.txt,zz}"}}, nil, []string{
			"W artifact path is not a subpath of project directory: ../x", "W artifact path is not a subpath of project directory: /etc/passwd",
			"W artifact path is not a subpath of project directory: a/../../y",
			"W {../a.txt,zz}: no matching files. Ensure that the artifact path is relative to the working directory (" + dir + ")",
		}},
		{"twice is once", archive.Rules{Paths: []string{"a.txt", "*.txt"}}, []string{"a.txt"}, []string{
			"a.txt: found 1 matching artifact files and directories", "*.txt: found 1 matching artifact files and directories"}},
		{"untracked", archive.Rules{WithUntracked: true, Untracked: []string{"empty", "hollow/", "../x", "gone"}, Exclude: []string{"hollow"}}, []string{"empty"},
			[]string{"untracked: found 1 files", "hollow: excluded 1 files"}},
		{"no untracked", archive.Rules{WithUntracked: true}, nil, []string{"untracked: no files"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := archive.Select(dir, tt.rules)
			if err != nil {
				t.Fatal(err)
			}
			var got, notes []string
			for _, f := range s.Files {
				got = append(got, f.Path)
			}
			for _, n := range s.Notes {
				if n.Warning {
					n.Text = "W " + n.Text
				}
				notes = append(notes, n.Text)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.notes, notes); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := archive.Select(dir, archive.Rules{Exclude: []string{"[a"}}); err == nil {
		t.Error("a broken pattern was accepted")
	}
}

func TestGoneAndCanceled(t *testing.T) {
	dir := tree(t)
	files := all(t, dir)
	for _, name := range []string{"a.txt", "large", "link"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, format := range []archive.Format{archive.Zip, archive.TarZstd} {
		var b bytes.Buffer
		var warnings []string
		err := archive.Write(t.Context(), &b, format, dir, files, archive.WriteOptions{Warn: func(s string) { warnings = append(warnings, s) }})
		if err != nil || len(warnings) != 3 {
			t.Errorf("%s: %v, warnings %q", format, err, warnings)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := errors.New("enough")
		cancel(stop)
		if err := archive.Write(ctx, &b, format, dir, files, archive.WriteOptions{}); !errors.Is(err, stop) {
			t.Errorf("%s canceled: got %v", format, err)
		}
	}
	full := &limited{n: 100_000}
	if err := archive.Write(t.Context(), full, archive.Zip, dir, files, archive.WriteOptions{}); !errors.Is(err, errFull) {
		t.Errorf("a full disk: got %v", err)
	}
}

var errFull = errors.New("disk full")

type limited struct{ n int }

func (l *limited) Write(p []byte) (int, error) {
	if l.n -= len(p); l.n < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func FuzzExtract(f *testing.F) {
	dir := f.TempDir()
	put(f, dir, "a/b", []byte("content"), 0o644)
	if err := os.Symlink("b", filepath.Join(dir, "a/l")); err != nil {
		f.Fatal(err)
	}
	for _, format := range []archive.Format{archive.Zip, archive.ZipZstd, archive.TarZstd} {
		f.Add(pack(f, format, dir, archive.WriteOptions{}))
	}
	for _, h := range hostileArchives(f) {
		if len(h.data) < 2<<10 { // the others are slow
			f.Add(h.data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		outer := t.TempDir()
		to := filepath.Join(outer, "in")
		if err := os.Mkdir(to, 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, outer, "canary", []byte("alive"), 0o600)
		if err := os.Symlink("../canary", filepath.Join(to, "bait")); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, _ = archive.Extract(t.Context(), bytes.NewReader(data), int64(len(data)), to, archive.ExtractOptions{
			Limits: archive.Limits{Bytes: 1 << 20, Entries: 100},
		})
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
		if got, err := os.ReadFile(filepath.Join(outer, "canary")); err != nil || string(got) != "alive" {
			t.Fatalf("the canary says %q, %v", got, err)
		}
		if list, _ := os.ReadDir(outer); len(list) != 2 {
			t.Fatalf("outside are %v", list)
		}
		_ = filepath.WalkDir(to, func(name string, d fs.DirEntry, _ error) error { // or TempDir cannot be removed
			if d != nil && d.IsDir() {
				_ = os.Chmod(name, 0o700)
			}
			return nil
		})
	})
}
