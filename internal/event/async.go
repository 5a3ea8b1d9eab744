package event

import "sync"

// Queue is an Observer that hands events to a slow one from a goroutine of
// its own. It holds at most its capacity; what comes while it is full is
// dropped and counted.
type Queue struct {
	slow   Observer
	events chan Event
	done   chan struct{}

	mu      sync.Mutex
	closed  bool
	dropped uint64
}

// Async returns a queue of that capacity before slow. Close it.
func Async(capacity int, slow Observer) *Queue {
	q := &Queue{slow: slow, events: make(chan Event, capacity), done: make(chan struct{})}
	go func() {
		defer close(q.done)
		for e := range q.events {
			q.slow.Observe(e)
		}
	}()
	return q
}

// Observe queues e or drops it.
func (q *Queue) Observe(e Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		q.dropped++
		return
	}
	select {
	case q.events <- e:
	default:
		q.dropped++
	}
}

// Dropped returns how many events were not handed on.
func (q *Queue) Dropped() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

// Close hands on what is queued and waits for it.
func (q *Queue) Close() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.events)
	}
	q.mu.Unlock()
	<-q.done
}
