package config

// MonitoringGlobal is the global table [monitoring].
type MonitoringGlobal struct {
	Projects *MonitoringProjects `toml:"projects" ours:"true" doc:"Usage by project; off without this table."`
}
