package archive

import (
	"archive/zip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory that a Zstandard stream may ask for, in bytes.
const maxWindow = 128 << 20

// zipFile is an entry with the name that was judged.
type zipFile struct {
	name string
	file *zip.File
}

// zip extracts a zip archive. All names are judged, and all sizes as the
// directory has them, before anything is written.
func (e *extractor) zip(ctx context.Context, archive io.ReaderAt) error {
	r, err := zip.NewReader(archive, e.length)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // names are judged below
		return fmt.Errorf("reading the archive: %w", err)
	}
	flates := sync.Pool{New: func() any { return flate.NewReader(nil) }}
	r.RegisterDecompressor(zip.Deflate, func(in io.Reader) io.ReadCloser {
		f, _ := flates.Get().(io.ReadCloser)
		if err := f.(flate.Resetter).Reset(in, nil); err != nil {
			return io.NopCloser(failing{err})
		}
		return &pooled{f, &flates}
	})
	r.RegisterDecompressor(methodZstd, func(in io.Reader) io.ReadCloser {
		d, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return io.NopCloser(failing{err})
		}
		return d.IOReadCloser()
	})
	files, err := e.plan(r.File)
	if err != nil {
		return err
	}
	if err := e.zipFiles(ctx, files); err != nil {
		return err
	}
	return e.finish()
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// pooled gives a decompressor back.
type pooled struct {
	io.ReadCloser
	pool *sync.Pool
}

func (p *pooled) Close() error {
	err := p.ReadCloser.Close()
	p.pool.Put(p.ReadCloser)
	return err
}

// plan judges all entries, makes the directories, and returns the files. Of
// several entries with one name the last one counts.
func (e *extractor) plan(entries []*zip.File) ([]zipFile, error) {
	names := make([]string, len(entries))
	last := make(map[string]int, len(entries))
	var packed, content uint64
	for i, f := range entries {
		name, err := e.name(f.Name)
		if err != nil {
			return nil, err
		}
		names[i] = name
		last[name] = i
		if f.CompressedSize64 > math.MaxInt64 || f.UncompressedSize64 > math.MaxInt64 {
			return nil, &UnsafeError{f.Name, "has an impossible size"}
		}
		packed += f.CompressedSize64
		content += f.UncompressedSize64
		if packed > uint64(e.length) {
			return nil, &UnsafeError{f.Name, "shares its content with others: together they are larger than the archive"}
		}
		if content > math.MaxInt64 {
			return nil, &LimitError{"its content is too large"}
		}
		if err := e.allow(int64(content)); err != nil {
			return nil, err
		}
	}
	var files []zipFile
	for i, f := range entries {
		if last[names[i]] != i {
			continue
		}
		if err := e.planOne(names[i], f, &files); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func (e *extractor) planOne(name string, f *zip.File, files *[]zipFile) error {
	switch mode := f.Mode(); {
	case mode.IsDir():
		return e.dir(name, mode, f.Modified, zipOwner(f.Extra))
	case mode&fs.ModeSymlink != 0:
		target, err := readTarget(f)
		if err != nil {
			return err
		}
		return e.link(name, target, zipOwner(f.Extra))
	case !mode.IsRegular():
		e.special(f.Name)
		return nil
	}
	if name == "." {
		return &UnsafeError{f.Name, "is a file in place of the directory"}
	}
	if err := e.parents(name); err != nil {
		return err
	}
	*files = append(*files, zipFile{name, f})
	return nil
}

// zipOwner reads the extra field 0x7875 of Info-ZIP: a version, and a length
// and a number each for user and group.
func zipOwner(extra []byte) ids {
	for len(extra) >= 4 {
		kind, n := binary.LittleEndian.Uint16(extra), int(binary.LittleEndian.Uint16(extra[2:]))
		extra = extra[4:]
		if n > len(extra) {
			break
		}
		if kind == 0x7875 && n == 11 && extra[0] == 1 && extra[1] == 4 && extra[6] == 4 {
			return ids{int(binary.LittleEndian.Uint32(extra[2:])), int(binary.LittleEndian.Uint32(extra[7:])), true}
		}
		extra = extra[n:]
	}
	return ids{}
}

func readTarget(f *zip.File) (string, error) {
	r, err := f.Open()
	if err != nil {
		return "", fmt.Errorf("%s: %w", f.Name, err)
	}
	text, err := io.ReadAll(io.LimitReader(r, 8<<10))
	return string(text), errors.Join(err, r.Close())
}

// zipFiles writes the files, several at a time.
func (e *extractor) zipFiles(ctx context.Context, files []zipFile) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Neighbours are in one directory, which a worker then opens once.
	const run = 16
	next := make(chan []zipFile)
	var work sync.WaitGroup
	for range min(e.o.Workers, len(files)/run+1) {
		work.Go(func() {
			w := zipWorker{e: e, buf: make([]byte, 128<<10)}
			defer w.close()
			for list := range next {
				for _, f := range list {
					if err := w.extract(ctx, f); err != nil {
						cancel(fmt.Errorf("%s: %w", f.file.Name, err))
						break
					}
				}
			}
		})
	}
	for len(files) > 0 {
		n := min(run, len(files))
		if !send(ctx, next, files[:n]) {
			break
		}
		files = files[n:]
	}
	close(next)
	work.Wait()
	return context.Cause(ctx)
}

// zipWorker writes files, one at a time.
type zipWorker struct {
	e   *extractor
	buf []byte
	in  string // the directory of at
	at  *os.Root
}

func (w *zipWorker) close() {
	if w.at != nil {
		_ = w.at.Close() // a directory: nothing is lost
	}
}

func (w *zipWorker) extract(ctx context.Context, f zipFile) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	dir, base := path.Split(f.name)
	dir = path.Clean(dir)
	if w.at == nil || w.in != dir {
		w.close()
		w.at = nil
		at, err := w.e.root.OpenRoot(dir)
		if err != nil {
			return w.e.explain(f.name, err)
		}
		w.at, w.in = at, dir
	}
	r, err := f.file.Open()
	if err != nil {
		return err
	}
	out, err := w.e.create(w.at, base)
	if err != nil {
		return errors.Join(err, r.Close())
	}
	err = w.e.fill(ctx, w.at, base, out, r, meta{f.file.Mode(), f.file.Modified, zipOwner(f.file.Extra)}, w.buf)
	return errors.Join(err, r.Close())
}
