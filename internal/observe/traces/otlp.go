package traces

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/glassrunner/glassrunner/internal/pause"
)

// sender speaks OTLP 1.x, one signal to one receiver. A request of gRPC without
// streams is one POST of HTTP/2 with five bytes before the message and the
// result in the trailer, which net/http can do: the exporters of the SDK cost
// every process the start and the memory of a gRPC library, traced or not.
// See docs/adr/0033.
type sender struct {
	target
	client *http.Client
	agent  string
}

// The gRPC methods of the signals.
const (
	exportTraces  = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
	exportMetrics = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
)

func newSender(t target, version string) *sender {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: t.tls, ForceAttemptHTTP2: true,
		MaxIdleConnsPerHost: 1, IdleConnTimeout: 90 * time.Second,
	}
	if t.grpc {
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetHTTP2(t.url.Scheme == "https")
		transport.Protocols.SetUnencryptedHTTP2(t.url.Scheme == "http")
	}
	return &sender{target: t, agent: "glassrunner/" + version, client: &http.Client{
		Transport: transport,
		// Headers with keys are for this receiver.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// A rejected error says that a receiver took a message, but not all of it.
type rejected struct {
	n    int64 // spans or points
	text string
}

func (r *rejected) Error() string {
	return fmt.Sprintf("the receiver of OTLP rejected %d: %s", r.n, r.text)
}

// Delays between attempts.
const (
	firstDelay = 500 * time.Millisecond
	mostDelay  = 5 * time.Second
)

// send delivers a message, with as many attempts as the timeout allows. Its
// errors hold no headers.
func (s *sender) send(ctx context.Context, m proto.Message) error {
	body, err := s.encode(m)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	for delay := firstDelay; ; delay = min(2*delay, mostDelay) {
		again, err := s.attempt(ctx, body)
		if err == nil || again < 0 {
			return err
		}
		if pause.For(ctx, max(again, delay)) != nil {
			return err // what went wrong says more than that there is no time left
		}
	}
}

// encode makes the body of a request.
func (s *sender) encode(m proto.Message) ([]byte, error) {
	message, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	if s.gzip {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(message) // a Buffer takes everything
		_ = w.Close()
		message = b.Bytes()
	}
	if !s.grpc {
		return message, nil
	}
	framed := make([]byte, 5, 5+len(message))
	if s.gzip {
		framed[0] = 1
	}
	binary.BigEndian.PutUint32(framed[1:], uint32(len(message)))
	return append(framed, message...), nil
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 10

// attempt makes one request. again is when another one makes sense after an
// error: not before that time, or never if it is negative.
func (s *sender) attempt(ctx context.Context, body []byte) (again time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url.String(), bytes.NewReader(body))
	if err != nil {
		return -1, err
	}
	for k, v := range s.headers {
		req.Header.Set(k, v)
	}
	req.Header.Set("User-Agent", s.agent)
	encoding := "Content-Encoding"
	if s.grpc {
		encoding = "Grpc-Encoding"
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("Te", "trailers")
	} else {
		req.Header.Set("Content-Type", "application/x-protobuf")
	}
	if s.gzip {
		req.Header.Set(encoding, "gzip")
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, fmt.Errorf("reading the answer of %s: %w", s.url.Host, err)
	}
	if resp.StatusCode/100 != 2 {
		return retryHTTP(resp), fmt.Errorf("%s answered %s: %s", s.url.Host, resp.Status, brief(answer))
	}
	if s.grpc {
		if again, err := s.status(resp); err != nil {
			return again, err
		}
		answer = answer[min(5, len(answer)):]
	}
	return -1, partial(answer)
}

// retryHTTP says when to try again after that status.
func retryHTTP(resp *http.Response) time.Duration {
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
	default:
		return -1
	}
	text := resp.Header.Get("Retry-After")
	if n, err := strconv.Atoi(text); err == nil {
		return time.Duration(min(max(n, 0), 3600)) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// status reads the result of a gRPC call: in the trailer, or in the header
// when there is no message.
func (s *sender) status(resp *http.Response) (again time.Duration, err error) {
	get := func(key string) string {
		if v := resp.Trailer.Get(key); v != "" {
			return v
		}
		return resp.Header.Get(key)
	}
	code := get("Grpc-Status")
	if code == "0" {
		return 0, nil
	}
	text, err := url.PathUnescape(get("Grpc-Message"))
	if err != nil {
		text = get("Grpc-Message")
	}
	again = -1
	switch code {
	case "1", "4", "10", "11", "14", "15": // as OTLP says
		again = 0
	case "":
		text = "no gRPC status in the answer: does the endpoint speak OTLP over gRPC?"
	}
	return again, fmt.Errorf("%s answered with gRPC status %q: %s", s.url.Host, code, brief([]byte(text)))
}

// partial returns what an answer says was rejected. Both signals have it as
// field 1, with the number in its field 1 and a text in its field 2.
func partial(answer []byte) error {
	r := &rejected{}
	fields(fields(answer, 1, nil), 2, func(n uint64) { r.n = int64(n) }, func(text []byte) { r.text = brief(text) })
	if r.n <= 0 {
		return nil // a text alone is advice
	}
	return r
}

// fields returns the bytes of a message's field and tells of its field 1.
func fields(message []byte, want protowire.Number, number func(uint64), text ...func([]byte)) (found []byte) {
	for len(message) > 0 {
		n, kind, width := protowire.ConsumeTag(message)
		if width < 0 {
			return found
		}
		message = message[width:]
		switch {
		case kind == protowire.BytesType && n == want:
			if found, width = protowire.ConsumeBytes(message); width >= 0 && len(text) > 0 {
				text[0](found)
			}
		case kind == protowire.VarintType && n == 1 && number != nil:
			var v uint64
			if v, width = protowire.ConsumeVarint(message); width >= 0 {
				number(v)
			}
		default:
			width = protowire.ConsumeFieldValue(n, kind, message)
		}
		if width < 0 {
			return found
		}
		message = message[width:]
	}
	return found
}

// brief is a text of somebody else's on one line.
func brief(text []byte) string {
	text = text[:min(len(text), 200)]
	if s := strings.Join(strings.Fields(strings.ToValidUTF8(string(text), "\uFFFD")), " "); s != "" {
		return s
	}
	return "no text"
}

// spanClient makes a sender the client of the SDK's exporter of spans.
type spanClient struct{ *sender }

var _ otlptrace.Client = spanClient{}

// Start implements otlptrace.Client.
func (spanClient) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (c spanClient) Stop(context.Context) error {
	c.client.CloseIdleConnections()
	return nil
}

// UploadTraces implements otlptrace.Client. TracesData is on the wire what the
// request of the service is, whose Go type needs gRPC.
func (c spanClient) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	return c.send(ctx, &tracepb.TracesData{ResourceSpans: spans})
}

// sendMetrics is the same for metrics.
func (s *sender) sendMetrics(ctx context.Context, m *metricspb.ResourceMetrics) error {
	return s.send(ctx, &metricspb.MetricsData{ResourceMetrics: []*metricspb.ResourceMetrics{m}})
}

// rejectedOf returns how many of n parts of a message were not taken.
func rejectedOf(err error, n int) int {
	var r *rejected
	switch {
	case err == nil:
		return 0
	case errors.As(err, &r):
		return int(min(r.n, int64(n)))
	}
	return n
}
