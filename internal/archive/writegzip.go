package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"path"
	"time"
)

// writeGzip writes a gzip member (RFC 1952) for each file. The blocks of one
// are compressed on all processors, as those of a zip archive are.
func writeGzip(ctx context.Context, w io.Writer, dir string, files []File, o WriteOptions) error {
	for _, f := range files {
		if !f.Info.Mode().IsRegular() {
			return fmt.Errorf("%s: only regular files can be sent as gzip", f.Path)
		}
	}
	o.Extra = nil
	z := newZipWriter(dir, o)
	z.always = true
	z.level = max(z.level, 1) // there are no members that are only stored
	next := 0
	return z.run(ctx, files, func(it *item) error {
		f := files[next]
		next++
		if it.err != nil {
			return it.err
		}
		return z.putMember(w, it, f)
	})
}

// putMember writes what a file became.
func (z *zipWriter) putMember(w io.Writer, it *item, f File) error {
	if _, err := w.Write(gzipHeader(f)); err != nil {
		return err
	}
	var crc, length uint32 // the length is modulo 2^32
	put := func(b *block) error {
		<-b.done
		if b.err != nil {
			return b.err
		}
		_, err := w.Write(b.out.Bytes())
		crc = b.crc
		length += uint32(b.n)
		z.outs.Put(b.out)
		if b.src != nil {
			z.pool.Put(b.src)
		}
		return err
	}
	if it.small != nil {
		if err := put(it.small); err != nil {
			return err
		}
	} else {
		for b := range it.parts {
			if err := put(b); err != nil {
				return err
			}
		}
		if it.err != nil {
			return fmt.Errorf("%s: %w", f.Path, it.err)
		}
	}
	end := binary.LittleEndian.AppendUint32(nil, crc)
	_, err := w.Write(binary.LittleEndian.AppendUint32(end, length))
	return err
}

// gzipHeader names a file: its base name, and its path as the comment.
func gzipHeader(f File) []byte {
	const (
		deflate, name, comment = 8, 1 << 3, 1 << 4
		unknownSystem          = 255
	)
	var b bytes.Buffer
	b.Write([]byte{0x1f, 0x8b, deflate, name | comment})
	at := uint32(0)
	if t := f.Info.ModTime(); t.After(time.Unix(0, 0)) {
		at = uint32(t.Unix())
	}
	b.Write(binary.LittleEndian.AppendUint32(nil, at))
	b.Write([]byte{0, unknownSystem})
	for _, s := range []string{path.Base(f.Path), f.Path} {
		for _, c := range gzipName(s) {
			b.WriteByte(byte(c)) // Latin-1, of which gzipName leaves ASCII
		}
		b.WriteByte(0)
	}
	return b.Bytes()
}
