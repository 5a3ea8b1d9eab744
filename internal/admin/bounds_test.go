package admin_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/glassrunner/glassrunner/internal/admin"
	"github.com/glassrunner/glassrunner/internal/event"
)

// blocking is a Gatherer that waits.
type blocking struct{ enter, leave chan struct{} }

func (b *blocking) Gather() ([]*dto.MetricFamily, error) {
	b.enter <- struct{}{}
	<-b.leave
	return nil, nil
}

func (b *blocking) AppendText(dst []byte, _ bool) ([]byte, error) {
	b.enter <- struct{}{}
	<-b.leave
	return append(dst, "a 1\n"...), nil
}

func TestTooManyScrapes(t *testing.T) {
	for _, accept := range []string{"", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"} {
		g := &blocking{make(chan struct{}), make(chan struct{})}
		r := newRig(t, func(o *admin.Options) { o.Gatherer, o.MaxScrapes = g, 2 })
		base := r.listen(t)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if resp, _ := do(t, "GET", base+"/metrics", "Accept", accept); resp.StatusCode != 200 {
					t.Errorf("got %d", resp.StatusCode)
				}
			})
			<-g.enter
		}
		resp, body := do(t, "GET", base+"/metrics", "Accept", accept)
		if resp.StatusCode != 503 || !strings.Contains(body, "try again later") {
			t.Errorf("the third: got %d %q, want 503", resp.StatusCode, body)
		}
		if resp, _ := do(t, "GET", base+"/-/healthy"); resp.StatusCode != 200 {
			t.Errorf("others: got %d", resp.StatusCode)
		}
		close(g.leave)
		wg.Wait()
	}
}

// failing has some metrics and an error.
type failing struct{}

func (failing) Gather() ([]*dto.MetricFamily, error) { return nil, errors.New("x") }

func (failing) AppendText(dst []byte, _ bool) ([]byte, error) {
	return append(dst, "a 1\n"...), errors.New("x")
}

func TestGatherError(t *testing.T) {
	r := newRig(t, func(o *admin.Options) { o.Gatherer = failing{} })
	base := r.listen(t)
	if resp, body := do(t, "GET", base+"/metrics"); resp.StatusCode != 200 || body != "a 1\n" {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	all, err := r.m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, f := range all {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(b.String(), `promhttp_metric_handler_errors_total{cause="gathering"} 1`) {
		t.Error("the error was not counted")
	}
}

type panicking struct{ failing }

func (panicking) AppendText([]byte, bool) ([]byte, error) { panic("oh") }

func TestPanic(t *testing.T) {
	r := newRig(t, func(o *admin.Options) { o.Gatherer = panicking{} })
	base := r.listen(t)
	for range 20 { // more than there are slots
		if resp, body := do(t, "GET", base+"/metrics"); resp.StatusCode != 500 || strings.Contains(body, "oh") {
			t.Fatalf("got %d %q", resp.StatusCode, body)
		}
	}
	if f, ok := r.facts.last().(event.Degraded); !ok || f.What != "monitoring_request" {
		t.Errorf("emitted: %v", r.facts.last())
	}
	all, err := r.m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(f *dto.MetricFamily) bool { return f.GetName() == "glassrunner_http_panics_total" })
	if i < 0 || all[i].Metric[0].Counter.GetValue() != 20 {
		t.Error("the panics were not counted")
	}
}

func TestSecondProfile(t *testing.T) {
	r := newRig(t, nil)
	base := r.listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil { // until it is not the one that is refused
			req, err := http.NewRequestWithContext(ctx, "GET", base+"/debug/pprof/trace?seconds=60", nil)
			if err != nil {
				t.Error(err)
				return
			}
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}
	})
	poll(t, "the second trace to be refused", func() bool {
		resp, body := do(t, "GET", base+"/debug/pprof/trace?seconds=0.001")
		return resp.StatusCode == 409 && strings.Contains(body, "only one at a time")
	})
	cancel()
	wg.Wait()
	poll(t, "a trace to be possible again", func() bool {
		resp, _ := do(t, "GET", base+"/debug/pprof/trace?seconds=0.001")
		return resp.StatusCode == 200
	})
}

// TestHalfOpen: hundreds of clients that open a connection and send half a
// request must not keep out one that asks, nor may their number matter.
func TestHalfOpen(t *testing.T) {
	r := newRig(t, func(o *admin.Options) { o.MaxConnections = 32 })
	base := r.listen(t)
	kept := &http.Client{Transport: &http.Transport{}}
	defer kept.CloseIdleConnections()
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	var d net.Dialer
	for i := range 500 {
		c, err := d.DialContext(t.Context(), "tcp", r.Addr())
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		held = append(held, c)
		if i%3 > 0 {
			fmt.Fprint(c, "GET /metrics HTTP/1.1\r\nHost: x\r\nX-")
		}
		if i%50 == 0 {
			for range 2 {
				req, err := http.NewRequestWithContext(t.Context(), "GET", base+"/metrics", nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := kept.Do(req)
				if err != nil {
					t.Fatalf("scrape beside %d half-open connections: %v", i, err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
					t.Fatalf("scrape beside %d half-open connections: %d %v", i, resp.StatusCode, err)
				}
				resp.Body.Close()
			}
		}
	}
	_, body := do(t, "GET", base+"/metrics")
	if !regexp.MustCompile(`(?m)^glassrunner_http_connections ([0-9]|[12][0-9]|3[0-2])$`).MatchString(body) || !regexp.MustCompile(`(?m)^glassrunner_http_connections_dropped_total\{what="silent"\} 4[0-9][0-9]$`).MatchString(body) {
		t.Errorf("connections: %s", regexp.MustCompile(`(?m)^glassrunner_http_connections.*$`).FindAllString(body, -1))
	}
}

func TestHeaderTimeout(t *testing.T) {
	r := newRig(t, func(o *admin.Options) { o.HeaderTimeout = 50 * time.Millisecond })
	r.listen(t)
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /metrics HT")
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("the connection is still open: %v", err)
	}
}

// TestSlowBody: a body that never comes holds nothing.
func TestSlowBody(t *testing.T) {
	r := newRig(t, func(o *admin.Options) { o.HeaderTimeout = 50 * time.Millisecond })
	r.listen(t)
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST /debug/jobs/list HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("got %v, %v", resp, err)
	}
	resp.Body.Close()
	if _, err := io.ReadAll(c); err != nil && !errors.Is(err, net.ErrClosed) && strings.Contains(err.Error(), "timeout") {
		t.Errorf("the connection is still open: %v", err)
	}
}
