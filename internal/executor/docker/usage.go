package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/glassrunner/glassrunner/internal/cgroup"
	"github.com/glassrunner/glassrunner/internal/job"
)

// meter adds up what a job's containers use.
//
// An engine forgets the figures of a container when it ends, and the build
// container ends with every step. Where the engine is on this machine, they are
// read from the container's control groups instead, and once more at the very
// moment at which its first process has ended: the groups live until the engine
// has heard of that. From an engine elsewhere comes what it last said.
type meter struct {
	p *place

	mu    sync.Mutex
	list  []*metered
	swarm int64 // largest sum of what all containers used of memory at a time
}

// metered is one container.
type metered struct {
	id   string
	name string // for people
	// service: not one of the job's own two.
	service bool

	group cgroup.Group  // nowhere: the engine is asked
	ended chan struct{} // closed when the present life is over and counted; nil before the first
	stop  func()        // ends the wait for that
	last  job.Usage     // of the present life, as far as it is known
	past  job.Usage     // of earlier lives
	asked bool          // the engine was asked what became of it
}

// began notes a container that was just started and has not done anything yet,
// if it can be helped.
func (m *meter) began(ctx context.Context, id, name string, service bool) {
	info, err := m.p.engine.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil || info.Container.State == nil {
		m.p.d.o.Log.Debug("asking for a container's process", "container", id, "error", err)
		info.Container.State = &container.State{}
	}
	pid := info.Container.State.Pid
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.find(id)
	if c == nil {
		c = &metered{id: id}
		m.list = append(m.list, c)
	}
	c.past, c.last = sum(c.past, c.last), job.Usage{}
	c.name, c.service, c.asked = name, service, false
	c.group, c.ended, c.stop = cgroup.Group{}, nil, func() {}
	if !m.p.engine.near() || pid <= 0 {
		return
	}
	group := cgroup.Of(pid)
	// Another machine's number may be that of any process here.
	if !group.Any() || !belongs(group, id) {
		return
	}
	ended, stop, err := watch(pid)
	if err != nil {
		m.p.d.o.Log.Debug("watching a container's process", "container", id, "error", err)
		return
	}
	done := make(chan struct{})
	c.group, c.ended, c.stop = group, done, stop
	go func() {
		defer close(done)
		<-ended
		u := group.Usage()
		m.mu.Lock()
		defer m.mu.Unlock()
		if c.ended == done {
			c.last = later(c.last, u)
			c.last.Memory = job.Known(0)
		}
	}()
}

// belongs reports whether a group is the container's.
func belongs(g cgroup.Group, id string) bool {
	for _, dir := range []string{g.Unified, g.CPUAcct, g.CPU, g.Memory, g.Blkio} {
		if strings.Contains(filepath.Base(dir), id) {
			return true
		}
	}
	return false
}

func (m *meter) find(id string) *metered {
	for _, c := range m.list {
		if c.id == id {
			return c
		}
	}
	return nil
}

// over takes note of the end of a container's life, before it may begin
// another.
func (m *meter) over(ctx context.Context, id string) {
	m.mu.Lock()
	c := m.find(id)
	var ended chan struct{}
	if c != nil {
		ended = c.ended
	}
	m.mu.Unlock()
	switch {
	case c == nil:
	case ended == nil:
		kills := m.p.engine.oomKilled(ctx, id)
		m.mu.Lock()
		defer m.mu.Unlock()
		c.last.OOMKills, c.last.Memory = c.last.OOMKills.Max(kills), job.Known(0)
		c.asked = true
	default:
		select {
		case <-ended:
		case <-ctx.Done():
		}
	}
}

// close ends what waits for containers.
func (m *meter) close() {
	m.mu.Lock()
	list := m.list
	m.mu.Unlock()
	for _, c := range list {
		c.stop()
		if c.ended != nil {
			<-c.ended
		}
	}
}

// Usage returns what the job has used up to now.
func (p *place) Usage(ctx context.Context) (job.Usage, error) {
	m := &p.meter
	m.mu.Lock()
	list := append([]*metered(nil), m.list...)
	m.mu.Unlock()
	var errs []error
	for _, c := range list {
		errs = append(errs, m.look(ctx, c))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var u job.Usage
	var now int64
	var services []string // in which memory ran out
	for _, c := range m.list {
		one := sum(c.past, c.last)
		n, _ := one.Memory.Value()
		now += n
		peak := u.MemoryPeak.Max(one.MemoryPeak)
		kills, _ := one.OOMKills.Value()
		switch {
		case kills == 0:
		case c.service:
			services = append(services, c.name)
		default:
			u.OOMKilled = append(u.OOMKilled, c.name)
		}
		if c.service {
			one.ServiceOOMKills, one.OOMKills = one.OOMKills, job.Quantity{}
		}
		u = sum(u, one)
		u.MemoryPeak = peak
	}
	u.OOMKilled = append(u.OOMKilled, services...)
	// The peaks of several containers need not have come at the same time.
	m.swarm = max(m.swarm, now)
	if m.swarm > 0 {
		u.MemoryPeak = u.MemoryPeak.Max(job.Known(m.swarm))
	}
	if !u.Known() {
		return u, errors.Join(errs...)
	}
	return u, nil
}

// look brings the figures of one container up to date.
func (m *meter) look(ctx context.Context, c *metered) error {
	m.mu.Lock()
	group, ended, asked := c.group, c.ended, c.asked
	m.mu.Unlock()
	var u job.Usage
	var err error
	over := false
	if group.Any() {
		select {
		case <-ended:
			over = true
		default:
			u = group.Usage()
		}
	} else {
		u, over, err = m.p.engine.stats(ctx, c.id)
	}
	kills, known := c.kills(m)
	if over && !asked && (!known || kills == 0) {
		u.OOMKills = m.p.engine.oomKilled(ctx, c.id)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.ended == ended { // else it has begun another life meanwhile
		c.last = later(c.last, u)
		c.asked = over
	}
	return err
}

func (c *metered) kills(m *meter) (int64, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return c.last.OOMKills.Value()
}

// later returns the newer one of two figures of a life, with what only the
// older one knows: a group may go while it is read.
func later(old, now job.Usage) job.Usage {
	if _, known := now.Memory.Value(); !known {
		now.Memory = old.Memory
	}
	now.CPU, now.Throttled = old.CPU.Max(now.CPU), old.Throttled.Max(now.Throttled)
	now.MemoryPeak, now.OOMKills = old.MemoryPeak.Max(now.MemoryPeak), old.OOMKills.Max(now.OOMKills)
	now.Read, now.Written = old.Read.Max(now.Read), old.Written.Max(now.Written)
	return now
}

// sum adds up what two lives, or two containers, used.
func sum(a, b job.Usage) job.Usage {
	return job.Usage{
		CPU: a.CPU.Plus(b.CPU), Throttled: a.Throttled.Plus(b.Throttled),
		Memory: a.Memory.Plus(b.Memory), MemoryPeak: a.MemoryPeak.Max(b.MemoryPeak),
		Read: a.Read.Plus(b.Read), Written: a.Written.Plus(b.Written),
		OOMKills: a.OOMKills.Plus(b.OOMKills), ServiceOOMKills: a.ServiceOOMKills.Plus(b.ServiceOOMKills),
		OOMKilled: a.OOMKilled,
	}
}

// near reports whether the engine may be on this machine.
func (n connection) near() bool { return strings.HasPrefix(n.host, "unix://") }

// stats asks the engine what a container has used. over: it does not run.
func (e *engine) stats(ctx context.Context, id string) (u job.Usage, over bool, err error) {
	r, err := e.ContainerStats(ctx, id, client.ContainerStatsOptions{})
	if err != nil {
		return u, false, e.gone(err)
	}
	defer func() { _ = r.Body.Close() }() // it was only read
	var s container.StatsResponse
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
		return u, false, fmt.Errorf("statistics of container %.12s: %w", id, err)
	}
	return usageOf(s), s.CPUStats.CPUUsage.TotalUsage == 0, nil
}

// usageOf reads the engine's statistics. Those of a container that does not
// run are all 0.
func usageOf(s container.StatsResponse) job.Usage {
	if s.CPUStats.CPUUsage.TotalUsage == 0 {
		return job.Usage{Memory: job.Known(0)}
	}
	u := job.Usage{
		CPU:       known(s.CPUStats.CPUUsage.TotalUsage),
		Throttled: known(s.CPUStats.ThrottlingData.ThrottledTime),
	}
	if n := s.MemoryStats.Usage; n > 0 {
		cache, ok := s.MemoryStats.Stats["total_inactive_file"] // version 1
		if !ok {
			cache = s.MemoryStats.Stats["inactive_file"]
		}
		u.Memory = known(n - min(cache, n))
		u.MemoryPeak = known(max(s.MemoryStats.MaxUsage, n-min(cache, n)))
	}
	for _, e := range s.BlkioStats.IoServiceBytesRecursive {
		switch strings.ToLower(e.Op) {
		case "read":
			u.Read = u.Read.Plus(known(e.Value))
		case "write":
			u.Written = u.Written.Plus(known(e.Value))
		}
	}
	return u
}

func known(n uint64) job.Quantity { return job.Known(int64(min(n, 1<<62))) }

// oomKilled asks the engine whether memory ran out in a container that has
// ended. It does not say how often.
func (e *engine) oomKilled(ctx context.Context, id string) job.Quantity {
	info, err := e.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	switch {
	case err != nil || info.Container.State == nil:
		return job.Quantity{}
	case info.Container.State.OOMKilled:
		return job.Known(1)
	}
	return job.Known(0)
}
