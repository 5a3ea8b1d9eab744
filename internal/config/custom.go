package config

import "time"

// Custom is [runners.custom], for the executor custom.
type Custom struct {
	ConfigExec          string   `toml:"config_exec" flag:"custom-config-exec" env:"CUSTOM_CONFIG_EXEC" doc:"Program that may change the configuration of a job."`
	ConfigArgs          []string `toml:"config_args" flag:"custom-config-args" doc:"Arguments of config_exec."`
	ConfigExecTimeout   int      `toml:"config_exec_timeout" flag:"custom-config-exec-timeout" env:"CUSTOM_CONFIG_EXEC_TIMEOUT" default:"3600" unit:"s" doc:"Seconds that config_exec may take."`
	PrepareExec         string   `toml:"prepare_exec" flag:"custom-prepare-exec" env:"CUSTOM_PREPARE_EXEC" doc:"Program that prepares the environment of a job."`
	PrepareArgs         []string `toml:"prepare_args" flag:"custom-prepare-args" doc:"Arguments of prepare_exec."`
	PrepareExecTimeout  int      `toml:"prepare_exec_timeout" flag:"custom-prepare-exec-timeout" env:"CUSTOM_PREPARE_EXEC_TIMEOUT" default:"3600" unit:"s" doc:"Seconds that prepare_exec may take."`
	RunExec             string   `toml:"run_exec" flag:"custom-run-exec" env:"CUSTOM_RUN_EXEC" required:"true" doc:"Program that runs each script of a job."`
	RunArgs             []string `toml:"run_args" flag:"custom-run-args" doc:"Arguments of run_exec."`
	CleanupExec         string   `toml:"cleanup_exec" flag:"custom-cleanup-exec" env:"CUSTOM_CLEANUP_EXEC" doc:"Program that removes the environment of a job."`
	CleanupArgs         []string `toml:"cleanup_args" flag:"custom-cleanup-args" doc:"Arguments of cleanup_exec."`
	CleanupExecTimeout  int      `toml:"cleanup_exec_timeout" flag:"custom-cleanup-exec-timeout" env:"CUSTOM_CLEANUP_EXEC_TIMEOUT" default:"3600" unit:"s" doc:"Seconds that cleanup_exec may take."`
	GracefulKillTimeout int      `toml:"graceful_kill_timeout" flag:"custom-graceful-kill-timeout" env:"CUSTOM_GRACEFUL_KILL_TIMEOUT" default:"600" unit:"s" doc:"Seconds between the request to end and the first kill."`
	ForceKillTimeout    int      `toml:"force_kill_timeout" flag:"custom-force-kill-timeout" env:"CUSTOM_FORCE_KILL_TIMEOUT" default:"10" unit:"s" doc:"Seconds to wait after the kill."`
}

// Times that hold unless [runners.custom] has others.
const (
	defaultCustomTimeout = time.Hour
	defaultCustomGrace   = 10 * time.Minute
	defaultCustomForce   = 10 * time.Second
)

// ConfigTimeout returns how long config_exec may take.
func (c *Custom) ConfigTimeout() time.Duration {
	return ofSeconds(c.ConfigExecTimeout, defaultCustomTimeout)
}

// PrepareTimeout returns how long prepare_exec may take.
func (c *Custom) PrepareTimeout() time.Duration {
	return ofSeconds(c.PrepareExecTimeout, defaultCustomTimeout)
}

// CleanupTimeout returns how long cleanup_exec may take.
func (c *Custom) CleanupTimeout() time.Duration {
	return ofSeconds(c.CleanupExecTimeout, defaultCustomTimeout)
}

// ForceKill returns how long a killed program may take to be gone.
func (c *Custom) ForceKill() time.Duration { return ofSeconds(c.ForceKillTimeout, defaultCustomForce) }

// gracefulKill is the time between the polite and the hard signal. There may
// be no section.
func (c *Custom) gracefulKill() time.Duration {
	if c == nil {
		return defaultCustomGrace
	}
	return ofSeconds(c.GracefulKillTimeout, defaultCustomGrace)
}

func ofSeconds(n int, def time.Duration) time.Duration {
	if n <= 0 {
		return def
	}
	return time.Duration(n) * time.Second
}
