package cli

import (
	"bytes"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/glassrunner/glassrunner/internal/app"
	"github.com/glassrunner/glassrunner/internal/config"
)

//go:generate go run ../../cmd/glassrunner docs configuration --output ../../docs/configuration.md
//go:generate go run ../../cmd/glassrunner docs metrics --output ../../docs/metrics.md

// configurationPreface goes before the tables of config.toml.
const configurationPreface = `# Configuration reference

<!-- Generated from the types. Do not edit: change internal/config and generate it again. -->

The file is ` + "`/etc/gitlab-runner/config.toml`" + ` for root, ` + "`~/.gitlab-runner/config.toml`" + ` for other users, or what
` + "`--config`" + ` names. Keys are those of GitLab Runner. Keys of features that glassrunner does not have yet are
read all the same; ` + "`glassrunner check-config`" + ` names them, as it names unknown keys and wrong values, with
their line. A changed file is in force within three seconds; a file with errors changes nothing.

Durations are written as ` + "`\"90s\"` or `\"1h30m\"`" + `. Flags and variables are those of ` + "`register` and `run-single`" + `.

`

// docs prints references that are made of the code, so that they are true of
// the build that prints them.
func (c *command) docs() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:       "docs configuration|metrics",
		Short:     "Print the reference of the configuration or of the metrics",
		GroupID:   "look",
		Long:      "Print, as Markdown, the reference of config.toml or of all metrics that this build can show.",
		ValidArgs: []string{"configuration", "metrics"},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 && (args[0] == "configuration" || args[0] == "metrics") {
				return nil
			}
			return &usageError{fmt.Errorf("want configuration or metrics, found %q", args)}
		},
		RunE: func(_ *cobra.Command, args []string) error {
			var text bytes.Buffer
			write := config.Markdown
			if args[0] == "metrics" {
				write = app.MetricReference
			} else {
				text.WriteString(configurationPreface)
			}
			if err := write(&text); err != nil {
				return err
			}
			if output != "" {
				return os.WriteFile(output, text.Bytes(), 0o644) //nolint:gosec // A reference is for everybody.
			}
			_, err := c.Out.Write(text.Bytes())
			return err
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to `file` instead of standard output")
	return cmd
}
