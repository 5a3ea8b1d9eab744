package shell

import (
	"os"
	"syscall"
)

func groupLeader() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// There is no polite signal: the grace is for shells that end by themselves.
func terminate(*process) {}

func killProcess(p *process) { _ = p.p.Kill() } // it may just have ended

func groupsAlive([]int) bool { return false }

func killGroups([]int) int { return 0 }

func signalOf(*os.ProcessState) int { return 0 }

func notDir(error) bool { return false }
