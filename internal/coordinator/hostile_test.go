package coordinator_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/glassrunner/glassrunner/internal/coordinator"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// raw answers every connection with what talk writes after a request.
func raw(t *testing.T, talk func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r, err := http.ReadRequest(bufio.NewReader(conn))
			if err == nil {
				_, _ = io.Copy(io.Discard, r.Body)
				talk(conn)
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return "http://" + l.Addr().String()
}

func TestHostileAnswers(t *testing.T) {
	const head = "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n"
	send := func(parts ...string) func(net.Conn) {
		return func(c net.Conn) {
			for _, p := range parts {
				_, _ = io.WriteString(c, p)
			}
		}
	}
	for _, tt := range []struct {
		name  string
		talk  func(net.Conn)
		class event.ErrorClass
		text  string
	}{
		{"nothing", send(), event.ErrReset, "EOF"},
		{"reset", func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }, event.ErrReset, "reset by peer"},
		{"not HTTP", send("220 smtp.example.com ESMTP\r\n"), event.ErrDecode, "malformed"},
		{"broken header", send("HTTP/1.1 201 Created\r\nno colon\r\n\r\n"), event.ErrDecode, "malformed"},
		{"endless header", func(c net.Conn) {
			_, _ = io.WriteString(c, head)
			for range 5000 {
				if _, err := fmt.Fprintf(c, "X-Junk: %s\r\n", strings.Repeat("x", 1000)); err != nil {
					return
				}
			}
		}, event.ErrDecode, "exceeded"},
		{"short body", send(head, "Content-Length: 100\r\n\r\n", `{"id":1,`), event.ErrReset, "unexpected EOF"},
		{"broken chunks", send(head, "Transfer-Encoding: chunked\r\n\r\nzz\r\n"), event.ErrDecode, "chunk"},
		{"broken gzip", send(head, "Content-Encoding: gzip\r\nContent-Length: 20\r\n\r\n"+smallJob[:20]), event.ErrDecode, "gzip: invalid header"},
		{"negative length", send(head, "Content-Length: -5\r\n\r\n"), event.ErrDecode, "Content-Length"},
		{"binary", send(head, "Content-Length: 4\r\n\r\n\x00\xff\xfe\x01"), event.ErrDecode, "invalid character"},
		{"terminal codes", send("HTTP/1.1 400 Bad\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\n\x1b[31mred\x07!\r\n"), event.ErrHTTP4xx, "400 Bad Request ([31mred !)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rec := &recorder{}
			c := newClient(t, options(raw(t, tt.talk), rec))
			spec, res, err := c.RequestJob(t.Context(), false)
			if spec != nil || res.Kind != coordinator.PollFailed {
				t.Errorf("got %+v", res)
			}
			wantText(t, err, "POST http://127.0.0.1:", tt.text)
			if strings.Count(err.Error(), "http://") != 1 {
				t.Errorf("the URL is repeated: %v", err)
			}
			got := rec.last(t)
			if got.Err == nil {
				t.Error("the event does not say why")
			}
			if got.Class != tt.class {
				t.Errorf("event: %+v, want class %q: %v", got, tt.class, err)
			}
		})
	}
}

// Endless answers cost neither time nor memory, whatever their status.
func TestEndlessBodies(t *testing.T) {
	for _, status := range []int{200, 201, 204, 403, 404, 409} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			u, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(status)
				block := []byte(strings.Repeat("[", 1<<16))
				for range 4096 { // 256 MiB, for all practical purposes endless
					if _, err := w.Write(block); err != nil {
						return
					}
				}
			})
			c := newClient(t, options(u, nil))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _, err := c.RequestJob(t.Context(), false)
			_, _ = c.Job(1, jobToken, false).Update(t.Context(), job.Update{State: job.WireRunning})
			runtime.ReadMemStats(&after)
			if status == 201 {
				wantText(t, err, "larger than")
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 150<<20 {
				t.Errorf("allocated %d MiB", grown>>20)
			}
		})
	}
}

func TestGzipBomb(t *testing.T) {
	var bomb bytes.Buffer
	z, err := gzip.NewWriterLevel(&bomb, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	for range 17 {
		_, _ = z.Write(make([]byte, 1<<20))
	}
	_ = z.Close()
	u, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write(bomb.Bytes())
	})
	_, _, err = newClient(t, options(u, nil)).RequestJob(t.Context(), false)
	wantText(t, err, "larger than")
}

// drip sends one byte of an endless body a second.
type drip struct {
	ctx    context.Context
	status int
}

func (d *drip) RoundTrip(r *http.Request) (*http.Response, error) {
	d.ctx = r.Context()
	return &http.Response{
		StatusCode: d.status, Header: http.Header{"Content-Type": {"application/json"}}, Body: d, Request: r, ContentLength: -1,
	}, nil
}

func (d *drip) Read(b []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		b[0] = ' '
		return 1, nil
	case <-d.ctx.Done():
		return 0, context.Cause(d.ctx)
	}
}

func (d *drip) Close() error { return nil }

func TestSlowDrip(t *testing.T) {
	for status, want := range map[int]time.Duration{201: 2 * time.Minute, 403: 5 * time.Second, 409: 5 * time.Second, 204: 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			rec := &recorder{}
			c := newClient(t, options("http://gitlab.test", rec))
			c.SetRoundTripper(&drip{status: status})
			start := time.Now()
			_, res, err := c.RequestJob(t.Context(), false)
			if took := time.Since(start); took != want {
				t.Errorf("%d: took %v, want %v", status, took, want)
			}
			switch status {
			case 201:
				wantText(t, err, "took too long", "broke off")
				if got := rec.last(t); got.Class != event.ErrTimeout || got.Status != -1 {
					t.Errorf("event: %+v", got)
				}
			case 403:
				if res.Kind != coordinator.PollForbidden {
					t.Errorf("got %+v", res)
				}
			default:
				if res.Kind != coordinator.PollNone {
					t.Errorf("got %+v", res)
				}
			}
		})
	}
}

func TestErrorClasses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	_ = l.Close()
	plain, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	for u, want := range map[string]event.ErrorClass{
		"http://" + closed:                         event.ErrConnect,
		strings.Replace(plain, "http", "https", 1): event.ErrTLS,
	} {
		rec := &recorder{}
		_, _, err := newClient(t, options(u, rec)).RequestJob(t.Context(), false)
		if got := rec.last(t); got.Class != want || got.Status != -1 {
			t.Errorf("%s: got %+v, want class %s: %v", u, got, want, err)
		}
	}
	for _, tt := range []struct {
		err  error
		want event.ErrorClass
	}{
		{&net.DNSError{Err: "no such host", IsNotFound: true}, event.ErrDNS},
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, event.ErrConnect},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, event.ErrTimeout},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, event.ErrReset},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")}, event.ErrTLS},
		{x509.HostnameError{Certificate: &x509.Certificate{}, Host: "h"}, event.ErrTLS},
		{errors.New("net/http: TLS handshake timeout"), event.ErrTLS},
		{context.Canceled, event.ErrCanceled},
		{context.DeadlineExceeded, event.ErrTimeout},
		{errors.New("http2: server sent GOAWAY and closed the connection"), event.ErrReset},
		{io.ErrUnexpectedEOF, event.ErrReset},
		{errors.New("strange"), event.ErrOther},
	} {
		if got := coordinator.ClassOf(fmt.Errorf("wrapped: %w", tt.err)); got != tt.want {
			t.Errorf("%v: got %s, want %s", tt.err, got, tt.want)
		}
	}
}

// No secret is in an error, a log line or an event, even when the server
// sends it back.
func TestNoSecretsLeak(t *testing.T) {
	var out bytes.Buffer
	const pat = "glpat-PersonalSecret"
	u, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		status := 401
		if strings.HasSuffix(r.URL.Path, "request") {
			status = 503
		}
		b, _ := io.ReadAll(io.LimitReader(r.Body, 1<<10))
		w.Header().Set("Retry-After", "0")
		sendJSON(w, status, fmt.Sprintf(`{"message":"%s %s %s at https://bob:hunter2@%s: %d bytes"}`,
			r.Header.Get("Runner-Token"), r.Header.Get("Job-Token"), r.Header.Get("Private-Token"), r.Host, len(b)))
	})
	rec := &recorder{}
	o := options(strings.Replace(u, "http://", "http://alice:hunter2@", 1), rec)
	o.Log = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c := newClient(t, o)
	j := c.Job(4711, jobToken, false)
	var errs []error
	add := func(err error) {
		if err == nil {
			t.Error("got no error")
		}
		errs = append(errs, err)
	}
	_, _, err := c.RequestJob(t.Context(), false)
	add(err)
	_, err = j.Append(t.Context(), 0, []byte("x"))
	add(err)
	_, err = j.Update(t.Context(), job.Update{State: job.WireRunning})
	add(err)
	_, err = c.Register(t.Context(), coordinator.RegisterOptions{})
	add(err)
	_, err = c.Verify(t.Context())
	add(err)
	_, err = c.ResetToken(t.Context())
	add(err)
	_, err = c.ResetTokenByPAT(t.Context(), 3, pat)
	add(err)
	add(c.Unregister(t.Context()))
	_, err = j.DownloadArtifact(t.Context(), job.Dependency{ID: 3, Token: jobToken}, false)
	add(err)
	for _, err := range errs {
		noSecret(t, err, pat, "alice", "bob")
		noSecret(t, fmt.Errorf("%+w %#w", err, err), pat, "alice", "bob")
	}
	for _, text := range []string{out.String(), fmt.Sprintf("%+v %+v", rec.events, j), c.URL()} {
		noSecret(t, errors.New(text), pat, "alice", "bob")
	}
	if out.Len() == 0 {
		t.Error("the test sees no log lines")
	}
}

func TestProxyFromEnvironment(t *testing.T) {
	if proxied := os.Getenv("COORDINATOR_TEST_PROXIED"); proxied != "" {
		rec := &recorder{}
		_, _, err := newClient(t, options(proxied, rec)).RequestJob(t.Context(), false)
		fmt.Printf("proxied: %v class=%s\n", err, rec.last(t).Class)
		return
	}
	proxy, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "gitlab.test" || r.Header.Get("Proxy-Authorization") == "" {
			t.Errorf("got %s %v", r.Host, r.Header)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := "http://" + l.Addr().String()
	_ = l.Close()
	with := func(p string) string { return strings.Replace(p, "http://", "http://user:hunter2@", 1) }
	for _, tt := range []struct{ proxy, target, want string }{
		{with(proxy), "http://gitlab.test", "proxied: <nil> class="},
		{with(dead), "http://gitlab.test", "class=connect"},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxyFromEnvironment$", "-test.v")
		cmd.Env = append(os.Environ(), "COORDINATOR_TEST_PROXIED="+tt.target, "HTTP_PROXY="+tt.proxy, "NO_PROXY=", "no_proxy=", "http_proxy=")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("got %v, %s, want %q", err, out, tt.want)
		}
		noSecret(t, errors.New(string(out)))
	}
}

func TestUserInfoIsSent(t *testing.T) {
	u, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if user, pass, ok := r.BasicAuth(); !ok || user != "me" || pass != "hunter2" {
			t.Errorf("got %q %q", user, pass)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	p, _ := url.Parse(u)
	p.User = url.UserPassword("me", "hunter2")
	if _, _, err := newClient(t, options(p.String(), nil)).RequestJob(t.Context(), false); err != nil {
		t.Error(err)
	}
}
