package config

import (
	"context"
	"io"
	"io/fs"
	"os"
	"time"
)

// DefaultWatchInterval is how often a [Watcher] looks at its file: often
// enough for a change to be noticed within three seconds, and cheap, because
// it asks for the file's times and size only.
const DefaultWatchInterval = time.Second

const (
	// settleTime is how long the content has to stay the same before a change
	// is told, so that half-written files are not loaded.
	settleTime = 100 * time.Millisecond
	// mostSettling bounds the wait for a file that changes all the time.
	mostSettling = 10
	// coarseTime is the resolution of the times of the coarsest file system.
	// Within it, a second change may leave them as they are.
	coarseTime = 2 * time.Second
)

// Watcher notices that the content of a file changed, also when the file is
// replaced or when a symbolic link on the way to it is, as Kubernetes does. It
// compares content, so a file that is only touched did not change. A file
// that is not there, or cannot be read, did not change either.
type Watcher struct {
	path     string
	interval time.Duration
	hash     string      // of the content last told
	seen     fs.FileInfo // of the file last read
	readAt   time.Time
}

// NewWatcher returns a watcher for the file. hash is that of the content that
// is known already: [Config.Hash]. An interval that is not positive means
// [DefaultWatchInterval].
func NewWatcher(path string, interval time.Duration, hash string) *Watcher {
	return &Watcher{path: path, interval: positive(interval, DefaultWatchInterval), hash: hash}
}

// Run calls changed after each change until ctx is done. It calls it in its
// own goroutine, never twice at the same time, with the hash of the new
// content. Whether that is a good configuration is for [Load] to say.
func (w *Watcher) Run(ctx context.Context, changed func(hash string)) {
	ticker := time.NewTicker(w.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if hash, ok := w.look(ctx); ok {
			changed(hash)
		}
	}
}

// look says whether the content changed, and to what.
func (w *Watcher) look(ctx context.Context) (string, bool) {
	info, err := os.Stat(w.path)
	if err != nil {
		w.seen = nil
		return "", false
	}
	if w.seen != nil && os.SameFile(w.seen, info) && w.seen.Size() == info.Size() && w.seen.ModTime().Equal(info.ModTime()) &&
		w.readAt.Sub(info.ModTime()) > coarseTime {
		return "", false
	}
	now, ok := w.read()
	if !ok || now == w.hash {
		return "", false
	}
	for range mostSettling {
		select {
		case <-ctx.Done():
			return "", false
		case <-time.After(settleTime):
		}
		again, ok := w.read()
		if !ok {
			return "", false
		}
		if again == now {
			break
		}
		now = again
	}
	if now == w.hash {
		return "", false
	}
	w.hash = now
	return now, true
}

// read returns the hash of the content and remembers which file it was.
func (w *Watcher) read() (string, bool) {
	f, err := os.Open(w.path)
	if err != nil {
		w.seen = nil
		return "", false
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return "", false
	}
	w.readAt = time.Now()
	data, err := io.ReadAll(io.LimitReader(f, largestFile+1))
	if err != nil {
		return "", false
	}
	w.seen = info
	return hash(data), true
}
