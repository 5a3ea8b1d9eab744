package traces

import (
	"context"
	"os"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
)

// metricExporter sends the instruments of cicd.go, and those kinds only.
type metricExporter struct {
	*sender
	trouble trouble
}

var _ sdkmetric.Exporter = (*metricExporter)(nil)

// Temporality implements sdkmetric.Exporter.
func (*metricExporter) Temporality(k sdkmetric.InstrumentKind) metricdata.Temporality {
	asynchronous := k == sdkmetric.InstrumentKindObservableCounter
	sum := k == sdkmetric.InstrumentKindCounter || k == sdkmetric.InstrumentKindHistogram
	switch strings.ToLower(os.Getenv(prefix + "METRICS_TEMPORALITY_PREFERENCE")) {
	case "delta":
		if sum || asynchronous {
			return metricdata.DeltaTemporality
		}
	case "lowmemory":
		if sum {
			return metricdata.DeltaTemporality
		}
	}
	return metricdata.CumulativeTemporality
}

// Aggregation implements sdkmetric.Exporter.
func (*metricExporter) Aggregation(k sdkmetric.InstrumentKind) sdkmetric.Aggregation {
	return sdkmetric.DefaultAggregationSelector(k)
}

// Export implements sdkmetric.Exporter. It tells of failures itself; the SDK
// would tell a handler that is global to the process.
func (x *metricExporter) Export(ctx context.Context, rm *metricdata.ResourceMetrics) error {
	m := &metricspb.ResourceMetrics{
		Resource: &resourcepb.Resource{Attributes: keyValues(rm.Resource.Set())}, SchemaUrl: rm.Resource.SchemaURL(),
	}
	for _, s := range rm.ScopeMetrics {
		sm := &metricspb.ScopeMetrics{
			Scope: &commonpb.InstrumentationScope{Name: s.Scope.Name, Version: s.Scope.Version}, SchemaUrl: s.Scope.SchemaURL,
		}
		for _, one := range s.Metrics {
			if p := metricOf(one); p != nil {
				sm.Metrics = append(sm.Metrics, p)
			}
		}
		m.ScopeMetrics = append(m.ScopeMetrics, sm)
	}
	x.trouble.note(x.sendMetrics(ctx, m))
	return nil
}

// ForceFlush implements sdkmetric.Exporter.
func (*metricExporter) ForceFlush(context.Context) error { return nil }

// Shutdown implements sdkmetric.Exporter.
func (x *metricExporter) Shutdown(context.Context) error {
	x.client.CloseIdleConnections()
	return nil
}

func metricOf(m metricdata.Metrics) *metricspb.Metric {
	out := &metricspb.Metric{Name: m.Name, Description: m.Description, Unit: m.Unit}
	switch d := m.Data.(type) {
	case metricdata.Sum[int64]:
		sum := &metricspb.Sum{AggregationTemporality: temporality(d.Temporality), IsMonotonic: d.IsMonotonic}
		for _, p := range d.DataPoints {
			sum.DataPoints = append(sum.DataPoints, &metricspb.NumberDataPoint{
				Attributes: keyValues(&p.Attributes), StartTimeUnixNano: uint64(p.StartTime.UnixNano()), TimeUnixNano: uint64(p.Time.UnixNano()),
				Value: &metricspb.NumberDataPoint_AsInt{AsInt: p.Value},
			})
		}
		out.Data = &metricspb.Metric_Sum{Sum: sum}
	case metricdata.Histogram[float64]:
		histogram := &metricspb.Histogram{AggregationTemporality: temporality(d.Temporality)}
		for _, p := range d.DataPoints {
			histogram.DataPoints = append(histogram.DataPoints, &metricspb.HistogramDataPoint{
				Attributes: keyValues(&p.Attributes), StartTimeUnixNano: uint64(p.StartTime.UnixNano()), TimeUnixNano: uint64(p.Time.UnixNano()),
				Count: p.Count, Sum: &p.Sum, BucketCounts: p.BucketCounts, ExplicitBounds: p.Bounds, Exemplars: exemplars(p.Exemplars),
			})
		}
		out.Data = &metricspb.Metric_Histogram{Histogram: histogram}
	default:
		return nil // no instrument of ours
	}
	return out
}

func exemplars(all []metricdata.Exemplar[float64]) []*metricspb.Exemplar {
	out := make([]*metricspb.Exemplar, 0, len(all))
	for _, e := range all {
		out = append(out, &metricspb.Exemplar{
			TimeUnixNano: uint64(e.Time.UnixNano()), TraceId: e.TraceID, SpanId: e.SpanID, Value: &metricspb.Exemplar_AsDouble{AsDouble: e.Value},
		})
	}
	return out
}

func temporality(t metricdata.Temporality) metricspb.AggregationTemporality {
	if t == metricdata.DeltaTemporality {
		return metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_DELTA
	}
	return metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE
}

// keyValues writes attributes; those of a kind that is not used here as text.
func keyValues(set *attribute.Set) []*commonpb.KeyValue {
	out := make([]*commonpb.KeyValue, 0, set.Len())
	for i := set.Iter(); i.Next(); {
		kv := i.Attribute()
		v := &commonpb.AnyValue{}
		switch kv.Value.Type() {
		case attribute.INT64:
			v.Value = &commonpb.AnyValue_IntValue{IntValue: kv.Value.AsInt64()}
		case attribute.FLOAT64:
			v.Value = &commonpb.AnyValue_DoubleValue{DoubleValue: kv.Value.AsFloat64()}
		case attribute.BOOL:
			v.Value = &commonpb.AnyValue_BoolValue{BoolValue: kv.Value.AsBool()}
		default:
			v.Value = &commonpb.AnyValue_StringValue{StringValue: kv.Value.String()}
		}
		out = append(out, &commonpb.KeyValue{Key: string(kv.Key), Value: v})
	}
	return out
}
