package custom

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

// meter adds up what the programs of a job have used, with those of their
// children that were waited for.
type meter struct {
	mu  sync.Mutex
	cpu time.Duration
}

func (m *meter) add(s *os.ProcessState) {
	if s == nil { // it could not be waited for
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cpu += s.UserTime() + s.SystemTime()
}

// Usage returns the processor time of the programs that have ended. What they
// have others do, another machine or a daemon, is not seen.
func (p *place) Usage(context.Context) (job.Usage, error) {
	p.meter.mu.Lock()
	defer p.meter.mu.Unlock()
	return job.Usage{CPU: job.KnownTime(p.meter.cpu)}, nil
}

// Disks returns none: where jobs live is the programs' own affair.
func (d *Driver) Disks(context.Context) ([]executor.Disk, error) { return nil, nil }

// Leftovers returns the temporary directories that places of dead jobs still
// have. What a place consists of beside that only its programs know; they
// remove it when the claim is reaped.
func (d *Driver) Leftovers(_ context.Context, dead []executor.Claim) ([]executor.Leftover, error) {
	var found []executor.Leftover
	var errs []error
	seen := map[string]bool{}
	for _, c := range dead {
		if c.Kind != placeClaim || seen[c.ID] {
			continue
		}
		seen[c.ID] = true
		info, err := os.Stat(c.ID)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found = append(found, executor.Leftover{Kind: "directory", ID: c.ID, Since: info.ModTime(), Claim: c})
	}
	return found, errors.Join(errs...)
}
