package job

import (
	"slices"
	"strconv"
	"strings"
)

// Variable is one variable of a job.
type Variable struct {
	Key, Value string
	Public     bool // may be given to service containers
	Masked     bool // its value never appears in the job log
	File       bool // the job sees the path of a file with the value
	Raw        bool // its value is not expanded
	Internal   bool // made by the runner
}

// Variables are in order of precedence: the last one of a key wins.
type Variables []Variable

// Lookup returns the last variable of that key.
func (vs Variables) Lookup(key string) (Variable, bool) {
	for _, v := range slices.Backward(vs) {
		if v.Key == key {
			return v, true
		}
	}
	return Variable{}, false
}

// Value returns the value of the last variable of that key, or "".
func (vs Variables) Value(key string) string {
	v, _ := vs.Lookup(key)
	return v.Value
}

// Bool parses a switch as Go's strconv.ParseBool does. ok is false when the
// variable has a value that is no truth value; then def is returned.
func (vs Variables) Bool(key string, def bool) (value, ok bool) {
	v, found := vs.Lookup(key)
	if !found || v.Value == "" {
		return def, true
	}
	b, err := strconv.ParseBool(v.Value)
	if err != nil {
		return def, false
	}
	return b, true
}

// Expanded returns vs with $NAME and ${NAME} replaced in every value that is
// not raw, in one pass: a value is replaced by the unexpanded value of the
// variable that it names. A file variable expands to filePath of its key.
func (vs Variables) Expanded(filePath func(key string) string) Variables {
	out := make(Variables, len(vs))
	copy(out, vs)
	var last map[string]int // few jobs need it
	for i := range out {
		if !out[i].Raw && strings.IndexByte(out[i].Value, '$') >= 0 {
			if last == nil {
				last = vs.index()
			}
			out[i].Value = vs.expand(out[i].Value, last, filePath)
		}
	}
	return out
}

// Expand replaces $NAME and ${NAME} in text. Unknown names become empty, $$
// becomes $, and the shell's special parameters ($*, $#, $0…) become empty.
func (vs Variables) Expand(text string, filePath func(key string) string) string {
	if strings.IndexByte(text, '$') < 0 {
		return text
	}
	return vs.expand(text, vs.index(), filePath)
}

func (vs Variables) index() map[string]int {
	last := make(map[string]int, len(vs))
	for i := range vs {
		last[vs[i].Key] = i
	}
	return last
}

func (vs Variables) expand(text string, last map[string]int, filePath func(string) string) string {
	var b strings.Builder
	b.Grow(len(text))
	for i := 0; i < len(text); {
		c := text[i]
		if c != '$' {
			b.WriteByte(c)
			i++
			continue
		}
		name, width, literal := reference(text[i+1:])
		if width == 0 {
			b.WriteByte('$')
			i++
			continue
		}
		i += 1 + width
		if literal != "" {
			b.WriteString(literal)
			continue
		}
		n, ok := last[name]
		if !ok {
			continue
		}
		if vs[n].File && filePath != nil {
			b.WriteString(filePath(name))
			continue
		}
		b.WriteString(vs[n].Value)
	}
	return b.String()
}

// reference reads what follows a dollar sign: the name, the number of bytes
// that it takes, and the text that stands for it when that is fixed.
func reference(s string) (name string, width int, literal string) {
	if s == "" {
		return "", 0, ""
	}
	switch c := s[0]; {
	case c == '$':
		return "", 1, "$"
	case c == '{':
		end := strings.IndexByte(s, '}')
		if end < 0 {
			return "", 0, ""
		}
		return s[1:end], end + 1, ""
	case strings.IndexByte("*#@!?-0123456789", c) >= 0:
		return "", 1, ""
	}
	n := 0
	for n < len(s) && (s[n] == '_' || 'a' <= s[n] && s[n] <= 'z' || 'A' <= s[n] && s[n] <= 'Z' || n > 0 && '0' <= s[n] && s[n] <= '9') {
		n++
	}
	return s[:n], n, ""
}

// StepPhase is the phase of a user's step.
func StepPhase(step string) Phase { return Phase("step_" + strings.ToLower(step)) }
