package docker

import (
	"os"

	"golang.org/x/sys/unix"
)

// watch returns a channel that is closed when a process of this machine has
// ended, or once stop was called.
func watch(pid int) (ended <-chan struct{}, stop func(), err error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fd), "process")
	conn, err := f.SyscallConn()
	if err != nil {
		_ = f.Close() // it was not used
		return nil, nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Ends with the process, or with an error when the file is closed.
		_ = conn.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return n > 0 || err != nil && err != unix.EINTR
		})
		_ = f.Close() // it was only watched
	}()
	return done, func() { _ = f.Close() }, nil
}
