// Package cache keeps files of a job for later ones: as an archive on the
// machine's disk and, when there is an address for it, in an object storage.
// It runs where the job's files are, as the job's user, and knows of the
// storage only addresses that were signed for one object: no credential
// enters a job.
//
// Nothing is uploaded that has not changed, and an archive on disk is always
// whole: it is made beside its place and renamed. No error and no line holds
// the query of an address, which is its signature.
package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/glassrunner/glassrunner/internal/archive"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/pause"
)

// DefaultTimeout bounds one transfer.
const DefaultTimeout = 10 * time.Minute

const (
	tries        = 3
	defaultPause = time.Second
)

// Remote is one object of a storage.
type Remote struct {
	URL     job.Secret        // to get or to put it; "": there is none
	HeadURL job.Secret        // to ask whether it is there; may be ""
	Header  map[string]string // what the request has to have
}

// Printer writes lines into the job's log.
type Printer interface {
	Info(text string)
	Warn(text string)
	Error(text string)
}

// Result says what came of a request.
type Result string

// What can come of a request.
const (
	Hit       Result = "hit"   // restored under the cache's own key
	Stale     Result = "stale" // restored under another key
	Miss      Result = "miss"
	Stored    Result = "stored"
	Unchanged Result = "unchanged"
	Empty     Result = "empty"     // no files
	TooLarge  Result = "too_large" // to be uploaded
	Failed    Result = "error"
)

// Summary is a request in numbers.
type Summary struct {
	Result Result
	Bytes  int64 // of the archive that was transferred or, without a storage, read or written
	Took   time.Duration
}

// ErrMiss says that there is no such cache.
var ErrMiss = errors.New("there is no such cache")

// statusError is an answer that is not the wanted one.
type statusError struct {
	method, url string
	status      int
	code        string // that the storage gives, "" when it gives none
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("%s %s: %d %s", e.method, e.url, e.status, http.StatusText(e.status))
	if e.code != "" {
		text += " (" + e.code + ")"
	}
	return text
}

// refused makes an error of an answer. Of its text only the code is taken:
// the rest may tell what was signed.
func refused(method string, to job.Secret, resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 16<<10)) // what is there
	e := &statusError{method: method, url: shown(to), status: resp.StatusCode}
	if _, after, ok := strings.Cut(string(text), "<Code>"); ok {
		code, _, ok := strings.Cut(after, "</Code>")
		if ok && len(code) <= 64 && !strings.ContainsFunc(code, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '.' }) {
			e.code = code
		}
	}
	return e
}

// client speaks to the storage.
func client(timeout time.Duration) *http.Client {
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	d := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Client{Timeout: timeout, Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: d.DialContext, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 30 * time.Second, ExpectContinueTimeout: time.Second,
		IdleConnTimeout: 10 * time.Second, MaxIdleConnsPerHost: DefaultStreams, WriteBufferSize: 128 << 10, ReadBufferSize: 128 << 10,
		DisableCompression: true,
	}}
}

// shown is an address without what makes it valid.
func shown(raw job.Secret) string {
	u, err := url.Parse(raw.Reveal())
	if err != nil || u.Host == "" {
		return "the cache's address"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// clean takes the address out of an error of the HTTP client.
func clean(method string, raw job.Secret, err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("%s %s: %w", method, shown(raw), ue.Err)
	}
	return fmt.Errorf("%s %s: the address cannot be used", method, shown(raw))
}

// retried tries do again after trouble of the network and of the server.
func retried(ctx context.Context, p Printer, between time.Duration, do func() error) error {
	if between <= 0 {
		between = defaultPause
	}
	for try := 1; ; try++ {
		err := do()
		if err == nil || try == tries || ctx.Err() != nil || !temporary(err) {
			return err
		}
		p.Warn(err.Error())
		p.Warn("Retrying...")
		if err := pause.For(ctx, between); err != nil {
			return err
		}
	}
}

func temporary(err error) bool {
	var s *statusError
	var path *fs.PathError
	switch {
	case errors.As(err, &s):
		return s.status >= 500 || s.status == http.StatusTooManyRequests || s.status == http.StatusRequestTimeout
	case errors.As(err, &path), errors.Is(err, ErrMiss):
		return false
	}
	return true
}

// request makes a request for a remote. The body may be nil.
func request(ctx context.Context, method string, to job.Secret, header map[string]string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, to.Reveal(), nil)
	if err != nil {
		return nil, clean(method, to, err)
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	return r, nil
}

// head asks when a remote was stored; there is false when it is not there.
func head(ctx context.Context, c *http.Client, to job.Secret, header map[string]string) (at time.Time, there bool, err error) {
	r, err := request(ctx, http.MethodHead, to, header)
	if err != nil {
		return at, false, err
	}
	resp, err := c.Do(r)
	if err != nil {
		return at, false, clean(http.MethodHead, to, err)
	}
	_ = resp.Body.Close() // HEAD has none
	switch resp.StatusCode {
	case http.StatusOK:
		at, _ = http.ParseTime(resp.Header.Get("Last-Modified"))
		return at, true, nil
	case http.StatusNotFound:
		return at, false, nil
	}
	return at, false, &statusError{method: http.MethodHead, url: shown(to), status: resp.StatusCode}
}

// ExtractOptions say what is restored.
type ExtractOptions struct {
	Dir  string // the project
	File string // the archive on disk
	// Remote is the object, Alternate the one under the key's other form.
	Remote, Alternate Remote
	Timeout           time.Duration // of one transfer; 0: DefaultTimeout
	Pause             time.Duration // between two tries; 0: a second
	Fallback          bool          // this is not the cache's own key
	Workers           int
	Parallel          Parallel // of the download
	Limits            archive.Limits
	Print             Printer
}

// Extract brings the archive on disk up to date with the storage and extracts
// it. The error wraps ErrMiss when there is none.
func Extract(ctx context.Context, o ExtractOptions) (Summary, error) {
	start := time.Now()
	done := func(r Result, n int64, err error) (Summary, error) { return Summary{r, n, time.Since(start)}, err }
	var moved int64
	if o.Remote.URL == "" {
		o.Print.Info("No URL provided, cache will not be downloaded from shared cache server. Instead a local version of cache will be extracted.")
	} else {
		c := client(o.Timeout)
		defer c.CloseIdleConnections()
		from := pick(ctx, c, o)
		err := retried(ctx, o.Print, o.Pause, func() error {
			var err error
			moved, err = fetch(ctx, c, from, o)
			return err
		})
		switch {
		case errors.Is(err, ErrMiss):
			o.Print.Warn("Cache file does not exist: " + shown(from.URL))
			return done(Miss, 0, err)
		case err != nil:
			o.Print.Error("Downloading cache: " + err.Error())
			return done(Failed, moved, err)
		}
	}
	f, err := os.Open(o.File)
	if errors.Is(err, fs.ErrNotExist) {
		o.Print.Warn("Cache file does not exist")
		return done(Miss, 0, ErrMiss)
	}
	if err != nil {
		return done(Failed, moved, err)
	}
	n, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = archive.Extract(ctx, f, n, o.Dir, archive.ExtractOptions{Limits: o.Limits, Workers: o.Workers, Warn: o.Print.Warn})
	}
	_ = f.Close() // it was only read
	if err != nil {
		o.Print.Error("Extracting cache: " + err.Error())
		return done(Failed, moved, err)
	}
	if o.Remote.URL == "" {
		moved = n
	}
	if o.Fallback {
		return done(Stale, moved, nil)
	}
	return done(Hit, moved, nil)
}

// pick chooses the newer one of the two objects, the first in case of doubt.
func pick(ctx context.Context, c *http.Client, o ExtractOptions) Remote {
	if o.Alternate.URL == "" || o.Alternate.HeadURL == "" || o.Remote.HeadURL == "" {
		return o.Remote
	}
	other, there, err := head(ctx, c, o.Alternate.HeadURL, o.Alternate.Header)
	if err != nil || !there {
		return o.Remote
	}
	own, there, err := head(ctx, c, o.Remote.HeadURL, o.Remote.Header)
	if err == nil && (!there || other.After(own)) {
		return o.Alternate
	}
	return o.Remote
}

// fetch downloads a remote unless the archive on disk is as new, and returns
// how many bytes were transferred.
func fetch(ctx context.Context, c *http.Client, from Remote, o ExtractOptions) (int64, error) {
	r, err := request(ctx, http.MethodGet, from.URL, from.Header)
	if err != nil {
		return 0, err
	}
	part := o.Parallel.part()
	if o.Parallel.on() {
		r.Header.Set("Range", "bytes=0-"+strconv.FormatInt(part-1, 10))
	}
	began := time.Now()
	resp, err := c.Do(r)
	if err != nil {
		return 0, clean(http.MethodGet, from.URL, err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end or not wanted
	size := int64(-1)
	switch resp.StatusCode {
	case http.StatusOK: // the storage may not know parts
	case http.StatusPartialContent:
		var ok bool
		if size, ok = whole(resp, part); !ok {
			return 0, fmt.Errorf("GET %s: the answer is another part than was asked for", shown(from.URL))
		}
	case http.StatusNotFound:
		return 0, ErrMiss
	default:
		return 0, refused(http.MethodGet, from.URL, resp)
	}
	at, err := http.ParseTime(resp.Header.Get("Last-Modified"))
	if fi, serr := os.Stat(o.File); err == nil && serr == nil && !fi.ModTime().Before(at) {
		o.Print.Info(filepath.Base(o.File) + " is up to date")
		return 0, nil
	}
	o.Print.Info("Downloading cache from " + shown(from.URL))
	n, err := place(o.File, at, func(f *os.File) (int64, error) {
		if size >= 0 {
			return parts(ctx, c, from, resp, size, f, o.Parallel)
		}
		n, err := io.Copy(f, resp.Body)
		if err != nil {
			err = fmt.Errorf("reading the answer: %w", unnamed(err))
		}
		return n, err
	})
	if err != nil {
		return n, err
	}
	o.Print.Info(fmt.Sprintf("Downloaded %s in %s", bytes(n), time.Since(began).Round(time.Millisecond)))
	key := resp.Header.Get("X-Amz-Meta-Cachekey")
	if key == "" {
		key = resp.Header.Get("X-Goog-Meta-Cachekey")
	}
	if key == "" {
		key = resp.Header.Get("X-Ms-Meta-Cachekey")
	}
	describe(o.File, key)
	return n, nil
}

// unnamed takes an address out of an error of a body.
func unnamed(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err
	}
	return err
}

// place makes a file beside name and renames it. Its directories are made.
// It returns how much was written.
func place(name string, at time.Time, write func(*os.File) (int64, error)) (n int64, err error) {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	f, err := os.CreateTemp(dir, "archive_*")
	if err != nil {
		return 0, err
	}
	n, err = write(f)
	err = errors.Join(err, f.Close())
	if err == nil && !at.IsZero() {
		err = os.Chtimes(f.Name(), at, at)
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return n, errors.Join(err, os.Remove(f.Name()))
	}
	return n, nil
}

// describe writes the key for people beside an archive. That it cannot is no
// reason to do without the cache.
func describe(file, key string) {
	text, err := json.Marshal(map[string]string{"cachekey": key})
	if err == nil && key != "" {
		_ = os.WriteFile(filepath.Join(filepath.Dir(file), "metadata.json"), text, 0o600)
	}
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
