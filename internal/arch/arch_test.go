package arch_test

import (
	"fmt"
	"testing"
)

// root is the module's directory, seen from this package.
const root = "../.."

// maxLines is where a file is too long to be about one thing; longLines is where the report begins.
const (
	maxLines  = 700
	longLines = 500
)

func TestFloors(t *testing.T) {
	packs, _, err := load(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(packs) < 2 {
		t.Fatalf("found %d packages", len(packs))
	}
	report(t, checkFloors(packs))
}

func TestOnePackageComment(t *testing.T) {
	packs, _, err := load(root)
	if err != nil {
		t.Fatal(err)
	}
	report(t, checkComments(packs))
}

func TestFileLength(t *testing.T) {
	_, sources, err := load(root)
	if err != nil {
		t.Fatal(err)
	}
	report(t, checkLength(sources))
	for _, s := range sources {
		if s.lines > longLines && !s.generated {
			t.Logf("long: %s has %d lines", s.name, s.lines)
		}
	}
}

// checkComments returns the packages that have no comment, or several.
func checkComments(packs []pack) []string {
	var broken []string
	for _, p := range packs {
		if len(p.comments) != 1 {
			broken = append(broken, fmt.Sprintf("%s has %d package comments, want one: %q", p.path, len(p.comments), p.comments))
		}
	}
	return broken
}

// checkLength returns the files that are too long.
func checkLength(sources []source) []string {
	var broken []string
	for _, s := range sources {
		if s.lines > maxLines && !s.generated {
			broken = append(broken, fmt.Sprintf("%s has %d lines, more than %d: split it by purpose", s.name, s.lines, maxLines))
		}
	}
	return broken
}

func report(t *testing.T, broken []string) {
	t.Helper()
	for _, b := range broken {
		t.Error(b)
	}
}
