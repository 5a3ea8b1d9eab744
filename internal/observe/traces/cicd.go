package traces

import (
	"context"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// workers counts what cicd.worker.count shows. A worker of the conventions is
// a place for a job here: this process has as many as it may run jobs at once.
type workers struct{ busy, all atomic.Int64 }

func (w *workers) observe(e event.Event) {
	switch f := e.Fact.(type) {
	case event.ConfigLoaded:
		if f.Err == nil {
			w.all.Store(int64(f.Concurrent))
		}
	case event.JobStarted:
		w.busy.Add(1)
	case event.JobRemoved:
		w.busy.Add(-1)
	default:
	}
}

// cicd sends the metrics of the cicd.* conventions, for processes that are
// gone before anybody scrapes them.
type cicd struct {
	provider *sdkmetric.MeterProvider
	duration metric.Float64Histogram
	errors   metric.Int64Counter
}

func (t *Traces) newCICD(ctx context.Context, s Settings) (*cicd, error) {
	at, err := s.target(signalMetrics)
	if err != nil {
		return nil, err
	}
	exporter := &metricExporter{sender: newSender(at, t.o.Version), trouble: trouble{tell: t.o.Failed}}
	c := &cicd{provider: sdkmetric.NewMeterProvider(
		sdkmetric.WithResource(t.resource), sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)),
	)}
	if err := c.instruments(t); err != nil {
		_ = c.close(ctx) // nothing was measured
		return nil, err
	}
	return c, nil
}

func (c *cicd) instruments(t *Traces) (err error) {
	m := c.provider.Meter(scopeName, metric.WithInstrumentationVersion(t.o.Version), metric.WithSchemaURL(schemaURL))
	// The conventions have a duration of pipeline runs only, which no runner sees.
	if c.duration, err = m.Float64Histogram("cicd.pipeline.task.run.duration",
		metric.WithUnit("s"), metric.WithDescription("Duration of jobs from acceptance to the end of cleanup."),
		metric.WithExplicitBucketBoundaries(0.25, 1, 5, 15, 60, 600, 3600)); err != nil {
		return err
	}
	if c.errors, err = m.Int64Counter("cicd.system.errors",
		metric.WithUnit("{error}"), metric.WithDescription("Errors of a component of the CI system; failed scripts are none.")); err != nil {
		return err
	}
	available := metric.WithAttributeSet(attribute.NewSet(attribute.String(keyWorkerState, "available")))
	busy := metric.WithAttributeSet(attribute.NewSet(attribute.String(keyWorkerState, "busy")))
	_, err = m.Int64ObservableUpDownCounter("cicd.worker.count",
		metric.WithUnit("{worker}"), metric.WithDescription("Places for jobs by state."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			n := t.workers.busy.Load()
			o.Observe(n, busy)
			o.Observe(max(0, t.workers.all.Load()-n), available)
			return nil
		}))
	return err
}

func (c *cicd) observe(e event.Event) {
	switch f := e.Fact.(type) {
	case event.JobFinished:
		result, reason := resultOf(f.Outcome)
		attrs := []attribute.KeyValue{attribute.String(keyTaskResult, result), attribute.String(keyWorkerName, clean(e.Runner.Name))}
		if reason != "" {
			attrs = append(attrs, attribute.String(keyErrorType, reason))
		}
		c.duration.Record(within(e.Trace), f.Took.Seconds(), metric.WithAttributes(attrs...))
		if result == resultError {
			c.failed(e.Trace, "runner", reason)
		}
	case event.JobRefused:
		if f.Reason != job.NoReason && f.Reason != job.Canceled {
			c.failed(e.Trace, "runner", string(f.Reason))
		}
	case event.Called:
		if f.Class != "" && f.Class != event.ErrCanceled {
			c.failed(e.Trace, "coordinator", string(f.Class))
		}
	default:
	}
}

func (c *cicd) failed(t event.Trace, component, class string) {
	c.errors.Add(within(t), 1, metric.WithAttributes(attribute.String(keyComponent, component), attribute.String(keyErrorType, class)))
}

// within returns a context of that span, which exemplars refer to.
func within(t event.Trace) context.Context {
	if !t.Sampled {
		return context.Background()
	}
	return trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID(t.ID), SpanID: trace.SpanID(t.Span), TraceFlags: trace.FlagsSampled,
	}))
}

// close sends the last state until ctx ends.
func (c *cicd) close(ctx context.Context) error {
	if c == nil {
		return nil
	}
	return c.provider.Shutdown(ctx)
}
