package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/klauspost/compress/zstd"
)

// tar extracts a tar archive in Zstandard, entry by entry.
func (e *extractor) tar(ctx context.Context, archive io.Reader) error {
	z, err := zstd.NewReader(archive, zstd.WithDecoderConcurrency(e.o.Workers), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return fmt.Errorf("reading the archive: %w", err)
	}
	defer z.Close()
	// Headers cost memory and time as well: they count as content.
	t := tar.NewReader(&allowed{e: e, r: z})
	buf := make([]byte, 256<<10)
	files := map[string]bool{}
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return e.finish()
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // names are judged below
			return fmt.Errorf("reading the archive: %w", err)
		}
		if err := e.tarEntry(ctx, t, h, files, buf); err != nil {
			return err
		}
	}
}

// allowed bounds what a decompressor gives, whatever becomes of it.
type allowed struct {
	e     *extractor
	r     io.Reader
	total int64
}

func (a *allowed) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	a.total += int64(n)
	if bad := a.e.allow(a.total); bad != nil {
		return 0, bad
	}
	return n, err
}

func (e *extractor) tarEntry(ctx context.Context, t *tar.Reader, h *tar.Header, files map[string]bool, buf []byte) error {
	name, err := e.name(h.Name)
	if err != nil {
		return err
	}
	mode, who := h.FileInfo().Mode(), ids{h.Uid, h.Gid, true}
	switch h.Typeflag {
	case tar.TypeDir:
		return e.dir(name, mode, h.ModTime, who)
	case tar.TypeSymlink:
		return e.link(name, h.Linkname, who)
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeLink:
	default:
		e.special(h.Name)
		return nil
	}
	if name == "." {
		return &UnsafeError{h.Name, "is a file in place of the directory"}
	}
	if err := e.parents(name); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeLink {
		return e.hardLink(name, h, files)
	}
	f, err := e.create(e.root, name)
	if err != nil {
		return err
	}
	files[name] = true
	if err := e.fill(ctx, e.root, name, f, t, meta{mode, h.ModTime, who}, buf); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	return nil
}

// hardLink gives another name to a file of the same archive, and to no other.
func (e *extractor) hardLink(name string, h *tar.Header, files map[string]bool) error {
	target := path.Clean(h.Linkname)
	if !files[target] {
		return &UnsafeError{h.Name, "is a hard link to something that is not in the archive"}
	}
	if name == target {
		return nil
	}
	if _, err := e.root.Lstat(name); err == nil {
		if err := e.root.Remove(name); err != nil {
			return e.explain(name, err)
		}
	}
	if err := e.root.Link(target, name); err != nil {
		return e.explain(name, err)
	}
	files[name] = true
	return nil
}
