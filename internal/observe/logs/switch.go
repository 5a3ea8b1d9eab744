package logs

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// Switch is a handler that can be replaced while loggers use it, those that
// were derived with With included: a reload may change log_format.
type Switch struct {
	current *atomic.Pointer[slog.Handler] // shared with what was derived
	derive  func(slog.Handler) slog.Handler
	made    atomic.Pointer[madeOf]
}

// madeOf is what derive made of a handler.
type madeOf struct {
	from *slog.Handler
	h    slog.Handler
}

// NewSwitch begins with h.
func NewSwitch(h slog.Handler) *Switch {
	s := &Switch{current: new(atomic.Pointer[slog.Handler]), derive: func(h slog.Handler) slog.Handler { return h }}
	s.Set(h)
	return s
}

// Set makes h handle what is logged from now on.
func (s *Switch) Set(h slog.Handler) { s.current.Store(&h) }

// handler is the current one with the attributes and groups of this logger.
func (s *Switch) handler() slog.Handler {
	from := s.current.Load()
	made := s.made.Load()
	if made == nil || made.from != from {
		made = &madeOf{from: from, h: s.derive(*from)}
		s.made.Store(made)
	}
	return made.h
}

// Enabled reports what the current handler says.
func (s *Switch) Enabled(ctx context.Context, l slog.Level) bool { return s.handler().Enabled(ctx, l) }

// Handle hands the record to the current handler.
func (s *Switch) Handle(ctx context.Context, r slog.Record) error { return s.handler().Handle(ctx, r) }

// WithAttrs returns a handler that is replaced together with s.
func (s *Switch) WithAttrs(as []slog.Attr) slog.Handler {
	return s.derived(func(h slog.Handler) slog.Handler { return h.WithAttrs(as) })
}

// WithGroup returns a handler that is replaced together with s.
func (s *Switch) WithGroup(name string) slog.Handler {
	return s.derived(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (s *Switch) derived(step func(slog.Handler) slog.Handler) *Switch {
	before := s.derive
	return &Switch{current: s.current, derive: func(h slog.Handler) slog.Handler { return step(before(h)) }}
}
