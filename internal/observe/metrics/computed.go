package metrics

import (
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// computedVec is a metric whose series stay, but whose values are made when
// they are read.
type computedVec struct {
	*family
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func (c *catalogue) computed(kind string, d def) computedVec {
	v := computedVec{c.add(kind, d), prometheus.NewDesc(d.name, d.help, d.labels, d.constant), prometheus.GaugeValue}
	if kind == "counter" {
		v.kind = prometheus.CounterValue
	}
	c.reg.MustRegister(v)
	return v
}

// with adds a series if there is room: values that are made cannot be added
// up in an overflow. Read is called at each scrape, also at several at once.
func (v computedVec) with(read func() float64, values ...string) {
	if values = v.admit(values); slices.Contains(values, overflow) {
		return
	}
	v.always(read, values...)
}

// always is with for what must not be missing.
func (v computedVec) always(read func() float64, values ...string) {
	v.add(&computed{v.desc, v.kind, prometheus.MakeLabelPairs(v.desc, values), read}, values)
}

func (v computedVec) drop(l prometheus.Labels) { v.remove(l) }

// Describe sends what Collect collects.
func (v computedVec) Describe(ch chan<- *prometheus.Desc) { ch <- v.desc }

// Collect sends the series.
func (v computedVec) Collect(ch chan<- prometheus.Metric) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range v.children {
		ch <- c.metric
	}
}

type computed struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	labels []*dto.LabelPair
	read   func() float64
}

// Desc describes the metric of the series.
func (c *computed) Desc() *prometheus.Desc { return c.desc }

// Write reads the value.
func (c *computed) Write(m *dto.Metric) error {
	m.Label = c.labels
	v := c.read()
	switch c.kind {
	case prometheus.CounterValue:
		m.Counter = &dto.Counter{Value: &v}
	case prometheus.GaugeValue:
		m.Gauge = &dto.Gauge{Value: &v}
	default:
		return fmt.Errorf("metric of kind %v", c.kind)
	}
	return nil
}
