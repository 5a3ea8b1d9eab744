//go:build !unix

package shell

import (
	"context"
	"io"
	"os"
	"sync"
	"time"
)

// output carries what a shell's processes print to the job log.
type output struct {
	d       *Driver
	pipes   [2]*os.File  // ends to read; the second is nil when both streams are one
	writers [2]io.Writer // nil: nobody listens
	done    chan struct{}
	wg      sync.WaitGroup

	mu       sync.Mutex
	detached bool
	reads    int
	err      error // the first of a writer
}

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
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		o.mu.Lock()
		o.reads++
		if n > 0 && !o.detached && o.err == nil && o.writers[i] != nil {
			_, o.err = o.writers[i].Write(buf[:n])
		}
		o.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (o *output) settled(ctx context.Context) bool {
	end := time.Now().Add(settleMax)
	tick := time.NewTicker(settle)
	defer tick.Stop()
	for seen := o.seen(); ; {
		select {
		case <-o.done:
			closeAll(o.pipes[0], o.pipes[1])
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

// close ends reading. A pipe that another process holds cannot be closed here
// while it is read; its reader ends when that process does.
func (o *output) close() { closeAll(o.pipes[0], o.pipes[1]) }
