package event

import "time"

// SourcesFetched: a try to get a job's sources is over. Strategy is "clone",
// "fetch", "none" or "empty".
type SourcesFetched struct {
	Strategy string
	OK       bool
	Took     time.Duration
}

func (SourcesFetched) fact() {}
