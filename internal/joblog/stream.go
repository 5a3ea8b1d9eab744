package joblog

import (
	"bytes"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/glassrunner/glassrunner/internal/redact"
)

// The form of logs with timestamps.
const (
	stampLayout = "2006-01-02T15:04:05.000000Z"
	headerSize  = len(stampLayout) + 5 // " 00O " or " 00O+"
	maxEntry    = 8 << 10              // bytes of text in one entry
	maxOpen     = time.Second          // that a line without an end is kept back
)

// piece is how much of a write is handled at once, in bytes.
const piece = 16 << 10

// Stream is one source of output of a job, with its own state of masking, of
// UTF-8 and of lines. It is safe for concurrent use.
type Stream struct {
	l    *Log
	id   byte
	kind byte // 'O' or 'E'

	mu     sync.Mutex
	closed bool
	mask   *redact.Writer // nil: nothing is masked
	err    error          // of the log

	part      []byte // begin of a character
	fix, good []byte // reused

	// With timestamps:
	stamp  []byte // header of an entry that begins now, reused
	header []byte // of the entry that line begins
	line   []byte // text of an entry that has not ended
	begun  time.Time
	more   bool        // the next entry continues a line
	out    []byte      // entries of this write, reused
	timer  *time.Timer // for a line that does not end; nil before the first
	armed  bool
}

// Stream returns the open stream of that id and kind, a new one when there is
// none. Id 0 is for the runner's own lines, 1 for the job's script, 15 and up
// for services.
func (l *Log) Stream(id byte, stderr bool) *Stream {
	s := &Stream{l: l, id: id, kind: 'O'}
	if stderr {
		s.kind = 'E'
	}
	if l.masker != nil {
		s.mask = l.masker.Writer(unmasked{s})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		s.closed = true
		return s
	}
	for _, o := range l.streams {
		if o.id == s.id && o.kind == s.kind {
			return o
		}
	}
	l.streams = append(l.streams, s)
	return s
}

// Write adds p to the log. It fails only after Close, of the stream or of the
// log: output beyond the limit and output that cannot be stored is dropped.
func (s *Stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, fmt.Errorf("job log: %w", fs.ErrClosed)
	}
	for rest := p; len(rest) > 0 && !s.l.over.Load(); {
		q := rest[:min(piece, len(rest))]
		rest = rest[len(q):]
		if s.l.stamps {
			s.stamp = s.now(s.stamp[:0])
		}
		if s.mask != nil {
			_, _ = s.mask.Write(q) // its error is s.err
		} else {
			s.text(q)
		}
		s.flush()
		if s.err != nil {
			return 0, s.err
		}
	}
	s.watch()
	return len(p), nil
}

// watch has a line that stays without an end put into the log: readers see a
// prompt or a row of dots, and a crash does not lose it. The next entry
// continues it.
func (s *Stream) watch() {
	if len(s.line) == 0 || s.armed {
		return
	}
	s.armed = true
	wait := max(0, maxOpen-time.Since(s.begun))
	if s.timer == nil {
		s.timer = time.AfterFunc(wait, s.overdue)
	} else {
		s.timer.Reset(wait)
	}
}

func (s *Stream) overdue() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = false
	if s.closed || len(s.line) == 0 || s.l.over.Load() {
		return
	}
	if time.Since(s.begun) < maxOpen { // another line
		s.watch()
		return
	}
	s.write(nil)
	s.more = true
	s.flush()
}

// Close adds what was held back; with timestamps it ends a line that was begun.
func (s *Stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	if !s.l.over.Load() {
		if s.l.stamps {
			s.stamp = s.now(s.stamp[:0])
		}
		if s.mask != nil {
			_ = s.mask.Flush() // its error is s.err
		}
		s.endText()
		if len(s.line) > 0 {
			s.entry(nil)
		}
		s.flush()
	}
	s.line, s.out, s.fix, s.good, s.part = nil, nil, nil, nil, nil
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	if i := slices.Index(s.l.streams, s); i >= 0 {
		s.l.streams = slices.Delete(s.l.streams, i, i+1)
	}
	return s.err
}

// unmasked is where a stream's masker writes to.
type unmasked struct{ s *Stream }

func (u unmasked) Write(p []byte) (int, error) {
	u.s.text(p)
	return len(p), u.s.err
}

// text takes output and passes it on as valid UTF-8.
func (s *Stream) text(p []byte) {
	if len(s.part) > 0 {
		s.fix = append(append(s.fix[:0], s.part...), p...)
		s.part = s.part[:0]
		p = s.fix
	}
	if n := unfinished(p); n > 0 {
		s.part = append(s.part, p[len(p)-n:]...)
		p = p[:len(p)-n]
	}
	if utf8.Valid(p) {
		s.valid(p)
		return
	}
	s.good = repair(s.good[:0], p)
	s.valid(s.good)
}

// endText passes on what may have been the begin of a character.
func (s *Stream) endText() {
	if len(s.part) > 0 {
		s.valid(repair(nil, s.part))
		s.part = s.part[:0]
	}
}

// unfinished returns how many bytes at the end of p begin a character that
// the next bytes may complete.
func unfinished(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		if c := p[len(p)-n]; utf8.RuneStart(c) {
			if utf8.FullRune(p[len(p)-n:]) {
				return 0
			}
			return n
		}
	}
	return 0
}

// repair appends p to out with U+FFFD in place of every byte that is not part
// of a character.
func repair(out, p []byte) []byte {
	for len(p) > 0 {
		r, n := utf8.DecodeRune(p)
		if r == utf8.RuneError && n == 1 {
			out = utf8.AppendRune(out, utf8.RuneError)
		} else {
			out = append(out, p[:n]...)
		}
		p = p[n:]
	}
	return out
}

// valid takes whole characters.
func (s *Stream) valid(p []byte) {
	if !s.l.stamps {
		s.append(p)
		return
	}
	rewrites := false
	for {
		nl := bytes.IndexByte(p, '\n')
		if nl < 0 {
			break
		}
		rewrites = true
		s.entry(p[:nl])
		p = p[nl+1:]
	}
	s.begin(p)
	if !rewrites && len(s.line) > 0 && bytes.IndexByte(p, '\r') >= 0 {
		s.entry(nil)
		s.more = true
	}
}

// begin adds text to a line that does not end yet.
func (s *Stream) begin(p []byte) {
	for len(s.line)+len(p) > maxEntry {
		n := maxEntry - len(s.line)
		for n > 0 && !utf8.RuneStart(p[n]) {
			n--
		}
		s.write(p[:n])
		s.more = true
		p = p[n:]
	}
	if len(p) > 0 {
		if len(s.line) == 0 {
			s.header = append(s.header[:0], s.stamp...)
			s.begun = time.Now()
		}
		s.line = append(s.line, p...)
	}
}

// entry ends a line with p.
func (s *Stream) entry(p []byte) {
	if len(s.line)+len(p) > maxEntry {
		s.begin(p)
		p = nil
	}
	s.write(p)
	s.more = false
}

// write makes an entry of the text that was begun and p.
func (s *Stream) write(p []byte) {
	if len(s.out) >= maxEntry {
		s.flush()
	}
	h := s.stamp
	if len(s.line) > 0 {
		h = s.header
	}
	s.out = append(s.out, h...)
	if s.more {
		s.out[len(s.out)-1] = '+'
	}
	s.out = append(s.out, s.line...)
	s.out = append(s.out, p...)
	s.out = append(s.out, '\n')
	s.line = s.line[:0]
}

// now appends the header of an entry that begins now.
func (s *Stream) now(b []byte) []byte {
	const hex = "0123456789abcdef"
	b = s.l.now().UTC().AppendFormat(b, stampLayout)
	return append(b, ' ', hex[s.id>>4], hex[s.id&15], s.kind, ' ')
}

func (s *Stream) flush() {
	if len(s.out) > 0 {
		s.append(s.out)
		s.out = s.out[:0]
	}
}

func (s *Stream) append(p []byte) {
	if err := s.l.append(p); err != nil {
		s.err = err
	}
}

var header = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z [0-9a-f]{2}[OE][ +]`)

// stamped reports whether the log that begins with p has timestamps.
func stamped(p []byte) bool { return header.Match(p[:min(len(p), headerSize)]) }
