package traces

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/glassrunner/glassrunner/internal/job"
)

// Settings say where spans and metrics go. What is zero is taken from the
// environment variables of the OpenTelemetry specification, and else their
// defaults hold; a setting that is given wins over its variable.
type Settings struct {
	Enabled     *bool                 // nil: an endpoint or an exporter is named
	Endpoint    string                // URL without the signal's path, or host:port
	Insecure    bool                  // an endpoint without a scheme is spoken to without TLS
	Protocol    string                // "grpc" or "http/protobuf"
	Headers     map[string]job.Secret // in place of all those of the environment
	CAFile      string
	CertFile    string
	KeyFile     string
	SampleRatio *float64 // of the traces that begin here, 0 to 1
	Metrics     bool
}

// The signals, as they are called in paths and, in upper case, in variables.
const (
	signalTraces  = "traces"
	signalMetrics = "metrics"
)

// tracing reports whether jobs are traced.
func (s Settings) tracing() bool {
	switch named := os.Getenv("OTEL_TRACES_EXPORTER"); {
	case s.Enabled != nil:
		return *s.Enabled
	case disabled():
		return false
	case s.Endpoint != "":
		return true
	case named != "":
		return named == "otlp"
	}
	return os.Getenv(prefix+"ENDPOINT") != "" || os.Getenv(prefix+"TRACES_ENDPOINT") != ""
}

// metering reports whether metrics are sent: only when that is asked for.
func (s Settings) metering() bool {
	return s.allowed() && (s.Metrics || os.Getenv("OTEL_METRICS_EXPORTER") == "otlp")
}

// allowed reports whether anything may be sent at all.
func (s Settings) allowed() bool {
	if s.Enabled != nil {
		return *s.Enabled
	}
	return !disabled()
}

// disabled is the switch for everything of OpenTelemetry.
func disabled() bool { return strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") }

// fingerprint tells settings apart. The environment does not change while the
// process runs; files may, and their content is not in it.
func (s Settings) fingerprint() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %t %q %q %q %q %t", s.Endpoint, s.Insecure, s.Protocol, s.CAFile, s.CertFile, s.KeyFile, s.Metrics)
	if s.Enabled != nil {
		fmt.Fprintf(h, " enabled=%t", *s.Enabled)
	}
	if s.SampleRatio != nil {
		fmt.Fprintf(h, " ratio=%v", *s.SampleRatio)
	}
	for _, k := range slices.Sorted(maps.Keys(s.Headers)) {
		fmt.Fprintf(h, " %q=%q", k, s.Headers[k].Reveal())
	}
	return string(h.Sum(nil))
}

// sampler decides which jobs are recorded. The default records all.
func (s Settings) sampler() (sdktrace.Sampler, error) {
	if s.SampleRatio != nil {
		return sdktrace.ParentBased(sdktrace.TraceIDRatioBased(*s.SampleRatio)), nil
	}
	ratio := func() (sdktrace.Sampler, error) {
		text := os.Getenv("OTEL_TRACES_SAMPLER_ARG")
		if text == "" {
			return sdktrace.AlwaysSample(), nil
		}
		r, err := strconv.ParseFloat(text, 64)
		if err != nil || !(r >= 0 && r <= 1) {
			return nil, errors.New("OTEL_TRACES_SAMPLER_ARG: want a number from 0 to 1")
		}
		return sdktrace.TraceIDRatioBased(r), nil
	}
	switch os.Getenv("OTEL_TRACES_SAMPLER") {
	case "", "parentbased_always_on":
		return sdktrace.ParentBased(sdktrace.AlwaysSample()), nil
	case "always_on":
		return sdktrace.AlwaysSample(), nil
	case "always_off":
		return sdktrace.NeverSample(), nil
	case "parentbased_always_off":
		return sdktrace.ParentBased(sdktrace.NeverSample()), nil
	case "traceidratio":
		return ratio()
	case "parentbased_traceidratio":
		r, err := ratio()
		if err != nil {
			return nil, err
		}
		return sdktrace.ParentBased(r), nil
	}
	return nil, errors.New("OTEL_TRACES_SAMPLER: want always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or parentbased_traceidratio")
}

func (s Settings) spanExporter(ctx context.Context, version string) (sdktrace.SpanExporter, error) {
	t, err := s.target(signalTraces)
	if err != nil {
		return nil, err
	}
	return otlptrace.New(ctx, spanClient{newSender(t, version)})
}

// describe says who sends. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
func describe(ctx context.Context, o Options) (*resource.Resource, error) {
	r, err := resource.New(ctx,
		resource.WithAttributes(
			attribute.String("service.name", "glassrunner"),
			attribute.String("service.version", o.Version),
			attribute.String("service.instance.id", o.SystemID),
		),
		resource.WithHost(), resource.WithTelemetrySDK(), resource.WithFromEnv(),
	)
	if err != nil {
		return nil, errors.New("OTEL_RESOURCE_ATTRIBUTES: want key=value, several separated by commas")
	}
	return r, nil
}
