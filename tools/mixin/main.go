// Command mixin makes the rules, dashboards and rule tests of
// deploy/monitoring, and checks them against what the program can emit.
//
//	mixin generate ROOT
//	mixin check ROOT METRICS
//
// ROOT is the checkout; METRICS a file with the output of `glassrunner metrics
// list --format json`.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mixin:", err)
		os.Exit(1) //nolint:forbidigo // this is a program's main
	}
}

func run(args []string, out io.Writer) error {
	usage := errors.New("usage: mixin generate ROOT | mixin check ROOT METRICS")
	if len(args) < 2 {
		return usage
	}
	root, err := os.OpenRoot(args[1])
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	switch {
	case args[0] == "generate" && len(args) == 2:
		return generate(root)
	case args[0] == "check" && len(args) == 3:
		metrics, err := os.ReadFile(args[2]) //nolint:gosec // the path is the caller's own
		if err != nil {
			return err
		}
		return check(root, metrics, out)
	}
	return usage
}
