package app

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/observe/traces"
)

// flushTimeout bounds how long the end of tracing, at a shutdown or when its
// settings change, waits for a receiver.
const flushTimeout = 5 * time.Second

// startTracing puts a configuration's tracing in force. Without traces jobs
// still run, so a failure is told and costs nothing else.
func (a *App) startTracing(ctx context.Context, c *config.Config) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	var s traces.Settings
	if t := c.Tracing; t != nil {
		s = traces.Settings{
			Enabled: t.Enabled, Endpoint: t.Endpoint, Insecure: t.Insecure, Protocol: t.Protocol, Headers: t.Headers,
			CAFile: t.TLSCAFile, CertFile: t.TLSCertFile, KeyFile: t.TLSKeyFile, SampleRatio: t.SampleRatio, Metrics: t.Metrics,
		}
	}
	if err := a.traces.Apply(ctx, s); err != nil {
		a.bus.Emit(ctx, event.Degraded{What: "tracing_settings", Err: err})
	}
}

// stopTracing sends what is left.
func (a *App) stopTracing(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if err := a.traces.Close(ctx); err != nil {
		a.tracingFailed(err)
	}
}

// tracingFailed is told of what could not be delivered.
func (a *App) tracingFailed(err error) {
	a.bus.Emit(context.Background(), event.Degraded{What: "tracing_export", Err: err})
}

// jobEnviron is the environment that jobs of the shell executor inherit: the
// process's own without the headers that it authenticates to a collector with.
func jobEnviron() []string {
	return slices.DeleteFunc(os.Environ(), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return strings.HasPrefix(name, "OTEL_EXPORTER_OTLP_") && strings.HasSuffix(name, "HEADERS")
	})
}
