package kubernetes

import (
	"context"
	"errors"
	"io"

	corev1 "k8s.io/api/core/v1"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

// The scripts that run in containers.
var (
	SuperviseScript = superviseScript
	FollowScript    = followScript
)

// Plan returns the pod of a job, and what was wrong with the job.
func Plan(d *Driver, r executor.Request) (*corev1.Pod, error) {
	p := newPlace(d, r)
	p.namespace = d.o.Config.Namespace
	var err error
	if p.over, err = p.overwrite(); err != nil {
		return nil, err
	}
	p.namespace = p.over.namespace
	if err := p.plan(); err != nil {
		return nil, err
	}
	p.secret = p.pullSecret(context.Background())
	return p.pod()
}

// Passwords returns the config.json for the images of a job's pod.
func Passwords(ctx context.Context, d *Driver, r executor.Request) (string, error) {
	p := newPlace(d, r)
	if err := p.plan(); err != nil {
		return "", err
	}
	return string(p.credentials(ctx)), nil
}

// Trouble is what is wrong with a pod.
func Trouble(pod *corev1.Pod) (event.PodReason, job.Reason, string) {
	err := (&place{namespace: pod.Namespace, name: pod.Name}).trouble(pod)
	if err == nil {
		return "", "", ""
	}
	e, ok := errors.AsType[*podError](err)
	if !ok {
		return "", "", err.Error()
	}
	return e.reason, e.job, e.Error()
}

// Frames returns a reader of what follow.sh prints, for two writers.
func Frames(out, err io.Writer) (w io.Writer, state func() (outN, errN int64, result string)) {
	s := &script{out: sink{w: out}, err: sink{w: err}}
	return &frames{s: s, alive: func() {}}, func() (int64, int64, string) { return s.out.n, s.err.n, s.result }
}

// Patched applies patches of the configuration.
func Patched(spec corev1.PodSpec, patches []config.PodSpecPatch) (corev1.PodSpec, error) {
	return patched(spec, patches)
}

// Internals of one function each.
var (
	ParseResult = parseResult
	Pull        = pull
)

// Needed names the permissions that a configuration needs.
func Needed(c *config.Kubernetes) []string {
	var out []string
	for _, n := range needed(c) {
		out = append(out, n.String())
	}
	return out
}
