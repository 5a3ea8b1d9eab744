package scheduler_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/scheduler"
)

// The scheduler's own cost of a job: requests and tasks are instant.
func BenchmarkJobs(b *testing.B) {
	for _, concurrent := range []int{1, 16, 100} {
		b.Run(fmt.Sprint("concurrent=", concurrent), func(b *testing.B) {
			jobs, stop := make(chan struct{}), make(chan struct{})
			e := entry("a", nil)
			e.RequestConcurrency = concurrent
			e.Request = func(context.Context, scheduler.Ask) (scheduler.Task, scheduler.Result) {
				return func(context.Context) scheduler.TaskResult {
					select {
					case jobs <- struct{}{}:
					case <-stop:
					}
					return scheduler.OK
				}, scheduler.Result{Kind: scheduler.Job}
			}
			s := scheduler.New(scheduler.Options{Bus: event.NewBus(event.ObserverFunc(func(event.Event) {}))})
			over := make(chan error, 1)
			go func() { over <- s.Run(context.WithoutCancel(b.Context()), config(concurrent, e)) }()
			b.ReportAllocs()
			for b.Loop() {
				<-jobs
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
			s.Drain("bench")
			close(stop)
			<-over
		})
	}
}

// A scrape of the status with many entries and jobs.
func BenchmarkStatus(b *testing.B) {
	c := config(100)
	release := make(chan struct{})
	started := make(chan struct{}, 200)
	for i := range 10 {
		e := entry(fmt.Sprint("e", i), nil)
		e.Request = func(context.Context, scheduler.Ask) (scheduler.Task, scheduler.Result) {
			return func(context.Context) scheduler.TaskResult {
				started <- struct{}{}
				<-release
				return scheduler.OK
			}, scheduler.Result{Kind: scheduler.Job}
		}
		c.Entries = append(c.Entries, e)
	}
	c.CheckInterval = 10 * time.Millisecond
	s := scheduler.New(scheduler.Options{})
	over := make(chan error, 1)
	go func() { over <- s.Run(context.WithoutCancel(b.Context()), c) }()
	for range 100 {
		<-started
	}
	b.ReportAllocs()
	for b.Loop() {
		if st := s.Status(); st.Running > 100 {
			b.Fatal(st.Running)
		}
	}
	s.Drain("bench")
	close(release)
	<-over
}
