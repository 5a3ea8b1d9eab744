//go:build linux

package e2e_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// TestLogIsExact compares what a job prints with what the server has, to the byte.
func TestLogIsExact(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{UpdateInterval: 1})
	w.start(w.config("", entry{Extra: "  output_limit = 16384\n"}))
	random := rand.New(rand.NewPCG(1, 2))
	ascii := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(' ' + random.IntN(95))
			if random.IntN(80) == 0 {
				b[i] = '\n'
			}
		}
		return b
	}
	control := make([]byte, 0, 128*4)
	for i := range 128 {
		control = append(control, byte(i), 'x', byte(127-i), '\n')
	}
	tests := []struct {
		name      string
		in, want  []byte // no want: in
		byteWrite bool   // one write for each byte
	}{
		{name: "nothing"},
		{name: "no line end", in: []byte("no line end")},
		{name: "control bytes and NUL", in: control},
		{name: "carriage returns", in: []byte("\r10%\r20%\r\n\r\n\n\r")},
		{name: "one long line", in: append(bytes.Repeat([]byte("0123456789abcdef"), 1<<16), '\n')},
		{name: "characters", in: []byte("aé世\U0001F600\u0000b\ufffd\n")},
		{name: "characters in pieces", in: []byte(strings.Repeat("aé世\U0001F600", 50) + "\n"), byteWrite: true},
		{name: "invalid UTF-8", in: []byte("a\xffb\xc3(c\x80\n"), want: []byte("a\ufffdb\ufffd(c\ufffd\n")},
		{name: "a character that is cut", in: []byte("a\xe4\xb8"), want: []byte("a\ufffd\ufffd")},
		{name: "escape sequences and markers", in: []byte("\x1b[31mred\x1b[0m section_start:1:mine\r\x1b[0Ktext section_end:1:mine\r\x1b[0K\n")},
		{name: "what looks like a timestamp", in: []byte("2026-01-01T00:00:00.000000Z 00O text\n")},
		{name: "five megabytes", in: ascii(5 << 20)},
	}
	t.Run("all", func(t *testing.T) {
		for i, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(w.dir, fmt.Sprintf("data-%d", i))
				if err := os.WriteFile(path, tt.in, 0o600); err != nil {
					t.Fatal(err)
				}
				command := "cat " + path
				if tt.byteWrite {
					command = "dd bs=1 status=none if=" + path
				}
				s := wait(t, w, enqueue(t, w, fakegitlab.Job{Script: []string{command}}))
				want(t, s, "success")
				expected := tt.want
				if expected == nil {
					expected = tt.in
				}
				sameBytes(t, output(t, s.Trace, command), expected)
				if !bytes.HasSuffix(s.Trace, []byte("Job succeeded\x1b[0;m\n")) {
					t.Errorf("the log ends with %q", tail(string(s.Trace), 100))
				}
			})
		}
	})
}

// sameBytes fails the test unless got and want are equal, and says where they are not.
func sameBytes(t *testing.T, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	n := 0
	for n < len(got) && n < len(want) && got[n] == want[n] {
		n++
	}
	around := func(b []byte) string { return fmt.Sprintf("%q", b[max(0, n-20):min(len(b), n+60)]) }
	t.Errorf("%d bytes, want %d; from byte %d on:\n got %s\nwant %s", len(got), len(want), n, around(got), around(want))
}

// TestStdoutAndStderr checks that the order of the two is kept.
func TestStdoutAndStderr(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	w.start(w.config(""))
	command := "i=0; while [ $i -lt 500 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done"
	s := w.run(fakegitlab.Job{Script: []string{command}})
	var expected bytes.Buffer
	for i := range 500 {
		fmt.Fprintf(&expected, "out %d\nerr %d\n", i, i)
	}
	sameBytes(t, output(t, s.Trace, command), expected.Bytes())
}

// TestOutputLimit fills a log: the job goes on, the log does not.
func TestOutputLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	w.start(w.config("", entry{Extra: "  output_limit = 64\n"}))
	command := "yes 123456789 | head -c 5242880; echo done > $CI_BUILDS_DIR/done"
	s := w.run(fakegitlab.Job{Script: []string{command}})
	want(t, s, "success")
	if !exists(filepath.Join(w.dir, "builds", "done")) {
		t.Error("the job did not run to its end")
	}
	const limit = 64 << 10
	if s.TraceSize < limit || s.TraceSize > limit+300 {
		t.Errorf("the log has %d bytes, its limit is %d", s.TraceSize, limit)
	}
	if !bytes.HasPrefix(output(t, append(s.Trace, "section_end:1:step_script\r"...), command), []byte("123456789\n")) {
		t.Error("the output does not begin with what was printed")
	}
	has(t, text(s.Trace), "\nJob's log exceeded limit of 65536 bytes.\nJob execution will continue but no more output will be collected.\n")
	hasNot(t, text(s.Trace), "Job succeeded")
}

// TestMasking prints secrets in every way that a job may.
func TestMasking(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	w.start(w.config(""))
	const secret = "s3cr3t+value/with=odd.chars"
	masked := []fakegitlab.Variable{
		{Key: "SECRET", Value: secret, Masked: true},
		{Key: "LONGER", Value: secret + "-longer", Masked: true},
		{Key: "REPEATS", Value: "ababac", Masked: true},
		{Key: "LINES", Value: "line one\nline two", Masked: true},
		{Key: "FILED", Value: "content of a file", Masked: true, File: true},
		{Key: "COMPOSED", Value: "pre-$SECRET-post", Public: true},
	}
	tests := []struct{ name, command, want string }{
		{"plain", `echo "<$SECRET>"`, "<[MASKED]>\n"},
		{"the longer one wins", `echo "<$LONGER>"`, "<[MASKED]>\n"},
		{"in another variable", `echo "$COMPOSED"`, "pre-[MASKED]-post\n"},
		{"again and again", `echo "$SECRET$SECRET"`, "[MASKED][MASKED]\n"},
		{"byte by byte", `printf %s "<$SECRET>" | dd bs=1 status=none`, "<[MASKED]>"},
		{"with pauses", `printf 's3cr3t+'; sleep 0.3; printf 'value/with='; sleep 0.3; echo odd.chars.`, "[MASKED].\n"},
		{"overlapping", `echo "abab$REPEATS"`, "abab[MASKED]\n"},
		{"more than a line", `echo "$LINES."`, "[MASKED].\n"},
		{"a file's content", `cat $FILED; echo .`, "[MASKED].\n"},
		{"half of it is no secret", `echo s3cr3t+value`, "s3cr3t+value\n"},
		{"at the end of the log", `printf 's3cr3t+val'`, "s3cr3t+val"},
		{"job token", `echo "$CI_JOB_TOKEN"`, "[MASKED]\n"},
		{"repository URL", `echo "$CI_REPOSITORY_URL" | cut -d@ -f1`, "http://gitlab-ci-token:[MASKED]\n"},
		{"token prefix", `echo glpat-abc.DEF_123-x=; echo glrt-xyz; echo mytok-0123; echo glpat-`, "glpat-[MASKED]\nglrt-[MASKED]\nmytok-[MASKED]\nglpat-\n"},
		{"token prefix in pieces", `printf 'glpa'; sleep 0.2; printf 't-ab'; sleep 0.2; echo 'cd ef'`, "glpat-[MASKED] ef\n"},
		{"URL parameters", `echo 'http://x/?private_token=abc&b=1&X-Amz-Signature=def ok'`, "http://x/?private_token=[MASKED]&b=1&X-Amz-Signature=[MASKED] ok\n"},
		{"to stderr", `echo "<$SECRET>" >&2`, "<[MASKED]>\n"},
	}
	t.Run("all", func(t *testing.T) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				vars := append(empty(), masked...)
				s := wait(t, w, enqueue(t, w, fakegitlab.Job{
					Script: []string{tt.command}, Variables: vars,
					Edit: func(p *fakegitlab.Payload) {
						p.Features.TokenMaskPrefixes = append(p.Features.TokenMaskPrefixes, "mytok-")
					},
				}))
				want(t, s, "success")
				lines := bytes.SplitN(s.Trace, []byte(`stage of the job script`), 2)
				if len(lines) != 2 {
					t.Fatalf("the script has no section:\n%s", s.Trace)
				}
				// The echo of the command is masked as well, so it is cut by its end.
				_, after, _ := bytes.Cut(lines[1], []byte("$ "))
				_, after, _ = bytes.Cut(after, []byte("\x1b[0;m\n"))
				got, _, _ := bytes.Cut(after, []byte("section_end:"))
				if string(got) != tt.want {
					t.Errorf("the log has %q, want %q", got, tt.want)
				}
			})
		}
	})
	has(t, w.procs[0].log.String(), "Job succeeded")
	hasNot(t, w.procs[0].log.String(), secret)
}

// TestMaskingOfTokens prints tokens of GitLab's, with and without the flag
// that extends the list of their kinds.
func TestMaskingOfTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	w.start(w.config(""))
	script := []string{"for p in glpat- glrt- glcbt- gltok- mine- other-; do echo ${p}AbC_123.x=y end; done"}
	own := func(p *fakegitlab.Payload) { p.Features.TokenMaskPrefixes = []string{"mine-"} }
	s := w.run(fakegitlab.Job{Script: script, Edit: own})
	has(t, text(s.Trace), "\nglpat-[MASKED] end\n", "glrt-[MASKED] end\n", "glcbt-[MASKED] end\n", "gltok-[MASKED] end\n", "mine-[MASKED] end\n", "other-AbC_123.x=y end\n")
	s = w.run(fakegitlab.Job{Script: script, Edit: own, Variables: public("FF_MASK_ALL_DEFAULT_TOKENS", "false"), Relax: []fakegitlab.Rule{fakegitlab.RuleSecrets}})
	has(t, text(s.Trace), "\nglpat-[MASKED] end\n", "glrt-AbC_123.x=y end\n", "gltok-AbC_123.x=y end\n", "mine-[MASKED] end\n")
}

// TestMaskingOfDebugTrace has a debug trace print the values of variables, masked all the same.
func TestMaskingOfDebugTrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	w.start(w.config("", entry{Shell: "bash"}))
	s := w.run(fakegitlab.Job{
		Script:    []string{`true "$SECRET"`},
		Variables: append(public("CI_DEBUG_TRACE", "true"), fakegitlab.Variable{Key: "SECRET", Value: "very-much-masked", Masked: true}),
	})
	want(t, s, "success")
	if !s.Debug {
		t.Error("the server was not told of the debug trace")
	}
	has(t, text(s.Trace), "+ true [MASKED]")
	hasNot(t, text(s.Trace), "very-much-masked", s.Token)
}
