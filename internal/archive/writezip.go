package archive

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

const (
	// blockSize is how much of a file one worker compresses at a time. Files
	// up to that size are read by the worker itself.
	blockSize = 512 << 10
	// window is how far back deflate looks: what a block needs of the one
	// before it.
	window = 32 << 10

	methodZstd = 93
)

// zipWriter compresses on all processors and writes in order. One goroutine
// reads, workers compress blocks, the caller's goroutine writes. What waits
// between them is bounded, and so is memory.
type zipWriter struct {
	dir    string
	o      WriteOptions
	method uint16
	level  int  // of deflate
	always bool // compress what does not get smaller, too

	blocks chan *block // for the workers
	items  chan *item  // in the order of the archive
	pool   sync.Pool   // *[]byte of blockSize
	outs   sync.Pool   // *bytes.Buffer
	warn   sync.Mutex
}

// item is one entry of the archive.
type item struct {
	header *zip.FileHeader
	body   []byte      // of links and of extra files
	small  *block      // a file of one block
	parts  chan *block // a larger file's
	err    error       // why parts ended; read after parts is closed
}

// block is a piece of a file.
type block struct {
	file *File // to be read whole by the worker
	src  *[]byte
	in   []byte // of src
	dict []byte // the window before in, nil at a file's beginning
	last bool

	out  *bytes.Buffer // nil: in goes in as it is
	n    int           // length of in, which may have been given back
	crc  uint32
	err  error
	done chan struct{}
}

func newZipWriter(dir string, o WriteOptions) *zipWriter {
	z := &zipWriter{
		dir: dir, o: o, method: zip.Deflate,
		blocks: make(chan *block, o.Workers), items: make(chan *item, 4*o.Workers),
	}
	z.pool.New = func() any { b := make([]byte, blockSize); return &b }
	z.outs.New = func() any { return new(bytes.Buffer) }
	z.level = map[Level]int{Fast: 1, Default: 5, Slow: 7, Slowest: 9}[o.Level]
	return z
}

func writeZip(ctx context.Context, w io.Writer, zst bool, dir string, files []File, o WriteOptions) error {
	z := newZipWriter(dir, o)
	if o.Level == Fastest {
		z.method = zip.Store
	}
	if zst {
		z.method = methodZstd
	}
	out := zip.NewWriter(w)
	if err := z.run(ctx, files, func(it *item) error { return z.put(out, it) }); err != nil {
		return err
	}
	return out.Close()
}

// run compresses files and has put write them, one after the other.
func (z *zipWriter) run(ctx context.Context, files []File, put func(*item) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	for range z.o.Workers {
		comp, err := z.compressor()
		if err != nil {
			close(z.blocks)
			work.Wait()
			return err
		}
		work.Go(func() {
			for b := range z.blocks {
				z.compress(b, comp)
			}
		})
	}
	work.Go(func() { z.read(ctx, files) })
	err := z.write(ctx, put, cancel)
	work.Wait()
	return err
}

// A compressor appends the compressed form of a block to a buffer.
type compressor func(dst *bytes.Buffer, b *block) error

func (z *zipWriter) compressor() (compressor, error) {
	switch z.method {
	case zip.Store:
		return nil, nil
	case methodZstd:
		// Frames one after another are a stream as well.
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstdLevel(z.o.Level)), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		var buf []byte
		return func(dst *bytes.Buffer, b *block) error {
			buf = e.EncodeAll(b.in, buf[:0])
			_, err := dst.Write(buf)
			return err
		}, nil
	}
	whole, err := flate.NewWriter(nil, z.level)
	if err != nil {
		return nil, err
	}
	var part *flate.Writer
	return func(dst *bytes.Buffer, b *block) error {
		f := whole
		if b.dict != nil {
			if part == nil {
				if part, err = flate.NewWriterDict(dst, z.level, nil); err != nil {
					return err
				}
			}
			f = part
			f.ResetDict(dst, b.dict)
		} else {
			f.Reset(dst)
		}
		if _, err := f.Write(b.in); err != nil {
			return err
		}
		if b.last {
			return f.Close()
		}
		return f.Flush()
	}, nil
}

// compress is what a worker does with a block.
func (z *zipWriter) compress(b *block, comp compressor) {
	defer close(b.done)
	if b.file != nil {
		if b.err = z.slurp(b); b.err != nil {
			return
		}
		b.crc, b.n = crc32.ChecksumIEEE(b.in), len(b.in)
	}
	if comp == nil || b.file != nil && len(b.in) == 0 && !z.always {
		return
	}
	b.out, _ = z.outs.Get().(*bytes.Buffer)
	b.out.Reset()
	if b.err = comp(b.out, b); b.err != nil {
		return
	}
	if b.file != nil && b.out.Len() >= len(b.in) && !z.always { // not worth it
		z.outs.Put(b.out)
		b.out = nil
		return
	}
	if b.file != nil {
		z.pool.Put(b.src)
		b.src, b.in = nil, nil
	}
}

// slurp reads a small file.
func (z *zipWriter) slurp(b *block) error {
	f, err := open(z.dir, *b.file)
	if err != nil {
		return err
	}
	b.src, _ = z.pool.Get().(*[]byte)
	n, err := io.ReadFull(f, *b.src)
	b.in = (*b.src)[:n]
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = nil
	case err == nil:
		if more, _ := f.Read(make([]byte, 1)); more > 0 {
			z.tell(b.file.Path + ": grew while it was archived, what was added is left out")
		}
	}
	return errors.Join(err, f.Close())
}

func (z *zipWriter) tell(text string) {
	z.warn.Lock()
	defer z.warn.Unlock()
	z.o.Warn(text)
}

// read makes the items and feeds the workers. It ends them.
func (z *zipWriter) read(ctx context.Context, files []File) {
	defer close(z.items)
	defer close(z.blocks)
	for i := range files {
		if !z.readFile(ctx, &files[i]) {
			return
		}
	}
	for _, e := range z.o.Extra {
		h := &zip.FileHeader{Name: e.Path, Method: zip.Store}
		h.SetMode(0o644)
		stamp(h, e.Time)
		if !send(ctx, z.items, &item{header: h, body: e.Content}) {
			return
		}
	}
}

func send[T any](ctx context.Context, c chan<- T, v T) bool {
	select {
	case c <- v:
		return true
	case <-ctx.Done():
		return false
	}
}

func (z *zipWriter) readFile(ctx context.Context, f *File) bool {
	if ctx.Err() != nil {
		return false
	}
	it := &item{header: z.header(f)}
	switch mode := f.Info.Mode(); {
	case mode.IsDir():
	case mode&fs.ModeSymlink != 0:
		target, err := os.Readlink(filepath.Join(z.dir, filepath.FromSlash(f.Path)))
		it.body, it.err = []byte(filepath.ToSlash(target)), err
	case f.Info.Size() <= blockSize:
		it.small = &block{file: f, last: true, done: make(chan struct{})}
		if !send(ctx, z.blocks, it.small) {
			return false
		}
	default:
		return z.readLarge(ctx, f, it)
	}
	return send(ctx, z.items, it)
}

// readLarge cuts a file into blocks.
func (z *zipWriter) readLarge(ctx context.Context, f *File, it *item) bool {
	file, err := open(z.dir, *f)
	if err != nil {
		it.err = err
		return send(ctx, z.items, it)
	}
	defer func() { _ = file.Close() }() // it was only read
	it.parts = make(chan *block, 2*z.o.Workers)
	defer close(it.parts)
	if !send(ctx, z.items, it) {
		return false
	}
	var crc uint32
	var dict []byte
	next, err := z.fill(file)
	for err == nil {
		b := next
		if next, err = z.fill(file); errors.Is(err, io.EOF) {
			b.last = true
		} else if err != nil {
			break
		}
		crc = crc32.Update(crc, crc32.IEEETable, b.in)
		b.crc, b.dict = crc, dict
		if z.method != zip.Store && z.method != methodZstd {
			// The worker gives the block back before the next one may be done with it.
			dict = bytes.Clone(b.in[max(0, len(b.in)-window):])
		}
		if !send(ctx, z.blocks, b) {
			it.err = context.Cause(ctx)
			return false
		}
		if !send(ctx, it.parts, b) {
			it.err = context.Cause(ctx)
			return false
		}
	}
	if !errors.Is(err, io.EOF) {
		it.err = err
		return false
	}
	return true
}

// fill reads the next block. The first one may be empty.
func (z *zipWriter) fill(f *os.File) (*block, error) {
	b := &block{done: make(chan struct{})}
	b.src, _ = z.pool.Get().(*[]byte)
	n, err := io.ReadFull(f, *b.src)
	if n == 0 {
		z.pool.Put(b.src)
		if err == nil {
			err = io.EOF
		}
		return nil, err
	}
	b.in, b.n = (*b.src)[:n], n
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return b, err
}

func (z *zipWriter) header(f *File) *zip.FileHeader {
	h := &zip.FileHeader{Name: f.Path, Method: zip.Store}
	h.SetMode(f.Info.Mode())
	if f.Info.IsDir() {
		h.Name += "/"
	}
	stamp(h, f.Info.ModTime())
	if uid, gid, ok := owner(f.Info); ok {
		h.Extra = append(h.Extra, 0x75, 0x78, 11, 0, 1, 4)
		h.Extra = binary.LittleEndian.AppendUint32(h.Extra, uid)
		h.Extra = append(h.Extra, 4)
		h.Extra = binary.LittleEndian.AppendUint32(h.Extra, gid)
	}
	return h
}

// stamp puts a time into a header: as MS-DOS knows it, and, for whom that is
// too coarse, as an extra field.
func stamp(h *zip.FileHeader, t time.Time) {
	for _, r := range h.Name {
		if r >= utf8.RuneSelf || r < ' ' {
			h.Flags |= 0x800 // the name is UTF-8
			break
		}
	}
	h.CreatorVersion = 3<<8 | 20 // Unix: the mode is valid
	h.ReaderVersion = 20
	if t.IsZero() {
		return
	}
	u := t.UTC()
	if u.Year() < 1980 {
		u = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	h.ModifiedDate = uint16(u.Day() + int(u.Month())<<5 + min(u.Year()-1980, 127)<<9) //nolint:staticcheck // CreateRaw reads these
	h.ModifiedTime = uint16(u.Second()/2 + u.Minute()<<5 + u.Hour()<<11)              //nolint:staticcheck // as above
	h.Extra = append(h.Extra, 0x55, 0x54, 5, 0, 1)
	h.Extra = binary.LittleEndian.AppendUint32(h.Extra, uint32(max(0, min(t.Unix(), math.MaxUint32))))
}

// write puts the items into the archive. After an error it ends the others
// and waits for nothing but them.
func (z *zipWriter) write(ctx context.Context, put func(*item) error, cancel context.CancelCauseFunc) error {
	var failed error
	for it := range z.items {
		if failed == nil {
			if failed = put(it); failed != nil {
				cancel(failed)
			}
		}
		z.drain(it)
	}
	switch {
	case failed != nil:
		return failed
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return nil
}

// drain waits for what the workers still have of an item.
func (z *zipWriter) drain(it *item) {
	if it.parts != nil {
		for b := range it.parts {
			<-b.done
		}
	}
	if it.small != nil {
		<-it.small.done
	}
}

func (z *zipWriter) put(out *zip.Writer, it *item) error {
	switch {
	case it.parts != nil:
		return z.putLarge(out, it)
	case it.small != nil:
		return z.putSmall(out, it)
	case it.err != nil:
		return z.gone(it)
	}
	if len(it.body) == 0 {
		_, err := out.CreateRaw(it.header)
		return err
	}
	return putWhole(out, it.header, it.body, len(it.body), crc32.ChecksumIEEE(it.body))
}

func (z *zipWriter) gone(it *item) error {
	if errors.Is(it.err, fs.ErrNotExist) {
		z.tell(it.header.Name + ": is gone")
		return nil
	}
	return it.err
}

func putWhole(out *zip.Writer, h *zip.FileHeader, body []byte, length int, crc uint32) error {
	h.CRC32 = crc
	h.UncompressedSize64, h.CompressedSize64 = uint64(length), uint64(len(body))
	w, err := out.CreateRaw(h)
	if err != nil {
		return err
	}
	_, err = w.Write(body)
	return err
}

func (z *zipWriter) putSmall(out *zip.Writer, it *item) error {
	b := it.small
	<-b.done
	if b.err != nil {
		it.err = b.err
		return z.gone(it)
	}
	length, body := b.n, b.in
	if b.out != nil {
		it.header.Method, body = z.method, b.out.Bytes()
	}
	err := putWhole(out, it.header, body, length, b.crc)
	if b.out != nil {
		z.outs.Put(b.out)
	}
	if b.src != nil {
		z.pool.Put(b.src)
	}
	return err
}

// putLarge streams the blocks of a file; its sizes follow it.
func (z *zipWriter) putLarge(out *zip.Writer, it *item) error {
	h := it.header
	h.Method = z.method
	h.Flags |= 0x8 // data descriptor
	w, err := out.CreateRaw(h)
	if err != nil {
		return err
	}
	for b := range it.parts {
		<-b.done
		if b.err != nil {
			return b.err
		}
		body := b.in
		if b.out != nil {
			body = b.out.Bytes()
		}
		n, err := w.Write(body)
		if err != nil {
			return err
		}
		h.CompressedSize64 += uint64(n)
		h.UncompressedSize64 += uint64(b.n)
		h.CRC32 = b.crc
		if b.out != nil {
			z.outs.Put(b.out)
		}
		z.pool.Put(b.src)
	}
	if it.err != nil {
		return fmt.Errorf("%s: %w", h.Name, it.err)
	}
	h.CompressedSize = uint32(min(h.CompressedSize64, math.MaxUint32))     //nolint:staticcheck // bounded; the 32 bit form
	h.UncompressedSize = uint32(min(h.UncompressedSize64, math.MaxUint32)) //nolint:staticcheck // as above
	return nil
}
