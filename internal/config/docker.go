package config

// Docker is [runners.docker], for the executors docker, docker-windows,
// docker-autoscaler and docker+machine.
type Docker struct {
	Host                       string              `toml:"host" flag:"docker-host" env:"DOCKER_HOST" doc:"Address of the Docker daemon, such as unix:///var/run/docker.sock or tcp://host:2376; DOCKER_HOST or the platform default when absent."`
	TLSCertPath                string              `toml:"tls_cert_path" flag:"docker-cert-path" env:"DOCKER_CERT_PATH" doc:"Directory with ca.pem, cert.pem and key.pem for a TLS connection to the daemon."`
	TLSVerify                  bool                `toml:"tls_verify" flag:"docker-tlsverify" env:"DOCKER_TLS_VERIFY" default:"false" doc:"Connect to the daemon over TLS and verify its certificate."`
	Hostname                   string              `toml:"hostname" flag:"docker-hostname" env:"DOCKER_HOSTNAME" doc:"Host name inside the build container."`
	Image                      string              `toml:"image" flag:"docker-image" env:"DOCKER_IMAGE" required:"true" doc:"Image of jobs that name none."`
	Runtime                    string              `toml:"runtime" flag:"docker-runtime" env:"DOCKER_RUNTIME" doc:"OCI runtime for the containers; the daemon default when absent."`
	Memory                     string              `toml:"memory" flag:"docker-memory" env:"DOCKER_MEMORY" doc:"Memory limit of the build container, in bytes or with a suffix b, k, m, g."`
	MemorySwap                 string              `toml:"memory_swap" flag:"docker-memory-swap" env:"DOCKER_MEMORY_SWAP" doc:"Limit of memory plus swap of the build container, same notation as memory."`
	MemoryReservation          string              `toml:"memory_reservation" flag:"docker-memory-reservation" env:"DOCKER_MEMORY_RESERVATION" doc:"Soft memory limit of the build container, same notation as memory."`
	CgroupParent               string              `toml:"cgroup_parent" flag:"docker-cgroup-parent" env:"DOCKER_CGROUP_PARENT" doc:"Parent cgroup of the build container."`
	CPUSetCPUs                 string              `toml:"cpuset_cpus" flag:"docker-cpuset-cpus" env:"DOCKER_CPUSET_CPUS" doc:"CPUs that the build container may use, such as 0,1 or 0-3."`
	CPUSetMems                 string              `toml:"cpuset_mems" flag:"docker-cpuset-mems" env:"DOCKER_CPUSET_MEMS" doc:"Memory nodes that the build container may use."`
	CPUs                       string              `toml:"cpus" flag:"docker-cpus" env:"DOCKER_CPUS" doc:"Number of CPUs of the build container, as a decimal string such as 1.5."`
	CPUShares                  int                 `toml:"cpu_shares" flag:"docker-cpu-shares" env:"DOCKER_CPU_SHARES" doc:"Relative CPU weight of the build container."`
	DNS                        []string            `toml:"dns" flag:"docker-dns" env:"DOCKER_DNS" doc:"Name servers of the containers."`
	DNSSearch                  []string            `toml:"dns_search" flag:"docker-dns-search" env:"DOCKER_DNS_SEARCH" doc:"Search domains of the containers."`
	Privileged                 bool                `toml:"privileged" flag:"docker-privileged" env:"DOCKER_PRIVILEGED" default:"false" doc:"Run the build container with all privileges of the host."`
	ServicesPrivileged         *bool               `toml:"services_privileged" flag:"docker-services_privileged" env:"DOCKER_SERVICES_PRIVILEGED" doc:"Privileges of service containers; as privileged when absent."`
	DisableEntrypointOverwrite bool                `toml:"disable_entrypoint_overwrite" flag:"docker-disable-entrypoint-overwrite" env:"DOCKER_DISABLE_ENTRYPOINT_OVERWRITE" doc:"Ignore an entrypoint that a job gives for its image."`
	User                       string              `toml:"user" flag:"docker-user" env:"DOCKER_USER" doc:"User that scripts run as in the build container."`
	AllowedUsers               []string            `toml:"allowed_users" flag:"docker-allowed_users" env:"DOCKER_ALLOWED_USERS" doc:"Users that jobs may choose with the user option of their image; empty allows all."`
	GroupAdd                   []string            `toml:"group_add" flag:"docker-group-add" env:"DOCKER_GROUP_ADD" doc:"Additional groups of the process in the build container."`
	UsernsMode                 string              `toml:"userns_mode" flag:"docker-userns" env:"DOCKER_USERNS_MODE" doc:"User namespace mode of the containers."`
	CapAdd                     []string            `toml:"cap_add" flag:"docker-cap-add" env:"DOCKER_CAP_ADD" doc:"Linux capabilities added to the build container."`
	CapDrop                    []string            `toml:"cap_drop" flag:"docker-cap-drop" env:"DOCKER_CAP_DROP" doc:"Linux capabilities taken from the build container."`
	OOMKillDisable             bool                `toml:"oom_kill_disable" flag:"docker-oom-kill-disable" env:"DOCKER_OOM_KILL_DISABLE" doc:"Do not let the kernel kill processes of the build container when memory runs out."`
	OOMScoreAdjust             int                 `toml:"oom_score_adjust" flag:"docker-oom-score-adjust" env:"DOCKER_OOM_SCORE_ADJUST" doc:"Adjustment of the kernel's choice of what to kill when memory runs out."`
	SecurityOpt                []string            `toml:"security_opt" flag:"docker-security-opt" env:"DOCKER_SECURITY_OPT" doc:"Security options of the build container, each as key:value."`
	ServicesSecurityOpt        []string            `toml:"services_security_opt" flag:"docker-services-security-opt" env:"DOCKER_SERVICES_SECURITY_OPT" doc:"Security options of service containers, each as key:value."`
	Devices                    []string            `toml:"devices" flag:"docker-devices" env:"DOCKER_DEVICES" doc:"Host devices shared with the build container."`
	DeviceCgroupRules          []string            `toml:"device_cgroup_rules" flag:"docker-device-cgroup-rules" env:"DOCKER_DEVICE_CGROUP_RULES" doc:"Rules of the device cgroup of the build container."`
	GPUs                       string              `toml:"gpus" flag:"docker-gpus" env:"DOCKER_GPUS" doc:"GPUs of the build container, in the notation of docker run --gpus."`
	ServicesDevices            map[string][]string `toml:"services_devices" flag:"docker-services_devices" env:"DOCKER_SERVICES_DEVICES" doc:"Host devices shared with service containers, by pattern of the service image."`
	DisableCache               bool                `toml:"disable_cache" flag:"docker-disable-cache" env:"DOCKER_DISABLE_CACHE" default:"false" doc:"Do not create cache volumes automatically."`
	Volumes                    []string            `toml:"volumes" flag:"docker-volumes" env:"DOCKER_VOLUMES" doc:"Volumes and host directories mounted into all containers of a job."`
	VolumeKeep                 bool                `toml:"volume_keep" flag:"docker-volume-keep" env:"DOCKER_VOLUME_KEEP" default:"false" doc:"Keep volumes when the containers are removed."`
	VolumeDriver               string              `toml:"volume_driver" flag:"docker-volume-driver" env:"DOCKER_VOLUME_DRIVER" doc:"Driver of the volumes."`
	VolumeDriverOps            map[string]string   `toml:"volume_driver_ops" flag:"docker-volume-driver-ops" env:"DOCKER_VOLUME_DRIVER_OPS" doc:"Options of the volume driver."`
	CacheDir                   string              `toml:"cache_dir" flag:"docker-cache-dir" env:"DOCKER_CACHE_DIR" doc:"Directory for caches inside the container, absolute or relative to its working directory."`
	ExtraHosts                 []string            `toml:"extra_hosts" flag:"docker-extra-hosts" env:"DOCKER_EXTRA_HOSTS" doc:"Additional lines of /etc/hosts, each as name:address."`
	VolumesFrom                []string            `toml:"volumes_from" flag:"docker-volumes-from" env:"DOCKER_VOLUMES_FROM" doc:"Containers whose volumes are mounted."`
	NetworkMode                string              `toml:"network_mode" flag:"docker-network-mode" env:"DOCKER_NETWORK_MODE" doc:"Network of the containers, such as bridge, host or a network name."`
	PIDMode                    string              `toml:"pid_mode" flag:"docker-pid-mode" env:"DOCKER_PID_MODE" doc:"PID namespace mode of the containers."`
	IPCMode                    string              `toml:"ipcmode" flag:"docker-ipcmode" env:"DOCKER_IPC_MODE" doc:"IPC namespace mode of the containers."`
	MACAddress                 string              `toml:"mac_address" flag:"docker-mac-address" env:"DOCKER_MAC_ADDRESS" doc:"MAC address of the build container."`
	Links                      []string            `toml:"links" flag:"docker-links" env:"DOCKER_LINKS" doc:"Containers linked to the build container."`
	ServicesLimit              *int                `toml:"services_limit" flag:"docker-services-limit" env:"DOCKER_SERVICES_LIMIT" doc:"Number of services that a job may have; -1 or absent means no limit."`
	ServiceMemory              string              `toml:"service_memory" flag:"docker-service-memory" env:"DOCKER_SERVICE_MEMORY" doc:"Memory limit of a service container, same notation as memory."`
	ServiceMemorySwap          string              `toml:"service_memory_swap" flag:"docker-service-memory-swap" env:"DOCKER_SERVICE_MEMORY_SWAP" doc:"Limit of memory plus swap of a service container."`
	ServiceMemoryReservation   string              `toml:"service_memory_reservation" flag:"docker-service-memory-reservation" env:"DOCKER_SERVICE_MEMORY_RESERVATION" doc:"Soft memory limit of a service container."`
	ServiceCgroupParent        string              `toml:"service_cgroup_parent" flag:"docker-service-cgroup-parent" env:"DOCKER_SERVICE_CGROUP_PARENT" doc:"Parent cgroup of service containers."`
	ServiceSlotCgroupTemplate  string              `toml:"service_slot_cgroup_template" flag:"docker-service-slot-cgroup-template" env:"DOCKER_SERVICE_SLOT_CGROUP_TEMPLATE" doc:"Cgroup of service containers when slot cgroups are used; ${slot} stands for the slot number."`
	ServiceCPUSetCPUs          string              `toml:"service_cpuset_cpus" flag:"docker-service-cpuset-cpus" env:"DOCKER_SERVICE_CPUSET_CPUS" doc:"CPUs that a service container may use."`
	ServiceCPUs                string              `toml:"service_cpus" flag:"docker-service-cpus" env:"DOCKER_SERVICE_CPUS" doc:"Number of CPUs of a service container, as a decimal string."`
	ServiceCPUShares           int                 `toml:"service_cpu_shares" flag:"docker-service-cpu-shares" env:"DOCKER_SERVICE_CPU_SHARES" doc:"Relative CPU weight of a service container."`
	ServiceGPUs                string              `toml:"service_gpus" flag:"docker-service_gpus" env:"DOCKER_SERVICE_GPUS" doc:"GPUs of service containers."`
	WaitForServicesTimeout     int                 `toml:"wait_for_services_timeout" flag:"docker-wait-for-services-timeout" env:"DOCKER_WAIT_FOR_SERVICES_TIMEOUT" default:"30" unit:"s" doc:"Seconds to wait for services to accept connections; a negative number does not wait."`
	AllowedImages              []string            `toml:"allowed_images" flag:"docker-allowed-images" env:"DOCKER_ALLOWED_IMAGES" doc:"Patterns of images that jobs may use; empty allows all."`
	AllowedPrivilegedImages    []string            `toml:"allowed_privileged_images" flag:"docker-allowed-privileged-images" env:"DOCKER_ALLOWED_PRIVILEGED_IMAGES" doc:"Patterns of images that run privileged when privileged is on; empty means all."`
	AllowedPrivilegedServices  []string            `toml:"allowed_privileged_services" flag:"docker-allowed-privileged-services" env:"DOCKER_ALLOWED_PRIVILEGED_SERVICES" doc:"Patterns of services that run privileged when services_privileged is on; empty means all."`
	AllowedPullPolicies        []string            `toml:"allowed_pull_policies" flag:"docker-allowed-pull-policies" env:"DOCKER_ALLOWED_PULL_POLICIES" allowed:"always|if-not-present|never" doc:"Pull policies that jobs may choose; those of pull_policy when empty."`
	AllowedServices            []string            `toml:"allowed_services" flag:"docker-allowed-services" env:"DOCKER_ALLOWED_SERVICES" doc:"Patterns of services that jobs may use; empty allows all."`
	PullPolicy                 PullPolicies        `toml:"pull_policy" flag:"docker-pull-policy" env:"DOCKER_PULL_POLICY" default:"always" allowed:"always|if-not-present|never" doc:"When images are pulled; several policies are tried in order."`
	Isolation                  string              `toml:"isolation" flag:"docker-isolation" env:"DOCKER_ISOLATION" allowed:"default|hyperv|process" doc:"Isolation technology on Windows."`
	SHMSize                    int                 `toml:"shm_size" flag:"docker-shm-size" env:"DOCKER_SHM_SIZE" unit:"bytes" doc:"Size of /dev/shm of the containers."`
	Tmpfs                      map[string]string   `toml:"tmpfs" flag:"docker-tmpfs" env:"DOCKER_TMPFS" doc:"Mount options of tmpfs file systems of the build container, by path."`
	ServicesTmpfs              map[string]string   `toml:"services_tmpfs" flag:"docker-services-tmpfs" env:"DOCKER_SERVICES_TMPFS" doc:"Mount options of tmpfs file systems of service containers, by path."`
	SysCtls                    map[string]string   `toml:"sysctls" flag:"docker-sysctls" env:"DOCKER_SYSCTLS" doc:"Kernel parameters of the build container."`
	HelperImage                string              `toml:"helper_image" flag:"docker-helper-image" env:"DOCKER_HELPER_IMAGE" doc:"Image of the helper container."`
	HelperImageFlavor          string              `toml:"helper_image_flavor" flag:"docker-helper-image-flavor" env:"DOCKER_HELPER_IMAGE_FLAVOR" doc:"Flavour of the default helper image."`
	ContainerLabels            map[string]string   `toml:"container_labels" flag:"docker-container-labels" doc:"Additional labels of every container."`
	EnableIPv6                 bool                `toml:"enable_ipv6" flag:"docker-enable-ipv6" default:"false" doc:"Create job networks with IPv6."`
	Ulimit                     map[string]string   `toml:"ulimit" flag:"docker-ulimit" env:"DOCKER_ULIMIT" doc:"Resource limits of the containers, each as soft:hard or one number."`
	NetworkMTU                 int                 `toml:"network_mtu" flag:"docker-network-mtu" unit:"bytes" doc:"MTU of job networks."`
	LogOptions                 map[string]string   `toml:"log_options" flag:"docker-log-options" env:"DOCKER_LOG_OPTIONS" doc:"Options of the containers' json-file logs."`
	Services                   []Service           `toml:"services" doc:"Services that every job gets."`
}

// Service is one service of [[runners.docker.services]] or
// [[runners.kubernetes.services]].
type Service struct {
	Name            string   `toml:"name" doc:"Image of the service."`
	Alias           string   `toml:"alias" doc:"Additional host names of the service, separated by commas or spaces."`
	Command         []string `toml:"command" doc:"Arguments of the service container."`
	Entrypoint      []string `toml:"entrypoint" doc:"Program of the service container."`
	Environment     []string `toml:"environment" private:"true" doc:"Variables of the service container, each as NAME=value."`
	SuspendDataPath string   `toml:"suspend_data_path" doc:"Directory whose content survives when a suspended environment is resumed."`
}
