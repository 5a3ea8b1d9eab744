package board_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/board"
)

type stream struct {
	b   *board.Board
	now time.Time
	seq uint64
}

func newStream(o board.Options) *stream {
	return &stream{b: board.New(o), now: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)}
}

func (s *stream) emit(sc event.Scope, facts ...event.Fact) {
	for _, f := range facts {
		s.seq++
		s.b.Observe(event.Event{Seq: s.seq, Time: s.now, Scope: sc, Fact: f})
	}
}

func (s *stream) wait(d time.Duration) { s.now = s.now.Add(d) }

func runner(short string) job.Runner {
	return job.Runner{Short: short, Name: "n", SystemID: "s_0123456789ab", Executor: "shell"}
}

func TestReloadForgetsHealth(t *testing.T) {
	b := board.New(board.Options{})
	bus := event.NewBus(b)
	r := job.Runner{Short: "abc", Name: "a"}
	loaded := event.ConfigLoaded{Generation: 1, Runners: []event.Limits{{Runner: r}}}
	bus.Emit(t.Context(), loaded)
	bus.Emit(event.WithRunner(t.Context(), r), event.HealthChecked{Failures: 3, DisabledUntil: time.Now().Add(time.Hour)})
	if h := b.Present().Runners[0].Health; h.OK || h.DisabledUntil.IsZero() {
		t.Fatalf("before: %+v", h)
	}
	bus.Emit(t.Context(), loaded)
	if h := b.Present().Runners[0].Health; !h.OK || !h.DisabledUntil.IsZero() || h.Failures != 0 {
		t.Errorf("after a reload: %+v", h)
	}
}

func TestJobLife(t *testing.T) {
	s := newStream(board.Options{})
	start := s.now
	sc := event.Scope{Runner: runner("r"), Job: 5, Run: 1}
	s.emit(sc, event.JobReceived{Info: job.Info{Name: "build"}})
	s.emit(sc, event.JobStarted{Info: job.Info{Name: "build"}, URL: "https://g/5", Timeout: time.Hour}, event.JobState{State: job.Pending}, event.PhaseStarted{Phase: job.PrepareExecutor})
	s.wait(time.Second)
	j := s.b.Snapshot().Jobs[0]
	if j.Phase != job.PrepareExecutor || j.PhaseSince != start || j.Stage != "" || j.State != job.Pending {
		t.Errorf("while it prepares: got phase %q since %v, stage %q, state %q", j.Phase, j.PhaseSince, j.Stage, j.State)
	}
	s.emit(sc, event.PhaseFinished{Phase: job.PrepareExecutor, Took: time.Second}, event.JobState{State: job.Running}, event.ExecutorStage{Stage: "prepare"}, event.PhaseStarted{Phase: "step_script"})
	s.wait(time.Second)
	s.emit(sc, event.LogWritten{Bytes: 10, Total: 10})
	wrote := s.now
	s.wait(3 * time.Second)
	s.emit(sc, event.LogWritten{Bytes: 5, Total: 15}, event.LogSent{Bytes: 10, Total: 10}, event.Directed{Directive: job.Cancel}, event.Directed{Directive: job.GoOn})
	snap := s.b.Snapshot()
	got := snap.Jobs[0]
	want := board.Job{
		Run: 1, ID: 5, Runner: sc.Runner, Info: job.Info{Name: "build"}, URL: "https://g/5", Timeout: time.Hour, Started: start,
		State: job.Running, StateSince: start.Add(time.Second), Phase: "step_script", PhaseSince: start.Add(time.Second), Stage: "step_script",
		ExecutorStage: "prepare", Directive: job.Cancel, Written: 15, Sent: 10, LastOutput: s.now, LastSent: s.now, UnsentSince: s.now,
		Timeline: []board.Phase{{Phase: job.PrepareExecutor, Start: start, Took: time.Second}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("job (-want +got):\n%s", d)
	}
	if wrote.Equal(s.now) || snap.Runners[0].Running != 1 || snap.Runners[0].LastJob != start {
		t.Errorf("runner: %+v", snap.Runners[0])
	}
	failed := errors.New("exit status 1")
	s.emit(sc, event.PhaseFinished{Phase: "step_script", Took: 4 * time.Second, Err: failed},
		event.JobFinished{Outcome: job.Outcome{Reason: job.ScriptFailure, Err: failed, ExitCode: 1}, State: job.Failed, Took: 5 * time.Second})
	if j := s.b.Snapshot().Jobs[0]; !j.Ending || j.State != job.Failed || j.Phase != "" || j.Stage != "step_script" {
		t.Errorf("while its result is delivered: %+v", j)
	}
	s.wait(time.Second)
	s.emit(sc, event.JobRemoved{Lost: true, Took: time.Second})
	snap = s.b.Snapshot()
	if len(snap.Jobs) != 0 || snap.Runners[0].Running != 0 || len(snap.Finished) != 1 {
		t.Fatalf("at the end: %d jobs, %d running, %d finished", len(snap.Jobs), snap.Runners[0].Running, len(snap.Finished))
	}
	f := snap.Finished[0]
	if f.Took != 5*time.Second || !f.Lost || f.Outcome.ExitCode != 1 || len(f.Timeline) != 2 || !f.Timeline[1].Failed || f.Refused {
		t.Errorf("finished: %+v", f)
	}
	if len(got.Timeline) != 1 {
		t.Errorf("a snapshot changed: %v", got.Timeline)
	}
}

func TestUnsentSince(t *testing.T) {
	s := newStream(board.Options{})
	sc := event.Scope{Runner: runner("r"), Job: 1, Run: 1}
	s.emit(sc, event.JobStarted{})
	start := s.now
	for i := range 100 {
		s.emit(sc, event.LogWritten{Bytes: 1, Total: int64(i + 1)})
		s.wait(time.Second)
	}
	at := func(want time.Time) {
		t.Helper()
		if got := s.b.Present().Jobs[0].UnsentSince; !got.Equal(want) {
			t.Errorf("got %v, want %v", got.Sub(start), want.Sub(start))
		}
	}
	at(start)
	s.emit(sc, event.LogSent{Bytes: 3, Total: 3})
	at(start.Add(3 * time.Second))
	s.emit(sc, event.LogSent{Failed: true})
	at(start.Add(3 * time.Second))
	s.emit(sc, event.LogSent{Bytes: 97, Total: 100})
	at(time.Time{})
	s.emit(sc, event.LogSent{Total: 50}) // the coordinator lost some
	at(start)
	s.emit(sc, event.LogSent{Bytes: 50, Total: 100})
	at(time.Time{})
}

func TestRings(t *testing.T) {
	s := newStream(board.Options{Finished: 4, Failed: 2})
	for i := range 12 {
		sc := event.Scope{Runner: runner("r"), Job: job.ID(i), Run: uint64(i + 1)}
		o := job.Outcome{}
		if i%3 == 0 {
			o.Reason = job.ScriptFailure
		}
		s.emit(sc, event.JobStarted{}, event.JobFinished{Outcome: o}, event.JobRemoved{})
	}
	s.emit(event.Scope{Runner: runner("r"), Job: 99, Run: 99}, event.JobReceived{Info: job.Info{Name: "odd"}}, event.JobRefused{Reason: job.ConfigurationError})
	var got []job.ID
	for _, f := range s.b.Snapshot().Finished {
		got = append(got, f.ID)
	}
	if d := cmp.Diff([]job.ID{3, 6, 9, 10, 11, 99}, got); d != "" {
		t.Errorf("kept jobs (-want +got):\n%s", d)
	}
	last := s.b.Snapshot().Finished[5]
	if !last.Refused || last.Info.Name != "odd" {
		t.Errorf("refused: %+v", last)
	}
	none := newStream(board.Options{Finished: -1})
	none.emit(event.Scope{Run: 1}, event.JobStarted{}, event.JobRemoved{})
	if n := len(none.b.Snapshot().Finished); n != 0 {
		t.Errorf("a board that keeps nothing keeps %d", n)
	}
}

func TestRunners(t *testing.T) {
	s := newStream(board.Options{})
	a, b := runner("a"), runner("b")
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 1, Hash: "h", Concurrent: 4, Runners: []event.Limits{{Runner: a, Limit: 2, URL: "https://g"}, {Runner: a, Limit: 3}, {Runner: b}}})
	s.emit(event.Scope{Runner: a}, event.Polled{Result: "none"})
	polled := s.now
	s.wait(time.Minute)
	s.emit(event.Scope{Runner: a}, event.Polled{Result: "failed"}, event.HealthChecked{Failures: 3, DisabledUntil: s.now.Add(time.Hour)}, event.RequestSlots{HardLimit: 2, Exceeded: true}, event.RequestSlots{InFlight: 1, HardLimit: 2, Exceeded: true})
	s.emit(event.Scope{}, event.ConfigLoaded{Err: errors.New("bad")})
	snap := s.b.Snapshot()
	want := board.Runner{
		Runner: a, URL: "https://g", Entries: 2, Limit: 5, RequestConcurrency: 2, LastPoll: s.now, LastPollResult: "failed", LastSuccess: polled,
		Requests: board.Requests{InFlight: 1, HardLimit: 2, Exceeded: 2},
		Health:   board.Health{Failures: 3, CheckedAt: s.now, DisabledUntil: s.now.Add(time.Hour)},
	}
	if d := cmp.Diff(want, snap.Runners[0]); d != "" {
		t.Errorf("runner (-want +got):\n%s", d)
	}
	if c := snap.Config; c.Generation != 1 || c.Hash != "h" || c.LastErr == nil || c.LastSuccess != polled || c.LastTry != s.now {
		t.Errorf("configuration: %+v", c)
	}
	sc := event.Scope{Runner: b, Job: 1, Run: 1}
	s.emit(sc, event.JobStarted{})
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 2})
	if rs := s.b.Snapshot().Runners; len(rs) != 1 || rs[0].Runner != b || rs[0].Entries != 0 {
		t.Errorf("after all were removed: %+v", rs)
	}
	s.emit(sc, event.JobRemoved{})
	s.emit(event.Scope{Runner: a}, event.Polled{Result: "none"})
	if rs := s.b.Snapshot().Runners; len(rs) != 0 {
		t.Errorf("at the end: %+v", rs)
	}
}

func TestProcess(t *testing.T) {
	s := newStream(board.Options{})
	if got := s.b.Snapshot().Process.State; got != event.ProcessStarting {
		t.Errorf("at first: %q", got)
	}
	s.emit(event.Scope{}, event.ProcessChanged{State: event.ProcessRunning}, event.ListenerChanged{Address: "a:1"}, event.ListenerChanged{Address: "b:1", Err: errors.New("no")},
		event.SlotsChanged{Slots: 7}, event.Draining{Signal: "quit"})
	snap := s.b.Snapshot()
	want := board.Process{State: event.ProcessRunning, Since: s.now, Listening: "a:1", Draining: true, Signal: "quit"}
	if d := cmp.Diff(want, snap.Process); d != "" || snap.Slots != 7 {
		t.Errorf("process (-want +got):\n%s\nslots %d", d, snap.Slots)
	}
}

// TestConcurrentReaders is for the race detector: what a snapshot shares
// with the board must not change.
func TestConcurrentReaders(t *testing.T) {
	s := newStream(board.Options{Finished: 10})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				snap := s.b.Snapshot()
				n := 0
				for _, j := range snap.Jobs {
					for _, p := range j.Timeline {
						n += len(p.Phase)
					}
				}
				for _, f := range snap.Finished {
					n += len(f.Timeline)
				}
			}
		})
	}
	for i := range 300 {
		sc := event.Scope{Runner: runner("r"), Job: job.ID(i), Run: uint64(i + 1)}
		s.emit(sc, event.JobStarted{})
		for p := range 200 {
			ph := job.Phase(fmt.Sprint("p", p))
			s.emit(sc, event.PhaseStarted{Phase: ph}, event.LogWritten{Bytes: 1, Total: int64(p)}, event.PhaseFinished{Phase: ph})
		}
		s.emit(sc, event.JobRemoved{})
	}
	close(stop)
	wg.Wait()
}

func BenchmarkPresent(b *testing.B) {
	s := newStream(board.Options{})
	for i := range 100 {
		s.emit(event.Scope{Runner: runner(fmt.Sprint(i % 10)), Job: job.ID(i + 1), Run: uint64(i + 1)}, event.JobStarted{}, event.PhaseStarted{Phase: "step_script"}, event.LogWritten{Bytes: 1, Total: 1})
	}
	b.ReportAllocs()
	for b.Loop() {
		s.b.Present()
	}
}
