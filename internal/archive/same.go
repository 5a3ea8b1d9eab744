package archive

import (
	"archive/zip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrUnknown says that an archive cannot be compared with files.
var ErrUnknown = errors.New("only zip archives can be compared")

// Same reports whether a zip archive holds just these files of dir, by their
// names, modes, sizes and times (to the second), without reading them. The
// times of directories and links do not count: extraction changes them.
func Same(archive io.ReaderAt, length int64, dir string, files []File) (bool, error) {
	head := make([]byte, 4)
	if n, err := archive.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	} else if sniff(head[:n]) != Zip {
		return false, ErrUnknown
	}
	r, err := zip.NewReader(archive, length)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return false, err
	}
	if len(r.File) != len(files) {
		return false, nil
	}
	byName := make(map[string]*zip.File, len(r.File))
	for _, f := range r.File {
		byName[strings.TrimSuffix(f.Name, "/")] = f
	}
	for _, f := range files {
		z := byName[f.Path]
		if z == nil || !same(z, dir, f) {
			return false, nil
		}
	}
	return true, nil
}

func same(z *zip.File, dir string, f File) bool {
	mode := f.Info.Mode()
	if z.Mode().Type() != mode.Type() {
		return false
	}
	switch {
	case mode&fs.ModeSymlink != 0:
		target, err := os.Readlink(filepath.Join(dir, filepath.FromSlash(f.Path)))
		if err != nil {
			return false
		}
		old, err := readTarget(z)
		return err == nil && old == filepath.ToSlash(target)
	case z.Mode().Perm() != mode.Perm():
		return false
	case mode.IsDir():
		return true
	}
	return z.UncompressedSize64 == uint64(f.Info.Size()) && z.Modified.Unix() == f.Info.ModTime().Unix()
}
