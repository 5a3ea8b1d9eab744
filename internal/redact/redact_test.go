package redact_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"math/rand/v2"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/internal/redact"
)

// naive is the specification: each filter over the whole buffer, no cleverness.
func naive(phrases, prefixes []string, in string) string {
	// Phrases.
	cover, join := make([]bool, len(in)), make([]bool, len(in))
	for _, p := range phrases {
		p = strings.TrimSpace(p)
		forms := []string{p}
		if strings.Contains(p, "\n") {
			lf := strings.ReplaceAll(p, "\r\n", "\n")
			forms = append(forms, lf, strings.ReplaceAll(lf, "\n", "\r\n"))
		}
		for _, f := range forms {
			for i := 0; f != "" && i+len(f) <= len(in); i++ {
				if in[i:i+len(f)] != f {
					continue
				}
				for k := range len(f) {
					cover[i+k] = true
					join[i+k] = join[i+k] || k > 0
				}
			}
		}
	}
	var b strings.Builder
	for i := range len(in) {
		switch {
		case !cover[i]:
			b.WriteByte(in[i])
		case !join[i]:
			b.WriteString(redact.Mask)
		}
	}
	// URL parameters.
	text := string(urlParam.ReplaceAll([]byte(b.String()), []byte("$1"+redact.Mask)))
	// Tokens.
	prefixes = append([]string{"glpat-"}, prefixes...)
	var out strings.Builder
	begin := 0
	for end := 0; end < len(text); end++ {
		found := false
		for _, p := range prefixes {
			found = found || p != "" && strings.HasSuffix(text[begin:end], p)
		}
		if !found || !strings.ContainsRune(run, rune(text[end])) {
			continue
		}
		out.WriteString(text[begin:end] + redact.Mask)
		for end < len(text) && strings.ContainsRune(run, rune(text[end])) {
			end++
		}
		begin = end
		end--
	}
	return out.String() + text[begin:]
}

const run = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._=-"

var urlParam = regexp.MustCompile(`([?&](?:` + anyCase("private_token") + `|` + anyCase("authenticity_token") + `|` + anyCase("rss_token") + `|` +
	anyCase("x-amz-signature") + `|` + anyCase("x-amz-credential") + `|` + anyCase("x-amz-security-token") + `)=)[^?&\x00- \x7f]+`)

// anyCase is (?i) without Unicode's odd folds.
func anyCase(s string) string {
	var b strings.Builder
	for _, c := range s {
		if u := strings.ToUpper(string(c)); u != string(c) {
			b.WriteString("[" + string(c) + u + "]")
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}

// chunked masks in at the given cuts.
func chunked(t testing.TB, m *redact.Masker, in string, size func() int) string {
	t.Helper()
	var out bytes.Buffer
	w := m.Writer(&out)
	for in != "" {
		n := min(size(), len(in))
		p := []byte(in[:n])
		if k, err := w.Write(p); k != n || err != nil {
			t.Fatalf("Write: got %d, %v, want %d, nil", k, err, n)
		}
		for i := range p {
			p[i] = '!' // must not be kept
		}
		in = in[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestMask(t *testing.T) {
	tests := map[string]struct {
		phrases, prefixes []string
		in, want          string
	}{
		"nothing":                {nil, nil, "hello\r\n\x00\xff", "hello\r\n\x00\xff"},
		"phrase":                 {[]string{"secret"}, nil, "a secret, secretsecret", "a [MASKED], [MASKED][MASKED]"},
		"case counts":            {[]string{"secret"}, nil, "Secret SECRET", "Secret SECRET"},
		"trimmed and empty":      {[]string{" \tsecret\n", "", "  "}, nil, "[secret]", "[[MASKED]]"},
		"failed partial match":   {[]string{"aab"}, nil, "aaab", "a[MASKED]"},
		"longest first":          {[]string{"abc", "abcdef"}, nil, "abcdef abcde", "[MASKED] [MASKED]de"},
		"inner":                  {[]string{"b", "abcd"}, nil, "abc abcd", "a[MASKED]c [MASKED]"},
		"overlap":                {[]string{"abcd", "cdefgh"}, nil, "abcdefgh", "[MASKED]"},
		"overlap with itself":    {[]string{"aa"}, nil, "aaaaa", "[MASKED]"},
		"one byte":               {[]string{"x"}, nil, "axxb", "a[MASKED][MASKED]b"},
		"partial at the end":     {[]string{"secret"}, nil, "secre", "secre"},
		"newline":                {[]string{"k1\nk2\nk3"}, nil, "k1\nk2\nk3 k1\r\nk2\r\nk3 k1k2k3", "[MASKED] [MASKED] k1k2k3"},
		"newline given as CRLF":  {[]string{"k1\r\nk2"}, nil, "k1\nk2 k1\r\nk2", "[MASKED] [MASKED]"},
		"URL":                    {nil, nil, "http://x/?private_token=abc&b=c&RSS_Token=d?e x", "http://x/?private_token=[MASKED]&b=c&RSS_Token=[MASKED]?e x"},
		"URL, all names":         {nil, nil, "&authenticity_token=1&x-amz-signature=2&X-Amz-Credential=3&X-AMZ-Security-Token=4\n", "&authenticity_token=[MASKED]&x-amz-signature=[MASKED]&X-Amz-Credential=[MASKED]&X-AMZ-Security-Token=[MASKED]\n"},
		"URL, empty value":       {nil, nil, "?rss_token= ?rss_token=&rss_token=?rss_token=", "?rss_token= ?rss_token=&rss_token=?rss_token="},
		"URL, no parameter":      {nil, nil, "private_token=a ?xprivate_token=a ?private_tokens=a", "private_token=a ?xprivate_token=a ?private_tokens=a"},
		"URL and phrase":         {[]string{"secret"}, nil, "?rss_token=secret ?rss_token=a-secret-b", "?rss_token=[MASKED] ?rss_token=[MASKED]"},
		"token":                  {nil, nil, "glpat-abc.d_e=f-g! glpat- glpat-", "glpat-[MASKED]! glpat- glpat-"},
		"token, not in the list": {nil, nil, "glrt-abc", "glrt-abc"},
		"token and phrase":       {[]string{"secret"}, nil, "glpat-secret glpat-xsecret", "glpat-[MASKED] glpat-[MASKED][MASKED]"},
		"token within token":     {nil, []string{"glrt-"}, "glpat-aglrt-b", "glpat-[MASKED]"},
		"token in parameter":     {nil, nil, "?rss_token=glpat-abc", "?rss_token=[MASKED]"},
		"overlapping prefixes":   {nil, []string{"gl", "gl$t:"}, "glpat-abc gl$t:abc", "gl[MASKED] gl$t:[MASKED]"},
		"more than 15 prefixes": {nil, strings.Split("p0: p1: p2: p3: p4: p5: p6: p7: p8: p9: pa: pb: pc: pd: pe: pf: longest-of-them:", " "),
			"p0:x pf:x longest-of-them:x", "p0:[MASKED] pf:[MASKED] longest-of-them:[MASKED]"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := naive(tt.phrases, tt.prefixes, tt.in); got != tt.want {
				t.Errorf("specification: got %q, want %q", got, tt.want)
			}
			m := redact.New(redact.Rules{Phrases: tt.phrases, TokenPrefixes: tt.prefixes})
			for _, n := range []int{1, 2, 3, 5, 7, 1000} {
				if got := chunked(t, m, tt.in, func() int { return n }); got != tt.want {
					t.Errorf("chunks of %d: got %q, want %q", n, got, tt.want)
				}
			}
		})
	}
}

// Every phrase is found wherever it lies in large writes, at any offset to
// the blocks in which the masker works.
func TestMaskPlaces(t *testing.T) {
	m := redact.New(redact.Rules{Phrases: []string{"secret"}})
	for _, at := range []int{0, 1, 2, 3, 4095, 32<<10 - 3, 32 << 10, 100_000, 199_994} {
		in := bytes.Repeat([]byte{'s'}, 200_000)
		copy(in[at:], "secret")
		want := string(in[:at]) + redact.Mask + string(in[at+6:])
		for _, n := range []int{len(in), 32 << 10, 4097} {
			if got := chunked(t, m, string(in), func() int { return n }); got != want {
				t.Errorf("secret at %d, chunks of %d: masked wrongly", at, n)
			}
		}
	}
}

func TestEncodings(t *testing.T) {
	const secret = "pa/ss wörd+1"
	in := []string{url.QueryEscape(secret), strings.ToLower(url.PathEscape("/")) + "plain"}
	for i := range 4 {
		in = append(in, base64.StdEncoding.EncodeToString([]byte(strings.Repeat("u", i)+secret+"tail")))
	}
	text := strings.Join(in, "\n")
	if got := chunked(t, redact.New(redact.Rules{Phrases: []string{secret}}), text, func() int { return 9 }); got != text {
		t.Errorf("default: got %q, want it unchanged", got)
	}
	got := chunked(t, redact.New(redact.Rules{Phrases: []string{secret}, Encodings: true}), text, func() int { return 9 })
	if n := strings.Count(got, redact.Mask); n != 5 {
		t.Errorf("got %d masks in %q, want 5", n, got)
	}
}

// What is complete is handed on at once; what is held back is bounded.
func TestHeld(t *testing.T) {
	var out bytes.Buffer
	w := redact.New(redact.Rules{Phrases: []string{"secret", "aaaaaaab"}}).Writer(&out)
	for _, s := range []string{"Password: ", "secret", "glpat-", "abc", "?rss_token=", "x"} {
		if _, err := io.WriteString(w, s); err != nil {
			t.Fatal(err)
		}
		if w.Held() != 0 {
			t.Errorf("after %q: %d bytes held, want 0", s, w.Held())
		}
	}
	if got, want := out.String(), "Password: [MASKED]glpat-[MASKED]?rss_token=[MASKED]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for range 100 {
		if _, err := w.Write(bytes.Repeat([]byte("a"), 999)); err != nil {
			t.Fatal(err)
		}
		if w.Held() > 7 {
			t.Fatalf("%d bytes held, want at most 7", w.Held())
		}
	}
}

// Flush begins a new stream: nothing matches across it.
func TestFlush(t *testing.T) {
	var out bytes.Buffer
	w := redact.New(redact.Rules{Phrases: []string{"secret"}}).Writer(&out)
	for _, s := range []string{"sec", "ret glpat-", "abc", "?rss_token=", "x"} {
		if _, err := io.WriteString(w, s); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := out.String(), "secret glpat-abc?rss_token=x"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Write after Close: got %v, want ErrClosedPipe", err)
	}
}

// One write in is at most one write out, and none for nothing.
func TestWrites(t *testing.T) {
	var writes []int
	w := redact.New(redact.Rules{Phrases: []string{"secret"}}).Writer(writer(func(p []byte) (int, error) {
		writes = append(writes, len(p))
		return len(p), nil
	}))
	for _, s := range []string{strings.Repeat("a secret ", 1000), "sec", "ret", strings.Repeat("x", 16<<10)} {
		n := len(writes)
		if _, err := io.WriteString(w, s); err != nil {
			t.Fatal(err)
		}
		if len(writes)-n > 1 {
			t.Errorf("%d writes for one of %d bytes: %v", len(writes)-n, len(s), writes[n:])
		}
	}
	if len(writes) != 3 {
		t.Errorf("got %d writes, want 3", len(writes))
	}
}

func TestError(t *testing.T) {
	full := errors.New("full")
	w := redact.New(redact.Rules{}).Writer(writer(func([]byte) (int, error) { return 0, full }))
	for range 2 {
		if _, err := w.Write([]byte("text")); !errors.Is(err, full) {
			t.Errorf("got %v, want %v", err, full)
		}
	}
}

type writer func([]byte) (int, error)

func (f writer) Write(p []byte) (int, error) { return f(p) }

func TestAllocs(t *testing.T) {
	m := redact.New(redact.Rules{Phrases: words(20)})
	w := m.Writer(io.Discard)
	in := []byte(sample(16<<10, words(20)))
	_, _ = w.Write(in)
	if n := testing.AllocsPerRun(100, func() { _, _ = w.Write(in) }); n != 0 {
		t.Errorf("got %v allocations a write, want 0", n)
	}
}

func FuzzMask(f *testing.F) {
	f.Add("secret|aab|a b", "glrt-", "a secret aaab ?rss_token=x glpat-abc", uint64(1))
	f.Add("ab|bc|cab|a\nb", "b:|:b", "abcabca\r\nb:bb?RSS_token=ab&rss_token=c", uint64(2))
	f.Add("[MASKED]|MASK|K", "[M|ED]|]", "K[MASKED] MASKED", uint64(3))
	f.Add("e=|t=|?r", "rss_token=|?rss|&", "??rss_token=&rss_token=t=1", uint64(4))
	f.Fuzz(func(t *testing.T, phrases, prefixes, in string, seed uint64) {
		ph, pr := strings.Split(phrases, "|"), strings.Split(prefixes, "|")
		if len(ph)+len(pr) > 60 || len(in) > 4000 {
			t.Skip()
		}
		m := redact.New(redact.Rules{Phrases: ph, TokenPrefixes: pr})
		want := naive(ph, pr, in)
		r := rand.New(rand.NewPCG(seed, 1))
		for _, most := range []int{1, 4, 40, 4000} {
			if got := chunked(t, m, in, func() int { return 1 + r.IntN(most) }); got != want {
				t.Errorf("phrases %q, prefixes %q, chunks up to %d\n in  %q\n got %q\nwant %q", ph, pr, most, in, got, want)
			}
		}
	})
}

// TestRandom is FuzzMask over small alphabets, where everything overlaps.
func TestRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	pieces := []string{"a", "b", "ab", "-", "?", "&", "=", " ", "\n", "\r\n", "rss_token=", "?rSS_token", "glpat-", "gl", "[MASKED]", "é", "\xff", "x:"}
	text := func(n int) string {
		var b strings.Builder
		for range r.IntN(n) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		return b.String()
	}
	for range 4000 {
		ph, pr := []string{text(6), text(4), text(3)}, []string{text(3), text(3)}
		in := text(60)
		m := redact.New(redact.Rules{Phrases: ph, TokenPrefixes: pr})
		most := 1 + r.IntN(20)
		got, want := chunked(t, m, in, func() int { return 1 + r.IntN(most) }), naive(ph, pr, in)
		if got != want {
			t.Fatalf("phrases %q, prefixes %q, chunks up to %d\n in  %q\n got %q\nwant %q", ph, pr, most, in, got, want)
		}
	}
}

// words returns n phrases that look like secrets.
func words(n int) []string {
	r := rand.New(rand.NewPCG(1, 2))
	var ws []string
	for range n {
		var b strings.Builder
		for range 10 + r.IntN(30) {
			b.WriteByte(run[r.IntN(len(run))])
		}
		ws = append(ws, b.String())
	}
	return ws
}

// sample returns what a build prints, with a secret on some lines.
func sample(n int, secrets []string) string {
	r := rand.New(rand.NewPCG(3, 4))
	text := strings.Fields("compiling linking internal/coordinator warning: /usr/lib/x86_64-linux-gnu ok error: foo.go:123:45 go generate -o build/a.out https://example.com/a?b=c&d=e " +
		"PASS --- the quick brown fox [=====>] 100% 0.013s \x1b[32;1m$ \x1b[0;m glibc github.com/")
	var b strings.Builder
	for b.Len() < n {
		for range 9 {
			b.WriteString(text[r.IntN(len(text))] + " ")
		}
		if len(secrets) > 0 && r.IntN(10) == 0 {
			b.WriteString(secrets[r.IntN(len(secrets))])
		}
		b.WriteByte('\n')
	}
	return b.String()[:n]
}

func BenchmarkMask(b *testing.B) {
	prefixes := strings.Fields("gloas- gldt- glrt- glcbt- glrtr- glptt- glft- glimt- glagent- glsoat- glffct- _gitlab_session= gltok-")
	secrets := words(20)
	for _, bb := range []struct {
		name    string
		phrases int
		in      string
		chunk   int
	}{
		{"plain/phrases=0", 0, sample(1<<20, nil), 32 << 10},
		{"plain/phrases=20", 20, sample(1<<20, nil), 32 << 10},
		{"plain/phrases=20/lines", 20, sample(1<<20, nil), 80},
		{"secrets/phrases=20", 20, sample(1<<20, secrets), 32 << 10},
		{"worst/phrases=20", 20, strings.Repeat(secrets[0][:9], 1<<17)[:1<<20], 32 << 10},
	} {
		b.Run(bb.name, func(b *testing.B) {
			w := redact.New(redact.Rules{Phrases: secrets[:bb.phrases], TokenPrefixes: prefixes}).Writer(io.Discard)
			in := []byte(bb.in)
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				for p := in; len(p) > 0; {
					n := min(bb.chunk, len(p))
					_, _ = w.Write(p[:n])
					p = p[n:]
				}
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	secrets := words(20)
	b.ReportAllocs()
	for b.Loop() {
		redact.New(redact.Rules{Phrases: secrets})
	}
}

func TestText(t *testing.T) {
	m := redact.New(redact.Rules{Phrases: []string{"hunter2"}})
	for in, want := range map[string]string{
		"":                          "",
		"cannot open hunter2":       "cannot open [MASKED]",
		"hunter2hunter2 glpat-abcd": "[MASKED][MASKED] glpat-[MASKED]",
		"a hunter that is one":      "a hunter that is one",
		"ends with hunt":            "ends with hunt",
	} {
		if got := m.Text(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
