package disk

import (
	"slices"
	"time"
)

const (
	// window is how far a prediction looks back; kept is how many
	// measurements of it are kept.
	window = 30 * time.Minute
	kept   = 60
	// least is how many there must be.
	least = 6
	// never is what counts as not filling up.
	never = 365 * 24 * time.Hour
)

// history is the last measurements of what is free, oldest first.
type history struct{ points []point }

type point struct {
	at   time.Time
	free int64
}

// add notes a measurement. Where they come quicker than kept of them fill the
// window, the ones between are left out.
func (h *history) add(at time.Time, free int64) {
	h.points = slices.DeleteFunc(h.points, func(p point) bool { return at.Sub(p.at) > window })
	if n := len(h.points); n >= least && n >= 2 && h.points[n-1].at.Sub(h.points[n-2].at) < window/kept {
		h.points[n-1] = point{at, free} // the last one is always there
		return
	}
	h.points = append(h.points, point{at, free})
	if len(h.points) > kept {
		h.points = slices.Delete(h.points, 0, 1)
	}
}

// full predicts when nothing is free any more. The rate is the median of those
// between any two measurements (Theil and Sen), so that a job that fills a
// gigabyte and frees it again, or a cleanup, does not count: up to 29 % of the
// measurements may be anywhere.
func (h *history) full() (time.Duration, bool) {
	n := len(h.points)
	if n < least {
		return 0, false
	}
	rates := make([]float64, 0, n*(n-1)/2) // bytes per second
	for i, a := range h.points {
		for _, b := range h.points[i+1:] {
			if d := b.at.Sub(a.at).Seconds(); d > 0 {
				rates = append(rates, float64(b.free-a.free)/d)
			}
		}
	}
	if len(rates) == 0 {
		return 0, false
	}
	slices.Sort(rates)
	rate := rates[len(rates)/2]
	if len(rates)%2 == 0 {
		rate = (rate + rates[len(rates)/2-1]) / 2
	}
	if rate >= 0 {
		return 0, false
	}
	left := float64(max(0, h.points[n-1].free)) / -rate
	if left > never.Seconds() {
		return 0, false
	}
	return time.Duration(left * float64(time.Second)), true
}
