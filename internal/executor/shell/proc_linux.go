package shell

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ticksNow is the time since boot in the unit of /proc/PID/stat, a tick less
// so that nothing that starts now is older.
func ticksNow() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	t := uint64(ts.Nano() / 1e7) // USER_HZ is 100 on every platform of Go
	return t - min(t, 1)
}

// readProc reads a small file that the kernel makes up. It leaves out what
// os.ReadFile does to be able to wait for a file, which nobody has to here.
func readProc(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }() // only read
	text := make([]byte, 0, 1024)
	for {
		n, err := unix.Read(fd, text[len(text):cap(text)])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		case n == 0:
			return text, nil
		default:
			text = slices.Grow(text[:len(text)+n], 512)
		}
	}
}

// bootID tells one start of the machine from another.
func bootID() string {
	id, err := readProc("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

func (m member) living() bool { return m.state != 'Z' && m.state != 'X' }

// readStat reads what is known of a process.
func readStat(pid int) (member, bool) {
	text, err := readProc("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return member{}, false
	}
	return parseStat(pid, string(text))
}

// parseStat reads /proc/PID/stat. The name in it is in parentheses and may
// hold anything, parentheses too.
func parseStat(pid int, text string) (member, bool) {
	end := strings.LastIndexByte(text, ')')
	if end < 0 {
		return member{}, false
	}
	f := strings.Fields(text[end+1:])
	if len(f) < 20 {
		return member{}, false
	}
	m := member{pid: pid, state: f[0][0]}
	var errs [4]error
	m.ppid, errs[0] = strconv.Atoi(f[1])
	m.pgrp, errs[1] = strconv.Atoi(f[2])
	m.session, errs[2] = strconv.Atoi(f[3])
	m.start, errs[3] = strconv.ParseUint(f[19], 10, 64)
	return m, errors.Join(errs[:]...) == nil
}

// commOf is the name of the program that a process runs or ran.
func commOf(pid int) string {
	text, err := readProc("/proc/" + strconv.Itoa(pid) + "/comm")
	if err != nil {
		return ""
	}
	return string(text)
}

// termIsFatal reports whether SIGTERM ends the process by itself: it is
// neither caught nor ignored nor blocked.
func (m member) termIsFatal() bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(m.pid) + "/status")
	if err != nil {
		return false
	}
	return termFatal(string(text))
}

// termFatal reads that from /proc/PID/status.
func termFatal(status string) bool {
	masks := 0
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "SigBlk", "SigIgn", "SigCgt":
			mask, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			if err != nil || mask&(1<<(unix.SIGTERM-1)) != 0 {
				return false
			}
			masks++
		}
	}
	return masks == 3
}

// processes reads all processes of the machine.
func processes() map[int]member {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	names, _ := dir.Readdirnames(-1)
	closeAll(dir)
	all := make(map[int]member, len(names))
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			if m, ok := readStat(pid); ok {
				all[pid] = m
			}
		}
	}
	return all
}

// marked reports whether a process has a job's mark in its environment.
func marked(pid int, mark []byte) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	for len(env) > 0 {
		var v []byte
		v, env, _ = bytes.Cut(env, []byte{0})
		if bytes.Equal(v, mark) {
			return true
		}
	}
	return false
}
