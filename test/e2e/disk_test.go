//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// smallDisk mounts a file system of so many MiB, an ext4 where that can be
// made, and unmounts it with the test.
func smallDisk(t *testing.T, mib int) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount a file system")
	}
	dir := t.TempDir()
	if err := syscall.Mount("glassrunner-test", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,nr_inodes=5000,mode=0755", mib)); err != nil {
		t.Skipf("a file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
	return dir
}

// TestDiskGuard fills the disk of working copies while a job runs: the runner
// takes no more before there is no room, and goes on by itself.
func TestDiskGuard(t *testing.T) {
	t.Parallel()
	small := smallDisk(t, 1024)
	w := newWorld(t, fakegitlab.Options{LongPoll: 1e9})
	builds := filepath.Join(small, "builds")
	other := w.addRunner("elsewhere", fakegitlab.Limits{RequestConcurrency: 1})
	conf := w.config(`concurrent = 4`, entry{Name: "small"}, entry{Name: "roomy", Token: other.Token}) + `
[disk]
  interval = "100ms"
  min_free_bytes = 314572800
`
	conf = strings.Replace(conf, fmt.Sprintf("builds_dir = %q", filepath.Join(w.dir, "builds")), fmt.Sprintf("builds_dir = %q", builds), 1)
	p := w.start(conf)
	labels := []string{"root", "builds", "path", builds}
	m := p.waitMetrics("a measurement", func(m families) bool { return m.sum("glassrunner_disk_size_bytes", labels...) == 1<<30 })
	m.check(t, 0, "glassrunner_disk_blocked")
	for _, root := range []string{"builds", "cache", "state"} {
		if m.series("glassrunner_disk_free_bytes", "root", root) == 0 {
			t.Errorf("nothing tells what is free for %s", root)
		}
	}

	running := w.enqueue(fakegitlab.Job{Runner: w.runner.Token, Script: []string{
		"echo begun; until [ -e $CI_BUILDS_DIR/go ]; do sleep 0.1; done; head -c 50000000 /dev/zero >$CI_PROJECT_DIR/more && echo there was room",
	}})
	w.until(running, "its script", printed("\nbegun\n"))
	// Something else fills the disk, below the bound and not to the end.
	hog := filepath.Join(builds, "hog", "file")
	if err := os.MkdirAll(filepath.Dir(hog), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(hog)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for range 760 {
		if _, err := f.Write(block); err != nil {
			t.Fatalf("the disk is full: the test shows nothing: %v", err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	m = p.waitValue(1, "glassrunner_disk_blocked", labels...)
	if free := m.sum("glassrunner_disk_free_bytes", labels...); free < 200<<20 || free >= 300<<20 {
		t.Errorf("%.0f bytes are free, want less than 300 MiB", free)
	}
	waiting := w.enqueue(fakegitlab.Job{Runner: w.runner.Token, Script: []string{"echo at last"}})
	// The other runner does not need that disk.
	want(t, w.run(fakegitlab.Job{Runner: other.Token, Script: []string{"true"}}), "success")
	// The job that runs is let alone, and writes into what is left.
	touch(t, filepath.Join(builds, "go"))
	s := w.wait(running)
	want(t, s, "success")
	has(t, text(s.Trace), "there was room")
	blocked := []string{"runner_name", "small", "reason", "disk"}
	before := p.scrape().sum("glassrunner_capacity_blocked_seconds_total", blocked...)
	p.waitMetrics("two seconds of waiting for room", func(m families) bool {
		return m.sum("glassrunner_capacity_blocked_seconds_total", blocked...) > before+2
	})
	if s, err := w.server.Job(waiting); err != nil || s.Handouts != 0 {
		t.Errorf("a job was handed out although the disk is too full (%v)", err)
	}
	has(t, p.log.String(), "Too little room on a disk", "What takes the most room", filepath.Dir(hog))

	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	want(t, w.wait(waiting), "success")
	p.waitValue(0, "glassrunner_disk_blocked")
	has(t, p.log.String(), "There is room on the disk again")
}
