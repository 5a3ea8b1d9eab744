package traces_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/traces"
)

// world is an observer that exports to a receiver.
type world struct {
	t      *testing.T
	tr     *traces.Traces
	bus    *event.Bus
	failed atomic.Int64
	last   atomic.Pointer[error]
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t}
	w.tr = traces.New(traces.Options{Version: "1.2.3", SystemID: "s_0123456789ab", Failed: func(err error) {
		w.failed.Add(1)
		w.last.Store(&err)
	}})
	w.bus = event.NewBus(w.tr)
	t.Cleanup(func() { _ = w.tr.Close(t.Context()) })
	return w
}

func (w *world) apply(s traces.Settings) {
	w.t.Helper()
	if err := w.tr.Apply(w.t.Context(), s); err != nil {
		w.t.Fatal(err)
	}
}

// close sends what is left.
func (w *world) close() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	if err := w.tr.Close(ctx); err != nil {
		w.t.Error(err)
	}
}

var runner = job.Runner{Short: "abcdefghi", Name: "box", SystemID: "s_0123456789ab", Executor: "docker"}

// begin is a job's context, received.
func (w *world) begin(id job.ID, tracing string) context.Context {
	s := &job.Spec{ID: id}
	if tracing != "" {
		s.Features.Tracing = []byte(tracing)
	}
	ctx := event.WithScope(context.Background(), event.Scope{Runner: runner, Job: id, Run: w.bus.NextRun(), Trace: w.tr.Begin(s)})
	w.bus.Emit(ctx, event.JobReceived{
		Info:    job.Info{Name: "unit tests", Stage: "test", PipelineID: 77, ProjectID: 9, ProjectFullPath: "acme/app", TimeInQueue: 3 * time.Second},
		RepoURL: "https://gitlab.example.com/acme/app.git",
	})
	return ctx
}

// job tells a whole job.
func (w *world) job(id job.ID, tracing string, o job.Outcome) event.Trace {
	ctx := w.begin(id, tracing)
	b := w.bus
	b.Emit(ctx, event.Called{Endpoint: "update_job", Method: "put", Path: "/api/v4/jobs/{id}", Status: 200, Attempts: 1, Took: time.Millisecond})
	b.Emit(ctx, event.JobStarted{URL: "https://gitlab.example.com/acme/app/-/jobs/1"})
	_ = b.Phase(ctx, job.PrepareExecutor, func(ctx context.Context) error {
		b.Emit(ctx, event.ImagePulled{Policy: "always", Result: "pulled", Bytes: 10, Took: time.Hour})
		b.Emit(ctx, event.ServiceReady{OK: true})
		return nil
	})
	_ = b.Phase(ctx, job.RestoreCache, func(ctx context.Context) error {
		b.Emit(ctx, event.CacheDone{Op: "restore", Result: "hit", Bytes: 5})
		return nil
	})
	_ = b.Phase(ctx, "step_script", func(context.Context) error { return o.Err })
	_ = b.Phase(ctx, job.UploadArtifacts, func(ctx context.Context) error {
		b.Emit(ctx, event.ArtifactDone{Direction: "upload", Result: "too_large"})
		return nil
	})
	b.Emit(ctx, event.Called{Endpoint: "patch_trace", Method: "patch", Path: "/api/v4/jobs/{id}/trace", Status: 502, Attempts: 3, Waited: time.Second})
	b.Emit(ctx, event.Directed{Directive: job.Cancel})
	b.Emit(ctx, event.Degraded{What: "job_cleanup", Err: errors.New("glpat-0123456789")})
	b.Emit(ctx, event.JobFinished{Outcome: o, Took: time.Second})
	last := event.Below(ctx)
	b.Emit(last, event.Called{Endpoint: "update_job", Method: "put", Path: "/api/v4/jobs/{id}", Status: -1, Class: event.ErrReset, Attempts: 1, Took: time.Hour})
	b.Emit(last, event.JobRemoved{Took: time.Millisecond})
	return event.ScopeOf(ctx).Trace
}

func TestOneTraceAJob(t *testing.T) {
	r, w := newReceiver(t), newWorld(t)
	w.apply(traces.Settings{Endpoint: r.URL})
	tr := w.job(5, "", job.Outcome{Reason: job.ScriptFailure, ExitCode: 7, Err: errors.New("exit status 7")})
	w.job(6, "", job.Outcome{})
	w.close()

	byTrace := map[string][]span{}
	for _, s := range r.all() {
		byTrace[s.trace] = append(byTrace[s.trace], s)
	}
	if len(byTrace) != 2 {
		t.Fatalf("two jobs made %d traces", len(byTrace))
	}
	all := byTrace[tr.ID.String()]
	nest(t, all)
	root := named(t, all, "unit tests")
	if root.id != tr.Span.String() || root.parent != "" || root.status != tracepb.Status_STATUS_CODE_ERROR || root.text != "exit status 7" {
		t.Errorf("the job's span: %+v", root)
	}
	for key, want := range map[string]any{
		"cicd.pipeline.task.name": "unit tests", "cicd.pipeline.task.run.id": "5", "cicd.pipeline.run.id": "77",
		"cicd.pipeline.task.run.result": "failure", "cicd.pipeline.task.run.url.full": "https://gitlab.example.com/acme/app/-/jobs/1",
		"cicd.worker.name": "box", "cicd.worker.id": "abcdefghi/s_0123456789ab", "gitlab.job.exit_code": int64(7), "error.type": "script_failure",
		"gitlab.project.path": "acme/app", "gitlab.job.queued_seconds": 3.0, "gitlab.job.api_calls": int64(3), "gitlab.runner.executor": "docker",
	} {
		if got := root.attrs[key]; got != want {
			t.Errorf("%s: got %v, want %v", key, got, want)
		}
	}
	if got := strings.Join(root.events, " "); got != "accepted directed degraded" {
		t.Errorf("events of the job's span: %s", got)
	}
	for name, parent := range map[string]string{
		"prepare_executor": "unit tests", "restore_cache": "unit tests", "step_script": "unit tests", "deliver_result": "unit tests",
		"image_pull": "prepare_executor", "service_ready": "prepare_executor", "cache_restore": "restore_cache",
		"artifact_upload": "upload_artifacts_on_success", "PATCH /api/v4/jobs/{id}/trace": "unit tests",
	} {
		if s := named(t, all, name); s.parent != named(t, all, parent).id {
			t.Errorf("%s is not below %s", name, parent)
		}
	}
	if s := named(t, all, "step_script"); s.status != tracepb.Status_STATUS_CODE_ERROR || s.text != "exit status 7" {
		t.Errorf("the failed phase: %+v", s)
	}
	patch := named(t, all, "PATCH /api/v4/jobs/{id}/trace")
	if patch.kind != tracepb.Span_SPAN_KIND_CLIENT || patch.attrs["error.type"] != "502" || patch.attrs["http.request.resend_count"] != int64(2) {
		t.Errorf("a call: %+v", patch)
	}
	var final span
	for _, s := range all {
		if s.parent == named(t, all, "deliver_result").id {
			final = s
		}
	}
	if final.attrs["error.type"] != "reset" {
		t.Errorf("the call that delivers the result: %+v", final)
	}
	if root.resource["service.name"] != "glassrunner" || root.resource["service.version"] != "1.2.3" || root.resource["service.instance.id"] != "s_0123456789ab" {
		t.Errorf("resource: %v", root.resource)
	}
	if exported, dropped, failed := w.tr.Counts(); exported != uint64(len(r.all())) || dropped+failed != 0 {
		t.Errorf("counts: %d %d %d for %d spans", exported, dropped, failed, len(r.all()))
	}
}

// nest fails the test unless every span has its parent around it.
func nest(t *testing.T, all []span) {
	t.Helper()
	byID := map[string]span{}
	for _, s := range all {
		if _, twice := byID[s.id]; twice {
			t.Errorf("two spans have the id %s", s.id)
		}
		byID[s.id] = s
	}
	roots := 0
	for _, s := range all {
		p, inside := byID[s.parent]
		switch {
		case !inside:
			roots++
		case s.begin.Before(p.begin) || s.end.After(p.end):
			t.Errorf("%s (%v to %v) is not within %s (%v to %v)", s.name, s.begin, s.end, p.name, p.begin, p.end)
		}
		if s.end.Before(s.begin) {
			t.Errorf("%s ends before it begins", s.name)
		}
	}
	if roots != 1 {
		t.Errorf("%d spans have no parent in the trace, want one", roots)
	}
}

func TestResults(t *testing.T) {
	r, w := newReceiver(t), newWorld(t)
	w.apply(traces.Settings{Endpoint: r.URL})
	want := map[string]string{} // trace id to result
	for reason, result := range map[job.Reason]string{
		job.NoReason: "success", job.ScriptFailure: "failure", job.ExecutionTimeout: "timeout", job.Canceled: "cancellation",
		job.SystemFailure: "error", job.Interrupted: "error", job.ImagePullFailure: "error",
	} {
		o := job.Outcome{Reason: reason}
		if reason != job.NoReason {
			o.Err = errors.New(string(reason))
		}
		want[w.job(1, "", o).ID.String()] = result
	}
	refuse := func(f event.JobRefused, result string) {
		ctx := w.begin(1, "")
		w.bus.Emit(ctx, f)
		want[event.ScopeOf(ctx).Trace.ID.String()] = result
	}
	refuse(event.JobRefused{}, "cancellation")
	refuse(event.JobRefused{Reason: job.ConfigurationError, Err: errors.New("no")}, "error")
	w.close()
	for _, s := range r.all() {
		if s.name != "unit tests" {
			continue
		}
		if got := s.attrs["cicd.pipeline.task.run.result"]; got != want[s.trace] {
			t.Errorf("got %v, want %s", got, want[s.trace])
		}
		code := tracepb.Status_STATUS_CODE_ERROR
		switch want[s.trace] {
		case "success":
			code = tracepb.Status_STATUS_CODE_OK
		case "cancellation":
			code = tracepb.Status_STATUS_CODE_UNSET
		}
		if s.status != code {
			t.Errorf("%s has status %v", want[s.trace], s.status)
		}
		delete(want, s.trace)
	}
	if len(want) != 0 {
		t.Errorf("no span for %v", want)
	}
}

func TestBegin(t *testing.T) {
	const id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for _, tt := range []struct {
		name, tracing    string
		ours, ourParent  bool // the ids are new ones
		ratio            float64
		sampler, arg     string
		sampled, unknown bool
	}{
		{name: "none", tracing: ``, ours: true, ratio: 1, sampled: true},
		{name: "both", tracing: `{"trace_id":"` + id + `","span_parent_id":"` + parent + `","otel_endpoints":[]}`, ourParent: true, ratio: 1, sampled: true},
		{name: "no parent", tracing: `{"trace_id":"` + id + `"}`, ratio: 1, sampled: true},
		{name: "bad parent", tracing: `{"trace_id":"` + id + `","span_parent_id":"zz"}`, ratio: 1, sampled: true},
		{name: "bad trace", tracing: `{"trace_id":"` + id[1:] + `g","span_parent_id":"` + parent + `"}`, ours: true, ratio: 1, sampled: true},
		{name: "short trace", tracing: `{"trace_id":"0af7","span_parent_id":"` + parent + `"}`, ours: true, ratio: 1, sampled: true},
		{name: "zero trace", tracing: `{"trace_id":"00000000000000000000000000000000","span_parent_id":"` + parent + `"}`, ours: true, ratio: 1, sampled: true},
		{name: "another type", tracing: `{"trace_id":7}`, ours: true, ratio: 1, sampled: true},
		{name: "no object", tracing: `[]`, ours: true, ratio: 1, sampled: true},
		{name: "never", tracing: ``, ours: true, ratio: 0},
		{name: "never, but GitLab's", tracing: `{"trace_id":"` + id + `","span_parent_id":"` + parent + `"}`, ourParent: true, ratio: 0, sampled: true},
		{name: "always_off", tracing: `{"trace_id":"` + id + `","span_parent_id":"` + parent + `"}`, ourParent: true, ratio: -1, sampler: "always_off"},
		{name: "always_on", ours: true, ratio: -1, sampler: "always_on", sampled: true},
		{name: "traceidratio", tracing: `{"trace_id":"` + id + `","span_parent_id":"` + parent + `"}`, ourParent: true, ratio: -1, sampler: "traceidratio", arg: "0"},
		{name: "parentbased_traceidratio", ours: true, ratio: -1, sampler: "parentbased_traceidratio", arg: "0"},
		{name: "bad arg", ratio: -1, sampler: "traceidratio", arg: "half", unknown: true},
		{name: "bad sampler", ratio: -1, sampler: "jaeger_remote", unknown: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("OTEL_TRACES_SAMPLER", tt.sampler)
			t.Setenv("OTEL_TRACES_SAMPLER_ARG", tt.arg)
			w := newWorld(t)
			s := traces.Settings{Endpoint: "http://127.0.0.1:9"}
			if tt.ratio >= 0 {
				s.SampleRatio = &tt.ratio
			}
			err := w.tr.Apply(t.Context(), s)
			if (err != nil) != tt.unknown {
				t.Fatal(err)
			}
			if tt.unknown {
				return
			}
			got := w.tr.Begin(&job.Spec{Features: job.Features{Tracing: []byte(tt.tracing)}})
			if !got.On() || got.Span == (event.SpanID{}) || got.Sampled != tt.sampled {
				t.Fatalf("got %+v", got)
			}
			if (got.ID.String() != id) != tt.ours {
				t.Errorf("trace id %s", got.ID)
			}
			if want := map[bool]string{true: parent, false: "0000000000000000"}[tt.ourParent]; got.Parent.String() != want {
				t.Errorf("parent %s, want %s", got.Parent, want)
			}
		})
	}
}

func TestSecretsAndHostileTexts(t *testing.T) {
	r, w := newReceiver(t), newWorld(t)
	w.apply(traces.Settings{Endpoint: r.URL})
	bad := "glpat-SECRETSECRET https://user:hunter2@host/x \xff\xfe " + strings.Repeat("x", 1<<16)
	ctx := w.begin(1, "")
	_ = w.bus.Phase(ctx, "step_script", func(context.Context) error { return errors.New(bad) })
	w.bus.Emit(ctx, event.JobFinished{Outcome: job.Outcome{Reason: job.SystemFailure, Err: errors.New(bad)}})
	w.bus.Emit(ctx, event.JobRemoved{Lost: true, Err: errors.New(bad)})
	w.close()
	if n := len(r.all()); n != 3 {
		t.Fatalf("%d spans, want 3", n)
	}
	for _, secret := range []string{"SECRETSECRET", "hunter2"} {
		if strings.Contains(string(r.raw), secret) {
			t.Errorf("%q was exported", secret)
		}
	}
	if len(r.raw) > 8<<10 {
		t.Errorf("%d bytes for three spans", len(r.raw))
	}
}

// TestBoundedAndCounted has a receiver that does not answer.
func TestBoundedAndCounted(t *testing.T) {
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
	before := runtime.NumGoroutine()
	r, w := newReceiver(t), newWorld(t)
	r.hold = make(chan struct{})
	defer close(r.hold)
	w.apply(traces.Settings{Endpoint: r.URL})
	made := uint64(0)
	for range 20 {
		ctx := w.begin(1, "")
		w.bus.Emit(ctx, event.JobRefused{})
		made++
	}
	if _, dropped, _ := w.tr.Counts(); dropped < made-4 {
		t.Errorf("%d of %d were dropped, and 4 may wait", dropped, made)
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_ = w.tr.Close(ctx) // what it says does not matter here
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the end took %v", took)
	}
	if exported, dropped, failed := w.tr.Counts(); exported != 0 || dropped+failed != made {
		t.Errorf("%d exported, %d dropped, %d failed of %d", exported, dropped, failed, made)
	}
	r.CloseClientConnections()
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+3 && time.Now().Before(end); {
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > before+3 { // the receiver's own
		t.Errorf("%d goroutines, %d before", n, before)
	}
}

func TestFailuresAreToldOnce(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
	r, w := newReceiver(t), newWorld(t)
	r.status = http.StatusForbidden
	w.apply(traces.Settings{Endpoint: r.URL})
	for i := range uint64(3) {
		w.bus.Emit(w.begin(1, ""), event.JobRefused{})
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); runtime.Gosched() {
			if _, _, failed := w.tr.Counts(); failed > i {
				break
			}
		}
	}
	w.close()
	if _, _, failed := w.tr.Counts(); failed != 3 || w.failed.Load() != 1 {
		t.Errorf("%d failed, told %d times; want 3 and once", failed, w.failed.Load())
	}
	if err := w.last.Load(); err == nil || !strings.Contains((*err).Error(), "403") {
		t.Errorf("told %v", err)
	}
}

// TestReload lets a job begin with one receiver and end with another.
func TestReload(t *testing.T) {
	one, two, w := newReceiver(t), newReceiver(t), newWorld(t)
	w.apply(traces.Settings{Endpoint: one.URL})
	ctx := w.begin(1, "")
	_ = w.bus.Phase(ctx, "step_script", func(context.Context) error { return nil })
	w.apply(traces.Settings{Endpoint: one.URL}) // nothing changes
	w.apply(traces.Settings{Endpoint: two.URL})
	w.bus.Emit(ctx, event.JobRemoved{})
	off := false
	ctx = w.begin(2, "")
	w.apply(traces.Settings{Enabled: &off, Endpoint: two.URL})
	w.bus.Emit(ctx, event.JobRefused{})
	if w.tr.Begin(new(job.Spec)).On() {
		t.Error("a job is traced though tracing is off")
	}
	if a, b := len(one.all()), len(two.all()); a != 1 || b != 2 {
		t.Errorf("%d spans came to the first receiver and %d to the second, want 1 and 2", a, b)
	}
	if exported, dropped, failed := w.tr.Counts(); exported != 3 || dropped != 1 || failed != 0 {
		t.Errorf("counts %d %d %d", exported, dropped, failed)
	}
}

func TestOffCostsNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	w := newWorld(t)
	w.apply(traces.Settings{})
	spec := new(job.Spec)
	if w.tr.Begin(spec).On() {
		t.Fatal("tracing is on")
	}
	e := event.Event{Scope: event.Scope{Runner: runner, Job: 1, Run: 1}, Fact: event.Called{}}
	if n := testing.AllocsPerRun(100, func() { w.tr.Observe(e); w.tr.Begin(spec) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, %d before", n, before)
	}
}

func TestSettingsAndEnvironment(t *testing.T) {
	on, off := true, false
	for _, tt := range []struct {
		name string
		s    traces.Settings
		env  map[string]string
		want bool
		bad  string
	}{
		{name: "nothing"},
		{name: "endpoint", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, want: true},
		{name: "traces endpoint", env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/x"}, want: true},
		{name: "exporter", env: map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, want: true},
		{name: "exporter none", env: map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}},
		{name: "sdk disabled", s: traces.Settings{Endpoint: "127.0.0.1:9"}, env: map[string]string{"OTEL_SDK_DISABLED": "TRUE"}},
		{name: "table over sdk disabled", s: traces.Settings{Enabled: &on}, env: map[string]string{"OTEL_SDK_DISABLED": "true"}, want: true},
		{name: "table over endpoint", s: traces.Settings{Enabled: &off}, env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}},
		{name: "host and port", s: traces.Settings{Endpoint: "127.0.0.1:9", Insecure: true, Protocol: "grpc"}, want: true},
		{name: "bad endpoint", s: traces.Settings{Endpoint: "ftp://x"}, bad: "want host:port"},
		{name: "credentials", s: traces.Settings{Endpoint: "https://u:hunter2@x"}, bad: "without credentials"},
		{name: "bad protocol", s: traces.Settings{Endpoint: "x:1", Protocol: "udp"}, bad: "protocol"},
		{name: "bad protocol variable", s: traces.Settings{Endpoint: "x:1"}, env: map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, bad: "OTEL_EXPORTER_OTLP_PROTOCOL"},
		{name: "bad endpoint variable", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://u:hunter2@x"}, bad: "OTEL_EXPORTER_OTLP_ENDPOINT"},
		{name: "bad headers variable", s: traces.Settings{Endpoint: "x:1"}, env: map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "hunter2"}, bad: "OTEL_EXPORTER_OTLP_HEADERS"},
		{name: "bad timeout variable", s: traces.Settings{Endpoint: "x:1"}, env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "10s"}, bad: "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"},
		{name: "bad compression variable", s: traces.Settings{Endpoint: "x:1"}, env: map[string]string{"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}, bad: "OTEL_EXPORTER_OTLP_COMPRESSION"},
		{name: "no file", s: traces.Settings{Endpoint: "x:1", CAFile: "/nonexistent"}, bad: "/nonexistent"},
		{name: "key without certificate", s: traces.Settings{Endpoint: "x:1", KeyFile: "/nonexistent"}, bad: "client certificate"},
		{name: "no PEM", s: traces.Settings{Endpoint: "x:1", CAFile: os.Args[0]}, bad: "PEM"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			w := newWorld(t)
			err := w.tr.Apply(t.Context(), tt.s)
			switch {
			case tt.bad != "":
				if err == nil || !strings.Contains(err.Error(), tt.bad) || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("got %v, want something of %q", err, tt.bad)
				}
			case err != nil:
				t.Fatal(err)
			}
			if got := w.tr.Begin(new(job.Spec)).On(); got != tt.want {
				t.Errorf("tracing: got %t, want %t", got, tt.want)
			}
		})
	}
}

// TestTableWins sets everything in both places.
func TestTableWins(t *testing.T) {
	ours, theirs := newReceiver(t), newReceiver(t)
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", theirs.URL+"/v1/traces")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=theirs,x-more=1")
	w := newWorld(t)
	w.apply(traces.Settings{Endpoint: ours.URL + "/otlp/", Protocol: "http/protobuf", Headers: map[string]job.Secret{"x-team": "ours"}})
	w.bus.Emit(w.begin(1, ""), event.JobRefused{})
	w.close()
	if len(theirs.all()) != 0 || len(ours.all()) != 1 {
		t.Fatalf("%d spans went to the variable's receiver, %d to the table's", len(theirs.all()), len(ours.all()))
	}
	if h := ours.headers[0]; h.Get("X-Team") != "ours" || h.Get("X-More") != "" || ours.paths[0] != "/otlp/v1/traces" {
		t.Errorf("%s with %v", ours.paths[0], h)
	}
}

func TestTLS(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "300")
	r := unstarted()
	r.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	r.StartTLS()
	defer r.Close()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := write("ca.pem", "CERTIFICATE", r.Certificate().Raw)
	cert, key := clientCertificate(t)
	for _, tt := range []struct {
		name string
		s    traces.Settings
		want int
	}{
		{"all", traces.Settings{CAFile: ca, CertFile: write("c.pem", "CERTIFICATE", cert), KeyFile: write("k.pem", "PRIVATE KEY", key)}, 1},
		{"no client certificate", traces.Settings{CAFile: ca}, 0},
		{"unknown authority", traces.Settings{}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, before := newWorld(t), len(r.all())
			tt.s.Endpoint = strings.TrimPrefix(r.URL, "https://")
			w.apply(tt.s)
			w.bus.Emit(w.begin(1, ""), event.JobRefused{})
			w.close()
			if got := len(r.all()) - before; got != tt.want {
				t.Errorf("%d spans came, want %d", got, tt.want)
			}
		})
	}
}

// TestRandomFacts feeds facts in any order, under few runs and spans.
func TestRandomFacts(t *testing.T) {
	r, w := newReceiver(t), newWorld(t)
	w.apply(traces.Settings{Endpoint: r.URL, Metrics: true})
	rnd := rand.New(rand.NewPCG(1, 2))
	var places [4]event.Scope
	for i := range places {
		places[i] = event.Scope{Runner: runner, Job: job.ID(i), Run: uint64(i), Trace: w.tr.Begin(new(job.Spec))}
	}
	facts := []event.Fact{
		event.JobReceived{}, event.JobStarted{}, event.PhaseStarted{Phase: "a"}, event.PhaseFinished{Phase: "a", Panicked: true},
		event.Called{Took: -time.Second, Status: 999}, event.ImagePulled{Result: "failed"}, event.ServiceReady{}, event.CacheDone{Result: "error"},
		event.ArtifactDone{}, event.Directed{}, event.Degraded{}, event.JobFinished{}, event.JobRefused{Reason: job.SystemFailure},
		event.JobRemoved{Lost: true}, event.ConfigLoaded{Concurrent: 3}, event.LogSent{}, event.Polled{},
	}
	for range 20_000 {
		s := places[rnd.IntN(len(places))]
		if rnd.IntN(2) == 0 {
			s.Trace = s.Trace.Child()
		}
		w.bus.Emit(event.WithScope(context.Background(), s), facts[rnd.IntN(len(facts))])
	}
	for i := range places {
		w.bus.Emit(event.WithScope(context.Background(), places[i]), event.JobRemoved{})
	}
	w.close()
	for _, s := range r.all() {
		if s.end.Before(s.begin) {
			t.Fatalf("%s ends before it begins", s.name)
		}
	}
	if exported, dropped, failed := w.tr.Counts(); exported+dropped == 0 || failed != 0 {
		t.Errorf("counts %d %d %d", exported, dropped, failed)
	}
}

func TestCICDMetrics(t *testing.T) {
	r, w := newReceiver(t), newWorld(t)
	w.bus.Emit(context.Background(), event.ConfigLoaded{Concurrent: 3})
	w.apply(traces.Settings{Endpoint: r.URL, Metrics: true})
	w.job(1, "", job.Outcome{})
	w.job(2, "", job.Outcome{Reason: job.SystemFailure, Err: errors.New("x")})
	w.bus.Emit(w.begin(3, ""), event.JobStarted{})
	w.close()
	got := map[string]string{}
	for _, req := range r.metrics {
		for _, rm := range req.ResourceMetrics {
			for _, sm := range rm.ScopeMetrics {
				for _, m := range sm.Metrics {
					for _, p := range m.GetHistogram().GetDataPoints() {
						got[m.Name+" "+fmt.Sprint(values(p.Attributes))] = fmt.Sprint(p.Count, " ", p.GetSum(), " ", len(p.Exemplars))
					}
					for _, p := range m.GetSum().GetDataPoints() {
						got[m.Name+" "+fmt.Sprint(values(p.Attributes))] = fmt.Sprint(p.GetAsInt())
					}
				}
			}
		}
	}
	for k, want := range map[string]string{
		"cicd.worker.count map[cicd.worker.state:busy]":                                                                                  "1",
		"cicd.worker.count map[cicd.worker.state:available]":                                                                             "2",
		"cicd.pipeline.task.run.duration map[cicd.pipeline.task.run.result:success cicd.worker.name:box]":                                "1 1 1",
		"cicd.pipeline.task.run.duration map[cicd.pipeline.task.run.result:error cicd.worker.name:box error.type:runner_system_failure]": "1 1 1",
		"cicd.system.errors map[cicd.system.component:runner error.type:runner_system_failure]":                                          "1",
		"cicd.system.errors map[cicd.system.component:coordinator error.type:reset]":                                                     "2",
	} {
		if got[k] != want {
			t.Errorf("%s: got %q, want %q", k, got[k], want)
		}
	}
	if t.Failed() {
		for k, v := range got {
			t.Log(k, v)
		}
	}
}

// BenchmarkJob is the whole life of a job, some twenty spans.
func BenchmarkJob(b *testing.B) {
	hole := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer hole.Close()
	for _, on := range []bool{false, true} {
		b.Run(fmt.Sprintf("on=%t", on), func(b *testing.B) {
			tr := traces.New(traces.Options{})
			if err := tr.Apply(b.Context(), traces.Settings{Enabled: &on, Endpoint: hole.URL}); err != nil {
				b.Fatal(err)
			}
			w := &world{tr: tr, bus: event.NewBus(tr)}
			b.ReportAllocs()
			for b.Loop() {
				w.job(1, "", job.Outcome{})
			}
			_ = tr.Close(b.Context()) // a hole takes everything
		})
	}
}
