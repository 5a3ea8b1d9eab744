package kubernetes

import (
	"context"
	"fmt"
	"strings"

	authv1 "k8s.io/api/authorization/v1"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/executor"
)

// permission is one that the runner's account needs.
type permission struct{ verb, group, resource, sub string }

func (n permission) String() string {
	name := n.resource
	if n.sub != "" {
		name += "/" + n.sub
	}
	if n.group != "" {
		name += "." + n.group
	}
	return n.verb + " " + name
}

// needed are the permissions without which a configuration cannot run jobs.
// Listing events and pods makes more to be seen, but is not needed.
func needed(c *config.Kubernetes) []permission {
	list := []permission{
		{verb: "create", resource: "pods"}, {verb: "get", resource: "pods"}, {verb: "delete", resource: "pods"},
		// WebSockets are opened by GET, SPDY's streams by POST.
		{verb: "create", resource: "pods", sub: "exec"}, {verb: "get", resource: "pods", sub: "exec"},
	}
	if !c.UseServiceAccountImagePullSecrets {
		for _, verb := range []string{"create", "delete", "patch"} {
			list = append(list, permission{verb: verb, resource: "secrets"})
		}
		if len(c.ImagePullSecrets) > 0 {
			list = append(list, permission{verb: "get", resource: "secrets"})
		}
	}
	if c.ServiceAccount != "" || c.ServiceAccountOverwriteAllowed != "" {
		list = append(list, permission{verb: "get", resource: "serviceaccounts"})
	}
	if c.PodDisruptionBudget != nil && *c.PodDisruptionBudget {
		list = append(list, permission{verb: "create", group: "policy", resource: "poddisruptionbudgets"})
	}
	if c.NamespacePerJob {
		list = append(list, permission{verb: "create", resource: "namespaces"}, permission{verb: "delete", resource: "namespaces"})
	}
	return list
}

// permitted asks the API server, once for each namespace, whether this
// process may do what it will have to.
func (d *Driver) permitted(ctx context.Context, a *api, namespace string) error {
	key := namespace
	if d.o.Config.NamespacePerJob {
		key = ""
	}
	d.mu.Lock()
	known := d.checked[key]
	d.mu.Unlock()
	if known {
		return nil
	}
	var missing []string
	for _, n := range needed(&d.o.Config) {
		in := namespace
		if n.resource == "namespaces" {
			in = ""
		}
		review := &authv1.SelfSubjectAccessReview{Spec: authv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authv1.ResourceAttributes{
			Namespace: in, Verb: n.verb, Group: n.group, Resource: n.resource, Subresource: n.sub,
		}}}
		review.Kind, review.APIVersion = "SelfSubjectAccessReview", "authorization.k8s.io/v1"
		if err := a.create(ctx, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "", review, review); err != nil {
			return fmt.Errorf("asking for the permissions of the runner: %w", err)
		}
		if !review.Status.Allowed {
			missing = append(missing, n.String())
		}
	}
	if len(missing) > 0 {
		return executor.Misconfigured("the runner's account in the cluster lacks permissions in the namespace %q: %s", namespace, strings.Join(missing, ", "))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.checked[key] = true
	return nil
}
