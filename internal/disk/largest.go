package disk

import (
	"cmp"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
)

const (
	// Bounds of a search: time, and files and directories.
	searchTime    = 5 * time.Second
	searchEntries = 500_000
	// depth is down to which level below a root directories are told apart.
	depth = 6
	// shown is how many directories are told of.
	shown = 5
)

// dir is a directory and what it and all below it take.
type dir struct {
	path     string
	bytes    int64
	children []*dir
}

// largest returns the directories below root that take the most room. Where
// one directory is nearly all of the one that holds it, only the former is
// told. complete is false when the bounds ended the search.
func largest(ctx context.Context, root string) (list []event.DiskConsumer, complete bool) {
	s := search{end: time.Now().Add(searchTime), ctx: ctx}
	if info, err := os.Stat(root); err == nil {
		_, _, s.device = allocated(info)
	}
	top := s.walk(root, 0)
	var found []*dir
	for _, d := range top.children {
		found = append(found, d.core())
	}
	slices.SortFunc(found, func(a, b *dir) int { return cmp.Or(cmp.Compare(b.bytes, a.bytes), cmp.Compare(a.path, b.path)) })
	for _, d := range found[:min(len(found), shown)] {
		if d.bytes > 0 {
			list = append(list, event.DiskConsumer{Path: d.path, Bytes: d.bytes})
		}
	}
	return list, !s.cut
}

// core is the directory in a chain of them that is what it is about.
func (d *dir) core() *dir {
	for _, c := range d.children {
		if c.bytes*10 >= d.bytes*9 {
			return c.core()
		}
	}
	return d
}

type search struct {
	ctx    context.Context
	end    time.Time
	device uint64
	count  int
	cut    bool
	linked map[uint64]bool // files with several names that were counted
}

// walk adds up a directory. It stays on the file system and follows no links.
func (s *search) walk(path string, level int) *dir {
	d := &dir{path: path}
	f, err := os.Open(path)
	if err != nil {
		return d
	}
	defer func() { _ = f.Close() }() // it was only read
	for !s.cut {
		entries, err := f.ReadDir(256)
		for _, e := range entries {
			s.add(d, filepath.Join(path, e.Name()), e, level)
		}
		if err != nil || len(entries) == 0 {
			break
		}
	}
	return d
}

func (s *search) add(d *dir, path string, e fs.DirEntry, level int) {
	s.count++
	if s.count > searchEntries || s.count%256 == 0 && (time.Now().After(s.end) || s.ctx.Err() != nil) {
		s.cut = true
	}
	if s.cut {
		return
	}
	info, err := e.Info()
	if err != nil {
		return // it has just been removed
	}
	bytes, again, device := allocated(info)
	if device != s.device {
		return
	}
	if again != 0 {
		if s.linked[again] {
			return
		}
		if s.linked == nil {
			s.linked = map[uint64]bool{}
		}
		s.linked[again] = true
	}
	if e.IsDir() {
		sub := s.walk(path, level+1)
		sub.bytes += bytes
		bytes = sub.bytes
		if level < depth {
			d.children = append(d.children, sub)
		}
	}
	d.bytes += bytes
}
