package kubernetes

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/image"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/pause"
)

// place is one job's place. It implements executor.Env.
type place struct {
	d   *Driver
	c   *config.Kubernetes
	r   executor.Request
	api *api

	run          string // of the label that everything of this job has
	base         string // of the pod's name
	name         string // of the pod and of all that belongs to it
	namespace    string
	ownNamespace bool // made for this job
	scripts      string
	logs         string // directory of what scripts print
	over         *overwrites
	vols         *volumes
	image        origin
	helper       origin
	services     []*service
	secret       *corev1.Secret
	uid          string // of the pod, once it was made
	claimed      bool

	number int      // of the last script
	shown  []string // events of the cluster that the log has

	mu   sync.Mutex
	used map[string]job.Usage // by container, after its last script
}

func newPlace(d *Driver, r executor.Request) *place {
	p := &place{d: d, c: &d.o.Config, r: r, run: strings.ToLower(rand.Text()), used: map[string]job.Usage{}}
	base := objectName(fmt.Sprintf("runner-%s-project-%d-concurrent-%d", r.Runner.Short, r.Spec.Info.ProjectID, r.ConcurrentProject))
	p.base = strings.TrimRight(base[:min(len(base), 63-9)], "-")
	p.rename()
	p.scripts, p.logs = p.ownDir(p.expand(p.c.ScriptsBaseDir), "scripts"), p.ownDir(p.expand(p.c.LogsBaseDir), "logs")
	return p
}

// rename gives the pod a name that no other has.
func (p *place) rename() { p.name = p.base + "-" + strings.ToLower(rand.Text()[:8]) }

// open makes the pod and waits until it takes scripts.
func (p *place) open(ctx context.Context) error {
	p.stage("prepare")
	a, own, err := p.d.api()
	if err != nil {
		return err
	}
	p.api = a
	p.namespace = cmp.Or(p.expand(p.c.Namespace), own)
	if p.c.NamespacePerJob {
		p.namespace, p.ownNamespace = "ci-job-"+p.r.Spec.ID.String(), true
	}
	if p.namespace == "" {
		p.warn("Namespace is empty, therefore assuming 'default'.")
		p.namespace = "default"
	}
	if p.over, err = p.overwrite(); err != nil {
		return err
	}
	p.namespace = p.over.namespace
	if p.over.token != "" {
		if p.api, _, err = connect(p.c, p.over.token.Reveal(), p.d.o.Bus); err != nil {
			return executor.Misconfigured("connecting to the Kubernetes API server: %w", err)
		}
	} else if err := p.d.permitted(ctx, p.api, p.namespace); err != nil {
		return err
	}
	p.say("Using Kubernetes namespace: %s", p.namespace)
	if err := p.plan(); err != nil {
		return err
	}
	if p.ownNamespace {
		if err := p.makeNamespace(ctx); err != nil {
			return err
		}
	}
	if err := p.available(ctx); err != nil {
		return err
	}
	for {
		err := p.start(ctx)
		if err == nil {
			break
		}
		if !p.nextPolicy(err) {
			return err
		}
		if err := p.removePod(ctx, nil); err != nil {
			return err
		}
		p.rename()
	}
	p.stage("prepare")
	return p.awaitServices(ctx)
}

// start makes the pod once and waits for it.
func (p *place) start(ctx context.Context) error {
	if p.r.Claim != nil {
		if err := p.r.Claim(p.claim()); err != nil {
			return fmt.Errorf("remembering the job's pod: %w", err)
		}
	}
	p.claimed = true
	p.secret = p.pullSecret(ctx)
	if p.secret != nil {
		if err := p.api.create(ctx, core(p.namespace, "secrets"), p.secret.Name, p.secret, nil); err != nil {
			return p.refusedBy("making the secret of the registries", err)
		}
	}
	pod, err := p.pod()
	if err != nil {
		return err
	}
	began := time.Now()
	made := &corev1.Pod{}
	if err := p.api.create(ctx, core(p.namespace, "pods"), p.name, pod, made); err != nil {
		return p.refusedBy("making the pod", err)
	}
	p.uid = string(made.UID)
	p.d.o.Bus.Emit(ctx, event.PodReached{Stage: event.PodCreated, Took: time.Since(began)})
	if err := p.belongings(ctx, made); err != nil {
		return err
	}
	return p.await(ctx)
}

// refusedBy makes the error of an object that the API server would not make.
func (p *place) refusedBy(what string, err error) error {
	err = fmt.Errorf("%s: %w", what, err)
	if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsNotFound(err) {
		return &podError{reason: event.PodRefused, job: job.ConfigurationError, err: err}
	}
	return &podError{reason: event.PodRefused, err: err}
}

// belongings makes the pod the owner of what was made with it, so that the
// cluster removes that with the pod, whatever becomes of this process.
func (p *place) belongings(ctx context.Context, pod *corev1.Pod) error {
	owner := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}}
	if p.secret != nil {
		patch := map[string]any{"metadata": map[string]any{"ownerReferences": owner}}
		if err := p.api.merge(ctx, core(p.namespace, "secrets", p.secret.Name), patch); err != nil {
			return fmt.Errorf("making the pod the owner of its secret: %w", err)
		}
	}
	if on := p.c.PodDisruptionBudget; on != nil && *on {
		one := intstr.FromInt(1)
		b := &policyv1.PodDisruptionBudget{Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: &one, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{jobPrefix + "pod": p.name}},
		}}
		b.Kind, b.APIVersion = "PodDisruptionBudget", "policy/v1"
		b.Name, b.Namespace, b.OwnerReferences, b.Labels = p.name+"-pdb", p.namespace, owner, pod.Labels
		at := path.Join("/apis/policy/v1/namespaces", p.namespace, "poddisruptionbudgets")
		if err := p.api.create(ctx, at, b.Name, b, nil); err != nil {
			return fmt.Errorf("making the pod's disruption budget: %w", err)
		}
	}
	return nil
}

func (p *place) makeNamespace(ctx context.Context) error {
	if p.r.Claim != nil {
		if err := p.r.Claim(p.claim()); err != nil {
			return fmt.Errorf("remembering the job's namespace: %w", err)
		}
	}
	p.claimed = true
	n := &corev1.Namespace{}
	n.Kind, n.APIVersion, n.Name, n.Labels = "Namespace", "v1", p.namespace, p.labels()
	if err := p.api.create(ctx, "/api/v1/namespaces", n.Name, n, nil); err != nil {
		return p.refusedBy("making the job's namespace", err)
	}
	return nil
}

// available waits for the service account and the secrets that the pod names:
// in a new cluster they may come a moment later.
func (p *place) available(ctx context.Context) error {
	attempts := p.c.ResourceAvailabilityCheckMaxAttempts
	if attempts <= 0 {
		attempts = 5
	}
	type object struct{ kind, resource, name string }
	var wanted []object
	if p.over.serviceAccount != "" {
		wanted = append(wanted, object{"ServiceAccount", "serviceaccounts", p.over.serviceAccount})
	}
	if !p.c.UseServiceAccountImagePullSecrets {
		for _, s := range p.c.ImagePullSecrets {
			wanted = append(wanted, object{"ImagePullSecret", "secrets", p.expand(s)})
		}
	}
	for _, w := range wanted {
		for try := 1; ; try++ {
			err := p.api.get(ctx, core(p.namespace, w.resource, w.name), nil)
			if err == nil {
				break
			}
			if !apierrors.IsNotFound(err) {
				return p.refusedBy("looking for "+w.kind+"/"+w.name, err)
			}
			if try >= attempts {
				return executor.Misconfigured("Timed out while waiting for %s/%s to be present in the cluster", w.kind, w.name)
			}
			if pause.For(ctx, 5*time.Second) != nil {
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// allowed refuses an image that the configuration does not allow. What the
// configuration itself names always is. what is "images" or "services".
func (p *place) allowed(what, name string, patterns, own []string) error {
	l := image.List{Key: "`allowed_" + what + "` of [runners.kubernetes]", What: what, Patterns: patterns, Own: own}
	if err := l.Check(name, func(line string) { p.say("%s", line) }); err != nil {
		return executor.Misconfigured("%w", err)
	}
	return nil
}

// awaitServices waits until every service that names a port accepts a
// connection.
func (p *place) awaitServices(ctx context.Context) error {
	var script strings.Builder
	for _, s := range p.services {
		if s.port != "" {
			fmt.Fprintf(&script, "WAIT_FOR_SERVICE_TCP_ADDR=127.0.0.1 WAIT_FOR_SERVICE_%s_TCP_PORT=%s %s health-check\n", s.port, s.port, helperCommand)
		}
	}
	if script.Len() == 0 {
		return nil
	}
	p.say("Waiting for services to be up and running...")
	began := time.Now()
	err := p.Run(ctx, executor.Command{In: executor.Helper, Script: []byte("set -e\n" + script.String()), Stdout: p.r.Log, Stderr: p.r.Log})
	p.d.o.Bus.Emit(ctx, event.ServiceReady{Took: time.Since(began), OK: err == nil})
	if exit, ok := errors.AsType[*executor.ExitError](err); ok {
		return fmt.Errorf("the services are not up: %w", exit)
	}
	return err
}

// Close removes the pod and what belongs to it.
func (p *place) Close(ctx context.Context) error {
	if p.api == nil || !p.claimed {
		return nil
	}
	p.stage("cleanup")
	err := p.removePod(ctx, grace(p.c))
	if err == nil && p.ownNamespace {
		err = p.api.remove(ctx, path.Join("/api/v1/namespaces", p.namespace), nil)
	}
	if err != nil {
		return fmt.Errorf("Error cleaning up pod: %w", err)
	}
	p.claimed = false
	return nil
}

// removePod deletes the pod and its secret, and waits until what ran the job
// is at an end. Services may take their grace period after that.
func (p *place) removePod(ctx context.Context, grace *int64) error {
	if p.secret != nil {
		if err := p.api.remove(ctx, core(p.namespace, "secrets", p.secret.Name), nil); err != nil {
			return err
		}
	}
	_, err := p.d.end(ctx, p.api, p.namespace, p.name, grace)
	return err
}

// end deletes a pod and waits until its job's containers have ended. It says
// whether there was one.
func (d *Driver) end(ctx context.Context, a *api, namespace, name string, grace *int64) (bool, error) {
	at := core(namespace, "pods", name)
	pod := &corev1.Pod{}
	switch err := a.get(ctx, at, pod); {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, err
	case pod.DeletionTimestamp != nil && ended(pod):
		return false, nil // it is only its record that is still there
	}
	if err := a.remove(ctx, at, grace); err != nil {
		return false, err
	}
	uid := pod.UID
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		pod := &corev1.Pod{}
		err := a.get(ctx, at, pod)
		if apierrors.IsNotFound(err) || err == nil && (pod.UID != uid || ended(pod)) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if pause.For(ctx, wait) != nil {
			return false, fmt.Errorf("the pod %s/%s is being deleted and has not ended yet: %w", namespace, name, context.Cause(ctx))
		}
	}
}

// ended reports whether the containers of the job itself have ended.
func ended(pod *corev1.Pod) bool {
	if pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return true
	}
	if len(pod.Status.ContainerStatuses) == 0 {
		return false
	}
	for _, s := range pod.Status.ContainerStatuses {
		if (s.Name == buildContainer || s.Name == helperContainer) && s.State.Running != nil {
			return false
		}
	}
	return true
}

// remains removes what a job of an earlier process left.
func (d *Driver) remains(ctx context.Context, a *api, name, namespace string, own bool) (int, error) {
	n := 0
	if err := a.remove(ctx, core(namespace, "secrets", name), nil); err != nil && !apierrors.IsForbidden(err) {
		return 0, err
	}
	there, err := d.end(ctx, a, namespace, name, grace(&d.o.Config))
	if err != nil {
		return 0, err
	}
	if there {
		n++
	}
	if own {
		if err := a.remove(ctx, path.Join("/api/v1/namespaces", namespace), nil); err != nil {
			return n, err
		}
	}
	return n, nil
}

// Disks are those of the cluster's nodes, which this machine does not see.
func (d *Driver) Disks(context.Context) ([]executor.Disk, error) { return nil, nil }

// Leftovers returns the pods that carry the mark of this runner's state
// directory, in the namespace of the configuration.
func (d *Driver) Leftovers(ctx context.Context, _ []executor.Claim) ([]executor.Leftover, error) {
	if d.o.Owner == "" {
		return nil, nil
	}
	a, own, err := d.api()
	if err != nil {
		return nil, err
	}
	namespace := cmp.Or(d.o.Config.Namespace, own, "default")
	if d.o.Config.NamespacePerJob || strings.ContainsRune(namespace, '$') {
		return nil, nil // no single namespace has them; claims name them
	}
	var pods metav1.PartialObjectMetadataList
	err = a.list(ctx, core(namespace, "pods"), url.Values{"labelSelector": {ownerLabel + "=" + labelValue(d.o.Owner)}}, &pods)
	if err != nil {
		return nil, fmt.Errorf("looking for pods that dead jobs left: %w", err)
	}
	var found []executor.Leftover
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp != nil {
			continue
		}
		p := &place{c: &d.o.Config, name: pod.Name, namespace: namespace, run: pod.Labels[runLabel]}
		found = append(found, executor.Leftover{Kind: "container", ID: string(pod.UID), Since: pod.CreationTimestamp.Time, Claim: p.claim()})
	}
	return found, nil
}

// Usage returns what the containers of the job had used when their last script
// ended.
func (p *place) Usage(context.Context) (job.Usage, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var u job.Usage
	for _, c := range []string{buildContainer, helperContainer} {
		one := p.used[c]
		u.CPU, u.Throttled = u.CPU.Plus(one.CPU), u.Throttled.Plus(one.Throttled)
		u.MemoryPeak = u.MemoryPeak.Max(one.MemoryPeak)
		u.OOMKills = u.OOMKills.Plus(one.OOMKills)
		u.OOMKilled = append(u.OOMKilled, one.OOMKilled...)
	}
	return u, nil
}
