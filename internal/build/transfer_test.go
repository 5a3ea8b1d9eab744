package build

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/event"
)

const testMark = "glassrunner-report-X"

// shownAs are lines that take the place of reports.
var shownAs = map[string]string{"stale": "Cache restore: stale\n"}

// filtered writes text in pieces of at most n bytes.
func filtered(text string, n int) (out string, told []report) {
	var b bytes.Buffer
	r := newReports(&b, testMark, func(p report) string { told = append(told, p); return shownAs[p.Result] })
	for len(text) > 0 {
		m := min(n, len(text))
		if w, err := r.Write([]byte(text[:m])); w != m || err != nil {
			return fmt.Sprint(w, err), nil
		}
		text = text[m:]
	}
	_ = r.Close()
	return b.String(), told
}

func TestReports(t *testing.T) {
	line := testMark + ` {"kind":"cache","op":"restore","result":"hit","bytes":5,"ms":7}` + "\n"
	hit := report{"cache", "restore", "hit", 5, 7}
	for _, tt := range []struct {
		name, in, out string
		told          []report
	}{
		{"nothing", "", "", nil},
		{"no report", "a\nb\n\nc", "a\nb\n\nc", nil},
		{"between lines", "a\n" + line + "b\n", "a\nb\n", []report{hit}},
		{"with a line of its own", "a\n" + strings.Replace(line, "hit", "stale", 1) + "b\n", "a\nCache restore: stale\nb\n", []report{{"cache", "restore", "stale", 5, 7}}},
		{"two", line + line, "", []report{hit, hit}},
		{"not at the beginning of a line", "x" + line, "x" + line, nil},
		{"almost", "glassrunner-report-Y {}\nglassrunner\ng", "glassrunner-report-Y {}\nglassrunner\ng", nil},
		{"no JSON", testMark + " what\n", testMark + " what\n", nil},
		{"never ends", testMark + " " + strings.Repeat("x", 5000), testMark + " " + strings.Repeat("x", 5000), nil},
		{"cut", testMark + ` {"kind"`, testMark + ` {"kind"`, nil},
	} {
		for _, n := range []int{1, 2, 7, 100, 1 << 20} {
			out, told := filtered(tt.in, n)
			if out != tt.out {
				t.Errorf("%s in pieces of %d: got %q, want %q", tt.name, n, out, tt.out)
			}
			if diff := cmp.Diff(tt.told, told); diff != "" {
				t.Errorf("%s in pieces of %d (-want +got):\n%s", tt.name, n, diff)
			}
		}
	}
}

func TestReportFact(t *testing.T) {
	for _, tt := range []struct {
		in   report
		want event.Fact
	}{
		{report{"cache", "save", "stored", 9, 1500}, event.CacheDone{Op: "save", Result: "stored", Bytes: 9, Took: 1500 * time.Millisecond}},
		{report{"artifact", "upload", "ok", 9, 99_999}, event.ArtifactDone{Direction: "upload", Result: "ok", Bytes: 9, Took: 2 * time.Second}},
		{report{"cache", "save", "hit", 9, 1}, nil},
		{report{"cache", "steal", "hit", 9, 1}, nil},
		{report{"artifact", "upload", "ok", -1, 1}, nil},
		{report{"artifact", "upload", "ok", 1 << 60, 1}, nil},
		{report{"artifact", "upload", "ok", 1, -1}, nil},
	} {
		if diff := cmp.Diff(tt.want, tt.in.fact(2*time.Second)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tt.in, diff)
		}
	}
}

func FuzzReports(f *testing.F) {
	f.Add("a\n"+testMark+" {}\nb", 3)
	f.Add(testMark, 1)
	f.Fuzz(func(t *testing.T, text string, n int) {
		if n < 1 || n > 1<<20 {
			return
		}
		one, told1 := filtered(text, len(text)+1)
		two, told2 := filtered(text, n)
		if one != two || len(told1) != len(told2) {
			t.Fatalf("%q in pieces of %d: %q and %q", text, n, one, two)
		}
		if !strings.Contains(text, testMark+" {") && one != text {
			t.Fatalf("%q became %q", text, one)
		}
	})
}
