// Package traces turns the stream of events into OpenTelemetry: a trace for
// each job (spans.go), and, where that is asked for, the metrics of the cicd.*
// conventions (cicd.go), both sent by OTLP.
//
// The observer builds spans and hands them to the SDK's batch processor, which
// exports them from a goroutine of its own; what does not fit into its bounded
// queue is dropped and counted. Whether a job is traced, and under which ids,
// is decided once, by Begin, before its first fact; from then on the ids ride in
// event.Scope, so that metrics, logs and the job's own tools name the same trace.
//
// Nothing of this runs, and nothing is allocated, until an endpoint is set.
package traces

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// scopeName names the instrumentation in what is exported.
const scopeName = "github.com/glassrunner/glassrunner"

// Options are what Traces needs.
type Options struct {
	Version  string // of this program
	SystemID string // of this process
	// Failed is told, at most once a minute, that spans or metrics could not be
	// delivered. It may be called at any time from any goroutine, but not within
	// Observe; the texts hold no secret.
	Failed func(error)
}

// Traces is an event.Observer. Observe must not be called at the same time
// with itself, as a Bus promises; everything else may be.
type Traces struct {
	o    Options
	jobs map[uint64]*record // by event.Scope.Run; Observe's alone

	sampler  atomic.Pointer[sdktrace.Sampler] // nil: jobs get no traces
	pipeline atomic.Pointer[pipeline]         // nil: there is nobody to send spans to
	cicd     atomic.Pointer[cicd]             // nil: no metrics
	counts   counts
	workers  workers
	named    named
	unused   trouble // receivers that coordinators name in vain

	apply   sync.Mutex // one change at a time
	inForce string     // guarded by apply

	making   sync.Mutex // guards the making of these
	resource *resource.Resource
	tracer   atomic.Pointer[trace.Tracer] // made once: running jobs hold spans of it
}

// counts are what became of spans.
type counts struct{ exported, dropped, failed atomic.Uint64 }

// New returns an observer that does nothing until Apply switches it on.
func New(o Options) *Traces {
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	return &Traces{o: o, unused: trouble{tell: o.Failed}}
}

// Counts returns how many spans were exported, were dropped because the queue
// was full or nobody took them in time, and were refused or lost on the way.
func (t *Traces) Counts() (exported, dropped, failed uint64) {
	return t.counts.exported.Load(), t.counts.dropped.Load(), t.counts.failed.Load()
}

// Apply puts settings in force: it starts, replaces or ends the export. What
// the one before it still holds is sent first, until ctx ends. On an error
// nothing has changed.
func (t *Traces) Apply(ctx context.Context, s Settings) error {
	t.apply.Lock()
	defer t.apply.Unlock()
	if now := s.fingerprint(); now != t.inForce {
		if err := t.change(ctx, s); err != nil {
			return err
		}
		t.inForce = now
	}
	return nil
}

func (t *Traces) change(ctx context.Context, s Settings) (err error) {
	var (
		spans   *pipeline
		meter   *cicd
		sampler sdktrace.Sampler
	)
	if s.tracing() || s.metering() {
		if err := t.prepare(ctx); err != nil {
			return err
		}
	}
	if s.tracing() {
		if sampler, err = s.sampler(); err != nil {
			return err
		}
		exporter, err := s.spanExporter(ctx, t.o.Version)
		if err != nil {
			return err
		}
		spans = newPipeline(exporter, &t.counts, t.o.Failed)
	}
	if s.metering() {
		if meter, err = t.newCICD(ctx, s); err != nil {
			return errors.Join(err, spans.close(ctx))
		}
	}
	if sampler == nil {
		t.sampler.Store(nil)
	} else {
		t.sampler.Store(&sampler)
	}
	// The new settings are in force; what was lost with the old ones was counted.
	if err := errors.Join(t.pipeline.Swap(spans).close(ctx), t.cicd.Swap(meter).close(ctx), t.named.allow(ctx, s.allowed())); err != nil {
		t.o.Failed(scrubbed(err))
	}
	return nil
}

// prepare makes what outlives settings.
func (t *Traces) prepare(ctx context.Context) error {
	t.making.Lock()
	defer t.making.Unlock()
	if t.resource != nil {
		return nil
	}
	// The SDK keeps both for the whole process. Its own would write to standard
	// error, with values of variables that may be secret. What is worth telling,
	// the exporters tell; an error handler may be called within Observe, where
	// nothing may be emitted.
	otel.SetLogger(logr.Discard())
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {}))
	res, err := describe(ctx, t.o)
	if err != nil {
		return err
	}
	t.resource = res
	tracer := sdktrace.NewTracerProvider(
		sdktrace.WithResource(res), sdktrace.WithSpanProcessor(relay{t}), sdktrace.WithIDGenerator(ids{}),
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // Begin has decided
	).Tracer(scopeName, trace.WithInstrumentationVersion(t.o.Version), trace.WithSchemaURL(schemaURL))
	t.tracer.Store(&tracer)
	return nil
}

// Close sends what is left, until ctx ends, and ends the export.
func (t *Traces) Close(ctx context.Context) error {
	t.apply.Lock()
	defer t.apply.Unlock()
	t.inForce = ""
	t.sampler.Store(nil)
	return errors.Join(t.pipeline.Swap(nil).close(ctx), t.cicd.Swap(nil).close(ctx), t.named.allow(ctx, false))
}

// Begin decides how a job is traced: under the ids that its coordinator gave
// it, else under new ones. The result is the span of the job as a whole, zero
// while nobody wants it.
func (t *Traces) Begin(s *job.Spec) event.Trace {
	sampler := t.sampler.Load()
	if sampler == nil && (s.Features.Tracing == nil || !t.named.allowed()) {
		return event.Trace{}
	}
	f := parseFeatures(s.Features.Tracing)
	if f.refused != nil {
		t.unused.note(f.refused)
	}
	if sampler == nil && len(f.endpoints) == 0 {
		return event.Trace{}
	}
	tr := event.NewTrace(f.id, f.parent, false)
	if sampler != nil {
		p := sdktrace.SamplingParameters{ParentContext: context.Background(), TraceID: trace.TraceID(tr.ID)}
		if tr.Parent != (event.SpanID{}) {
			// The coordinator gives ids to what it wants traced.
			p.ParentContext = trace.ContextWithRemoteSpanContext(p.ParentContext, trace.NewSpanContext(trace.SpanContextConfig{
				TraceID: trace.TraceID(tr.ID), SpanID: trace.SpanID(tr.Parent), TraceFlags: trace.FlagsSampled, Remote: true,
			}))
		}
		tr.Sampled = (*sampler).ShouldSample(p).Decision == sdktrace.RecordAndSample
	}
	if t.route(tr, f) {
		tr.Sampled = true
	} else if sampler == nil {
		return event.Trace{}
	}
	return tr
}

// route has the spans of a job sent where its coordinator wants them, and
// reports whether they will be.
func (t *Traces) route(tr event.Trace, f features) bool {
	if len(f.endpoints) == 0 {
		return false
	}
	ctx := context.Background() // nothing is waited for
	if err := t.prepare(ctx); err != nil {
		t.unused.note(err)
		return false
	}
	routed, err := t.named.open(ctx, tr.ID, tr.Sampled, f.endpoints, t.namedPipeline)
	if err != nil {
		t.unused.note(err)
	}
	return routed
}

// Observe makes spans and metrics of e.
func (t *Traces) Observe(e event.Event) {
	t.workers.observe(e)
	if m := t.cicd.Load(); m != nil {
		m.observe(e)
	}
	if e.Trace.Sampled {
		t.span(e)
	}
}

// relay hands ended spans to the pipelines that are in force: a tracer cannot
// change its processors without losing the spans of running jobs.
type relay struct{ t *Traces }

func (relay) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

func (r relay) OnEnd(s sdktrace.ReadOnlySpan) {
	to, operator := r.t.named.of(event.TraceID(s.SpanContext().TraceID()))
	for _, p := range to {
		p.take(s)
	}
	if !operator {
		return
	}
	if p := r.t.pipeline.Load(); p != nil {
		p.take(s)
		return
	}
	r.t.counts.dropped.Add(1)
}

func (relay) Shutdown(context.Context) error   { return nil }
func (relay) ForceFlush(context.Context) error { return nil }

// ids gives spans the ids that ride in event.Scope.
type ids struct{}

type idsKey struct{}

func (ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	t := wanted(ctx)
	return trace.TraceID(t.ID), trace.SpanID(t.Span)
}

func (ids) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	return trace.SpanID(wanted(ctx).Span)
}

func wanted(ctx context.Context) event.Trace {
	t, ok := ctx.Value(idsKey{}).(event.Trace)
	if !ok {
		return event.NewTrace(event.TraceID{}, event.SpanID{}, true) // nobody starts spans that way
	}
	return t
}
