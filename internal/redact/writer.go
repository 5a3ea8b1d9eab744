package redact

import (
	"fmt"
	"io"
)

// block is the size up to which the result of a Write is handed on as one
// piece, in bytes.
const block = 16 << 10

// Writer masks one stream. It is not safe for concurrent use.
type Writer struct {
	m   *Masker
	w   io.Writer
	err error
	out []byte // reused

	// Phrases: held[head:] may still become one, marks says what is known
	// about each of these bytes.
	phrase      int32
	held        []byte
	marks       []byte
	head        int
	hidden      int // where the last match ended, as a length of held
	hiddenBegin int // where the run of matches that ends there begins

	param   paramState
	name    int32 // how far a parameter's name has been read
	token   int32
	inToken bool // within the run after a prefix
}

// What is known about a held byte.
const (
	covered byte = 1 << iota // part of a phrase
	joined                   // of the same one as the byte before
)

type paramState uint8

const (
	outside paramState = iota
	inName
	beforeValue
	inValue
)

// Writer returns a masked way to w with a state of its own. A Write of at most
// 16 KiB leads to at most one Write of w unless masking makes it longer than
// that. The Writer does not keep p.
func (m *Masker) Writer(w io.Writer) *Writer { return &Writer{m: m, w: w} }

// Write masks p and hands on all that cannot become part of a phrase any more.
// Its error is that of the writer beneath, and stays.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	plain := 0 // p[plain:i] has no match and is not yet in w.out
	for i := 0; i < len(p); {
		if !w.idle() {
			i = w.walk(p, i)
			plain = i
			continue
		}
		i = w.m.skip(p, i)
		if plain == 0 && len(w.out) == 0 && i >= len(p)-2 && w.dull(p[i:]) {
			w.put(p)
			return len(p), w.err
		}
		w.plain(p[plain:i])
		i = w.walk(p, i)
		plain = i
	}
	w.flush()
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

// Flush ends the stream: what is held back is handed on as it is. A later
// Write begins a new stream.
func (w *Writer) Flush() error {
	w.settle(0)
	w.phrase, w.param, w.name, w.token, w.inToken = 0, outside, 0, 0, false
	w.flush()
	return w.err
}

// Close flushes and refuses further writes. It does not close the writer beneath.
func (w *Writer) Close() error {
	err := w.Flush()
	if w.err == nil {
		w.err = fmt.Errorf("masking: %w", io.ErrClosedPipe)
	}
	return err
}

// Held returns how many bytes are held back.
func (w *Writer) Held() int { return len(w.held) - w.head }

// idle reports that nothing that was written so far matters for what comes.
func (w *Writer) idle() bool {
	return w.head == len(w.held) && w.phrase == 0 && w.param == outside && w.token == 0 && !w.inToken
}

// dull reports that nothing can begin at any byte of the short tail p. It
// holds only for an idle w.
func (w *Writer) dull(p []byte) bool {
	for _, c := range p {
		if w.m.first[0][c] != 0 {
			return false
		}
	}
	return true
}

// walk takes bytes of p from i on until nothing is pending, at least one, and
// returns where it stopped.
func (w *Writer) walk(p []byte, i int) int {
	for {
		w.step(p[i])
		i++
		if len(w.out) >= block {
			w.flush()
		}
		if i == len(p) || w.idle() {
			return i
		}
	}
}

// step takes one byte through the phrases.
func (w *Writer) step(c byte) {
	t := &w.m.phrases
	next := t.step(w.phrase, c)
	if next == 0 {
		w.phrase = 0
		w.settle(0)
		w.show(c)
		return
	}
	w.held = append(w.held, c)
	w.marks = append(w.marks, 0)
	if n := t.nodes[next].match; n > 0 {
		w.hide(int(n))
	}
	// Where no word goes on, only its suffixes can: what is complete need not wait.
	for next != 0 && t.nodes[next].child == 0 {
		next = t.nodes[next].fail
	}
	w.phrase = next
	if next == 0 {
		w.settle(0)
		return
	}
	w.settle(int(t.nodes[next].depth))
}

// hide marks the last n held bytes as a phrase.
func (w *Writer) hide(n int) {
	end := len(w.held)
	begin := end - n
	from := begin
	if w.hiddenBegin <= begin && begin < w.hidden {
		from = w.hidden // the rest is marked already
	} else {
		w.hiddenBegin = begin
	}
	for k := from; k < end; k++ {
		if k == begin {
			w.marks[k] |= covered
		} else {
			w.marks[k] |= covered | joined
		}
	}
	w.hidden = end
}

// settle hands on all held bytes but the last keep ones: no phrase that begins
// before these is possible any more.
func (w *Writer) settle(keep int) {
	for end := len(w.held) - keep; w.head < end; w.head++ {
		switch w.marks[w.head] {
		case 0:
			w.show(w.held[w.head])
		case covered:
			for i := range len(Mask) {
				w.show(Mask[i])
			}
		}
	}
	switch {
	case w.head == len(w.held):
		w.held, w.marks = w.held[:0], w.marks[:0]
		w.head, w.hidden, w.hiddenBegin = 0, 0, 0
	case w.head >= 4096 && w.head >= len(w.held)/2:
		w.held = append(w.held[:0], w.held[w.head:]...)
		w.marks = append(w.marks[:0], w.marks[w.head:]...)
		w.hidden, w.hiddenBegin = w.hidden-w.head, w.hiddenBegin-w.head
		w.head = 0
	}
}

// show takes one byte, which no phrase hides, through the URL parameters.
func (w *Writer) show(c byte) {
	switch w.param {
	case outside:
		if c == '?' || c == '&' {
			w.param, w.name = inName, 0
		}
	case inName:
		w.name = w.m.params.child(w.name, fold(c))
		switch {
		case c == '?' || c == '&':
			w.name = 0
		case w.name == 0:
			w.param = outside
		case w.m.params.nodes[w.name].match > 0:
			w.param = beforeValue
		}
	case beforeValue, inValue:
		switch {
		case c == '?' || c == '&':
			w.param, w.name = inName, 0
		case c <= ' ' || c == 0x7f:
			w.param = outside
		case w.param == inValue:
			return
		default:
			w.param = inValue
			for i := range len(Mask) {
				w.keep(Mask[i])
			}
			return
		}
	}
	w.keep(c)
}

// keep takes one byte, which neither a phrase nor a parameter hides, through
// the token prefixes.
func (w *Writer) keep(c byte) {
	t := &w.m.tokens
	if tokenByte(c) {
		if w.inToken {
			return
		}
		if w.token != 0 && t.nodes[w.token].match > 0 {
			w.inToken, w.token = true, 0
			w.out = append(w.out, Mask...)
			return
		}
	} else {
		w.inToken = false
	}
	w.token = t.step(w.token, c)
	w.out = append(w.out, c)
}

func tokenByte(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' ||
		c == '.' || c == '_' || c == '=' || c == '-'
}

// plain hands on p, in which nothing matches.
func (w *Writer) plain(p []byte) {
	if len(w.out)+len(p) > block {
		w.flush()
		if len(p) > block {
			w.put(p)
			return
		}
	}
	w.out = append(w.out, p...)
}

func (w *Writer) flush() {
	if len(w.out) > 0 {
		w.put(w.out)
		w.out = w.out[:0]
	}
}

func (w *Writer) put(p []byte) {
	if w.err != nil {
		return
	}
	n, err := w.w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	w.err = err
}
