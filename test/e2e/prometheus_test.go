//go:build linux

package e2e_test

import (
	"encoding/json"
	"errors"
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
	w := bareWorld(t)
	t.Cleanup(w.finish)
	demo := startDemo(w)
	demo.waitMetrics("a finished job", func(m families) bool { return m.sum("gitlab_runner_job_duration_seconds") >= 1 })
	server := startPrometheus(w, demo.addr, "", "--enable-feature", "native-histograms")
	for _, name := range seedMetrics() {
		query := name
		if strings.HasSuffix(name, "_duration_seconds") {
			query = name + "_count or " + name // with native histograms there is one series
		}
		// A scrape that a busy machine has no time for makes all series stale.
		w.eventually("Prometheus has "+name, func() bool { return len(server.ask(query)) > 0 })
	}
	w.eventually("gitlab_runner_concurrent is 3", func() bool { return server.value("gitlab_runner_concurrent") == "3" })
	// The same number from both, once the demo has handed out nothing for a scrape.
	w.eventually("rates of jobs", func() bool { return server.value(`sum(increase(gitlab_runner_jobs_total[1m])) > 0`) != "" })
	w.eventually("a native histogram", func() bool {
		return server.value(`histogram_count(sum(gitlab_runner_job_duration_seconds)) > 0`) != ""
	})
	w.eventually("the median of the jobs' duration from a native histogram", func() bool {
		return server.value(`histogram_quantile(0.5, sum(glassrunner_job_duration_seconds)) < 10`) != ""
	})
	server.stop()
	stopDemo(demo)
}

// prometheus is a real one that scrapes a runner.
type prometheus struct {
	*process
	url string
}

// startPrometheus runs one that scrapes target every second, and waits for
// its first scrape. More is added to its configuration.
func startPrometheus(w *world, target, more string, args ...string) *prometheus {
	w.t.Helper()
	path := needs(w.t, "prometheus")
	at := "127.0.0.1:" + freePort(w.t, "127.0.0.1")
	config := file(w.t, w, "prometheus-"+at+".yml", fmt.Sprintf(`
global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 1s
scrape_configs:
  - job_name: glassrunner
    static_configs:
      - targets: [%q]
`, target)+more)
	p := &prometheus{url: "http://" + at}
	p.process = w.program(path, nil, append([]string{
		"--config.file", config, "--storage.tsdb.path", filepath.Join(w.dir, "tsdb-"+at), "--web.listen-address", at, "--log.level", "warn",
	}, args...)...)
	w.eventually("a Prometheus that scrapes", func() bool {
		if !p.running() {
			w.t.Fatalf("prometheus has ended:\n%s", p.log)
		}
		return p.value("up") == "1"
	})
	return p
}

// sample is one result of a query.
type sample struct {
	Metric map[string]string
	Value  []json.RawMessage
}

// query asks for an expression's present value.
func (p *prometheus) query(expr string) ([]sample, error) {
	var answer struct {
		Error string
		Data  struct{ Result []sample }
	}
	if err := p.api("query?query="+url.QueryEscape(expr), &answer); err != nil {
		return nil, err
	}
	if answer.Error != "" {
		return nil, errors.New(answer.Error)
	}
	return answer.Data.Result, nil
}

// api reads an answer of the HTTP API.
func (p *prometheus) api(path string, answer any) error {
	_, body, err := p.w.request("GET", p.url+"/api/v1/"+path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("%w in %s", err, body)
	}
	return nil
}

// ask returns nothing where query fails.
func (p *prometheus) ask(expr string) []sample {
	r, _ := p.query(expr)
	return r
}

// value is the value of the only result.
func (p *prometheus) value(expr string) string {
	if r := p.ask(expr); len(r) == 1 && len(r[0].Value) == 2 {
		return strings.Trim(string(r[0].Value[1]), `"`)
	}
	return ""
}

// stop ends it.
func (p *prometheus) stop() {
	p.w.t.Helper()
	p.signal(syscall.SIGTERM)
	p.exit()
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
