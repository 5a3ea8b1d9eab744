package shell

import (
	"context"
	"io"
	"os"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
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
	if executor.SameWriter(stdout, stderr) {
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
