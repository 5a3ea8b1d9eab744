package logs

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/glassrunner/glassrunner/internal/redact"
)

// Counting returns a handler that calls count for every entry that next is
// given. Count may be called at any time from any goroutine.
func Counting(next slog.Handler, count func(slog.Level)) slog.Handler {
	return &counting{next, count}
}

type counting struct {
	slog.Handler
	count func(slog.Level)
}

func (h *counting) Handle(ctx context.Context, r slog.Record) error {
	h.count(r.Level)
	return h.Handler.Handle(ctx, r)
}

func (h *counting) WithAttrs(as []slog.Attr) slog.Handler {
	return &counting{h.Handler.WithAttrs(as), h.count}
}

func (h *counting) WithGroup(name string) slog.Handler {
	return &counting{h.Handler.WithGroup(name), h.count}
}

// Scrubbing returns a handler that masks what looks like a secret before
// next sees it. It is the last defence, not the first: whoever knows a secret
// keeps it out of what is logged.
func Scrubbing(next slog.Handler) slog.Handler { return &scrubbing{next} }

type scrubbing struct{ slog.Handler }

func (h *scrubbing) Handle(ctx context.Context, r slog.Record) error {
	n := slog.NewRecord(r.Time, r.Level, Scrub(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		n.AddAttrs(scrubAttr(a))
		return true
	})
	return h.Handler.Handle(ctx, n)
}

func (h *scrubbing) WithAttrs(as []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(as))
	for i, a := range as {
		clean[i] = scrubAttr(a)
	}
	return &scrubbing{h.Handler.WithAttrs(clean)}
}

func (h *scrubbing) WithGroup(name string) slog.Handler {
	return &scrubbing{h.Handler.WithGroup(name)}
}

func scrubAttr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		return slog.String(a.Key, Scrub(v.String()))
	case slog.KindGroup:
		group := make([]slog.Attr, 0, len(v.Group()))
		for _, m := range v.Group() {
			group = append(group, scrubAttr(m))
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(group...)}
	case slog.KindAny:
		text := fmt.Sprintf("%+v", v.Any())
		if _, isError := v.Any().(error); isError {
			return slog.String(a.Key, Scrub(text))
		}
		if clean := Scrub(text); clean != text {
			return slog.String(a.Key, clean)
		}
	}
	return slog.Attr{Key: a.Key, Value: v}
}

// Scrub is redact.Scrub.
func Scrub(s string) string { return redact.Scrub(s) }
