package helper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/glassrunner/glassrunner/internal/pause"
)

// healthPrefix and the rest of the names of variables that say what to ask:
// WAIT_FOR_SERVICE_TCP_ADDR, and WAIT_FOR_SERVICE_<port>_TCP_PORT per port.
const healthPrefix = "WAIT_FOR_SERVICE_"

// healthEvery is how often a port is tried.
const healthEvery = 50 * time.Millisecond

// healthCheck waits until a service accepts a connection on one of its ports.
// Who calls it bounds the time.
func healthCheck(w World) *cobra.Command {
	return &cobra.Command{
		Use: "health-check", Short: "wait until a service accepts connections",
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := w.start()
			if err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return t.health(ctx)
		},
	}
}

func (t *task) health(ctx context.Context) error {
	address := t.Getenv(healthPrefix + "TCP_ADDR")
	var ports []string
	for _, e := range t.Environ {
		name, port, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, healthPrefix) && strings.HasSuffix(name, "_TCP_PORT") && port != "" && !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	if address == "" || len(ports) == 0 {
		return t.fatal(errors.New("health-check: " + healthPrefix + "TCP_ADDR and a port are not set"))
	}
	ctx, found := context.WithCancel(ctx)
	defer found()
	answered := make(chan string)
	for _, port := range ports {
		go func() {
			if t.answers(ctx, net.JoinHostPort(address, port)) {
				select {
				case answered <- port:
				case <-ctx.Done():
				}
			}
		}()
	}
	select {
	case port := <-answered:
		t.Info(fmt.Sprintf("%s answers on port %s", address, port))
		return nil
	case <-ctx.Done():
		return t.fatal(fmt.Errorf("health-check: %s did not answer on any of the ports %s", address, strings.Join(ports, ", ")))
	}
}

// answers tries an address until it accepts a connection or ctx ends.
func (t *task) answers(ctx context.Context, address string) bool {
	t.Info("waiting for TCP connection to " + address + "...")
	d := net.Dialer{Timeout: time.Second}
	for {
		conn, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			_ = conn.Close() // nothing was sent
			return true
		}
		if pause.For(ctx, healthEvery) != nil {
			return false
		}
	}
}
