package app

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// releaseProgram takes the pages of the program's code and constants out of
// this process's memory. They stay in the system's cache of files and come back
// as they are needed, some dozens at a time. Nothing is lost by it: these pages
// are never written.
func releaseProgram() {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for _, m := range programPages(string(maps), exe) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED) // a smaller process, or the same one
	}
}

// programPages returns the mappings of the program's file that nothing can write
// to, from the text of /proc/PID/maps (proc_pid_maps(5)).
func programPages(maps, exe string) []mapping {
	var found []mapping
	for line := range strings.Lines(maps) {
		// address perms offset dev inode pathname
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 6)
		if len(f) < 6 || strings.TrimLeft(f[5], " ") != exe || f[1] != "r-xp" && f[1] != "r--p" {
			continue
		}
		from, to, ok := strings.Cut(f[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if ok && err1 == nil && err2 == nil && start < end {
			found = append(found, mapping{uintptr(start), uintptr(end)})
		}
	}
	return found
}

// mapping is a range of addresses.
type mapping struct{ start, end uintptr }
