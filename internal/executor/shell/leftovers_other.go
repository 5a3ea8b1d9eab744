//go:build !linux

package shell

import (
	"context"

	"github.com/glassrunner/glassrunner/internal/executor"
)

// Leftovers returns the temporary directories of jobs that are over. Processes
// cannot be told from others that got their numbers.
func (d *Driver) Leftovers(_ context.Context, dead []executor.Claim) ([]executor.Leftover, error) {
	var out []executor.Leftover
	for _, c := range dead {
		if info, is := d.o.Places.left(c); is {
			out = append(out, executor.Leftover{Kind: "directory", ID: c.Data[claimTemp], Since: info.ModTime(), Claim: c})
		}
	}
	return out, nil
}
