package app

import (
	"context"
	"fmt"

	"github.com/glassrunner/glassrunner/internal/config"
)

// startMonitoring opens the monitoring server if an address is set. That it
// cannot is an error now, and never again later: once jobs run, no failure of
// the server may touch them.
func (a *App) startMonitoring(ctx context.Context, c *config.Config) (stop func(), err error) {
	addr, err := a.address(c)
	if err != nil {
		return nil, err
	}
	if addr == "" {
		a.log.Info("listen_address not defined, metrics & debug endpoints disabled")
		return func() { a.admin.Close() }, nil
	}
	if err := a.admin.Listen(ctx, addr); err != nil {
		return nil, fmt.Errorf("metrics server: %w", err)
	}
	return func() { a.admin.Close() }, nil
}

// address is host:port of the monitoring server, "" for none.
func (a *App) address(c *config.Config) (string, error) {
	text := a.o.ListenAddress
	if text == "" {
		text = c.ListenAddress
	}
	if text == "" {
		return "", nil
	}
	addr, err := config.Listen(text)
	if err != nil {
		return "", err
	}
	return addr.String(), nil
}

// rebind follows a changed listen_address. A failure keeps the old listener.
func (a *App) rebind(ctx context.Context, c *config.Config) {
	addr, err := a.address(c)
	if err != nil {
		a.log.Error("listen_address stays as it was", "error", err)
		return
	}
	_ = a.admin.Rebind(ctx, addr) // the server tells of it
}
