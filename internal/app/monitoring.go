package app

import (
	"context"
	"fmt"
	"time"

	"github.com/glassrunner/glassrunner/internal/admin"
	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/observe/history"
)

// startMonitoring opens the monitoring server if an address is set. That it
// cannot is an error now, and never again later: once jobs run, no failure of
// the server may touch them.
func (a *App) startMonitoring(ctx context.Context, c *config.Config) (stop func(), err error) {
	s, err := a.monitoring(c)
	if err != nil {
		return nil, err
	}
	if s.Address == "" && s.DebugAddress == "" {
		a.log.Info("listen_address not defined, metrics & debug endpoints disabled")
		return a.admin.Close, nil
	}
	if err := a.admin.Listen(ctx, s); err != nil {
		a.admin.Close()
		return nil, fmt.Errorf("metrics server: %w", err)
	}
	return a.admin.Close, nil
}

// monitoring is what a configuration and the command line say of the
// monitoring server.
func (a *App) monitoring(c *config.Config) (admin.Settings, error) {
	s := admin.Settings{WebConfigFile: a.o.WebConfigFile}
	if s.WebConfigFile == "" {
		s.WebConfigFile = c.WebConfigPath()
	}
	text := a.o.ListenAddress
	if text == "" {
		text = c.ListenAddress
	}
	var err error
	if s.Address, err = hostPort(text); err != nil {
		return s, err
	}
	m := c.Monitoring
	s.HidePprof, s.HideStatusPage = !m.ServePprof(), !m.ServeStatusPage()
	if m != nil {
		s.LogTail = m.LogTail
		s.DebugAddress, err = hostPort(m.DebugListenAddress)
	}
	return s, err
}

// hostPort is host:port of a listen address, "" for none.
func hostPort(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	addr, err := config.Listen(text)
	if err != nil {
		return "", err
	}
	return addr.String(), nil
}

// changeMonitoring follows a changed configuration. What fails stays as it was.
func (a *App) changeMonitoring(ctx context.Context, c *config.Config) {
	s, err := a.monitoring(c)
	if err != nil {
		a.log.Error("The monitoring server stays as it was", "error", err)
		return
	}
	_ = a.admin.Apply(ctx, s) // the server tells of it
}

// sampleEvery is how often the history gets to know the present.
const sampleEvery = 5 * time.Second

// sample keeps the history of the present.
func (a *App) sample(ctx context.Context) {
	t := time.NewTicker(sampleEvery)
	defer t.Stop()
	for {
		now := time.Now()
		snap := a.board.Present()
		g := history.Gauges{Running: len(snap.Jobs), Slots: snap.Slots}
		for i := range snap.Jobs {
			if since := snap.Jobs[i].UnsentSince; !since.IsZero() {
				g.Lag = max(g.Lag, now.Sub(since))
			}
		}
		a.history.Sample(now, g)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
