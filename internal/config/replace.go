package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// replaceFile gives the file a new content in one step: whoever reads it sees
// the old content or the new one. A symbolic link stays, its target is
// replaced. An existing file keeps its mode and, as far as permitted, its
// owner; a new one has mode 0600.
//
// Where a file cannot be replaced (a single file mounted into a container, or
// a directory without write permission) it is overwritten in place, which is
// not atomic.
func replaceFile(path string, content []byte, rename func(from, to string) error) error {
	target, err := resolveLink(path)
	if err != nil {
		return err
	}
	mode := fs.FileMode(0o600)
	old, err := os.Stat(target)
	switch {
	case err == nil:
		mode = old.Mode().Perm()
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	temp, err := writeTemp(target, content, mode, old)
	if err != nil {
		if old != nil && errors.Is(err, fs.ErrPermission) {
			return overwrite(target, content)
		}
		return err
	}
	if err := rename(temp, target); err != nil {
		_ = os.Remove(temp)
		if old != nil && (errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EXDEV)) {
			return overwrite(target, content)
		}
		return err
	}
	return syncDir(filepath.Dir(target))
}

// writeTemp writes the content to a new file beside target and returns its
// path. The content is on disk when it returns.
func writeTemp(target string, content []byte, mode fs.FileMode, old fs.FileInfo) (path string, err error) {
	f, err := os.CreateTemp(filepath.Dir(target), "."+filepath.Base(target)+".*")
	if err != nil {
		return "", err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if old != nil {
		keepOwner(f, old)
	}
	if err := f.Chmod(mode); err != nil {
		return "", err
	}
	if _, err := f.Write(content); err != nil {
		return "", err
	}
	return f.Name(), f.Sync()
}

func overwrite(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// resolveLink returns the file that path leads to, which need not exist.
func resolveLink(path string) (string, error) {
	const most = 40
	for range most {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode()&fs.ModeSymlink == 0 {
			return path, nil
		}
		if err != nil {
			return "", err
		}
		link, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(link) {
			link = filepath.Join(filepath.Dir(path), link)
		}
		path = link
	}
	return "", fmt.Errorf("%s: too many symbolic links", path)
}
