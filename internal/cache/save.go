package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/glassrunner/glassrunner/internal/archive"
)

// ArchiveOptions say what is stored.
type ArchiveOptions struct {
	Dir   string // the project
	File  string // the archive on disk
	Other string // where the archive of the key's other form may be, "" for none
	Rules archive.Rules
	// Format is one that Extract reads: zip, zipzstd or tarzstd.
	Format  archive.Format
	Level   archive.Level
	Workers int
	Remote  Remote
	Timeout time.Duration
	Pause   time.Duration // between two tries; 0: a second
	Limit   int64         // of what is uploaded, in bytes; 0: none
	Key     string        // for people
	Print   Printer
}

// Archive stores the files in the archive on disk, if they are not in it
// already, and in the storage, if it has not got them.
func Archive(ctx context.Context, o ArchiveOptions) (Summary, error) {
	start := time.Now()
	done := func(r Result, n int64, err error) (Summary, error) { return Summary{r, n, time.Since(start)}, err }
	if _, err := os.Lstat(o.File); errors.Is(err, fs.ErrNotExist) && o.Other != "" && o.Other != o.File {
		if err := os.MkdirAll(filepath.Dir(o.File), 0o700); err == nil {
			_ = os.Rename(o.Other, o.File) // most often there is none
		}
	}
	selected, err := archive.Select(o.Dir, o.Rules)
	if err != nil {
		return done(Failed, 0, err)
	}
	for _, n := range selected.Notes {
		if n.Warning {
			o.Print.Warn(n.Text)
		} else {
			o.Print.Info(n.Text)
		}
	}
	if len(selected.Files) == 0 {
		o.Print.Info("No files to cache.")
		return done(Empty, 0, nil)
	}
	written := int64(0)
	fresh := !unchanged(o, selected)
	if fresh {
		// What changes from now on is newer than the archive.
		written, err = place(o.File, start, func(f *os.File) (int64, error) {
			err := archive.Write(ctx, f, o.Format, o.Dir, selected.Files, archive.WriteOptions{Level: o.Level, Workers: o.Workers, Warn: o.Print.Warn})
			if err != nil {
				return 0, err
			}
			return f.Seek(0, io.SeekCurrent)
		})
		if err != nil {
			return done(Failed, 0, err)
		}
		describe(o.File, o.Key)
	}
	if o.Remote.URL == "" {
		o.Print.Info("No URL provided, cache will not be uploaded to shared cache server. Cache will be stored only locally.")
		if !fresh {
			o.Print.Info("Archive is up to date!")
			return done(Unchanged, 0, nil)
		}
		return done(Stored, written, nil)
	}
	c := client(o.Timeout)
	defer c.CloseIdleConnections()
	if !fresh && stored(ctx, c, o.Remote) {
		o.Print.Info("Archive is up to date!")
		return done(Unchanged, 0, nil)
	}
	return upload(ctx, c, o, done)
}

// unchanged reports whether the archive on disk holds the files as they are.
func unchanged(o ArchiveOptions, selected *archive.Selection) bool {
	f, err := os.Open(o.File)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // it was only read
	fi, err := f.Stat()
	if err != nil {
		return false
	}
	if selected.Newest().After(fi.ModTime()) {
		return false
	}
	// Files that are gone, or older than those in the archive, change it as well.
	same, err := archive.Same(f, fi.Size(), o.Dir, selected.Files)
	return errors.Is(err, archive.ErrUnknown) || err == nil && same
}

// stored reports whether the storage has the object. It is taken to have it
// when it cannot be asked.
func stored(ctx context.Context, c *http.Client, r Remote) bool {
	if r.HeadURL == "" {
		return true
	}
	_, there, err := head(ctx, c, r.HeadURL, nil)
	return err != nil || there
}

func upload(ctx context.Context, c *http.Client, o ArchiveOptions, done func(Result, int64, error) (Summary, error)) (Summary, error) {
	f, err := os.Open(o.File)
	if err != nil {
		return done(Failed, 0, err)
	}
	defer func() { _ = f.Close() }() // it was only read
	fi, err := f.Stat()
	if err != nil {
		return done(Failed, 0, err)
	}
	if o.Limit > 0 && fi.Size() > o.Limit {
		o.Print.Info(fmt.Sprintf("Cache archive size (%d) is too big (Limit is set to %d). Cache will not be uploaded to shared cache server.", fi.Size(), o.Limit))
		return done(TooLarge, 0, nil)
	}
	began := time.Now()
	o.Print.Info("Uploading cache to " + shown(o.Remote.URL))
	var at time.Time
	err = retried(ctx, o.Print, o.Pause, func() error {
		var err error
		at, err = send(ctx, c, o.Remote, f, fi)
		return err
	})
	if err != nil {
		o.Print.Error("Uploading cache: " + err.Error())
		return done(Failed, 0, err)
	}
	// An archive that is older than what the storage shows would be fetched by
	// the next job. That may be later than the time of the storage's answer.
	if o.Remote.HeadURL != "" {
		if shown, there, err := head(ctx, c, o.Remote.HeadURL, nil); err == nil && there && shown.After(at) {
			at = shown
		}
	}
	// But not what a storage says whose clock is ahead: files that change until
	// then would be older than the archive.
	if now := time.Now(); at.After(now.Add(time.Second)) {
		at = now
	}
	if at.After(fi.ModTime()) {
		_ = os.Chtimes(o.File, at, at)
	}
	o.Print.Info(fmt.Sprintf("Uploaded %s in %s", bytes(fi.Size()), time.Since(began).Round(time.Millisecond)))
	return done(Stored, fi.Size(), nil)
}

// send uploads a file and returns the storage's time.
func send(ctx context.Context, c *http.Client, to Remote, f *os.File, fi fs.FileInfo) (at time.Time, err error) {
	r, err := request(ctx, http.MethodPut, to.URL, nil)
	if err != nil {
		return at, err
	}
	r.Header.Set("Content-Type", "application/octet-stream")
	r.Header.Set("Last-Modified", fi.ModTime().UTC().Format(http.TimeFormat))
	for k, v := range to.Header {
		r.Header.Set(k, v)
	}
	r.ContentLength = fi.Size()
	// Each attempt reads the file from its beginning, the client's own for a redirect as well.
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(f, 0, fi.Size())), nil }
	r.Body, _ = r.GetBody() // never fails
	if fi.Size() == 0 {
		r.Body, r.GetBody = http.NoBody, nil
	}
	resp, err := c.Do(r)
	if err != nil {
		return at, clean(http.MethodPut, to.URL, err)
	}
	defer func() { _ = resp.Body.Close() }() // what it says is read
	if resp.StatusCode/100 != 2 {
		return at, refused(http.MethodPut, to.URL, resp)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	at, _ = http.ParseTime(resp.Header.Get("Date"))
	return at, nil
}
