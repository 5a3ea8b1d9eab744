package board

import (
	"slices"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
)

// Disk is a file system on which the runner keeps something, as it was when it
// was measured last.
type Disk struct {
	Root, Path string // see event.DiskMeasured, as the others
	Free, Size int64
	FreeInodes int64
	Full       time.Duration
	Blocked    bool
	At         time.Time // of the measurement; zero: none succeeded yet
	Err        error     // of the last one
}

// Orphans is what was left behind of one kind, when it was last looked for.
type Orphans struct {
	Kind   string
	Count  int
	Oldest time.Duration
	At     time.Time
}

// machine is what the board knows of the machine.
type machine struct {
	disks   []Disk
	orphans []Orphans
}

func (m *machine) observe(e event.Event) {
	switch f := e.Fact.(type) {
	case event.DiskMeasured:
		m.measured(e, f)
	case event.DiskForgotten:
		m.disks = slices.DeleteFunc(slices.Clone(m.disks), func(d Disk) bool { return d.Root == f.Root && d.Path == f.Path })
	case event.OrphansCounted:
		n := Orphans{f.Kind, f.Count, f.Oldest, e.Time}
		m.orphans = slices.Clone(m.orphans)
		if i := slices.IndexFunc(m.orphans, func(o Orphans) bool { return o.Kind == f.Kind }); i >= 0 {
			m.orphans[i] = n
		} else {
			m.orphans = append(m.orphans, n)
		}
	default:
	}
}

// measured replaces a disk. Snapshots share the list, so it is copied.
func (m *machine) measured(e event.Event, f event.DiskMeasured) {
	m.disks = slices.Clone(m.disks)
	i := slices.IndexFunc(m.disks, func(d Disk) bool { return d.Root == f.Root && d.Path == f.Path })
	if i < 0 {
		i = len(m.disks)
		m.disks = append(m.disks, Disk{Root: f.Root, Path: f.Path, FreeInodes: -1, Full: -1})
	}
	d := &m.disks[i]
	d.Err = f.Err
	if f.Err == nil {
		*d = Disk{Root: f.Root, Path: f.Path, Free: f.Free, Size: f.Size, FreeInodes: f.FreeInodes, Full: f.Full, Blocked: f.Blocked, At: e.Time}
	}
}
