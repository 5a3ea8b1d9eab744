package event

import (
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
)

// UsageSampled: a running job has used this much so far.
type UsageSampled struct{ Usage job.Usage }

// JobUsed: a job used this much from the opening of its place to its closing.
type JobUsed struct{ Usage job.Usage }

// DiskMeasured: a file system was looked at on which the runner keeps
// something. With Err it could not be; then the figures say nothing.
type DiskMeasured struct {
	Root       string // what is kept there: "builds", "cache", "state" or "engine"
	Path       string
	Free, Size int64         // bytes that processes without privileges may still use, bytes in all
	FreeInodes int64         // -1: the file system does not count them
	Full       time.Duration // until it is full at the present rate; negative: it does not fill up
	Blocked    bool          // too little is free: runners that need it take no jobs
	Err        error
}

// DiskSearched: it was looked which directories below a root take the most
// room. Complete is false when that would have taken too long.
type DiskSearched struct {
	Root, Path string
	Largest    []DiskConsumer
	Complete   bool
}

// DiskConsumer is a directory and the bytes that it takes.
type DiskConsumer struct {
	Path  string
	Bytes int64
}

// DiskForgotten: a file system is not watched any more: nothing is kept there.
type DiskForgotten struct{ Root, Path string }

// OrphansCounted: it was looked for what carries this runner's marks and
// belongs to no job that lives. Kind is a value of OrphanKinds.
type OrphansCounted struct {
	Kind   string
	Count  int
	Oldest time.Duration // age of the oldest, 0 without any
	Reaped int           // that were removed now
}

// OrphanKinds lists what can be left behind.
func OrphanKinds() []string {
	return []string{"container", "volume", "network", "process", "directory"}
}

func (UsageSampled) fact()   {}
func (JobUsed) fact()        {}
func (DiskMeasured) fact()   {}
func (DiskSearched) fact()   {}
func (DiskForgotten) fact()  {}
func (OrphansCounted) fact() {}
