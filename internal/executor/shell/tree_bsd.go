//go:build unix && !linux

package shell

import (
	"errors"
	"os"
	"syscall"
)

func groupLeader() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func terminate(p *process) { _ = syscall.Kill(-p.pid, syscall.SIGTERM) }

func killProcess(p *process) { _ = syscall.Kill(-p.pid, syscall.SIGKILL) }

func groupsAlive(pids []int) bool {
	for _, pid := range pids {
		if err := syscall.Kill(-pid, 0); err == nil {
			return true
		}
	}
	return false
}

func killGroups(pids []int) (killed int) {
	for _, pid := range pids {
		if err := syscall.Kill(-pid, syscall.SIGKILL); err == nil {
			killed++
		}
	}
	return killed
}

func signalOf(s *os.ProcessState) int {
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return int(ws.Signal())
	}
	return 0
}

func notDir(err error) bool { return errors.Is(err, syscall.ENOTDIR) }
