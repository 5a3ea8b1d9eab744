//go:build linux

package kubernetes_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// podJobs are values of an installation whose jobs run as pods.
var podJobs = []string{"--set", "runners.executor=kubernetes", "--set-json", `runners.config="[[runners]]\n  [runners.kubernetes]\n    namespace = {{ .Release.Namespace | quote }}\n    image = \"glassrunner/busybox:1\"\n    pull_policy = \"never\"\n    service_account = \"default\"\n    pod_disruption_budget = true\n"`}

type rule struct {
	APIGroups []string `json:"apiGroups"`
	Resources []string `json:"resources"`
	Verbs     []string `json:"verbs"`
}

// The chart's role is enough for a job, and a permission that is taken away
// fails the job with an error that names it.
func TestChartRole(t *testing.T) {
	r := newCluster(t).install(podJobs...)
	hello := fakegitlab.Job{Script: []string{"echo in $(hostname)"}}
	r.finished(r.server, r.job(r.server, hello), fakegitlab.Success, "in runner-")

	var role struct{ Rules []rule }
	r.get(&role, "role", "glassrunner")
	// Without these a job runs, and says less.
	optional := []string{"list events", "get secrets"}
	taken := 0
	for i, whole := range role.Rules {
		for _, verb := range whole.Verbs {
			name := verb + " " + whole.Resources[0]
			if slices.Contains(optional, name) {
				continue
			}
			taken++
			t.Run(strings.ReplaceAll(name, "/", "-"), func(t *testing.T) {
				rules := slices.Clone(role.Rules)
				rules[i].Verbs = slices.DeleteFunc(slices.Clone(whole.Verbs), func(v string) bool { return v == verb })
				if len(rules[i].Verbs) == 0 {
					rules = slices.Delete(rules, i, i+1)
				}
				r.setRole(rules)
				// Permissions are asked for once, at the first job.
				r.restart()
				id := r.job(r.server, hello)
				snap := r.finished(r.server, id, fakegitlab.Failed, verb+" "+whole.Resources[0])
				if !strings.Contains(string(snap.Trace), r.namespace) {
					t.Errorf("the error does not name the namespace:\n%s", snap.Trace)
				}
			})
		}
	}
	if taken < 8 {
		t.Errorf("only %d permissions were tried", taken)
	}
	r.setRole(role.Rules)
	r.restart()
	r.finished(r.server, r.job(r.server, hello), fakegitlab.Success, "in runner-")
}

func (r *release) setRole(rules []rule) {
	r.t.Helper()
	text, err := json.Marshal([]map[string]any{{"op": "replace", "path": "/rules", "value": rules}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.kubectl("patch", "role", "glassrunner", "--type=json", "-p", string(text))
}

// restart replaces the manager's pod and waits for the old one to go.
func (r *release) restart() {
	r.t.Helper()
	old := r.names("pods", "-l", "app=glassrunner")
	r.kubectl("rollout", "restart", "deployment/glassrunner")
	r.kubectl("rollout", "status", "deployment/glassrunner", "--timeout=120s")
	r.eventually("the old pod goes", func() error {
		for _, pod := range r.names("pods", "-l", "app=glassrunner") {
			if slices.Contains(old, pod) {
				return fmt.Errorf("%w: %s", errNot, pod)
			}
		}
		return nil
	})
}
