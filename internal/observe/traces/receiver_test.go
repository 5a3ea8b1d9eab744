package traces_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// receiver takes OTLP over HTTP.
type receiver struct {
	*httptest.Server

	mu      sync.Mutex
	spans   []span
	metrics []*metricspb.MetricsData
	raw     []byte // all that came
	headers []http.Header
	paths   []string
	status  int           // of answers; 0: 200
	hold    chan struct{} // when set, answers wait for its end
}

// span is a span as a test wants it.
type span struct {
	name, trace, id, parent string
	begin, end              time.Time
	attrs                   map[string]any
	status                  tracepb.Status_StatusCode
	text                    string
	kind                    tracepb.Span_SpanKind
	events                  []string
	resource                map[string]any
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := unstarted()
	r.Start()
	t.Cleanup(r.Close)
	return r
}

func unstarted() *receiver {
	r := &receiver{}
	r.Server = httptest.NewUnstartedServer(r)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	status, hold := r.status, r.hold
	r.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-q.Context().Done():
			return
		}
	}
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raw = append(r.raw, body...)
	r.headers = append(r.headers, q.Header)
	r.paths = append(r.paths, q.URL.Path)
	if q.URL.Path == "/v1/metrics" {
		m := new(metricspb.MetricsData)
		if err := proto.Unmarshal(body, m); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.metrics = append(r.metrics, m)
		return
	}
	var m tracepb.TracesData
	if err := proto.Unmarshal(body, &m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, rs := range m.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				r.spans = append(r.spans, decode(s, rs.Resource.Attributes))
			}
		}
	}
}

func decode(s *tracepb.Span, resource []*commonpb.KeyValue) span {
	d := span{
		name: s.Name, trace: hex.EncodeToString(s.TraceId), id: hex.EncodeToString(s.SpanId), parent: hex.EncodeToString(s.ParentSpanId),
		begin: time.Unix(0, int64(s.StartTimeUnixNano)), end: time.Unix(0, int64(s.EndTimeUnixNano)),
		attrs: values(s.Attributes), status: s.Status.GetCode(), text: s.Status.GetMessage(), kind: s.Kind, resource: values(resource),
	}
	for _, e := range s.Events {
		d.events = append(d.events, e.Name)
	}
	return d
}

func values(kvs []*commonpb.KeyValue) map[string]any {
	m := make(map[string]any, len(kvs))
	for _, kv := range kvs {
		switch v := kv.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			m[kv.Key] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			m[kv.Key] = v.IntValue
		case *commonpb.AnyValue_DoubleValue:
			m[kv.Key] = v.DoubleValue
		case *commonpb.AnyValue_BoolValue:
			m[kv.Key] = v.BoolValue
		}
	}
	return m
}

// all returns what came so far, by span id.
func (r *receiver) all() []span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]span(nil), r.spans...)
}

// named returns the only span of that name.
func named(t *testing.T, all []span, name string) span {
	t.Helper()
	var found []span
	for _, s := range all {
		if s.name == name {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		t.Fatalf("found %d spans %q, want one", len(found), name)
	}
	return found[0]
}

// clientCertificate returns a certificate and its key in DER.
func clientCertificate(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	if cert, err = x509.CreateCertificate(crand.Reader, template, template, &private.PublicKey, private); err != nil {
		t.Fatal(err)
	}
	if key, err = x509.MarshalPKCS8PrivateKey(private); err != nil {
		t.Fatal(err)
	}
	return cert, key
}
