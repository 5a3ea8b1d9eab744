package fakegitlab_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	fake "github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// TestRules breaks each rule once and expects exactly this rule to be recorded.
func TestRules(t *testing.T) {
	type breaker struct {
		name string
		rule fake.Rule
		opts fake.Options
		job  fake.Job
		do   func(t *testing.T, s *fake.Server, c *client)
	}
	failed := func(reason string) map[string]any { return map[string]any{"failure_reason": reason} }
	simple := func(f func(j *held)) func(*testing.T, *fake.Server, *client) {
		return func(_ *testing.T, _ *fake.Server, c *client) { f(c.job().ack()) }
	}
	broken := func(edit func(info map[string]any)) func(*testing.T, *fake.Server, *client) {
		return func(_ *testing.T, _ *fake.Server, c *client) {
			edit(c.info)
			c.request()
		}
	}
	features := func(info map[string]any) map[string]any { return info["features"].(map[string]any) }
	header := func(key string, value ...string) func(*testing.T, *fake.Server, *client) {
		return func(_ *testing.T, _ *fake.Server, c *client) {
			c.header[http.CanonicalHeaderKey(key)] = value
			c.request()
		}
	}
	limits := func(l fake.Limits, f func(c *client)) func(*testing.T, *fake.Server, *client) {
		return func(t *testing.T, s *fake.Server, c *client) {
			if err := s.SetLimits(c.token, l); err != nil {
				t.Fatal(err)
			}
			f(c)
		}
	}
	for _, tt := range []breaker{
		{name: "double slash", rule: fake.RulePath, do: func(t *testing.T, _ *fake.Server, c *client) {
			c.send(context.Background(), "POST", "//api/v4/jobs", nil, nil)
		}},
		{name: "user agent", rule: fake.RuleUserAgent, do: header("User-Agent", "curl")},
		{name: "request id", rule: fake.RuleRequestID, do: header("X-Request-Id", "7")},
		{name: "request id twice", rule: fake.RuleRequestID, do: func(_ *testing.T, _ *fake.Server, c *client) {
			c.header["X-Request-Id"] = []string{requestID()}
			c.request()
			c.request()
		}},
		{name: "runner token header", rule: fake.RuleRunnerToken, do: header("RUNNER-TOKEN")},
		{name: "job token header", rule: fake.RuleJobToken, do: simple(func(j *held) {
			j.c.header["Job-Token"] = nil
			j.put("running", nil)
		})},
		{name: "put without token", rule: fake.RuleJobToken, do: simple(func(j *held) { j.put("running", map[string]any{"token": nil}) })},
		{name: "foreign job", rule: fake.RuleJobToken, do: simple(func(j *held) {
			j.path = "/api/v4/jobs/77"
			j.put("running", nil)
		})},
		{name: "content type", rule: fake.RuleContentType, do: header("Content-Type", "text/json")},
		{name: "patch content type", rule: fake.RuleContentType, do: simple(func(j *held) { j.patch(0, "x", "Content-Type", "application/json") })},
		{name: "request size", rule: fake.RuleRequestSize, do: broken(func(i map[string]any) { i["labels"] = map[string]string{"x": strings.Repeat("y", 33<<10)} })},
		{name: "missing feature", rule: fake.RuleInfo, do: broken(func(i map[string]any) { delete(features(i), "cache") })},
		{name: "feature no bool", rule: fake.RuleInfo, do: broken(func(i map[string]any) { features(i)["cache"] = "yes" })},
		{name: "feature too many", rule: fake.RuleInfo, do: broken(func(i map[string]any) { features(i)["more"] = true })},
		{name: "config", rule: fake.RuleInfo, do: broken(func(i map[string]any) { i["config"] = nil })},
		{name: "system id", rule: fake.RuleInfo, do: func(_ *testing.T, _ *fake.Server, c *client) {
			c.sendJSON("POST", "/api/v4/runners/verify", map[string]string{"RUNNER-TOKEN": c.token},
				map[string]any{"token": c.token, "info": c.info, "system_id": "x"})
		}},
		{name: "no acknowledgement", rule: fake.RuleAcknowledge, do: func(_ *testing.T, _ *fake.Server, c *client) { c.job().put("success", nil) }},
		{name: "late acknowledgement", rule: fake.RuleAcknowledge, do: func(_ *testing.T, _ *fake.Server, c *client) {
			j := c.job()
			j.write("x")
			j.put("running", nil)
		}},
		{name: "refused acknowledgement", rule: fake.RuleAcknowledge, do: func(_ *testing.T, s *fake.Server, c *client) {
			j := c.job()
			_ = s.ForceCancel(j.payload.ID)
			j.put("running", nil)
			j.write("x")
		}},
		{name: "gap", rule: fake.RuleTraceRange, do: simple(func(j *held) { j.patch(3, "x") })},
		{name: "range end", rule: fake.RuleTraceRange, do: simple(func(j *held) { j.patch(0, "abc", "Content-Range", "0-3") })},
		{name: "range form", rule: fake.RuleTraceRange, do: simple(func(j *held) { j.patch(0, "abc", "Content-Range", "bytes 0-2/3") })},
		{name: "empty patch", rule: fake.RuleTraceRange, do: simple(func(j *held) { j.patch(0, "", "Content-Range", "0-0") })},
		{name: "large patch", rule: fake.RuleTraceRange, do: simple(func(j *held) { j.write(strings.Repeat("x", 1<<20+1)) })},
		{name: "needless replay", rule: fake.RuleTraceRange, do: simple(func(j *held) { j.write("abc"); j.patch(0, "abc") })},
		{name: "debug_trace", rule: fake.RuleDebugTrace, do: simple(func(j *held) {
			j.c.send(context.Background(), "PATCH", j.path+"/trace", map[string]string{
				"JOB-TOKEN": j.payload.Token, "Content-Type": "text/plain", "Content-Range": "0-0",
			}, []byte("x"))
		})},
		{name: "checksum", rule: fake.RuleChecksum, do: simple(func(j *held) { j.write("abc"); j.log[0] = 'x'; j.put("success", nil) })},
		{name: "size", rule: fake.RuleChecksum, do: simple(func(j *held) { j.write("abc"); j.log = j.log[:2]; j.put("success", nil) })},
		{name: "final too early", rule: fake.RuleFinal, do: simple(func(j *held) { j.write("abc"); j.log = append(j.log, 'd'); j.put("success", nil) })},
		{name: "second final", rule: fake.RuleFinal, do: simple(func(j *held) { j.put("success", nil); j.put("success", nil) })},
		{name: "patch after final", rule: fake.RuleFinal, do: simple(func(j *held) { j.put("success", nil); j.write("x") })},
		{name: "repeated too soon", rule: fake.RuleFinal, opts: fake.Options{PersistRounds: 1}, do: simple(func(j *held) {
			j.write("x")
			j.put("success", nil)
			j.put("success", nil)
		})},
		{name: "deaf to abort", rule: fake.RuleFinal, do: func(_ *testing.T, s *fake.Server, c *client) {
			j := c.job().ack()
			_ = s.ForceCancel(j.payload.ID)
			for range 5 {
				j.write("x")
			}
		}},
		{name: "no reason", rule: fake.RuleFailureReason, do: simple(func(j *held) { j.put("failed", nil) })},
		{name: "unknown reason", rule: fake.RuleFailureReason, do: simple(func(j *held) { j.put("failed", failed("bad_weather")) })},
		{name: "unmapped reason", rule: fake.RuleFailureReason, do: simple(func(j *held) { j.put("failed", failed("job_canceled")) })},
		{name: "exit code 0", rule: fake.RuleFailureReason, do: simple(func(j *held) { j.put("success", map[string]any{"exit_code": 0}) })},
		{name: "masked value", rule: fake.RuleSecrets, job: fake.Job{Variables: []fake.Variable{{Key: "P", Value: "s3cr3t-Passw0rd", Masked: true}}},
			do: simple(func(j *held) { j.write("it is s3cr3t-Passw0rd\n"); j.put("success", nil) })},
		{name: "job token", rule: fake.RuleSecrets, do: simple(func(j *held) { j.write(j.payload.Token[len("glcbt-64_"):]); j.write("glpat-x"); j.put("success", nil) })},
		{name: "limit", rule: fake.RuleConcurrency, do: limits(fake.Limits{Limit: 1}, func(c *client) { c.job().ack(); c.request() })},
		{name: "concurrent", rule: fake.RuleConcurrency, opts: fake.Options{Concurrent: 1}, do: func(_ *testing.T, _ *fake.Server, c *client) { c.job().ack(); c.request() }},
		{name: "request_concurrency", rule: fake.RuleConcurrency, opts: fake.Options{LongPoll: time.Hour}, do: func(t *testing.T, s *fake.Server, c *client) {
			if err := s.SetLimits(c.token, fake.Limits{RequestConcurrency: 1}); err != nil {
				t.Fatal(err)
			}
			c.request()
			c.request()
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					d := *c
					d.request()
				})
			}
			waitPolling(t, s, c.token, 2)
			s.MustEnqueue(fake.Job{})
			wg.Wait()
		}},
		{name: "check_interval", rule: fake.RuleCheckInterval, do: limits(fake.Limits{CheckInterval: time.Hour}, func(c *client) {
			c.job()
			c.request()
			c.request()
		})},
		{name: "two parts", rule: fake.RuleUpload, do: simple(func(j *held) {
			j.upload("artifact_type=archive&artifact_format=zip", [3]string{"file", "a", "b"}, [3]string{"note", "", "c"})
		})},
		{name: "unhealthy", rule: fake.RuleUnhealthy, opts: fake.Options{UnhealthyInterval: time.Hour}, do: func(_ *testing.T, _ *fake.Server, c *client) {
			c.token = "glrt-unknown"
			for range 4 {
				c.request()
			}
		}},
		{name: "unhealthy by fault", rule: fake.RuleUnhealthy, opts: fake.Options{UnhealthyInterval: time.Hour}, do: func(_ *testing.T, s *fake.Server, c *client) {
			s.AddFault(fake.Fault{Endpoint: fake.RequestJob, Count: 3, Status: 403})
			for range 4 {
				c.request()
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, tt.opts)
			c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
			s.MustEnqueue(tt.job)
			tt.do(t, s, c)
			got := s.Violations()
			if len(got) == 0 {
				t.Fatalf("rule %d was not noticed", tt.rule)
			}
			for _, v := range got {
				if v.Rule != tt.rule {
					t.Errorf("got %v, want rule %d only", v, tt.rule)
				}
				if strings.Contains(v.String(), "glrt-t1_") || strings.Contains(v.String(), "glcbt-64_") {
					t.Error("a token is in the text")
				}
			}
			s.ResetViolations()
			clean(t, s)
		})
	}
}

func TestRelax(t *testing.T) {
	s := start(t, fake.Options{Relax: []fake.Rule{fake.RuleUserAgent}})
	c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
	c.header["User-Agent"] = []string{"x"}
	s.MustEnqueue(fake.Job{Relax: []fake.Rule{fake.RuleFailureReason}})
	c.job().ack().put("failed", nil)
	clean(t, s)
}

func TestSilence(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	wait := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
	}
	s := start(t, fake.Options{Now: clock, UpdateInterval: 60})
	c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
	id := s.MustEnqueue(fake.Job{})
	j := c.job().ack()
	wait(33 * time.Second)
	j.write("x")
	wait(90 * time.Second) // allowed with an interval of 60 s
	j.put("running", nil)
	clean(t, s)
	wait(100 * time.Second)
	got := s.Violations()
	if len(got) != 1 || got[0].Rule != fake.RuleContact || got[0].Job != id {
		t.Errorf("got %v", got)
	}
}

// TestLegitimateOddities are calls that look wrong and are right.
func TestLegitimateOddities(t *testing.T) {
	for name, do := range map[string]func(s *fake.Server, c *client){
		"rejected at once": func(_ *fake.Server, c *client) {
			j := c.job()
			j.write("unsupported executor options\n")
			j.put("failed", map[string]any{"failure_reason": "runner_system_failure", "exit_code": 3})
		},
		"cancelled before the acknowledgement": func(s *fake.Server, c *client) {
			j := c.job()
			_ = s.Cancel(j.payload.ID)
			j.put("running", nil)
			j.put("failed", map[string]any{"failure_reason": "job_canceled"})
		},
		"aborted": func(s *fake.Server, c *client) {
			j := c.job().ack()
			j.write("x")
			_ = s.ForceCancel(j.payload.ID)
			j.write("y")
			j.write("z")
			j.put("failed", map[string]any{"failure_reason": "unknown_failure"})
		},
		"lost trace": func(s *fake.Server, c *client) {
			j := c.job().ack()
			j.write("abcdef")
			_ = s.CutTrace(j.payload.ID, 2)
			j.patch(6, "x")
			j.patch(2, "cdef")
			j.put("success", nil)
		},
		"retry after 500": func(s *fake.Server, c *client) {
			s.AddFault(fake.Fault{Status: 500, Count: 1})
			c.header["X-Request-Id"] = []string{requestID()}
			c.request()
			c.request()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, fake.Options{})
			c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
			s.MustEnqueue(fake.Job{})
			do(s, c)
			clean(t, s)
		})
	}
}

func ExampleViolation() {
	fmt.Println(fake.Violation{Rule: fake.RuleChecksum, Text: "output.bytesize is 1, 2 bytes are stored", Job: 7})
	// Output: rule 12: job 7: output.bytesize is 1, 2 bytes are stored
}
