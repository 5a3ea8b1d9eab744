//go:build unix

package shell

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// output carries what a shell's processes print to the job log. It reads only
// what is there, under one lock, and what came by stdout goes before what
// came by stderr: as close to the order of printing as two pipes allow.
type output struct {
	d       *Driver
	pipes   [2]*os.File  // ends to read; the second is nil when both streams are one
	writers [2]io.Writer // nil: nobody listens
	done    chan struct{}
	wg      sync.WaitGroup

	mu       sync.Mutex // of a read with its write
	detached bool
	reads    int
	err      error // the first of a writer
}

// capture returns the output and the ends to give to a shell.
func (d *Driver) capture(stdout, stderr io.Writer) (*output, [2]*os.File, error) {
	o := &output{d: d, writers: [2]io.Writer{stdout, stderr}, done: make(chan struct{})}
	var ends [2]*os.File
	var err error
	if o.pipes[0], ends[0], err = os.Pipe(); err != nil {
		return nil, ends, err
	}
	if same(stdout, stderr) {
		ends[1] = ends[0]
		return o, ends, nil
	}
	if o.pipes[1], ends[1], err = os.Pipe(); err != nil {
		closeAll(o.pipes[0], ends[0])
		return nil, ends, err
	}
	return o, ends, nil
}

// start begins to read; close waits for the end of that.
func (o *output) start() {
	for i, f := range o.pipes {
		if f != nil {
			o.wg.Go(func() { o.pump(i, f) })
		}
	}
	go func() {
		o.wg.Wait()
		close(o.done)
	}()
}

func (o *output) pump(i int, f *os.File) {
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	// The error says that the pipe was closed here, by close.
	_ = conn.Read(func(fd uintptr) bool {
		for {
			switch n, err := o.move(i, int(fd)); {
			case errors.Is(err, syscall.EAGAIN):
				return false
			case err != nil || n == 0:
				return true
			}
		}
	})
}

// move reads once and writes what it got.
func (o *output) move(i, fd int) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	buf := o.d.buffers.Get().(*[]byte)
	defer o.d.buffers.Put(buf)
	n, err := read(fd, *buf)
	if n <= 0 {
		return 0, err
	}
	if i == 1 {
		o.catchUp()
	}
	o.write(i, (*buf)[:n])
	return n, nil
}

// catchUp writes what is waiting in stdout.
func (o *output) catchUp() {
	conn, err := o.pipes[0].SyscallConn()
	if err != nil {
		return
	}
	buf := o.d.buffers.Get().(*[]byte)
	defer o.d.buffers.Put(buf)
	// The error says that stdout is at its end and closed.
	_ = conn.Control(func(fd uintptr) {
		// No more than a pipe holds: a flood does not keep stderr back.
		if n, _ := read(int(fd), *buf); n > 0 {
			o.write(0, (*buf)[:n])
		}
	})
}

func read(fd int, buf []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, buf)
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}

func (o *output) write(i int, p []byte) {
	o.reads++
	if o.detached || o.err != nil || o.writers[i] == nil {
		return
	}
	_, o.err = o.writers[i].Write(p)
}

// settled waits, after the shell ended, until its output did so too. It is
// false when something still holds it; what that prints is dropped.
func (o *output) settled(ctx context.Context) bool {
	select {
	case <-o.done:
		o.closePipes()
		return true
	default:
	}
	end := time.Now().Add(settleMax)
	tick := time.NewTicker(settle)
	defer tick.Stop()
	for seen := o.seen(); ; {
		select {
		case <-o.done:
			o.closePipes()
			return true
		case <-tick.C:
			now := o.seen()
			if now == seen || time.Now().After(end) || ctx.Err() != nil {
				o.detach()
				return false
			}
			seen = now
		}
	}
}

func (o *output) seen() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.reads
}

// detach ends writing, not reading.
func (o *output) detach() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.detached = true
}

func (o *output) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// close ends reading and waits for that.
func (o *output) close() {
	o.closePipes()
	o.wg.Wait()
}

func (o *output) closePipes() { closeAll(o.pipes[0], o.pipes[1]) }
