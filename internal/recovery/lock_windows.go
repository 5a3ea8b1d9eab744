package recovery

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

var errHeld = errors.New("another process holds the lock")

// lockDir takes the lock of a process's directory, which the system drops
// with the process.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return nil, err
	}
	flags := uint32(windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY)
	if err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, new(windows.Overlapped)); err != nil {
		cerr := f.Close()
		if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
			return nil, errHeld
		}
		return nil, errors.Join(err, cerr)
	}
	return f, nil
}
