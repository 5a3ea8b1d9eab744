package shell

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// process is a shell of a job.
type process struct {
	pid int
	p   *os.Process
	end *os.File // readable once the process has ended; nil where that is not offered
}

// awaitExit returns when the process has ended. It is not reaped, so nothing
// else can have its number yet. Waiting takes no thread.
func (p *process) awaitExit() {
	if p.end != nil {
		if conn, err := p.end.SyscallConn(); err == nil {
			err = conn.Read(func(fd uintptr) bool {
				n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
				return n > 0 || err != nil && err != unix.EINTR
			})
			if err == nil {
				return
			}
		}
	}
	var info unix.Siginfo
	for {
		if err := unix.Waitid(unix.P_PID, p.pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			return
		}
	}
}

// reap collects an ended process. err is trouble; status the script's failure.
func (t *tree) reap(p *process) (status, err error) {
	if p.end != nil {
		_ = p.end.Close() // it was only watched
	}
	// What is left of a process still has its last program's name.
	name := commOf(p.pid)
	s, err := p.p.Wait()
	if err != nil {
		return nil, err
	}
	t.meter.done(p.pid, s)
	if signalOf(s) == int(syscall.SIGKILL) && t.group != "" && !t.outside && name != "" && name == commOf(os.Getpid()) {
		// The group was killed before, maybe by another, see kill.
		t.outside, t.scan = true, true
		return nil, errStillborn
	}
	return result(s), nil
}

func signalOf(s *os.ProcessState) int {
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return int(ws.Signal())
	}
	return 0
}

func notDir(err error) bool { return errors.Is(err, syscall.ENOTDIR) }
