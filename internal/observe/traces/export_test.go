package traces

import "errors"

// Rejected returns what an answer says was not taken.
func Rejected(answer []byte) int64 {
	var r *rejected
	errors.As(partial(answer), &r)
	if r == nil {
		return 0
	}
	return r.n
}
