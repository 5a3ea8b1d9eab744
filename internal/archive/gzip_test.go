package archive_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"testing"

	"github.com/glassrunner/glassrunner/internal/archive"
)

// Members of several blocks, of one, and of none are what the standard
// library reads, at every level.
func TestGzipMembers(t *testing.T) {
	dir := t.TempDir()
	want := map[string][]byte{
		"a-empty": nil, "b-small": []byte("small"), "c-blocks": text(1, 1<<20+17), "d-whole": text(2, 512<<10), "e-noise": noise(600_001), "f-byte": {7},
	}
	for name, content := range want {
		put(t, dir, name, content, 0o644)
	}
	files := all(t, dir)
	for _, level := range []archive.Level{archive.Fastest, archive.Fast, archive.Default, archive.Slow, archive.Slowest} {
		for _, workers := range []int{1, 2} {
			var b bytes.Buffer
			if err := archive.Write(t.Context(), &b, archive.Gzip, dir, files, archive.WriteOptions{Level: level, Workers: workers}); err != nil {
				t.Fatal(err)
			}
			in := bytes.NewReader(b.Bytes())
			z, err := gzip.NewReader(in)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for ; err == nil; err = z.Reset(in) {
				z.Multistream(false)
				got, err := io.ReadAll(z)
				if err != nil {
					t.Fatalf("level %v: %s: %v", level, z.Name, err)
				}
				if !bytes.Equal(got, want[z.Name]) || z.Comment != z.Name {
					t.Errorf("level %v: %q (%q) has %d bytes, want %d", level, z.Name, z.Comment, len(got), len(want[z.Name]))
				}
				n++
			}
			if !errors.Is(err, io.EOF) || n != len(want) {
				t.Errorf("level %v: %d members, then %v, want %d", level, n, err, len(want))
			}
		}
	}
}

// noise is what does not get smaller.
func noise(n int) []byte {
	b := make([]byte, n)
	x := uint64(88172645463325252)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}
