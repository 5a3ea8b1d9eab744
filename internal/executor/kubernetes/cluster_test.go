package kubernetes_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/executor/executortest"
	"github.com/glassrunner/glassrunner/internal/executor/kubernetes"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/script"
)

// buildImage has bash and git, as jobs' images often do.
const buildImage = "glassrunner/helper:1"

// cluster skips a test where no cluster is at hand; scripts/cluster.sh makes one.
func cluster(t testing.TB) {
	t.Helper()
	file := os.Getenv("GLASSRUNNER_TEST_KUBECONFIG")
	if file == "" {
		if os.Getenv("GLASSRUNNER_NEED_KUBERNETES") != "" {
			t.Fatal("GLASSRUNNER_TEST_KUBECONFIG is not set")
		}
		t.Skip("GLASSRUNNER_TEST_KUBECONFIG is not set: no cluster")
	}
	t.Setenv("KUBECONFIG", file)
}

func options() kubernetes.Options {
	return kubernetes.Options{
		Config: config.Kubernetes{Image: buildImage, Namespace: "default", PullPolicy: config.PullPolicies{"if-not-present"}, PollInterval: 1},
		Home:   "/nonexistent", Owner: "test",
	}
}

func request(t testing.TB) executor.Request {
	t.Helper()
	id := job.ID(rand.Int64N(1 << 40))
	return executor.Request{
		Spec:   &job.Spec{ID: id, Timeout: 10 * time.Minute, Info: job.Info{ProjectID: 7, ProjectFullPath: "group/project", Name: "a job"}},
		Runner: job.Runner{Short: "abc_DEF12", Name: "a runner", Executor: "kubernetes"},
		Dirs:   executor.Dirs{Builds: "/builds", Project: "/builds/group/project", Temp: "/builds/group/project.tmp", Cache: "/cache"},
		Shell:  "bash",
	}
}

// alive counts the processes of the machine whose command line holds a word: a
// cluster of scripts/cluster.sh runs on this machine.
func alive(t *testing.T, word string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(word)) && !strings.Contains(f, strconv.Itoa(os.Getpid())) {
			n++
		}
	}
	return n
}

func TestConformance(t *testing.T) {
	cluster(t)
	executortest.Run(t, func(t *testing.T) executortest.Harness {
		open := func(t *testing.T, owner string) executor.Driver {
			o := options()
			o.Owner = owner
			d, err := kubernetes.New(o)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		return executortest.Harness{
			Driver:  open(t, "test"),
			Request: func(t *testing.T) executor.Request { return request(t) },
			Script: func(r executor.Request, body string) []byte {
				return script.Wrap(&script.Job{Spec: r.Spec, Shell: "sh", Variables: r.Variables}, []byte(body+"\n"))
			},
			Alive:     alive,
			Successor: func(t *testing.T) executor.Driver { return open(t, "test") },
			Stranger:  func(t *testing.T) executor.Driver { return open(t, "another") },
			// Reap counts pods.
			Containers: true,
		}
	})
}

// kubectl runs a command on the cluster.
func kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Getenv("GLASSRUNNER_TEST_KUBECTL"), append([]string{"--kubeconfig", os.Getenv("GLASSRUNNER_TEST_KUBECONFIG")}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// role is that of docs/kubernetes.md.
type role struct {
	APIVersion string            `json:"apiVersion" yaml:"apiVersion"`
	Kind       string            `json:"kind" yaml:"kind"`
	Metadata   map[string]string `json:"metadata" yaml:"metadata"`
	Rules      []rule            `json:"rules" yaml:"rules"`
}

type rule struct {
	APIGroups []string `json:"apiGroups" yaml:"apiGroups"`
	Resources []string `json:"resources" yaml:"resources"`
	Verbs     []string `json:"verbs" yaml:"verbs"`
}

func documentedRole(t *testing.T) role {
	t.Helper()
	text, err := os.ReadFile("../../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	block, _, _ := strings.Cut(rest, "```")
	var r role
	if err := yaml.Unmarshal([]byte(block), &r); err != nil || len(r.Rules) == 0 {
		t.Fatalf("the role of docs/kubernetes.md: %v, %+v", err, r)
	}
	return r
}

// without returns the role that lacks one permission.
func (r role) without(verb, resource string) role {
	out := r
	out.Rules = nil
	for _, u := range r.Rules {
		if u.Resources[0] == resource {
			u.Verbs = slices.DeleteFunc(slices.Clone(u.Verbs), func(v string) bool { return v == verb })
		}
		if len(u.Verbs) > 0 {
			out.Rules = append(out.Rules, u)
		}
	}
	return out
}

// TestPermissions has the role of the documentation run a job, and each of its
// permissions missed by name.
func TestPermissions(t *testing.T) {
	cluster(t)
	ns := fmt.Sprintf("permissions-%d", rand.IntN(1<<30))
	kubectl(t, "", "create", "namespace", ns)
	t.Cleanup(func() {
		cmd := exec.Command(os.Getenv("GLASSRUNNER_TEST_KUBECTL"), "--kubeconfig", os.Getenv("GLASSRUNNER_TEST_KUBECONFIG"), "delete", "namespace", ns, "--wait=false")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("deleting the namespace: %v\n%s", err, out)
		}
	})
	kubectl(t, "", "create", "serviceaccount", "runner", "-n", ns)
	kubectl(t, "", "create", "rolebinding", "runner", "-n", ns, "--role=glassrunner", "--serviceaccount="+ns+":runner")
	ca, err := base64.StdEncoding.DecodeString(kubectl(t, "", "config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.certificate-authority-data}"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	o := options()
	o.Config.Namespace, o.Config.CAFile = ns, file
	o.Config.Host = kubectl(t, "", "config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.server}")
	o.Config.BearerToken = job.Secret(kubectl(t, "", "create", "token", "runner", "-n", ns))
	full := documentedRole(t)
	apply := func(r role) {
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		kubectl(t, string(text), "apply", "-n", ns, "-f", "-")
	}
	open := func(log *bytes.Buffer) (executor.Env, error) {
		r := request(t)
		r.Log = log
		r.Spec.Credentials = []job.Credential{{Type: "registry", URL: "https://index.docker.io/v1/", Username: "u", Password: "p"}}
		return driver(t, o).Open(t.Context(), r)
	}
	for _, need := range kubernetes.Needed(&o.Config) {
		verb, resource, _ := strings.Cut(need, " ")
		apply(full.without(verb, resource))
		var log bytes.Buffer
		env, err := open(&log)
		if env != nil {
			_ = env.Close(t.Context())
		}
		wantReason(t, err, job.ConfigurationError, need)
	}
	apply(full)
	var log, out bytes.Buffer
	env, err := open(&log)
	if err != nil {
		t.Fatalf("the role of the documentation is not enough: %v\n%s", err, &log)
	}
	if err := env.Run(t.Context(), executor.Command{In: executor.Build, Script: []byte("echo fine\n"), Stdout: &out, Stderr: &out}); err != nil || out.String() != "fine\n" {
		t.Errorf("got %v, %q", err, out.String())
	}
	if found, err := driver(t, o).Leftovers(t.Context(), nil); err != nil || len(found) != 1 {
		t.Errorf("Leftovers: %v, %v, want the pod", found, err)
	}
	if err := env.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if left := kubectl(t, "", "get", "secrets", "-n", ns, "-o", "name"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}
