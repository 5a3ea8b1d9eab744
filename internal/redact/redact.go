// Package redact removes secrets from a stream of bytes in one pass, however
// the stream is cut into writes.
//
// The result is that of three filters in a row, each applied to the whole
// stream: phrases (values of masked variables), then values of URL
// parameters, then what follows the prefix of a token. What is removed is
// replaced by [MASKED].
//
//   - Phrases: every byte of every occurrence is hidden. Occurrences that
//     overlap or lie within one another become one [MASKED], occurrences that
//     merely touch become one each. For phrases that do not overlap that is the
//     same as replacing the longest one first; for those that do, no rest of one
//     stays beside the other.
//   - URL parameters: in ?name=value and &name=value the value, which goes up to
//     the next ?, &, white space or control character. Names ignore case. An
//     empty value is left alone.
//   - Tokens: the prefix stays, the run of [0-9A-Za-z._=-] after it goes. When
//     prefixes overlap, the one that ends first counts. A prefix with nothing
//     after it is left alone. Any number of prefixes is used.
//
// A Masker holds back only bytes that may still become part of a phrase, so
// never more than the longest phrase. A phrase that was begun when the stream
// ends is printed as it is.
package redact

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strings"
)

// Mask replaces what is removed.
const Mask = "[MASKED]"

// Rules say what is secret. The zero value still hides URL parameters and
// personal access tokens.
type Rules struct {
	// Phrases are secret as they are: byte for byte, case-sensitive. White
	// space around them is ignored, empty ones are dropped. One with line
	// ends is also found with the carriage returns that a terminal adds.
	Phrases []string
	// URLParameters are names beside private_token, authenticity_token,
	// rss_token, x-amz-signature, x-amz-credential and x-amz-security-token.
	URLParameters []string
	// TokenPrefixes are prefixes beside glpat-. Empty ones are dropped.
	TokenPrefixes []string
	// Encodings also hides base64 and URL-escaped forms of phrases. GitLab
	// Runner does not, so it is off by default.
	Encodings bool
}

// minEncoded is the length from which an encoded form of a phrase is looked
// for: shorter ones would be found in any text.
const minEncoded = 8

// Masker is a compiled set of Rules. It is immutable and may be shared.
type Masker struct {
	phrases trie
	params  trie // lower-case names with their "="
	tokens  trie
	// first tells where a match can begin: it cannot at bytes a, b, c unless
	// first[0][a] & first[1][b] & first[2][c] has a bit in common.
	first [3][256]uint64
}

// New compiles r.
func New(r Rules) *Masker {
	m := &Masker{}
	bucket := 0
	for _, p := range phrases(r) {
		m.phrases.add(p)
		m.watch(bucket, p, len(p))
		bucket++
	}
	m.phrases.link()
	for _, n := range params(r) {
		m.params.add(n)
		for _, c := range []string{"?", "&"} {
			m.watch(bucket, c+n, original(c+n))
			m.watch(bucket, c+strings.ToUpper(n), original(c+n))
		}
	}
	bucket++
	for _, p := range unique(append([]string{"glpat-"}, r.TokenPrefixes...)) {
		m.tokens.add(p)
		m.watch(bucket, p, original(p))
		bucket++
	}
	m.tokens.link()
	return m
}

// original returns how much of p is certainly read as it was written: later
// filters also see what earlier ones put in place of a secret.
func original(p string) int {
	if i := strings.IndexByte(p[1:], Mask[0]); i >= 0 {
		return i + 1
	}
	return len(p)
}

// watch enters the first n bytes of p into the filter.
func (m *Masker) watch(bucket int, p string, n int) {
	bit := uint64(1) << (bucket % 64)
	for i := range m.first {
		if i < n {
			m.first[i][p[i]] |= bit
			continue
		}
		for c := range m.first[i] {
			m.first[i][c] |= bit
		}
	}
}

// skip returns the first place from i on at which a match may begin. The last
// two bytes always are such places.
func (m *Masker) skip(p []byte, i int) int {
	if len(p)-i < 3 {
		return i
	}
	t0, t1, t2 := &m.first[0], &m.first[1], &m.first[2]
	one := t0[p[i]]
	two := one & t1[p[i+1]]
	one = t0[p[i+1]]
	for j, c := range p[i+2:] {
		if two&t2[c] != 0 {
			return i + j
		}
		two = one & t1[c]
		one = t0[c]
	}
	return len(p) - 2
}

func phrases(r Rules) []string {
	var all []string
	for _, p := range r.Phrases {
		p = strings.TrimSpace(p)
		all = append(all, p)
		if strings.Contains(p, "\n") {
			lf := strings.ReplaceAll(p, "\r\n", "\n")
			all = append(all, lf, strings.ReplaceAll(lf, "\n", "\r\n"))
		}
		if r.Encodings {
			all = append(all, encoded(p)...)
		}
	}
	return unique(all)
}

// encoded returns what of p is seen when it is escaped or is part of a text in
// base64, at each of the three ways in which it can be aligned there.
func encoded(p string) []string {
	var forms []string
	for _, e := range []string{url.QueryEscape(p), url.PathEscape(p)} {
		forms = append(forms, e, lowerHex(e))
	}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 {
			text := enc.EncodeToString([]byte(strings.Repeat("\x00", shift) + p))
			// Characters that also hold bits of the neighbours vary.
			from := (shift*8 + 5) / 6
			to := (shift + len(p)) * 8 / 6
			if from < to {
				forms = append(forms, text[from:to])
			}
		}
	}
	return slices.DeleteFunc(forms, func(f string) bool { return len(f) < minEncoded })
}

// lowerHex turns %2F into %2f.
func lowerHex(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:], strings.ToLower(string(b[i+1:i+3])))
		}
	}
	return string(b)
}

func params(r Rules) []string {
	names := []string{
		"private_token", "authenticity_token", "rss_token",
		"x-amz-signature", "x-amz-credential", "x-amz-security-token",
	}
	for _, n := range r.URLParameters {
		if n != "" && !strings.ContainsAny(n, "?&=") {
			names = append(names, lower(n))
		}
	}
	for i := range names {
		names[i] += "="
	}
	return unique(names)
}

// lower folds ASCII only, as the matching does.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = fold(c)
	}
	return string(b)
}

func fold(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// unique returns the different, non-empty ones of s.
func unique(s []string) []string {
	slices.Sort(s)
	s = slices.Compact(s)
	return slices.DeleteFunc(s, func(e string) bool { return e == "" })
}
