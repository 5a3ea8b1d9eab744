// Command glassrunner runs CI jobs of a GitLab server and lets its operator
// see everything that happens.
package main

import (
	"os"
	_ "time/tzdata" // for timezone keys on machines without a time zone database

	"github.com/glassrunner/glassrunner/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], cli.System()))
}
