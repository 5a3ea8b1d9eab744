package coordinator_test

import (
	"net/http"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/glassrunner/glassrunner/internal/coordinator"
	"github.com/glassrunner/glassrunner/internal/event"
)

func TestClockSkew(t *testing.T) {
	for _, tt := range []struct {
		name  string
		ahead time.Duration // of this machine's clock
		date  func(h http.Header, at time.Time)
		dated bool
	}{
		{"equal", 0, nil, true},
		{"ahead", 90 * time.Second, nil, true},
		{"behind", -time.Hour, nil, true},
		{"no date", 0, func(h http.Header, _ time.Time) { h["Date"] = nil }, false},
		{"no HTTP date", 0, func(h http.Header, _ time.Time) { h.Set("Date", "2026-05-04T03:02:01Z") }, false},
		{"from a cache", 0, func(h http.Header, at time.Time) { h.Set("Date", at.Format(http.TimeFormat)); h.Set("Age", "7") }, false},
		{"old format", 0, func(h http.Header, at time.Time) { h.Set("Date", at.Format(time.ANSIC)) }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec := &recorder{}
				c := newClient(t, options("http://gitlab.test", rec))
				c.SetRoundTripper(direct{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					time.Sleep(50 * time.Second) // faked: a long poll is no skew
					there := time.Now().Add(-tt.ahead).UTC()
					if tt.date == nil {
						w.Header().Set("Date", there.Format(http.TimeFormat))
					} else {
						tt.date(w.Header(), there)
					}
					w.WriteHeader(http.StatusNoContent)
				})})
				if _, _, err := c.RequestJob(t.Context(), false); err != nil {
					t.Fatal(err)
				}
				got := rec.last(t)
				if off := got.Skew - tt.ahead; got.Dated != tt.dated || tt.dated && (off < -time.Second || off > time.Second) {
					t.Errorf("%v is off by %v, dated %v; want %v", got.Skew, off, got.Dated, tt.dated)
				}
			})
		})
	}
}

func TestExpiry(t *testing.T) {
	ca := newAuthority(t)
	srv := ca.serve(t, ca, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	// Another authority in the file, which nobody needs, does not count.
	old := newAuthorityUntil(t, time.Now().Add(time.Minute))
	dir := t.TempDir()
	o := options(srv.URL, &recorder{})
	o.TLSCAFile = write(t, filepath.Join(dir, "ca.crt"), append(append([]byte{}, old.pem...), ca.pem...))
	cert, key := ca.issue(t, "runner")
	o.TLSCertFile, o.TLSKeyFile = write(t, filepath.Join(dir, "c.crt"), cert), write(t, filepath.Join(dir, "c.key"), key)
	c := newClient(t, o)
	if got := c.Expiry(); got != (coordinator.Expiry{}) {
		t.Errorf("before a request: %+v, want nothing", got)
	}
	if _, _, err := c.RequestJob(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	got := c.Expiry()
	if !got.Authority.Equal(ca.cert.NotAfter) || got.Client.IsZero() || time.Until(got.Client) > 2*time.Hour {
		t.Errorf("got %+v, want the authority until %v and the client certificate", got, ca.cert.NotAfter)
	}
	plain := newClient(t, options("http://127.0.0.1:1", nil))
	_, _, _ = plain.RequestJob(t.Context(), false)
	if got := plain.Expiry(); got != (coordinator.Expiry{}) {
		t.Errorf("without TLS: %+v, want nothing", got)
	}
}

func TestErrorClassList(t *testing.T) {
	seen := map[event.ErrorClass]bool{}
	for _, c := range event.ErrorClasses() {
		if seen[c] {
			t.Errorf("%s is listed twice", c)
		}
		seen[c] = true
	}
	for _, c := range []event.ErrorClass{event.ErrHTTP4xx, event.ErrHTTP5xx} {
		if !seen[c] {
			t.Errorf("%s is not listed", c)
		}
	}
}
