package coordinator

import (
	"context"
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
)

// PollKind is what came of asking for a job.
type PollKind int

// Kinds of polls. All but PollForbidden mean that the runner is healthy.
const (
	PollFailed    PollKind = iota // temporary trouble, or an answer that makes no sense
	PollJob                       // there is a job
	PollNone                      // there is none for this runner
	PollForbidden                 // the coordinator does not accept the runner's token
)

// String returns "job", "none", "forbidden" or "failed", as in event.Polled.
func (k PollKind) String() string {
	switch k {
	case PollJob:
		return "job"
	case PollNone:
		return "none"
	case PollForbidden:
		return "forbidden"
	case PollFailed:
	}
	return "failed"
}

// PollResult is what came of asking for a job.
type PollResult struct {
	Kind   PollKind
	Status int // HTTP status, StatusNoAnswer without a usable one
	// Retried is true when the coordinator asked to slow down at least once,
	// whatever came of it in the end.
	Retried bool
}

// RequestJobBound is the longest time that RequestJob takes: all attempts in
// full, and the longest waits between them.
const RequestJobBound = maxAttempts*(boundDefault+boundBody) + (maxAttempts-1)*MaxWait

// RequestJob asks for a job (POST jobs/request). It may block for as long as
// the coordinator polls its queue, more than a minute. Spec is not nil only
// with PollJob; err is nil with PollJob and PollNone. A *BadJobError says that
// the coordinator has handed out a job that has to be failed. A job can be
// returned although ctx has ended meanwhile: it is the caller's then. With
// brief the coordinator is not invited to hold the request: last_update stays
// out of it, without which there is no long poll.
func (c *Client) RequestJob(ctx context.Context, brief bool) (*job.Spec, PollResult, error) {
	cl := &call{
		endpoint: "request_job", method: "POST", to: c.requestJob,
		tokenHeader: headerRunnerToken, token: c.token,
		contentType: "application/json", accept: true,
		body:  inMemory(c.requestBody(brief)),
		bound: boundDefault, wants: 201, keep: MaxJobBody, detach: true,
	}
	var spec *job.Spec
	var bad *BadJobError
	res := PollResult{}
	retried, failure := c.exchange(ctx, cl, func(ans *answer) *Error {
		if ans.status == 201 {
			var e *Error
			spec, e = c.received(cl, ans, &bad)
			if e != nil {
				return e
			}
		}
		if v := ans.header.Get(headerLastUpdate); v != "" && len(v) <= maxLastUpdate {
			c.setLastUpdate(v)
		}
		res.Status = ans.status
		switch ans.status {
		case 201:
			res.Kind = PollJob
			return nil
		case 204, 409: // 409: another runner was quicker
			res.Kind = PollNone
			return nil
		case 403:
			res.Kind = PollForbidden
		}
		return c.refused(cl, ans)
	})
	res.Retried = retried
	if failure == nil {
		return spec, res, nil
	}
	res.Status = failure.Status
	if bad != nil {
		bad.Err = failure
		return nil, res, bad
	}
	return nil, res, failure
}

// received reads the job of a 201.
func (c *Client) received(cl *call, ans *answer, bad **BadJobError) (*job.Spec, *Error) {
	now := time.Now()
	err := ans.complete(cl.keep)
	var spec *job.Spec
	if err == nil {
		spec, err = decodeJob(ans.body.Bytes())
	}
	if err != nil {
		if id, token, ok := salvage(ans.body.Bytes()); ok {
			*bad = &BadJobError{ID: id, Token: token}
			return nil, c.undecodable(cl, ans, err, token)
		}
		return nil, c.undecodable(cl, ans, err)
	}
	spec.Received = now
	if c.opts.KeepPayload {
		spec.Payload = job.Secret(ans.body.String())
	}
	spec.CorrelationID = ans.id
	spec.TLS = ans.state.jobTLS(ans.conn, c.opts.ResolveFullTLSChain)
	return spec, nil
}
