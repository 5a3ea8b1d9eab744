//go:build unix

package cli

import (
	"io"
	"log/syslog"
	"os"
	"os/signal"
	"syscall"
)

func handled() []os.Signal {
	return []os.Signal{syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}
}

func isReload(s os.Signal) bool { return s == syscall.SIGHUP }

// isGraceful tells signals that let running jobs end. On Unix these are the
// same ones from first to last.
func isGraceful(s os.Signal, _ bool) bool { return s == syscall.SIGQUIT }

func systemLog(tag string) (io.Writer, error) {
	return syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, tag)
}

// surviveReaders makes a write to a standard stream that nobody reads any more
// fail instead of ending the process with its jobs. The signal must not be
// ignored: what jobs start would inherit that.
func surviveReaders() (stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGPIPE)
	return func() { signal.Stop(c) }
}
