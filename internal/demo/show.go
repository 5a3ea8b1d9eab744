package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// redraw is how often the live table changes.
const redraw = 250 * time.Millisecond

// Terminal sequences.
const (
	alternate = "\x1b[?1049h\x1b[?25l" // another screen, without cursor
	normal    = "\x1b[?25h\x1b[?1049l"
	home      = "\x1b[H"
	restOf    = "\x1b[J" // clear what is below
)

func (d *demo) show(ctx context.Context) {
	if d.o.Live {
		d.table(ctx)
		return
	}
	for {
		select {
		case s := <-d.finished:
			d.line(s)
		case <-ctx.Done():
			for len(d.finished) > 0 {
				d.line(<-d.finished)
			}
			return
		}
	}
}

// line tells of a finished job.
func (d *demo) line(s fakegitlab.Snapshot) {
	fmt.Fprintf(d.o.Out, "%s  job %d  %-12s %-8s %6.2fs%s\n", s.FinishedAt.Format(time.TimeOnly), s.ID, s.Name, s.Status, took(s).Seconds(), why(s))
}

func took(s fakegitlab.Snapshot) time.Duration {
	switch {
	case s.HandedOutAt.IsZero():
		return 0
	case s.FinishedAt.IsZero():
		return time.Since(s.HandedOutAt)
	}
	return s.FinishedAt.Sub(s.HandedOutAt)
}

func why(s fakegitlab.Snapshot) string {
	switch {
	case s.ExitCode != 0:
		return fmt.Sprintf("  %s, exit code %d", s.FailureReason, s.ExitCode)
	case s.FailureReason != "":
		return "  " + s.FailureReason
	}
	return ""
}

// table shows the present on a screen of its own and takes it away again.
func (d *demo) table(ctx context.Context) {
	fmt.Fprint(d.o.Out, alternate)
	defer fmt.Fprint(d.o.Out, normal)
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		columns, rows := d.o.Size()
		fmt.Fprint(d.o.Out, home, d.screen(columns, rows), restOf)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// screen is one picture of at most rows lines.
func (d *demo) screen(columns, rows int) string {
	jobs := d.server.Jobs()
	count := map[fakegitlab.Status]int{}
	for _, j := range jobs {
		count[j.Status]++
	}
	stats := d.server.Stats()
	slices.SortFunc(jobs, func(a, b fakegitlab.Snapshot) int { return order(a) - order(b) })

	var b strings.Builder
	fmt.Fprintf(&b, "glassrunner demo   metrics: http://%s/metrics   Ctrl-C stops\n", d.runner.Address())
	fmt.Fprintf(&b, "running %d of %d   waiting %d   handed out %d   up %s\n\n",
		count[fakegitlab.Running]+count[fakegitlab.Canceling], d.o.Concurrent, count[fakegitlab.Pending],
		stats.HandedOut, time.Since(d.started).Round(time.Second))
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "JOB\tNAME\tSTAGE\tSTATUS\tSECONDS\tLOG\tWHY")
	for _, j := range jobs[:min(len(jobs), max(rows-5, 1))] {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%.1f\t%d B\t%s\n", j.ID, j.Name, j.Stage, j.Status, took(j).Seconds(), j.TraceSize, strings.TrimSpace(why(j)))
	}
	_ = w.Flush() // into memory
	var out strings.Builder
	for line := range strings.Lines(b.String()) {
		line = strings.TrimRight(line, "\n ")
		if r := []rune(line); len(r) >= columns {
			line = string(r[:max(columns-1, 1)])
		}
		out.WriteString(line + "\x1b[K\r\n")
	}
	return out.String()
}

// order puts what runs first, then what waits, then the latest that ended.
func order(s fakegitlab.Snapshot) int {
	switch {
	case s.Status == fakegitlab.Running || s.Status == fakegitlab.Canceling:
		return int(s.ID)
	case s.Status == fakegitlab.Pending:
		return 1<<40 + int(s.ID)
	}
	return 1<<41 - int(s.ID)
}
