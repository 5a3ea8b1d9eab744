package rules

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"
	"time"
)

// The forms of a file for promtool test rules.
type (
	testFile struct {
		RuleFiles          []string   `yaml:"rule_files"`
		EvaluationInterval string     `yaml:"evaluation_interval"`
		Tests              []testCase `yaml:"tests"`

		step time.Duration
	}
	testCase struct {
		Interval string      `yaml:"interval"`
		Name     string      `yaml:"name"`
		Series   []Series    `yaml:"input_series"`
		Alerts   []testAlert `yaml:"alert_rule_test"`
	}
	testAlert struct {
		EvalTime  string     `yaml:"eval_time"`
		AlertName string     `yaml:"alertname"`
		Alerts    []expected `yaml:"exp_alerts"`
	}
	expected struct {
		Labels      map[string]string `yaml:"exp_labels"`
		Annotations map[string]string `yaml:"exp_annotations"`
	}
)

// TestFiles are the tests of one group's alerts for promtool test rules, by the
// file's name. Every alert must have a test of firing and one of staying silent.
func TestFiles(g Group) (map[string][]byte, error) {
	name := strings.TrimPrefix(g.Name, "glassrunner.")
	quick, slow := newTestFile(time.Minute), newTestFile(5*time.Minute)
	for _, a := range g.Alerts {
		if len(a.Fires) == 0 || len(a.Silent) == 0 {
			return nil, fmt.Errorf("%s needs a test of firing and one of staying silent", a.Name)
		}
		if (a.For > 0) != (a.TrueAt > 0) {
			return nil, fmt.Errorf("%s needs a test of waiting, or need not wait", a.Name)
		}
		silent := a.Silent
		if a.For > 0 {
			first := a.Fires[0]
			silent = append(slices.Clip(silent), Case{
				Name: first.Name + ", and it has not lasted", Series: first.Series, At: a.TrueAt, Slow: first.Slow,
			})
		}
		for i, c := range slices.Concat(a.Fires, silent) {
			f := quick
			if c.Slow {
				f = slow
			}
			t, err := a.test(c, i < len(a.Fires), f.step)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", a.Name, c.Name, err)
			}
			f.Tests = append(f.Tests, t)
		}
	}
	files := map[string][]byte{}
	for name, f := range map[string]*testFile{name + ".yaml": quick, name + "-slow.yaml": slow} {
		if len(f.Tests) == 0 {
			continue
		}
		text, err := Marshal(f)
		if err != nil {
			return nil, err
		}
		files[name] = text
	}
	return files, nil
}

// newTestFile is an empty file with samples and evaluations one step apart.
func newTestFile(step time.Duration) *testFile {
	return &testFile{RuleFiles: []string{"../rules.yaml", "../alerts.yaml"}, EvaluationInterval: Duration(step), step: step}
}

func (a Alert) test(c Case, fires bool, step time.Duration) (testCase, error) {
	at := testAlert{EvalTime: Duration(c.At), AlertName: a.Name, Alerts: []expected{}}
	verb := "is silent"
	if fires {
		verb = "fires"
		labels := map[string]string{"severity": string(a.Severity)}
		maps.Copy(labels, c.Labels)
		want := expected{Labels: labels, Annotations: map[string]string{"runbook_url": a.Runbook()}}
		for name, text := range map[string]string{"summary": a.Summary, "description": a.Description} {
			said, err := c.expand(text)
			if err != nil {
				return testCase{}, err
			}
			want.Annotations[name] = said
		}
		at.Alerts = append(at.Alerts, want)
	}
	if c.At%step != 0 || c.At == 0 {
		return testCase{}, fmt.Errorf("the time to look must be a multiple of %v", step)
	}
	return testCase{Interval: Duration(step), Name: a.Name + " " + verb + ": " + c.Name, Series: c.Series, Alerts: []testAlert{at}}, nil
}

// expand is what Prometheus will make of an annotation. The value's own
// formatting is not repeated here: the case says what it comes to, and
// promtool compares that with what Prometheus prints.
func (c Case) expand(text string) (string, error) {
	value := func(any) string { return c.Value }
	t, err := template.New("").Option("missingkey=error").Funcs(template.FuncMap{
		"humanize": value, "humanizeDuration": value, "humanizePercentage": value, "humanize1024": value,
		"why": func() string { return c.Why },
	}).Parse("{{ $labels := .Labels }}{{ $value := .Value }}" + text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, map[string]any{"Labels": c.Labels, "Value": c.Value})
	return b.String(), err
}
