package kubernetes

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/glassrunner/glassrunner/internal/config"
)

func podSecurity(c *config.PodSecurityContext) *corev1.PodSecurityContext {
	if c == nil {
		return nil
	}
	out := &corev1.PodSecurityContext{
		FSGroup: c.FSGroup, RunAsGroup: c.RunAsGroup, RunAsNonRoot: c.RunAsNonRoot, RunAsUser: c.RunAsUser,
		SupplementalGroups: c.SupplementalGroups, SeccompProfile: seccomp(c.SeccompProfile), AppArmorProfile: appArmor(c.AppArmorProfile),
	}
	if c.SELinuxType != "" {
		out.SELinuxOptions = &corev1.SELinuxOptions{Type: c.SELinuxType}
	}
	return out
}

func seccomp(p *config.Profile) *corev1.SeccompProfile {
	if p == nil || p.Type == "" {
		return nil
	}
	out := &corev1.SeccompProfile{Type: corev1.SeccompProfileType(p.Type)}
	if p.LocalhostProfile != "" {
		out.LocalhostProfile = &p.LocalhostProfile
	}
	return out
}

func appArmor(p *config.Profile) *corev1.AppArmorProfile {
	if p == nil || p.Type == "" {
		return nil
	}
	out := &corev1.AppArmorProfile{Type: corev1.AppArmorProfileType(p.Type)}
	if p.LocalhostProfile != "" {
		out.LocalhostProfile = &p.LocalhostProfile
	}
	return out
}

// security is the security context of a container: its own section before the
// settings for all containers.
func (p *place) security(c *config.ContainerSecurityContext) *corev1.SecurityContext {
	out := &corev1.SecurityContext{
		Privileged: p.c.Privileged, AllowPrivilegeEscalation: p.c.AllowPrivilegeEscalation, Capabilities: &corev1.Capabilities{},
	}
	add, drop := p.c.CapAdd, p.c.CapDrop
	if c != nil {
		if c.Privileged != nil {
			out.Privileged = c.Privileged
		}
		if c.AllowPrivilegeEscalation != nil {
			out.AllowPrivilegeEscalation = c.AllowPrivilegeEscalation
		}
		out.RunAsUser, out.RunAsGroup, out.RunAsNonRoot = c.RunAsUser, c.RunAsGroup, c.RunAsNonRoot
		out.ReadOnlyRootFilesystem = c.ReadOnlyRootFilesystem
		out.SeccompProfile, out.AppArmorProfile = seccomp(c.SeccompProfile), appArmor(c.AppArmorProfile)
		if c.SELinuxType != "" {
			out.SELinuxOptions = &corev1.SELinuxOptions{Type: c.SELinuxType}
		}
		if c.ProcMount != "" {
			mount := corev1.ProcMountType(c.ProcMount)
			out.ProcMount = &mount
		}
		if c.Capabilities != nil {
			add, drop = append(slices.Clone(add), c.Capabilities.Add...), append(slices.Clone(drop), c.Capabilities.Drop...)
		}
	}
	out.Capabilities.Add, out.Capabilities.Drop = capabilities(add, drop)
	return out
}

// capabilities drops NET_RAW unless it is wanted; what is added is not dropped.
func capabilities(add, drop []string) (added, dropped []corev1.Capability) {
	wanted := map[string]bool{"NET_RAW": false}
	for _, c := range drop {
		wanted[strings.ToUpper(c)] = false
	}
	for _, c := range add {
		wanted[strings.ToUpper(c)] = true
	}
	for _, c := range slices.Sorted(maps.Keys(wanted)) {
		if wanted[c] {
			added = append(added, corev1.Capability(c))
		} else {
			dropped = append(dropped, corev1.Capability(c))
		}
	}
	return added, dropped
}

// asUser gives a container the user that the job asks for, uid[:gid], unless
// the configuration says who it is. What is not allowed is told and ignored.
func (p *place) asUser(s *corev1.SecurityContext, wanted, what string) {
	pod := p.c.PodSecurityContext
	if wanted = p.expand(wanted); wanted == "" || s.RunAsUser != nil || pod != nil && pod.RunAsUser != nil {
		return
	}
	user, group, both := strings.Cut(wanted, ":")
	uid, err := strconv.ParseInt(user, 10, 64)
	if err != nil || uid < 0 || !allowedID(user, p.c.AllowedUsers) {
		p.warn("The user %q of %s is not used: it is no number, or allowed_users of the runner's configuration does not name it.", wanted, what)
		return
	}
	s.RunAsUser = &uid
	if !both || s.RunAsGroup != nil || pod != nil && pod.RunAsGroup != nil {
		return
	}
	gid, err := strconv.ParseInt(group, 10, 64)
	if err != nil || gid < 0 || !allowedID(group, p.c.AllowedGroups) {
		p.warn("The group %q of %s is not used: it is no number, or allowed_groups of the runner's configuration does not name it.", group, what)
		return
	}
	s.RunAsGroup = &gid
}

// allowedID: root has to be named, others only when there is a list.
func allowedID(id string, list []string) bool {
	return slices.Contains(list, id) || len(list) == 0 && strings.Trim(id, "0") != ""
}

func lifecycle(c *config.ContainerLifecycle) *corev1.Lifecycle {
	if c == nil || c.PostStart == nil && c.PreStop == nil {
		return nil
	}
	return &corev1.Lifecycle{PostStart: handler(c.PostStart), PreStop: handler(c.PreStop)}
}

func handler(h *config.LifecycleHandler) *corev1.LifecycleHandler {
	if h == nil {
		return nil
	}
	out := &corev1.LifecycleHandler{}
	if h.Exec != nil {
		out.Exec = &corev1.ExecAction{Command: h.Exec.Command}
	}
	if g := h.HTTPGet; g != nil {
		out.HTTPGet = &corev1.HTTPGetAction{Host: g.Host, Path: g.Path, Port: intstr.FromInt(g.Port), Scheme: corev1.URIScheme(g.Scheme)}
		for _, header := range g.HTTPHeaders {
			out.HTTPGet.HTTPHeaders = append(out.HTTPGet.HTTPHeaders, corev1.HTTPHeader{Name: header.Name, Value: header.Value})
		}
	}
	if t := h.TCPSocket; t != nil {
		out.TCPSocket = &corev1.TCPSocketAction{Host: t.Host, Port: intstr.FromInt(t.Port)}
	}
	return out
}

func affinity(a *config.Affinity) *corev1.Affinity {
	if a == nil {
		return nil
	}
	out := &corev1.Affinity{}
	if n := a.NodeAffinity; n != nil {
		out.NodeAffinity = &corev1.NodeAffinity{}
		if n.Required != nil {
			out.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{}
			for _, t := range n.Required.NodeSelectorTerms {
				s := out.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
				s.NodeSelectorTerms = append(s.NodeSelectorTerms, term(t))
			}
		}
		for _, w := range n.Preferred {
			out.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution = append(out.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution,
				corev1.PreferredSchedulingTerm{Weight: int32(w.Weight), Preference: term(w.Preference)})
		}
	}
	if a.PodAffinity != nil {
		required, preferred := podTerms(a.PodAffinity)
		out.PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: required, PreferredDuringSchedulingIgnoredDuringExecution: preferred}
	}
	if a.PodAntiAffinity != nil {
		required, preferred := podTerms(a.PodAntiAffinity)
		out.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: required, PreferredDuringSchedulingIgnoredDuringExecution: preferred}
	}
	return out
}

func term(t config.NodeSelectorTerm) corev1.NodeSelectorTerm {
	return corev1.NodeSelectorTerm{MatchExpressions: requirements(t.MatchExpressions), MatchFields: requirements(t.MatchFields)}
}

func requirements(list []config.MatchExpression) []corev1.NodeSelectorRequirement {
	var out []corev1.NodeSelectorRequirement
	for _, e := range list {
		out = append(out, corev1.NodeSelectorRequirement{Key: e.Key, Operator: corev1.NodeSelectorOperator(e.Operator), Values: e.Values})
	}
	return out
}

func podTerms(a *config.PodAffinity) (required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
	for _, t := range a.Required {
		required = append(required, podTerm(t))
	}
	for _, w := range a.Preferred {
		preferred = append(preferred, corev1.WeightedPodAffinityTerm{Weight: int32(w.Weight), PodAffinityTerm: podTerm(w.PodAffinityTerm)})
	}
	return required, preferred
}

func podTerm(t config.PodAffinityTerm) corev1.PodAffinityTerm {
	return corev1.PodAffinityTerm{
		LabelSelector: labelSelector(t.LabelSelector), Namespaces: t.Namespaces, TopologyKey: t.TopologyKey,
		NamespaceSelector: labelSelector(t.NamespaceSelector), MatchLabelKeys: t.MatchLabelKeys, MismatchLabelKeys: t.MismatchLabelKeys,
	}
}

func labelSelector(s *config.LabelSelector) *metav1.LabelSelector {
	if s == nil {
		return nil
	}
	out := &metav1.LabelSelector{MatchLabels: s.MatchLabels}
	for _, e := range s.MatchExpressions {
		out.MatchExpressions = append(out.MatchExpressions, metav1.LabelSelectorRequirement{Key: e.Key, Operator: metav1.LabelSelectorOperator(e.Operator), Values: e.Values})
	}
	return out
}
