// Package disk watches the file systems on which the runner keeps something:
// how much is free, when they will be full, and what takes the most. Where too
// little is free, the runners that need it take no jobs until there is enough
// again; jobs that run are let alone.
package disk

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/pause"
)

// Root is a directory whose file system is watched.
type Root struct {
	Kind string   // "builds", "cache", "state" or "engine"
	Path string   // absolute; it need not exist yet
	Keys []string // of the runners that cannot work without room there
}

// Limits say when too little is free.
type Limits struct {
	Interval time.Duration // between two measurements
	// MinBytes and MinPercent bound what has to be free, the greater one
	// counts; MinInodes how many files can still be made. 0: no bound.
	MinBytes   int64
	MinPercent float64
	MinInodes  int64
	// Modest: MinBytes is nobody's wish, so a small file system is not held to
	// more than modestPercent.
	Modest bool
}

const (
	modestPercent = 5
	// resume is how many times of what has to be free must be so before jobs
	// are taken again.
	resume = 1.25
	// searchEvery is how often at most it is looked what takes the room.
	searchEvery = 15 * time.Minute
	// searchAhead: it is looked already when the disk is full so soon.
	searchAhead = time.Hour
)

// Space is what a file system has.
type Space struct {
	Free, Size         int64 // bytes; Free: for processes without privileges
	FreeInodes, Inodes int64 // -1: not counted
}

// Options are what a Guard needs. Roots, Limits and Hold are required.
type Options struct {
	Bus    *event.Bus
	Roots  func(context.Context) []Root // asked before each measurement
	Limits func() Limits                // the same
	// Hold keeps the runners of a key from taking jobs, with on, or no longer.
	Hold func(key string, on bool)
	// Measure looks at a file system; nil: as the system says.
	Measure func(path string) (Space, error)
}

// Guard watches. Its methods are called one at a time, but for Close.
type Guard struct {
	o     Options
	roots map[id]*watched
	held  map[string]bool

	searching sync.Mutex // one search at a time
	wg        sync.WaitGroup
}

type id struct{ kind, path string }

type watched struct {
	history  history
	blocked  bool
	searched time.Time
}

// New returns a guard that has not looked at anything yet.
func New(o Options) *Guard {
	if o.Measure == nil {
		o.Measure = measure
	}
	return &Guard{o: o, roots: map[id]*watched{}, held: map[string]bool{}}
}

// Run measures until ctx ends.
func (g *Guard) Run(ctx context.Context) {
	defer g.wg.Wait()
	for {
		if pause.For(ctx, g.o.Limits().Interval) != nil {
			return
		}
		g.Check(ctx)
	}
}

// Check measures once.
func (g *Guard) Check(ctx context.Context) {
	limits := g.o.Limits()
	roots := g.o.Roots(ctx)
	if ctx.Err() != nil {
		return
	}
	held := map[string]bool{}
	seen := map[id]bool{}
	for _, r := range roots {
		k := id{r.Kind, r.Path}
		seen[k] = true
		w := g.roots[k]
		if w == nil {
			w = &watched{}
			g.roots[k] = w
		}
		g.check(ctx, r, w, limits)
		if w.blocked {
			for _, key := range r.Keys {
				held[key] = true
			}
		}
	}
	for k := range g.roots {
		if !seen[k] {
			delete(g.roots, k)
			g.o.Bus.Emit(ctx, event.DiskForgotten{Root: k.kind, Path: k.path})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(g.held)) {
		if !held[key] {
			g.o.Hold(key, false)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(held)) {
		if !g.held[key] {
			g.o.Hold(key, true)
		}
	}
	g.held = held
}

// check measures one file system. What cannot be measured stays as it was.
func (g *Guard) check(ctx context.Context, r Root, w *watched, limits Limits) {
	now := time.Now()
	space, err := g.o.Measure(existing(r.Path))
	if err != nil {
		g.o.Bus.Emit(ctx, event.DiskMeasured{Root: r.Kind, Path: r.Path, Blocked: w.blocked, Err: err})
		return
	}
	w.history.add(now, space.Free)
	w.blocked = limits.blocks(space, w.blocked)
	full, fills := w.history.full()
	if !fills {
		full = -1
	}
	g.o.Bus.Emit(ctx, event.DiskMeasured{
		Root: r.Kind, Path: r.Path, Free: space.Free, Size: space.Size, FreeInodes: space.FreeInodes, Full: full, Blocked: w.blocked,
	})
	if (w.blocked || fills && full < searchAhead) && (w.searched.IsZero() || now.Sub(w.searched) >= searchEvery) {
		w.searched = now
		g.search(ctx, r)
	}
}

// blocks reports whether too little is free. What was too little has to become
// some more than enough.
func (l Limits) blocks(s Space, was bool) bool {
	bytes := float64(l.MinBytes)
	if l.Modest {
		bytes = min(bytes, float64(s.Size)*modestPercent/100)
	}
	bytes = max(bytes, float64(s.Size)*l.MinPercent/100)
	inodes := float64(l.MinInodes)
	if was {
		bytes, inodes = bytes*resume, inodes*resume
	}
	return float64(s.Free) < bytes || s.Inodes > 0 && float64(s.FreeInodes) < inodes
}

// search tells in the background what takes the most room below a root.
func (g *Guard) search(ctx context.Context, r Root) {
	g.wg.Go(func() {
		g.searching.Lock()
		defer g.searching.Unlock()
		largest, complete := largest(ctx, r.Path)
		if ctx.Err() == nil && len(largest) > 0 {
			g.o.Bus.Emit(ctx, event.DiskSearched{Root: r.Kind, Path: r.Path, Largest: largest, Complete: complete})
		}
	})
}

// existing returns the path, or the nearest directory above that exists: that
// is where it would be made.
func existing(path string) string {
	for {
		_, err := os.Lstat(path)
		up := filepath.Dir(path)
		if !errors.Is(err, fs.ErrNotExist) || up == path {
			return path
		}
		path = up
	}
}
