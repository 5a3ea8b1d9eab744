//go:build linux

package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// TestSoakShort is a small TestSoak for every day.
func TestSoakShort(t *testing.T) {
	t.Parallel()
	soak(t, 100, 10, 3*time.Minute)
}

// TestSoak runs thousands of jobs while the coordinator misbehaves. It takes
// minutes and so runs only where GLASSRUNNER_SOAK is set.
func TestSoak(t *testing.T) {
	if os.Getenv("GLASSRUNNER_SOAK") == "" {
		t.Skip("set GLASSRUNNER_SOAK to run it: make soak")
	}
	soak(t, 2000, 50, 10*time.Minute)
}

// soak runs jobs, each with a log and a result of its own, through one runner
// and checks that each is reported once with its log exact to the byte, and
// that the runner is as it was when it began.
func soak(t *testing.T, jobs, concurrent int, limit time.Duration) {
	t.Helper()
	w := newWorld(t, fakegitlab.Options{
		Concurrent: concurrent, UpdateInterval: 1, Seed: 42, RequeueLost: true, LongPoll: 2 * time.Second,
	})
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	w.ctx = ctx
	if err := w.server.SetLimits(w.runner.Token, fakegitlab.Limits{RequestConcurrency: 4}); err != nil {
		t.Fatal(err)
	}
	p := w.start(w.config(fmt.Sprintf("concurrent = %d", concurrent), entry{Extra: "  request_concurrency = 4\n"}))
	// Once around, so that what is kept for ever is there.
	for range 5 {
		want(t, w.run(fakegitlab.Job{Script: []string{"true"}}), "success")
	}
	start := p.waitValue(0, "glassrunner_jobs_running")
	goroutines, fds := start.sum("go_goroutines"), start.sum("process_open_fds")

	addSoakFaults(w.server)
	random := rand.New(rand.NewPCG(7, 7))
	plans := make(map[int64]soakJob, jobs)
	ids := make([]int64, 0, jobs)
	for i := range jobs {
		plan := planSoakJob(i, random)
		id := w.enqueue(plan.job())
		plans[id] = plan
		ids = append(ids, id)
	}
	began := time.Now()
	for _, id := range ids {
		s, err := w.server.Wait(ctx, id)
		if err != nil {
			t.Fatalf("job %d is %s after %v: %v", id, s.Status, time.Since(began).Round(time.Second), err)
		}
		plans[id].check(t, s)
	}
	took := time.Since(began)
	w.server.ClearFaults()
	t.Logf("%d jobs with concurrent = %d took %v, %.1f jobs a second; the server: %v",
		jobs, concurrent, took.Round(time.Millisecond), float64(jobs)/took.Seconds(), w.server.Stats().Statuses)

	m := p.waitValue(0, "glassrunner_jobs_running")
	m.check(t, 0, "glassrunner_final_updates_lost_total")
	m.check(t, float64(jobs+5), "glassrunner_jobs_finished_total")
	m.check(t, float64(jobs+5), "gitlab_runner_jobs_total")
	want(t, w.run(fakegitlab.Job{Script: []string{"true"}}), "success")
	// Idle connections are closed in their own time; what is left over is not.
	p.waitMetrics("the goroutines and file descriptors of the beginning", func(m families) bool {
		g, f := m.sum("go_goroutines"), m.sum("process_open_fds")
		return g <= goroutines+10 && f <= fds+10
	})
	w.eventually("an empty state directory", func() bool { return len(w.stateLeft()) == 0 })
	if left := w.jobProcesses(); len(left) > 0 {
		t.Errorf("processes outlived their jobs: %v", left)
	}
}

// addSoakFaults makes the server misbehave now and then, in every way.
func addSoakFaults(s *fakegitlab.Server) {
	const rarely = 0.03
	retry := http.Header{"Retry-After": {"1"}}
	for _, f := range []fakegitlab.Fault{
		{Endpoint: fakegitlab.RequestJob, Status: 502, Probability: rarely},
		{Endpoint: fakegitlab.RequestJob, Status: 429, Header: retry, Probability: rarely / 3},
		{Endpoint: fakegitlab.RequestJob, Drop: fakegitlab.DropBeforeRead, Reset: true, Probability: rarely},
		{Endpoint: fakegitlab.PatchTrace, Status: 503, Probability: rarely},
		{Endpoint: fakegitlab.PatchTrace, Drop: fakegitlab.DropAnswer, Probability: rarely},
		{Endpoint: fakegitlab.PatchTrace, Drop: fakegitlab.DropAfterRead, Reset: true, Probability: rarely},
		{Endpoint: fakegitlab.PatchTrace, Process: true, Status: 502, Probability: rarely},
		{Endpoint: fakegitlab.PatchTrace, Status: 416, Header: http.Header{"Range": {"0-0"}}, Probability: rarely},
		{Endpoint: fakegitlab.PatchTrace, Status: 429, Header: retry, Probability: rarely / 3},
		{Endpoint: fakegitlab.UpdateJob, State: "running", Status: 500, Probability: rarely},
		{Endpoint: fakegitlab.UpdateJob, State: "running", Drop: fakegitlab.DropAnswer, Reset: true, Probability: rarely},
		{Endpoint: fakegitlab.UpdateJob, State: "final", Status: 503, Probability: rarely},
		{Endpoint: fakegitlab.UpdateJob, State: "final", Drop: fakegitlab.DropAnswer, Probability: rarely},
		{Endpoint: fakegitlab.UpdateJob, State: "final", Drop: fakegitlab.DropAfterRead, Reset: true, Probability: rarely},
	} {
		s.AddFault(f)
	}
}

// soakJob is what one job prints and how it ends.
type soakJob struct {
	number, lines, exit int
	slow                bool
}

func planSoakJob(i int, random *rand.Rand) soakJob {
	return soakJob{number: i, lines: random.IntN(300), exit: random.IntN(4), slow: random.IntN(4) == 0}
}

func (j soakJob) command() string {
	pause := ":"
	if j.slow {
		pause = `[ $((i%100)) -ne 0 ] || sleep 0.5`
	}
	return fmt.Sprintf(`i=0; while [ $i -lt %d ]; do echo "job %d line $i $SECRET"; i=$((i+1)); %s; done; exit %d`, j.lines, j.number, pause, j.exit)
}

func (j soakJob) job() fakegitlab.Job {
	return fakegitlab.Job{
		Name: fmt.Sprintf("soak-%d", j.number), Script: []string{j.command()},
		Variables: []fakegitlab.Variable{{Key: "SECRET", Value: fmt.Sprintf("secret-of-%d", j.number), Masked: true}},
	}
}

func (j soakJob) check(t *testing.T, s fakegitlab.Snapshot) {
	t.Helper()
	expected := "success"
	if j.exit != 0 {
		expected = fmt.Sprintf("failed script_failure %d", j.exit)
	}
	if got := result(s); got != expected {
		t.Errorf("job %d ended %q, want %q:\n%s", s.ID, got, expected, tail(string(s.Trace), 1000))
		return
	}
	if !s.ByRunner || s.TraceSize != s.Bytesize || s.Checksum != fmt.Sprintf("crc32:%08x", s.TraceCRC) {
		t.Errorf("job %d: by the runner: %v, %d bytes of %d, checksum %s of crc32:%08x", s.ID, s.ByRunner, s.TraceSize, s.Bytesize, s.Checksum, s.TraceCRC)
	}
	var b strings.Builder
	for i := range j.lines {
		fmt.Fprintf(&b, "job %d line %d [MASKED]\n", j.number, i)
	}
	sameBytes(t, output(t, s.Trace, j.command()), []byte(b.String()))
}
