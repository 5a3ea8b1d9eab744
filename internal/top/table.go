package top

import (
	"strings"
	"unicode"
)

// tone is how a cell is coloured.
type tone int

const (
	usual tone = iota
	faint
	strong
	good
	doubtful
	wrong
	reverse
)

// code is the terminal's for a tone.
func (t tone) code() string {
	switch t {
	case faint:
		return "\x1b[2m"
	case strong:
		return "\x1b[1m"
	case good:
		return "\x1b[32m"
	case doubtful:
		return "\x1b[33m"
	case wrong:
		return "\x1b[31m"
	case reverse:
		return "\x1b[7m"
	default:
		return ""
	}
}

// column is one of a table. Where there is too little room, those with the
// highest drop go first; a flexible one takes what is left.
type column struct {
	title    string
	min, max int // cells; max 0: as wide as min
	right    bool
	drop     int // 0: stays
}

type cell struct {
	text string
	tone tone
}

// plain makes text safe for a terminal: names come from elsewhere, and what
// controls a terminal is not for them.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\uFFFD' || unicode.In(r, unicode.Cf) {
			return -1
		}
		return r
	}, s)
}

// width is how many cells a character takes.
func width(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case r >= 0x1100 && r <= 0x115F, r >= 0x2E80 && r <= 0xA4CF, r >= 0xAC00 && r <= 0xD7A3, r >= 0xF900 && r <= 0xFAFF,
		r >= 0xFE30 && r <= 0xFE6F, r >= 0xFF00 && r <= 0xFF60, r >= 0x1F300 && r <= 0x1FAFF, r >= 0x20000 && r <= 0x3FFFD:
		return 2
	default:
		return 1
	}
}

func textWidth(s string) int {
	n := 0
	for _, r := range s {
		n += width(r)
	}
	return n
}

// fit makes s exactly n cells wide.
func fit(s string, n int, right bool) string {
	if n <= 0 {
		return ""
	}
	w := textWidth(s)
	if w > n {
		var b strings.Builder
		w = 0
		for _, r := range s {
			if w+width(r) > n-1 {
				break
			}
			b.WriteRune(r)
			w += width(r)
		}
		b.WriteString("…")
		s = b.String()
		w++
	}
	pad := strings.Repeat(" ", n-w)
	if right {
		return pad + s
	}
	return s + pad
}

// layout gives the columns their widths, 0 to those that are left out, and the
// room between them one cell, two where there is enough.
func layout(cols []column, total int) []int {
	widths := make([]int, len(cols))
	need := -2
	for i, c := range cols {
		widths[i] = c.min
		need += c.min + 2
	}
	for need > total {
		worst, drop := -1, 0
		for i, c := range cols {
			if widths[i] > 0 && c.drop > drop {
				worst, drop = i, c.drop
			}
		}
		if worst < 0 {
			break
		}
		need -= widths[worst] + 2
		widths[worst] = 0
	}
	for left := total - need; left > 0; {
		grown := false
		for i, c := range cols {
			if left > 0 && widths[i] > 0 && widths[i] < c.max {
				widths[i]++
				left--
				grown = true
			}
		}
		if !grown {
			break
		}
	}
	return widths
}

// line joins cells to a line of the columns' widths.
func (p *painter) line(cols []column, widths []int, cells []cell) string {
	var b strings.Builder
	first := true
	for i, c := range cells {
		if widths[i] == 0 {
			continue
		}
		if !first {
			b.WriteString("  ")
		}
		first = false
		b.WriteString(p.paint(c.tone, fit(plain(c.text), widths[i], cols[i].right)))
	}
	return strings.TrimRight(b.String(), " ")
}

func (p *painter) paint(t tone, s string) string {
	if !p.color || t == usual {
		return s
	}
	return t.code() + s + "\x1b[0m"
}
