// Package cgroup reads what Linux's control groups say of their members' use
// of the machine, in version 2 of the interface and in version 1.
//
// Formats: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/ of the
// kernel's sources. It changes nothing; elsewhere than on Linux no group is
// found.
package cgroup

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
)

// Group is where a group is in the hierarchies of a machine: directories, each
// "" where there is none.
type Group struct {
	Unified string // of version 2
	// Of version 1, by controller.
	CPUAcct, CPU, Memory, Blkio string
}

// Any reports whether the group is anywhere.
func (g Group) Any() bool { return g != Group{} }

// Own returns the group of this process.
func Own() Group { return of("self") }

// Of returns the group of a process, as this process sees it. It is nowhere
// when the process does not exist.
func Of(pid int) Group { return of(strconv.Itoa(pid)) }

func of(pid string) Group {
	groups, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		return Group{}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Group{}
	}
	return find(string(groups), string(mounts))
}

// find reads /proc/PID/cgroup, lines of hierarchy:controllers:path, and looks
// for where these are mounted in the text of mountinfo.
func find(groups, mounts string) Group {
	var g Group
	for line := range strings.Lines(groups) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		if f[0] == "0" && f[1] == "" {
			g.Unified = mounted(mounts, "", f[2])
			continue
		}
		for name := range strings.SplitSeq(f[1], ",") {
			switch name {
			case "cpuacct":
				g.CPUAcct = mounted(mounts, name, f[2])
			case "cpu":
				g.CPU = mounted(mounts, name, f[2])
			case "memory":
				g.Memory = mounted(mounts, name, f[2])
			case "blkio":
				g.Blkio = mounted(mounts, name, f[2])
			}
		}
	}
	return g
}

// mounted returns the directory of a path within the hierarchy of a
// controller, "" being that of version 2; or "" when it cannot be seen.
func mounted(mounts, controller, path string) string {
	if path == "/.." || strings.HasPrefix(path, "/../") {
		return "" // outside of this process's namespace
	}
	for line := range strings.Lines(mounts) {
		before, after, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		f, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(kind) < 3 {
			continue
		}
		switch {
		case controller == "" && kind[0] == "cgroup2":
		case controller != "" && kind[0] == "cgroup" && has(kind[2], controller):
		default:
			continue
		}
		if rel, err := filepath.Rel(f[3], path); err == nil && filepath.IsLocal(rel) {
			return filepath.Join(f[4], rel)
		}
	}
	return ""
}

func has(options, controller string) bool {
	for o := range strings.SplitSeq(options, ",") {
		if o == controller {
			return true
		}
	}
	return false
}

// Usage returns what the group's members, past ones too, have used. What no
// controller counts is not known. Memory does not have the file cache that
// the kernel could give back at once; MemoryPeak is the kernel's own figure
// and has it.
func (g Group) Usage() job.Usage {
	var u job.Usage
	if g.Unified != "" {
		g.unified(&u)
	}
	if g.CPUAcct != "" && !known(u.CPU) {
		u.CPU = number(g.CPUAcct, "cpuacct.usage")
	}
	if g.CPU != "" && !known(u.Throttled) {
		u.Throttled = field(read(g.CPU, "cpu.stat"), "throttled_time", 1)
	}
	if g.Memory != "" && !known(u.Memory) {
		u.Memory = without(number(g.Memory, "memory.usage_in_bytes"), field(read(g.Memory, "memory.stat"), "total_inactive_file", 1))
		u.MemoryPeak = number(g.Memory, "memory.max_usage_in_bytes")
		u.OOMKills = field(read(g.Memory, "memory.oom_control"), "oom_kill", 1)
	}
	if g.Blkio != "" && !known(u.Read) {
		u.Read, u.Written = serviceBytes(read(g.Blkio, "blkio.throttle.io_service_bytes_recursive"))
	}
	return u
}

func (g Group) unified(u *job.Usage) {
	stat := read(g.Unified, "cpu.stat")
	u.CPU = field(stat, "usage_usec", time.Microsecond)
	u.Throttled = field(stat, "throttled_usec", time.Microsecond) // only with the controller
	if current := number(g.Unified, "memory.current"); known(current) {
		u.Memory = without(current, field(read(g.Unified, "memory.stat"), "inactive_file", 1))
		u.MemoryPeak = number(g.Unified, "memory.peak") // since Linux 5.19
		u.OOMKills = field(read(g.Unified, "memory.events"), "oom_kill", 1)
	}
	if text, err := os.ReadFile(filepath.Join(g.Unified, "io.stat")); err == nil {
		u.Read, u.Written = ioStat(text)
	}
}

func known(q job.Quantity) bool { _, ok := q.Value(); return ok }

// without takes b away from a.
func without(a, b job.Quantity) job.Quantity {
	n, ok := a.Value()
	if !ok {
		return a
	}
	less, _ := b.Value()
	return job.Known(n - less)
}

// read returns a file's content, nothing when it cannot be read.
func read(dir, name string) []byte {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil
	}
	return text
}

// number reads a file that holds one number.
func number(dir, name string) job.Quantity {
	return parse(bytes.TrimSpace(read(dir, name)), 1)
}

// field reads a number from lines of a name and a number. unit is what one of
// it stands for.
func field(text []byte, name string, unit time.Duration) job.Quantity {
	for line := range bytes.Lines(text) {
		f := bytes.Fields(line)
		if len(f) == 2 && string(f[0]) == name {
			return parse(f[1], unit)
		}
	}
	return job.Quantity{}
}

func parse(text []byte, unit time.Duration) job.Quantity {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || n < 0 || n > (1<<63-1)/int64(unit) {
		return job.Quantity{}
	}
	return job.Known(n * int64(unit))
}

// ioStat adds up io.stat: a line for each device, "8:0 rbytes=1 wbytes=2 …".
func ioStat(text []byte) (read, written job.Quantity) {
	read, written = job.Known(0), job.Known(0)
	for line := range bytes.Lines(text) {
		for i, f := range bytes.Fields(line) {
			name, value, _ := bytes.Cut(f, []byte("="))
			if i == 0 {
				continue
			}
			switch string(name) {
			case "rbytes":
				read = plus(read, value)
			case "wbytes":
				written = plus(written, value)
			}
		}
	}
	return read, written
}

// serviceBytes adds up the same in version 1: "8:0 Read 1".
func serviceBytes(text []byte) (read, written job.Quantity) {
	if len(text) == 0 {
		return read, written
	}
	read, written = job.Known(0), job.Known(0)
	for line := range bytes.Lines(text) {
		f := bytes.Fields(line)
		if len(f) != 3 {
			continue
		}
		switch string(f[1]) {
		case "Read":
			read = plus(read, f[2])
		case "Write":
			written = plus(written, f[2])
		}
	}
	return read, written
}

// plus adds a number as text; a sum stays one that can be.
func plus(q job.Quantity, text []byte) job.Quantity {
	sum := q.Plus(parse(text, 1))
	if n, _ := sum.Value(); n < 0 {
		return q
	}
	return sum
}
