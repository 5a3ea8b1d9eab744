package coordinator_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/coordinator"
	"github.com/glassrunner/glassrunner/internal/event"
)

func TestRetryWait(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name      string
		h         headers
		n         int
		low, high time.Duration
		cut       bool
	}{
		{name: "first", n: 1, low: 50 * time.Millisecond, high: 150 * time.Millisecond},
		{name: "fourth", n: 4, low: 400 * time.Millisecond, high: 1200 * time.Millisecond},
		{name: "late", n: 60, low: 30 * time.Second, high: time.Minute},
		{name: "reset time", n: 1, h: headers{"RateLimit-ResetTime": "Sun, 01 Mar 2026 12:00:42 GMT", "Retry-After": "5"}, low: 42 * time.Second, high: 42 * time.Second},
		{name: "reset time in the past", n: 1, h: headers{"RateLimit-ResetTime": "Sun, 01 Mar 2026 11:00:42 GMT", "Retry-After": "5"}, low: 5 * time.Second, high: 5 * time.Second},
		{name: "broken reset time", n: 1, h: headers{"RateLimit-ResetTime": "tomorrow", "Retry-After": " 5 "}, low: 5 * time.Second, high: 5 * time.Second},
		{name: "date", n: 1, h: headers{"Retry-After": "Sun, 01 Mar 2026 12:00:07 GMT"}, low: 7 * time.Second, high: 7 * time.Second},
		{name: "zero", n: 1, h: headers{"Retry-After": "0"}, low: 50 * time.Millisecond, high: 150 * time.Millisecond},
		{name: "negative", n: 1, h: headers{"Retry-After": "-3"}, low: 50 * time.Millisecond, high: 150 * time.Millisecond},
		{name: "at the cap", n: 1, h: headers{"Retry-After": "900"}, low: 15 * time.Minute, high: 15 * time.Minute},
		{name: "above", n: 1, h: headers{"Retry-After": "901"}, low: 15 * time.Minute, high: 15 * time.Minute, cut: true},
		{name: "overflow", n: 1, h: headers{"Retry-After": "9223372036854775807"}, low: 15 * time.Minute, high: 15 * time.Minute, cut: true},
		{name: "the server's clock is ahead", n: 1, h: headers{"Date": "Sun, 01 Mar 2026 14:00:00 GMT", "RateLimit-ResetTime": "Sun, 01 Mar 2026 14:00:42 GMT"}, low: 42 * time.Second, high: 42 * time.Second},
		{name: "the server's clock is behind", n: 1, h: headers{"Date": "Sun, 01 Mar 2026 09:00:00 GMT", "Retry-After": "Sun, 01 Mar 2026 09:00:07 GMT"}, low: 7 * time.Second, high: 7 * time.Second},
		{name: "the same clock", n: 1, h: headers{"Date": "Sun, 01 Mar 2026 11:59:58 GMT", "RateLimit-ResetTime": "Sun, 01 Mar 2026 12:00:42 GMT"}, low: 42 * time.Second, high: 42 * time.Second},
		{name: "next year", n: 1, h: headers{"RateLimit-ResetTime": "Mon, 01 Mar 2027 12:00:42 GMT"}, low: 15 * time.Minute, high: 15 * time.Minute, cut: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := http.Header{}
			for k, v := range tt.h {
				h.Set(k, v)
			}
			for range 50 {
				got, cut := coordinator.RetryWait(h, now, tt.n)
				if got < tt.low || got > tt.high || cut != tt.cut {
					t.Fatalf("got %v, %v, want %v…%v, %v", got, cut, tt.low, tt.high, tt.cut)
				}
			}
		})
	}
}

func TestRateLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{}
		c := newClient(t, options("http://gitlab.test", rec))
		n := 0
		c.SetRoundTripper(direct{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			n++
			switch n {
			case 1:
				w.Header().Set("RateLimit-ResetTime", time.Now().Add(40*time.Second).UTC().Format(http.TimeFormat))
				w.WriteHeader(http.StatusTooManyRequests)
			case 2:
				w.Header().Set("Retry-After", "60")
				w.WriteHeader(http.StatusTooManyRequests)
			case 3:
				w.Header().Set("Retry-After", "7200")
				w.WriteHeader(http.StatusServiceUnavailable)
			default:
				sendJSON(w, 201, smallJob)
			}
		})})
		start := time.Now()
		spec, res, err := c.RequestJob(t.Context(), false)
		took := time.Since(start)
		if err != nil || spec == nil || !res.Retried || res.Kind != coordinator.PollJob {
			t.Fatalf("got %+v, %v", res, err)
		}
		if want := 40*time.Second + time.Minute + 15*time.Minute; took != want {
			t.Errorf("took %v, want %v", took, want)
		}
		called := rec.last(t)
		if d := cmp.Diff(event.Called{
			Endpoint: "request_job", Method: "post", Path: "/api/v4/jobs/request", Status: 201, Attempts: 4,
			Statuses: []int{429, 429, 503}, Took: took, Waited: took,
		}, called); d != "" {
			t.Errorf("event (-want +got):\n%s", d)
		}
		if d := rec.degraded(); len(d) != 1 || d[0].What != "rate_limit_wait" {
			t.Errorf("got %+v, want one rate_limit_wait", d)
		} else {
			wantText(t, d[0].Err, "503", "15m")
		}
	})
}

func TestWaitObeysContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{}
		c := newClient(t, options("http://gitlab.test", rec))
		c.SetRoundTripper(direct{answer(429, headers{"Retry-After": "600"})})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(3*time.Second, cancel)
		start := time.Now()
		_, res, err := c.RequestJob(ctx, false)
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
		if !errors.Is(err, context.Canceled) || !res.Retried {
			t.Errorf("got %+v, %v", res, err)
		}
		wantText(t, err, "429")
		if got := rec.last(t); got.Class != event.ErrCanceled || got.Status != -1 || got.Attempts != 1 || len(got.Statuses) != 1 {
			t.Errorf("event: %+v", got)
		}
	})
}

func TestNoRetryOfTransportErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{}
		c := newClient(t, options("http://gitlab.test", rec))
		c.SetRoundTripper(broken{})
		start := time.Now()
		_, res, err := c.RequestJob(t.Context(), false)
		if !errors.Is(err, errConn) || res.Retried || res.Status != -1 || time.Since(start) != 0 {
			t.Errorf("got %+v, %v after %v", res, err, time.Since(start))
		}
		if got := rec.last(t); got.Attempts != 1 || got.Statuses != nil {
			t.Errorf("event: %+v", got)
		}
	})
}

func TestRetryOverHTTP(t *testing.T) {
	n := 0
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n++
		if body(t, r)["token"] != runnerToken {
			t.Errorf("attempt %d has another body", n)
		}
		if n == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	_, res, err := newClient(t, options(url, nil)).RequestJob(t.Context(), false)
	if err != nil || res.Kind != coordinator.PollNone || !res.Retried || n != 2 {
		t.Errorf("got %+v, %v, %d attempts", res, err, n)
	}
}
