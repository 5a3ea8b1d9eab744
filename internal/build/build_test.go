package build_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/build"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

func TestOutcomes(t *testing.T) {
	exit := func(code int) error { return &executor.ExitError{Code: code} }
	in := func(p job.Phase, err error) func(*bench) {
		return func(b *bench) {
			b.place.run = func(_ context.Context, c executor.Command) error {
				if c.Phase == p {
					return err
				}
				return nil
			}
		}
	}
	fetch := func(b *bench) { b.spec.Variables = nil }
	for _, tt := range []struct {
		name   string
		change []func(*bench)
		update job.Update
		state  job.State
		line   string
		phases []job.Phase
	}{
		{"success", nil, job.Update{State: job.WireSuccess}, job.Success, "Job succeeded", []job.Phase{"step_script", "after_script"}},
		{
			"script fails",
			[]func(*bench){in("step_script", exit(7))},
			job.Update{State: job.WireFailed, Reason: job.ScriptFailure, ExitCode: 7}, job.Failed,
			"ERROR: Job failed: exit status 7",
			[]job.Phase{"step_script", "after_script"},
		},
		{
			"infrastructure fails",
			[]func(*bench){in("step_script", errors.New("no more processes"))},
			job.Update{State: job.WireFailed, Reason: job.SystemFailure}, job.Failed,
			"ERROR: Job failed (system failure): no more processes",
			[]job.Phase{"step_script", "after_script"},
		},
		{
			"sources fail",
			[]func(*bench){fetch, in(job.GetSources, exit(128))},
			job.Update{State: job.WireFailed, Reason: job.ScriptFailure, ExitCode: 128}, job.Failed,
			"ERROR: Job failed: exit status 128",
			[]job.Phase{job.GetSources, job.Cleanup},
		},
		{
			"after_script fails",
			[]func(*bench){in(job.AfterScript, exit(3))},
			job.Update{State: job.WireSuccess}, job.Success,
			"WARNING: after_script failed, but job will continue unaffected: exit status 3",
			[]job.Phase{"step_script", "after_script"},
		},
		{
			"after_script counts",
			[]func(*bench){in(job.AfterScript, exit(3)), func(b *bench) {
				b.spec.Variables = append(b.spec.Variables, job.Variable{Key: "AFTER_SCRIPT_IGNORE_ERRORS", Value: "false"})
			}},
			job.Update{State: job.WireFailed, Reason: job.ScriptFailure, ExitCode: 3}, job.Failed,
			"ERROR: Job failed: exit status 3",
			[]job.Phase{"step_script", "after_script"},
		},
		{
			"the executor panics",
			[]func(*bench){func(b *bench) {
				b.place.run = func(context.Context, executor.Command) error { panic("oh no") }
			}},
			job.Update{State: job.WireFailed, Reason: job.SystemFailure}, job.Failed,
			"ERROR: Job failed (system failure): panic: oh no", nil,
		},
		{
			"a reason the coordinator does not know",
			[]func(*bench){func(b *bench) {
				b.place.open = func(int) error {
					return &executor.Error{Reason: job.ConfigurationError, Err: errors.New("bad setting")}
				}
			}},
			job.Update{State: job.WireFailed, Reason: job.ScriptFailure}, job.Failed,
			"ERROR: Job failed: bad setting", []job.Phase{},
		},
		{
			"a reason the coordinator knows",
			[]func(*bench){func(b *bench) {
				b.spec.Features.FailureReasons = []string{"runner_configuration_error"}
				b.spec.Variables = append(b.spec.Variables, job.Variable{Key: "GIT_CLONE_PATH", Value: "/elsewhere"})
			}},
			job.Update{State: job.WireFailed, Reason: job.ConfigurationError}, job.Failed,
			"enable `custom_build_dir` feature", []job.Phase{},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, tt.change...)
			b.run(t.Context())
			if diff := cmp.Diff(tt.update, b.last()); diff != "" {
				t.Errorf("final update (-want +got):\n%s", diff)
			}
			if f := fact[event.JobFinished](b); f.State != tt.state {
				t.Errorf("state: got %q, want %q", f.State, tt.state)
			}
			if !strings.Contains(b.log.plain(), tt.line) {
				t.Errorf("the log has no %q:\n%s", tt.line, b.log.plain())
			}
			if tt.phases != nil && !slices.Equal(b.place.phases, tt.phases) {
				t.Errorf("phases: got %q, want %q", b.place.phases, tt.phases)
			}
			if opened := b.place.tries > 0 && b.place.open == nil; opened && b.place.closed != 1 {
				t.Errorf("the place was closed %d times", b.place.closed)
			}
			if b.journal.open != 0 {
				t.Errorf("%d jobs are left in the journal", b.journal.open)
			}
			if n := len(b.conn.updates); n != 2 {
				t.Errorf("%d updates, want two", n)
			}
		})
	}
}

func TestPreparationIsTriedThreeTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(b *bench) {
			b.place.open = func(try int) error { return fmt.Errorf("try %d failed", try) }
		})
		start := time.Now()
		o := b.run(t.Context())
		if b.place.tries != 3 || time.Since(start) != 6*time.Second {
			t.Errorf("%d tries in %v, want 3 in 6 s", b.place.tries, time.Since(start))
		}
		if o.Reason != job.SystemFailure || !strings.Contains(b.log.plain(), "Preparation failed: try 2 failed\nWill be retried in 3s ...") {
			t.Errorf("got %+v and\n%s", o, b.log.plain())
		}
	})
}

// blocked makes the user's script wait for the end of its context.
func blocked(b *bench) {
	b.place.run = func(ctx context.Context, c executor.Command) error {
		if c.Phase != "step_script" {
			return nil
		}
		<-ctx.Done()
		return fmt.Errorf("stopped: %w", context.Cause(ctx))
	}
}

func TestStops(t *testing.T) {
	variable := func(key, value string) func(*bench) {
		return func(b *bench) { b.spec.Variables = append(b.spec.Variables, job.Variable{Key: key, Value: value}) }
	}
	direct := func(d job.Directive) func(*bench, context.CancelCauseFunc) {
		return func(b *bench, _ context.CancelCauseFunc) { b.log.on(d) }
	}
	for _, tt := range []struct {
		name   string
		change []func(*bench)
		stop   func(*bench, context.CancelCauseFunc) // a minute after the script began
		update job.Update
		state  job.State
		after  string // CI_JOB_STATUS of after_script, "" when it does not run
		line   string
		took   time.Duration
	}{
		{
			"cancel", nil, direct(job.Cancel),
			job.Update{State: job.WireFailed, Reason: job.UnknownFailure}, job.Failed, "canceled", "ERROR: Job failed: canceled", time.Minute,
		},
		{
			"abort", nil, direct(job.Abort),
			job.Update{State: job.WireFailed, Reason: job.UnknownFailure}, job.CanceledS, "", "aborted by the coordinator", time.Minute,
		},
		{
			"shutdown", nil, func(_ *bench, cancel context.CancelCauseFunc) { cancel(&build.Interruption{Signal: "terminated"}) },
			job.Update{State: job.WireFailed, Reason: job.UnknownFailure}, job.Terminated, "", "ERROR: Job failed: aborted: terminated", time.Minute,
		},
		{
			"job timeout", nil, nil,
			job.Update{State: job.WireFailed, Reason: job.ExecutionTimeout}, job.TimedOut, "",
			"ERROR: Job failed: execution took longer than 1h0m0s seconds", time.Hour,
		},
		{
			"script timeout",
			[]func(*bench){variable("RUNNER_SCRIPT_TIMEOUT", "10m")},
			nil,
			job.Update{State: job.WireFailed, Reason: job.ExecutionTimeout}, job.Failed, "timedout",
			"ERROR: Job failed: script timeout: context deadline exceeded", 10 * time.Minute,
		},
		{
			"malformed script timeout",
			[]func(*bench){variable("RUNNER_SCRIPT_TIMEOUT", "soon")},
			direct(job.Cancel),
			job.Update{State: job.WireFailed, Reason: job.UnknownFailure}, job.Failed, "canceled",
			"WARNING: Ignoring malformed RUNNER_SCRIPT_TIMEOUT timeout: soon", time.Minute,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, append(tt.change, blocked)...)
				after := ""
				inner := b.place.run
				b.place.run = func(ctx context.Context, c executor.Command) error {
					if c.Phase == job.AfterScript {
						for line := range strings.SplitSeq(string(c.Script), "\n") {
							if _, v, ok := strings.Cut(line, "CI_JOB_STATUS="); ok {
								after = strings.Trim(strings.ReplaceAll(v, `'\''`, ""), "'\"")
							}
						}
					}
					return inner(ctx, c)
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if tt.stop != nil {
					go func() {
						<-b.log.started
						time.Sleep(time.Minute)
						tt.stop(b, cancel)
					}()
				}
				start := time.Now()
				b.run(ctx)
				if diff := cmp.Diff(tt.update, b.last()); diff != "" {
					t.Errorf("final update (-want +got):\n%s", diff)
				}
				if f := fact[event.JobFinished](b); f.State != tt.state || f.Took != tt.took {
					t.Errorf("got %q after %v, want %q after %v", f.State, f.Took, tt.state, tt.took)
				}
				if after != tt.after {
					t.Errorf("after_script saw %q, want %q", after, tt.after)
				}
				if !strings.Contains(b.log.plain(), tt.line) {
					t.Errorf("the log has no %q:\n%s", tt.line, b.log.plain())
				}
				if b.place.closed != 1 || b.journal.open != 0 {
					t.Errorf("closed %d times, %d in the journal", b.place.closed, b.journal.open)
				}
				if took := time.Since(start); took > tt.took+time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestAcknowledgement(t *testing.T) {
	for _, tt := range []struct {
		name    string
		ack     job.Ack
		err     error
		runs    bool
		updates int
	}{
		{"accepted", job.Ack{Result: job.Accepted}, nil, true, 2},
		{"coordinator in trouble", job.Ack{Result: job.Trouble}, errors.New("502"), true, 2},
		{"forbidden", job.Ack{Result: job.Refused, Directive: job.Abort}, nil, false, 1},
		{"unknown", job.Ack{Result: job.Gone}, nil, false, 1},
		{"canceled", job.Ack{Result: job.Accepted, Directive: job.Abort, JobStatus: "canceled"}, nil, false, 1},
		{"canceling", job.Ack{Result: job.Accepted, Directive: job.Cancel}, nil, false, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.conn.answer = func(u job.Update) (job.Ack, error) {
				if u.State == job.WireRunning {
					return tt.ack, tt.err
				}
				return job.Ack{}, nil
			}
			accepted, err := build.Accept(t.Context(), b.options, b.spec, b.conn)
			if (err == nil) != tt.runs || err != nil && !errors.Is(err, build.ErrNotRun) {
				t.Fatalf("got %v, want it to run: %v", err, tt.runs)
			}
			if tt.runs {
				accepted.Run(t.Context())
			}
			if len(b.conn.updates) != tt.updates || b.journal.open != 0 {
				t.Errorf("updates %+v, %d in the journal", b.conn.updates, b.journal.open)
			}
		})
	}
}

func TestUnsupportedJobsAreRefusedWithoutAcknowledgement(t *testing.T) {
	b := newBench(t, func(b *bench) { b.spec.Unsupported = []string{"image.executor_opts.frob"} })
	if _, err := build.Accept(t.Context(), b.options, b.spec, b.conn); !errors.Is(err, build.ErrNotRun) {
		t.Fatalf("got %v", err)
	}
	want := []job.Update{{State: job.WireFailed, Reason: job.SystemFailure, ExitCode: 3}}
	if diff := cmp.Diff(want, b.conn.updates); diff != "" {
		t.Errorf("updates (-want +got):\n%s", diff)
	}
	if !strings.Contains(b.log.plain(), "image.executor_opts.frob") {
		t.Errorf("the log does not name the option:\n%s", b.log.plain())
	}
}

func TestAnUndeliveredOutcomeStaysInTheJournal(t *testing.T) {
	b := newBench(t, func(b *bench) { b.log.fail = errors.New("given up") })
	b.run(t.Context())
	if f := fact[event.JobRemoved](b); !f.Lost || b.journal.open != 1 || b.journal.ended.State != job.WireSuccess {
		t.Errorf("got %+v, %+v in the journal", f, b.journal)
	}
}

func TestHeaderAndSections(t *testing.T) {
	b := newBench(t, func(b *bench) { b.spec.Features.TraceSections = true })
	b.run(t.Context())
	log := regexp.MustCompile(`:\d+:`).ReplaceAllString(b.log.plain(), ":T:")
	want := strings.Join([]string{
		"Running with glassrunner 1.2.3 (abcdef12)",
		"  on box abc, system ID: s_0123456789ab",
		"section_start:T:prepare_executor\rPreparing the \"test\" executor",
		"section_end:T:prepare_executor\rsection_start:T:prepare_script\rPreparing environment",
		"Running on box...",
		"section_end:T:prepare_script\rsection_start:T:get_sources\rGetting source from Git repository",
		"Skipping Git repository setup",
		"Skipping Git checkout",
		"Skipping Git submodules setup",
		"section_end:T:get_sources\rsection_start:T:step_script\rExecuting \"step_script\" stage of the job script",
		"section_end:T:step_script\rsection_start:T:after_script\rRunning after_script",
		"section_end:T:after_script\rsection_start:T:cleanup_file_variables\rCleaning up project directory and file based variables",
		"section_end:T:cleanup_file_variables\rJob succeeded",
		"",
	}, "\n")
	if diff := cmp.Diff(want, log); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestInputs(t *testing.T) {
	input := job.Input{Key: "target", Type: "string", Content: "prod"}
	for _, tt := range []struct {
		name, script, want, kind string
		inputs                   []job.Input
	}{
		{"none", "echo ${{ job.inputs.target }}", "job.inputs.target", "", nil},
		{"replaced", "make ${{job.inputs.target}}!", "make prod!", "", []job.Input{input}},
		{"number", "${{ job.inputs.n }}", "2.50", "", []job.Input{{Key: "n", Type: "array", Content: []any{"2.50", true, "<"}}}},
		{"unknown", "${{ job.inputs.other }}", "", "evaluation", []job.Input{input}},
		{"unclosed", "${{ job.inputs.target", "", "parse", []job.Input{input}},
		{"other expression", "${{ 1 + 1 }}", "", "parse", []job.Input{input}},
		{"sensitive", "${{ job.inputs.s }}", "", "sensitive_unsupported", []job.Input{{Key: "s", Content: "x", Sensitive: true}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var script string
			b := newBench(t, func(b *bench) {
				b.spec.Inputs = tt.inputs
				b.spec.Steps[0].Script = []string{tt.script}
				b.place.run = func(_ context.Context, c executor.Command) error {
					if c.Phase == "step_script" {
						script = string(c.Script)
					}
					return nil
				}
			})
			o := b.run(t.Context())
			if got := fact[event.InterpolationFailed](b).Kind; got != tt.kind {
				t.Errorf("error kind: got %q, want %q", got, tt.kind)
			}
			if tt.kind != "" {
				if o.Reason != job.ConfigurationError || !strings.Contains(b.log.plain(), "failed to interpolate job inputs:") {
					t.Errorf("got %+v and\n%s", o, b.log.plain())
				}
				return
			}
			if !strings.Contains(script, tt.want) {
				t.Errorf("the script has no %q:\n%s", tt.want, script)
			}
		})
	}
}

func TestSlotsAreTheSmallestFree(t *testing.T) {
	var s build.Slots
	a, ap, freeA := s.Take(1)
	b, bp, freeB := s.Take(2)
	c, cp, _ := s.Take(1)
	if got, want := []int{a, ap, b, bp, c, cp}, []int{0, 0, 1, 0, 2, 1}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	freeA()
	freeA()
	if d, dp, _ := s.Take(2); d != 0 || dp != 1 {
		t.Errorf("got %d, %d, want 0, 1", d, dp)
	}
	freeB()
}

// What is told of a job reaches process logs and pages: it has no secrets.
func TestFactsAreMasked(t *testing.T) {
	b := newBench(t, func(b *bench) {
		b.spec.Info.Name, b.spec.Info.Stage = "deploy: [s3cr3t-value]", "s3cr3t-value"
		b.spec.Variables = append(b.spec.Variables,
			job.Variable{Key: "PASSWORD", Value: "s3cr3t-value", Masked: true},
			job.Variable{Key: "GIT_CLONE_PATH", Value: "/elsewhere/$PASSWORD"})
		b.options.CustomDirs = new(bool)
		*b.options.CustomDirs = true
	})
	o := b.run(t.Context())
	if o.Reason != job.ConfigurationError || !strings.Contains(o.Err.Error(), `GIT_CLONE_PATH="/elsewhere/[MASKED]"`) {
		t.Errorf("the outcome is %s, %v", o.Reason, o.Err)
	}
	if got, want := fact[event.JobStarted](b).Info.Name, "deploy: [[MASKED]]"; got != want {
		t.Errorf("name: got %q, want %q", got, want)
	}
	for _, f := range b.facts {
		if text := fmt.Sprintf("%+v", f); strings.Contains(text, "s3cr3t-value") {
			t.Errorf("a secret is in %T: %s", f, text)
		}
	}
}

// Each phase before the script has a setting for how often it is tried.
func TestAttempts(t *testing.T) {
	for _, tt := range []struct {
		phase   job.Phase
		setting string
		waits   time.Duration // of three tries
		flags   []build.Flag
		between []job.Phase
	}{
		{job.GetSources, "GET_SOURCES_ATTEMPTS", 3 * time.Second, nil, []job.Phase{job.ClearWorktree}},
		{job.RestoreCache, "RESTORE_CACHE_ATTEMPTS", 3 * time.Second, nil, nil},
		{job.DownloadArtifacts, "ARTIFACT_DOWNLOAD_ATTEMPTS", 3 * time.Second, nil, nil},
		{job.DownloadArtifacts, "ARTIFACT_DOWNLOAD_ATTEMPTS", 15 * time.Second, []build.Flag{{Name: "FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY", On: true}}, nil},
	} {
		for _, tries := range []int{3, 2} { // one is enough, one too few
			synctest.Test(t, func(t *testing.T) {
				failures := 2
				b := newBench(t, func(b *bench) {
					b.place.traits.HelperCommand = "/helper"
					b.spec.Variables = job.Variables{{Key: tt.setting, Value: fmt.Sprint(tries)}}
					b.spec.Caches = []job.Cache{{Key: "k", Paths: []string{"x"}}}
					b.spec.Dependencies = []job.Dependency{{ID: 1, Name: "before", Token: "t", Filename: "a.zip"}}
					b.options.Flags = func(job.Variables) ([]build.Flag, []string) { return tt.flags, nil }
					b.place.run = func(_ context.Context, c executor.Command) error {
						if c.Phase == tt.phase && failures > 0 {
							failures--
							return &executor.ExitError{Code: 5}
						}
						return nil
					}
				})
				began := time.Now()
				o := b.run(t.Context())
				count := map[job.Phase]int{}
				for _, p := range b.place.phases {
					count[p]++
				}
				if count[tt.phase] != tries {
					t.Errorf("%s: %d tries, want %d", tt.phase, count[tt.phase], tries)
				}
				for _, p := range tt.between {
					if count[p] != 1 { // before the second try only
						t.Errorf("%s: %s ran %d times", tt.phase, p, count[p])
					}
				}
				if tries < 3 {
					if o.Reason != job.ScriptFailure || o.ExitCode != 5 || count["step_script"] != 0 {
						t.Errorf("%s: too few tries: %+v, the script ran %d times", tt.phase, o, count["step_script"])
					}
					return
				}
				if took := time.Since(began); !o.OK() || took != tt.waits {
					t.Errorf("%s: %+v after %v, want success after %v", tt.phase, o, took, tt.waits)
				}
				if n := strings.Count(b.log.plain(), "WARNING: Retrying...\n"); n != 2 {
					t.Errorf("%s: the log says %d times that it tries again", tt.phase, n)
				}
			})
		}
	}
}
