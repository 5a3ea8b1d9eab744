//go:build unix

package archive_test

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/glassrunner/glassrunner/internal/archive"
)

// TestOwners: what root extracts belongs to whom it belonged to.
func TestOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	from := t.TempDir()
	put(t, from, "dir/file", []byte("x"), 0o640)
	if err := os.Symlink("file", filepath.Join(from, "dir/link")); err != nil {
		t.Fatal(err)
	}
	want := map[string][2]uint32{"dir": {1234, 5}, "dir/file": {4_000_000_000, 2345}, "dir/link": {6, 7}}
	for name, who := range want {
		if err := os.Lchown(filepath.Join(from, name), int(who[0]), int(who[1])); err != nil {
			t.Skipf("files cannot be given away here: %v", err)
		}
	}
	for _, format := range []archive.Format{archive.Zip, archive.TarZstd} {
		t.Run(string(format), func(t *testing.T) {
			data, to := pack(t, format, from, archive.WriteOptions{}), t.TempDir()
			if _, err := archive.Extract(t.Context(), bytes.NewReader(data), int64(len(data)), to, archive.ExtractOptions{}); err != nil {
				t.Fatal(err)
			}
			for name, who := range want {
				fi, err := os.Lstat(filepath.Join(to, name))
				if err != nil {
					t.Fatal(err)
				}
				if st := fi.Sys().(*syscall.Stat_t); st.Uid != who[0] || st.Gid != who[1] {
					t.Errorf("%s: got %d:%d, want %v", name, st.Uid, st.Gid, who)
				}
			}
			if fi, err := os.Stat(filepath.Join(to, "dir/file")); err != nil || fi.Mode().Perm() != 0o640 {
				t.Errorf("dir/file: got %v, %v", fi.Mode(), err)
			}
		})
	}
}
