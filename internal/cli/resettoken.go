package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/coordinator"
	"github.com/glassrunner/glassrunner/internal/job"
)

// reset is what reset-token is asked to do.
type reset struct {
	name, url string
	id        int64
	pat       string
	all       bool
}

func (c *command) resetToken() *cobra.Command {
	var o reset
	cmd := &cobra.Command{
		Use:     "reset-token",
		Short:   "Give runners another authentication token",
		GroupID: "manage",
		Long: `Ask GitLab for another authentication token and store it in the configuration.
The token of before is invalid at once, also on other machines that use it.

The runner itself asks with its own token. When that is invalid already, a
personal access token with the right to it does: --pat.

A runner is chosen by --name, or by --url and --id, which is the id in the
configuration.`,
		Example: `  glassrunner reset-token --name "build box"
  glassrunner reset-token --url https://gitlab.example.com --id 12 --pat "$TOKEN"`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return &usageError{err}
			}
			cfg, err := c.load()
			if err != nil {
				return err
			}
			ctx, stop := c.interruptible(cmd.Context(), "Stopping after the runner at hand: its new token must not be lost")
			defer stop()
			return c.resetAll(ctx, cfg, o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.name, "name", "n", "", "`name` of the runner")
	f.StringVarP(&o.url, "url", "u", "", "`address` of the runner's server; with --id")
	f.Int64VarP(&o.id, "id", "i", 0, "`number` of the runner on its server; with --url")
	f.BoolVar(&o.all, "all-runners", false, "all runners")
	f.StringVar(&o.pat, "pat", "", "personal access `token` to ask with instead of the runner's own")
	return cmd
}

func (o reset) validate() error {
	switch {
	case o.all && (o.name != "" || o.url != "" || o.id != 0):
		return errors.New("--all-runners leaves nothing to choose: give it without --name, --url and --id")
	case (o.url == "") != (o.id == 0):
		return errors.New("--url and --id belong together")
	case !o.all && o.name == "" && o.url == "":
		return errors.New("say which runner: --name, or --url and --id, or --all-runners")
	}
	return nil
}

func (o reset) matches(r *config.Runner) bool {
	return o.all || (o.name == "" || r.Name == o.name) && (o.url == "" || sameURL(r.URL, o.url) && r.ID == o.id)
}

func (c *command) resetAll(ctx context.Context, cfg *config.Config, o reset) error {
	selected := selectRunners(cfg, o.matches)
	if len(selected) == 0 {
		if o.all {
			return nil
		}
		return errNoMatch
	}
	if !o.all {
		selected = selected[:1]
	}
	systemID := c.systemID(cfg)
	done := map[entryKey]bool{}
	var failed []error
	for _, r := range selected {
		if done[keyOf(r)] {
			continue // an entry with the same token, which got the new one
		}
		if ctx.Err() != nil {
			failed = append(failed, context.Cause(ctx))
			break
		}
		done[keyOf(r)] = true
		// A request that is given up may have been carried out, and the new
		// token would be lost.
		if err := c.resetRunner(context.WithoutCancel(ctx), cfg, r, systemID, o.pat); err != nil {
			failed = append(failed, fmt.Errorf("runner %q: %w", r.Name, err))
			continue
		}
		c.log.Info("Resetting runner token... succeeded", "runner", r.ShortToken(), "name", r.Name)
	}
	if len(failed) > 0 {
		return fmt.Errorf("resetting the token failed: %w", errors.Join(failed...))
	}
	return nil
}

// entryKey tells entries of one runner of one server, which share a token.
type entryKey struct {
	url   string
	token job.Secret
}

func keyOf(r *config.Runner) entryKey { return entryKey{r.URL, r.Token} }

func (c *command) resetRunner(ctx context.Context, cfg *config.Config, r *config.Runner, systemID, pat string) error {
	if pat != "" && r.ID == 0 {
		return errors.New("its id is not in the configuration, which --pat needs")
	}
	client, err := c.client(cfg, r, systemID)
	if err != nil {
		return err
	}
	var fresh coordinator.Registered
	if pat != "" {
		fresh, err = client.ResetTokenByPAT(ctx, r.ID, job.Secret(pat))
	} else {
		fresh, err = client.ResetToken(ctx)
	}
	switch {
	case isForbidden(err):
		return fmt.Errorf("failed (check used token): %w", err)
	case err != nil:
		return err
	}
	// The token of before is worthless from here on: save before all else.
	old := keyOf(r)
	n, err := config.UpdateToken(cfg.Path, func(r *config.Runner) bool { return keyOf(r) == old },
		fresh.Token.Reveal(), now(), fresh.ExpiresAt)
	if err == nil && n == 0 {
		err = fmt.Errorf("the entry is no longer in %s", cfg.Path)
	}
	if err != nil {
		return fmt.Errorf("GitLab has replaced the token, but the new one could not be saved; reset it again with --pat: %w", err)
	}
	return nil
}

// now is the time as the configuration stores it.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
