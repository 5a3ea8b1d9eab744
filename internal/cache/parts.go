package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/glassrunner/glassrunner/internal/job"
)

// Parallel says how an object is downloaded in parts. The zero value: in one.
type Parallel struct {
	Streams int   // parts at the same time; less than 2: one stream
	Part    int64 // size of a part in bytes; 0: DefaultPart
}

// Defaults of parallel transfers, those of GitLab Runner.
const (
	DefaultStreams = 16
	DefaultPart    = 16 << 20
)

func (p Parallel) on() bool { return p.Streams > 1 }

func (p Parallel) part() int64 {
	if p.Part <= 0 {
		return DefaultPart
	}
	return p.Part
}

// whole reads the size of an object from the answer to a request for its
// first part; ok is false when the answer is not that part.
func whole(resp *http.Response, part int64) (size int64, ok bool) {
	rest, ok := strings.CutPrefix(resp.Header.Get("Content-Range"), "bytes 0-")
	last, total, cut := strings.Cut(rest, "/")
	end, err1 := strconv.ParseInt(last, 10, 64)
	size, err2 := strconv.ParseInt(total, 10, 64)
	if !ok || !cut || errors.Join(err1, err2) != nil || size <= 0 || end != min(part, size)-1 {
		return 0, false
	}
	return size, true
}

// parts downloads what the first answer does not have, beside it, and puts
// all of it into f. All parts have to be of one state of the object.
func parts(ctx context.Context, c *http.Client, from Remote, first *http.Response, size int64, f *os.File, p Parallel) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	part := p.part()
	var wg sync.WaitGroup
	var got atomic.Int64
	next := atomic.Int64{}
	next.Store(part)
	put := func(off int64, r io.Reader) {
		want := min(part, size-off)
		n, err := io.Copy(io.NewOffsetWriter(f, off), io.LimitReader(r, want+1))
		got.Add(n)
		if err == nil && n != want {
			err = fmt.Errorf("got %d of %d bytes", n, want)
		}
		if err != nil {
			cancel(fmt.Errorf("reading the answer: %w", unnamed(err)))
		}
	}
	wg.Go(func() { put(0, first.Body) })
	for range min(int64(p.Streams-1), (size-1)/part) {
		wg.Go(func() {
			for ctx.Err() == nil {
				off := next.Add(part) - part
				if off >= size {
					return
				}
				resp, err := ask(ctx, c, from, off, min(off+part, size)-1, first.Header.Get("ETag"))
				if err != nil {
					cancel(err)
					return
				}
				put(off, resp.Body)
				_ = resp.Body.Close() // read to its end or not wanted
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return got.Load(), context.Cause(ctx)
	}
	return got.Load(), nil
}

// ask requests the bytes from first to last of the object with a tag.
func ask(ctx context.Context, c *http.Client, from Remote, first, last int64, tag string) (*http.Response, error) {
	r, err := request(ctx, http.MethodGet, from.URL, from.Header)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", first, last))
	resp, err := c.Do(r)
	if err != nil {
		return nil, clean(http.MethodGet, from.URL, err)
	}
	switch {
	case resp.StatusCode != http.StatusPartialContent:
		err = refused(http.MethodGet, from.URL, resp)
	case resp.Header.Get("ETag") != tag:
		err = &changedError{from.URL}
	default:
		return resp, nil
	}
	_ = resp.Body.Close() // not wanted
	return nil, err
}

// changedError says that an object was stored anew while it was read. Another
// try reads the new one.
type changedError struct{ url job.Secret }

func (e *changedError) Error() string { return shown(e.url) + " changed while it was downloaded" }
