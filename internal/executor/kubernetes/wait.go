package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/image"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/pause"
)

// podError says what is wrong with a pod.
type podError struct {
	reason    event.PodReason
	job       job.Reason // NoReason: trouble of the infrastructure
	container string     // whose fault it is, or ""
	code      int        // exit code of the container
	err       error
}

func (e *podError) Error() string { return e.err.Error() }

func (e *podError) Unwrap() error { return e.err }

// failed tells of a pod's end and turns it into what an executor returns.
func (p *place) failed(ctx context.Context, err error) error {
	e, ok := errors.AsType[*podError](err)
	if !ok {
		return err
	}
	p.d.o.Bus.Emit(ctx, event.PodFailed{Reason: e.reason})
	if e.job != job.NoReason {
		return &executor.Error{Reason: e.job, Err: err}
	}
	return err
}

func (p *place) pollInterval() time.Duration {
	if p.c.PollInterval > 0 {
		return time.Duration(p.c.PollInterval) * time.Second
	}
	return 3 * time.Second
}

// await waits until the pod's containers run. It asks often at first, when
// most pods are ready, and then every poll_interval.
func (p *place) await(ctx context.Context) error {
	limit := 180 * time.Second
	if p.c.PollTimeout > 0 {
		limit = time.Duration(p.c.PollTimeout) * time.Second
	}
	began, told := time.Now(), time.Time{}
	scheduled := false
	for {
		pod := &corev1.Pod{}
		switch err := p.api.get(ctx, core(p.namespace, "pods", p.name), pod); {
		case apierrors.IsNotFound(err):
			return &podError{reason: event.PodDeleted, err: fmt.Errorf("the pod %s/%s was deleted before it ran", p.namespace, p.name)}
		case err != nil:
			return err
		}
		if !scheduled && pod.Spec.NodeName != "" {
			scheduled = true
			p.d.o.Bus.Emit(ctx, event.PodReached{Stage: event.PodScheduled, Took: time.Since(began)})
		}
		if err := p.trouble(pod); err != nil {
			return err
		}
		if running(pod) {
			p.d.o.Bus.Emit(ctx, event.PodReached{Stage: event.PodReady, Took: time.Since(began)})
			p.pulled(ctx)
			p.say("The pod %s/%s runs on the node %s.", p.namespace, p.name, pod.Spec.NodeName)
			return nil
		}
		waited := time.Since(began)
		if waited > limit {
			return p.late(pod)
		}
		if time.Since(told) >= p.pollInterval() {
			told = time.Now()
			p.tellWaiting(pod)
		}
		if pause.For(ctx, min(p.pollInterval(), 150*time.Millisecond+waited/10)) != nil {
			return context.Cause(ctx)
		}
	}
}

// running reports whether all containers of a pod have started.
func running(pod *corev1.Pod) bool {
	if pod.Status.Phase != corev1.PodRunning || len(pod.Status.ContainerStatuses) < len(pod.Spec.Containers) {
		return false
	}
	for _, s := range pod.Status.ContainerStatuses {
		if s.State.Running == nil && s.State.Terminated == nil {
			return false
		}
	}
	return true
}

// tellWaiting tells the job log what the pod is waiting for.
func (p *place) tellWaiting(pod *corev1.Pod) {
	node := pod.Spec.NodeName
	if node == "" {
		node = "<unknown>"
	}
	p.say("Waiting for pod %s/%s to be running on the node %s, status is %s", p.namespace, p.name, node, pod.Status.Phase)
	if !p.warnings() {
		return
	}
	for _, c := range pod.Status.Conditions {
		if c.Reason != "" && c.Status != corev1.ConditionTrue {
			p.say("\t%s: %q", c.Reason, c.Message)
		}
	}
}

func (p *place) warnings() bool {
	return p.c.PrintPodWarningEvents == nil || *p.c.PrintPodWarningEvents
}

// late is the error of a pod that is not ready in its time.
func (p *place) late(pod *corev1.Pod) error {
	e := &podError{reason: event.PodTimeout, err: fmt.Errorf("timed out waiting for pod to start (last phase: %s)", pod.Status.Phase)}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			e.reason = event.PodUnschedulable
			e.err = fmt.Errorf("%w: no node can take it: %s", e.err, c.Message)
		}
	}
	return e
}

// trouble finds out from a pod's state what will not become better by waiting.
// A container of a service may end.
func (p *place) trouble(pod *corev1.Pod) error {
	where := fmt.Sprintf("pod %q", p.namespace+"/"+p.name)
	if pod.DeletionTimestamp != nil {
		e := &podError{reason: event.PodDeleted, err: fmt.Errorf("%s is being deleted", where)}
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue {
				e.reason, e.err = event.PodEvicted, fmt.Errorf("%s is disrupted: reason %q, message %q", where, c.Reason, c.Message)
			}
		}
		return e
	}
	all := slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses)
	for _, s := range all {
		if w := s.State.Waiting; w != nil {
			if err := p.stuck(s, w); err != nil {
				return err
			}
		}
		t := s.State.Terminated
		needed := s.Name == buildContainer || s.Name == helperContainer || s.Name == initContainer && t != nil && t.ExitCode != 0
		if t != nil && needed {
			return p.died(s.Name, t)
		}
	}
	switch pod.Status.Phase {
	case corev1.PodFailed, corev1.PodSucceeded:
	default:
		return nil
	}
	e := &podError{reason: event.PodOther, err: fmt.Errorf("%s status is %s: %s %s", where, pod.Status.Phase, pod.Status.Reason, pod.Status.Message)}
	switch pod.Status.Reason {
	case "Evicted", "Preempting", "NodeShutdown", "NodeLost", "Terminated":
		e.reason = event.PodEvicted
	case "DeadlineExceeded":
		e.reason, e.job = event.PodDeadline, job.ExecutionTimeout
	}
	return e
}

// stuck judges why a container does not start.
func (p *place) stuck(s corev1.ContainerStatus, w *corev1.ContainerStateWaiting) error {
	e := &podError{container: s.Name}
	switch w.Reason {
	case "InvalidImageName":
		e.reason, e.job = event.PodInvalidImage, job.ConfigurationError
		e.err = fmt.Errorf("image pull failed: %s", w.Message)
	case "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable":
		e.reason, e.job = event.PodImagePull, image.PullReason(w.Message)
		e.err = fmt.Errorf("image pull failed: %s", w.Message)
	case "CrashLoopBackOff", "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
		e.reason, e.job = event.PodConfigError, job.ConfigurationError
		e.err = fmt.Errorf("the container %s cannot be started: %s: %s", s.Name, w.Reason, w.Message)
	default:
		return nil
	}
	return e
}

// died judges a container that ended.
func (p *place) died(name string, t *corev1.ContainerStateTerminated) error {
	e := &podError{reason: event.PodCrashed, container: name, code: int(t.ExitCode)}
	e.err = fmt.Errorf("the container %s ended with exit code %d: %s %s", name, t.ExitCode, t.Reason, t.Message)
	if t.Reason == "OOMKilled" {
		e.reason = event.PodOOMKilled
		e.err = fmt.Errorf("the container %s was killed because it needed more memory than its limit (OOMKilled)", name)
	}
	if strings.HasPrefix(t.Reason, "StartError") || t.Reason == "ContainerCannotRun" {
		e.reason, e.job = event.PodConfigError, job.ConfigurationError
	}
	return e
}

// nextPolicy takes the next pull policy of the container whose image could not
// be pulled, if there is one.
func (p *place) nextPolicy(err error) bool {
	e, ok := errors.AsType[*podError](err)
	if !ok || e.reason != event.PodImagePull {
		return false
	}
	name := e.container
	if name == initContainer {
		name = helperContainer
	}
	for _, i := range p.origins() {
		if i.container == name && len(i.policies) > 1 {
			p.warn("Failed to pull image %q for container %q with policy %q: %v", i.name, i.container, i.policies[0], err)
			i.policies = i.policies[1:]
			p.say("Trying %q pull policy for container %s", i.policies[0], i.container)
			return true
		}
	}
	return false
}

// events returns what the cluster has to say of the pod.
func (p *place) events(ctx context.Context) ([]corev1.Event, error) {
	var list corev1.EventList
	err := p.api.list(ctx, core(p.namespace, "events"), url.Values{"fieldSelector": {"involvedObject.uid=" + p.uid}}, &list)
	return list.Items, err
}

var (
	pulledIn   = regexp.MustCompile(`^Successfully pulled image .* in ([0-9.a-zµ]+)( |$)`)
	pulledSize = regexp.MustCompile(`Image size: ([0-9]+) bytes`)
)

// pulled tells how long the pod's images took, as the kubelet says in its
// events. Without the permission to list events nobody learns it.
func (p *place) pulled(ctx context.Context) {
	list, err := p.events(ctx)
	if err != nil {
		p.d.o.Log.Debug("reading the events of a pod", "pod", p.name, "error", err)
		return
	}
	for _, e := range list {
		if e.Reason == "Pulled" {
			if fact, ok := pull(e.Message); ok {
				p.d.o.Bus.Emit(ctx, fact)
			}
		}
	}
}

// pull reads the message of an event with the reason Pulled.
func pull(message string) (event.ImagePulled, bool) {
	f := event.ImagePulled{Policy: "other"}
	if strings.Contains(message, "already present on machine") {
		f.Result = "present"
		return f, true
	}
	m := pulledIn.FindStringSubmatch(message)
	if m == nil {
		return f, false
	}
	took, err := time.ParseDuration(m[1])
	if err != nil {
		return f, false
	}
	f.Result, f.Took = "pulled", took
	if m := pulledSize.FindStringSubmatch(message); m != nil {
		_, _ = fmt.Sscan(m[1], &f.Bytes) // digits
	}
	return f, true
}

// explain shows in the job log what warnings the cluster has of the pod.
func (p *place) explain(err error) {
	if p.api == nil || p.uid == "" || !p.warnings() {
		return
	}
	if _, ok := errors.AsType[*podError](err); !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	list, err := p.events(ctx)
	if err != nil {
		return // they are a help, and may not be allowed
	}
	for _, e := range list {
		if e.Type == corev1.EventTypeWarning && !slices.Contains(p.shown, e.Message) {
			p.shown = append(p.shown, e.Message)
			p.warn("Event retrieved from the cluster: %s", e.Message)
		}
	}
}
