package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// WriteOptions say how an archive is written.
type WriteOptions struct {
	Level Level
	// Workers compress; 0: one for each processor.
	Workers int
	// Warn hears what could not be archived, may be nil. It is called by one
	// goroutine at a time.
	Warn func(text string)
	// Extra are files that are not on disk. They come last; only with Zip,
	// ZipZstd and TarZstd.
	Extra []Extra
}

// Extra is a file that is made up.
type Extra struct {
	Path    string
	Content []byte
	Time    time.Time
}

// ErrOneFile says that the raw format holds exactly one file.
var ErrOneFile = errors.New("only one file can be sent as raw")

// Write archives files of dir to w. A file that is gone is left out with a
// warning; any other trouble with one is an error.
func Write(ctx context.Context, w io.Writer, format Format, dir string, files []File, o WriteOptions) error {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	switch format {
	case Zip, ZipZstd, "":
		return writeZip(ctx, w, format == ZipZstd, dir, files, o)
	case TarZstd:
		return writeTar(ctx, w, dir, files, o)
	case Gzip:
		return writeGzip(ctx, w, dir, files, o)
	case Raw:
		return writeRaw(ctx, w, dir, files)
	}
	return fmt.Errorf("unknown archive format %q", format)
}

// open opens what was a regular file when it was selected.
func open(dir string, f File) (*os.File, error) {
	file, err := os.Open(filepath.Join(dir, filepath.FromSlash(f.Path)))
	if err != nil {
		return nil, err
	}
	fi, err := file.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s: is no regular file any more", f.Path)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// reader reads until ctx ends.
type reader struct {
	ctx context.Context //nolint:containedctx // lives as long as one copy
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}

func writeRaw(ctx context.Context, w io.Writer, dir string, files []File) error {
	if len(files) != 1 {
		return ErrOneFile
	}
	if !files[0].Info.Mode().IsRegular() {
		return fmt.Errorf("%s: only regular files can be sent as raw", files[0].Path)
	}
	f, err := open(dir, files[0])
	if err != nil {
		return err
	}
	_, err = io.Copy(w, reader{ctx, f})
	return errors.Join(err, f.Close())
}

// gzipName makes a name fit into a header, which holds Latin-1 only.
func gzipName(name string) string {
	for i := range len(name) {
		if c := name[i]; c >= 0x80 || c < ' ' || c == '%' {
			return "e:" + url.PathEscape(name)
		}
	}
	return name
}

func zstdLevel(l Level) zstd.EncoderLevel {
	switch l {
	case Fastest, Fast:
		return zstd.SpeedFastest
	case Slow:
		return zstd.SpeedBetterCompression
	case Slowest:
		return zstd.SpeedBestCompression
	default:
		return zstd.SpeedDefault
	}
}

func writeTar(ctx context.Context, w io.Writer, dir string, files []File, o WriteOptions) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstdLevel(o.Level)), zstd.WithEncoderConcurrency(o.Workers))
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	for _, f := range files {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		} else {
			err = tarFile(ctx, t, dir, f, o)
		}
		if err != nil {
			return errors.Join(err, z.Close())
		}
	}
	for _, e := range o.Extra {
		h := &tar.Header{Name: e.Path, Mode: 0o644, Size: int64(len(e.Content)), ModTime: e.Time, Typeflag: tar.TypeReg}
		if err := t.WriteHeader(h); err != nil {
			return errors.Join(err, z.Close())
		}
		if _, err := t.Write(e.Content); err != nil {
			return errors.Join(err, z.Close())
		}
	}
	return errors.Join(t.Close(), z.Close())
}

func tarFile(ctx context.Context, t *tar.Writer, dir string, f File, o WriteOptions) error {
	target := ""
	if f.Info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = os.Readlink(filepath.Join(dir, filepath.FromSlash(f.Path))); err != nil {
			return gone(err, f, o)
		}
	}
	h, err := tar.FileInfoHeader(f.Info, filepath.ToSlash(target))
	if err != nil {
		return err
	}
	h.Name, h.Uname, h.Gname = f.Path, "", ""
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
	h.Format = tar.FormatPAX
	if f.Info.IsDir() {
		h.Name += "/"
	}
	if h.Typeflag != tar.TypeReg {
		return t.WriteHeader(h)
	}
	file, err := open(dir, f)
	if err != nil {
		return gone(err, f, o)
	}
	if err := t.WriteHeader(h); err != nil {
		return errors.Join(err, file.Close())
	}
	n, err := io.CopyN(t, reader{ctx, file}, h.Size)
	if errors.Is(err, io.EOF) {
		o.Warn(fmt.Sprintf("%s: became shorter while it was archived", f.Path))
		_, err = io.CopyN(t, zeros{}, h.Size-n)
	}
	return errors.Join(err, file.Close())
}

// zeros is an endless source of what a file lost.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// gone turns the absence of a file into a warning.
func gone(err error, f File, o WriteOptions) error {
	if errors.Is(err, fs.ErrNotExist) {
		o.Warn(f.Path + ": is gone")
		return nil
	}
	return err
}

// size gives a number of bytes as people read it.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	div, exp := int64(unit), 0
	for m := n / unit; m >= unit; m /= unit {
		div *= unit
		exp++
	}
	return strings.Replace(fmt.Sprintf("%.1f %ciB", float64(n)/float64(div), "KMGTPE"[exp]), ".0 ", " ", 1)
}
