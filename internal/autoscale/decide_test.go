package autoscale_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/autoscale"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func ready(id string, busy int, idle time.Duration) autoscale.Instance {
	return autoscale.Instance{ID: id, State: autoscale.Ready, Busy: busy, Used: busy, Free: noon.Add(-idle)}
}

func TestDecide(t *testing.T) {
	type reasons = map[autoscale.Reason]int
	removal := func(id string, r autoscale.Reason) autoscale.Removal { return autoscale.Removal{ID: id, Reason: r} }
	for _, c := range []struct {
		name   string
		in     autoscale.Input
		create int
		remove []autoscale.Removal
		counts reasons
	}{
		{name: "nothing is wanted, nothing is there"},
		{
			name: "jobs wait", in: autoscale.Input{Demand: autoscale.Demand{Waiting: 3}},
			create: 3, counts: reasons{autoscale.ForJobs: 3},
		},
		{
			name:   "jobs wait, several to an instance",
			in:     autoscale.Input{Policy: autoscale.Policy{Capacity: 4}, Demand: autoscale.Demand{Waiting: 5}},
			create: 2, counts: reasons{autoscale.ForJobs: 2},
		},
		{
			name:   "an instance that goes after its first job has one slot, whatever its capacity",
			in:     autoscale.Input{Policy: autoscale.Policy{Capacity: 4, MaxUse: 1}, Demand: autoscale.Demand{Waiting: 3}},
			create: 3, counts: reasons{autoscale.ForJobs: 3},
		},
		{
			name: "what comes is not asked for twice",
			in: autoscale.Input{
				Policy: autoscale.Policy{IdleCount: 3},
				Fleet:  autoscale.Fleet{Requested: 1, Instances: []autoscale.Instance{{ID: "a", State: autoscale.Creating}, ready("b", 0, 0)}},
			},
		},
		{
			name: "idle capacity beside the jobs that wait",
			in: autoscale.Input{
				Policy: autoscale.Policy{IdleCount: 2}, Demand: autoscale.Demand{Waiting: 1},
				Fleet: autoscale.Fleet{Instances: []autoscale.Instance{ready("a", 1, 0)}},
			},
			create: 3, counts: reasons{autoscale.ForJobs: 1, autoscale.ForIdle: 2},
		},
		{
			name: "idle capacity by factor, within its limit",
			in: autoscale.Input{
				Policy: autoscale.Policy{Capacity: 10, IdleCount: 1, ScaleFactor: 0.5, ScaleFactorLimit: 3},
				Fleet:  autoscale.Fleet{Instances: []autoscale.Instance{ready("a", 10, 0), ready("b", 10, 0)}},
			},
			create: 1, counts: reasons{autoscale.ForIdle: 1},
		},
		{
			name: "no more instances than there may be, those that go included",
			in: autoscale.Input{
				Policy: autoscale.Policy{MaxInstances: 3}, Demand: autoscale.Demand{Waiting: 5},
				Fleet: autoscale.Fleet{Requested: 1, Instances: []autoscale.Instance{{ID: "a", State: autoscale.Deleting}}},
			},
			create: 1, counts: reasons{autoscale.ForJobs: 1, autoscale.AtLimit: 3},
		},
		{
			name: "idle for long enough",
			in: autoscale.Input{
				Policy: autoscale.Policy{IdleCount: 1, IdleTime: 10 * time.Minute},
				Fleet:  autoscale.Fleet{Instances: []autoscale.Instance{ready("a", 0, 20*time.Minute), ready("b", 0, 30*time.Minute), ready("c", 0, time.Minute)}},
			},
			remove: []autoscale.Removal{removal("b", autoscale.IsIdle), removal("a", autoscale.IsIdle)},
			counts: reasons{autoscale.IsIdle: 2},
		},
		{
			name: "a request for a job keeps its slot",
			in: autoscale.Input{
				Policy: autoscale.Policy{IdleTime: time.Minute}, Demand: autoscale.Demand{Reserved: 1},
				Fleet: autoscale.Fleet{Instances: []autoscale.Instance{ready("a", 0, time.Hour), ready("b", 0, 2*time.Hour)}},
			},
			remove: []autoscale.Removal{removal("b", autoscale.IsIdle)}, counts: reasons{autoscale.IsIdle: 1},
		},
		{
			name: "used up and broken ones go when no job is on them, and are replaced",
			in: autoscale.Input{
				Policy: autoscale.Policy{MaxUse: 5, IdleCount: 1},
				Fleet: autoscale.Fleet{Instances: []autoscale.Instance{
					{ID: "a", State: autoscale.Ready, Used: 5}, {ID: "b", State: autoscale.Ready, Used: 5, Busy: 1},
					{ID: "c", State: autoscale.Creating, Broken: true}, {ID: "d", State: autoscale.Ready, Busy: 1, Broken: true},
				}},
			},
			create: 1,
			remove: []autoscale.Removal{removal("a", autoscale.IsUsedUp), removal("c", autoscale.IsBroken)},
			counts: reasons{autoscale.IsUsedUp: 1, autoscale.IsBroken: 1, autoscale.ForIdle: 1},
		},
		{
			name: "max_instances was lowered",
			in: autoscale.Input{
				Policy: autoscale.Policy{MaxInstances: 1, IdleCount: 9, IdleTime: time.Hour},
				Fleet:  autoscale.Fleet{Instances: []autoscale.Instance{ready("a", 1, 0), ready("b", 0, time.Minute), ready("c", 1, 0)}},
			},
			remove: []autoscale.Removal{removal("b", autoscale.IsSurplus)},
			counts: reasons{autoscale.IsSurplus: 1, autoscale.AtLimit: 9},
		},
		{
			name: "what is known is too old",
			in: autoscale.Input{
				Demand: autoscale.Demand{Waiting: 5}, Stale: time.Minute,
				Fleet: autoscale.Fleet{Seen: noon.Add(-2 * time.Minute), Instances: []autoscale.Instance{{ID: "a", State: autoscale.Ready, Broken: true}}},
			},
			counts: reasons{autoscale.IsStale: 1},
		},
		{
			name: "no quicker than the throttle",
			in: autoscale.Input{
				Demand: autoscale.Demand{Waiting: 5}, Throttle: autoscale.Throttle{Rate: 1, Burst: 2},
			},
			create: 2, counts: reasons{autoscale.ForJobs: 2, autoscale.IsThrottled: 3},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.in.Now = noon
			got := autoscale.Decide(c.in)
			if got.Create != c.create {
				t.Errorf("creates %d, want %d", got.Create, c.create)
			}
			if d := cmp.Diff(c.remove, got.Remove); d != "" {
				t.Errorf("removes (-want +got):\n%s", d)
			}
			if d := cmp.Diff(c.counts, got.Counts); d != "" {
				t.Errorf("reasons (-want +got):\n%s", d)
			}
		})
	}
}

func TestThrottleFills(t *testing.T) {
	in := autoscale.Input{Now: noon, Demand: autoscale.Demand{Waiting: 100}, Throttle: autoscale.Throttle{Rate: 0.5, Burst: 4}}
	var got []int
	for range 5 {
		plan := autoscale.Decide(in)
		got = append(got, plan.Create)
		in.Bucket = plan.Bucket
		in.Now = in.Now.Add(4 * time.Second)
	}
	if d := cmp.Diff([]int{4, 2, 2, 2, 2}, got); d != "" {
		t.Errorf("created every 4 s at one in 2 s (-want +got):\n%s", d)
	}
}

func TestExplain(t *testing.T) {
	plan := autoscale.Decide(autoscale.Input{
		Now: noon, Demand: autoscale.Demand{Waiting: 5}, Policy: autoscale.Policy{MaxInstances: 2, IdleCount: 1},
		Fleet: autoscale.Fleet{Instances: []autoscale.Instance{ready("a", 1, 0)}},
	})
	want := "create 1: 1 slots are busy, 5 jobs wait, 1 slots are to be idle, 0 are free or coming; jobs: 1; max_instances: 5"
	if got := plan.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestPlace(t *testing.T) {
	p := autoscale.Policy{Capacity: 3, MaxUse: 5}
	for _, c := range []struct {
		name      string
		instances []autoscale.Instance
		want      int
	}{
		{"none", nil, -1},
		{"all full, going, coming or used up", []autoscale.Instance{
			ready("a", 3, 0), {ID: "b", State: autoscale.Deleting}, {ID: "c"},
			{ID: "d", State: autoscale.Ready, Used: 5}, {ID: "e", State: autoscale.Ready, Broken: true},
		}, -1},
		{"the fullest", []autoscale.Instance{ready("a", 0, 0), ready("b", 2, 0), ready("c", 1, 0)}, 1},
		{"the one that was idle for the shortest time", []autoscale.Instance{ready("a", 0, time.Hour), ready("b", 0, time.Minute)}, 1},
		{"the first by name", []autoscale.Instance{ready("b", 0, 0), ready("a", 0, 0)}, 1},
	} {
		if got := autoscale.Place(p, c.instances); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

func TestSchedule(t *testing.T) {
	always := autoscale.Period{Policy: autoscale.Policy{IdleCount: 1, MaxInstances: 7, Preemptive: true}}
	mornings := autoscale.Period{
		Contains: func(t time.Time) bool { return t.Hour() < 12 },
		Policy:   autoscale.Policy{IdleCount: 9, MaxInstances: 7},
	}
	for _, c := range []struct {
		name string
		s    autoscale.Schedule
		want autoscale.Policy
	}{
		{"none", nil, autoscale.Policy{}},
		{"always", autoscale.Schedule{always}, always.Policy},
		{"the last that contains it", autoscale.Schedule{always, mornings}, always.Policy},
		{"no period: nothing is idle, limits stay", autoscale.Schedule{mornings}, autoscale.Policy{MaxInstances: 7}},
	} {
		if got := c.s.At(noon); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
	if got := (autoscale.Schedule{always, mornings}).At(noon.Add(-time.Hour)); got != mornings.Policy {
		t.Errorf("in the morning: got %+v", got)
	}
}

// TestDecisions holds random decisions against what must be true of each.
func TestDecisions(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		in := randomInput(r)
		before := fmt.Sprint(in)
		plan := autoscale.Decide(in)
		if fmt.Sprint(in) != before {
			t.Fatalf("the input was changed: %s", before)
		}
		if why := wrong(in, plan); why != "" {
			t.Fatalf("%s\ninput %s\nplan %+v", why, before, plan)
		}
		if again := autoscale.Decide(in); !cmp.Equal(plan, again, cmp.AllowUnexported(autoscale.Bucket{})) {
			t.Fatalf("not a function: %+v, then %+v", plan, again)
		}
	}
}

func randomInput(r *rand.Rand) autoscale.Input {
	in := autoscale.Input{
		Now: noon, Stale: time.Duration(r.IntN(2)) * time.Minute,
		Policy: autoscale.Policy{
			Capacity: r.IntN(5), MaxUse: r.IntN(4), MaxInstances: r.IntN(12), IdleCount: r.IntN(10) - 1,
			IdleTime: time.Duration(r.IntN(20)) * time.Minute, ScaleFactor: float64(r.IntN(4)) / 2, ScaleFactorLimit: r.IntN(6),
		},
		Demand:   autoscale.Demand{Waiting: r.IntN(12), Reserved: r.IntN(3)},
		Throttle: autoscale.Throttle{Rate: float64(r.IntN(3)), Burst: r.IntN(5)},
		Fleet:    autoscale.Fleet{Requested: r.IntN(3), Seen: noon.Add(-time.Duration(r.IntN(90)) * time.Second)},
	}
	for k := range r.IntN(12) {
		i := autoscale.Instance{
			ID: fmt.Sprint(k), State: autoscale.State(r.IntN(3)), Broken: r.IntN(8) == 0,
			Free: noon.Add(-time.Duration(r.IntN(3600)) * time.Second), Used: r.IntN(4),
		}
		if i.State != autoscale.Creating {
			i.Busy = r.IntN(max(1, in.Policy.Capacity) + 1)
			i.Used += i.Busy
		}
		in.Fleet.Instances = append(in.Fleet.Instances, i)
	}
	return in
}

// wrong returns what is wrong with a plan.
func wrong(in autoscale.Input, plan autoscale.Plan) string {
	p := in.Policy
	total := len(in.Fleet.Instances) + in.Fleet.Requested
	if in.Stale > 0 && in.Now.Sub(in.Fleet.Seen) > in.Stale {
		if plan.Create != 0 || len(plan.Remove) > 0 || plan.Counts[autoscale.IsStale] != 1 {
			return "acts on what is too old"
		}
		return ""
	}
	if plan.Create < 0 || p.MaxInstances > 0 && plan.Create > 0 && total+plan.Create > p.MaxInstances {
		return "creates more than there may be"
	}
	if in.Throttle.Rate > 0 && plan.Create > max(1, in.Throttle.Burst) {
		return "creates more than the throttle lets through"
	}
	free := in.Fleet.Requested * per(p)
	remaining := in.Fleet.Requested
	seen := map[string]bool{}
	for _, i := range in.Fleet.Instances {
		k := slices.IndexFunc(plan.Remove, func(r autoscale.Removal) bool { return r.ID == i.ID })
		if k < 0 {
			if i.State != autoscale.Deleting {
				remaining++
			}
			free += slots(p, i)
			continue
		}
		if i.Busy > 0 || i.State == autoscale.Deleting || seen[i.ID] {
			return "removes " + i.ID + ", which is busy, going, or removed twice"
		}
		seen[i.ID] = true
		if plan.Remove[k].Reason == autoscale.IsIdle && in.Now.Sub(i.Free) < p.IdleTime {
			return "removes " + i.ID + " too early"
		}
	}
	want := in.Demand.Waiting + p.Idle(plan.Busy)
	idleRemoved := plan.Counts[autoscale.IsIdle] > 0
	if idleRemoved && (free < want || plan.Create > 0) {
		return "removes idle instances that are wanted"
	}
	if plan.Create > 0 && free+(plan.Create-1)*per(p) >= want {
		return "creates more than is wanted"
	}
	kept := plan.Counts[autoscale.AtLimit] + plan.Counts[autoscale.IsThrottled]
	if free+(plan.Create+kept)*per(p) < want {
		return "leaves demand unmet without a reason"
	}
	if p.MaxInstances > 0 && remaining > p.MaxInstances {
		for _, i := range in.Fleet.Instances {
			if i.State == autoscale.Ready && slots(p, i) > 0 && i.Busy == 0 && !seen[i.ID] {
				return "keeps idle instances above the limit"
			}
		}
	}
	if plan.Quiet() != (plan.Create == 0 && len(plan.Remove) == 0 && kept == 0) {
		return "is quiet or not without a reason"
	}
	return ""
}

func per(p autoscale.Policy) int {
	if p.MaxUse > 0 {
		return min(max(1, p.Capacity), p.MaxUse)
	}
	return max(1, p.Capacity)
}

func slots(p autoscale.Policy, i autoscale.Instance) int {
	if i.State == autoscale.Deleting || i.Broken {
		return 0
	}
	n := max(1, p.Capacity) - i.Busy
	if p.MaxUse > 0 {
		n = min(n, p.MaxUse-i.Used)
	}
	return max(0, n)
}

// TestSettles: a demand that does not change ends in a fleet that does not.
func TestSettles(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2_000 {
		in := randomInput(r)
		in.Stale, in.Policy.MaxUse = 0, 0
		var log []string
		quiet := 0
		for step := 0; quiet < 3; step++ {
			if step > 60 {
				t.Fatalf("does not settle:\n%s", strings.Join(log, "\n"))
			}
			plan := autoscale.Decide(in)
			log = append(log, plan.String())
			if plan.Create == 0 && len(plan.Remove) == 0 {
				quiet++
			} else {
				quiet = 0
			}
			in = follow(in, plan, step)
		}
	}
}

// follow is the fleet a while later: all that was asked for has happened.
func follow(in autoscale.Input, plan autoscale.Plan, step int) autoscale.Input {
	in.Now = in.Now.Add(5 * time.Minute)
	in.Bucket = plan.Bucket
	var next []autoscale.Instance
	for _, i := range in.Fleet.Instances {
		gone := i.State == autoscale.Deleting || slices.ContainsFunc(plan.Remove, func(r autoscale.Removal) bool { return r.ID == i.ID })
		if gone {
			continue
		}
		if i.State == autoscale.Creating {
			i.State, i.Free = autoscale.Ready, in.Now
		}
		next = append(next, i)
	}
	for k := range in.Fleet.Requested + plan.Create {
		next = append(next, autoscale.Instance{ID: fmt.Sprintf("n%d-%d", step, k), State: autoscale.Ready, Free: in.Now})
	}
	in.Fleet = autoscale.Fleet{Instances: next, Seen: in.Now}
	return in
}
