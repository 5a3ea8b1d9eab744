package custom

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

// Usage knows nothing: where jobs live, and what they use there, only the
// operator's programs know. What these use themselves says nothing of it.
func (p *place) Usage(context.Context) (job.Usage, error) { return job.Usage{}, nil }

// Disks are unknown for the same reason.
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
