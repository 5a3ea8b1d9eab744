package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/version"
)

// load reads the configuration for a command that needs it to be right.
func (c *command) load() (*config.Config, error) {
	cfg, report, err := config.Load(c.configPath, config.Options{})
	if err != nil {
		return nil, err
	}
	if report.Missing {
		fmt.Fprintf(c.Err, "There is no %s: no runner is configured. 'glassrunner register' makes one.\n", c.configPath)
	}
	return cfg, nil
}

func (c *command) list() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the configured runners",
		GroupID: "look",
		Long:    "List the [[runners]] entries of the configuration. Tokens are shown in their short form only.",
		RunE: func(*cobra.Command, []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			c.log.Info("Listing configured runners", "ConfigFile", cfg.Path)
			for i := range cfg.Runners {
				r := &cfg.Runners[i]
				c.log.Info(r.Name, "Executor", r.Executor, "Token", r.ShortToken(), "URL", shownURL(r.URL))
			}
			return nil
		},
	}
}

func (c *command) checkConfig() *cobra.Command {
	return &cobra.Command{
		Use:     "check-config",
		Aliases: []string{"lint"},
		Short:   "Say what the configuration means and what is wrong with it",
		GroupID: "look",
		Long: `Read the configuration and say what it means: the runners, their limits and
the values in force. What is wrong or doubtful is named with its line and key.
The exit code is 1 when the file has errors, 0 when it has none; warnings alone
are no errors.`,
		Example: "  glassrunner check-config --config config.toml",
		RunE: func(*cobra.Command, []string) error {
			cfg, report, err := config.Load(c.configPath, config.Options{})
			if cfg == nil {
				return err
			}
			if report.Missing {
				return fmt.Errorf("there is no %s", c.configPath)
			}
			if writeErr := config.Describe(c.Out, cfg, report); writeErr != nil {
				return writeErr
			}
			if err != nil {
				return errTold
			}
			return nil
		},
	}
}

func (c *command) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print which build this is", GroupID: "look",
		Run: func(*cobra.Command, []string) { fmt.Fprint(c.Out, version.Get()) },
	}
}
