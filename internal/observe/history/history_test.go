package history_test

import (
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/history"
)

func TestCountsAreExactAtEveryResolution(t *testing.T) {
	h := history.New()
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	now := start
	// An hour and a half: the finest tier has lost the first half hour.
	for i := range 540 {
		h.Observe(event.Event{Fact: event.JobStarted{Info: job.Info{TimeInQueue: time.Second}}})
		h.Observe(event.Event{Fact: event.JobFinished{}})
		if i%2 == 0 {
			h.Observe(event.Event{Fact: event.JobFinished{Outcome: job.Outcome{Reason: job.ScriptFailure}}})
			h.Observe(event.Event{Fact: event.JobFinished{Outcome: job.Outcome{Reason: job.SystemFailure}}})
			h.Observe(event.Event{Fact: event.JobFinished{Outcome: job.Outcome{Reason: job.Canceled}}})
		}
		h.Observe(event.Event{Fact: event.Called{Endpoint: "update_job", Status: 200, Took: 100 * time.Millisecond}})
		h.Observe(event.Event{Fact: event.Called{Endpoint: "request_job", Status: 204, Took: 50 * time.Second}})
		h.Observe(event.Event{Fact: event.Called{Endpoint: "update_job", Status: -1, Class: event.ErrDNS}})
		h.Sample(now, history.Gauges{Running: i % 7, Slots: 9, Lag: time.Duration(i) * time.Second})
		now = now.Add(10 * time.Second)
	}
	now = now.Add(-10 * time.Second)
	for _, c := range []struct {
		span   time.Duration
		step   time.Duration
		points int
		jobs   uint32
	}{
		{10 * time.Minute, 10 * time.Second, 60, 60},
		{time.Hour, 10 * time.Second, 360, 360},
		{6 * time.Hour, time.Minute, 360, 540},
		{24 * time.Hour, 5 * time.Minute, 288, 540},
		{1000 * time.Hour, 5 * time.Minute, 288, 540},
	} {
		tier, points := h.Since(now, c.span)
		if tier.Step != c.step || len(points) != c.points {
			t.Errorf("%v: step %v, %d points; want %v, %d", c.span, tier.Step, len(points), c.step, c.points)
			continue
		}
		var sum history.Point
		var running int
		for i := range points {
			p := &points[i]
			if i > 0 && p.Start.Sub(points[i-1].Start) != c.step {
				t.Fatalf("%v: point %d starts at %v after %v", c.span, i, p.Start, points[i-1].Start)
			}
			sum.Succeeded += p.Succeeded
			sum.Failed += p.Failed
			sum.Errored += p.Errored
			sum.Canceled += p.Canceled
			sum.Calls += p.Calls
			sum.CallsBad += p.CallsBad
			sum.Latency[0] += uint32(p.Latency.Count())
			sum.Wait[0] += uint32(p.Wait.Count())
			running = max(running, p.Running)
			if p.Sampled && p.Slots != 9 {
				t.Fatalf("slots: %d", p.Slots)
			}
		}
		if sum.Succeeded != c.jobs || sum.Failed != c.jobs/2 || sum.Errored != c.jobs/2 || sum.Canceled != c.jobs/2 ||
			sum.Calls != 3*c.jobs || sum.CallsBad != c.jobs || sum.Latency[0] != c.jobs || sum.Wait[0] != c.jobs || running != 6 {
			t.Errorf("%v: %+v, running %d; want %d jobs", c.span, sum, running, c.jobs)
		}
		if last := points[len(points)-1]; last.Lag != 539*time.Second {
			t.Errorf("%v: last lag %v", c.span, last.Lag)
		}
	}
}

func TestGapsAreNotOldPoints(t *testing.T) {
	h := history.New()
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	h.Sample(start, history.Gauges{Running: 5})
	// The same place of the ring, one round later.
	_, points := h.Since(start.Add(time.Hour), time.Hour)
	for _, p := range points {
		if p.Sampled || p.Running != 0 {
			t.Fatalf("an old point came back: %+v", p)
		}
	}
}

func TestQuantile(t *testing.T) {
	for _, d := range []time.Duration{time.Millisecond, 7 * time.Millisecond, 80 * time.Millisecond, time.Second, 31 * time.Second, 10 * time.Minute} {
		h := history.New()
		for range 100 {
			h.Observe(event.Event{Fact: event.JobStarted{Info: job.Info{TimeInQueue: d}}})
		}
		h.Sample(time.Now(), history.Gauges{})
		_, points := h.Since(time.Now(), 10*time.Second)
		for _, p := range points {
			if p.Wait.Count() == 0 {
				continue
			}
			got := p.Wait.Quantile(0.5)
			if f := got / max(d.Seconds(), 0.0035); f > 1.5 || f < 1/1.5 {
				t.Errorf("%v: got %g s", d, got)
			}
		}
	}
	var none history.Histogram
	if q := none.Quantile(0.5); !math.IsNaN(q) {
		t.Errorf("of nothing: %g", q)
	}
}

// TestMemory holds the promise that a history has a fixed size.
func TestMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	h := history.New()
	now := time.Now()
	for range 20000 {
		h.Observe(event.Event{Fact: event.JobFinished{}})
		h.Sample(now, history.Gauges{Running: 1})
		now = now.Add(5 * time.Second)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 384<<10 {
		t.Errorf("a day of history takes %d bytes, want at most 384 KiB", grown)
	}
	runtime.KeepAlive(h)
	if n := testing.AllocsPerRun(100, func() { h.Sample(now, history.Gauges{}) }); n > 0 {
		t.Errorf("a sample allocates %g times", n)
	}
}
