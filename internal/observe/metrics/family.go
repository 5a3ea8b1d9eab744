package metrics

import (
	"bytes"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/glassrunner/glassrunner/internal/event"
)

// family is one metric with its series, ready to be written as text.
//
// The client library writes a series by gathering it into a message, checking
// and sorting all messages and escaping every label of every line anew. With
// a few thousand lines that takes several milliseconds, which is more than a
// scrape may take here. A family keeps its series sorted and their labels
// escaped; a scrape copies them and formats numbers. What comes out is the
// same to the byte, which a test holds both ways of writing to.
type family struct {
	def
	names   []string // of all labels, constants included, sorted
	order   []int    // where each has its value in def.labels; -1: constant
	head    [2][]byte
	le      [2][]string // of buckets
	unknown bool        // OpenMetrics must not know that it is a counter

	budget  *budget
	refused atomic.Uint64 // label combinations that got no series of their own
	outside atomic.Uint64 // label values that were not of their set

	mu       sync.Mutex
	children []*child
}

// Text formats, as indices.
const (
	textPlain = iota
	openMetrics
)

// child is a series, or the series of one histogram.
type child struct {
	values []string // of the labels, by name
	start  []byte   // of a sample: name, labels and a space
	labels []byte   // of start: escaped, without braces
	metric prometheus.Metric
	watch  *watched // of a histogram
}

// watched is a histogram that knows how it was written last. Most have
// observed nothing since, and they are most of what a scrape consists of.
type watched struct {
	prometheus.Observer
	changes atomic.Uint64

	// Under family.mu:
	text [2][]byte // by format; nil: never written
	at   [2]uint64 // changes that text has, or fewer
}

// Observe counts after it has observed: who has read the count before it
// wrote can only be too careful.
func (w *watched) Observe(v float64) {
	w.Observer.Observe(v)
	w.changes.Add(1)
}

// ObserveWithExemplar implements prometheus.ExemplarObserver.
func (w *watched) ObserveWithExemplar(v float64, exemplar prometheus.Labels) {
	if o, ok := w.Observer.(prometheus.ExemplarObserver); ok {
		o.ObserveWithExemplar(v, exemplar)
	} else {
		w.Observer.Observe(v)
	}
	w.changes.Add(1)
}

// observe measures v, with the trace as its exemplar when that is recorded.
func observe(o prometheus.Observer, v float64, t event.Trace) {
	if t.Sampled {
		if x, ok := o.(prometheus.ExemplarObserver); ok {
			x.ObserveWithExemplar(v, prometheus.Labels{"trace_id": t.ID.String()})
			return
		}
	}
	o.Observe(v)
}

func newFamily(d def, b *budget) *family {
	f := &family{def: d, budget: b, names: slices.AppendSeq(slices.Clone(d.labels), maps.Keys(d.constant))}
	slices.Sort(f.names)
	for _, n := range f.names {
		f.order = append(f.order, slices.Index(d.labels, n))
	}
	for _, b := range append(slices.Clone(d.buckets), math.Inf(1)) {
		f.le[textPlain] = append(f.le[textPlain], string(appendFloat(nil, b, textPlain)))
		f.le[openMetrics] = append(f.le[openMetrics], string(appendFloat(nil, b, openMetrics)))
	}
	return f
}

// heads makes what stands before the series.
func (f *family) heads() {
	// Almost no help has anything to escape, and a Replacer for each of them
	// would be a twelfth of the whole process's start.
	plain, help := f.help, f.help
	if strings.ContainsAny(help, "\\\n\"") {
		plain = strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(f.help)
		help = string(appendEscaped(nil, f.help))
	}
	f.head[textPlain] = []byte("# HELP " + f.name + " " + plain + "\n# TYPE " + f.name + " " + f.kind + "\n")
	name, kind := f.name, f.kind
	if f.unknown {
		kind = "unknown"
	} else if f.kind == "counter" {
		name = strings.TrimSuffix(name, "_total")
	}
	f.head[openMetrics] = []byte("# HELP " + name + " " + help + "\n# TYPE " + name + " " + kind + "\n")
}

// label returns a child with these values, which are in the order of
// def.labels.
func (f *family) label(values []string) *child {
	c := &child{values: make([]string, len(f.names))}
	b := append(make([]byte, 0, len(f.name)+128), f.name...)
	for i, name := range f.names {
		var value string
		if from := f.order[i]; from >= 0 {
			value = values[from]
		} else {
			value = f.constant[name]
		}
		c.values[i] = value
		if i == 0 {
			b = append(b, '{')
		} else {
			b = append(b, ',')
		}
		b = append(append(b, name...), '=', '"')
		b = append(appendEscaped(b, value), '"')
	}
	if len(f.names) > 0 {
		b = append(b, '}')
		c.labels = b[len(f.name)+1 : len(b)-1]
	}
	c.start = append(b, ' ')
	return c
}

// add makes m, the series of these values, part of f, and returns its child.
func (f *family) add(m prometheus.Metric, values []string) *child {
	c := f.label(values)
	c.metric = m
	if o, ok := m.(prometheus.Observer); ok {
		c.watch = &watched{Observer: o}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.insertLocked(c)
}

// insertLocked returns the child with the values of c: an older one, or c.
func (f *family) insertLocked(c *child) *child {
	i, found := slices.BinarySearchFunc(f.children, c, byValues)
	if found {
		return f.children[i]
	}
	f.children = slices.Insert(f.children, i, c)
	f.budget.take(f.lines())
	return c
}

func byValues(a, b *child) int { return slices.Compare(a.values, b.values) }

// remove forgets the series that have all of these label values.
func (f *family) remove(l prometheus.Labels) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.removeLocked(func(c *child) bool {
		for i, name := range f.names {
			if want, asked := l[name]; asked && c.values[i] != want {
				return false
			}
		}
		return true
	})
}

func (f *family) removeLocked(which func(*child) bool) {
	before := len(f.children)
	f.children = slices.DeleteFunc(f.children, which)
	f.budget.take((len(f.children) - before) * f.lines())
}

// lines is how many lines of samples one child is in the plain format.
func (f *family) lines() int {
	if f.kind == "histogram" {
		return len(f.buckets) + 3
	}
	return 1
}

// series returns how many lines of samples f has in the plain format.
func (f *family) series() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.children) * f.lines()
}

// appendTo appends f as text.
func (f *family) appendTo(dst []byte, format int) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.children) == 0 {
		return dst
	}
	dst = append(dst, f.head[format]...)
	var m dto.Metric
	for _, c := range f.children {
		if w := c.watch; w != nil {
			dst = append(dst, f.unchanged(c, w, format)...)
			continue
		}
		if made, ok := c.metric.(*computed); ok {
			dst = sampled(dst, c, made.read(), format)
			continue
		}
		m.Reset()
		if err := c.metric.Write(&m); err != nil {
			continue // cannot be: it was written before
		}
		switch {
		case m.Counter != nil:
			dst = sampled(dst, c, m.Counter.GetValue(), format)
			if format == openMetrics && !f.unknown && m.Counter.CreatedTimestamp != nil {
				dst = f.created(dst, c, m.Counter.CreatedTimestamp.AsTime().UnixNano())
			}
		case m.Gauge != nil:
			dst = sampled(dst, c, m.Gauge.GetValue(), format)
		}
	}
	return dst
}

// unchanged returns the text of a histogram, written anew if it has changed.
func (f *family) unchanged(c *child, w *watched, format int) []byte {
	now := w.changes.Load()
	if w.text[format] != nil && w.at[format] == now {
		return w.text[format]
	}
	var m dto.Metric
	if err := c.metric.Write(&m); err != nil {
		return nil // cannot be: it was written before
	}
	w.text[format], w.at[format] = f.histogram(w.text[format][:0], c, m.Histogram, format), now
	return w.text[format]
}

func sampled(dst []byte, c *child, v float64, format int) []byte {
	return append(appendFloat(append(dst, c.start...), v, format), '\n')
}

// begin appends a name, its labels and a space.
func (f *family) begin(dst []byte, suffix string, labels []byte) []byte {
	dst = append(append(dst, f.name...), suffix...)
	if len(labels) > 0 {
		dst = append(dst, '{')
		dst = append(append(dst, labels...), '}')
	}
	return append(dst, ' ')
}

func (f *family) created(dst []byte, c *child, nanos int64) []byte {
	dst = append(append(dst, strings.TrimSuffix(f.name, "_total")...), "_created"...)
	if len(c.labels) > 0 {
		dst = append(dst, '{')
		dst = append(append(dst, c.labels...), '}')
	}
	dst = appendFloat(append(dst, ' '), float64(nanos)/1e9, openMetrics)
	return append(dst, '\n')
}

func (f *family) histogram(dst []byte, c *child, h *dto.Histogram, format int) []byte {
	for i, le := range f.le[format] {
		dst = append(append(dst, f.name...), "_bucket{"...)
		if len(c.labels) > 0 {
			dst = append(append(dst, c.labels...), ',')
		}
		dst = append(append(dst, `le="`...), le...)
		dst = append(dst, `"} `...)
		n := h.GetSampleCount()
		var exemplar *dto.Exemplar
		if i < len(h.Bucket) { // the last one is there only if it has an exemplar
			n, exemplar = h.Bucket[i].GetCumulativeCount(), h.Bucket[i].Exemplar
		}
		dst = appendCount(dst, n, format)
		if exemplar != nil && format == openMetrics {
			dst = appendExemplar(dst, exemplar)
		}
		dst = append(dst, '\n')
	}
	dst = f.begin(dst, "_sum", c.labels)
	dst = append(appendFloat(dst, h.GetSampleSum(), format), '\n')
	dst = f.begin(dst, "_count", c.labels)
	dst = append(appendCount(dst, h.GetSampleCount(), format), '\n')
	if format == openMetrics && h.CreatedTimestamp != nil {
		dst = f.created(dst, c, h.CreatedTimestamp.AsTime().UnixNano())
	}
	return dst
}

func appendExemplar(dst []byte, e *dto.Exemplar) []byte {
	dst = append(dst, " # {"...)
	for i, l := range e.Label {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(dst, l.GetName()...), '=', '"')
		dst = append(appendEscaped(dst, l.GetValue()), '"')
	}
	dst = appendFloat(append(dst, '}', ' '), e.GetValue(), openMetrics)
	if e.Timestamp != nil {
		dst = appendFloat(append(dst, ' '), float64(e.Timestamp.AsTime().UnixNano())/1e9, openMetrics)
	}
	return dst
}

func appendCount(dst []byte, n uint64, format int) []byte {
	if format == openMetrics {
		return strconv.AppendUint(dst, n, 10)
	}
	return appendFloat(dst, float64(n), format)
}

// appendFloat appends v as the format wants it: OpenMetrics marks a float
// that looks like a whole number.
func appendFloat(dst []byte, v float64, format int) []byte {
	switch {
	case math.IsInf(v, 1):
		return append(dst, "+Inf"...)
	case math.IsInf(v, -1):
		return append(dst, "-Inf"...)
	}
	start := len(dst)
	if v == math.Trunc(v) && math.Abs(v) < 1e6 {
		dst = strconv.AppendInt(dst, int64(v), 10)
	} else {
		dst = strconv.AppendFloat(dst, v, 'g', -1, 64)
	}
	if format == openMetrics && !math.IsNaN(v) && !bytes.ContainsAny(dst[start:], "e.") {
		dst = append(dst, ".0"...)
	}
	return dst
}

func appendEscaped(dst []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; c {
		case '\\':
			dst = append(dst, `\\`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '"':
			dst = append(dst, `\"`...)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
