package config

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
