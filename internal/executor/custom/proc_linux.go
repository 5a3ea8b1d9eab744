package custom

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/glassrunner/glassrunner/internal/pause"
)

// process is what /proc tells of one.
type process struct {
	pid, pgrp int
	start     uint64 // ticks since the machine started
	state     byte
}

// read reads /proc/PID/stat, see proc_pid_stat(5).
func read(pid int) (process, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, false
	}
	// The name, in brackets, may hold anything.
	_, after, ok := bytes.Cut(text[bytes.LastIndexByte(text, ')')+1:], []byte{' '})
	f := strings.Fields(string(after))
	if !ok || len(f) < 20 {
		return process{}, false
	}
	pgrp, err1 := strconv.Atoi(f[2])
	start, err2 := strconv.ParseUint(f[19], 10, 64)
	if errors.Join(err1, err2) != nil {
		return process{}, false
	}
	return process{pid, pgrp, start, f[0][0]}, true
}

// members are the processes of a group that have not ended.
func members(group int) []process {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	names, _ := dir.Readdirnames(-1)
	_ = dir.Close() // it was only read
	var found []process
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			if p, ok := read(pid); ok && p.pgrp == group && p.state != 'Z' && p.state != 'X' {
				found = append(found, p)
			}
		}
	}
	return found
}

func living(group int) bool { return len(members(group)) > 0 }

// started returns when a process was started.
func started(pid int) (uint64, bool) {
	p, ok := read(pid)
	return p.start, ok
}

func bootID() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}

// endGroup ends the group of a program that a process before this one
// started. Its number may belong to another by now: then the leader's start
// differs, or, without a leader, the mark in the environment.
func endGroup(ctx context.Context, group int, start uint64, mark []byte) (int, error) {
	ours := func(ms []process) (list []process) {
		for _, m := range ms {
			switch {
			case m.pid == group && m.start != start:
				return nil
			case m.pid == group:
				return ms
			}
		}
		for _, m := range ms {
			if m.start >= start && marked(m.pid, mark) {
				list = append(list, m)
			}
		}
		return list
	}
	seen := map[int]bool{}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		left := ours(members(group))
		if len(left) == 0 {
			return len(seen), nil
		}
		for _, m := range left {
			seen[m.pid] = true
			_ = syscall.Kill(m.pid, syscall.SIGKILL) // it may just have ended
		}
		if err := pause.For(ctx, wait); err != nil {
			return len(seen), fmt.Errorf("a program of the job does not end: %w", err)
		}
	}
}

// marked reports whether a process has a line in its environment.
func marked(pid int, mark []byte) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if bytes.Equal(v, mark) {
			return true
		}
	}
	return false
}
