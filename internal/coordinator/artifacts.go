package coordinator

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/pause"
)

// Bounds of transfers that a configuration does not set.
const (
	DefaultTransferTimeout = time.Hour
	DefaultHeaderTimeout   = 10 * time.Minute
)

// How often and at which pace an upload is tried.
const (
	uploadTries     = 3
	uploadTriesBusy = 6 // of a coordinator that says 503
	uploadFirstWait = time.Second
	uploadLastWait  = 5 * time.Second
)

// ArtifactUpload is one file for the coordinator.
type ArtifactUpload struct {
	Name     string // as in the payload, without the format's extension
	Format   string // "zip", "gzip", "raw", "zipzstd", "tarzstd" or ""
	Type     string // "archive", "junit", … or ""
	ExpireIn string // opaque, may be empty
	// Body opens the content; it is called for each attempt. What it returns
	// is closed when it has a Close method.
	Body func() (io.Reader, error)
	// Timeout bounds one attempt, HeaderTimeout the time from the last byte
	// sent to the answer; 0: the defaults.
	Timeout, HeaderTimeout time.Duration
	// Retrying is told before each further try, may be nil.
	Retrying func(try int, err error)
}

// ArtifactFilename is the name under which a coordinator gets an artifact.
func ArtifactFilename(name, format string) string {
	if name == "" {
		name = "artifacts"
	}
	base := path.Base(strings.ReplaceAll(name, `\`, "/"))
	if base == "" || base == "." || base == "/" {
		base = "default"
	}
	switch format {
	case "zip", "zipzstd":
		return base + ".zip"
	case "gzip":
		return base + ".gz"
	case "tarzstd":
		return base + ".tar.zst"
	}
	return base
}

// UploadArtifact sends a file (POST jobs/:id/artifacts) and tries again as
// often as the kind of failure allows. An *Error holds the last answer.
func (j *JobClient) UploadArtifact(ctx context.Context, u ArtifactUpload) error {
	q := url.Values{}
	for k, v := range map[string]string{"artifact_format": u.Format, "artifact_type": u.Type, "expire_in": u.ExpireIn} {
		if v != "" {
			q.Set(k, v)
		}
	}
	wait := uploadFirstWait
	for try := 1; ; try++ {
		failure := j.upload(ctx, u, q.Encode())
		if failure == nil {
			return nil
		}
		tries := uploadTries
		switch {
		case failure.Status == 403 || failure.Status == 413 || failure.Class == event.ErrCanceled || ctx.Err() != nil:
			return failure
		case failure.Status == 503:
			tries = uploadTriesBusy
		}
		if try >= tries {
			return failure
		}
		if u.Retrying != nil {
			u.Retrying(try+1, failure)
		}
		if pause.For(ctx, wait) != nil {
			return failure
		}
		wait = min(2*wait, uploadLastWait)
	}
}

func (j *JobClient) upload(ctx context.Context, u ArtifactUpload, query string) *Error {
	form := newForm(ArtifactFilename(u.Name, u.Format), u.Body)
	cl := &call{
		endpoint: "upload_artifact", method: http.MethodPost, to: j.artifacts, query: query, job: j.id,
		tokenHeader: headerJobToken, token: j.token, contentType: form.contentType(), body: form,
		bound: u.Timeout, headerBound: u.HeaderTimeout,
	}
	if cl.bound <= 0 {
		cl.bound = DefaultTransferTimeout
	}
	if cl.headerBound <= 0 {
		cl.headerBound = DefaultHeaderTimeout
	}
	_, failure := j.c.exchange(ctx, cl, func(ans *answer) *Error {
		if ans.status == 201 {
			return nil
		}
		return j.c.refused(cl, ans)
	})
	return failure
}

// form is a multipart body with one file, written while it is read. It needs
// no goroutine and no memory for the file.
type form struct {
	boundary string
	head     string
	tail     string
	content  func() (io.Reader, error)

	mu    sync.Mutex
	err   error // of content
	opens []*formReader
}

func newForm(filename string, content func() (io.Reader, error)) *form {
	var b [30]byte
	_, _ = rand.Read(b[:]) // never fails
	f := &form{boundary: hex.EncodeToString(b[:]), content: content}
	var head strings.Builder
	w := multipart.NewWriter(&head)
	_ = w.SetBoundary(f.boundary) // hex digits are allowed
	h := textproto.MIMEHeader{}
	h.Set("Content-Disposition", multipart.FileContentDisposition("file", filename))
	h.Set("Content-Type", "application/octet-stream")
	_, _ = w.CreatePart(h) // a strings.Builder takes everything
	f.head = head.String()
	_ = w.Close()
	f.tail = head.String()[len(f.head):]
	return f
}

func (f *form) contentType() string { return "multipart/form-data; boundary=" + f.boundary }
func (f *form) size() int64         { return -1 }

func (f *form) open() (io.ReadCloser, error) {
	content, err := f.content()
	if err != nil {
		f.fail(err)
		return nil, err
	}
	r := &formReader{
		r:       io.MultiReader(strings.NewReader(f.head), watched{f: f, r: content}, strings.NewReader(f.tail)),
		content: content,
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opens = append(f.opens, r)
	return r, nil
}

func (f *form) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil && !errors.Is(err, errReleased) {
		f.err = err
	}
}

func (f *form) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// release closes what was opened; nothing is read after it.
func (f *form) release() {
	f.mu.Lock()
	opens := f.opens
	f.opens = nil
	f.mu.Unlock()
	for _, r := range opens {
		_ = r.Close() // content was read or is not wanted any more
	}
}

// watched notes errors of the content, which the HTTP client would report as
// trouble of the connection.
type watched struct {
	f *form
	r io.Reader
}

// Read reads the content.
func (w watched) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		w.f.fail(err)
	}
	return n, err
}

// formReader has no lock: Close must be able to end a Read that waits.
type formReader struct {
	r       io.Reader
	content io.Reader
	closed  atomic.Bool
}

// Read reads the next part of the body.
func (r *formReader) Read(b []byte) (int, error) {
	if r.closed.Load() {
		return 0, errReleased
	}
	return r.r.Read(b)
}

// Close closes the content, once.
func (r *formReader) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	if c, ok := r.content.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Download is the content of an artifact.
type Download struct {
	Body io.ReadCloser // close it
	Size int64         // in bytes, -1 when the answer did not say
	// Part asks for n bytes from off on, of the same state of the content; nil
	// when it does not come from an object storage that has parts. The caller
	// closes what it returns.
	Part func(ctx context.Context, off, n int64) (io.ReadCloser, error)
}

// DownloadArtifact asks for what an earlier job left (GET
// jobs/:id/artifacts). With direct the coordinator may send the client to
// its object storage, which never sees the job's token. The whole transfer is
// bounded by DefaultTransferTimeout. An *Error with status 401, 403 or 404 is
// final. The call's event is told when the answer's header has arrived.
func (j *JobClient) DownloadArtifact(ctx context.Context, d job.Dependency, direct bool) (*Download, error) {
	cl := &call{
		endpoint: "download_artifact", method: http.MethodGet, to: j.c.target("jobs/" + d.ID.String() + "/artifacts"), job: j.id,
		tokenHeader: headerJobToken, token: d.Token,
		bound: DefaultTransferTimeout, headerBound: DefaultHeaderTimeout, wants: 200, stream: true,
	}
	if direct {
		cl.query = "direct_download=true"
	}
	var body *Download
	_, failure := j.c.exchange(ctx, cl, func(ans *answer) *Error {
		if ans.status != 200 {
			return j.c.refused(cl, ans)
		}
		body = &Download{Size: ans.flight.resp.ContentLength}
		body.Body = &stream{c: j.c, cl: cl, f: ans.flight, ended: ctx.Err}
		body.Part = j.c.storageParts(ans.flight.resp)
		return nil
	})
	if failure != nil {
		return nil, failure
	}
	return body, nil
}

// storageParts returns how parts of an answer are had, when it comes from
// another host than the coordinator: there, an address is all that it takes.
func (c *Client) storageParts(resp *http.Response) func(context.Context, int64, int64) (io.ReadCloser, error) {
	from, tag := resp.Request.URL, resp.Header.Get("ETag")
	if resp.Request.Header.Get(headerJobToken) != "" || resp.Header.Get("Accept-Ranges") != "bytes" || tag == "" || resp.ContentLength <= 0 {
		return nil
	}
	trouble := func(err error) error {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // its address has a signature
		}
		return fmt.Errorf("GET %s: %w", show(from), err)
	}
	return func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, from.String(), nil)
		if err != nil {
			return nil, trouble(err)
		}
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
		part, err := c.http.Do(r)
		if err != nil {
			return nil, trouble(err)
		}
		switch {
		case part.StatusCode != http.StatusPartialContent:
			err = fmt.Errorf("%s, want a part", part.Status)
		case part.Header.Get("ETag") != tag:
			err = errors.New("changed while it was downloaded")
		default:
			return part.Body, nil
		}
		_ = part.Body.Close() // not wanted
		return nil, trouble(err)
	}
}

// stream is the body of an answer that is still arriving.
type stream struct {
	c     *Client
	cl    *call
	f     *flight
	ended func() error
	once  sync.Once
}

// Read reads the body; an error that is not io.EOF is an *Error.
func (s *stream) Read(b []byte) (int, error) {
	n, err := s.f.resp.Body.Read(b)
	if err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return n, err
	}
	if s.f.slow.Load() {
		err = errSlow
	} else if e := s.ended(); e != nil {
		err = e
	}
	e := &Error{Method: s.cl.method, URL: s.cl.to.shown, Status: StatusNoAnswer, Class: classOf(err), Err: err}
	e.Text = "while reading the answer: " + s.c.clean(err.Error(), s.cl.token)
	return n, e
}

// Close ends the transfer, finished or not.
func (s *stream) Close() error {
	s.once.Do(s.f.end)
	return nil
}
