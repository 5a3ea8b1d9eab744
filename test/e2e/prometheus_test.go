//go:build linux

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// keptNames are metrics whose names promtool does not like and that
// compatibility fixes. There is none at present.
var keptNames []string

// TestPromtool has Prometheus's own tool look at a scrape.
func TestPromtool(t *testing.T) {
	t.Parallel()
	promtool := needs(t, "promtool")
	w := bareWorld(t)
	t.Cleanup(w.finish)
	p := startDemo(w)
	p.waitMetrics("a finished job of each sort", func(m families) bool {
		return m.sum("gitlab_runner_job_duration_seconds") >= 7
	})
	_, body := p.get("/metrics")
	tool := w.program("/bin/sh", nil, "-c", promtool+" check metrics < "+file(t, w, "metrics", string(body)))
	code := tool.exit()
	for line := range strings.Lines(tool.log.String()) {
		kept := false
		for _, name := range keptNames {
			kept = kept || strings.HasPrefix(line, name+" ")
		}
		if !kept {
			t.Errorf("promtool says: %s", line)
		}
	}
	if code != 0 && len(keptNames) == 0 {
		t.Errorf("promtool's exit code is %d", code)
	}
	stopDemo(p)
}

// file writes one.
func file(t *testing.T, w *world, name, text string) string {
	t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// seedMetrics are the metrics that GitLab's page on monitoring names, and
// some of Go and of the process.
func seedMetrics() []string {
	names := []string{"go_goroutines", "go_memstats_alloc_bytes", "process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes", "gitlab_runner_jobs"}
	for line := range strings.Lines(seedHelp) {
		names = append(names, strings.Fields(line)[2])
	}
	return names
}

// TestPrometheus has a real Prometheus scrape the running demo, and asks it
// for what the seed promises.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	prometheus := needs(t, "prometheus")
	w := bareWorld(t)
	t.Cleanup(w.finish)
	demo := startDemo(w)
	demo.waitMetrics("a finished job", func(m families) bool { return m.sum("gitlab_runner_job_duration_seconds") >= 1 })
	config := file(t, w, "prometheus.yml", fmt.Sprintf(`
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: glassrunner
    static_configs:
      - targets: [%q]
`, demo.addr))
	at := "127.0.0.1:" + freePort(t, "127.0.0.1")
	server := w.program(prometheus, nil, "--config.file", config, "--storage.tsdb.path", filepath.Join(w.dir, "tsdb"),
		"--web.listen-address", at, "--enable-feature", "native-histograms", "--log.level", "warn")
	ask := func(query string) []sample {
		res, body, err := w.request("GET", "http://"+at+"/api/v1/query?query="+url.QueryEscape(query))
		if err != nil || res.StatusCode != 200 {
			return nil
		}
		var answer struct{ Data struct{ Result []sample } }
		if err := json.Unmarshal(body, &answer); err != nil {
			t.Fatalf("%v in %s", err, body)
		}
		return answer.Data.Result
	}
	value := func(query string) string {
		if r := ask(query); len(r) == 1 && len(r[0].Value) == 2 {
			return strings.Trim(string(r[0].Value[1]), `"`)
		}
		return ""
	}
	w.eventually("a Prometheus that scrapes", func() bool {
		if !server.running() {
			t.Fatalf("prometheus has ended:\n%s", server.log)
		}
		return value("up") == "1"
	})
	for _, name := range seedMetrics() {
		query := name
		if strings.HasSuffix(name, "_duration_seconds") {
			query = name + "_count or " + name // with native histograms there is one series
		}
		// A scrape that a busy machine has no time for makes all series stale.
		w.eventually("Prometheus has "+name, func() bool { return len(ask(query)) > 0 })
	}
	w.eventually("gitlab_runner_concurrent is 3", func() bool { return value("gitlab_runner_concurrent") == "3" })
	// The same number from both, once the demo has handed out nothing for a scrape.
	w.eventually("rates of jobs", func() bool { return value(`sum(increase(gitlab_runner_jobs_total[1m])) > 0`) != "" })
	w.eventually("a native histogram", func() bool {
		return value(`histogram_count(sum(gitlab_runner_job_duration_seconds)) > 0`) != ""
	})
	w.eventually("the median of the jobs' duration from a native histogram", func() bool {
		return value(`histogram_quantile(0.5, sum(glassrunner_job_duration_seconds)) < 10`) != ""
	})
	_ = server.cmd.Process.Signal(syscall.SIGTERM)
	server.exit()
	stopDemo(demo)
}

// sample is one result of a query.
type sample struct {
	Metric map[string]string
	Value  []json.RawMessage
}

// startDemo runs the demo until the test stops it.
func startDemo(w *world, args ...string) *process {
	w.t.Helper()
	at := "127.0.0.1:" + freePort(w.t, "127.0.0.1")
	p := w.command(nil, append([]string{"demo", "--listen-address", at}, args...)...)
	p.addr = at
	w.eventually("the demo's metrics", func() bool {
		_, err := p.tryScrape()
		return err == nil || !p.running()
	})
	return p
}

// stopDemo presses Ctrl-C.
func stopDemo(p *process) {
	p.w.t.Helper()
	p.signal(syscall.SIGINT)
	if code := p.exitWithin(20 * time.Second); code != 0 {
		p.w.t.Errorf("the demo's exit code is %d\n%s", code, tail(p.log.String(), 2000))
	}
}
