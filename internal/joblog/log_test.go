package joblog_test

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/joblog"
	"github.com/glassrunner/glassrunner/internal/redact"
)

var noon = time.Date(2026, 2, 3, 12, 0, 0, 123456789, time.FixedZone("", 3600))

// create makes a log in a directory of its own.
func create(t testing.TB, o joblog.Options) (*joblog.Log, string) {
	t.Helper()
	o.Path = filepath.Join(t.TempDir(), "log")
	l, err := joblog.Create(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, o.Path
}

func write(t testing.TB, w io.Writer, s string) {
	t.Helper()
	if n, err := io.WriteString(w, s); n != len(s) || err != nil {
		t.Fatalf("Write: got %d, %v, want %d, nil", n, err, len(s))
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// check closes l and compares the file with what l says about it.
func check(t testing.TB, l *joblog.Log, path string) string {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got := read(t, path)
	if want := fmt.Sprintf("crc32:%08x", crc32.ChecksumIEEE([]byte(got))); l.Checksum() != want || l.Size() != int64(len(got)) {
		t.Errorf("Sum: got %d, %s, want %d, %s", l.Size(), l.Checksum(), len(got), want)
	}
	return got
}

func TestLog(t *testing.T) {
	l, path := create(t, joblog.Options{Masker: redact.New(redact.Rules{Phrases: []string{"secret"}})})
	runner, out, errs := l.Stream(0, false), l.Stream(1, false), l.Stream(1, true)
	if l.Stream(1, false) != out {
		t.Error("Stream: got another one, want the open one")
	}
	write(t, runner, "Running\x00\r\n")
	write(t, out, "a sec")
	write(t, errs, "ret sec\n")
	write(t, out, "ret\nsec")
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, %v, want 0600", fi.Mode(), err)
	}
	if got, want := check(t, l, path), "Running\x00\r\na ret sec\n[MASKED]\nsec"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, w := range []io.Writer{out, l.Stream(1, false)} {
		if _, err := w.Write([]byte("x")); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Write after Close: got %v, want ErrClosed", err)
		}
	}
	if _, err := joblog.Create(joblog.Options{Path: path}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create of a file that exists: got %v, want ErrExist", err)
	}
	if err := l.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Remove: got %v, want ErrNotExist", err)
	}
}

// A stream that was closed ends its secrets; its successor begins anew.
func TestStreamClose(t *testing.T) {
	l, path := create(t, joblog.Options{Masker: redact.New(redact.Rules{Phrases: []string{"secret"}})})
	for _, s := range []string{"sec", "ret\n", "secret\n"} {
		st := l.Stream(1, false)
		write(t, st, s)
		for range 2 {
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if got, want := check(t, l, path), "secret\n[MASKED]\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUTF8(t *testing.T) {
	tests := []struct{ in, want string }{
		{"é€😀", "é€😀"},
		{"a\xffb", "a\uFFFDb"},
		{"\xff\xfe", "\uFFFD\uFFFD"},
		{"\xe2\x82", "\uFFFD\uFFFD"},
		{"\xe2\x82x", "\uFFFD\uFFFDx"},
		{"\xf0\x9f\x98", "\uFFFD\uFFFD\uFFFD"},
		{"\xed\xa0\x80", "\uFFFD\uFFFD\uFFFD"}, // a surrogate
		{"\x80\x80\x80\x80\x80", strings.Repeat("\uFFFD", 5)},
		{"\uFFFD", "\uFFFD"},
		{"x\xc3", "x\uFFFD"},
	}
	for _, tt := range tests {
		for n := 1; n <= len(tt.in); n++ {
			l, path := create(t, joblog.Options{})
			s := l.Stream(1, false)
			for rest := tt.in; rest != ""; {
				k := min(n, len(rest))
				write(t, s, rest[:k])
				if got := l.Size(); !utf8.ValidString(read(t, path)) {
					t.Errorf("%q in chunks of %d: invalid after %d bytes", tt.in, n, got)
				}
				rest = rest[k:]
			}
			if got := check(t, l, path); got != tt.want {
				t.Errorf("%q in chunks of %d: got %q, want %q", tt.in, n, got, tt.want)
			}
		}
	}
}

func TestLimit(t *testing.T) {
	notice := func(n int) string {
		return fmt.Sprintf("\n\x1b[33;1mJob's log exceeded limit of %d bytes.\nJob execution will continue but no more output will be collected.\x1b[0;m\n", n)
	}
	tests := map[string]struct {
		limit  int64
		writes []string
		want   string
	}{
		"below":     {10, []string{"12345", "6789"}, "123456789"},
		"reached":   {10, []string{"12345", "67890", "x"}, "1234567890" + notice(10)},
		"passed":    {10, []string{"12345", "67890x", "y"}, "1234567890" + notice(10)},
		"in a rune": {4, []string{"12€", "y"}, "12" + notice(4)},
		"after one": {5, []string{"12€3", "y"}, "12€" + notice(5)},
		"one write": {3, []string{strings.Repeat("x", 100_000)}, "xxx" + notice(3)},
		"default":   {0, []string{strings.Repeat("x", 4<<20-1), "yz"}, strings.Repeat("x", 4<<20-1) + "y" + notice(4<<20)},
		"repaired":  {5, []string{"\xff\xff"}, "\uFFFD" + notice(5)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l, path := create(t, joblog.Options{Limit: tt.limit})
			s := l.Stream(1, false)
			for _, p := range tt.writes {
				write(t, s, p)
			}
			write(t, l.Stream(0, false), "")
			if got := check(t, l, path); got != tt.want {
				t.Errorf("got %.200q, want %.200q", got, tt.want)
			}
		})
	}
}

func TestTimestamps(t *testing.T) {
	const at = "2026-02-03T11:00:00.123456Z "
	long := strings.Repeat("0123456789abcdef", 512) // 8 KiB
	type w struct {
		id     byte
		stderr bool
		text   string
	}
	tests := map[string]struct {
		writes []w
		want   string
	}{
		"lines":        {[]w{{0, false, "a\nb\n"}, {1, true, "c\n"}, {15, false, "\n"}}, at + "00O a\n" + at + "00O b\n" + at + "01E c\n" + at + "0fO \n"},
		"one line":     {[]w{{1, false, "a"}, {1, true, "x\n"}, {1, false, "b\n"}}, at + "01E x\n" + at + "01O ab\n"},
		"no end":       {[]w{{1, false, "a\nb"}}, at + "01O a\n" + at + "01O b\n"},
		"section":      {[]w{{0, false, "section_start:1:x\r\x1b[0K"}, {0, false, "\x1b[36;1mTitle\n"}}, at + "00O section_start:1:x\r\x1b[0K\n" + at + "00O+\x1b[36;1mTitle\n"},
		"progress":     {[]w{{1, false, "10%\r"}, {1, false, "20%\r"}, {1, false, "\nnext\n"}}, at + "01O 10%\r\n" + at + "01O+20%\r\n" + at + "01O+\n" + at + "01O next\n"},
		"CRLF":         {[]w{{1, false, "a\r\nb\rc\nd\re"}}, at + "01O a\r\n" + at + "01O b\rc\n" + at + "01O d\re\n"},
		"end after \r": {[]w{{1, false, "a\r"}}, at + "01O a\r\n"},
		"pending, \r":  {[]w{{1, false, "a"}, {1, false, "b\rc"}, {1, false, "d\n"}}, at + "01O ab\rc\n" + at + "01O+d\n"},
		"8 KiB":        {[]w{{1, false, long + "\n"}}, at + "01O " + long + "\n"},
		"8 KiB + 1":    {[]w{{1, false, long[:8000]}, {1, false, long[8000:] + "x"}, {1, false, "y\nz\n"}}, at + "01O " + long + "\n" + at + "01O+xy\n" + at + "01O z\n"},
		"16 KiB":       {[]w{{1, false, long + long + "\n"}}, at + "01O " + long + "\n" + at + "01O+" + long + "\n"},
		"8 KiB, rune":  {[]w{{1, false, long[:8190] + "€" + "\n"}}, at + "01O " + long[:8190] + "\n" + at + "01O+€\n"},
		"NUL":          {[]w{{1, false, "\x00\n"}}, at + "01O \x00\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l, path := create(t, joblog.Options{Timestamps: true, Now: func() time.Time { return noon }})
			for _, w := range tt.writes {
				write(t, l.Stream(w.id, w.stderr), w.text)
			}
			got := check(t, l, path)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
			for _, line := range strings.SplitAfter(strings.TrimSuffix(got, "\n"), "\n") {
				if !stamp.MatchString(line) {
					t.Errorf("%.60q has no header", line)
				}
			}
		})
	}
}

// The header tells when the first byte of an entry came.
func TestTimestampOfFirstByte(t *testing.T) {
	now := noon
	l, path := create(t, joblog.Options{Timestamps: true, Now: func() time.Time { now = now.Add(time.Second); return now }})
	s := l.Stream(1, false)
	for _, p := range []string{"a", "b", "c\nd", "\n"} {
		write(t, s, p)
	}
	want := "2026-02-03T11:00:01.123456Z 01O abc\n2026-02-03T11:00:03.123456Z 01O d\n"
	if got := check(t, l, path); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A line without an end is in the file after a second, so that a crash does
// not lose it; what ends it continues the entry.
func TestTimestampsOfALineWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, path := create(t, joblog.Options{Timestamps: true})
		s := l.Stream(1, false)
		texts := func() string {
			var b strings.Builder
			for line := range strings.Lines(read(t, path)) {
				b.WriteString(line[28:])
			}
			return b.String()
		}
		for _, step := range []struct {
			text string
			wait time.Duration
			want string
		}{
			{"quick\nPassword", 999 * time.Millisecond, "01O quick\n"},
			{": ", 2 * time.Millisecond, "01O quick\n01O Password: \n"},
			{"", time.Hour, "01O quick\n01O Password: \n"},
			{"***", 500 * time.Millisecond, "01O quick\n01O Password: \n"},
			{"\nnext", 600 * time.Millisecond, "01O quick\n01O Password: \n01O+***\n"},
			{"", 500 * time.Millisecond, "01O quick\n01O Password: \n01O+***\n01O next\n"},
			{"\n", 0, "01O quick\n01O Password: \n01O+***\n01O next\n01O+\n"},
		} {
			write(t, s, step.text)
			time.Sleep(step.wait)
			synctest.Wait()
			if got := texts(); got != step.want {
				t.Fatalf("after %q and %v: got %q, want %q", step.text, step.wait, got, step.want)
			}
		}
		write(t, s, "last")
		if got, want := join(t, check(t, l, path))["01O"], "quick\nPassword: ***\nnext\nlast\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		time.Sleep(time.Hour) // a timer that is left does nothing
	})
}

var stamp = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z [0-9a-f]{2}[OE][ +]`)

// join undoes timestamps, as a consumer does, per stream.
func join(t testing.TB, log string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for line := range strings.Lines(log) {
		if !stamp.MatchString(line) {
			t.Fatalf("%.80q has no header", line)
		}
		id, text := line[28:31], line[32:]
		if line[31] == '+' {
			text = strings.TrimSuffix(out[id], "\n") + text
		} else {
			text = out[id] + text
		}
		out[id] = text
	}
	return out
}

func FuzzStream(f *testing.F) {
	f.Add([]byte("a secret\r\nx\r\xffsec"), uint64(1), 8)
	f.Add(bytes.Repeat([]byte("€ secret\r"), 3000), uint64(2), 9000)
	f.Add(bytes.Repeat([]byte("\xf0\x9f\x98\x80"), 5000), uint64(3), 5000)
	f.Fuzz(func(t *testing.T, in []byte, seed uint64, most int) {
		if most < 1 || most > 1<<20 {
			t.Skip()
		}
		m := redact.New(redact.Rules{Phrases: []string{"secret", "\r\n", "aa"}})
		var masked bytes.Buffer
		w := m.Writer(&masked)
		_, _ = w.Write(in)
		_ = w.Close()
		var want strings.Builder
		for rest := masked.Bytes(); len(rest) > 0; {
			r, n := utf8.DecodeRune(rest)
			want.WriteRune(r)
			rest = rest[n:]
		}

		for _, stamps := range []bool{false, true} {
			l, path := create(t, joblog.Options{Masker: m, Timestamps: stamps, Limit: 1 << 30})
			r := rand.New(rand.NewPCG(seed, 1))
			s := l.Stream(1, true)
			for rest := in; len(rest) > 0; {
				n := min(1+r.IntN(most), len(rest))
				write(t, s, string(rest[:n]))
				rest = rest[n:]
			}
			got, want := check(t, l, path), want.String()
			if stamps {
				got = join(t, got)["01E"]
				if want != "" && got != want {
					want += "\n" // of a line that had not ended
				}
			}
			if got != want {
				t.Errorf("timestamps %v: got %q, want %q", stamps, got, want)
			}
		}
	})
}

func TestOpen(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"empty":      {"", "more\n"},
		"whole":      {"line\n", "line\nmore\n"},
		"torn":       {"line", "line\nmore\n"},
		"timestamps": {"2026-02-03T11:00:00.123456Z 01O a\n", ""},
		"large":      {strings.Repeat("0123456\n", 100_000), strings.Repeat("0123456\n", 100_000) + "more\n"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := joblog.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := check(t, l, path); got != tt.text {
				t.Errorf("got %.80q, want it unchanged", got)
			}
			if l, err = joblog.Open(path); err != nil {
				t.Fatal(err)
			}
			write(t, l.Stream(0, false), "more\n")
			got := check(t, l, path)
			if tt.want == "" {
				if j := join(t, got); j["01O"] != "a\n" || j["00O"] != "more\n" {
					t.Errorf("got %q", j)
				}
			} else if got != tt.want {
				t.Errorf("got %.80q, want %.80q", got, tt.want)
			}
		})
	}
	if _, err := joblog.Open(filepath.Join(t.TempDir(), "log")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
}

// Rare writes are in the file at once, floods within a moment, without any
// further call.
func TestWriteThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, path := create(t, joblog.Options{})
		s := l.Stream(1, false)
		want := ""
		for range 3 {
			write(t, s, "rare\n")
			want += "rare\n"
			if got := read(t, path); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			time.Sleep(time.Second)
		}
		for range 100 {
			write(t, s, "flood\n")
			want += "flood\n"
		}
		if got := read(t, path); len(got) >= len(want) {
			t.Error("a flood was not put together")
		}
		time.Sleep(100 * time.Millisecond)
		if got := read(t, path); got != want {
			t.Errorf("100 ms after a flood: got %d bytes, want %d", len(got), len(want))
		}
		write(t, s, "a")
		write(t, s, "b")
		if l.Size() != int64(len(want)+2) || read(t, path) != want+"ab" {
			t.Error("Size counts what is not in the file")
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// faulty fails to write while full is set, after a part of it.
type faulty struct {
	joblog.File
	full *bool
	part int
}

func (f faulty) WriteAt(p []byte, off int64) (int, error) {
	if !*f.full {
		return f.File.WriteAt(p, off)
	}
	n, _ := f.File.WriteAt(p[:min(f.part, len(p))], off)
	return n, &fs.PathError{Op: "write", Path: "/state/log", Err: syscall.ENOSPC}
}

func TestDiskFull(t *testing.T) {
	const notice = "\n\x1b[31;1mERROR: The job's log is incomplete, it could not be stored: no space left on device\x1b[0;m\n"
	synctest.Test(t, func(t *testing.T) {
		var facts []event.Fact
		bus := event.NewBus(event.ObserverFunc(func(e event.Event) { facts = append(facts, e.Fact) }))
		l, path := create(t, joblog.Options{Bus: bus, Scope: event.Scope{Job: 7}})
		full := false
		l.WrapFile(func(f joblog.File) joblog.File { return faulty{f, &full, 3} })
		s := l.Stream(1, false)
		write(t, s, "one\n")
		for range 2 {
			full = true
			for range 10 {
				time.Sleep(10 * time.Millisecond)
				write(t, s, "t€o\n")
			}
			if got, want := l.Size(), int64(len(read(t, path))); got != want {
				t.Errorf("Size: got %d, want %d as in the file", got, want)
			}
			time.Sleep(2 * time.Second)
			full = false
			write(t, s, "three\n")
			time.Sleep(time.Second)
		}
		if err := l.Close(); !errors.Is(err, syscall.ENOSPC) || !errors.Is(l.Err(), syscall.ENOSPC) {
			t.Errorf("got %v and %v, want ENOSPC", err, l.Err())
		}
		if got, want := read(t, path), "one\nt"+notice+"three\ntthree\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := l.Checksum(); got != fmt.Sprintf("crc32:%08x", crc32.ChecksumIEEE([]byte(read(t, path)))) {
			t.Errorf("Checksum: got %s, not that of the file", got)
		}
		degraded := 0
		for _, f := range facts {
			if d, ok := f.(event.Degraded); ok && d.What == "job_log" {
				degraded++
			}
		}
		if degraded != 1 {
			t.Errorf("got %d Degraded facts, want 1: %v", degraded, facts)
		}
	})
}

// LogWritten adds up to the size and comes at most four times a second.
func TestLogWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var facts []event.LogWritten
		bus := event.NewBus(event.ObserverFunc(func(e event.Event) {
			mu.Lock()
			defer mu.Unlock()
			if f, ok := e.Fact.(event.LogWritten); ok && e.Job == 7 {
				facts = append(facts, f)
			}
		}))
		l, path := create(t, joblog.Options{Bus: bus, Scope: event.Scope{Job: 7}})
		s := l.Stream(1, false)
		for range 1000 {
			write(t, s, "text\n")
			time.Sleep(5 * time.Millisecond)
		}
		check(t, l, path)
		var sum int64
		for _, f := range facts {
			sum += f.Bytes
			if f.Total != sum || f.Bytes <= 0 {
				t.Errorf("got %+v after %d bytes", f, sum-f.Bytes)
			}
		}
		if sum != 5000 || len(facts) > 21 {
			t.Errorf("got %d facts of %d bytes, want at most 21 of 5000", len(facts), sum)
		}
	})
}

func TestConcurrent(t *testing.T) {
	l, path := create(t, joblog.Options{Timestamps: true, Bus: event.NewBus(), Scope: event.Scope{Job: job.ID(1)}})
	var wg sync.WaitGroup
	for _, stderr := range []bool{false, true} {
		for id := range byte(3) {
			wg.Go(func() {
				s := l.Stream(id, stderr)
				for i := range 500 {
					_, _ = fmt.Fprintf(s, "line %d\n", i)
					l.Sum()
				}
			})
		}
	}
	wg.Wait()
	var want strings.Builder
	for i := range 500 {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	for id, got := range join(t, check(t, l, path)) {
		if got != want.String() {
			t.Errorf("stream %s: lines are missing or mixed", id)
		}
	}
}
