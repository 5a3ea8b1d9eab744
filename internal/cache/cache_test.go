package cache_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/archive"
	"github.com/glassrunner/glassrunner/internal/cache"
	"github.com/glassrunner/glassrunner/internal/job"
)

// lines collects what is printed.
type lines struct{ strings.Builder }

func (l *lines) Info(s string)  { l.WriteString("I " + s + "\n") }
func (l *lines) Warn(s string)  { l.WriteString("W " + s + "\n") }
func (l *lines) Error(s string) { l.WriteString("E " + s + "\n") }

// store is an object storage.
type store struct {
	mu      sync.Mutex
	objects map[string][]byte
	times   map[string]time.Time
	fail    []int         // statuses of the next answers, 0: as it is
	say     string        // what failed answers say
	noParts bool          // it has no ranges
	cut     bool          // answers of parts end early
	changes int           // so many parts, but the first ones, are of another state
	ahead   time.Duration // of its clock
	calls   []string
	header  http.Header
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, r.Method+" "+r.URL.Path)
	if len(s.fail) > 0 {
		status := s.fail[0]
		s.fail = s.fail[1:]
		if status != 0 {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, s.say)
			return
		}
	}
	if r.Method == http.MethodPut {
		data, err := io.ReadAll(r.Body)
		if err != nil || r.ContentLength != int64(len(data)) {
			w.WriteHeader(http.StatusLengthRequired)
			return
		}
		s.header = r.Header
		s.objects[r.URL.Path], s.times[r.URL.Path] = data, time.Now().Add(s.ahead)
		return
	}
	data, ok := s.objects[r.URL.Path]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Last-Modified", s.times[r.URL.Path].UTC().Format(http.TimeFormat))
	w.Header().Set("X-Amz-Meta-Cachekey", "the key")
	w.Header().Set("ETag", `"1"`)
	if r.Header.Get("Range") == "" || s.noParts {
		_, _ = w.Write(data)
		return
	}
	if s.changes > 0 && !strings.HasPrefix(r.Header.Get("Range"), "bytes=0-") {
		s.changes--
		w.Header().Set("ETag", `"2"`)
	}
	if s.cut {
		w = cutWriter{w}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// cutWriter ends an answer after some bytes.
type cutWriter struct{ http.ResponseWriter }

func (c cutWriter) Write(p []byte) (int, error) {
	_, _ = c.ResponseWriter.Write(p[:min(10, len(p))])
	panic(http.ErrAbortHandler)
}

// bench is a project with a storage.
type bench struct {
	t     *testing.T
	s     *store
	url   string
	dir   string // project
	cache string // of archives
	out   *lines
}

func newBench(t *testing.T) *bench {
	t.Helper()
	s := &store{objects: map[string][]byte{}, times: map[string]time.Time{}}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	b := &bench{t: t, s: s, url: srv.URL, dir: t.TempDir(), cache: t.TempDir(), out: &lines{}}
	b.put("vendor/gem", "v1")
	return b
}

func (b *bench) put(name, content string) {
	b.t.Helper()
	file := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) remote(name string) cache.Remote {
	u := job.Secret(b.url + "/" + name + "?X-Amz-Signature=topsecret")
	return cache.Remote{URL: u, HeadURL: u, Header: map[string]string{"X-Amz-Meta-Cachekey": "the key"}}
}

func (b *bench) file() string { return filepath.Join(b.cache, "k", "cache.zip") }

func (b *bench) save(change ...func(*cache.ArchiveOptions)) (cache.Summary, string) {
	b.t.Helper()
	b.out.Reset()
	o := cache.ArchiveOptions{Dir: b.dir, File: b.file(), Rules: archive.Rules{Paths: []string{"vendor"}}, Format: archive.Zip, Remote: b.remote("k"), Key: "the key", Pause: time.Millisecond, Print: b.out}
	for _, f := range change {
		f(&o)
	}
	sum, err := cache.Archive(b.t.Context(), o)
	return sum, b.printed(err)
}

func (b *bench) restore(change ...func(*cache.ExtractOptions)) (cache.Summary, string) {
	b.t.Helper()
	b.out.Reset()
	o := cache.ExtractOptions{Dir: b.dir, File: b.file(), Remote: b.remote("k"), Pause: time.Millisecond, Print: b.out}
	for _, f := range change {
		f(&o)
	}
	sum, err := cache.Extract(b.t.Context(), o)
	return sum, b.printed(err)
}

func (b *bench) printed(err error) string {
	b.t.Helper()
	text := b.out.String()
	if err != nil {
		text += "error: " + err.Error()
	}
	if strings.Contains(text, "topsecret") {
		b.t.Errorf("a signature was printed: %s", text)
	}
	return text
}

func (b *bench) check(what string, sum cache.Summary, want cache.Result, text, part string) {
	b.t.Helper()
	if sum.Result != want || !strings.Contains(text, part) {
		b.t.Errorf("%s: got %s, want %s with %q:\n%s", what, sum.Result, want, part, text)
	}
}

// TestStorageAhead: a storage whose clock is wrong does not make an archive newer
// than files that change later.
func TestStorageAhead(t *testing.T) {
	for _, format := range []archive.Format{archive.Zip, archive.ZipZstd, archive.TarZstd} {
		b := newBench(t)
		b.s.ahead = time.Hour
		as := func(o *cache.ArchiveOptions) { o.Format = format }
		sum, text := b.save(as)
		b.check("first", sum, cache.Stored, text, "I Uploaded")
		b.put("vendor/gem", "v2")
		soon := time.Now().Add(2 * time.Second) // as if that were later
		if err := os.Chtimes(filepath.Join(b.dir, "vendor/gem"), soon, soon); err != nil {
			t.Fatal(err)
		}
		sum, text = b.save(as)
		b.check(string(format)+": changed", sum, cache.Stored, text, "I Uploaded")
	}
}

func TestLife(t *testing.T) {
	b := newBench(t)
	sum, text := b.restore()
	b.check("nothing there", sum, cache.Miss, text, "W Cache file does not exist")
	sum, text = b.save()
	b.check("first", sum, cache.Stored, text, "I Uploading cache to "+b.url+"/k\n")
	if b.s.header.Get("X-Amz-Meta-Cachekey") != "the key" || b.s.header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("header: %v", b.s.header)
	}
	sum, text = b.save()
	b.check("unchanged", sum, cache.Unchanged, text, "I Archive is up to date!")
	delete(b.s.objects, "/k")
	sum, text = b.save()
	b.check("unchanged, but lost", sum, cache.Stored, text, "I Uploaded")
	b.put("vendor/gem", "v2")
	sum, text = b.save()
	b.check("changed", sum, cache.Stored, text, "I Uploaded")
	b.put("vendor/gem", "lost")
	sum, text = b.restore()
	b.check("on disk", sum, cache.Hit, text, "I cache.zip is up to date")
	if sum.Bytes != 0 {
		t.Errorf("%d bytes were moved", sum.Bytes)
	}
	if err := os.RemoveAll(b.cache); err != nil {
		t.Fatal(err)
	}
	sum, text = b.restore(func(o *cache.ExtractOptions) { o.Fallback = true })
	b.check("elsewhere", sum, cache.Stale, text, "I Downloading cache from "+b.url+"/k\n")
	if got, err := os.ReadFile(filepath.Join(b.dir, "vendor/gem")); string(got) != "v2" {
		t.Errorf("restored %q, %v", got, err)
	}
	if got, err := os.ReadFile(filepath.Join(b.cache, "k/metadata.json")); string(got) != `{"cachekey":"the key"}` {
		t.Errorf("metadata %q, %v", got, err)
	}
	sum, text = b.save()
	b.check("as it was restored", sum, cache.Unchanged, text, "I Archive is up to date!")
	if err := os.Remove(filepath.Join(b.dir, "vendor/gem")); err != nil {
		t.Fatal(err)
	}
	sum, text = b.save()
	b.check("a file less", sum, cache.Stored, text, "I Uploaded")
	sum, text = b.save(func(o *cache.ArchiveOptions) { o.Rules.Paths = []string{"nothing"} })
	b.check("no files", sum, cache.Empty, text, "I No files to cache.")
	b.put("vendor/x", strings.Repeat("x", 100))
	sum, text = b.save(func(o *cache.ArchiveOptions) { o.Limit = 10 })
	b.check("too large", sum, cache.TooLarge, text, "I Cache archive size (")
	if left, _ := filepath.Glob(filepath.Join(b.cache, "k", "archive_*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestTrouble(t *testing.T) {
	b := newBench(t)
	b.s.fail = []int{503, 500}
	sum, text := b.save()
	b.check("busy, then ready", sum, cache.Stored, text, "W Retrying...")
	if err := os.RemoveAll(b.cache); err != nil {
		t.Fatal(err)
	}
	b.s.fail = []int{503, 503, 503}
	sum, text = b.restore()
	b.check("busy", sum, cache.Failed, text, "E Downloading cache: GET "+b.url+"/k: 503")
	b.s.fail = []int{403}
	sum, text = b.restore()
	b.check("forbidden", sum, cache.Failed, text, "403 Forbidden")
	sum, text = b.restore(func(o *cache.ExtractOptions) { o.Remote.URL = "http://127.0.0.1:1/x?sig=topsecret" })
	b.check("nobody there", sum, cache.Failed, text, "GET http://127.0.0.1:1/x: dial tcp")
	b.s.objects["/k"] = []byte("no archive")
	b.s.times["/k"] = time.Now()
	sum, text = b.restore()
	b.check("broken", sum, cache.Failed, text, "E Extracting cache: reading the archive")
	sum, text = b.restore(func(o *cache.ExtractOptions) { o.Remote = cache.Remote{}; o.File += ".other" })
	b.check("local only", sum, cache.Miss, text, "I No URL provided, cache will not be downloaded from shared cache server. Instead a local version of cache will be extracted.")
}

func TestAlternate(t *testing.T) {
	b := newBench(t)
	if sum, text := b.save(func(o *cache.ArchiveOptions) { o.Remote = b.remote("old") }); sum.Result != cache.Stored {
		t.Fatal(text)
	}
	other := func(o *cache.ExtractOptions) {
		o.Alternate, o.File = b.remote("old"), filepath.Join(b.cache, "new", "cache.zip")
	}
	sum, text := b.restore(other)
	b.check("only the old one", sum, cache.Hit, text, "I Downloading cache from "+b.url+"/old\n")
	b.s.objects["/k"], b.s.times["/k"] = b.s.objects["/old"], time.Now().Add(time.Hour)
	sum, text = b.restore(other)
	b.check("a newer one", sum, cache.Hit, text, "I Downloading cache from "+b.url+"/k\n")
	// The archive on disk of the other name is taken over.
	if err := os.RemoveAll(filepath.Join(b.cache, "new")); err != nil {
		t.Fatal(err)
	}
	sum, text = b.save(func(o *cache.ArchiveOptions) {
		o.File, o.Other = filepath.Join(b.cache, "new", "cache.zip"), b.file()
	})
	b.check("taken over", sum, cache.Unchanged, text, "I Archive is up to date!")
	if _, err := os.Stat(b.file()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old one: %v", err)
	}
}

func TestParallel(t *testing.T) {
	b := newBench(t)
	rnd := make([]byte, 1_000_003)
	if _, err := rand.Read(rnd); err != nil {
		t.Fatal(err)
	}
	b.put("vendor/gem", string(rnd))
	sum, text := b.save()
	b.check("store", sum, cache.Stored, text, "I Uploaded")
	stored := b.s.objects["/k"]
	for _, tt := range []struct {
		name   string
		p      cache.Parallel
		change func()
		calls  int // GET; 0: as it comes
		want   cache.Result
		part   string
	}{
		{"one stream", cache.Parallel{Streams: 1, Part: 1000}, func() {}, 1, cache.Hit, "I Downloaded"},
		{"in parts", cache.Parallel{Streams: 4, Part: 100_000}, func() {}, (len(stored) + 99_999) / 100_000, cache.Hit, "I Downloaded"},
		{"more streams than parts", cache.Parallel{Streams: 100, Part: 300_000}, func() {}, 4, cache.Hit, "I Downloaded"},
		{"one part", cache.Parallel{Streams: 4, Part: 10 << 20}, func() {}, 1, cache.Hit, "I Downloaded"},
		{"just one part", cache.Parallel{Streams: 4, Part: int64(len(stored))}, func() {}, 1, cache.Hit, "I Downloaded"},
		{"the default", cache.Parallel{Streams: 4}, func() {}, 1, cache.Hit, "I Downloaded"},
		{"no parts to be had", cache.Parallel{Streams: 4, Part: 100_000}, func() { b.s.noParts = true }, 1, cache.Hit, "I Downloaded"},
		{"a part fails once", cache.Parallel{Streams: 2, Part: 400_000}, func() { b.s.fail = []int{0, 503} }, 0, cache.Hit, "W Retrying..."},
		{"it changes meanwhile", cache.Parallel{Streams: 2, Part: 400_000}, func() { b.s.changes = 1 }, 0, cache.Hit, "changed while it was downloaded"},
		{"it changes always", cache.Parallel{Streams: 2, Part: 400_000}, func() { b.s.changes = 1000 }, 0, cache.Failed, "changed while it was downloaded"},
		{"parts are cut", cache.Parallel{Streams: 2, Part: 400_000}, func() { b.s.cut = true }, 0, cache.Failed, "E Downloading cache: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.RemoveAll(b.cache); err != nil {
				t.Fatal(err)
			}
			b.s.noParts, b.s.changes, b.s.cut, b.s.calls = false, 0, false, nil
			tt.change()
			sum, text := b.restore(func(o *cache.ExtractOptions) { o.Parallel = tt.p })
			b.check(tt.name, sum, tt.want, text, tt.part)
			if tt.calls > 0 && len(b.s.calls) != tt.calls {
				t.Errorf("%d requests, want %d", len(b.s.calls), tt.calls)
			}
			left, _ := filepath.Glob(filepath.Join(b.cache, "k", "archive_*"))
			if len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			if tt.want != cache.Hit {
				return
			}
			if got, err := os.ReadFile(b.file()); err != nil || !bytes.Equal(got, stored) {
				t.Errorf("the archive differs: %d bytes, want %d, %v", len(got), len(stored), err)
			}
			if !strings.Contains(tt.name, "once") && !strings.Contains(tt.name, "meanwhile") && sum.Bytes != int64(len(stored)) {
				t.Errorf("%d bytes were moved, want %d", sum.Bytes, len(stored))
			}
		})
	}
}

// What a storage says of its reasons is not printed, but for its code.
func TestRefused(t *testing.T) {
	b := newBench(t)
	for body, want := range map[string]string{
		`<Error><Code>SignatureDoesNotMatch</Code><StringToSign>topsecret</StringToSign></Error>`: "403 Forbidden (SignatureDoesNotMatch)\n",
		`<Code>topsecret of it all</Code>`: "403 Forbidden\n",
		`<Code>half`:                       "403 Forbidden\n",
	} {
		b.s.say = body
		b.s.fail = []int{403}
		_, text := b.restore()
		if !strings.Contains(text, want) {
			t.Errorf("%s: %s", body, text)
		}
	}
}
