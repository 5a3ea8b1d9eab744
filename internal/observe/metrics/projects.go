package metrics

import (
	"container/heap"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/job"
)

// projects is usage by project: series for the projects that used most, one
// for all others together.
//
// Who used most is estimated by Space-Saving (Metwally, Agrawal, El Abbadi
// 2005) over up to size projects, exactly as long as there are no more. A
// project that comes to use a tenth more than the least of those listed takes
// its series over, value included: what is left of the former owner goes on
// as the new one's beginning. So
//
//   - no series ever goes back, and none jumps: rate() and increase() count
//     every second once, in the series of its project or of other;
//   - the series of a metric always add up to all that was used;
//   - a listed project's value in seconds is at most what it used (by more
//     than total/(size-top) only when there are more than size projects), and
//     at least that less total/top*1.1 and its longest job: what it used
//     before it was listed is part of other.
type projects struct {
	seconds, cpu, cost computedVec

	top    int // slots; 0: off
	size   int // of known
	known  map[string]*project
	beside unlisted // those of known that have no slot, the least first
	slots  []*slot
	others *slot
}

// project is what is known of one that was seen.
type project struct {
	name  string
	used  time.Duration // of jobs, with what it was found with
	slot  *slot         // nil: not listed
	place int           // in projects.beside
}

// slot is a set of series. Its values are read by scrapes.
type slot struct {
	owner   *project     // nil: of all others
	seconds atomic.Int64 // nanoseconds of jobs
	cpu     atomic.Int64 // nanoseconds
	cost    atomic.Int64 // millionths of a unit
}

// use is what one job used, or a part of it.
type use struct {
	seconds, cpu time.Duration
	cost         int64 // millionths of a unit
}

const otherProjects = other

func newProjects(c *catalogue) *projects {
	def := func(name, help, note string) computedVec {
		return c.computed("counter", def{
			name: name, help: help, labels: []string{"project"}, sets: sets{"project": nil},
			values: "project: path of the project, or its id when GitLab does not tell one; other: all that are not listed",
			note:   note,
		})
	}
	const opt = "Only with [monitoring.projects]. Use rate() and increase(): a project takes over the series of one that used less, with its value. "
	return &projects{
		seconds: def("glassrunner_project_job_seconds_total", "Duration of the jobs of the projects that used most.",
			opt+"A value is at most what the project used, and at least that less 1.1/top of all and its longest job. The sum over all projects is that of glassrunner_job_duration_seconds_sum since the table is in the configuration."),
		cpu:  def("glassrunner_project_cpu_seconds_total", "Processor time of the jobs of the projects whose jobs took longest.", opt+"Executors that do not tell what a job used add nothing."),
		cost: def("glassrunner_project_cost_units_total", "Cost of the jobs of the projects whose jobs took longest, in units of price_per_hour.", opt+"Runners without a price add nothing."),
	}
}

// configure sets how many projects are listed. Another number begins anew.
func (p *projects) configure(top int) {
	if top = max(0, top); top == p.top {
		return
	}
	for _, v := range p.vecs() {
		v.drop(nil)
	}
	*p = projects{seconds: p.seconds, cpu: p.cpu, cost: p.cost, top: top}
	if top == 0 {
		return
	}
	p.size = max(4096, 4*top)
	p.known = make(map[string]*project)
	p.others = &slot{}
	p.show("", otherProjects, p.others)
}

func (p *projects) vecs() []computedVec { return []computedVec{p.seconds, p.cpu, p.cost} }

// show makes the series of s, in place of those of the project was.
func (p *projects) show(was, name string, s *slot) {
	const nano, micro = 1e9, 1e6
	p.seconds.replace(was, func() float64 { return float64(s.seconds.Load()) / nano }, name)
	p.cpu.replace(was, func() float64 { return float64(s.cpu.Load()) / nano }, name)
	p.cost.replace(was, func() float64 { return float64(s.cost.Load()) / micro }, name)
}

// replace puts a series of that one label value in the place of another's, ""
// for none, so that no scrape sees both or neither. There is always room.
func (v computedVec) replace(was string, read func() float64, value string) {
	c := v.label([]string{value})
	c.metric = &computed{v.desc, v.kind, prometheus.MakeLabelPairs(v.desc, []string{value}), read}
	v.mu.Lock()
	defer v.mu.Unlock()
	if was != "" {
		v.removeLocked(func(o *child) bool { return o.values[0] == was })
	}
	v.insertLocked(c)
}

// add accounts for what a job of a project used.
func (p *projects) add(name string, u use) {
	if p.top == 0 {
		return
	}
	s := p.others
	if name != otherProjects {
		s = p.rank(name, u.seconds)
	}
	s.seconds.Add(int64(u.seconds))
	s.cpu.Add(int64(u.cpu))
	s.cost.Add(u.cost)
}

// rank says that a project's jobs took that much more, lists it if it is of
// those that used most now, and returns where to account for it. The job by
// which a project takes over a series is still of the others: the series is
// to have no more than its new owner used.
func (p *projects) rank(name string, more time.Duration) *slot {
	of := p.find(name)
	of.used += more
	switch {
	case of.slot != nil:
	case len(p.slots) < p.top:
		s := &slot{owner: of}
		p.slots = append(p.slots, s)
		p.unlist(of)
		of.slot = s
		p.show("", name, s)
	default:
		p.compete(of)
		return p.others
	}
	return of.slot
}

// find returns what is known of a project. With no room for one more the
// project that used least is forgotten, and what it used is taken as the new
// one's: nobody who used much is ever estimated too low.
func (p *projects) find(name string) *project {
	if have := p.known[name]; have != nil {
		return have
	}
	n := &project{name: name}
	if len(p.known) >= p.size {
		least, _ := heap.Pop(&p.beside).(*project)
		delete(p.known, least.name)
		n.used = least.used
	}
	p.known[name] = n
	heap.Push(&p.beside, n)
	return n
}

// compete lists a project if it used a tenth more than the least that is.
func (p *projects) compete(of *project) {
	heap.Fix(&p.beside, of.place)
	least := p.slots[0]
	for _, s := range p.slots {
		if s.owner.used < least.owner.used {
			least = s
		}
	}
	was := least.owner
	if of.used <= was.used+was.used/10 {
		return
	}
	p.unlist(of)
	of.slot, least.owner, was.slot = least, of, nil
	heap.Push(&p.beside, was)
	p.show(was.name, of.name, least)
}

func (p *projects) unlist(of *project) { heap.Remove(&p.beside, of.place) }

// unlisted is a heap of projects.
type unlisted []*project

func (u unlisted) Len() int           { return len(u) }
func (u unlisted) Less(i, j int) bool { return u[i].used < u[j].used }
func (u unlisted) Swap(i, j int) {
	u[i], u[j] = u[j], u[i]
	u[i].place, u[j].place = i, j
}

// Push is for container/heap.
func (u *unlisted) Push(x any) {
	if p, ok := x.(*project); ok {
		p.place = len(*u)
		*u = append(*u, p)
	}
}

// Pop is for container/heap.
func (u *unlisted) Pop() any {
	last := len(*u) - 1
	p := (*u)[last]
	(*u)[last] = nil
	*u = (*u)[:last]
	return p
}

// projectOf is how a job's project is called.
func projectOf(i *job.Info) string {
	switch {
	case i.ProjectFullPath != "":
		return label(i.ProjectFullPath)
	case i.ProjectID != 0:
		return strconv.FormatInt(i.ProjectID, 10)
	}
	return otherProjects
}

// costOf is what a job costs that ran for so long, in millionths of a unit.
func costOf(pricePerHour float64, took time.Duration) int64 {
	return int64(math.Round(pricePerHour * 1e6 * took.Hours()))
}
