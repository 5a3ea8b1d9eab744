package metrics

import (
	"slices"
	"sync/atomic"
)

// overflow is the value of every label of a series that stands for all those
// that there was no room for.
const overflow = "__overflow__"

// other stands for label values that are not of a closed set.
const other = "other"

// Budget bounds the series of an exposition, counted as lines of samples in
// the plain text format. What has no room is counted in one series of its
// metric, all labels of which are __overflow__, so sums stay exact. Zero
// values are the defaults.
type Budget struct {
	Total  int // of all metrics of this package, 200000
	Metric int // of one metric, 20000
	// Runners is how many runners get series of their own, 1000; the rest
	// share some.
	Runners int
}

func (b *Budget) setDefaults() {
	for _, v := range []struct {
		value *int
		def   int
	}{{&b.Total, 200_000}, {&b.Metric, 20_000}, {&b.Runners, 1000}} {
		if *v.value <= 0 {
			*v.value = v.def
		}
	}
}

// budget keeps the account of all families.
type budget struct {
	Budget
	used atomic.Int64 // lines of children; what is made at scrape is not among them
}

// forPresent is the part of the total that is kept for what is made at scrape.
func (b *budget) forPresent() int { return b.Total / 5 }

func (b *budget) take(lines int) { b.used.Add(int64(lines)) }

// admit returns the values that a series with these values of def.labels is
// to have: the same, or what stands in their place. values is not changed.
func (f *family) admit(values []string) []string {
	values = f.closed(values)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(values) == 0 || f.has(values) {
		return values
	}
	// One child's room is left for the overflow itself.
	lines := f.lines()
	if (len(f.children)+2)*lines <= f.budget.Metric && int(f.budget.used.Load())+lines <= f.budget.Total-f.budget.forPresent() {
		return values
	}
	f.refused.Add(1)
	return f.overflowed()
}

func (f *family) overflowed() []string {
	values := make([]string, len(f.def.labels))
	for i := range values {
		values[i] = overflow
	}
	return values
}

// closed returns values with what is not of its set replaced by "other".
func (f *family) closed(values []string) []string {
	own := false
	for i, name := range f.def.labels {
		set := f.sets[name]
		if set == nil || slices.Contains(set, values[i]) || values[i] == other || values[i] == overflow {
			continue
		}
		if !own {
			values, own = slices.Clone(values), true
		}
		values[i] = other
		f.outside.Add(1)
	}
	return values
}

// has reports whether there is a series with these values of def.labels.
func (f *family) has(values []string) bool {
	_, found := slices.BinarySearchFunc(f.children, values, func(c *child, values []string) int {
		for i, from := range f.order {
			if from < 0 {
				continue // constant, the same everywhere
			}
			if c.values[i] < values[from] {
				return -1
			}
			if c.values[i] > values[from] {
				return 1
			}
		}
		return 0
	})
	return found
}

// isClosed reports whether a label of f has a closed set of values.
func (f *family) isClosed() bool {
	for _, set := range f.sets {
		if set != nil {
			return true
		}
	}
	return false
}
