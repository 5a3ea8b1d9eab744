package board_test

import (
	"errors"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/board"
)

// TestTypical finishes jobs that take 1 s, 2 s … and looks at what is usual.
func TestTypical(t *testing.T) {
	r := job.Runner{Short: "a", Name: "one", SystemID: "s"}
	b := board.New(board.Options{})
	now := time.Unix(1_000_000, 0)
	run := uint64(0)
	tell := func(job job.ID, f event.Fact) {
		b.Observe(event.Event{Time: now, Scope: event.Scope{Runner: r, Job: job, Run: run}, Fact: f})
	}
	load := func(factor float64) {
		tell(0, event.ConfigLoaded{Generation: 1, Runners: []event.Limits{{Runner: r, OverdueFactor: factor, OverdueMinJobs: 20}}})
	}
	finish := func(took time.Duration, o job.Outcome) {
		run++
		tell(1, event.JobStarted{})
		tell(1, event.JobFinished{Took: took, Outcome: o})
		tell(1, event.JobRemoved{})
	}
	typical := func() board.Typical { return b.Present().Runners[0].Typical }
	load(3)
	for i := range 19 {
		finish(time.Duration(i+1)*time.Second, job.Outcome{})
	}
	finish(time.Hour, job.Outcome{Reason: job.Canceled})
	finish(time.Hour, job.Outcome{Reason: job.Interrupted})
	if got := typical(); got.P95 != 0 || got.Jobs != 19 {
		t.Errorf("after 19 jobs: %+v, want nothing said", got)
	}
	finish(20*time.Second, job.Outcome{Reason: job.ScriptFailure})
	if got, want := typical(), (board.Typical{P95: 19 * time.Second, Jobs: 20, Factor: 3}); got != want {
		t.Errorf("after 20 jobs: %+v, want %+v", got, want)
	}
	for range 128 { // the last 128 count
		finish(time.Second, job.Outcome{})
	}
	if got := typical().P95; got != time.Second {
		t.Errorf("P95 is %v, want 1 s", got)
	}
	run++
	tell(7, event.JobStarted{})
	j := b.Present().Jobs[0]
	for _, tt := range []struct {
		after   time.Duration
		overdue bool
	}{{time.Second, false}, {3 * time.Second, false}, {3*time.Second + 1, true}} {
		if got := typical().Overdue(&j, now.Add(tt.after)); got != tt.overdue {
			t.Errorf("after %v: overdue %v", tt.after, got)
		}
	}
	load(0)
	if typical().Overdue(&j, now.Add(time.Hour)) {
		t.Error("overdue with a factor of 0")
	}
	tell(7, event.UsageSampled{Usage: job.Usage{CPU: job.Known(5)}})
	if got := b.Present().Jobs[0]; !got.Usage.CPU.Equal(job.Known(5)) || !got.UsageAt.Equal(now) {
		t.Errorf("the job's usage is %+v at %v", got.Usage, got.UsageAt)
	}
	load(3)
	j.Ending = true
	if typical().Overdue(&j, now.Add(time.Hour)) {
		t.Error("a job whose result is being delivered is overdue")
	}
}

func TestMachine(t *testing.T) {
	b := board.New(board.Options{})
	now := time.Unix(1_000_000, 0)
	tell := func(f event.Fact) { b.Observe(event.Event{Time: now, Fact: f}) }
	tell(event.DiskMeasured{Root: "builds", Path: "/b", Free: 5, Size: 10, Full: -1})
	tell(event.DiskMeasured{Root: "cache", Path: "/c", Free: 1, Size: 10, Blocked: true})
	before := b.Present()
	tell(event.DiskMeasured{Root: "builds", Path: "/b", Err: errors.New("stale handle")})
	tell(event.DiskForgotten{Root: "cache", Path: "/c"})
	tell(event.OrphansCounted{Kind: "process", Count: 2, Oldest: time.Minute})
	tell(event.OrphansCounted{Kind: "process", Count: 1, Oldest: time.Hour})
	if len(before.Disks) != 2 || !before.Disks[1].Blocked || before.Disks[0].Err != nil {
		t.Errorf("a snapshot changed: %+v", before.Disks)
	}
	s := b.Present()
	if len(s.Disks) != 1 || s.Disks[0].Free != 5 || s.Disks[0].Err == nil {
		t.Errorf("disks %+v", s.Disks)
	}
	if len(s.Orphans) != 1 || s.Orphans[0].Count != 1 || s.Orphans[0].Oldest != time.Hour {
		t.Errorf("orphans %+v", s.Orphans)
	}
}
