package traces

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/credentials"

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

const (
	prefix       = "OTEL_EXPORTER_OTLP_"
	protocolGRPC = "grpc"
	protocolHTTP = "http/protobuf"
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
	if s.Enabled != nil && !*s.Enabled || s.Enabled == nil && disabled() {
		return false
	}
	return s.Metrics || os.Getenv("OTEL_METRICS_EXPORTER") == "otlp"
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

// protocol of a signal, "TRACES" or "METRICS".
func (s Settings) protocol(signal string) (string, error) {
	p := s.Protocol
	for _, name := range []string{signal + "_PROTOCOL", "PROTOCOL"} {
		if p == "" {
			p = os.Getenv(prefix + name)
		}
	}
	switch p {
	case "":
		return protocolHTTP, nil
	case protocolGRPC, protocolHTTP:
		return p, nil
	}
	return "", fmt.Errorf("the protocol for %s is neither %s nor %s", strings.ToLower(signal), protocolGRPC, protocolHTTP)
}

// url is the address of a signal, "" for the environment's.
func (s Settings) url(protocol, signal string) (string, error) {
	text := s.Endpoint
	if text == "" {
		return "", nil
	}
	if !strings.Contains(text, "://") {
		scheme := "https://"
		if s.Insecure {
			scheme = "http://"
		}
		text = scheme + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
		return "", errors.New("the endpoint for tracing is neither host:port nor an address with http:// or https:// without credentials")
	}
	if protocol != protocolGRPC {
		u = u.JoinPath("v1", signal)
	}
	return u.String(), nil
}

func (s Settings) tls() (*tls.Config, error) {
	if s.CAFile == "" && s.CertFile == "" && s.KeyFile == "" {
		return nil, nil //nolint:nilnil // the exporter's own
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CAFile != "" {
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, err
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", s.CAFile)
		}
	}
	if s.CertFile != "" || s.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("the client certificate for tracing: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func (s Settings) headers() map[string]string {
	h := make(map[string]string, len(s.Headers))
	for k, v := range s.Headers {
		h[k] = v.Reveal()
	}
	return h
}

// target is where a signal goes, as far as Settings say.
type target struct {
	protocol, url string
	tls           *tls.Config
	headers       map[string]string
}

func (s Settings) target(signal string) (t target, err error) {
	if t.protocol, err = s.protocol(strings.ToUpper(signal)); err != nil {
		return t, err
	}
	if t.url, err = s.url(t.protocol, signal); err != nil {
		return t, err
	}
	t.headers = s.headers()
	t.tls, err = s.tls()
	return t, err
}

func (s Settings) spanExporter(ctx context.Context) (sdktrace.SpanExporter, error) {
	t, err := s.target("traces")
	if err != nil {
		return nil, err
	}
	if t.protocol == protocolGRPC {
		var o []otlptracegrpc.Option
		if t.url != "" {
			o = append(o, otlptracegrpc.WithEndpointURL(t.url))
		}
		if t.tls != nil {
			o = append(o, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(t.tls)))
		}
		if len(t.headers) > 0 {
			o = append(o, otlptracegrpc.WithHeaders(t.headers))
		}
		return otlptracegrpc.New(ctx, o...)
	}
	o := []otlptracehttp.Option{otlptracehttp.WithEncoding(otlptracehttp.EncodingProtobuf)}
	if t.url != "" {
		o = append(o, otlptracehttp.WithEndpointURL(t.url))
	}
	if t.tls != nil {
		o = append(o, otlptracehttp.WithTLSClientConfig(t.tls))
	}
	if len(t.headers) > 0 {
		o = append(o, otlptracehttp.WithHeaders(t.headers))
	}
	return otlptracehttp.New(ctx, o...)
}

func (s Settings) metricExporter(ctx context.Context) (metric.Exporter, error) {
	t, err := s.target("metrics")
	if err != nil {
		return nil, err
	}
	if t.protocol == protocolGRPC {
		var o []otlpmetricgrpc.Option
		if t.url != "" {
			o = append(o, otlpmetricgrpc.WithEndpointURL(t.url))
		}
		if t.tls != nil {
			o = append(o, otlpmetricgrpc.WithTLSCredentials(credentials.NewTLS(t.tls)))
		}
		if len(t.headers) > 0 {
			o = append(o, otlpmetricgrpc.WithHeaders(t.headers))
		}
		return otlpmetricgrpc.New(ctx, o...)
	}
	var o []otlpmetrichttp.Option
	if t.url != "" {
		o = append(o, otlpmetrichttp.WithEndpointURL(t.url))
	}
	if t.tls != nil {
		o = append(o, otlpmetrichttp.WithTLSClientConfig(t.tls))
	}
	if len(t.headers) > 0 {
		o = append(o, otlpmetrichttp.WithHeaders(t.headers))
	}
	return otlpmetrichttp.New(ctx, o...)
}

// checkEnvironment names variables that the SDK could not read. It would go on
// with its defaults, which send a job's spans to somebody else.
func checkEnvironment() error {
	var bad []error
	for _, signal := range []string{"", "TRACES_", "METRICS_"} {
		name := prefix + signal + "ENDPOINT"
		if v := strings.TrimSpace(os.Getenv(name)); v != "" {
			if u, err := url.Parse(v); err != nil || u.Host == "" || u.User != nil {
				bad = append(bad, fmt.Errorf("%s: want an address such as http://localhost:4318, without credentials", name))
			}
		}
		name = prefix + signal + "HEADERS"
		for _, pair := range strings.Split(os.Getenv(name), ",") {
			if k, _, ok := strings.Cut(pair, "="); strings.TrimSpace(pair) != "" && (!ok || strings.TrimSpace(k) == "") {
				bad = append(bad, fmt.Errorf("%s: want name=value, several separated by commas", name))
				break
			}
		}
	}
	return errors.Join(bad...)
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
