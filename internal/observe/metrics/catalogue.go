package metrics

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// def is everything that is known about one metric. Collectors and the
// metric reference are made of the same defs, so the reference is true.
type def struct {
	name, help string
	kind       string // "counter", "gauge", "histogram"; set by the catalogue
	labels     []string
	// sets are the values that labels other than the runner's can have,
	// closed for good: any other value is shown as "other". A label whose
	// values come from outside is listed with nil.
	sets      map[string][]string
	constant  prometheus.Labels
	buckets   []float64
	stability string // "stable" or "beta"; set by the catalogue
	unit      string // set by the catalogue from the name
	since     string // version that has it first; set by the catalogue to firstVersion unless given
	// values says which values the labels other than the runner's take.
	values string
	// note is what a reader has to know: when a series appears, what it
	// counts that one would not expect, which metric is the better one.
	note string
}

// catalogue makes collectors, registers them and remembers their families.
type catalogue struct {
	reg      prometheus.Registerer
	budget   *budget
	families []*family
}

// firstVersion has every metric that does not say otherwise.
const firstVersion = "0.1.0"

func (c *catalogue) add(kind string, d def) *family {
	d.kind = kind
	d.stability = "beta"
	if strings.HasPrefix(d.name, compatPrefix) {
		d.stability = "stable"
	}
	d.unit = unitOf(d.name)
	if d.since == "" {
		d.since = firstVersion
	}
	f := newFamily(d, c.budget)
	c.families = append(c.families, f)
	return f
}

// unitOf returns the unit that a name ends with, "" for a number of things.
func unitOf(name string) string {
	name = strings.TrimSuffix(name, "_total")
	for _, u := range []struct{ suffix, unit string }{
		{"_timestamp_seconds", "unix_seconds"}, {"_seconds", "seconds"}, {"_seconds_max", "seconds"}, {"_bytes", "bytes"}, {"_ratio", "ratio"},
	} {
		if strings.HasSuffix(name, u.suffix) {
			return u.unit
		}
	}
	return ""
}

// done orders the families by name and says what must stand before each.
func (c *catalogue) done() {
	slices.SortFunc(c.families, func(a, b *family) int { return strings.Compare(a.name, b.name) })
	names := make(map[string]bool, len(c.families))
	for _, f := range c.families {
		names[f.name] = true
	}
	for _, f := range c.families {
		// To OpenMetrics the counter x_total is the family x. Where there is a
		// gauge x as well, the counter cannot be called one.
		f.unknown = f.kind == "counter" && names[strings.TrimSuffix(f.name, "_total")]
		f.heads()
	}
}

func (c *catalogue) counter(d def) counterVec {
	v := counterVec{
		c.add("counter", d),
		prometheus.NewCounterVec(prometheus.CounterOpts{Name: d.name, Help: d.help, ConstLabels: d.constant}, d.labels),
	}
	c.reg.MustRegister(v.vec)
	return v
}

func (c *catalogue) gauge(d def) gaugeVec {
	v := gaugeVec{
		c.add("gauge", d),
		prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: d.name, Help: d.help, ConstLabels: d.constant}, d.labels),
	}
	c.reg.MustRegister(v.vec)
	return v
}

// Every histogram has classic buckets, and native ones for who scrapes
// protobuf: 1.1 is about 10 % error, 100 buckets bound the memory.
const (
	nativeFactor     = 1.1
	nativeMaxBuckets = 100
	nativeMinReset   = time.Hour
)

func (c *catalogue) histogram(d def) histogramVec {
	v := histogramVec{
		c.add("histogram", d),
		prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: d.name, Help: d.help, ConstLabels: d.constant, Buckets: d.buckets,
			NativeHistogramBucketFactor:     nativeFactor,
			NativeHistogramMaxBucketNumber:  nativeMaxBuckets,
			NativeHistogramMinResetDuration: nativeMinReset,
		}, d.labels),
	}
	c.reg.MustRegister(v.vec)
	return v
}

// present declares a metric that is collected at scrape.
func (c *catalogue) present(kind string, d def) *now {
	n := &now{family: c.add(kind, d), value: prometheus.GaugeValue}
	if kind == "counter" {
		n.value = prometheus.CounterValue
	}
	n.desc = prometheus.NewDesc(d.name, d.help, d.labels, d.constant)
	return n
}

// now is a metric whose series are made at scrape.
type now struct {
	*family
	desc  *prometheus.Desc
	value prometheus.ValueType
}

// maxLabel bounds values that come from a coordinator.
const maxLabel = 120

// label returns s as a label value: valid UTF-8 and of bounded length.
func label(s string) string {
	if len(s) <= maxLabel && utf8.ValidString(s) {
		return s
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > maxLabel {
		s = strings.ToValidUTF8(s[:maxLabel], "")
	}
	return s
}

// runnerLabels returns the three labels of a runner and more.
func runnerLabels(more ...string) []string {
	return append([]string{"runner", "runner_name", "system_id"}, more...)
}
