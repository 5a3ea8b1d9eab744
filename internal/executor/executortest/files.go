package executortest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/glassrunner/glassrunner/internal/executor"
)

func fileOps(t *testing.T, p *place) {
	if !p.h.Driver.Traits().LocalFiles {
		t.Skip("the driver's files are made by scripts")
	}
	dir := p.r.Dirs.Project
	at := func(name string) string { return filepath.Join(dir, name) }
	data := []byte("a\x00b\n")
	c := executor.Command{Files: []executor.FileOp{
		{Kind: executor.OpMkdir, Path: at("x/y"), Mode: 0o755},
		{Kind: executor.OpMkdir, Path: at("x/y")},
		{Kind: executor.OpWrite, Path: at("x/f"), Data: []byte("old, and longer")},
		{Kind: executor.OpWrite, Path: at("x/f"), Data: data},
		{Kind: executor.OpWrite, Path: at("x/exec"), Mode: 0o755},
		{Kind: executor.OpTouch, Path: at("x/f")},
		{Kind: executor.OpTouch, Path: at("x/t")},
		{Kind: executor.OpRemove, Path: at("never/was")},
		{Kind: executor.OpRemove, Path: at("x/f/below a file")},
		{Kind: executor.OpWrite, Path: at("x/y/a.lock")},
		{Kind: executor.OpWrite, Path: at("x/y/keep")},
		{Kind: executor.OpSweep, Path: at("x"), Names: []string{"*.lock", "none"}},
		{Kind: executor.OpSweep, Path: at("missing"), Names: []string{"*"}},
		{Kind: executor.OpMkdir, Path: at("tree/closed")},
		{Kind: executor.OpWrite, Path: at("tree/closed/f")},
	}}
	if err := p.env.Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(at("x/f")); err != nil || !bytes.Equal(got, data) {
		t.Errorf("a written file holds %q, %v, want %q", got, err, data)
	}
	for name, want := range map[string]fs.FileMode{"x/f": 0o600, "x/t": 0o600, "x/exec": 0o755, "x/y": fs.ModeDir | 0o755, "tree": fs.ModeDir | 0o700} {
		if info, err := os.Stat(at(name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want mode %v", name, info, err, want)
		}
	}
	if _, err := os.Stat(at("x/y/a.lock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a swept file: %v, want none", err)
	}
	if _, err := os.Stat(at("x/y/keep")); err != nil {
		t.Errorf("a file that no name matches: %v", err)
	}
	if err := os.Chmod(at("tree/closed"), 0); err != nil {
		t.Fatal(err)
	}
	if err := p.env.Run(t.Context(), executor.Command{Files: []executor.FileOp{{Kind: executor.OpRemove, Path: at("tree")}}}); err != nil {
		t.Errorf("removing a closed directory: %v", err)
	}
	if _, err := os.Stat(at("tree")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a removed directory: %v, want none", err)
	}
}

func inside(t *testing.T, p *place) {
	if !p.h.Driver.Traits().LocalFiles {
		t.Skip("the driver's files are made by scripts")
	}
	dir, out := p.r.Dirs.Project, t.TempDir()
	victim := filepath.Join(out, "victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"file": victim, "dir": out} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, op := range []executor.FileOp{
		{Kind: executor.OpWrite, Path: filepath.Join(dir, "file"), Data: []byte("new")}, // replaces the link
		{Kind: executor.OpTouch, Path: filepath.Join(dir, "dir/touched")},
		{Kind: executor.OpWrite, Path: filepath.Join(dir, "dir/victim"), Data: []byte("theirs")},
		{Kind: executor.OpRemove, Path: filepath.Join(dir, "dir/victim")},
		{Kind: executor.OpSweep, Path: filepath.Join(dir, "dir"), Names: []string{"*"}},
		{Kind: executor.OpMkdir, Path: filepath.Join(dir, "dir/sub")},
		{Kind: executor.OpWrite, Path: filepath.Join(out, "direct"), Data: []byte("theirs")},
		{Kind: executor.OpRemove, Path: filepath.Join(p.r.Dirs.Builds, "..", filepath.Base(out))},
	} {
		// Refusing and doing nothing are both right; doing it is not.
		_ = p.env.Run(t.Context(), executor.Command{Files: []executor.FileOp{op}})
	}
	entries, err := os.ReadDir(out)
	if err != nil || len(entries) != 1 {
		t.Fatalf("a directory outside holds %v, %v, want its one file", entries, err)
	}
	if got, err := os.ReadFile(victim); err != nil || string(got) != "mine" {
		t.Errorf("a file outside holds %q, %v", got, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(got) != "new" {
		t.Errorf("the file in the link's place holds %q, %v", got, err)
	}
}
