package config

import (
	"time"
)

// Machine is [runners.machine], for the executor docker+machine, which GitLab
// has deprecated.
type Machine struct {
	MaxGrowthRate          int               `toml:"MaxGrowthRate" flag:"machine-max-growth-rate" env:"MACHINE_MAX_GROWTH_RATE" default:"0" doc:"Machines that may be created at the same time; 0 means no limit."`
	IdleCount              int               `toml:"IdleCount" flag:"machine-idle-nodes" env:"MACHINE_IDLE_COUNT" doc:"Machines kept idle."`
	IdleScaleFactor        float64           `toml:"IdleScaleFactor" flag:"machine-idle-scale-factor" env:"MACHINE_IDLE_SCALE_FACTOR" doc:"Idle machines as a factor of those in use; 0 turns it off."`
	IdleCountMin           int               `toml:"IdleCountMin" flag:"machine-idle-count-min" env:"MACHINE_IDLE_COUNT_MIN" doc:"Least number of idle machines when IdleScaleFactor is used."`
	IdleTime               int               `toml:"IdleTime" flag:"machine-idle-time" env:"MACHINE_IDLE_TIME" unit:"s" doc:"Seconds that a machine is idle before it is removed."`
	MaxBuilds              int               `toml:"MaxBuilds" flag:"machine-max-builds" env:"MACHINE_MAX_BUILDS" default:"0" doc:"Jobs after which a machine is removed; 0 means no limit."`
	MachineDriver          string            `toml:"MachineDriver" flag:"machine-machine-driver" env:"MACHINE_DRIVER" doc:"Driver of docker-machine."`
	MachineName            string            `toml:"MachineName" flag:"machine-machine-name" env:"MACHINE_NAME" doc:"Name of new machines; %s stands for a unique part."`
	MachineOptions         []string          `toml:"MachineOptions" flag:"machine-machine-options" env:"MACHINE_OPTIONS" private:"true" doc:"Options of the driver, each as name=value."`
	MachineOptionsWithName []string          `toml:"MachineOptionsWithName" flag:"machine-machine-options-with-name" env:"MACHINE_OPTIONS_WITH_NAME" private:"true" doc:"Options in which %s stands for the name of the machine."`
	MaxRemovalAttempts     int               `toml:"MaxRemovalAttempts" flag:"machine-max-removal-attempts" env:"MACHINE_MAX_REMOVAL_ATTEMPTS" default:"30" doc:"Attempts to remove a machine before it is forgotten."`
	Autoscaling            []MachineSchedule `toml:"autoscaling" doc:"Other values at certain times; the last matching entry wins."`
}

// MachineSchedule is one of [[runners.machine.autoscaling]].
type MachineSchedule struct {
	Periods         []string `toml:"Periods" doc:"Cron expressions of 5 to 7 fields: second, minute, hour, day, month, weekday, year."`
	Timezone        string   `toml:"Timezone" doc:"Time zone of the periods; the local one when empty."`
	IdleCount       int      `toml:"IdleCount" doc:"Machines kept idle."`
	IdleScaleFactor float64  `toml:"IdleScaleFactor" doc:"Idle machines as a factor of those in use."`
	IdleCountMin    int      `toml:"IdleCountMin" doc:"Least number of idle machines when IdleScaleFactor is used."`
	IdleTime        int      `toml:"IdleTime" unit:"s" doc:"Seconds that a machine is idle before it is removed."`
}

// MachineGlobal is the global table [machine].
type MachineGlobal struct {
	ShutdownDrain *ShutdownDrain `toml:"shutdown_drain" doc:"What happens to machines when the runner stops."`
}

// ShutdownDrain is [machine.shutdown_drain].
type ShutdownDrain struct {
	Enabled      bool          `toml:"enabled" default:"false" doc:"Remove idle machines when the runner stops."`
	Concurrency  int           `toml:"concurrency" default:"3" doc:"Machines removed at the same time."`
	MaxRetries   int           `toml:"max_retries" default:"3" doc:"Attempts to remove a machine."`
	RetryBackoff time.Duration `toml:"retry_backoff" default:"5s" doc:"Pause between attempts."`
}
