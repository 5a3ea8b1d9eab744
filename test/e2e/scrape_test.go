//go:build linux

package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// families is a scrape.
type families map[string]*dto.MetricFamily

// get asks the monitoring server.
func (p *process) get(path string, header ...string) (*http.Response, []byte) {
	p.w.t.Helper()
	res, body, err := p.w.request(http.MethodGet, "http://"+p.addr+path, header...)
	if err != nil {
		p.w.t.Fatal(err)
	}
	return res, body
}

// request is one HTTP request; header holds names and values in turns.
func (w *world) request(method, url string, header ...string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(w.ctx, method, url, nil)
	if err != nil {
		return nil, nil, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := w.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return res, body, err
}

// scrape reads the metrics in the text format.
func (p *process) scrape() families {
	p.w.t.Helper()
	m, err := p.tryScrape()
	if err != nil {
		p.w.t.Fatal(err)
	}
	return m
}

func (p *process) tryScrape() (families, error) {
	res, body, err := p.w.request(http.MethodGet, "http://"+p.addr+"/metrics")
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("/metrics: %s\n%s", res.Status, body)
	}
	return parse(body)
}

func parse(body []byte) (families, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(bytes.NewReader(body))
}

// waitMetrics scrapes until ok.
func (p *process) waitMetrics(what string, ok func(families) bool) families {
	p.w.t.Helper()
	var last families
	err := poll(patience, func() bool {
		m, err := p.tryScrape()
		last = m
		return err == nil && ok(m)
	})
	if err != nil {
		p.w.t.Fatalf("%s: %v", what, err)
	}
	return last
}

// waitValue scrapes until a sum has a value.
func (p *process) waitValue(want float64, name string, labels ...string) families {
	p.w.t.Helper()
	var got float64
	var last families
	err := poll(patience, func() bool {
		m, err := p.tryScrape()
		if err != nil {
			return false
		}
		got, last = m.sum(name, labels...), m
		return got == want
	})
	if err != nil {
		p.w.t.Fatalf("%s%v is %v, want %v", name, labels, got, want)
	}
	return last
}

// sum adds up the series of a family whose labels match: values of counters
// and gauges, counts of histograms.
func (f families) sum(name string, labels ...string) float64 {
	total := 0.0
	for _, m := range f[name].GetMetric() {
		if matches(m, labels) {
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return total
}

// series counts the series of a family whose labels match.
func (f families) series(name string, labels ...string) int {
	n := 0
	for _, m := range f[name].GetMetric() {
		if matches(m, labels) {
			n++
		}
	}
	return n
}

func matches(m *dto.Metric, labels []string) bool {
	for i := 0; i+1 < len(labels); i += 2 {
		if !slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool {
			return l.GetName() == labels[i] && l.GetValue() == labels[i+1]
		}) {
			return false
		}
	}
	return true
}

// check compares sums with what they have to be.
func (f families) check(t *testing.T, want float64, name string, labels ...string) {
	t.Helper()
	if f[name] == nil {
		t.Errorf("there is no metric %s", name)
		return
	}
	if got := f.sum(name, labels...); got != want {
		t.Errorf("%s%v is %v, want %v", name, labels, got, want)
	}
}

// bounded is a context for one step of a test.
func (w *world) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(w.ctx, patience)
}
