package fakegitlab_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	fake "github.com/glassrunner/glassrunner/internal/fakegitlab"
)

func TestFaultActions(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fault  fake.Fault
		err    bool
		status int
		body   string // beginning
		puts   int    // PUT requests that reached the job
	}{
		{"status", fake.Fault{Status: 503, Header: http.Header{"Retry-After": {"1"}}}, false, 503, "", 0},
		{"html", fake.Fault{Status: 200, Body: fake.HTMLPage(), Header: http.Header{"Content-Type": {"text/html"}}}, false, 200, "<!DOCTYPE", 0},
		{"before reading", fake.Fault{Drop: fake.DropBeforeRead}, true, 0, "", 0},
		{"after reading", fake.Fault{Drop: fake.DropAfterRead, Reset: true}, true, 0, "", 0},
		{"lost answer", fake.Fault{Drop: fake.DropAnswer}, true, 0, "", 1},
		{"truncated", fake.Fault{Truncate: true, TruncateAt: 1}, true, 200, "2", 1},
		{"done, then 500", fake.Fault{Process: true, Status: 500}, false, 500, "200", 1},
		{"drip", fake.Fault{Drip: time.Millisecond}, false, 200, "200", 1},
		{"delay", fake.Fault{Delay: time.Millisecond}, false, 200, "200", 1},
		{"header", fake.Fault{Header: http.Header{"Job-Status": {"canceling"}}}, false, 200, "200", 1},
		{"huge", fake.Fault{Status: 200, Body: fake.HugeJSON(1 << 20)}, false, 200, `{"id":1`, 0},
		{"garbage", fake.Fault{Status: 200, Body: fake.Garbage(1, 10)}, false, 200, string(fake.Garbage(1, 10)), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, fake.Options{Transcript: 10})
			c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
			id := s.MustEnqueue(fake.Job{})
			j := c.job()
			tt.fault.Name, tt.fault.Endpoint, tt.fault.Count = tt.name, fake.UpdateJob, 1
			f := s.AddFault(tt.fault)
			r := j.put("running", nil)
			if (r.err != nil) != tt.err || r.status != tt.status || !strings.HasPrefix(string(r.body), tt.body) {
				t.Errorf("got %d %.20q %v", r.status, r.body, r.err)
			}
			for key := range tt.fault.Header {
				wantHeader(t, r, key, tt.fault.Header.Get(key))
			}
			if got := snapshot(t, s, id).Puts; got != tt.puts {
				t.Errorf("%d PUT arrived, want %d", got, tt.puts)
			}
			want(t, "after the fault", j.put("running", nil), 200, "running")
			if hits := s.RemoveFault(f); hits != 1 {
				t.Errorf("%d hits", hits)
			}
			if got := s.Transcript(fake.UpdateJob); len(got) != 2 || got[0].Fault != tt.name || got[0].Status != min(got[0].Status, tt.status) {
				t.Errorf("transcript: %+v", got)
			}
			clean(t, s)
		})
	}
}

func TestEndlessBody(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Options{})
	c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
	s.AddFault(fake.Fault{Endpoint: fake.RequestJob, Status: 201, Endless: true})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "POST", s.URL()+"/api/v4/jobs/request", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 1<<16)
	total := 0
	for err == nil {
		var n int
		n, err = resp.Body.Read(buf)
		total += n
	}
	if resp.StatusCode != 201 || total < 1<<16 {
		t.Errorf("got %d, %d bytes", resp.StatusCode, total)
	}
}

func TestFaultMatching(t *testing.T) {
	s := start(t, fake.Options{})
	c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
	s.MustEnqueue(fake.Job{})
	j := c.job()
	s.AddFault(fake.Fault{State: "final", Skip: 1, Count: 1, Status: 502})
	s.AddFault(fake.Fault{Endpoint: fake.PatchTrace, Job: j.payload.ID + 1, Status: 500})
	s.AddFault(fake.Fault{Method: http.MethodGet, Status: 500})
	j.ack()
	want(t, "patch", j.write("x"), 202, "running")
	if err := s.Disturb(j.payload.ID); err != nil { // a second final update is sent on purpose
		t.Fatal(err)
	}
	want(t, "first final", j.put("success", nil), 200, "success")
	want(t, "second final", j.put("success", nil), 502, "")
	want(t, "third final", j.put("success", nil), 403, "success")
	if r := c.send(soon(t), "GET", "/", nil, nil); r.status != 500 {
		t.Errorf("GET: %d", r.status)
	}
	s.ClearFaults()
	if r := c.send(soon(t), "GET", "/", nil, nil); r.status != 200 {
		t.Errorf("GET: %d", r.status)
	}
	clean(t, s)
}

func TestFaultProbabilityIsRepeatable(t *testing.T) {
	run := func(seed uint64) string {
		s := start(t, fake.Options{Seed: seed})
		c := newClient(t, s, "")
		s.AddFault(fake.Fault{Probability: 0.5, Status: 500})
		var out strings.Builder
		for range 32 {
			out.WriteString(map[int]string{200: ".", 500: "x"}[c.send(soon(t), "GET", "/", nil, nil).status])
		}
		return out.String()
	}
	first := run(7)
	if again := run(7); again != first || run(8) == first || strings.Count(first, "x") < 8 || strings.Count(first, "x") > 24 {
		t.Errorf("got %s and %s", first, again)
	}
}

// TestLostAnswers loses the answer of each call of a job once: nothing may be lost or counted twice.
func TestLostAnswers(t *testing.T) {
	s := start(t, fake.Options{RequeueLost: true})
	c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
	id := s.MustEnqueue(fake.Job{})
	for _, e := range []fake.Endpoint{fake.RequestJob, fake.PatchTrace} {
		s.AddFault(fake.Fault{Endpoint: e, Count: 1, Drop: fake.DropAnswer})
	}
	s.AddFault(fake.Fault{State: "final", Count: 1, Drop: fake.DropAnswer})
	if r := c.request(); r.err == nil {
		t.Fatal("the hand-out was not lost")
	}
	j := c.job().ack()
	if r := j.write("text"); r.err == nil {
		t.Fatal("the answer to PATCH was not lost")
	}
	want(t, "replay", j.patch(0, "text"), 202, "running")
	if r := j.put("success", nil); r.err == nil {
		t.Fatal("the answer to PUT was not lost")
	}
	want(t, "repeat", j.put("success", nil), 403, "success")
	got := snapshot(t, s, id)
	if string(got.Trace) != "text" || got.Handouts != 2 || got.Status != fake.Success || got.Replays != 1 {
		t.Errorf("got %q, %d hand-outs, %s", got.Trace, got.Handouts, got.Status)
	}
	if st := s.Stats(); st.Lost != 1 || st.Statuses[0] != 3 {
		t.Errorf("stats: %+v", st)
	}
	clean(t, s)
}
