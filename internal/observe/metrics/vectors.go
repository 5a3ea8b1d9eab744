package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
)

// The vectors are the client library's, whose series are also part of a
// family.

type counterVec struct {
	*family
	vec *prometheus.CounterVec
}

func (v counterVec) with(values ...string) prometheus.Counter {
	values = v.admit(values)
	c := v.vec.WithLabelValues(values...)
	v.add(c, values)
	return c
}

func (v counterVec) drop(l prometheus.Labels) {
	v.vec.DeletePartialMatch(l)
	v.remove(l)
}

type gaugeVec struct {
	*family
	vec *prometheus.GaugeVec
}

func (v gaugeVec) with(values ...string) prometheus.Gauge {
	values = v.admit(values)
	g := v.vec.WithLabelValues(values...)
	v.add(g, values)
	return g
}

func (v gaugeVec) drop(l prometheus.Labels) {
	v.vec.DeletePartialMatch(l)
	v.remove(l)
}

type histogramVec struct {
	*family
	vec *prometheus.HistogramVec
}

func (v histogramVec) with(values ...string) prometheus.Observer {
	values = v.admit(values)
	o := v.vec.WithLabelValues(values...)
	if m, ok := o.(prometheus.Metric); ok {
		return v.add(m, values).watch
	}
	return o
}

func (v histogramVec) drop(l prometheus.Labels) {
	v.vec.DeletePartialMatch(l)
	v.remove(l)
}
