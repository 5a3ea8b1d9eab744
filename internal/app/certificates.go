package app

import (
	"context"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
)

// expiries are what was last told of the certificates towards coordinators.
type expiries struct {
	mu   sync.Mutex
	told map[string]time.Time
}

// tellCertificates emits when the first certificate of each kind ends that
// the entries in force use, where that has changed.
func (a *App) tellCertificates(ctx context.Context) {
	first := map[string]time.Time{}
	note := func(kind string, at time.Time) {
		if have, ok := first[kind]; !at.IsZero() && (!ok || at.Before(have)) {
			first[kind] = at
		}
	}
	for _, e := range a.current.Load().entries {
		if e.client != nil {
			x := e.client.Expiry()
			note("coordinator_client", x.Client)
			note("coordinator_ca", x.Authority)
		}
	}
	ctx = event.WithScope(ctx, event.Scope{}) // of the process
	a.expiries.mu.Lock()
	defer a.expiries.mu.Unlock()
	for _, kind := range []string{"coordinator_client", "coordinator_ca"} {
		if at := first[kind]; !at.Equal(a.expiries.told[kind]) {
			a.expiries.told[kind] = at
			a.bus.Emit(ctx, event.CertificateLoaded{Certificate: kind, NotAfter: at})
		}
	}
}
