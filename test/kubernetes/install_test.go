//go:build linux

package kubernetes_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// release is the chart as it is installed in the test's namespace.
type release struct {
	*cluster
	server *fakegitlab.Server
	runner fakegitlab.Runner
	values []string
}

// helm runs it on the cluster, in the test's namespace.
func (c *cluster) helm(args ...string) string {
	c.t.Helper()
	out, err := c.tryHelm(args...)
	if err != nil {
		c.t.Fatalf("helm %v: %v\n%s", args, err, out)
	}
	return out
}

func (c *cluster) tryHelm(args ...string) (string, error) {
	c.t.Helper()
	program := os.Getenv("GLASSRUNNER_TEST_HELM")
	if program == "" {
		missing(c.t, "GLASSRUNNER_TEST_HELM is not set: scripts/tool.sh helm prints it")
	}
	out, bad, err := c.command(c.ctx, "", program, append([]string{"--namespace", c.namespace}, args...)...)
	return out + bad, err
}

// install installs the chart with the token in a Secret of the operator's.
func (c *cluster) install(values ...string) *release {
	c.t.Helper()
	r := &release{cluster: c, server: c.newServer(fakegitlab.Options{})}
	r.runner = r.server.AddRunner(fakegitlab.RunnerConfig{Description: "chart"})
	c.kubectl("create", "secret", "generic", "runner", "--from-literal=runner-token="+r.runner.Token)
	r.values = append([]string{"--set", "gitlabUrl=" + r.server.URL() + ",runners.secret=runner,runners.executor=shell,imagePullPolicy=Never"}, values...)
	c.helm(slices.Concat([]string{"install", "glassrunner", chart, "--wait", "--timeout", "120s"}, r.values)...)
	return r
}

// managers are the machines that the coordinator knows.
func (r *release) managers() []fakegitlab.Manager {
	r.t.Helper()
	runner, err := r.server.Runner(r.runner.Token)
	if err != nil {
		r.t.Fatal(err)
	}
	return runner.Managers
}

// The whole life of an installation: objects, a job, an upgrade that drains, an
// uninstall that leaves nothing.
func TestChartInstall(t *testing.T) {
	c := newCluster(t)
	c.definitions()
	r := c.install("--set", "service.enabled=true,metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true,metrics.prometheusRule.enabled=true,metrics.dashboards.enabled=true,networkPolicy.enabled=true,podDisruptionBudget.enabled=true")

	pods := r.names("pods")
	if len(pods) != 1 {
		t.Fatalf("pods %v, want one", pods)
	}
	first := pods[0]
	// As it is run: no root, a root that cannot be written, no capability.
	if out := r.kubectl("exec", first, "-c", "glassrunner", "--", "bash", "-c", `id -u; touch /x 2>&1; grep -E 'CapEff|Seccomp:|NoNewPrivs' /proc/self/status`); !strings.Contains(out, "999\n") ||
		!strings.Contains(out, "Read-only file system") || !strings.Contains(out, "CapEff:\t0000000000000000") || !strings.Contains(out, "Seccomp:\t2") || !strings.Contains(out, "NoNewPrivs:\t1") {
		t.Errorf("the container has more rights than it needs:\n%s", out)
	}
	if out := r.kubectl("logs", first, "--all-containers"); strings.Contains(out, r.runner.Token) {
		t.Error("the token is in the log")
	}
	r.finished(r.server, r.job(r.server, fakegitlab.Job{Script: []string{"echo in $(hostname)"}}), fakegitlab.Success, "in "+first)

	// A job that ends when the test says so.
	long := r.job(r.server, fakegitlab.Job{Name: "long", Script: []string{"echo begun", "while ! test -e /tmp/go-on; do sleep 0.2; done", "echo ended"}})
	ctx := r.ctx
	if _, err := r.server.WaitForJob(ctx, long, func(s fakegitlab.Snapshot) bool { return strings.Contains(string(s.Trace), "begun\n") }); err != nil {
		t.Fatal(err)
	}
	r.helm(slices.Concat([]string{"upgrade", "glassrunner", chart, "--wait", "--timeout", "120s"}, r.values, []string{"--set", "concurrent=3"})...)
	// The new pod works while the old one waits for its job.
	second := ""
	for _, pod := range r.names("pods") {
		if pod != first {
			second = pod
		}
	}
	r.finished(r.server, r.job(r.server, fakegitlab.Job{Script: []string{"echo in $(hostname)"}}), fakegitlab.Success, "in "+second)
	if s, err := r.server.Job(long); err != nil || s.Status != fakegitlab.Running {
		t.Fatalf("the upgrade did not leave the job alone: %v %v", s.Status, err)
	}
	if n := len(r.managers()); n != 2 {
		t.Errorf("GitLab knows %d managers during the upgrade, want 2", n)
	}
	r.kubectl("exec", first, "-c", "glassrunner", "--", "touch", "/tmp/go-on")
	snap := r.finished(r.server, long, fakegitlab.Success, "ended")
	if n := strings.Count(string(snap.Trace), "begun\n"); n != 1 {
		t.Errorf("begun is in the log %d times:\n%s", n, snap.Trace)
	}
	r.eventually("the old pod goes when its job is done, and removes itself from GitLab", func() error {
		if pods, managers := r.names("pods"), r.managers(); len(pods) != 1 || len(managers) != 1 {
			return fmt.Errorf("%w: pods %v, %d managers", errNot, pods, len(managers))
		}
		return nil
	})

	r.helm("uninstall", "glassrunner", "--wait", "--timeout", "120s")
	r.eventually("nothing is left", func() error {
		out := r.kubectl("get", "all,configmaps,secrets,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets,servicemonitors,podmonitors,prometheusrules", "-o", "name")
		left := slices.DeleteFunc(strings.Fields(out), func(name string) bool {
			return slices.Contains([]string{"configmap/kube-root-ca.crt", "serviceaccount/default", "secret/runner"}, name)
		})
		if managers := r.managers(); len(left) > 0 || len(managers) > 0 {
			return fmt.Errorf("%w: %v, %d managers in GitLab", errNot, left, len(managers))
		}
		return nil
	})
}

// A pod whose GitLab is away is not ready and is not restarted.
func TestChartOutage(t *testing.T) {
	r := newCluster(t).install("--set", "livenessProbe.periodSeconds=1,livenessProbe.failureThreshold=2,readinessProbe.periodSeconds=1,readinessProbe.failureThreshold=1")
	if err := r.server.Close(); err != nil {
		t.Fatal(err)
	}
	type status struct {
		Items []struct {
			Status struct {
				ContainerStatuses []struct {
					Ready        bool
					RestartCount int
				}
			}
		}
	}
	r.eventually("the pod gets unready", func() error {
		var s status
		r.get(&s, "pods")
		if len(s.Items) != 1 || s.Items[0].Status.ContainerStatuses[0].Ready {
			return errNot
		}
		return nil
	})
	// Failed or not, two of these would have been enough for a restart.
	pod := r.names("pods")[0]
	before := r.probes(pod)
	r.eventually("five more liveness probes", func() error {
		if n := r.probes(pod) - before; n < 5 {
			return fmt.Errorf("%w: %d", errNot, n)
		}
		return nil
	})
	var s status
	r.get(&s, "pods")
	if n := s.Items[0].Status.ContainerStatuses[0].RestartCount; n != 0 {
		t.Errorf("an outage of GitLab restarted the manager %d times", n)
	}
}

// probes counts the liveness probes of a pod, by kubelet's own metrics.
func (r *release) probes(pod string) (n int) {
	r.t.Helper()
	for line := range strings.Lines(r.kubectl("get", "--raw", "/api/v1/nodes/node1/proxy/metrics/probes")) {
		if strings.HasPrefix(line, "prober_probe_total{") && strings.Contains(line, `pod="`+pod+`"`) && strings.Contains(line, `probe_type="Liveness"`) {
			fields := strings.Fields(line)
			count, err := strconv.ParseFloat(fields[len(fields)-1], 64)
			if err != nil {
				r.t.Fatalf("%q: %v", line, err)
			}
			n += int(count)
		}
	}
	return n
}

// With metrics off nothing but the pod reaches the server, and the pod is ready all the same.
func TestChartWithoutMetrics(t *testing.T) {
	r := newCluster(t).install("--set", "metrics.enabled=false")
	pod := r.names("pods")[0]
	address := r.kubectl("get", "pod", pod, "-o", "jsonpath={.status.podIP}")
	if conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, "9252"), 5*time.Second); err == nil {
		_ = conn.Close()
		t.Error("port 9252 is open")
	}
	r.finished(r.server, r.job(r.server, fakegitlab.Job{Script: []string{"echo works"}}), fakegitlab.Success, "works")
}

// A real Prometheus, whose configuration is made from the ServiceMonitor as the
// operator makes it, scrapes the manager through the Service.
func TestChartScraped(t *testing.T) {
	program, err := exec.LookPath("prometheus")
	if err != nil {
		missing(t, "prometheus is missing (Debian: prometheus)")
	}
	c := newCluster(t)
	c.definitions()
	r := c.install("--set", "metrics.port=9444,metrics.portName=probe,service.enabled=true,service.labels.team=ci,metrics.serviceMonitor.enabled=true,metrics.serviceMonitor.interval=1s,metrics.serviceMonitor.scrapeTimeout=1s",
		"--set-json", `metrics.serviceMonitor.targetLabels=["team"]`,
		"--set-json", `metrics.serviceMonitor.relabelings=[{"sourceLabels":["__meta_kubernetes_pod_node_name"],"targetLabel":"node"}]`,
		"--set-json", `metrics.serviceMonitor.metricRelabelings=[{"sourceLabels":["__name__"],"regex":"go_.*","action":"drop"}]`)
	r.finished(r.server, r.job(r.server, fakegitlab.Job{Script: []string{"true"}}), fakegitlab.Success, "")

	// The Service itself, at its own address.
	service := net.JoinHostPort(r.kubectl("get", "service", "glassrunner", "-o", "jsonpath={.spec.clusterIP}"), "9444")
	if text, err := fetch("http://" + service + "/metrics"); err != nil || !strings.Contains(string(text), "gitlab_runner_jobs_total{") {
		t.Errorf("the Service does not lead to the metrics: %v\n%.200s", err, text)
	}

	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.json") // JSON is YAML
	if err := os.WriteFile(config, r.scrapeConfig(), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(r.ctx, program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("prometheus:\n%s", text)
		}
	})
	pod := r.names("pods")[0]
	r.eventually("the job is counted in Prometheus", func() error {
		got, err := query(address, `gitlab_runner_jobs_total`)
		if err != nil {
			return err
		}
		want := map[string]string{"job": "glassrunner", "namespace": r.namespace, "service": "glassrunner", "pod": pod, "container": "glassrunner", "endpoint": "probe", "node": "node1", "team": "ci", "runner_name": pod}
		if len(got) != 1 || got[0].Value[1] != "1" {
			return fmt.Errorf("%w: %v", errNot, got)
		}
		for name, value := range want {
			if got[0].Metric[name] != value {
				t.Fatalf("label %s is %q, want %q: %v", name, got[0].Metric[name], value, got[0].Metric)
			}
		}
		return nil
	})
	if got, err := query(address, `count({__name__=~"go_.*"})`); err != nil || len(got) != 0 {
		t.Errorf("metricRelabelings did not drop go_: %v %v", got, err)
	}
}

func fetch(address string) ([]byte, error) {
	client := http.Client{Timeout: 10 * time.Second}
	res, err := client.Get(address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	return io.ReadAll(res.Body)
}

type sample struct {
	Metric map[string]string
	Value  [2]any
}

// query asks Prometheus for the present values.
func query(address, q string) ([]sample, error) {
	body, err := fetch("http://" + address + "/api/v1/query?query=" + url.QueryEscape(q))
	if err != nil {
		return nil, err
	}
	var answer struct{ Data struct{ Result []sample } }
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("%w: %s", err, body)
	}
	return answer.Data.Result, nil
}

// targets are all endpoints of a namespace with the labels that Prometheus's own
// discovery gives them: Debian's Prometheus is built without it.
func (r *release) targets(namespace string) (targets []any) {
	r.t.Helper()
	var endpoints struct {
		Items []struct {
			Metadata struct{ Name string }
			Subsets  []struct {
				Addresses, NotReadyAddresses []struct {
					IP        string
					NodeName  string
					TargetRef struct{ Name string }
				}
				Ports []struct {
					Name string
					Port int
				}
			}
		}
	}
	r.get(&endpoints, "endpoints", "-n", namespace)
	for _, item := range endpoints.Items {
		var service struct {
			Metadata struct{ Labels map[string]string }
		}
		r.get(&service, "service", item.Metadata.Name, "-n", namespace)
		for _, subset := range item.Subsets {
			for _, address := range slices.Concat(subset.Addresses, subset.NotReadyAddresses) {
				for _, port := range subset.Ports {
					labels := map[string]string{
						"namespace": namespace, "service_name": item.Metadata.Name, "endpoint_port_name": port.Name,
						"pod_name": address.TargetRef.Name, "pod_node_name": address.NodeName, "pod_container_name": "glassrunner",
					}
					for name, value := range service.Metadata.Labels {
						labels["service_label_"+labelName.Replace(name)] = value
					}
					all := map[string]string{}
					for name, value := range labels {
						all["__meta_kubernetes_"+name] = value
					}
					targets = append(targets, map[string]any{"targets": []string{net.JoinHostPort(address.IP, strconv.Itoa(port.Port))}, "labels": all})
				}
			}
		}
	}
	if len(targets) == 0 {
		r.t.Fatal("the Service has no endpoint")
	}
	return targets
}

// labelName makes a label of Kubernetes one of Prometheus.
var labelName = strings.NewReplacer(".", "_", "/", "_", "-", "_")

// scrapeConfig makes Prometheus's configuration of the ServiceMonitor in the
// cluster, after the operator's documented rules.
func (r *release) scrapeConfig() []byte {
	r.t.Helper()
	var monitor struct {
		Spec struct {
			Endpoints []struct {
				Port, Interval, ScrapeTimeout, Path, Scheme string
				Relabelings, MetricRelabelings              []map[string]any
			}
			NamespaceSelector struct{ MatchNames []string }
			Selector          struct{ MatchLabels map[string]string }
			TargetLabels      []string
		}
	}
	r.get(&monitor, "servicemonitor", "glassrunner")
	spec := monitor.Spec
	if len(spec.Endpoints) != 1 {
		r.t.Fatalf("%d endpoints, want 1", len(spec.Endpoints))
	}
	e := spec.Endpoints[0]
	type rule = map[string]any
	var rules []rule
	meta := func(label string) []string { return []string{"__meta_kubernetes_" + label} }
	for label, value := range spec.Selector.MatchLabels {
		rules = append(rules, rule{"action": "keep", "source_labels": meta("service_label_" + labelName.Replace(label)), "regex": value})
	}
	rules = append(rules,
		rule{"action": "keep", "source_labels": meta("endpoint_port_name"), "regex": e.Port},
		rule{"source_labels": meta("namespace"), "target_label": "namespace"},
		rule{"source_labels": meta("service_name"), "target_label": "service"},
		rule{"source_labels": meta("pod_name"), "target_label": "pod"},
		rule{"source_labels": meta("pod_container_name"), "target_label": "container"},
		rule{"source_labels": meta("service_name"), "target_label": "job"},
		rule{"target_label": "endpoint", "replacement": e.Port})
	for _, label := range spec.TargetLabels {
		rules = append(rules, rule{"source_labels": meta("service_label_" + labelName.Replace(label)), "target_label": label})
	}
	// The operator's names of these fields are Prometheus's, written in camel case.
	own := func(from []map[string]any) (to []rule) {
		for _, f := range from {
			t := rule{}
			for name, value := range f {
				switch name {
				case "sourceLabels":
					name = "source_labels"
				case "targetLabel":
					name = "target_label"
				}
				t[name] = value
			}
			to = append(to, t)
		}
		return to
	}
	var targets []any
	for _, namespace := range spec.NamespaceSelector.MatchNames {
		targets = append(targets, r.targets(namespace)...)
	}
	scrape := map[string]any{
		"job_name": "serviceMonitor", "static_configs": targets,
		"relabel_configs": append(rules, own(e.Relabelings)...), "metric_relabel_configs": own(e.MetricRelabelings),
	}
	for name, value := range map[string]string{"scrape_interval": e.Interval, "scrape_timeout": e.ScrapeTimeout, "metrics_path": e.Path, "scheme": e.Scheme} {
		if value != "" {
			scrape[name] = value
		}
	}
	text, err := json.Marshal(map[string]any{"scrape_configs": []any{scrape}})
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}
