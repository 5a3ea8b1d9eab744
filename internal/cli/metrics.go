package cli

import (
	"bytes"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/glassrunner/glassrunner/internal/app"
)

// metrics prints what /metrics will show, without a running process.
func (c *command) metrics() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "metrics",
		Short:   "List the metrics of this build, or count the series of a configuration",
		GroupID: "look",
		Long: `Print what the monitoring server can show, without starting anything: the
contract of every metric, or the number of series that a configuration has.`,
	}
	cmd.AddCommand(c.metricsList(), c.metricsSimulate())
	return cmd
}

func (c *command) metricsList() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List every metric with type, unit, labels and stability",
		Long: `List every metric that this build can show. The JSON format also has the help,
the values that each label can have (null: they come from outside) and the
buckets of histograms; rules and dashboards can be checked against it.`,
		Example: `  glassrunner metrics list
  glassrunner metrics list --format json | jq -r '.[].name'`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			return c.formatted(format, app.MetricList)
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "`format` of the list: text, json")
	return cmd
}

func (c *command) metricsSimulate() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Count the series that a configuration will have",
		Long: `Read the configuration and print how many time series each metric has when the
process has just started, and how many it can have at most.`,
		Example: "  glassrunner metrics simulate --config config.toml",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			return c.formatted(format, func(w io.Writer, format string) error {
				return app.MetricSimulation(w, c.configPath, format)
			})
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "`format` of the counts: text, json")
	return cmd
}

// formatted prints what write writes, if that is without error.
func (c *command) formatted(format string, write func(io.Writer, string) error) error {
	if format != "text" && format != "json" {
		return &usageError{fmt.Errorf("--format: want text or json, found %q", format)}
	}
	var text bytes.Buffer
	if err := write(&text, format); err != nil {
		return err
	}
	_, err := c.Out.Write(text.Bytes())
	return err
}
