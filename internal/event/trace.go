package event

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"github.com/glassrunner/glassrunner/internal/job"
)

// TraceID and SpanID are those of W3C Trace Context. All zeros is none.
type (
	TraceID [16]byte
	SpanID  [8]byte
)

// String returns 32 hexadecimal digits.
func (id TraceID) String() string { return hex.EncodeToString(id[:]) }

// String returns 16 hexadecimal digits.
func (id SpanID) String() string { return hex.EncodeToString(id[:]) }

// Trace is a place in a job's trace: the span in which a fact was found. The
// zero Trace belongs to what is not traced.
type Trace struct {
	ID           TraceID
	Span, Parent SpanID // Parent is all zeros where the trace begins
	Sampled      bool   // it is recorded; otherwise the ids are only passed on
}

// NewTrace begins a span of the trace id below parent; without an id it
// begins a trace.
func NewTrace(id TraceID, parent SpanID, sampled bool) Trace {
	for id == (TraceID{}) {
		_, _ = rand.Read(id[:]) // never fails
		parent = SpanID{}
	}
	return Trace{ID: id, Parent: parent, Sampled: sampled}.renew()
}

// On reports whether there is a trace.
func (t Trace) On() bool { return t.ID != TraceID{} }

// Child returns a new span below t. That of no trace is none.
func (t Trace) Child() Trace {
	if !t.On() {
		return t
	}
	t.Parent = t.Span
	return t.renew()
}

func (t Trace) renew() Trace {
	t.Span = SpanID{}
	for t.Span == (SpanID{}) {
		_, _ = rand.Read(t.Span[:]) // never fails
	}
	return t
}

// Parentage returns t as the value of the header traceparent, version 00, for
// what is done below t; "" without a trace.
func (t Trace) Parentage() string {
	if !t.On() {
		return ""
	}
	flags := "-00"
	if t.Sampled {
		flags = "-01"
	}
	return "00-" + t.ID.String() + "-" + t.Span.String() + flags
}

// Below returns ctx with a scope whose span is a new one below the present.
// Without a trace it is ctx itself.
func Below(ctx context.Context) context.Context {
	s := ScopeOf(ctx)
	if !s.Trace.On() {
		return ctx
	}
	s.Trace = s.Trace.Child()
	return WithScope(ctx, s)
}

// Phase runs do as a phase of the job in ctx's scope. It is the only way to
// open one, beside PhaseHere: start and finish are told on every way out,
// panics included, so the histogram, the span, the page and the log share one
// measurement. do gets a scope with the phase's span.
func (b *Bus) Phase(ctx context.Context, p job.Phase, do func(context.Context) error) error {
	return b.PhaseHere(Below(ctx), p, do)
}
