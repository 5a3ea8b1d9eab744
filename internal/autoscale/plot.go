package autoscale

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// Plot draws the points of a simulation for a terminal that is width columns
// wide: a strip for the jobs that wait, those that run, and the instances.
func (r *Result) Plot(w io.Writer, width int) error {
	if len(r.Points) < 2 {
		return nil
	}
	const label = 12
	columns := max(10, min(width, 200)-label-8)
	strips := []struct {
		name string
		of   func(Point) int
	}{
		{"waiting", func(p Point) int { return p.Queued }},
		{"running", func(p Point) int { return p.Running }},
		{"instances", func(p Point) int { return p.Instances }},
	}
	for _, s := range strips {
		values, top := r.columns(columns, s.of)
		for row := 3; row >= 0; row-- {
			name, scale := "", ""
			switch row {
			case 3:
				name, scale = s.name, fmt.Sprintf("%7d", top)
			case 0:
				scale = fmt.Sprintf("%7d", 0)
			}
			if _, err := fmt.Fprintf(w, "%-*s%7s %s\n", label, name, scale, bars(values, top, row)); err != nil {
				return err
			}
		}
	}
	format := "15:04"
	if r.End.Sub(r.Start) > 24*time.Hour {
		format = "Mon 02 Jan 15:04"
	}
	from, to := r.Points[0].At.Format(format), r.Points[len(r.Points)-1].At.Format(format)
	_, err := fmt.Fprintf(w, "%*s%s%*s\n", label+8, "", from, max(1, columns-len(from)), to)
	return err
}

// columns spreads the points over columns; each shows the most of its time.
func (r *Result) columns(columns int, of func(Point) int) (values []int, top int) {
	values = make([]int, columns)
	first := r.Points[0].At
	span := r.Points[len(r.Points)-1].At.Sub(first)
	last := 0
	filled := make([]bool, columns)
	for _, p := range r.Points {
		c := 0
		if span > 0 {
			c = min(columns-1, int(float64(columns)*float64(p.At.Sub(first))/float64(span)))
		}
		values[c] = max(values[c], of(p))
		filled[c] = true
		top = max(top, of(p))
	}
	for c := range values {
		if filled[c] {
			last = values[c]
		} else {
			values[c] = last
		}
	}
	return values, top
}

// bars draws one of the four rows of a strip, the lowest is 0.
func bars(values []int, top, row int) string {
	const levels = " ▁▂▃▄▅▆▇█"
	ramp := []rune(levels)
	var b strings.Builder
	for _, v := range values {
		eighths := 0
		if top > 0 {
			eighths = int(math.Ceil(float64(v)/float64(top)*32)) - 8*row
		}
		b.WriteRune(ramp[min(8, max(0, eighths))])
	}
	return strings.TrimRight(b.String(), " ")
}

// SVG draws the points as a picture: waiting and running jobs and instances
// over time, one chart below the other.
func (r *Result) SVG(w io.Writer, title string) error {
	const width, height, left, gap = 960, 150, 70, 40
	if len(r.Points) == 0 {
		return nil
	}
	charts := []struct {
		name, color string
		of          func(Point) int
	}{
		{"jobs waiting", "#c2410c", func(p Point) int { return p.Queued }},
		{"jobs running", "#0369a1", func(p Point) int { return p.Running }},
		{"instances", "#15803d", func(p Point) int { return p.Instances }},
	}
	var b strings.Builder
	total := gap + len(charts)*(height+gap)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n", width+left+20, total)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#fff"/><text x="%d" y="22" font-size="15">%s</text>`+"\n", left, escape(title))
	first := r.Points[0].At
	span := max(1, float64(r.Points[len(r.Points)-1].At.Sub(first)))
	for k, c := range charts {
		y0 := gap + k*(height+gap) + height
		top := 1
		for _, p := range r.Points {
			top = max(top, c.of(p))
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d">%s</text><text x="%d" y="%d" text-anchor="end">%d</text><text x="%d" y="%d" text-anchor="end">0</text>`+"\n",
			left, y0-height-6, c.name, left-6, y0-height+10, top, left-6, y0)
		fmt.Fprintf(&b, `<path d="M%d %dh%d" stroke="#999"/><polyline fill="none" stroke="%s" stroke-width="1.5" points="`, left, y0, width, c.color)
		for _, p := range r.Points {
			x := float64(left) + float64(width)*float64(p.At.Sub(first))/span
			fmt.Fprintf(&b, "%.1f,%.1f ", x, float64(y0)-float64(height)*float64(c.of(p))/float64(top))
		}
		b.WriteString("\"/>\n")
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d">%s</text><text x="%d" y="%d" text-anchor="end">%s</text>`+"\n</svg>\n",
		left, total-20, first.Format(time.RFC3339), left+width, total-20, r.Points[len(r.Points)-1].At.Format(time.RFC3339))
	_, err := io.WriteString(w, b.String())
	return err
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}
