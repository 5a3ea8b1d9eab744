package kubernetes_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/executor/kubernetes"
	"github.com/glassrunner/glassrunner/internal/job"
)

func driver(t *testing.T, o kubernetes.Options) *kubernetes.Driver {
	t.Helper()
	d, err := kubernetes.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// wantReason checks why a job cannot run.
func wantReason(t *testing.T, err error, reason job.Reason, text string) {
	t.Helper()
	var known *executor.Error
	if !errors.As(err, &known) || known.Reason != reason || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want the reason %s and %q", err, reason, text)
	}
}

func variables(pairs ...string) job.Variables {
	var vs job.Variables
	for i := 0; i < len(pairs); i += 2 {
		vs = append(vs, job.Variable{Key: pairs[i], Value: pairs[i+1]})
	}
	return vs
}

func TestPod(t *testing.T) {
	yes, gid := true, int64(2000)
	o := options()
	c := &o.Config
	c.Volumes = &config.KubernetesVolumes{
		HostPath:  []config.HostPathVolume{{Name: "host", MountPath: "/host", MountPropagation: "HostToContainer"}},
		PVC:       []config.PVCVolume{{Name: "claim-$CI_CONCURRENT_ID", MountPath: "/claim"}},
		ConfigMap: []config.ItemsVolume{{Name: "map", MountPath: "/map", Items: map[string]string{"b": "y", "a": "x"}}},
		Secret:    []config.ItemsVolume{{Name: "hidden", MountPath: "/hidden", ReadOnly: true}},
		EmptyDir:  []config.EmptyDirVolume{{Name: "ram", MountPath: "/ram", Medium: "Memory", SizeLimit: "64Mi"}},
		CSI:       []config.CSIVolume{{Name: "csi", MountPath: "/csi", Driver: "d", VolumeAttributes: map[string]string{"k": "v"}}},
		NFS:       []config.NFSVolume{{Name: "nfs", MountPath: "/nfs", Server: "s", Path: "/p"}},
	}
	c.CPULimit, c.MemoryLimit, c.MemoryLimitOverwriteMaxAllowed, c.ServiceMemoryRequest = "1", "1Gi", "2Gi", "32Mi"
	c.ServiceMemoryRequestOverwriteMaxAllowed = "1Gi"
	c.NodeSelector, c.NodeSelectorOverwriteAllowed = map[string]string{"kind": "ci"}, ".*"
	c.NodeTolerations = map[string]string{"key=value": "NoSchedule", "other": "NoExecute"}
	c.PodLabels, c.PodSecurityContext = map[string]string{"team": "a b", "runner.gitlab.com/x": "no"}, &config.PodSecurityContext{FSGroup: &gid}
	c.CapAdd, c.CapDrop, c.Privileged = []string{"SYS_PTRACE"}, []string{"CHOWN"}, &yes
	c.DNSPolicy, c.RuntimeClassName, c.PriorityClassName, c.ServiceAccount = "none", "kata", "low", "builder"
	c.DNSConfig = &config.DNSConfig{Nameservers: []string{"10.0.0.2"}}
	c.HostAliases = []config.HostAlias{{IP: "10.0.0.3", Hostnames: []string{"db"}}}
	c.ImagePullSecrets = []string{"registry"}
	c.PodSpec = []config.PodSpecPatch{{Name: "host", Patch: "hostname: patched\ncontainers:\n- name: build\n  tty: true\n"}}
	r := request(t)
	r.Spec.Credentials = []job.Credential{{Type: "registry", URL: "registry.example.com:5000", Username: "u", Password: "p"}}
	r.Spec.Services = []job.Image{
		{Name: "registry.example.com:5000/team/postgres:17", Aliases: []string{"db main_db"}},
		{Name: "redis", Variables: variables("KUBERNETES_SERVICE_MEMORY_REQUEST", "48Mi", "A", "$(B)")},
	}
	r.Spec.Services[0].Aliases = []string{"db-one"}
	r.Spec.Image.KubernetesUser = "1000:1001"
	r.Variables = append(variables("CI_CONCURRENT_ID", "3", "KUBERNETES_MEMORY_LIMIT", "1500Mi", "KUBERNETES_NODE_SELECTOR_1", "disk=ssd",
		"FF_USE_ADVANCED_POD_SPEC_CONFIGURATION", "true"),
		job.Variable{Key: "PUBLIC", Value: "yes", Public: true}, job.Variable{Key: "PASSWORD", Value: "hunter2", Public: true, Masked: true},
		job.Variable{Key: "PRIVATE", Value: "hunter3"})
	pod, err := kubernetes.Plan(driver(t, o), r)
	if err != nil {
		t.Fatal(err)
	}
	s := pod.Spec
	var names []string
	for _, k := range s.Containers {
		names = append(names, k.Name)
	}
	if diff := cmp.Diff([]string{"build", "helper", "db-one", "svc-0"}, names); diff != "" {
		t.Errorf("containers (-want +got):\n%s", diff)
	}
	build, service := s.Containers[0], s.Containers[3]
	for what, got := range map[string][2]any{
		"memory limit":    {build.Resources.Limits.Memory().String(), "1500Mi"},
		"service memory":  {service.Resources.Requests.Memory().String(), "48Mi"},
		"user":            {*build.SecurityContext.RunAsUser, int64(1000)},
		"group":           {*build.SecurityContext.RunAsGroup, int64(1001)},
		"privileged":      {*build.SecurityContext.Privileged, true},
		"added":           {fmt.Sprint(build.SecurityContext.Capabilities.Add), "[SYS_PTRACE]"},
		"dropped":         {fmt.Sprint(build.SecurityContext.Capabilities.Drop), "[CHOWN NET_RAW]"},
		"selector":        {fmt.Sprint(s.NodeSelector), "map[disk:ssd kind:ci]"},
		"hostname":        {s.Hostname, "patched"},
		"patched":         {build.TTY, true},
		"account":         {s.ServiceAccountName, "builder"},
		"deadline":        {*s.ActiveDeadlineSeconds, int64(601)},
		"dns":             {s.DNSPolicy, corev1.DNSNone},
		"runtime class":   {*s.RuntimeClassName, "kata"},
		"priority":        {s.PriorityClassName, "low"},
		"pull secrets":    {len(s.ImagePullSecrets), 2},
		"own pull secret": {s.ImagePullSecrets[1].Name, pod.Name},
		"label":           {pod.Labels["team"], "a_b"},
		"taken label":     {pod.Labels["runner.gitlab.com/x"], ""},
		"group id":        {*s.SecurityContext.FSGroup, gid},
		"policy":          {build.ImagePullPolicy, corev1.PullIfNotPresent},
		"aliases":         {fmt.Sprint(s.HostAliases[0].Hostnames), "[registry.example.com-team-postgres db-one redis]"},
		"claim":           {s.Volumes[1].PersistentVolumeClaim.ClaimName, "claim-3"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: got %v, want %v", what, got[0], got[1])
		}
	}
	if len(build.VolumeMounts) != 10 || len(s.Volumes) != 10 {
		t.Errorf("got %d mounts and %d volumes, want the configuration's seven and our three", len(build.VolumeMounts), len(s.Volumes))
	}
	var tolerations []string
	for _, x := range s.Tolerations {
		tolerations = append(tolerations, fmt.Sprint(x.Key, x.Operator, x.Value, x.Effect))
	}
	if diff := cmp.Diff([]string{"keyEqualvalueNoSchedule", "otherExistsNoExecute"}, tolerations); diff != "" {
		t.Errorf("tolerations (-want +got):\n%s", diff)
	}
	text := fmt.Sprint(pod)
	if strings.Contains(text, "hunter") {
		t.Error("the pod holds a variable that is not public, or a masked one")
	}
	if !strings.Contains(text, "PUBLIC") || service.Env[len(service.Env)-1].Value != "$$(B)" {
		t.Errorf("the environment of containers is not right: %v", service.Env)
	}
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*config.Kubernetes, *executor.Request)
		text   string
	}{
		{"no image", func(c *config.Kubernetes, _ *executor.Request) { c.Image = "" }, "no image specified"},
		{"image", func(c *config.Kubernetes, r *executor.Request) {
			c.AllowedImages, r.Spec.Image.Name = []string{"good/**"}, "bad/image"
		}, "disallowed image"},
		{"service", func(c *config.Kubernetes, r *executor.Request) {
			c.AllowedServices, r.Spec.Services = []string{"good/*"}, []job.Image{{Name: "bad"}}
		}, "disallowed image"},
		{"policy", func(_ *config.Kubernetes, r *executor.Request) { r.Spec.Image.PullPolicy = []string{"always"} }, "is not one of the allowed_pull_policies"},
		{"alias", func(_ *config.Kubernetes, r *executor.Request) {
			r.Spec.Services = []job.Image{{Name: "x", Aliases: []string{"not_a_name"}}}
		}, "is no host name"},
		{"too much", func(c *config.Kubernetes, r *executor.Request) {
			c.CPULimitOverwriteMaxAllowed, r.Variables = "2", variables("KUBERNETES_CPU_LIMIT", "3")
		}, "couldn't prepare overwrites"},
		{"no quantity", func(c *config.Kubernetes, r *executor.Request) {
			c.CPULimitOverwriteMaxAllowed, r.Variables = "2", variables("KUBERNETES_CPU_LIMIT", "much")
		}, "couldn't prepare overwrites"},
		{"namespace", func(c *config.Kubernetes, r *executor.Request) {
			c.NamespaceOverwriteAllowed, r.Variables = "^ci-", variables("KUBERNETES_NAMESPACE_OVERWRITE", "kube-system")
		}, "couldn't prepare overwrites"},
		{"patch", func(c *config.Kubernetes, r *executor.Request) {
			c.PodSpec, r.Variables = []config.PodSpecPatch{{PatchType: "json", Patch: `[{"op": "test", "path": "/hostname", "value": "x"}]`}},
				variables("FF_USE_ADVANCED_POD_SPEC_CONFIGURATION", "true")
		}, "pod_spec[0]"},
		{"port", func(_ *config.Kubernetes, r *executor.Request) {
			r.Spec.Services = []job.Image{{Name: "x", Variables: variables("HEALTHCHECK_TCP_PORT", "80; reboot")}}
		}, "is no port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, r := options(), request(t)
			tt.change(&o.Config, &r)
			_, err := kubernetes.Plan(driver(t, o), r)
			wantReason(t, err, job.ConfigurationError, tt.text)
		})
	}
	// What is not allowed at all is left alone.
	o, r := options(), request(t)
	r.Variables = variables("KUBERNETES_CPU_LIMIT", "3", "KUBERNETES_NAMESPACE_OVERWRITE", "kube-system")
	pod, err := kubernetes.Plan(driver(t, o), r)
	if err != nil || pod.Namespace != "default" || len(pod.Spec.Containers[0].Resources.Limits) > 0 {
		t.Errorf("got %v, %v, want overwrites without permission ignored", pod, err)
	}
}

func TestPatched(t *testing.T) {
	spec := corev1.PodSpec{Hostname: "a", Containers: []corev1.Container{{Name: "build", Image: "x"}, {Name: "helper", Image: "y"}}}
	for _, tt := range []struct {
		kind, patch, want string
	}{
		{"strategic", "containers:\n- name: helper\n  image: z\n", "build=x helper=z"},
		{"", "containers:\n- name: more\n  image: z\n", "more=z build=x helper=y"},
		{"merge", `{"containers": [{"name": "only", "image": "z"}]}`, "only=z"},
		{"json", "- op: replace\n  path: /containers/0/image\n  value: z\n", "build=z helper=y"},
		{"merge", "", "build=x helper=y"},
	} {
		got, err := kubernetes.Patched(spec, []config.PodSpecPatch{{PatchType: tt.kind, Patch: tt.patch}})
		var names []string
		for _, c := range got.Containers {
			names = append(names, c.Name+"="+c.Image)
		}
		if err != nil || strings.Join(names, " ") != tt.want || got.Hostname != "a" {
			t.Errorf("%s %q: got %v, %v, want %s", tt.kind, tt.patch, names, err, tt.want)
		}
	}
}

func TestTrouble(t *testing.T) {
	now := metav1.Now()
	status := func(name string, w *corev1.ContainerStateWaiting, e *corev1.ContainerStateTerminated) corev1.PodStatus {
		return corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: name, State: corev1.ContainerState{Waiting: w, Terminated: e}}}}
	}
	for _, tt := range []struct {
		name   string
		pod    corev1.Pod
		reason event.PodReason
		job    job.Reason
		text   string
	}{
		{"fine", corev1.Pod{Status: status("build", &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}, nil)}, "", "", ""},
		{"service ended", corev1.Pod{Status: status("svc-0", nil, &corev1.ContainerStateTerminated{ExitCode: 1})}, "", "", ""},
		{"pull", corev1.Pod{Status: status("build", &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "manifest unknown"}, nil)}, event.PodImagePull, job.ConfigurationError, "image pull failed: manifest unknown"},
		{"pull over the network", corev1.Pod{Status: status("build", &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "dial tcp: refused"}, nil)}, event.PodImagePull, job.ExternalDependency, "dial tcp"},
		{"name", corev1.Pod{Status: status("svc-0", &corev1.ContainerStateWaiting{Reason: "InvalidImageName"}, nil)}, event.PodInvalidImage, job.ConfigurationError, ""},
		{"config", corev1.Pod{Status: status("build", &corev1.ContainerStateWaiting{Reason: "CreateContainerConfigError", Message: "secret not found"}, nil)}, event.PodConfigError, job.ConfigurationError, "secret not found"},
		{"memory", corev1.Pod{Status: status("build", nil, &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"})}, event.PodOOMKilled, "", "more memory than its limit"},
		{"crash", corev1.Pod{Status: status("helper", nil, &corev1.ContainerStateTerminated{ExitCode: 2})}, event.PodCrashed, "", "exit code 2"},
		{"deleted", corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &now}}, event.PodDeleted, "", "is being deleted"},
		{"disrupted", corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &now}, Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
			{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI", Message: "drained"},
		}}}, event.PodEvicted, "", "drained"},
		{"evicted", corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "disk pressure"}}, event.PodEvicted, "", "disk pressure"},
		{"deadline", corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed, Reason: "DeadlineExceeded"}}, event.PodDeadline, job.ExecutionTimeout, ""},
		{"unknown end", corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed}}, event.PodOther, "", ""},
	} {
		reason, why, text := kubernetes.Trouble(&tt.pod)
		if reason != tt.reason || why != tt.job || !strings.Contains(text, tt.text) {
			t.Errorf("%s: got %q, %q, %q, want %q, %q, %q", tt.name, reason, why, text, tt.reason, tt.job, tt.text)
		}
	}
}

func TestPull(t *testing.T) {
	for _, tt := range []struct {
		message string
		want    event.ImagePulled
		ok      bool
	}{
		{`Successfully pulled image "a" in 1.5s (2.1s including waiting). Image size: 123 bytes.`, event.ImagePulled{Policy: "other", Result: "pulled", Took: 1500 * time.Millisecond, Bytes: 123}, true},
		{`Container image "a" already present on machine`, event.ImagePulled{Policy: "other", Result: "present"}, true},
		{"something else", event.ImagePulled{Policy: "other"}, false},
	} {
		if got, ok := kubernetes.Pull(tt.message); got != tt.want || ok != tt.ok {
			t.Errorf("%q: got %+v, %v, want %+v, %v", tt.message, got, ok, tt.want, tt.ok)
		}
	}
}

// FuzzFrames splits what a helper says anywhere: it must not matter.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("b\no 3\nabce 1\n!.\nc 0 0 - - -\n"), 3)
	f.Add([]byte("o 999999999999\nx"), 1)
	f.Add([]byte("o -1\n"), 0)
	f.Fuzz(func(t *testing.T, said []byte, at int) {
		read := func(parts ...[]byte) (string, error) {
			var out, errs bytes.Buffer
			w, state := kubernetes.Frames(&out, &errs)
			for _, p := range parts {
				if _, err := w.Write(p); err != nil {
					return "", err
				}
			}
			o, e, result := state()
			if o != int64(out.Len()) || e != int64(errs.Len()) {
				t.Fatalf("counted %d and %d bytes, passed %d and %d", o, e, out.Len(), errs.Len())
			}
			return fmt.Sprintf("%q %q %q", out.String(), errs.String(), result), nil
		}
		at = max(0, min(at, len(said)))
		whole, err1 := read(said)
		split, err2 := read(said[:at], said[at:])
		if (err1 == nil) != (err2 == nil) || whole != split {
			t.Errorf("whole: %s, %v; split: %s, %v", whole, err1, split, err2)
		}
	})
}

func FuzzResult(f *testing.F) {
	f.Add("0 0 12 34 56")
	f.Add("137 1 - - -")
	f.Fuzz(func(t *testing.T, line string) {
		code, killed, _, err := kubernetes.ParseResult(line)
		if err == nil && (code < 0 || code > 255 || killed < 0) {
			t.Errorf("%q: code %d, %d killed", line, code, killed)
		}
	})
}

// container plays the two scripts without a cluster: the machine's shells and
// a directory instead of containers.
type container struct {
	t       *testing.T
	shell   string
	s, logs string
}

func newContainer(t *testing.T, shell string) *container {
	t.Helper()
	dir := t.TempDir()
	c := &container{t: t, shell: shell, s: filepath.Join(dir, "s"), logs: filepath.Join(dir, "l")}
	for _, d := range []string{c.s, c.logs} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{c.s + "/build", c.logs + "/end.build"} {
		if out, err := exec.Command("mkfifo", f).CombinedOutput(); err != nil {
			t.Skipf("mkfifo: %v %s", err, out)
		}
	}
	cmd := exec.Command(shell, "-c", kubernetes.SuperviseScript, "sh", "build", c.s, c.logs, "", "", "/bin/bash", "/bin/sh")
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // shells that run scripts ignore it
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	return c
}

// follow runs follow.sh; size -1 brings no script.
func (c *container) follow(n int, script string, bring bool, out, errs int64) (string, string, string) {
	c.t.Helper()
	size := -1
	if bring {
		size = len(script)
	}
	var o, e bytes.Buffer
	w, state := kubernetes.Frames(&o, &e)
	cmd := exec.Command("bash", "-c", kubernetes.FollowScript, "bash", "build", c.s, c.logs, fmt.Sprint(n), fmt.Sprint(size), "two", fmt.Sprint(out), fmt.Sprint(errs))
	cmd.Stdin, cmd.Stdout = strings.NewReader(script), w
	if err := cmd.Run(); err != nil {
		c.t.Fatalf("follow.sh: %v", err)
	}
	_, _, result := state()
	return o.String(), e.String(), result
}

// TestScripts runs a script once, however often it is brought, and returns the
// rest of its output from any byte.
func TestScripts(t *testing.T) {
	for _, shell := range []string{"dash", "bash"} {
		t.Run(shell, func(t *testing.T) {
			c := newContainer(t, shell)
			marker := filepath.Join(c.logs, "times")
			body := fmt.Sprintf("echo once >>%s\nseq 30000\necho trouble >&2\nprintf 'a\\000b'\nexit 7\n", marker)
			out, errs, result := c.follow(1, body, true, 0, 0)
			if !strings.HasPrefix(result, "7 0 ") || errs != "trouble\n" || !strings.HasSuffix(out, "30000\na\x00b") {
				t.Fatalf("got %.40q…, %q, %q", out, errs, result)
			}
			for _, at := range []int{0, 1, 65535, 65536, 65537, 131072, len(out) - 1, len(out)} {
				rest, none, again := c.follow(1, body, at%2 == 0, int64(at), int64(len(errs)))
				if rest != out[at:] || none != "" || again != result {
					t.Errorf("from byte %d: got %d bytes, %q, %q, want %d", at, len(rest), none, again, len(out)-at)
				}
			}
			if times, err := os.ReadFile(marker); err != nil || string(times) != "once\n" {
				t.Errorf("the script ran %q times, %v", times, err)
			}
			if _, err := os.Stat(filepath.Join(c.s, "1.sh")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the script is still there: %v", err)
			}
		})
	}
}
