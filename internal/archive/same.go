package archive

import (
	"archive/zip"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// ErrUnknown says that an archive cannot be compared with files.
var ErrUnknown = errors.New("only zip archives can be compared")

// Same reports whether a zip archive holds just these files of dir, by their
// names, modes, sizes and times. The times of directories and links do not
// count: extraction changes them.
//
// An archive has times in seconds. A file that was archived and changed within
// one second keeps its time, and may keep its size. The archive was made in
// that second then, and no file in it can be newer: so just the files whose time
// is the newest in the archive are read and compared by their checksums.
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
	newest := int64(math.MinInt64)
	for _, f := range r.File {
		byName[strings.TrimSuffix(f.Name, "/")] = f
		if f.Mode().IsRegular() {
			newest = max(newest, f.Modified.Unix())
		}
	}
	var read []File
	for _, f := range files {
		z := byName[f.Path]
		if z == nil || !same(z, dir, f) {
			return false, nil
		}
		if z.Mode().IsRegular() && z.Modified.Unix() == newest {
			read = append(read, f)
		}
	}
	for _, f := range read { // last: it is what takes time
		sum, err := checksum(filepath.Join(dir, filepath.FromSlash(f.Path)))
		if err != nil || sum != byName[f.Path].CRC32 {
			return false, nil //nolint:nilerr // what cannot be read is not known to be the same
		}
	}
	return true, nil
}

// checksum is the one that zip archives have of a file.
func checksum(path string) (uint32, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // it was only read
	sum := crc32.NewIEEE()
	if _, err := io.Copy(sum, f); err != nil {
		return 0, err
	}
	return sum.Sum32(), nil
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
