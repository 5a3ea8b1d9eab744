// Package history remembers the last day of a runner in a fixed amount of
// memory: an observer of the stream of events, and a sampler of the present,
// fill rings of points that get coarser with age. It is what the charts of the
// status page are drawn from; whoever wants more has Prometheus.
//
// Counts are exact at every resolution, because a coarse point is the sum of
// the fine ones. Quantiles come from a histogram whose buckets double in
// width, so they are off by less than a factor of 1.5.
package history

import (
	"math"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// Tier is one resolution that is kept.
type Tier struct {
	Step   time.Duration
	Points int
}

// Span is how far back a tier reaches.
func (t Tier) Span() time.Duration { return t.Step * time.Duration(t.Points) }

// Tiers returns what is kept, the finest first.
func Tiers() []Tier {
	return []Tier{{10 * time.Second, 360}, {time.Minute, 360}, {5 * time.Minute, 288}}
}

// buckets is how many buckets a histogram has: their upper bounds are
// firstBound times a power of two, the last one has none.
const (
	buckets    = 20
	firstBound = 5 * time.Millisecond // the last bound is about 22 minutes
)

// Histogram counts durations.
type Histogram [buckets]uint32

func (h *Histogram) observe(d time.Duration) {
	i := 0
	for bound := firstBound; i < buckets-1 && d > bound; bound *= 2 {
		i++
	}
	h[i]++
}

func (h *Histogram) add(o *Histogram) {
	for i := range h {
		h[i] += o[i]
	}
}

// Count returns how many durations were counted.
func (h *Histogram) Count() uint64 {
	var n uint64
	for _, c := range h {
		n += uint64(c)
	}
	return n
}

// Quantile returns the duration that the part q of all is not above, in
// seconds; NaN when there are none. Within a bucket it goes by the logarithm.
func (h *Histogram) Quantile(q float64) float64 {
	n := h.Count()
	if n == 0 {
		return math.NaN()
	}
	rank := q * float64(n)
	var below float64
	for i, c := range h {
		if c > 0 && below+float64(c) >= rank {
			upper := firstBound.Seconds() * math.Exp2(float64(i))
			if i == buckets-1 {
				return upper / 2 // its lower bound: nothing more is known
			}
			return upper * math.Exp2((rank-below)/float64(c)-1)
		}
		below += float64(c)
	}
	return math.NaN() // not reached: the counts add up to n
}

// Point is what happened in one step. Gauges are the highest value of it,
// except for slots, which is the last one.
type Point struct {
	Start     time.Time // zero: nothing is known of this step
	Sampled   bool      // the gauges are
	Running   int       // jobs
	Slots     int
	Lag       time.Duration // of the log that is furthest behind
	Succeeded uint32        // jobs that ended in this step
	Failed    uint32        // of these, the script's fault
	Errored   uint32        // of these, any other
	Canceled  uint32
	Calls     uint32    // to the coordinator
	CallsBad  uint32    // that failed
	Wait      Histogram // of jobs in the coordinator's queue
	Latency   Histogram // of calls, but those for a job, which wait on purpose
}

func (p *Point) add(o *Point) {
	if o.Sampled {
		p.Sampled = true
		p.Slots = o.Slots
	}
	p.Running, p.Lag = max(p.Running, o.Running), max(p.Lag, o.Lag)
	p.Succeeded += o.Succeeded
	p.Failed += o.Failed
	p.Errored += o.Errored
	p.Canceled += o.Canceled
	p.Calls += o.Calls
	p.CallsBad += o.CallsBad
	p.Wait.add(&o.Wait)
	p.Latency.add(&o.Latency)
}

// ring holds the points of one tier; a step's place follows from its time.
type ring struct {
	Tier
	points []Point
}

func (r *ring) at(t time.Time) *Point {
	start := t.Truncate(r.Step)
	p := &r.points[int(start.UnixNano()/int64(r.Step))%len(r.points)]
	if !p.Start.Equal(start) {
		*p = Point{Start: start}
	}
	return p
}

// Gauges are the present.
type Gauges struct {
	Running int
	Slots   int
	Lag     time.Duration
}

// History is an event.Observer. Its methods may be called at the same time.
type History struct {
	mu    sync.Mutex
	rings []ring
	step  Point // since the last sample, not in the rings yet
}

// New returns an empty history with all the memory that it will ever use.
func New() *History {
	h := &History{}
	for _, t := range Tiers() {
		h.rings = append(h.rings, ring{t, make([]Point, t.Points)})
	}
	return h
}

// Observe counts e.
func (h *History) Observe(e event.Event) {
	switch f := e.Fact.(type) {
	case event.JobStarted:
		h.mu.Lock()
		h.step.Wait.observe(f.Info.TimeInQueue)
		h.mu.Unlock()
	case event.JobFinished:
		h.mu.Lock()
		switch {
		case f.Outcome.OK():
			h.step.Succeeded++
		case f.Outcome.Reason == job.Canceled:
			h.step.Canceled++
		case f.Outcome.Reason == job.ScriptFailure:
			h.step.Failed++
		default:
			h.step.Errored++
		}
		h.mu.Unlock()
	case event.Called:
		h.mu.Lock()
		h.step.Calls++
		if f.Class != "" || f.Status >= 400 || f.Status < 0 {
			h.step.CallsBad++
		} else if f.Endpoint != "request_job" {
			h.step.Latency.observe(f.Took)
		}
		h.mu.Unlock()
	default:
	}
}

// Sample adds the present, and all that was observed since the last time, to
// the step that now is in.
func (h *History) Sample(now time.Time, g Gauges) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.step.Sampled, h.step.Running, h.step.Slots, h.step.Lag = true, g.Running, g.Slots, g.Lag
	for i := range h.rings {
		h.rings[i].at(now).add(&h.step)
	}
	h.step = Point{}
}

// Since returns the finest tier that reaches back as far as span, or the
// coarsest, and its points up to now, oldest first. Steps of which nothing is
// known have only their Start.
func (h *History) Since(now time.Time, span time.Duration) (Tier, []Point) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := &h.rings[len(h.rings)-1]
	for i := range h.rings {
		if h.rings[i].Span() >= span {
			r = &h.rings[i]
			break
		}
	}
	n := min(int(span/r.Step), r.Points)
	out := make([]Point, 0, n)
	for i := range n {
		start := now.Truncate(r.Step).Add(-time.Duration(n-1-i) * r.Step)
		p := r.points[int(start.UnixNano()/int64(r.Step))%len(r.points)]
		if !p.Start.Equal(start) {
			p = Point{Start: start}
		}
		out = append(out, p)
	}
	return r.Tier, out
}
