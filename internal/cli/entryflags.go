package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/glassrunner/glassrunner/internal/config"
)

// entryFlags are the flags that set keys of a [[runners]] entry: one for each
// key that has one, so that a new key needs nothing here.
type entryFlags struct {
	values []*entryValue
}

// addEntryFlags gives a command all of them, with their environment variables.
// Those that short names give one letter get it. Only a command line that
// names the command pays for making hundreds of flags.
func (c *command) addEntryFlags(cmd *cobra.Command, short map[string]string) *entryFlags {
	e := &entryFlags{}
	if !slices.Contains(c.args, cmd.Name()) {
		return e
	}
	f := cmd.Flags()
	aliases := map[string]string{}
	variables := map[string]string{}
	for _, field := range config.Fields() {
		if field.Flag == "" || !strings.HasPrefix(field.Path, "runners.") {
			continue
		}
		v := &entryValue{field: field}
		e.values = append(e.values, v)
		flag := f.VarPF(v, field.Flag, short[field.Flag], describeFlag(field))
		if field.Bool {
			flag.NoOptDefVal = "true"
		}
		group(flag, entryGroup(field), !isCommon(field.Flag))
		variables[field.Flag] = field.Env
		for _, alias := range field.Aliases {
			aliases[alias] = field.Flag
		}
	}
	env(f, variables)
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if flag, ok := aliases[name]; ok {
			name = flag
		}
		return pflag.NormalizedName(name)
	})
	return e
}

// describeFlag is the help of one flag.
func describeFlag(f config.Field) string {
	text := strings.TrimSuffix(f.Doc, ".")
	if len(f.Aliases) > 0 {
		text += "; --" + strings.Join(f.Aliases, ", --") + " is the same"
	}
	if f.List {
		text += "; may be repeated"
	}
	if len(f.Allowed) > 0 {
		text += ": " + strings.Join(f.Allowed, ", ")
	}
	if f.Default != "" && f.Default != "false" && f.Default != "0" {
		text += " (default " + f.Default + ")"
	}
	return text
}

// entryGroup is the heading of a flag in the help.
func entryGroup(f config.Field) string {
	parts := strings.Split(f.Path, ".")
	if len(parts) == 2 || parts[1] == "custom_build_dir" {
		return "Runner"
	}
	switch parts[1] {
	case "cache":
		return "Cache"
	case "machine":
		return "Machines of the executor docker+machine"
	}
	return "Executor " + parts[1]
}

// isCommon tells the flags that most people look for from all the others.
func isCommon(flag string) bool {
	return slices.Contains([]string{
		"url", "token", "name", "tls-ca-file", "limit", "request-concurrency", "executor", "builds-dir", "cache-dir",
		"clone-url", "env", "shell", "pre-build-script", "output-limit",
		"docker-image", "docker-volumes", "docker-privileged", "docker-pull-policy",
	}, flag)
}

// given returns the flags that have a value, from the command line or the
// environment.
func (e *entryFlags) given() []*entryValue {
	var out []*entryValue
	for _, v := range e.values {
		if len(v.texts) > 0 {
			out = append(out, v)
		}
	}
	return out
}

// apply sets what the flags say. All values have been checked by Set.
func (e *entryFlags) apply(r *config.Runner, which func(config.Field) bool) error {
	for _, v := range e.given() {
		if which != nil && !which(v.field) {
			continue
		}
		if err := r.Set(v.field.Path, v.texts...); err != nil {
			return &usageError{fmt.Errorf("--%s: %w", v.field.Flag, err)}
		}
	}
	return nil
}

// entryValue is the value of one flag. It implements pflag.Value.
type entryValue struct {
	field config.Field
	texts []string
}

// String is empty: there is no default to show, and a token must not be.
func (v *entryValue) String() string { return "" }

// Type is what the help shows for the value.
func (v *entryValue) Type() string {
	switch t := v.field.Type; {
	case v.field.Bool:
		return "bool"
	case strings.HasPrefix(t, "table of lists"):
		return "name:value,…"
	case strings.HasPrefix(t, "table"):
		return "name:value"
	case strings.HasSuffix(v.field.Flag, "-file"):
		return "file"
	case strings.HasSuffix(v.field.Flag, "-dir"):
		return "directory"
	case strings.Contains(t, "string"):
		return "text"
	case t == "integer":
		return "number"
	default:
		return t
	}
}

// Set takes one value; lists and tables collect them.
func (v *entryValue) Set(text string) error {
	texts := []string{text}
	if v.field.List {
		texts = append(slices.Clone(v.texts), text)
	}
	var scratch config.Runner
	if err := scratch.Set(v.field.Path, texts...); err != nil {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner // without the key: the flag is named already
		}
		return err
	}
	v.texts = texts
	return nil
}
