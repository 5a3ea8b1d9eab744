package arch_test

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

const module = "github.com/glassrunner/glassrunner"

// A floor is a row of packages that may import from the rows before it, and
// never from one another.
type floor struct {
	name     string
	std      bool     // nothing but the standard library, tests apart
	only     []string // the packages that may import this floor; nil means all above
	packages []string // paths below the module
}

// floors is the house, from the ground up. A new package gets its place here.
var floors = []floor{
	{name: "F0", std: true, packages: []string{
		"internal/job",
		"internal/pause",
		"internal/pulse",
		"internal/version",
	}},
	{name: "F1", packages: []string{
		"internal/event",
	}},
	{name: "F2", packages: []string{
		"internal/api",
		"internal/archive",
		"internal/autoscale",
		"internal/cgroup",
		"internal/config",
		"internal/executor",
		"internal/image",
		"internal/observe/board",
		"internal/observe/history",
		"internal/redact",
		"internal/remote",
		"internal/script",
	}},
	// app composes; a command of cli, or the helper, uses one of these alone.
	{name: "F3", only: []string{"internal/app", "internal/helper", "internal/cli", "cmd/glassrunner-helper"}, packages: []string{
		"internal/admin",
		"internal/artifact",
		"internal/build",
		"internal/cache",
		"internal/cache/presign",
		"internal/coordinator",
		"internal/disk",
		"internal/executor/custom",
		"internal/executor/docker",
		"internal/executor/kubernetes",
		"internal/executor/shell",
		"internal/executor/ssh",
		"internal/fleet",
		"internal/joblog",
		"internal/observe/logs",
		"internal/observe/metrics",
		"internal/observe/metrics/compat",
		"internal/observe/record",
		"internal/observe/traces",
		"internal/recovery",
		"internal/scheduler",
		"internal/secret",
		"internal/top",
	}},
	{name: "F4", packages: []string{"internal/app", "internal/helper"}},
	{name: "F4.5", only: []string{"internal/cli"}, packages: []string{"internal/demo"}},
	{name: "F5", packages: []string{"internal/cli"}},
	{name: "commands", packages: []string{"cmd/glassrunner", "cmd/glassrunner-helper"}},
}

// fake is the test coordinator: it imports nothing of ours, so that a mistake
// of the client's cannot be made there too, and no product code leans on it.
const fake = "internal/fakegitlab"

var fakeUsers = []string{"internal/demo", "internal/cli"}

// testedWith lets the tests of one package use a sibling, for a reason.
var testedWith = map[string]string{
	"internal/admin": "internal/observe/metrics", // what the server shows and what it costs is the exposition
}

// A kind says which rules a package obeys.
type kind int

const (
	homeless kind = iota
	resident      // on a floor
	helper        // PARENT/PARENTtest, half a floor above its parent; for tests
	double        // the fake
	outside       // whole-program and architecture tests: may see all, seen by none
)

// place returns the kind of a package and its height: two for each floor, so
// that a helper fits between its parent's floor and the next.
func place(p string) (kind, int) {
	if p == fake {
		return double, 0
	}
	if p == "internal/arch" || strings.HasPrefix(p, "test/") {
		return outside, 0
	}
	parent := path.Dir(p)
	for i, f := range floors {
		if slices.Contains(f.packages, p) {
			return resident, 2 * i
		}
		if path.Base(p) == path.Base(parent)+"test" && slices.Contains(f.packages, parent) {
			return helper, 2*i + 1
		}
	}
	return homeless, 0
}

// A pack is a package as its source files show it, those for other systems included.
type pack struct {
	path        string            // below the module
	imports     map[string]string // import path to a file that has it
	testImports map[string]string // the same for _test files
	comments    []string          // files with a package comment
}

// checkFloors returns what breaks the rules of the floors, one sentence each.
func checkFloors(packs []pack) []string {
	var broken []string
	for _, p := range packs {
		k, _ := place(p.path)
		if k == homeless {
			broken = append(broken, p.path+" stands on no floor: give it one in internal/arch")
			continue
		}
		for _, imp := range slices.Sorted(maps.Keys(p.imports)) {
			if why := refuse(p.path, imp); why != "" {
				broken = append(broken, fmt.Sprintf("%s imports %s: %s", p.imports[imp], imp, why))
			}
		}
		for _, imp := range slices.Sorted(maps.Keys(p.testImports)) {
			if why := refuseTest(p.path, imp); why != "" {
				broken = append(broken, fmt.Sprintf("%s imports %s: %s", p.testImports[imp], imp, why))
			}
		}
	}
	return broken
}

// refuse says why a package's product code may not have an import, or nothing.
func refuse(from, imp string) string {
	to, ours := strings.CutPrefix(imp, module+"/")
	fromKind, fromHeight := place(from)
	if !ours {
		if fromKind == resident && floors[fromHeight/2].std && !standard(imp) {
			return "this floor uses the standard library only"
		}
		return ""
	}
	toKind, toHeight := place(to)
	switch {
	case fromKind == double:
		return "the test coordinator imports nothing of ours"
	case toKind == homeless:
		return "it stands on no floor"
	case toKind == outside:
		if fromKind != outside {
			return "it is for whole-program tests only"
		}
	case fromKind == outside:
	case toKind == double:
		if !slices.Contains(fakeUsers, from) {
			return "only demo, cli and tests use the test coordinator"
		}
	case toKind == helper && fromKind == resident:
		return "a test helper is for tests only"
	case toHeight == fromHeight:
		return "siblings on a floor never import one another"
	case toHeight > fromHeight:
		return "imports go down, never up"
	default:
		return closed(from, toHeight)
	}
	return ""
}

// refuseTest says why a package's tests may not have an import, or nothing.
func refuseTest(from, imp string) string {
	to, ours := strings.CutPrefix(imp, module+"/")
	if !ours || to == from {
		return ""
	}
	fromKind, fromHeight := place(from)
	toKind, toHeight := place(to)
	switch {
	case fromKind == double:
		return "the test coordinator's tests import nothing else of ours"
	case toKind == homeless:
		return "it stands on no floor"
	case toKind == outside:
		if fromKind != outside {
			return "it is for whole-program tests only"
		}
	case fromKind == outside, toKind == double:
	case toKind == helper:
		if toHeight > fromHeight+1 {
			return "a test uses the helpers of its own floor and of lower ones"
		}
	case toHeight == fromHeight:
		if testedWith[from] == to {
			return ""
		}
		return "siblings on a floor never import one another, their tests neither"
	case toHeight > fromHeight:
		return "imports go down, never up, in tests too"
	default:
		return closed(from, toHeight)
	}
	return ""
}

// closed says why a floor that names its users may not be used from here, or nothing.
func closed(from string, height int) string {
	f := floors[height/2]
	if k, _ := place(from); k == helper {
		return ""
	}
	if height%2 == 0 && f.only != nil && !slices.Contains(f.only, from) {
		return f.name + " is imported only by " + strings.Join(f.only, ", ")
	}
	return ""
}

// standard reports whether an import path is the standard library's.
func standard(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return !strings.Contains(first, ".")
}
