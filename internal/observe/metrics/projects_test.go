package metrics_test

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/observe/metrics"
)

// byProject returns the samples of a metric by project.
func byProject(tb testing.TB, all, metric string) map[string]float64 {
	tb.Helper()
	out := map[string]float64{}
	for line := range strings.Lines(all) {
		rest, ok := strings.CutPrefix(line, metric+`{project="`)
		if !ok {
			continue
		}
		name, v, _ := strings.Cut(rest, `"} `)
		n, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		if err != nil {
			tb.Fatal(err)
		}
		out[name] = n
	}
	return out
}

// shop is a stream of jobs of projects on one runner.
type shop struct {
	*stream
	m    *metrics.Metrics
	runs uint64
	used map[string]float64 // truly, in seconds
	all  float64
	most float64 // of one job
}

func newShop(tb testing.TB, top int) *shop {
	tb.Helper()
	s, _, m := newStream(tb)
	x := &shop{stream: s, m: m, used: map[string]float64{}}
	x.load(top)
	return x
}

func (s *shop) load(top int) {
	s.emit(event.Scope{}, event.ConfigLoaded{Generation: 1, TopProjects: top, Runners: []event.Limits{{Runner: runner("abcdefghi"), PricePerHour: 0.36}}})
}

func (s *shop) job(project string, took time.Duration) {
	s.runs++
	scope := event.Scope{Runner: runner("abcdefghi"), Job: job.ID(s.runs), Run: s.runs}
	s.emit(scope, event.JobStarted{Info: job.Info{ProjectFullPath: project}})
	s.emit(scope, event.JobUsed{Usage: job.Usage{CPU: job.KnownTime(took / 2)}})
	s.emit(scope, event.JobFinished{Took: took})
	s.emit(scope, event.JobRemoved{})
	s.used[project] += took.Seconds()
	s.all += took.Seconds()
	s.most = max(s.most, took.Seconds())
}

// check compares what is shown with what was used.
func (s *shop) check(tb testing.TB, top int, known bool) map[string]float64 {
	tb.Helper()
	all := text(tb, s.m, false)
	shown := byProject(tb, all, "glassrunner_project_job_seconds_total")
	if len(shown) > top+1 {
		tb.Fatalf("%d series, want %d at most", len(shown), top+1)
	}
	var seconds, cpu float64
	for _, v := range shown {
		seconds += v
	}
	sum := total(tb, all, "glassrunner_job_duration_seconds_sum")
	if math.Abs(seconds-s.all) > 1e-6*s.all || math.Abs(sum-s.all) > 1e-6*s.all {
		tb.Fatalf("%v s are shown by project and %v by runner, %v were used", seconds, sum, s.all)
	}
	for _, v := range byProject(tb, all, "glassrunner_project_cpu_seconds_total") {
		cpu += v
	}
	if used := total(tb, all, "glassrunner_job_cpu_seconds_sum"); math.Abs(cpu-used) > 1e-6*max(1, used) {
		tb.Fatalf("%v s of processors are shown by project, %v by runner", cpu, used)
	}
	for name, v := range shown {
		if name == "other" {
			continue
		}
		used := s.used[name]
		over := 0.0
		if !known {
			over = s.all / float64(4096-top)
		}
		if under := 1.1*s.all/float64(top) + s.most; v > used+over+1e-6 || v < used-under-1e-6 {
			tb.Fatalf("%s is shown with %v s, but used %v; the bounds are +%v and -%v", name, v, used, over, under)
		}
	}
	return shown
}

func TestProjects(t *testing.T) {
	const top = 50
	projects := func(i int) string { return fmt.Sprintf("group-%d/project-%d", i%97, i) }
	for _, c := range []struct {
		name string
		n    int // projects
		jobs int
		pick func(r *rand.Rand, i int) (project int, took time.Duration)
		// heavy are projects that must be listed in the end.
		heavy []int
	}{
		{
			"a few use most", 10_000, 60_000, func(r *rand.Rand, _ int) (int, time.Duration) {
				p := int(math.Pow(10_000, r.Float64())) - 1
				return p, time.Duration(1+r.IntN(600)) * time.Second
			}, []int{0, 1, 2, 3, 4},
		},
		{
			"all use the same", 10_000, 40_000, func(_ *rand.Rand, i int) (int, time.Duration) { return i % 10_000, time.Minute }, nil,
		},
		{
			"the heavy ones come late", 10_000, 40_000, func(r *rand.Rand, i int) (int, time.Duration) {
				if i > 30_000 && i%2 == 0 {
					return 9_000 + r.IntN(10), time.Hour
				}
				return r.IntN(9_000), time.Duration(r.IntN(60)) * time.Second
			}, []int{9000, 9001, 9002, 9003, 9004, 9005, 9006, 9007, 9008, 9009},
		},
		{
			"each is heavier than the one before", 10_000, 10_000, func(_ *rand.Rand, i int) (int, time.Duration) { return i, time.Duration(i) * time.Second }, nil,
		},
		{
			"a few projects", 40, 2000, func(r *rand.Rand, _ int) (int, time.Duration) { return r.IntN(40), time.Duration(r.IntN(1e9)) }, []int{0, 39},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if watched {
				c.jobs /= 4
				c.heavy = nil
			}
			s := newShop(t, top)
			r := rand.New(rand.NewPCG(1, 2))
			last := map[string]float64{}
			for i := range c.jobs {
				p, took := c.pick(r, i)
				s.job(projects(p), took)
				if i%(c.jobs/50) != 0 {
					continue
				}
				shown := s.check(t, top, len(s.used) < 4096)
				for name, v := range shown {
					if v < last[name]-1e-9 && len(s.used) <= top {
						t.Fatalf("%s went from %v back to %v", name, last[name], v)
					}
				}
				if shown["other"] < last["other"]-1e-9 {
					t.Fatalf("other went from %v back to %v", last["other"], shown["other"])
				}
				last = maps.Clone(shown)
			}
			shown := s.check(t, top, len(s.used) < 4096)
			for _, p := range c.heavy {
				if _, ok := shown[projects(p)]; !ok {
					t.Errorf("%s used %v of %v s and is not listed", projects(p), s.used[projects(p)], s.all)
				}
			}
			if a, b := gathered(t, s.m, false), text(t, s.m, false); a != b {
				t.Errorf("ours differs from the library's:\n%s", cmp.Diff(strings.Split(a, "\n"), strings.Split(b, "\n")))
			}
		})
	}
}

// What increase() sees: every job moves exactly one series, its project's or
// that of all others, by what it used; none ever goes back while it is there.
func TestProjectsMoveOneSeries(t *testing.T) {
	s := newShop(t, 3)
	r := rand.New(rand.NewPCG(3, 4))
	last := s.check(t, 3, true)
	for i := range 3000 {
		name, took := fmt.Sprint("p/", r.IntN(30)), time.Duration(1+r.IntN(100))*time.Second
		s.job(name, took)
		shown := s.check(t, 3, true)
		moved := 0.0
		for n, v := range shown {
			was, known := last[n]
			if !known && len(last) == 4 {
				continue // it was taken over and begins with this sample
			}
			if v < was-1e-9 {
				t.Fatalf("job %d: %s went from %v back to %v", i, n, was, v)
			}
			if v > was+1e-9 && n != name && n != "other" {
				t.Fatalf("job %d of %s moved %s", i, name, n)
			}
			moved += v - was
		}
		if math.Abs(moved-took.Seconds()) > 1e-6 {
			t.Fatalf("job %d of %v moved the series by %v s", i, took, moved)
		}
		last = shown
	}
}

func TestProjectsCostAndConfiguration(t *testing.T) {
	s := newShop(t, 0)
	s.job("a/b", time.Hour)
	if got := byProject(t, text(t, s.m, false), "glassrunner_project_job_seconds_total"); len(got) != 0 {
		t.Errorf("without the table: %v, want nothing", got)
	}
	s.load(2)
	if got := byProject(t, text(t, s.m, false), "glassrunner_project_cost_units_total"); !maps.Equal(got, map[string]float64{"other": 0}) {
		t.Errorf("at the start: %v, want other at 0", got)
	}
	s.job("a/b", 30*time.Minute)
	s.job("a/c", 15*time.Minute)
	s.job("", 15*time.Minute)
	s.load(2) // changes nothing
	want := map[string]float64{"a/b": 0.18, "a/c": 0.09, "other": 0.09}
	if d := cmp.Diff(want, byProject(t, text(t, s.m, false), "glassrunner_project_cost_units_total")); d != "" {
		t.Errorf("cost (-want +got):\n%s", d)
	}
	s.load(1) // begins anew
	if got := byProject(t, text(t, s.m, false), "glassrunner_project_job_seconds_total"); !maps.Equal(got, map[string]float64{"other": 0}) {
		t.Errorf("after another number: %v, want other at 0", got)
	}
	s.load(0)
	if got := byProject(t, text(t, s.m, false), "glassrunner_project_job_seconds_total"); len(got) != 0 {
		t.Errorf("switched off: %v, want nothing", got)
	}
}
