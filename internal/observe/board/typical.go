package board

import (
	"slices"
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
)

// Typical is what is usual for the jobs of a runner.
type Typical struct {
	// P95 is what 95 % of its last jobs took at most; 0 until there were
	// enough of them to say.
	P95    time.Duration
	Jobs   int     // of which that was computed
	Factor float64 // a job that takes this many times as long is overdue; 0: none is
}

// Overdue reports whether a job has been running for longer than is usual, by
// far. One whose result is being delivered has not.
func (t Typical) Overdue(j *Job, now time.Time) bool {
	return !j.Ending && t.P95 > 0 && t.Factor > 0 && now.Sub(j.Started).Seconds() > t.Factor*t.P95.Seconds()
}

// lastJobs is how many jobs Typical looks back.
const lastJobs = 128

// durations remembers how long a runner's last jobs took.
type durations struct {
	all     []time.Duration
	next    int
	minimum int // jobs before anything is said
}

// add notes a finished job and returns the new P95.
func (d *durations) add(took time.Duration) time.Duration {
	if len(d.all) < lastJobs {
		d.all = append(d.all, took)
	} else {
		d.all[d.next] = took
		d.next = (d.next + 1) % lastJobs
	}
	return d.p95()
}

// p95 is by nearest rank: the least duration that 95 % do not exceed.
func (d *durations) p95() time.Duration {
	n := len(d.all)
	if n == 0 || n < d.minimum {
		return 0
	}
	sorted := slices.Clone(d.all)
	slices.Sort(sorted)
	return sorted[(n*95+99)/100-1]
}

// typical counts a job that took so long. What the coordinator or a shutdown
// ended says nothing about how long jobs take.
func (r *runner) typical(took time.Duration, o job.Outcome) {
	if o.Reason == job.Canceled || o.Reason == job.Interrupted {
		return
	}
	r.Typical.P95 = r.durations.add(took)
	r.Typical.Jobs = len(r.durations.all)
}
