package fakegitlab_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	fake "github.com/glassrunner/glassrunner/internal/fakegitlab"
)

func TestSuccessfulJob(t *testing.T) {
	t.Parallel()
	var finished []int64
	s := start(t, fake.Options{UpdateInterval: 60, Transcript: 100, OnFinish: func(j fake.Snapshot) { finished = append(finished, j.ID) }})
	ru := s.AddRunner(fake.RunnerConfig{Description: "one"})
	c := newClient(t, s, ru.Token)
	want(t, "empty queue", c.request(), 204, "")
	if c.last == "" {
		t.Fatal("204 without X-GitLab-Last-Update")
	}
	id := s.MustEnqueue(fake.Job{Name: "unit", Script: []string{"echo hello"}, AfterScript: []string{"true"}})
	j := c.job()
	if j.payload.ID != id || !strings.HasPrefix(j.payload.Token, "glcbt-64_") || len(j.payload.Token) != 29 {
		t.Errorf("got job %d with a token of %d bytes", j.payload.ID, len(j.payload.Token))
	}
	if got := j.payload.Steps; len(got) != 2 || got[0].Script[0] != "echo hello" || got[1].Name != "after_script" {
		t.Errorf("steps: got %+v", got)
	}
	j.ack()
	r := j.write("line one\n")
	want(t, "patch", r, 202, "running")
	wantHeader(t, r, "Range", "0-9")
	wantHeader(t, r, "X-GitLab-Trace-Update-Interval", "60")
	want(t, "keep-alive", j.put("running", nil), 200, "running")
	want(t, "patch", j.write("line two\n"), 202, "running")
	want(t, "final", j.put("success", nil), 200, "success")
	got, err := s.Wait(soon(t), id)
	if err != nil || got.Status != fake.Success || string(got.Trace) != "line one\nline two\n" || got.Patches != 2 || got.Puts != 3 ||
		got.Finals != 1 || !got.Acked || !got.ByRunner {
		t.Errorf("snapshot: %v %+v", err, got)
	}
	if !slices.Equal(finished, []int64{id}) {
		t.Errorf("OnFinish: got %v, want [%d]", finished, id)
	}
	if got := s.Transcript(fake.PatchTrace); len(got) != 2 || got[0].Status != 202 || string(got[0].RequestBody) != "line one\n" {
		t.Errorf("transcript: %d entries", len(got))
	}
	clean(t, s)
}

func TestJobRequestStatuses(t *testing.T) {
	s := start(t, fake.Options{Relax: []fake.Rule{fake.RuleRunnerToken, fake.RuleInfo, fake.RuleRequestSize, fake.RuleContentType}})
	paused := s.AddRunner(fake.RunnerConfig{Paused: true})
	expired := s.AddRunner(fake.RunnerConfig{ExpiresAt: time.Now().Add(-time.Second)})
	tagged := s.AddRunner(fake.RunnerConfig{Tags: []string{"linux"}, OnlyTagged: true})
	other := s.AddRunner(fake.RunnerConfig{})
	id := s.MustEnqueue(fake.Job{})
	mine := s.MustEnqueue(fake.Job{Runner: paused.Token})
	for _, tt := range []struct {
		name, token string
		body        any
		want        int
	}{
		{"no token", "", map[string]any{"info": goodInfo()}, 400},
		{"broken JSON", "", []byte(`{"token":`), 400},
		{"unknown token", "glrt-x", map[string]any{"token": "glrt-x"}, 403},
		{"expired token", expired.Token, map[string]any{"token": expired.Token}, 403},
		{"too large", other.Token, []byte(strings.Repeat(" ", 32<<10+1)), 413},
		{"paused", paused.Token, map[string]any{"token": paused.Token, "info": goodInfo()}, 204},
		{"only tagged", tagged.Token, map[string]any{"token": tagged.Token, "info": goodInfo()}, 204},
		{"job", other.Token, map[string]any{"token": other.Token, "info": goodInfo()}, 201},
		{"not for this one", other.Token, map[string]any{"token": other.Token, "info": goodInfo()}, 204},
	} {
		r := newClient(t, s, tt.token).sendJSON("POST", "/api/v4/jobs/request", nil, tt.body)
		if r.status != tt.want {
			t.Errorf("%s: got %d %s, want %d", tt.name, r.status, r.body, tt.want)
		}
	}
	if got := snapshot(t, s, id); got.RunnerID != other.ID {
		t.Errorf("job went to runner %d", got.RunnerID)
	}
	if err := s.Pause(paused.Token, false); err != nil {
		t.Fatal(err)
	}
	if got := newClient(t, s, paused.Token).job().payload.ID; got != mine {
		t.Errorf("got job %d, want %d", got, mine)
	}
}

func TestLongPoll(t *testing.T) {
	t.Parallel()
	s := start(t, fake.Options{LongPoll: 50 * time.Millisecond})
	c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
	r := c.request()
	want(t, "first", r, 204, "")
	wantHeader(t, r, "Gitlab-Ci-Builds-Polling", "yes")
	begin := time.Now()
	r = c.request()
	want(t, "held", r, 204, "")
	wantHeader(t, r, "X-GitLab-Last-Update", "")
	wantHeader(t, r, "Gitlab-Ci-Builds-Polling", "yes")
	if d := time.Since(begin); d < 50*time.Millisecond {
		t.Errorf("held for %v only", d)
	}
	clean(t, s)
}

func TestLongPollWakes(t *testing.T) {
	s := start(t, fake.Options{LongPoll: time.Hour})
	c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
	c.request()
	var wg sync.WaitGroup
	var woken reply
	wg.Go(func() { woken = c.request() })
	waitPolling(t, s, c.token, 1)
	s.MustEnqueue(fake.Job{})
	wg.Wait()
	want(t, "woken", woken, 204, "")
	c.job()
	clean(t, s)
}

// TestStates drives the state machine: each cell of the table of PUT and PATCH by state.
func TestStates(t *testing.T) {
	states := map[string]func(*fake.Server, *held){
		"running":   func(_ *fake.Server, j *held) { j.ack() },
		"canceling": func(s *fake.Server, j *held) { j.ack(); _ = s.Cancel(j.payload.ID) },
		"canceled":  func(s *fake.Server, j *held) { j.ack(); _ = s.ForceCancel(j.payload.ID) },
		"failed":    func(s *fake.Server, j *held) { j.ack(); _ = s.Fail(j.payload.ID, "stuck_or_timeout_failure") },
		"erased":    func(s *fake.Server, j *held) { j.ack(); _ = s.Erase(j.payload.ID) },
	}
	failed := map[string]any{"failure_reason": "script_failure", "exit_code": 7}
	calls := map[string]func(*held) reply{
		"running": func(j *held) reply { return j.put("running", nil) },
		"success": func(j *held) reply { return j.put("success", nil) },
		"failed":  func(j *held) reply { return j.put("failed", failed) },
		"patch":   func(j *held) reply { return j.write("x") },
		"upload": func(j *held) reply {
			return j.upload("artifact_type=archive&artifact_format=zip", [3]string{"file", "a.zip", "x"})
		},
	}
	for _, tt := range []struct {
		state, call string
		status      int
		jobStatus   string
	}{
		{"running", "running", 200, "running"},
		{"running", "success", 200, "success"},
		{"running", "failed", 200, "failed"},
		{"running", "patch", 202, "running"},
		{"running", "upload", 201, ""},
		{"canceling", "running", 200, "canceling"},
		{"canceling", "success", 200, "canceled"},
		{"canceling", "failed", 200, "canceled"},
		{"canceling", "patch", 202, "canceling"},
		{"canceling", "upload", 201, ""},
		{"canceled", "running", 403, "canceled"},
		{"canceled", "success", 403, "canceled"},
		{"canceled", "failed", 403, "canceled"},
		{"canceled", "patch", 403, "canceled"},
		{"canceled", "upload", 403, "canceled"},
		{"failed", "running", 403, "failed"},
		{"failed", "patch", 403, "failed"},
		{"erased", "running", 403, ""},
		{"erased", "patch", 403, ""},
	} {
		t.Run(tt.state+"/"+tt.call, func(t *testing.T) {
			s := start(t, fake.Options{})
			c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
			s.MustEnqueue(fake.Job{})
			j := c.job()
			states[tt.state](s, j)
			want(t, tt.call, calls[tt.call](j), tt.status, tt.jobStatus)
			clean(t, s)
		})
	}
}

func TestCancelWithoutGrace(t *testing.T) {
	s := start(t, fake.Options{})
	c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
	c.info["features"].(map[string]any)["cancel_gracefully"] = false
	pending, running := s.MustEnqueue(fake.Job{Tags: []string{"none"}}), s.MustEnqueue(fake.Job{})
	c.job().ack()
	for _, id := range []int64{pending, running} {
		if err := s.Cancel(id); err != nil {
			t.Fatal(err)
		}
		if got := snapshot(t, s, id).Status; got != fake.Canceled {
			t.Errorf("job %d: got %s, want canceled", id, got)
		}
		if err := s.Cancel(id); !errors.Is(err, fake.ErrFinal) {
			t.Errorf("second cancel: got %v", err)
		}
	}
	clean(t, s)
}

func TestTwoPhase(t *testing.T) {
	s := start(t, fake.Options{TwoPhase: true, Relax: []fake.Rule{fake.RuleAcknowledge}})
	c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
	id := s.MustEnqueue(fake.Job{})
	j := c.job()
	if got := snapshot(t, s, id); got.Status != fake.Pending || !got.Waiting {
		t.Fatalf("got %s, waiting %t", got.Status, got.Waiting)
	}
	want(t, "keep-alive", j.put("pending", nil), 200, "pending")
	want(t, "too early", j.put("success", nil), 400, "pending")
	want(t, "trace too early", j.patch(0, "x"), 403, "pending")
	j.ack()
	want(t, "final", j.put("success", nil), 200, "success")
	clean(t, s)
}

func TestTwoPhaseTimeout(t *testing.T) {
	s := start(t, fake.Options{TwoPhase: true, AckTimeout: time.Millisecond})
	c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
	id := s.MustEnqueue(fake.Job{})
	first := c.job()
	if _, err := s.WaitForJob(soon(t), id, func(j fake.Snapshot) bool { return !j.Waiting && j.Handouts == 1 }); err != nil {
		t.Fatal(err)
	}
	if second := c.job(); second.payload.ID != id || second.payload.Token == first.payload.Token {
		t.Error("the job did not come again with a new token")
	}
}

func TestPersistingTrace(t *testing.T) {
	s := start(t, fake.Options{PersistRounds: 2, PersistInterval: 1, Relax: []fake.Rule{fake.RuleFinal}})
	c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
	s.MustEnqueue(fake.Job{})
	j := c.job().ack()
	j.write("text\n")
	for range 2 {
		r := j.put("success", nil)
		want(t, "persisting", r, 202, "running")
		wantHeader(t, r, "X-GitLab-Trace-Update-Interval", "1")
	}
	want(t, "final", j.put("success", nil), 200, "success")
	clean(t, s)
}

func TestTraceStatuses(t *testing.T) {
	s := start(t, fake.Options{TraceLimit: 20, Relax: []fake.Rule{fake.RuleTraceRange, fake.RuleJobToken}})
	c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
	id := s.MustEnqueue(fake.Job{})
	j := c.job().ack()
	step := func(name string, r reply, status int, jobStatus, stored string) {
		t.Helper()
		want(t, name, r, status, jobStatus)
		wantHeader(t, r, "Range", stored)
	}
	step("no range", j.patch(0, "abc", "Content-Range", ""), 400, "", "")
	step("gap", j.patch(5, "abc"), 416, "", "0-0")
	step("first", j.patch(0, "abcde"), 202, "running", "0-5")
	step("second", j.patch(5, "fghij"), 202, "running", "0-10")
	step("replay", j.patch(5, "fghij"), 202, "running", "0-10")
	step("overlap", j.patch(3, "defghijk"), 416, "", "0-10")
	step("old", j.patch(0, "abcde"), 416, "", "0-10")
	step("wrong end", j.patch(10, "k", "Content-Range", "10-99"), 202, "running", "0-11")
	step("foreign token", j.patch(11, "l", "JOB-TOKEN", "glcbt-64_x"), 403, "", "")
	got := snapshot(t, s, id)
	if string(got.Trace) != "abcdefghijk" || got.Resets != 3 || got.Replays != 1 {
		t.Errorf("trace %q, %d resets, %d replays", got.Trace, got.Resets, got.Replays)
	}
	if err := s.CutTrace(id, 4); err != nil {
		t.Fatal(err)
	}
	step("cut", j.patch(11, "l"), 416, "", "0-4")
	if string(got.Trace) != "abcdefghijk" {
		t.Error("a snapshot changed")
	}
	step("again", j.patch(4, "efghijkl"), 202, "running", "0-12")
	step("limit", j.patch(12, strings.Repeat("x", 9)), 403, "", "")
	if got := snapshot(t, s, id); got.Status != fake.Failed || got.FailureReason != "trace_size_exceeded" {
		t.Errorf("got %s %s", got.Status, got.FailureReason)
	}
	step("afterwards", j.patch(12, "x"), 403, "failed", "")
	if r := c.send(soon(t), "PATCH", "/api/v4/jobs/999999/trace", nil, []byte("x")); r.status != 403 {
		t.Errorf("unknown job: got %d", r.status)
	}
}

func TestUnsupportedFeature(t *testing.T) {
	s := start(t, fake.Options{})
	c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
	c.info["features"].(map[string]any)["upload_multiple_artifacts"] = false
	id := s.MustEnqueue(fake.Job{Artifacts: []fake.ArtifactSpec{{ArtifactType: "junit", ArtifactFormat: "gzip"}}})
	want(t, "request", c.request(), 204, "")
	if got := snapshot(t, s, id); got.FailureReason != "runner_unsupported" {
		t.Errorf("got %s %s", got.Status, got.FailureReason)
	}
	clean(t, s)
}

func TestRawPayload(t *testing.T) {
	s := start(t, fake.Options{})
	c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
	id := s.MustEnqueue(fake.Job{Raw: []byte(`{"id":%ID%,"token":"%TOKEN%","run":null}`), ContentType: "text/html"})
	r := c.request()
	want(t, "raw", r, 201, "")
	wantHeader(t, r, "Content-Type", "text/html")
	if got := string(r.body); got != fmt.Sprintf(`{"id":%d,"token":%q,"run":null}`, id, snapshot(t, s, id).Token) {
		t.Errorf("got %s", got)
	}
	s.MustEnqueue(fake.Job{Edit: func(p *fake.Payload) {
		p.JobInfo.Name = "edited"
		p.Extra = map[string]fake.RawJSON{"unheard_of": fake.RawJSON(`[1]`), "image": fake.RawJSON(`"text"`)}
	}})
	body := c.request().json(t)
	if body["job_info"].(map[string]any)["name"] != "edited" || body["image"] != "text" || body["unheard_of"] == nil {
		t.Errorf("got %v", body)
	}
}

func TestDiscardFinished(t *testing.T) {
	s := start(t, fake.Options{DiscardFinished: true, KeepResults: 3})
	c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
	var last int64
	for range 5 {
		last = s.MustEnqueue(fake.Job{})
		j := c.job().ack()
		j.write("log\n")
		want(t, "final", j.put("success", nil), 200, "success")
	}
	got := snapshot(t, s, last)
	if got.Trace != nil || got.TraceSize != 4 || got.TraceCRC == 0 || len(s.Jobs()) != 3 {
		t.Errorf("got %+v and %d jobs", got, len(s.Jobs()))
	}
	if st := s.Stats(); st.Finished[fake.Success] != 5 || st.Bytes != 20 || st.Requests[fake.UpdateJob] != 10 {
		t.Errorf("stats: %+v", st)
	}
	clean(t, s)
}

func TestServerTimeouts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		opts   fake.Options
		cancel bool
		status fake.Status
		reason string
	}{
		{fake.Options{ContactTimeout: time.Millisecond}, false, fake.Failed, "no_updates_running"},
		{fake.Options{TimeoutGrace: 20 * time.Millisecond}, false, fake.Failed, "server_timeout_running"},
		{fake.Options{TimeoutGrace: 500 * time.Millisecond}, true, fake.Canceled, "server_timeout_canceling"},
	} {
		s := start(t, tt.opts)
		c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
		id := s.MustEnqueue(fake.Job{Timeout: time.Millisecond})
		c.request()
		if tt.cancel {
			if err := s.Cancel(id); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := s.Wait(soon(t), id); err != nil || got.Status != tt.status || got.FailureReason != tt.reason {
			t.Errorf("got %v %s %s, want %s %s", err, got.Status, got.FailureReason, tt.status, tt.reason)
		}
	}
}

// TestManyClients has several clients work off a queue at once; the race detector looks on.
func TestManyClients(t *testing.T) {
	const jobs, clients = 200, 8
	s := start(t, fake.Options{})
	ru := s.AddRunner(fake.RunnerConfig{})
	for i := range jobs {
		s.MustEnqueue(fake.Job{Name: fmt.Sprint("job ", i)})
	}
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			c := newClient(t, s, ru.Token)
			for {
				r := c.request()
				if r.status != http.StatusCreated {
					return
				}
				j := &held{c: c}
				body := r.json(t)
				j.payload.ID, j.payload.Token = int64(body["id"].(float64)), body["token"].(string)
				j.path = fmt.Sprintf("/api/v4/jobs/%d", j.payload.ID)
				j.put("running", nil)
				j.write("some text\n")
				j.put("success", nil)
			}
		})
	}
	wg.Wait()
	for _, j := range s.Jobs() {
		if j.Status != fake.Success || !bytes.Equal(j.Trace, []byte("some text\n")) {
			t.Errorf("job %d: %s %q", j.ID, j.Status, j.Trace)
		}
	}
	clean(t, s)
}

func TestWaitForGivesUp(t *testing.T) {
	s := fake.New(fake.Options{})
	if _, err := s.Wait(soon(t), 5); !errors.Is(err, fake.ErrNoJob) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Enqueue(fake.Job{Project: "no/such"}); !errors.Is(err, fake.ErrNoProject) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Enqueue(fake.Job{Runner: "x"}); !errors.Is(err, fake.ErrNoRunner) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkJob(b *testing.B) {
	s := start(b, fake.Options{DiscardFinished: true})
	c := newClient(b, s, s.AddRunner(fake.RunnerConfig{}).Token)
	b.ReportAllocs()
	for b.Loop() {
		s.MustEnqueue(fake.Job{Script: []string{"true"}})
		j := c.job()
		j.put("running", nil)
		j.write("Job succeeded\n")
		if r := j.put("success", nil); r.status != 200 {
			b.Fatal(r.status)
		}
	}
}

func FuzzParseContentRange(f *testing.F) {
	for _, seed := range []string{"0-9", "10-10", "", "-", "5", "a-b", "-1-2", "+1-2", "99999999999999999999-1", "3-x", "0-9/10"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		first, last, ok := fake.ParseContentRange(text)
		if first < 0 || last < 0 {
			t.Errorf("%q: got %d-%d", text, first, last)
		}
		if again := fmt.Sprintf("%d-%d", first, last); ok && len(again) == len(text) && again != text {
			t.Errorf("%q: got %s", text, again)
		}
		if ok && strings.Count(text, "-") != 1 {
			t.Errorf("%q is accepted", text)
		}
	})
}
