package metrics_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// chance makes facts of bytes, so that one function serves the property test
// and the fuzzer.
type chance struct{ data []byte }

func (c *chance) n(limit int) int {
	if len(c.data) == 0 || limit == 0 {
		return 0
	}
	v := int(c.data[0])
	c.data = c.data[1:]
	return v % limit
}

func (c *chance) bool() bool { return c.n(2) == 1 }

func (c *chance) err() error {
	if c.bool() {
		return errors.New("trouble")
	}
	return nil
}

func pick[T any](c *chance, of ...T) T { return of[c.n(len(of))] }

func (c *chance) took() time.Duration { return time.Duration(c.n(256)-8) * 300 * time.Millisecond }

func (c *chance) runner() job.Runner {
	return job.Runner{Short: pick(c, "aaaaaaaaa", "bbbbbbbbb"), Name: pick(c, "", "x", "y"), SystemID: "s_0123456789ab", Executor: pick(c, "shell", "docker")}
}

func (c *chance) fact() event.Fact {
	phase := pick(c, job.PrepareExecutor, job.GetSources, "step_script", "step_x", job.AfterScript)
	outcome := job.Outcome{Reason: pick(c, job.NoReason, job.ScriptFailure, job.Canceled, "new_reason"), Prepared: c.bool()}
	if outcome.Reason != job.NoReason {
		outcome.Err = errors.New("failed")
	}
	switch c.n(33) {
	case 0:
		f := event.ConfigLoaded{Hash: strconv.Itoa(c.n(3)), Generation: 1 + c.n(9), Concurrent: c.n(9), TopProjects: c.n(3), Err: c.err()}
		for range c.n(5) {
			f.Runners = append(f.Runners, event.Limits{Runner: c.runner(), Limit: c.n(4) - 1, RequestConcurrency: c.n(3)})
		}
		return f
	case 1:
		return event.ConfigSaved{Err: c.err()}
	case 2:
		return event.ProcessChanged{State: pick(c, event.ProcessRunning, event.ProcessGracefulShutdown, "odd")}
	case 3:
		return event.SlotsChanged{Slots: c.n(9) - 1, Started: c.n(3) - 1, Stopped: c.n(3) - 1}
	case 4:
		return event.Fed{}
	case 5:
		return event.FeedSkipped{Why: "unhealthy"}
	case 6:
		return event.TurnFailed{Kind: pick(c, "no_free_executor", "job_failure", "odd")}
	case 7:
		return event.HealthChecked{OK: c.bool(), Failures: c.n(9)}
	case 8:
		return event.RequestSlots{InFlight: c.n(5) - 1, HardLimit: c.n(5), UsedLimit: c.n(5), AdaptiveLimit: float64(c.n(9)) / 2, Exceeded: c.bool()}
	case 9:
		return event.Called{
			Endpoint: pick(c, "request_job", "update_job", "patch_trace", "verify"), Method: "post", Path: "/x", Status: pick(c, 200, 201, 503, -1, -100, 777),
			Attempts: c.n(4) - 1, Statuses: []int{pick(c, 429, 503, 599)}, Class: pick(c, "", event.ErrDNS, "odd"), Took: c.took(), Waited: c.took(),
		}
	case 10:
		return event.Polled{Result: pick(c, "job", "none", "forbidden", "failed")}
	case 11:
		return event.JobReceived{}
	case 12, 13, 14:
		return event.JobStarted{HighCardinality: c.bool(), QueueTooLong: c.bool(), Info: job.Info{ProjectID: int64(c.n(5)), ProjectJobsRunningOnInstanceRunners: pick(c, "0", "odd")}}
	case 15:
		return event.JobState{State: pick(c, job.Pending, job.Running, job.Success)}
	case 16:
		return event.ExecutorStage{Stage: pick(c, "prepare", "finish")}
	case 17:
		return event.PhaseStarted{Phase: phase}
	case 18:
		return event.PhaseFinished{Phase: phase, Took: c.took(), Err: c.err(), Panicked: c.bool()}
	case 19:
		return event.LogWritten{Bytes: int64(c.n(200)) - 3, Total: int64(c.n(200)) - 3}
	case 20:
		return event.LogSent{Bytes: int64(c.n(200)) - 3, Total: int64(c.n(200)) - 3, Failed: c.bool()}
	case 21:
		return event.Directed{Directive: pick(c, job.GoOn, job.Cancel, job.Abort)}
	case 22, 23:
		return event.JobFinished{Outcome: outcome, State: job.Failed, Took: c.took(), Mode: pick(c, "", "traditional", "steps", "odd")}
	case 24, 25:
		return event.JobRemoved{Lost: c.bool(), Err: c.err()}
	case 26:
		return event.JobRefused{Reason: outcome.Reason, Err: c.err()}
	case 28:
		return event.ImagePulled{Policy: pick(c, "always", "odd"), Result: pick(c, "pulled", "present", "failed"), Bytes: int64(c.n(200)) - 3, Took: c.took()}
	case 30:
		return event.BlockChanged{Block: pick(c, append(event.Blocks(), "odd")...)}
	case 31:
		return event.PlacesChanged{Running: c.n(4), Requesting: c.n(4), Idle: c.n(4)}
	case 29:
		return event.ServiceReady{OK: c.bool(), Took: c.took()}
	}
	return event.Degraded{What: pick(c, "cleanup", "cache"), Err: c.err()}
}

// tell plays data to a stream and checks what must hold whatever happened.
func tell(t *testing.T, data []byte) {
	t.Helper()
	s, b, m := newStream(t)
	c := &chance{data: data}
	scopes := make(map[uint64]event.Scope)
	for len(c.data) > 0 {
		run := uint64(1 + c.n(6))
		if _, ok := scopes[run]; !ok {
			scopes[run] = event.Scope{Runner: c.runner(), Job: job.ID(run), Run: run}
		}
		f := c.fact()
		scope := scopes[run]
		switch f.(type) {
		case event.ConfigLoaded, event.ProcessChanged, event.ConfigSaved, event.SlotsChanged, event.PlacesChanged, event.Degraded:
			scope = event.Scope{}
		default:
		}
		s.now = s.now.Add(time.Duration(c.n(3)) * time.Second)
		s.emit(scope, f)
	}
	check(t, text(t, m, false))
	if a, b := gathered(t, m, false), text(t, m, false); a != b {
		t.Fatalf("ours differs from the library's:\n%s", cmp.Diff(strings.Split(a, "\n"), strings.Split(b, "\n")))
	}
	for _, sc := range scopes {
		s.emit(sc, event.JobRemoved{})
	}
	snap := b.Snapshot()
	if len(snap.Jobs) != 0 {
		t.Fatalf("jobs on the board at the end: %v", snap.Jobs)
	}
	for _, r := range snap.Runners {
		if r.Running != 0 {
			t.Fatalf("runner %v runs %d jobs at the end", r.Runner, r.Running)
		}
	}
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 1})
	for _, sc := range scopes {
		s.emit(sc, event.Fed{})
		s.emit(sc, event.Polled{Result: "none"})
		s.emit(sc, event.LogWritten{Bytes: 1, Total: 1})
	}
	end := text(t, m, false)
	if rest := grep(end, `runner="`); rest != "" {
		t.Fatalf("series of removed runners:\n%s", rest)
	}
	if n := len(b.Snapshot().Runners); n != 0 {
		t.Fatalf("runners on the board at the end: %d", n)
	}
}

// check looks for samples that cannot be.
func check(t *testing.T, all string) {
	t.Helper()
	seen := make(map[string]bool)
	for line := range strings.Lines(all) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		series, v := line[:i], strings.TrimSpace(line[i+1:])
		if seen[series] {
			t.Fatalf("%s is there twice", series)
		}
		seen[series] = true
		n, err := strconv.ParseFloat(v, 64)
		if err != nil || n < 0 {
			t.Fatalf("%s is %s", series, v)
		}
	}
}

func TestRandomFacts(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			data := make([]byte, 4000)
			for i := range data {
				data[i] = byte(r.Uint32())
			}
			tell(t, data)
		})
	}
}

func FuzzFacts(f *testing.F) {
	f.Add([]byte("\x00\x00\x01\x02"))
	f.Add([]byte("a runner starts, gets a job, loses its configuration and goes on"))
	f.Fuzz(func(t *testing.T, data []byte) { tell(t, data[:min(len(data), 4096)]) })
}
