package recovery_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/recovery"
)

func record(id job.ID) recovery.Record {
	return recovery.Record{
		Job: id, Token: "glcbt-1_x", Runner: job.Runner{Short: "abc", Executor: "shell"},
		At: recovery.Coordinator{URL: "https://gitlab.example.test"}, Timestamps: true,
		Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

func open(t *testing.T, state string) *recovery.Journal {
	t.Helper()
	j, err := recovery.Open(state)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// crash makes the journal of a process that died: its lock is gone, its files
// are not.
func crash(t *testing.T, state string, ids ...job.ID) {
	t.Helper()
	j := open(t, state)
	for _, id := range ids {
		e, err := j.Begin(record(id))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []string{"a", "b"} {
			if err := e.Claim(executor.Claim{Kind: "process", ID: id.String() + c, Data: map[string]string{"k": "v"}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(e.LogPath(), []byte("log of "+id.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func orphans(t *testing.T, j *recovery.Journal) ([]*recovery.Entry, func()) {
	t.Helper()
	es, release, err := j.Orphans()
	if err != nil {
		t.Fatal(err)
	}
	return es, release
}

func TestJobsOfLiveProcessesAreLeftAlone(t *testing.T) {
	state := t.TempDir()
	first := open(t, state)
	if _, err := first.Begin(record(1)); err != nil {
		t.Fatal(err)
	}
	second := open(t, state)
	es, release := orphans(t, second)
	release()
	if len(es) != 0 {
		t.Fatalf("a live process's job was taken: %v", es[0].Record.Job)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	es, release = orphans(t, second)
	defer release()
	if len(es) != 1 || es[0].Record.Job != 1 {
		t.Fatalf("got %d orphans, want job 1", len(es))
	}
}

func TestAnOrphanIsGivenOnce(t *testing.T) {
	state := t.TempDir()
	crash(t, state, 7)
	a, b := open(t, state), open(t, state)
	mine, release := orphans(t, a)
	defer release()
	theirs, releaseB := orphans(t, b)
	defer releaseB()
	if len(mine) != 1 || len(theirs) != 0 {
		t.Fatalf("two processes got %d and %d orphans, want 1 and 0", len(mine), len(theirs))
	}
	if diff := cmp.Diff(record(7), mine[0].Record); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	want := []executor.Claim{
		{Kind: "process", ID: "7a", Data: map[string]string{"k": "v"}},
		{Kind: "process", ID: "7b", Data: map[string]string{"k": "v"}},
	}
	if diff := cmp.Diff(want, mine[0].Claims()); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	state := t.TempDir()
	crash(t, state, 7)
	err := filepath.WalkDir(state, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == state {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", filepath.Base(path), info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDamagedEntriesDoNotHideTheOthers(t *testing.T) {
	state := t.TempDir()
	crash(t, state, 1, 2, 3)
	dirs, err := filepath.Glob(filepath.Join(state, "process-*", "*-*"))
	if err != nil || len(dirs) != 3 {
		t.Fatalf("got %v, %v", dirs, err)
	}
	if err := os.WriteFile(filepath.Join(dirs[0], "job.jsonl"), []byte(`{"record": {"job": "one"}}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// A claim that was cut short by the crash.
	f, err := os.OpenFile(filepath.Join(dirs[1], "job.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"claim":{"kind":"pro`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	es, release, err := open(t, state).Orphans()
	defer release()
	if err == nil || !strings.Contains(err.Error(), "job.jsonl") {
		t.Errorf("the damaged entry was not told: %v", err)
	}
	if len(es) != 2 || len(es[0].Claims()) != 2 {
		t.Errorf("got %d entries", len(es))
	}
}

// facts keeps what was told of recovered jobs.
type facts struct{ recovered []event.Recovered }

func (f *facts) Observe(e event.Event) {
	if r, ok := e.Fact.(event.Recovered); ok {
		f.recovered = append(f.recovered, r)
	}
}

func TestSettleTriesUntilDelivered(t *testing.T) {
	state := t.TempDir()
	crash(t, state, 4, 5)
	j := open(t, state)
	es, release := orphans(t, j)
	synctest.Test(t, func(t *testing.T) {
		var f facts
		var reaped, delivered atomic.Int64
		outage := time.Now().Add(5 * time.Minute)
		s := recovery.Settler{
			Bus: event.NewBus(&f),
			Reap: func(_ context.Context, driver string, c executor.Claim) (int, error) {
				if driver != "shell" || c.Kind != "process" {
					t.Errorf("reaping %s of %s", c.Kind, driver)
				}
				reaped.Add(1)
				return 1, nil
			},
			Deliver: func(_ context.Context, r recovery.Record, path string) (int64, error) {
				text, err := os.ReadFile(path)
				if err != nil || string(text) != "log of "+r.Job.String() {
					t.Errorf("log: got %q, %v", text, err)
				}
				if time.Now().Before(outage) {
					return 9, errors.New("no route to the coordinator")
				}
				delivered.Add(1)
				return 0, nil
			},
		}
		s.Settle(t.Context(), es)
		if delivered.Load() != 2 {
			t.Errorf("delivered %d jobs, want 2", delivered.Load())
		}
		if took := time.Since(outage); took < 0 || took > time.Minute {
			t.Errorf("settled %v after the outage, want within a minute", took)
		}
		last := f.recovered[len(f.recovered)-1]
		if last.Err != nil || last.Unsent != 9 {
			t.Errorf("last fact: %+v", last)
		}
	})
	release()
	left, err := filepath.Glob(filepath.Join(state, "process-*", "*-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("settled state is still there: %v, %v", left, err)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(state, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// What was started last is ended first, and what was ended is not ended again
// because of the rest.
func TestSettleInReverse(t *testing.T) {
	state := t.TempDir()
	dead := open(t, state)
	e, err := dead.Begin(recovery.Record{Job: 4, Runner: job.Runner{Executor: "custom"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"place", "program", "script"} {
		if err := e.Claim(executor.Claim{Kind: "x", ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	if err := dead.Close(); err != nil { // the lock goes, the job stays
		t.Fatal(err)
	}
	j := open(t, state)
	es, release := orphans(t, j)
	defer release()
	synctest.Test(t, func(t *testing.T) {
		var calls []string
		deliveries, busy := 0, true
		s := recovery.Settler{
			Reap: func(_ context.Context, _ string, c executor.Claim) (int, error) {
				calls = append(calls, c.ID)
				if c.ID == "program" && busy {
					busy = false
					return 0, errors.New("it does not end")
				}
				return 1, nil
			},
			Deliver: func(context.Context, recovery.Record, string) (int64, error) {
				if deliveries++; deliveries < 4 {
					return 0, errors.New("no route")
				}
				return 0, nil
			},
		}
		s.Settle(t.Context(), es)
		if got, want := strings.Join(calls, " "), "script program place program"; got != want {
			t.Errorf("reaped %s, want %s", got, want)
		}
	})
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

func TestSettleKeepsWhatItCannotFinish(t *testing.T) {
	state := t.TempDir()
	crash(t, state, 4)
	j := open(t, state)
	es, release := orphans(t, j)
	ctx, cancel := context.WithCancel(t.Context())
	s := recovery.Settler{
		Reap:    func(context.Context, string, executor.Claim) (int, error) { return 0, nil },
		Deliver: func(context.Context, recovery.Record, string) (int64, error) { cancel(); return 0, errors.New("down") },
	}
	s.Settle(ctx, es)
	release()
	again, release := orphans(t, j)
	defer release()
	if len(again) != 1 {
		t.Errorf("the job is gone from the journal")
	}
}

func TestDoneForgets(t *testing.T) {
	state := t.TempDir()
	j := open(t, state)
	e, err := j.Begin(record(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Done(); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(state, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func BenchmarkJob(b *testing.B) {
	j, err := recovery.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		e, err := j.Begin(record(1))
		if err != nil {
			b.Fatal(err)
		}
		if err := e.Claim(executor.Claim{Kind: "process", ID: "1"}); err != nil {
			b.Fatal(err)
		}
		if err := e.Done(); err != nil {
			b.Fatal(err)
		}
	}
}

func TestHowAJobEndedOutlivesItsProcess(t *testing.T) {
	state := t.TempDir()
	j := open(t, state)
	want := job.Update{State: job.WireFailed, Reason: job.ScriptFailure, ExitCode: 3}
	for id := range job.ID(3) {
		e, err := j.Begin(record(id + 1))
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Ended(want); err != nil {
			t.Fatal(err)
		}
		if err := e.Claim(executor.Claim{Kind: "process", ID: "1"}); err == nil {
			t.Error("a claim was stored after the job's end")
		}
	}
	dirs, err := filepath.Glob(filepath.Join(state, "process-*", "*-*", "job.jsonl"))
	if err != nil || len(dirs) != 3 {
		t.Fatalf("got %v, %v", dirs, err)
	}
	// The crash cut the last line of one, and the only line of another.
	for i, keep := range []int{1, 0} {
		text, err := os.ReadFile(dirs[i+1])
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitAfter(string(text), "\n")
		if err := os.WriteFile(dirs[i+1], []byte(strings.Join(lines[:keep], "")+lines[keep][:10]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	es, release, err := open(t, state).Orphans()
	defer release()
	if err == nil || !strings.Contains(err.Error(), "never stored") {
		t.Errorf("got %v, want that a job was never stored", err)
	}
	if len(es) != 2 {
		t.Fatalf("got %d entries", len(es))
	}
	if diff := cmp.Diff(&want, es[0].Record.Final); diff != "" {
		t.Errorf("the end (-want +got):\n%s", diff)
	}
	if es[1].Record.Final != nil {
		t.Errorf("half a line was read as %v", es[1].Record.Final)
	}
}
