//go:build unix

package config

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// keepOwner gives f the owner of the file that it is going to replace. Only
// root can; for others the file stays theirs.
func keepOwner(f *os.File, old fs.FileInfo) {
	if stat, ok := old.Sys().(*syscall.Stat_t); ok {
		_ = f.Chown(int(stat.Uid), int(stat.Gid))
	}
}

// syncDir makes a rename in the directory durable. File systems that cannot
// do it for directories say so; that is no failure of the rename.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return nil //nolint:nilerr // A directory without read permission cannot be synced.
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, d.Close())
}

// lockDir waits until no other process changes a file of the directory, at
// most for the given time, and returns the function that lets the others go
// on. The lock is on the directory itself, so that no lock file is left over.
func lockDir(dir string, wait time.Duration) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(wait)
	for {
		err = syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = d.Close() }, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case !errors.Is(err, syscall.EWOULDBLOCK):
			// File systems without locks (some network ones) must not keep
			// the file from being written.
			return func() { _ = d.Close() }, nil
		case time.Now().After(deadline):
			_ = d.Close()
			return nil, errLocked
		}
		<-time.After(20 * time.Millisecond)
	}
}
