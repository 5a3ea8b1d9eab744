package shell

import (
	"fmt"
	"os"

	"github.com/glassrunner/glassrunner/internal/executor"
)

// result is what a script's end means.
func result(s *os.ProcessState) error {
	if s.Success() {
		return nil
	}
	if sig := signalOf(s); sig > 0 {
		return &executor.ExitError{Code: 128 + sig, Text: s.String()}
	}
	// As signed 32 bits, whatever the system counts in.
	code := int(int32(s.ExitCode()))
	return &executor.ExitError{Code: code, Text: fmt.Sprintf("exit status %d", code)}
}
