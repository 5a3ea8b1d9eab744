package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/glassrunner/glassrunner/internal/autoscale"
	"github.com/glassrunner/glassrunner/internal/config"
)

func (c *command) autoscale() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "autoscale",
		Short:   "Try out policies for autoscaled machines",
		GroupID: "look",
	}
	cmd.AddCommand(c.simulate())
	return cmd
}

// simulation is what the flags of `autoscale simulate` say.
type simulation struct {
	runner   string
	policies []string
	trace    string
	made     autoscale.Made
	shape    string
	start    string
	world    autoscale.World
	format   string
	svg      string
}

func (c *command) simulate() *cobra.Command {
	s := &simulation{}
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Replay demand against autoscaling policies: machines, cost, waiting time",
		Long: `Replay a demand trace against autoscaling policies and compare what they cost
with how long jobs wait. The decisions are those that a runner would make.

Policies are those of the [runners.autoscaler] sections of the configuration,
all or the one of --runner, or those given by --policy, of which each is one to
compare: KEY=VALUE pairs with the keys of the section and of its policies
(capacity_per_instance, max_use_count, max_instances, idle_count, idle_time,
scale_factor, scale_factor_limit, preemptive_mode).

Demand is a file (--trace) of lines "arrival,duration" or "arrival,duration,count",
or made up from the --demand flags.`,
		Example: `  glassrunner autoscale simulate --policy idle_count=5,idle_time=20m \
    --policy idle_count=1,scale_factor=0.5,idle_time=10m --jobs-per-day 5000 --price 0.10
  glassrunner autoscale simulate --config config.toml --runner builders --trace last-week.csv`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return c.runSimulation(s) },
	}
	f := cmd.Flags()
	f.StringVar(&s.runner, "runner", "", "`name` of the [[runners]] entry to take the policy from")
	f.StringArrayVar(&s.policies, "policy", nil, "`key=value,...` of a policy to compare; may be repeated")
	f.StringVar(&s.trace, "trace", "", "`file` with the demand, - for the standard input")
	f.IntVar(&s.made.JobsPerDay, "jobs-per-day", 2000, "`number` of jobs of a made-up working day")
	f.IntVar(&s.made.Days, "days", 7, "`number` of made-up days")
	f.DurationVar(&s.made.Duration, "duration", 5*time.Minute, "mean `duration` of made-up jobs")
	f.StringVar(&s.shape, "shape", string(autoscale.Office), "`shape` of made-up demand: "+shapes())
	f.StringVar(&s.start, "start", "2026-01-05", "first `day` of made-up demand, in UTC")
	f.DurationVar(&s.world.Boot, "boot", 90*time.Second, "mean `duration` from the request for a machine until a job can run")
	f.DurationVar(&s.world.Delete, "delete", 30*time.Second, "`duration` of the removal of a machine")
	f.Float64Var(&s.world.BootFailures, "boot-failures", 0, "`share` of machines that never come up, 0 to 1")
	f.DurationVar(&s.world.Interval, "interval", 5*time.Second, "`duration` between decisions")
	f.IntVar(&s.world.Limit, "limit", 0, "`number` of jobs at once; 0: no limit")
	f.Float64Var(&s.world.Price, "price", 0, "`price` of a machine for an hour")
	f.Uint64Var(&s.world.Seed, "seed", 1, "`number` that decides what is left to chance")
	f.StringVar(&s.format, "format", "text", "`format` of the answer: text, json")
	f.StringVar(&s.svg, "svg", "", "`file` for a picture of the first policy's machines and jobs over time")
	return cmd
}

func shapes() string {
	var names []string
	for _, s := range autoscale.Shapes() {
		names = append(names, string(s))
	}
	return strings.Join(names, ", ")
}

func (c *command) runSimulation(s *simulation) error {
	if err := s.check(); err != nil {
		return &usageError{err}
	}
	compared, err := c.schedules(s)
	if err != nil {
		return err
	}
	jobs, err := c.demand(s)
	if err != nil {
		return err
	}
	results := make([]simulated, len(compared))
	for i, p := range compared {
		w := s.world
		w.Schedule, w.Throttle = p.schedule, p.throttle
		if p.limit > 0 && (w.Limit == 0 || p.limit < w.Limit) {
			w.Limit = p.limit
		}
		results[i] = simulated{p.name, autoscale.Simulate(w, jobs)}
	}
	if s.svg != "" {
		if err := writeFile(s.svg, func(w io.Writer) error { return results[0].SVG(w, results[0].name) }); err != nil {
			return err
		}
	}
	if s.format == "json" {
		return printJSON(c.Out, results)
	}
	return c.printSimulation(results, s.world.Price > 0)
}

func (s *simulation) check() error {
	switch {
	case s.format != "text" && s.format != "json":
		return fmt.Errorf("--format: found %q, want text or json", s.format)
	case !slices.Contains(autoscale.Shapes(), autoscale.Shape(s.shape)):
		return fmt.Errorf("--shape: found %q, want one of %s", s.shape, shapes())
	case s.world.BootFailures < 0 || s.world.BootFailures > 1:
		return fmt.Errorf("--boot-failures: found %v, want a share from 0 to 1", s.world.BootFailures)
	case s.made.Days < 1 || s.made.Days > 366:
		return fmt.Errorf("--days: found %d, want 1 to 366", s.made.Days)
	case s.made.JobsPerDay < 1 || s.made.JobsPerDay > 10_000_000:
		return fmt.Errorf("--jobs-per-day: found %d, want 1 to 10000000", s.made.JobsPerDay)
	case s.made.Duration <= 0 || s.world.Boot < 0 || s.world.Delete < 0 || s.world.Interval <= 0:
		return errors.New("--duration and --interval must be more than 0, --boot and --delete not less")
	case s.world.Limit < 0 || s.world.Price < 0:
		return errors.New("--limit and --price must not be negative")
	}
	start, err := time.Parse(time.DateOnly, s.start)
	if err != nil {
		return fmt.Errorf("--start: found %q, want a day such as 2026-01-05", s.start)
	}
	s.made.Start, s.made.Shape, s.made.Seed = start, autoscale.Shape(s.shape), s.world.Seed
	return nil
}

// compared is one policy of a comparison.
type compared struct {
	name     string
	schedule autoscale.Schedule
	throttle autoscale.Throttle
	limit    int
}

func (c *command) schedules(s *simulation) ([]compared, error) {
	if len(s.policies) > 0 {
		if s.runner != "" {
			return nil, &usageError{errors.New("--runner and --policy exclude one another")}
		}
		var all []compared
		for _, text := range s.policies {
			p, err := parsePolicy(text)
			if err != nil {
				return nil, &usageError{fmt.Errorf("--policy %s: %w", text, err)}
			}
			all = append(all, compared{name: text, schedule: autoscale.Schedule{{Policy: p}}})
		}
		return all, nil
	}
	cfg, err := c.load()
	if err != nil {
		return nil, err
	}
	var all []compared
	for i := range cfg.Runners {
		r := &cfg.Runners[i]
		if r.Autoscaler == nil || s.runner != "" && r.Name != s.runner {
			continue
		}
		limit := cfg.Concurrency()
		if r.Limit > 0 {
			limit = min(limit, r.Limit)
		}
		all = append(all, compared{r.Name, schedule(r.Autoscaler), throttle(r.Autoscaler), limit})
	}
	if len(all) == 0 {
		what := "no [[runners]] entry of " + cfg.Path
		if s.runner != "" {
			what = fmt.Sprintf("no [[runners]] entry %q of %s", s.runner, cfg.Path)
		}
		return nil, fmt.Errorf("%s has a [runners.autoscaler] section: name a policy with --policy idle_count=5,idle_time=20m", what)
	}
	return all, nil
}

// schedule is the policies of a configuration.
func schedule(a *config.Autoscaler) autoscale.Schedule {
	base := autoscale.Policy{Capacity: a.CapacityPerInstance, MaxUse: a.MaxUseCount, MaxInstances: a.MaxInstances}
	s := make(autoscale.Schedule, 0, len(a.Policy))
	for i := range a.Policy {
		from := &a.Policy[i]
		p := base
		p.IdleCount, p.IdleTime = from.IdleCount, from.IdleTime
		p.ScaleFactor, p.ScaleFactorLimit = from.ScaleFactor, from.ScaleFactorLimit
		p.Preemptive = from.IdleCount > 0
		if from.PreemptiveMode != nil {
			p.Preemptive = *from.PreemptiveMode
		}
		s = append(s, autoscale.Period{Policy: p, Contains: eachMinute(from.Contains)})
	}
	if len(s) == 0 {
		s = append(s, autoscale.Period{Policy: base})
	}
	return s
}

// eachMinute asks contains once for all moments of a minute.
func eachMinute(contains func(time.Time) bool) func(time.Time) bool {
	var minute time.Time
	var last bool
	return func(now time.Time) bool {
		if m := now.Truncate(time.Minute); !m.Equal(minute) {
			minute, last = m, contains(now)
		}
		return last
	}
}

// throttle is how quickly a configuration lets machines be created.
func throttle(a *config.Autoscaler) autoscale.Throttle {
	const usual = 100
	t := config.ScaleThrottle{}
	if a.ScaleThrottle != nil {
		t = *a.ScaleThrottle
	}
	if t.Limit < 0 {
		return autoscale.Throttle{}
	}
	if t.Limit == 0 {
		t.Limit = usual
	}
	if t.Burst == 0 {
		t.Burst = a.MaxInstances
	}
	if t.Burst == 0 {
		t.Burst = t.Limit
	}
	return autoscale.Throttle{Rate: float64(t.Limit), Burst: t.Burst}
}

// parsePolicy reads key=value pairs.
func parsePolicy(text string) (autoscale.Policy, error) {
	p := autoscale.Policy{Capacity: 1}
	ints := map[string]*int{
		"capacity_per_instance": &p.Capacity, "max_use_count": &p.MaxUse, "max_instances": &p.MaxInstances,
		"idle_count": &p.IdleCount, "scale_factor_limit": &p.ScaleFactorLimit,
	}
	preemptive := ""
	for pair := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if !ok {
			return p, fmt.Errorf("found %q, want key=value", pair)
		}
		var err error
		switch {
		case ints[key] != nil:
			if *ints[key], err = strconv.Atoi(value); err == nil && *ints[key] < 0 {
				err = errors.New("negative")
			}
		case key == "idle_time":
			p.IdleTime, err = time.ParseDuration(value)
		case key == "scale_factor":
			p.ScaleFactor, err = strconv.ParseFloat(value, 64)
		case key == "preemptive_mode":
			preemptive = value
			p.Preemptive, err = strconv.ParseBool(value)
		default:
			return p, fmt.Errorf("there is no key %q", key)
		}
		if err != nil {
			return p, fmt.Errorf("%s: found %q: %w", key, value, err)
		}
	}
	if preemptive == "" {
		p.Preemptive = p.IdleCount > 0
	}
	return p, nil
}

func (c *command) demand(s *simulation) ([]autoscale.Job, error) {
	if s.trace == "" {
		jobs := s.made.Trace()
		if len(jobs) == 0 {
			return nil, errors.New("chance has made no jobs: ask for more with --jobs-per-day")
		}
		return jobs, nil
	}
	in := c.In
	if s.trace != "-" {
		file, err := os.Open(s.trace)
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }() // it is only read
		in = file
	}
	jobs, err := autoscale.ReadTrace(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.trace, err)
	}
	return jobs, nil
}

func writeFile(path string, write func(io.Writer) error) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w := bufio.NewWriter(file)
	if err := write(w); err != nil {
		return err
	}
	return w.Flush()
}

// simulated is the result of one policy.
type simulated struct {
	name string
	autoscale.Result
}

func (c *command) printSimulation(results []simulated, priced bool) error {
	first := results[0]
	fmt.Fprintf(c.Out, "%d jobs from %s to %s\n\n", first.Jobs, first.Start.Format(time.DateTime), first.End.Format(time.DateTime))
	t := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	row := func(name string, of func(simulated) string) {
		fmt.Fprint(t, name)
		for _, r := range results {
			fmt.Fprint(t, "\t", of(r))
		}
		fmt.Fprintln(t)
	}
	row("policy", func(r simulated) string { return r.name })
	row("wait, median", func(r simulated) string { return seconds(r.Waits.P50) })
	row("wait, 95 %", func(r simulated) string { return seconds(r.Waits.P95) })
	row("wait, 99 %", func(r simulated) string { return seconds(r.Waits.P99) })
	row("wait, longest", func(r simulated) string { return seconds(r.Waits.Max) })
	row("machines at once", func(r simulated) string { return strconv.Itoa(r.Peak) })
	row("machines created", func(r simulated) string { return strconv.Itoa(r.Created) })
	row("machine hours", func(r simulated) string { return strconv.FormatFloat(r.InstanceHours, 'f', 1, 64) })
	row("busy", func(r simulated) string { return strconv.FormatFloat(100*r.BusyShare, 'f', 1, 64) + " %" })
	if priced {
		row("cost", func(r simulated) string { return strconv.FormatFloat(r.Cost, 'f', 2, 64) })
	}
	for _, reason := range autoscale.Reasons() {
		if slices.ContainsFunc(results, func(r simulated) bool { return r.Removed[reason] > 0 }) {
			row("removed: "+string(reason), func(r simulated) string { return strconv.Itoa(r.Removed[reason]) })
		}
	}
	if slices.ContainsFunc(results, func(r simulated) bool { return r.Failed > 0 }) {
		row("jobs that never ran", func(r simulated) string { return strconv.Itoa(r.Failed) })
	}
	if err := t.Flush(); err != nil {
		return err
	}
	width := c.Width
	if width == 0 {
		width = 80
	}
	for _, r := range results {
		fmt.Fprintf(c.Out, "\n%s\n", r.name)
		if err := r.Plot(c.Out, width); err != nil {
			return err
		}
	}
	return nil
}

func seconds(d time.Duration) string { return d.Round(time.Second).String() }

func printJSON(w io.Writer, results []simulated) error {
	type point struct {
		At        time.Time `json:"at"`
		Waiting   int       `json:"waiting"`
		Running   int       `json:"running"`
		Instances int       `json:"instances"`
		Ready     int       `json:"ready"`
	}
	type answer struct {
		Policy        string                   `json:"policy"`
		Jobs          int                      `json:"jobs"`
		NeverRan      int                      `json:"never_ran"`
		WaitSeconds   map[string]float64       `json:"wait_seconds"`
		Peak          int                      `json:"instances_peak"`
		Created       int                      `json:"instances_created"`
		BootFailed    int                      `json:"boots_failed"`
		Removed       map[autoscale.Reason]int `json:"instances_removed"`
		InstanceHours float64                  `json:"instance_hours"`
		BusyRatio     float64                  `json:"busy_ratio"`
		Cost          float64                  `json:"cost"`
		Points        []point                  `json:"points"`
	}
	all := make([]answer, len(results))
	for i, r := range results {
		all[i] = answer{
			Policy: r.name, Jobs: r.Jobs, NeverRan: r.Failed, Peak: r.Peak, Created: r.Created, BootFailed: r.BootFailed, Removed: r.Removed,
			InstanceHours: r.InstanceHours, BusyRatio: r.BusyShare, Cost: r.Cost,
			WaitSeconds: map[string]float64{
				"mean": r.Waits.Mean.Seconds(), "p50": r.Waits.P50.Seconds(), "p95": r.Waits.P95.Seconds(),
				"p99": r.Waits.P99.Seconds(), "max": r.Waits.Max.Seconds(),
			},
		}
		for _, p := range r.Points {
			all[i].Points = append(all[i].Points, point{p.At, p.Queued, p.Running, p.Instances, p.Ready})
		}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(all)
}
