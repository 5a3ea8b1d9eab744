package config

import (
	"maps"
	"path/filepath"
	"strings"
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
)

// Defaults of global keys that are absent or not positive.
const (
	defaultConcurrent       = 1
	defaultCheckInterval    = 3 * time.Second
	defaultShutdownTimeout  = 30 * time.Second
	defaultConnectionMaxAge = 15 * time.Minute
	defaultSessionTimeout   = 1800 * time.Second
)

// Config is the whole of a config.toml. It does not change once [Load]
// returned it; a reload makes a new one.
type Config struct {
	Concurrent             int               `toml:"concurrent" default:"1" doc:"Number of jobs that run at the same time over all runners; at least 1."`
	CheckIntervalSeconds   int               `toml:"check_interval" default:"3" unit:"s" doc:"Seconds between requests for jobs, divided by the number of runners; 0 means the default."`
	LogLevel               string            `toml:"log_level" default:"info" allowed:"trace|debug|info|warn|warning|error|fatal|panic" doc:"Least severity of messages in the process log."`
	LogFormat              string            `toml:"log_format" default:"runner" allowed:"runner|text|json" doc:"Format of the process log."`
	ListenAddress          string            `toml:"listen_address" doc:"Address of the metrics server as host:port; port 9252 when none is given; no server when empty."`
	User                   string            `toml:"user" doc:"User that jobs of the shell executor run as when the runner is root."`
	SentryDSN              job.Secret        `toml:"sentry_dsn" env:"SENTRY_DSN" doc:"Address of the Sentry project that errors are reported to."`
	ConnectionAge          *time.Duration    `toml:"connection_max_age" default:"15m" doc:"Age at which connections to GitLab are closed and made anew; 0 keeps them."`
	ShutdownTimeoutSeconds int               `toml:"shutdown_timeout" default:"30" unit:"s" doc:"Seconds that a forceful shutdown may take."`
	StatePath              string            `toml:"state_dir" default:".glassrunner beside the config file" ours:"true" doc:"Directory for the state of running jobs, which a restart after a crash settles."`
	Labels                 map[string]string `toml:"labels" doc:"Labels of all runners, sent to GitLab; those of a runner win; at most 32 in all."`
	SessionServer          *SessionServer    `toml:"session_server" doc:"Server of interactive web terminals."`
	Monitoring             *MonitoringGlobal `toml:"monitoring" ours:"true" doc:"What the monitoring server shows and to whom."`
	Machine                *MachineGlobal    `toml:"machine" doc:"Settings of docker+machine for the whole process."`
	Disk                   *Disk             `toml:"disk" ours:"true" doc:"When too little room on a disk keeps runners from taking jobs."`
	Orphans                *Orphans          `toml:"orphans" ours:"true" doc:"What is done about things of jobs that were left behind."`
	Experimental           *Experimental     `toml:"experimental" doc:"Features that may change."`
	Tracing                *Tracing          `toml:"tracing" ours:"true" doc:"OpenTelemetry traces of jobs; see docs/tracing.md."`
	Runners                []Runner          `toml:"runners" doc:"One entry for each runner that takes jobs."`

	// Path is the file the configuration was read from, ModTime its
	// modification time and Hash the hexadecimal SHA-256 of its content. A
	// file that does not exist has a zero ModTime and the hash of no content.
	Path    string    `toml:"-"`
	ModTime time.Time `toml:"-"`
	Hash    string    `toml:"-"`
}

// SessionServer is [session_server].
type SessionServer struct {
	ListenAddress         string `toml:"listen_address" doc:"Address of the server as host:port; no server when empty."`
	AdvertiseAddress      string `toml:"advertise_address" doc:"Address given to GitLab as host:port without a scheme; listen_address when empty."`
	SessionTimeoutSeconds int    `toml:"session_timeout" default:"1800" unit:"s" doc:"Seconds that a session may outlive its job."`
}

// SessionTimeout returns how long a session may outlive its job.
func (s *SessionServer) SessionTimeout() time.Duration {
	if s == nil {
		return defaultSessionTimeout
	}
	return seconds(s.SessionTimeoutSeconds, defaultSessionTimeout)
}

// Experimental is the global table [experimental].
type Experimental struct {
	UsageLogger *UsageLogger `toml:"usage_logger" doc:"Records of the time that jobs used."`
}

// UsageLogger is [experimental.usage_logger].
type UsageLogger struct {
	Enabled         bool              `toml:"enabled" default:"false" doc:"Write a record for every finished job."`
	LogDir          string            `toml:"log_dir" doc:"Deprecated: use log_dir of logrotate."`
	MaxBackupFiles  int               `toml:"max_backup_files" doc:"Deprecated: use max_backup_files of logrotate."`
	MaxRotationAge  time.Duration     `toml:"max_rotation_age" doc:"Deprecated: use max_rotation_age of logrotate."`
	Labels          map[string]string `toml:"labels" doc:"Deprecated: use labels of logrotate."`
	Writers         []string          `toml:"writers" default:"logrotate" allowed:"logrotate|snowplow_billing" doc:"Where records go."`
	Logrotate       *UsageLogrotate   `toml:"logrotate" doc:"Records in files."`
	SnowplowBilling *UsageSnowplow    `toml:"snowplow_billing" doc:"Records sent to a Snowplow collector."`
}

// UsageLogrotate is [experimental.usage_logger.logrotate].
type UsageLogrotate struct {
	LogDir         string            `toml:"log_dir" default:"usage-log beside the config file" doc:"Directory for the files."`
	MaxBackupFiles int               `toml:"max_backup_files" default:"14" doc:"Number of files that are kept."`
	MaxRotationAge time.Duration     `toml:"max_rotation_age" default:"24h" doc:"Age at which a new file is begun."`
	Labels         map[string]string `toml:"labels" doc:"Labels of the records; they win over those of the runner."`
}

// UsageSnowplow is [experimental.usage_logger.snowplow_billing].
type UsageSnowplow struct {
	CollectorURI                 string         `toml:"collector_uri" doc:"Address of the collector."`
	AppID                        string         `toml:"app_id" default:"gitlab-runner" doc:"Application id of the records."`
	Category                     string         `toml:"category" default:"runner_compute_usage" doc:"Category of the records."`
	Realm                        string         `toml:"realm" default:"SM" doc:"Realm of the records."`
	DeploymentType               string         `toml:"deployment_type" default:"self-managed" doc:"Deployment type of the records."`
	Metadata                     map[string]any `toml:"metadata" doc:"Further data of the records."`
	EnableOIDC                   bool           `toml:"enable_oidc" default:"false" doc:"Authenticate with a token of the cloud."`
	SkipOIDCIfUnsupportedCloud   *bool          `toml:"skip_oidc_if_unsupported_cloud" default:"true" doc:"Go on without a token where the cloud gives none."`
	SkipRunnerSystemFailure      *bool          `toml:"skip_runner_system_failure" default:"true" doc:"Send no records of jobs that failed because of the runner."`
	BatchDeliveryDurationBuckets []float64      `toml:"batch_delivery_duration_buckets" default:"0.1, 0.5, 1, 2.5, 5, 10, 30, 60" unit:"s" doc:"Histogram buckets of delivery times."`
}

// Concurrency returns the number of jobs that may run at the same time.
func (c *Config) Concurrency() int {
	if c.Concurrent < 1 {
		return defaultConcurrent
	}
	return c.Concurrent
}

// CheckInterval returns the time between two requests of the same runner.
func (c *Config) CheckInterval() time.Duration {
	return seconds(c.CheckIntervalSeconds, defaultCheckInterval)
}

// ShutdownTimeout returns how long a forceful shutdown may take.
func (c *Config) ShutdownTimeout() time.Duration {
	return seconds(c.ShutdownTimeoutSeconds, defaultShutdownTimeout)
}

// ConnectionMaxAge returns the age at which connections to GitLab are renewed;
// 0 means that they are kept. GitLab Runner renews before every call when the
// value is negative; so a negative value is returned as it is.
func (c *Config) ConnectionMaxAge() time.Duration {
	if c.ConnectionAge == nil {
		return defaultConnectionMaxAge
	}
	return *c.ConnectionAge
}

// Level returns the log level in lower case, info when the file has none.
func (c *Config) Level() string {
	if c.LogLevel == "" {
		return "info"
	}
	return strings.ToLower(c.LogLevel)
}

// Format returns the log format, runner when the file has none.
func (c *Config) Format() string {
	if c.LogFormat == "" {
		return "runner"
	}
	return c.LogFormat
}

// Dir returns the directory of the config file.
func (c *Config) Dir() string { return filepath.Dir(c.Path) }

// StateDir returns the directory for the state of running jobs. A relative
// path in the file is relative to the directory of the file.
func (c *Config) StateDir() string {
	switch {
	case c.StatePath == "":
		return filepath.Join(c.Dir(), ".glassrunner")
	case filepath.IsAbs(c.StatePath):
		return filepath.Clean(c.StatePath)
	default:
		return filepath.Join(c.Dir(), c.StatePath)
	}
}

// MergedLabels returns the global labels with those of r over them.
func (c *Config) MergedLabels(r *Runner) map[string]string {
	merged := make(map[string]string, len(c.Labels)+len(r.Labels))
	maps.Copy(merged, c.Labels)
	maps.Copy(merged, r.Labels)
	return merged
}

// seconds turns a key in whole seconds into a duration; values below 1 mean
// the default.
func seconds(n int, byDefault time.Duration) time.Duration {
	if n < 1 {
		return byDefault
	}
	return time.Duration(min(int64(n), maxSeconds)) * time.Second
}

// maxSeconds keeps a key in whole seconds within the range of time.Duration.
const maxSeconds = (1<<63 - 1) / int64(time.Second)
