package coordinator_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/glassrunner/glassrunner/internal/coordinator"
	"github.com/glassrunner/glassrunner/internal/job"
)

func benchServer(b *testing.B, status int) string {
	b.Helper()
	url, _ := serve(b, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Job-Status", "running")
		w.WriteHeader(status)
	})
	return url
}

func BenchmarkRequestJob204(b *testing.B) {
	c := newClient(b, options(benchServer(b, 204), nil))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := c.RequestJob(b.Context(), false); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	j := newClient(b, options(benchServer(b, 200), nil)).Job(4711, jobToken, false)
	u := job.Update{State: job.WireRunning, Checksum: "crc32:1c291ca3", Size: 1834}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := j.Update(b.Context(), u); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend1MiB(b *testing.B) {
	j := newClient(b, options(benchServer(b, 202), nil)).Job(4711, jobToken, false)
	p := make([]byte, coordinator.MaxChunk)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := j.Append(b.Context(), 0, p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFloor is a bare request of the same kind, for comparison.
func BenchmarkFloor(b *testing.B) {
	url := benchServer(b, 204)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	b.ReportAllocs()
	for b.Loop() {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, nil)
		if err != nil {
			b.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		_ = resp.Body.Close()
	}
}

func BenchmarkDecodeJob(b *testing.B) {
	b.SetBytes(int64(len(sample)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := coordinator.DecodeJob([]byte(sample)); err != nil {
			b.Fatal(err)
		}
	}
}
