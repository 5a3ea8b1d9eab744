package custom_test

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/internal/executor/custom"
)

func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		"", " \n", "{}", "[]", `{"driver":{"name":"a\nb","version":"v1"},"shell":"sh","job_env":{"A":"b"}}`,
		`{"shell":"fish"}`, `{"job_env":{"A=B":"\u0000"}}`, `{"builds_dir_is_shared":null}`, `{"hostname":7}`, "{\"driver\":{\"name\":\"\x1b[0m\"}}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		line, shell, err := custom.Greeting(text)
		if err != nil {
			return
		}
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("%q became the line %q", text, line)
		}
		if !slices.Contains([]string{"", "bash", "sh", "pwsh", "powershell"}, shell) {
			t.Errorf("%q became the shell %q", text, shell)
		}
	})
}

func FuzzExitCode(f *testing.F) {
	for _, s := range []string{"", "1", " 7 \nmore", "-1", "4294967295", "1e3", "0x10", strings.Repeat("9", 100)} {
		f.Add([]byte(s))
	}
	path := filepath.Join(f.TempDir(), "code")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		code, err := custom.ReadCode(path)
		if err == nil && (code < math.MinInt32 || code > math.MaxInt32 || len(strings.TrimSpace(string(text))) == 0) {
			t.Errorf("%q became %d", text, code)
		}
	})
}
