package logs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// Levels beyond slog's own, for entries before the process ends by itself.
const (
	LevelFatal = slog.LevelError + 4
	LevelPanic = slog.LevelError + 8
)

// Formats lists the names of the formats, the default first.
func Formats() []string { return []string{"runner", "text", "json"} }

// NewHandler returns a handler that writes each entry as one line, whatever
// is in it, with one call of w.Write:
//
//	runner  WARNING: Job failed: exit status 1    job=12 duration_s=0.5
//	text    time=… level=warning msg="Job failed: exit status 1" job=12 duration_s=0.5
//	json    {"time":…,"level":"warning","msg":"Job failed: exit status 1","job":12,"duration_s":0.5}
//
// The runner format is for people and leaves out the ids of traces, which would
// take most of a line. Color is for the runner format on a terminal. An unknown format is an
// error that names the known ones.
func NewHandler(w io.Writer, format string, level slog.Leveler, color bool) (slog.Handler, error) {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if l, ok := a.Value.Any().(slog.Level); ok && len(groups) == 0 && a.Key == slog.LevelKey {
			return slog.String(slog.LevelKey, LevelName(l))
		}
		return a
	}}
	switch format {
	case "runner", "":
		return &lines{out: &output{w: w}, level: level, color: color}, nil
	case "text":
		return slog.NewTextHandler(w, o), nil
	case "json":
		return slog.NewJSONHandler(w, o), nil
	}
	return nil, fmt.Errorf("unknown log format %q: use %s", format, strings.Join(Formats(), ", "))
}

// LevelName returns the name of l in GitLab Runner's words: debug, info,
// warning, error, fatal or panic.
func LevelName(l slog.Level) string {
	switch {
	case l >= LevelPanic:
		return "panic"
	case l >= LevelFatal:
		return "fatal"
	case l >= slog.LevelError:
		return "error"
	case l >= slog.LevelWarn:
		return "warning"
	case l >= slog.LevelInfo:
		return "info"
	}
	return "debug"
}

// ParseLevel returns the level of a name as log_level has it: trace, debug,
// info, warn, warning, error, fatal or panic.
func ParseLevel(name string) (slog.Level, error) {
	switch name {
	case "trace", "debug":
		return slog.LevelDebug, nil
	case "", "info":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	case "fatal":
		return LevelFatal, nil
	case "panic":
		return LevelPanic, nil
	}
	return 0, fmt.Errorf("unknown log level %q: use debug, info, warn, error, fatal or panic", name)
}

// output is shared by a handler and those made of it.
type output struct {
	mu  sync.Mutex
	w   io.Writer
	buf bytes.Buffer
}

// lines writes the runner format.
type lines struct {
	out    *output
	level  slog.Leveler
	color  bool
	fields []byte // of WithAttrs, ready to print
	prefix string // of WithGroup
}

// messageWidth is where fields begin after a short message.
const messageWidth = 50

func (h *lines) Enabled(_ context.Context, l slog.Level) bool {
	return h.level == nil || l >= h.level.Level()
}

func (h *lines) Handle(_ context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	b := &h.out.buf
	b.Reset()
	mark, reset := h.mark(r.Level)
	b.WriteString(mark)
	switch {
	case r.Level >= LevelPanic:
		b.WriteString("PANIC: ")
	case r.Level >= LevelFatal:
		b.WriteString("FATAL: ")
	case r.Level >= slog.LevelError:
		b.WriteString("ERROR: ")
	case r.Level >= slog.LevelWarn:
		b.WriteString("WARNING: ")
	}
	start := b.Len()
	writeClean(b, r.Message)
	if len(h.fields) > 0 || r.NumAttrs() > 0 {
		for n := utf8.RuneCount(b.Bytes()[start:]); n < messageWidth; n++ {
			b.WriteByte(' ')
		}
	}
	b.WriteString(reset)
	b.Write(h.fields)
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != traceID && a.Key != spanID {
			writeField(b, h.prefix, a, mark, reset)
		}
		return true
	})
	b.WriteByte('\n')
	_, err := h.out.w.Write(b.Bytes())
	return err
}

func (h *lines) mark(l slog.Level) (mark, reset string) {
	if !h.color {
		return "", ""
	}
	reset = "\x1b[0;m"
	switch {
	case l >= slog.LevelError:
		return "\x1b[31;1m", reset
	case l >= slog.LevelWarn:
		return "\x1b[33m", reset
	case l >= slog.LevelInfo:
		return "\x1b[36m", reset
	}
	return "\x1b[37m", reset
}

func (h *lines) WithAttrs(as []slog.Attr) slog.Handler {
	n := *h
	b := bytes.NewBuffer(slices.Clone(h.fields))
	for _, a := range as {
		writeField(b, h.prefix, a, "", "")
	}
	n.fields = b.Bytes()
	return &n
}

func (h *lines) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	n := *h
	n.prefix = h.prefix + name + "."
	return &n
}

func writeField(b *bytes.Buffer, prefix string, a slog.Attr, mark, reset string) {
	v := a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return
	}
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, m := range v.Group() {
			writeField(b, prefix, m, mark, reset)
		}
		return
	}
	b.WriteByte(' ')
	b.WriteString(mark)
	writeClean(b, prefix)
	writeClean(b, a.Key)
	b.WriteString(reset)
	b.WriteByte('=')
	writeValue(b, v)
}

func writeValue(b *bytes.Buffer, v slog.Value) {
	switch v.Kind() {
	case slog.KindTime:
		b.WriteString(v.Time().Format(time.RFC3339))
	case slog.KindString:
		writeWord(b, v.String())
	case slog.KindAny:
		if err, ok := v.Any().(error); ok {
			writeWord(b, err.Error())
			return
		}
		writeWord(b, fmt.Sprintf("%v", v.Any()))
	default:
		b.WriteString(v.String())
	}
}

// writeWord writes s so that it is one field to a reader: quoted unless it
// is plain.
func writeWord(b *bytes.Buffer, s string) {
	if s == "" {
		b.WriteString(`""`)
		return
	}
	for _, r := range s {
		if r == '"' || r == '=' || r == utf8.RuneError || r == ' ' || !unicode.IsPrint(r) {
			b.Write(strconv.AppendQuote(b.AvailableBuffer(), s))
			return
		}
	}
	b.WriteString(s)
}

// writeClean writes s without what would leave the line or move a terminal's
// cursor.
func writeClean(b *bytes.Buffer, s string) {
	for _, r := range s {
		switch {
		case r == ' ' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteByte(' ')
		default:
			b.Write(strconv.AppendQuoteRuneToASCII(b.AvailableBuffer(), r))
		}
	}
}
