package config

import "strings"

// shortTokenLength is the number of bytes that identify a runner.
const shortTokenLength = 9

// ShortToken returns the short form of a runner token, which logs, metrics,
// directory names and CI_RUNNER_SHORT_TOKEN use: without its prefixes, and at
// most nine bytes long. It identifies the runner and is no secret.
func ShortToken(token string) string {
	if rest, ok := strings.CutPrefix(token, "glrtr-"); ok {
		token = rest
	} else {
		token = cutPartition(strings.TrimPrefix(token, "glrt-"))
	}
	token = strings.TrimPrefix(token, "glcbt-")
	if rest, ok := strings.CutPrefix(token, "GR"); ok && len(rest) >= 7 && isHex(rest[:7]) {
		token = rest[7:]
	}
	return token[:min(len(token), shortTokenLength)]
}

// cutPartition removes the kind of runner (t1_ to t3_) from a token.
func cutPartition(token string) string {
	for _, prefix := range []string{"t1_", "t2_", "t3_"} {
		if rest, ok := strings.CutPrefix(token, prefix); ok {
			return rest
		}
	}
	return token
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
			return false
		}
	}
	return true
}
