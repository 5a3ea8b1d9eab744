package archive_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/glassrunner/glassrunner/internal/archive"
)

// project is a tree like that of a build: many small files and a few large ones.
func project(b *testing.B) (dir string, bytes int64) {
	b.Helper()
	dir = b.TempDir()
	add := func(name string, n int, seed uint64) {
		put(b, dir, name, text(seed, n), 0o644)
		bytes += int64(n)
	}
	for i := range 2000 {
		add(fmt.Sprintf("src/p%d/f%d.go", i%40, i), 1000+i*5, uint64(i))
	}
	for i := range 3 {
		add(fmt.Sprintf("bin/tool%d", i), 24<<20, uint64(7000+i))
	}
	return dir, bytes
}

func BenchmarkWrite(b *testing.B) {
	dir, n := project(b)
	files := all(b, dir)
	for _, format := range []archive.Format{archive.Zip, archive.ZipZstd, archive.TarZstd} {
		b.Run(string(format), func(b *testing.B) {
			b.SetBytes(n)
			for b.Loop() {
				c := &counter{}
				if err := archive.Write(context.Background(), c, format, dir, files, archive.WriteOptions{}); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(n)/float64(c.n), "ratio")
			}
		})
	}
	b.Run("tool-zip", func(b *testing.B) {
		tool, err := exec.LookPath("zip")
		if err != nil {
			b.Skip("zip is not installed")
		}
		b.SetBytes(n)
		for b.Loop() {
			cmd := exec.Command(tool, "-q", "-r", "-y", "-", ".")
			cmd.Dir = dir
			c := &counter{}
			cmd.Stdout = c
			if err := cmd.Run(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(n)/float64(c.n), "ratio")
		}
	})
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

func BenchmarkExtract(b *testing.B) {
	dir, n := project(b)
	files := all(b, dir)
	packed := b.TempDir()
	for _, format := range []archive.Format{archive.Zip, archive.ZipZstd, archive.TarZstd} {
		file, err := os.Create(filepath.Join(packed, string(format)))
		if err != nil {
			b.Fatal(err)
		}
		if err := archive.Write(context.Background(), file, format, dir, files, archive.WriteOptions{}); err != nil {
			b.Fatal(err)
		}
		length, err := file.Seek(0, io.SeekEnd)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(string(format), func(b *testing.B) {
			b.SetBytes(n)
			for b.Loop() {
				to := b.TempDir()
				if _, err := archive.Extract(context.Background(), file, length, to, archive.ExtractOptions{}); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				_ = os.RemoveAll(to)
				b.StartTimer()
			}
		})
	}
	b.Run("tool-unzip", func(b *testing.B) {
		tool, err := exec.LookPath("unzip")
		if err != nil {
			b.Skip("unzip is not installed")
		}
		b.SetBytes(n)
		for b.Loop() {
			to := b.TempDir()
			if err := exec.Command(tool, "-q", filepath.Join(packed, "zip"), "-d", to).Run(); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			_ = os.RemoveAll(to)
			b.StartTimer()
		}
	})
}
