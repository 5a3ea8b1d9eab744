package main

import (
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := parse("## not this\n\n## one\na: 1\nb:\n  ## two\n  ## lines\n  c: \"\"\n  ## block\n  d: |\n    text: x\n\n    more\n## after\ne: []\n")
	want := []value{{"a", "1", "one"}, {"b.c", `""`, "two lines"}, {"b.d", "see values.yaml", "block"}, {"e", "[]", "after"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v\nwant %q", got, err, want)
	}
	for _, bad := range []string{"a: 1\n", "## x\na:\n   b: 1\n", "- a\n"} {
		if got, err := parse(bad); err == nil {
			t.Errorf("parse(%q) = %q, want an error", bad, got)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	if got := table([]value{{"a", "1", "x | y"}}); !strings.Contains(got, "| `a` | `1` | x \\| y |\n") {
		t.Error(got)
	}
}
