package custom

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glassrunner/glassrunner/internal/job"
)

// The exit codes by which programs tell whose failure it is.
const (
	buildFailure  = 1
	systemFailure = 2
)

// mark is the variable by which a job's programs are known.
func mark(dir string) string { return "JOB_RESPONSE_FILE=" + filepath.Join(dir, payloadFile) }

// base is the environment that names the job's files and the exit codes.
func base(dir string) []string {
	return []string{
		"TMPDIR=" + dir,
		"BUILD_FAILURE_EXIT_CODE=1",
		"SYSTEM_FAILURE_EXIT_CODE=2",
		"BUILD_EXIT_CODE_FILE=" + filepath.Join(dir, exitCodeFile),
		mark(dir),
	}
}

// environ is what a program's environment has beyond the runner's own. A job
// can say what follows the prefix, and no more.
func environ(dir string, jobEnv map[string]string, vs job.Variables, services []job.Image) []string {
	env := base(dir)
	for _, k := range slices.Sorted(maps.Keys(jobEnv)) {
		env = append(env, k+"="+jobEnv[k])
	}
	for _, v := range vs {
		if !strings.ContainsAny(v.Key, "=\x00") {
			env = append(env, "CUSTOM_ENV_"+v.Key+"="+strings.ReplaceAll(v.Value, "\x00", ""))
		}
	}
	return append(env, "CUSTOM_ENV_CI_JOB_SERVICES="+describe(services, vs))
}

// describe gives the services as JSON, "" when there are none.
func describe(services []job.Image, vs job.Variables) string {
	type variable struct {
		Key    string `json:"key"`
		Value  string `json:"value"`
		Public bool   `json:"public,omitempty"`
		File   bool   `json:"file,omitempty"`
		Masked bool   `json:"masked,omitempty"`
		Raw    bool   `json:"raw,omitempty"`
	}
	type service struct {
		Name       string     `json:"name"`
		Alias      string     `json:"alias"`
		Entrypoint []string   `json:"entrypoint"` // null when there is none
		Command    []string   `json:"command"`
		Variables  []variable `json:"variables,omitempty"`
	}
	if len(services) == 0 {
		return ""
	}
	list := make([]service, len(services))
	for i, s := range services {
		list[i] = service{Name: vs.Expand(s.Name, nil), Entrypoint: s.Entrypoint, Command: s.Command}
		if len(s.Aliases) > 0 {
			list[i].Alias = vs.Expand(s.Aliases[0], nil)
		}
		for _, v := range s.Variables {
			w := variable{Key: v.Key, Value: v.Value, Public: v.Public, File: v.File, Masked: v.Masked, Raw: v.Raw}
			if !v.Raw {
				w.Value = vs.Expand(v.Value, nil)
			}
			list[i].Variables = append(list[i].Variables, w)
		}
	}
	text, err := json.Marshal(list)
	if err != nil { // strings always can be
		return ""
	}
	return strings.ReplaceAll(string(text), "\x00", "")
}

// largest names the variable that takes most of an environment.
func largest(env []string) (name string, bytes int) {
	for _, e := range env {
		if len(e) > bytes {
			name, _, _ = strings.Cut(e, "=")
			bytes = len(e)
		}
	}
	return name, bytes
}
