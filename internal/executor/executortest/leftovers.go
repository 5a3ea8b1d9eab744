package executortest

import (
	"slices"
	"testing"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
)

// leftovers lists what a job that runs has, as its own runner and as a
// stranger, ends it by what was listed, and looks again.
func leftovers(t *testing.T, p *place) {
	if p.h.Stranger == nil {
		t.Skip("nothing tells this driver's things from another runner's")
	}
	w := word()
	p.keep(t, w)
	p.mu.Lock()
	mark := p.claims[0].Mark()
	for _, c := range p.claims {
		if c.Mark() != mark {
			t.Errorf("claims of one job have the marks %q and %q", mark, c.Mark())
		}
		if c.Kind != p.h.Driver.Traits().Claims {
			t.Errorf("a claim is of kind %q, Traits say %q", c.Kind, p.h.Driver.Traits().Claims)
		}
	}
	p.mu.Unlock()
	mine := listed(t, p.h.Driver, mark)
	if len(mine) == 0 {
		t.Fatal("nothing of a job that runs is listed")
	}
	seen := map[[2]string]bool{}
	for _, l := range mine {
		if !slices.Contains(event.OrphanKinds(), l.Kind) || l.ID == "" || l.Since.IsZero() || seen[[2]string{l.Kind, l.ID}] {
			t.Errorf("%+v has no kind, name or age of its own", l)
		}
		seen[[2]string{l.Kind, l.ID}] = true
	}
	if theirs := listed(t, p.h.Stranger(t), mark); len(theirs) > 0 {
		t.Errorf("a runner with another state directory sees %+v", theirs)
	}
	next := p.h.Successor(t)
	for _, l := range mine {
		if _, err := next.Reap(t.Context(), l.Claim); err != nil {
			t.Errorf("Reap %+v: %v", l.Claim, err)
		}
	}
	if n := p.h.Alive(t, w); n > 0 {
		t.Errorf("%d processes are left", n)
	}
	p.close(t)
	if left := listed(t, p.h.Driver, mark); len(left) > 0 {
		t.Errorf("%+v is left", left)
	}
}

// listed returns the leftovers of one job.
func listed(t *testing.T, d executor.Driver, mark string) []executor.Leftover {
	t.Helper()
	all, err := d.Leftovers(t.Context(), nil)
	if err != nil {
		t.Fatalf("Leftovers: %v", err)
	}
	return slices.DeleteFunc(all, func(l executor.Leftover) bool { return l.Claim.Mark() != mark })
}
