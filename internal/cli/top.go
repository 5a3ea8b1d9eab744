package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/top"
)

func (c *command) top() *cobra.Command {
	var s top.Source
	var passwordFile string
	interval := 2 * time.Second
	cmd := &cobra.Command{
		Use:     "top",
		Short:   "Show what a running runner does",
		GroupID: "look",
		Long: `Show runners, running jobs and the last results of a runner that runs, from
the JSON API of its monitoring server. On a terminal the picture is kept up to
date; in a pipe it is printed once, without colours.

Keys: q quits, s and the left and right arrows sort the running jobs, r
reverses, the up and down arrows, j, k and the page keys scroll.`,
		Example: `  glassrunner top
  glassrunner top --url https://runner.example.com:9252 --username ops --password-file pw
  glassrunner top | head -n 20`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval < 100*time.Millisecond {
				return &usageError{errors.New("--interval: want at least 100ms")}
			}
			if s.URL == "" {
				s.URL = c.monitoringURL()
			}
			if passwordFile != "" {
				text, err := os.ReadFile(passwordFile)
				if err != nil {
					return fmt.Errorf("--password-file: %w", err)
				}
				s.Password = strings.TrimRight(string(text), "\r\n")
			}
			client, err := top.NewClient(s)
			if err != nil {
				return fmt.Errorf("top: %w", err)
			}
			ctx, stop := c.interruptible(cmd.Context(), "")
			defer stop()
			o := top.Options{Client: client, Interval: interval, Out: c.Out}
			if c.Terminal {
				return c.live(ctx, o)
			}
			return top.Run(ctx, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.URL, "url", "", "`address` of the monitoring server; without it that of the configuration, or http://localhost:9252")
	f.DurationVar(&interval, "interval", interval, "`time` between two looks")
	f.StringVar(&s.Username, "username", "", "`name` for a server that asks for one")
	f.StringVar(&passwordFile, "password-file", "", "`file` with the password and nothing else")
	f.StringVar(&s.CAFile, "tls-ca-file", "", "`file` with the authority of the server's certificate")
	f.StringVar(&s.CertFile, "tls-cert-file", "", "`file` with a certificate of this client")
	f.StringVar(&s.KeyFile, "tls-key-file", "", "`file` with the key of --tls-cert-file")
	return cmd
}

// monitoringURL is where a runner with this configuration listens, as far as
// that can be told.
func (c *command) monitoringURL() string {
	host, port := "localhost", strconv.Itoa(config.DefaultListenPort)
	if cfg, _, err := config.Load(c.configPath, config.Options{}); err == nil && cfg.ListenAddress != "" {
		if a, err := config.Listen(cfg.ListenAddress); err == nil && a.Port != 0 {
			port = strconv.Itoa(a.Port)
			if ip := net.ParseIP(a.Host); a.Host != "" && (ip == nil || !ip.IsUnspecified()) {
				host = a.Host
			}
		}
	}
	return "http://" + net.JoinHostPort(host, port)
}

// live shows it on the terminal, with keys as they are pressed.
func (c *command) live(ctx context.Context, o top.Options) (err error) {
	fd := int(os.Stdin.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return fmt.Errorf("top: the terminal cannot be used: %w", err)
	}
	defer func() { err = errors.Join(err, term.Restore(fd, before)) }()
	o.Color = c.Getenv("NO_COLOR") == ""
	o.Terminal = terminal{}
	return top.Run(ctx, o)
}

// terminal is the process's own.
type terminal struct{}

// Size returns what the terminal says, 80 by 24 when it does not.
func (terminal) Size() (columns, rows int) {
	columns, rows, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil || columns < 1 || rows < 1 {
		return 80, 24
	}
	return columns, rows
}

// Keys reads the terminal by a file of its own, whose reads can be ended.
func (terminal) Keys(ctx context.Context) <-chan []byte {
	keys := make(chan []byte)
	tty, err := openKeys()
	if err != nil {
		close(keys)
		return keys
	}
	if tty.SetReadDeadline(time.Time{}) != nil {
		return orphaned(ctx, tty)
	}
	undo := context.AfterFunc(ctx, func() { _ = tty.SetReadDeadline(time.Unix(1, 0)) })
	go func() {
		defer close(keys)
		defer func() { undo(); _ = tty.Close() }()
		forward(ctx, tty, keys)
	}()
	return keys
}

// orphaned is Keys where a read cannot be ended: its goroutine ends with the
// process, which has nothing else to do any more.
func orphaned(ctx context.Context, tty *os.File) <-chan []byte {
	inner, keys := make(chan []byte), make(chan []byte)
	go forward(ctx, tty, inner)
	go func() {
		defer close(keys)
		for {
			select {
			case k := <-inner:
				select {
				case keys <- k:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return keys
}

// forward sends what is read until reading or ctx ends.
func forward(ctx context.Context, tty *os.File, keys chan<- []byte) {
	for {
		b := make([]byte, 64)
		n, err := tty.Read(b)
		if err != nil {
			return
		}
		select {
		case keys <- b[:n]:
		case <-ctx.Done():
			return
		}
	}
}
