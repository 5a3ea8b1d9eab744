package traces_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/traces"
)

const givenTrace, givenParent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

// tracing is features.tracing with endpoints, each in JSON.
func tracing(endpoints ...string) string {
	return fmt.Sprintf(`{"trace_id":%q,"span_parent_id":%q,"otel_endpoints":[%s]}`, givenTrace, givenParent, strings.Join(endpoints, ","))
}

// TestEndpointsOfTheCoordinator sends traces where GitLab wants them.
func TestEndpointsOfTheCoordinator(t *testing.T) {
	on, off, never := true, false, 0.0
	for _, tt := range []struct {
		name      string
		settings  func(operator string) traces.Settings
		endpoints string // %s: the address
		theirs    int    // spans of two jobs
		operators int
		told      string
	}{
		{name: "no settings", endpoints: `{"url":"%s"}`, theirs: 2},
		{name: "null auth", endpoints: `{"url":"%s/v1/traces","auth":null}`, theirs: 2},
		{name: "both", endpoints: `{"url":"%s"}`, theirs: 2, operators: 2, settings: func(o string) traces.Settings {
			return traces.Settings{Endpoint: o, Headers: map[string]job.Secret{"x-key": "SECRET"}}
		}},
		{name: "twice the same", endpoints: `{"url":"%[1]s"},{"url":"%[1]s"}`, theirs: 2},
		{name: "operator samples nothing", endpoints: `{"url":"%s"}`, theirs: 2, operators: 2, settings: func(o string) traces.Settings {
			return traces.Settings{Endpoint: o, SampleRatio: &never} // but for what GitLab wants
		}},
		{name: "forbidden", endpoints: `{"url":"%s"}`, settings: func(string) traces.Settings { return traces.Settings{Enabled: &off} }},
		{name: "allowed", endpoints: `{"url":"%s"}`, theirs: 2, operators: 2, settings: func(o string) traces.Settings {
			return traces.Settings{Enabled: &on, Endpoint: o}
		}},
		{name: "auth", endpoints: `{"url":"%s","auth":{"type":"http_bearer_gcp_oidc","http_bearer_gcp_oidc":{"audience":"x"}}}`, told: "authentication"},
		{name: "scheme", endpoints: `{"url":"unix:%s"}`, told: "no address"},
		{name: "another scheme", endpoints: `{"url":"ftp://example.com"}%.0s`, told: "scheme"},
		{name: "credentials", endpoints: `{"url":"http://u:hunter2@example.com"}%.0s`, told: "credentials"},
		{name: "one is wrong", endpoints: `{"url":""},{"url":"%s"}`, theirs: 2, told: "no address"},
		{name: "malformed", endpoints: `7%.0s`, told: "no address"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			theirs, operators, w := newReceiver(t), newReceiver(t), newWorld(t)
			s := traces.Settings{}
			if tt.settings != nil {
				s = tt.settings(operators.URL)
			}
			w.apply(s)
			features := tracing(fmt.Sprintf(tt.endpoints, theirs.URL))
			one, two := w.begin(1, features), w.begin(2, features) // of one pipeline
			if got := event.ScopeOf(one).Trace; got.Sampled && (got.ID.String() != givenTrace || got.Parent.String() != givenParent) {
				t.Errorf("trace %+v", got)
			}
			w.bus.Emit(one, event.JobRefused{})
			w.bus.Emit(two, event.JobRefused{})
			w.close()
			if a, b := len(theirs.all()), len(operators.all()); a != tt.theirs || b != tt.operators {
				t.Errorf("%d spans came to GitLab's endpoint and %d to the operator's, want %d and %d", a, b, tt.theirs, tt.operators)
			}
			for _, h := range theirs.headers {
				if h.Get("X-Key") != "" {
					t.Error("GitLab's endpoint gets the operator's key")
				}
			}
			for _, p := range theirs.paths {
				if p != "/v1/traces" {
					t.Errorf("path %s", p)
				}
			}
			switch err := w.last.Load(); {
			case (err != nil) != (tt.told != ""):
				t.Errorf("told %v, want %q", err, tt.told)
			case err != nil && (!strings.Contains((*err).Error(), tt.told) || strings.Contains((*err).Error(), "hunter2")):
				t.Errorf("told %v, want %q", *err, tt.told)
			}
		})
	}
}

func TestEndpointsOfTheCoordinatorAreBounded(t *testing.T) {
	r, w := newReceiver(t), newWorld(t)
	w.apply(traces.Settings{})
	for i := range 20 {
		ctx := w.begin(1, tracing(fmt.Sprintf(`{"url":"%s/%d"}`, r.URL, i)))
		if traced := event.ScopeOf(ctx).Trace.On(); traced != (i < 8) {
			t.Errorf("job %d is traced: %t", i, traced)
		}
		w.bus.Emit(ctx, event.JobRefused{})
	}
	w.close()
	if n := len(r.all()); n != 8 {
		t.Errorf("%d spans, want 8", n)
	}
	if w.failed.Load() != 1 {
		t.Errorf("told %d times", w.failed.Load())
	}
}

// TestEndpointsOfTheCoordinatorEnd switches them off under a job.
func TestEndpointsOfTheCoordinatorEnd(t *testing.T) {
	r, w := newReceiver(t), newWorld(t)
	w.apply(traces.Settings{})
	ctx := w.begin(1, tracing(fmt.Sprintf(`{"url":%q}`, r.URL)))
	w.bus.Emit(ctx, event.ServiceReady{OK: true})
	off := false
	w.apply(traces.Settings{Enabled: &off})
	w.bus.Emit(ctx, event.JobRefused{})
	w.close()
	if n := len(r.all()); n != 1 {
		t.Errorf("%d spans, want the one from before", n)
	}
}

func FuzzTracing(f *testing.F) {
	f.Add([]byte(tracing(`{"url":"https://x/","auth":{}}`)))
	f.Add([]byte(`{"trace_id":7,"otel_endpoints":[{"url":"grpc://x:1"}]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		tr := traces.New(traces.Options{})
		if tr.Begin(&job.Spec{Features: job.Features{Tracing: b}}).On() {
			t.Error("a job is traced before anything is applied")
		}
	})
}
