package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/internal/executor"
)

// reaper is a driver whose configuration leads to one place.
type reaper struct {
	executor.Driver
	name, place string
	reaped      []string
	err         error
}

func (r *reaper) Traits() executor.Traits {
	return executor.Traits{Name: r.name, Claims: r.name + "-claim"}
}

func (r *reaper) Reap(_ context.Context, c executor.Claim) (int, error) {
	if c.Data["machine"] != r.place {
		return 0, fmt.Errorf("%s: %w", c.Data["machine"], executor.ErrElsewhere)
	}
	r.reaped = append(r.reaped, c.ID)
	return 1, r.err
}

// TestReap: a claim is reaped by the driver of its executor that reaches its
// place, and by no other.
func TestReap(t *testing.T) {
	broken := errors.New("broken")
	one, two := &reaper{name: "ssh", place: "one"}, &reaper{name: "ssh", place: "two"}
	other := &reaper{name: "docker", place: "two"}
	three := &reaper{name: "ssh", place: "three", err: broken}
	a := &App{}
	a.current.Store(&generation{entries: []*entry{{driver: other}, {}, {driver: one}, {driver: two}, {driver: three}}})
	claim := func(place string) executor.Claim {
		return executor.Claim{Kind: "ssh-claim", ID: "id", Data: map[string]string{"machine": place}}
	}
	if n, err := a.reap(t.Context(), "ssh", claim("two")); n != 1 || err != nil || len(two.reaped) != 1 || len(one.reaped)+len(other.reaped) != 0 {
		t.Errorf("got %d, %v; reaped %q, %q and %q", n, err, one.reaped, two.reaped, other.reaped)
	}
	if _, err := a.reap(t.Context(), "ssh", claim("three")); !errors.Is(err, broken) {
		t.Errorf("got %v, want the driver's error", err)
	}
	if _, err := a.reap(t.Context(), "ssh", claim("nowhere")); !errors.Is(err, executor.ErrElsewhere) || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("a machine that nobody reaches: got %v", err)
	}
	if err := a.reapLeftover(t.Context(), executor.Leftover{Claim: claim("one")}); err != nil || len(one.reaped) != 1 {
		t.Errorf("a leftover: %v, reaped %q", err, one.reaped)
	}
	if err := a.reapLeftover(t.Context(), executor.Leftover{Claim: claim("nowhere")}); err != nil {
		t.Errorf("a leftover whose runner has left: got %v", err)
	}
}
