package archive_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/glassrunner/glassrunner/internal/archive"
)

// entry is one entry of a hostile archive.
type entry struct {
	name string
	mode fs.FileMode
	body string // or the target of a link
	hard bool
}

func zipOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		h.SetMode(e.mode)
		out, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(out, e.body); err != nil && !strings.HasSuffix(e.name, "/") {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: int64(e.mode.Perm()), Typeflag: tar.TypeReg}
		switch {
		case e.hard:
			h.Typeflag, h.Linkname = tar.TypeLink, e.body
		case e.mode&fs.ModeSymlink != 0:
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.body
		case e.mode.IsDir():
			h.Typeflag = tar.TypeDir
		case e.mode&fs.ModeNamedPipe != 0:
			h.Typeflag = tar.TypeFifo
		case e.mode&fs.ModeDevice != 0:
			h.Typeflag, h.Devmajor, h.Devminor = tar.TypeBlock, 8, 0
		default:
			h.Size = int64(len(e.body))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, e.body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type hostile struct {
	name string
	data []byte
	want string // in the error; "" means that it is extracted without harm
}

const (
	linkMode = fs.ModeSymlink | 0o777
	dirMode  = fs.ModeDir | 0o755
)

// hostileArchives is the table of tricks. Each comes as zip and as tar.zst.
func hostileArchives(t testing.TB) []hostile {
	var out []hostile
	both := func(name, want string, entries ...entry) {
		out = append(out, hostile{"zip/" + name, zipOf(t, entries...), want}, hostile{"tar/" + name, tarOf(t, entries...), want})
	}
	both("dot dot", "leads out", entry{name: "../escaped", mode: 0o644, body: "x"})
	both("dot dot inside", "leads out", entry{name: "a/../../escaped", mode: 0o644, body: "x"})
	both("dot dot that comes back", "leads out", entry{name: "a/../b", mode: 0o644, body: "x"})
	both("dot dot directory", "leads out", entry{name: "../escaped/", mode: dirMode})
	both("dot dot link", "leads out", entry{name: "../escaped", mode: linkMode, body: "/etc"})
	both("absolute", "absolute name", entry{name: "/tmp/glassrunner-escaped", mode: 0o644, body: "x"})
	both("absolute, many slashes", "absolute name", entry{name: "//tmp/glassrunner-escaped", mode: 0o644, body: "x"})
	both("good, then bad", "leads out", entry{name: "good", mode: 0o644, body: "x"}, entry{name: "../escaped", mode: 0o644, body: "x"})
	both("link, then file through it", "both a link and a directory",
		entry{name: "l", mode: linkMode, body: ".."}, entry{name: "l/escaped", mode: 0o644, body: "x"})
	both("absolute link, then file through it", "both a link and a directory",
		entry{name: "l", mode: linkMode, body: "/tmp"}, entry{name: "l/glassrunner-escaped", mode: 0o644, body: "x"})
	both("link to a link", "both a link and a directory", entry{name: "a", mode: linkMode, body: "."}, entry{name: "a/b", mode: linkMode, body: ".."},
		entry{name: "a/b/escaped", mode: 0o644, body: "x"})
	both("link in another case", "", entry{name: "L", mode: linkMode, body: ".."}, entry{name: "l/escaped", mode: 0o644, body: "x"})
	both("link, then file of that name", "", entry{name: "l", mode: linkMode, body: "../canary"}, entry{name: "l", mode: 0o644, body: "overwritten"})
	both("file where a link lies", "", entry{name: "bait", mode: 0o644, body: "overwritten"})
	both("through a link that lies there", "leads out", entry{name: "baitdir/canary", mode: 0o644, body: "overwritten"})
	both("deep through a link that lies there", "leads out", entry{name: "baitdir/in2/x", mode: 0o644, body: "overwritten"})
	both("directory where a link lies", "leads out", entry{name: "baitdir/", mode: dirMode})
	both("file in place of the directory", "in place of the directory", entry{name: "./", mode: dirMode}, entry{name: ".", mode: 0o644, body: "x"})
	both("link in place of the directory", "in place of the directory", entry{name: ".", mode: linkMode, body: "/etc"})
	both("file, then directory of that name", "", entry{name: "inside", mode: 0o644, body: "x"}, entry{name: "inside2/x", mode: 0o644, body: "x"})
	both("set-user-id", "", entry{name: "su", mode: 0o755 | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky, body: "x"})
	both("pipe and device", "", entry{name: "p", mode: fs.ModeNamedPipe | 0o644}, entry{name: "d", mode: fs.ModeDevice | 0o644}, entry{name: "f", mode: 0o644, body: "x"})
	out = append(out,
		hostile{"tar/link, then directory of that name", tarOf(t, entry{name: "l", mode: linkMode, body: ".."}, entry{name: "l/", mode: dirMode}), "both a link and a directory"},
		hostile{"zip/link, then directory of that name", zipOf(t, entry{name: "l", mode: linkMode, body: ".."}, entry{name: "l/", mode: dirMode}), ""},
		hostile{"zip/no name", zipOf(t, entry{name: "", mode: 0o644, body: "x"}), "no name"},
		hostile{"zip/zero byte", zipOf(t, entry{name: "a\x00b", mode: 0o644, body: "x"}), "zero byte"},
		hostile{"tar/hard link outwards", tarOf(t, entry{name: "h", body: "../canary", hard: true}), "hard link"},
		hostile{"tar/hard link to what lies there", tarOf(t, entry{name: "h", body: "bait", hard: true}), "hard link"},
		hostile{"tar/hard link, absolute", tarOf(t, entry{name: "h", body: "/etc/passwd", hard: true}), "hard link"},
		hostile{"tar/hard link to a link", tarOf(t, entry{name: "l", mode: linkMode, body: "../canary"}, entry{name: "h", body: "l", hard: true}), "hard link"},
		hostile{"tar/good hard link", tarOf(t, entry{name: "f", mode: 0o644, body: "x"}, entry{name: "h", body: "f", hard: true}), ""},
		hostile{"gzip", []byte{0x1f, 0x8b, 8, 0}, "cannot be extracted"},
		hostile{"nothing", nil, "reading the archive"},
		hostile{"noise", []byte("this is no archive at all"), "reading the archive"},
		hostile{"zip/cut", zipOf(t, entry{name: "a", mode: 0o644, body: "x"})[:20], "reading the archive"},
		hostile{"tar/cut", tarOf(t, entry{name: "a", mode: 0o644, body: "x"})[:12], "reading the archive"},
		hostile{"zip/bomb that lies", lyingZip(t), "ratio|times as large|valid zip|checksum"},
		hostile{"zip/bomb of overlapping entries", overlappingZip(t), "shares its content"},
		hostile{"zip/bomb", zipOf(t, entry{name: "zeros", mode: 0o644, body: strings.Repeat("\x00", 5<<20)}), "larger than 4 MiB"},
		hostile{"tar/bomb", tarOf(t, entry{name: "zeros", mode: 0o644, body: strings.Repeat("\x00", 5<<20)}), "larger than 4 MiB"},
		hostile{"tar/bomb of headers", tarOf(t, manyDirs(20_000)...), "entries|larger than 4 MiB"},
		hostile{"zip/too many entries", zipOf(t, manyDirs(2000)...), "more than 1000 entries"},
	)
	return out
}

func manyDirs(n int) []entry {
	out := make([]entry, n)
	for i := range out {
		out[i] = entry{name: strings.Repeat("d", i%200+1) + "/", mode: dirMode}
	}
	return out
}

// lyingZip says that 5 MiB are one byte.
func lyingZip(t testing.TB) []byte {
	data := zipOf(t, entry{name: "zeros", mode: 0o644, body: strings.Repeat("\x00", 5<<20)})
	old := binary.LittleEndian.AppendUint32(nil, 5<<20)
	return bytes.ReplaceAll(data, old, []byte{1, 0, 0, 0})
}

// overlappingZip has a hundred entries with the same content.
func overlappingZip(t testing.TB) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	body := strings.Repeat("some text that is here once, ", 1000)
	h := &zip.FileHeader{Name: "f0", Method: zip.Store}
	out, err := w.CreateHeader(h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(out, body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	data := b.Bytes()
	at := bytes.LastIndex(data, []byte("PK\x01\x02"))
	end := bytes.LastIndex(data, []byte("PK\x05\x06"))
	dir, tail := data[at:end], bytes.Clone(data[end:])
	res := bytes.Clone(data[:at])
	for i := range 100 {
		d := bytes.Clone(dir)
		d[len(d)-1] = byte('0' + i%10)
		res = append(res, d...)
	}
	binary.LittleEndian.PutUint16(tail[8:], 100)
	binary.LittleEndian.PutUint16(tail[10:], 100)
	binary.LittleEndian.PutUint32(tail[12:], uint32(100*len(dir)))
	return append(res, tail...)
}

func TestHostile(t *testing.T) {
	for _, tt := range hostileArchives(t) {
		t.Run(tt.name, func(t *testing.T) {
			outer := t.TempDir()
			to := filepath.Join(outer, "in")
			if err := os.Mkdir(to, 0o700); err != nil {
				t.Fatal(err)
			}
			put(t, outer, "canary", []byte("alive"), 0o600)
			put(t, outer, "in2/x", []byte("alive"), 0o600)
			for name, target := range map[string]string{"bait": "../canary", "baitdir": ".."} {
				if err := os.Symlink(target, filepath.Join(to, name)); err != nil {
					t.Fatal(err)
				}
			}
			before := shape(t, outer)
			var warnings []string
			_, err := archive.Extract(t.Context(), bytes.NewReader(tt.data), int64(len(tt.data)), to, archive.ExtractOptions{
				Limits: archive.Limits{Bytes: 4 << 20, Entries: 1000},
				Warn:   func(s string) { warnings = append(warnings, s) },
			})
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v", err)
			case tt.want != "" && err == nil:
				t.Errorf("got no error, want one with %q", tt.want)
			case tt.want != "":
				ok := false
				for part := range strings.SplitSeq(tt.want, "|") {
					ok = ok || strings.Contains(err.Error(), part)
				}
				if !ok {
					t.Errorf("got %v, want %q", err, tt.want)
				}
			}
			after := shape(t, outer)
			for name, was := range before {
				if strings.HasPrefix(name, "in/") || name == "in" {
					continue
				}
				if after[name] != was {
					t.Errorf("%s outside changed: %s, was %s", name, after[name], was)
				}
			}
			for name, is := range after {
				if !strings.HasPrefix(name, "in/") && before[name] == "" {
					t.Errorf("%s was made outside", name)
				}
				if strings.HasPrefix(name, "in/") && strings.ContainsAny(is[:strings.IndexByte(is+" ", ' ')], "ugtp") {
					t.Errorf("%s has a special mode: %s", name, is)
				}
			}
			if _, err := os.Lstat("/tmp/glassrunner-escaped"); err == nil {
				t.Error("/tmp/glassrunner-escaped was made")
			}
		})
	}
}

func TestGitWarning(t *testing.T) {
	for _, name := range []string{".git/hooks/pre-commit", ".GIT/config", ".git"} {
		data := zipOf(t, entry{name: name, mode: 0o644, body: "x"}, entry{name: ".git2/x", mode: 0o644})
		var warnings []string
		_, err := archive.Extract(t.Context(), bytes.NewReader(data), int64(len(data)), t.TempDir(), archive.ExtractOptions{Warn: func(s string) { warnings = append(warnings, s) }})
		if err != nil || len(warnings) != 1 {
			t.Errorf("%s: %v, warnings %q", name, err, warnings)
		}
	}
}

// What an earlier extraction left read-only is no obstacle.
func TestReadOnlyDirectory(t *testing.T) {
	data := zipOf(t, entry{name: "d/", mode: fs.ModeDir | 0o555}, entry{name: "d/f", mode: 0o444, body: "x"})
	to := t.TempDir()
	for range 2 {
		if _, err := archive.Extract(t.Context(), bytes.NewReader(data), int64(len(data)), to, archive.ExtractOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if fi, err := os.Stat(filepath.Join(to, "d")); err != nil || fi.Mode().Perm() != 0o555 {
		t.Errorf("got %v, %v", fi.Mode(), err)
	}
	if err := os.Chmod(filepath.Join(to, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
}
