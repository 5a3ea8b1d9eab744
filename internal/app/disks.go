package app

import (
	"context"
	"slices"
	"time"

	"github.com/glassrunner/glassrunner/internal/disk"
	"github.com/glassrunner/glassrunner/internal/event"
)

// disksTimeout bounds how long runners may take to say which disks they use: an
// engine may not answer, and the first request for a job waits for the first
// measurement.
const disksTimeout = 3 * time.Second

// guard makes what keeps runners without room from taking jobs.
func (a *App) guard() *disk.Guard {
	return disk.New(disk.Options{
		Bus: a.bus, Roots: a.diskRoots,
		Limits: func() disk.Limits { return disk.Limits(a.current.Load().config.DiskLimits()) },
		Hold:   func(key string, on bool) { a.scheduler.Hold(key, string(event.BlockDisk), on) },
	})
}

// diskRoots are the directories of this machine that runners need room in.
// What all of them need is that of the state: without it no job is taken.
func (a *App) diskRoots(ctx context.Context) []disk.Root {
	ask, cancel := context.WithTimeout(ctx, disksTimeout)
	defer cancel()
	g := a.current.Load()
	var roots []disk.Root
	add := func(kind, path, key string) {
		i := slices.IndexFunc(roots, func(r disk.Root) bool { return r.Kind == kind && r.Path == path })
		if i < 0 {
			i = len(roots)
			roots = append(roots, disk.Root{Kind: kind, Path: path})
		}
		if !slices.Contains(roots[i].Keys, key) {
			roots[i].Keys = append(roots[i].Keys, key)
		}
	}
	for _, e := range g.entries {
		add("state", g.config.StateDir(), e.key())
		if e.driver == nil {
			continue
		}
		disks, err := e.driver.Disks(ask)
		if err != nil {
			// The engine cannot be asked now. Jobs tell it louder.
			a.log.Debug("asking for the disks of a runner", "runner", e.runner.Short, "error", err)
		}
		for _, d := range disks {
			add(d.Root, d.Path, e.key())
		}
	}
	return roots
}
