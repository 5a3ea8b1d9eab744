package kubernetes

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

// overwrites are what jobs may choose by variables, after they chose.
type overwrites struct {
	namespace      string
	serviceAccount string
	token          job.Secret
	labels         map[string]string
	annotations    map[string]string
	nodeSelector   map[string]string
	tolerations    map[string]string // as node_tolerations
	build          corev1.ResourceRequirements
	service        corev1.ResourceRequirements
	helper         corev1.ResourceRequirements
	pod            corev1.ResourceRequirements
}

// amount is one quantity of the configuration that a job may change.
type amount struct {
	variable   string // without KUBERNETES_
	value, max string
	limit      bool // else a request
	resource   corev1.ResourceName
}

// The four scopes of resources.
func buildAmounts(c *config.Kubernetes) []amount {
	return []amount{
		{"CPU_LIMIT", c.CPULimit, c.CPULimitOverwriteMaxAllowed, true, corev1.ResourceCPU},
		{"CPU_REQUEST", c.CPURequest, c.CPURequestOverwriteMaxAllowed, false, corev1.ResourceCPU},
		{"MEMORY_LIMIT", c.MemoryLimit, c.MemoryLimitOverwriteMaxAllowed, true, corev1.ResourceMemory},
		{"MEMORY_REQUEST", c.MemoryRequest, c.MemoryRequestOverwriteMaxAllowed, false, corev1.ResourceMemory},
		{"EPHEMERAL_STORAGE_LIMIT", c.EphemeralStorageLimit, c.EphemeralStorageLimitOverwriteMaxAllowed, true, corev1.ResourceEphemeralStorage},
		{"EPHEMERAL_STORAGE_REQUEST", c.EphemeralStorageRequest, c.EphemeralStorageRequestOverwriteMaxAllowed, false, corev1.ResourceEphemeralStorage},
	}
}

func serviceAmounts(c *config.Kubernetes) []amount {
	return []amount{
		{"SERVICE_CPU_LIMIT", c.ServiceCPULimit, c.ServiceCPULimitOverwriteMaxAllowed, true, corev1.ResourceCPU},
		{"SERVICE_CPU_REQUEST", c.ServiceCPURequest, c.ServiceCPURequestOverwriteMaxAllowed, false, corev1.ResourceCPU},
		{"SERVICE_MEMORY_LIMIT", c.ServiceMemoryLimit, c.ServiceMemoryLimitOverwriteMaxAllowed, true, corev1.ResourceMemory},
		{"SERVICE_MEMORY_REQUEST", c.ServiceMemoryRequest, c.ServiceMemoryRequestOverwriteMaxAllowed, false, corev1.ResourceMemory},
		{"SERVICE_EPHEMERAL_STORAGE_LIMIT", c.ServiceEphemeralStorageLimit, c.ServiceEphemeralStorageLimitOverwriteMaxAllowed, true, corev1.ResourceEphemeralStorage},
		{"SERVICE_EPHEMERAL_STORAGE_REQUEST", c.ServiceEphemeralStorageRequest, c.ServiceEphemeralStorageRequestOverwriteMaxAllowed, false, corev1.ResourceEphemeralStorage},
	}
}

func helperAmounts(c *config.Kubernetes) []amount {
	return []amount{
		{"HELPER_CPU_LIMIT", c.HelperCPULimit, c.HelperCPULimitOverwriteMaxAllowed, true, corev1.ResourceCPU},
		{"HELPER_CPU_REQUEST", c.HelperCPURequest, c.HelperCPURequestOverwriteMaxAllowed, false, corev1.ResourceCPU},
		{"HELPER_MEMORY_LIMIT", c.HelperMemoryLimit, c.HelperMemoryLimitOverwriteMaxAllowed, true, corev1.ResourceMemory},
		{"HELPER_MEMORY_REQUEST", c.HelperMemoryRequest, c.HelperMemoryRequestOverwriteMaxAllowed, false, corev1.ResourceMemory},
		{"HELPER_EPHEMERAL_STORAGE_LIMIT", c.HelperEphemeralStorageLimit, c.HelperEphemeralStorageLimitOverwriteMaxAllowed, true, corev1.ResourceEphemeralStorage},
		{"HELPER_EPHEMERAL_STORAGE_REQUEST", c.HelperEphemeralStorageRequest, c.HelperEphemeralStorageRequestOverwriteMaxAllowed, false, corev1.ResourceEphemeralStorage},
	}
}

func podAmounts(c *config.Kubernetes) []amount {
	return []amount{
		{"POD_CPU_LIMIT", c.PodCPULimit, c.PodCPULimitOverwriteMaxAllowed, true, corev1.ResourceCPU},
		{"POD_CPU_REQUEST", c.PodCPURequest, c.PodCPURequestOverwriteMaxAllowed, false, corev1.ResourceCPU},
		{"POD_MEMORY_LIMIT", c.PodMemoryLimit, c.PodMemoryLimitOverwriteMaxAllowed, true, corev1.ResourceMemory},
		{"POD_MEMORY_REQUEST", c.PodMemoryRequest, c.PodMemoryRequestOverwriteMaxAllowed, false, corev1.ResourceMemory},
	}
}

// checkConfig says what in the configuration no cluster would take.
func checkConfig(c *config.Kubernetes) error {
	for _, list := range [][]amount{buildAmounts(c), serviceAmounts(c), helperAmounts(c), podAmounts(c)} {
		for _, a := range list {
			for key, text := range map[string]string{"": a.value, "_overwrite_max_allowed": a.max} {
				if text == "" {
					continue
				}
				if _, err := resource.ParseQuantity(text); err != nil {
					return fmt.Errorf("%s%s = %q: %w", strings.ToLower(a.variable), key, text, err)
				}
			}
		}
	}
	for key, text := range map[string]string{
		"namespace_overwrite_allowed": c.NamespaceOverwriteAllowed, "service_account_overwrite_allowed": c.ServiceAccountOverwriteAllowed,
		"pod_labels_overwrite_allowed": c.PodLabelsOverwriteAllowed, "pod_annotations_overwrite_allowed": c.PodAnnotationsOverwriteAllowed,
		"node_selector_overwrite_allowed": c.NodeSelectorOverwriteAllowed, "node_tolerations_overwrite_allowed": c.NodeTolerationsOverwriteAllowed,
	} {
		if _, err := regexp.Compile(text); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	for i, p := range c.PodSpec {
		if p.Patch != "" && p.PatchPath != "" {
			return fmt.Errorf("pod_spec[%d] %q: give patch or patch_path, not both", i, p.Name)
		}
	}
	return nil
}

// overwrite reads what a job chose, and refuses what it may not choose.
func (p *place) overwrite() (*overwrites, error) {
	c := p.c
	o := &overwrites{namespace: p.namespace, serviceAccount: p.expand(c.ServiceAccount)}
	var err error
	if !c.NamespacePerJob {
		if o.namespace, err = p.chosen("Namespace", "KUBERNETES_NAMESPACE_OVERWRITE", o.namespace, c.NamespaceOverwriteAllowed); err != nil {
			return nil, err
		}
	}
	if o.serviceAccount, err = p.chosen("ServiceAccount", "KUBERNETES_SERVICE_ACCOUNT_OVERWRITE", o.serviceAccount, c.ServiceAccountOverwriteAllowed); err != nil {
		return nil, err
	}
	if v := p.r.Variables.Value("KUBERNETES_BEARER_TOKEN"); v != "" && c.BearerTokenOverwriteAllowed {
		o.token = job.Secret(v)
		p.say("%q overwritten with %q", "BearerToken", "XXXXXXXX...")
	}
	tables := []struct {
		field, prefix, allowed string
		from                   map[string]string
		into                   *map[string]string
		split                  func(string) (string, string, bool)
	}{
		{"PodLabels", "KUBERNETES_POD_LABELS_", c.PodLabelsOverwriteAllowed, c.PodLabels, &o.labels, pair},
		{"PodAnnotations", "KUBERNETES_POD_ANNOTATIONS_", c.PodAnnotationsOverwriteAllowed, c.PodAnnotations, &o.annotations, pair},
		{"NodeSelector", "KUBERNETES_NODE_SELECTOR_", c.NodeSelectorOverwriteAllowed, c.NodeSelector, &o.nodeSelector, pair},
		{"NodeTolerations", "KUBERNETES_NODE_TOLERATIONS_", c.NodeTolerationsOverwriteAllowed, c.NodeTolerations, &o.tolerations, toleration},
	}
	for _, m := range tables {
		if *m.into, err = p.merged(m.field, m.prefix, m.allowed, m.from, m.split); err != nil {
			return nil, err
		}
	}
	for _, s := range []struct {
		list []amount
		into *corev1.ResourceRequirements
	}{{buildAmounts(c), &o.build}, {serviceAmounts(c), &o.service}, {helperAmounts(c), &o.helper}, {podAmounts(c), &o.pod}} {
		if *s.into, err = p.resources(s.list, p.r.Variables, true); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// refused makes the error of an overwrite that is not allowed.
func refused(format string, args ...any) error {
	return executor.Misconfigured("couldn't prepare overwrites: %w", fmt.Errorf(format, args...))
}

// chosen is the value of a variable if the configuration allows it.
func (p *place) chosen(field, variable, value, allowed string) (string, error) {
	v := p.expand(p.r.Variables.Value(variable))
	if v == "" || allowed == "" {
		return value, nil
	}
	if err := matches(v, allowed); err != nil {
		return "", refused("%s: %w", variable, err)
	}
	p.say("%q overwritten with %q", field, v)
	return v, nil
}

func matches(value, allowed string) error {
	re, err := regexp.Compile(allowed)
	if err != nil {
		return err
	}
	if !re.MatchString(value) {
		return fmt.Errorf("the value %q does not match %q", value, allowed)
	}
	return nil
}

// merged adds the values of variables of a prefix to a table.
func (p *place) merged(field, prefix, allowed string, from map[string]string, split func(string) (string, string, bool)) (map[string]string, error) {
	out := map[string]string{}
	for k, v := range from {
		out[p.expand(k)] = p.expand(v)
	}
	if allowed == "" {
		return out, nil
	}
	found := map[string]string{}
	for _, v := range p.r.Variables {
		if strings.HasPrefix(v.Key, prefix) {
			found[v.Key] = p.expand(p.r.Variables.Value(v.Key))
		}
	}
	for _, name := range sorted(found) {
		value := found[name]
		if value == "" {
			continue
		}
		if err := matches(value, allowed); err != nil {
			return nil, refused("%s: %w", name, err)
		}
		k, v, ok := split(value)
		if !ok {
			return nil, refused("%s: %q is not of the form key=value", name, value)
		}
		out[k] = v
		p.say("%q overwritten with %q", field, value)
	}
	return out, nil
}

func pair(s string) (string, string, bool) {
	k, v, ok := strings.Cut(s, "=")
	return k, v, ok && k != ""
}

// toleration reads key[=value][:effect] into an entry of node_tolerations.
func toleration(s string) (string, string, bool) {
	k, effect, _ := strings.Cut(s, ":")
	return k, effect, k != "" && !strings.HasPrefix(k, "=")
}

// resources are requests and limits of a scope. A job may choose what has a
// maximum, up to it.
func (p *place) resources(list []amount, vars job.Variables, tell bool) (corev1.ResourceRequirements, error) {
	var out corev1.ResourceRequirements
	for _, a := range list {
		value := a.value
		name := "KUBERNETES_" + a.variable
		if v := p.r.Variables.Expand(vars.Value(name), nil); v != "" && a.max != "" {
			most, err := resource.ParseQuantity(a.max)
			if err != nil {
				return out, refused("%s: %w", name, err)
			}
			want, err := resource.ParseQuantity(v)
			if err != nil {
				return out, refused("%s = %q: %w", name, v, err)
			}
			if want.Cmp(most) > 0 {
				return out, refused("%s = %q is more than the largest that is allowed, %q", name, v, a.max)
			}
			value = v
			if tell {
				p.say("%q overwritten with %q", camel(a.variable), v)
			}
		}
		if value == "" {
			continue
		}
		q, err := resource.ParseQuantity(value)
		if err != nil {
			return out, refused("%s = %q: %w", strings.ToLower(a.variable), value, err)
		}
		into := &out.Requests
		if a.limit {
			into = &out.Limits
		}
		if *into == nil {
			*into = corev1.ResourceList{}
		}
		(*into)[a.resource] = q
	}
	return out, nil
}

// camel turns SERVICE_CPU_LIMIT into ServiceCPULimit.
func camel(s string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(s, "_") {
		if word != "CPU" {
			word = word[:1] + strings.ToLower(word[1:])
		}
		b.WriteString(word)
	}
	return b.String()
}

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
