//go:build !linux

package shell

import (
	"os"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
)

// meter adds up what the system says with the end of each shell: the time of
// the shell and, on Unix, of those of its descendants that were waited for.
type meter struct {
	mu  sync.Mutex
	cpu time.Duration
}

func (m *meter) done(s *os.ProcessState) {
	if s == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cpu += s.UserTime() + s.SystemTime()
}

func (t *tree) usage() job.Usage {
	t.meter.mu.Lock()
	defer t.meter.mu.Unlock()
	return job.Usage{CPU: job.KnownTime(t.meter.cpu)}
}
