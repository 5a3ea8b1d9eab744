package recovery

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
)

// forget takes an entry off the list of those that live.
func (j *Journal) forget(e *Entry) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.entries, e)
}

// Claims returns what jobs have claimed: live are the jobs that run, of this
// process and of others with the same state directory; dead those of processes
// that are no more and whose settlement this one has begun. A job whose end is
// stored has given its place back and is neither.
func (j *Journal) Claims() (live, dead []executor.Claim, err error) {
	j.mu.Lock()
	var own, gone []*Entry
	for e := range j.entries {
		own = append(own, e)
	}
	skip := map[string]bool{j.dir: true}
	for dir, entries := range j.settling {
		skip[dir] = true
		gone = append(gone, entries...)
	}
	j.mu.Unlock()
	for _, e := range own {
		live = e.appendClaims(live, true)
	}
	for _, e := range gone {
		dead = e.appendClaims(dead, false)
	}
	all, err := filepath.Glob(filepath.Join(j.state, "process-*", "*", recordFile))
	if err != nil {
		return nil, nil, err
	}
	for _, path := range all {
		if skip[filepath.Dir(filepath.Dir(path))] {
			continue
		}
		text, rerr := os.ReadFile(path)
		if errors.Is(rerr, fs.ErrNotExist) {
			continue // it has just been forgotten
		}
		if rerr != nil {
			return nil, nil, rerr
		}
		e, perr := parseEntry(text)
		if errors.Is(perr, errPartial) {
			continue // it has just begun, and made nothing yet
		}
		if perr != nil {
			return nil, nil, perr
		}
		live = e.appendClaims(live, true)
	}
	return live, dead, nil
}

// appendClaims appends the entry's claims unless it is over.
func (e *Entry) appendClaims(list []executor.Claim, running bool) []executor.Claim {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.done || running && e.Record.Final != nil {
		return list
	}
	return append(list, e.claims...)
}

// Reconciler compares what carries this runner's marks with the jobs that
// live. What belongs to none of these is an orphan: it is counted and, if that
// is wanted, removed.
type Reconciler struct {
	Journal *Journal
	Bus     *event.Bus
	// Find returns what all drivers find, see executor.Driver.Leftovers. With
	// an error the list is not complete.
	Find func(ctx context.Context, dead []executor.Claim) ([]executor.Leftover, error)
	// Reap ends what a leftover's claim names.
	Reap func(ctx context.Context, l executor.Leftover) error

	mu    sync.Mutex
	known map[orphan]time.Time // when it was first found
}

// orphan names a leftover.
type orphan struct{ kind, id string }

// Look looks once. With reap, orphans that are older than minAge are removed.
func (r *Reconciler) Look(ctx context.Context, reap bool, minAge time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	left, err := r.sure(ctx)
	reaped := map[string]int{}
	if reap && len(left) > 0 {
		var rerr error
		left, reaped, rerr = r.reap(ctx, left, minAge)
		err = errors.Join(err, rerr)
	}
	if err != nil {
		if ctx.Err() != nil {
			return
		}
		r.Bus.Emit(ctx, event.Degraded{What: "orphans", Err: err})
	}
	now := time.Now()
	facts := map[string]*event.OrphansCounted{}
	for _, kind := range event.OrphanKinds() {
		facts[kind] = &event.OrphansCounted{Kind: kind, Reaped: reaped[kind]}
	}
	for _, l := range left {
		if f := facts[l.Kind]; f != nil {
			f.Count++
			f.Oldest = max(f.Oldest, r.age(l, now))
		}
	}
	for _, kind := range event.OrphanKinds() {
		r.Bus.Emit(ctx, *facts[kind])
	}
}

// sure returns the orphans. A job may end, or begin and end, between the look
// at its machine and the look at the journal; what it had is gone then. So an
// orphan is what two looks have found.
func (r *Reconciler) sure(ctx context.Context) (map[orphan]executor.Leftover, error) {
	first, err := r.once(ctx)
	if len(first) == 0 {
		r.known = nil
		return nil, err
	}
	second, err2 := r.once(ctx)
	now := time.Now()
	known := map[orphan]time.Time{}
	for k := range second {
		if _, twice := first[k]; !twice {
			delete(second, k)
			continue
		}
		known[k] = now
		if since, was := r.known[k]; was {
			known[k] = since
		}
	}
	r.known = known
	return second, errors.Join(err, err2)
}

// once returns what belongs to no job that lives, at one look.
func (r *Reconciler) once(ctx context.Context) (map[orphan]executor.Leftover, error) {
	_, dead, err := r.Journal.Claims()
	if err != nil {
		return nil, err
	}
	found, ferr := r.Find(ctx, dead)
	// Afterwards: a job claims what it is about to make.
	live, _, err := r.Journal.Claims()
	if err != nil {
		return nil, err // what lives is not known
	}
	marks := map[string]bool{}
	for _, c := range live {
		marks[c.Mark()] = true
	}
	out := map[orphan]executor.Leftover{}
	for _, l := range found {
		if !marks[l.Claim.Mark()] {
			out[orphan{l.Kind, l.ID}] = l
		}
	}
	return out, ferr
}

// age is how old an orphan is, at least.
func (r *Reconciler) age(l executor.Leftover, now time.Time) time.Duration {
	since := l.Since
	if since.IsZero() {
		since = r.known[orphan{l.Kind, l.ID}]
	}
	return max(0, now.Sub(since))
}

// reap removes orphans and returns what is left, and how many of each kind
// went.
func (r *Reconciler) reap(ctx context.Context, all map[orphan]executor.Leftover, minAge time.Duration) (left map[orphan]executor.Leftover, reaped map[string]int, err error) {
	now := time.Now()
	young := map[string]bool{} // jobs of which something is younger
	for _, l := range all {
		if r.age(l, now) < minAge {
			young[l.Claim.Mark()] = true
		}
	}
	var errs []error
	done := map[string]bool{}
	for _, l := range all {
		// A directory may be one that only its own claim names.
		key := l.Claim.Mark()
		if l.Kind == "directory" {
			key += "\x00" + l.ID
		}
		if young[l.Claim.Mark()] || done[key] {
			continue
		}
		done[key] = true
		errs = append(errs, r.Reap(ctx, l))
	}
	reaped = map[string]int{}
	if len(done) == 0 {
		return all, reaped, nil
	}
	left, lerr := r.once(ctx)
	for k := range all {
		if _, still := left[k]; !still && lerr == nil {
			reaped[k.kind]++
		}
	}
	return left, reaped, errors.Join(append(errs, lerr)...)
}
