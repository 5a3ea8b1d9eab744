package custom

import (
	"errors"
	"os/exec"
	"syscall"
)

func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// There is no polite signal: the grace is for programs that end by themselves.
func terminate(int) {}

func kill(cmd *exec.Cmd) { _ = cmd.Process.Kill() } // it may just have ended

func alive(int) bool { return false }

// errTooLong is ERROR_FILENAME_EXCED_RANGE.
const errnoTooLong = syscall.Errno(206)

func tooLong(err error) bool { return errors.Is(err, errnoTooLong) }
