package traces

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"

	"github.com/glassrunner/glassrunner/internal/event"
)

// features is features.tracing of a job.
type features struct {
	id        event.TraceID
	parent    event.SpanID
	endpoints []target
	refused   error // of an endpoint that cannot be used
}

// parseFeatures reads features.tracing: trace_id, 32 hexadecimal digits,
// span_parent_id, 16, and otel_endpoints. What is malformed counts as absent.
func parseFeatures(tracing []byte) (f features) {
	if tracing == nil {
		return f
	}
	var w struct {
		Trace     string `json:"trace_id"`
		Parent    string `json:"span_parent_id"`
		Endpoints []struct {
			URL  string          `json:"url"`
			Auth json.RawMessage `json:"auth"`
		} `json:"otel_endpoints"`
	}
	// A field of another type does not cost the others.
	if err := json.Unmarshal(tracing, &w); err != nil && !isType(err) {
		return f
	}
	if unhex(f.id[:], w.Trace) {
		unhex(f.parent[:], w.Parent)
	}
	for _, e := range w.Endpoints {
		t, err := namedTarget(e.URL)
		if err == nil && len(e.Auth) > 0 && string(e.Auth) != "null" && string(e.Auth) != "{}" {
			err = errors.New("it wants an authentication that is not supported")
		}
		if err != nil {
			f.refused = fmt.Errorf("an endpoint for traces that GitLab names for a job is not used: %w", err)
			continue
		}
		f.endpoints = append(f.endpoints, t)
	}
	return f
}

func isType(err error) bool {
	_, ok := errors.AsType[*json.UnmarshalTypeError](err)
	return ok
}

// unhex fills id, or leaves it as it is.
func unhex(id []byte, text string) bool {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) {
		return false
	}
	copy(id, b)
	return true
}

// namedTarget is an endpoint in GitLab's notation: http, https, grpc or grpcs.
// None of the operator's headers and certificates go there.
func namedTarget(text string) (t target, err error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil {
		return t, errors.New("it is no address, or one with credentials")
	}
	t = target{url: u, timeout: defaultTimeout}
	switch u.Scheme {
	case "http", "https":
		if u.Path == "" || u.Path == "/" {
			u.Path = "/v1/traces"
		}
	case "grpc", "grpcs":
		t.grpc = true
		u.Scheme = map[string]string{"grpc": "http", "grpcs": "https"}[u.Scheme]
		u.Path, u.RawQuery = exportTraces, ""
	default:
		return t, errors.New("its scheme is none of http, https, grpc, grpcs")
	}
	return t, nil
}

// maxNamed bounds the receivers that coordinators may name while a process runs.
const maxNamed = 8

// named are the receivers that coordinators name, and the traces that go there.
type named struct {
	mu        sync.Mutex
	on        bool                 // the operator does not want them otherwise
	pipelines map[string]*pipeline // by address; they end with the process or with on
	routes    map[event.TraceID]*route
}

// route is where the spans of a trace go beside, or in place of, the
// operator's receiver. Several jobs of a pipeline may share it.
type route struct {
	jobs     int
	operator bool
	to       []*pipeline
}

func (n *named) allowed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.on
}

// open makes the route of a job's trace. Without a receiver there is none.
func (n *named) open(ctx context.Context, id event.TraceID, operator bool, endpoints []target, build func(context.Context, target) (*pipeline, error)) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.on {
		return false, nil
	}
	r := n.routes[id]
	if r == nil {
		r = new(route)
	}
	r.operator = r.operator || operator
	var failed error
	for _, t := range endpoints {
		key := fmt.Sprint(t.grpc, " ", t.url)
		p := n.pipelines[key]
		if p == nil && len(n.pipelines) == maxNamed {
			failed = fmt.Errorf("GitLab names more than %d endpoints for traces: %s is not used", maxNamed, t.url.Host)
			continue
		}
		if p == nil {
			var err error
			if p, err = build(ctx, t); err != nil {
				failed = err
				continue
			}
			if n.pipelines == nil {
				n.pipelines = make(map[string]*pipeline)
			}
			n.pipelines[key] = p
		}
		if !slices.Contains(r.to, p) {
			r.to = append(r.to, p)
		}
	}
	if len(r.to) == 0 {
		return false, failed
	}
	if n.routes == nil {
		n.routes = make(map[event.TraceID]*route)
	}
	n.routes[id] = r
	r.jobs++
	return true, failed
}

// of returns the receivers of a trace, and whether the operator's is one.
func (n *named) of(id event.TraceID) (to []*pipeline, operator bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r := n.routes[id]; r != nil {
		return r.to, r.operator
	}
	return nil, true
}

// done is told the end of a job.
func (n *named) done(id event.TraceID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r := n.routes[id]; r != nil {
		if r.jobs--; r.jobs == 0 {
			delete(n.routes, id)
		}
	}
}

// allow switches the use of such receivers on, or off: then what waits is sent
// until ctx ends.
func (n *named) allow(ctx context.Context, on bool) error {
	n.mu.Lock()
	n.on = on
	var ended map[string]*pipeline
	if !on {
		ended, n.pipelines = n.pipelines, nil
		for _, r := range n.routes {
			r.to = nil
		}
	}
	n.mu.Unlock()
	var err error
	for _, p := range ended {
		err = errors.Join(err, p.close(ctx))
	}
	return err
}

// namedPipeline sends to a receiver that a coordinator named.
func (t *Traces) namedPipeline(ctx context.Context, to target) (*pipeline, error) {
	exporter, err := otlptrace.New(ctx, spanClient{newSender(to, t.o.Version)})
	if err != nil {
		return nil, err
	}
	return newPipeline(exporter, &t.counts, t.o.Failed), nil
}
