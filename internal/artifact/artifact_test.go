package artifact_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/glassrunner/glassrunner/internal/archive"
	"github.com/glassrunner/glassrunner/internal/artifact"
)

type lines struct{ strings.Builder }

func (l *lines) Info(s string)  { l.WriteString("I " + s + "\n") }
func (l *lines) Warn(s string)  { l.WriteString("W " + s + "\n") }
func (l *lines) Error(s string) { l.WriteString("E " + s + "\n") }

// coordinator takes uploads.
type coordinator struct {
	got  []artifact.Upload
	data [][]byte
	fail error
	read int64 // how much is read, 0: all
}

func (c *coordinator) Upload(_ context.Context, u artifact.Upload) error {
	c.got = append(c.got, u)
	for range 2 { // content can be had again, and is the same
		r, err := u.Body()
		if err != nil {
			return err
		}
		if c.read > 0 {
			_, err = io.CopyN(io.Discard, r, c.read)
		} else {
			var data []byte
			data, err = io.ReadAll(r)
			c.data = append(c.data, data)
		}
		if err := errors.Join(err, r.(io.Closer).Close()); err != nil {
			return err
		}
	}
	return c.fail
}

func project(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, n := range map[string]int{"a/one": 10, "a/two": 3 << 20} {
		if err := os.MkdirAll(filepath.Join(dir, "a"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte(name), n/5), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestSend(t *testing.T) {
	dir := project(t)
	refused := func(status int) error {
		return &artifact.Refusal{Status: status, Err: errors.New(http.StatusText(status))}
	}
	for _, tt := range []struct {
		name   string
		fail   error
		paths  []string
		format archive.Format
		want   artifact.Result
		text   string
	}{
		{"taken", nil, []string{"a"}, archive.Zip, artifact.OK, `I Uploading artifacts as "archive" to coordinator... 201 Created  id=7`},
		{"nothing", nil, []string{"b"}, archive.Zip, artifact.Empty, "E No files to upload"},
		{"too large", refused(413), []string{"a"}, archive.Zip, artifact.TooLarge, `E Uploading artifacts as "archive" to coordinator... 413 Request Entity Too Large`},
		{"forbidden", refused(403), []string{"a"}, archive.Zip, artifact.Forbidden, "403 Forbidden"},
		{"trouble", refused(500), []string{"a"}, archive.Zip, artifact.Failed, "500 Internal Server Error"},
		{"no answer", errors.New("connection reset"), []string{"a"}, archive.Zip, artifact.Failed, "error"},
		{"one file", nil, []string{"a"}, archive.Raw, artifact.Failed, ""},
		{"raw", nil, []string{"a/one"}, archive.Raw, artifact.OK, "201 Created"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, out := &coordinator{fail: tt.fail}, &lines{}
			sum, err := artifact.Send(t.Context(), c, artifact.SendOptions{Dir: dir, Rules: archive.Rules{Paths: tt.paths}, Format: tt.format, ID: 7, Print: out})
			if sum.Result != tt.want || !strings.Contains(out.String(), tt.text) || (err == nil) != (tt.want == artifact.OK || tt.want == artifact.Empty) {
				t.Errorf("got %s, %v, want %s:\n%s", sum.Result, err, tt.want, out)
			}
			if len(c.data) == 2 && (!bytes.Equal(c.data[0], c.data[1]) || sum.Bytes != int64(len(c.data[1]))) {
				t.Errorf("two tries differ, or not %d bytes", sum.Bytes)
			}
		})
	}
}

// An upload that ends early leaves nothing behind that runs.
func TestSendEndsEarly(t *testing.T) {
	dir := project(t)
	synctest.Test(t, func(t *testing.T) {
		c := &coordinator{read: 10, fail: errors.New("no")}
		if _, err := artifact.Send(t.Context(), c, artifact.SendOptions{Dir: dir, Rules: archive.Rules{Paths: []string{"a"}}, Print: &lines{}}); err == nil {
			t.Error("got no error")
		}
	})
}

// earlier is what earlier jobs left.
type earlier struct {
	answers []any // []byte or error
	direct  []bool
}

func (e *earlier) Download(_ context.Context, direct bool) (artifact.Content, error) {
	e.direct = append(e.direct, direct)
	a := e.answers[0]
	e.answers = e.answers[1:]
	switch a := a.(type) {
	case error:
		return artifact.Content{}, a
	case artifact.Content:
		return a, nil
	case []byte:
		return artifact.Content{Body: io.NopCloser(bytes.NewReader(a)), Size: int64(len(a))}, nil
	}
	return artifact.Content{Body: io.NopCloser(strings.NewReader("short")), Size: 100}, nil
}

func TestReceive(t *testing.T) {
	dir := project(t)
	s, err := archive.Select(dir, archive.Rules{Paths: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	var z bytes.Buffer
	if err := archive.Write(t.Context(), &z, archive.Zip, dir, s.Files, archive.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	refused := func(status int) error { return &artifact.Refusal{Status: status, Err: errors.New("refused")} }
	for _, tt := range []struct {
		name    string
		answers []any
		want    artifact.Result
		tries   int
	}{
		{"at once", []any{z.Bytes()}, artifact.OK, 1},
		{"busy, cut, whole", []any{refused(503), "cut", z.Bytes()}, artifact.OK, 3},
		{"never", []any{refused(500), errors.New("reset"), refused(502)}, artifact.Failed, 3},
		{"gone", []any{refused(404)}, artifact.NotFound, 1},
		{"not ours", []any{refused(401)}, artifact.Forbidden, 1},
		{"no archive", []any{[]byte("text")}, artifact.Failed, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				to, staging, out, e := t.TempDir(), t.TempDir(), &lines{}, &earlier{answers: tt.answers}
				sum, err := artifact.Receive(t.Context(), e, artifact.ReceiveOptions{Dir: to, Staging: staging, ID: 7, Direct: true, Print: out})
				if sum.Result != tt.want || (err == nil) != (tt.want == artifact.OK) || len(e.direct) != tt.tries {
					t.Errorf("got %s, %v after %d tries:\n%s", sum.Result, err, len(e.direct), out)
				}
				for i, d := range e.direct {
					if d != (i == 0) {
						t.Errorf("try %d: direct %v", i+1, d)
					}
				}
				if fi, err := os.Stat(filepath.Join(to, "a/two")); tt.want == artifact.OK && (err != nil || fi.Size() < 3<<20-10) {
					t.Errorf("extracted: %v, %v", fi, err)
				}
				if left, _ := os.ReadDir(staging); len(left) > 0 {
					t.Errorf("left: %v", left)
				}
			})
		})
	}
}

// inParts is an archive that has parts. Every part but the bad one is right.
func inParts(data []byte, parts *atomic.Int64, bad int64) artifact.Content {
	return artifact.Content{
		Body: io.NopCloser(bytes.NewReader(data)), Size: int64(len(data)),
		Part: func(_ context.Context, off, n int64) (io.ReadCloser, error) {
			if i := parts.Add(1); i == bad {
				return nil, errors.New("no such part")
			}
			return io.NopCloser(io.NewSectionReader(bytes.NewReader(data), off, n)), nil
		},
	}
}

func TestReceiveInParts(t *testing.T) {
	dir := project(t)
	s, err := archive.Select(dir, archive.Rules{Paths: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	var z bytes.Buffer
	if err := archive.Write(t.Context(), &z, archive.Zip, dir, s.Files, archive.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	n := int64(z.Len())
	for _, tt := range []struct {
		name  string
		p     artifact.Parallel
		most  int64 // parts that may be asked for
		bad   int64
		tries int
	}{
		{"one stream", artifact.Parallel{Streams: 1, Part: 100}, 0, 0, 1},
		{"parts", artifact.Parallel{Streams: 4, Part: n/100 + 1}, 99, 0, 1},
		{"an odd end", artifact.Parallel{Streams: 3, Part: n - 1}, 1, 0, 1},
		{"one part", artifact.Parallel{Streams: 3, Part: n}, 0, 0, 1},
		{"the default", artifact.Parallel{Streams: 3}, 0, 0, 1},
		{"a part fails", artifact.Parallel{Streams: 2, Part: n/1000 + 1}, 2000, 1, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var parts atomic.Int64
				e := &earlier{answers: []any{inParts(z.Bytes(), &parts, tt.bad), z.Bytes()}}
				to, out := t.TempDir(), &lines{}
				sum, err := artifact.Receive(t.Context(), e, artifact.ReceiveOptions{Dir: to, Staging: t.TempDir(), ID: 7, Parallel: tt.p, Print: out})
				if err != nil || sum.Result != artifact.OK || sum.Bytes != n {
					t.Fatalf("got %+v, %v, want %d bytes:\n%s", sum, err, n, out)
				}
				// Whether the part that fails is asked for is a race with the answer that is there.
				if tries := len(e.direct); tries > tt.tries {
					t.Errorf("%d tries, want %d", tries, tt.tries)
				}
				if got := parts.Load(); got > tt.most {
					t.Errorf("%d parts, want at most %d", got, tt.most)
				}
				got, err := os.ReadFile(filepath.Join(to, "a/two"))
				if err != nil {
					t.Fatal(err)
				}
				want, err := os.ReadFile(filepath.Join(dir, "a/two"))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("a file differs, %v", err)
				}
			})
		})
	}
}
