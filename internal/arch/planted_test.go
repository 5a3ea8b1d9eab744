package arch_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// edge makes a package with one import of ours.
func edge(from, to string) pack {
	return pack{path: from, imports: map[string]string{module + "/" + to: from + "/x.go"}}
}

// testEdge makes a package whose tests have one import of ours.
func testEdge(from, to string) pack {
	return pack{path: from, testImports: map[string]string{module + "/" + to: from + "/x_test.go"}}
}

// TestFloorsChecker plants graphs: want is a part of the one complaint, or empty.
func TestFloorsChecker(t *testing.T) {
	tests := []struct {
		name string
		pack pack
		want string
	}{
		{"down one", edge("internal/event", "internal/job"), ""},
		{"down many", edge("internal/cli", "internal/job"), ""},
		{"composition", edge("internal/app", "internal/executor/docker"), ""},
		{"driver to its contract", edge("internal/executor/docker", "internal/executor"), ""},
		{"main", edge("cmd/glassrunner", "internal/cli"), ""},
		{"helper command", edge("cmd/glassrunner-helper", "internal/archive"), ""},
		{"up one", edge("internal/job", "internal/event"), "never up"},
		{"up to app", edge("internal/scheduler", "internal/app"), "never up"},
		{"contract to driver", edge("internal/executor", "internal/executor/shell"), "never up"},
		{"sibling drivers", edge("internal/executor/docker", "internal/executor/shell"), "siblings"},
		{"siblings on F2", edge("internal/script", "internal/redact"), "siblings"},
		{"siblings of F0", edge("internal/job", "internal/version"), "siblings"},
		{"commands", edge("internal/app", "cmd/glassrunner"), "never up"},
		{"one command from the other", edge("cmd/glassrunner-helper", "cmd/glassrunner"), "siblings"},
		{"no floor", pack{path: "internal/util"}, "internal/util stands on no floor"},
		{"onto no floor", edge("internal/app", "internal/util"), "it stands on no floor"},
		{"below a floor is not on it", pack{path: "internal/job/inner"}, "stands on no floor"},
		{"the root", pack{path: "."}, "stands on no floor"},

		{"std on F0", pack{path: "internal/job", imports: map[string]string{"net/url": "x.go"}}, ""},
		{"library on F0", pack{path: "internal/job", imports: map[string]string{"golang.org/x/sys/unix": "x.go"}}, "standard library only"},
		{"library in F0's tests", pack{path: "internal/job", testImports: map[string]string{"github.com/google/go-cmp/cmp": "x_test.go"}}, ""},

		{"demo starts app", edge("internal/demo", "internal/app"), ""},
		{"demo has the fake", edge("internal/demo", "internal/fakegitlab"), ""},
		{"cli starts demo", edge("internal/cli", "internal/demo"), ""},
		{"cli uses one of F3", edge("internal/cli", "internal/coordinator"), ""},
		{"demo past app", edge("internal/demo", "internal/coordinator"), "F3 is imported only by internal/app"},
		{"main skips cli", edge("cmd/glassrunner", "internal/demo"), "only by internal/cli"},
		{"app starts demo", edge("internal/app", "internal/demo"), "never up"},

		{"product on the fake", edge("internal/coordinator", "internal/fakegitlab"), "only demo, cli and tests"},
		{"tests on the fake", testEdge("internal/coordinator", "internal/fakegitlab"), ""},
		{"the fake on ours", edge("internal/fakegitlab", "internal/job"), "imports nothing of ours"},
		{"the fake's tests on ours", testEdge("internal/fakegitlab", "internal/coordinator"), "nothing else of ours"},
		{"the fake's tests on itself", testEdge("internal/fakegitlab", "internal/fakegitlab"), ""},

		{"helper of its parent", edge("internal/executor/executortest", "internal/executor"), ""},
		{"helper of F3", edge("internal/coordinator/coordinatortest", "internal/coordinator"), ""},
		{"helper of a helper", edge("internal/executor/executortest", "internal/event/eventtest"), ""},
		{"helper upwards", edge("internal/event/eventtest", "internal/executor"), "never up"},
		{"helper in the product", edge("internal/scheduler", "internal/event/eventtest"), "for tests only"},
		{"helper of no parent", pack{path: "internal/sometest"}, "stands on no floor"},
		{"helper in its parent's tests", testEdge("internal/executor", "internal/executor/executortest"), ""},
		{"helper in a sibling's tests", testEdge("internal/redact", "internal/executor/executortest"), ""},
		{"helper from above", testEdge("internal/job", "internal/event/eventtest"), "of its own floor and of lower ones"},
		{"tests of siblings", testEdge("internal/joblog", "internal/coordinator"), "siblings"},
		{"tests upwards", testEdge("internal/joblog", "internal/app"), "never up"},
		{"tests of itself", testEdge("internal/joblog", "internal/joblog"), ""},
		{"tests past cli", testEdge("cmd/glassrunner", "internal/demo"), "only by internal/cli"},

		{"e2e sees all", testEdge("test/e2e", "internal/fakegitlab"), ""},
		{"e2e helper", edge("test/e2e/gitserver", "internal/job"), ""},
		{"e2e is not seen", edge("internal/app", "test/e2e/gitserver"), "whole-program tests only"},
		{"e2e is not seen by tests", testEdge("internal/app", "test/e2e"), "whole-program tests only"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			expect(t, checkFloors([]pack{tt.pack}), tt.want)
		})
	}
}

func TestFloorsHaveEachPackageOnce(t *testing.T) {
	seen := map[string]string{}
	for _, f := range floors {
		for _, p := range f.packages {
			if other, ok := seen[p]; ok {
				t.Errorf("%s stands on %s and on %s", p, other, f.name)
			}
			seen[p] = f.name
		}
	}
}

func TestModulesChecker(t *testing.T) {
	rows := []dependency{{path: "example.org/a", licence: "MIT", reason: "needed"}}
	tests := []struct {
		name, mod, want string
		rows            []dependency
	}{
		{"as listed", "require example.org/a v1.0.0", "", rows},
		{"unlisted", "require (\nexample.org/a v1.0.0\nexample.org/b v1.0.0 // indirect\n)", "requires example.org/b", rows},
		{"stale row", "", "lists example.org/a", rows},
		{"replace", "require example.org/a v1.0.0\nreplace example.org/a => ../a", "replaces example.org/a", rows},
		{"exclude", "require example.org/a v1.0.0\nexclude example.org/a v1.1.0", "excludes example.org/a", rows},
		{"tool", "require example.org/a v1.0.0\ntool example.org/a/cmd/x", "tool example.org/a/cmd/x", rows},
		{"licence", "require example.org/a v1.0.0", "licence AGPL-3.0", []dependency{{path: "example.org/a", licence: "AGPL-3.0"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "go.mod")
			if err := os.WriteFile(file, []byte("module "+module+"\n\ngo 1.26.0\n\n"+tt.mod+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			expect(t, checkModules(readGoMod(t, file), tt.rows, nil), tt.want)
		})
	}
}

func TestImportsChecker(t *testing.T) {
	rows := []dependency{
		{path: "example.org/free"},
		{path: "example.org/metrics", only: []string{"internal/app"}},
		{path: "example.org/assert", tests: true},
	}
	product := func(from, imp string) pack {
		return pack{path: from, imports: map[string]string{imp: from + "/x.go"}}
	}
	tests := []struct {
		name string
		pack pack
		want string
	}{
		{"std", product("internal/app", "net/http"), ""},
		{"ours", product("internal/app", module+"/internal/job"), ""},
		{"listed", product("internal/build", "example.org/free/sub"), ""},
		{"a longer name", product("internal/build", "example.org/freedom"), "no dependency"},
		{"unlisted", product("internal/build", "github.com/stretchr/testify/assert"), "no dependency"},
		{"only here", product("internal/app", "example.org/metrics"), ""},
		{"not there", product("internal/build", "example.org/metrics"), "only internal/app may"},
		{"test library", product("internal/build", "example.org/assert"), "it is for tests"},
		{"test library in a helper", product("internal/event/eventtest", "example.org/assert"), ""},
		{"test library in a test", pack{path: "internal/build", testImports: map[string]string{"example.org/assert": "x_test.go"}}, ""},
		{"unlisted in a test", pack{path: "internal/build", testImports: map[string]string{"github.com/golang/mock/gomock": "x_test.go"}}, "no dependency"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			expect(t, checkImports([]pack{tt.pack}, rows), tt.want)
		})
	}
}

// TestLoad reads a planted tree: files for other systems count, other modules, test data and stray programs do not.
func TestLoad(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":                    "module " + module,
		"internal/a/a.go":           "// Package a is one.\npackage a\n\nimport \"fmt\"\n\nvar _ = fmt.Sprint\n",
		"internal/a/b.go":           "// Package a is told twice.\npackage a\n",
		"internal/a/a_windows.go":   "package a\n\nimport \"golang.org/x/sys/windows\"\n",
		"internal/a/a_test.go":      "package a_test\n\nimport \"testing\"\n",
		"internal/a/gen.go":         "//go:build ignore\n\npackage main\n\nimport \"os\"\n",
		"internal/a/testdata/x.go":  "package broken {",
		"internal/mute/mute.go":     "package mute\n",
		"internal/gen/gen.go":       "// Code generated by x. DO NOT EDIT.\n\n// Package gen is long.\npackage gen\n" + strings.Repeat("\n", maxLines),
		"internal/long/long.go":     "// Package long is long.\npackage long\n" + strings.Repeat("\n", maxLines),
		"test/e2e/e2e_test.go":      "// Package e2e_test is of tests alone.\npackage e2e_test\n",
		"tools/x/go.mod":            "module x",
		"tools/x/x.go":              "package x\n",
		".cache/x.go":               "package x\n",
		"internal/a/_old/old.go":    "package old\n",
		"internal/event/readme.txt": "no Go",
	} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	packs, sources, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []pack{
		{
			path:        "internal/a",
			imports:     map[string]string{"fmt": "internal/a/a.go", "golang.org/x/sys/windows": "internal/a/a_windows.go"},
			testImports: map[string]string{"testing": "internal/a/a_test.go"},
			comments:    []string{"internal/a/a.go", "internal/a/b.go"},
		},
		{path: "internal/gen", imports: map[string]string{}, testImports: map[string]string{}, comments: []string{"internal/gen/gen.go"}},
		{path: "internal/long", imports: map[string]string{}, testImports: map[string]string{}, comments: []string{"internal/long/long.go"}},
		{path: "internal/mute", imports: map[string]string{}, testImports: map[string]string{}},
		{path: "test/e2e", imports: map[string]string{}, testImports: map[string]string{}, comments: []string{"test/e2e/e2e_test.go"}},
	}
	if diff := cmp.Diff(want, packs, cmp.AllowUnexported(pack{})); diff != "" {
		t.Errorf("load (-want +got):\n%s", diff)
	}
	if got := checkComments(packs); len(got) != 2 {
		t.Errorf("checkComments: got %q, want internal/a and internal/mute", got)
	}
	expect(t, checkLength(sources), "internal/long/long.go has 702 lines")
}

// expect compares complaints with a part of the only one wanted, or with none.
func expect(t *testing.T, got []string, want string) {
	t.Helper()
	switch {
	case want == "" && len(got) != 0:
		t.Errorf("got %q, want no complaint", got)
	case want != "" && (len(got) != 1 || !strings.Contains(got[0], want)):
		t.Errorf("got %q, want one complaint with %q", got, want)
	}
}
