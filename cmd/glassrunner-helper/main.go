// Command glassrunner-helper moves artifacts and caches inside of job
// environments that do not have the runner's own binary.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/glassrunner/glassrunner/internal/helper"
	"github.com/glassrunner/glassrunner/internal/version"
)

func main() { os.Exit(run()) }

func run() int {
	root := &cobra.Command{
		Use: "glassrunner-helper", Short: "Moves artifacts and caches of CI jobs",
		Version: version.Get().Version, SilenceErrors: true, SilenceUsage: true,
	}
	root.AddCommand(helper.Commands(helper.System())...)
	err := root.ExecuteContext(context.Background())
	switch {
	case err == nil:
		return 0
	case !errors.Is(err, helper.ErrTold):
		fmt.Fprintln(os.Stderr, "glassrunner-helper: "+err.Error())
	}
	return 1
}
