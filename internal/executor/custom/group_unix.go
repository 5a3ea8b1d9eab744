//go:build unix

package custom

import (
	"errors"
	"os/exec"
	"syscall"
)

func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// terminate asks a program's group to end.
func terminate(pid int) {
	_ = syscall.Kill(-pid, syscall.SIGTERM) // that nobody is there is no trouble
	_ = syscall.Kill(-pid, syscall.SIGCONT)
}

// kill ends a program's group. The number of a group that is empty is not
// given to another within the moment that passes since it was seen full.
func kill(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

// alive reports whether any process of a group runs.
func alive(pid int) bool {
	if err := syscall.Kill(-pid, 0); err != nil && !errors.Is(err, syscall.EPERM) {
		return false
	}
	return living(pid)
}

func tooLong(err error) bool { return errors.Is(err, syscall.E2BIG) }
