package top_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/api"
	"github.com/glassrunner/glassrunner/internal/top"
)

var update = flag.Bool("update", false, "write golden files")

// served is a server whose answers a test chooses.
type served struct {
	*httptest.Server
	mu   sync.Mutex
	s    api.Snapshot
	fail bool
}

func serve(t *testing.T) *served {
	t.Helper()
	v := &served{s: sample()}
	v.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.fail {
			http.Error(w, "no", http.StatusServiceUnavailable)
			return
		}
		var answer any
		switch r.URL.Path {
		case "/api/v1/status":
			answer = v.s.Status
		case "/api/v1/runners":
			answer = v.s.Runners
		case "/api/v1/jobs":
			answer = v.s.Jobs
		case "/api/v1/finished":
			answer = v.s.Finished
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(v.Close)
	return v
}

func (v *served) client(t *testing.T) *top.Client {
	t.Helper()
	c, err := top.NewClient(top.Source{URL: v.URL})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sample() api.Snapshot {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) *time.Time { t := now.Add(-d); return &t }
	cpu, memory := 83.2, int64(734_000_000)
	s := api.Snapshot{
		Status: api.Status{
			Version: "1.4.0", SystemID: "s_3f9ac21b77d0", State: "running", Started: *ago(9*time.Hour + 12*time.Minute), Now: now,
			Slots: api.Slots{Total: 24, Running: 3, Requesting: 1, Idle: 20}, Config: api.Config{Concurrent: 24},
		},
		Runners: []api.Runner{
			{Runner: "t3kW71930", Name: "build-01", Executor: "shell", URL: "https://gitlab.example.com", Entries: 1, Running: 2, Healthy: true, LastSuccess: ago(3 * time.Second), LastJob: ago(70 * time.Second)},
			{Runner: "t3kW72341", Name: "docker-large", Executor: "docker", URL: "https://gitlab.example.com", Entries: 1, Limit: 4, Running: 1, Failures: 3, DisabledUntil: ago(-40 * time.Minute)},
			{Runner: "t3kW73163", Name: "", Executor: "shell", URL: "https://gitlab.example.com", Entries: 1, Healthy: true, LastPollResult: "failed", LastSuccess: ago(5 * time.Minute)},
		},
		Jobs: []api.Job{
			{Run: 1, ID: 48210, Name: "unit", Project: "platform/api", RunnerName: "build-01", Stage: "step_script", StageSince: *ago(50 * time.Minute), Started: *ago(52 * time.Minute), Timeout: 3600, LastOutput: ago(14 * time.Minute), CPU: &cpu, Memory: &memory},
			{Run: 2, ID: 48217, Name: "build:image 建造", Project: "web/storefront", RunnerName: "build-01", Stage: "get_sources", StageSince: *ago(2 * time.Second), Started: *ago(9 * time.Second)},
			{Run: 3, ID: 48224, Name: "bad\x1b[31m\x07name\u202e\r\n", Project: "a/b", RunnerName: "docker-large", Stage: "step_script", StageSince: *ago(time.Minute), Started: *ago(2 * time.Minute), Directive: "cancel"},
		},
	}
	for i := range 6 {
		f := api.Finished{Job: api.Job{Run: uint64(10 + i), ID: int64(48100 + i), Name: "lint", Project: "docs/handbook", RunnerName: "build-01"}, Ended: *ago(time.Duration(60-10*i) * time.Second), Took: float64(i) * 7.3, Result: api.Success}
		if i == 4 {
			f.Result, f.Reason, f.ExitCode = api.Failed, "script_failure", 2
		}
		s.Finished = append(s.Finished, f)
	}
	return s
}

// screen is a terminal of a test.
type screen struct {
	mu         sync.Mutex
	cols, rows int
	keys       chan []byte
	out        bytes.Buffer
}

func (s *screen) Size() (int, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cols, s.rows
}

func (s *screen) Keys(ctx context.Context) <-chan []byte {
	out := make(chan []byte)
	go func() {
		defer close(out)
		for {
			select {
			case k := <-s.keys:
				out <- k
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(p)
}

// last is the picture that was painted last, without colours.
func (s *screen) last() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.out.String()
	i := strings.LastIndex(all, "\x1b[H")
	if i < 0 {
		return nil
	}
	all = all[i+3:]
	for _, code := range []string{"\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[7m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[K", "\x1b[J"} {
		all = strings.ReplaceAll(all, code, "")
	}
	return strings.Split(all, "\r\n")
}

func (s *screen) shows(t *testing.T, what string, ok func(lines []string) bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(s.last()); {
		if time.Now().After(end) {
			t.Fatalf("the screen does not show %s:\n%s", what, strings.Join(s.last(), "\n"))
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestOnce(t *testing.T) {
	v := serve(t)
	for _, columns := range []int{160, 100, 60, 30} {
		var b bytes.Buffer
		if err := top.Run(t.Context(), top.Options{Client: v.client(t), Out: &b, Columns: columns}); err != nil {
			t.Fatal(err)
		}
		got := b.String()
		if strings.ContainsAny(got, "\x1b\x07\r") {
			t.Errorf("%d columns: what controls a terminal is in %q", columns, got)
		}
		path := filepath.Join("testdata", fmt.Sprintf("once-%d.txt", columns))
		if *update {
			if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%d columns (-want +got):\n%s", columns, diff)
		}
	}
}

func TestScreen(t *testing.T) {
	v := serve(t)
	for i := range 50 {
		j := v.s.Jobs[1]
		j.Run, j.ID, j.Name, j.Started = uint64(100+i), int64(50000+i), fmt.Sprintf("many-%02d", i), j.Started.Add(time.Duration(i)*time.Millisecond)
		v.s.Jobs = append(v.s.Jobs, j)
	}
	s := &screen{cols: 100, rows: 24, keys: make(chan []byte)}
	ended := make(chan error, 1)
	go func() {
		ended <- top.Run(t.Context(), top.Options{Client: v.client(t), Interval: 10 * time.Millisecond, Out: s, Color: true, Terminal: s})
	}()
	has := func(text string) func([]string) bool {
		return func(l []string) bool { return strings.Contains(strings.Join(l, "\n"), text) }
	}
	fits := func(columns, rows int) func([]string) bool {
		return func(l []string) bool {
			if len(l) != rows {
				return false
			}
			for _, line := range l {
				if n := len([]rune(line)); n > columns {
					return false
				}
			}
			return true
		}
	}
	s.shows(t, "a full screen", fits(100, 24))
	s.shows(t, "the oldest job", has("unit #48210"))
	s.keys <- []byte("\x1b[B\x1b[Bj")
	s.shows(t, "the fourth job first", func(l []string) bool { return has("many-00")(l) && !has("unit #48210")(l) })
	s.keys <- []byte("\x1b[F")
	s.shows(t, "the last job", has("many-49"))
	s.keys <- []byte("\x1b[Hr")
	s.shows(t, "the youngest first", func(l []string) bool { return has("many-49")(l) && !has("unit #48210")(l) })
	s.keys <- []byte("rsss\x1b[C\x1b[C\x1b[D") // by CPU, memory, job and back
	s.shows(t, "the one with memory first", has("unit #48210"))
	s.mu.Lock()
	s.cols, s.rows = 50, 10
	s.mu.Unlock()
	s.shows(t, "a small screen", fits(50, 10))
	v.mu.Lock()
	v.fail = true
	v.mu.Unlock()
	s.shows(t, "that there is no answer", has("No answer, this is old"))
	v.mu.Lock()
	v.fail, v.s.Status.Draining = false, true
	v.mu.Unlock()
	s.shows(t, "the new state", func(l []string) bool { return has("draining")(l) && !has("No answer")(l) })
	s.keys <- []byte("q")
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if out := s.out.String(); !strings.HasPrefix(out, "\x1b[?1049h") || !strings.HasSuffix(out, "\x1b[?1049l") {
		t.Error("the terminal is not left as it was")
	}
}

func TestClientRefuses(t *testing.T) {
	for _, url := range []string{"", "ftp://x", "http://", "://"} {
		if _, err := top.NewClient(top.Source{URL: url}); err == nil {
			t.Errorf("%q is taken", url)
		}
	}
	for code, want := range map[int]string{401: "--username", 404: "no JSON API", 500: "500", 302: "302", 200: "does not answer as"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }))
		c, err := top.NewClient(top.Source{URL: strings.Replace(s.URL, "http://", "http://user:s3cret@", 1)})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Fetch(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%d: %v", code, err)
		}
		s.Close()
		if _, err = c.Fetch(t.Context()); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("nobody there: %v", err)
		}
	}
}
