//go:build linux

package e2e_test

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

var (
	ansi    = regexp.MustCompile("\x1b\\[[0-9;]*[mK]")
	section = regexp.MustCompile(`section_(start|end):\d+:[a-z_0-9]+(\[[^\]]*\])?\r`)
	stamp   = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z ([0-9a-f]{2}[OE])([ +])`)
)

// text is a trace without timestamps as a person reads it: no colours, no
// sections.
func text(trace []byte) string {
	return section.ReplaceAllString(ansi.ReplaceAllString(string(trace), ""), "")
}

// output is what the one command of a job's script printed, to the byte. The
// trace has no timestamps.
func output(t *testing.T, trace []byte, command string) []byte {
	t.Helper()
	_, rest, ok := bytes.Cut(trace, []byte("$ "+command+"\x1b[0;m\n"))
	if !ok {
		t.Fatalf("the trace does not show the command %q:\n%q", command, tail(string(trace), 4<<10))
	}
	end := regexp.MustCompile(`section_end:\d+:step_script\r`).FindIndex(rest)
	if end == nil {
		t.Fatalf("step_script has no end in the trace:\n%q", tail(string(trace), 4<<10))
	}
	return rest[:end[0]]
}

// joined removes the timestamps of a trace and joins lines that were cut. Every
// line has to have one.
func joined(t *testing.T, trace []byte) []byte {
	t.Helper()
	var out []byte
	last := map[string]int{} // where the last entry of a stream ends in out
	for line := range bytes.Lines(trace) {
		m := stamp.FindSubmatch(line)
		if m == nil {
			t.Fatalf("a line of the trace has no timestamp: %q", line)
		}
		stream := string(m[1])
		if string(m[2]) == "+" {
			end, ok := last[stream]
			if !ok || end != len(out) {
				t.Fatalf("a line continues one that is not there: %q", line)
			}
			out = out[:len(out)-1]
		}
		out = append(out, line[len(m[0]):]...)
		last[stream] = len(out)
	}
	return out
}

// has fails the test unless the text has everything in this order.
func has(t *testing.T, text string, want ...string) {
	t.Helper()
	rest := text
	for _, w := range want {
		_, after, ok := strings.Cut(rest, w)
		if !ok {
			t.Errorf("the log lacks %q (in this order):\n%s", w, tail(text, 4<<10))
			return
		}
		rest = after
	}
}

// hasNot fails the test if the text has anything of this.
func hasNot(t *testing.T, text string, unwanted ...string) {
	t.Helper()
	for _, w := range unwanted {
		if strings.Contains(text, w) {
			t.Errorf("the log has %q:\n%s", w, tail(text, 4<<10))
		}
	}
}

// result is what became of a job, in one line.
func result(s fakegitlab.Snapshot) string {
	if s.Status == fakegitlab.Success {
		return string(s.Status)
	}
	r := string(s.Status) + " " + s.FailureReason
	if s.ExitCode != 0 {
		r += " " + strconv.Itoa(s.ExitCode)
	}
	return strings.TrimSpace(r)
}

// want fails the test unless a job ended like this.
func want(t *testing.T, s fakegitlab.Snapshot, expected string) {
	t.Helper()
	if got := result(s); got != expected {
		t.Errorf("job %d (%s) ended %q, want %q:\n%s", s.ID, s.Name, got, expected, tail(string(s.Trace), 4<<10))
	}
}
