//go:build linux

package e2e_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// podImage is that of jobs of these tests; it has bash and git.
const podImage = "glassrunner/helper:1"

// cluster is a Kubernetes cluster of scripts/cluster.sh, looked at with kubectl.
type cluster struct {
	t          *testing.T
	kubeconfig string
	kubectlBin string
	host       string // this machine, as pods see it
	dir        string
}

// newCluster skips the test where there is no cluster, and fails it where
// GLASSRUNNER_NEED_KUBERNETES says that there is one.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{
		t: t, kubeconfig: os.Getenv("GLASSRUNNER_TEST_KUBECONFIG"), kubectlBin: os.Getenv("GLASSRUNNER_TEST_KUBECTL"),
		host: os.Getenv("GLASSRUNNER_TEST_CLUSTER_HOST"), dir: os.Getenv("GLASSRUNNER_TEST_CLUSTER"),
	}
	if c.kubeconfig == "" || c.kubectlBin == "" || c.host == "" {
		refuse := t.Skipf
		if os.Getenv("GLASSRUNNER_NEED_KUBERNETES") != "" {
			refuse = t.Fatalf
		}
		refuse("there is no cluster: eval \"$(scripts/cluster.sh start DIR)\" starts one and sets GLASSRUNNER_TEST_KUBECONFIG")
	}
	return c
}

// kubectl runs a command and returns what it prints.
func (c *cluster) kubectl(args ...string) (string, error) {
	cmd := exec.CommandContext(c.t.Context(), c.kubectlBin, append([]string{"--kubeconfig", c.kubeconfig}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (c *cluster) must(args ...string) string {
	c.t.Helper()
	out, err := c.kubectl(args...)
	if err != nil {
		c.t.Fatalf("kubectl %v: %v\n%s", args, err, out)
	}
	return out
}

// part kills or starts a part of the cluster.
func (c *cluster) part(args ...string) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "../../scripts/cluster.sh", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("cluster.sh %v: %v\n%s", args, err, out)
	}
}

// namespace makes one for a test.
func (c *cluster) namespace(w *world) string {
	c.t.Helper()
	name := strings.Trim(strings.ToLower(strings.Map(func(r rune) rune {
		if r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '-'
	}, "e2e-"+w.mark)), "-")
	c.must("create", "namespace", name)
	c.t.Cleanup(func() {
		cmd := exec.Command(c.kubectlBin, "--kubeconfig", c.kubeconfig, "delete", "namespace", name, "--wait=false")
		if out, err := cmd.CombinedOutput(); err != nil {
			c.t.Errorf("deleting the namespace: %v\n%s", err, out)
		}
	})
	return name
}

// left lists what jobs left in a namespace.
func (c *cluster) left(namespace string) string {
	out, err := c.kubectl("get", "pods,secrets,poddisruptionbudgets", "-n", namespace, "-o", "name")
	if err != nil {
		return err.Error() + out
	}
	return strings.TrimSpace(strings.ReplaceAll(out, "No resources found in "+namespace+" namespace.", ""))
}

// podWorld is a world whose server pods can reach.
func podWorld(t *testing.T, c *cluster, o fakegitlab.Options) (*world, string) {
	t.Helper()
	w := bareWorld(t)
	if o.LongPoll == 0 {
		o.LongPoll = 5 * time.Second
	}
	w.server = fakegitlab.New(o)
	if err := w.server.Start(net.JoinHostPort(c.host, "0")); err != nil {
		t.Fatal(err)
	}
	w.runner = w.addRunner("e2e", fakegitlab.Limits{RequestConcurrency: 1, CheckInterval: 500 * time.Millisecond})
	t.Cleanup(w.finish)
	config, err := os.ReadFile(c.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	kube := filepath.Join(w.dir, "home", ".kube") // where the program looks for it
	if err := os.Mkdir(kube, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(kube, "config"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	return w, c.namespace(w)
}

// pods is the configuration of a runner that uses the cluster.
func (w *world) pods(namespace string, concurrent int, more string) string {
	return fmt.Sprintf("concurrent = %d\ncheck_interval = 1\nlisten_address = \"127.0.0.1:0\"\nlog_format = \"text\"\nshutdown_timeout = 30\n[[runners]]\nname = \"pods\"\nurl = %q\ntoken = %q\nexecutor = \"kubernetes\"\ngraceful_kill_timeout = \"2s\"\nfeature_flags = { FF_TIMESTAMPS = false }\n%s\n",
		concurrent, w.server.URL(), w.runner.Token, "[runners.kubernetes]\nnamespace = \""+namespace+"\"\nimage = \""+podImage+"\"\npull_policy = \"if-not-present\"\npoll_interval = 1\n"+more)
}

// TestKubernetes runs jobs in pods.
func TestKubernetes(t *testing.T) {
	c := newCluster(t)
	w, ns := podWorld(t, c, fakegitlab.Options{Concurrent: 4, UpdateInterval: 1})
	p := w.start(w.pods(ns, 4, "memory_limit = \"128Mi\"\n"))
	project(t, w, "acme/app", map[string]string{"a.txt": "from git\n"})
	alias := "web"
	for _, tt := range []struct {
		name string
		job  fakegitlab.Job
		want string
		has  []string
	}{
		{"sources", fakegitlab.Job{Project: "acme/app", Script: []string{"cat a.txt", "hostname", "echo > new; ls"}}, "success", []string{
			`Preparing the "kubernetes" executor`, "Using Kubernetes namespace: " + ns, "Using Kubernetes executor with image " + podImage + " ...",
			"Running on runner-", "Created fresh repository.", "$ cat a.txt", "\nfrom git\n", "\nnew\n", "Job succeeded",
		}},
		{"exit code", fakegitlab.Job{Script: []string{"exit 7"}, AfterScript: []string{"echo was $CI_JOB_STATUS"}}, "failed script_failure 7", []string{
			"was failed", "ERROR: Job failed: command terminated with exit code 7",
		}},
		{"variables", fakegitlab.Job{Script: []string{`echo "$CI_DISPOSABLE_ENVIRONMENT/$CI_PROJECT_DIR/$MINE"; cat $SECRET`}, Variables: append(public("MINE", "x y"),
			fakegitlab.Variable{Key: "SECRET", Value: "in a file", File: true})}, "success", []string{"true//builds/acme/web/x y", "in a file"}},
		{"service", fakegitlab.Job{
			Script: []string{"exec 3<>/dev/tcp/web/80; printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"},
			Services: []fakegitlab.Service{{
				Name: "glassrunner/busybox:1", Alias: &alias, Command: []string{"sh", "-c", "mkdir /w; echo I serve >/w/index.html; exec httpd -f -p 80 -h /w"},
				Variables: []fakegitlab.ServiceVariable{{Key: "HEALTHCHECK_TCP_PORT", Value: "80"}},
			}},
		}, "success", []string{"Waiting for services to be up and running", "\nI serve\n"}},
		{"busybox", fakegitlab.Job{Image: &fakegitlab.Image{Name: "glassrunner/busybox:1"}, Script: []string{"echo in a small image"}}, "success", []string{"\nin a small image\n"}},
		{"no such image", fakegitlab.Job{Image: &fakegitlab.Image{Name: "127.0.0.1:9/none:1"}, Script: []string{"true"}}, "failed", []string{
			"image pull failed: ", "Event retrieved from the cluster: ",
		}},
		{"policy", fakegitlab.Job{Image: &fakegitlab.Image{Name: podImage, PullPolicy: []string{"always"}}, Script: []string{"true"}}, "failed runner_configuration_error", []string{
			"is not one of the allowed_pull_policies ([if-not-present])",
		}},
		{"memory", fakegitlab.Job{Script: []string{"echo before", "head -c 400m /dev/zero | tail | wc -c", "echo not reached"}}, "failed script_failure 137", []string{
			"\nbefore\n", "more memory than its limit",
		}},
		{"timeout", fakegitlab.Job{Script: []string{"echo begun; sleep 600"}, Timeout: 8 * time.Second}, "failed job_execution_timeout", []string{"\nbegun\n"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := w.run(tt.job)
			if tt.want == "failed" {
				if s.Status != "failed" {
					t.Errorf("got %s, want failed", s.Status)
				}
			} else {
				want(t, s, tt.want)
			}
			has(t, text(s.Trace), tt.has...)
			if strings.Contains(text(s.Trace), "not reached\n") && tt.name == "memory" {
				t.Error("the script went on")
			}
		})
	}
	t.Run("cancel", func(t *testing.T) {
		id := w.enqueue(fakegitlab.Job{Script: []string{"echo begun; sleep 600"}, AfterScript: []string{"echo was $CI_JOB_STATUS"}})
		w.until(id, "its script", printed("\nbegun\n"))
		if err := w.server.Cancel(id); err != nil {
			t.Fatal(err)
		}
		has(t, text(w.wait(id).Trace), "was canceled")
	})
	t.Run("deleted", func(t *testing.T) {
		id := w.enqueue(fakegitlab.Job{Script: []string{"echo begun; sleep 600"}})
		w.until(id, "its script", printed("\nbegun\n"))
		c.must("delete", "pod", "-n", ns, "--all", "--wait=false")
		s := w.wait(id)
		want(t, s, "failed runner_system_failure")
		has(t, text(s.Trace), "is being deleted")
	})
	p.waitMetrics("the pods", func(m families) bool {
		return m.sum("glassrunner_kubernetes_pod_ready_duration_seconds") > 0 && m.sum("glassrunner_kubernetes_pod_failures_total") > 2 &&
			m.sum("glassrunner_kubernetes_api_request_duration_seconds") > 0
	})
	w.eventually("a namespace without leftovers", func() bool { return c.left(ns) == "" })
}

// TestKubernetesTransfers hands artifacts and caches on from job to job.
func TestKubernetesTransfers(t *testing.T) {
	c := newCluster(t)
	w, ns := podWorld(t, c, fakegitlab.Options{Concurrent: 2, UpdateInterval: 1})
	w.start(w.pods(ns, 2, fmt.Sprintf("[[runners.kubernetes.volumes.host_path]]\nname = \"caches\"\nmount_path = \"/cache\"\nhost_path = %q\n", filepath.Join(w.dir, "caches"))))
	j := fakegitlab.Job{
		Script: []string{
			`echo "cached: $(cat deps/key 2>/dev/null || echo nothing)"; mkdir -p deps; echo kept >deps/key`,
			`echo "given: $(cat out/made 2>/dev/null || echo nothing)"; mkdir -p out; echo "by $CI_JOB_ID" >out/made`,
		},
		Variables: public("GIT_STRATEGY", "empty"),
		Cache:     []fakegitlab.Cache{{Key: "key", Paths: []string{"deps/"}, Policy: "pull-push", When: "on_success"}},
		Artifacts: []fakegitlab.ArtifactSpec{archiveOf("out/")},
	}
	first := w.enqueue(j)
	s := w.wait(first)
	want(t, s, "success")
	has(t, text(s.Trace), "cached: nothing", "given: nothing", "Created cache", "Uploading artifacts")
	a, ok := w.server.Artifact(first, "archive")
	if made := fmt.Sprintf("by %d\n", first); !ok || unzipped(t, a.Data)["out/made"] != made {
		t.Errorf("the artifact is there: %v, want %q in it", ok, made)
	}
	j.Dependencies = []int64{first}
	s = w.run(j)
	want(t, s, "success")
	has(t, text(s.Trace), "Downloading artifacts", "cached: kept", fmt.Sprintf("given: by %d", first))
	w.eventually("a namespace without leftovers", func() bool { return c.left(ns) == "" })
}

// TestKubernetesCrash kills the runner while a job runs; the next process
// removes what it left.
func TestKubernetesCrash(t *testing.T) {
	c := newCluster(t)
	w, ns := podWorld(t, c, fakegitlab.Options{Concurrent: 2, UpdateInterval: 1})
	p := w.start(w.pods(ns, 2, ""))
	id := w.enqueue(fakegitlab.Job{Script: []string{"echo begun; sleep 600"}})
	w.until(id, "its script", printed("\nbegun\n"))
	if left := c.left(ns); !strings.Contains(left, "pod/") {
		t.Errorf("a running job has no pod: %s", left)
	}
	w.disturb(id)
	p.kill()
	w.restart()
	want(t, w.wait(id), "failed runner_system_failure")
	w.eventually("a namespace without leftovers", func() bool { return c.left(ns) == "" })
}

// TestKubernetesOutage kills the API server in the middle of a job that prints
// on, and starts it again. The script is started once, and its log is whole.
func TestKubernetesOutage(t *testing.T) {
	c := newCluster(t)
	w, ns := podWorld(t, c, fakegitlab.Options{Concurrent: 2, UpdateInterval: 1})
	p := w.start(w.pods(ns, 2, ""))
	const lines, outage = 300, 10 * time.Second
	id := w.enqueue(fakegitlab.Job{Script: []string{fmt.Sprintf("for i in $(seq %d); do echo line $i; sleep 0.1; done", lines)}})
	w.until(id, "its script", printed("\nline 20\n"))
	c.part("kill", c.dir, "apiserver")
	<-time.After(outage) // what is tried is that time passes
	c.part("start", c.dir)
	s := w.wait(id)
	want(t, s, "success")
	var expected strings.Builder
	for i := range lines {
		fmt.Fprintf(&expected, "line %d\n", i+1)
	}
	if got := text(s.Trace); !strings.Contains(got, "\n"+expected.String()) || strings.Count(got, "line ") != lines+1 {
		t.Errorf("the log is not exact:\n%s", tail(got, 2000))
	}
	p.waitMetrics("the connections", func(m families) bool {
		return m.sum("glassrunner_kubernetes_log_reconnects_total") > 0 && m.sum("glassrunner_kubernetes_api_request_errors_total") > 0
	})
	w.eventually("a namespace without leftovers", func() bool { return c.left(ns) == "" })
}

// TestKubernetesMany runs 200 jobs at concurrency 20.
func TestKubernetesMany(t *testing.T) {
	if testing.Short() {
		t.Skip("200 pods take minutes")
	}
	c := newCluster(t)
	w, ns := podWorld(t, c, fakegitlab.Options{Concurrent: 20})
	w.start(w.pods(ns, 20, "cpu_request = \"1m\"\nhelper_cpu_request = \"1m\"\n"))
	jobs := 200
	ids := make([]int64, jobs)
	for i := range ids {
		ids[i] = w.enqueue(fakegitlab.Job{Script: []string{fmt.Sprintf("echo this is $((%d + 0))", i)}, Variables: public("GIT_STRATEGY", "none")})
	}
	for i, id := range ids {
		s, err := w.server.Wait(t.Context(), id)
		if err != nil {
			t.Fatalf("job %d is %s: %v", id, s.Status, err)
		}
		want(t, s, "success")
		has(t, text(s.Trace), fmt.Sprintf("\nthis is %d\n", i))
	}
	w.eventually("a namespace without leftovers", func() bool { return c.left(ns) == "" })
}
