package config

import "time"

// Disk is [disk].
type Disk struct {
	CheckInterval  time.Duration `toml:"interval" default:"10s" ours:"true" doc:"Time between two measurements of the disks that the runner uses."`
	MinFreeBytes   *int64        `toml:"min_free_bytes" default:"268435456, at most 5 % of the disk" unit:"bytes" ours:"true" doc:"Bytes that must be free on a disk for the runners that use it to take jobs; 0 means no bound."`
	MinFreePercent float64       `toml:"min_free_percent" default:"0" ours:"true" doc:"The same as a part of the disk in percent; the greater one counts."`
	MinFreeInodes  *int64        `toml:"min_free_inodes" default:"1000" ours:"true" doc:"Number of files that it must be possible to make on the disk; 0 means no bound."`
}

// Orphans is [orphans].
type Orphans struct {
	LookInterval time.Duration `toml:"interval" default:"5m" ours:"true" doc:"Time between two searches for things that carry this runner's marks and belong to no job that lives."`
	MinAge       time.Duration `toml:"min_age" default:"1m" ours:"true" doc:"Age from which such a thing may be removed."`
	Reap         bool          `toml:"reap" default:"false" ours:"true" doc:"End and remove what was found; otherwise it is only counted."`
}

// Defaults of [disk] and [orphans].
const (
	defaultDiskInterval   = 10 * time.Second
	defaultMinFreeBytes   = 256 << 20
	defaultMinFreeInodes  = 1000
	defaultOrphanInterval = 5 * time.Minute
	defaultOrphanAge      = time.Minute
)

// DiskLimits is what is in force of [disk].
type DiskLimits struct {
	Interval   time.Duration
	MinBytes   int64
	MinPercent float64
	MinInodes  int64
	// Modest: MinBytes is the default, which a small disk need not have.
	Modest bool
}

// DiskLimits returns when too little is free.
func (c *Config) DiskLimits() DiskLimits {
	l := DiskLimits{Interval: defaultDiskInterval, MinBytes: defaultMinFreeBytes, MinInodes: defaultMinFreeInodes, Modest: true}
	if c.Disk == nil {
		return l
	}
	l.Interval = positive(c.Disk.CheckInterval, defaultDiskInterval)
	if n := c.Disk.MinFreeBytes; n != nil {
		l.MinBytes, l.Modest = max(*n, 0), false
	}
	l.MinPercent = min(max(c.Disk.MinFreePercent, 0), 100)
	if n := c.Disk.MinFreeInodes; n != nil {
		l.MinInodes = max(*n, 0)
	}
	return l
}

// OrphanSearch returns how often it is looked for what was left behind, from
// which age on it may be removed, and whether it is.
func (c *Config) OrphanSearch() (interval, minAge time.Duration, reap bool) {
	if c.Orphans == nil {
		return defaultOrphanInterval, defaultOrphanAge, false
	}
	return positive(c.Orphans.LookInterval, defaultOrphanInterval), positive(c.Orphans.MinAge, defaultOrphanAge), c.Orphans.Reap
}
