package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/job"
)

// takeBackTimeout is how long a failed registration may take to undo itself.
const takeBackTimeout = 30 * time.Second

// registration is one run of register.
type registration struct {
	*command
	entry    *entryFlags
	template string
	token    string // of --registration-token
	batch    bool   // nobody can be asked
	leave    bool
	legacy   legacy

	cfg    *config.Config
	runner config.Runner
	system string
	ask    asker
	// undo takes back at the server what was done there; nil: nothing was.
	undo func(context.Context) error
}

func (c *command) register() *cobra.Command {
	g := &registration{command: c}
	cmd := &cobra.Command{
		Use:     "register",
		Short:   "Connect a runner of a GitLab server to this machine",
		GroupID: "manage",
		Long: `Connect a runner of a GitLab server to this machine and add it to the
configuration. A process that runs already notices by itself.

Create the runner in GitLab (Settings > CI/CD > Runners > New runner); what you
get there is an authentication token that begins with glrt-, which goes into
--token. Tags, protection and the like are settings in GitLab then. Registration
tokens, which older servers have, go into --registration-token, and the flags
under "Legacy registration" belong to them.

Everything that is needed and not given is asked for, or is an error with
--non-interactive. --template-config names a file with one [[runners]] entry,
whose values apply where no flag or variable gives another.`,
		Example: `  # asks
  glassrunner register

  # does not ask
  glassrunner register --non-interactive --url https://gitlab.example.com \
    --token "$TOKEN" --executor shell --name "build box"

  # the same, from the environment
  export CI_SERVER_URL=https://gitlab.example.com CI_SERVER_TOKEN=glrt-... RUNNER_EXECUTOR=shell
  glassrunner register --non-interactive`,
	}
	f := cmd.Flags()
	f.BoolVarP(&g.batch, "non-interactive", "n", false, "do not ask: what is missing is an error")
	f.StringVar(&g.template, "template-config", "", "`file` with one [[runners]] entry to start from")
	f.BoolVar(&g.leave, "leave-runner", false, "leave the runner on the server when the registration fails later on")
	shownHelp := helpAll(cmd)
	groupRest(f, "Registration")
	g.entry = c.addEntryFlags(cmd, map[string]string{"url": "u", "token": "t"})
	f.StringVarP(&g.token, "registration-token", "r", "", "registration `token` of the server, a group or a project (deprecated by GitLab)")
	g.legacy.flags(f)
	groupRest(f, "Legacy registration, with a registration token")
	env(f, map[string]string{
		"non-interactive": "REGISTER_NON_INTERACTIVE", "template-config": "TEMPLATE_CONFIG_FILE",
		"leave-runner": "REGISTER_LEAVE_RUNNER", "registration-token": "REGISTRATION_TOKEN",
	})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if shown, err := shownHelp(); shown {
			return err
		}
		g.ask = asker{in: c.In, out: c.Out, interactive: !g.batch}
		ctx, stop := c.interruptible(cmd.Context(), "")
		defer stop()
		err := g.run(ctx)
		if err != nil {
			g.takeBack(context.WithoutCancel(ctx))
		}
		return err
	}
	return cmd
}

// run goes from the flags to the saved entry. What can be found wrong without
// the server is found before it is asked.
func (g *registration) run(ctx context.Context) error {
	if err := g.legacy.validate(); err != nil {
		return &usageError{err}
	}
	if err := g.prepareEntry(); err != nil {
		return err
	}
	var err error
	r := &g.runner
	r.URL, err = g.ask.ask(ctx, question{
		key: "url", text: "Enter the GitLab instance URL (for example, https://gitlab.com/)", flag: "url", env: "CI_SERVER_URL",
		value: r.URL, check: g.checkURL,
	})
	if err != nil {
		return err
	}
	g.system = g.systemID(g.cfg)
	if err := g.connect(ctx); err != nil {
		return err
	}
	if err := g.chooseExecutor(ctx); err != nil {
		return err
	}
	problems, err := g.examine()
	if err != nil {
		return err
	}
	for _, p := range problems {
		g.log.Warn(p.Key + ": " + p.Text)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := config.AddRunner(g.configPath, *r); err != nil {
		return err
	}
	g.undo = nil
	g.log.Info("Runner registered successfully. Start it with 'glassrunner run'; one that is running already reloads the configuration by itself.")
	g.log.Info(fmt.Sprintf("Configuration (with the authentication token) was saved in %q", g.configPath))
	return nil
}

// prepareEntry makes the entry from the template, the environment and the
// flags, and examines it.
func (g *registration) prepareEntry() error {
	var err error
	if g.cfg, _, err = config.Load(g.configPath, config.Options{}); err != nil {
		return fmt.Errorf("the configuration has to be right before a runner is added to it:\n%w", err)
	}
	if err := g.entry.apply(&g.runner, nil); err != nil {
		return err
	}
	if g.template != "" {
		if err := g.mergeTemplate(); err != nil {
			return err
		}
	}
	if g.runner.Name == "" {
		g.runner.Name, _ = os.Hostname() // asked for, or a name less
	}
	if e := g.runner.Executor; e != "" {
		if err := checkExecutor(e); err != nil {
			return &usageError{err}
		}
	}
	if g.runner.URL != "" {
		if err := g.checkURL(g.runner.URL); err != nil {
			return &usageError{err}
		}
	}
	_, err = g.examine()
	return err
}

// mergeTemplate fills in what neither flags nor the environment say.
func (g *registration) mergeTemplate() error {
	t, report, err := config.Load(g.template, config.Options{})
	switch {
	case err != nil:
		return fmt.Errorf("--template-config: %w", err)
	case report.Missing:
		return fmt.Errorf("--template-config: there is no %s", g.template)
	case len(t.Runners) != 1:
		return fmt.Errorf("--template-config: %s has %d [[runners]] entries, want exactly one", g.template, len(t.Runners))
	}
	for _, p := range report.Warnings() {
		// What a template leaves open is for the flags to say.
		if !slices.Contains([]string{"runners.token", "runners.url", "runners.executor", "runners.limit", "runners.request_concurrency"}, p.Key) {
			g.log.Warn(p.String())
		}
	}
	// Whose runner it is, a template cannot say.
	from := t.Runners[0]
	from.ID, from.Token, from.TokenObtainedAt, from.TokenExpiresAt = 0, "", time.Time{}, time.Time{}
	g.runner.FillFrom(&from)
	// A flag that says "none", "0" or "false" says it against the template.
	return g.entry.apply(&g.runner, func(f config.Field) bool { return !f.List })
}

// examine says what is wrong or doubtful with the entry as check-config would,
// were it in the configuration. An error is one that would keep the file from
// being used.
func (g *registration) examine() ([]config.Problem, error) {
	dir, err := os.MkdirTemp("", "glassrunner-register-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	trial := g.runner
	trial.Token = "placeholder" // the file is for a moment only, and yet
	path := filepath.Join(dir, "config.toml")
	if err := config.AddRunner(path, trial); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	_, entry, _ := strings.Cut(string(text), "[[runners]]")
	before, err := os.ReadFile(g.configPath)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	whole := strings.TrimRight(string(before), "\n") + "\n"
	line := strings.Count(whole, "\n") + 1
	_, report, err := config.Parse(g.configPath, []byte(whole+"[[runners]]"+entry), config.Options{})
	var problems []config.Problem
	for _, p := range report.Problems {
		if p.Line < line || p.Key == "runners.executor" || p.Key == "runners.url" || p.Key == "runners.token" {
			continue
		}
		problems = append(problems, p)
	}
	if err == nil {
		return problems, nil
	}
	var texts []string
	ofFlags := true
	for _, p := range report.Errors() {
		texts = append(texts, p.Key+": "+p.Text)
		ofFlags = ofFlags && strings.HasPrefix(p.Key, "runners.")
	}
	err = fmt.Errorf("the entry would not be valid: %s", strings.Join(texts, "; "))
	if ofFlags {
		err = &usageError{err}
	}
	return nil, err
}

// takeBack undoes at the server what a failed registration has done.
func (g *registration) takeBack(ctx context.Context) {
	if g.undo == nil {
		return
	}
	if g.leave {
		g.log.Warn("The registration failed; the runner stays on the server (--leave-runner)", "runner", g.runner.ShortToken())
		return
	}
	ctx, cancel := context.WithTimeout(ctx, takeBackTimeout)
	defer cancel()
	if err := g.undo(ctx); err != nil {
		g.log.Error("The registration failed, and the runner could not be removed from the server", "runner", g.runner.ShortToken(), "error", err)
		return
	}
	g.log.Warn("The registration failed: the runner was removed from the server again", "runner", g.runner.ShortToken())
}

// known reports the entry that has the token already, nil when none has.
func (g *registration) known(token job.Secret) *config.Runner {
	for i := range g.cfg.Runners {
		if r := &g.cfg.Runners[i]; r.Token == token && sameURL(r.URL, g.runner.URL) {
			return r
		}
	}
	return nil
}
