package disk_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/disk"
	"github.com/glassrunner/glassrunner/internal/event"
)

const mib = 1 << 20

// bench is a guard over file systems that a test makes up.
type bench struct {
	guard  *disk.Guard
	roots  []disk.Root
	limits disk.Limits
	space  map[string]disk.Space // by path
	err    error
	held   []string // "+key" and "-key"
	facts  []event.Fact
	found  chan event.DiskSearched
}

func newBench(t *testing.T) *bench {
	b := &bench{found: make(chan event.DiskSearched, 16), space: map[string]disk.Space{}, limits: disk.Limits{Interval: 10 * time.Second, MinBytes: 100 * mib, MinInodes: 1000}}
	b.guard = disk.New(disk.Options{
		Bus: event.NewBus(event.ObserverFunc(func(e event.Event) {
			if f, ok := e.Fact.(event.DiskSearched); ok {
				b.found <- f
				return
			}
			b.facts = append(b.facts, e.Fact)
		})),
		Roots:  func(context.Context) []disk.Root { return b.roots },
		Limits: func() disk.Limits { return b.limits },
		Hold: func(key string, on bool) {
			sign := "-"
			if on {
				sign = "+"
			}
			b.held = append(b.held, sign+key)
		},
		Measure: func(path string) (disk.Space, error) {
			s, ok := b.space[path]
			if !ok {
				return s, fmt.Errorf("no such path: %s", path)
			}
			return s, b.err
		},
	})
	dir := t.TempDir()
	b.roots = []disk.Root{{Kind: "builds", Path: dir, Keys: []string{"a", "b"}}}
	b.set(dir, 1000*mib, 5000)
	return b
}

func (b *bench) set(path string, free, inodes int64) {
	b.space[path] = disk.Space{Free: free, Size: 2000 * mib, FreeInodes: inodes, Inodes: 10000}
}

func (b *bench) last(t *testing.T) event.DiskMeasured {
	t.Helper()
	for _, f := range slices.Backward(b.facts) {
		if m, ok := f.(event.DiskMeasured); ok {
			return m
		}
	}
	t.Fatal("nothing was measured")
	return event.DiskMeasured{}
}

func TestHoldAndResume(t *testing.T) {
	for _, tt := range []struct {
		name   string
		limits func(*disk.Limits)
		free   []int64 // MiB at each measurement
		inodes []int64
		want   string // + and - of key a, 0 for no change
	}{
		{"bytes", nil, []int64{100, 99, 100, 124, 125, 100, 99}, nil, "0+00-0+"},
		{"inodes", nil, []int64{500, 500, 500, 500}, []int64{1000, 999, 1249, 1250}, "0+0-"},
		{"percent", func(l *disk.Limits) { l.MinPercent = 10 }, []int64{201, 199, 249, 250}, nil, "0+0-"},
		{"no bounds", func(l *disk.Limits) { l.MinBytes, l.MinInodes = 0, 0 }, []int64{1, 0}, []int64{0, 0}, "00"},
		{"a modest bound", func(l *disk.Limits) { l.MinBytes, l.Modest = 1<<40, true }, []int64{101, 99}, nil, "0+"},
		{"inodes that are not counted", nil, []int64{500}, []int64{-1}, "0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			if tt.limits != nil {
				tt.limits(&b.limits)
			}
			var got strings.Builder
			for i, free := range tt.free {
				inodes := int64(5000)
				if i < len(tt.inodes) {
					inodes = tt.inodes[i]
				}
				b.set(b.roots[0].Path, free*mib, inodes)
				if inodes < 0 {
					b.space[b.roots[0].Path] = disk.Space{Free: free * mib, Size: 2000 * mib, FreeInodes: -1, Inodes: -1}
				}
				before := len(b.held)
				b.guard.Check(t.Context())
				switch changes := b.held[before:]; {
				case len(changes) == 0:
					got.WriteString("0")
				case slices.Equal(changes, []string{"+a", "+b"}):
					got.WriteString("+")
				case slices.Equal(changes, []string{"-a", "-b"}):
					got.WriteString("-")
				default:
					t.Errorf("held %v", changes)
				}
				if blocked := b.last(t).Blocked; blocked != (strings.Count(got.String(), "+") > strings.Count(got.String(), "-")) {
					t.Errorf("the fact says blocked: %v after %s", blocked, got.String())
				}
			}
			if got.String() != tt.want {
				t.Errorf("got %s, want %s", got.String(), tt.want)
			}
		})
	}
}

// A runner is held while any of its disks is too full, and let go when it
// needs none of these any more.
func TestHoldBySeveral(t *testing.T) {
	b := newBench(t)
	other := filepath.Join(t.TempDir(), "not", "there", "yet")
	b.roots = append(b.roots, disk.Root{Kind: "cache", Path: other, Keys: []string{"b", "c"}})
	up := filepath.Dir(filepath.Dir(filepath.Dir(other)))
	full := func(path string, is bool) {
		free := int64(1000 * mib)
		if is {
			free = mib
		}
		b.set(path, free, 5000)
	}
	steps := []struct {
		first, second bool // is too full
		want          []string
	}{
		{true, false, []string{"+a", "+b"}},
		{true, true, []string{"+c"}},
		{false, true, []string{"-a"}},
		{false, false, []string{"-b", "-c"}},
		{true, true, []string{"+a", "+b", "+c"}},
	}
	for _, s := range steps {
		full(b.roots[0].Path, s.first)
		full(up, s.second) // where it would be made
		b.held = nil
		b.guard.Check(t.Context())
		if d := cmp.Diff(s.want, b.held); d != "" {
			t.Errorf("%v: holds (-want +got):\n%s", s, d)
		}
	}
	// What cannot be measured stays as it was.
	b.held, b.err = nil, errors.New("stale handle")
	b.guard.Check(t.Context())
	if len(b.held) > 0 || b.last(t).Err == nil || !b.last(t).Blocked {
		t.Errorf("held %v, fact %+v", b.held, b.last(t))
	}
	b.err = nil
	b.roots = b.roots[:1]
	b.guard.Check(t.Context())
	if d := cmp.Diff([]string{"-c"}, b.held); d != "" {
		t.Errorf("holds (-want +got):\n%s", d)
	}
	if !slices.ContainsFunc(b.facts, func(f event.Fact) bool { return f == event.DiskForgotten{Root: "cache", Path: other} }) {
		t.Error("nobody was told that the cache is not watched any more")
	}
}

// TestPrediction fills a disk at a steady rate with noise upon it: jobs that
// take much and give it back.
func TestPrediction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		path := b.roots[0].Path
		const rate = 512 * 1024 // bytes a second
		random := rand.New(rand.NewPCG(1, 2))
		free := int64(2000 * mib)
		for i := range 200 {
			noise := int64(0)
			if random.IntN(10) == 0 {
				noise = int64(300 * mib)
			}
			b.set(path, max(free-noise, 0), 5000)
			b.guard.Check(t.Context())
			free -= 10 * rate
			time.Sleep(10 * time.Second)
			m := b.last(t)
			if i < 4 {
				if m.Full >= 0 {
					t.Errorf("after %d measurements a time is predicted: %v", i+1, m.Full)
				}
				continue
			}
			if i < 60 || noise > 0 {
				continue
			}
			want := float64(m.Free) / rate
			if got := m.Full.Seconds(); math.Abs(got-want) > 0.1*want {
				t.Fatalf("after %d measurements: full in %.0f s, want %.0f s", i+1, got, want)
			}
		}
		// At this rate the bound is hit far later than ten minutes after the
		// prediction falls below an hour.
		if m := b.last(t); m.Full > time.Hour || time.Duration(float64(m.Free-100*mib)/rate)*time.Second < 10*time.Minute {
			t.Errorf("full in %v with %d MiB free", m.Full, m.Free/mib)
		}
		for range 200 { // nothing happens for longer than the window
			b.guard.Check(t.Context())
			time.Sleep(10 * time.Second)
		}
		if m := b.last(t); m.Full >= 0 {
			t.Errorf("a disk at rest is full in %v", m.Full)
		}
	})
}

// TestLargest looks at real directories.
func TestLargest(t *testing.T) {
	b := newBench(t)
	root := b.roots[0].Path
	write := func(path string, size int) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("abc/0/group/big/a", 3*mib)
	write("abc/0/group/big/b", 2*mib)
	write("second/x", 2*mib)
	write("small/x", 4096)
	if err := os.Link(filepath.Join(root, "second/x"), filepath.Join(root, "second/again")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/usr", filepath.Join(root, "small/link")); err != nil {
		t.Fatal(err)
	}
	b.set(root, mib, 5000)
	b.guard.Check(t.Context())
	s := <-b.found
	var got []string
	for _, d := range s.Largest {
		got = append(got, strings.TrimPrefix(d.Path, root+"/")+fmt.Sprintf(" %d", d.Bytes/mib))
	}
	if want := []string{"abc/0/group/big 5", "second 2", "small 0"}; !slices.Equal(got, want) || !s.Complete {
		t.Errorf("got %q, complete: %v, want %q", got, s.Complete, want)
	}
	b.guard.Check(t.Context()) // it is not looked for again so soon
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b.guard.Run(ctx)
	if len(b.found) > 0 {
		t.Error("it was looked for again at once")
	}
}
