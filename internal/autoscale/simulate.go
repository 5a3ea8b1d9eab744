package autoscale

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"
)

// Job is one job of a demand trace.
type Job struct {
	Arrival  time.Time
	Duration time.Duration
}

// World is what a simulated fleet meets.
type World struct {
	Schedule Schedule
	Throttle Throttle
	Limit    int // jobs at once, those that wait for an instance included; 0: no limit

	Boot         time.Duration // from the request until a job can run; each boot takes between half and one and a half of it
	Delete       time.Duration // from the request until the instance is gone
	BootFailures float64       // share of the instances that never come up
	Interval     time.Duration // between decisions; 0: 5 s
	Price        float64       // of an instance for an hour, from the request until it is gone
	Seed         uint64
	Sample       time.Duration // between Points; 0: a hundredth and a half of the time
}

// Point is the fleet at a moment.
type Point struct {
	At        time.Time
	Queued    int // most jobs since the point before that had not begun
	Running   int
	Instances int // all for which is paid
	Ready     int
}

// Result is what came of a simulation.
type Result struct {
	Jobs, Failed int // Failed: had not begun a day after anything else happened
	Waits        Waits
	Points       []Point

	Created, BootFailed int
	Removed             map[Reason]int
	KeptBack            map[Reason]int // instances not created, summed over decisions
	Peak                int            // instances
	InstanceHours       float64
	BusyShare           float64 // of the slots that were paid for
	Cost                float64
	Decisions           int
	Start, End          time.Time
}

// Waits are the times that jobs waited, from their arrival until they began.
type Waits struct{ Mean, P50, P95, P99, Max time.Duration }

// Simulate replays a trace, which must be in order of arrival, against the
// very Decide that a real fleet runs. It ends when the last job has ended.
func Simulate(w World, jobs []Job) Result {
	s := newSimulation(w, jobs)
	s.run()
	return s.result()
}

// maxIdleTail bounds how long a simulation goes on without anything running,
// so that a policy by which no job ever runs ends.
const maxIdleTail = 24 * time.Hour

type eventKind uint8

const (
	booted eventKind = iota
	bootFailed
	ended
	deleted
)

// happening is something that will happen to an instance.
type happening struct {
	at   int64 // nanoseconds since the start
	kind eventKind
	inst int32
}

type happenings []happening

func (h happenings) Len() int           { return len(h) }
func (h happenings) Less(i, j int) bool { return h[i].at < h[j].at }
func (h happenings) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *happenings) Push(x any)        { *h = append(*h, x.(happening)) } //nolint:forcetypeassert // only happenings are pushed
func (h *happenings) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

type simulation struct {
	w     World
	jobs  []Job
	start time.Time
	rand  *rand.Rand

	now     int64
	events  happenings
	next    int     // job that has not arrived
	queue   []int32 // jobs that arrived and have no instance, oldest at head
	head    int
	running int

	insts []Instance // by number; what is gone is reused
	spare []int32
	names []string
	live  int
	ready int
	open  []int32 // instances that may have a free slot, those used last at the end

	fleet   []Instance // scratch
	numbers map[string]int32
	bucket  Bucket

	waits   []int64
	paid    float64 // nanoseconds of instances
	busy    float64 // nanoseconds of slots
	slots   float64 // nanoseconds of slots paid
	res     Result
	sampled int64
	queued  int // most since then
}

func newSimulation(w World, jobs []Job) *simulation {
	if w.Interval <= 0 {
		w.Interval = 5 * time.Second
	}
	s := &simulation{w: w, jobs: jobs, rand: rand.New(rand.NewPCG(w.Seed, 1)), numbers: map[string]int32{}} //nolint:gosec // a simulation must be repeatable
	if len(jobs) > 0 {
		s.start = jobs[0].Arrival
		if s.w.Sample <= 0 {
			s.w.Sample = max(time.Second, jobs[len(jobs)-1].Arrival.Sub(s.start)/150)
		}
	}
	s.res.Removed, s.res.KeptBack = map[Reason]int{}, map[Reason]int{}
	s.res.Start = s.start
	return s
}

func (s *simulation) time() time.Time { return s.start.Add(time.Duration(s.now)) }

func (s *simulation) run() {
	if len(s.jobs) == 0 {
		return
	}
	var decideAt, lastWork int64
	for {
		policy := s.w.Schedule.At(s.time())
		for s.next < len(s.jobs) && int64(s.jobs[s.next].Arrival.Sub(s.start)) <= s.now {
			s.queue = append(s.queue, int32(s.next))
			s.next++
		}
		for len(s.events) > 0 && s.events[0].at <= s.now {
			e := heap.Pop(&s.events).(happening) //nolint:forcetypeassert // as above
			s.happen(e)
		}
		s.place(policy)
		if s.now >= decideAt {
			s.decide(policy)
			s.place(policy)
			decideAt = s.now + int64(s.w.Interval)
		}
		s.queued = max(s.queued, len(s.queue)-s.head)
		if s.now >= s.sampled {
			s.sample()
		}
		if s.running > 0 || s.next < len(s.jobs) {
			lastWork = s.now
		}
		waiting := len(s.queue) - s.head
		if s.next == len(s.jobs) && s.running == 0 && (waiting == 0 || s.now-lastWork > int64(maxIdleTail)) {
			s.res.Failed = waiting
			s.sample()
			return
		}
		to := decideAt
		if len(s.events) > 0 {
			to = min(to, s.events[0].at)
		}
		if s.next < len(s.jobs) {
			to = min(to, int64(s.jobs[s.next].Arrival.Sub(s.start)))
		}
		to = max(to, s.now)
		d := float64(to - s.now)
		s.paid += d * float64(s.live)
		s.busy += d * float64(s.running)
		s.slots += d * float64(s.live*policy.capacity())
		s.now = to
	}
}

func (s *simulation) happen(e happening) {
	i := &s.insts[e.inst]
	switch e.kind {
	case booted:
		i.State, i.Free = Ready, s.time()
		s.ready++
		s.open = append(s.open, e.inst)
	case bootFailed:
		i.Broken = true
		s.res.BootFailed++
	case ended:
		s.running--
		i.Busy--
		if i.Busy == 0 {
			i.Free = s.time()
		}
		s.open = append(s.open, e.inst)
	case deleted:
		s.live--
		delete(s.numbers, i.ID)
		*i = Instance{State: Deleting}
		s.spare = append(s.spare, e.inst)
	}
}

// place gives waiting jobs to instances. The one that a job left last comes
// first, which is what Place prefers among those that are equally full.
func (s *simulation) place(p Policy) {
	for s.head < len(s.queue) && len(s.open) > 0 {
		k := s.open[len(s.open)-1]
		i := &s.insts[k]
		if i.ID == "" || i.State != Ready || i.free(p) == 0 {
			s.open = s.open[:len(s.open)-1]
			continue
		}
		if s.w.Limit > 0 && s.running >= s.w.Limit {
			return
		}
		j := s.jobs[s.queue[s.head]]
		s.head++
		i.Busy++
		i.Used++
		s.running++
		s.waits = append(s.waits, s.now-int64(j.Arrival.Sub(s.start)))
		heap.Push(&s.events, happening{s.now + max(0, int64(j.Duration)), ended, k})
	}
	if s.head > 4096 && 2*s.head > len(s.queue) {
		s.queue = slices.Delete(s.queue, 0, s.head)
		s.head = 0
	}
}

func (s *simulation) decide(p Policy) {
	s.res.Decisions++
	s.fleet = s.fleet[:0]
	for k := range s.insts {
		if s.insts[k].ID != "" {
			s.fleet = append(s.fleet, s.insts[k])
		}
	}
	d := Demand{}
	if !p.Preemptive {
		// A runner that is not preemptive has taken them from the queue.
		d.Waiting = len(s.queue) - s.head
		if s.w.Limit > 0 {
			d.Waiting = max(0, min(d.Waiting, s.w.Limit-s.running))
		}
	}
	plan := Decide(Input{
		Now: s.time(), Policy: p, Fleet: Fleet{Instances: s.fleet, Seen: s.time()}, Demand: d,
		Throttle: s.w.Throttle, Bucket: s.bucket,
	})
	s.bucket = plan.Bucket
	for _, r := range plan.Remove {
		k := s.numbers[r.ID]
		i := &s.insts[k]
		if i.State == Ready {
			s.ready--
		}
		i.State = Deleting
		s.res.Removed[r.Reason]++
		heap.Push(&s.events, happening{s.now + int64(s.w.Delete), deleted, k})
	}
	for _, r := range []Reason{AtLimit, IsThrottled} {
		if n := plan.Counts[r]; n > 0 {
			s.res.KeptBack[r] += n
		}
	}
	for range plan.Create {
		s.create()
	}
}

func (s *simulation) create() {
	var k int32
	if n := len(s.spare); n > 0 {
		k = s.spare[n-1]
		s.spare = s.spare[:n-1]
	} else {
		k = int32(len(s.insts))
		s.insts = append(s.insts, Instance{})
		s.names = append(s.names, name(int(k)))
	}
	s.insts[k] = Instance{ID: s.names[k], State: Creating}
	s.numbers[s.names[k]] = k
	s.live++
	s.res.Created++
	s.res.Peak = max(s.res.Peak, s.live)
	took := int64(float64(s.w.Boot) * (0.5 + s.rand.Float64()))
	kind := booted
	if s.rand.Float64() < s.w.BootFailures {
		kind = bootFailed
	}
	heap.Push(&s.events, happening{s.now + took, kind, k})
}

// name is a short name of number k; equal lengths sort as numbers do.
func name(k int) string {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	b := [6]byte{}
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = digits[k%len(digits)]
		k /= len(digits)
	}
	return string(b[:])
}

func (s *simulation) sample() {
	s.sampled = s.now + int64(s.w.Sample)
	s.res.Points = append(s.res.Points, Point{
		At: s.time(), Queued: s.queued, Running: s.running, Instances: s.live, Ready: s.ready,
	})
	s.queued = len(s.queue) - s.head
}

func (s *simulation) result() Result {
	r := s.res
	r.Jobs = len(s.jobs)
	r.End = s.time()
	r.InstanceHours = s.paid / float64(time.Hour)
	r.Cost = r.InstanceHours * s.w.Price
	if s.slots > 0 {
		r.BusyShare = s.busy / s.slots
	}
	r.Waits = waits(s.waits)
	return r
}

func waits(all []int64) Waits {
	if len(all) == 0 {
		return Waits{}
	}
	slices.Sort(all)
	var sum float64
	for _, w := range all {
		sum += float64(w)
	}
	at := func(q float64) time.Duration {
		return time.Duration(all[min(len(all)-1, int(q*float64(len(all))))])
	}
	return Waits{
		Mean: time.Duration(sum / float64(len(all))), P50: at(0.5), P95: at(0.95), P99: at(0.99),
		Max: time.Duration(all[len(all)-1]),
	}
}
