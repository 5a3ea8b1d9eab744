package coordinator

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	maxAttempts = 5
	firstWait   = 100 * time.Millisecond
	longestWait = time.Minute // of the back-off; what a server asks for has MaxWait
)

// MaxWait is the longest time between two attempts of one call. A server that
// asks for more is asked again after MaxWait.
const MaxWait = 15 * time.Minute

// retriable tells whether a status asks for another attempt.
func retriable(status int) bool {
	switch status {
	case 408, 429, 500, 502, 503, 504:
		return true
	}
	return status >= 512
}

// retryWait returns how long to wait after attempt n (from 1): until
// RateLimit-ResetTime, else Retry-After, else a jittered back-off. cut is true
// when the server asked for more than MaxWait.
func retryWait(h http.Header, now time.Time, n int) (wait time.Duration, cut bool) {
	wait = asked(h, now)
	if wait <= 0 {
		base := min(firstWait<<min(n-1, 16), longestWait)
		return min(base/2+rand.N(base), longestWait), false //nolint:gosec // jitter is no secret.
	}
	if wait > MaxWait {
		return MaxWait, true
	}
	return wait, false
}

// asked returns the wait that the server's headers ask for, 0 or less when
// they ask for none that can be understood.
func asked(h http.Header, now time.Time) time.Duration {
	now = clockOf(h, now)
	if t, err := http.ParseTime(h.Get("RateLimit-ResetTime")); err == nil {
		if d := t.Sub(now); d > 0 {
			return d
		}
	}
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0
	}
	if s, err := strconv.ParseInt(v, 10, 64); err == nil {
		if s > int64(MaxWait/time.Second) {
			return MaxWait + 1
		}
		return time.Duration(s) * time.Second
	}
	// A date is as good as a number, though GitLab's own runner ignores it.
	if t, err := http.ParseTime(v); err == nil {
		return t.Sub(now)
	}
	return 0
}

// clockOf is the time on the clock that a server's dates are of. Where the two
// clocks are far apart, a date minus the time here is no wait.
func clockOf(h http.Header, now time.Time) time.Time {
	const apart = 5 * time.Second // beyond the second that Date is cut to, and the way here
	if date, err := http.ParseTime(h.Get("Date")); err == nil && now.Sub(date).Abs() > apart {
		return date
	}
	return now
}
