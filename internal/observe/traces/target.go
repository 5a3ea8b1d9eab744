package traces

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// target is where and how a signal is sent.
type target struct {
	grpc    bool
	url     *url.URL
	headers map[string]string
	tls     *tls.Config
	gzip    bool
	timeout time.Duration
}

const (
	prefix         = "OTEL_EXPORTER_OTLP_"
	protocolGRPC   = "grpc"
	protocolHTTP   = "http/protobuf"
	defaultTimeout = 10 * time.Second
)

// variable returns a setting of a signal, "traces" or "metrics", from the
// environment, and the variable's name: the signal's own wins.
func variable(signal, name string) (value, from string) {
	own := prefix + strings.ToUpper(signal) + "_" + name
	if v := strings.TrimSpace(os.Getenv(own)); v != "" {
		return v, own
	}
	return strings.TrimSpace(os.Getenv(prefix + name)), prefix + name
}

// target puts settings and environment together. Its errors name what is
// wrong without its value, which may be secret.
func (s Settings) target(signal string) (t target, err error) {
	protocol, from := s.Protocol, "the protocol for tracing"
	if protocol == "" {
		protocol, from = variable(signal, "PROTOCOL")
	}
	switch protocol {
	case protocolGRPC:
		t.grpc = true
	case protocolHTTP, "":
	default:
		return t, fmt.Errorf("%s: want %s or %s", from, protocolGRPC, protocolHTTP)
	}
	if t.url, err = s.url(signal, t.grpc); err != nil {
		return t, err
	}
	if t.headers, err = s.headers(signal); err != nil {
		return t, err
	}
	if t.tls, err = s.tls(signal); err != nil {
		return t, err
	}
	if t.tls != nil && t.url.Scheme == "http" {
		return t, errors.New("certificates are set for tracing, and its endpoint is spoken to without TLS")
	}
	switch v, from := variable(signal, "COMPRESSION"); v {
	case "", "none":
	case "gzip":
		t.gzip = true
	default:
		return t, fmt.Errorf("%s: want gzip or none", from)
	}
	t.timeout = defaultTimeout
	if v, from := variable(signal, "TIMEOUT"); v != "" {
		ms, err := strconv.Atoi(v)
		if err != nil || ms <= 0 {
			return t, fmt.Errorf("%s: want a number of milliseconds", from)
		}
		t.timeout = time.Duration(ms) * time.Millisecond
	}
	return t, nil
}

// url is the address that requests go to.
func (s Settings) url(signal string, grpc bool) (*url.URL, error) {
	text, from, insecure := s.Endpoint, "the endpoint for tracing", s.Insecure
	if text == "" {
		text, from = variable(signal, "ENDPOINT")
		v, _ := variable(signal, "INSECURE")
		insecure = insecure || strings.EqualFold(v, "true")
	}
	switch {
	case text == "" && grpc:
		text = "http://localhost:4317"
	case text == "":
		text = "http://localhost:4318"
	case !strings.Contains(text, "://") && insecure:
		text = "http://" + text
	case !strings.Contains(text, "://"):
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%s: want host:port, or an address with http:// or https:// and without credentials", from)
	}
	switch {
	case grpc && signal == signalTraces:
		u.Path = exportTraces
	case grpc:
		u.Path = exportMetrics
	case from == prefix+strings.ToUpper(signal)+"_ENDPOINT": // is taken as it is
		if u.Path == "" {
			u.Path = "/"
		}
	default:
		u = u.JoinPath("v1", signal)
	}
	return u, nil
}

// headers of every request.
func (s Settings) headers(signal string) (map[string]string, error) {
	h := make(map[string]string, len(s.Headers))
	for k, v := range s.Headers {
		h[k] = v.Reveal()
	}
	if len(h) > 0 {
		return h, nil
	}
	list, from := variable(signal, "HEADERS")
	for pair := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		k, v, ok := strings.Cut(pair, "=")
		k = strings.TrimSpace(k)
		v, err := url.PathUnescape(strings.TrimSpace(v))
		if !ok || k == "" || err != nil || strings.ContainsAny(k+v, "\r\n") {
			return nil, fmt.Errorf("%s: want name=value, several separated by commas", from)
		}
		h[k] = v
	}
	return h, nil
}

// tls is nil when nothing is set: then the system's authorities are asked.
func (s Settings) tls(signal string) (*tls.Config, error) {
	ca, cert, key := s.CAFile, s.CertFile, s.KeyFile
	if ca == "" {
		ca, _ = variable(signal, "CERTIFICATE")
	}
	if cert == "" && key == "" {
		cert, _ = variable(signal, "CLIENT_CERTIFICATE")
		key, _ = variable(signal, "CLIENT_KEY")
	}
	if ca == "" && cert == "" && key == "" {
		return nil, nil //nolint:nilnil // nothing is set
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", ca)
		}
	}
	if cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("the client certificate for tracing: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
