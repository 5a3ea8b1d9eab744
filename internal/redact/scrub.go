package redact

import (
	"regexp"
	"strings"
)

var (
	looksLikeToken = regexp.MustCompile(`\b(?:(?:glpat|glrt|glrtr|glcbt|gldt|glptt|glft|glimt|glagent|glwt|glsoat|glffct|gloas|glsat)-[0-9A-Za-z_.=-]{4,}|GR1348941[0-9A-Za-z_-]{4,})`)
	// The user name goes as well: it can be a token.
	credentials = regexp.MustCompile(`://[^/?#\s"'@]*(?:@[^/?#\s"'@]*)*@`)
	named       = regexp.MustCompile(`(?i)((?:private|job|runner|access|registration|authentication)[-_]token["']?\s*[=:]\s*["']?)[^\s&"',;}]+`)
)

// Scrub returns s with what looks like a GitLab token, like credentials in a
// URL, or like the value of a token parameter replaced by Mask. It is for short
// texts of which nobody knows the secrets; who does makes a Masker of them.
func Scrub(s string) string {
	if strings.Contains(s, "://") && strings.Contains(s, "@") {
		s = credentials.ReplaceAllString(s, "://"+Mask+"@")
	}
	if strings.Contains(s, "gl") || strings.Contains(s, "GR1348941") {
		s = looksLikeToken.ReplaceAllString(s, Mask)
	}
	if strings.Contains(s, "oken") || strings.Contains(s, "OKEN") {
		s = named.ReplaceAllString(s, "${1}"+Mask)
	}
	return s
}

// Text returns s as it comes out of m: for messages about a job.
func (m *Masker) Text(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	w := m.Writer(&b)
	_, _ = w.Write([]byte(s)) // a Builder takes everything
	_ = w.Close()
	return b.String()
}
