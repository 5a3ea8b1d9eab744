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
	pages, err := filepath.Glob("../../docs/runbooks/Runner*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		for _, expr := range codeBlocks(t, page, "## Diagnosis", "promql") {
			queries = append(queries, shippedQuery{Where: filepath.Base(page), Expr: expr, Quiet: "nothing is wrong in the demo"})
		}
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
	left := map[string][]shippedQuery{"text": slices.Clone(queries), "native": slices.Clone(queries)}
	err = poll(patience, func() bool {
		for name, server := range servers {
			left[name] = slices.DeleteFunc(left[name], func(q shippedQuery) bool {
				samples, err := server.query(q.Expr)
				if err != nil {
					t.Errorf("%s: %s: %v\n%s", name, q.Where, err, q.Expr)
					return true
				}
				// Who reads buckets by name has none of them with native histograms.
				bucketless := name == "native" && strings.HasPrefix(q.Where, "habit") && strings.Contains(q.Expr, "_bucket")
				return len(samples) > 0 || q.Quiet != "" || q.Pending != "" || bucketless
			})
		}
		return len(left["text"])+len(left["native"]) == 0
	})
	for name, queries := range left {
		for _, q := range queries {
			t.Errorf("%s: %s has no data (%v):\n%s", name, q.Where, err, q.Expr)
		}
	}
	for name, server := range servers {
		server.checkRules(name)
		server.stop()
	}
	stopDemo(demo)
}

// checkRules waits until every rule was evaluated, and expects that none failed
// or fires.
func (p *prometheus) checkRules(name string) {
	p.w.t.Helper()
	type rule struct{ Name, Health, LastError, State string }
	var rules []rule
	p.w.eventually("all rules to be evaluated", func() bool {
		var answer struct {
			Data struct{ Groups []struct{ Rules []rule } }
		}
		if err := p.api("rules", &answer); err != nil {
			return false
		}
		rules = nil
		for _, g := range answer.Data.Groups {
			rules = append(rules, g.Rules...)
		}
		return len(rules) > 0 && !slices.ContainsFunc(rules, func(r rule) bool { return r.Health == "unknown" })
	})
	for _, r := range rules {
		if r.Health != "ok" || r.State == "firing" {
			p.w.t.Errorf("%s: rule %s is %s and %s although all is well: %s", name, r.Name, r.Health, r.State, r.LastError)
		}
	}
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

// codeBlocks returns the blocks in a language of a part of a page, from a
// heading to the next one.
func codeBlocks(t *testing.T, page, heading, language string) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, part, found := strings.Cut(string(text), "\n"+heading+"\n")
	if !found {
		t.Fatalf("%s has no %q", page, heading)
	}
	part, _, _ = strings.Cut(part, "\n## ")
	var blocks []string
	for _, m := range regexp.MustCompile("(?s)\n```"+language+"\n(.*?)\n```\n").FindAllStringSubmatch(part, -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// TestMonitoringGuide does what docs/monitoring.md tells, to the letter, but
// for ports and the time that alerts wait before they fire.
func TestMonitoringGuide(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"prometheus", "promtool", "prometheus-alertmanager", "amtool", "curl"} {
		needs(t, name)
	}
	w := bareWorld(t)
	t.Cleanup(w.finish)
	shipped := filepath.Join(w.dir, "deploy", "monitoring")
	if err := os.CopyFS(shipped, os.DirFS(monitoring(t, "."))); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(impatient(t, w), filepath.Join(shipped, "alerts.yaml")); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(w.dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary, filepath.Join(bin, "glassrunner")); err != nil {
		t.Fatal(err)
	}
	blocks := codeBlocks(t, "../../docs/monitoring.md", "## From nothing to a firing alert", "shell")
	if len(blocks) != 4 {
		t.Fatalf("the guide has %d blocks, this test was made for 4", len(blocks))
	}
	script := strings.NewReplacer(
		"localhost:9252", "127.0.0.1:"+freePort(t, "127.0.0.1"),
		"localhost:9090", "127.0.0.1:"+freePort(t, "127.0.0.1"),
		"localhost:9093", "127.0.0.1:"+freePort(t, "127.0.0.1"),
	).Replace("set -eu\n" + strings.Join(blocks, "\n"))
	p := w.program("/bin/bash", []string{"PATH=" + bin + ":" + os.Getenv("PATH")}, "-c", script)
	if code := p.exitWithin(2 * patience); code != 0 {
		for _, name := range []string{"runner.log", "prometheus.log", "alertmanager.log"} {
			text, _ := os.ReadFile(filepath.Join(w.dir, "first-alert", name))
			t.Logf("%s:\n%s", name, tail(string(text), 2000))
		}
		t.Fatalf("exit code %d\n%s", code, p.log)
	}
	has(t, p.log.String(), `result="failed"`, "rules found", "RunnerCannotReachGitLab", "Class of the failures: connect.")
	if exists(filepath.Join(w.dir, "first-alert")) {
		t.Error("the guide leaves its directory behind")
	}
}

// TestMixinTools runs promtool's checks and tests of the rules, as
// docs/monitoring.md tells.
func TestMixinTools(t *testing.T) {
	t.Parallel()
	needs(t, "promtool")
	w := bareWorld(t)
	t.Cleanup(w.finish)
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	blocks := codeBlocks(t, "../../docs/monitoring.md", "## Rules and dashboards", "shell")
	if len(blocks) != 1 {
		t.Fatalf("the section has %d blocks, this test was made for 1", len(blocks))
	}
	p := w.program("/bin/bash", nil, "-c", "set -eu\ncd \"$0\"\n"+blocks[0], root)
	if code := p.exitWithin(2 * patience); code != 0 {
		t.Errorf("exit code %d\n%s", code, p.log)
	}
	has(t, p.log.String(), "rules found", "Unit Testing:", "queue.yaml")
}

// TestMixinRunbooks holds the commands of the runbooks to what can be run: the
// shell reads them, their programs are known ones, what is asked of the runner
// is answered, and its own commands exist.
func TestMixinRunbooks(t *testing.T) {
	t.Parallel()
	others := strings.Fields("awk cat curl date df docker docker-machine free getent grep journalctl kubectl ls openssl pidof promtool ps sed sort ss sudo systemctl tail timedatectl uniq uptime head")
	pages, err := filepath.Glob("../../docs/runbooks/Runner*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("%d runbooks, %v", len(pages), err)
	}
	w := bareWorld(t)
	t.Cleanup(w.finish)
	demo := startDemo(w)
	asked, commands := map[string]bool{}, map[string]bool{}
	for _, page := range pages {
		name := filepath.Base(page)
		for _, block := range codeBlocks(t, page, "## Diagnosis", "shell") {
			if p := w.program("/bin/bash", nil, "-n", "-c", block); p.exit() != 0 {
				t.Errorf("%s: the shell does not read\n%s\n%s", name, block, p.log)
			}
			for _, m := range regexp.MustCompile(`localhost:9252(/[^\s'"]*)`).FindAllStringSubmatch(block, -1) {
				asked[m[1]] = true
			}
			for line := range strings.Lines(block) {
				for part := range strings.SplitSeq(regexp.MustCompile(`'[^']*'`).ReplaceAllString(line, "''"), "|") {
					words := strings.Fields(part)
					switch {
					case len(words) == 0:
					case words[0] == "glassrunner":
						commands[words[1]] = true
					case !slices.Contains(others, words[0]):
						t.Errorf("%s: %s is not a program that this test knows", name, words[0])
					}
				}
			}
		}
	}
	for path := range asked {
		if res, body := demo.get(path); res.StatusCode != http.StatusOK && res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s is answered with %d: %s", path, res.StatusCode, body)
		}
	}
	for command := range commands {
		args := []string{command, "--help"}
		if strings.HasPrefix(command, "-") {
			args = []string{command}
		}
		if p := w.command(nil, args...); p.exit() != 0 {
			t.Errorf("glassrunner %s: %s", command, p.log)
		}
	}
	stopDemo(demo)
}
