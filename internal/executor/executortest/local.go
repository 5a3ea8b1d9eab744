package executortest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/script"
)

// What a Harness of a driver whose jobs are processes of this machine needs.

// Environ is an environment without the profile of whoever runs the tests.
func Environ(home string) []string {
	return []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}
}

// Wrap makes of commands what a build gives to a driver: Harness.Script.
func Wrap(r executor.Request, body string) []byte {
	return script.Wrap(&script.Job{Spec: r.Spec, Shell: r.Shell, Variables: r.Variables}, []byte(body+"\n"))
}

// Alive counts the processes whose command line holds a word: Harness.Alive.
// Those that have ended have none.
func Alive(t *testing.T, word string) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(files) == 0 {
		t.Skip("there is no /proc to look for processes")
	}
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && bytes.Contains(text, []byte(word)) {
			n++
		}
	}
	return n
}
