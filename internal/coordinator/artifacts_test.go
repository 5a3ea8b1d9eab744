package coordinator_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/glassrunner/glassrunner/internal/coordinator"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// file counts how often it is closed.
type file struct {
	io.Reader
	closed *atomic.Int32
}

func (f file) Close() error {
	f.closed.Add(1)
	return nil
}

func content(text string, opened, closed *atomic.Int32) func() (io.Reader, error) {
	return func() (io.Reader, error) {
		opened.Add(1)
		return file{strings.NewReader(text), closed}, nil
	}
}

func TestUploadOnTheWire(t *testing.T) {
	text := strings.Repeat("artifact", 100_000)
	redirected := false
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if !redirected { // uploads follow 307 with their body
			redirected = true
			http.Redirect(w, r, "/elsewhere"+r.URL.String(), http.StatusTemporaryRedirect)
			return
		}
		if r.Method != http.MethodPost || r.URL.String() != "/elsewhere/api/v4/jobs/4711/artifacts?artifact_format=zip&artifact_type=archive&expire_in=1+week" {
			t.Errorf("got %s %s", r.Method, r.URL)
		}
		if r.ContentLength != -1 || r.Header.Get("Job-Token") != jobToken || !strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data; boundary=") {
			t.Errorf("got %d %v", r.ContentLength, r.Header)
		}
		parts, err := r.MultipartReader()
		if err != nil {
			t.Error(err)
			return
		}
		p, err := parts.NextPart()
		if err != nil {
			t.Error(err)
			return
		}
		b, err := io.ReadAll(p)
		if err != nil || string(b) != text || p.FormName() != "file" || p.FileName() != `we"b.zip` || p.Header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("got %d bytes, %v, %v", len(b), err, p.Header)
		}
		if _, err := parts.NextPart(); !errors.Is(err, io.EOF) {
			t.Errorf("more parts: %v", err)
		}
		sendJSON(w, 201, "201")
	})
	var opened, closed atomic.Int32
	rec := &recorder{}
	err := newClient(t, options(url, rec)).Job(4711, jobToken, false).UploadArtifact(t.Context(), coordinator.ArtifactUpload{
		Name: `dir/we"b`, Format: "zip", Type: "archive", ExpireIn: "1 week", Body: content(text, &opened, &closed),
	})
	if err != nil {
		t.Fatal(err)
	}
	if opened.Load() != 2 || closed.Load() != 2 {
		t.Errorf("opened %d, closed %d", opened.Load(), closed.Load())
	}
	if got := rec.last(t); got.Endpoint != "upload_artifact" || got.Path != "/api/v4/jobs/{id}/artifacts" || got.Status != 201 {
		t.Errorf("event: %+v", got)
	}
}

func TestUploadTries(t *testing.T) {
	for status, want := range map[int]struct {
		calls    int // logical
		attempts int
	}{
		201: {1, 1}, 202: {3, 3}, 400: {3, 3}, 401: {3, 3}, 403: {1, 1}, 404: {3, 3}, 405: {3, 3}, 413: {1, 1},
		500: {3, 15}, 503: {6, 30}, 0: {3, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			rec := &recorder{}
			c := newClient(t, options("http://gitlab.test", rec))
			attempts, told := 0, 0
			c.SetRoundTripper(direct{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				attempts++
				_, _ = io.Copy(io.Discard, r.Body)
				w.WriteHeader(status)
			})})
			if status == 0 {
				c.SetRoundTripper(broken{})
				attempts = want.attempts
			}
			var opened, closed atomic.Int32
			err := c.Job(4711, jobToken, false).UploadArtifact(t.Context(), coordinator.ArtifactUpload{
				Body: content("x", &opened, &closed), Retrying: func(int, error) { told++ },
			})
			if (err == nil) != (status == 201) {
				t.Errorf("%d: got %v", status, err)
			}
			if attempts != want.attempts || len(rec.called()) != want.calls || told != want.calls-1 {
				t.Errorf("%d: got %d attempts, %d calls, told %d, want %+v", status, attempts, len(rec.called()), told, want)
			}
			if opened.Load() != closed.Load() || int(opened.Load()) != want.attempts {
				t.Errorf("%d: opened %d, closed %d", status, opened.Load(), closed.Load())
			}
		})
	}
}

var errDisk = errors.New("disk is broken")

func TestUploadOfUnreadableFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{}
		c := newClient(t, options("http://gitlab.test", rec))
		c.SetRoundTripper(direct{answer(201, nil)})
		err := c.Job(1, jobToken, false).UploadArtifact(t.Context(), coordinator.ArtifactUpload{
			Body: func() (io.Reader, error) { return nil, errDisk },
		})
		if !errors.Is(err, errDisk) || rec.called()[0].Class != event.ErrClient {
			t.Errorf("got %v, %+v", err, rec.called())
		}
	})
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
	})
	rec := &recorder{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := newClient(t, options(url, rec)).Job(1, jobToken, false).UploadArtifact(ctx, coordinator.ArtifactUpload{
		Body:     func() (io.Reader, error) { return io.MultiReader(strings.NewReader("x"), failing{}), nil },
		Retrying: func(int, error) { cancel() },
	})
	if !errors.Is(err, errDisk) || rec.last(t).Class != event.ErrClient {
		t.Errorf("got %v, %+v", err, rec.called())
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errDisk }

func TestUploadTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, options("http://gitlab.test", nil))
		c.SetRoundTripper(hang{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		start := time.Now()
		err := c.Job(1, jobToken, false).UploadArtifact(ctx, coordinator.ArtifactUpload{
			Body:     func() (io.Reader, error) { return strings.NewReader("x"), nil },
			Timeout:  7 * time.Minute,
			Retrying: func(int, error) { cancel() },
		})
		if took := time.Since(start); took != 7*time.Minute {
			t.Errorf("took %v", took)
		}
		wantText(t, err, "took too long")
	})
}

func TestUploadHeaderTimeout(t *testing.T) {
	leave := make(chan struct{})
	url, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-leave
	})
	defer close(leave)
	rec := &recorder{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := newClient(t, options(url, rec)).Job(1, jobToken, false).UploadArtifact(ctx, coordinator.ArtifactUpload{
		Body:          func() (io.Reader, error) { return strings.NewReader("x"), nil },
		HeaderTimeout: 20 * time.Millisecond,
		Retrying:      func(int, error) { cancel() },
	})
	wantText(t, err, "took too long")
	if got := rec.last(t); got.Class != event.ErrTimeout {
		t.Errorf("event: %+v", got)
	}
}

func TestArtifactFilename(t *testing.T) {
	for _, tt := range []struct{ name, format, want string }{
		{"", "zip", "artifacts.zip"}, {"a/b", "gzip", "b.gz"}, {".", "raw", "default"}, {"/", "", "default"},
		{"x.xml", "tarzstd", "x.xml.tar.zst"}, {"x", "zipzstd", "x.zip"}, {`a\b`, "raw", "b"},
	} {
		if got := coordinator.ArtifactFilename(tt.name, tt.format); got != tt.want {
			t.Errorf("%q %q: got %q, want %q", tt.name, tt.format, got, tt.want)
		}
	}
}

func TestDownloadErrors(t *testing.T) {
	for _, tt := range []struct {
		status      int
		ctype, body string
		text        string
	}{
		{401, "application/json", `{"message":"401 Unauthorized"}`, ": 401 Unauthorized"},
		{403, "application/xml", `<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>`, "403 Forbidden (AccessDenied: Request has expired)"},
		{404, "text/html", `<h1>no</h1>`, ": 404 Not Found"},
		{204, "", "", "204 No Content: not an answer"},
	} {
		url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery != "" {
				t.Errorf("got %s", r.URL)
			}
			w.Header().Set("Content-Type", tt.ctype)
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		})
		d, err := newClient(t, options(url, nil)).Job(1, jobToken, false).DownloadArtifact(t.Context(), job.Dependency{ID: 4700, Token: jobToken}, false)
		wantText(t, err, "GET ", "/jobs/4700/artifacts", tt.text)
		if d != nil {
			t.Errorf("%d: got %+v", tt.status, d)
		}
	}
}

func TestDownloadBreaksOff(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "short")
	})
	j := newClient(t, options(url, nil)).Job(1, jobToken, false)
	d, err := j.DownloadArtifact(t.Context(), job.Dependency{ID: 2, Token: jobToken}, false)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(d.Body)
	var e *coordinator.Error
	if string(b) != "short" || !errors.As(err, &e) || e.Class != event.ErrReset || d.Size != 100 {
		t.Errorf("got %q, %v", b, err)
	}
	_ = d.Body.Close()

	arrived := make(chan struct{})
	url, _ = serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first")
		_ = http.NewResponseController(w).Flush()
		close(arrived)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	d, err = newClient(t, options(url, nil)).Job(1, jobToken, false).DownloadArtifact(ctx, job.Dependency{ID: 2, Token: jobToken}, false)
	if err != nil {
		t.Fatal(err)
	}
	<-arrived
	cancel()
	_, err = io.ReadAll(d.Body)
	if !errors.Is(err, context.Canceled) || !errors.As(err, &e) || e.Class != event.ErrCanceled {
		t.Errorf("got %v", err)
	}
	_ = d.Body.Close()
}

// An object storage on another host gives parts of what it gives, without the
// job's token.
func TestDownloadParts(t *testing.T) {
	data := []byte(strings.Repeat("0123456789", 1000))
	tag, status := `"one"`, 0
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Job-Token") != "" {
			t.Error("the storage got the job's token")
		}
		if status != 0 && r.Header.Get("Range") != "" {
			w.WriteHeader(status)
			return
		}
		if tag != "" {
			w.Header().Set("ETag", tag)
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	t.Cleanup(storage.Close)
	direct := true
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if direct {
			http.Redirect(w, r, storage.URL+"/a.zip?X-Amz-Signature=topsecret", http.StatusFound)
			return
		}
		w.Header().Set("ETag", tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	})
	get := func() *coordinator.Download {
		t.Helper()
		d, err := newClient(t, options(url, &recorder{})).Job(4711, jobToken, false).DownloadArtifact(t.Context(), job.Dependency{ID: 1, Token: jobToken}, true)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Body.Close() })
		return d
	}
	d := get()
	if d.Part == nil || d.Size != int64(len(data)) {
		t.Fatalf("got %+v, want parts of %d bytes", d, len(data))
	}
	part, err := d.Part(t.Context(), 5, 10)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(part)
	if err != nil || string(got) != "5678901234" {
		t.Errorf("a part: %q, %v", got, err)
	}
	_ = part.Close()
	for what, change := range map[string]func(){
		"403 Forbidden, want a part": func() { status = http.StatusForbidden },
		"changed while it was":       func() { tag = `"two"` },
		"200 OK, want a part":        func() { status = http.StatusOK },
	} {
		status, tag = 0, `"one"`
		change()
		if _, err := d.Part(t.Context(), 5, 10); err == nil || !strings.Contains(err.Error(), what) || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("got %v, want %q", err, what)
		}
	}
	status, tag = 0, ""
	if get().Part != nil {
		t.Error("there are parts of what has no tag")
	}
	tag, direct = `"one"`, false
	if get().Part != nil {
		t.Error("the coordinator itself is asked for parts")
	}
	storage.Close()
	if _, err := d.Part(t.Context(), 5, 10); err == nil || strings.Contains(err.Error(), "topsecret") {
		t.Errorf("without a storage: %v", err)
	}
}
