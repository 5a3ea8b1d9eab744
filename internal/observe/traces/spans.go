package traces

import (
	"context"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/redact"
)

// record is a job's trace while the job runs.
type record struct {
	root     trace.Span
	began    time.Time
	finished time.Time // when delivery of its result began
	open     []phase
	calls    int // to the coordinator
}

// phase is a phase that runs.
type phase struct {
	id    event.SpanID
	span  trace.Span
	began time.Time
}

// maxCalls bounds the spans of calls to the coordinator in one job: a log that
// is sent every few seconds makes thousands. Failed calls are always shown, up
// to as many again.
const maxCalls = 200

// span makes spans of the facts of a sampled job. Whatever was measured comes
// when it is over: its span ends now and began as long ago as it took.
func (t *Traces) span(e event.Event) {
	if f, ok := e.Fact.(event.JobReceived); ok {
		t.received(e, f)
		return
	}
	r := t.jobs[e.Run]
	if r == nil {
		return
	}
	switch f := e.Fact.(type) {
	case event.JobStarted:
		r.root.SetAttributes(attribute.String(keyTaskURL, clean(f.URL)))
		r.root.AddEvent("accepted", trace.WithTimestamp(e.Time))
	case event.PhaseStarted:
		s := t.start(e.Trace, string(f.Phase), e.Time, trace.SpanKindInternal, attribute.String(keyPhase, clean(string(f.Phase))))
		r.open = append(r.open, phase{e.Trace.Span, s, e.Time})
	case event.PhaseFinished:
		r.phaseFinished(e, f)
	case event.Called:
		t.called(r, e, f)
	case event.ImagePulled:
		t.measured(r, e, f.Took, "image_pull", outcome{failed: f.Result == "failed", class: f.Result},
			attribute.String(keyImagePolicy, f.Policy), attribute.String(keyResult, f.Result), attribute.Int64(keyBytes, f.Bytes))
	case event.ServiceReady:
		t.measured(r, e, f.Took, "service_ready", outcome{failed: !f.OK, class: "timeout"})
	case event.CacheDone:
		t.measured(r, e, f.Took, "cache_"+f.Op, outcome{failed: f.Result == "error", class: f.Result},
			attribute.String(keyResult, f.Result), attribute.Int64(keyBytes, f.Bytes))
	case event.ArtifactDone:
		failed := f.Result != "ok" && f.Result != "empty"
		t.measured(r, e, f.Took, "artifact_"+f.Direction, outcome{failed: failed, class: f.Result},
			attribute.String(keyResult, f.Result), attribute.Int64(keyBytes, f.Bytes))
	case event.Directed:
		r.root.AddEvent("directed", trace.WithTimestamp(e.Time), trace.WithAttributes(attribute.String(keyDirective, f.Directive.String())))
	case event.Degraded:
		r.root.AddEvent("degraded", trace.WithTimestamp(e.Time), trace.WithAttributes(attribute.String(keyWhat, clean(f.What))))
	case event.JobFinished:
		r.finished = e.Time
		r.judge(f)
	case event.JobRefused:
		r.refused(f)
		t.end(e, r)
	case event.JobRemoved:
		t.removed(r, e, f)
	default:
	}
}

func (t *Traces) received(e event.Event, f event.JobReceived) {
	if t.jobs[e.Run] != nil || t.tracer.Load() == nil {
		return
	}
	name := clean(f.Info.Name)
	if name == "" {
		name = "job"
	}
	root := t.start(e.Trace, name, e.Time, trace.SpanKindInternal,
		attribute.String(keyTaskName, name),
		attribute.String(keyTaskID, e.Job.String()),
		attribute.String(keyPipelineID, job.ID(f.Info.PipelineID).String()),
		attribute.String(keyPipelineName, clean(f.Info.ProjectFullPath)),
		attribute.String(keyRepository, clean(f.RepoURL)),
		attribute.String(keyWorkerID, clean(e.Runner.Short+"/"+e.Runner.SystemID)),
		attribute.String(keyWorkerName, clean(e.Runner.Name)),
		attribute.String(keyExecutor, e.Runner.Executor),
		attribute.String(keyStage, clean(f.Info.Stage)),
		attribute.Int64(keyProjectID, f.Info.ProjectID),
		attribute.String(keyProjectPath, clean(f.Info.ProjectFullPath)),
		attribute.Int64(keyNamespaceID, f.Info.NamespaceID),
		attribute.Float64(keyQueued, f.Info.TimeInQueue.Seconds()),
	)
	if t.jobs == nil {
		t.jobs = make(map[uint64]*record)
	}
	t.jobs[e.Run] = &record{root: root, began: e.Time}
}

// start begins the span of that place in a trace.
func (t *Traces) start(at event.Trace, name string, when time.Time, kind trace.SpanKind, attrs ...attribute.KeyValue) trace.Span {
	ctx := context.WithValue(context.Background(), idsKey{}, at)
	if at.Parent != (event.SpanID{}) {
		ctx = trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID(at.ID), SpanID: trace.SpanID(at.Parent), TraceFlags: trace.FlagsSampled,
		}))
	}
	_, s := (*t.tracer.Load()).Start(ctx, name, trace.WithTimestamp(when), trace.WithSpanKind(kind), trace.WithAttributes(attrs...)) //nolint:spancheck // ended by a later fact
	return s                                                                                                                         //nolint:spancheck // as above
}

// outcome is how something that was measured ended.
type outcome struct {
	failed bool
	class  string // of the failure, from a bounded set
}

// measured makes the span of something that just ended.
func (t *Traces) measured(r *record, e event.Event, took time.Duration, name string, o outcome, attrs ...attribute.KeyValue) {
	t.finish(t.start(e.Trace.Child(), name, r.since(e, took), trace.SpanKindInternal, attrs...), e.Time, o)
}

func (t *Traces) finish(s trace.Span, at time.Time, o outcome) {
	if o.failed {
		s.SetAttributes(attribute.String(keyErrorType, o.class))
		s.SetStatus(codes.Error, o.class)
	}
	s.End(trace.WithTimestamp(at))
}

// since is when something began that just ended, not before the span that it
// belongs to: who measured it may not be trusted, or not to the microsecond.
func (r *record) since(e event.Event, took time.Duration) time.Time {
	parent := r.began
	for _, p := range r.open {
		if p.id == e.Trace.Span {
			parent = p.began
		}
	}
	if e.Trace.Parent != (event.SpanID{}) && !r.finished.IsZero() {
		parent = r.finished
	}
	at := e.Time.Add(-max(0, took))
	if at.Before(parent) {
		return parent
	}
	return at
}

func (r *record) phaseFinished(e event.Event, f event.PhaseFinished) {
	for i, p := range r.open {
		if p.id != e.Trace.Span {
			continue
		}
		switch {
		case f.Panicked:
			p.span.SetAttributes(attribute.String(keyErrorType, "panic"))
			p.span.SetStatus(codes.Error, "panic")
		case f.Err != nil:
			p.span.SetStatus(codes.Error, clean(f.Err.Error()))
		}
		p.span.End(trace.WithTimestamp(e.Time))
		r.open = append(r.open[:i], r.open[i+1:]...)
		return
	}
}

func (t *Traces) called(r *record, e event.Event, f event.Called) {
	failed := f.Class != "" || f.Status >= 400
	r.calls++
	if r.calls > maxCalls && !failed || r.calls > 2*maxCalls {
		return
	}
	method := strings.ToUpper(f.Method)
	attrs := []attribute.KeyValue{
		attribute.String(keyMethod, method), attribute.String(keyURLTemplate, clean(f.Path)), attribute.String(keyEndpoint, f.Endpoint),
	}
	if f.Status > 0 {
		attrs = append(attrs, attribute.Int(keyStatusCode, f.Status))
	}
	if f.Attempts > 1 {
		attrs = append(attrs, attribute.Int(keyResend, f.Attempts-1), attribute.Float64(keyWaited, f.Waited.Seconds()))
	}
	o := outcome{failed: failed, class: string(f.Class)}
	if failed && o.class == "" {
		o.class = strconv.Itoa(f.Status)
	}
	t.finish(t.start(e.Trace.Child(), method+" "+clean(f.Path), r.since(e, f.Took), trace.SpanKindClient, attrs...), e.Time, o)
}

// judge sets what the job's span says of its result.
func (r *record) judge(f event.JobFinished) {
	result, class := resultOf(f.Outcome)
	r.root.SetAttributes(attribute.String(keyTaskResult, result))
	if f.Outcome.OK() {
		r.root.SetStatus(codes.Ok, "")
		return
	}
	if f.Outcome.ExitCode != 0 {
		r.root.SetAttributes(attribute.Int(keyExitCode, f.Outcome.ExitCode))
	}
	r.root.SetAttributes(attribute.String(keyErrorType, class), attribute.String(keyReason, class))
	if result == resultCanceled {
		return // somebody's wish is no error
	}
	text := class
	if f.Outcome.Err != nil {
		text = clean(f.Outcome.Err.Error())
	}
	r.root.SetStatus(codes.Error, text)
}

func (r *record) refused(f event.JobRefused) {
	switch f.Reason {
	case job.NoReason, job.Canceled:
		r.root.SetAttributes(attribute.String(keyTaskResult, resultCanceled))
		return
	default:
	}
	r.root.SetAttributes(
		attribute.String(keyTaskResult, resultError),
		attribute.String(keyErrorType, string(f.Reason)), attribute.String(keyReason, string(f.Reason)),
	)
	text := string(f.Reason)
	if f.Err != nil {
		text = clean(f.Err.Error())
	}
	r.root.SetStatus(codes.Error, text)
}

func (t *Traces) removed(r *record, e event.Event, f event.JobRemoved) {
	from := r.finished
	if from.IsZero() {
		from = e.Time
	}
	t.finish(t.start(e.Trace, "deliver_result", from, trace.SpanKindInternal), e.Time, outcome{failed: f.Lost, class: "result_lost"})
	t.end(e, r)
}

// end ends the job's span.
func (t *Traces) end(e event.Event, r *record) {
	delete(t.jobs, e.Run)
	for _, p := range r.open {
		p.span.End(trace.WithTimestamp(e.Time))
	}
	r.root.SetAttributes(attribute.Int(keyCalls, r.calls))
	r.root.End(trace.WithTimestamp(e.Time))
	t.named.done(e.Trace.ID)
}

// The results of a job in the words of the conventions.
const (
	resultSuccess  = "success"
	resultFailure  = "failure" // of the user's script
	resultError    = "error"   // of the system
	resultTimeout  = "timeout"
	resultCanceled = "cancellation"
)

// resultOf returns a job's result and, unless it is a success, its reason.
func resultOf(o job.Outcome) (result, reason string) {
	reason = string(o.Reason)
	switch {
	case o.OK():
		return resultSuccess, ""
	case o.Reason == job.NoReason:
		return resultFailure, string(job.ScriptFailure)
	case o.Reason == job.ScriptFailure:
		return resultFailure, reason
	case o.Reason == job.ExecutionTimeout:
		return resultTimeout, reason
	case o.Reason == job.Canceled:
		return resultCanceled, reason
	}
	return resultError, reason
}

// maxText bounds a text in a span, in bytes.
const maxText = 512

// clean makes a text fit to be exported: without what looks like a secret,
// valid UTF-8 (protobuf refuses all spans of a message for one that is not) and
// of bounded length.
func clean(s string) string {
	if len(s) > 8*maxText {
		s = s[:8*maxText] // the rest would only cost time
	}
	s = redact.Scrub(s)
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// scrubbed returns err with a text that is fit to be told.
func scrubbed(err error) error { return &told{clean(err.Error()), err} }

type told struct {
	text string
	err  error
}

func (t *told) Error() string { return t.text }
func (t *told) Unwrap() error { return t.err }
