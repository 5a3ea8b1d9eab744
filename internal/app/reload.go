package app

import (
	"context"
	"fmt"
	"time"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/coordinator"
	"github.com/glassrunner/glassrunner/internal/event"
)

// Reload reads the configuration file and puts it in force. A file with
// errors changes nothing.
func (a *App) Reload(ctx context.Context) error {
	if a.o.Single != nil {
		return nil // there is no file
	}
	a.reload.Lock()
	defer a.reload.Unlock()
	if a.current.Load().number == 0 {
		return nil // Run puts in force what New has read; the watch sees that the file differs
	}
	c, report, err := a.load()
	if err == nil && report != nil && report.Missing {
		// At the start that is an empty configuration. Now it would take all
		// runners away.
		err = fmt.Errorf("reading the configuration: there is no %s", a.o.ConfigPath)
	}
	if err != nil {
		a.bus.Emit(ctx, event.ConfigLoaded{Path: a.o.ConfigPath, Err: err})
		return err
	}
	return a.applyLocked(ctx, c, report)
}

// apply puts a configuration in force.
func (a *App) apply(ctx context.Context, c *config.Config, r *config.Report) error {
	a.reload.Lock()
	defer a.reload.Unlock()
	return a.applyLocked(ctx, c, r)
}

// applyLocked does first what can fail, then swaps. Running jobs keep the
// generation that they began in.
func (a *App) applyLocked(ctx context.Context, c *config.Config, r *config.Report) error {
	format, err := a.formatted(c)
	if err == nil {
		err = a.setLevel(c)
	}
	if err != nil {
		a.bus.Emit(ctx, event.ConfigLoaded{Path: c.Path, Err: err})
		return err
	}
	a.format.Set(format)
	g := a.generation(c)
	g.number = a.current.Load().number + 1
	loaded := event.ConfigLoaded{
		Path: c.Path, Hash: c.Hash, Generation: g.number, Concurrent: c.Concurrency(), TopProjects: c.TopProjects(), Runners: g.limits(),
	}
	if r != nil {
		loaded.Warnings = len(r.Warnings())
		for _, p := range r.Warnings() {
			a.log.Warn("Doubtful setting in the configuration", "problem", p.String())
		}
	}
	a.current.Store(g)
	a.bus.Emit(ctx, loaded)
	a.startTracing(ctx, c)
	for _, e := range g.entries {
		if e.broken != nil {
			a.bus.Emit(event.WithRunner(ctx, e.runner), event.Degraded{What: event.RunnerEntry, Err: e.broken})
		}
	}
	a.forget(g)
	a.tellCertificates(ctx)
	if g.number > 1 {
		a.scheduler.Apply(a.plan(g))
		a.changeMonitoring(ctx, c)
	}
	return nil
}

// forget drops clients that no entry uses any more.
func (a *App) forget(g *generation) {
	used := map[*coordinator.Client]bool{}
	for _, e := range g.entries {
		used[e.client] = true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for k, c := range a.clients {
		if !used[c] {
			delete(a.clients, k)
		}
	}
}

// watch reloads when the file's content changes.
func (a *App) watch(ctx context.Context) {
	w := config.NewWatcher(a.o.ConfigPath, a.o.WatchInterval, a.current.Load().config.Hash)
	w.Run(ctx, func(string) {
		_ = a.Reload(ctx) // it tells by itself
	})
}

// rotateAfter is the part of a token's life after which it is replaced.
const rotateAfter = 0.75

// rotationCheck is how often due tokens are looked for.
const rotationCheck = time.Minute

// rotate replaces runner tokens before they expire.
func (a *App) rotate(ctx context.Context) {
	for t := time.NewTicker(rotationCheck); ; {
		for _, e := range a.current.Load().entries {
			if e.due(time.Now()) {
				a.rotateOne(ctx, e)
			}
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// due reports whether the token has lived long enough.
func (e *entry) due(now time.Time) bool {
	r := e.config
	if e.client == nil || r.TokenExpiresAt.IsZero() || r.TokenObtainedAt.IsZero() {
		return false
	}
	life := r.TokenExpiresAt.Sub(r.TokenObtainedAt)
	return now.After(r.TokenObtainedAt.Add(time.Duration(rotateAfter * float64(life))))
}

func (a *App) rotateOne(ctx context.Context, e *entry) {
	ctx = event.WithRunner(ctx, e.runner)
	if e.config.FeatureFlags["FF_DISABLE_AUTOMATIC_TOKEN_ROTATION"] {
		a.log.Warn("The runner's token expires soon and its rotation is switched off", "runner", e.runner.Short, "expires", e.config.TokenExpiresAt)
		return
	}
	fresh, err := e.client.ResetToken(ctx)
	if err != nil {
		a.bus.Emit(ctx, event.TokenReset{Err: err})
		return
	}
	// The old token is worthless from here on.
	old := e.config.Token
	n, err := config.UpdateToken(a.o.ConfigPath, func(r *config.Runner) bool { return r.Token == old && r.URL == e.config.URL },
		fresh.Token.Reveal(), time.Now().UTC().Truncate(time.Second), fresh.ExpiresAt)
	if err == nil && n == 0 {
		err = fmt.Errorf("no entry of %s has the token that was replaced", a.o.ConfigPath)
	}
	a.bus.Emit(ctx, event.ConfigSaved{Err: err})
	if err != nil {
		err = fmt.Errorf("the new token could not be saved, register the runner again: %w", err)
	} else {
		err = a.Reload(ctx)
	}
	a.bus.Emit(ctx, event.TokenReset{Err: err})
}
