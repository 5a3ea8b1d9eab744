package cli

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/glassrunner/glassrunner/internal/app"
)

// Root gives tests the commands for a command line.
func Root(w World, args ...string) *cobra.Command {
	return (&command{World: w, args: args, fromEnv: map[string]bool{}}).root()
}

// Actions gives tests what signals make run do, one after another.
func Actions(signals ...os.Signal) []string {
	names := map[action]string{actReload: "reload", actDrain: "drain", actAbort: "abort", actExit: "exit"}
	var h handling
	var out []string
	for _, s := range signals {
		out = append(out, names[h.next(s)])
	}
	return out
}

// SingleOptions gives tests what run-single asks the app for.
func SingleOptions(w World, args ...string) (app.Options, error) {
	c := &command{World: w, args: args, fromEnv: map[string]bool{}}
	root := c.root()
	var o app.Options
	var err error
	cmd, rest, findErr := root.Find(args)
	if findErr != nil {
		return o, findErr
	}
	c.inspect = func(got app.Options) { o = got }
	_ = cmd
	_ = rest
	return o, err
}
