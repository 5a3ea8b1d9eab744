//go:build linux

package bench_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
)

// BenchmarkUpload sends an artifact of 2 GiB and tells how much memory that
// took the helper: as much as for a small one.
func BenchmarkUpload(b *testing.B) {
	const size = 2 << 30
	for _, tt := range []struct{ name, format, level string }{
		{"raw", "raw", ""}, {"zip-stored", "zip", "fastest"}, {"zip", "zip", "fast"}, {"gzip", "gzip", "fast"}, {"tarzstd", "tarzstd", "fast"},
	} {
		b.Run(tt.name, func(b *testing.B) {
			var got atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n, err := io.Copy(io.Discard, r.Body)
				if err != nil {
					b.Error(err)
				}
				got.Add(n)
				w.WriteHeader(http.StatusCreated)
				_, _ = io.WriteString(w, "{}")
			}))
			defer server.Close()
			dir := b.TempDir()
			file, err := os.Create(filepath.Join(dir, "big"))
			if err != nil {
				b.Fatal(err)
			}
			if err := file.Truncate(size); err != nil { // zeros, which take no disk
				b.Fatal(err)
			}
			if err := file.Close(); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(size)
			peak := int64(0)
			for b.Loop() {
				cmd := exec.Command(binary.get(b), "artifacts-uploader", "--path", "big", "--artifact-format", tt.format)
				cmd.Dir = dir
				cmd.Env = []string{"CI_SERVER_URL=" + server.URL, "CI_JOB_TOKEN=token", "CI_JOB_ID=1", "ARTIFACT_COMPRESSION_LEVEL=" + tt.level}
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
				peak = max(peak, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss<<10)
			}
			if tt.format == "raw" && got.Load() < size {
				b.Errorf("the server got %d bytes", got.Load())
			}
			const most = 200 << 20
			if peak > most {
				b.Errorf("the helper took %d MiB, want at most %d", peak>>20, most>>20)
			}
			b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
		})
	}
}
