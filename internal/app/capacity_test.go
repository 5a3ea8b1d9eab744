package app_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/board"
	"github.com/glassrunner/glassrunner/internal/observe/metrics"
	"github.com/glassrunner/glassrunner/internal/pulse"
	"github.com/glassrunner/glassrunner/internal/scheduler"
)

// yard is a scheduler with its observers and a coordinator that does as it
// likes. Use it in a bubble.
type yard struct {
	t       *testing.T
	bus     *event.Bus
	sched   *scheduler.Scheduler
	board   *board.Board
	metrics *metrics.Metrics
	pulse   *pulse.Monitor
	told    map[job.Runner]time.Time // when a runner appeared

	line *regexp.Regexp // of glassrunner_capacity_blocked_seconds_total

	mu   sync.Mutex
	rand *rand.Rand
}

func newYard(t *testing.T, seed uint64) *yard {
	t.Helper()
	y := &yard{
		t: t, board: board.New(board.Options{}), pulse: pulse.New(), told: map[job.Runner]time.Time{},
		line: regexp.MustCompile(`(?m)^glassrunner_capacity_blocked_seconds_total\{reason="(.*?)",runner="(.*?)",.*\} (.*)$`),
		rand: rand.New(rand.NewPCG(seed, 5)),
	}
	y.metrics = metrics.New(metrics.Options{Board: y.board, SystemID: "s_0123456789ab", Pulse: y.pulse})
	y.bus = event.NewBus(y.board, y.metrics)
	y.sched = scheduler.New(scheduler.Options{Bus: y.bus, Pulse: y.pulse})
	return y
}

func (y *yard) n(most int) int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.rand.IntN(most)
}

func (y *yard) span(most time.Duration) time.Duration { return time.Duration(y.n(int(most))) }

// request is a coordinator's answer, of any kind.
func (y *yard) request(r job.Runner) func(context.Context, scheduler.Ask) (scheduler.Task, scheduler.Result) {
	return func(ctx context.Context, _ scheduler.Ask) (scheduler.Task, scheduler.Result) {
		hold := y.span(time.Second)
		if y.n(4) == 0 {
			hold = y.span(5 * time.Minute)
		}
		select {
		case <-time.After(hold):
		case <-ctx.Done():
			return nil, scheduler.Result{Kind: scheduler.RequestFailed}
		}
		kind := []scheduler.Kind{
			scheduler.NoJob, scheduler.NoJob, scheduler.Job, scheduler.Job, scheduler.Job,
			scheduler.Forbidden, scheduler.RequestFailed, scheduler.NoCapacity,
		}[y.n(8)]
		if kind != scheduler.Job {
			return nil, scheduler.Result{Kind: kind}
		}
		scope := event.Scope{Runner: r, Job: 1, Run: y.bus.NextRun()}
		y.bus.Emit(event.WithScope(context.Background(), scope), event.JobStarted{})
		return func(ctx context.Context) scheduler.TaskResult {
			select {
			case <-time.After(y.span(10 * time.Minute)):
			case <-ctx.Done():
			}
			y.bus.Emit(event.WithScope(context.Background(), scope), event.JobRemoved{})
			return scheduler.OK
		}, scheduler.Result{Kind: scheduler.Job, Job: 1}
	}
}

// load makes a random configuration and puts it in force.
func (y *yard) load(first bool) scheduler.Config {
	c := scheduler.Config{Concurrent: 1 + y.n(5), CheckInterval: time.Duration(1+y.n(5)) * time.Second}
	facts := event.ConfigLoaded{Generation: 1, Concurrent: c.Concurrent}
	now := time.Now()
	y.forget()
	for i := range 8 {
		if y.n(3) == 0 {
			continue
		}
		// Two of them share their labels, one of these its token with a third.
		r := job.Runner{Short: fmt.Sprint("runner", i/2*2), Name: fmt.Sprint(i / 2 * 2), SystemID: "s_0123456789ab", Executor: "shell"}
		if i%4 > 1 {
			r.Short, r.Name = fmt.Sprint("runner", i), fmt.Sprint(i)
		}
		c.Entries = append(c.Entries, scheduler.Entry{
			Runner: r, Key: fmt.Sprint(i % 5), Valid: y.n(10) > 0, Limit: y.n(4), RequestConcurrency: y.n(3),
			UnhealthyLimit: 2, UnhealthyInterval: time.Minute, Request: y.request(r),
		})
		facts.Runners = append(facts.Runners, event.Limits{Runner: r})
		if y.told[r].IsZero() {
			y.told[r] = now
		}
	}
	y.bus.Emit(context.Background(), facts)
	if !first {
		y.sched.Apply(c)
	}
	synctest.Wait()
	return c
}

// forget drops from told who left and has no job any more: its series are
// gone. Who left and got a job afterwards is there since that job.
func (y *yard) forget() {
	has := map[job.Runner]bool{}
	p := y.board.Present()
	for i := range p.Runners {
		has[p.Runners[i].Runner] = true
	}
	for i := range p.Jobs {
		if j := &p.Jobs[i]; y.told[j.Runner].IsZero() {
			y.told[j.Runner] = j.Started
		}
	}
	for r := range y.told {
		if !has[r] {
			delete(y.told, r)
		}
	}
}

// check: the blocks of each runner add up to the time since it appeared, none
// ever goes back, and places add up.
func (y *yard) check(last map[string]float64) map[string]float64 {
	y.t.Helper()
	g, ok := y.metrics.Gatherer().(interface {
		AppendText(dst []byte, openMetrics bool) ([]byte, error)
	})
	if !ok {
		y.t.Fatal("the gatherer has no AppendText")
	}
	text, err := g.AppendText(nil, false)
	if err != nil {
		y.t.Fatal(err)
	}
	sums, now := map[string]float64{}, map[string]float64{}
	_, rest, _ := strings.Cut(string(text), "# TYPE glassrunner_capacity_blocked_seconds_total counter\n")
	rest, _, _ = strings.Cut(rest, "# ")
	for _, m := range y.line.FindAllStringSubmatch(rest, -1) {
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			y.t.Fatal(err)
		}
		sums[m[2]] += v
		series := m[2] + " " + m[1]
		if v < last[series] {
			y.t.Errorf("%s went from %v back to %v", series, last[series], v)
		}
		now[series] = v
	}
	for r, at := range y.told {
		want := time.Since(at).Seconds()
		if got := sums[r.Short]; math.Abs(got-want) > 1e-6*math.Max(1, want) {
			y.t.Errorf("%s: the blocks add up to %v s in %v s", r.Short, got, want)
		}
		delete(sums, r.Short)
	}
	for name, v := range sums {
		y.t.Errorf("%s has %v s and is not configured", name, v)
	}
	return now
}

// TestBlocksAddUp: at every moment, under any configuration and load, over
// reloads, holds and the drain, each runner has exactly one block.
func TestBlocksAddUp(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { blocksAddUp(t, seed) })
		})
	}
}

func blocksAddUp(t *testing.T, seed uint64) {
	y := newYard(t, seed)
	first := y.load(true)
	over := make(chan error, 1)
	go func() { over <- y.sched.Run(t.Context(), first) }()
	synctest.Wait()
	var last map[string]float64
	reloads := false
	for range 50 {
		time.Sleep(y.span(40 * time.Second)) // faked
		synctest.Wait()
		switch y.n(12) {
		case 0:
			y.load(false)
			reloads = true
		case 1:
			y.sched.Hold(fmt.Sprint(y.n(5)), []string{"disk", "paused"}[y.n(2)], y.n(2) == 0)
			synctest.Wait()
		}
		y.forget()
		if reloads {
			last = nil // a runner may have left and come back
			reloads = false
		}
		last = y.check(last)
		if places := y.board.Present().Places; places.Running+places.Requesting+places.Idle < y.sched.Status().Concurrent {
			t.Errorf("%+v of %d places", places, y.sched.Status().Concurrent)
		}
	}
	y.sched.Drain("test")
	time.Sleep(time.Minute)
	synctest.Wait()
	y.forget()
	last = y.check(last)
	if err := <-over; err != nil {
		t.Error(err)
	}
	time.Sleep(time.Hour) // after the end, while it is looked at
	y.forget()
	y.check(last)
}
