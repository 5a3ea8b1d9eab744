package cli

import (
	"bytes"
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/glassrunner/glassrunner/internal/app"
)

// Root gives tests the commands for a command line.
func Root(w World, args ...string) *cobra.Command {
	return (&command{World: w, args: args, fromEnv: map[string]bool{}}).root()
}

// Actions gives tests what signals make run do that come with gap between them.
func Actions(gap time.Duration, signals ...os.Signal) []string {
	names := map[action]string{actReload: "reload", actDrain: "drain", actAbort: "abort", actExit: "exit", actNothing: "nothing"}
	var h handling
	var out []string
	for i, s := range signals {
		out = append(out, names[h.next(s, time.Unix(1, 0).Add(time.Duration(i)*gap))])
	}
	return out
}

// Served returns what a command line would start, its exit code and what it
// printed as errors.
func Served(getenv func(string) string, args ...string) (o app.Options, code int, stderr string) {
	var out, errs bytes.Buffer
	c := &command{
		World: World{In: &bytes.Buffer{}, Out: &out, Err: &errs, Getenv: getenv}, args: args, fromEnv: map[string]bool{},
		serving: func(_ context.Context, got app.Options, _ string) error {
			o = got
			return nil
		},
	}
	code = c.main()
	return o, code, errs.String()
}

// Share is how many processors a runner uses of some.
func Share(processors int) int { return share(processors) }
