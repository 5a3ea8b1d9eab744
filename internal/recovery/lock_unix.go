//go:build unix

package recovery

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

var errHeld = errors.New("another process holds the lock")

// lockDir takes the lock of a process's directory, which the kernel drops
// with the process.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		cerr := f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errHeld
		}
		return nil, errors.Join(err, cerr)
	}
	return f, nil
}
