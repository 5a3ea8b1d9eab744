package metrics

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// exposition is everything that /metrics shows: the families of this package
// and what others have registered.
type exposition struct {
	families []*family // by name
	present  *present
	count    *family // glassrunner_series
	own      prometheus.Gatherer
	rest     prometheus.Gatherer
}

func newExposition(c *catalogue, p *present, own, rest prometheus.Gatherer) *exposition {
	x := &exposition{present: p, own: own, rest: rest}
	x.count = c.add("gauge", def{
		name: "glassrunner_series", help: "Time series of this exposition in the plain text format, this one included.",
		note: "What a scrape costs Prometheus without native histograms.",
	})
	budget := float64(c.budget.Total)
	c.computed("gauge", def{
		name: "glassrunner_series_budget", help: "Time series of this program's metrics that the exposition has at most.",
		note: "Those of the Go runtime, the process and the monitoring server are few and always the same. What has no room is counted in series with the value __overflow__ in every label, so sums stay exact.",
	}).always(func() float64 { return budget })
	byMetric := sets{"metric": nil}
	refused := c.computed("counter", def{
		name: "glassrunner_series_overflow_total", help: "Label combinations of a metric that got no series of their own because its budget, or that of all, was used up.",
		labels: []string{"metric"}, sets: byMetric, values: "metric: every metric with labels",
		note: "Not 0: look which label has grown.",
	})
	outside := c.computed("counter", def{
		name: "glassrunner_series_invalid_values_total", help: "Label values of a metric that were not of the closed set of its label and are shown as other.",
		labels: []string{"metric"}, sets: byMetric, values: "metric: every metric with a closed set of values",
		note: "Not 0: this program, or GitLab, says something new. Please report it.",
	})
	for _, f := range c.families {
		if len(f.def.labels) > 0 && f != refused.family {
			refused.always(func() float64 { return float64(f.refused.Load()) }, f.name)
		}
		if f.isClosed() {
			outside.always(func() float64 { return float64(f.outside.Load()) }, f.name)
		}
	}
	c.done()
	x.families = c.families
	return x
}

// Gather returns all families by name, and as many as there are on an error.
func (x *exposition) Gather() ([]*dto.MetricFamily, error) {
	all, err := x.own.Gather()
	rest, restErr := x.rest.Gather()
	n := 1.0
	all = append(all, rest...)
	for _, f := range all {
		for _, m := range f.Metric {
			n += float64(lines(m))
		}
	}
	all = append(all, &dto.MetricFamily{
		Name: &x.count.name, Help: &x.count.help, Type: dto.MetricType_GAUGE.Enum(),
		Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: &n}}},
	})
	slices.SortStableFunc(all, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return all, errors.Join(err, restErr)
}

// lines is how many lines of samples m is in the plain format.
func lines(m *dto.Metric) int {
	switch {
	case m.Histogram != nil:
		n := len(m.Histogram.Bucket) + 3 // +Inf, sum, count
		if b := m.Histogram.Bucket; len(b) > 0 && math.IsInf(b[len(b)-1].GetUpperBound(), 1) {
			n-- // it is there when it has an exemplar
		}
		return n
	case m.Summary != nil:
		return len(m.Summary.Quantile) + 2
	}
	return 1
}

// sample is a series of the present, to be sorted.
type sample struct {
	*child
	v float64
}

// AppendText appends all families by name in text format 0.0.4, or in
// OpenMetrics 1.0 with _created and the final EOF. On an error the families
// that could not be had are missing.
func (x *exposition) AppendText(dst []byte, asOpenMetrics bool) ([]byte, error) {
	format := textPlain
	if asOpenMetrics {
		format = openMetrics
	}
	rest, err := x.rest.Gather()
	present := make(map[*family][]sample, 32)
	total := 1
	x.present.collect(func(n *now, v float64, l ...string) {
		present[n.family] = append(present[n.family], sample{n.label(l), v})
		total++
	})
	gauges := make(map[string]bool, len(rest))
	for _, f := range rest {
		for _, m := range f.Metric {
			total += lines(m)
		}
		gauges[f.GetName()] = f.GetType() == dto.MetricType_GAUGE
	}
	for _, f := range x.families {
		total += f.series()
	}
	for _, f := range x.families {
		for len(rest) > 0 && rest[0].GetName() < f.name {
			var encodeErr error
			dst, encodeErr = encode(dst, rest[0], gauges, format)
			err = errors.Join(err, encodeErr)
			rest = rest[1:]
		}
		now := present[f]
		if f == x.count {
			now = []sample{{f.label(nil), float64(total)}}
		}
		if now == nil {
			dst = f.appendTo(dst, format)
			continue
		}
		slices.SortFunc(now, func(a, b sample) int { return byValues(a.child, b.child) })
		dst = append(dst, f.head[format]...)
		for _, s := range now {
			dst = sampled(dst, s.child, s.v, format)
		}
	}
	for _, f := range rest {
		var encodeErr error
		dst, encodeErr = encode(dst, f, gauges, format)
		err = errors.Join(err, encodeErr)
	}
	if format == openMetrics {
		dst = append(dst, "# EOF\n"...)
	}
	return dst, err
}

// encode appends a family of others.
func encode(dst []byte, f *dto.MetricFamily, gauges map[string]bool, format int) ([]byte, error) {
	b := bytes.NewBuffer(dst)
	var err error
	if format == openMetrics {
		if f.GetType() == dto.MetricType_COUNTER && gauges[strings.TrimSuffix(f.GetName(), "_total")] {
			f = untyped(f) // see catalogue.done
		}
		_, err = expfmt.MetricFamilyToOpenMetrics(b, f, expfmt.WithCreatedLines())
	} else {
		_, err = expfmt.MetricFamilyToText(b, f)
	}
	if err != nil {
		return b.Bytes()[:len(dst)], fmt.Errorf("encoding %s: %w", f.GetName(), err)
	}
	return b.Bytes(), nil
}

// untyped returns a family of counters as one of no type.
func untyped(f *dto.MetricFamily) *dto.MetricFamily {
	u := &dto.MetricFamily{Name: f.Name, Help: f.Help, Unit: f.Unit, Type: dto.MetricType_UNTYPED.Enum()}
	for _, m := range f.Metric {
		u.Metric = append(u.Metric, &dto.Metric{Label: m.Label, Untyped: &dto.Untyped{Value: m.Counter.Value}})
	}
	return u
}
