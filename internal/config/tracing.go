package config

import (
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/glassrunner/glassrunner/internal/job"
)

// Tracing is [tracing]. A key that is absent leaves the word to the environment
// variables of the OpenTelemetry specification (OTEL_*).
type Tracing struct {
	Enabled     *bool                 `toml:"enabled" default:"true once an endpoint is known" ours:"true" doc:"Whether jobs are traced; false overrules OTEL_* variables and endpoints that GitLab names."`
	Endpoint    string                `toml:"endpoint" ours:"true" doc:"Address of the OTLP receiver, such as https://otel.example.com:4318, or host:port; v1/traces is added for http/protobuf."`
	Protocol    string                `toml:"protocol" default:"http/protobuf" allowed:"http/protobuf|grpc" ours:"true" doc:"How to speak to the receiver."`
	Insecure    bool                  `toml:"insecure" default:"false" ours:"true" doc:"Speak without TLS to an endpoint that is host:port."`
	Headers     map[string]job.Secret `toml:"headers" ours:"true" doc:"Headers of every request, such as an API key; they replace those of OTEL_EXPORTER_OTLP_HEADERS."`
	TLSCAFile   string                `toml:"tls_ca_file" ours:"true" doc:"Certificates (PEM) that the receiver's is checked with; the system's when empty."`
	TLSCertFile string                `toml:"tls_cert_file" ours:"true" doc:"Client certificate (PEM)."`
	TLSKeyFile  string                `toml:"tls_key_file" ours:"true" doc:"Key of the client certificate (PEM)."`
	SampleRatio *float64              `toml:"sample_ratio" default:"1" ours:"true" doc:"Part of the jobs that are traced, from 0 to 1; those for which GitLab names a parent span always are."`
	Metrics     bool                  `toml:"metrics" default:"false" ours:"true" doc:"Also send the metrics of the cicd conventions, for runners that nobody scrapes."`
}

// tracing checks [tracing].
func (c *checker) tracing(t *Tracing, p place) {
	if t == nil {
		return
	}
	if r := t.SampleRatio; r != nil && !(*r >= 0 && *r <= 1) {
		c.add(Error, p.child("sample_ratio"), fmt.Sprintf("found %v, want a number from 0 to 1", *r))
	}
	if (t.TLSCertFile == "") != (t.TLSKeyFile == "") {
		c.add(Error, p.child("tls_cert_file"), "a client certificate needs both tls_cert_file and tls_key_file")
	}
	if t.Endpoint == "" {
		return
	}
	text, plain := t.Endpoint, strings.HasPrefix(t.Endpoint, "http://")
	if !strings.Contains(text, "://") {
		text, plain = "https://"+text, t.Insecure
	} else if t.Insecure && !plain {
		c.add(Warning, p.child("insecure"), "the endpoint begins with https://, so TLS is used all the same")
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		c.add(Error, p.child("endpoint"), "want an address such as https://otel.example.com:4318, or host:port")
	case u.User != nil:
		c.add(Error, p.child("endpoint"), "an address with a password would be shown; put the credentials into tracing.headers")
	case plain && t.TLSCAFile+t.TLSCertFile != "":
		c.add(Error, p.child("endpoint"), "the connection is without TLS, and tls_ca_file or tls_cert_file is set")
	case plain && len(t.Headers) > 0 && !loopback(u.Hostname()):
		c.add(Warning, p.child("endpoint"), "the headers are sent without TLS")
	}
}

// loopback reports whether a host is this machine.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// describeTracing is the line of check-config.
func describeTracing(t *Tracing) string {
	switch {
	case t == nil || t.Enabled == nil && t.Endpoint == "":
		return ""
	case t.Enabled != nil && !*t.Enabled:
		return "off"
	case t.Endpoint == "":
		return "as OTEL_* variables say"
	}
	text := "to " + safeURL(t.Endpoint)
	if !strings.Contains(t.Endpoint, "://") {
		text = "to " + t.Endpoint
	}
	if t.Protocol != "" {
		text += " by " + t.Protocol
	}
	return text
}
