package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/glassrunner/glassrunner/internal/api"
)

// view is what of a snapshot is shown, and how.
type view struct {
	columns, rows int // of the terminal; rows 0: as many as there is to show
	color         bool
	order         int // of the running jobs: an index of orders
	reverse       bool
	scroll        int // running jobs above the first one that is shown
	trouble       string
	server        string
	keys          bool // the last line names the keys
}

// orders are the ways to sort running jobs.
func orders() []struct {
	name string
	less func(a, b *api.Job) int
} {
	return []struct {
		name string
		less func(a, b *api.Job) int
	}{
		{"RUNNING", func(a, b *api.Job) int { return a.Started.Compare(b.Started) }},
		{"IN STAGE", func(a, b *api.Job) int { return a.StageSince.Compare(b.StageSince) }},
		{"OUTPUT", func(a, b *api.Job) int { return at(a.LastOutput).Compare(at(b.LastOutput)) }},
		{"CPU", func(a, b *api.Job) int { return cmp.Compare(known(b.CPU), known(a.CPU)) }},
		{"MEMORY", func(a, b *api.Job) int { return cmp.Compare(known(b.Memory), known(a.Memory)) }},
		{"JOB", func(a, b *api.Job) int { return cmp.Compare(a.Name, b.Name) }},
		{"PROJECT", func(a, b *api.Job) int { return cmp.Compare(a.Project, b.Project) }},
		{"RUNNER", func(a, b *api.Job) int { return cmp.Compare(a.RunnerName, b.RunnerName) }},
		{"STAGE", func(a, b *api.Job) int { return cmp.Compare(a.Stage, b.Stage) }},
	}
}

func at(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

func known[T int64 | float64](v *T) float64 {
	if v == nil {
		return -1
	}
	return float64(*v)
}

type painter struct {
	view
	now   time.Time // by the server's clock
	lines []string
}

// draw makes the lines of a screen: at most rows, none wider than columns.
func (v view) draw(s *api.Snapshot) []string {
	p := &painter{view: v, now: s.Status.Now}
	p.head(s)
	room := p.rows - len(p.lines)
	if p.rows == 0 {
		room = 1 << 20
	}
	foot := 0
	if p.keys {
		foot = 1
	}
	// Runners and recent jobs get a part of what is there, running jobs the rest.
	runners := min(len(s.Runners), max(2, room/5))
	ended := min(len(s.Finished), max(0, room/4))
	jobs := max(1, room-foot-runners-2-2-2)
	if len(s.Jobs) < jobs-ended {
		ended = min(len(s.Finished), max(0, room-foot-runners-2-len(s.Jobs)-2-2))
	}
	jobs = max(1, jobs-ended)
	if p.rows == 0 {
		runners, jobs, ended = len(s.Runners), len(s.Jobs), min(len(s.Finished), 15)
	}
	p.runners(s, runners)
	p.jobs(s, jobs)
	p.finished(s, ended)
	if p.rows > 0 {
		limit := max(1, p.rows-foot)
		if len(p.lines) > limit {
			p.lines = p.lines[:limit]
		}
		if p.keys {
			for len(p.lines) < limit {
				p.lines = append(p.lines, "")
			}
			p.lines = append(p.lines, p.paint(faint, fit("q quit   s sort   r reverse   ↑↓ scroll   "+p.server, p.columns, false)))
		}
	}
	return p.lines
}

func (p *painter) add(line string) { p.lines = append(p.lines, line) }

func (p *painter) head(s *api.Snapshot) {
	st := &s.Status
	state, t := st.State, good
	if st.Draining {
		state = "draining"
	}
	if state != "running" {
		t = doubtful
	}
	sl := st.Slots
	left := fmt.Sprintf("glassrunner %s  %s  up %s  ", plain(st.Version), plain(st.SystemID), age(p.now.Sub(st.Started)))
	right := fmt.Sprintf("  %d of %d slots", sl.Running, sl.Total)
	if sl.Requesting > 0 {
		right += fmt.Sprintf(", %d asking", sl.Requesting)
	}
	room := p.columns - textWidth(left) - textWidth(state) - textWidth(right) - 2
	bar := ""
	if room >= 8 && p.color {
		n := min(room, 24)
		on := min(n, n*sl.Running/max(1, sl.Total))
		bar = "  " + p.paint(good, strings.Repeat("█", on)) + p.paint(faint, strings.Repeat("░", n-on))
	}
	if room < 0 {
		left = "glassrunner  "
	}
	p.add(p.paint(strong, left) + p.paint(t, state) + bar + right)
	if st.Config.LastError != "" {
		p.add(p.paint(wrong, fit("The last reload failed: "+plain(st.Config.LastError), p.columns, false)))
	}
	if p.trouble != "" {
		p.add(p.paint(wrong, fit("No answer, this is old: "+plain(p.trouble), p.columns, false)))
	}
	p.add("")
}

// title is a table's name with a count, and its columns below.
func (p *painter) header(cols []column, widths []int, sorted string) {
	cells := make([]cell, len(cols))
	for i, c := range cols {
		cells[i] = cell{c.title, faint}
		if c.title == sorted && p.keys {
			cells[i].tone = reverse
		}
	}
	p.add(p.line(cols, widths, cells))
}

func (p *painter) runners(s *api.Snapshot, n int) {
	cols := []column{
		{title: "RUNNER", min: 10, max: 32}, {title: "EXECUTOR", min: 8, drop: 3}, {title: "JOBS", min: 9, right: true},
		{title: "HEALTH", min: 16, max: 24}, {title: "LAST ANSWER", min: 11, right: true, drop: 1}, {title: "LAST JOB", min: 9, right: true, drop: 2}, {title: "GITLAB", min: 14, max: 60, drop: 4},
	}
	widths := layout(cols, p.columns)
	p.header(cols, widths, "")
	if len(s.Runners) == 0 {
		p.add(p.paint(faint, "no runner is configured"))
	}
	for i := range s.Runners[:n] {
		r := &s.Runners[i]
		limit := s.Status.Config.Concurrent
		if r.Limit > 0 {
			limit = min(r.Limit, limit)
		}
		name := r.Name
		if name == "" {
			name = r.Runner
		}
		health := p.health(r)
		p.add(p.line(cols, widths, []cell{
			{name, strong}, {r.Executor, usual}, {fmt.Sprintf("%d/%d", r.Running, limit), usual}, health,
			{p.since(at(r.LastSuccess)), usual}, {p.since(at(r.LastJob)), usual}, {r.URL, faint},
		}))
	}
	if more := len(s.Runners) - n; more > 0 {
		p.add(p.paint(faint, fmt.Sprintf("and %d more", more)))
	}
	p.add("")
}

func (p *painter) health(r *api.Runner) cell {
	off := at(r.DisabledUntil)
	switch {
	case r.Entries == 0:
		return cell{"leaving", faint}
	case off.After(p.now):
		return cell{"off for " + age(off.Sub(p.now)), wrong}
	case !r.Healthy, r.LastPollResult == "forbidden":
		return cell{"refused", wrong}
	case r.LastPollResult == "failed":
		return cell{"no answer", doubtful}
	case r.LastSuccess == nil:
		return cell{"not asked yet", faint}
	default:
		return cell{"healthy", good}
	}
}

// quiet is how long a job may say nothing before that is worth a look.
const quiet = 10 * time.Minute

func (p *painter) jobs(s *api.Snapshot, n int) {
	cols := []column{
		{title: "JOB", min: 14, max: 40}, {title: "PROJECT", min: 12, max: 44, drop: 2}, {title: "RUNNER", min: 8, max: 20, drop: 4},
		{title: "STAGE", min: 14, max: 28}, {title: "IN STAGE", min: 8, right: true, drop: 3}, {title: "RUNNING", min: 7, right: true},
		{title: "OUTPUT", min: 7, right: true, drop: 1}, {title: "CPU", min: 7, right: true, drop: 5}, {title: "MEMORY", min: 7, right: true, drop: 5},
	}
	widths := layout(cols, p.columns)
	by := orders()[p.order]
	p.header(cols, widths, by.name)
	if len(s.Jobs) == 0 {
		p.add(p.paint(faint, "no job runs right now"))
	}
	all := make([]*api.Job, 0, len(s.Jobs))
	for i := range s.Jobs {
		all = append(all, &s.Jobs[i])
	}
	slices.SortStableFunc(all, by.less)
	if p.reverse {
		slices.Reverse(all)
	}
	from := min(p.scroll, max(0, len(all)-n))
	shown := all[from:min(len(all), from+n)]
	rest := len(all) - from - len(shown)
	if rest > 0 && len(shown) > 1 {
		shown, rest = shown[:len(shown)-1], rest+1
	}
	for _, j := range shown {
		running, output := p.now.Sub(j.Started), at(j.LastOutput)
		outputTone, runningTone := usual, usual
		silent := output
		if silent.IsZero() {
			silent = j.Started
		}
		if p.now.Sub(silent) > quiet {
			outputTone = doubtful
		}
		if j.Timeout > 0 && running.Seconds() > 0.8*j.Timeout {
			runningTone = doubtful
		}
		name := j.RunnerName
		if name == "" {
			name = j.Runner
		}
		p.add(p.line(cols, widths, []cell{
			{fmt.Sprintf("%s #%d", j.Name, j.ID), strong}, {j.Project, usual}, {name, usual}, {stage(j), usual},
			{age(p.now.Sub(j.StageSince)), usual}, {age(running), runningTone}, {p.since(output), outputTone}, {cpu(j.CPU), usual}, {size(j.Memory), usual},
		}))
	}
	if rest > 0 {
		p.add(p.paint(faint, fmt.Sprintf("and %d more", rest)))
	}
	p.add("")
}

func stage(j *api.Job) string {
	name := strings.ReplaceAll(strings.TrimPrefix(j.Stage, "step_"), "_", " ")
	switch {
	case j.Ending:
		name = "delivering"
	case name == "":
		name = "waiting"
	}
	if j.Directive != "" {
		name += " (" + j.Directive + ")"
	}
	return name
}

func (p *painter) finished(s *api.Snapshot, n int) {
	if n == 0 {
		return
	}
	cols := []column{
		{title: "RESULT", min: 8}, {title: "JOB", min: 14, max: 40}, {title: "PROJECT", min: 12, max: 44, drop: 2}, {title: "RUNNER", min: 8, max: 20, drop: 3},
		{title: "TOOK", min: 8, right: true}, {title: "ENDED", min: 8, right: true, drop: 1}, {title: "WHY", min: 16, max: 60, drop: 4},
	}
	widths := layout(cols, p.columns)
	p.header(cols, widths, "")
	for i := range n {
		f := &s.Finished[len(s.Finished)-1-i]
		result := cell{f.Result, good}
		switch f.Result {
		case api.Success:
		case api.Failed:
			result.tone = wrong
		default:
			result.tone = doubtful
		}
		if f.Lost {
			result = cell{"lost", wrong}
		}
		why := strings.ReplaceAll(f.Reason, "_", " ")
		if f.ExitCode != 0 {
			why += fmt.Sprintf(", exit %d", f.ExitCode)
		}
		name := f.RunnerName
		if name == "" {
			name = f.Runner
		}
		p.add(p.line(cols, widths, []cell{
			result, {fmt.Sprintf("%s #%d", f.Name, f.ID), strong}, {f.Project, usual}, {name, usual},
			{short(f.Took), usual}, {p.since(f.Ended), usual}, {why, faint},
		}))
	}
}

// since is how long ago t was.
func (p *painter) since(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return age(p.now.Sub(t))
}

func cpu(v *float64) string {
	if v == nil {
		return "-"
	}
	return short(*v)
}

func size(v *int64) string {
	if v == nil {
		return "-"
	}
	n, unit := float64(*v), 0
	for n >= 999.5 && unit < 4 {
		n /= 1000
		unit++
	}
	name := []string{"B", "kB", "MB", "GB", "TB"}[unit]
	if unit > 0 && n < 9.95 {
		return fmt.Sprintf("%.1f%s", n, name)
	}
	return fmt.Sprintf("%.0f%s", n, name)
}

// short is a duration of so many seconds.
func short(sec float64) string {
	if sec < 9.95 {
		return fmt.Sprintf("%.1fs", max(0, sec))
	}
	return age(time.Duration(sec * float64(time.Second)))
}

// age is a duration to the second, in at most six characters.
func age(d time.Duration) string {
	s := int64(max(0, d) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s%3600/60)
	default:
		return fmt.Sprintf("%dd%02dh", s/86400, s%86400/3600)
	}
}
