package shell

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/glassrunner/glassrunner/internal/cgroup"
	"github.com/glassrunner/glassrunner/internal/job"
)

// meter adds up what a job's processes have used.
//
// A control group counts everything, daemons included; of which resources
// depends on its controllers, but version 2 always counts processor time. And
// with a shell's end the kernel tells what the shell and all those of its
// descendants used that were waited for, however short they lived. Both are
// right or too low, never too high, so the greater one counts.
type meter struct {
	mu      sync.Mutex
	running map[int]bool // shells that run; true: outside of the group
	ended   tally        // of all shells that were waited for
	outside tally        // of those among them that were outside of the group
	removed job.Usage    // of groups that the job had before its present one
	peak    int64        // of memory, as far as it was seen, in bytes
}

// tally is what the kernel says of processes.
type tally struct {
	cpu           time.Duration
	rss           int64 // bytes, now
	read, written int64 // bytes
}

func (t *tally) add(o tally) {
	t.cpu += o.cpu
	t.rss += o.rss
	t.read += o.read
	t.written += o.written
}

// began notes a shell that has been started.
func (m *meter) began(pid int, outside bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running == nil {
		m.running = map[int]bool{}
	}
	m.running[pid] = outside
}

// done notes what a shell has used that was waited for.
func (m *meter) done(pid int, s *os.ProcessState) {
	u, ok := s.SysUsage().(*syscall.Rusage)
	m.mu.Lock()
	defer m.mu.Unlock()
	outside := m.running[pid]
	delete(m.running, pid)
	if !ok {
		return
	}
	// Linux counts blocks of 512 bytes, whatever the device has.
	one := tally{cpu: time.Duration(u.Utime.Nano() + u.Stime.Nano()), read: u.Inblock * 512, written: u.Oublock * 512}
	m.ended.add(one)
	if outside {
		m.outside.add(one)
	}
	if ownPeak(u.Maxrss) {
		m.peak = max(m.peak, u.Maxrss<<10)
	}
}

// ownPeak says whether a high-water mark in KiB is a job's own. What becomes
// another program keeps the mark of the one it was, which is this process: a
// figure that is not above this one's mark says nothing.
func ownPeak(kib int64) bool {
	// What the kernel says at once is never too low, but it has the mark of
	// whoever started this process, which may be a large program.
	var self syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &self) == nil && kib > self.Maxrss {
		return true
	}
	const small = 64 << 10 // not worth another look
	if kib <= small {
		return false
	}
	status, err := readProc("/proc/self/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			own, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			return err == nil && kib > own
		}
	}
	return false
}

// removing keeps what a group counted that is about to be removed.
func (t *tree) removing() {
	u := cgroup.Group{Unified: t.group}.Usage()
	m := &t.meter
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &m.removed
	r.CPU, r.Throttled, r.OOMKills = r.CPU.Plus(u.CPU), r.Throttled.Plus(u.Throttled), r.OOMKills.Plus(u.OOMKills)
	r.Read, r.Written, r.MemoryPeak = r.Read.Plus(u.Read), r.Written.Plus(u.Written), r.MemoryPeak.Max(u.MemoryPeak)
}

// usage returns what the job has used.
func (t *tree) usage() job.Usage {
	m := &t.meter
	m.mu.Lock()
	defer m.mu.Unlock()
	u := cgroup.Group{Unified: t.group}.Usage()
	_, counted := u.CPU.Value()
	_, memory := u.Memory.Value()
	_, blocks := u.Read.Value()
	var live, outside tally // of shells that run, and their descendants
	if len(m.running) > 0 && (!counted || !memory || !blocks) {
		live, outside = t.look(m.running)
	}
	if counted {
		u.CPU = u.CPU.Plus(m.removed.CPU).Plus(job.KnownTime(m.outside.cpu + outside.cpu))
	}
	u.CPU = u.CPU.Max(job.KnownTime(m.ended.cpu + live.cpu))
	u.Throttled, u.OOMKills = u.Throttled.Plus(m.removed.Throttled), u.OOMKills.Plus(m.removed.OOMKills)
	u.MemoryPeak = u.MemoryPeak.Max(m.removed.MemoryPeak)
	if !memory {
		m.peak = max(m.peak, live.rss)
		u.Memory = job.Known(live.rss)
		if m.peak > 0 {
			u.MemoryPeak = u.MemoryPeak.Max(job.Known(m.peak))
		}
	}
	if blocks {
		u.Read, u.Written = u.Read.Plus(m.removed.Read), u.Written.Plus(m.removed.Written)
	} else {
		u.Read, u.Written = job.Known(m.ended.read+live.read), job.Known(m.ended.written+live.written)
	}
	return u
}

// mostLooked bounds how many processes of a job are looked at for one sample.
const mostLooked = 256

// look adds up what the processes of running shells have used so far. Those
// that ended and were waited for are in their parents' figures. What of it is
// of shells outside of the group is returned as well.
func (t *tree) look(shells map[int]bool) (all, outside tally) {
	seen := map[int]bool{}
	grouped := false
	for pid, out := range shells {
		grouped = grouped || !out
		var one tally
		descend(pid, seen, &one)
		all.add(one)
		if out {
			outside.add(one)
		}
	}
	if !grouped || t.group == "" {
		return all, outside
	}
	// Daemons, whose parents are gone.
	text, err := readProc(filepath.Join(t.group, "cgroup.procs"))
	if err != nil {
		return all, outside
	}
	for f := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(f); err == nil {
			descend(pid, seen, &all)
		}
	}
	return all, outside
}

// descend adds up a process and its descendants.
func descend(pid int, seen map[int]bool, sum *tally) {
	if seen[pid] || len(seen) >= mostLooked {
		return
	}
	seen[pid] = true
	one, ok := tallyOf(pid)
	if !ok {
		return
	}
	sum.add(one)
	dir := "/proc/" + strconv.Itoa(pid) + "/task/"
	threads, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, th := range threads {
		// Empty on a kernel without CONFIG_PROC_CHILDREN.
		text, err := readProc(dir + th.Name() + "/children")
		if err != nil {
			return
		}
		for f := range strings.FieldsSeq(string(text)) {
			if child, err := strconv.Atoi(f); err == nil {
				descend(child, seen, sum)
			}
		}
	}
}

// tallyOf is what a process has used, with its children that were waited for.
func tallyOf(pid int) (tally, bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	text, err := readProc(dir + "/stat")
	if err != nil {
		return tally{}, false
	}
	t, ok := parseTally(string(text))
	if io, err := readProc(dir + "/io"); ok && err == nil {
		t.read, t.written = parseIO(string(io))
	}
	return t, ok
}

// parseTally reads times and memory from /proc/PID/stat: utime, stime, cutime
// and cstime in ticks, and rss in pages.
func parseTally(text string) (tally, bool) {
	end := strings.LastIndexByte(text, ')')
	if end < 0 {
		return tally{}, false
	}
	f := strings.Fields(text[end+1:])
	if len(f) < 22 {
		return tally{}, false
	}
	var t tally
	for _, i := range []int{11, 12, 13, 14} {
		ticks, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return tally{}, false
		}
		t.cpu += time.Duration(min(max(ticks, 0), 1<<40)) * tick
	}
	pages, err := strconv.ParseInt(f[21], 10, 64)
	if err != nil {
		return tally{}, false
	}
	t.rss = min(max(pages, 0), 1<<40) * int64(os.Getpagesize())
	return t, true
}

// tick is the unit of times in /proc: USER_HZ is 100 on every platform of Go.
const tick = 10 * time.Millisecond

// parseIO reads /proc/PID/io.
func parseIO(text string) (read, written int64) {
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		if err != nil || n < 0 {
			continue
		}
		switch name {
		case "read_bytes":
			read = n
		case "write_bytes":
			written = n
		}
	}
	return read, written
}
