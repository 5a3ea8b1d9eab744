package kubernetes

import (
	"cmp"
	_ "embed"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/image"
	"github.com/glassrunner/glassrunner/internal/job"
)

// Names of the two containers that every pod has, and of the one that makes
// their pipes.
const (
	buildContainer  = "build"
	helperContainer = "helper"
	initContainer   = "init-permissions"
)

// Labels and annotations. Those below runner.gitlab.com are GitLab Runner's, so
// that what people wrote against its pods goes on working.
const (
	projectPrefix = "project.runner.gitlab.com/"
	jobPrefix     = "job.runner.gitlab.com/"
	managerPrefix = "manager.runner.gitlab.com/"
	// ownerLabel marks the pods of one state directory.
	ownerLabel = "glassrunner/owner"
	// runLabel names the run of a job that an object is of.
	runLabel = "glassrunner/run"
)

//go:embed supervise.sh
var superviseScript string

//go:embed follow.sh
var followScript string

// origin is the image that a container is made of.
type origin struct {
	container string // its container's name
	name      string
	policies  []image.Policy // to be tried in this order; none: the cluster's default
}

// policy is the one that counts now.
func (o *origin) policy() corev1.PullPolicy {
	if len(o.policies) == 0 {
		return ""
	}
	switch o.policies[0] {
	case image.Always:
		return corev1.PullAlways
	case image.IfNotPresent:
		return corev1.PullIfNotPresent
	case image.Never:
		return corev1.PullNever
	default:
		return ""
	}
}

// pullPolicies are those that a job wants, or else the configuration's, as far
// as the configuration allows them.
func (p *place) pullPolicies(name string, wanted []string) ([]image.Policy, error) {
	out, err := image.Policies{Configured: p.c.PullPolicy, Allowed: p.c.AllowedPullPolicies}.Choose(name, wanted)
	if err != nil {
		return nil, executor.Misconfigured("%w", err)
	}
	return out, nil
}

// expand replaces variables in text.
func (p *place) expand(text string) string {
	return p.r.Variables.Expand(text, func(key string) string { return p.r.Dirs.Temp + "/" + key })
}

func (p *place) flag(name string) bool {
	on, _ := p.r.Variables.Bool(name, false)
	return on
}

// plan reads all that the configuration and the job say of the pod.
func (p *place) plan() error {
	var err error
	if p.vols, err = p.planVolumes(); err != nil {
		return err
	}
	def := p.expand(p.c.Image)
	name := cmp.Or(p.expand(p.r.Spec.Image.Name), def)
	if name == "" {
		return executor.Misconfigured("no image specified and no default set in config")
	}
	helper := cmp.Or(p.expand(p.c.HelperImage), p.d.o.Helper)
	if err := p.allowed("images", name, p.c.AllowedImages, []string{def, helper}); err != nil {
		return err
	}
	p.say("Using Kubernetes executor with image %s ...", name)
	p.image = origin{container: buildContainer, name: name}
	if p.image.policies, err = p.pullPolicies(name, p.r.Spec.Image.PullPolicy); err != nil {
		return err
	}
	p.helper = origin{container: helperContainer, name: helper}
	if p.c.HelperImage == "" {
		p.helper.policies = []image.Policy{image.IfNotPresent} // it is in no registry
	} else if p.helper.policies, err = p.pullPolicies(helper, nil); err != nil {
		return err
	}
	return p.planServices()
}

// service is a container beside the job's own.
type service struct {
	origin
	index   int
	spec    job.Image
	aliases []string
	port    string // HEALTHCHECK_TCP_PORT, or ""
	out     corev1.ResourceRequirements
}

var label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

var subdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// planServices reads the configuration's services and then the job's.
func (p *place) planServices() error {
	var all []job.Image
	var internal []string
	for _, s := range p.c.Services {
		i := job.Image{Name: s.Name, Aliases: []string{s.Alias}, Command: s.Command, Entrypoint: s.Entrypoint}
		for _, e := range s.Environment {
			if k, v, ok := strings.Cut(e, "="); ok {
				i.Variables = append(i.Variables, job.Variable{Key: k, Value: v})
			}
		}
		all, internal = append(all, i), append(internal, p.expand(s.Name))
	}
	own := len(all)
	all = append(all, p.r.Spec.Services...)
	names := map[string]bool{buildContainer: true, helperContainer: true, initContainer: true}
	unnamed := 0
	for i, spec := range all {
		s := &service{index: i, spec: spec, origin: origin{name: p.expand(spec.Name)}}
		if s.name == "" {
			return executor.Misconfigured("service %d has no image", i+1)
		}
		if i >= own {
			if err := p.allowed("services", s.name, p.c.AllowedServices, internal); err != nil {
				return err
			}
		}
		var err error
		if s.policies, err = p.pullPolicies(s.name, spec.PullPolicy); err != nil {
			return err
		}
		var given []string
		for _, a := range spec.Aliases {
			given = append(given, image.Names(p.expand(a))...)
		}
		for _, a := range given {
			if !subdomain.MatchString(a) || len(a) > 253 {
				return executor.Misconfigured("the alias %q of the service %q is no host name", a, s.name)
			}
			if s.container == "" && label.MatchString(a) && !names[a] {
				s.container = a
			}
		}
		if s.container == "" {
			s.container = fmt.Sprintf("svc-%d", unnamed)
			unnamed++
		}
		names[s.container] = true
		repo, _ := image.Service(s.name)
		for _, a := range image.Aliases(repo, given...) {
			if subdomain.MatchString(a) {
				s.aliases = append(s.aliases, a)
			}
		}
		if s.out, err = p.resources(serviceAmounts(p.c), append(slices.Clone(p.r.Variables), spec.Variables...), false); err != nil {
			return err
		}
		s.port = p.expand(spec.Variables.Value("HEALTHCHECK_TCP_PORT"))
		if s.port != "" {
			if n, err := strconv.Atoi(s.port); err != nil || n < 1 || n > 65535 {
				return executor.Misconfigured("HEALTHCHECK_TCP_PORT of the service %q is no port: %q", s.name, s.port)
			}
		}
		p.services = append(p.services, s)
	}
	return nil
}

// build makes the pod of what was planned.
func (p *place) pod() (*corev1.Pod, error) {
	o := p.over
	pod := &corev1.Pod{}
	pod.Kind, pod.APIVersion = "Pod", "v1"
	pod.Name, pod.Namespace = p.name, p.namespace
	pod.Labels, pod.Annotations = p.labels(), p.annotations()
	links := true
	s := corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever, Volumes: p.vols.list, NodeSelector: o.nodeSelector,
		ServiceAccountName: o.serviceAccount, AutomountServiceAccountToken: p.c.AutomountServiceAccountToken,
		SecurityContext: podSecurity(p.c.PodSecurityContext), SchedulerName: p.c.SchedulerName, PriorityClassName: p.c.PriorityClassName,
		Affinity: affinity(p.c.Affinity), TerminationGracePeriodSeconds: p.c.PodTerminationGracePeriodSeconds,
		EnableServiceLinks: &links, HostAliases: p.hostAliases(),
	}
	if p.c.RuntimeClassName != "" {
		s.RuntimeClassName = &p.c.RuntimeClassName
	}
	if on, _ := p.r.Variables.Bool("FF_USE_POD_ACTIVE_DEADLINE_SECONDS", true); on && p.r.Spec.Timeout > 0 {
		// The cluster ends a pod whose runner is gone.
		deadline := int64(p.r.Spec.Timeout.Seconds()) + 1
		s.ActiveDeadlineSeconds = &deadline
	}
	if len(o.pod.Limits)+len(o.pod.Requests) > 0 {
		s.Resources = &o.pod
	}
	for _, name := range sorted(o.tolerations) {
		t := corev1.Toleration{Effect: corev1.TaintEffect(o.tolerations[name])}
		key, value, equal := strings.Cut(name, "=")
		t.Key, t.Value, t.Operator = key, value, corev1.TolerationOpExists
		if equal {
			t.Operator = corev1.TolerationOpEqual
		}
		s.Tolerations = append(s.Tolerations, t)
	}
	if !p.c.UseServiceAccountImagePullSecrets {
		for _, name := range p.c.ImagePullSecrets {
			s.ImagePullSecrets = append(s.ImagePullSecrets, corev1.LocalObjectReference{Name: p.expand(name)})
		}
		if p.secret != nil {
			s.ImagePullSecrets = append(s.ImagePullSecrets, corev1.LocalObjectReference{Name: p.secret.Name})
		}
	}
	if err := p.dns(&s); err != nil {
		return nil, err
	}
	p.containers(&s)
	if p.flag("FF_USE_ADVANCED_POD_SPEC_CONFIGURATION") {
		var err error
		if s, err = patched(s, p.c.PodSpec); err != nil {
			return nil, executor.Misconfigured("%w", err)
		}
	} else if len(p.c.PodSpec) > 0 {
		p.warn("pod_spec is ignored: the feature flag FF_USE_ADVANCED_POD_SPEC_CONFIGURATION is off")
	}
	pod.Spec = s
	return pod, nil
}

func (p *place) dns(s *corev1.PodSpec) error {
	switch p.c.DNSPolicy {
	case "":
	case "none":
		s.DNSPolicy = corev1.DNSNone
	case "default":
		s.DNSPolicy = corev1.DNSDefault
	case "cluster-first":
		s.DNSPolicy = corev1.DNSClusterFirst
	case "cluster-first-with-host-net":
		s.DNSPolicy = corev1.DNSClusterFirstWithHostNet
	default:
		return executor.Misconfigured("dns_policy %q is not none, default, cluster-first or cluster-first-with-host-net", p.c.DNSPolicy)
	}
	if d := p.c.DNSConfig; d != nil {
		s.DNSConfig = &corev1.PodDNSConfig{Nameservers: d.Nameservers, Searches: d.Searches}
		for _, o := range d.Options {
			s.DNSConfig.Options = append(s.DNSConfig.Options, corev1.PodDNSConfigOption{Name: o.Name, Value: o.Value})
		}
	}
	return nil
}

// Shells, the better ones first.
const (
	bashes = "/usr/local/bin/bash /usr/bin/bash /bin/bash"
	plain  = "/usr/local/bin/sh /usr/bin/sh /bin/sh /busybox/sh"
)

// supervisor is the command of a container that takes scripts.
func (p *place) supervisor(name, mask string) []string {
	root := "1"
	shells := strings.Fields(plain)
	if cmp.Or(p.r.Shell, p.d.o.Shell) != "sh" {
		shells = append(strings.Fields(bashes), shells...)
	}
	return append([]string{"sh", "-c", superviseScript, "sh", name, p.scripts, p.logs, mask, root}, shells...)
}

func (p *place) containers(s *corev1.PodSpec) {
	open := ""
	if !p.flag("FF_DISABLE_UMASK_FOR_KUBERNETES_EXECUTOR") {
		open = "0000"
	}
	helper := corev1.Container{
		Name: helperContainer, Image: p.helper.name, ImagePullPolicy: p.helper.policy(), Command: p.supervisor(helperContainer, open),
		Resources: p.over.helper, SecurityContext: p.security(p.c.HelperContainerSecurityContext), VolumeMounts: p.vols.mounts,
	}
	first := helper
	first.Name, first.SecurityContext = initContainer, p.security(p.c.InitPermissionsContainerSecurityContext)
	first.Command = []string{
		"sh", "-c", `umask 0 && mkfifo "$1/build" "$1/helper" "$2/end.build" "$2/end.helper" && { chmod 0777 "$1" "$2" "$3" || :; }`,
		"sh", p.scripts, p.logs, p.d.o.BuildsDir,
	}
	build := corev1.Container{
		Name: buildContainer, Image: p.image.name, ImagePullPolicy: p.image.policy(), Command: p.supervisor(buildContainer, ""),
		Env: p.environment(nil), Resources: p.over.build, SecurityContext: p.security(p.c.BuildContainerSecurityContext),
		VolumeMounts: p.vols.mounts, Lifecycle: lifecycle(p.c.ContainerLifecycle),
	}
	if p.flag("FF_KUBERNETES_HONOR_ENTRYPOINT") {
		build.Command, build.Args = nil, build.Command
	}
	p.asUser(build.SecurityContext, p.r.Spec.Image.KubernetesUser, "the build container")
	s.InitContainers = []corev1.Container{first}
	s.Containers = []corev1.Container{build, helper}
	services := slices.Clone(p.services)
	slices.SortStableFunc(services, func(a, b *service) int { return strings.Compare(a.container, b.container) })
	for _, sv := range services {
		c := corev1.Container{
			Name: sv.container, Image: sv.name, ImagePullPolicy: sv.policy(), Command: sv.spec.Entrypoint, Args: sv.spec.Command,
			Env: p.environment(sv.spec.Variables), Resources: sv.out, SecurityContext: p.security(p.c.ServiceContainerSecurityContext),
			VolumeMounts: p.vols.mounts, Lifecycle: lifecycle(p.c.ContainerLifecycle),
		}
		p.asUser(c.SecurityContext, sv.spec.KubernetesUser, "the service "+sv.container)
		s.Containers = append(s.Containers, c)
	}
}

// environment is what a container knows from the start: public variables and
// its own. All others come with the scripts, where no object of the cluster
// shows them.
func (p *place) environment(own job.Variables) []corev1.EnvVar {
	last := map[string]string{}
	var order []string
	set := func(k, v string) {
		if _, ok := last[k]; !ok {
			order = append(order, k)
		}
		// What looks like $(NAME) to the kubelet is text.
		last[k] = strings.ReplaceAll(v, "$(", "$$(")
	}
	for _, v := range p.r.Variables {
		if v.File || v.Masked || !v.Public && !v.Internal {
			continue
		}
		set(v.Key, v.Value)
	}
	all := append(slices.Clone(p.r.Variables), own...)
	for _, v := range own {
		set(v.Key, all.Expand(v.Value, func(key string) string { return p.r.Dirs.Temp + "/" + key }))
	}
	out := make([]corev1.EnvVar, 0, len(order))
	for _, k := range order {
		if k != "" && !strings.ContainsAny(k, "=\x00") {
			out = append(out, corev1.EnvVar{Name: k, Value: last[k]})
		}
	}
	return out
}

func (p *place) hostAliases() []corev1.HostAlias {
	var out []corev1.HostAlias
	var names []string
	for _, s := range p.services {
		for _, a := range s.aliases {
			if !slices.Contains(names, a) {
				names = append(names, a)
			}
		}
	}
	if len(names) > 0 {
		out = append(out, corev1.HostAlias{IP: "127.0.0.1", Hostnames: names})
	}
	for _, h := range p.c.HostAliases {
		out = append(out, corev1.HostAlias{IP: h.IP, Hostnames: h.Hostnames})
	}
	return out
}

// labels are those of the pod and of what belongs to it.
func (p *place) labels() map[string]string {
	s, l := p.r.Spec, map[string]string{}
	for k, v := range p.over.labels {
		if strings.Contains(k, "runner.gitlab.com/") {
			p.warn("The label %q is not set: the names below runner.gitlab.com are taken.", k)
			continue
		}
		l[k] = labelValue(v)
	}
	namespace, name := path.Split(s.Info.ProjectFullPath)
	namespace = strings.Trim(namespace, "/")
	rootNamespace, _, _ := strings.Cut(namespace, "/")
	maps.Copy(l, map[string]string{
		"pod":                               p.name,
		jobPrefix + "pod":                   p.name,
		projectPrefix + "id":                strconv.FormatInt(s.Info.ProjectID, 10),
		projectPrefix + "name":              labelValue(name),
		projectPrefix + "namespace":         labelValue(namespace),
		projectPrefix + "namespace-id":      strconv.FormatInt(s.Info.NamespaceID, 10),
		projectPrefix + "root-namespace":    labelValue(rootNamespace),
		managerPrefix + "name":              labelValue(p.r.Runner.Name),
		managerPrefix + "id-short":          labelValue(p.r.Runner.Short),
		projectPrefix + "root-namespace-id": strconv.FormatInt(s.Info.RootNamespaceID, 10),
	})
	l[runLabel] = p.run
	if p.d.o.Owner != "" {
		l[ownerLabel] = labelValue(p.d.o.Owner)
	}
	return l
}

func (p *place) annotations() map[string]string {
	s, a := p.r.Spec, map[string]string{}
	maps.Copy(a, p.over.annotations)
	maps.Copy(a, map[string]string{
		jobPrefix + "id":         s.ID.String(),
		jobPrefix + "url":        p.r.Variables.Value("CI_JOB_URL"),
		jobPrefix + "sha":        s.Git.SHA,
		jobPrefix + "before_sha": s.Git.BeforeSHA,
		jobPrefix + "ref":        s.Git.Ref,
		jobPrefix + "name":       s.Info.Name,
		jobPrefix + "timeout":    s.Timeout.String(),
		projectPrefix + "id":     strconv.FormatInt(s.Info.ProjectID, 10),
	})
	return a
}

// labelValue makes a value that labels may have.
func labelValue(s string) string {
	s = strings.Map(func(c rune) rune {
		if c == '-' || c == '_' || c == '.' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
			return c
		}
		return '_'
	}, s)
	return strings.Trim(s[:min(len(s), 63)], "-_.")
}

// objectName makes a name that pods may have.
func objectName(s string) string {
	s = strings.Map(func(c rune) rune {
		if c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' {
			return c
		}
		return -1
	}, strings.ToLower(s))
	return strings.Trim(s, "-")
}

// Place says where the job runs: in a pod of that name, started by the
// runner's machine.
func (p *place) Place() executor.Place {
	return executor.Place{Hostname: p.name, Via: p.d.hostname}
}

// defaultGrace is how long a pod has to end, in seconds, when the configuration
// does not say. The job is over then: the half minute that clusters give would
// only keep the runner from its next job.
const defaultGrace = 5

// grace is how long a pod may take to end, or nil: what its spec says.
func grace(c *config.Kubernetes) *int64 {
	if c.CleanupGracePeriodSeconds != nil || c.PodTerminationGracePeriodSeconds != nil {
		return c.CleanupGracePeriodSeconds
	}
	seconds := int64(defaultGrace)
	return &seconds
}
