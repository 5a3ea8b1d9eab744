package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/scheduler"
)

// chaos is a random coordinator with any number of entries that checks what a
// strict one would: bounds (rule 17), distances (rule 18), and that every job
// that it hands out is run once.
type chaos struct {
	t    *testing.T
	mu   sync.Mutex
	rand *rand.Rand

	concurrent int // what must hold now; during a reload the larger value
	used       int
	keys       map[string]*chaosKey
	all        []*chaosEntry
	calm       bool // no more failures
	next       job.ID
	runs       map[job.ID]int
	requests   int
}

type chaosKey struct{ requests, jobs int }

// chaosEntry is one [[runners]] entry over all reloads.
type chaosEntry struct {
	c         *chaos
	name, key string
	queue     int

	limit, parallel  int
	adaptive, strict bool
	interval         time.Duration // the smallest in force since the last request
	last             time.Time
	lastJob          bool // the latest answer brought a job
	credit           int  // received jobs not followed by a request
}

func (c *chaos) dice(n int) bool { return c.rand.IntN(n) == 0 }

func (c *chaos) span(most time.Duration) time.Duration {
	return time.Duration(c.rand.Int64N(int64(most)))
}

func (e *chaosEntry) request(ctx context.Context, ask scheduler.Ask) (scheduler.Task, scheduler.Result) {
	c, k := e.c, e.c.keys[e.key]
	c.mu.Lock()
	now := time.Now()
	c.requests++
	c.used++
	k.requests++
	if c.used > c.concurrent {
		c.t.Errorf("%d jobs and requests, concurrent is %d", c.used, c.concurrent)
	}
	if limit, parallel := c.bounds(e.key); k.requests+k.jobs > limit || k.requests > parallel {
		c.t.Errorf("%s: %d jobs, %d requests, limit is %d, request_concurrency is %d", e.name, k.jobs, k.requests, limit, parallel)
	}
	if early := e.interval - now.Sub(e.last); !e.last.IsZero() && early > 0 {
		switch {
		case e.strict:
			c.t.Errorf("%s: strict, but %v early", e.name, early)
		case e.parallel <= 1 && e.credit == 0:
			c.t.Errorf("%s: %v early without a received job", e.name, early)
		case !e.lastJob && e.credit == 0:
			c.t.Errorf("%s: %v early though the last answer had no job", e.name, early)
		}
	}
	e.last = now
	e.credit = max(e.credit-1, 0)

	wait := c.span(300 * time.Millisecond)
	kind, refused, retried := scheduler.Job, false, c.dice(10)
	hold := time.Duration(0)
	switch {
	case !c.calm && c.dice(8):
		kind = []scheduler.Kind{scheduler.RequestFailed, scheduler.Forbidden, scheduler.ClientError, scheduler.NoCapacity}[c.rand.IntN(4)]
	case !c.calm && c.dice(100):
		c.giveBack(k)
		e.lastJob = false
		c.mu.Unlock()
		panic("chaos")
	case e.queue == 0:
		kind = scheduler.NoJob
		if !ask.Brief && c.dice(2) {
			hold = c.span(50 * time.Second)
		}
	case !c.calm && c.dice(10):
		refused = true
	default:
		e.queue--
	}
	c.mu.Unlock()

	if !sleep(ctx, wait+hold) && kind != scheduler.Job {
		kind = scheduler.RequestFailed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e.lastJob = kind == scheduler.Job
	if e.lastJob {
		e.credit++
	} else {
		e.credit = 0
	}
	if kind != scheduler.Job || refused {
		c.giveBack(k)
		return nil, scheduler.Result{Kind: kind, Refused: refused, Retried: retried}
	}
	k.requests--
	k.jobs++
	c.next++
	id, length := c.next, c.span(20*time.Second)
	end := c.rand.IntN(12)
	return func(ctx context.Context) scheduler.TaskResult {
		defer func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.runs[id]++
			c.used--
			k.jobs--
		}()
		sleep(ctx, length)
		switch end {
		case 0:
			panic("chaos")
		case 1:
			return scheduler.Failed
		case 2:
			return scheduler.SystemFailed
		}
		return scheduler.OK
	}, scheduler.Result{Kind: scheduler.Job, Job: id, Retried: retried}
}

func (c *chaos) giveBack(k *chaosKey) {
	c.used--
	k.requests--
}

// bounds are the laxest of the entries of one token: another of them may have
// started at the same moment.
func (c *chaos) bounds(key string) (limit, parallel int) {
	parallel = 1
	for _, e := range c.all {
		if e.key != key {
			continue
		}
		parallel = max(parallel, e.parallel)
		if limit = max(limit, e.limit); e.limit == 0 {
			limit = math.MaxInt
		}
	}
	return limit, parallel
}

// shuffle gives e new random settings.
func (e *chaosEntry) shuffle() {
	r := e.c.rand
	e.limit = r.IntN(5)
	e.parallel = r.IntN(4)
	e.adaptive, e.strict = r.IntN(2) == 0, r.IntN(5) == 0
}

func (e *chaosEntry) entry() scheduler.Entry {
	return scheduler.Entry{
		Runner: job.Runner{Name: e.name, Short: e.key}, Key: e.key, Valid: true,
		Limit: e.limit, RequestConcurrency: e.parallel, Adaptive: e.adaptive, StrictInterval: e.strict,
		UnhealthyLimit: 2, UnhealthyInterval: 20 * time.Second, Request: e.request,
	}
}

func TestChaos(t *testing.T) {
	seeds := uint64(30)
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { bubble(t, func(t *testing.T) { runChaos(t, seed) }) })
	}
}

func runChaos(t *testing.T, seed uint64) {
	c := &chaos{t: t, rand: rand.New(rand.NewPCG(seed, 1)), keys: map[string]*chaosKey{}, runs: map[job.ID]int{}}
	var all []*chaosEntry
	for i := range 1 + c.rand.IntN(7) {
		e := &chaosEntry{c: c, name: fmt.Sprintf("e%d", i), key: fmt.Sprintf("k%d", i)}
		if i > 0 && c.dice(4) {
			e.key = all[i-1].key
		}
		c.keys[e.key] = &chaosKey{}
		all = append(all, e)
	}
	c.all = all
	conf := func() scheduler.Config {
		n := scheduler.Config{Concurrent: 1 + c.rand.IntN(6), CheckInterval: time.Duration(1+c.rand.IntN(4)) * time.Second}
		for _, e := range all {
			e.shuffle()
			n.Entries = append(n.Entries, e.entry())
		}
		return n
	}
	first := conf()
	c.concurrent = first.Concurrent
	for _, e := range all {
		e.interval = first.CheckInterval
	}
	tape := &tape{}
	s := scheduler.New(scheduler.Options{Bus: event.NewBus(tape)})
	over := make(chan error, 1)
	go func() { over <- s.Run(t.Context(), first) }()

	for range 30 {
		c.mu.Lock()
		pause, reload := c.span(10*time.Second), c.dice(4)
		c.mu.Unlock()
		after(pause)
		c.mu.Lock()
		for _, e := range all {
			if c.dice(3) {
				e.queue += c.rand.IntN(12)
			}
		}
		c.mu.Unlock()
		if reload {
			c.reload(s, all, conf)
		}
	}
	c.mu.Lock()
	c.calm = true
	c.mu.Unlock()
	left := func() (n int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, e := range all {
			n += e.queue
		}
		return n + c.used
	}
	for range 2000 {
		if left() == 0 {
			break
		}
		after(10 * time.Second)
	}
	if seed%2 == 0 {
		s.Drain("test")
	} else {
		s.Abort("test", errors.New("over"))
	}
	if err := <-over; err != nil {
		t.Errorf("Run: %v", err)
	}
	for _, e := range all {
		if e.queue != 0 {
			t.Errorf("%s: %d jobs were never taken", e.name, e.queue)
		}
	}
	if c.used != 0 {
		t.Errorf("%d places are not given back", c.used)
	}
	for id := job.ID(1); id <= c.next; id++ {
		if c.runs[id] != 1 {
			t.Errorf("job %d was run %d times, want once", id, c.runs[id])
		}
	}
	earned := len(facts[event.Fed](tape, ""))
	for _, f := range facts[event.Polled](tape, "") {
		if f.Result == "job" {
			earned++
		}
	}
	if c.requests > earned {
		t.Errorf("%d requests, turns and received jobs are worth %d", c.requests, earned)
	}
	checkFacts(t, tape)
}

// reload puts a new random configuration in force. While it is on its way
// the laxer bounds of both hold.
func (c *chaos) reload(s *scheduler.Scheduler, all []*chaosEntry, conf func() scheduler.Config) {
	c.mu.Lock()
	old := make([]chaosEntry, len(all))
	for i, e := range all {
		old[i] = *e
	}
	was := c.concurrent
	next := conf()
	c.concurrent = max(was, next.Concurrent)
	want := make([]chaosEntry, len(all))
	for i, e := range all {
		want[i] = *e
		if e.limit > 0 && (old[i].limit == 0 || old[i].limit > e.limit) {
			e.limit = old[i].limit
		}
		e.parallel = max(e.parallel, old[i].parallel)
		e.strict = e.strict && old[i].strict
		e.interval = min(e.interval, next.CheckInterval)
	}
	c.mu.Unlock()
	s.Apply(next)
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.concurrent = next.Concurrent
	for i, e := range all {
		e.limit, e.parallel, e.strict = want[i].limit, want[i].parallel, want[i].strict
		e.interval = next.CheckInterval
	}
}

// checkFacts: what is told is within its own bounds and ends at rest.
func checkFacts(t *testing.T, tape *tape) {
	t.Helper()
	flying := map[string]int{}
	for _, e := range tape.events {
		switch f := e.Fact.(type) {
		case event.RequestSlots:
			if f.InFlight < 0 || f.HardLimit < 1 || f.UsedLimit < 1 || f.UsedLimit > f.HardLimit && !f.Exceeded && f.InFlight > flying[e.Runner.Short] {
				t.Errorf("impossible %+v", f)
			}
			flying[e.Runner.Short] = f.InFlight
		case event.SlotsChanged:
			if f.Slots < 1 || f.Started < 0 || f.Stopped < 0 || f.Started > 0 && f.Stopped > 0 {
				t.Errorf("impossible %+v", f)
			}
		default:
		}
	}
	for key, n := range flying {
		if n != 0 {
			t.Errorf("%s: told of %d requests in flight at the end", key, n)
		}
	}
}

// While an entry could ask but for room, no other starts two requests.
func TestFairness(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 2))
				n := 2 + r.IntN(8)
				slots := 1 + r.IntN(3)
				var mu sync.Mutex
				wants := make([]bool, n)
				started := make([][]int, n) // since i wants: how often did j start
				total := make([]int, n)
				c := config(slots)
				for i := range n {
					e := entry(fmt.Sprint("e", i), nil)
					e.Request = func(ctx context.Context, _ scheduler.Ask) (scheduler.Task, scheduler.Result) {
						mu.Lock()
						wants[i] = false
						total[i]++
						for j := range n {
							if !wants[j] {
								continue
							}
							if started[j][i]++; started[j][i] > 1 {
								t.Errorf("entry %d started %d requests while %d waited", i, started[j][i], j)
							}
						}
						took := time.Duration(r.Int64N(int64(200 * time.Millisecond)))
						work := time.Duration(r.Int64N(int64(time.Second)))
						mu.Unlock()
						if !sleep(ctx, took) {
							return nil, scheduler.Result{Kind: scheduler.RequestFailed}
						}
						mu.Lock()
						defer mu.Unlock()
						wants[i], started[i] = true, make([]int, n)
						return func(context.Context) scheduler.TaskResult {
							<-time.After(work)
							return scheduler.OK
						}, scheduler.Result{Kind: scheduler.Job}
					}
					c.Entries = append(c.Entries, e)
				}
				w := start(t, c)
				after(10 * time.Minute)
				mu.Lock()
				low, high := total[0], total[0]
				for _, k := range total {
					low, high = min(low, k), max(high, k)
				}
				mu.Unlock()
				// Early ones have a lead, for the others' first turns are spaced.
				if low < 10 || high-low > 10+high/10 {
					t.Errorf("requests %v, want about the same", total)
				}
				w.finish(t)
			})
		})
	}
}

// An idle entry among busy ones gets its turns, however scarce room is.
func TestIdleEntryAmongBusyOnes(t *testing.T) {
	for _, slots := range []int{1, 2, 3} {
		bubble(t, func(t *testing.T) {
			idle := newQueue(0, 0)
			c := config(slots, entry("idle", idle))
			const busy = 4
			for i := range busy {
				c.Entries = append(c.Entries, entry(fmt.Sprint("busy", i), newQueue(-1, time.Second)))
			}
			w := start(t, c)
			after(10 * time.Minute)
			var worst, last time.Duration
			for _, a := range idle.requests() {
				worst, last = max(worst, a.at-last), a.at
			}
			// A turn, and for a place one job of each other entry at most.
			if limit := 3*time.Second + busy*time.Second; worst > limit || last == 0 {
				t.Errorf("%d slots: asked after %v, want %v at most", slots, worst, limit)
			}
			w.finish(t)
		})
	}
}
