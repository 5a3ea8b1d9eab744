// Package names holds expressions to what the program can emit: every metric,
// label and label value that an expression names must be one of the catalogue.
package names

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Metric is an entry of `glassrunner metrics list --format json`.
type Metric struct {
	Name    string    `json:"name"`
	Type    string    `json:"type"` // counter, gauge, histogram, summary
	Labels  []Label   `json:"labels"`
	Buckets []float64 `json:"buckets"`
}

// Label is one of a metric's labels.
type Label struct {
	Name   string   `json:"name"`
	Values []string `json:"values"` // nil: not a closed set
}

// Catalogue knows every series name.
type Catalogue struct {
	series map[string]series
}

// series is what is known of the series of one name.
type series struct {
	labels map[string]closed
	any    bool // it may have other labels
}

// closed is a label's set of values; nil is any.
type closed map[string]bool

// targets are the labels that Prometheus adds.
func targets() []string { return []string{"job", "instance"} }

// Read reads a catalogue.
func Read(r io.Reader) ([]Metric, error) {
	var list []Metric
	if err := json.NewDecoder(r).Decode(&list); err != nil {
		return nil, fmt.Errorf("catalogue: %w", err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("catalogue: it is empty")
	}
	return list, nil
}

// New makes a catalogue of metrics and of what Prometheus itself has.
func New(list []Metric) (*Catalogue, error) {
	c := &Catalogue{series: map[string]series{}}
	for _, m := range list {
		if err := c.metric(m); err != nil {
			return nil, err
		}
	}
	c.series["up"] = of(Metric{})
	c.series["ALERTS"] = series{labels: map[string]closed{"alertname": nil, "alertstate": {"firing": true, "pending": true}}, any: true}
	return c, nil
}

func (c *Catalogue) metric(m Metric) error {
	names := []string{m.Name}
	s := of(m)
	switch m.Type {
	case "counter", "gauge", "unknown":
	case "histogram":
		// The name itself is the native histogram.
		names = append(names, m.Name+"_sum", m.Name+"_count")
		le := closed{"+Inf": true}
		for _, b := range m.Buckets {
			// Prometheus writes what it scraped, and formats differ.
			plain := strconv.FormatFloat(b, 'g', -1, 64)
			le[plain] = true
			if !strings.ContainsAny(plain, ".e") {
				le[plain+".0"] = true
			}
		}
		b := of(m)
		b.labels["le"] = le
		if err := c.add(m.Name+"_bucket", b); err != nil {
			return err
		}
	case "summary":
		names = []string{m.Name + "_sum", m.Name + "_count"}
		q := of(m)
		q.labels["quantile"] = nil
		if err := c.add(m.Name, q); err != nil {
			return err
		}
	default:
		return fmt.Errorf("catalogue: %s has the type %q", m.Name, m.Type)
	}
	for _, n := range names {
		if err := c.add(n, s); err != nil {
			return err
		}
	}
	return nil
}

func (c *Catalogue) add(name string, s series) error {
	if _, ok := c.series[name]; ok {
		return fmt.Errorf("catalogue: %s is there twice", name)
	}
	c.series[name] = s
	return nil
}

// of is the series of a metric with the labels of its target.
func of(m Metric) series {
	s := series{labels: map[string]closed{}}
	for _, l := range targets() {
		s.labels[l] = nil
	}
	for _, l := range m.Labels {
		if l.Values == nil {
			s.labels[l.Name] = nil
			continue
		}
		s.labels[l.Name] = closed{}
		for _, v := range l.Values {
			s.labels[l.Name][v] = true
		}
	}
	return s
}

// Record adds a recording rule, whose labels are those of its expression.
func (c *Catalogue) Record(name, expr string) []string {
	s, problems := c.check(expr)
	if err := c.add(name, s); err != nil {
		problems = append(problems, err.Error())
	}
	return problems
}
