package artifact

import (
	"context"
	"fmt"
	"io"
	"sync"
)

// Parallel says how an archive is downloaded in parts. The zero value: in one.
type Parallel struct {
	Streams int   // parts at the same time; less than 2: one stream
	Part    int64 // size of a part in bytes; 0: DefaultPart
}

// Defaults of parallel downloads, those of GitLab Runner.
const (
	DefaultStreams = 16
	DefaultPart    = 16 << 20
)

// shares divides an archive: the answer that is there is read from the
// beginning on, other requests take parts from the end, until they meet.
type shares struct {
	part, size int64

	mu        sync.Mutex
	low, high int64 // parts that nobody has yet
}

func newShares(size, part int64) *shares {
	if part <= 0 {
		part = DefaultPart
	}
	return &shares{part: part, size: size, high: (size + part - 1) / part}
}

// take returns where a part begins and how long it is; n is 0 when there is
// none left.
func (s *shares) take(first bool) (off, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.low == s.high {
		return 0, 0
	}
	i := s.low
	if first {
		s.low++
	} else {
		s.high--
		i = s.high
	}
	off = i * s.part
	return off, min(s.part, s.size-off)
}

// gather writes an archive of a known size to w, from the answer that is there
// and from more requests for its parts.
func gather(ctx context.Context, c Content, w io.WriterAt, p Parallel) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := newShares(c.Size, p.Part)
	var wg sync.WaitGroup
	put := func(r io.Reader, off, n int64) bool {
		got, err := io.CopyN(io.NewOffsetWriter(w, off), r, n)
		if err != nil {
			cancel(fmt.Errorf("got %d of %d bytes: %w", got, n, err))
		}
		return err == nil
	}
	off, n := s.take(true) // before the others: this answer is there already
	for range min(int64(p.Streams)-1, s.high-1) {
		wg.Go(func() {
			for ctx.Err() == nil {
				off, n := s.take(false)
				if n == 0 {
					return
				}
				r, err := c.Part(ctx, off, n)
				if err != nil {
					cancel(err)
					return
				}
				put(r, off, n)
				_ = r.Close() // read to its end or not wanted
			}
		})
	}
	for ctx.Err() == nil && n > 0 && put(c.Body, off, n) {
		off, n = s.take(true)
	}
	wg.Wait()
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return c.Size, nil
}
