package shell

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/glassrunner/glassrunner/internal/cgroup"
	"github.com/glassrunner/glassrunner/internal/executor"
)

const (
	// markName is the environment variable by which a job's processes are known.
	markName = "GLASSRUNNER_JOB"
	// groupPrefix begins the names of jobs' control groups.
	groupPrefix = "glassrunner-"
	// minMark is the least length of a job's mark.
	minMark = 16
)

// tree is all processes of one job.
type tree struct {
	mark  string
	group string // directory of the job's control group, "" when it has none
	// outside: shells are not started in the group.
	outside bool
	since   uint64 // nothing of the job started earlier, in ticks since boot
	// scan looks through all processes: the group alone does not have them.
	scan bool
	// leaders are the shells started so far, by number, with their starts.
	leaders map[int]uint64
	meter   meter
}

// plant makes an empty tree, which can be claimed. Nothing of it exists yet.
func (d *Driver) plant(mark string) *tree {
	t := &tree{mark: mark, since: ticksNow(), scan: d.cgroups == "" || d.owner != nil, leaders: map[int]uint64{}}
	if d.cgroups != "" {
		t.group = filepath.Join(d.cgroups, groupPrefix+mark)
	}
	return t
}

// root makes the tree's control group.
func (t *tree) root(log *slog.Logger) {
	if t.group == "" {
		return
	}
	if err := os.Mkdir(t.group, 0o755); err != nil {
		log.Debug("no control group for a job", "error", err)
		t.group, t.scan = "", true
	}
}

// start starts a shell in the tree.
func (t *tree) start(argv []string, dir string, environ []string, files []*os.File) (*process, error) {
	pidfd := -1
	attr := &os.ProcAttr{
		Dir:   dir,
		Env:   append(slices.Clip(environ), markName+"="+t.mark),
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd},
	}
	var group *os.File
	if t.group != "" && !t.outside {
		var err error
		if group, err = os.Open(t.group); err != nil {
			return nil, err
		}
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(group.Fd())
	}
	p, err := os.StartProcess(argv[0], argv, attr)
	if err != nil && group != nil {
		// An old kernel, or one that lets nobody in: the group stays empty.
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = false, 0
		if p, err = os.StartProcess(argv[0], argv, attr); err == nil {
			t.outside, t.scan = true, true
		}
	}
	closeAll(group)
	if err != nil {
		return nil, err
	}
	proc := &process{pid: p.Pid, p: p}
	if pidfd >= 0 {
		if unix.SetNonblock(pidfd, true) == nil {
			proc.end = os.NewFile(uintptr(pidfd), "process")
		} else {
			_ = unix.Close(pidfd)
		}
	}
	if s, ok := readStat(p.Pid); ok {
		t.leaders[p.Pid] = s.start
	}
	t.meter.began(p.Pid, t.group == "" || t.outside)
	return proc, nil
}

// terminate asks the job's processes to end.
func (t *tree) terminate(p *process) {
	// The shell is not reaped, so its number is its group's. That a signal
	// reaches nobody is no trouble here: stop looks who is left.
	_ = syscall.Kill(-p.pid, syscall.SIGTERM)
	_ = syscall.Kill(-p.pid, syscall.SIGCONT)
	for _, m := range t.members() {
		if m.pgrp != p.pid {
			m.signal(syscall.SIGTERM)
			m.signal(syscall.SIGCONT)
		}
	}
}

// remind repeats the polite signal for processes that cannot have had it: it
// would have ended them. A shell that forks loses a signal to the child that
// is about to become a program.
func (t *tree) remind() {
	for _, m := range t.members() {
		if m.termIsFatal() {
			m.signal(syscall.SIGTERM)
		}
	}
}

// alive reports whether any process of the job is left.
func (t *tree) alive(*process) bool {
	if t.group != "" && t.populated() {
		return true
	}
	return t.scan && len(t.members()) > 0
}

// kill ends all processes of the job and waits until none is left. It returns
// how many there were.
func (t *tree) kill(ctx context.Context, p *process) (int, error) {
	n, err := t.killAll(ctx)
	if err != nil || n == 0 || p == nil || t.group == "" {
		return n, err
	}
	// More phases follow. Linux kills what is started into a group that was
	// killed before, so they need another.
	t.removing()
	err = removeGroup(t.group)
	if err == nil {
		err = os.Mkdir(t.group, 0o755)
	}
	if err != nil {
		t.outside, t.scan = true, true
	}
	return n, nil
}

func (t *tree) killAll(ctx context.Context) (int, error) {
	killed := map[member]bool{}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		if !t.alive(nil) {
			return len(killed), nil
		}
		left := t.members()
		for _, m := range left {
			m.ppid, m.pgrp, m.session = 0, 0, 0 // what stays the same
			killed[m] = true
		}
		if t.group != "" {
			// All at once, so that nothing can fork away. Before Linux 5.14
			// there is no such file.
			_ = os.WriteFile(filepath.Join(t.group, "cgroup.kill"), []byte("1"), 0)
		}
		for _, m := range left {
			m.signal(syscall.SIGKILL)
		}
		select {
		case <-ctx.Done():
			return len(killed), fmt.Errorf("processes of the job do not end: %w", context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

// uproot removes the job's control group.
func (t *tree) uproot() error {
	if t.group == "" {
		return nil
	}
	return removeGroup(t.group)
}

// removeGroup removes a control group with those that a job made within.
func removeGroup(dir string) error {
	err := unix.Rmdir(dir)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			if err := removeGroup(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the job's control group: %w", err)
	}
	return nil
}

// populated reports whether the group has processes.
func (t *tree) populated() bool {
	text, err := readProc(filepath.Join(t.group, "cgroup.events"))
	return err == nil && strings.Contains(string(text), "populated 1")
}

// member is a process of the job.
type member struct {
	pid, ppid, pgrp, session int
	start                    uint64 // ticks since boot
	state                    byte
}

// signal sends a signal to the process, and to no other that has its number
// by now.
func (m member) signal(s syscall.Signal) {
	p, err := os.FindProcess(m.pid) // holds on to the process where the kernel can
	if err != nil {
		return
	}
	if now, ok := readStat(m.pid); ok && now.start == m.start {
		_ = p.Signal(s) // it may just have ended
	}
	_ = p.Release()
}

// members are the job's living processes.
func (t *tree) members() []member {
	found := map[int]member{}
	if t.group != "" {
		t.grouped(t.group, found)
	}
	if t.scan {
		t.scanned(found)
	}
	list := make([]member, 0, len(found))
	for _, m := range found {
		list = append(list, m)
	}
	return list
}

// grouped finds the processes of a control group and of those within it.
func (t *tree) grouped(dir string, found map[int]member) {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return
	}
	for f := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(f); err == nil {
			if m, ok := readStat(pid); ok && m.living() {
				found[pid] = m
			}
		}
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			t.grouped(filepath.Join(dir, e.Name()), found)
		}
	}
}

// scanned finds processes by the job's mark, by the sessions of its shells
// and by their parents.
func (t *tree) scanned(found map[int]member) {
	all := processes()
	leaders := map[int]bool{}
	for pid, start := range t.leaders {
		m, ok := all[pid]
		leaders[pid] = !ok || m.start == start // else another has the number
	}
	mark := []byte(markName + "=" + t.mark)
	self := os.Getpid()
	var rest []member
	for pid, m := range all {
		switch {
		case pid == self || m.start < t.since:
		case leaders[m.session] || leaders[m.pgrp] || marked(pid, mark):
			found[pid] = m
		default:
			rest = append(rest, m)
		}
	}
	for more := true; more; {
		more = false
		for _, m := range rest {
			if _, have := found[m.pid]; have {
				continue
			}
			if _, ok := found[m.ppid]; ok {
				found[m.pid] = m
				more = true
			}
		}
	}
	for pid, m := range found {
		if !m.living() {
			delete(found, pid)
		}
	}
}

// claim names the tree for a later process.
func (t *tree) claim() executor.Claim {
	return executor.Claim{Kind: claimKind, ID: t.mark, Data: map[string]string{
		"mark":   t.mark,
		"boot":   bootID(),
		"since":  strconv.FormatUint(t.since, 10),
		"cgroup": t.group,
	}}
}

// claimOf adds a shell to the claim, where its session is of use.
func (t *tree) claimOf(p *process) (executor.Claim, bool) {
	start, ok := t.leaders[p.pid]
	if !t.scan || !ok {
		return executor.Claim{}, false
	}
	c := t.claim()
	c.ID = strconv.Itoa(p.pid)
	c.Data["start"] = strconv.FormatUint(start, 10)
	return c, true
}

// replant makes the tree that a claim names; nil when nothing can be left of it.
func (d *Driver) replant(c executor.Claim) (*tree, error) {
	if c.Kind != claimKind {
		return nil, fmt.Errorf("the shell executor makes no claims of the kind %q", c.Kind)
	}
	mark := c.Data["mark"]
	since, err := strconv.ParseUint(c.Data["since"], 10, 64)
	if err != nil || len(mark) < minMark {
		return nil, errors.New("a claim of the shell executor is damaged")
	}
	if c.Data["boot"] != bootID() {
		return nil, nil // the machine was started since
	}
	t := &tree{mark: mark, since: since, scan: true, leaders: map[int]uint64{}}
	if dir := c.Data["cgroup"]; dir != "" && filepath.Base(dir) == groupPrefix+mark {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
			t.group = filepath.Clean(dir)
		}
	}
	if text, ok := c.Data["start"]; ok {
		pid, err1 := strconv.Atoi(c.ID)
		start, err2 := strconv.ParseUint(text, 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("a claim of the shell executor is damaged: %w", err)
		}
		t.leaders[pid] = start
	}
	return t, nil
}

// findCgroups returns the directory in which jobs get control groups, "" when
// there is none that can be used.
func findCgroups(want string, log *slog.Logger) string {
	if want == NoCgroup {
		return ""
	}
	dir := want
	if dir == "" {
		dir = cgroup.Own().Unified
		if up := delegated(dir); up != "" {
			dir = up
		}
	}
	if dir == "" {
		return ""
	}
	probe, err := os.MkdirTemp(dir, groupPrefix+"probe-")
	if err == nil {
		_, err = os.Stat(filepath.Join(probe, "cgroup.procs"))
		err = errors.Join(err, unix.Rmdir(probe))
	}
	if err != nil {
		log.Debug("jobs get no control groups", "directory", dir, "error", err)
		return ""
	}
	count(dir, log)
	return dir
}

// delegated returns the directory above one that holds nothing but the runner,
// where systemd says that it has given it away (DelegateSubgroup= of a unit);
// "" where it does not. Only there, beside the runner and not below it, can
// the groups of jobs have controllers.
func delegated(dir string) string {
	if dir == "" {
		return ""
	}
	up := filepath.Dir(dir)
	for _, name := range []string{"trusted.delegate", "user.delegate"} {
		var value [8]byte
		if n, err := unix.Getxattr(up, name, value[:]); err == nil && string(value[:n]) == "1" {
			return up
		}
	}
	return ""
}

// count switches on what counts the memory and the blocks of the groups below
// dir, where that is possible: processor time is always counted.
func count(dir string, log *slog.Logger) {
	have, _ := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	on, _ := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	for _, c := range []string{"memory", "io"} {
		if !slices.Contains(strings.Fields(string(have)), c) || slices.Contains(strings.Fields(string(on)), c) {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0); err != nil {
			log.Debug("jobs are not counted by their control groups", "controller", c, "directory", dir, "error", err)
		}
	}
}
