package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/glassrunner/glassrunner/internal/config"
)

// completers write the completion script of each shell.
func completers() map[string]func(*cobra.Command, io.Writer) error {
	return map[string]func(*cobra.Command, io.Writer) error{
		"bash":       bashCompletion,
		"fish":       func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
		"powershell": func(root *cobra.Command, w io.Writer) error { return root.GenPowerShellCompletionWithDesc(w) },
		"zsh":        func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) },
	}
}

// completion prints a completion script. It takes the place of cobra's
// command, which answers an unknown shell with its help and exit code 0.
func (c *command) completion() *cobra.Command {
	shells := []string{"bash", "fish", "powershell", "zsh"}
	return &cobra.Command{
		Use:     "completion " + strings.Join(shells, "|"),
		Short:   "Print a script that makes a shell complete commands and flags",
		GroupID: "look",
		Long: `Print a script that makes a shell complete commands, flags and many values, such
as the names of the configured runners.

bash        source <(glassrunner completion bash)
            or write it to /etc/bash_completion.d/glassrunner
fish        glassrunner completion fish > ~/.config/fish/completions/glassrunner.fish
powershell  glassrunner completion powershell | Out-String | Invoke-Expression
zsh         glassrunner completion zsh > "${fpath[1]}/_glassrunner"`,
		ValidArgs: shells,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && slices.Contains(shells, args[0]) {
				return nil
			}
			return &usageError{fmt.Errorf("want one shell of %s, found %q\nSee '%s --help'", strings.Join(shells, ", "), args, cmd.CommandPath())}
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return completers()[args[0]](cmd.Root(), c.Out)
		},
	}
}

// bashWords is what cobra's script takes from the package bash-completion,
// which many servers do not have: the words of the line, where bash breaks
// words at = and : as well.
const bashWords = `if declare -F _get_comp_words_by_ref >/dev/null 2>&1; then
        _get_comp_words_by_ref "$@" cur prev words cword
        return
    fi
    local i glue=yes
    words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} == [=:] && $i -gt 0 ]]; then
            words[${#words[@]} - 1]+=${COMP_WORDS[i]}
            glue=yes
        elif [[ $glue == yes && $i -gt 0 ]]; then
            words[${#words[@]} - 1]+=${COMP_WORDS[i]}
            glue=
        else
            words+=("${COMP_WORDS[i]}")
            glue=
        fi
    done
    cword=$((${#words[@]} - 1))
    cur=${words[cword]}
    prev=${words[cword > 0 ? cword - 1 : 0]}`

func bashCompletion(root *cobra.Command, w io.Writer) error {
	var b bytes.Buffer
	if err := root.GenBashCompletionV2(&b, true); err != nil {
		return err
	}
	_, err := io.WriteString(w, strings.Replace(b.String(), `_get_comp_words_by_ref "$@" cur prev words cword`, bashWords, 1))
	return err
}

// completes tells the shells which values flags and arguments have.
func (c *command) completes(root *cobra.Command) error {
	global := map[string]cobra.CompletionFunc{
		"log-level":  oneOf("debug", "info", "warn", "error", "fatal", "panic"),
		"log-format": oneOf("runner", "text", "json"),
	}
	for flag, f := range global {
		if err := root.RegisterFlagCompletionFunc(flag, f); err != nil {
			return err
		}
	}
	return c.completesBelow(root)
}

func (c *command) completesBelow(parent *cobra.Command) error {
	for _, cmd := range parent.Commands() {
		if cmd.ValidArgs == nil && cmd.ValidArgsFunction == nil {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
		var errs []error
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			f.Usage = strings.ReplaceAll(f.Usage, "`", "")
			if complete := c.flagValues(cmd, f); complete != nil {
				errs = append(errs, cmd.RegisterFlagCompletionFunc(f.Name, complete))
			}
		})
		if err := errors.Join(append(errs, c.completesBelow(cmd))...); err != nil {
			return err
		}
	}
	return nil
}

// flagValues completes the value of one flag of a command; nil leaves it to the
// shell, which offers files.
func (c *command) flagValues(cmd *cobra.Command, f *pflag.Flag) cobra.CompletionFunc {
	selects := slices.Contains([]string{"verify", "unregister", "reset-token"}, cmd.Name())
	switch v, isEntry := f.Value.(*entryValue); {
	case f.Name == "name" && selects, f.Name == "runner":
		return c.runnerNames
	case isEntry && f.Name == "executor":
		return oneOf(executorNames()...)
	case isEntry && len(v.field.Allowed) > 0:
		return oneOf(v.field.Allowed...)
	case f.Name == "token", f.Name == "registration-token", f.Name == "pat", f.Name == "url":
		return cobra.NoFileCompletions
	}
	return nil
}

// runnerNames completes the name of a configured runner. Whatever is wrong with
// the configuration is for the command itself to say.
func (c *command) runnerNames(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	path := c.configPath
	if fromEnv := c.Getenv("CONFIG_FILE"); path == config.DefaultPath() && fromEnv != "" {
		path = fromEnv
	}
	cfg, _, _ := config.Load(path, config.Options{})
	var names []cobra.Completion
	if cfg != nil {
		for i := range cfg.Runners {
			if name := cfg.Runners[i].Name; name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func oneOf(values ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)
}
