package browser_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/glassrunner/glassrunner/internal/admin"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

var images = flag.String("images", "", "`directory` to write screenshots to, such as ../../docs/images")

// shot keeps a screenshot, where the test was told to or else where it is
// thrown away.
func shot(c *chrome, name string, keep, full bool) {
	dir := *images
	if dir == "" || !keep {
		dir = c.t.TempDir()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	path, err := filepath.Abs(filepath.Join(dir, name))
	if err != nil {
		c.t.Fatal(err)
	}
	c.do("screenshot", args{"path": path, "full": full})
}

// TestLook opens the page in all the forms that it has: no console error, no
// request to elsewhere, no complaint of the accessibility check.
func TestLook(t *testing.T) {
	c := newChrome(t)
	s := usualDay(t)
	for _, v := range []struct {
		name, scheme  string
		width, height int
		keep, full    bool
	}{
		{"status-light", "light", 1440, 1000, true, false},
		{"status-dark", "dark", 1440, 1000, true, false},
		{"status-wide", "light", 2200, 1200, true, false},
		{"status-tablet", "dark", 1024, 1100, false, false},
		{"status-phone", "light", 390, 844, true, false},
		{"status-phone-dark", "dark", 390, 844, false, true},
		{"status-narrow", "light", 320, 640, false, false},
	} {
		c.do("open", args{"url": s.url, "scheme": v.scheme, "width": v.width, "height": v.height, "touch": v.width < 500})
		c.do("wait", args{"selector": "#jobs-list .rows .tr"})
		c.do("wait", args{"selector": "#finished-list .rows .tr"})
		c.do("wait", args{"selector": "#charts path.line"})
		if over := value[int](c, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); over > 0 {
			t.Errorf("%s: the page is %d px wider than the window", v.name, over)
		}
		shot(c, v.name+".png", v.keep, v.full)
		c.clean(v.name)
	}
	c.do("open", args{"url": s.url})
	c.do("click", args{"selector": "#finished-list button.job"})
	c.do("wait", args{"selector": "dialog[open] .waterfall li"})
	shot(c, "status-job.png", true, false)
	c.clean("a job")
}

// TestEmpty is a runner without anything.
func TestEmpty(t *testing.T) {
	c := newChrome(t)
	s := newScene(t, 4)
	s.bus.Emit(t.Context(), event.ConfigLoaded{Path: "/etc/gitlab-runner/config.toml", Generation: 5, Concurrent: 1})
	c.do("open", args{"url": s.url, "width": 1200})
	c.do("wait", args{"selector": "#jobs-list .empty", "text": "No job runs right now."})
	c.do("wait", args{"selector": "#runners .empty", "text": "No runner is configured."})
	if hidden := value[bool](c, "document.getElementById('machines-section').hidden"); !hidden {
		t.Error("machines are shown although there are none")
	}
	c.clean("empty")
}

// TestUpdates: what happens is seen without a reload, and a server that comes
// back is found again.
func TestUpdates(t *testing.T) {
	c := newChrome(t)
	s := newScene(t, 8)
	c.do("open", args{"url": s.url, "expect": []string{"ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED", "ERR_EMPTY_RESPONSE"}})
	c.do("wait", args{"selector": "#live", "text": "live"})
	sc := event.Scope{Runner: s.runners[0], Job: 77, Run: 1 << 30}
	ctx := event.WithScope(t.Context(), sc)
	s.bus.Emit(ctx, event.JobStarted{Info: job.Info{Name: "<b>fresh</b>", ProjectFullPath: "web/storefront"}})
	s.bus.Emit(ctx, event.PhaseStarted{Phase: job.GetSources})
	c.do("wait", args{"selector": "#jobs-list .job", "text": "<b>fresh</b>"})
	c.do("wait", args{"selector": "#jobs-list .stage", "text": "get sources"})
	if n := value[int](c, "document.querySelectorAll('#jobs-list b').length"); n != 0 {
		t.Error("a job's name is read as HTML")
	}
	s.bus.Emit(ctx, event.PhaseStarted{Phase: "step_script"})
	c.do("wait", args{"selector": "#jobs-list .stage", "text": "script"})
	s.bus.Emit(ctx, event.JobFinished{Outcome: job.Outcome{Reason: job.ScriptFailure, ExitCode: 3}, Took: time.Second})
	s.bus.Emit(ctx, event.JobRemoved{})
	c.do("gone", args{"selector": "#jobs-list .job", "text": "<b>fresh</b>"})
	c.do("wait", args{"selector": "#finished-list .pill", "text": "failed"})
	c.do("wait", args{"selector": "#finished-list .c-reason", "text": "script failure, exit 3"})
	s.bus.Emit(t.Context(), event.ConfigLoaded{Path: "/etc/gitlab-runner/config.toml", Err: os.ErrPermission})
	c.do("wait", args{"selector": ".notice", "text": "The last reload failed."})
	s.bus.Emit(event.WithRunner(t.Context(), s.runners[1]), event.HealthChecked{Failures: 3, DisabledUntil: time.Now().Add(time.Hour)})
	c.do("wait", args{"selector": "#runners .pill", "text": "off for"})
	c.clean("after updates")

	// The server goes, and comes back on the same address.
	set := s.server.Addr()
	if err := s.move(t, ""); err != nil {
		t.Fatal(err)
	}
	c.do("wait", args{"selector": "#live", "text": "reconnecting"})
	if err := s.move(t, set); err != nil {
		t.Fatal(err)
	}
	c.do("wait", args{"selector": "#live", "text": "live"})
}

// TestKeyboard: everything can be reached and used without a pointer.
func TestKeyboard(t *testing.T) {
	c := newChrome(t)
	s := usualDay(t)
	c.do("open", args{"url": s.url})
	c.do("wait", args{"selector": "#jobs-list .rows .tr"})
	c.do("press", args{"key": "Tab"})
	if at := value[string](c, "document.activeElement.className"); at != "skip" {
		t.Errorf("the first stop is %q", at)
	}
	c.do("press", args{"key": "Enter"})
	found := false
	for range 30 {
		c.do("press", args{"key": "Tab"})
		if found = value[bool](c, "document.activeElement.matches('#jobs-list .job')"); found {
			break
		}
	}
	if !found {
		t.Fatal("no job can be reached")
	}
	name := value[string](c, "document.activeElement.textContent")
	c.do("press", args{"key": "Enter"})
	c.do("wait", args{"selector": "dialog[open] h2", "text": name})
	c.do("press", args{"key": "Escape"})
	if open := value[bool](c, "document.getElementById('detail').open"); open {
		t.Error("Escape does not close the job")
	}
	if back := value[string](c, "document.activeElement.textContent"); back != name {
		t.Errorf("the focus went to %q, not back to %q", back, name)
	}
	c.do("eval", args{"js": "document.getElementById('filter').focus()"})
	c.do("type", args{"text": "terraform"})
	c.do("wait", args{"selector": "#jobs-count", "text": "of 15"})
	// The theme is one of three, and kept.
	c.do("click", args{"selector": "#theme"})
	c.do("click", args{"selector": "#theme"})
	if theme := value[string](c, "document.documentElement.dataset.theme"); theme != "dark" {
		t.Errorf("theme: %q", theme)
	}
	c.clean("dark by choice")
}

// TestLogTail: a protected server's page follows what happens, too, and shows
// the end of a running job's log as text.
func TestLogTail(t *testing.T) {
	c := newChrome(t)
	s := newScene(t, 4)
	sc := s.begin(time.Minute, time.Second, usual...)
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(path, []byte("basic_auth_users: {ops: "+string(hash)+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.server.Apply(t.Context(), admin.Settings{Address: "127.0.0.1:0", WebConfigFile: path, LogTail: true}); err != nil {
		t.Fatal(err)
	}
	c.do("open", args{"url": s.url, "user": "ops", "password": "secret", "expect": []string{"401 (Unauthorized)"}})
	c.do("wait", args{"selector": "#live", "text": "live"})
	c.do("click", args{"selector": "#jobs-list button.job"})
	c.do("wait", args{"selector": "pre.log", "text": "$ make test"})
	if got, want := value[string](c, "document.querySelector('pre.log').textContent"), fmt.Sprintf("section\n$ make test\nok <script>alert(%d)</script>\n", sc.Job); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	c.clean("the end of a log")
}

// TestManyJobs: 500 running jobs that all talk. The processor time of the
// page's main thread is what is held: frames depend on the machine.
func TestManyJobs(t *testing.T) {
	c := newChrome(t)
	s := newScene(t, 500)
	s.past(500)
	for i := range 500 {
		s.begin(time.Duration(20+i*3)*time.Second, 20*time.Second, usual...)
	}
	c.do("open", args{"url": s.url})
	c.do("wait", args{"selector": "#jobs-count", "text": "500"})
	c.do("wait", args{"selector": "#charts path.line"})
	if n := value[int](c, "document.querySelectorAll('#jobs-list .rows .tr').length"); n > 60 {
		t.Errorf("%d rows are in the page", n)
	}
	stop := s.talk()
	defer stop()
	for _, m := range []struct {
		name, during string
		busy         float64
	}{
		{"looked at", "", 0.35},
		{"scrolled", "document.querySelector('#jobs-list .scroll').scrollTop = (i * 60) % 18000", 0.75},
	} {
		var got struct{ Busy, Frames, Median, P95, P99, Max float64 }
		if err := json.Unmarshal(c.do("load", args{"seconds": 6, "during": m.during}), &got); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: main thread %.0f %% of a processor; frames %.0f in 6 s, median %.1f ms, 95 %% %.1f ms, 99 %% %.1f ms, longest %.1f ms", m.name, 100*got.Busy, got.Frames, got.Median, got.P95, got.P99, got.Max)
		if got.Busy > m.busy {
			t.Errorf("%s: the main thread takes %.0f %% of a processor, more than %.0f %%", m.name, 100*got.Busy, 100*m.busy)
		}
	}
	if n := value[int](c, "document.querySelectorAll('#jobs-list .rows .tr').length"); n > 60 {
		t.Errorf("%d rows are in the page after scrolling", n)
	}
	c.clean("500 jobs")
}

// TestRealRunner is the whole program: the demo's runner works off a real
// pipeline while the page is looked at.
func TestRealRunner(t *testing.T) {
	c := newChrome(t)
	url := startDemo(t)
	c.do("open", args{"url": url})
	c.do("wait", args{"selector": "#live", "text": "live"})
	c.do("wait", args{"selector": "#runners .pill", "text": "healthy"})
	c.do("wait", args{"selector": "#jobs-list .job", "timeout": 30000})
	c.do("wait", args{"selector": "#finished-list .pill", "text": "success", "timeout": 60000})
	c.do("wait", args{"selector": "#finished-list .pill", "text": "failed", "timeout": 60000})
	c.do("click", args{"selector": "#finished-list button.job"})
	c.do("wait", args{"selector": "dialog[open] .waterfall li", "text": "script"})
	c.do("press", args{"key": "Escape"})
	c.do("wait", args{"selector": "#charts path.f1", "timeout": 30000})
	c.clean("the demo")
	c.do("click", args{"selector": "[data-range='24h']"})
	c.do("wait", args{"selector": "#charts svg[aria-label*='24 hours']"})
	c.clean("the demo's day")
}
