package docker_test

import (
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/internal/executor/docker"
)

func TestMarked(t *testing.T) {
	const mark = "ABABC"
	for _, tt := range []struct {
		name, in, out string
		code          int
		ok            bool
	}{
		{"nothing before", "\x1eABABC 0\x1e", "", 0, true},
		{"no end of line", "one\x1eABABC 17\x1e", "one", 17, true},
		{"what is behind is nobody's", "one\n\x1eABABC 1\x1etwo", "one\n", 1, true},
		{"looks like it", "\x1eABAB \x1eABABC1\x1e ABABC 2\x1eABABC 3\x1e", "\x1eABAB \x1eABABC1\x1e ABABC 2", 3, true},
		{"other mark", "\x1eXBABC 0\x1e", "\x1eXBABC 0", 0, false}, // the last byte may begin one,
		{"no number", "a\x1eABABC x\x1e", "a", -1, true},
		{"never ends", "a\x1eABABC 123456789012345", "a", -1, true},
		{"cut off", "a\x1eABABC 12", "a", 0, false},
		{"empty", "", "", 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for cut := range len(tt.in) + 1 {
				out, code, ok := docker.Marked(mark, [][]byte{[]byte(tt.in[:cut]), []byte(tt.in[cut:])})
				if out != tt.out || code != tt.code || ok != tt.ok {
					t.Errorf("cut at %d: got %q, %d, %v, want %q, %d, %v", cut, out, code, ok, tt.out, tt.code, tt.ok)
				}
			}
			var single [][]byte
			for i := range len(tt.in) {
				single = append(single, []byte(tt.in[i:i+1]))
			}
			if out, code, ok := docker.Marked(mark, single); out != tt.out || code != tt.code || ok != tt.ok {
				t.Errorf("byte by byte: got %q, %d, %v", out, code, ok)
			}
		})
	}
}

// FuzzMarked: where the stream is cut makes no difference, and what comes
// before the mark comes through.
func FuzzMarked(f *testing.F) {
	f.Add("some text", "behind", 3, 7)
	f.Add("\x1eABABC", "\x1e", 6, 9)
	f.Add("\x1eABAB\x1eABABC", "", 1, 12)
	f.Fuzz(func(t *testing.T, text, behind string, a, b int) {
		if strings.Contains(text, "\x1eABABC ") {
			t.Skip("holds the mark")
		}
		all := text + "\x1eABABC 42\x1e" + behind
		cut := func(n int) int { return min(max(n, 0), len(all)) }
		a, b = cut(a), cut(b)
		if a > b {
			a, b = b, a
		}
		out, code, ok := docker.Marked("ABABC", [][]byte{[]byte(all[:a]), []byte(all[a:b]), []byte(all[b:])})
		if out != text || code != 42 || !ok {
			t.Errorf("cut at %d and %d: got %q, %d, %v, want %q, 42", a, b, out, code, ok, text)
		}
	})
}
