package pulse_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/pulse"
)

func TestLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := pulse.New()
		loop := m.Part(pulse.Scheduler, "loop")
		request := m.Part(pulse.Polling, "request")
		m.Part(pulse.Executors, "promises nothing")
		loop.Within(10 * time.Second)
		request.Within(time.Minute)
		check := func(want ...pulse.Late) {
			t.Helper()
			if d := cmp.Diff(want, m.Late()); d != "" {
				t.Errorf("late (-want +got):\n%s", d)
			}
			healthy := map[pulse.Component]bool{pulse.Scheduler: true, pulse.Polling: true, pulse.Executors: true}
			for _, l := range want {
				healthy[l.Component] = false
			}
			if d := cmp.Diff(healthy, m.Healthy()); d != "" {
				t.Errorf("healthy (-want +got):\n%s", d)
			}
		}
		time.Sleep(10 * time.Second) // faked
		check()
		time.Sleep(time.Second)
		check(pulse.Late{Component: pulse.Scheduler, What: "loop", By: time.Second})
		time.Sleep(50 * time.Second)
		check(pulse.Late{Component: pulse.Scheduler, What: "loop", By: 51 * time.Second}, pulse.Late{Component: pulse.Polling, What: "request", By: time.Second})
		loop.Within(time.Second)
		request.Rest()
		check()
		request.Within(0)
		time.Sleep(500 * time.Millisecond)
		check(pulse.Late{Component: pulse.Polling, What: "request", By: 500 * time.Millisecond})
		request.End()
		loop.End()
		loop.End()
		loop.Within(0)
		time.Sleep(time.Hour)
		check()
	})
}

func TestNothing(t *testing.T) {
	var m *pulse.Monitor
	p := m.Part(pulse.Scheduler, "loop")
	p.Within(0)
	p.Rest()
	p.End()
	if late := m.Late(); late != nil {
		t.Errorf("late: %v, want nothing", late)
	}
	if !m.Healthy()[pulse.Polling] {
		t.Error("nothing is not healthy")
	}
}

func TestAtTheSameTime(t *testing.T) {
	m := pulse.New()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 200 {
				p := m.Part(pulse.Executors, fmt.Sprint(i))
				p.Within(time.Hour)
				if late := m.Late(); late != nil {
					t.Errorf("late: %v", late)
				}
				p.Rest()
				p.End()
			}
		})
	}
	wg.Wait()
}
