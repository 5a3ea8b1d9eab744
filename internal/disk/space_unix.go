//go:build unix

package disk

import (
	"fmt"
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// measure asks the system for the space of a path's file system.
func measure(path string) (Space, error) {
	var s unix.Statfs_t
	for {
		err := unix.Statfs(path, &s)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return Space{}, fmt.Errorf("statfs %s: %w", path, err)
		}
		break
	}
	block := int64(s.Bsize) //nolint:unconvert // other systems have other types
	out := Space{Free: int64(s.Bavail) * block, Size: int64(s.Blocks) * block, FreeInodes: int64(s.Ffree), Inodes: int64(s.Files)}
	if out.Inodes == 0 { // btrfs, for example, makes them as it goes
		out.FreeInodes, out.Inodes = -1, -1
	}
	return out, nil
}

// allocated returns the bytes that a file takes, its number if it has several
// names, and the device that it is on.
func allocated(info fs.FileInfo) (bytes int64, linked, device uint64) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.Size(), 0, 0
	}
	if !info.IsDir() && st.Nlink > 1 {
		linked = st.Ino
	}
	return st.Blocks * 512, linked, uint64(st.Dev) //nolint:unconvert // the types are other systems'
}
