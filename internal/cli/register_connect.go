package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/coordinator"
	"github.com/glassrunner/glassrunner/internal/job"
)

// longestNote is what GitLab takes, in characters.
const longestNote = 1024

// legacy are the options of a registration with a registration token. The
// others have them as settings in GitLab.
type legacy struct {
	tags           string
	untagged       bool
	locked         bool
	accessLevel    string
	maximumTimeout int // seconds
	paused         bool
	note           string
}

func (l *legacy) flags(f *pflag.FlagSet) {
	f.StringVar(&l.tags, "tag-list", "", "`tags` of the runner, separated by commas")
	f.BoolVar(&l.untagged, "run-untagged", false, "take jobs without tags too; always so without tags")
	f.BoolVar(&l.locked, "locked", true, "lock the runner to its project")
	f.StringVar(&l.accessLevel, "access-level", "", "`level` of the runner: not_protected, or ref_protected for jobs of protected branches only")
	f.IntVar(&l.maximumTimeout, "maximum-timeout", 0, "longest timeout of its jobs in `seconds`; 0: no limit")
	f.BoolVar(&l.paused, "paused", false, "make a runner that takes no jobs yet")
	f.StringVar(&l.note, "maintenance-note", "", "`note` for administrators")
	env(f, map[string]string{
		"tag-list": "RUNNER_TAG_LIST", "run-untagged": "REGISTER_RUN_UNTAGGED", "locked": "REGISTER_LOCKED",
		"access-level": "REGISTER_ACCESS_LEVEL", "maximum-timeout": "REGISTER_MAXIMUM_TIMEOUT",
		"paused": "REGISTER_PAUSED", "maintenance-note": "REGISTER_MAINTENANCE_NOTE",
	})
}

func (l *legacy) validate() error {
	switch l.accessLevel {
	case "", "not_protected", "ref_protected":
	default:
		return fmt.Errorf("--access-level: found %q, want not_protected or ref_protected", l.accessLevel)
	}
	if l.maximumTimeout < 0 {
		return fmt.Errorf("--maximum-timeout: found %d, want 0 or more seconds", l.maximumTimeout)
	}
	if n := len([]rune(l.note)); n > longestNote {
		return fmt.Errorf("--maintenance-note: %d characters, want at most %d", n, longestNote)
	}
	return nil
}

// set returns the options that are not at their defaults.
func (l *legacy) set() []string {
	var out []string
	for _, o := range []struct {
		flag string
		set  bool
	}{
		{"locked", !l.locked}, {"access-level", l.accessLevel != ""}, {"run-untagged", l.untagged},
		{"maximum-timeout", l.maximumTimeout != 0}, {"paused", l.paused}, {"tag-list", l.tags != ""},
		{"maintenance-note", l.note != ""},
	} {
		if o.set {
			out = append(out, "--"+o.flag)
		}
	}
	return out
}

func (g *registration) checkURL(text string) error {
	_, err := coordinator.New(coordinator.Options{URL: text, Token: g.runner.Token})
	if e, ok := errors.AsType[*coordinator.Error](err); ok {
		return errors.New(strings.Replace(e.Text, "coordinator URL: ", "the URL of GitLab ", 1))
	}
	return err
}

// connect makes the server know this machine as the runner.
func (g *registration) connect(ctx context.Context) error {
	r := &g.runner
	viaRegistration := r.Token == ""
	if !viaRegistration && g.token != "" {
		g.log.Warn("Both --token and --registration-token are given: the registration token is not used")
	}
	if viaRegistration {
		token := g.token
		if token == "" {
			var err error
			token, err = g.ask.ask(ctx, question{
				key: "token", text: "Enter the runner's authentication token (glrt-...), or a registration token",
				flag: "token", env: "CI_SERVER_TOKEN", secret: true,
			})
			if err != nil {
				return err
			}
		}
		r.Token = job.Secret(token)
	}
	switch {
	case isCreated(r.Token):
		return g.connectCreated(ctx, viaRegistration)
	case viaRegistration:
		return g.connectLegacy(ctx)
	default:
		g.log.Warn("This is no token of a runner created in GitLab (glrt-...): it is verified and stored as it is. To register with a registration token use -r instead of -t.")
		return g.verifyToken(ctx, false)
	}
}

// connectCreated tells the server of this machine with the token of a runner
// that was created there.
func (g *registration) connectCreated(ctx context.Context, viaRegistration bool) error {
	r := &g.runner
	known := g.known(r.Token)
	if known != nil {
		g.log.Warn("The configuration has a runner with this token already; both entries will take its jobs", "runner", r.ShortToken(), "name", known.Name)
	}
	if set := g.legacy.set(); len(set) > 0 {
		text := strings.Join(set, ", ") + ": these are settings in GitLab for a runner with an authentication token (glrt-...)"
		if !viaRegistration {
			return &usageError{errors.New(text + "; try again without them")}
		}
		g.log.Warn(text + "; they are ignored")
	}
	if err := g.verifyToken(ctx, true); err != nil {
		return err
	}
	if known == nil {
		// Else this machine would vanish for the entry of before as well.
		g.undo = func(ctx context.Context) error {
			client, err := g.client(g.cfg, r, g.system)
			if err != nil {
				return err
			}
			return client.UnregisterManager(ctx)
		}
	}
	var err error
	r.Name, err = g.ask.ask(ctx, question{
		key: "name", text: "Enter a name for the runner, which only the configuration of this machine has", flag: "name", env: "RUNNER_NAME", value: r.Name,
	})
	return err
}

// verifyToken asks whether the server takes the token.
func (g *registration) verifyToken(ctx context.Context, needID bool) error {
	r := &g.runner
	client, err := g.client(g.cfg, r, g.system)
	if err != nil {
		return err
	}
	known, err := client.Verify(ctx)
	switch {
	case isForbidden(err):
		return fmt.Errorf("verifying the runner: its token is not valid: %w", err)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("verifying the runner: %w", err)
	case known.ID == 0 && needID:
		return errors.New("verifying the runner: the server did not say which runner it is; is it GitLab 15.10 or newer?")
	}
	r.ID, r.TokenExpiresAt = known.ID, known.ExpiresAt
	if known.ID != 0 {
		r.TokenObtainedAt = now()
	}
	how := "is alive"
	if needID {
		how = "is valid"
	}
	g.log.Info("Verifying runner... "+how, "runner", r.ShortToken())
	return nil
}

// connectLegacy makes a runner with a registration token.
func (g *registration) connectLegacy(ctx context.Context) error {
	r := &g.runner
	g.log.Warn("Registration tokens are deprecated by GitLab: create the runner there and register it with its authentication token (glrt-...)")
	l := &g.legacy
	for _, q := range []struct {
		question
		into *string
	}{
		{question{key: "name", text: "Enter a description of the runner", flag: "description", env: "RUNNER_NAME", value: r.Name}, &r.Name},
		{question{key: "tag-list", text: "Enter tags for the runner, separated by commas", value: l.tags, free: true}, &l.tags},
		{question{key: "maintenance-note", text: "Enter a maintenance note for the runner, if you like", value: l.note, free: true}, &l.note},
	} {
		answer, err := g.ask.ask(ctx, q.question)
		if err != nil {
			return err
		}
		*q.into = answer
	}
	if err := l.validate(); err != nil {
		return &usageError{err}
	}
	client, err := g.client(g.cfg, r, g.system)
	if err != nil {
		return err
	}
	made, err := client.Register(ctx, coordinator.RegisterOptions{
		Description: r.Name, MaintenanceNote: l.note, Tags: l.tags, RunUntagged: l.untagged || l.tags == "",
		Locked: l.locked, Paused: l.paused, AccessLevel: l.accessLevel, MaximumTimeout: time.Duration(l.maximumTimeout) * time.Second,
	})
	switch {
	case isForbidden(err):
		return fmt.Errorf("registering the runner: forbidden (check registration token): %w", err)
	case status(err) == http.StatusGone:
		return fmt.Errorf("registering the runner: the server takes no registration tokens; create the runner in GitLab and use its token with --token: %w", err)
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("registering the runner: failed: %w", err)
	}
	r.ID, r.Token, r.TokenObtainedAt, r.TokenExpiresAt = made.ID, made.Token, now(), made.ExpiresAt
	g.undo = func(ctx context.Context) error {
		client, err := g.client(g.cfg, r, g.system)
		if err != nil {
			return err
		}
		return client.Unregister(ctx)
	}
	g.log.Info("Registering runner... succeeded", "runner", r.ShortToken())
	return nil
}

// executorNames lists what GitLab Runner has executors for.
func executorNames() []string {
	for _, f := range config.Fields() {
		if f.Path == "runners.executor" {
			return f.Allowed
		}
	}
	return nil
}
