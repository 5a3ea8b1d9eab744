// Package pause waits for time to pass, but no longer than somebody wants it to.
package pause

import (
	"context"
	"time"
)

// For waits d. It returns early, with the cause, when ctx ends.
func For(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
