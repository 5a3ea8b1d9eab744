package config

import "fmt"

const (
	defaultTopProjects = 50
	maxTopProjects     = 1000
)

// MonitoringProjects is [monitoring.projects]. That it is there switches the
// usage by project on.
type MonitoringProjects struct {
	Top *int `toml:"top" default:"50" ours:"true" doc:"How many projects get series of their own, those that used most; the rest are added up; 0 turns it off, 1000 is the most."`
}

// TopProjects returns how many projects get series of their own; 0: none, and
// usage is not told apart by project.
func (c *Config) TopProjects() int {
	if c.Monitoring == nil || c.Monitoring.Projects == nil {
		return 0
	}
	if c.Monitoring.Projects.Top == nil {
		return defaultTopProjects
	}
	return *c.Monitoring.Projects.Top
}

// PricePerHour returns what an hour of a job costs on this runner, 0 when
// nothing is said.
func (r *Runner) PricePerHour() float64 {
	if r.Monitoring == nil {
		return 0
	}
	return r.Monitoring.PricePerHour
}

func (c *checker) projects(p place) {
	if n := c.cfg.TopProjects(); n < 0 || n > maxTopProjects {
		c.add(Error, p.child("top"), fmt.Sprintf("found %d, want a whole number from 0 to %d", n, maxTopProjects))
	}
}

func (c *checker) price(r *Runner, p place) {
	if n := r.PricePerHour(); !(n >= 0 && n <= 1e9) { // also what is no number
		c.add(Error, p.child("price_per_hour"), fmt.Sprintf("found %v, want a number from 0 to a billion", n))
	}
}
