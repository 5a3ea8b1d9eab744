package demo

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

//go:embed sample.gitlab-ci.yml
var sample []byte

// Pipeline is what a .gitlab-ci.yml asks for, as far as the demo knows it.
type Pipeline struct {
	Stages [][]Job // in order, never empty
}

// Job is one job of a Pipeline.
type Job struct {
	Name, Stage         string
	Script, AfterScript []string
	Variables           []Variable
	Timeout             time.Duration
	AllowFailure        bool
}

// Variable is one variable of a Job.
type Variable struct{ Key, Value string }

// defaultTimeout is what a job without a timeout gets.
const defaultTimeout = time.Hour

// Sample is the built-in pipeline.
func Sample() (*Pipeline, error) { return parse("sample.gitlab-ci.yml", sample) }

// Load reads a pipeline from a .gitlab-ci.yml with stages, variables and jobs
// of script, before_script, after_script, stage, variables, timeout and
// allow_failure. Any other keyword is an error that names it.
func Load(path string) (*Pipeline, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parse(path, text)
}

// reader collects everything that is wrong with a file.
type reader struct {
	file   string
	errors []error
}

func (r *reader) fail(n *yaml.Node, format string, args ...any) {
	r.errors = append(r.errors, fmt.Errorf("%s:%d: %s", r.file, n.Line, fmt.Sprintf(format, args...)))
}

// global are the settings outside jobs.
type global struct {
	stages        []string
	variables     []Variable
	before, after []string
	timeout       time.Duration
}

func parse(file string, text []byte) (*Pipeline, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	r := &reader{file: file}
	if len(doc.Content) == 0 {
		return nil, fmt.Errorf("%s: there are no jobs in it", file)
	}
	g := global{stages: []string{"build", "test", "deploy"}, timeout: defaultTimeout}
	jobs := map[string]*yaml.Node{}
	var names []string
	r.pairs(doc.Content[0], func(key, value *yaml.Node) {
		switch key.Value {
		case "stages":
			g.stages = r.list(value)
		case "variables":
			g.variables = r.variables(value)
		case "before_script":
			g.before = r.list(value)
		case "after_script":
			g.after = r.list(value)
		case "default":
			r.defaults(value, &g)
		case "include", "workflow", "image", "services", "cache", "pages", "spec":
			r.fail(key, "the demo does not know %q", key.Value)
		default:
			if !strings.HasPrefix(key.Value, ".") {
				if jobs[key.Value] != nil {
					r.fail(key, "job %q: given twice, first on line %d", key.Value, jobs[key.Value].Line)
					return
				}
				jobs[key.Value] = value
				names = append(names, key.Value)
			}
		}
	})
	p := &Pipeline{}
	byStage := map[string][]Job{}
	for _, name := range names {
		j := r.job(name, jobs[name], g)
		if !slices.Contains(g.stages, j.Stage) {
			r.fail(jobs[name], "job %q: there is no stage %q", name, j.Stage)
		}
		byStage[j.Stage] = append(byStage[j.Stage], j)
	}
	for _, s := range g.stages {
		if len(byStage[s]) > 0 {
			p.Stages = append(p.Stages, byStage[s])
		}
	}
	if len(p.Stages) == 0 && len(r.errors) == 0 {
		return nil, fmt.Errorf("%s: there are no jobs in it", file)
	}
	return p, errors.Join(r.errors...)
}

// pairs calls f for each key of a mapping.
func (r *reader) pairs(n *yaml.Node, f func(key, value *yaml.Node)) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		r.fail(n, "want keys and values")
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		f(n.Content[i], n.Content[i+1])
	}
}

func (r *reader) defaults(n *yaml.Node, g *global) {
	r.pairs(n, func(key, value *yaml.Node) {
		switch key.Value {
		case "before_script":
			g.before = r.list(value)
		case "after_script":
			g.after = r.list(value)
		case "timeout":
			g.timeout = r.timeout(value)
		default:
			r.fail(key, "default: the demo does not know %q", key.Value)
		}
	})
}

func (r *reader) job(name string, n *yaml.Node, g global) Job {
	j := Job{Name: name, Stage: "test", Variables: slices.Clone(g.variables), AfterScript: g.after, Timeout: g.timeout}
	before := g.before
	r.pairs(n, func(key, value *yaml.Node) {
		switch key.Value {
		case "stage":
			j.Stage = r.text(value)
		case "script":
			j.Script = r.list(value)
		case "before_script":
			before = r.list(value)
		case "after_script":
			j.AfterScript = r.list(value)
		case "variables":
			j.Variables = append(j.Variables, r.variables(value)...)
		case "timeout":
			j.Timeout = r.timeout(value)
		case "allow_failure":
			j.AllowFailure = r.truth(value)
		default:
			r.fail(key, "job %q: the demo does not know %q", name, key.Value)
		}
	})
	if len(j.Script) == 0 {
		r.fail(n, "job %q has no script", name)
	}
	j.Script = append(slices.Clone(before), j.Script...)
	return j
}

func (r *reader) text(n *yaml.Node) string {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.ScalarNode {
		r.fail(n, "want a single value")
		return ""
	}
	return n.Value
}

func (r *reader) truth(n *yaml.Node) bool {
	b, err := strconv.ParseBool(r.text(n))
	if err != nil {
		r.fail(n, "want true or false, found %q", n.Value)
	}
	return b
}

// nesting is how deep lists may be nested in GitLab.
const nesting = 10

// list reads a string or a list of strings, nested as GitLab allows.
func (r *reader) list(n *yaml.Node) []string { return r.nested(n, nesting) }

func (r *reader) nested(n *yaml.Node, deeper int) []string {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.SequenceNode {
		return []string{r.text(n)}
	}
	if deeper == 0 {
		r.fail(n, "lists are nested more than %d deep", nesting)
		return nil
	}
	var out []string
	for _, e := range n.Content {
		out = append(out, r.nested(e, deeper-1)...)
	}
	return out
}

func (r *reader) variables(n *yaml.Node) []Variable {
	var out []Variable
	r.pairs(n, func(key, value *yaml.Node) {
		if value.Kind == yaml.MappingNode {
			r.fail(key, "variable %q: the demo knows variables with a single value only", key.Value)
			return
		}
		out = append(out, Variable{key.Value, r.text(value)})
	})
	return out
}

// timeout reads "90", "1m 30s", "3 hours 30 minutes".
func (r *reader) timeout(n *yaml.Node) time.Duration {
	d, err := parseTimeout(r.text(n))
	if err != nil {
		r.fail(n, "timeout: %v", err)
	}
	return d
}

// unit is the length of a unit of time, in GitLab's words.
func unit(word string) (time.Duration, bool) {
	switch word {
	case "", "s", "sec", "secs", "second", "seconds":
		return time.Second, true
	case "m", "min", "mins", "minute", "minutes":
		return time.Minute, true
	case "h", "hr", "hrs", "hour", "hours":
		return time.Hour, true
	case "d", "day", "days":
		return 24 * time.Hour, true
	}
	return 0, false
}

func parseTimeout(text string) (time.Duration, error) {
	bad := fmt.Errorf("%q is no time such as \"90 seconds\" or \"1h 30m\"", text)
	var total time.Duration
	rest := strings.TrimSpace(text)
	for rest != "" {
		digits := strings.IndexFunc(rest, func(c rune) bool { return c < '0' || c > '9' })
		if digits < 0 {
			digits = len(rest)
		}
		count, err := strconv.ParseInt(rest[:digits], 10, 32)
		if err != nil {
			return 0, bad
		}
		rest = strings.TrimSpace(rest[digits:])
		letters := strings.IndexFunc(rest, func(c rune) bool { return c < 'a' || c > 'z' })
		if letters < 0 {
			letters = len(rest)
		}
		length, ok := unit(rest[:letters])
		if !ok {
			return 0, bad
		}
		total += time.Duration(count) * length
		rest = strings.TrimSpace(rest[letters:])
	}
	if total <= 0 {
		return 0, bad
	}
	return total, nil
}
