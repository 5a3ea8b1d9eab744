package cli

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// handled are Ctrl-C and Ctrl-Break, and what Go makes of a console or a
// session that closes.
func handled() []os.Signal { return []os.Signal{os.Interrupt, syscall.SIGTERM} }

func isReload(os.Signal) bool { return false }

// isGraceful tells signals that let running jobs end: on Windows, which has
// but one key for it, the first one does and the next one does not.
func isGraceful(s os.Signal, draining bool) bool { return s == os.Interrupt && !draining }

func systemLog(string) (io.Writer, error) {
	return nil, errors.New("there is no system logger on this system")
}

// surviveReaders has nothing to do: no signal comes from such a write.
func surviveReaders() (stop func()) { return func() {} }
