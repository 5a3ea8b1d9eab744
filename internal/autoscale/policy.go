// Package autoscale decides how many machines a fleet needs. It is pure: what
// Decide answers depends on its argument alone, so that a fleet of real
// machines, the tests and the simulation of a year run the very same code.
//
// # Units
//
// Capacity is counted in slots: room for one job. An instance (a machine) has
// Policy.Capacity of them. IdleCount is in slots, as idle_count of
// [[runners.autoscaler.policy]] is in jobs; MaxInstances is in instances.
//
// # What is wanted
//
// Free slots for every job that waits, and IdleCount of them beside those, or,
// with a ScaleFactor, that share of the busy slots if it is more, at most
// ScaleFactorLimit. Instances that are being created count as if they were
// there. What is missing is created, within MaxInstances and the throttle.
//
// # What goes
//
// An instance that ran as many jobs as it may, or that is broken, goes as soon
// as no job is on it. Any other goes when it has been idle for IdleTime and
// all that is wanted is there without it. Both directions compare with the
// same number, so that a demand which does not change ends in a fleet that
// does not change.
//
// A picture of the fleet that is too old is no picture: nothing is decided on
// it.
package autoscale

import (
	"math"
	"slices"
	"time"
)

// Policy is how much capacity is wanted at a time.
type Policy struct {
	Capacity         int           // slots of an instance; below 1 is 1
	MaxUse           int           // jobs after which an instance goes; 0: no limit
	MaxInstances     int           // 0: no limit
	IdleCount        int           // slots held free
	IdleTime         time.Duration // that an instance is idle before it goes
	ScaleFactor      float64       // slots held free, as a factor of those busy; 0: off
	ScaleFactorLimit int           // most slots that ScaleFactor leads to; 0: no limit
	Preemptive       bool          // ask for a job only when a slot is free
}

// capacity is how many slots a new instance brings.
func (p Policy) capacity() int {
	c := max(1, p.Capacity)
	if p.MaxUse > 0 {
		c = min(c, p.MaxUse)
	}
	return c
}

// Idle returns how many free slots are held while busy ones are in use.
func (p Policy) Idle(busy int) int {
	if p.ScaleFactor <= 0 {
		return max(0, p.IdleCount)
	}
	scaled := ceil(float64(busy) * p.ScaleFactor)
	if p.ScaleFactorLimit > 0 {
		scaled = min(scaled, p.ScaleFactorLimit)
	}
	return max(0, p.IdleCount, scaled)
}

// ceil rounds up what a float's inexactness has not made more than it is.
func ceil(f float64) int {
	const most = math.MaxInt32
	if f >= most {
		return most
	}
	return int(math.Ceil(f - 1e-9))
}

// Period is a policy with the times at which it holds.
type Period struct {
	Contains func(time.Time) bool // nil: always
	Policy   Policy
}

// Schedule is what holds when: of the periods that contain a moment, the last.
type Schedule []Period

// At returns the policy of a moment. Outside of all periods none is in force,
// and nothing is held idle: the first period's limits with no idle capacity.
func (s Schedule) At(now time.Time) Policy {
	for _, p := range slices.Backward(s) {
		if p.Contains == nil || p.Contains(now) {
			return p.Policy
		}
	}
	if len(s) == 0 {
		return Policy{}
	}
	p := s[0].Policy
	p.IdleCount, p.ScaleFactor, p.IdleTime, p.Preemptive = 0, 0, 0, false
	return p
}

// Throttle bounds how quickly instances are created: a bucket of Burst tokens
// that fills with Rate tokens a second.
type Throttle struct {
	Rate  float64 // instances a second; 0 or less: no bound
	Burst int     // below 1 is 1
}

// Bucket is the fill of a Throttle. The zero value is a full one.
type Bucket struct {
	used float64 // tokens that are missing
	at   time.Time
}

// take takes up to n tokens.
func (b Bucket) take(t Throttle, now time.Time, n int) (Bucket, int) {
	if t.Rate <= 0 {
		return Bucket{}, n
	}
	if passed := now.Sub(b.at).Seconds(); passed > 0 {
		b.used = max(0, b.used-passed*t.Rate)
		b.at = now
	}
	got := min(n, max(0, int(float64(max(1, t.Burst))-b.used+1e-9)))
	b.used += float64(got)
	return b, got
}
