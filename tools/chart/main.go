// Command chart writes the table of values into the README of a Helm chart,
// from the comments of its values.yaml:
//
//	chart DIR
//
// A value's description is the comment of ## right above it. The table replaces
// what follows the README's line with the mark.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// mark begins what is generated.
const mark = "<!-- Generated from values.yaml by make docs. -->\n"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1) //nolint:forbidigo // this is a program's main
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: chart DIR")
	}
	dir, err := os.OpenRoot(args[0])
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	text, err := dir.ReadFile("values.yaml")
	if err != nil {
		return err
	}
	values, err := parse(string(text))
	if err != nil {
		return fmt.Errorf("values.yaml: %w", err)
	}
	const readme = "README.md"
	text, err = dir.ReadFile(readme)
	if err != nil {
		return err
	}
	head, _, found := strings.Cut(string(text), mark)
	if !found {
		return fmt.Errorf("%s has no line %q", readme, mark)
	}
	return dir.WriteFile(readme, []byte(head+mark+table(values)), 0o644)
}

// value is one line of the table.
type value struct{ name, standard, about string }

// parse reads the subset of YAML that values.yaml keeps to: maps by
// indentation of two, one-line values, and blocks after a bar.
func parse(text string) ([]value, error) {
	var (
		values []value
		parts  []string              // keys above the present line
		known  = map[string]string{} // descriptions by path
		about  []string
		block  = -1 // indentation of the key whose block is being skipped
	)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		trimmed := strings.TrimSpace(line)
		indent := len(line) - len(strings.TrimLeft(line, " "))
		if block >= 0 && (trimmed == "" || indent > block) {
			continue
		}
		block = -1
		if trimmed == "" {
			about = nil
			continue
		}
		if comment, ok := strings.CutPrefix(trimmed, "## "); ok {
			about = append(about, comment)
			continue
		}
		key, standard, ok := strings.Cut(trimmed, ":")
		if !ok || indent%2 != 0 || indent/2 > len(parts) {
			return nil, fmt.Errorf("line %d is beyond what this program reads: %s", i+1, line)
		}
		parts = append(parts[:indent/2], key)
		name := strings.Join(parts, ".")
		standard = strings.TrimSpace(standard)
		description := strings.Join(about, " ")
		about = nil
		if description == "" {
			// A PodMonitor's fields are those of a ServiceMonitor.
			description = known[strings.Replace(name, "podMonitor", "serviceMonitor", 1)]
		}
		known[name] = description
		if standard == "|" {
			block, standard = indent, "see values.yaml"
		}
		switch {
		case standard != "":
			if description == "" {
				return nil, fmt.Errorf("line %d: %s has no description", i+1, name)
			}
			values = append(values, value{name, standard, description})
		case description != "":
			values = append(values, value{name, "", description})
		}
	}
	return values, nil
}

func table(values []value) string {
	var b strings.Builder
	b.WriteString("\n| value | default | |\n|---|---|---|\n")
	cell := strings.NewReplacer("|", `\|`, "<", "&lt;")
	for _, v := range values {
		standard := v.standard
		if standard != "" && standard != "see values.yaml" {
			standard = "`" + standard + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", v.name, standard, cell.Replace(v.about))
	}
	return b.String()
}
