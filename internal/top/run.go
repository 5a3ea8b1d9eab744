package top

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/api"
)

// Options say what Run shows and where.
type Options struct {
	Client   *Client
	Interval time.Duration // between two looks
	Out      io.Writer
	Color    bool
	Columns  int // of a print; 0: 160
	// Terminal is a person's; nil: print once.
	Terminal Terminal
}

// Terminal is a screen with a keyboard.
type Terminal interface {
	// Size returns columns and rows.
	Size() (columns, rows int)
	// Keys sends what is typed, as it comes, until ctx ends; then it closes
	// the channel.
	Keys(ctx context.Context) <-chan []byte
}

// Terminal sequences.
const (
	enter   = "\x1b[?1049h\x1b[?25l\x1b[?7l" // another screen, no cursor, no wrapping
	leave   = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	home    = "\x1b[H"
	endLine = "\x1b[K\r\n"
	below   = "\x1b[J"
)

// look is how often a change of the terminal's size is looked for.
const look = 100 * time.Millisecond

// Run shows the server until q is pressed or ctx ends; without a terminal it
// prints once.
func Run(ctx context.Context, o Options) error {
	if o.Terminal == nil {
		return once(ctx, o)
	}
	s, err := o.Client.Fetch(ctx)
	if err != nil {
		return err // before the screen changes
	}
	r := &runner{o: o, last: s, fetched: time.Now()}
	r.view = view{color: o.Color, server: o.Client.Server(), keys: true}
	return r.run(ctx)
}

func once(ctx context.Context, o Options) error {
	s, err := o.Client.Fetch(ctx)
	if err != nil {
		return err
	}
	columns := o.Columns
	if columns == 0 {
		columns = 160
	}
	for _, line := range (view{columns: columns, color: o.Color}).draw(s) {
		fmt.Fprintln(o.Out, line)
	}
	return nil
}

// runner is a screen that is kept up to date.
type runner struct {
	view
	o       Options
	last    *api.Snapshot
	fetched time.Time // when last was
}

type answer struct {
	s   *api.Snapshot
	err error
}

func (r *runner) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	answers := make(chan answer)
	wg.Go(func() { r.ask(ctx, answers) })
	keys := r.o.Terminal.Keys(ctx)
	defer func() {
		stop()
		for range keys { // until the terminal has let go
		}
	}()
	fmt.Fprint(r.o.Out, enter)
	defer fmt.Fprint(r.o.Out, leave)
	resized := time.NewTicker(look)
	defer resized.Stop()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		r.columns, r.rows = r.o.Terminal.Size()
		r.paintScreen()
	wait:
		select {
		case <-ctx.Done():
			return nil
		case a := <-answers:
			r.trouble = ""
			if a.err != nil {
				r.trouble = a.err.Error()
			} else {
				r.last, r.fetched = a.s, time.Now()
			}
		case k, ok := <-keys:
			if !ok || r.pressed(k) {
				return nil
			}
		case <-second.C: // ages grow
		case <-resized.C:
			if c, n := r.o.Terminal.Size(); c == r.columns && n == r.rows {
				goto wait
			}
		}
	}
}

// ask looks at the server at intervals.
func (r *runner) ask(ctx context.Context, to chan<- answer) {
	t := time.NewTicker(r.o.Interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		s, err := r.o.Client.Fetch(ctx)
		select {
		case <-ctx.Done():
			return
		case to <- answer{s, err}:
		}
	}
}

func (r *runner) paintScreen() {
	shown := *r.last
	shown.Status.Now = shown.Status.Now.Add(time.Since(r.fetched))
	r.scroll = max(0, min(r.scroll, len(shown.Jobs)-1))
	var b strings.Builder
	b.WriteString(home)
	lines := r.draw(&shown)
	for i, l := range lines {
		b.WriteString(l)
		if i < len(lines)-1 {
			b.WriteString(endLine)
		}
	}
	b.WriteString("\x1b[K" + below)
	_, _ = io.WriteString(r.o.Out, b.String()) // a terminal that has gone ends its keys, too
}

// pressed does what keys ask for and reports whether that is the end.
func (r *runner) pressed(keys []byte) (quit bool) {
	page := max(1, r.rows/2)
	for len(keys) > 0 {
		var key string
		key, keys = next(keys)
		switch key {
		case "q", "\x03": // Ctrl-C, which is no signal here
			return true
		case "s", "\x1b[C", "\x1bOC":
			r.sort(1)
		case "\x1b[D", "\x1bOD":
			r.sort(-1)
		case "r":
			r.reverse = !r.reverse
		case "k", "\x1b[A", "\x1bOA":
			r.scroll--
		case "j", "\x1b[B", "\x1bOB":
			r.scroll++
		case "\x1b[5~":
			r.scroll -= page
		case "\x1b[6~":
			r.scroll += page
		case "\x1b[H", "\x1b[1~", "\x1bOH":
			r.scroll = 0
		case "\x1b[F", "\x1b[4~", "\x1bOF":
			r.scroll = len(r.last.Jobs)
		}
	}
	return false
}

// next takes one key from what was typed: a byte, or the whole sequence that
// a key sends which has no character.
func next(keys []byte) (key string, rest []byte) {
	n := 1
	if len(keys) > 2 && keys[0] == 0x1b && (keys[1] == '[' || keys[1] == 'O') {
		for n = 2; n < len(keys) && (keys[n] < 0x40 || keys[n] > 0x7e); {
			n++
		}
		n = min(n+1, len(keys))
	}
	return string(keys[:n]), keys[n:]
}

func (r *runner) sort(by int) {
	n := len(orders())
	r.order = (r.order + by + n) % n
}
