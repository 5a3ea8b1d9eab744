package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
	"github.com/glassrunner/glassrunner/internal/pause"
)

// sampleResults is what must come of the built-in pipeline.
func sampleResults() map[string]string {
	return map[string]string{
		"compile": "success", "lint": "success", "unit": "success", "integration": "success", "chatty": "success",
		"broken": "failed script_failure 3", "endless": "failed job_execution_timeout 0", "report": "success",
	}
}

// check compares what the runner reported and what its metrics say with what
// the server handed out.
func (d *demo) check(ctx context.Context, ids []int64) error {
	var errs []error
	failed := map[string]float64{}
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	want := sampleResults()
	for _, id := range ids {
		s, err := d.server.Job(id)
		if err != nil {
			return err
		}
		got := string(s.Status)
		if s.Status != fakegitlab.Success {
			got = fmt.Sprintf("%s %s %d", s.Status, s.FailureReason, s.ExitCode)
			failed[s.FailureReason]++
		}
		if w, ok := want[s.Name]; d.o.Pipeline == "" && (!ok || got != w) {
			wrong("job %s: the server has %q, want %q", s.Name, got, w)
		}
		if bytes.Contains(s.Trace, []byte(secret)) {
			wrong("job %s: a masked variable shows in the log", s.Name)
		}
	}
	for _, v := range d.server.Violations() {
		wrong("the runner broke rule %d of the API: %s", v.Rule, v.Text)
	}
	m, err := d.settled(ctx, float64(len(ids)))
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		if got := m.sum("gitlab_runner_failed_jobs_total", "failure_reason", name); got != failed[name] {
			wrong("gitlab_runner_failed_jobs_total{failure_reason=%q} is %v, the server counted %v", name, got, failed[name])
		}
	}
	for _, c := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"gitlab_runner_jobs_total", nil, float64(len(ids))},
		{"gitlab_runner_job_duration_seconds", nil, float64(len(ids))},
		{"gitlab_runner_jobs", nil, 0},
		{"gitlab_runner_api_request_statuses_total", []string{"endpoint", "request_job", "status", "201"}, float64(len(ids))},
		{"gitlab_runner_concurrent", nil, float64(d.o.Concurrent)},
		{"gitlab_runner_version_info", nil, 1},
	} {
		if got := m.sum(c.name, c.labels...); got != c.want {
			wrong("%s%v is %v, want %v", c.name, c.labels, got, c.want)
		}
	}
	for _, name := range seed() {
		if m[name] == nil {
			wrong("there is no metric %s", name)
		}
	}
	if len(errs) == 0 {
		jobs := fmt.Sprintf("%d jobs", len(ids))
		if len(ids) == 1 {
			jobs = "1 job"
		}
		fmt.Fprintf(d.o.Out, "\n%s, results and metrics are as they should be.\n", jobs)
	}
	return errors.Join(errs...)
}

// seed lists the metrics that GitLab's page on monitoring names.
func seed() []string {
	return []string{
		"gitlab_runner_api_request_statuses_total", "gitlab_runner_autoscaling_machine_creation_duration_seconds",
		"gitlab_runner_autoscaling_machine_states", "gitlab_runner_concurrent", "gitlab_runner_errors_total",
		"gitlab_runner_limit", "gitlab_runner_request_concurrency", "gitlab_runner_request_concurrency_exceeded_total",
		"gitlab_runner_version_info", "go_goroutines", "process_cpu_seconds_total",
	}
}

// settled scrapes until every job has left the runner: the server knows of a
// job's end a moment before the runner hears that it does.
func (d *demo) settled(ctx context.Context, jobs float64) (families, error) {
	deadline := time.Now().Add(10 * time.Second)
	for {
		m, err := d.scrape(ctx)
		if err != nil || m.sum("gitlab_runner_job_duration_seconds") == jobs && m.sum("gitlab_runner_jobs") == 0 || time.Now().After(deadline) {
			return m, err
		}
		if pause.For(ctx, 20*time.Millisecond) != nil {
			return nil, ctx.Err()
		}
	}
}

// families is a scrape.
type families map[string]*dto.MetricFamily

func (d *demo) scrape(ctx context.Context) (families, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.runner.Address()+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("/metrics: %s: %s", res.Status, strings.TrimSpace(string(text)))
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(bytes.NewReader(text))
}

// sum adds up the series of a family whose labels match: values of counters
// and gauges, counts of histograms.
func (f families) sum(name string, labels ...string) float64 {
	total := 0.0
	for _, m := range f[name].GetMetric() {
		if matches(m, labels) {
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return total
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
