package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Limits bound what an archive may become.
type Limits struct {
	// Bytes is the most that is extracted in all; 0: DefaultBytes.
	Bytes int64
	// Ratio is how many bytes one byte of the archive may become, once more
	// than RatioFrom bytes were extracted; 0: DefaultRatio.
	Ratio int64
	// Entries is how many there may be; 0: DefaultEntries.
	Entries int
}

// Limits that hold unless others are given.
const (
	DefaultBytes   = 1 << 40
	DefaultRatio   = 1100 // deflate itself ends at 1032
	DefaultEntries = 20_000_000
	// RatioFrom is how much is extracted before the ratio counts: many small
	// files are nothing but zeros.
	RatioFrom = 256 << 20
)

// ExtractOptions say how an archive is extracted.
type ExtractOptions struct {
	Limits
	// Workers write files; 0: one for each processor. Only for zip archives.
	Workers int
	// Warn hears of entries that were left out and of those below .git, may
	// be nil. It is called by one goroutine at a time.
	Warn func(text string)
}

// Stats say what was extracted.
type Stats struct {
	Entries int
	Bytes   int64 // of file contents
}

// UnsafeError says that an archive tried to reach beyond its directory, or
// holds what no honest archive does.
type UnsafeError struct{ Entry, Why string }

// Error names the entry and what is wrong with it.
func (e *UnsafeError) Error() string {
	return fmt.Sprintf("unsafe archive: entry %q %s", e.Entry, e.Why)
}

// LimitError says that an archive would become more than it may.
type LimitError struct{ What string }

// Error says which limit it was.
func (e *LimitError) Error() string { return "archive refused: " + e.What }

// ErrNoArchive says that a file has a format that cannot be extracted.
var ErrNoArchive = errors.New("gzip files cannot be extracted, only zip and tar.zst archives can")

// Extract unpacks an archive of length bytes into the existing directory dir.
// Files that are there are replaced, never written through. After an error
// some files may have been extracted.
func Extract(ctx context.Context, archive io.ReaderAt, length int64, dir string, o ExtractOptions) (Stats, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Stats{}, err
	}
	defer func() { _ = root.Close() }() // a directory: nothing is lost
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	if o.Bytes <= 0 {
		o.Bytes = DefaultBytes
	}
	if o.Ratio <= 0 {
		o.Ratio = DefaultRatio
	}
	if o.Entries <= 0 {
		o.Entries = DefaultEntries
	}
	e := &extractor{root: root, o: o, length: length, made: map[string]bool{".": true}, chown: os.Geteuid() == 0}
	head := make([]byte, 4)
	n, err := archive.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return Stats{}, err
	}
	switch sniff(head[:n]) {
	case TarZstd:
		err = e.tar(ctx, io.NewSectionReader(archive, 0, length))
	case Gzip:
		err = ErrNoArchive
	default:
		err = e.zip(ctx, archive)
	}
	return Stats{Entries: e.entries, Bytes: e.written.Load()}, err
}

type extractor struct {
	root    *os.Root
	o       ExtractOptions
	length  int64 // of the archive
	entries int
	written atomic.Int64
	made    map[string]bool // directories that are there
	dirs    []madeDir       // whose mode and time come last
	links   []link
	git     bool // the warning was given
	chown   bool // this process may give files away
}

type madeDir struct {
	name string
	mode fs.FileMode
	time time.Time
	who  ids
}

type link struct {
	name, target string
	who          ids
}

// ids are whose an entry was. In a container root extracts what a user of the
// job's image may have archived, and has to be able to write again.
type ids struct {
	uid, gid int
	known    bool
}

// permissions are what an archive may decide: not who a program runs as.
const permissions = fs.ModePerm

// name judges an entry's name and returns it clean. "." is the directory
// itself.
func (e *extractor) name(raw string) (string, error) {
	e.entries++
	if e.entries > e.o.Entries {
		return "", &LimitError{fmt.Sprintf("it has more than %d entries", e.o.Entries)}
	}
	name := raw
	if filepath.Separator == '\\' {
		name = strings.ReplaceAll(name, `\`, "/")
	}
	switch {
	case name == "":
		return "", &UnsafeError{raw, "has no name"}
	case strings.IndexByte(name, 0) >= 0:
		return "", &UnsafeError{raw, "has a zero byte in its name"}
	case strings.HasPrefix(name, "/"):
		return "", &UnsafeError{raw, "has an absolute name"}
	case slices.Contains(strings.Split(name, "/"), ".."):
		return "", &UnsafeError{raw, "leads out of its directory"}
	}
	name = path.Clean(name)
	// Drive letters and devices, where the system knows such.
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return "", &UnsafeError{raw, "has a name that is not local"}
	}
	if top, _, _ := strings.Cut(name, "/"); strings.EqualFold(top, ".git") && !e.git {
		e.git = true
		e.o.Warn(fmt.Sprintf("the archive writes into the repository's own directory: %s", raw))
	}
	return name, nil
}

// parents makes the directories above name.
func (e *extractor) parents(name string) error { return e.mkdir(path.Dir(name)) }

// mkdir makes a directory and those above it.
func (e *extractor) mkdir(name string) error {
	if e.made[name] {
		return nil
	}
	if err := e.parents(name); err != nil {
		return err
	}
	err := e.root.Mkdir(name, 0o777)
	if errors.Is(err, fs.ErrExist) {
		var fi fs.FileInfo
		// A link that was here before is followed, within the root.
		fi, err = e.root.Stat(name)
		switch {
		case err != nil:
		case !fi.IsDir():
			if err = e.root.Remove(name); err == nil {
				err = e.root.Mkdir(name, 0o777)
			}
		case fi.Mode()&0o300 != 0o300:
			// Read-only, as an earlier extraction left it.
			if e.root.Chmod(name, fi.Mode()&permissions|0o700) == nil {
				e.dirs = append(e.dirs, madeDir{name, fi.Mode() & permissions, fi.ModTime(), ids{}})
			}
		}
	}
	if err != nil {
		return e.explain(name, err)
	}
	e.made[name] = true
	return nil
}

// explain names what os.Root refuses.
func (e *extractor) explain(name string, err error) error {
	if err != nil && strings.Contains(err.Error(), "path escapes from parent") {
		return &UnsafeError{name, "leads out of its directory through a link that is there"}
	}
	return err
}

// dir makes a directory that has an entry of its own.
func (e *extractor) dir(name string, mode fs.FileMode, at time.Time, who ids) error {
	if name == "." {
		return nil
	}
	if err := e.mkdir(name); err != nil {
		return err
	}
	e.dirs = append(e.dirs, madeDir{name, mode & permissions, at, who})
	return nil
}

// create opens a new file below root in place of what is there.
func (e *extractor) create(root *os.Root, name string) (*os.File, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	f, err := root.OpenFile(name, flags, 0o600)
	if errors.Is(err, fs.ErrExist) {
		if err = root.Remove(name); err == nil {
			f, err = root.OpenFile(name, flags, 0o600)
		}
	}
	return f, e.explain(name, err)
}

// meta is what an entry says of a file besides its content.
type meta struct {
	mode fs.FileMode
	time time.Time
	who  ids
}

// fill writes a file's content, owner, mode and time, and closes it.
func (e *extractor) fill(ctx context.Context, root *os.Root, name string, f *os.File, r io.Reader, m meta, buf []byte) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{&meter{e, f}}, struct{ io.Reader }{reader{ctx, r}}, buf)
	if err == nil {
		e.give(m.who, f.Chown)
		err = f.Chmod(m.mode & permissions)
	}
	err = errors.Join(err, f.Close())
	if err == nil && !m.time.IsZero() {
		err = root.Chtimes(name, m.time, m.time)
	}
	return err
}

// give gives something to its owner where that may be done. A container or a
// file system may know too few users for it: then it stays whose it is.
func (e *extractor) give(who ids, chown func(uid, gid int) error) {
	if e.chown && who.known {
		_ = chown(who.uid, who.gid) // see above
	}
}

// meter counts what is written, of all files together.
type meter struct {
	e *extractor
	w io.Writer
}

func (m *meter) Write(p []byte) (int, error) {
	if err := m.e.allow(m.e.written.Add(int64(len(p)))); err != nil {
		return 0, err
	}
	return m.w.Write(p)
}

// allow judges a number of bytes.
func (e *extractor) allow(total int64) error {
	switch {
	case total > e.o.Bytes:
		return &LimitError{fmt.Sprintf("its content is larger than %s", size(e.o.Bytes))}
	case total > RatioFrom && total/e.o.Ratio > e.length:
		return &LimitError{fmt.Sprintf("its content is more than %d times as large as the archive", e.o.Ratio)}
	}
	return nil
}

// link remembers a symbolic link. Its target is kept as it is: nothing here
// follows it.
func (e *extractor) link(name, target string, who ids) error {
	switch {
	case name == ".":
		return &UnsafeError{name, "is a link in place of the directory"}
	case target == "" || len(target) > 4096 || strings.IndexByte(target, 0) >= 0:
		return &UnsafeError{name, "is a link without a usable target"}
	}
	e.links = append(e.links, link{name, target, who})
	return nil
}

// finish makes the links, and gives directories the modes with which nothing
// might have been written into them.
func (e *extractor) finish() error {
	for _, l := range e.links {
		if err := e.symlink(l); err != nil {
			return err
		}
	}
	// The deepest first: a directory's time changes with what is in it.
	for _, d := range slices.Backward(e.dirs) {
		if fi, err := e.root.Lstat(d.name); err != nil || !fi.IsDir() {
			continue // a link that was here before
		}
		e.give(d.who, func(uid, gid int) error { return e.root.Chown(d.name, uid, gid) })
		if !d.time.IsZero() {
			if err := e.root.Chtimes(d.name, d.time, d.time); err != nil {
				return e.explain(d.name, err)
			}
		}
		if err := e.root.Chmod(d.name, d.mode); err != nil {
			return e.explain(d.name, err)
		}
	}
	return nil
}

func (e *extractor) symlink(l link) error {
	if err := e.parents(l.name); err != nil {
		return err
	}
	if fi, err := e.root.Lstat(l.name); err == nil {
		if fi.IsDir() && e.made[l.name] {
			return &UnsafeError{l.name, "is both a link and a directory"}
		}
		if err := e.root.Remove(l.name); err != nil {
			return e.explain(l.name, err)
		}
	}
	if err := e.root.Symlink(l.target, l.name); err != nil {
		return e.explain(l.name, err)
	}
	e.give(l.who, func(uid, gid int) error { return e.root.Lchown(l.name, uid, gid) })
	return nil
}

// special tells of an entry that is neither file, directory nor link.
func (e *extractor) special(raw string) {
	e.o.Warn(raw + ": sockets, pipes and devices are left out")
}
