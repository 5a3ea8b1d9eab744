package traces_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/traces"
)

// script is a receiver that gives one answer after the other, the last one
// again and again. The real one is the whole-program tests' matter; this one
// says what that will not.
type script struct {
	t       *testing.T
	answers []func(http.ResponseWriter)

	mu       sync.Mutex
	requests int
	spans    int
	problems []string
}

func (s *script) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := io.ReadAll(q.Body)
	if err != nil {
		s.problem("body: %v", err)
		return
	}
	answer := s.answers[min(s.requests, len(s.answers)-1)]
	s.requests++
	encoding := q.Header.Get("Content-Encoding")
	if q.ProtoMajor == 2 && strings.HasPrefix(q.Header.Get("Content-Type"), "application/grpc") {
		if q.Header.Get("Te") != "trailers" || q.URL.Path != "/opentelemetry.proto.collector.trace.v1.TraceService/Export" {
			s.problem("%s with %v", q.URL.Path, q.Header)
		}
		if len(body) < 5 || int(binary.BigEndian.Uint32(body[1:5])) != len(body)-5 || (body[0] == 1) != (q.Header.Get("Grpc-Encoding") == "gzip") {
			s.problem("frame % x of %d bytes", body[:min(5, len(body))], len(body))
			return
		}
		encoding, body = q.Header.Get("Grpc-Encoding"), body[5:]
	}
	if encoding == "gzip" {
		r, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			s.problem("gzip: %v", err)
			return
		}
		if body, err = io.ReadAll(r); err != nil {
			s.problem("gzip: %v", err)
		}
	}
	var m tracepb.TracesData
	if err := proto.Unmarshal(body, &m); err != nil {
		s.problem("message: %v", err)
		return
	}
	s.spans = 0
	for _, rs := range m.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			s.spans += len(ss.Spans)
		}
	}
	answer(w)
}

func (s *script) problem(format string, args ...any) {
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// answer is one of HTTP.
func answer(status int, body string, header ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// grpcAnswer has a message and a trailer, or, without a message, only a header.
func grpcAnswer(code, text, message string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/grpc")
		if message == "" {
			w.Header().Set("Grpc-Status", code)
			w.Header().Set("Grpc-Message", text)
			return
		}
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
		_, _ = w.Write(append(frame, message...))
		w.Header().Set("Grpc-Status", code)
		w.Header().Set("Grpc-Message", text)
	}
}

// partial is the answer of a receiver that takes a part.
func partial(n uint64, text string) string {
	inner := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), n)
	inner = protowire.AppendString(protowire.AppendTag(inner, 2, protowire.BytesType), text)
	return string(protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), inner))
}

func TestProtocols(t *testing.T) {
	type answers = []func(http.ResponseWriter)
	for _, tt := range []struct {
		name             string
		grpc             bool
		answers          answers
		requests         int
		exported, failed uint64
		told             string
		env              map[string]string
	}{
		{name: "http", answers: answers{answer(200, "")}, requests: 1, exported: 2},
		{name: "http gzip", answers: answers{answer(200, "")}, requests: 1, exported: 2, env: map[string]string{"COMPRESSION": "gzip"}},
		{name: "http try again", answers: answers{answer(503, "busy"), answer(429, "", "Retry-After", "0"), answer(200, "")}, requests: 3, exported: 2},
		{name: "http not again", answers: answers{answer(400, "bad\n\x00  request")}, requests: 1, failed: 2, told: "400 Bad Request: bad \x00 request"},
		{name: "http too long", answers: answers{answer(503, "", "Retry-After", "3000")}, requests: 1, failed: 2, told: "503", env: map[string]string{"TIMEOUT": "100"}},
		{name: "http part", answers: answers{answer(200, partial(1, "no such tenant"))}, requests: 1, exported: 1, failed: 1, told: "rejected 1: no such tenant"},
		{name: "http advice", answers: answers{answer(200, partial(0, "slow down"))}, requests: 1, exported: 2},
		{name: "http too many rejected", answers: answers{answer(200, partial(99, ""))}, requests: 1, failed: 2, told: "rejected 99"},
		{name: "http nonsense", answers: answers{answer(200, "\x0a\xff\xff\xff nonsense")}, requests: 1, exported: 2},
		{name: "http elsewhere", answers: answers{answer(307, "", "Location", "/elsewhere")}, requests: 1, failed: 2, told: "307"},
		{name: "grpc", grpc: true, answers: answers{grpcAnswer("0", "", "\x0a\x00")}, requests: 1, exported: 2},
		{name: "grpc gzip", grpc: true, answers: answers{grpcAnswer("0", "", "\x0a\x00")}, requests: 1, exported: 2, env: map[string]string{"COMPRESSION": "gzip"}},
		{name: "grpc try again", grpc: true, answers: answers{grpcAnswer("14", "busy", ""), grpcAnswer("0", "", "\x0a\x00")}, requests: 2, exported: 2},
		{name: "grpc not again", grpc: true, answers: answers{grpcAnswer("16", "who%20are%0Ayou", "")}, requests: 1, failed: 2, told: `gRPC status "16": who are you`},
		{name: "grpc part", grpc: true, answers: answers{grpcAnswer("0", "", partial(1, "x"))}, requests: 1, exported: 1, failed: 1, told: "rejected 1: x"},
		{name: "grpc at an http receiver", grpc: true, answers: answers{answer(404, "not found")}, requests: 1, failed: 2, told: "404"},
		{name: "grpc at a web page", grpc: true, answers: answers{answer(200, "<html>")}, requests: 1, failed: 2, told: "speak OTLP over gRPC"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for k, v := range tt.env {
				t.Setenv("OTEL_EXPORTER_OTLP_"+k, v)
			}
			s := &script{t: t, answers: tt.answers}
			server := httptest.NewUnstartedServer(s)
			server.Config.Protocols = new(http.Protocols)
			server.Config.Protocols.SetHTTP1(!tt.grpc)
			server.Config.Protocols.SetUnencryptedHTTP2(tt.grpc)
			server.Start()
			defer server.Close()
			w := newWorld(t)
			protocol := "http/protobuf"
			if tt.grpc {
				protocol = "grpc"
			}
			w.apply(traces.Settings{Endpoint: server.URL, Protocol: protocol})
			ctx := w.begin(1, "")
			w.bus.Emit(ctx, event.ServiceReady{OK: true})
			w.bus.Emit(ctx, event.JobRefused{})
			w.close()
			for _, p := range s.problems {
				t.Error(p)
			}
			if s.requests != tt.requests || s.spans != 2 {
				t.Errorf("%d requests with %d spans, want %d with 2", s.requests, s.spans, tt.requests)
			}
			if exported, dropped, failed := w.tr.Counts(); exported != tt.exported || failed != tt.failed || dropped != 0 {
				t.Errorf("exported %d, dropped %d, failed %d; want %d, 0, %d", exported, dropped, failed, tt.exported, tt.failed)
			}
			switch err := w.last.Load(); {
			case (err != nil) != (tt.told != ""):
				t.Errorf("told %v, want %q", err, tt.told)
			case err != nil && !strings.Contains((*err).Error(), tt.told):
				t.Errorf("told %v, want %q", *err, tt.told)
			}
		})
	}
}

// TestGRPCOverTLS has HTTP/2 agreed upon in the handshake.
func TestGRPCOverTLS(t *testing.T) {
	s := &script{t: t, answers: []func(http.ResponseWriter){grpcAnswer("0", "", "\x0a\x00")}}
	server := httptest.NewUnstartedServer(s)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.apply(traces.Settings{Endpoint: strings.TrimPrefix(server.URL, "https://"), Protocol: "grpc", CAFile: ca, Headers: map[string]job.Secret{"X-Key": "k"}})
	w.bus.Emit(w.begin(1, ""), event.JobRefused{})
	w.close()
	if exported, _, _ := w.tr.Counts(); exported != 1 || len(s.problems) > 0 {
		t.Errorf("%d spans were exported; %q; %v", exported, s.problems, w.last.Load())
	}
}

// TestEnvironment sets a signal's own variables beside the general ones.
func TestEnvironment(t *testing.T) {
	general, own := newReceiver(t), newReceiver(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", general.URL+"/base")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-a=1%2C2 , x-b=3")
	t.Setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", own.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "x-c=4")
	t.Setenv("OTEL_METRICS_EXPORTER", "otlp")
	t.Setenv("OTEL_SERVICE_NAME", "ci")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.name=other")
	w := newWorld(t)
	w.apply(traces.Settings{})
	w.bus.Emit(w.begin(1, ""), event.JobRefused{})
	w.close()
	if len(general.paths) != 1 || general.paths[0] != "/base/v1/traces" || general.headers[0].Get("X-A") != "1,2" || general.headers[0].Get("X-B") != "3" {
		t.Errorf("traces: %q with %v", general.paths, general.headers)
	}
	if len(own.paths) != 1 || own.paths[0] != "/" || own.headers[0].Get("X-C") != "4" || own.headers[0].Get("X-A") != "" {
		t.Errorf("metrics: %q with %v", own.paths, own.headers)
	}
	if r := general.all()[0].resource; r["service.name"] != "ci" || r["deployment.environment.name"] != "test" {
		t.Errorf("resource %v", r)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(partial(3, "x")))
	f.Add([]byte("\x0a\xff\xff\xff\xff\x0f"))
	f.Add([]byte(strconv.Itoa(1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := traces.Rejected(b); n < 0 {
			t.Errorf("rejected %d", n)
		}
	})
}
