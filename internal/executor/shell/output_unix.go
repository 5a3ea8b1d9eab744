//go:build unix

package shell

import (
	"errors"
	"os"
	"syscall"
)

// pump moves what comes through one pipe, as soon as it is there.
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
