package metrics

import (
	"slices"
	"time"
)

// skews are the last measurements of one runner's clock against its
// coordinator's. A single one is off by up to half a second, and by as long
// as an answer was on its way.
type skews struct {
	last [5]time.Duration
	n    int
}

// add takes a measurement and returns the median of those it keeps.
func (s *skews) add(d time.Duration) time.Duration {
	s.last[s.n%len(s.last)] = d
	s.n++
	sorted := s.last
	have := sorted[:min(s.n, len(sorted))]
	slices.Sort(have)
	return have[len(have)/2]
}
