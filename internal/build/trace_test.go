package build_test

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

var exported = regexp.MustCompile(`\bexport TRACEPARENT=(\S+)`)

// TestTraceparent looks at what the scripts of phases export.
func TestTraceparent(t *testing.T) {
	top := event.NewTrace(event.TraceID{}, event.SpanID{}, true)
	own := job.Variable{Key: "TRACEPARENT", Value: "mine"}
	for _, tt := range []struct {
		name        string
		trace       event.Trace
		variables   job.Variables
		environment []string
		want        string // "span": that of the phase
	}{
		{name: "off"},
		{name: "on", trace: top, want: "span"},
		{name: "the job's own", trace: top, variables: job.Variables{own}, want: "mine"},
		{name: "the runner's", trace: top, environment: []string{"TRACEPARENT=theirs"}, want: "theirs"},
		{name: "the job's own, off", variables: job.Variables{own}, want: "mine"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, spans := map[job.Phase]string{}, map[job.Phase]string{}
			b := newBench(t, func(b *bench) {
				b.options.Trace = func(*job.Spec) event.Trace { return tt.trace }
				b.options.Environment = tt.environment
				b.spec.Variables = append(b.spec.Variables, tt.variables...)
				b.place.run = func(_ context.Context, c executor.Command) error {
					if m := exported.FindSubmatch(c.Script); m != nil {
						got[c.Phase] = strings.Trim(string(m[1]), `'"`)
					}
					return nil
				}
				b.options.Bus = event.NewBus(event.ObserverFunc(func(e event.Event) {
					if f, ok := e.Fact.(event.PhaseStarted); ok {
						spans[f.Phase] = e.Trace.Parentage()
						if e.Trace.Parent != tt.trace.Span {
							t.Errorf("phase %s is not below the job", f.Phase)
						}
					}
				}))
			})
			if o := b.run(t.Context()); !o.OK() {
				t.Fatal(o.Err)
			}
			want := map[job.Phase]string{}
			for _, p := range []job.Phase{"step_script", job.AfterScript} {
				switch tt.want {
				case "":
				case "span":
					want[p] = spans[p]
				default:
					want[p] = tt.want
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// TestWhatObserversAreToldIsMasked puts a masked value into errors.
func TestWhatObserversAreToldIsMasked(t *testing.T) {
	secret := errors.New("cannot reach s3cr3t-value")
	for name, change := range map[string]func(*bench){
		"phase": func(b *bench) {
			b.place.run = func(context.Context, executor.Command) error {
				return &executor.Error{Reason: job.ExternalDependency, Err: secret}
			}
		},
		"prepare": func(b *bench) {
			b.place.open = func(int) error { return &executor.Error{Reason: job.ExternalDependency, Err: secret} }
		},
		"delivery": func(b *bench) { b.log.fail = secret },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, change, func(b *bench) {
				b.spec.Variables = append(b.spec.Variables, job.Variable{Key: "KEY", Value: "s3cr3t-value", Masked: true})
				b.spec.Features.FailureReasons = []string{"runner_external_dependency_failure"}
			})
			o := b.run(t.Context())
			if name != "delivery" && o.Reason != job.ExternalDependency {
				t.Errorf("masking lost the reason: %+v", o)
			}
			seen := 0
			check := func(err error) {
				if err != nil {
					seen++
					if text := err.Error(); strings.Contains(text, "s3cr3t") || !strings.Contains(text, "[MASKED]") {
						t.Errorf("told %q", text)
					}
				}
			}
			for _, f := range b.facts {
				switch f := f.(type) {
				case event.PhaseFinished:
					check(f.Err)
				case event.JobFinished:
					check(f.Outcome.Err)
				case event.JobRemoved:
					check(f.Err)
				default:
				}
			}
			if seen == 0 {
				t.Error("no error was told")
			}
		})
	}
}
