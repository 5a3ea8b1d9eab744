//go:build linux

package kubernetes_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// patience is how long a test waits for what must happen.
const patience = 2 * time.Minute

// cluster is the one under test and the programs that talk to it: the tests
// look at it with other eyes than the product.
type cluster struct {
	t          *testing.T
	ctx        context.Context
	kubeconfig string
	kubectlBin string
	host       string // address of this machine, as pods reach it
	namespace  string // of this test; it ends with it
}

// missing skips a test that lacks something, and fails it where everything has to be there.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("GLASSRUNNER_NEED_KUBERNETES") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// newCluster gives the test a namespace of its own.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	t.Cleanup(cancel)
	c := &cluster{
		t: t, ctx: ctx,
		kubeconfig: os.Getenv("GLASSRUNNER_TEST_KUBECONFIG"),
		kubectlBin: os.Getenv("GLASSRUNNER_TEST_KUBECTL"),
		host:       os.Getenv("GLASSRUNNER_TEST_CLUSTER_HOST"),
	}
	if c.kubeconfig == "" || c.kubectlBin == "" || c.host == "" {
		missing(t, `there is no cluster: eval "$(scripts/cluster.sh start DIR)" starts one`)
	}
	sum := fnv.New32a()
	fmt.Fprintf(sum, "%s %d", t.Name(), os.Getpid())
	c.namespace = fmt.Sprintf("test-%08x", sum.Sum32())
	c.kubectl("create", "namespace", c.namespace)
	t.Cleanup(func() {
		if t.Failed() {
			c.tell()
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, _, _ = c.command(ctx, "", c.kubectlBin, "delete", "namespace", c.namespace, "--wait=false", "--ignore-not-found")
		// What a failed test left would hold the namespace for its grace period.
		_, _, _ = c.command(ctx, "", c.kubectlBin, "-n", c.namespace, "delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false")
	})
	return c
}

// tell logs what a person would look at after a failure.
func (c *cluster) tell() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, args := range [][]string{
		{"get", "all", "-o", "wide"},
		{"get", "events"},
		{"logs", "--all-containers", "--prefix", "--tail=200", "-l", "app.kubernetes.io/part-of=glassrunner"},
	} {
		out, _, _ := c.command(ctx, "", c.kubectlBin, append([]string{"-n", c.namespace}, args...)...)
		c.t.Logf("kubectl %s:\n%s", strings.Join(args, " "), out)
	}
}

// command runs a program on the cluster.
func (c *cluster) command(ctx context.Context, stdin, name string, args ...string) (stdout, stderr string, err error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.kubeconfig)
	cmd.Stdin = strings.NewReader(stdin)
	var out, bad bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &bad
	err = cmd.Run()
	return out.String(), bad.String(), err
}

// kubectl runs it in the test's namespace and ends the test when it fails.
func (c *cluster) kubectl(args ...string) string {
	c.t.Helper()
	args = append([]string{"-n", c.namespace}, args...)
	out, bad, err := c.command(c.ctx, "", c.kubectlBin, args...)
	if err != nil {
		c.t.Fatalf("kubectl %s: %v\n%s%s", strings.Join(args, " "), err, out, bad)
	}
	return out
}

// get reads objects as JSON.
func (c *cluster) get(into any, args ...string) {
	c.t.Helper()
	out := c.kubectl(append([]string{"get", "-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		c.t.Fatalf("kubectl get %v: %v", args, err)
	}
}

// names lists objects of a kind in the test's namespace.
func (c *cluster) names(kind string, args ...string) []string {
	c.t.Helper()
	return strings.Fields(c.kubectl(append([]string{"get", kind, "-o", "jsonpath={.items[*].metadata.name}"}, args...)...))
}

// newServer starts a coordinator that pods reach.
func (c *cluster) newServer(o fakegitlab.Options) *fakegitlab.Server {
	c.t.Helper()
	if o.LongPoll == 0 {
		o.LongPoll = 2 * time.Second
	}
	s := fakegitlab.New(o)
	if err := s.Start(net.JoinHostPort(c.host, "0")); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		for _, v := range s.Violations() {
			c.t.Errorf("violation: %s", v)
		}
		if err := s.Close(); err != nil {
			c.t.Errorf("closing the server: %v", err)
		}
	})
	return s
}

// job hands out a job.
func (c *cluster) job(s *fakegitlab.Server, j fakegitlab.Job) int64 {
	c.t.Helper()
	id, err := s.Enqueue(j)
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

// finished waits for a job's end and checks its result and log.
func (c *cluster) finished(s *fakegitlab.Server, id int64, want fakegitlab.Status, log string) fakegitlab.Snapshot {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	snap, err := s.Wait(ctx, id)
	if err != nil {
		c.t.Fatalf("job %d did not end: %v; its log:\n%s", id, err, snap.Trace)
	}
	if snap.Status != want || !strings.Contains(string(snap.Trace), log) {
		c.t.Fatalf("job %d is %s (%s), want %s and %q in its log:\n%s", id, snap.Status, snap.FailureReason, want, log, snap.Trace)
	}
	return snap
}

// eventually waits for a condition; it says at the end what it last saw.
func (c *cluster) eventually(what string, condition func() error) {
	c.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			c.t.Fatalf("%s: %v", what, err)
		case <-c.ctx.Done():
			c.t.Fatalf("%s: %v (%v)", what, err, c.ctx.Err())
		case <-tick.C:
		}
	}
}

var errNot = errors.New("not yet")
