package metrics_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/event"
)

// spent returns the seconds that each block of a runner is shown with.
func spent(tb testing.TB, all, runner string) map[event.Block]float64 {
	tb.Helper()
	out := map[event.Block]float64{}
	for line := range strings.Lines(all) {
		rest, ok := strings.CutPrefix(line, `glassrunner_capacity_blocked_seconds_total{reason="`)
		if !ok || !strings.Contains(line, `runner="`+runner+`"`) {
			continue
		}
		reason, _, _ := strings.Cut(rest, `"`)
		v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
		if err != nil {
			tb.Fatal(err)
		}
		out[event.Block(reason)] = v
	}
	return out
}

func sum(of map[event.Block]float64) (total float64) {
	for _, v := range of {
		total += v
	}
	return total
}

func TestBlockedTime(t *testing.T) {
	s, _, m := newStream(t)
	a, b := runner("abcdefghi"), runner("zyxwvutsr")
	load := func(all ...event.Limits) { s.emit(event.Scope{}, event.ConfigLoaded{Generation: 1, Runners: all}) }
	load(event.Limits{Runner: a}, event.Limits{Runner: b})
	if got := spent(t, text(t, m, false), "abcdefghi"); len(got) != len(event.Blocks()) || sum(got) != 0 {
		t.Errorf("at the start: %v, want every block at 0", got)
	}
	s.now = s.now.Add(time.Hour) // before the scheduler runs
	of := event.Scope{Runner: a}
	for _, step := range []struct {
		block event.Block
		lasts time.Duration
	}{
		{event.BlockNoJobs, 10 * time.Second}, {event.BlockConcurrent, 90 * time.Second}, {event.BlockConcurrent, time.Second},
		{event.BlockDisk, 250 * time.Millisecond}, {event.BlockNoJobs, 5 * time.Second},
	} {
		s.emit(of, event.BlockChanged{Block: step.block})
		s.now = s.now.Add(step.lasts)
	}
	got := spent(t, text(t, m, false), "abcdefghi")
	for block, want := range map[event.Block]float64{event.BlockNoJobs: 15, event.BlockConcurrent: 91, event.BlockDisk: 0.25, event.BlockLimit: 0} {
		if got[block] != want {
			t.Errorf("%s: %v s, want %v", block, got[block], want)
		}
	}
	// A reload that keeps it changes nothing; one that takes it away while a
	// job runs goes on counting, until the job is over.
	load(event.Limits{Runner: a}, event.Limits{Runner: b})
	job := event.Scope{Runner: a, Job: 1, Run: 1}
	s.emit(job, event.JobStarted{})
	load(event.Limits{Runner: b})
	s.emit(of, event.BlockChanged{Block: event.BlockShutdown})
	s.now = s.now.Add(time.Minute)
	got = spent(t, text(t, m, false), "abcdefghi")
	if got[event.BlockShutdown] != 60 || sum(got) != 166.25 {
		t.Errorf("after its removal: %v, want a minute of shutdown and 166.25 s in all", got)
	}
	s.emit(job, event.JobRemoved{})
	if got := spent(t, text(t, m, false), "abcdefghi"); len(got) != 0 {
		t.Errorf("after its last job: %v, want nothing", got)
	}
	// A late fact does not bring it back.
	s.emit(of, event.BlockChanged{Block: event.BlockNoJobs})
	if got := spent(t, text(t, m, false), "abcdefghi"); len(got) != 0 {
		t.Errorf("after a late fact: %v, want nothing", got)
	}
}

// A scrape may come a moment before a change is told that happened before it:
// no series goes back, and no time is lost or counted twice.
func TestBlockedTimeNeverGoesBack(t *testing.T) {
	s, _, m := newStream(t)
	a := runner("abcdefghi")
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 1, Runners: []event.Limits{{Runner: a}}})
	begin := s.now
	s.emit(event.Scope{Runner: a}, event.BlockChanged{Block: event.BlockNoJobs})
	r := rand.New(rand.NewPCG(7, 7))
	last := map[event.Block]float64{}
	blocks := event.Blocks()
	scraped := begin
	for i := range 500 {
		now := s.now.Add(time.Duration(r.IntN(2000)) * time.Millisecond)
		// The scrape sees the clock first …
		s.now = now.Add(time.Duration(r.IntN(500)) * time.Millisecond)
		if s.now.Before(scraped) {
			s.now = scraped
		}
		scraped = s.now
		got := spent(t, text(t, m, false), "abcdefghi")
		for b, v := range got {
			if v < last[b] {
				t.Fatalf("scrape %d: %s went from %v back to %v", i, b, last[b], v)
			}
		}
		if d := sum(got) - s.now.Sub(begin).Seconds(); math.Abs(d) > 1e-6 {
			t.Fatalf("scrape %d: the blocks add up to %v more than the time that passed", i, d)
		}
		last = got
		// … and the change has an earlier one.
		s.now = now
		s.emit(event.Scope{Runner: a}, event.BlockChanged{Block: blocks[r.IntN(len(blocks))]})
	}
}

func TestHealthOfThePresent(t *testing.T) {
	s, _, m := newStream(t)
	a := runner("abcdefghi")
	expires := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 1, Runners: []event.Limits{{Runner: a}, {Runner: runner("zyxwvutsr"), TokenExpires: expires}}})
	labels := func(short string) string {
		return fmt.Sprintf(`{runner="%s",runner_name="one",system_id="s_0123456789ab"}`, short)
	}
	ready := "glassrunner_runner_ready" + labels("abcdefghi")
	want(t, m, ready, "0")
	for _, b := range event.Blocks() {
		s.emit(event.Scope{Runner: a}, event.BlockChanged{Block: b})
		v := "0"
		if b.Ready() {
			v = "1"
		}
		want(t, m, ready, v)
	}
	want(t, m, "glassrunner_runner_token_expiry_timestamp_seconds"+labels("abcdefghi"), "no such series")
	want(t, m, "glassrunner_runner_token_expiry_timestamp_seconds"+labels("zyxwvutsr"), "1.7987616e+09")
	s.emit(event.Scope{}, event.PlacesChanged{Running: 3, Requesting: 2, Idle: 1})
	for state, v := range map[string]string{"running": "3", "requesting": "2", "idle": "1"} {
		want(t, m, `glassrunner_slots{state="`+state+`"}`, v)
	}
	for _, c := range []string{"scheduler", "polling", "executors"} {
		want(t, m, `glassrunner_healthy{component="`+c+`"}`, "1")
	}
}

func TestCertificates(t *testing.T) {
	s, _, m := newStream(t)
	const series = `glassrunner_certificate_expiry_timestamp_seconds{certificate="coordinator_ca"}`
	want(t, m, series, "no such series")
	s.emit(event.Scope{}, event.CertificateLoaded{Certificate: "coordinator_ca", NotAfter: time.Unix(1_800_000_000, 0)})
	want(t, m, series, "1.8e+09")
	s.emit(event.Scope{}, event.CertificateLoaded{Certificate: "coordinator_ca"})
	want(t, m, series, "no such series")
}

func TestClockSkew(t *testing.T) {
	s, _, m := newStream(t)
	a := runner("abcdefghi")
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 1, Runners: []event.Limits{{Runner: a}}})
	series := `glassrunner_coordinator_clock_skew_seconds{runner="abcdefghi",runner_name="one",system_id="s_0123456789ab"}`
	want(t, m, series, "0")
	for i, c := range []struct {
		skew  time.Duration
		dated bool
		want  string
	}{
		{90 * time.Second, true, "90"},
		{0, false, "90"},
		{-30 * time.Second, true, "90"}, // of two, the larger
		{91 * time.Second, true, "90"},
		{92 * time.Second, true, "91"},
		{time.Hour, true, "91"}, // one answer that is off changes little
		{93 * time.Second, true, "92"},
	} {
		s.emit(event.Scope{Runner: a}, event.Called{Endpoint: "request_job", Method: "post", Skew: c.skew, Dated: c.dated})
		if got := value(t, m, series); got != c.want {
			t.Errorf("after answer %d: %s, want %s", i, got, c.want)
		}
	}
}
