//go:build linux

package kubernetes_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const chart = "../../deploy/helm/glassrunner"

// least are the values without which nothing is installed.
var least = []string{"--set", "gitlabUrl=https://gitlab.example.com", "--set", "runnerToken=glrt-secret"}

// helm runs it without a cluster.
func helm(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	program := os.Getenv("GLASSRUNNER_TEST_HELM")
	if program == "" {
		missing(t, "GLASSRUNNER_TEST_HELM is not set: scripts/tool.sh helm prints it")
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	home := t.TempDir()
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home}
	var out, bad bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &bad
	err = cmd.Run()
	return out.String(), bad.String(), err
}

// render is helm template, which must succeed.
func render(t *testing.T, args ...string) string {
	t.Helper()
	out, bad, err := helm(t, slices.Concat([]string{"template", "r", chart}, least, args)...)
	if err != nil {
		t.Fatalf("helm template %v: %v\n%s", args, err, bad)
	}
	return out
}

func TestChartLint(t *testing.T) {
	t.Parallel()
	if out, bad, err := helm(t, slices.Concat([]string{"lint", "--strict", chart}, least)...); err != nil {
		t.Fatalf("%v\n%s%s", err, out, bad)
	}
}

// A wrong value is an error that names the value.
func TestChartRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, want string
		args       []string
	}{
		{"no address", "gitlabUrl is missing", []string{"--set", "runnerToken=glrt-x"}},
		{"no token", "no token", []string{"--set", "gitlabUrl=https://x"}},
		{"token", "runnerToken has characters", []string{"--set", "gitlabUrl=https://x", "--set", "runnerToken=a b"}},
		{"address", "/gitlabUrl", []string{"--set", "gitlabUrl=gitlab", "--set", "runnerToken=x"}},
		{"unknown", "'metricss' not allowed", slices.Concat(least, []string{"--set", "metricss.enabled=true"})},
		{"unknown below", "at '/metrics'", slices.Concat(least, []string{"--set", "metrics.prot=1"})},
		{"port", "at '/metrics/port'", slices.Concat(least, []string{"--set", "metrics.port=70000"})},
		{"port name", "at '/metrics/portName'", slices.Concat(least, []string{"--set", "metrics.portName=Metrics"})},
		{"interval", "at '/metrics/serviceMonitor/interval'", slices.Concat(least, []string{"--set", "metrics.serviceMonitor.interval=often"})},
		{"concurrent", "at '/concurrent'", slices.Concat(least, []string{"--set", "concurrent=0"})},
		{"log level", "at '/logLevel'", slices.Concat(least, []string{"--set", "logLevel=loud"})},
		{"service type", "at '/service/type'", slices.Concat(least, []string{"--set", "service.type=Cluster"})},
		{"no service", "needs service.enabled", slices.Concat(least, []string{"--set", "metrics.serviceMonitor.enabled=true"})},
		{"no metrics", "needs metrics.enabled", slices.Concat(least, []string{"--set", "metrics.enabled=false,metrics.podMonitor.enabled=true"})},
		{"sessions", "no session server yet", slices.Concat(least, []string{"--set", "sessionServer.enabled=true"})},
		{"namespaces", "needs rbac.clusterWideAccess", slices.Concat(least, []string{"--set", "rbac.namespacePerJob=true"})},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			out, bad, err := helm(t, slices.Concat([]string{"template", "r", chart}, test.args)...)
			if err == nil || !strings.Contains(bad, test.want) {
				t.Fatalf("%v, want an error with %q:\n%s%s", err, test.want, out, bad)
			}
		})
	}
}

// listen_address, the container's port, the annotations and the Service follow metrics.port.
func TestChartPort(t *testing.T) {
	t.Parallel()
	out := render(t, "--set", "metrics.port=9999,service.enabled=true")
	for _, want := range []string{`listen_address = ":9999"`, "containerPort: 9999", `prometheus.io/port: "9999"`, "port: 9999"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(out, "9252") {
		t.Error("the default port is somewhere")
	}
	out = render(t, "--set", "metrics.enabled=false,service.enabled=true")
	if !strings.Contains(out, `listen_address = "127.0.0.1:9252"`) || strings.Contains(out, "kind: Service\n") || strings.Contains(out, "prometheus.io/") {
		t.Errorf("metrics.enabled=false leaves something open:\n%s", out)
	}
}

// A server that asks for a password is probed as the operator says, also while it starts.
func TestChartProbes(t *testing.T) {
	t.Parallel()
	out := render(t)
	if n := strings.Count(out, "path: /-/healthy"); n != 2 || strings.Count(out, "path: /-/ready") != 1 || strings.Count(out, "terminationGracePeriodSeconds: 120") != 1 {
		t.Errorf("the probes are not those of the documents:\n%s", out)
	}
	out = render(t, "--set", "livenessProbe.tcpSocket.port=metrics,livenessProbe.periodSeconds=7,livenessProbe.terminationGracePeriodSeconds=9")
	if strings.Contains(out, "/-/healthy") || strings.Count(out, "tcpSocket:") != 2 || strings.Count(out, "periodSeconds: 7") != 1 || strings.Count(out, "terminationGracePeriodSeconds: 9\n") != 1 {
		t.Errorf("livenessProbe is not followed:\n%s", out)
	}
}

// The token is in the Secret alone, and not there either when the Secret is the operator's.
func TestChartSecret(t *testing.T) {
	t.Parallel()
	if out := render(t); strings.Contains(out, "glrt-secret") || !strings.Contains(out, "Z2xydC1zZWNyZXQ=") {
		t.Error("the token is not in the Secret alone")
	}
	out := render(t, "--set", "runners.secret=mine")
	if strings.Contains(out, "kind: Secret") || strings.Contains(out, "Z2xydC1zZWNyZXQ=") || !strings.Contains(out, `name: "mine"`) {
		t.Error("runners.secret is not used")
	}
}

// Every value has a schema, and the schema knows no value that is not there.
func TestChartSchema(t *testing.T) {
	t.Parallel()
	out := render(t, "--show-only", "templates/extra.yaml", "--set-json", `extraObjects=["{{ toJson .Values }}"]`)
	_, out, _ = strings.Cut(out, "{")
	var values map[string]any
	if err := json.Unmarshal([]byte("{"+out), &values); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(chart, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	// Values of old files, which mean nothing any more.
	old := []string{"/global", "/rbac/generatedServiceAccountName", "/rbac/imagePullSecrets", "/rbac/podSecurityPolicy", "/rbac/serviceAccountAnnotations", "/rbac/serviceAccountName"}
	compare(t, "", values, schema, old)
}

func compare(t *testing.T, path string, values, schema map[string]any, old []string) {
	t.Helper()
	if closed, ok := schema["additionalProperties"].(bool); !ok || closed {
		return // a map of the operator's own
	}
	properties, _ := schema["properties"].(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		_, there := values[key]
		if here := path + "/" + key; !there && path != "/hpa" && !slices.Contains(old, here) {
			// A null of values.yaml is no value to helm.
			if !strings.Contains(defaults(t), key+": null") {
				t.Errorf("the schema has %s, values.yaml not", here)
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		below, there := properties[key].(map[string]any)
		if !there {
			t.Errorf("values.yaml has %s/%s, the schema not", path, key)
			continue
		}
		if inner, ok := values[key].(map[string]any); ok {
			compare(t, path+"/"+key, inner, below, old)
		}
	}
}

func defaults(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A packed chart has the rules and dashboards of deploy/monitoring, which the directory only links to.
func TestChartPacked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if out, bad, err := helm(t, "package", chart, "--destination", dir); err != nil {
		t.Fatalf("%v\n%s%s", err, out, bad)
	}
	packed, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(packed) != 1 {
		t.Fatalf("packed %v %v, want one file", packed, err)
	}
	switches := []string{"--set", "metrics.prometheusRule.enabled=true,metrics.dashboards.enabled=true"}
	out, bad, err := helm(t, slices.Concat([]string{"template", "r", packed[0]}, least, switches)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, bad)
	}
	if out != render(t, switches...) {
		t.Error("the packed chart makes something else than the directory")
	}
	dashboards, err := filepath.Glob("../../deploy/monitoring/dashboards/*.json")
	if err != nil || len(dashboards) == 0 {
		t.Fatalf("dashboards %v %v", dashboards, err)
	}
	for _, file := range dashboards {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		indented := strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n    ")
		if !strings.Contains(out, filepath.Base(file)+"\": |\n    "+indented) {
			t.Errorf("%s is not in the chart as it is", file)
		}
	}
	for _, file := range []string{"rules", "alerts"} {
		text, err := os.ReadFile("../../deploy/monitoring/" + file + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			name := strings.TrimPrefix(strings.TrimSpace(line), "- ")
			if (strings.HasPrefix(name, "alert: ") || strings.HasPrefix(name, "record: ")) && !strings.Contains(out, name+"\n") {
				t.Errorf("%s.yaml has %q, the PrometheusRule not", file, name)
			}
		}
	}
}

// The API server accepts, without a field that it does not know, what a matrix of values makes.
func TestChartAccepted(t *testing.T) {
	c := newCluster(t)
	c.definitions()
	for _, test := range []struct{ name, values string }{
		{"least", `{}`},
		{"no metrics", `{"metrics":{"enabled":false},"rbac":{"create":false}}`},
		{"everything", `{"replicas":2,"service":{"enabled":true,"type":"NodePort","metrics":{"nodePort":30252},"labels":{"team":"ci"},"annotations":{"a":"b"},"externalIPs":["192.0.2.1"],"externalTrafficPolicy":"Local","internalTrafficPolicy":"Cluster","additionalPorts":[{"name":"more","port":9300}]},
			"metrics":{"serviceMonitor":` + everyField(`"targetLabels":["app"],`) + `,"podMonitor":` + everyField("") + `,"prometheusRule":{"enabled":true,"labels":{"release":"p"}},"dashboards":{"enabled":true,"annotations":{"grafana_folder":"CI"}}},
			"networkPolicy":{"enabled":true,"from":[{"namespaceSelector":{"matchLabels":{"name":"monitoring"}}}]},"podDisruptionBudget":{"enabled":true},
			"affinity":{"podAntiAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":1,"podAffinityTerm":{"topologyKey":"kubernetes.io/hostname","labelSelector":{"matchLabels":{"app":"x"}}}}]}},
			"nodeSelector":{"a":"b"},"tolerations":[{"key":"a","operator":"Exists"}],"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"ScheduleAnyway"}],
			"hostAliases":[{"ip":"192.0.2.7","hostnames":["gitlab"]}],"priorityClassName":"high","dnsConfig":{"nameservers":["192.0.2.53"]},"imagePullSecrets":[{"name":"pull"}],
			"deploymentAnnotations":{"a":"b"},"deploymentLabels":{"a":"b"},"podAnnotations":{"x":"{{ .Release.Name }}"},"podLabels":{"a":"b"},"envVars":[{"name":"A","value":"b"}],"extraEnv":{"B":"c"},"extraEnvFrom":{"C":{"secretKeyRef":{"name":"s","key":"k"}}},
			"volumes":[{"name":"v","emptyDir":{}}],"volumeMounts":[{"name":"v","mountPath":"/v"}],"certsSecretName":"certs","secrets":[{"name":"more","items":[{"key":"a","path":"b"}]}],"configMaps":{"file":"text"},
			"strategy":{"type":"Recreate"},"resources":{"requests":{"cpu":"100m","memory":"64Mi"}},"livenessProbe":{"periodSeconds":5,"initialDelaySeconds":3},"deploymentLifecycle":{"preStop":{"exec":{"command":["true"]}}},
			"serviceAccount":{"create":true,"name":"me","annotations":{"role":"{{ .Release.Name }}"},"imagePullSecrets":["pull"]},"runners":{"tags":"a,b","locked":true,"protected":true,"runUntagged":false,"maximumTimeout":3600,"cache":{"secretName":"cache"}},
			"extraObjects":[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"{{ .Release.Name }}-more"}}]}`},
		{"scaled", `{"hpa":{"minReplicas":2,"maxReplicas":5},"rbac":{"clusterWideAccess":true,"namespacePerJob":true},"podDisruptionBudget":{"enabled":true,"minAvailable":"50%"}}`},
		// What a values.yaml of GitLab Runner's chart has, with its defaults where it has some.
		{"compatible", `{"image":{"registry":"registry.gitlab.com","image":"gitlab-org/gitlab-runner"},"useTini":false,"imagePullPolicy":"IfNotPresent","livenessProbe":{},"readinessProbe":{},"probeTimeoutSeconds":4,"revisionHistoryLimit":10,"replicas":1,
			"terminationGracePeriodSeconds":3600,"concurrent":10,"shutdown_timeout":0,"checkInterval":3,"logLevel":"info","unregisterRunners":true,
			"sessionServer":{"enabled":false,"serviceType":"LoadBalancer","timeout":1800,"internalPort":8093,"externalPort":9000,"ingress":{"enabled":false}},
			"rbac":{"create":true,"generatedServiceAccountName":"","rules":[],"clusterWideAccess":false,"podSecurityPolicy":{"enabled":false,"resourceNames":["gitlab-runner"]}},"serviceAccount":{"create":true,"name":"","annotations":{},"imagePullSecrets":[]},
			"metrics":{"enabled":true,"portName":"metrics","port":9252,"serviceMonitor":{"enabled":true},"podMonitor":{"enabled":false}},"service":{"enabled":true,"type":"ClusterIP"},
			"runners":{"config":"[[runners]]\n  [runners.kubernetes]\n    namespace = \"{{ .Release.Namespace }}\"\n    image = \"alpine\"\n","configPath":"","executor":"kubernetes","cache":{},"maximumTimeout":""},
			"securityContext":{"allowPrivilegeEscalation":false,"readOnlyRootFilesystem":false,"runAsNonRoot":true,"privileged":false,"capabilities":{"drop":["ALL"]}},"podSecurityContext":{"runAsUser":100,"fsGroup":65533},
			"strategy":{},"resources":{},"affinity":{},"topologySpreadConstraints":{},"runtimeClassName":"","nodeSelector":{},"tolerations":[],"extraEnv":{},"extraEnvFrom":{},"hostAliases":[],"deploymentAnnotations":{},"deploymentLabels":{},"deploymentLifecycle":{},
			"podAnnotations":{},"podLabels":{},"hpa":{"minReplicas":1,"maxReplicas":1,"metrics":[{"type":"Pods","pods":{"metric":{"name":"gitlab_runner_jobs"},"target":{"type":"AverageValue","averageValue":"400m"}}}]},
			"priorityClassName":"","secrets":[],"configMaps":{},"volumeMounts":[],"volumes":[],"extraObjects":[]}`},
		{"rules", `{"rbac":{"rules":[{"resources":["pods"],"verbs":["get"]},{}]},"hpa":{"maxReplicas":2,"metrics":[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":80}}}]}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "values.json")
			if err := os.WriteFile(file, []byte(test.values), 0o600); err != nil {
				t.Fatal(err)
			}
			out := render(t, "--namespace", c.namespace, "--values", file)
			if _, bad, err := c.command(c.ctx, out, c.kubectlBin, "create", "--dry-run=server", "--validate=strict", "-f", "-"); err != nil {
				t.Errorf("%v: %s", err, bad)
			}
		})
	}
}

// everyField is a monitor with every field of an endpoint.
func everyField(more string) string {
	return `{"enabled":true,` + more + `"labels":{"release":"p"},"annotations":{"a":"b"},"jobLabel":"app","podTargetLabels":["app"],
		"sampleLimit":5000,"targetLimit":10,"labelLimit":30,"labelNameLengthLimit":200,"labelValueLengthLimit":400,"scrapeProtocols":["PrometheusProto"],"scrapeClassicHistograms":true,
		"interval":"15s","scrapeTimeout":"10s","path":"/metrics","scheme":"https","params":{"a":["b"]},"tlsConfig":{"serverName":"x"},"basicAuth":{"username":{"name":"s","key":"u"},"password":{"name":"s","key":"p"}},
		"honorLabels":true,"honorTimestamps":false,"trackTimestampsStaleness":true,"followRedirects":false,"enableHttp2":false,"filterRunning":true,"proxyUrl":"http://proxy:3128",
		"relabelings":[{"sourceLabels":["__meta_kubernetes_pod_node_name"],"targetLabel":"node"}],"metricRelabelings":[{"sourceLabels":["__name__"],"regex":"go_.*","action":"drop"}]}`
}

// definitions gives the cluster the Prometheus operator's kinds.
func (c *cluster) definitions() {
	c.t.Helper()
	if out := c.kubectl("get", "crd", "-o", "name"); strings.Contains(out, "servicemonitors.monitoring.coreos.com") {
		return
	}
	dir := os.Getenv("GLASSRUNNER_TEST_CRDS")
	if dir == "" {
		missing(c.t, "GLASSRUNNER_TEST_CRDS is not set: the directory of the Prometheus operator's definitions")
	}
	// Not apply: its annotation would be too long.
	c.kubectl("create", "-f", dir)
	for _, kind := range []string{"servicemonitors", "podmonitors", "prometheusrules"} {
		// kubectl wait fails where there is no condition yet.
		c.eventually("the API server serves "+kind, func() error {
			if got := c.kubectl("get", "crd", kind+".monitoring.coreos.com", "-o", `jsonpath={.status.conditions[?(@.type=="Established")].status}`); got != "True" {
				return fmt.Errorf("%w: %q", errNot, got)
			}
			return nil
		})
	}
}
