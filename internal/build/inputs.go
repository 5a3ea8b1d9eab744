package build

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/glassrunner/glassrunner/internal/job"
)

// inputError says why an expression could not be replaced. Kind is the
// error_type label of gitlab_runner_job_inputs_interpolation_failures_total.
type inputError struct{ kind, text string }

func (e *inputError) Error() string { return "failed to interpolate job inputs: " + e.text }

// The kinds of inputError.
const (
	inputParse     = "parse"
	inputEvaluate  = "evaluation"
	inputSensitive = "sensitive_unsupported"
)

var inputName = regexp.MustCompile(`^job\.inputs\.([A-Za-z_][A-Za-z0-9_-]*)$`)

// interpolate returns a copy of s in which ${{ job.inputs.NAME }} stands
// replaced in every field that GitLab documents for it, and the number of
// fields that changed. A job without inputs is returned as it is.
func interpolate(s *job.Spec) (*job.Spec, int, error) {
	if len(s.Inputs) == 0 {
		return s, 0, nil
	}
	in := &inputs{values: make(map[string]job.Input, len(s.Inputs))}
	for _, i := range s.Inputs {
		in.values[i.Key] = i
	}
	out := *s
	out.Steps = slices.Clone(s.Steps)
	for i := range out.Steps {
		if n := out.Steps[i].Name; n == "script" || n == "after_script" {
			out.Steps[i].Script = in.all(out.Steps[i].Script)
		}
	}
	in.image(&out.Image)
	out.Services = slices.Clone(s.Services)
	for i := range out.Services {
		in.image(&out.Services[i])
	}
	out.Artifacts = slices.Clone(s.Artifacts)
	for i := range out.Artifacts {
		a := &out.Artifacts[i]
		a.Name, a.When, a.ExpireIn = in.one(a.Name), in.one(a.When), in.one(a.ExpireIn)
		a.Paths, a.Exclude = in.all(a.Paths), in.all(a.Exclude)
	}
	out.Caches = slices.Clone(s.Caches)
	for i := range out.Caches {
		c := &out.Caches[i]
		c.Key, c.Policy, c.When = in.one(c.Key), in.one(c.Policy), in.one(c.When)
		c.Paths, c.FallbackKeys = in.all(c.Paths), in.all(c.FallbackKeys)
	}
	if in.err != nil {
		return nil, 0, in.err
	}
	return &out, in.fields, nil
}

// inputs replaces expressions until the first error.
type inputs struct {
	values map[string]job.Input
	fields int
	err    error
}

func (in *inputs) image(i *job.Image) {
	i.Name, i.Platform, i.User, i.KubernetesUser = in.one(i.Name), in.one(i.Platform), in.one(i.User), in.one(i.KubernetesUser)
	i.Entrypoint, i.Command, i.PullPolicy = in.all(i.Entrypoint), in.all(i.Command), in.all(i.PullPolicy)
}

func (in *inputs) all(texts []string) []string {
	out := slices.Clone(texts)
	for i := range out {
		out[i] = in.one(out[i])
	}
	return out
}

func (in *inputs) one(text string) string {
	if in.err != nil || !strings.Contains(text, "${{") {
		return text
	}
	var b strings.Builder
	rest := text
	for {
		before, after, found := strings.Cut(rest, "${{")
		b.WriteString(before)
		if !found {
			in.fields++
			return b.String()
		}
		expr, tail, closed := strings.Cut(after, "}}")
		if !closed {
			in.err = &inputError{inputParse, fmt.Sprintf("no }} after ${{%.40s", after)}
			return text
		}
		v, err := in.value(strings.TrimSpace(expr))
		if err != nil {
			in.err = err
			return text
		}
		b.WriteString(v)
		rest = tail
	}
}

func (in *inputs) value(expr string) (string, error) {
	m := inputName.FindStringSubmatch(expr)
	if m == nil {
		return "", &inputError{inputParse, fmt.Sprintf("%q is not of the form job.inputs.NAME", expr)}
	}
	i, ok := in.values[m[1]]
	switch {
	case !ok:
		return "", &inputError{inputEvaluate, fmt.Sprintf("the job has no input %q", m[1])}
	case i.Sensitive:
		return "", &inputError{inputSensitive, fmt.Sprintf("input %q is sensitive", m[1])}
	}
	if s, ok := i.Content.(string); ok {
		return s, nil
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(i.Content); err != nil {
		return "", &inputError{inputEvaluate, fmt.Sprintf("input %q: %v", m[1], err)}
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}
