package admin_test

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/admin"
	"github.com/glassrunner/glassrunner/internal/event"
)

func TestRebind(t *testing.T) {
	r := newRig(t, nil)
	if r.Addr() != "" {
		t.Errorf("before: %q", r.Addr())
	}
	if err := r.Listen(t.Context(), admin.Settings{}); err != nil || r.facts.last() != (event.ListenerChanged{}) {
		t.Errorf("off: %v, emitted %v", err, r.facts.last())
	}
	first := r.listen(t)
	if f, ok := r.facts.last().(event.ListenerChanged); !ok || "http://"+f.Address != first || strings.HasSuffix(first, ":0") {
		t.Errorf("emitted %v for %s", r.facts.last(), first)
	}
	n := len(r.facts.all)
	if err := r.Apply(t.Context(), admin.Settings{Address: "127.0.0.1:0"}); err != nil || len(r.facts.all) != n {
		t.Errorf("the same address: %v, %d facts", err, len(r.facts.all)-n)
	}

	// A failure keeps what there is.
	var lc net.ListenConfig
	taken, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	err = r.Apply(t.Context(), admin.Settings{Address: taken.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "is in use") || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("taken: %v", err)
	}
	if f, ok := r.facts.last().(event.ListenerChanged); !ok || f.Err == nil {
		t.Errorf("emitted %v", r.facts.last())
	}
	if resp, body := do(t, "GET", first+"/metrics"); resp.StatusCode != 200 || !strings.Contains(body, "\nglassrunner_listener_errors_total 1\n") {
		t.Errorf("the old listener: %d", resp.StatusCode)
	}

	if err := r.Apply(t.Context(), admin.Settings{Address: "localhost:0"}); err != nil {
		t.Fatal(err)
	}
	second := "http://" + r.Addr()
	if second == first {
		t.Errorf("still %s", first)
	}
	if resp, _ := do(t, "GET", second+"/"); resp.StatusCode != 200 {
		t.Errorf("the new one: %d", resp.StatusCode)
	}
	gone(t, first)

	// The same port on all addresses, and back.
	_, port, err := net.SplitHostPort(r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"0.0.0.0:" + port, "127.0.0.1:" + port} {
		if err := r.Apply(t.Context(), admin.Settings{Address: addr}); err != nil {
			t.Fatalf("to %s: %v", addr, err)
		}
		if resp, _ := do(t, "GET", "http://127.0.0.1:"+port+"/"); resp.StatusCode != 200 {
			t.Errorf("on %s: %d", addr, resp.StatusCode)
		}
	}
	if err := r.Apply(t.Context(), admin.Settings{Address: ""}); err != nil || r.Addr() != "" {
		t.Errorf("off: %v, %q", err, r.Addr())
	}
	gone(t, "http://127.0.0.1:"+port)
	r.Close()
	if err := r.Apply(t.Context(), admin.Settings{Address: "127.0.0.1:0"}); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestRebindOverlap: when the wider address cannot be had either, the old one
// is there again.
func TestRebindOverlap(t *testing.T) {
	r := newRig(t, nil)
	base := r.listen(t)
	_, port, err := net.SplitHostPort(r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	var lc net.ListenConfig
	other, err := lc.Listen(t.Context(), "tcp", "127.0.0.2:"+port)
	if err != nil {
		t.Skipf("needs a second loopback address: %v", err)
	}
	defer other.Close()
	if err := r.Apply(t.Context(), admin.Settings{Address: "0.0.0.0:" + port}); err == nil || !strings.Contains(err.Error(), "is in use") {
		t.Errorf("got %v", err)
	}
	if got := "http://" + r.Addr(); got != base {
		t.Errorf("listens on %s, want %s", got, base)
	}
	for range 3 {
		if resp, _ := do(t, "GET", base+"/"); resp.StatusCode != 200 {
			t.Errorf("got %d", resp.StatusCode)
		}
	}
}

// TestRebindFinishes: an answer under way is finished on the old listener.
func TestRebindFinishes(t *testing.T) {
	g := &blocking{make(chan struct{}), make(chan struct{})}
	r := newRig(t, func(o *admin.Options) { o.Gatherer, o.DrainTimeout = g, 10*time.Second })
	first := r.listen(t)
	code := make(chan int)
	go func() {
		resp, _ := do(t, "GET", first+"/metrics")
		code <- resp.StatusCode
	}()
	<-g.enter
	if err := r.Apply(t.Context(), admin.Settings{Address: "localhost:0"}); err != nil {
		t.Fatal(err)
	}
	gone(t, first)
	close(g.leave)
	if got := <-code; got != 200 {
		t.Errorf("the answer under way: %d", got)
	}
}

func gone(t *testing.T, base string) {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
	if err == nil {
		c.Close()
		t.Errorf("%s still listens", base)
	}
}

func TestListenErrors(t *testing.T) {
	r := newRig(t, nil)
	for addr, want := range map[string]string{
		"127.0.0.1:nosuchservice": `unknown port "nosuchservice"`,
		"192.0.2.1:9252":          "192.0.2.1 is no address of this machine",
		"127.0.0.1":               "[host]:port",
		"127.0.0.1:70000":         "port",
		"no such host:1":          "",
	} {
		err := r.Listen(t.Context(), admin.Settings{Address: addr})
		var le *admin.ListenError
		if !errors.As(err, &le) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), addr) || errors.Unwrap(err) == nil {
			t.Errorf("%s: got %v, want %q", addr, err, want)
		}
	}
	if r.Addr() != "" {
		t.Errorf("listens on %q", r.Addr())
	}
}
