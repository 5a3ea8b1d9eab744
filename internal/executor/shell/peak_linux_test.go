package shell

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// TestOwnPeak starts a program after this process was large: what the kernel
// says of the program is this process's mark, and no figure of its own.
func TestOwnPeak(t *testing.T) {
	big := make([]byte, 100<<20)
	for i := 0; i < len(big); i += os.Getpagesize() {
		big[i] = 1
	}
	cmd := exec.CommandContext(t.Context(), "true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	runtime.KeepAlive(big)
	u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok || u.Maxrss < 100<<10 {
		t.Skipf("this kernel does not pass the mark on: %+v", u)
	}
	if ownPeak(u.Maxrss) {
		t.Errorf("%d KiB of this process are taken for a job's", u.Maxrss)
	}
	if !ownPeak(u.Maxrss + 200<<10) {
		t.Error("what is larger is not taken for a job's")
	}
}
