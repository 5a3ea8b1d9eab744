package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
)

// Rules say which files of a project are meant.
type Rules struct {
	// Paths are files, directories (with all that is in them) and doublestar
	// patterns, relative to the project or absolute.
	Paths []string
	// Exclude are doublestar patterns for paths below the project.
	Exclude []string
	// Untracked are paths below the project that git does not know, as `git
	// ls-files --others -z` prints them; they count only with WithUntracked.
	Untracked     []string
	WithUntracked bool
}

// File is one thing to be archived: a regular file, a directory (without its
// content) or a symbolic link.
type File struct {
	Path string      // below the project, with slashes
	Info fs.FileInfo // as Lstat sees it
}

// Note is a line for the job log.
type Note struct {
	Warning bool
	Text    string
}

// Selection is what rules gave.
type Selection struct {
	Files []File // sorted by path, each once
	Notes []Note
}

// Newest is the latest modification time of all regular files: those of
// directories and links change when they are extracted.
func (s *Selection) Newest() time.Time {
	var t time.Time
	for _, f := range s.Files {
		if m := f.Info.ModTime(); f.Info.Mode().IsRegular() && m.After(t) {
			t = m
		}
	}
	return t
}

// Select finds the files that rules mean below dir, which is absolute.
// Symbolic links are taken as links. What cannot be read is left out with a
// warning; an error is a pattern that is none.
func Select(dir string, r Rules) (*Selection, error) {
	s := &selector{dir: dir, rules: r, seen: map[string]struct{}{}, excluded: make([]int, len(r.Exclude))}
	for _, pattern := range r.Exclude {
		if !doublestar.ValidatePattern(pattern) {
			return nil, fmt.Errorf("exclude: %q is not a valid pattern", pattern)
		}
	}
	for _, p := range r.Paths {
		if err := s.path(p); err != nil {
			return nil, err
		}
	}
	if r.WithUntracked {
		s.untracked()
	}
	for i, n := range s.excluded {
		if n > 0 {
			s.note(false, "%s: excluded %d files", r.Exclude[i], n)
		}
	}
	slices.SortFunc(s.files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return &Selection{Files: s.files, Notes: s.notes}, nil
}

type selector struct {
	dir      string
	rules    Rules
	files    []File
	notes    []Note
	seen     map[string]struct{}
	excluded []int // by pattern
}

func (s *selector) note(warning bool, format string, args ...any) {
	s.notes = append(s.notes, Note{warning, fmt.Sprintf(format, args...)})
}

// below makes a path or pattern relative to the project, with slashes. ok is
// false when it leads out of it.
func (s *selector) below(p string) (rel string, ok bool) {
	if filepath.IsAbs(p) {
		var err error
		if p, err = filepath.Rel(s.dir, p); err != nil {
			return "", false
		}
	}
	rel = path.Clean(filepath.ToSlash(p))
	return rel, rel != ".." && !strings.HasPrefix(rel, "../")
}

func (s *selector) path(p string) error {
	if p == "" {
		return nil
	}
	rel, ok := s.below(p)
	if !ok {
		s.note(true, "artifact path is not a subpath of project directory: %s", p)
		return nil
	}
	found := 0
	if !strings.ContainsAny(rel, "*?[{") {
		found = s.walk(rel)
	} else {
		err := doublestar.GlobWalk(os.DirFS(s.dir), rel, func(match string, _ fs.DirEntry) error {
			found += s.walk(match)
			return nil
		}, doublestar.WithNoFollow())
		if errors.Is(err, doublestar.ErrBadPattern) {
			return fmt.Errorf("%q is not a valid pattern", p)
		}
		if err != nil {
			s.note(true, "%s: %v", p, err)
		}
	}
	if found == 0 {
		s.note(true, "%s: no matching files. Ensure that the artifact path is relative to the working directory (%s)", p, s.dir)
		return nil
	}
	s.note(false, "%s: found %d matching artifact files and directories", p, found)
	return nil
}

// walk adds a file, or a directory with all that is in it, and returns how
// many there are, whether new or not.
func (s *selector) walk(rel string) int {
	n := 0
	_ = filepath.WalkDir(filepath.Join(s.dir, filepath.FromSlash(rel)), func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				s.note(true, "%v", err)
			}
			return nil
		}
		p, err := filepath.Rel(s.dir, name)
		if err != nil {
			return err
		}
		if p != "." && s.add(filepath.ToSlash(p), d.Info) {
			n++
		}
		return nil
	})
	return n
}

// add takes a file unless it is excluded or of a kind that no archive holds.
func (s *selector) add(rel string, info func() (fs.FileInfo, error)) bool {
	for i, pattern := range s.rules.Exclude {
		if ok, _ := doublestar.Match(pattern, rel); ok { // the pattern is valid
			if _, known := s.seen[rel]; !known {
				s.seen[rel] = struct{}{}
				s.excluded[i]++
			}
			return false
		}
	}
	if _, known := s.seen[rel]; known {
		return true
	}
	fi, err := info()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false
	case err != nil:
		s.note(true, "%v", err)
		return false
	}
	s.seen[rel] = struct{}{}
	if t := fi.Mode().Type(); t != 0 && t != fs.ModeDir && t != fs.ModeSymlink {
		s.note(true, "%s: sockets, pipes and devices are left out", rel)
		return false
	}
	s.files = append(s.files, File{rel, fi})
	return true
}

func (s *selector) untracked() {
	found := 0
	for _, p := range s.rules.Untracked {
		rel, ok := s.below(p)
		if !ok || rel == "." {
			continue
		}
		// A repository of its own is printed with a slash at the end.
		if strings.HasSuffix(p, "/") {
			found += s.walk(rel)
			continue
		}
		if s.add(rel, func() (fs.FileInfo, error) { return os.Lstat(filepath.Join(s.dir, filepath.FromSlash(rel))) }) {
			found++
		}
	}
	if found == 0 {
		s.note(false, "untracked: no files")
		return
	}
	s.note(false, "untracked: found %d files", found)
}
