package logs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/logs"
)

type book struct {
	bytes.Buffer
	o   *logs.Observer
	now time.Time
}

func newBook(t *testing.T, level slog.Level) *book {
	t.Helper()
	b := &book{now: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)}
	h, err := logs.NewHandler(b, "runner", level, false)
	if err != nil {
		t.Fatal(err)
	}
	b.o = logs.New(slog.New(h))
	return b
}

func (b *book) emit(sc event.Scope, facts ...event.Fact) {
	for _, f := range facts {
		b.o.Observe(event.Event{Time: b.now, Scope: sc, Fact: f})
	}
}

// has checks that a line begins so and has these fields, and forgets what
// was logged.
func (b *book) has(t *testing.T, begin string, fields ...string) {
	t.Helper()
	all := b.String()
	b.Reset()
	for line := range strings.Lines(all) {
		if !strings.HasPrefix(line, begin) {
			continue
		}
		for _, f := range fields {
			if !strings.Contains(line, " "+f+" ") && !strings.HasSuffix(line, " "+f+"\n") {
				t.Errorf("%q lacks %q", line, f)
			}
		}
		return
	}
	t.Errorf("no line begins with %q in:\n%s", begin, all)
}

func (b *book) silent(t *testing.T) {
	t.Helper()
	if b.Len() > 0 {
		t.Errorf("unexpected: %s", b.String())
	}
	b.Reset()
}

func TestObserver(t *testing.T) {
	b := newBook(t, slog.LevelInfo)
	r := job.Runner{Short: "abcdefghi", Name: "one", SystemID: "s_0123456789ab", Executor: "shell"}
	process, poll, sc := event.Scope{}, event.Scope{Runner: r}, event.Scope{Runner: r, Job: 12, Run: 1}

	b.emit(process, event.ConfigLoaded{Path: "/etc/config.toml", Generation: 2, Concurrent: 4})
	b.has(t, "Configuration loaded ", "config=/etc/config.toml", "generation=2", "concurrent=4")
	b.emit(process, event.ConfigLoaded{Path: "c", Err: errors.New("line 3: bad")})
	b.has(t, "ERROR: Failed to load the configuration", `error="line 3: bad"`)
	b.emit(process, event.ListenerChanged{Address: "127.0.0.1:9252"})
	b.has(t, "Metrics server listening", "address=127.0.0.1:9252")
	b.emit(process, event.ListenerChanged{})
	b.has(t, "listen_address not defined, metrics & debug endpoints disabled")

	b.emit(sc, event.JobReceived{RepoURL: "https://gitlab.example.org/g/p.git", Info: job.Info{ProjectID: 7}})
	b.has(t, "Checking for jobs... received ", "job=12", "repo_url=https://gitlab.example.org/g/p.git", "runner=abcdefghi", "project=7")
	b.emit(sc, event.JobStarted{Info: job.Info{ProjectID: 7}})
	b.has(t, "Added job to processing list ", "job=12", "builds=1")
	b.emit(sc, event.PhaseStarted{Phase: "step_script"}, event.LogWritten{Bytes: 1}, event.LogSent{Total: 1}, event.JobState{State: job.Running}, event.Called{Endpoint: "update_job", Status: 200})
	b.silent(t)
	b.emit(sc, event.PhaseFinished{Phase: "step_script", Panicked: true})
	b.has(t, "ERROR: Phase finished", "panicked=true")
	b.emit(sc, event.JobFinished{Took: 1500 * time.Millisecond})
	b.has(t, "Job succeeded ", "duration_s=1.5", "job=12", "project=7", "runner=abcdefghi")
	b.emit(sc, event.JobFinished{Outcome: job.Outcome{Reason: job.ScriptFailure, Err: errors.New("exit status 1"), ExitCode: 1}})
	b.has(t, "WARNING: Job failed: exit status 1 ", "failure_reason=script_failure", "exit_code=1")
	b.emit(sc, event.JobFinished{Outcome: job.Outcome{Reason: job.SystemFailure, Err: errors.New("no disk")}})
	b.has(t, "ERROR: Job failed (system failure): no disk ", "job=12")
	b.emit(sc, event.JobRemoved{})
	got := b.String()
	b.has(t, "Submitting job to coordinator... ok ", "job=12")
	b.WriteString(got)
	b.has(t, "Removed job from processing list ", "builds=0", "job=12")
	b.emit(sc, event.JobRemoved{Lost: true, Err: errors.New("gone")})
	b.has(t, "ERROR: Submitting job to coordinator...failed ", "error=gone")

	b.emit(poll, event.HealthChecked{Failures: 3, DisabledUntil: b.now.Add(time.Hour)}, event.HealthChecked{Failures: 4, DisabledUntil: b.now.Add(time.Hour)})
	if n := strings.Count(b.String(), "\n"); n != 1 {
		t.Errorf("a switched-off runner is told %d times", n)
	}
	b.has(t, "ERROR: Runner is not healthy and will be disabled!", "disabled_until=2026-05-04T04:02:01Z")
	b.emit(poll, event.HealthChecked{OK: true})
	b.has(t, "Runner is healthy again")
	b.emit(process, event.Draining{Signal: "quit", Running: 2})
	b.has(t, "Starting graceful shutdown, waiting for builds to finish ", "StopSignal=quit", "builds=2")
	b.emit(process, event.Draining{Signal: "terminated", Forced: true})
	b.has(t, "WARNING: Starting forceful shutdown ", "StopSignal=terminated")
	b.emit(process, event.Recovered{Job: 3, Killed: 1})
	b.has(t, "WARNING: Settled a job that an earlier process left behind ", "job=3", "killed=1")
	b.emit(process, event.Degraded{What: "cleanup", Err: errors.New("x")})
	b.has(t, "WARNING: Something went wrong", "what=cleanup", "error=x")
}

func TestTroubleIsSaidOnceAMinute(t *testing.T) {
	b := newBook(t, slog.LevelInfo)
	poll := event.Scope{Runner: job.Runner{Short: "abcdefghi"}}
	for range 25 {
		b.emit(poll, event.Called{Endpoint: "request_job", Status: -1, Class: event.ErrConnect, Attempts: 1, Err: errors.New("nobody is there")}, event.Polled{Result: "failed"})
		b.now = b.now.Add(3 * time.Second)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[1], "repeated=19") {
		t.Errorf("got %d lines, want 2:\n%s", len(lines), b.String())
	}
	b.has(t, "WARNING: Checking for jobs... failed ", "class=connect", "code=-1", `error="nobody is there"`, "runner=abcdefghi")
	b.emit(poll, event.Called{Endpoint: "request_job", Status: 204}, event.Polled{Result: "none"})
	b.has(t, "Checking for jobs works again", "failed_for_s=75")
	b.emit(poll, event.Polled{Result: "forbidden"})
	b.has(t, "ERROR: Checking for jobs... forbidden")
}

func TestFormats(t *testing.T) {
	evil := "two\nlines\x1b[31m \u2028 end"
	for _, format := range logs.Formats() {
		for _, color := range []bool{false, true} {
			var b bytes.Buffer
			h, err := logs.NewHandler(&b, format, slog.LevelInfo, color)
			if err != nil {
				t.Fatal(err)
			}
			l := slog.New(h).With("a", evil).WithGroup("g\n").With("b", 1)
			l.Debug("no")
			l.Log(t.Context(), logs.LevelFatal, evil, "err", errors.New(evil), "c\n", evil, slog.Group("d", "e", time.Second, "f", job.Secret("s3cret")), "empty", "") //nolint:sloglint // hostile on purpose
			out := b.String()
			if strings.Count(out, "\n") != 1 || !strings.HasSuffix(out, "\n") {
				t.Errorf("%s: not one line: %q", format, out)
			}
			if strings.Contains(out, "s3cret") {
				t.Errorf("%s: a secret: %q", format, out)
			}
			if strings.Contains(strings.ReplaceAll(strings.ReplaceAll(out, "\x1b[31;1m", ""), "\x1b[0;m", ""), "\x1b") {
				t.Errorf("%s: an escape sequence: %q", format, out)
			}
			switch format {
			case "runner":
				if !color && !strings.HasPrefix(out, "FATAL: two") {
					t.Errorf("runner: %q", out)
				}
			case "text":
				if !strings.Contains(out, " level=fatal ") {
					t.Errorf("text: %q", out)
				}
			case "json":
				var v struct{ Level, Msg string }
				if err := json.Unmarshal(b.Bytes(), &v); err != nil || v.Level != "fatal" || v.Msg != evil {
					t.Errorf("json: %q: %v", out, err)
				}
			}
		}
	}
	if _, err := logs.NewHandler(nil, "xml", nil, false); err == nil || !strings.Contains(err.Error(), "runner") {
		t.Errorf("unknown format: %v", err)
	}
}

func TestRunnerFormat(t *testing.T) {
	var b bytes.Buffer
	h, err := logs.NewHandler(&b, "runner", slog.LevelDebug, false)
	if err != nil {
		t.Fatal(err)
	}
	slog.New(h).Warn("Short", "a", "x", "b", "y z", "c", 1.5)
	slog.New(h).Info("Alone")
	want := "WARNING: Short" + strings.Repeat(" ", 45) + " a=x b=\"y z\" c=1.5\nAlone\n"
	if got := b.String(); got != want {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}

func TestCounting(t *testing.T) {
	var b bytes.Buffer
	h, err := logs.NewHandler(&b, "text", slog.LevelError, false)
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[slog.Level]int)
	l := slog.New(logs.Counting(h, func(l slog.Level) { counts[l]++ })).With("a", 1).WithGroup("g")
	l.Warn("suppressed")
	l.Error("one")
	l.Error("two")
	if len(counts) != 1 || counts[slog.LevelError] != 2 {
		t.Errorf("got %v", counts)
	}
}

func TestScrub(t *testing.T) {
	for in, want := range map[string]string{
		"plain text":                          "plain text",
		"token glrt-t3_AbCdEfGhIjKl end":      "token [MASKED] end",
		"glcbt-64_AbCdEf.x":                   "[MASKED]",
		"https://u:p@host/x":                  "https://[MASKED]@host/x",
		"https://gitlab-ci-token:abc@h":       "https://[MASKED]@h",
		"https://u:p@ss@host/":                "https://[MASKED]@host/",
		"https://glpat-abcdefgh@h/":           "https://[MASKED]@h/",
		"https://host/a@b":                    "https://host/a@b",
		"https://host/?private_token=abc&x=1": "https://host/?private_token=[MASKED]&x=1",
		"JOB-TOKEN: abc":                      "JOB-TOKEN: [MASKED]",
		`{"registration_token":"abc"}`:        `{"registration_token":"[MASKED]"}`,
		"GR1348941AbCdEfGhIjKl":               "[MASKED]",
		"glassrunner-helper global-settings":  "glassrunner-helper global-settings",
		"mail a@b.example and https://h/path": "mail a@b.example and https://h/path",
	} {
		if got := logs.Scrub(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

type odd struct{ Token string }

func TestScrubbing(t *testing.T) {
	const secret = "glrt-t1_SeCrEtSeCrEt"
	for _, format := range logs.Formats() {
		var b bytes.Buffer
		h, err := logs.NewHandler(&b, format, slog.LevelDebug, false)
		if err != nil {
			t.Fatal(err)
		}
		l := slog.New(logs.Scrubbing(h)).With("w", secret, slog.Group("x", "y", secret)).WithGroup("g").With("v", secret)
		l.Info("m "+secret, "s", secret, "e", fmt.Errorf("at %w", errors.New("https://u:"+secret+"@h")), "o", odd{secret}, "p", &odd{secret}, slog.Group("g", "h", secret), "n", 12)
		if out := b.String(); strings.Contains(out, "SeCrEt") || !strings.Contains(out, "12") {
			t.Errorf("%s: %s", format, out)
		}
	}
}

func FuzzScrub(f *testing.F) {
	f.Add("https://u:p@h glrt-abcd private_token=x")
	f.Add("://@")
	f.Fuzz(func(t *testing.T, s string) {
		once := logs.Scrub(s)
		if twice := logs.Scrub(once); twice != once {
			t.Errorf("%q: once %q, twice %q", s, once, twice)
		}
	})
}

func TestLevels(t *testing.T) {
	for _, name := range []string{"debug", "info", "warning", "error", "fatal", "panic"} {
		l, err := logs.ParseLevel(name)
		if err != nil || logs.LevelName(l) != name {
			t.Errorf("%s: got %v, %v", name, logs.LevelName(l), err)
		}
	}
	if _, err := logs.ParseLevel("loud"); err == nil {
		t.Error("loud is a level")
	}
}

func TestSwitch(t *testing.T) {
	var out strings.Builder
	handler := func(format string) slog.Handler {
		h, err := logs.NewHandler(&out, format, slog.LevelInfo, false)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	s := logs.NewSwitch(handler("runner"))
	log := slog.New(s).With("a", 1).WithGroup("g").With("b", 2)
	log.Info("one", "c", 3)
	s.Set(handler("json"))
	log.Info("two", "c", 3)
	log.Debug("not enabled")
	first, second, _ := strings.Cut(strings.TrimSpace(out.String()), "\n")
	if want := "a=1 g.b=2 g.c=3"; !strings.HasPrefix(first, "one") || !strings.HasSuffix(first, want) {
		t.Errorf("got %q, want it to end in %q", first, want)
	}
	if want := `"msg":"two","a":1,"g":{"b":2,"c":3}}`; !strings.HasSuffix(second, want) {
		t.Errorf("got %q, want it to end in %q", second, want)
	}
}

// TestTraceIDs looks for the ids of a job's trace in every format.
func TestTraceIDs(t *testing.T) {
	on := event.NewTrace(event.TraceID{}, event.SpanID{}, true)
	unsampled := event.NewTrace(event.TraceID{}, event.SpanID{}, false)
	for _, tt := range []struct {
		format string
		trace  event.Trace
		want   string
	}{
		{"json", on, fmt.Sprintf(`"trace_id":"%s","span_id":"%s"`, on.ID, on.Span)},
		{"text", on, fmt.Sprintf("trace_id=%s span_id=%s", on.ID, on.Span)},
		{"runner", on, ""},
		{"json", unsampled, ""},
		{"json", event.Trace{}, ""},
	} {
		var b bytes.Buffer
		h, err := logs.NewHandler(&b, tt.format, slog.LevelInfo, false)
		if err != nil {
			t.Fatal(err)
		}
		logs.New(slog.New(h)).Observe(event.Event{Scope: event.Scope{Job: 1, Run: 1, Trace: tt.trace}, Fact: event.JobFinished{}})
		if got := b.String(); !strings.Contains(got, tt.want) || tt.want == "" && strings.Contains(got, "trace_id") {
			t.Errorf("%s: got %q, want %q", tt.format, got, tt.want)
		}
	}
}
