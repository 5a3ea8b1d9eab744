package autoscale

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// State is how far an instance is.
type State int

// The states of instances.
const (
	Creating State = iota // known to the provider, no job can run yet
	Ready
	Deleting // asked to go, or going
)

// Instance is one machine as it is known now.
type Instance struct {
	ID     string
	State  State
	Busy   int       // jobs on it
	Used   int       // jobs that it was ever given, those that run included
	Broken bool      // does not answer: it gets no job and goes
	Free   time.Time // since when no job is on it; of one that is ready
}

// free is how many more jobs can run on it now or when it is ready.
func (i *Instance) free(p Policy) int {
	if i.State == Deleting || i.Broken {
		return 0
	}
	n := max(1, p.Capacity) - i.Busy
	if p.MaxUse > 0 {
		n = min(n, p.MaxUse-i.Used)
	}
	return max(0, n)
}

// Fleet is all machines at a moment.
type Fleet struct {
	Instances []Instance
	Requested int       // asked of the provider and not seen yet
	Seen      time.Time // when the provider told of them last
}

// Demand is what waits for slots.
type Demand struct {
	Waiting  int // jobs that were received and have no instance
	Reserved int // requests for a job whose slot must be there if one comes
}

// Input is all that a decision depends on.
type Input struct {
	Now      time.Time
	Policy   Policy
	Fleet    Fleet
	Demand   Demand
	Throttle Throttle
	Bucket   Bucket        // of the last Plan
	Stale    time.Duration // age from which Fleet is not trusted; 0: never
}

// Reason is why something is decided, or why it is not. It is a label of
// metrics: the set is closed.
type Reason string

// The reasons.
const (
	ForJobs     Reason = "jobs"          // created: jobs wait
	ForIdle     Reason = "idle_capacity" // created: too little is idle
	IsIdle      Reason = "idle"          // removed: idle for long enough, and not wanted
	IsUsedUp    Reason = "used_up"       // removed: ran as many jobs as it may
	IsBroken    Reason = "broken"        // removed: does not answer
	IsSurplus   Reason = "over_limit"    // removed: max_instances was lowered
	AtLimit     Reason = "max_instances" // not created
	IsThrottled Reason = "throttled"     // not created yet
	IsStale     Reason = "stale"         // nothing decided
)

// Reasons lists every reason.
func Reasons() []Reason {
	return []Reason{ForJobs, ForIdle, IsIdle, IsUsedUp, IsBroken, IsSurplus, AtLimit, IsThrottled, IsStale}
}

// Removal is an instance to remove, and why.
type Removal struct {
	ID     string
	Reason Reason
}

// Plan is what to do now.
type Plan struct {
	Create int
	Remove []Removal
	Bucket Bucket // for the next Input

	// Counts says how often each reason decided something: instances, and 1
	// for IsStale.
	Counts map[Reason]int
	// What was compared, in slots.
	Busy, Waiting, Idle, Free int
}

// Quiet reports whether there is nothing to do and nothing was kept back.
func (p *Plan) Quiet() bool { return len(p.Counts) == 0 }

// Decide says what a fleet needs. It changes nothing.
func Decide(in Input) Plan {
	plan := Plan{Bucket: in.Bucket}
	if in.Stale > 0 && in.Now.Sub(in.Fleet.Seen) > in.Stale {
		plan.count(IsStale, 1)
		return plan
	}
	p := in.Policy
	total := len(in.Fleet.Instances) + in.Fleet.Requested
	plan.Free = in.Fleet.Requested * p.capacity()
	plan.Waiting = max(0, in.Demand.Waiting)
	for k := range in.Fleet.Instances {
		i := &in.Fleet.Instances[k]
		plan.Busy += i.Busy
		plan.Free += i.free(p)
	}
	plan.Idle = p.Idle(plan.Busy)
	surplus := plan.removeSurplus(in, plan.removeUseless(in))
	if missing := plan.Waiting + plan.Idle - plan.Free; missing > 0 {
		plan.create(in, missing, total)
	} else if !surplus {
		plan.removeIdle(in)
	}
	return plan
}

func (p *Plan) count(r Reason, n int) {
	if n <= 0 {
		return
	}
	if p.Counts == nil {
		p.Counts = map[Reason]int{}
	}
	p.Counts[r] += n
}

func (p *Plan) remove(id string, r Reason) {
	p.Remove = append(p.Remove, Removal{id, r})
	p.count(r, 1)
}

// removeUseless removes what will never get a job again and returns how many
// instances are neither going nor asked to.
func (p *Plan) removeUseless(in Input) (remaining int) {
	for k := range in.Fleet.Instances {
		i := &in.Fleet.Instances[k]
		switch {
		case i.State == Deleting:
		case i.Busy > 0:
			remaining++
		case i.Broken:
			p.remove(i.ID, IsBroken)
		case i.State == Ready && in.Policy.MaxUse > 0 && i.Used >= in.Policy.MaxUse:
			p.remove(i.ID, IsUsedUp)
		default:
			remaining++
		}
	}
	return remaining + in.Fleet.Requested
}

func (p *Plan) create(in Input, missing, total int) {
	per := in.Policy.capacity()
	want := (missing + per - 1) / per
	can := want
	if most := in.Policy.MaxInstances; most > 0 {
		// What is going is still there, and counted by who sends the bill.
		can = min(can, max(0, most-total))
		p.count(AtLimit, want-can)
	}
	p.Bucket, p.Create = in.Bucket.take(in.Throttle, in.Now, can)
	p.count(IsThrottled, can-p.Create)
	short := p.Waiting - p.Free
	forJobs := min(p.Create, max(0, (short+per-1)/per))
	p.count(ForJobs, forJobs)
	p.count(ForIdle, p.Create-forJobs)
}

// idle returns the instances on which no job is, those first that were idle
// longest.
func idle(in Input) []*Instance {
	var idle []*Instance
	for k := range in.Fleet.Instances {
		i := &in.Fleet.Instances[k]
		if i.State == Ready && i.Busy == 0 && i.free(in.Policy) > 0 {
			idle = append(idle, i)
		}
	}
	slices.SortFunc(idle, func(a, b *Instance) int {
		return cmp.Or(a.Free.Compare(b.Free), cmp.Compare(a.ID, b.ID))
	})
	return idle
}

// removeSurplus removes idle instances until as many remain as there may be,
// whatever is wanted of them. It says whether there are too many.
func (p *Plan) removeSurplus(in Input, remaining int) (any bool) {
	over := remaining - in.Policy.MaxInstances
	if in.Policy.MaxInstances <= 0 || over <= 0 {
		return false
	}
	for _, i := range idle(in) {
		if over == 0 {
			break
		}
		over--
		p.Free -= i.free(in.Policy)
		p.remove(i.ID, IsSurplus)
	}
	return true
}

// removeIdle removes what has been idle for long enough, for as long as all
// that is wanted is there without it.
func (p *Plan) removeIdle(in Input) {
	due := func(i *Instance) bool { return in.Now.Sub(i.Free) >= in.Policy.IdleTime }
	anyDue := func(i Instance) bool { return i.State == Ready && i.Busy == 0 && due(&i) }
	if !slices.ContainsFunc(in.Fleet.Instances, anyDue) {
		return
	}
	keep := p.Waiting + max(p.Idle, in.Demand.Reserved)
	free := p.Free
	for _, i := range idle(in) {
		if !due(i) {
			return // the others are idle for a shorter time yet
		}
		if n := i.free(in.Policy); free-n >= keep {
			free -= n
			p.remove(i.ID, IsIdle)
		}
	}
}

// Place returns the index of the instance that the next job should run on, -1
// when none has a free slot: the fullest, so that others become idle, and of
// those that are equally full the one that was idle for the shortest time.
func Place(p Policy, instances []Instance) int {
	best := -1
	for k := range instances {
		i := &instances[k]
		if i.State != Ready || i.free(p) == 0 {
			continue
		}
		if best < 0 || better(i, &instances[best]) {
			best = k
		}
	}
	return best
}

func better(a, b *Instance) bool {
	return cmp.Or(cmp.Compare(a.Busy, b.Busy), a.Free.Compare(b.Free), cmp.Compare(b.ID, a.ID)) > 0
}

// String explains the plan in a line.
func (p *Plan) String() string {
	if p.Counts[IsStale] > 0 {
		return "nothing is decided: what is known of the instances is too old"
	}
	var b strings.Builder
	switch n := len(p.Remove); {
	case p.Create > 0 && n > 0:
		fmt.Fprintf(&b, "create %d and remove %d", p.Create, n)
	case p.Create > 0:
		fmt.Fprintf(&b, "create %d", p.Create)
	case n > 0:
		fmt.Fprintf(&b, "remove %d", n)
	default:
		b.WriteString("change nothing")
	}
	fmt.Fprintf(&b, ": %d slots are busy, %d jobs wait, %d slots are to be idle, %d are free or coming", p.Busy, p.Waiting, p.Idle, p.Free)
	for _, r := range Reasons() {
		if n := p.Counts[r]; n > 0 {
			fmt.Fprintf(&b, "; %s: %d", r, n)
		}
	}
	return b.String()
}
