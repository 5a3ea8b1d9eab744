package traces

import (
	"context"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// pipeline is the SDK's batch processor, with a count of what it holds: it
// would drop in silence.
type pipeline struct {
	batches sdktrace.SpanProcessor
	export  *exporter
	most    int64        // spans that may wait
	waiting atomic.Int64 // queued, or in the batch that is being sent
	counts  *counts
}

func newPipeline(next sdktrace.SpanExporter, c *counts, failed func(error)) *pipeline {
	stop, cancel := context.WithCancel(context.Background())
	p := &pipeline{most: queueSize(), counts: c}
	p.export = &exporter{next: next, p: p, stop: stop, cancel: cancel, trouble: trouble{tell: failed}}
	// Not more may wait than the queue holds, so it is never full.
	p.batches = sdktrace.NewBatchSpanProcessor(p.export, sdktrace.WithMaxQueueSize(int(p.most)))
	return p
}

// queueSize is how many spans may wait, OTEL_BSP_MAX_QUEUE_SIZE.
func queueSize() int64 {
	if n, err := strconv.ParseInt(os.Getenv("OTEL_BSP_MAX_QUEUE_SIZE"), 10, 32); err == nil && n > 0 {
		return n
	}
	return sdktrace.DefaultMaxQueueSize
}

// take queues s or drops it.
func (p *pipeline) take(s sdktrace.ReadOnlySpan) {
	if p.waiting.Add(1) > p.most {
		p.waiting.Add(-1)
		p.counts.dropped.Add(1)
		return
	}
	p.batches.OnEnd(s)
}

// close sends what waits until ctx ends, and returns when nothing runs any
// more. What was not sent is counted.
func (p *pipeline) close(ctx context.Context) error {
	if p == nil {
		return nil
	}
	defer p.export.cancel()
	// The end of ctx ends every attempt to send, so the shutdown itself needs no limit.
	stop := context.AfterFunc(ctx, p.export.cancel)
	defer stop()
	err := p.batches.Shutdown(context.WithoutCancel(ctx))
	if left := p.waiting.Swap(0); left > 0 {
		p.counts.dropped.Add(uint64(left))
	}
	return err
}

// exporter counts what became of spans and tells of failures itself; the SDK
// would tell a handler that is global to the process.
type exporter struct {
	next    sdktrace.SpanExporter
	p       *pipeline
	stop    context.Context
	cancel  context.CancelFunc
	trouble trouble
}

// ExportSpans implements sdktrace.SpanExporter.
func (x *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(x.stop, cancel)()
	err := x.next.ExportSpans(ctx, spans)
	n, lost := len(spans), rejectedOf(err, len(spans))
	x.p.waiting.Add(-int64(n))
	x.p.counts.failed.Add(uint64(lost))
	x.p.counts.exported.Add(uint64(n - lost))
	x.trouble.note(err)
	return nil
}

// Shutdown implements sdktrace.SpanExporter.
func (x *exporter) Shutdown(ctx context.Context) error { return x.next.Shutdown(ctx) }

// tellAfter is how often trouble that goes on is told again.
const tellAfter = time.Minute

// trouble tells of what fails again and again without repeating itself.
type trouble struct {
	tell func(error)

	mu   sync.Mutex
	told time.Time
}

// note is told how each attempt ended.
func (t *trouble) note(err error) {
	if err == nil {
		t.mu.Lock()
		t.told = time.Time{}
		t.mu.Unlock()
		return
	}
	now := time.Now()
	t.mu.Lock()
	quiet := !t.told.IsZero() && now.Sub(t.told) < tellAfter
	if !quiet {
		t.told = now
	}
	t.mu.Unlock()
	if !quiet {
		t.tell(scrubbed(err))
	}
}
