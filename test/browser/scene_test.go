package browser_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/admin"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/board"
	"github.com/glassrunner/glassrunner/internal/observe/history"
	"github.com/glassrunner/glassrunner/internal/observe/metrics"
)

// scene is a real monitoring server above a stream of facts that a test makes
// up: many jobs at once, and hours that have passed, take no time.
type scene struct {
	t       testing.TB
	url     string
	server  *admin.Server
	board   *board.Board
	history *history.History
	bus     *event.Bus
	runners []job.Runner
	rand    *rand.Rand
	now     time.Time
	run     uint64
}

var projects = []string{"platform/api", "platform/gateway", "web/storefront", "mobile/android", "data/ingest", "infra/terraform", "docs/handbook"}
var jobNames = []string{"unit", "integration", "lint", "build:image", "build:assets", "e2e:chrome", "e2e:firefox", "package", "deploy:staging", "scan:dependencies"}

func newScene(t testing.TB, concurrent int) *scene {
	t.Helper()
	s := &scene{t: t, now: time.Now(), rand: rand.New(rand.NewPCG(1, 2))}
	s.board = board.New(board.Options{})
	s.history = history.New()
	m := metrics.New(metrics.Options{Board: s.board, SystemID: "s_3f9ac21b77d0"})
	s.bus = event.NewBus(s.board, m, s.history)
	s.server = admin.New(admin.Options{
		Gatherer: m.Gatherer(), Registry: m.Registry(), Board: s.board, History: s.history, Bus: s.bus,
		Version: "1.4.0", SystemID: "s_3f9ac21b77d0", Started: s.now.Add(-9*time.Hour - 12*time.Minute), StreamInterval: 250 * time.Millisecond,
		Tail: func(_ job.Runner, id job.ID, _ int64) ([]byte, error) {
			return fmt.Appendf(nil, "section_start:1:step_script\r\x1b[0K\x1b[0Ksection\n\x1b[32;1m$ make test\x1b[0;m\nok <script>alert(%d)</script>\n", id), nil
		},
	})
	t.Cleanup(s.server.Close)
	for i, name := range []string{"build-01", "build-02", "docker-large", "release"} {
		s.runners = append(s.runners, job.Runner{Short: fmt.Sprintf("t3kW%05d", 71930+i*411), Name: name, SystemID: "s_3f9ac21b77d0", Executor: []string{"shell", "shell", "docker", "docker"}[i]})
	}
	cfg := event.ConfigLoaded{Path: "/etc/gitlab-runner/config.toml", Hash: "9d1c0f6a5be14c7795ab", Generation: 4, Concurrent: concurrent, Warnings: 1}
	for i, r := range s.runners {
		cfg.Runners = append(cfg.Runners, event.Limits{Runner: r, URL: "https://gitlab.example.com", Limit: []int{0, 0, concurrent / 2, 2}[i], RequestConcurrency: 1 + i%2})
	}
	s.at(-26*time.Minute, event.Scope{}, cfg)
	s.at(-9*time.Hour, event.Scope{}, event.ProcessChanged{State: event.ProcessRunning})
	s.at(0, event.Scope{}, event.SlotsChanged{Slots: concurrent})
	for i, r := range s.runners {
		sc := event.Scope{Runner: r}
		s.at(-time.Duration(2+i)*time.Second, sc, event.HealthChecked{OK: true})
		s.at(-time.Duration(2+i)*time.Second, sc, event.Polled{Result: "none"})
	}
	if err := s.server.Listen(context.Background(), admin.Settings{Address: "127.0.0.1:0"}); err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + s.server.Addr() + "/"
	return s
}

// at tells the board a fact of another time.
func (s *scene) at(ago time.Duration, sc event.Scope, f event.Fact) {
	s.board.Observe(event.Event{Time: s.now.Add(ago), Scope: sc, Fact: f})
}

// begin starts a job some time ago and has it go through phases, the last of
// which is still going on. The others take some of what it has spent so far.
func (s *scene) begin(ago, spent time.Duration, phases ...job.Phase) event.Scope {
	s.run++
	i := int(s.run)
	r := s.runners[i%3]
	if i%12 == 5 {
		r = s.runners[3]
	}
	sc := event.Scope{Runner: r, Job: job.ID(48210 + i*7), Run: s.run}
	project := projects[s.rand.IntN(len(projects))]
	info := job.Info{
		Name: jobNames[s.rand.IntN(len(jobNames))], Stage: "test", ProjectFullPath: project, ProjectID: int64(100 + len(project)),
		PipelineID: int64(9100 + i/6), TimeInQueue: time.Duration(s.rand.IntN(9000)) * time.Millisecond,
	}
	s.at(-ago, sc, event.JobReceived{Info: info})
	s.at(-ago, sc, event.JobStarted{Info: info, URL: fmt.Sprintf("https://gitlab.example.com/%s/-/jobs/%d", project, sc.Job), Timeout: time.Hour})
	s.at(-ago, sc, event.JobState{State: job.Running})
	at := ago
	for k, p := range phases {
		s.at(-at, sc, event.PhaseStarted{Phase: p})
		if k == len(phases)-1 {
			break
		}
		took := time.Duration(1+s.rand.IntN(30)*(k+1)/2) * spent / 600
		at -= took
		s.at(-at, sc, event.PhaseFinished{Phase: p, Took: took})
	}
	written := int64(2000 + s.rand.IntN(400000))
	s.at(-time.Duration(1+s.rand.IntN(20))*time.Second, sc, event.LogWritten{Bytes: written, Total: written})
	s.at(-time.Second, sc, event.UsageSampled{Usage: job.Usage{
		CPU: job.KnownTime(time.Duration(s.rand.IntN(90)) * ago / 100), Memory: job.Known(int64(s.rand.ExpFloat64() * 4e8)),
	}})
	s.at(-time.Second, sc, event.LogSent{Bytes: written - 900, Total: written - int64(s.rand.IntN(2))*900})
	return sc
}

var usual = []job.Phase{job.PrepareExecutor, job.PrepareScript, job.GetSources, job.RestoreCache, "step_script"}

// end ends a job that began ago, with an outcome.
func (s *scene) end(ago, took time.Duration, o job.Outcome) {
	done := ago - took
	sc := s.begin(ago, took, usual...)
	var err error
	if !o.OK() {
		err = o.Err
	}
	jobs := s.board.Present().Jobs
	s.at(-done-time.Second*3, sc, event.PhaseFinished{Phase: "step_script", Took: s.now.Add(-done - 3*time.Second).Sub(jobs[len(jobs)-1].PhaseSince), Err: err})
	s.at(-done-2*time.Second, sc, event.PhaseStarted{Phase: job.UploadArtifacts})
	s.at(-done-time.Second, sc, event.PhaseFinished{Phase: job.UploadArtifacts, Took: time.Second})
	s.at(-done, sc, event.JobFinished{Outcome: o, Took: took})
	s.at(-done, sc, event.JobRemoved{Took: 140 * time.Millisecond})
}

// past fills the history with a day.
func (s *scene) past(concurrent int) {
	start := s.now.Add(-9 * time.Hour)
	load := 0.3
	for at := start; at.Before(s.now); at = at.Add(10 * time.Second) {
		hour := at.Sub(start).Hours()
		load = 0.92*load + 0.08*(0.35+0.4*s.rand.Float64()+0.25*float64(int(hour)%3)/3)
		outage := hour > 8.45 && hour < 8.53
		for range 1 + s.rand.IntN(2) {
			if s.rand.Float64() < load/2 {
				s.history.Observe(event.Event{Fact: event.JobStarted{Info: job.Info{TimeInQueue: time.Duration(float64(time.Second) * (0.4 + 14*load*load*s.rand.ExpFloat64()))}}})
				o := job.Outcome{}
				switch r := s.rand.Float64(); {
				case r < 0.05:
					o.Reason = job.ScriptFailure
				case r < 0.062:
					o.Reason = job.SystemFailure
				case r < 0.075:
					o.Reason = job.Canceled
				}
				s.history.Observe(event.Event{Fact: event.JobFinished{Outcome: o}})
			}
		}
		for range 3 {
			c := event.Called{Endpoint: "patch_trace", Status: 202, Took: time.Duration(float64(time.Millisecond) * (35 + 60*s.rand.ExpFloat64()))}
			if outage && s.rand.Float64() < 0.8 {
				c = event.Called{Endpoint: "patch_trace", Status: -1, Class: event.ErrConnect}
			}
			s.history.Observe(event.Event{Fact: c})
		}
		g := history.Gauges{Running: int(load * float64(concurrent)), Slots: concurrent, Lag: time.Duration(s.rand.IntN(1400)) * time.Millisecond}
		if outage {
			g.Lag = time.Duration((hour - 8.45) * float64(time.Hour))
		}
		s.history.Sample(at, g)
	}
}

// usualDay is a scene as an operator would see it.
func usualDay(t testing.TB) *scene {
	t.Helper()
	s := newScene(t, 24)
	s.past(24)
	script := errors.New("exit status 1")
	for i := range 60 {
		took := time.Duration(20+s.rand.IntN(400)) * time.Second
		o := job.Outcome{}
		switch {
		case i%11 == 3:
			o = job.Outcome{Reason: job.ScriptFailure, ExitCode: 1, Err: script}
		case i == 41:
			o = job.Outcome{Reason: job.ImagePullFailure, Err: errors.New(`failed to pull image "registry.example.com/ci/android:34": manifest unknown`)}
		case i == 52:
			o = job.Outcome{Reason: job.ExecutionTimeout, Err: errors.New("ran longer than 1h0m0s")}
		case i == 55:
			o = job.Outcome{Reason: job.Canceled, Err: errors.New("canceled")}
		}
		s.end(took+time.Duration((60-i)*37)*time.Second, took, o)
	}
	stages := [][]job.Phase{usual, usual, usual[:3], usual, usual[:4], usual, usual[:1], append(usual[:5:5], job.AfterScript), usual, append(usual[:5:5], job.UploadArtifacts), usual, usual, usual[:3], usual}
	for i, p := range stages {
		ago := time.Duration(12+i*i*9) * time.Second
		s.begin(ago, ago, p...)
	}
	sc := s.begin(52*time.Minute, 10*time.Minute, usual...) // near its time limit, and silent
	s.at(-14*time.Minute, sc, event.LogWritten{Bytes: 1, Total: 500000})
	for i, r := range s.runners {
		s.at(-time.Duration(20+i*31)*time.Second, event.Scope{Runner: r, Run: 1 << 40, Job: 1}, event.JobReceived{})
	}
	return s
}

// move has the server listen elsewhere, or, with no address, not at all.
func (s *scene) move(t testing.TB, addr string) error {
	t.Helper()
	return s.server.Apply(context.Background(), admin.Settings{Address: addr})
}

// talk has every running job write a line twice a second, until it is told to
// stop.
func (s *scene) talk() (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for total := int64(1 << 20); ; total += 120 {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			for _, j := range s.board.Present().Jobs {
				ctx := event.WithScope(context.Background(), event.Scope{Runner: j.Runner, Job: j.ID, Run: j.Run})
				s.bus.Emit(ctx, event.LogWritten{Bytes: 120, Total: total})
			}
		}
	}()
	return func() { close(done); <-ended }
}
