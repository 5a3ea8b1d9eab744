package coordinator

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
)

// MaxChunk is the most that one Append sends, in bytes.
const MaxChunk = 1 << 20

// maxInterval caps what a coordinator can ask for between two updates.
const maxInterval = 900 * time.Second

// JobClient speaks of one job. Its methods may be called at the same time.
type JobClient struct {
	c         *Client
	id        job.ID
	token     job.Secret
	update    target
	trace     target
	artifacts target
	query     string
	prefix    []byte // of the body of PUT jobs/:id, up to state
}

// Job returns the client of one job. debugTrace restricts who may read the
// log on the coordinator (CI_DEBUG_TRACE).
func (c *Client) Job(id job.ID, token job.Secret, debugTrace bool) *JobClient {
	path := "jobs/" + id.String()
	j := &JobClient{
		c: c, id: id, token: token,
		update: c.target(path), trace: c.target(path + "/trace"), artifacts: c.target(path + "/artifacts"),
		query: "debug_trace=" + strconv.FormatBool(debugTrace),
	}
	p := append([]byte(`{"info":`), c.info...)
	p = append(p, `,"token":`...)
	p = appendString(p, token.Reveal())
	j.prefix = append(p, `,"state":`...)
	return j
}

// Append sends the part p of the job's log that starts at byte off (PATCH
// jobs/:id/trace), at most MaxChunk bytes of it; Ack.Offset says how far the
// coordinator is. An empty p makes no request. err is not nil only with
// job.Trouble, and says why. p is not touched after the return.
func (j *JobClient) Append(ctx context.Context, off int64, p []byte) (job.Ack, error) {
	if len(p) == 0 {
		return job.Ack{Result: job.Accepted, Offset: off}, nil
	}
	p = p[:min(len(p), MaxChunk)]
	end := off + int64(len(p))
	cl := &call{
		endpoint: "patch_trace", method: http.MethodPatch, to: j.trace, query: j.query, job: j.id,
		tokenHeader: headerJobToken, token: j.token, contentType: "text/plain",
		content: strconv.FormatInt(off, 10) + "-" + strconv.FormatInt(end-1, 10),
		body:    inMemory(p), bound: boundUpdate, replayable: true,
	}
	ack := job.Ack{Result: job.Trouble, Status: StatusNoAnswer, Offset: off}
	_, failure := j.c.exchange(ctx, cl, func(ans *answer) *Error {
		ack = ackOf(ans)
		ack.Offset = off
		switch {
		case ack.Directive == job.Abort || ans.status == 403:
			ack.Result, ack.Directive = job.Refused, job.Abort
		case ans.status == 202:
			ack.Result, ack.Offset = job.Accepted, end
		case ans.status == 404:
			ack.Result = job.Gone
		case ans.status == 416:
			ack.Result, ack.Offset = job.Rewind, stored(ans.header.Get("Range"))
		default:
			ack.Result = job.Trouble
			return j.c.refused(cl, ans)
		}
		return nil
	})
	return ack, asError(failure)
}

// Update tells how the job is (PUT jobs/:id). err is not nil only with
// job.Trouble, and says why. A final state that was taken with 200 is
// job.Accepted although the coordinator then calls the job failed.
func (j *JobClient) Update(ctx context.Context, u job.Update) (job.Ack, error) {
	buf, ok := j.c.updates.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	body := j.encode((*buf)[:0], u)
	*buf = body
	defer j.c.updates.Put(buf) // the payload is released before
	cl := &call{
		endpoint: "update_job", method: http.MethodPut, to: j.update, job: j.id,
		tokenHeader: headerJobToken, token: j.token, contentType: "application/json",
		body: inMemory(body), bound: boundUpdate, replayable: true,
	}
	ack := job.Ack{Result: job.Trouble, Status: StatusNoAnswer}
	_, failure := j.c.exchange(ctx, cl, func(ans *answer) *Error {
		ack = ackOf(ans)
		switch {
		case ans.status == 200 && u.State != job.WireRunning:
			ack.Result = job.Accepted
		case ack.Directive == job.Abort || ans.status == 403:
			ack.Result, ack.Directive = job.Refused, job.Abort
		case ans.status == 200:
			ack.Result = job.Accepted
		case ans.status == 202:
			ack.Result = job.Incomplete
		case ans.status == 412:
			ack.Result = job.Mismatch
		case ans.status == 404:
			ack.Result, ack.Directive = job.Gone, job.Abort
		default:
			ack.Result = job.Trouble
			return j.c.refused(cl, ans)
		}
		return nil
	})
	return ack, asError(failure)
}

// encode appends the body of PUT jobs/:id.
func (j *JobClient) encode(b []byte, u job.Update) []byte {
	b = append(b, j.prefix...)
	b = appendString(b, string(u.State))
	if u.Reason != job.NoReason && u.State == job.WireFailed {
		b = append(b, `,"failure_reason":`...)
		b = appendString(b, string(u.Reason))
	}
	if u.Checksum != "" {
		b = append(b, `,"checksum":`...)
		b = appendString(b, u.Checksum)
	}
	b = append(b, `,"output":{`...)
	if u.Checksum != "" {
		b = append(b, `"checksum":`...)
		b = appendString(b, u.Checksum)
	}
	if u.Size != 0 {
		if u.Checksum != "" {
			b = append(b, ',')
		}
		b = append(b, `"bytesize":`...)
		b = strconv.AppendInt(b, u.Size, 10)
	}
	b = append(b, '}')
	if u.ExitCode != 0 {
		b = append(b, `,"exit_code":`...)
		b = strconv.AppendInt(b, int64(u.ExitCode), 10)
	}
	return append(b, '}')
}

// ackOf reads what every answer about a job can say, whatever its status.
func ackOf(ans *answer) job.Ack {
	a := job.Ack{Status: ans.status, JobStatus: jobStatus(ans.header.Get(headerJobStatus))}
	switch a.JobStatus {
	case "canceled", "failed":
		a.Directive = job.Abort
	case "canceling":
		a.Directive = job.Cancel
	}
	a.Interval = interval(ans.header.Get(headerInterval))
	return a
}

// jobStatus accepts only what can be a status' name.
func jobStatus(v string) string {
	if len(v) > 64 || strings.Trim(v, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return ""
	}
	return v
}

// interval reads whole seconds, 0 when there are none to be followed.
func interval(v string) time.Duration {
	s, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
	if err != nil || s <= 0 {
		return 0
	}
	if s > int64(maxInterval/time.Second) {
		return maxInterval
	}
	return time.Duration(s) * time.Second
}

// stored reads the size of "Range: 0-SIZE", 0 when it is of another form.
func stored(v string) int64 {
	from, to, ok := strings.Cut(strings.TrimSpace(v), "-")
	if !ok {
		return 0
	}
	if _, err := strconv.ParseUint(from, 10, 63); err != nil {
		return 0
	}
	n, err := strconv.ParseUint(to, 10, 63)
	if err != nil {
		return 0
	}
	return int64(n) // 63 bits
}

// String names the job, never its token.
func (j *JobClient) String() string { return fmt.Sprintf("job %d at %s", j.id, j.c.shown) }

// asError keeps a nil *Error from becoming an error that is not nil.
func asError(e *Error) error {
	if e == nil {
		return nil
	}
	return e
}
