package autoscale_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/autoscale"
)

func always(p autoscale.Policy) autoscale.Schedule { return autoscale.Schedule{{Policy: p}} }

func TestSimulateOneJob(t *testing.T) {
	jobs := []autoscale.Job{{Arrival: noon, Duration: 10 * time.Minute}}
	w := autoscale.World{Boot: time.Minute, Delete: 30 * time.Second, Interval: time.Second, Price: 6, Schedule: always(autoscale.Policy{})}
	r := autoscale.Simulate(w, jobs)
	if r.Jobs != 1 || r.Failed != 0 || r.Created != 1 || r.Peak != 1 {
		t.Errorf("got %+v", r)
	}
	if r.Waits.Max < 30*time.Second || r.Waits.Max > 90*time.Second || r.Waits.P50 != r.Waits.Max {
		t.Errorf("waited %v for a machine that boots in half to one and a half minutes", r.Waits)
	}
	paid := (r.Waits.Max + 10*time.Minute).Hours()
	if math.Abs(r.InstanceHours-paid) > 1e-9 || math.Abs(r.Cost-6*paid) > 1e-9 {
		t.Errorf("paid for %v h (%v), want %v", r.InstanceHours, r.Cost, paid)
	}
	if want := (10 * time.Minute).Hours() / paid; math.Abs(r.BusyShare-want) > 1e-9 {
		t.Errorf("busy %v of the time, want %v", r.BusyShare, want)
	}
}

func TestSimulatePolicies(t *testing.T) {
	jobs := autoscale.Made{Start: noon.Truncate(24 * time.Hour), Days: 2, JobsPerDay: 2000, Duration: 5 * time.Minute, Shape: autoscale.Office, Seed: 7}.Trace()
	run := func(p autoscale.Policy) autoscale.Result {
		r := autoscale.Simulate(autoscale.World{Boot: 90 * time.Second, Delete: time.Minute, BootFailures: 0.05, Schedule: always(p), Seed: 3}, jobs)
		if r.Jobs != len(jobs) || r.Failed != 0 {
			t.Errorf("%+v: %d of %d jobs ran", p, r.Jobs-r.Failed, len(jobs))
		}
		removed := 0
		for _, n := range r.Removed {
			removed += n
		}
		if removed > r.Created || r.Removed[autoscale.IsBroken] > r.BootFailed || r.BootFailed == 0 {
			t.Errorf("%+v: created %d, removed %v, %d did not boot", p, r.Created, r.Removed, r.BootFailed)
		}
		if p.MaxInstances > 0 && r.Peak > p.MaxInstances {
			t.Errorf("%+v: %d instances at once", p, r.Peak)
		}
		return r
	}
	none := run(autoscale.Policy{Capacity: 2})
	idle := run(autoscale.Policy{Capacity: 2, IdleCount: 10, IdleTime: 10 * time.Minute})
	factor := run(autoscale.Policy{Capacity: 2, IdleCount: 2, IdleTime: 10 * time.Minute, ScaleFactor: 0.5, ScaleFactorLimit: 20})
	preemptive := run(autoscale.Policy{Capacity: 2, IdleCount: 10, IdleTime: 10 * time.Minute, Preemptive: true})
	capped := run(autoscale.Policy{Capacity: 2, MaxInstances: 5})
	once := run(autoscale.Policy{Capacity: 2, MaxUse: 1, IdleCount: 5, IdleTime: 10 * time.Minute})

	if idle.Waits.P95 >= none.Waits.P95 || idle.InstanceHours <= none.InstanceHours {
		t.Errorf("idle capacity: waits %v to %v, hours %v to %v", none.Waits.P95, idle.Waits.P95, none.InstanceHours, idle.InstanceHours)
	}
	if factor.Waits.P95 >= none.Waits.P95 {
		t.Errorf("a scale factor: waits %v to %v", none.Waits.P95, factor.Waits.P95)
	}
	if preemptive.Waits.Max < idle.Waits.Max {
		t.Errorf("preemptive: the longest wait went from %v to %v although the queue is not seen", idle.Waits.Max, preemptive.Waits.Max)
	}
	if capped.Waits.Max <= none.Waits.Max || capped.KeptBack[autoscale.AtLimit] == 0 {
		t.Errorf("at most five instances: waits %v to %v, kept back %v", none.Waits.Max, capped.Waits.Max, capped.KeptBack)
	}
	if once.Created < len(jobs) || once.Removed[autoscale.IsUsedUp] < len(jobs)*9/10 {
		t.Errorf("an instance a job: %d instances for %d jobs, removed %v", once.Created, len(jobs), once.Removed)
	}
	if again := run(autoscale.Policy{Capacity: 2}); !cmp.Equal(none, again) {
		t.Error("the same seed gave another result")
	}
}

// TestSimulateEnds: a policy by which no job can run ends, and says so.
func TestSimulateEnds(t *testing.T) {
	jobs := []autoscale.Job{{Arrival: noon}, {Arrival: noon.Add(time.Minute)}}
	for name, w := range map[string]autoscale.World{
		"no idle capacity and preemptive": {Schedule: always(autoscale.Policy{Preemptive: true})},
		"nothing boots":                   {BootFailures: 1, Boot: time.Minute, Interval: time.Minute, Schedule: always(autoscale.Policy{})},
	} {
		if r := autoscale.Simulate(w, jobs); r.Failed != 2 {
			t.Errorf("%s: %d of 2 jobs never ran", name, r.Failed)
		}
	}
	if r := autoscale.Simulate(autoscale.World{}, nil); r.Jobs != 0 {
		t.Errorf("no jobs: got %+v", r)
	}
}

func TestReadTrace(t *testing.T) {
	got, err := autoscale.ReadTrace(strings.NewReader("arrival,duration,count\n# comment\n\n20, 1m, 2\n10.5,3\n"))
	if err != nil {
		t.Fatal(err)
	}
	at := func(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
	want := []autoscale.Job{{at(10500), 3 * time.Second}, {at(20000), time.Minute}, {at(20000), time.Minute}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for text, want := range map[string]string{
		"":                            "there is no job in it",
		"# nothing\n":                 "there is no job in it",
		"1,2,3,4":                     "line 1: found 4 fields, want arrival,duration or arrival,duration,count",
		"\n1":                         "line 2: found 1 fields",
		"x,1":                         `line 1: found the arrival "x", want a number of seconds or a time such as 2026-03-02T08:00:00Z`,
		"-1,1":                        `line 1: the arrival "-1" is out of range`,
		"NaN,1":                       `line 1: the arrival "NaN" is out of range`,
		"1,x":                         `line 1: found the duration "x", want a number of seconds or a duration such as 3m20s`,
		"1,-1s":                       `line 1: the duration "-1s" is out of range`,
		"1,1,x":                       `line 1: found the count "x", want a whole number`,
		"1,1,999999999":               "line 1: more than 50000000 jobs",
		"1,1\n2026-01-01T00:00:00Z,1": "line 2: the arrival is a time, before it was a number",
		"1,1\n9e10,1":                 "it spans",
		strings.Repeat("1", 5000):     "line 1: longer than 4096 characters",
		"arrival\narrival":            "line 2: found 1 fields",
	} {
		if _, err := autoscale.ReadTrace(strings.NewReader(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %s", text, err, want)
		}
	}
}

func FuzzReadTrace(f *testing.F) {
	f.Add("1,2\n3,4,5\n")
	f.Add("2026-01-01T00:00:00Z,1h\n")
	f.Fuzz(func(t *testing.T, text string) {
		const most = 1000
		jobs, err := autoscale.ReadSome(strings.NewReader(text), most)
		if len(jobs) > most {
			t.Fatalf("%d jobs, at most %d are allowed", len(jobs), most)
		}
		if (len(jobs) == 0) != (err != nil) {
			t.Fatalf("%d jobs and %v", len(jobs), err)
		}
		for i, j := range jobs {
			if j.Duration < 0 || i > 0 && j.Arrival.Before(jobs[i-1].Arrival) {
				t.Fatalf("job %d: %+v", i, j)
			}
		}
	})
}

func TestMade(t *testing.T) {
	monday := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	for _, shape := range autoscale.Shapes() {
		jobs := autoscale.Made{Start: monday, Days: 7, JobsPerDay: 10_000, Duration: time.Minute, Shape: shape, Seed: 1}.Trace()
		var sum time.Duration
		for _, j := range jobs {
			sum += j.Duration
		}
		want := 70_000.0
		if shape == autoscale.Office {
			want = 52_500
		}
		if n := float64(len(jobs)); math.Abs(n-want) > want/50 {
			t.Errorf("%s: %v jobs, want about %v", shape, n, want)
		}
		if mean := sum / time.Duration(len(jobs)); mean < 55*time.Second || mean > 65*time.Second {
			t.Errorf("%s: jobs take %v, want about a minute", shape, mean)
		}
	}
}

func TestPlots(t *testing.T) {
	jobs := autoscale.Made{Start: noon, Days: 1, JobsPerDay: 500, Duration: 5 * time.Minute, Shape: autoscale.Bursts, Seed: 1}.Trace()
	r := autoscale.Simulate(autoscale.World{Boot: time.Minute, Schedule: always(autoscale.Policy{})}, jobs)
	var text, picture bytes.Buffer
	if err := r.Plot(&text, 80); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(text.String(), "\n"), "\n")
	if len(lines) != 13 {
		t.Errorf("%d lines, want 13:\n%s", len(lines), text.String())
	}
	for _, l := range lines {
		if n := len([]rune(l)); n > 80 {
			t.Errorf("a line of %d columns: %s", n, l)
		}
	}
	if err := r.SVG(&picture, "a <policy> & more"); err != nil {
		t.Fatal(err)
	}
	dec := xml.NewDecoder(&picture)
	for {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the picture is no XML: %v", err)
		}
	}
	if err := new(autoscale.Result).Plot(io.Discard, 80); err != nil {
		t.Error(err)
	}
}

// BenchmarkFleet is the size that a simulation must take in seconds: a million
// jobs a day on some ten thousand instances.
func BenchmarkFleet(b *testing.B) {
	jobs := autoscale.Made{
		Start: noon.Truncate(24 * time.Hour), Days: 1, JobsPerDay: 1_000_000, Duration: 7 * time.Minute, Shape: autoscale.Office, Seed: 1,
	}.Trace()
	w := autoscale.World{
		Boot: 90 * time.Second, Delete: time.Minute, BootFailures: 0.02,
		Schedule: always(autoscale.Policy{IdleCount: 200, IdleTime: 15 * time.Minute, ScaleFactor: 0.1, MaxInstances: 20_000}),
	}
	for b.Loop() {
		r := autoscale.Simulate(w, jobs)
		b.ReportMetric(float64(r.Peak), "instances")
		b.ReportMetric(float64(r.Jobs), "jobs")
	}
}
