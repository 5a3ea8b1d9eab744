package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/glassrunner/glassrunner/internal/archive"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/pause"
)

// How often and at which pace a download is tried.
const (
	downloadTries = 3
	downloadPause = time.Second
)

// ReceiveOptions say what is done with an earlier job's artifacts.
type ReceiveOptions struct {
	Dir     string // into which they are extracted
	Staging string // directory for the archive while it is there; "": the system's
	ID      job.ID // whose they are
	Direct  bool   // ask for the object storage's address first
	Workers int
	// Parallel downloads take parts from an object storage that has such.
	Parallel Parallel
	Limits   archive.Limits
	Print    Printer
}

// Receive downloads an archive and extracts it. The archive is stored in a
// file that has no name as soon as the system allows it.
func Receive(ctx context.Context, from Source, o ReceiveOptions) (Summary, error) {
	start := time.Now()
	done := func(r Result, n int64) Summary { return Summary{r, n, time.Since(start)} }
	file, err := os.CreateTemp(o.Staging, "artifacts-*")
	if err != nil {
		return done(Failed, 0), err
	}
	defer func() { _ = file.Close() }() // it was read to its end or is not wanted
	if os.Remove(file.Name()) != nil {
		defer func() { _ = os.Remove(file.Name()) }() // Windows: only when it is closed
	}
	n, err := download(ctx, from, file, o)
	if err != nil {
		result := Failed
		if r, ok := errors.AsType[*Refusal](err); ok {
			o.Print.Error(fmt.Sprintf("Downloading artifacts from coordinator... %s  id=%s status=%d", outcome(r.Status), o.ID, r.Status))
			switch r.Status {
			case http.StatusNotFound:
				result = NotFound
			case http.StatusForbidden, http.StatusUnauthorized:
				result = Forbidden
			}
		} else {
			o.Print.Error(fmt.Sprintf("Downloading artifacts from coordinator... error  id=%s", o.ID))
		}
		return done(result, n), err
	}
	took := time.Since(start)
	o.Print.Info(fmt.Sprintf("Downloading artifacts from coordinator... ok  id=%s size=%s took=%s", o.ID, bytes(n), took.Round(time.Millisecond)))
	_, err = archive.Extract(ctx, file, n, o.Dir, archive.ExtractOptions{Limits: o.Limits, Workers: o.Workers, Warn: o.Print.Warn})
	if err != nil {
		result := Failed
		var unsafe *archive.UnsafeError
		var limit *archive.LimitError
		if errors.As(err, &unsafe) || errors.As(err, &limit) {
			result = Unsafe
		}
		return done(result, n), fmt.Errorf("extracting artifacts of job %s: %w", o.ID, err)
	}
	return done(OK, n), nil
}

func outcome(status int) string {
	switch status {
	case http.StatusNotFound:
		return "not found"
	case http.StatusForbidden:
		return "forbidden"
	case http.StatusUnauthorized:
		return "unauthorized"
	}
	return "failed"
}

// download fills file, in up to three tries.
func download(ctx context.Context, from Source, file *os.File, o ReceiveOptions) (int64, error) {
	for try := 1; ; try++ {
		n, err := attempt(ctx, from, file, o.Direct && try == 1, o.Parallel)
		if err == nil {
			return n, nil
		}
		var r *Refusal
		if errors.As(err, &r) && (r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden || r.Status == http.StatusNotFound) {
			return n, err
		}
		if ctx.Err() != nil || try == downloadTries {
			return n, err
		}
		o.Print.Warn(fmt.Sprintf("Downloading artifacts from coordinator... %v", err))
		o.Print.Warn("Retrying...")
		if err := pause.For(ctx, downloadPause); err != nil {
			return n, err
		}
	}
}

func attempt(ctx context.Context, from Source, file *os.File, direct bool, p Parallel) (int64, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	if err := file.Truncate(0); err != nil {
		return 0, err
	}
	c, err := from.Download(ctx, direct)
	if err != nil {
		return 0, err
	}
	if c.Part != nil && c.Size > 0 && p.Streams > 1 {
		n, err := gather(ctx, c, file, p)
		// The rest of the answer is not wanted; all of the archive is there.
		return n, errors.Join(err, c.Body.Close())
	}
	n, err := io.Copy(file, c.Body)
	err = errors.Join(err, c.Body.Close())
	if err == nil && c.Size >= 0 && n != c.Size {
		err = fmt.Errorf("got %d of %d bytes", n, c.Size)
	}
	return n, err
}
