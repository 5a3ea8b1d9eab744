package executor

import (
	"fmt"
	"io"
	"sync"

	"github.com/glassrunner/glassrunner/internal/job"
)

// What several drivers need of the same kind stands here: drivers never import
// one another.

// Misconfigured makes an Error of the configuration or of the job, which no
// retry helps against.
func Misconfigured(format string, args ...any) error {
	return &Error{Reason: job.ConfigurationError, Err: fmt.Errorf(format, args...)}
}

// SameWriter reports whether two writers are one, so that two streams need not
// be kept apart.
func SameWriter(a, b io.Writer) (same bool) {
	defer func() {
		if recover() != nil { // a type that cannot be compared
			same = false
		}
	}()
	return a != nil && a == b
}

// Tail is a writer that keeps the last Limit bytes. Its methods may be called at
// the same time.
type Tail struct {
	Limit int

	mu sync.Mutex
	b  []byte
}

// Write never fails.
func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if over := len(t.b) - t.Limit; over > 0 {
		t.b = t.b[over:]
	}
	return len(p), nil
}

// String returns what was kept.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
