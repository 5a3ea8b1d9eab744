package build

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

const (
	// samplesAtOnce bounds how many places are asked at the same time what
	// their jobs use.
	samplesAtOnce = 8
	// sampleTimeout bounds one answer.
	sampleTimeout = 3 * time.Second
	// lastTimeout bounds the answer that a job's figures are made of.
	lastTimeout = 10 * time.Second
)

// A Sampler asks the places of running jobs what these use, one sampler for
// all jobs of a process. Without Run nobody is asked.
type Sampler struct {
	every time.Duration

	mu     sync.Mutex
	jobs   map[*sampled]struct{}
	wakeUp chan struct{}
}

// sampled is one running job.
type sampled struct {
	ctx    context.Context
	cancel context.CancelFunc
	env    executor.Env
	told   func(job.Usage)
	due    time.Time
	busy   sync.Mutex // held while the place is asked
}

// NewSampler returns a sampler that asks each place about every so often.
func NewSampler(every time.Duration) *Sampler {
	return &Sampler{every: every, jobs: map[*sampled]struct{}{}, wakeUp: make(chan struct{}, 1)}
}

// Run samples until ctx ends.
func (s *Sampler) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	room := make(chan struct{}, samplesAtOnce)
	timer := time.NewTimer(s.every)
	defer timer.Stop()
	for {
		due, next := s.due(time.Now())
		for _, j := range due {
			select {
			case room <- struct{}{}:
			case <-ctx.Done():
				return
			}
			wg.Go(func() {
				defer func() { <-room }()
				j.sample()
			})
		}
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
			return
		case <-s.wakeUp:
		case <-timer.C:
		}
	}
}

// due returns the jobs whose turn it is, and when the next one's is.
func (s *Sampler) due(now time.Time) (due []*sampled, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next = now.Add(time.Hour)
	for j := range s.jobs {
		if !j.due.After(now) {
			due = append(due, j)
			j.due = now.Add(s.pause())
		}
		if j.due.Before(next) {
			next = j.due
		}
	}
	return due, next
}

// pause is the time between two samples. It varies, so that jobs which began
// together are not sampled together for ever.
func (s *Sampler) pause() time.Duration {
	return s.every*4/5 + rand.N(s.every*2/5+1) //nolint:gosec // nobody gains by guessing it
}

// watch adds a job. stop takes it away and waits until its place is not asked
// any more.
func (s *Sampler) watch(ctx context.Context, env executor.Env, told func(job.Usage)) (stop func()) {
	if s == nil {
		return func() {}
	}
	j := &sampled{env: env, told: told, due: time.Now().Add(s.pause())}
	j.ctx, j.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.mu.Lock()
	s.jobs[j] = struct{}{}
	s.mu.Unlock()
	select {
	case s.wakeUp <- struct{}{}:
	default:
	}
	return func() {
		s.mu.Lock()
		delete(s.jobs, j)
		s.mu.Unlock()
		j.cancel()
		j.busy.Lock() // for good
	}
}

// sample asks once. A place that still has not answered the last time is left
// alone.
func (j *sampled) sample() {
	if !j.busy.TryLock() {
		return
	}
	defer j.busy.Unlock()
	ctx, cancel := context.WithTimeout(j.ctx, sampleTimeout)
	defer cancel()
	if ctx.Err() != nil {
		return
	}
	// That nothing can be found out now is no news: the job's end tells.
	if u, err := j.env.Usage(ctx); err == nil && u.Known() && j.ctx.Err() == nil {
		j.told(u)
	}
}

// sample has the job's use of its machine told while it runs.
func (r *run) sample(ctx context.Context) (stop func()) {
	return r.o.Sampler.watch(ctx, r.env, func(u job.Usage) { r.o.Bus.Emit(ctx, event.UsageSampled{Usage: u}) })
}

// used tells what the job has used in all.
func (r *run) used(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTimeout)
	defer cancel()
	u, err := r.env.Usage(ctx)
	if err != nil {
		r.o.Bus.Emit(ctx, event.Degraded{What: "job_usage", Err: err})
	}
	if !u.Known() {
		return
	}
	r.o.Bus.Emit(ctx, event.JobUsed{Usage: u})
	for _, name := range u.OOMKilled {
		r.out.Warn("Memory ran out in the " + name + ": the kernel killed a process there.")
	}
	if line := usageLine(u); r.o.UsageLine && line != "" {
		r.out.Line("Job used %s", line)
	}
}

// usageLine says in words what is known.
func usageLine(u job.Usage) string {
	var parts []string
	add := func(format string, q job.Quantity, text func(int64) string) {
		if n, known := q.Value(); known {
			parts = append(parts, fmt.Sprintf(format, text(n)))
		}
	}
	seconds := func(n int64) string { return fmt.Sprintf("%.2f s", time.Duration(n).Seconds()) }
	add("%s of CPU time", u.CPU, seconds)
	add("%s of memory at its peak", u.MemoryPeak, size)
	add("read %s", u.Read, size)
	add("wrote %s", u.Written, size)
	if n, _ := u.Throttled.Value(); n > 0 {
		add("was throttled for %s", u.Throttled, seconds)
	}
	return strings.Join(parts, ", ")
}

// size writes a number of bytes with three digits.
func size(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), 0
	for v >= 1<<10 && unit < 5 {
		v /= 1 << 10
		unit++
	}
	digits := 2
	switch {
	case v >= 99.95:
		digits = 0
	case v >= 9.995:
		digits = 1
	}
	return fmt.Sprintf("%.*f %ciB", digits, v, " KMGTP"[unit])
}
