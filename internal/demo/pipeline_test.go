package demo_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/demo"
)

func load(t *testing.T, text string) (*demo.Pipeline, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), ".gitlab-ci.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return demo.Load(path)
}

func TestLoad(t *testing.T) {
	got, err := load(t, `
stages: [one, two, unused]
variables:
  GLOBAL: g
default:
  before_script: echo before
  timeout: 1h 30m
.hidden:
  nonsense: true
second:
  stage: two
  before_script: []
  script: |
    multi
    line
  timeout: 90
  allow_failure: true
first:
  stage: one
  variables: {OWN: 1}
  script:
    - a
    - [b, c]
  after_script: [z]
`)
	if err != nil {
		t.Fatal(err)
	}
	global := demo.Variable{Key: "GLOBAL", Value: "g"}
	want := &demo.Pipeline{Stages: [][]demo.Job{
		{{
			Name: "first", Stage: "one", Script: []string{"echo before", "a", "b", "c"}, AfterScript: []string{"z"},
			Variables: []demo.Variable{global, {Key: "OWN", Value: "1"}}, Timeout: 90 * time.Minute,
		}},
		{{
			Name: "second", Stage: "two", Script: []string{"multi\nline\n"},
			Variables: []demo.Variable{global}, Timeout: 90 * time.Second, AllowFailure: true,
		}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pipeline (-want +got):\n%s", diff)
	}
}

func TestLoadRefusesByName(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"keyword of a job", "a:\n  script: x\n  needs: [b]\n", `.gitlab-ci.yml:3: job "a": the demo does not know "needs"`},
		{"global keyword", "include: x.yml\na: {script: x}\n", `:1: the demo does not know "include"`},
		{"default keyword", "default: {image: x}\na: {script: x}\n", `the demo does not know "image"`},
		{"no script", "a: {stage: test}\n", `job "a" has no script`},
		{"unknown stage", "a: {stage: moon, script: x}\n", `job "a": there is no stage "moon"`},
		{"timeout", "a: {script: x, timeout: soon}\n", `"soon" is no time`},
		{"switch", "a: {script: x, allow_failure: perhaps}\n", `want true or false, found "perhaps"`},
		{"job is no table", "a: 1\n", "want keys and values"},
		{"empty", "", "there are no jobs in it"},
		{"no job", "stages: [a]\n", "there are no jobs in it"},
		{"no YAML", "a: [", "yaml"},
		{"a job twice", "a: {script: x}\nb: {script: x}\na: {script: y}\n", `:3: job "a": given twice, first on line 1`},
		{"described variable", "variables:\n  A: {value: x, description: y}\na: {script: x}\n", `:2: variable "A": the demo knows`},
		{"endless list", "a: {script: &x [*x]}", "nested more than 10 deep"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t, tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestSample(t *testing.T) {
	p, err := demo.Sample()
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Stages) != 3 {
		t.Errorf("got %d stages", len(p.Stages))
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("a: {script: x, timeout: 1h 2m}")
	f.Add("stages: [a]\na: &x {script: [y]}\nb: *x")
	f.Add("a: &a [*a]")
	f.Add("a: {script: &x [*x]}")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(dir, "ci.yml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := demo.Load(path)
		if err != nil {
			return
		}
		for _, stage := range p.Stages {
			for _, j := range stage {
				if len(j.Script) == 0 || j.Timeout <= 0 {
					t.Errorf("%q: %+v", text, j)
				}
			}
		}
	})
}
