package joblog_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/joblog"
)

// call is one request as the sink saw it.
type call struct {
	At   time.Duration // since the sink was made
	What string
}

// sink is a coordinator that keeps to the protocol. Before it answers, hook
// may return an answer of its own.
type sink struct {
	t     testing.TB
	start time.Time
	// hook is told "append", "running", "success" or "failed".
	hook func(what string, off int64, p []byte) (ack job.Ack, err error, done bool)
	took time.Duration // of each request

	mu     sync.Mutex
	stored []byte
	calls  []call
	busy   int
	final  *job.Update
}

func newSink(t testing.TB) *sink { return &sink{t: t, start: time.Now()} }

func (s *sink) enter(what string) {
	s.mu.Lock()
	s.calls = append(s.calls, call{time.Since(s.start), what})
	if s.busy++; s.busy > 1 {
		s.t.Error("two requests at once")
	}
	s.mu.Unlock()
	if s.took > 0 {
		time.Sleep(s.took)
	}
	s.mu.Lock()
	s.busy--
}

func (s *sink) Append(ctx context.Context, off int64, p []byte) (job.Ack, error) {
	s.enter(fmt.Sprintf("append %d-%d", off, off+int64(len(p))))
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return job.Ack{Result: job.Trouble, Status: -1}, ctx.Err()
	}
	if len(p) == 0 || len(p) > 1<<20 || off < 0 {
		s.t.Errorf("Append of %d bytes at %d", len(p), off)
	}
	if s.final != nil {
		s.t.Error("Append after the final state")
	}
	if s.hook != nil {
		if ack, err, done := s.hook("append", off, p); done {
			return ack, err
		}
	}
	return s.keep(off, p), nil
}

// keep is the algorithm of the contract, 2.8.
func (s *sink) keep(off int64, p []byte) job.Ack {
	if off == int64(len(s.stored)) {
		s.stored = append(s.stored, p...)
	}
	if off+int64(len(p)) != int64(len(s.stored)) {
		return job.Ack{Result: job.Rewind, Status: 416, Offset: int64(len(s.stored))}
	}
	return job.Ack{Result: job.Accepted, Status: 202, Offset: int64(len(s.stored))}
}

func (s *sink) Update(ctx context.Context, u job.Update) (job.Ack, error) {
	s.enter(string(u.State))
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return job.Ack{Result: job.Trouble, Status: -1}, ctx.Err()
	}
	if s.hook != nil {
		if ack, err, done := s.hook(string(u.State), 0, nil); done {
			return ack, err
		}
	}
	if u.State != job.WireRunning {
		sum := fmt.Sprintf("crc32:%08x", crc32.ChecksumIEEE(s.stored))
		if u.Size != int64(len(s.stored)) || u.Checksum != sum {
			s.t.Errorf("final state with %d bytes, %s; there are %d, %s", u.Size, u.Checksum, len(s.stored), sum)
		}
		s.final = &u
	}
	return job.Ack{Result: job.Accepted, Status: 200}, nil
}

// seen returns what was called, times in seconds.
func (s *sink) seen() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, c := range s.calls {
		fmt.Fprintf(&b, "%g %s\n", c.At.Seconds(), c.What)
	}
	return b.String()
}

// upload makes a log and runs an Uploader until its end function is called.
func upload(t *testing.T, s joblog.Sink, o joblog.UploadOptions) (l *joblog.Log, u *joblog.Uploader, path string) {
	t.Helper()
	l, path = create(t, joblog.Options{Limit: 1 << 40})
	o.Log, o.Sink = l, s
	u = joblog.NewUploader(o)
	ctx := event.WithScope(t.Context(), event.Scope{Job: 7})
	done := make(chan struct{})
	go func() {
		defer close(done)
		u.Run(ctx)
	}()
	t.Cleanup(func() {
		u.Stop()
		<-done
	})
	synctest.Wait() // the clock of Run has started
	return l, u, path
}

func finish(t *testing.T, u *joblog.Uploader) {
	t.Helper()
	if err := u.Finish(t.Context(), job.Update{State: job.WireSuccess}); err != nil {
		t.Errorf("Finish: got %v, want nil", err)
	}
}

// same compares what the sink has with the file.
func same(t *testing.T, s *sink, path string) {
	t.Helper()
	if got, want := string(s.stored), read(t, path); got != want {
		t.Errorf("the coordinator has %d bytes that differ from the log of %d", len(got), len(want))
	}
	if s.final == nil {
		t.Error("the coordinator does not know the final state")
	}
}

func TestUpload(t *testing.T) {
	tests := map[string]struct {
		o    joblog.UploadOptions
		hook func(s *sink) func(what string, off int64, p []byte) (job.Ack, error, bool)
		run  func(t *testing.T, w io.Writer)
		want string
	}{
		"no output": {want: "0 success\n"},
		"short job": {run: func(t *testing.T, w io.Writer) {
			write(t, w, "hello\n")
			time.Sleep(500 * time.Millisecond)
		}, want: "0.5 append 0-6\n0.5 success\n"},
		"quiet": {run: func(*testing.T, io.Writer) { time.Sleep(11 * time.Second) },
			want: "5 running\n10 running\n11 success\n"},
		"output": {run: func(t *testing.T, w io.Writer) {
			for range 5 {
				write(t, w, "0123456789")
				time.Sleep(2 * time.Second)
			}
		}, want: "0.75 append 0-10\n3.75 append 10-20\n6.75 append 20-40\n9.75 append 40-50\n10 success\n"},
		"flood": {run: func(t *testing.T, w io.Writer) {
			write(t, w, strings.Repeat("0123456789", 250_000))
			time.Sleep(time.Second)
		}, want: "0.75 append 0-1048576\n0.75 append 1048576-2097152\n0.75 append 2097152-2500000\n1 success\n"},
		"server's interval": {hook: func(s *sink) func(string, int64, []byte) (job.Ack, error, bool) {
			return func(what string, off int64, p []byte) (job.Ack, error, bool) {
				if what == "append" {
					a := s.keep(off, p)
					a.Interval = 12 * time.Second
					return a, nil, true
				}
				return job.Ack{}, nil, false
			}
		}, run: func(t *testing.T, w io.Writer) {
			for range 20 {
				write(t, w, "0123456789")
				time.Sleep(time.Second)
			}
		}, want: "0.75 append 0-10\n5.75 running\n10.75 running\n12.75 append 10-130\n17.75 running\n20 append 130-200\n20 success\n"},
		"404 of a chunk": {hook: func(*sink) func(string, int64, []byte) (job.Ack, error, bool) {
			n := 0
			return func(what string, _ int64, _ []byte) (job.Ack, error, bool) {
				if n++; what == "append" && n == 1 {
					return job.Ack{Result: job.Gone, Status: 404}, nil, true
				}
				return job.Ack{}, nil, false
			}
		}, run: func(t *testing.T, w io.Writer) {
			write(t, w, "x")
			time.Sleep(4 * time.Second)
		}, want: "0.75 append 0-1\n3.75 append 0-1\n4 success\n"},
		"lost answer": {hook: func(s *sink) func(string, int64, []byte) (job.Ack, error, bool) {
			n := 0
			return func(what string, off int64, p []byte) (job.Ack, error, bool) {
				if n++; what == "append" && n == 1 {
					s.keep(off, p)
					return job.Ack{Status: -1}, errors.New("connection reset"), true
				}
				return job.Ack{}, nil, false
			}
		}, run: func(t *testing.T, w io.Writer) {
			write(t, w, "0123456789")
			time.Sleep(time.Second)
			write(t, w, "more")
			time.Sleep(3 * time.Second)
		}, want: "0.75 append 0-10\n3.75 append 0-10\n3.75 append 10-14\n4 success\n"},
		"trouble": {hook: func(s *sink) func(string, int64, []byte) (job.Ack, error, bool) {
			return func(what string, _ int64, _ []byte) (job.Ack, error, bool) {
				if what == "running" && time.Since(s.start) < 100*time.Second {
					return job.Ack{Result: job.Trouble, Status: 503}, errors.New("503"), true
				}
				return job.Ack{}, nil, false
			}
		}, run: func(*testing.T, io.Writer) { time.Sleep(122 * time.Second) },
			want: "5 running\n15 running\n35 running\n65 running\n95 running\n" + "122 success\n"},
		"trouble ends": {hook: func(s *sink) func(string, int64, []byte) (job.Ack, error, bool) {
			return func(what string, _ int64, _ []byte) (job.Ack, error, bool) {
				if what == "running" && time.Since(s.start) < 10*time.Second {
					return job.Ack{Result: job.Trouble, Status: 429}, nil, true
				}
				return job.Ack{}, nil, false
			}
		}, run: func(*testing.T, io.Writer) { time.Sleep(22 * time.Second) },
			want: "5 running\n15 running\n20 running\n22 success\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSink(t)
				if tt.hook != nil {
					s.hook = tt.hook(s)
				}
				l, u, path := upload(t, s, tt.o)
				if tt.run != nil {
					tt.run(t, l.Stream(1, false))
				}
				finish(t, u)
				same(t, s, path)
				if d := cmp.Diff(tt.want, s.seen()); d != "" {
					t.Error(d)
				}
				if got, want := u.Sent(), l.Size(); got != want {
					t.Errorf("Sent: got %d, want %d", got, want)
				}
			})
		})
	}
}

// An open Uploader is told what to do by every kind of answer, once.
func TestDirectives(t *testing.T) {
	tests := map[string]struct {
		output      string
		append, put job.Ack
		want        []job.Directive
		calls       string // in 20 seconds
	}{
		"cancel by a chunk": {"x", job.Ack{Status: 202, Offset: 1, Directive: job.Cancel}, job.Ack{Status: 200, Directive: job.Cancel}, []job.Directive{job.Cancel},
			"0.75 append 0-1\n5.75 running\n10.75 running\n15.75 running\n"},
		"cancel of a silent job": {"", job.Ack{}, job.Ack{Status: 200, Directive: job.Cancel}, []job.Directive{job.Cancel},
			"5 running\n10 running\n15 running\n20 running\n"},
		"cancel, then abort": {"x", job.Ack{Status: 202, Offset: 1, Directive: job.Cancel}, job.Ack{Result: job.Refused, Directive: job.Abort}, []job.Directive{job.Cancel, job.Abort},
			"0.75 append 0-1\n5.75 running\n"},
		"abort by a chunk":   {"x", job.Ack{Status: 202, Offset: 1, Directive: job.Abort}, job.Ack{}, []job.Directive{job.Abort}, "0.75 append 0-1\n"},
		"403 of a chunk":     {"x", job.Ack{Result: job.Refused, Status: 403}, job.Ack{}, []job.Directive{job.Abort}, "0.75 append 0-1\n"},
		"404 of a status":    {"", job.Ack{}, job.Ack{Result: job.Gone, Status: 404}, []job.Directive{job.Abort}, "5 running\n"},
		"cancel with a 503":  {"", job.Ack{}, job.Ack{Result: job.Trouble, Status: 503, Directive: job.Cancel}, []job.Directive{job.Cancel}, "5 running\n15 running\n"},
		"abort with trouble": {"x", job.Ack{Result: job.Trouble, Status: 500, Directive: job.Abort}, job.Ack{}, []job.Directive{job.Abort}, "0.75 append 0-1\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []job.Directive
				s := newSink(t)
				s.hook = func(what string, _ int64, _ []byte) (job.Ack, error, bool) {
					if what == "append" {
						return tt.append, nil, true
					}
					return tt.put, nil, true
				}
				l, u, _ := upload(t, s, joblog.UploadOptions{On: func(d job.Directive) { got = append(got, d) }})
				write(t, l.Stream(1, false), tt.output)
				time.Sleep(20*time.Second + time.Millisecond)
				u.Stop()
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Error(d)
				}
				if d := cmp.Diff(tt.calls, s.seen()); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

// A coordinator that claims more than there is gets neither a hot loop nor
// many complaints, and the final state.
func TestOffsetBeyond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var degraded, failed int
		bus := event.NewBus(event.ObserverFunc(func(e event.Event) {
			if _, ok := e.Fact.(event.Degraded); ok {
				degraded++
			}
			if f, ok := e.Fact.(event.LogSent); ok && f.Failed {
				failed++
			}
		}))
		s := newSink(t)
		s.hook = func(what string, off int64, _ []byte) (job.Ack, error, bool) {
			if what == "append" && off < 1000 {
				return job.Ack{Result: job.Rewind, Status: 416, Offset: 1000}, nil, true
			}
			return job.Ack{Status: 200}, nil, true
		}
		l, u, _ := upload(t, s, joblog.UploadOptions{Bus: bus})
		for range 60 {
			write(t, l.Stream(1, false), "x")
			time.Sleep(time.Second)
		}
		finish(t, u)
		if n := len(s.calls); n > 15 {
			t.Errorf("got %d calls, want at most 15:\n%s", n, s.seen())
		}
		if degraded != 1 || failed != 2 {
			t.Errorf("got %d Degraded and %d failed LogSent, want 1 and 2", degraded, failed)
		}
		if u.Sent() != l.Size() {
			t.Errorf("Sent: got %d, want %d", u.Sent(), l.Size())
		}
	})
}

func TestFinish(t *testing.T) {
	trouble := job.Ack{Result: job.Trouble, Status: 503}
	tests := map[string]struct {
		answers []job.Ack // in turn, then the real ones
		err     bool
		want    string
	}{
		"202":              {[]job.Ack{{}, {Result: job.Incomplete, Interval: time.Second}, {Result: job.Incomplete, Interval: 2 * time.Second}, {Result: job.Incomplete}}, false, "0 append 0-5\n0 success\n1 success\n3 success\n5 success\n"},
		"202, no interval": {[]job.Ack{{}, {Result: job.Incomplete}}, false, "0 append 0-5\n0 success\n3 success\n"},
		"412":              {[]job.Ack{{}, {Result: job.Mismatch, Status: 412}}, false, "0 append 0-5\n0 success\n3 append 0-5\n3 success\n"},
		"403":              {[]job.Ack{{}, {Result: job.Refused, Status: 403}}, false, "0 append 0-5\n0 success\n"},
		"404":              {[]job.Ack{{}, {Result: job.Gone, Status: 404}}, false, "0 append 0-5\n0 success\n"},
		"202, aborted":     {[]job.Ack{{}, {Result: job.Incomplete, Directive: job.Abort}}, false, "0 append 0-5\n0 success\n"},
		"canceling":        {[]job.Ack{{}, {Result: job.Incomplete, Directive: job.Cancel}}, false, "0 append 0-5\n0 success\n3 success\n"},
		"416 again":        {[]job.Ack{{Result: job.Rewind, Offset: 0}, {Result: job.Rewind, Offset: 0}, {Result: job.Rewind, Offset: 0}}, false, "0 append 0-5\n0 append 0-5\n3 append 0-5\n6 append 0-5\n6 success\n"},
		"503":              {[]job.Ack{trouble, trouble, {}, trouble}, false, "0 append 0-5\n4 append 0-5\n9 append 0-5\n9 success\n16 success\n"},
		"503 for ever":     {[]job.Ack{trouble, trouble, trouble, trouble, trouble}, true, "0 append 0-5\n4 append 0-5\n9 append 0-5\n16 append 0-5\n"},
		"404 of the log":   {[]job.Ack{{Result: job.Gone}, {Result: job.Gone}}, false, "0 append 0-5\n0 success\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSink(t)
				s.hook = func(what string, off int64, p []byte) (job.Ack, error, bool) {
					if len(tt.answers) == 0 {
						return job.Ack{}, nil, false
					}
					a := tt.answers[0]
					tt.answers = tt.answers[1:]
					switch {
					case a == (job.Ack{}):
						return a, nil, false
					case a.Result == job.Mismatch:
						s.stored = nil
					}
					return a, nil, true
				}
				l, path := create(t, joblog.Options{})
				write(t, l.Stream(1, false), "text\n")
				u := joblog.NewUploader(joblog.UploadOptions{Log: l, Sink: s, FinalRetries: 4})
				err := u.Finish(t.Context(), job.Update{State: job.WireSuccess})
				if (err != nil) != tt.err {
					t.Errorf("got %v, want an error: %v", err, tt.err)
				}
				if d := cmp.Diff(tt.want, s.seen()); d != "" {
					t.Error(d)
				}
				if s.final != nil {
					same(t, s, path)
				}
				u.Run(t.Context()) // too late: returns at once
			})
		})
	}
}

func TestFinishEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink(t)
		s.hook = func(string, int64, []byte) (job.Ack, error, bool) {
			return job.Ack{Result: job.Incomplete}, nil, true
		}
		l, _ := create(t, joblog.Options{})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		err := joblog.NewUploader(joblog.UploadOptions{Log: l, Sink: s}).Finish(ctx, job.Update{State: job.WireFailed})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 10*time.Second {
			t.Errorf("got %v after %v, want DeadlineExceeded after 10s", err, time.Since(start))
		}
	})
}

// A log whose file is gone does not keep the final state back.
func TestFinishUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink(t)
		s.hook = func(string, int64, []byte) (job.Ack, error, bool) { return job.Ack{}, nil, true }
		l, path := create(t, joblog.Options{})
		write(t, l.Stream(1, false), "text\n")
		_ = l.Close()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		finish(t, joblog.NewUploader(joblog.UploadOptions{Log: l, Sink: s}))
		if got, want := s.seen(), "0 success\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// Stop waits for the request that is being made and makes no further one.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink(t)
		s.took = time.Minute
		l, u, path := upload(t, s, joblog.UploadOptions{ChunkSize: 4})
		write(t, l.Stream(1, false), "0123456789")
		time.Sleep(time.Second)
		u.Stop()
		if got, want := s.seen(), "0.75 append 0-4\n"; got != want || time.Since(s.start) < time.Minute {
			t.Errorf("got %q after %v, want %q after a minute", got, time.Since(s.start), want)
		}
		finish(t, u)
		same(t, s, path)
	})
}

// After a crash the next process sends what is missing, even with another
// idea of chunks.
func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink(t)
		path := filepath.Join(t.TempDir(), "log")
		l, err := joblog.Create(joblog.Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		w := l.Stream(1, false)
		ctx, crash := context.WithCancel(t.Context())
		u := joblog.NewUploader(joblog.UploadOptions{Log: l, Sink: s, ChunkSize: 1000})
		done := make(chan struct{})
		go func() { defer close(done); u.Run(ctx) }()
		for i := range 5000 {
			_, _ = fmt.Fprintf(w, "line %d\n", i)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(50 * time.Millisecond) // longer than writes are put together
		crash()                           // and l is dropped
		<-done
		if n := len(s.stored); n == 0 || n == int(l.Size()) {
			t.Fatalf("%d bytes were sent, the test wants some", n)
		}

		l2, err := joblog.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, l2.Stream(0, false), "ERROR: the runner was killed\n")
		u2 := joblog.NewUploader(joblog.UploadOptions{Log: l2, Sink: s})
		start := time.Now()
		if err := u2.Finish(t.Context(), job.Update{State: job.WireFailed, Reason: job.SystemFailure}); err != nil {
			t.Fatal(err)
		}
		same(t, s, path)
		if !strings.HasSuffix(string(s.stored), "line 4999\nERROR: the runner was killed\n") {
			t.Errorf("got …%q at the end", s.stored[len(s.stored)-50:])
		}
		if time.Since(start) != 0 {
			t.Errorf("took %v, want no waiting", time.Since(start))
		}
		if u2.Delivered() >= l2.Size() || u2.Delivered() <= 0 {
			t.Errorf("Delivered: got %d of %d, want a part", u2.Delivered(), l2.Size())
		}
	})
}
