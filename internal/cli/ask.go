package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// question is one thing to ask a person for.
type question struct {
	key    string // what is missing when there is no answer
	text   string // of the prompt, without the colon
	flag   string // that answers it beforehand
	env    string // the same
	value  string // default
	free   bool   // no answer is one
	secret bool   // the answer is not shown
	check  func(string) error
}

// asker gets answers: from a person, or from a file that stands in for one.
type asker struct {
	in          io.Reader
	out         io.Writer
	interactive bool
	lines       *bufio.Reader
}

// neededError says that a value is missing and nobody can be asked.
type neededError struct{ key, flag, env string }

// Error begins as GitLab Runner's text does.
func (e *neededError) Error() string {
	text := "The " + e.key + " needs to be entered"
	if e.flag != "" {
		text += ": give --" + e.flag
	}
	if e.env != "" {
		text += " or set " + e.env
	}
	return text
}

// ask returns the answer to a question. Without a person the default is the
// answer, and has to be there unless the question is free.
func (a *asker) ask(ctx context.Context, q question) (string, error) {
	for {
		answer := q.value
		if a.interactive {
			fmt.Fprintf(a.out, "%s:\n[%s]: ", q.text, q.shown())
			text, err := a.read(ctx, q)
			if err != nil {
				return "", err
			}
			if text != "" {
				answer = text
			}
		}
		var err error
		switch {
		case answer != "" && q.check != nil:
			err = q.check(answer)
		case answer == "" && !q.free:
			err = &neededError{q.key, q.flag, q.env}
		}
		if err == nil {
			return answer, nil
		}
		if !a.interactive {
			return "", &usageError{err}
		}
		fmt.Fprintf(a.out, "%v\n", err)
	}
}

// shown is the default as the prompt shows it.
func (q question) shown() string {
	if q.secret && q.value != "" {
		return "already given"
	}
	return q.value
}

// read returns one line of input. It gives up when ctx ends; the goroutine
// that waits for the line then ends with the process, as nothing can be done
// to wake it.
func (a *asker) read(ctx context.Context, q question) (string, error) {
	if a.lines == nil {
		a.lines = bufio.NewReader(a.in)
	}
	hide, restore := a.hidden(q)
	type line struct {
		text string
		err  error
	}
	got := make(chan line, 1)
	go func() {
		var l line
		if hide != nil {
			l.text, l.err = hide()
		} else {
			l.text, l.err = a.lines.ReadString('\n')
		}
		got <- l
	}()
	select {
	case <-ctx.Done():
		restore()
		fmt.Fprintln(a.out)
		return "", context.Cause(ctx)
	case l := <-got:
		if hide != nil {
			fmt.Fprintln(a.out)
		}
		text := strings.TrimSpace(l.text)
		switch {
		case text != "" || l.err == nil:
			return text, nil
		case errors.Is(l.err, io.EOF):
			fmt.Fprintln(a.out)
			return "", fmt.Errorf("the input ended where the %s was asked for", q.key)
		default:
			return "", fmt.Errorf("reading the %s: %w", q.key, l.err)
		}
	}
}

// hidden returns how to read a line that the terminal does not show, nil when
// there is no terminal or nothing to hide, and what makes it show lines again
// should reading be given up.
func (a *asker) hidden(q question) (read func() (string, error), restore func()) {
	restore = func() {}
	f, ok := a.in.(*os.File)
	if !q.secret || !ok || !term.IsTerminal(int(f.Fd())) || a.lines.Buffered() > 0 {
		return nil, restore
	}
	if state, err := term.GetState(int(f.Fd())); err == nil {
		restore = func() { _ = term.Restore(int(f.Fd()), state) } // the process is about to end
	}
	return func() (string, error) {
		text, err := term.ReadPassword(int(f.Fd()))
		return string(text), err
	}, restore
}
