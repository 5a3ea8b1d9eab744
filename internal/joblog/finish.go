package joblog

import (
	"context"
	"errors"
	"fmt"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/pause"
)

// errTrouble stands for trouble that came without an error.
var errTrouble = errors.New("the coordinator cannot take it now")

// Finish ends Run and the log, sends what is unsent and delivers u, whose size
// and checksum it fills in. It returns nil when the coordinator has taken u or
// does not want it: the job is gone, or not this runner's any more. While the
// coordinator stores the log or does not agree about it, Finish goes on
// without limit; after FinalRetries failures, or when ctx ends, it returns an
// error. What the coordinator wants of the job does not matter any more.
func (u *Uploader) Finish(ctx context.Context, up job.Update) error {
	u.Stop()
	_ = u.o.Log.Close() // the log itself and an event say what could not be stored
	u.o.Log.scoped(event.ScopeOf(ctx))
	u.interval = u.o.Interval
	up.Size, up.Checksum = u.o.Log.Sum()

	retry := firstRetry
	for try := 1; ; try++ {
		err := u.deliver(ctx, up)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("the job's final state: %w", err)
		case try == u.o.FinalRetries:
			return fmt.Errorf("the job's final state could not be delivered, tried %d times: %w", try, err)
		}
		// One interval, then the back-off.
		if err := pause.For(ctx, u.interval+retry); err != nil {
			return fmt.Errorf("the job's final state: %w", err)
		}
		retry = min(2*retry, maxRetry)
	}
}

// deliver sends the rest of the log and the final state until the coordinator
// has both. Its error is worth another try.
func (u *Uploader) deliver(ctx context.Context, up job.Update) error {
	for {
		if err := u.drain(ctx); err != nil {
			return err
		}
		ack, err := u.o.Sink.Update(ctx, up)
		ack = u.take(ack, err)
		switch {
		case ack.Result == job.Trouble && ack.Directive != job.Abort:
			return because(err)
		case ack.Result == job.Incomplete && ack.Directive != job.Abort:
		case ack.Result == job.Mismatch && ack.Directive != job.Abort:
			u.sent.Store(0)
			u.try = span{}
		default:
			return nil
		}
		if err := pause.For(ctx, u.interval); err != nil {
			return err
		}
	}
}

// drain sends all that is unsent, unless the coordinator does not want it.
func (u *Uploader) drain(ctx context.Context) error {
	// An Uploader that begins in the middle (after a crash, a lost answer)
	// learns where to go on; only a second refusal in a row has to wait.
	learned := false
	for u.unsent() > 0 {
		ack, err := u.send(ctx)
		switch {
		case errors.Is(err, errUnreadable):
			return nil // the log cannot be read, its state can still be told
		case ack.Directive == job.Abort:
			return nil
		case ack.Result == job.Accepted:
			learned = false
		case ack.Result == job.Rewind:
			if learned {
				if err := pause.For(ctx, u.interval); err != nil {
					return err
				}
			}
			learned = true
		case ack.Result == job.Trouble:
			return because(err)
		default: // gone, refused
			return nil
		}
	}
	return nil
}

func because(err error) error {
	if err == nil {
		return errTrouble
	}
	return err
}
