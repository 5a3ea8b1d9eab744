//go:build linux

package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// monitoring is a file of deploy/monitoring.
func monitoring(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../deploy/monitoring", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// impatient writes the shipped alert rules without their waiting times: the
// same expressions, which fire as soon as they are true.
func impatient(t *testing.T, w *world) string {
	t.Helper()
	text, err := os.ReadFile(monitoring(t, "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	short := regexp.MustCompile(`(?m)^ +for: .*\n`).ReplaceAllString(string(text), "")
	if short == string(text) || strings.Count(short, "expr:") != strings.Count(string(text), "expr:") {
		t.Fatal("the rules are not written as this test expects")
	}
	return file(t, w, "alerts.yaml", short)
}

// shippedQuery is an entry of testdata/monitoring.json: an expression of a
// rule or a panel.
type shippedQuery struct{ Where, Expr, Quiet, Pending string }

// TestMixinQueries asks a real Prometheus everything that the shipped rules and
// dashboards ask, while it scrapes the demo. One scrapes as text, one with
// native histograms, which leaves the classic buckets out.
func TestMixinQueries(t *testing.T) {
	t.Parallel()
	needs(t, "prometheus")
	text, err := os.ReadFile(filepath.Join("testdata", "monitoring.json"))
	if err != nil {
		t.Fatal(err)
	}
	var queries []shippedQuery
	if err := json.Unmarshal(text, &queries); err != nil {
		t.Fatal(err)
	}
	for _, h := range habits() {
		queries = append(queries, shippedQuery{Where: h.where, Expr: h.expr, Quiet: h.quiet})
	}
	w := bareWorld(t)
	t.Cleanup(w.finish)
	demo := startDemo(w)
	loaded := fmt.Sprintf("rule_files: [%q, %q]\n", monitoring(t, "rules.yaml"), monitoring(t, "alerts.yaml"))
	servers := map[string]*prometheus{
		"text":   startPrometheus(w, demo.addr, loaded),
		"native": startPrometheus(w, demo.addr, loaded, "--enable-feature", "native-histograms"),
	}
	for name, server := range servers {
		left := slices.Clone(queries)
		err := poll(2*patience, func() bool {
			left = slices.DeleteFunc(left, func(q shippedQuery) bool {
				samples, err := server.query(q.Expr)
				if err != nil {
					t.Errorf("%s: %s: %v\n%s", name, q.Where, err, q.Expr)
					return true
				}
				if q.Quiet != "" || q.Pending != "" || len(samples) > 0 {
					return true
				}
				// Who reads buckets by name has none of them with native histograms.
				return name == "native" && strings.Contains(q.Expr, "_bucket") && strings.HasPrefix(q.Where, "habit")
			})
			return len(left) == 0
		})
		if err != nil {
			for _, q := range left {
				t.Errorf("%s: %s has no data:\n%s", name, q.Where, q.Expr)
			}
		}
		var answer struct {
			Data struct {
				Groups []struct {
					Rules []struct{ Name, Health, LastError, State string }
				}
			}
		}
		w.eventually("all rules to be evaluated", func() bool {
			if err := server.api("rules", &answer); err != nil {
				return false
			}
			for _, g := range answer.Data.Groups {
				for _, r := range g.Rules {
					if r.Health == "unknown" {
						return false
					}
				}
			}
			return len(answer.Data.Groups) > 0
		})
		for _, g := range answer.Data.Groups {
			for _, r := range g.Rules {
				if r.Health != "ok" || r.State == "firing" {
					t.Errorf("%s: rule %s is %s and %s in a demo where all is well: %s", name, r.Name, r.Health, r.State, r.LastError)
				}
			}
		}
		server.stop()
	}
	stopDemo(demo)
}

// habit is what people ask of GitLab Runner's metrics.
type habit struct{ where, expr, quiet string }

// habits are the alerts that GitLab's guides advise and what the public
// dashboards for GitLab Runner show, in our words. They need GitLab Runner's
// names, labels and label values.
func habits() []habit {
	const well = "all is well"
	list := []habit{
		{"alert: no metrics", `absent(gitlab_runner_version_info)`, well},
		{"alert: errors", `sum(increase(gitlab_runner_errors_total{level=~"error|fatal|panic"}[5m])) > 0`, well},
		{"alert: warnings beyond those of failed jobs", `sum by (instance) (increase(gitlab_runner_errors_total{level="warning"}[5m])) - 2 * sum by (instance) (increase(gitlab_runner_failed_jobs_total[5m]))`, ""},
		{"alert: saturation", `sum(gitlab_runner_jobs{state="running"}) / sum(gitlab_runner_concurrent) > 0.9`, well},
		{"alert: job time of a fleet", `sum(rate(gitlab_runner_job_duration_seconds_sum[5m])) > 15000`, well},
		{"alert: queue", `sum(rate(gitlab_runner_acceptable_job_queuing_duration_exceeded_total[5m])) > 0`, "needs a setting"},
		{"alert: system failures", `sum by (runner) (increase(gitlab_runner_failed_jobs_total{failure_reason="runner_system_failure"}[5m]))`, ""},
		{"panel: build of each process", `gitlab_runner_version_info`, ""},
		{"panel: start of each process", `process_start_time_seconds`, ""},
		{"panel: uptime", `time() - process_start_time_seconds`, ""},
		{"panel: running jobs", `sum by (instance) (gitlab_runner_jobs)`, ""},
		{"panel: jobs by state", `sum by (state) (gitlab_runner_jobs)`, ""},
		{"panel: jobs by stage", `sum by (executor_stage, stage) (gitlab_runner_jobs)`, ""},
		{"panel: saturation of the process", `sum by (instance) (gitlab_runner_jobs) / sum by (instance) (gitlab_runner_concurrent)`, ""},
		{"panel: saturation of the runner", `sum by (runner) (gitlab_runner_jobs) / sum by (runner) (gitlab_runner_limit)`, ""},
		{"panel: jobs started", `sum by (runner) (increase(gitlab_runner_jobs_total[5m]))`, ""},
		{"panel: failures by reason", `sum by (failure_reason) (increase(gitlab_runner_failed_jobs_total[5m]))`, ""},
		{"panel: duration", `histogram_quantile(0.95, sum by (le) (rate(gitlab_runner_job_duration_seconds_bucket[5m])))`, ""},
		{"panel: queue", `histogram_quantile(0.95, sum by (le) (rate(gitlab_runner_job_queue_duration_seconds_bucket[5m])))`, ""},
		{"panel: errors by level", `sum by (level) (rate(gitlab_runner_errors_total[5m]))`, ""},
		{"panel: requests by status", `sum by (endpoint, status) (increase(gitlab_runner_api_request_statuses_total[5m]))`, ""},
		{"panel: requests for jobs that brought one", `sum(increase(gitlab_runner_api_request_statuses_total{endpoint="request_job",status="201"}[5m]))`, ""},
		{"panel: request latency", `histogram_quantile(0.9, sum by (le, endpoint) (rate(gitlab_runner_api_request_duration_seconds_bucket[5m])))`, ""},
		{"panel: request concurrency", `gitlab_runner_request_concurrency`, ""},
		{"panel: request concurrency exceeded", `increase(gitlab_runner_request_concurrency_exceeded_total[5m])`, ""},
		{"panel: feeds of workers", `sum by (runner) (rate(gitlab_runner_worker_feeds_total[5m]))`, ""},
		{"panel: failures of workers", `sum by (failure_type) (rate(gitlab_runner_worker_processing_failures_total[5m]))`, ""},
		{"panel: machines by state", `sum by (state) (gitlab_runner_autoscaling_machine_states{executor="docker+machine"})`, ""},
		{"panel: machine operations", `sum by (action) (rate(gitlab_runner_autoscaling_actions_total[5m]))`, ""},
		{"panel: machine creation", `sum by (le) (rate(gitlab_runner_autoscaling_machine_creation_duration_seconds_bucket[5m]))`, ""},
		{"panel: memory", `process_resident_memory_bytes`, ""},
		{"panel: processor", `rate(process_cpu_seconds_total[5m])`, ""},
		{"panel: file descriptors", `process_open_fds / process_max_fds`, ""},
		{"panel: goroutines", `go_goroutines`, ""},
		{"panel: garbage collection", `rate(go_gc_duration_seconds_sum[5m])`, ""},
		{"panel: heap", `go_memstats_heap_inuse_bytes`, ""},
	}
	for i := range list {
		list[i].where = "habit, " + list[i].where
	}
	return list
}

// notification is what Alertmanager sends.
type notification struct {
	Alerts []struct {
		Status              string
		Labels, Annotations map[string]string
	}
}

// webhook receives notifications.
type webhook struct {
	*httptest.Server
	mu  sync.Mutex
	got []notification
}

func newWebhook(t *testing.T) *webhook {
	t.Helper()
	h := &webhook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var n notification
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(body, &n)
		}
		if err != nil {
			t.Errorf("a notification: %v: %s", err, body)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.got = append(h.got, n)
	}))
	t.Cleanup(h.Close)
	return h
}

// alert returns the labels and annotations of an alert that has arrived.
func (h *webhook) alert(name string) (labels, annotations map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.got {
		for _, a := range n.Alerts {
			if a.Labels["alertname"] == name && a.Status == "firing" {
				return a.Labels, a.Annotations
			}
		}
	}
	return nil, nil
}

// TestAlertArrives stops GitLab and waits for the alert at the far end:
// Prometheus, Alertmanager, a webhook.
func TestAlertArrives(t *testing.T) {
	t.Parallel()
	needs(t, "prometheus")
	alertmanager := needs(t, "prometheus-alertmanager")
	w := newWorld(t, fakegitlab.Options{LongPoll: time.Second})
	hook := newWebhook(t)
	runner := w.start(w.config(""))
	at := "127.0.0.1:" + freePort(t, "127.0.0.1")
	manager := w.program(alertmanager, nil, "--config.file", file(t, w, "alertmanager.yml", fmt.Sprintf(`
route: {receiver: hook, group_wait: 1s, group_interval: 1s, group_by: [alertname]}
receivers:
  - name: hook
    webhook_configs: [{url: %q}]
`, hook.URL)), "--storage.path", filepath.Join(w.dir, "alertmanager"), "--web.listen-address", at, "--cluster.listen-address=")
	server := startPrometheus(w, runner.addr, fmt.Sprintf(`
rule_files: [%q, %q]
alerting:
  alertmanagers:
    - static_configs:
        - targets: [%q]
`, monitoring(t, "rules.yaml"), impatient(t, w), at))
	w.eventually("a successful request for a job", func() bool {
		return server.value(`glassrunner_last_successful_poll_timestamp_seconds > 0`) != ""
	})
	if labels, _ := hook.alert("RunnerCannotReachGitLab"); labels != nil {
		t.Errorf("the alert is there before its cause: %v", labels)
	}
	if err := w.server.Close(); err != nil {
		t.Fatal(err)
	}
	var labels, annotations map[string]string
	if err := poll(2*patience, func() bool {
		labels, annotations = hook.alert("RunnerCannotReachGitLab")
		return labels != nil
	}); err != nil {
		t.Fatalf("no alert: %s\n%s", manager.log, server.log)
	}
	for name, want := range map[string]string{"runner_name": "box-0", "severity": "critical", "instance": runner.addr, "job": "glassrunner"} {
		if labels[name] != want {
			t.Errorf("the alert's label %s is %q, want %q", name, labels[name], want)
		}
	}
	has(t, annotations["description"], "box-0", runner.addr, "Class of the failures: connect.")
	has(t, annotations["runbook_url"], "/docs/runbooks/RunnerCannotReachGitLab.md")
	server.stop()
}
