package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/glassrunner/glassrunner/internal/config"
)

// unregistration is what unregister is asked to do.
type unregistration struct {
	name, url, token string
	ca, cert, key    string
	all              bool
}

func (c *command) unregister() *cobra.Command {
	var u unregistration
	cmd := &cobra.Command{
		Use:     "unregister",
		Short:   "Remove runners from GitLab and from the configuration",
		GroupID: "manage",
		Long: `Remove a runner from GitLab and then from the configuration. What GitLab
refuses to remove stays in the configuration.

A runner that was created in GitLab (its token begins with glrt-) stays there,
because other machines may use it: only this machine is removed from it.

One runner is chosen by --name, --token or both, and is the first that matches;
--url narrows the choice down.`,
		Example: `  glassrunner unregister --name "build box"
  glassrunner unregister --all-runners`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !u.all && u.name == "" && u.token == "" {
				return &usageError{errors.New("at least one of --name or --token must be given, or --all-runners")}
			}
			cfg, err := c.load()
			if err != nil {
				return err
			}
			ctx, stop := c.interruptible(cmd.Context(), "")
			defer stop()
			if u.all {
				return c.unregisterAll(ctx, cfg, u)
			}
			return c.unregisterOne(ctx, cfg, u)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&u.name, "name", "n", "", "`name` of the runner")
	f.StringVarP(&u.token, "token", "t", "", "authentication `token` of the runner")
	f.StringVarP(&u.url, "url", "u", "", "`address` of the runner's server")
	f.BoolVar(&u.all, "all-runners", false, "remove all runners")
	f.StringVar(&u.ca, "tls-ca-file", "", "`file` with the authorities to trust, instead of the entry's")
	f.StringVar(&u.cert, "tls-cert-file", "", "`file` with a client certificate, instead of the entry's")
	f.StringVar(&u.key, "tls-key-file", "", "`file` with its key")
	env(f, map[string]string{
		"token": "CI_SERVER_TOKEN", "url": "CI_SERVER_URL", "tls-ca-file": "CI_SERVER_TLS_CA_FILE",
		"tls-cert-file": "CI_SERVER_TLS_CERT_FILE", "tls-key-file": "CI_SERVER_TLS_KEY_FILE",
	})
	return cmd
}

func (c *command) unregisterOne(ctx context.Context, cfg *config.Config, u unregistration) error {
	selected := selectRunners(cfg, func(r *config.Runner) bool {
		return (u.name == "" || r.Name == u.name) && (u.token == "" || r.Token.Reveal() == u.token) &&
			(u.url == "" || sameURL(r.URL, u.url))
	})
	if len(selected) == 0 {
		return fmt.Errorf("%w: nothing in %s has that name, token and address", errNoMatch, cfg.Path)
	}
	r := selected[0]
	if err := c.unregisterRunner(ctx, cfg, r, u, c.systemID(cfg)); err != nil {
		return c.log.fatal("Failed to unregister runner, it stays in the configuration", "runner", r.ShortToken(), "name", r.Name, "error", err)
	}
	return c.removeEntries(cfg, identities{identityOf(r): true})
}

func (c *command) unregisterAll(ctx context.Context, cfg *config.Config, u unregistration) error {
	if len(cfg.Runners) == 0 {
		return nil
	}
	systemID := c.systemID(cfg)
	done := identities{}
	failed := 0
	for i := range cfg.Runners {
		r := &cfg.Runners[i]
		switch err := c.unregisterRunner(ctx, cfg, r, u, systemID); {
		case ctx.Err() != nil:
			failed++
		case err != nil:
			failed++
			c.log.Error("Failed to unregister runner", "runner", r.ShortToken(), "name", r.Name, "error", err)
		default:
			done[identityOf(r)] = true
		}
	}
	var err error
	if len(done) > 0 {
		err = c.removeEntries(cfg, done)
	}
	if failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d of %d runners could not be unregistered and stay in the configuration", failed, len(cfg.Runners)))
	}
	return err
}

// unregisterRunner tells GitLab that an entry goes.
func (c *command) unregisterRunner(ctx context.Context, cfg *config.Config, r *config.Runner, u unregistration, systemID string) error {
	with := *r
	if u.ca != "" {
		with.TLSCAFile = u.ca
	}
	if u.cert != "" {
		with.TLSCertFile = u.cert
	}
	if u.key != "" {
		with.TLSKeyFile = u.key
	}
	client, err := c.client(cfg, &with, systemID)
	if err != nil {
		return err
	}
	what, call := "runner", client.Unregister
	if isCreated(r.Token) {
		what, call = "runner manager", client.UnregisterManager
	}
	if err := call(ctx); err != nil {
		return err
	}
	c.log.Info("Unregistering "+what+" from GitLab succeeded", "runner", r.ShortToken(), "name", r.Name)
	return nil
}
