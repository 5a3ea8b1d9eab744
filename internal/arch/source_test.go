package arch_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A source is one Go file.
type source struct {
	name      string // below the module
	lines     int
	generated bool
}

// ignored matches the build constraint of a program that no package contains.
var ignored = regexp.MustCompile(`(?m)^//go:build ignore$`)

// load reads the module at root from its files, not through go list, which
// leaves out the files of other systems.
func load(root string) ([]pack, []source, error) {
	var sources []source
	packs := map[string]*pack{}
	tests := map[string][]string{} // package comments of test files
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return enter(root, file)
		}
		if filepath.Ext(file) != ".go" {
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, text, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		sources = append(sources, source{name: rel, lines: bytes.Count(text, []byte("\n")), generated: ast.IsGenerated(tree)})
		if ignored.Match(text) {
			return nil
		}

		p := packs[path.Dir(rel)]
		if p == nil {
			p = &pack{path: path.Dir(rel), imports: map[string]string{}, testImports: map[string]string{}}
			packs[p.path] = p
		}
		imports := p.imports
		test := strings.HasSuffix(rel, "_test.go")
		if test {
			imports = p.testImports
		}
		for _, spec := range tree.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			imports[imp] = rel
		}
		switch {
		case tree.Doc == nil:
		case test:
			tests[p.path] = append(tests[p.path], rel)
		default:
			p.comments = append(p.comments, rel)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}

	var list []pack
	for _, p := range packs {
		// A package of tests alone has its comment there.
		if len(p.imports) == 0 && len(p.comments) == 0 {
			p.comments = tests[p.path]
		}
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b pack) int { return strings.Compare(a.path, b.path) })
	return list, sources, nil
}

// enter decides whether a directory belongs to the module.
func enter(root, dir string) error {
	if dir == root {
		return nil
	}
	name := filepath.Base(dir)
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" {
		return filepath.SkipDir
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
		return filepath.SkipDir // a module of its own
	}
	return nil
}
