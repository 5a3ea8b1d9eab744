package job_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/internal/job"
)

func TestSecretNeverPrints(t *testing.T) {
	const value = "glcbt-64_very-secret"
	s := struct{ Token job.Secret }{value}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{
		fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q", s, s, s, s, s), s.Token.String(), string(text),
	} {
		if strings.Contains(got, value) {
			t.Errorf("the secret shows in %s", got)
		}
	}
	if got := s.Token.Reveal(); got != value {
		t.Errorf("Reveal: got %q", got)
	}
	if got := job.Secret("").String(); got != "" {
		t.Errorf("no secret prints as %q", got)
	}
}

func TestReasonKnown(t *testing.T) {
	modern := []string{"runner_configuration_error", "runner_interrupted", "runner_external_dependency_failure"}
	for _, tt := range []struct {
		r          job.Reason
		understood []string
		want       job.Reason
	}{
		{job.NoReason, nil, job.ScriptFailure},
		{job.ScriptFailure, nil, job.ScriptFailure},
		{job.SystemFailure, nil, job.SystemFailure},
		{job.ExecutionTimeout, nil, job.ExecutionTimeout},
		{job.ImagePullFailure, modern, job.SystemFailure},
		{job.ImagePullFailure, []string{"image_pull_failure"}, job.ImagePullFailure},
		{job.ConfigurationError, nil, job.ScriptFailure},
		{job.ConfigurationError, modern, job.ConfigurationError},
		{job.ExternalDependency, nil, job.SystemFailure},
		{job.ExternalDependency, modern, job.ExternalDependency},
		{job.Interrupted, nil, job.UnknownFailure},
		{job.Interrupted, modern, job.Interrupted},
		{job.Canceled, modern, job.UnknownFailure},
	} {
		if got := tt.r.Known(tt.understood); got != tt.want {
			t.Errorf("%q for a coordinator that knows %v: got %q, want %q", tt.r, tt.understood, got, tt.want)
		}
	}
}

func TestExpand(t *testing.T) {
	vs := job.Variables{
		{Key: "A", Value: "first"},
		{Key: "A", Value: "a"},
		{Key: "B", Value: "$A-${A}"},
		{Key: "C", Value: "$B", Raw: true},
		{Key: "D", Value: "$C and $B"},
		{Key: "F", Value: "content", File: true},
		{Key: "_x9", Value: "x"},
	}
	path := func(key string) string { return "/tmp/" + key }
	for _, tt := range []struct{ text, want string }{
		{"", ""},
		{"plain", "plain"},
		{"$A", "a"},
		{"${A}b$A.", "aba."},
		{"$AA|$A_|${A", "||${A"},
		{"$$A $$", "$A $"},
		{"[$*$#$@$!$?$0$9]", "[]"},
		{"$unknown.", "."},
		{"$F", "/tmp/F"},
		{"$_x9", "x"},
		{"cost: 5$", "cost: 5$"},
		{"$ A", "$ A"},
		{"${}", ""},
	} {
		if got := vs.Expand(tt.text, path); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
		}
	}
	out := vs.Expanded(path)
	for key, want := range map[string]string{"A": "a", "B": "a-a", "C": "$B", "D": "$B and $A-${A}", "F": "content"} {
		if got := out.Value(key); got != want {
			t.Errorf("expanded %s: got %q, want %q", key, got, want)
		}
	}
	if vs[2].Value != "$A-${A}" {
		t.Error("Expanded changed its receiver")
	}
}

func TestBool(t *testing.T) {
	vs := job.Variables{{Key: "T", Value: "true"}, {Key: "Z", Value: "0"}, {Key: "X", Value: "maybe"}, {Key: "E"}}
	for _, tt := range []struct {
		key       string
		def       bool
		want, wok bool
	}{
		{"T", false, true, true}, {"Z", true, false, true}, {"X", true, true, false}, {"E", true, true, true}, {"none", true, true, true},
	} {
		if got, ok := vs.Bool(tt.key, tt.def); got != tt.want || ok != tt.wok {
			t.Errorf("%s: got %v, %v; want %v, %v", tt.key, got, ok, tt.want, tt.wok)
		}
	}
}

func FuzzExpand(f *testing.F) {
	for _, s := range []string{"$A", "${A", "$$$", "${A}${B}$C$", "$\x00", "${${A}}"} {
		f.Add(s)
	}
	vs := job.Variables{{Key: "A", Value: "value"}, {Key: "B", Value: "$A"}}
	f.Fuzz(func(t *testing.T, text string) {
		got := vs.Expand(text, nil)
		if !strings.Contains(text, "$") && got != text {
			t.Errorf("%q became %q", text, got)
		}
		if limit := 5 * len(text); len(got) > limit {
			t.Errorf("%d bytes became %d", len(text), len(got))
		}
	})
}
