//go:build unix

package cli

import (
	"io"
	"log/syslog"
	"os"
	"syscall"
)

func handled() []os.Signal {
	return []os.Signal{syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}
}

func isReload(s os.Signal) bool { return s == syscall.SIGHUP }

func isGraceful(s os.Signal) bool { return s == syscall.SIGQUIT }

func systemLog(tag string) (io.Writer, error) {
	return syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, tag)
}
