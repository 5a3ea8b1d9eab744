package build

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

// The causes for which a job's contexts end.
var (
	errCanceled = errors.New("canceled")
	errAborted  = errors.New("aborted by the coordinator")
)

// An Interruption is the cause with which a shutdown ends the contexts of
// running jobs.
type Interruption struct{ Signal string }

// Error names the signal.
func (i *Interruption) Error() string { return "aborted: " + i.Signal }

// jobTimeout says that the job as a whole took too long.
type jobTimeout struct{ limit time.Duration }

func (t *jobTimeout) Error() string {
	return fmt.Sprintf("execution took longer than %s seconds", t.limit)
}

// phaseTimeout says that one stretch of the job took longer than its own limit.
type phaseTimeout struct {
	what  string // "script timeout", "prepare timeout" …
	limit time.Duration
}

func (t *phaseTimeout) Error() string { return t.what + ": " + context.DeadlineExceeded.Error() }

// outcomeOf classifies the error that ended a job.
func outcomeOf(err error) job.Outcome {
	if err == nil {
		return job.Outcome{}
	}
	o := job.Outcome{Reason: job.SystemFailure, Err: err}
	var (
		exit    *executor.ExitError
		known   *executor.Error
		signal  *Interruption
		timeout *jobTimeout
		phase   *phaseTimeout
	)
	switch {
	case errors.As(err, &signal):
		o.Reason, o.Err = job.Interrupted, signal
	case errors.Is(err, errCanceled):
		o.Reason, o.Err = job.Canceled, errCanceled
	case errors.Is(err, errAborted):
		o.Reason, o.Err = job.Canceled, errAborted
	case errors.As(err, &timeout):
		o.Reason, o.Err = job.ExecutionTimeout, timeout
	case errors.As(err, &phase):
		o.Reason, o.Err = job.ExecutionTimeout, phase
	case errors.As(err, &known):
		o.Reason = known.Reason
		if errors.As(err, &exit) {
			o.ExitCode = exit.Code
		}
	case errors.As(err, &exit):
		o.Reason, o.ExitCode = job.ScriptFailure, exit.Code
	}
	return o
}

// stateOf is the last state of a job in the words of the `state` label.
// reached says that the user's script had begun: a cancel before that is a
// canceled build, a cancel after it a failed one.
func stateOf(o job.Outcome, reached bool) job.State {
	var timeout *jobTimeout
	switch {
	case o.OK():
		return job.Success
	case o.Reason == job.Interrupted:
		return job.Terminated
	case o.Reason == job.Canceled && (!reached || errors.Is(o.Err, errAborted)):
		return job.CanceledS
	case errors.As(o.Err, &timeout):
		return job.TimedOut
	}
	return job.Failed
}
