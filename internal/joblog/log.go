package joblog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/redact"
)

// DefaultLimit is the size at which a log ends when Options name none, in bytes.
const DefaultLimit = 4 << 20

// When writes are put together, see the package comment.
const (
	calm      = time.Millisecond
	burst     = 32 // writes
	linger    = 10 * time.Millisecond
	coalesced = 32 << 10 // bytes
)

// tellEvery is the least time between two event.LogWritten of a log.
const tellEvery = 250 * time.Millisecond

// retryStore is the least time between two attempts to write after one failed.
const retryStore = time.Second

// Options describe a Log.
type Options struct {
	// Path is the file, which must not exist yet.
	Path string
	// Limit is the size in bytes at which output ends with a notice; 0 means
	// DefaultLimit.
	Limit int64
	// Masker hides secrets; nil hides nothing.
	Masker *redact.Masker
	// Timestamps begins each line with when and where it was printed.
	Timestamps bool
	// Bus is told how the log grows, at most four times a second, and once
	// when it cannot be written. nil is fine.
	Bus *event.Bus
	// Scope is whose log it is. When it is zero, that of the context of an
	// Uploader is taken, and nothing is told before.
	Scope event.Scope
	// Now is the clock of the timestamps; nil means time.Now.
	Now func() time.Time
}

// file is what a Log needs of an *os.File.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
}

// Log is the log of one job. It is safe for concurrent use.
type Log struct {
	path   string
	limit  int64
	masker *redact.Masker
	stamps bool
	bus    *event.Bus
	now    func() time.Time

	over atomic.Bool // the limit was reached: nothing is taken any more

	mu      sync.Mutex
	f       file  // nil after Close
	size    int64 // bytes in f
	sum     uint32
	buf     []byte // not yet in f
	wrote   time.Time
	direct  int // writes that may yet go straight to f
	flusher *time.Timer
	torn    bool // f does not end with a line end, and nothing was added yet
	closed  bool
	streams []*Stream // that are not closed

	err     error // why f could not be written, the first time
	failing bool
	noticed bool // f says that something is missing
	retry   time.Time

	telling sync.Mutex // held while emitting; locked before mu
	scope   event.Scope
	teller  *time.Timer // not nil while it is due
	told    int64
	blamed  bool
}

// Create makes an empty log that only this user can read.
func Create(o Options) (*Log, error) {
	f, err := os.OpenFile(o.Path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("job log: %w", err)
	}
	l := &Log{
		path: o.Path, limit: o.Limit, masker: o.Masker, stamps: o.Timestamps,
		bus: o.Bus, scope: o.Scope, now: o.Now, f: f,
	}
	if l.limit <= 0 {
		l.limit = DefaultLimit
	}
	if l.now == nil {
		l.now = time.Now
	}
	return l, nil
}

// Open continues a log that an earlier process left. What is added to it is
// neither masked nor limited, begins on a line of its own and has timestamps
// when the log has.
func Open(path string) (*Log, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("job log: %w", err)
	}
	l := &Log{path: path, limit: math.MaxInt64, now: time.Now, f: f}
	if err := l.measure(f); err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("job log: %w", err)
	}
	return l, nil
}

// measure computes size and checksum of what f holds.
func (l *Log) measure(f io.Reader) error {
	buf := make([]byte, 64<<10)
	ended := true
	for {
		n, err := io.ReadFull(f, buf)
		if n > 0 {
			if l.size == 0 {
				l.stamps = stamped(buf[:n])
			}
			ended = bytes.HasSuffix(buf[:n], []byte("\n"))
			l.sum = crc32.Update(l.sum, crc32.IEEETable, buf[:n])
			l.size += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			l.torn = !ended
			l.told = l.size
			return nil
		case err != nil:
			return err
		}
	}
}

// Size returns how many bytes the file holds.
func (l *Log) Size() int64 {
	size, _ := l.Sum()
	return size
}

// Checksum returns the CRC-32 (IEEE) of the file in the form "crc32:%08x".
func (l *Log) Checksum() string {
	_, sum := l.Sum()
	return sum
}

// Sum returns size and checksum of the same moment. All that was written to
// streams before, and that they do not hold back, is counted.
func (l *Log) Sum() (size int64, checksum string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	return l.size, fmt.Sprintf("crc32:%08x", l.sum)
}

// Err returns why the file could not be written, nil when it could. Then the
// log says that something is missing, as soon as it can.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// ReadAt reads what the file holds, also after Close. See io.ReaderAt.
func (l *Log) ReadAt(p []byte, off int64) (int, error) {
	l.mu.Lock()
	f := l.f
	l.mu.Unlock()
	if f != nil {
		if n, err := f.ReadAt(p, off); !errors.Is(err, fs.ErrClosed) {
			return n, err
		}
	}
	g, err := os.Open(l.path)
	if err != nil {
		return 0, fmt.Errorf("job log: %w", err)
	}
	defer func() { _ = g.Close() }() // only read
	return g.ReadAt(p, off)
}

// Close ends all streams and the log. The file stays and can be read through
// ReadAt and an Uploader. The error is that of Err or of closing the file.
func (l *Log) Close() error {
	for _, s := range l.live() {
		_ = s.Close() // its error can only say that l is closed
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return l.Err()
	}
	l.closed = true
	l.flush()
	if l.flusher != nil {
		l.flusher.Stop()
	}
	if l.failing && !l.noticed {
		l.retry = time.Time{}
		l.store(nil)
	}
	if err := l.f.Close(); err != nil && l.err == nil {
		l.err = err
	}
	l.f = nil
	l.buf = nil
	err := l.err
	l.mu.Unlock()
	l.tell()
	if err != nil {
		return fmt.Errorf("job log: %w", err)
	}
	return nil
}

// Remove closes the log and deletes the file.
func (l *Log) Remove() error {
	_ = l.Close() // what could not be written is not wanted any more
	if err := os.Remove(l.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("job log: %w", err)
	}
	return nil
}

// live returns the streams that are open.
func (l *Log) live() []*Stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*Stream(nil), l.streams...)
}

// append adds p, which is valid UTF-8.
func (l *Log) append(p []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fmt.Errorf("job log: %w", fs.ErrClosed)
	}
	if len(p) == 0 || l.over.Load() {
		return nil
	}
	if l.torn {
		l.torn = false
		l.put([]byte("\n"))
	}
	if room := max(0, l.limit-l.size-int64(len(l.buf))); int64(len(p)) >= room {
		for room > 0 && room < int64(len(p)) && !utf8.RuneStart(p[room]) {
			room--
		}
		l.put(p[:room])
		l.put(fmt.Appendf(nil, "\n\x1b[33;1mJob's log exceeded limit of %d bytes.\n"+
			"Job execution will continue but no more output will be collected.\x1b[0;m\n", l.limit))
		l.over.Store(true)
	} else {
		l.put(p)
	}
	l.tellLater()
	return nil
}

// put writes p now or soon.
func (l *Log) put(p []byte) {
	if len(l.buf)+len(p) > coalesced {
		l.flush()
	}
	if len(l.buf) == 0 && time.Since(l.wrote) >= calm {
		l.direct = burst
	}
	if len(p) >= coalesced/2 || len(l.buf) == 0 && l.direct > 0 {
		l.direct--
		l.flush()
		l.store(p)
		return
	}
	if l.buf == nil {
		l.buf = make([]byte, 0, coalesced)
	}
	if len(l.buf) == 0 {
		if l.flusher == nil {
			l.flusher = time.AfterFunc(linger, func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.flush()
			})
		} else {
			l.flusher.Reset(linger)
		}
	}
	l.buf = append(l.buf, p...)
}

func (l *Log) flush() {
	if len(l.buf) > 0 && l.f != nil {
		l.store(l.buf)
		l.buf = l.buf[:0]
	}
}

// store writes p to the file, or drops it when the file cannot be written.
func (l *Log) store(p []byte) {
	now := time.Now()
	if l.failing {
		if now.Before(l.retry) {
			return
		}
		if !l.noticed {
			p = append(missing(l.err), p...)
		}
	}
	l.wrote = now
	n, err := l.f.WriteAt(p, l.size)
	if err != nil {
		for n > 0 && n < len(p) && !utf8.RuneStart(p[n]) {
			n--
		}
		if l.failing {
			n = 0 // not half a notice
		}
		_ = l.f.Truncate(l.size + int64(n)) // what is beyond is overwritten or, at worst, an unknown rest
		if l.err == nil {
			l.err = err
		}
		l.failing, l.retry = true, now.Add(retryStore)
		l.tellLater()
	} else if l.failing {
		l.failing, l.noticed = false, true
	}
	l.sum = crc32.Update(l.sum, crc32.IEEETable, p[:n])
	l.size += int64(n)
}

// missing is the notice that output was lost.
func missing(err error) []byte {
	why := "write error"
	if no, ok := errors.AsType[syscall.Errno](err); ok {
		why = no.Error()
	}
	return fmt.Appendf(nil, "\n\x1b[31;1mERROR: The job's log is incomplete, it could not be stored: %s\x1b[0;m\n", why)
}

// tellLater arranges that observers hear of what was added. It is called with
// l.mu held; the emitting waits for nobody who holds it.
func (l *Log) tellLater() {
	if l.teller == nil && l.bus != nil && l.scope != (event.Scope{}) {
		wait := tellEvery
		if l.closed {
			wait = 0
		}
		l.teller = time.AfterFunc(wait, l.tell)
	}
}

// scoped sets whose log it is unless that is known.
func (l *Log) scoped(s event.Scope) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.scope == (event.Scope{}) && s != l.scope {
		l.scope = s
		if l.size+int64(len(l.buf)) > l.told || l.err != nil {
			l.tellLater()
		}
	}
}

func (l *Log) tell() {
	l.telling.Lock()
	defer l.telling.Unlock()
	l.mu.Lock()
	if l.teller != nil {
		l.teller.Stop()
		l.teller = nil
	}
	l.flush()
	size, told, scope := l.size, l.told, l.scope
	if scope == (event.Scope{}) {
		l.mu.Unlock()
		return
	}
	l.told = size
	var blame error
	if l.err != nil && !l.blamed {
		l.blamed, blame = true, l.err
	}
	l.mu.Unlock()
	ctx := event.WithScope(context.Background(), scope)
	if size > told {
		l.bus.Emit(ctx, event.LogWritten{Bytes: size - told, Total: size})
	}
	if blame != nil {
		l.bus.Emit(ctx, event.Degraded{What: "job_log", Err: fmt.Errorf("job log: %w", blame)})
	}
}
