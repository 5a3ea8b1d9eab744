package custom

import (
	"context"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

// Usage knows nothing: where jobs live, and what they use there, only the
// operator's programs know. What these use themselves says nothing of it.
func (p *place) Usage(context.Context) (job.Usage, error) { return job.Usage{}, nil }

// Disks are unknown for the same reason.
func (d *Driver) Disks(context.Context) ([]executor.Disk, error) { return nil, nil }

// Leftovers are the operator's programs' to find. What a crash left of a place,
// its claim ends.
func (d *Driver) Leftovers(context.Context, []executor.Claim) ([]executor.Leftover, error) {
	return nil, nil
}
