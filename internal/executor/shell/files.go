package shell

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/glassrunner/glassrunner/internal/executor"
)

// files carries out file operations below a job's directories. A symbolic
// link that a job left there cannot lead out of them.
type files struct {
	roots []root
	owner *owner
	near  root // the directory of the last operation, while all runs
}

type root struct {
	dir string
	*os.Root
}

// openFiles makes the directories that hold all of a job's files.
func openFiles(d executor.Dirs, own *owner) (*files, error) {
	f := &files{owner: own}
	dirs := []string{d.Builds}
	if !within(d.Builds, d.Temp) { // a project that is the root itself
		dirs = append(dirs, d.Temp)
	}
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		if err := f.add(filepath.FromSlash(dir)); err != nil {
			return nil, errors.Join(err, f.close())
		}
	}
	return f, nil
}

func within(root, p string) bool {
	rel, err := filepath.Rel(filepath.FromSlash(root), filepath.FromSlash(p))
	return err == nil && filepath.IsLocal(rel)
}

func (f *files) add(dir string) error {
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("the directory %q of the job is not absolute", dir)
	}
	r, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := f.makeRoot(dir); err != nil {
			return err
		}
		r, err = os.OpenRoot(dir)
	}
	if err != nil {
		return err
	}
	f.roots = append(f.roots, root{dir, r})
	return nil
}

// makeRoot makes a directory with its parents; what it makes is the job's.
func (f *files) makeRoot(dir string) error {
	var made []string
	for p := dir; ; p = filepath.Dir(p) {
		if _, err := os.Stat(p); err == nil || p == filepath.Dir(p) {
			break
		}
		made = append(made, p)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if f.owner == nil {
		return nil
	}
	for _, p := range made {
		if err := os.Lchown(p, f.owner.uid, f.owner.gid); err != nil {
			return err
		}
	}
	return nil
}

func (f *files) close() error {
	var errs []error
	for _, r := range f.roots {
		errs = append(errs, r.Close())
	}
	f.roots = nil
	return errors.Join(errs...)
}

// find returns the root of a path and the path within it.
func (f *files) find(p string) (root, string, error) {
	p = filepath.FromSlash(p)
	for _, r := range f.roots {
		if rel, err := filepath.Rel(r.dir, p); err == nil && filepath.IsLocal(rel) {
			return r, rel, nil
		}
	}
	return root{}, "", fmt.Errorf("%s is not below the job's directories", p)
}

// all carries out operations in order, up to the first that fails.
func (f *files) all(ops []executor.FileOp) error {
	defer f.leave()
	for _, op := range ops {
		if err := f.do(op); err != nil {
			return err
		}
	}
	return nil
}

// enter opens a directory within a root and keeps it for the next operation:
// most of them are in the same one, and each would walk the way to it. It is
// false when the directory cannot be opened.
func (f *files) enter(r root, dir string) bool {
	full := filepath.Join(r.dir, dir)
	if f.near.Root != nil && f.near.dir == full {
		return true
	}
	f.leave()
	sub, err := r.OpenRoot(dir)
	if err != nil {
		return false
	}
	f.near = root{full, sub}
	return true
}

func (f *files) leave() {
	if f.near.Root != nil {
		_ = f.near.Close() // nothing was written through it
	}
	f.near = root{}
}

func (f *files) do(op executor.FileOp) error {
	r, p, err := f.find(op.Path)
	if err != nil {
		return err
	}
	if op.Kind == executor.OpRemove && within(op.Path, f.near.dir) {
		f.leave()
	}
	if op.Kind == executor.OpMkdir && p != "." && f.enter(r, p) {
		return nil // it is there, and what follows is done in it
	}
	if op.Kind == executor.OpWrite || op.Kind == executor.OpTouch || op.Kind == executor.OpRemove {
		if dir := filepath.Dir(p); dir != "." && f.enter(r, dir) {
			r, p = f.near, filepath.Base(p)
		}
	}
	switch op.Kind {
	case executor.OpMkdir:
		err = f.mkdir(r, p, mode(op.Mode, 0o700))
	case executor.OpWrite:
		err = f.write(r, p, op.Data, mode(op.Mode, 0o600))
	case executor.OpTouch:
		err = f.touch(r, p, mode(op.Mode, 0o600))
	case executor.OpRemove:
		err = remove(r, p)
	case executor.OpSweep:
		err = sweep(r, p, op.Names)
	default:
		err = fmt.Errorf("there is no file operation %d", op.Kind)
	}
	if err != nil {
		return fmt.Errorf("preparing the job's file %s: %w", op.Path, err)
	}
	return nil
}

func mode(m, def fs.FileMode) fs.FileMode {
	if m == 0 {
		return def
	}
	return m.Perm()
}

func (f *files) mkdir(r root, p string, m fs.FileMode) error {
	// Each level by itself, so that each that is new gets its owner.
	parts := strings.Split(p, string(filepath.Separator))
	for i := range parts {
		dir := filepath.Join(parts[:i+1]...)
		switch err := r.Mkdir(dir, m); {
		case err == nil:
			if f.owner != nil {
				if err := r.Lchown(dir, f.owner.uid, f.owner.gid); err != nil {
					return err
				}
			}
		case !errors.Is(err, fs.ErrExist):
			return err
		case i == len(parts)-1:
			if info, err := r.Stat(dir); err != nil || !info.IsDir() {
				return errors.Join(fmt.Errorf("%s is in the way of a directory", dir), err)
			}
		}
	}
	return nil
}

func (f *files) write(r root, p string, data []byte, m fs.FileMode) error {
	if err := remove(r, p); err != nil {
		return err
	}
	file, err := f.create(r, p, m)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Close())
}

// create makes a file that was not there, so it is no link either.
func (f *files) create(r root, p string, m fs.FileMode) (*os.File, error) {
	file, err := r.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, m)
	if err != nil || f.owner == nil {
		return file, err
	}
	if err := file.Chown(f.owner.uid, f.owner.gid); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func (f *files) touch(r root, p string, m fs.FileMode) error {
	file, err := f.create(r, p, m)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return err
	}
	return file.Close()
}

// remove removes a file or a directory, also one whose owner may not write
// to it as it is.
func remove(r root, p string) error {
	if p == "." {
		return empty(r)
	}
	err := r.RemoveAll(p)
	if err == nil || gone(err) {
		return nil
	}
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	unlock(r, p)
	return r.RemoveAll(p)
}

// gone reports whether there is nothing at a path, nor can be.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || notDir(err) }

// unlock lets the owner of directories change them. What cannot be unlocked
// is told by the removal that follows.
func unlock(r root, p string) {
	info, err := r.Lstat(p)
	if err != nil || !info.IsDir() {
		return
	}
	if info.Mode().Perm()&0o700 != 0o700 {
		if err := r.Chmod(p, info.Mode().Perm()|0o700); err != nil {
			return
		}
	}
	for _, e := range list(r, p) {
		if e.IsDir() {
			unlock(r, filepath.Join(p, e.Name()))
		}
	}
}

// empty removes all that is in a root.
func empty(r root) error {
	var errs []error
	for _, e := range list(r, ".") {
		errs = append(errs, remove(r, e.Name()))
	}
	return errors.Join(errs...)
}

// list returns what a directory holds, nothing when it cannot be read.
func list(r root, p string) []fs.DirEntry {
	d, err := r.Open(p)
	if err != nil {
		return nil
	}
	entries, _ := d.ReadDir(-1)
	_ = d.Close() // it was only read
	return entries
}

// sweep removes the files below p whose names match.
func sweep(r root, p string, names []string) error {
	info, err := r.Lstat(p)
	switch {
	case err != nil && gone(err), err == nil && !info.IsDir():
		return nil
	case err != nil:
		return err
	}
	var errs []error
	for _, e := range list(r, p) {
		at := filepath.Join(p, e.Name())
		switch {
		case e.IsDir():
			errs = append(errs, sweep(r, at, names))
		case slices.ContainsFunc(names, func(n string) bool { ok, _ := path.Match(n, e.Name()); return ok }):
			if err := r.Remove(at); err != nil && !gone(err) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
