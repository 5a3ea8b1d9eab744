package shell

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/glassrunner/glassrunner/internal/executor"
)

// Leftovers returns the processes that have a mark of the driver's owner in
// their environment or are in a control group named so, these groups, and
// temporary directories of jobs that are over.
func (d *Driver) Leftovers(ctx context.Context, dead []executor.Claim) ([]executor.Leftover, error) {
	var out []executor.Leftover
	boot := bootTime()
	found := map[int]bool{}
	add := func(m member, mark, group string) {
		if found[m.pid] || !m.living() {
			return
		}
		found[m.pid] = true
		out = append(out, executor.Leftover{
			Kind: "process", ID: strconv.Itoa(m.pid) + ":" + strconv.FormatUint(m.start, 10),
			Since: boot.Add(time.Duration(m.start) * tick), Claim: claimOfMark(mark, group),
		})
	}
	var groups []string
	if d.cgroups != "" {
		groups, _ = filepath.Glob(filepath.Join(d.cgroups, groupPrefix+d.o.Owner+"*"))
	}
	for _, g := range groups {
		mark := strings.TrimPrefix(filepath.Base(g), groupPrefix)
		if len(mark) < minMark {
			continue // a probe
		}
		info, err := os.Stat(g)
		if err != nil {
			continue // its job has just ended
		}
		out = append(out, executor.Leftover{Kind: "directory", ID: g, Since: info.ModTime(), Claim: claimOfMark(mark, g)})
		members := map[int]member{}
		(&tree{}).grouped(g, members)
		for _, m := range members {
			add(m, mark, g)
		}
	}
	self := os.Getpid()
	for pid, m := range processes() {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if pid == self || found[pid] {
			continue
		}
		if mark := markOf(pid); strings.HasPrefix(mark, d.o.Owner) && len(mark) >= minMark {
			add(m, mark, "")
		}
	}
	for _, c := range dead {
		if info, is := d.o.Places.left(c); is {
			out = append(out, executor.Leftover{Kind: "directory", ID: c.Data[claimTemp], Since: info.ModTime(), Claim: c})
		}
	}
	return out, nil
}

// claimOfMark makes the claim of a job of which only the mark is known, and
// perhaps the group.
func claimOfMark(mark, group string) executor.Claim { return (&tree{mark: mark, group: group}).claim() }

// markOf returns the mark in a process's environment, "" without one.
func markOf(pid int) string {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return ""
	}
	for v := range strings.SplitSeq(string(env), "\x00") {
		if mark, ok := strings.CutPrefix(v, markName+"="); ok {
			return mark
		}
	}
	return ""
}

// bootTime is when the machine was started.
func bootTime() time.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Now()
	}
	return time.Now().Add(-time.Duration(ts.Nano()))
}
