package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Annotations of flags for the help.
const (
	groupKey = "glassrunner_group" // heading
	rareKey  = "glassrunner_rare"  // shown by --help-all only
)

// group puts a flag under a heading.
func group(f *pflag.Flag, heading string, rare bool) {
	if f.Annotations == nil {
		f.Annotations = map[string][]string{}
	}
	f.Annotations[groupKey] = []string{heading}
	if rare {
		f.Annotations[rareKey] = []string{"true"}
	}
}

// groupRest puts the flags of a command that have no heading yet under one.
func groupRest(f *pflag.FlagSet, heading string) {
	f.VisitAll(func(fl *pflag.Flag) {
		if fl.Annotations[groupKey] == nil {
			group(fl, heading, false)
		}
	})
}

// helpAll gives a command the flag --help-all and returns what prints the
// help when it was asked for.
func helpAll(cmd *cobra.Command) (shown func() (bool, error)) {
	all := cmd.Flags().Bool("help-all", false, "help with every flag")
	return func() (bool, error) {
		if !*all {
			return false, nil
		}
		return true, cmd.Help()
	}
}

// helpCommand takes the place of cobra's, which answers the name of no command
// with exit code 0.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Help about any command",
		GroupID: "look",
		Args:    cobra.ArbitraryArgs,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			var names []cobra.Completion
			for _, sub := range cmd.Root().Commands() {
				if sub.IsAvailableCommand() && len(args) == 0 {
					names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			switch {
			case err != nil:
				return err
			case len(rest) > 0:
				return noSuchCommand(about, rest)
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// usage prints how to use a command, for its help. It takes the place of
// cobra's template, which knows no headings for flags.
func (c *command) usage(cmd *cobra.Command) error {
	var b strings.Builder
	b.WriteString("Usage:\n")
	if cmd.Runnable() && !cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "  %s\n", cmd.UseLine())
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "  %s COMMAND [flags]\n", cmd.CommandPath())
	}
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(&b, "\nAlso known as:\n  %s\n", strings.Join(cmd.Aliases, ", "))
	}
	if cmd.HasExample() {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	}
	writeCommands(&b, cmd)
	c.writeFlags(&b, cmd)
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n'%s COMMAND --help' tells more about a command.\n", cmd.CommandPath())
	}
	_, err := io.WriteString(cmd.OutOrStderr(), b.String())
	return err
}

func writeCommands(b *strings.Builder, cmd *cobra.Command) {
	groups := slices.Clone(cmd.Groups())
	if len(groups) == 0 {
		groups = append(groups, &cobra.Group{Title: "Commands:"})
	}
	for _, g := range groups {
		title := "\n" + g.Title + "\n"
		for _, sub := range cmd.Commands() {
			if sub.GroupID != g.ID || !sub.IsAvailableCommand() {
				continue
			}
			fmt.Fprintf(b, "%s  %-14s %s\n", title, sub.Name(), sub.Short)
			title = ""
		}
	}
}

// writeFlags prints the flags under their headings, those of the command
// itself first and the global ones last.
func (c *command) writeFlags(b *strings.Builder, cmd *cobra.Command) {
	all := false
	if f := cmd.Flags().Lookup("help-all"); f != nil {
		all = f.Value.String() == "true"
	}
	const others = "Flags"
	var headings []string
	flags := map[string][]*pflag.Flag{}
	rare := 0
	own := cmd.LocalNonPersistentFlags()
	own.SortFlags = false
	own.VisitAll(func(f *pflag.Flag) {
		switch {
		case f.Hidden, f.Name == "help", f.Name == "version" && !cmd.HasParent():
			return // these two follow below
		case f.Annotations[rareKey] != nil && !all:
			rare++
			return
		}
		heading := others
		if g := f.Annotations[groupKey]; len(g) > 0 {
			heading = g[0]
		}
		if flags[heading] == nil {
			headings = append(headings, heading)
		}
		flags[heading] = append(flags[heading], f)
	})
	for _, heading := range headings {
		fmt.Fprintf(b, "\n%s:\n", heading)
		for _, f := range flags[heading] {
			c.writeFlag(b, f)
		}
	}
	if rare > 0 {
		fmt.Fprintf(b, "\n%d more flags set the other keys of a [[runners]] entry, such as\n--docker-cap-add or --kubernetes-namespace. '%s --help-all' shows them.\n",
			rare, cmd.CommandPath())
	}
	b.WriteString("\nGlobal flags:\n")
	cmd.Root().PersistentFlags().VisitAll(func(f *pflag.Flag) { c.writeFlag(b, f) })
	b.WriteString("  -h, --help                     Say this\n")
	if !cmd.HasParent() {
		b.WriteString("  -v, --version                  Print which build this is\n")
	}
}

// helpColumn is where the descriptions of flags begin.
const helpColumn = 33

// writeFlag prints one flag; long names have a line for themselves.
func (c *command) writeFlag(b *strings.Builder, f *pflag.Flag) {
	line := "      --" + f.Name
	if f.Shorthand != "" {
		line = "  -" + f.Shorthand + ", --" + f.Name
	}
	value, text := pflag.UnquoteUsage(f)
	if v, ok := f.Value.(*entryValue); ok && v.field.Bool {
		value = ""
	}
	if value != "" {
		line += " " + value
	}
	if d := f.DefValue; d != "" && d != "false" && d != "0" && d != "0s" && d != "[]" {
		text += " (default " + d + ")"
	}
	if e := f.Annotations[envKey]; len(e) > 0 {
		text += " [$" + e[0] + "]"
	}
	width := 96
	if c.Width > 0 {
		width = min(max(c.Width, 60), 120)
	}
	at := len(line)
	b.WriteString(line)
	if at >= helpColumn {
		b.WriteByte('\n')
		at = 0
	}
	b.WriteString(strings.Repeat(" ", helpColumn-at))
	at = helpColumn
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
			word = strings.ToUpper(word[:1]) + word[1:] // all flags alike, wherever they come from
		case at+1+len(word) > width:
			b.WriteString("\n" + strings.Repeat(" ", helpColumn))
			at = helpColumn
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += len(word)
	}
	b.WriteByte('\n')
}
