package custom

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/glassrunner/glassrunner/internal/executor"
)

// maxAnswer bounds what config_exec may print, in bytes.
const maxAnswer = 1 << 20

// answer is what config_exec prints: JSON, each key of it optional.
type answer struct {
	Driver struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	} `json:"driver"`
	Hostname          string            `json:"hostname"`
	BuildsDir         string            `json:"builds_dir"`
	CacheDir          string            `json:"cache_dir"`
	BuildsDirIsShared *bool             `json:"builds_dir_is_shared"`
	JobEnv            map[string]string `json:"job_env"`
	Shell             string            `json:"shell"`
}

// parseAnswer reads what config_exec printed, which may be nothing.
func parseAnswer(text []byte) (answer, error) {
	var a answer
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return a, nil
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("want JSON: %w", err)
	}
	for k, v := range a.JobEnv {
		if k == "" || strings.ContainsAny(k, "=\x00") || strings.IndexByte(v, 0) >= 0 {
			return a, fmt.Errorf("job_env: %q cannot be an environment variable", k)
		}
	}
	if a.Shell != "" && !slices.Contains([]string{"bash", "sh", "pwsh", "powershell"}, a.Shell) {
		return a, fmt.Errorf("shell: want bash, sh, pwsh or powershell, found %q", a.Shell)
	}
	for _, s := range []*string{&a.Driver.Name, &a.Driver.Version, &a.Hostname} {
		*s = strings.Join(strings.Fields(strings.Map(printable, *s)), " ") // they become part of lines of the log
	}
	return a, nil
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}

func (a *answer) layout() executor.Layout {
	return executor.Layout{BuildsDir: a.BuildsDir, CacheDir: a.CacheDir, SharedBuilds: a.BuildsDirIsShared, Shell: a.Shell}
}

// greeting is the line of the job log that names the driver.
func (a *answer) greeting() string {
	if a.Driver.Name == "" && a.Driver.Version == "" {
		return "Using Custom executor..."
	}
	return "Using Custom executor with driver " + strings.TrimSpace(a.Driver.Name+" "+a.Driver.Version) + "..."
}

// bounded keeps what is written to it, up to a limit.
type bounded struct {
	bytes.Buffer
	over bool
}

var errTooLong = errors.New("printed more than 1 MiB")

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxAnswer {
		b.over = true
		return len(p), nil // what goes on to print would fail on its own
	}
	return b.Buffer.Write(p)
}
