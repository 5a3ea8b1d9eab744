package config

// KubernetesVolumes is [runners.kubernetes.volumes].
type KubernetesVolumes struct {
	HostPath  []HostPathVolume `toml:"host_path" doc:"Directories of the node."`
	PVC       []PVCVolume      `toml:"pvc" doc:"Persistent volume claims."`
	ConfigMap []ItemsVolume    `toml:"config_map" doc:"Config maps."`
	Secret    []ItemsVolume    `toml:"secret" doc:"Secrets."`
	EmptyDir  []EmptyDirVolume `toml:"empty_dir" doc:"Empty directories that live as long as the pod."`
	CSI       []CSIVolume      `toml:"csi" doc:"Volumes of a CSI driver."`
	NFS       []NFSVolume      `toml:"nfs" doc:"NFS exports."`
}

// HostPathVolume mounts a directory of the node.
type HostPathVolume struct {
	Name             string `toml:"name" doc:"Name of the volume."`
	MountPath        string `toml:"mount_path" doc:"Path in the container."`
	SubPath          string `toml:"sub_path" doc:"Path within the volume."`
	ReadOnly         bool   `toml:"read_only" doc:"Mount without write access."`
	HostPath         string `toml:"host_path" doc:"Path on the node; mount_path when absent."`
	MountPropagation string `toml:"mount_propagation" allowed:"None|HostToContainer|Bidirectional" doc:"How mounts made later are shared."`
}

// PVCVolume mounts a persistent volume claim.
type PVCVolume struct {
	Name             string `toml:"name" doc:"Name of the volume."`
	MountPath        string `toml:"mount_path" doc:"Path in the container."`
	SubPath          string `toml:"sub_path" doc:"Path within the volume."`
	ReadOnly         bool   `toml:"read_only" doc:"Mount without write access."`
	MountPropagation string `toml:"mount_propagation" allowed:"None|HostToContainer|Bidirectional" doc:"How mounts made later are shared."`
}

// ItemsVolume mounts a config map or a secret.
type ItemsVolume struct {
	Name      string            `toml:"name" doc:"Name of the volume."`
	MountPath string            `toml:"mount_path" doc:"Path in the container."`
	SubPath   string            `toml:"sub_path" doc:"Path within the volume."`
	ReadOnly  bool              `toml:"read_only" doc:"Mount without write access."`
	Items     map[string]string `toml:"items" doc:"Keys to mount, each with its path; all when absent."`
}

// EmptyDirVolume mounts a directory that lives as long as the pod.
type EmptyDirVolume struct {
	Name             string `toml:"name" doc:"Name of the volume."`
	MountPath        string `toml:"mount_path" doc:"Path in the container."`
	SubPath          string `toml:"sub_path" doc:"Path within the volume."`
	Medium           string `toml:"medium" doc:"Memory for a tmpfs."`
	SizeLimit        string `toml:"size_limit" doc:"Size as a Kubernetes quantity."`
	MountPropagation string `toml:"mount_propagation" allowed:"None|HostToContainer|Bidirectional" doc:"How mounts made later are shared."`
}

// CSIVolume mounts a volume of a CSI driver.
type CSIVolume struct {
	Name             string            `toml:"name" doc:"Name of the volume."`
	MountPath        string            `toml:"mount_path" doc:"Path in the container."`
	SubPath          string            `toml:"sub_path" doc:"Path within the volume."`
	Driver           string            `toml:"driver" doc:"Name of the driver."`
	FSType           string            `toml:"fs_type" doc:"File system."`
	ReadOnly         bool              `toml:"read_only" doc:"Mount without write access."`
	VolumeAttributes map[string]string `toml:"volume_attributes" doc:"Attributes passed to the driver."`
}

// NFSVolume mounts an NFS export.
type NFSVolume struct {
	Name      string `toml:"name" doc:"Name of the volume."`
	MountPath string `toml:"mount_path" doc:"Path in the container."`
	SubPath   string `toml:"sub_path" doc:"Path within the volume."`
	Server    string `toml:"server" doc:"Host of the export."`
	Path      string `toml:"path" doc:"Path of the export."`
	ReadOnly  bool   `toml:"read_only" doc:"Mount without write access."`
}

// PodSecurityContext is [runners.kubernetes.pod_security_context].
type PodSecurityContext struct {
	FSGroup            *int64   `toml:"fs_group" doc:"Group that owns the volumes."`
	RunAsGroup         *int64   `toml:"run_as_group" doc:"Group id of the processes."`
	RunAsNonRoot       *bool    `toml:"run_as_non_root" doc:"Refuse to start as root."`
	RunAsUser          *int64   `toml:"run_as_user" doc:"User id of the processes."`
	SupplementalGroups []int64  `toml:"supplemental_groups" doc:"Additional group ids."`
	SELinuxType        string   `toml:"selinux_type" doc:"SELinux type."`
	SeccompProfile     *Profile `toml:"seccomp_profile" doc:"Seccomp profile."`
	AppArmorProfile    *Profile `toml:"app_armor_profile" doc:"AppArmor profile."`
}

// ContainerSecurityContext is the security context of one kind of container.
type ContainerSecurityContext struct {
	Capabilities             *Capabilities `toml:"capabilities" doc:"Linux capabilities."`
	Privileged               *bool         `toml:"privileged" doc:"All privileges of the node."`
	RunAsUser                *int64        `toml:"run_as_user" doc:"User id of the processes."`
	RunAsGroup               *int64        `toml:"run_as_group" doc:"Group id of the processes."`
	RunAsNonRoot             *bool         `toml:"run_as_non_root" doc:"Refuse to start as root."`
	ReadOnlyRootFilesystem   *bool         `toml:"read_only_root_filesystem" doc:"Mount the root file system without write access."`
	AllowPrivilegeEscalation *bool         `toml:"allow_privilege_escalation" doc:"Let processes gain privileges."`
	SELinuxType              string        `toml:"selinux_type" doc:"SELinux type."`
	ProcMount                string        `toml:"proc_mount" doc:"Kind of the /proc mount."`
	SeccompProfile           *Profile      `toml:"seccomp_profile" doc:"Seccomp profile."`
	AppArmorProfile          *Profile      `toml:"app_armor_profile" doc:"AppArmor profile."`
}

// Capabilities lists Linux capabilities.
type Capabilities struct {
	Add  []string `toml:"add" doc:"Capabilities added."`
	Drop []string `toml:"drop" doc:"Capabilities taken away."`
}

// Profile is a seccomp or AppArmor profile.
type Profile struct {
	Type             string `toml:"type" allowed:"Unconfined|RuntimeDefault|Localhost" doc:"Kind of profile."`
	LocalhostProfile string `toml:"localhost_profile" doc:"Profile on the node, for type Localhost."`
}

// HostAlias is a line of /etc/hosts.
type HostAlias struct {
	IP        string   `toml:"ip" doc:"Address."`
	Hostnames []string `toml:"hostnames" doc:"Names."`
}

// DNSConfig is [runners.kubernetes.dns_config].
type DNSConfig struct {
	Nameservers []string    `toml:"nameservers" doc:"Name servers."`
	Options     []DNSOption `toml:"options" doc:"Resolver options."`
	Searches    []string    `toml:"searches" doc:"Search domains."`
}

// DNSOption is one resolver option.
type DNSOption struct {
	Name  string  `toml:"name" doc:"Name of the option."`
	Value *string `toml:"value" doc:"Value of the option."`
}

// PodSpecPatch is one of [[runners.kubernetes.pod_spec]].
type PodSpecPatch struct {
	Name      string `toml:"name" doc:"Name for messages."`
	PatchPath string `toml:"patch_path" doc:"File with the patch."`
	Patch     string `toml:"patch" doc:"The patch as JSON or YAML."`
	PatchType string `toml:"patch_type" default:"strategic" allowed:"json|merge|strategic" doc:"How the patch is applied."`
}

// ContainerLifecycle is [runners.kubernetes.container_lifecycle].
type ContainerLifecycle struct {
	PostStart *LifecycleHandler `toml:"post_start" doc:"Run after the container started."`
	PreStop   *LifecycleHandler `toml:"pre_stop" doc:"Run before the container ends."`
}

// LifecycleHandler is one action of a container's life cycle.
type LifecycleHandler struct {
	Exec      *ExecAction      `toml:"exec" doc:"Run a command."`
	HTTPGet   *HTTPGetAction   `toml:"http_get" doc:"Send an HTTP request."`
	TCPSocket *TCPSocketAction `toml:"tcp_socket" doc:"Open a connection."`
}

// ExecAction runs a command in the container.
type ExecAction struct {
	Command []string `toml:"command" doc:"The command and its arguments."`
}

// HTTPGetAction sends an HTTP request.
type HTTPGetAction struct {
	Host        string       `toml:"host" doc:"Host; the pod when absent."`
	HTTPHeaders []HTTPHeader `toml:"http_headers" doc:"Headers of the request."`
	Path        string       `toml:"path" doc:"Path of the request."`
	Port        int          `toml:"port" doc:"Port."`
	Scheme      string       `toml:"scheme" default:"HTTP" allowed:"HTTP|HTTPS" doc:"Scheme."`
}

// HTTPHeader is one header of a request.
type HTTPHeader struct {
	Name  string `toml:"name" doc:"Name."`
	Value string `toml:"value" private:"true" doc:"Value."`
}

// TCPSocketAction opens a connection.
type TCPSocketAction struct {
	Host string `toml:"host" doc:"Host; the pod when absent."`
	Port int    `toml:"port" doc:"Port."`
}

// PauseAutoscaler is [runners.kubernetes.autoscaler]: pause pods that hold capacity.
type PauseAutoscaler struct {
	MaxPausePods              int             `toml:"max_pause_pods" doc:"Largest number of pause pods; 0 means no limit."`
	PausePodImage             string          `toml:"pause_pod_image" default:"registry.k8s.io/pause:3.10" doc:"Image of the pause pods."`
	PausePodPriorityClassName string          `toml:"pause_pod_priority_class_name" default:"gitlab-runner-idle-capacity" doc:"Priority class of the pause pods."`
	PausePodImagePullSecrets  []string        `toml:"pause_pod_image_pull_secrets" doc:"Secrets with registry credentials for the pause image."`
	Policy                    []ScalingPolicy `toml:"policy" doc:"When how much capacity is held."`
}

// Affinity is [runners.kubernetes.affinity].
type Affinity struct {
	NodeAffinity    *NodeAffinity `toml:"node_affinity" doc:"Rules about nodes."`
	PodAffinity     *PodAffinity  `toml:"pod_affinity" doc:"Rules about pods to be near."`
	PodAntiAffinity *PodAffinity  `toml:"pod_anti_affinity" doc:"Rules about pods to be apart from."`
}

// NodeAffinity attracts pods to nodes.
type NodeAffinity struct {
	Required  *NodeSelector   `toml:"required_during_scheduling_ignored_during_execution" doc:"Rule that must hold."`
	Preferred []PreferredNode `toml:"preferred_during_scheduling_ignored_during_execution" doc:"Rules that should hold."`
}

// NodeSelector selects nodes; one of its terms must match.
type NodeSelector struct {
	NodeSelectorTerms []NodeSelectorTerm `toml:"node_selector_terms" doc:"Alternatives."`
}

// PreferredNode is a weighted rule about nodes.
type PreferredNode struct {
	Weight     int              `toml:"weight" doc:"Weight from 1 to 100."`
	Preference NodeSelectorTerm `toml:"preference" doc:"The rule."`
}

// NodeSelectorTerm selects nodes; all its expressions must match.
type NodeSelectorTerm struct {
	MatchExpressions []MatchExpression `toml:"match_expressions" doc:"Expressions over labels."`
	MatchFields      []MatchExpression `toml:"match_fields" doc:"Expressions over fields."`
}

// MatchExpression compares one label or field.
type MatchExpression struct {
	Key      string   `toml:"key" doc:"Label or field."`
	Operator string   `toml:"operator" allowed:"In|NotIn|Exists|DoesNotExist|Gt|Lt" doc:"Comparison."`
	Values   []string `toml:"values" doc:"Values to compare with."`
}

// PodAffinity attracts pods to pods, or keeps them apart.
type PodAffinity struct {
	Required  []PodAffinityTerm `toml:"required_during_scheduling_ignored_during_execution" doc:"Rules that must hold."`
	Preferred []PreferredPod    `toml:"preferred_during_scheduling_ignored_during_execution" doc:"Rules that should hold."`
}

// PreferredPod is a weighted rule about pods.
type PreferredPod struct {
	Weight          int             `toml:"weight" doc:"Weight from 1 to 100."`
	PodAffinityTerm PodAffinityTerm `toml:"pod_affinity_term" doc:"The rule."`
}

// PodAffinityTerm selects pods and the domain in which they count.
type PodAffinityTerm struct {
	LabelSelector     *LabelSelector `toml:"label_selector" doc:"Labels of the pods."`
	Namespaces        []string       `toml:"namespaces" doc:"Namespaces of the pods."`
	TopologyKey       string         `toml:"topology_key" doc:"Node label that names the domain."`
	NamespaceSelector *LabelSelector `toml:"namespace_selector" doc:"Labels of the namespaces."`
	MatchLabelKeys    []string       `toml:"match_label_keys" doc:"Labels whose values must be equal."`
	MismatchLabelKeys []string       `toml:"mismatch_label_keys" doc:"Labels whose values must differ."`
}

// LabelSelector selects by labels.
type LabelSelector struct {
	MatchLabels      map[string]string `toml:"match_labels" doc:"Labels that must be equal."`
	MatchExpressions []MatchExpression `toml:"match_expressions" doc:"Expressions that must hold."`
}
