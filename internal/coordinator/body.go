package coordinator

import (
	"bytes"
	"io"
	"sync"
)

// A source makes the body of a request, anew for each attempt.
type source interface {
	open() (io.ReadCloser, error)
	size() int64 // -1: not known
	// failure is what went wrong here while the body was read.
	failure() error
	// release takes the bytes back: the HTTP client may read a body after it
	// has returned, when the server answered early.
	release()
}

// small is a body of its own that fits into one write with its header.
// net/http sends the header ahead of every body but those that it knows to be
// in memory, and each write costs both ends a packet and a wake-up.
type small []byte

// maxSmall is the largest such body, in bytes.
const maxSmall = 16 << 10

func (s small) open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(s)), nil }
func (s small) size() int64                  { return int64(len(s)) }
func (s small) failure() error               { return nil }
func (s small) release()                     {}

// inMemory makes a body of bytes that stay their owner's.
func inMemory(b []byte) source {
	if len(b) <= maxSmall {
		return small(bytes.Clone(b))
	}
	return newPayload(b)
}

// payload is a body in memory that belongs to somebody else.
type payload struct {
	mu   sync.Mutex
	data []byte
	n    int64
}

func newPayload(b []byte) *payload { return &payload{data: b, n: int64(len(b))} }

func (p *payload) open() (io.ReadCloser, error) { return &payloadReader{p: p}, nil }
func (p *payload) size() int64                  { return p.n }
func (p *payload) failure() error               { return nil }

func (p *payload) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.data = nil
}

type payloadReader struct {
	p   *payload
	off int
}

// Read copies under the lock, so that release is the end of all reading.
func (r *payloadReader) Read(b []byte) (int, error) {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	if r.p.data == nil {
		return 0, errReleased
	}
	if r.off >= len(r.p.data) {
		return 0, io.EOF
	}
	n := copy(b, r.p.data[r.off:])
	r.off += n
	return n, nil
}

// Close does nothing: the bytes are their owner's.
func (r *payloadReader) Close() error { return nil }
