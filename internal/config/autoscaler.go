package config

import (
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
)

// Autoscaler is [runners.autoscaler], for the executors docker-autoscaler and
// instance.
type Autoscaler struct {
	CapacityPerInstance          int             `toml:"capacity_per_instance" default:"1" doc:"Jobs that an instance runs at the same time."`
	MaxUseCount                  int             `toml:"max_use_count" default:"0" doc:"Jobs after which an instance is removed; 0 means no limit."`
	MaxInstances                 int             `toml:"max_instances" default:"0" doc:"Largest number of instances; 0 means no limit."`
	Plugin                       string          `toml:"plugin" required:"true" doc:"Fleeting plugin that creates instances: a program or an image reference."`
	PluginConfig                 map[string]any  `toml:"plugin_config" private:"true" doc:"Settings passed to the plugin as they are."`
	ConnectorConfig              *Connector      `toml:"connector_config" doc:"How instances are reached."`
	Policy                       []ScalingPolicy `toml:"policy" doc:"How much idle capacity is held when; the last matching entry wins."`
	InstanceReadyCommand         string          `toml:"instance_ready_command" doc:"Command that must succeed before an instance gets jobs."`
	InstanceAcquireTimeout       time.Duration   `toml:"instance_acquire_timeout" default:"15m" doc:"Time that a job waits for an instance."`
	UpdateInterval               time.Duration   `toml:"update_interval" default:"1m" doc:"Time between updates from the plugin."`
	UpdateIntervalWhenExpecting  time.Duration   `toml:"update_interval_when_expecting" default:"2s" doc:"Time between updates while a change is expected."`
	DeletionRetryInterval        time.Duration   `toml:"deletion_retry_interval" default:"1m" doc:"Time between attempts to delete an instance."`
	ShutdownDeletionInterval     time.Duration   `toml:"shutdown_deletion_interval" default:"10s" doc:"Time between checks of deletions at shutdown."`
	ShutdownDeletionRetries      int             `toml:"shutdown_deletion_retries" default:"3" doc:"Attempts to delete instances at shutdown."`
	FailureThreshold             int             `toml:"failure_threshold" default:"3" doc:"Failures in a row after which an instance is replaced."`
	ScaleThrottle                *ScaleThrottle  `toml:"scale_throttle" doc:"Limit of the rate at which instances are created."`
	ReservationThrottling        *bool           `toml:"reservation_throttling" default:"true" doc:"Ask for jobs only as quickly as capacity can appear."`
	LogInternalIP                bool            `toml:"log_internal_ip" default:"false" doc:"Write the internal address of the instance to the job log."`
	LogExternalIP                bool            `toml:"log_external_ip" default:"false" doc:"Write the external address of the instance to the job log."`
	DeleteInstancesOnShutdown    bool            `toml:"delete_instances_on_shutdown" default:"false" doc:"Delete all instances when the runner stops."`
	VMIsolation                  *VMIsolation    `toml:"vm_isolation" doc:"Run each job in a virtual machine inside the instance."`
	StateStorage                 *StateStorage   `toml:"state_storage" doc:"Keep the state of instances over restarts."`
	InstanceOperationTimeBuckets []float64       `toml:"instance_operation_time_buckets" unit:"s" doc:"Histogram buckets of all operations on instances."`
	InstanceCreationTimeBuckets  []float64       `toml:"instance_creation_time_buckets" unit:"s" doc:"Histogram buckets of creation times."`
	InstanceIsRunningTimeBuckets []float64       `toml:"instance_is_running_time_buckets" unit:"s" doc:"Histogram buckets of times until running."`
	InstanceDeletionTimeBuckets  []float64       `toml:"instance_deletion_time_buckets" unit:"s" doc:"Histogram buckets of deletion times."`
	InstanceReadinessTimeBuckets []float64       `toml:"instance_readiness_time_buckets" unit:"s" doc:"Histogram buckets of times until ready."`
	InstanceLifeDurationBuckets  []float64       `toml:"instance_life_duration_buckets" unit:"s" doc:"Histogram buckets of life times."`
}

// Connector is a connector_config: how an instance is reached.
type Connector struct {
	OS                   string        `toml:"os" doc:"Operating system of the instance; the plugin says when absent."`
	Arch                 string        `toml:"arch" doc:"Architecture of the instance; the plugin says when absent."`
	Protocol             string        `toml:"protocol" allowed:"ssh|winrm|winrm+https" doc:"Protocol of the connection."`
	ProtocolPort         int           `toml:"protocol_port" doc:"Port of the protocol; 22, 5985 or 5986 when 0."`
	Username             string        `toml:"username" doc:"User to log in as."`
	Password             job.Secret    `toml:"password" doc:"Password of the user."`
	KeyPath              string        `toml:"key_path" doc:"File with the private key."`
	UseStaticCredentials bool          `toml:"use_static_credentials" default:"false" doc:"Use the credentials given here instead of the plugin's."`
	Keepalive            time.Duration `toml:"keepalive" default:"30s" doc:"Time between signs of life."`
	Timeout              time.Duration `toml:"timeout" default:"10m" doc:"Time for connecting."`
	UseExternalAddr      bool          `toml:"use_external_addr" default:"false" doc:"Connect to the external address."`
}

// ScalingPolicy is one policy of an autoscaler: how much idle capacity is held
// at certain times.
type ScalingPolicy struct {
	Periods          []string      `toml:"periods" default:"* * * * *" doc:"Cron expressions of five fields."`
	Timezone         string        `toml:"timezone" doc:"Time zone of the periods; the local one when empty."`
	IdleCount        int           `toml:"idle_count" doc:"Jobs for which capacity is held idle."`
	IdleTime         time.Duration `toml:"idle_time" doc:"Time that an instance is idle before it is removed."`
	ScaleFactor      float64       `toml:"scale_factor" doc:"Idle capacity as a factor of that in use."`
	ScaleFactorLimit int           `toml:"scale_factor_limit" doc:"Largest idle capacity that scale_factor may lead to."`
	PreemptiveMode   *bool         `toml:"preemptive_mode" doc:"Ask for jobs only when capacity is idle; on when idle_count is above 0."`
}

// ScaleThrottle is [runners.autoscaler.scale_throttle].
type ScaleThrottle struct {
	Limit int `toml:"limit" doc:"New instances a second; 0 means 100 and -1 means no limit."`
	Burst int `toml:"burst" doc:"New instances at once; max_instances or limit when 0."`
}

// VMIsolation is [runners.autoscaler.vm_isolation].
type VMIsolation struct {
	Enabled         bool           `toml:"enabled" default:"false" doc:"Run each job in a virtual machine."`
	NestingHost     string         `toml:"nesting_host" doc:"Address of the nesting daemon."`
	NestingConfig   map[string]any `toml:"nesting_config" private:"true" doc:"Settings passed to the nesting daemon as they are."`
	Image           string         `toml:"image" doc:"Image of the virtual machines."`
	ConnectorConfig *Connector     `toml:"connector_config" doc:"How the virtual machines are reached."`
}

// StateStorage is [runners.autoscaler.state_storage].
type StateStorage struct {
	Enabled                      bool   `toml:"enabled" default:"false" doc:"Keep the state of instances over restarts."`
	Dir                          string `toml:"dir" doc:"Directory for the state; .taskscaler beside the config file when empty."`
	KeepInstanceWithAcquisitions bool   `toml:"keep_instance_with_acquisitions" default:"false" doc:"Keep instances that ran jobs when the runner stopped."`
}

// Instance is [runners.instance], for the executor instance.
type Instance struct {
	AllowedImages     []string `toml:"allowed_images" doc:"Patterns of virtual machine images that jobs may choose."`
	UseCommonBuildDir bool     `toml:"use_common_build_dir" default:"false" doc:"Use the same build directory for all jobs of an instance."`
}
