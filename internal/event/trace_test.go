package event_test

import (
	"context"
	"regexp"
	"testing"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

func TestTrace(t *testing.T) {
	given, above := event.TraceID{15: 1}, event.SpanID{7: 2}
	for _, tt := range []struct {
		name  string
		trace event.Trace
		want  string // of Parentage
		below event.SpanID
	}{
		{"new", event.NewTrace(event.TraceID{}, above, true), "^00-[0-9a-f]{32}-[0-9a-f]{16}-01$", event.SpanID{}},
		{"given", event.NewTrace(given, above, true), "^00-00000000000000000000000000000001-[0-9a-f]{16}-01$", above},
		{"unsampled", event.NewTrace(given, event.SpanID{}, false), "^00-00000000000000000000000000000001-[0-9a-f]{16}-00$", event.SpanID{}},
		{"none", event.Trace{}, "^$", event.SpanID{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.trace.Parentage(); !regexp.MustCompile(tt.want).MatchString(got) {
				t.Errorf("got %q, want %s", got, tt.want)
			}
			if tt.trace.Parent != tt.below {
				t.Errorf("below %s, want %s", tt.trace.Parent, tt.below)
			}
			child := tt.trace.Child()
			if !tt.trace.On() {
				if child != tt.trace {
					t.Errorf("the child of no trace is %+v", child)
				}
				return
			}
			if child.ID != tt.trace.ID || child.Parent != tt.trace.Span || child.Span == tt.trace.Span || child.Sampled != tt.trace.Sampled {
				t.Errorf("child %+v of %+v", child, tt.trace)
			}
		})
	}
}

// TestPhaseIsASpan checks that a phase, and what is told within it, have a
// span of their own below the job's.
func TestPhaseIsASpan(t *testing.T) {
	var l list
	bus := event.NewBus(&l)
	top := event.NewTrace(event.TraceID{}, event.SpanID{}, true)
	ctx := event.WithScope(t.Context(), event.Scope{Job: 1, Trace: top})
	_ = bus.Phase(ctx, job.GetSources, func(ctx context.Context) error {
		bus.Emit(ctx, event.Fed{})
		return nil
	})
	made := event.Below(ctx)
	_ = bus.PhaseHere(made, job.GetSources, func(context.Context) error { return nil })
	first, second := l.events[0].Trace, event.ScopeOf(made).Trace
	if first.Parent != top.Span || second.Parent != top.Span || first.Span == second.Span {
		t.Errorf("phases %+v and %+v below %+v", first, second, top)
	}
	for i, e := range l.events {
		want := first
		if i > 2 {
			want = second
		}
		if e.Trace != want {
			t.Errorf("event %d has %+v, want %+v", i, e.Trace, want)
		}
	}
}

func TestNoTraceCostsNothing(t *testing.T) {
	ctx := event.WithScope(t.Context(), event.Scope{Job: 1})
	if event.Below(ctx) != ctx {
		t.Error("Below made a context without a trace")
	}
	if n := testing.AllocsPerRun(100, func() { event.Below(ctx) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
