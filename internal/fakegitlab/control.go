package fakegitlab

import (
	"context"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
)

// Cancel does what the button of the web page does: a running job becomes canceling if its manager
// announced cancel_gracefully, else canceled at once. Cancelling a canceling job changes nothing.
func (s *Server) Cancel(id int64) error {
	return s.edit(id, func(j *job) {
		switch {
		case j.status == Running && j.manager.info.has("cancel_gracefully"):
			j.status = Canceling
			s.touched(j)
		case j.status != Canceling:
			s.finish(j, Canceled, "")
		}
	})
}

// ForceCancel makes a job canceled at once, also a canceling one. The runner learns it from
// Job-Status and has to abort.
func (s *Server) ForceCancel(id int64) error {
	return s.edit(id, func(j *job) { s.finish(j, Canceled, "") })
}

// Fail makes a job failed on the server, for example with stuck_or_timeout_failure.
func (s *Server) Fail(id int64, reason string) error {
	return s.edit(id, func(j *job) { s.finish(j, Failed, reason) })
}

// Erase makes the server answer 403 without Job-Status for the job, as after its erasure.
func (s *Server) Erase(id int64) error {
	return s.edit(id, func(j *job) {
		j.erased = true
		s.finish(j, Failed, "unknown_failure")
	})
}

// CutTrace forgets the trace from byte n on, as a server that lost data. The next PATCH is answered 416.
func (s *Server) CutTrace(id int64, n int64) error {
	return s.edit(id, func(j *job) {
		n = max(0, min(n, int64(len(j.trace))))
		j.trace = slices.Clone(j.trace[:n]) // snapshots keep the old bytes
		j.size, j.crc = n, crc32.ChecksumIEEE(j.trace)
		j.loosePatch = true
		s.touched(j)
	})
}

// Disturb tells the rules that a job's runner process was killed, or its connections cut, by the test:
// bytes and final updates may come twice, and a gap of contact is no violation.
func (s *Server) Disturb(id int64) error {
	return s.edit(id, func(j *job) { j.disturbed, j.loosePatch, j.looseFinal = true, true, true })
}

func (s *Server) edit(id int64, f func(*job)) error {
	err := s.editLocked(id, f)
	s.runCallbacks()
	return err
}

func (s *Server) editLocked(id int64, f func(*job)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs[id]
	switch {
	case j == nil:
		return ErrNoJob
	case j.final():
		return ErrFinal
	}
	f(j)
	return nil
}

// disturb notes that a fault touched a request of the job.
func (s *Server) disturb(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.jobs[id]; j != nil {
		j.disturbed = true
	}
}

// Wait blocks until the job is over.
func (s *Server) Wait(ctx context.Context, id int64) (Snapshot, error) {
	s.mu.Lock()
	j := s.jobs[id]
	s.mu.Unlock()
	if j == nil {
		return Snapshot{}, ErrNoJob
	}
	var err error
	select {
	case <-j.done:
	case <-ctx.Done():
		err = fmt.Errorf("wait for job %d: %w", id, ctx.Err())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return j.snapshot(), err
}

// watcher is told which jobs changed.
type watcher struct {
	id    int64 // 0 is any
	dirty map[int64]*job
	wake  chan struct{}
}

// WaitFor blocks until a job fulfils the condition and returns it. The condition sees each job once
// and then whenever it changed; it is called without locks.
func (s *Server) WaitFor(ctx context.Context, condition func(Snapshot) bool) (Snapshot, error) {
	return s.waitFor(ctx, 0, condition)
}

// WaitForJob is WaitFor for one job.
func (s *Server) WaitForJob(ctx context.Context, id int64, condition func(Snapshot) bool) (Snapshot, error) {
	if _, err := s.Job(id); err != nil {
		return Snapshot{}, err
	}
	return s.waitFor(ctx, id, condition)
}

func (s *Server) waitFor(ctx context.Context, id int64, condition func(Snapshot) bool) (Snapshot, error) {
	w := &watcher{id: id, dirty: make(map[int64]*job), wake: make(chan struct{}, 1)}
	s.mu.Lock()
	for _, j := range s.jobs {
		w.add(j)
	}
	s.watchers[w] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.watchers, w)
		s.mu.Unlock()
	}()
	for {
		s.mu.Lock()
		changed := make([]Snapshot, 0, len(w.dirty))
		for _, id := range slices.Sorted(maps.Keys(w.dirty)) {
			changed = append(changed, w.dirty[id].snapshot())
		}
		clear(w.dirty)
		s.mu.Unlock()
		for _, snap := range changed {
			if condition(snap) {
				return snap, nil
			}
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return Snapshot{}, fmt.Errorf("wait for a job's state: %w", ctx.Err())
		}
	}
}

func (w *watcher) add(j *job) {
	if w.id != 0 && w.id != j.id {
		return
	}
	w.dirty[j.id] = j
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
