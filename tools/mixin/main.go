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
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mixin:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "generate":
		return generate(args[1])
	case len(args) == 3 && args[0] == "check":
		return check(args[1], args[2])
	}
	return errors.New("usage: mixin generate ROOT | mixin check ROOT METRICS")
}
