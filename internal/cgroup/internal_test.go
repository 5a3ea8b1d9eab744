package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/job"
)

const (
	hybridGroups = "9:name=systemd:/\n4:memory:/box/abc\n3:cpu,cpuacct:/box\n2:blkio:/\n0::/user.slice/x.scope\n"
	hybridMounts = `25 1 0:23 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:24 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw
27 25 0:25 /box /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
28 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
29 25 0:27 /elsewhere /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio
`
)

func TestFind(t *testing.T) {
	for _, tt := range []struct {
		name, groups, mounts string
		want                 Group
	}{
		{"hybrid", hybridGroups, hybridMounts, Group{
			Unified: "/sys/fs/cgroup/unified/user.slice/x.scope", Memory: "/sys/fs/cgroup/memory/abc",
			CPU: "/sys/fs/cgroup/cpu,cpuacct/box", CPUAcct: "/sys/fs/cgroup/cpu,cpuacct/box",
		}},
		{"version 2", "0::/system.slice/a.service\n", "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n", Group{
			Unified: "/sys/fs/cgroup/system.slice/a.service",
		}},
		{"a namespace that hides it", "0::/../other\n", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", Group{}},
		{"nothing mounted", hybridGroups, "", Group{}},
		{"nothing", "", hybridMounts, Group{}},
	} {
		if d := cmp.Diff(tt.want, find(tt.groups, tt.mounts)); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

// group writes files of a made-up group and returns its directory.
func group(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestUsage(t *testing.T) {
	unified := map[string]string{
		"cpu.stat":       "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 250000\n",
		"memory.current": "5000\n", "memory.peak": "9000\n", "memory.stat": "anon 3000\ninactive_file 1000\n",
		"memory.events": "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n",
		"io.stat":       "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n253:0 rbytes=1 wbytes=2\n",
	}
	for _, tt := range []struct {
		name  string
		group func(*testing.T) Group
		want  job.Usage
	}{
		{"version 2", func(t *testing.T) Group { return Group{Unified: group(t, unified)} }, job.Usage{
			CPU: job.Known(1_500_000_000), Throttled: job.Known(250_000_000), Memory: job.Known(4000), MemoryPeak: job.Known(9000),
			Read: job.Known(4097), Written: job.Known(8194), OOMKills: job.Known(1),
		}},
		{"version 2 without controllers", func(t *testing.T) Group {
			return Group{Unified: group(t, map[string]string{"cpu.stat": "usage_usec 7\nuser_usec 7\nsystem_usec 0\n"})}
		}, job.Usage{CPU: job.Known(7000)}},
		{"version 1", func(t *testing.T) Group {
			return Group{
				CPUAcct: group(t, map[string]string{"cpuacct.usage": "123456789\n"}),
				CPU:     group(t, map[string]string{"cpu.stat": "nr_periods 1\nnr_throttled 1\nthrottled_time 42\n"}),
				Memory: group(t, map[string]string{
					"memory.usage_in_bytes": "5000", "memory.max_usage_in_bytes": "6000\n", "memory.stat": "cache 1\ntotal_inactive_file 9999\n",
					"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
				}),
				Blkio: group(t, map[string]string{"blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\n8:1 Read 1\nTotal 31\n"}),
			}
		}, job.Usage{
			CPU: job.Known(123456789), Throttled: job.Known(42), Memory: job.Known(0), MemoryPeak: job.Known(6000),
			Read: job.Known(11), Written: job.Known(20), OOMKills: job.Known(3),
		}},
		{"both: the newer one first", func(t *testing.T) Group {
			return Group{
				Unified: group(t, map[string]string{"cpu.stat": "usage_usec 7\n"}), CPUAcct: group(t, map[string]string{"cpuacct.usage": "1"}),
				Memory: group(t, map[string]string{"memory.usage_in_bytes": "5"}),
			}
		}, job.Usage{CPU: job.Known(7000), Memory: job.Known(5)}},
		{"a group that is gone", func(*testing.T) Group { return Group{Unified: "/nonexistent", Memory: "/nonexistent"} }, job.Usage{}},
		{"nowhere", func(*testing.T) Group { return Group{} }, job.Usage{}},
	} {
		if d := cmp.Diff(tt.want, tt.group(t).Usage()); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

// TestOwn reads the real figures of this process's group.
func TestOwn(t *testing.T) {
	g := Own()
	if !g.Any() {
		t.Skip("this process is in no control group that can be seen")
	}
	if Of(os.Getpid()) != g {
		t.Errorf("Of(self) is %+v, Own %+v", Of(os.Getpid()), g)
	}
	if Of(1<<22 + 1).Any() {
		t.Error("a process that does not exist has a group")
	}
	first := g.Usage()
	a, known := first.CPU.Value()
	if !known {
		t.Skip("nothing counts processor time here")
	}
	for i := range int(5e7) {
		_ = i
	}
	if b, _ := g.Usage().CPU.Value(); b < a {
		t.Errorf("processor time went from %d to %d", a, b)
	}
}

func FuzzUsage(f *testing.F) {
	f.Add("usage_usec 1500000\nthrottled_usec 5\n", "8:0 rbytes=4096 wbytes=8192\n", "8:0 Read 10\n8:0 Write 20\n")
	f.Add("usage_usec 9223372036854775807\n", "8:0 rbytes=9223372036854775807\n8:1 rbytes=9223372036854775807\n", "x")
	f.Fuzz(func(t *testing.T, stat, io, blkio string) {
		quantities := []job.Quantity{field([]byte(stat), "usage_usec", 1000), parse([]byte(strings.TrimSpace(stat)), 1)}
		r, w := ioStat([]byte(io))
		r1, w1 := serviceBytes([]byte(blkio))
		for _, q := range append(quantities, r, w, r1, w1) {
			if n, _ := q.Value(); n < 0 {
				t.Errorf("%q, %q, %q: a negative quantity %d", stat, io, blkio, n)
			}
		}
	})
}

func FuzzFind(f *testing.F) {
	f.Add(hybridGroups, hybridMounts)
	f.Fuzz(func(_ *testing.T, groups, mounts string) { find(groups, mounts) })
}
