package admin

import (
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/observe/board"
)

// TestServesAgain: a listener that breaks is told of and opened again.
func TestServesAgain(t *testing.T) {
	facts := make(chan event.ListenerChanged, 16)
	reg := prometheus.NewRegistry()
	b := board.New(board.Options{})
	s := New(Options{Gatherer: reg, Registry: reg, Board: b, Bus: event.NewBus(b, event.ObserverFunc(func(e event.Event) {
		if f, ok := e.Fact.(event.ListenerChanged); ok {
			facts <- f
		}
	}))})
	defer s.Close()
	if err := s.Listen(t.Context(), Settings{Address: "127.0.0.1:0"}); err != nil {
		t.Fatal(err)
	}
	addr := s.Addr()
	next := func() event.ListenerChanged {
		select {
		case f := <-facts:
			return f
		case <-time.After(10 * time.Second):
			t.Fatal("no fact")
			return event.ListenerChanged{}
		}
	}
	if f := next(); f.Address != addr || f.Err != nil {
		t.Fatalf("at first: %v", f)
	}
	for range 2 {
		s.main.now.mu.Lock()
		l := s.main.now.listener
		s.main.now.mu.Unlock()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if f := next(); f.Address != addr || f.Err == nil {
			t.Errorf("when it broke: %v", f)
		}
		if f := next(); f.Address != addr || f.Err != nil {
			t.Errorf("when it was opened again: %v", f)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("afterwards: %d", resp.StatusCode)
		}
	}
}
