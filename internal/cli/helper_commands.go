package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/glassrunner/glassrunner/internal/helper"
)

// helperCommands are what scripts of jobs call when they run on the runner's
// own machine. They print for the job's log, and failures there.
func (c *command) helperCommands() []*cobra.Command {
	w := helper.System()
	w.Out, w.Getenv = c.Out, c.Getenv
	list := helper.Commands(w)
	for _, cmd := range list {
		run := cmd.RunE
		// The runner's own settings and their variables are none of a job's business.
		cmd.PersistentPreRunE = func(*cobra.Command, []string) error { return nil }
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if err := run(cmd, args); !errors.Is(err, helper.ErrTold) {
				return err
			}
			return errTold
		}
	}
	return list
}
