package coordinator_test

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/coordinator"
	"github.com/glassrunner/glassrunner/internal/job"
)

//go:embed testdata/job.json
var sample string

// shownSecrets compares the values of secrets.
var shownSecrets = cmp.Comparer(func(a, b job.Secret) bool { return a.Reveal() == b.Reveal() })

func TestDecodeSample(t *testing.T) {
	got, err := coordinator.DecodeJob([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(got.Secrets) || !strings.Contains(string(got.Secrets), `"kv-v2"`) {
		t.Errorf("secrets: %s", got.Secrets)
	}
	got.Secrets = nil
	const token = "glcbt-64_Zq8pR3vJxN1tYw5LkD2s"
	protected := true
	want := &job.Spec{
		ID: 4711, Token: token, AllowGitFetch: true, Timeout: time.Hour,
		Info: job.Info{
			Name: "unit 1/2", Stage: "test", PipelineID: 990, ProjectID: 17, ProjectName: "web", ProjectFullPath: "acme/web",
			NamespaceID: 5, RootNamespaceID: 5, OrganizationID: 1, UserID: 42, TimeInQueue: 3417 * time.Millisecond,
			ProjectJobsRunningOnInstanceRunners: "0", QueueSize: 2, QueueDepth: 1,
		},
		Git: job.Git{
			RepoURL: "http://gitlab-ci-token:" + token + "@gitlab.example.test/acme/web.git", ObjectFormat: "sha1", Ref: "main",
			SHA: "3f786850e387550fdab836ed7e6dc881de23001b", BeforeSHA: "89e6c98d92887913cadf06b2adb97f26cde4849b", RefType: "branch",
			Refspecs: []string{"+refs/pipelines/990:refs/pipelines/990", "+refs/heads/main:refs/remotes/origin/main"}, Depth: 20,
			Protected: &protected,
		},
		Inputs: []job.Input{
			{Key: "target", Type: "string", Content: "staging"}, {Key: "shards", Type: "number", Content: json.Number("2")},
		},
		Variables: job.Variables{
			{Key: "CI", Value: "true", Public: true}, {Key: "CI_JOB_ID", Value: "4711", Public: true},
			{Key: "CI_JOB_TOKEN", Value: token, Masked: true}, {Key: "CI_SERVER_URL", Value: "http://gitlab.example.test", Public: true},
			{Key: "CI_PROJECT_PATH", Value: "acme/web", Public: true}, {Key: "GREETING", Value: "hello $CI_PROJECT_PATH", Public: true},
			{Key: "LITERAL", Value: "cost is $5", Public: true, Raw: true},
			{Key: "DEPLOY_KEY", Value: "-----BEGIN KEY-----\nabc\n-----END KEY-----", File: true},
			{Key: "API_PASSWORD", Value: "s3cr3t-Passw0rd", Masked: true, Raw: true},
		},
		Steps: []job.Step{
			{Name: "script", Script: []string{`echo "$GREETING"`, "for i in 1 2; do\n  echo shard $i\ndone", "make test TARGET=${{ job.inputs.target }}"}},
			{Name: "after_script", Script: []string{"echo status $CI_JOB_STATUS"}},
		},
		Hooks: []job.Hook{{Name: "pre_get_sources_script", Script: []string{"echo before git"}}},
		Image: job.Image{
			Name: "alpine:3.20", Entrypoint: []string{"/bin/sh", "-c"}, PullPolicy: []string{"if-not-present"},
			Platform: "linux/amd64", User: "1000",
		},
		Services: []job.Image{{
			Name: "postgres:16", Aliases: []string{"db", "postgres"}, Command: []string{"postgres", "-c", "fsync=off"},
			Variables: job.Variables{{Key: "POSTGRES_PASSWORD", Value: "$API_PASSWORD"}},
		}},
		Artifacts: []job.Artifact{
			{
				Name: "web-$CI_JOB_ID", Paths: []string{"dist/", "*.log"}, Exclude: []string{"dist/**/*.map"}, When: "on_success",
				ExpireIn: "1 week", Type: "archive", Format: "zip",
			},
			{Name: "junit.xml", Paths: []string{"report.xml"}, When: "always", ExpireIn: "1 week", Type: "junit", Format: "gzip"},
		},
		Caches: []job.Cache{{
			Key: "gems-0-protected", Policy: "pull-push", Paths: []string{"vendor/"}, When: "on_success", FallbackKeys: []string{"default-0-protected"},
		}},
		Credentials: []job.Credential{{Type: "registry", URL: "registry.example.test", Username: "gitlab-ci-token", Password: token}},
		Dependencies: []job.Dependency{
			{ID: 4700, Name: "build", Token: token, Filename: "artifacts.zip", Size: 106365}, {ID: 4701, Name: "lint", Token: token},
		},
		Features: job.Features{
			TraceSections: true, TokenMaskPrefixes: []string{"glpat-"},
			FailureReasons: []string{
				"unknown_failure", "script_failure", "api_failure", "stuck_or_timeout_failure", "runner_system_failure",
				"missing_dependency_failure", "runner_unsupported", "job_execution_timeout", "trace_size_exceeded",
				"runner_configuration_error", "runner_external_dependency_failure", "runner_interrupted", "job_token_expired",
			},
		},
	}
	if d := cmp.Diff(want, got, shownSecrets); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func job1(more string) string { return `{"id":1,"token":"t"` + more + `}` }

func TestDecodeTolerates(t *testing.T) {
	for name, tt := range map[string]struct {
		in    string
		check func(*job.Spec) any
		want  string
	}{
		"nothing":           {job1(""), func(s *job.Spec) any { return []any{s.Timeout, s.Git.ObjectFormat, s.Steps, s.Unsupported} }, "[2h0m0s sha1 [] []]"},
		"timeout 0":         {job1(`,"runner_info":{"timeout":0}`), func(s *job.Spec) any { return s.Timeout }, "2h0m0s"},
		"timeout negative":  {job1(`,"runner_info":{"timeout":-5}`), func(s *job.Spec) any { return s.Timeout }, "2h0m0s"},
		"timeout text":      {job1(`,"runner_info":{"timeout":"90"}`), func(s *job.Spec) any { return s.Timeout }, "1m30s"},
		"timeout junk":      {job1(`,"runner_info":{"timeout":{}}`), func(s *job.Spec) any { return s.Timeout }, "2h0m0s"},
		"timeout huge":      {job1(`,"runner_info":{"timeout":9223372036854775807}`), func(s *job.Spec) any { return s.Timeout > 1e6*time.Hour }, "true"},
		"runner_info junk":  {job1(`,"runner_info":"x"`), func(s *job.Spec) any { return s.Timeout }, "2h0m0s"},
		"big id":            {`{"id":9007199254740993,"token":"t"}`, func(s *job.Spec) any { return s.ID }, "9007199254740993"},
		"job_info junk":     {job1(`,"job_info":{"name":[1],"project_id":"7","queue_size":1.9,"time_in_queue_seconds":-1,"stage":"x"}`), func(s *job.Spec) any { return s.Info }, "{ x 0 7   0 0 0 0 0s  1 0}"},
		"counts as numbers": {job1(`,"job_info":{"project_jobs_running_on_instance_runners_count":3}`), func(s *job.Spec) any { return s.Info.ProjectJobsRunningOnInstanceRunners }, "3"},
		"variable types":    {job1(`,"variables":[null,{"key":"A","value":1,"public":"true","masked":1},{"value":"lost"},{"key":"B","value":null},{"key":"C","value":true}]`), func(s *job.Spec) any { return s.Variables }, "[{A 1 true true false false false} {B  false false false false false} {C true false false false false false}]"},
		"script as text":    {job1(`,"steps":[null,{"name":"script","script":"one"}]`), func(s *job.Spec) any { return s.Steps }, "[{script [one]}]"},
		"script with null":  {job1(`,"steps":[{"name":"script","script":["a",null,7]}]`), func(s *job.Spec) any { return s.Steps }, "[{script [a 7]}]"},
		"depth":             {job1(`,"git_info":{"depth":-3,"protected":null}`), func(s *job.Spec) any { return []any{s.Git.Depth, s.Git.Protected == nil} }, "[0 true]"},
		"protected false":   {job1(`,"git_info":{"protected":false}`), func(s *job.Spec) any { return *s.Git.Protected }, "false"},
		"user as number":    {job1(`,"image":{"name":"a","executor_opts":{"docker":{"user":1000},"kubernetes":{"user":"1:2"}}}`), func(s *job.Spec) any { return []any{s.Image.User, s.Image.KubernetesUser, s.Unsupported} }, "[1000 1:2 []]"},
		"unknown options":   {job1(`,"image":{"executor_opts":{"docker":{"gpu":1,"user":[]},"zoo":{}}},"services":[{"name":"a"},{"name":"b","executor_opts":{"kubernetes":7}}]`), func(s *job.Spec) any { return s.Unsupported }, "[image.executor_opts.docker.gpu image.executor_opts.docker.user image.executor_opts.zoo services[1].executor_opts.kubernetes]"},
		"entrypoints": {job1(`,"image":{"entrypoint":[""]},"services":[{"name":"a","entrypoint":null,"alias":"x,y z"},{"name":""},null]`), func(s *job.Spec) any {
			return fmt.Sprintf("%q %q", s.Image.Entrypoint, s.Services[0].Aliases) + strconv.Itoa(len(s.Services))
		}, `[""] ["x" "y" "z"]1`},
		"run":                {job1(`,"run":"[{\"name\":\"a\"}]"`), func(s *job.Spec) any { return s.Run + fmt.Sprint(s.Unsupported) }, `[{"name":"a"}][]`},
		"run and script":     {job1(`,"run":"[]","steps":[{"name":"script","script":["x"]}],"variables":[{"key":"STEPS","value":""}]`), func(s *job.Spec) any { return s.Unsupported }, "[run together with a script run together with a variable STEPS]"},
		"run and no script":  {job1(`,"run":"[]","steps":[{"name":"script","script":[]}]`), func(s *job.Spec) any { return s.Unsupported }, "[]"},
		"empty secrets":      {job1(`,"secrets":{}`), func(s *job.Spec) any { return s.Secrets == nil }, "true"},
		"features junk":      {job1(`,"features":{"trace_sections":[],"token_mask_prefixes":7,"failure_reasons":["a"],"tracing":{"trace_id":"x"}}`), func(s *job.Spec) any { return string(s.Features.Tracing) + fmt.Sprint(s.Features.FailureReasons) }, `{"trace_id":"x"}[a]`},
		"policy":             {job1(`,"policy_options":{"execution_policy_job":true,"policy_name":"p","policy_variables_override_allowed":false}`), func(s *job.Spec) any { return []any{s.Policy.ExecutionPolicyJob, *s.Policy.VariablesOverrideAllowed} }, "[true false]"},
		"inputs":             {job1(`,"inputs":[{"key":"a","value":{"type":"struct","content":{"x":[1]},"sensitive":true}},{"key":"b","value":{"type":"array","content":[]}},{"key":"c","value":{"type":"boolean","content":false}}]`), func(s *job.Spec) any { return s.Inputs }, "[{a struct map[x:[1]] true} {b array [] false} {c boolean false false}]"},
		"no artifacts_file":  {job1(`,"dependencies":[{"id":5,"artifacts_file":null},null]`), func(s *job.Spec) any { return s.Dependencies }, "[{5    0}]"},
		"escapes":            {job1(`,"variables":[{"key":"A","value":"\u00e4\n\"é\ud800"}]`), func(s *job.Spec) any { return s.Variables.Value("A") }, "ä\n\"é\ufffd"},
		"unknown everywhere": {job1(`,"new":{"a":[1,2,{"b":null}]},"steps":[{"name":"x","script":["y"],"new":1}]`), func(s *job.Spec) any { return s.Steps }, "[{x [y]}]"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := coordinator.DecodeJob([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(tt.check(s)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// Null is accepted for every field but run, at every depth.
func TestDecodeNullEverywhere(t *testing.T) {
	var tree map[string]any
	if err := json.Unmarshal([]byte(sample), &tree); err != nil {
		t.Fatal(err)
	}
	n := 0
	check := func(path string) {
		n++
		b, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := coordinator.DecodeJob(b); err != nil && path != ".id" && path != ".token" && !strings.HasPrefix(path, ".inputs") {
			t.Errorf("null in %s: %v", path, err)
		}
	}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, old := range v {
				v[k] = nil
				check(path + "." + k)
				v[k] = old
				walk(path+"."+k, old)
			}
		case []any:
			for i, old := range v {
				v[i] = nil
				check(fmt.Sprintf("%s[%d]", path, i))
				v[i] = old
				walk(fmt.Sprintf("%s[%d]", path, i), old)
			}
		}
	}
	walk("", tree)
	if n < 100 {
		t.Errorf("checked %d places only", n)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for in, want := range map[string]string{
		`null`:                                 "id: want a positive number",
		`{"id":-1,"token":"t"}`:                "id: want a positive number",
		`{"id":1e30,"token":"t"}`:              "64 bits",
		`{"id":1}`:                             "token: there is none",
		job1(`,"run":null`):                    "run: want a string, got null",
		job1(`,"run":""`):                      "run: the string holds no JSON",
		job1(`,"run":"nope"`):                  "run: the string holds no JSON",
		job1(`,"run":[]`):                      "run: want a string, got array",
		job1(`,"steps":{}`):                    "steps: want an array, got object",
		job1(`,"steps":[7]`):                   "steps: want an object, got number",
		job1(`,"steps":[{"script":[[1]]}]`):    "steps: want a string, got array",
		job1(`,"variables":[{"key":{}}]`):      "variables: want a string, got object",
		job1(`,"variables":[{"masked":"no!"}`): "invalid character",
		job1(`,"variables":[{"key":"A","masked":"maybe"}]`):                             "variables: want true or false",
		job1(`,"image":"alpine"`):                                                       "image: want an object, got string",
		job1(`,"secrets":[]`):                                                           "secrets: want an object, got array",
		job1(`,"inputs":[{"value":{"type":"string","content":"x"}}]`):                   "inputs: number 1 has no key",
		job1(`,"inputs":[{"key":"a","value":{"type":"string","content":null}}]`):        `inputs: "a": want string, got null`,
		job1(`,"inputs":[{"key":"a","value":{"type":"string"}}]`):                       `inputs: "a": want string, got nothing`,
		job1(`,"inputs":[{"key":"a","value":{"type":"date","content":"x"}}]`):           `inputs: "a" has an unknown type`,
		job1(`,"inputs":[{"key":"a","value":{"type":"number","content":"5"}}]`):         `inputs: "a": want number, got string`,
		job1(`,"inputs":[{"key":"a","value":{"type":"struct","content":[1]}}]`):         `inputs: "a": want object, got array`,
		job1(`,"x":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)):       "depth",
		job1(`,"services":[` + strings.Repeat(`{},`, 200_000) + `{}]`):                  "more than 200000 values",
		job1(`,"git_info":{"repo_url":["https://x:hunter2@h"],"depth":"hunter2 deep"}`): "git_info: want",
	} {
		_, err := coordinator.DecodeJob([]byte(in))
		wantText(t, err, want)
		noSecret(t, err)
	}
}

func FuzzDecodeJob(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte(smallJob))
	f.Add([]byte(job1(`,"run":"[]","image":{"executor_opts":{"docker":{"user":1}}}`)))
	f.Add([]byte(`{"id":"5","token":"x","steps":[`))
	f.Add([]byte(`[[[[{"id":5}]]]]`))
	f.Add([]byte(`{"token":{"id":5},"id":5,"token":"y"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := coordinator.DecodeJob(b)
		id, token, ok := coordinator.Salvage(b)
		if ok && (id <= 0 || token == "") {
			t.Errorf("salvaged %d, %q", id, token.Reveal())
		}
		if err != nil {
			if s != nil {
				t.Error("a job and an error")
			}
			return
		}
		if s.ID <= 0 || s.Token == "" || s.Timeout <= 0 || s.Git.Depth < 0 || s.Info.TimeInQueue < 0 {
			t.Errorf("got %+v", s)
		}
		if s.Secrets != nil && !json.Valid(s.Secrets) || s.Run != "" && !json.Valid([]byte(s.Run)) {
			t.Errorf("got %q, %q", s.Secrets, s.Run)
		}
		for _, v := range s.Variables {
			if v.Key == "" {
				t.Error("a variable without a name")
			}
		}
	})
}

func FuzzHeaders(f *testing.F) {
	f.Add("0-15", "60", "Sun, 01 Mar 2026 12:00:42 GMT", "5", "application/json", `{"message":{"a":["b"]}}`)
	f.Add("-", "-1", "x", "9223372036854775807", "text/plain", "\x1b[2J")
	f.Add("0-99999999999999999999", "1e9", "", "-9223372036854775808", "application/xml", "<Error><Code>a</Code></Error>")
	f.Fuzz(func(t *testing.T, rng, interval, reset, after, ctype, text string) {
		if n := coordinator.Stored(rng); n < 0 {
			t.Errorf("stored: %d", n)
		}
		if d := coordinator.Interval(interval); d < 0 || d > 15*time.Minute {
			t.Errorf("interval: %v", d)
		}
		h := http.Header{"Ratelimit-Resettime": {reset}, "Retry-After": {after}, "Content-Type": {ctype}}
		if d, _ := coordinator.RetryWait(h, time.Now(), len(after)%7+1); d <= 0 || d > coordinator.MaxWait {
			t.Errorf("wait: %v", d)
		}
		_ = coordinator.ErrorText(h, []byte(text))
	})
}

func TestTemplate(t *testing.T) {
	for in, want := range map[string]string{
		"/api/v4/jobs/4711/trace": "/api/v4/jobs/{id}/trace", "/7/api/v4/jobs/request": "/{id}/api/v4/jobs/request", "/a1/12b": "/a1/12b",
	} {
		if got := coordinator.Template(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
