// Package artifact moves the artifacts of one job: it selects and archives
// files and sends them, and it receives those of earlier jobs and extracts
// them. It runs where the job's files are, as the job's user. What it tells
// people it prints in GitLab's words; the coordinator is a port.
package artifact

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"sync/atomic"
	"time"

	"github.com/glassrunner/glassrunner/internal/archive"
	"github.com/glassrunner/glassrunner/internal/job"
)

// Upload is one file for the coordinator.
type Upload struct {
	Name     string // without the format's extension
	Format   string
	Type     string
	ExpireIn string
	// Body opens the content, for each attempt anew. What it returns is an
	// io.Closer.
	Body func() (io.Reader, error)
	// Timeout bounds one attempt, HeaderTimeout the answer after it.
	Timeout, HeaderTimeout time.Duration
	// Retrying is told before each further try.
	Retrying func(try int, err error)
}

// Sender sends a file, as often as it takes. Its error wraps a *Refusal when
// there was an answer.
type Sender interface {
	Upload(ctx context.Context, u Upload) error
}

// Source gives what an earlier job left, in one attempt. Its error wraps a
// *Refusal when there was an answer.
type Source interface {
	// Download asks for it; with direct, the coordinator may send the client
	// to its object storage.
	Download(ctx context.Context, direct bool) (Content, error)
}

// Content is an archive on its way.
type Content struct {
	Body io.ReadCloser
	Size int64 // in bytes, negative when it is not known
	// Part asks for n bytes from off on; nil when there are no parts. What it
	// returns is closed by who called it.
	Part func(ctx context.Context, off, n int64) (io.ReadCloser, error)
}

// Refusal is an answer that is not the wanted one.
type Refusal struct {
	Status int // HTTP
	Err    error
}

// Error returns the whole explanation.
func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// Printer writes lines into the job's log.
type Printer interface {
	Info(text string)
	Warn(text string)
	Error(text string)
}

// Result says what came of a transfer.
type Result string

// What can come of a transfer.
const (
	OK        Result = "ok"
	Empty     Result = "empty"     // nothing to send
	TooLarge  Result = "too_large" // for the coordinator
	Forbidden Result = "forbidden"
	NotFound  Result = "not_found"
	Unsafe    Result = "unsafe" // the archive was refused
	Failed    Result = "error"
)

// Summary is a transfer in numbers.
type Summary struct {
	Result Result
	Bytes  int64 // of the archive
	Took   time.Duration
}

// SendOptions say what is sent.
type SendOptions struct {
	Dir                    string // the project
	Rules                  archive.Rules
	Name, Type, ExpireIn   string
	Format                 archive.Format
	Level                  archive.Level
	Workers                int
	ID                     job.ID
	Timeout, HeaderTimeout time.Duration
	// Provenance, when not nil, adds a file that says how the others were
	// made. Only with archive.Zip.
	Provenance *Provenance
	Print      Printer
}

// Send selects, archives and sends files, without storing the archive
// anywhere. That nothing matches is no error.
func Send(ctx context.Context, to Sender, o SendOptions) (Summary, error) {
	start := time.Now()
	done := func(r Result, n int64) Summary { return Summary{r, n, time.Since(start)} }
	selected, err := archive.Select(o.Dir, o.Rules)
	if err != nil {
		return done(Failed, 0), err
	}
	tell(o.Print, selected.Notes)
	files := selected.Files
	if o.Format == archive.Raw || o.Format == archive.Gzip {
		files = regular(files)
	}
	if len(files) == 0 {
		o.Print.Error("No files to upload")
		return done(Empty, 0), nil
	}
	w := archive.WriteOptions{Level: o.Level, Workers: o.Workers, Warn: o.Print.Warn}
	if o.Provenance != nil && o.Format == archive.Zip {
		extra, err := o.Provenance.statement(ctx, o.Dir, files, time.Now())
		if err != nil {
			return done(Failed, 0), fmt.Errorf("artifacts metadata: %w", err)
		}
		w.Extra = []archive.Extra{{Path: path.Base(fallback(o.Name, "artifacts")) + "-metadata.json", Content: extra, Time: time.Now()}}
	}
	kind := fallback(o.Type, "archive")
	var sent atomic.Int64
	err = to.Upload(ctx, Upload{
		Name: o.Name, Format: string(o.Format), Type: o.Type, ExpireIn: o.ExpireIn, Timeout: o.Timeout, HeaderTimeout: o.HeaderTimeout,
		Body: func() (io.Reader, error) {
			sent.Store(0)
			return newBody(ctx, &sent, func(ctx context.Context, out io.Writer) error {
				return archive.Write(ctx, out, o.Format, o.Dir, files, w)
			}), nil
		},
		Retrying: func(_ int, err error) {
			o.Print.Warn(fmt.Sprintf("Uploading artifacts as %q to coordinator... %v", kind, err))
			o.Print.Warn("Retrying...")
		},
	})
	if err == nil {
		s := done(OK, sent.Load())
		o.Print.Info(fmt.Sprintf("Uploading artifacts as %q to coordinator... 201 Created  id=%s size=%s took=%s",
			kind, o.ID, bytes(s.Bytes), s.Took.Round(time.Millisecond)))
		return s, nil
	}
	var r *Refusal
	if !errors.As(err, &r) {
		o.Print.Error(fmt.Sprintf("Uploading artifacts as %q to coordinator... error  id=%s", kind, o.ID))
		return done(Failed, sent.Load()), err
	}
	o.Print.Error(fmt.Sprintf("Uploading artifacts as %q to coordinator... %d %s  id=%s", kind, r.Status, http.StatusText(r.Status), o.ID))
	switch r.Status {
	case http.StatusRequestEntityTooLarge:
		return done(TooLarge, sent.Load()), fmt.Errorf("too large: %s, the coordinator's limit for artifacts is lower: %w", bytes(sent.Load()), err)
	case http.StatusForbidden, http.StatusUnauthorized:
		return done(Forbidden, sent.Load()), fmt.Errorf("permission denied: %w", err)
	}
	return done(Failed, sent.Load()), err
}

func fallback(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// regular leaves out directories, which formats without names cannot hold.
func regular(files []archive.File) []archive.File {
	var out []archive.File
	for _, f := range files {
		if !f.Info.IsDir() {
			out = append(out, f)
		}
	}
	return out
}

func tell(p Printer, notes []archive.Note) {
	for _, n := range notes {
		if n.Warning {
			p.Warn(n.Text)
		} else {
			p.Info(n.Text)
		}
	}
}

// body is an archive that is made while it is read.
type body struct {
	*io.PipeReader
	stop context.CancelFunc
	done chan struct{}
}

var errClosed = errors.New("the upload ended")

func newBody(ctx context.Context, sent *atomic.Int64, write func(context.Context, io.Writer) error) *body {
	r, w := io.Pipe()
	ctx, stop := context.WithCancel(ctx)
	b := &body{r, stop, make(chan struct{})}
	go func() {
		defer close(b.done)
		out := bufio.NewWriterSize(counted{w, sent}, 256<<10)
		err := write(ctx, out)
		if err == nil {
			err = out.Flush()
		}
		_ = w.CloseWithError(err) // never fails
	}()
	return b
}

// Close ends the archive, finished or not.
func (b *body) Close() error {
	b.stop()
	_ = b.CloseWithError(errClosed) // never fails
	<-b.done
	return nil
}

type counted struct {
	w io.Writer
	n *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// bytes gives a number of bytes as people read it.
func bytes(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
}
