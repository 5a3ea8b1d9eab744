package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/job"
)

// errNoMatch says that the selection of runners was empty.
var errNoMatch = errors.New("no runner matches the filtering parameters")

func (c *command) verify() *cobra.Command {
	var s struct {
		name, url, token string
		remove           bool
	}
	cmd := &cobra.Command{
		Use:     "verify",
		Short:   "Ask GitLab whether it still knows the configured runners",
		GroupID: "manage",
		Long: `Ask GitLab whether it still knows the configured runners. With --delete, those
that it says are gone are removed from the configuration. A server that cannot
be reached says nothing about its runners: they stay.

The exit code is 1 when a runner is gone and stays in the configuration.`,
		Example: `  glassrunner verify
  glassrunner verify --name "build box"
  glassrunner verify --delete`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			ctx, stop := c.interruptible(cmd.Context(), "")
			defer stop()
			if len(cfg.Runners) == 0 && s.name == "" && s.url == "" && s.token == "" {
				return nil
			}
			return c.verifyAll(ctx, cfg, s.remove, func(r *config.Runner) bool {
				return s.name == "" && s.url == "" && s.token == "" || s.name != "" && r.Name == s.name ||
					(s.url != "" || s.token != "") && (s.url == "" || sameURL(r.URL, s.url)) &&
						(s.token == "" || r.Token.Reveal() == s.token)
			})
		},
	}
	// These have no environment variables on purpose: what is set for
	// register must not narrow this down unseen.
	f := cmd.Flags()
	f.StringVarP(&s.name, "name", "n", "", "verify the runner of this `name`")
	f.StringVarP(&s.url, "url", "u", "", "verify runners of the server at this `address`")
	f.StringVarP(&s.token, "token", "t", "", "verify the runner with this authentication `token`")
	f.BoolVar(&s.remove, "delete", false, "remove runners from the configuration that GitLab does not know any more")
	return cmd
}

func (c *command) verifyAll(ctx context.Context, cfg *config.Config, remove bool, selects func(*config.Runner) bool) error {
	selected := selectRunners(cfg, selects)
	if len(selected) == 0 {
		return errNoMatch
	}
	systemID := c.systemID(cfg)
	gone := identities{}
	for _, r := range selected {
		if c.verifyOne(ctx, cfg, r, systemID) {
			gone[identityOf(r)] = true
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	switch {
	case len(gone) == 0:
		return nil
	case !remove:
		return c.log.fatal("Failed to verify runners")
	}
	return c.removeEntries(cfg, gone)
}

// verifyOne asks about one runner and reports whether it is gone for good.
func (c *command) verifyOne(ctx context.Context, cfg *config.Config, r *config.Runner, systemID string) (gone bool) {
	log := c.log.With("runner", r.ShortToken(), "name", r.Name)
	client, err := c.client(cfg, r, systemID)
	if err == nil {
		_, err = client.Verify(ctx)
	}
	good, bad := "is alive", "is removed"
	if isCreated(r.Token) {
		good, bad = "is valid", "is not valid"
	}
	switch {
	case err == nil:
		log.Info("Verifying runner... " + good)
	case isForbidden(err):
		log.Error("Verifying runner... "+bad, "error", err)
		return true
	default:
		log.Warn("Verifying runner... failed, which says nothing about the runner", "error", err)
	}
	return false
}

// selectRunners returns the entries that match.
func selectRunners(cfg *config.Config, matches func(*config.Runner) bool) []*config.Runner {
	var out []*config.Runner
	for i := range cfg.Runners {
		if matches(&cfg.Runners[i]) {
			out = append(out, &cfg.Runners[i])
		}
	}
	return out
}

// identity is what tells runners apart, also when the file changes meanwhile.
type identity struct {
	name, url string
	token     job.Secret
}

type identities map[identity]bool

func identityOf(r *config.Runner) identity { return identity{r.Name, r.URL, r.Token} }

// removeEntries takes runners out of the file.
func (c *command) removeEntries(cfg *config.Config, which identities) error {
	n, err := config.RemoveRunners(cfg.Path, func(r *config.Runner) bool { return which[identityOf(r)] })
	if err != nil {
		return err
	}
	c.log.Info(fmt.Sprintf("Updated %s", cfg.Path), "removed", n)
	return nil
}
