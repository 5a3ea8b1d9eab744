package metrics_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/metrics"
)

var update = flag.Bool("update", false, "write golden files")

// text is the exposition without what the Go runtime and the kernel say.
func text(t testing.TB, m *metrics.Metrics, openMetrics bool) string {
	t.Helper()
	g, ok := m.Gatherer().(interface {
		AppendText(dst []byte, openMetrics bool) ([]byte, error)
	})
	if !ok {
		t.Fatal("the gatherer has no AppendText")
	}
	b, err := g.AppendText(nil, openMetrics)
	if err != nil {
		t.Fatalf("AppendText: %v", err)
	}
	return own(string(b))
}

func own(all string) string {
	var b strings.Builder
	for line := range strings.Lines(all) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		if strings.HasPrefix(name, "gitlab_runner_") || strings.HasPrefix(name, "glassrunner_") && !strings.HasPrefix(name, "glassrunner_series") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// gathered is the same through the client library.
func gathered(t testing.TB, m *metrics.Metrics, openMetrics bool) string {
	t.Helper()
	all, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatalf("Gather: %v", err)
	}
	var b bytes.Buffer
	for _, f := range all {
		if openMetrics {
			// See the note on names in OpenMetrics in the reference.
			if f.GetName() == "gitlab_runner_jobs_total" {
				f.Type = dto.MetricType_UNTYPED.Enum()
				for _, m := range f.Metric {
					m.Untyped, m.Counter = &dto.Untyped{Value: m.Counter.Value}, nil
				}
			}
			_, err = expfmt.MetricFamilyToOpenMetrics(&b, f, expfmt.WithCreatedLines())
		} else {
			_, err = expfmt.MetricFamilyToText(&b, f)
		}
		if err != nil {
			t.Fatalf("encoding %s: %v", f.GetName(), err)
		}
	}
	return own(b.String())
}

// value returns the sample of that series, or an error text.
func value(t testing.TB, m *metrics.Metrics, series string) string {
	t.Helper()
	for line := range strings.Lines(text(t, m, false)) {
		if v, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	return "no such series"
}

func want(t testing.TB, m *metrics.Metrics, series, v string) {
	t.Helper()
	if got := value(t, m, series); got != v {
		t.Errorf("%s: got %s, want %s", series, got, v)
	}
}

func runner(short string) job.Runner {
	return job.Runner{Short: short, Name: "one", SystemID: "s_0123456789ab", Executor: "shell"}
}

// story is a morning in the life of a runner, every fact included.
func story(s *stream) {
	r := runner("abcdefghi")
	other := runner("zyxwvutsr")
	other.Name = "two"
	process := event.Scope{}
	poll := event.Scope{Runner: r}
	s.emit(process, event.ProcessChanged{State: event.ProcessStarting})
	s.emit(process, event.ConfigLoaded{Path: "config.toml", Err: errors.New("bad")})
	s.emit(process, event.ConfigLoaded{Path: "config.toml", Hash: "0a1b2c", Generation: 1, Concurrent: 4, Warnings: 1, TopProjects: 2, Runners: []event.Limits{
		{Runner: r, URL: "https://gitlab.example.org", Limit: 2, RequestConcurrency: 3, TokenExpires: s.now.AddDate(1, 0, 0), PricePerHour: 0.25}, {Runner: other, URL: "https://gitlab.example.org", PricePerHour: 0.25},
	}})
	s.emit(process, event.ListenerChanged{Address: "127.0.0.1:9252"})
	s.emit(process, event.SlotsChanged{Slots: 4, Started: 4})
	s.emit(process, event.ProcessChanged{State: event.ProcessRunning})
	s.emit(process, event.PlacesChanged{Idle: 4})
	s.emit(process, event.CertificateLoaded{Certificate: "coordinator_client", NotAfter: s.now.AddDate(0, 1, 0)})
	s.emit(process, event.CertificateLoaded{Certificate: "coordinator_ca", NotAfter: s.now.AddDate(10, 0, 0)})
	s.emit(poll, event.BlockChanged{Block: event.BlockNoJobs})
	s.emit(process, event.Recovered{Job: 9, Killed: 2, Unsent: 100})
	s.emit(poll, event.Fed{})
	s.emit(poll, event.RequestSlots{InFlight: 1, HardLimit: 3, UsedLimit: 1, AdaptiveLimit: 1.1})
	s.emit(poll, event.Called{Endpoint: "request_job", Method: "post", Path: "/api/v4/jobs/request", Status: -1, Attempts: 1, Class: event.ErrConnect, Took: time.Millisecond})
	s.emit(poll, event.Polled{Result: "failed"})
	s.now = s.now.Add(time.Second)
	s.emit(poll, event.BlockChanged{Block: event.BlockCoordinator})
	s.now = s.now.Add(3 * time.Second)
	s.emit(poll, event.Called{
		Endpoint: "request_job", Method: "post", Path: "/api/v4/jobs/request", Status: 201, Attempts: 3, Statuses: []int{429, 503},
		Took: 2500 * time.Millisecond, Waited: 2 * time.Second, Skew: -1500 * time.Millisecond, Dated: true,
	})
	s.emit(poll, event.BlockChanged{Block: event.BlockNoJobs})
	s.emit(process, event.PlacesChanged{Requesting: 1, Idle: 3})
	s.emit(poll, event.Polled{Result: "job"})
	s.emit(poll, event.HealthChecked{OK: true})
	s.emit(poll, event.RequestSlots{InFlight: 0, HardLimit: 3, UsedLimit: 2, AdaptiveLimit: 1.21, Exceeded: true})
	a := event.Scope{Runner: r, Job: 1, Run: 1}
	info := job.Info{Name: "build", ProjectID: 7, ProjectFullPath: "g/p", TimeInQueue: 4 * time.Second, QueueSize: 12, QueueDepth: 5, ProjectJobsRunningOnInstanceRunners: "+Inf"}
	s.emit(a, event.JobReceived{Info: info})
	s.emit(a, event.JobStarted{Info: info, URL: "https://gitlab.example.org/g/p/-/jobs/1", HighCardinality: true, QueueTooLong: true})
	s.emit(a, event.JobState{State: job.Pending})
	s.emit(a, event.ExecutorStage{Stage: "prepare"})
	s.emit(a, event.PhaseStarted{Phase: job.PrepareExecutor})
	s.emit(a, event.PhaseFinished{Phase: job.PrepareExecutor, Took: 50 * time.Millisecond})
	s.emit(a, event.JobState{State: job.Running})
	s.emit(a, event.PhaseStarted{Phase: "step_script"})
	s.emit(a, event.LogWritten{Bytes: 1000, Total: 1000})
	s.emit(a, event.LogSent{Failed: true})
	s.emit(a, event.Called{Endpoint: "patch_trace", Method: "patch", Path: "/api/v4/jobs/{id}/trace", Status: -1, Attempts: 1, Class: event.ErrTimeout, Took: time.Second})
	s.emit(a, event.LogSent{Bytes: 600, Total: 600, Took: time.Millisecond})
	s.emit(a, event.Interpolated{Fields: 2})
	b := event.Scope{Runner: r, Job: 2, Run: 2}
	s.emit(b, event.JobReceived{})
	s.emit(b, event.InterpolationFailed{Kind: "parse"})
	s.emit(b, event.JobRefused{Reason: job.SystemFailure, Err: errors.New("no")})
	c := event.Scope{Runner: r, Job: 3, Run: 3}
	s.emit(c, event.JobReceived{})
	s.emit(c, event.JobRefused{})
	d := event.Scope{Runner: other, Job: 1, Run: 4}
	s.emit(d, event.JobStarted{Info: job.Info{ProjectFullPath: "g/p"}})
	s.emit(d, event.PhaseStarted{Phase: "step_deploy to Mars"})
	s.emit(d, event.Directed{Directive: job.Cancel})
	s.emit(d, event.PhaseFinished{Phase: "step_deploy to Mars", Took: 61 * time.Second, Err: errors.New("killed")})
	s.emit(d, event.JobFinished{Outcome: job.Outcome{Reason: job.Canceled, Err: errors.New("canceled"), Prepared: true}, State: job.Failed, Took: 62 * time.Second, Mode: "traditional"})
	s.emit(d, event.JobRemoved{Lost: true, Took: time.Second})
	s.emit(event.Scope{Runner: other}, event.TurnFailed{Kind: "job_failure"})
	s.emit(event.Scope{Runner: other}, event.FeedSkipped{Why: "unhealthy"})
	s.emit(event.Scope{Runner: other}, event.HealthChecked{Failures: 3, DisabledUntil: s.now.Add(time.Hour)})
	s.emit(event.Scope{Runner: other}, event.TokenReset{})
	s.emit(process, event.ConfigSaved{})
	s.emit(process, event.Degraded{What: "cleanup", Err: errors.New("busy")})
	s.emit(process, event.Draining{Signal: "quit", Running: 1})
	s.emit(process, event.ProcessChanged{State: event.ProcessGracefulShutdown})
	s.now = s.now.Add(2500 * time.Millisecond)
}

func TestExposition(t *testing.T) {
	s, _, m := newStream(t)
	story(s)
	m.CountLog(slog.LevelWarn)
	m.CountLog(slog.LevelInfo)
	got := text(t, m, false)
	golden := filepath.Join("testdata", "story.prom")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wanted, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Split(string(wanted), "\n"), strings.Split(got, "\n")); d != "" {
		t.Errorf("exposition differs from %s (-want +got):\n%s", golden, d)
	}
}

func TestSameAsClientLibrary(t *testing.T) {
	s, _, m := newStream(t)
	story(s)
	for _, openMetrics := range []bool{false, true} {
		if d := cmp.Diff(strings.Split(gathered(t, m, openMetrics), "\n"), strings.Split(text(t, m, openMetrics), "\n")); d != "" {
			t.Errorf("openMetrics=%t: our text differs from the library's (-library +ours):\n%s", openMetrics, d)
		}
	}
}

func TestWholeExposition(t *testing.T) {
	_, _, m := newStream(t)
	g, _ := m.Gatherer().(interface {
		AppendText(dst []byte, openMetrics bool) ([]byte, error)
	})
	b, err := g.AppendText([]byte("before\n"), true)
	if err != nil {
		t.Fatal(err)
	}
	all := string(b)
	if !strings.HasPrefix(all, "before\n# ") || !strings.HasSuffix(all, "\n# EOF\n") {
		t.Errorf("got %.40q … %q", all, all[len(all)-20:])
	}
	var last string
	for line := range strings.Lines(all) {
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, _, _ := strings.Cut(rest, " ")
			if name <= last {
				t.Errorf("family %s stands after %s", name, last)
			}
			last = name
		}
	}
	for _, name := range []string{"go_goroutines", "process_cpu_seconds", "process_open_fds", "process_start_time_seconds", "process_network_receive_bytes", "glassrunner_series"} {
		if !strings.Contains(all, "# TYPE "+name+" ") {
			t.Errorf("%s is missing", name)
		}
	}
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	b, err = g.AppendText(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	samples := 0
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "#") {
			samples++
		}
	}
	for _, f := range families {
		if f.GetName() == "glassrunner_series" {
			if got := int(f.Metric[0].Gauge.GetValue()); got != samples {
				t.Errorf("glassrunner_series: got %d, want %d", got, samples)
			}
		}
	}
	if !strings.Contains(string(b), fmt.Sprintf("\nglassrunner_series %d\n", samples)) {
		t.Errorf("glassrunner_series is not %d", samples)
	}
}

// TestCatalogue compares the compatible metrics with the catalogue of GitLab
// Runner 19.4.
func TestCatalogue(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "gitlab-runner.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	// The monitoring page has other words for these.
	help := map[string]string{
		"gitlab_runner_limit":                      "The current value of limit setting",
		"gitlab_runner_api_request_statuses_total": "The total number of api requests, partitioned by runner, endpoint and status.",
	}
	var wanted []string
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if strings.HasPrefix(line, "#") {
			continue
		}
		if h, ok := help[f[0]]; ok {
			f[4] = h
		}
		labels := strings.Split(f[2], ",")
		slices.Sort(labels)
		wanted = append(wanted, strings.Join([]string{f[0], f[1], strings.Join(labels, ","), f[3], f[4]}, "\t"))
	}
	slices.Sort(wanted)

	s, _, m := newStream(t)
	story(s)
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "gitlab_runner_") {
			continue
		}
		var labels []string
		for _, l := range f.Metric[0].Label {
			n := l.GetName()
			if n == "executor" && strings.HasPrefix(f.GetName(), "gitlab_runner_autoscaling") {
				n += "(const=" + l.GetValue() + ")"
			}
			labels = append(labels, n)
		}
		slices.Sort(labels)
		if labels == nil {
			labels = []string{"-"}
		}
		buckets := "-"
		if h := f.Metric[0].Histogram; h != nil {
			var all []string
			for _, b := range h.Bucket {
				all = append(all, strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64))
			}
			buckets = strings.Join(all, ",")
			if h.GetSchema() == 0 && h.GetZeroThreshold() == 0 {
				t.Errorf("%s has no native histogram", f.GetName())
			}
		}
		got = append(got, strings.Join([]string{f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ","), buckets, f.GetHelp()}, "\t"))
	}
	if d := cmp.Diff(wanted, got); d != "" {
		t.Errorf("compatible metrics (-GitLab Runner +got):\n%s", d)
	}
}

func TestLint(t *testing.T) {
	s, _, m := newStream(t)
	story(s)
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestPresentFromTheStart(t *testing.T) {
	s, _, m := newStream(t)
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 1, Concurrent: 3, Runners: []event.Limits{{Runner: runner("abcdefghi"), RequestConcurrency: 2}}})
	const (
		full = `runner="abcdefghi",runner_name="one",system_id="s_0123456789ab"`
		api  = `runner="abcdefghi",system_id="s_0123456789ab"`
	)
	for series, v := range map[string]string{
		`gitlab_runner_jobs{executor_stage="idle",runner="abcdefghi",runner_name="one",stage="idle",state="idle",system_id="s_0123456789ab"}`: "0",
		`gitlab_runner_jobs_total{` + full + `}`: "0",
		`gitlab_runner_failed_jobs_total{failure_reason="script_failure",mode="traditional",runner="abcdefghi",runner_name="one"}`: "0",
		`gitlab_runner_worker_processing_failures_total{failure_type="no_free_executor",` + full + `}`:                             "0",
		`gitlab_runner_worker_health_check_failures_total{` + full + `}`:                                                           "0",
		`gitlab_runner_request_concurrency{` + api + `}`:                                                                           "0",
		`gitlab_runner_request_concurrency_hard_limit{` + api + `}`:                                                                "2",
		`gitlab_runner_request_concurrency_used_limit{` + api + `}`:                                                                "1",
		`gitlab_runner_request_concurrency_exceeded_total{` + api + `}`:                                                            "0",
		`gitlab_runner_errors_total{level="fatal"}`:                                                                                "0",
		`gitlab_runner_process_state_info{state="starting"}`:                                                                       "1",
		`gitlab_runner_configuration_loaded_total`:                                                                                 "1",
		`gitlab_runner_concurrent`:                                                                                                 "3",
		`gitlab_runner_limit{` + full + `}`:                                                                                        "0",
		`glassrunner_limit{` + full + `}`:                                                                                          "3",
		`glassrunner_jobs_finished_total{reason="none",result="success",` + full + `}`:                                             "0",
		`glassrunner_jobs_finished_total{reason="job_canceled",result="canceled",` + full + `}`:                                    "0",
		`glassrunner_api_request_errors_total{class="dns",endpoint="request_job"}`:                                                 "0",
		`glassrunner_runner_healthy{` + full + `}`:                                                                                 "1",
		`glassrunner_process_state{state="running"}`:                                                                               "0",
		`gitlab_runner_autoscaling_machine_creation_duration_seconds_count{executor="docker+machine"}`:                             "0",
	} {
		want(t, m, series, v)
	}
}

// TestEqualEntries: the same token twice must not break a scrape.
func TestEqualEntries(t *testing.T) {
	s, _, m := newStream(t)
	r, twin := runner("abcdefghi"), runner("abcdefghi")
	twin.Executor = "docker"
	renamed := runner("abcdefghi")
	renamed.Name = "three"
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 1, Concurrent: 9, Runners: []event.Limits{
		{Runner: r, Limit: 1}, {Runner: r, Limit: 2}, {Runner: twin, Limit: 3}, {Runner: renamed},
	}})
	for i, o := range []job.Runner{r, twin, renamed} {
		s.emit(event.Scope{Runner: o, Job: job.ID(i + 1), Run: uint64(i + 1)}, event.JobStarted{})
	}
	want(t, m, `gitlab_runner_limit{runner="abcdefghi",runner_name="one",system_id="s_0123456789ab"}`, "6")
	want(t, m, `gitlab_runner_jobs_total{runner="abcdefghi",runner_name="one",system_id="s_0123456789ab"}`, "2")
	want(t, m, `glassrunner_jobs_running{runner="abcdefghi",runner_name="one",system_id="s_0123456789ab"}`, "2")
	if d := cmp.Diff(gathered(t, m, false), text(t, m, false)); d != "" {
		t.Errorf("ours differs from the library's:\n%s", d)
	}
}

func TestRunnerLeaves(t *testing.T) {
	s, b, m := newStream(t)
	stays, goes, works := runner("staying00"), runner("leaving00"), runner("working00")
	limits := func(rs ...job.Runner) event.ConfigLoaded {
		c := event.ConfigLoaded{Generation: 1, Concurrent: 9}
		for _, r := range rs {
			c.Runners = append(c.Runners, event.Limits{Runner: r})
		}
		return c
	}
	s.emit(event.Scope{}, limits(stays, goes, works))
	for i, r := range []job.Runner{stays, goes} {
		for _, f := range jobFacts() {
			s.emit(event.Scope{Runner: r, Job: job.ID(i + 1), Run: uint64(i + 1)}, f)
		}
	}
	w := event.Scope{Runner: works, Job: 9, Run: 9}
	s.emit(w, event.JobStarted{HighCardinality: true})
	s.emit(event.Scope{}, limits(stays))
	late := func() {
		for _, f := range []event.Fact{
			event.Polled{Result: "none"}, event.Fed{}, event.HealthChecked{}, event.RequestSlots{HardLimit: 1}, event.TurnFailed{Kind: "other"},
			event.Called{Endpoint: "request_job", Method: "post", Status: 204, Attempts: 1},
		} {
			s.emit(event.Scope{Runner: goes}, f)
		}
	}
	late()
	all := text(t, m, false)
	if strings.Contains(all, "leaving00") {
		t.Errorf("series of a removed runner:\n%s", grep(all, "leaving00"))
	}
	if !strings.Contains(all, "staying00") {
		t.Error("the other runner has no series")
	}
	want(t, m, `gitlab_runner_jobs_total{runner="working00",runner_name="one",system_id="s_0123456789ab"}`, "1")
	if strings.Contains(all, `runner="working00",runner_name="one",stage="idle"`) {
		t.Error("a removed runner is idle")
	}
	for _, f := range []event.Fact{
		event.PhaseFinished{Phase: job.GetSources, Took: time.Second},
		event.JobFinished{Outcome: job.Outcome{Reason: job.ScriptFailure}, Took: time.Second},
		event.JobRemoved{},
	} {
		s.emit(w, f)
	}
	late()
	if all := text(t, m, false); strings.Contains(all, "working00") {
		t.Errorf("series of a runner that finished its last job:\n%s", grep(all, "working00"))
	}
	if n := len(b.Snapshot().Runners); n != 1 {
		t.Errorf("runners on the board: got %d, want 1", n)
	}
	if all := gathered(t, m, false); all != text(t, m, false) {
		t.Error("ours differs from the library's")
	}
}

func grep(all, what string) string {
	var b strings.Builder
	for line := range strings.Lines(all) {
		if strings.Contains(line, what) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestHostileLabels: what people and coordinators write must not break the
// exposition or grow it without bounds.
func TestHostileLabels(t *testing.T) {
	s, _, m := newStream(t)
	evil := []string{"", "a\"b\\c\nd", "\xff\xfe", strings.Repeat("ü", 500), "x\",le=\"+Inf", "\x00\x1b[31m", "{}", "# HELP"}
	var cfg event.ConfigLoaded
	cfg.Generation = 1
	for _, e := range evil {
		cfg.Runners = append(cfg.Runners, event.Limits{Runner: job.Runner{Short: e, Name: e, SystemID: e, Executor: e}})
	}
	cfg.Hash = "\xff"
	s.emit(event.Scope{}, cfg)
	before := strings.Count(text(t, m, false), "\n")
	for i := range 2000 {
		r := cfg.Runners[i%len(evil)].Runner
		sc := event.Scope{Runner: r, Job: job.ID(i + 1), Run: uint64(i + 1)}
		word := fmt.Sprintf("%s%d", evil[i%len(evil)], i)
		s.emit(sc, event.JobStarted{HighCardinality: true, Info: job.Info{ProjectJobsRunningOnInstanceRunners: word, QueueSize: -5, TimeInQueue: -time.Hour}})
		s.emit(sc, event.ExecutorStage{Stage: word})
		s.emit(sc, event.JobState{State: job.State(word)})
		s.emit(sc, event.PhaseStarted{Phase: job.StepPhase(word)})
		s.emit(sc, event.PhaseFinished{Phase: job.StepPhase(word), Took: -1})
		s.emit(sc, event.PhaseFinished{Phase: job.Phase(word)})
		s.emit(sc, event.Called{Endpoint: word, Method: word, Path: word, Status: 1000 + i, Statuses: []int{2000 + i}, Class: event.ErrorClass(word), Attempts: -1, Took: -1, Waited: time.Hour})
		s.emit(sc, event.Called{Endpoint: "request_job", Method: "post", Path: word, Status: 1000 + i})
		s.emit(sc, event.Degraded{What: word})
		s.emit(sc, event.TurnFailed{Kind: word})
		s.emit(sc, event.Polled{Result: word})
		s.emit(sc, event.InterpolationFailed{Kind: word})
		if i < len(evil) {
			if a, b := gathered(t, m, false), text(t, m, false); a != b {
				t.Errorf("ours differs from the library's:\n%s", cmp.Diff(a, b))
			}
		}
		s.emit(sc, event.JobFinished{Outcome: job.Outcome{Reason: job.Reason(word), Err: errors.New("x"), Prepared: true}, Mode: word, State: job.State(word)})
		s.emit(sc, event.JobRemoved{})
	}
	for _, openMetrics := range []bool{false, true} {
		if a, b := gathered(t, m, openMetrics), text(t, m, openMetrics); a != b {
			t.Errorf("ours differs from the library's:\n%s", cmp.Diff(a, b))
		}
	}
	after := strings.Count(text(t, m, false), "\n")
	if after > before+8000 {
		t.Errorf("lines: %d before, %d after 2000 hostile jobs", before, after)
	}
}

func TestAttemptsAndRetries(t *testing.T) {
	s, _, m := newStream(t)
	story(s)
	for series, v := range map[string]string{
		`gitlab_runner_api_request_retries_total{method="post",path="/api/v4/jobs/request"}`:                                                       "4",
		`gitlab_runner_api_request_statuses_total{endpoint="request_job",method="post",runner="abcdefghi",status="-1",system_id="s_0123456789ab"}`: "1",
		`glassrunner_api_request_retries_total{endpoint="request_job",status="429"}`:                                                               "1",
		`glassrunner_api_request_retries_total{endpoint="request_job",status="500"}`:                                                               "0",
		`glassrunner_api_request_errors_total{class="timeout",endpoint="patch_trace"}`:                                                             "1",
		`glassrunner_api_request_retry_wait_seconds_total{endpoint="request_job"}`:                                                                 "2",
	} {
		want(t, m, series, v)
	}
	if all := text(t, m, false); regexp.MustCompile(`statuses_total\{endpoint="patch_trace"`).MatchString(all) {
		t.Error("a patch_trace call without an answer has a status")
	}
}

func TestReference(t *testing.T) {
	var b bytes.Buffer
	if err := metrics.Reference(&b); err != nil {
		t.Fatal(err)
	}
	s, _, m := newStream(t)
	story(s)
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.Contains(b.String(), "`"+f.GetName()+"`") {
			t.Errorf("the reference lacks %s", f.GetName())
		}
	}
}
