package config

import (
	"path/filepath"
	"strings"
)

// MonitoringGlobal is the global table [monitoring]: the monitoring server
// that listens at listen_address.
type MonitoringGlobal struct {
	WebConfigFile      string `toml:"web_config_file" ours:"true" doc:"File with TLS, client certificates, passwords and headers, in the format of Prometheus's exporters, relative to the directory of this file; --web.config.file wins."`
	Pprof              *bool  `toml:"pprof" default:"true" ours:"true" doc:"Serve Go profiles below /debug/pprof/."`
	StatusPage         *bool  `toml:"status_page" default:"true" ours:"true" doc:"Serve the status page at / and the JSON API below /api/."`
	DebugListenAddress string `toml:"debug_listen_address" ours:"true" doc:"Address of a second listener, as listen_address has it; then everything below /debug/ is served there and nowhere else."`
	LogTail            bool   `toml:"log_tail" default:"false" ours:"true" doc:"Show the end of running jobs' masked logs on the status page; only where the web configuration asks for passwords or client certificates."`

	Projects *MonitoringProjects `toml:"projects" ours:"true" doc:"Usage by project; off without this table."`
}

// ServePprof says whether profiles are served.
func (m *MonitoringGlobal) ServePprof() bool { return m == nil || m.Pprof == nil || *m.Pprof }

// ServeStatusPage says whether the status page and the JSON API are served.
func (m *MonitoringGlobal) ServeStatusPage() bool {
	return m == nil || m.StatusPage == nil || *m.StatusPage
}

// WebConfigPath returns the path of the web configuration file, "" when there
// is none. A relative one is relative to the directory of the config file.
func (c *Config) WebConfigPath() string {
	if c.Monitoring == nil || c.Monitoring.WebConfigFile == "" {
		return ""
	}
	if filepath.IsAbs(c.Monitoring.WebConfigFile) {
		return filepath.Clean(c.Monitoring.WebConfigFile)
	}
	return filepath.Join(c.Dir(), c.Monitoring.WebConfigFile)
}

func (c *checker) monitoring(p place) {
	m := c.cfg.Monitoring
	if m == nil {
		return
	}
	if m.DebugListenAddress != "" {
		if _, err := Listen(m.DebugListenAddress); err != nil {
			c.add(Error, p.child("debug_listen_address"), strings.TrimPrefix(err.Error(), "listen address "))
		}
	}
	if m.LogTail && m.WebConfigFile == "" {
		c.add(Warning, p.child("log_tail"), "has no effect without a web configuration file that asks for passwords or client certificates")
	}
}
