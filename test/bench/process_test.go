package bench_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// BenchmarkStart is the time from the start of the process to its first 200
// of /metrics, as somebody sees it who asks every half millisecond.
func BenchmarkStart(b *testing.B) {
	c, p := newCoordinator(b, time.Minute), newPlace(b)
	config := p.config(b, c.url, 4, 1, "")
	binary.get(b)
	var took []time.Duration
	var own []float64
	for b.Loop() {
		r := p.command(b, config)
		took = append(took, r.ready())
		own = append(own, r.cpu().Seconds()*1000)
		r.stop()
	}
	b.ReportMetric(median(ms(took)), "ms/start")
	b.ReportMetric(quantile(ms(took), 0.9), "p90-ms/start")
	b.ReportMetric(median(own), "own-cpu-ms/start")
	b.ReportMetric(0, "ns/op") // with the end of the process
}

// idleFor is how long the idle runner is watched.
const idleFor = time.Minute

// BenchmarkIdle is a runner with one entry that finds nothing to do: it asks
// every check_interval, which is 3 s, and nobody holds its requests.
func BenchmarkIdle(b *testing.B) {
	c, p := newCoordinator(b, 0), newPlace(b)
	r := p.start(b, p.config(b, c.url, 4, 1, ""))
	var rss, load []float64
	for b.Loop() {
		before := r.cpu()
		pause(b, idleFor)
		load = append(load, 100*float64(r.cpu()-before)/float64(idleFor))
		rss = append(rss, r.memory("VmRSS"))
	}
	b.ReportMetric(median(rss), "MiB-resident")
	b.ReportMetric(r.memory("RssAnon"), "MiB-anonymous")
	b.ReportMetric(median(load), "%-cpu")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkHundred is a runner with 100 jobs that print now and then.
func BenchmarkHundred(b *testing.B) {
	const jobs = 100
	c, p := newCoordinator(b, time.Minute), newPlace(b)
	r := p.start(b, p.config(b, c.url, jobs, 1, ""))
	tasks := c.running(b, jobs)
	var rss, load []float64
	for b.Loop() {
		before := r.cpu()
		pause(b, 10*time.Second)
		load = append(load, 100*float64(r.cpu()-before)/float64(10*time.Second))
		rss = append(rss, r.memory("VmRSS"))
	}
	b.ReportMetric(median(rss), "MiB-resident")
	b.ReportMetric(r.memory("VmHWM"), "MiB-peak")
	b.ReportMetric(median(load), "%-cpu")
	b.ReportMetric(0, "ns/op")
	cancelAll(tasks)
	c.finished(b, tasks)
}

// running starts jobs that last until they are canceled. They print every 5 s,
// each at its own time: in step they would fork all at once, which measures
// the forks of shells.
func (c *coordinator) running(b *testing.B, n int) []*task {
	b.Helper()
	tasks := c.enqueue(b, n, fakegitlab.Job{Script: []string{"sleep $((RANDOM % 5)).$RANDOM; while :; do echo working; sleep 5; done"}})
	for _, t := range tasks {
		select {
		case <-t.running:
		case <-time.After(time.Minute):
			b.Fatal("the jobs do not run")
		}
	}
	pause(b, 3*time.Second) // their shells start, their first lines are sent
	return tasks
}

func cancelAll(tasks []*task) {
	for _, t := range tasks {
		t.cancel()
	}
}

func pause(b *testing.B, d time.Duration) {
	b.Helper()
	select {
	case <-time.After(d):
	case <-b.Context().Done():
		b.Fatal(b.Context().Err())
	}
}

// BenchmarkLog is a job that prints 50 MB: what it costs the runner to read,
// mask, stamp, store, and send them.
func BenchmarkLog(b *testing.B) {
	const size = 50_000_000
	c, p := newCoordinator(b, time.Minute), newPlace(b)
	file := filepath.Join(p.dir, "output")
	writeLines(b, file, size)
	r := p.start(b, p.config(b, c.url, 1, 1, "  output_limit = 204800\n"))
	secret := fakegitlab.Variable{Key: "SECRET", Value: "correct-horse-battery", Masked: true}
	j := fakegitlab.Job{Script: []string{"cat " + file}, Variables: []fakegitlab.Variable{secret}}
	c.finished(b, c.enqueue(b, 4, noop()))
	var own, peak, growth []float64
	b.SetBytes(size)
	for b.Loop() {
		before, rss := r.cpu(), r.memory("VmRSS")
		r.resetPeak()
		t := c.enqueue(b, 1, j)
		c.finished(b, t)
		if t[0].size < size {
			b.Fatalf("%d bytes came", t[0].size)
		}
		own = append(own, (r.cpu() - before).Seconds())
		peak = append(peak, r.memory("VmHWM"))
		growth = append(growth, r.memory("VmHWM")-rss)
	}
	b.ReportMetric(median(own), "own-cpu-s/op")
	b.ReportMetric(median(peak), "MiB-peak")
	b.ReportMetric(median(growth), "MiB-growth")
}

// writeLines writes lines as builds print them, some with the secret.
func writeLines(b *testing.B, path string, size int) {
	b.Helper()
	var t strings.Builder
	t.Grow(size + 200)
	for i := 0; t.Len() < size; i++ {
		switch {
		case i%50 == 0:
			t.WriteString("\x1b[32;1m$ make -C build target\x1b[0;m\n")
		case i%997 == 0:
			t.WriteString("login with correct-horse-battery succeeded\n")
		default:
			fmt.Fprintf(&t, "[%6d] compiling src/%s/module_%d.c with -O2 -g -Wall\n", i, rand.Text()[:8], i%4096)
		}
	}
	if err := os.WriteFile(path, []byte(t.String()[:size]), 0o600); err != nil {
		b.Fatal(err)
	}
}

// resetPeak forgets the largest resident memory so far.
func (r *runner) resetPeak() {
	r.b.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", r.cmd.Process.Pid), []byte("5"), 0); err != nil {
		r.b.Fatal(err)
	}
}

// BenchmarkScrape is one scrape with 10 runner entries and 100 running jobs,
// over a connection that is kept, as it is seen by the client.
func BenchmarkScrape(b *testing.B) { scrape(b, 10, 100) }

// BenchmarkScrapeFleet is the same with 200 entries and 1,000 running jobs.
func BenchmarkScrapeFleet(b *testing.B) { scrape(b, 200, 1000) }

func scrape(b *testing.B, entries, jobs int) {
	c, p := newCoordinator(b, time.Minute), newPlace(b)
	r := p.start(b, p.config(b, c.url, jobs, entries, ""))
	tasks := c.running(b, jobs)
	for _, way := range []struct {
		name   string
		header []string
	}{
		{"text", nil},
		{"openmetrics-gzip", []string{"Accept", "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3", "Accept-Encoding", "gzip"}},
		{"protobuf-gzip", []string{"Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", "Accept-Encoding", "gzip"}},
	} {
		b.Run(way.name, func(b *testing.B) {
			var took []time.Duration
			var body bytes.Buffer // reused, as a scraper does
			before := r.cpu()
			for b.Loop() {
				began := time.Now()
				body.Reset()
				status, err := r.fetch(&body, "/metrics", way.header...)
				took = append(took, time.Since(began))
				if err != nil || status != http.StatusOK {
					b.Fatalf("%d %v", status, err)
				}
			}
			b.ReportMetric(median(ms(took)), "ms-median")
			b.ReportMetric(quantile(ms(took), 0.99), "ms-p99")
			b.ReportMetric(float64((r.cpu()-before).Microseconds())/1000/float64(len(took)), "own-cpu-ms/op")
			b.ReportMetric(float64(body.Len()), "bytes")
		})
	}
	cancelAll(tasks)
	c.finished(b, tasks)
}

// BenchmarkCancel is the time from a user's cancel to the accepted final
// update of a job that prints nothing, so that the runner has to ask.
func BenchmarkCancel(b *testing.B) {
	const jobs = 20
	c, p := newCoordinator(b, time.Minute), newPlace(b)
	p.start(b, p.config(b, c.url, jobs, 1, ""))
	var took []float64
	for b.Loop() {
		var tasks []*task
		for range jobs { // spread over the time between two questions
			t := c.enqueue(b, 1, fakegitlab.Job{Script: []string{"exec sleep 600"}})
			tasks = append(tasks, t...)
			pause(b, 330*time.Millisecond)
		}
		pause(b, 3*time.Second)
		cancelAll(tasks)
		took = append(took, ms(c.finished(b, tasks))...)
	}
	b.ReportMetric(median(took)/1000, "s-median")
	b.ReportMetric(quantile(took, 1)/1000, "s-max")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkBinary is the size of the program.
func BenchmarkBinary(b *testing.B) {
	info, err := os.Stat(binary.get(b))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/1e6, "MB")
	b.ReportMetric(0, "ns/op")
}
