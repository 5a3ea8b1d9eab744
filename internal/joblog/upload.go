package joblog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// Sink is the coordinator's end of one job.
type Sink interface {
	// Append sends p, the part of the log that starts at byte off, and keeps
	// nothing of p.
	Append(ctx context.Context, off int64, p []byte) (job.Ack, error)
	// Update tells how the job is.
	Update(ctx context.Context, u job.Update) (job.Ack, error)
}

// Defaults of UploadOptions.
const (
	DefaultInterval       = 3 * time.Second
	DefaultStatusInterval = 5 * time.Second
	DefaultForceInterval  = 30 * time.Second
	DefaultFirstDelay     = 750 * time.Millisecond
	DefaultChunkSize      = 1 << 20 // bytes, the most that GitLab takes
	DefaultFinalRetries   = 10
)

// Bounds of waiting.
const (
	maxInterval = 900 * time.Second // that a coordinator can ask for
	firstRetry  = time.Second
	maxRetry    = time.Hour
)

// UploadOptions describe an Uploader. Zero values mean the defaults.
type UploadOptions struct {
	Log  *Log
	Sink Sink
	Bus  *event.Bus // nil is fine
	// Interval is the time between rounds until the coordinator names one.
	Interval time.Duration
	// StatusInterval is how often a coordinator that hears nothing else is
	// told that the job runs, and so how soon a cancel is noticed.
	StatusInterval time.Duration
	// ForceInterval bounds StatusInterval when it grows because the
	// coordinator is in trouble; so does a longer interval between rounds.
	ForceInterval time.Duration
	// FirstDelay is the time before the first round.
	FirstDelay time.Duration
	// ChunkSize bounds one Append, in bytes.
	ChunkSize int
	// FinalRetries is how often Finish tries before it gives up.
	FinalRetries int
	// Buffers may be shared by uploaders to use less memory; nil is fine.
	Buffers *Buffers
	// On hears what the coordinator wants while Run runs: job.Cancel at most
	// once, job.Abort at most once and as the last. It is called by Run, so
	// it must not wait for Stop or Finish.
	On func(job.Directive)
}

// Uploader brings one Log to its coordinator. Run is called at most once, then
// Finish; Sent may be called any time.
type Uploader struct {
	o    UploadOptions
	sent atomic.Int64 // what the coordinator has, may be more than the log
	made atomic.Int64 // bytes that it took from this Uploader

	mu      sync.Mutex
	stopped bool
	stop    chan struct{}
	done    chan struct{} // nil: Run has not been called

	// Of Run, and of Finish after it.
	interval time.Duration
	try      span // that was sent without a usable answer
	canceled bool
	aborted  bool
	odd      bool // it was told that the coordinator claims more than there is
	blind    bool // it was told that the log cannot be read

	status   time.Duration // StatusInterval, or longer in trouble
	statusAt time.Time
}

type span struct{ begin, end int64 }

// NewUploader returns an Uploader that believes that the coordinator has
// nothing yet; it learns better from its answers.
func NewUploader(o UploadOptions) *Uploader {
	def := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	def(&o.Interval, DefaultInterval)
	def(&o.StatusInterval, DefaultStatusInterval)
	def(&o.ForceInterval, DefaultForceInterval)
	def(&o.FirstDelay, DefaultFirstDelay)
	if o.ChunkSize <= 0 {
		o.ChunkSize = DefaultChunkSize
	}
	if o.FinalRetries <= 0 {
		o.FinalRetries = DefaultFinalRetries
	}
	if o.Buffers == nil {
		o.Buffers = &Buffers{}
	}
	if o.On == nil {
		o.On = func(job.Directive) {}
	}
	return &Uploader{o: o, stop: make(chan struct{}), interval: o.Interval, status: o.StatusInterval}
}

// Sent returns how many bytes of the log the coordinator has.
func (u *Uploader) Sent() int64 { return min(u.sent.Load(), u.o.Log.Size()) }

// Delivered returns how many bytes the coordinator took from this Uploader.
func (u *Uploader) Delivered() int64 { return u.made.Load() }

// Run uploads from time to time what is new in the log, all of it, and tells
// a coordinator that has heard nothing else that the job runs. It returns
// after Stop, when ctx ends, or when the coordinator wants the job aborted.
func (u *Uploader) Run(ctx context.Context) {
	u.mu.Lock()
	if u.stopped || u.done != nil {
		u.mu.Unlock()
		return
	}
	u.done = make(chan struct{})
	u.mu.Unlock()
	defer close(u.done)
	u.o.Log.scoped(event.ScopeOf(ctx))

	// When the job was accepted, the coordinator was told that it runs.
	now := time.Now()
	u.statusAt = now.Add(u.status)
	last, wait, first := now, u.o.FirstDelay, true
	for {
		wake := last.Add(wait)
		if u.statusAt.Before(wake) {
			wake = u.statusAt
		}
		if u.pause(ctx, time.Until(wake)) != nil {
			return
		}
		fine := true
		if !time.Now().Before(last.Add(wait)) {
			fine = u.round(ctx)
			last, first = time.Now(), false
		}
		if fine && !time.Now().Before(u.statusAt) && !u.ending(ctx) {
			u.alive(ctx)
		}
		if u.aborted {
			return
		}
		if !first {
			wait = u.interval // the last answer may have changed it
		}
	}
}

// Stop ends Run and waits for it, that is for the request that it is making.
func (u *Uploader) Stop() {
	u.mu.Lock()
	if !u.stopped {
		u.stopped = true
		close(u.stop)
	}
	done := u.done
	u.mu.Unlock()
	if done != nil {
		<-done
	}
}

var errStopped = errors.New("stopped")

// pause waits. It returns an error when Run is to end.
func (u *Uploader) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-u.stop:
		return errStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

func (u *Uploader) ending(ctx context.Context) bool {
	select {
	case <-u.stop:
		return true
	default:
		return ctx.Err() != nil
	}
}

// round sends all that is unsent. It reports whether the coordinator has it all.
func (u *Uploader) round(ctx context.Context) bool {
	for u.unsent() > 0 {
		if u.ending(ctx) {
			return false
		}
		ack, _ := u.send(ctx) // facts and the next round tell what went wrong
		u.obey(ack.Directive)
		switch ack.Result {
		case job.Accepted:
			u.heard()
		case job.Refused:
			u.obey(job.Abort)
		case job.Trouble:
			u.trouble()
			return false
		default: // 416, 404: see in the next round
			return false
		}
		if u.aborted {
			return false
		}
	}
	return true
}

// alive tells that the job runs.
func (u *Uploader) alive(ctx context.Context) {
	size, sum := u.o.Log.Sum()
	ack, err := u.o.Sink.Update(ctx, job.Update{State: job.WireRunning, Checksum: sum, Size: size})
	ack = u.take(ack, err)
	u.obey(ack.Directive)
	switch ack.Result {
	case job.Trouble:
		u.trouble()
	case job.Gone, job.Refused:
		u.obey(job.Abort)
	default:
		u.heard()
	}
}

// heard notes that the coordinator knows that the job runs.
func (u *Uploader) heard() {
	u.status = u.o.StatusInterval
	u.statusAt = time.Now().Add(u.status)
}

// trouble makes the status rarer, so as not to add to it.
func (u *Uploader) trouble() {
	u.status = max(min(2*u.status, max(u.interval, u.o.ForceInterval)), u.o.StatusInterval)
	u.statusAt = time.Now().Add(u.status)
}

// obey hands on a directive that is new.
func (u *Uploader) obey(d job.Directive) {
	switch {
	case d == job.Abort && !u.aborted:
		u.aborted = true
		u.o.On(job.Abort)
	case d == job.Cancel && !u.canceled && !u.aborted:
		u.canceled = true
		u.o.On(job.Cancel)
	}
}

// unsent returns how many bytes the coordinator lacks.
func (u *Uploader) unsent() int64 { return u.o.Log.Size() - u.sent.Load() }

// errUnreadable says that nothing was sent, because there is no log to send.
var errUnreadable = errors.New("the job's log cannot be read")

// send sends one chunk and notes how far the coordinator is. Its error says
// what is behind job.Trouble; it may be nil.
func (u *Uploader) send(ctx context.Context) (job.Ack, error) {
	begin := u.sent.Load()
	end := min(u.o.Log.Size(), begin+int64(u.o.ChunkSize))
	if u.try.begin == begin && u.try.end > begin {
		end = u.try.end // the very same chunk may be sent twice, a longer one may not
	}
	buf := u.o.Buffers.get(int(end-begin), u.o.ChunkSize)
	defer u.o.Buffers.put(buf)
	p := (*buf)[:end-begin]
	if _, err := u.o.Log.ReadAt(p, begin); err != nil {
		err = fmt.Errorf("%w: %w", errUnreadable, err)
		if !u.blind {
			u.blind = true
			u.o.Bus.Emit(ctx, event.Degraded{What: "job_log_read", Err: err})
		}
		return job.Ack{Result: job.Trouble}, err
	}

	u.try = span{begin, end}
	start := time.Now()
	ack, err := u.o.Sink.Append(ctx, begin, p)
	took := time.Since(start)
	ack = u.take(ack, err)
	fact := event.LogSent{Took: took, Failed: true}
	switch ack.Result {
	case job.Accepted:
		u.try = span{}
		if begin < ack.Offset && ack.Offset < end {
			end = ack.Offset
		}
		u.sent.Store(end)
		u.made.Add(end - begin)
		fact.Bytes, fact.Failed = end-begin, false
	case job.Rewind:
		u.try = span{}
		u.rewind(ctx, ack.Offset)
	default: // the same chunk again, or nothing any more
	}
	fact.Total = u.sent.Load()
	u.o.Bus.Emit(ctx, fact)
	return ack, err
}

// rewind goes on where the coordinator says. That it has more than there is
// may be a mistake of one answer, so it is asked again; when it insists, it
// lacks nothing until the log has grown past that.
func (u *Uploader) rewind(ctx context.Context, off int64) {
	if size := u.o.Log.Size(); off > size && !u.odd {
		u.odd = true
		u.o.Bus.Emit(ctx, event.Degraded{
			What: "job_log_offset",
			Err:  fmt.Errorf("the coordinator has %d bytes of a log of %d", off, size),
		})
		return
	}
	u.sent.Store(max(0, off))
}

// take notes what every answer can say.
func (u *Uploader) take(ack job.Ack, err error) job.Ack {
	if err != nil && ack.Result == job.Accepted {
		ack.Result = job.Trouble
	}
	if ack.Interval > 0 {
		u.interval = min(ack.Interval, maxInterval)
	}
	return ack
}

// Buffers is a pool of chunks. The zero value is ready.
type Buffers struct{ small, large sync.Pool }

const smallChunk = 16 << 10

// get returns a buffer of at least n bytes, which is at most most.
func (b *Buffers) get(n, most int) *[]byte {
	pool, size := &b.large, most
	if n <= smallChunk {
		pool, size = &b.small, smallChunk
	}
	if p, ok := pool.Get().(*[]byte); ok && cap(*p) >= n {
		return p
	}
	p := make([]byte, max(n, size))
	return &p
}

func (b *Buffers) put(p *[]byte) {
	if cap(*p) <= smallChunk {
		b.small.Put(p)
		return
	}
	b.large.Put(p)
}
