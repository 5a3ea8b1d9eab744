package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// errLocked says that another process is changing the configuration.
var errLocked = errors.New("another process has been changing the configuration for too long")

// Severity says whether a problem keeps a configuration from being used.
type Severity int

// The severities.
const (
	Warning Severity = iota // the configuration works, though perhaps not as meant
	Error                   // the configuration is refused
)

// String returns "warning" or "error".
func (s Severity) String() string {
	if s == Error {
		return "error"
	}
	return "warning"
}

// Problem is something wrong or doubtful in a file.
type Problem struct {
	Severity Severity
	File     string
	Line     int // from 1; 0 when the problem belongs to no line
	Column   int // from 1, in characters; 0 when it belongs to no column
	Key      string
	Text     string // what was found and what is allowed; never a secret
}

// String returns the problem in the form file:line:column: severity: key: text.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
		if p.Column > 0 {
			fmt.Fprintf(&b, ":%d", p.Column)
		}
	}
	fmt.Fprintf(&b, ": %s: ", p.Severity)
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Report is what [Load] has to say about a file.
type Report struct {
	Path     string
	Missing  bool      // the file does not exist; the configuration is empty
	Problems []Problem // in the order of the file
}

// Errors returns the problems that keep the configuration from being used.
func (r *Report) Errors() []Problem { return r.of(Error) }

// Warnings returns the other problems.
func (r *Report) Warnings() []Problem { return r.of(Warning) }

func (r *Report) of(s Severity) []Problem {
	var out []Problem
	for _, p := range r.Problems {
		if p.Severity == s {
			out = append(out, p)
		}
	}
	return out
}

// sort orders the problems by their place in the file, those without a place
// last.
func (r *Report) sort() {
	slices.SortStableFunc(r.Problems, func(a, b Problem) int {
		switch {
		case a.Line == b.Line:
			return a.Column - b.Column
		case a.Line == 0:
			return 1
		case b.Line == 0:
			return -1
		}
		return a.Line - b.Line
	})
}

// InvalidError is the error of [Load] for a file with errors in it.
type InvalidError struct {
	Problems []Problem // the errors, at least one
}

// Error returns all problems, one a line.
func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}
