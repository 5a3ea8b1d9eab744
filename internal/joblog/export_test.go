package joblog

import "io"

// File is what a Log writes to.
type File = file

// WrapFile puts a fault between l and its file.
func (l *Log) WrapFile(wrap func(File) File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.f = wrap(l.f)
}

var _ io.ReaderAt = (*Log)(nil)
