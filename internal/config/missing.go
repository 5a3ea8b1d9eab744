package config

// feature is something that GitLab Runner has.
type feature struct {
	path string // a key, or a table with all its keys
	what string
	used func(*Config, *Runner) bool // the runner is nil for global keys
}

// notYet lists what GitLab Runner has and glassrunner does not have so far.
// Using it is not an error: the configuration works for everything else. Take
// an entry out when its feature is there.
func notYet() []feature {
	return []feature{
		{"sentry_dsn", "error reporting to Sentry", func(c *Config, _ *Runner) bool { return c.SentryDSN != "" }},
		{"session_server.listen_address", "interactive web terminals", func(c *Config, _ *Runner) bool {
			return c.SessionServer != nil && c.SessionServer.ListenAddress != ""
		}},
		{"experimental.usage_logger", "the usage log", func(c *Config, _ *Runner) bool {
			return c.Experimental != nil && c.Experimental.UsageLogger != nil && c.Experimental.UsageLogger.Enabled
		}},
		{"runners.proxy_exec", "running scripts through a helper", func(_ *Config, r *Runner) bool { return r != nil && r.ProxyExec }},
		{"runners.step_runner_image", "the step runner", func(_ *Config, r *Runner) bool { return r != nil && r.StepRunnerImage != "" }},
		{"runners.experimental.boot_verify", "the trial job at start", func(_ *Config, r *Runner) bool {
			return r != nil && r.Experimental != nil && r.Experimental.BootVerify != nil && r.Experimental.BootVerify.Enabled
		}},
		{"runners.referees", "the metrics referee", func(_ *Config, r *Runner) bool { return r != nil && r.Referees != nil && r.Referees.Metrics != nil }},
	}
}

// executors lists the executors of GitLab Runner and whether glassrunner has
// them.
func executors() map[string]bool {
	return map[string]bool{
		"shell":             true,
		"docker":            true,
		"docker-windows":    false,
		"docker-autoscaler": false,
		"docker+machine":    false,
		"instance":          false,
		"kubernetes":        true,
		"custom":            true,
		"ssh":               true,
		"parallels":         false,
		"virtualbox":        false,
	}
}

// formerExecutors are executors that GitLab Runner had once.
func formerExecutors() map[string]string {
	return map[string]string{
		"docker-ssh":         "docker",
		"docker-ssh+machine": "docker+machine",
	}
}

// Implemented says whether glassrunner has the executor.
func Implemented(executor string) bool { return executors()[executor] }
