// Package version says which build this is. The variables are set by the
// linker; without it they come from the Go build information, so that `go
// run` and `go install` builds are told apart as well.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// Set with -ldflags "-X github.com/glassrunner/glassrunner/internal/version.Version=…".
var (
	Version  string
	Revision string
	Branch   string
	BuiltAt  string
)

// Name is what the runner calls itself to coordinators and people.
const Name = "glassrunner"

// Info is one build's facts; no field is empty.
type Info struct {
	Name, Version, Revision, Branch, BuiltAt string
	GoVersion, OS, Architecture              string
}

// Get returns the facts of this build.
func Get() Info {
	i := Info{
		Name: Name, Version: Version, Revision: Revision, Branch: Branch, BuiltAt: BuiltAt,
		GoVersion: runtime.Version(), OS: runtime.GOOS, Architecture: runtime.GOARCH,
	}
	if b, ok := debug.ReadBuildInfo(); ok {
		fill(&i, b)
	}
	i.Version = or(i.Version, "development version")
	i.Revision = or(i.Revision, "HEAD")
	i.Branch = or(i.Branch, "HEAD")
	i.BuiltAt = or(i.BuiltAt, "unknown")
	return i
}

func fill(i *Info, b *debug.BuildInfo) {
	if v := b.Main.Version; v != "" && v != "(devel)" {
		i.Version = or(i.Version, v)
	}
	for _, s := range b.Settings {
		switch s.Key {
		case "vcs.revision":
			i.Revision = or(i.Revision, s.Value[:min(8, len(s.Value))])
		case "vcs.time":
			i.BuiltAt = or(i.BuiltAt, s.Value)
		}
	}
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// UserAgent is the form that coordinators parse:
// NAME VERSION (BRANCH; GOVERSION; OS/ARCH).
func (i Info) UserAgent() string {
	return fmt.Sprintf("%s %s (%s; %s; %s/%s)", i.Name, strings.ReplaceAll(i.Version, " ", "-"), i.Branch, i.GoVersion, i.OS, i.Architecture)
}

// String is what --version prints.
func (i Info) String() string {
	return fmt.Sprintf("Version:      %s\nGit revision: %s\nGit branch:   %s\nGO version:   %s\nBuilt:        %s\nOS/Arch:      %s/%s\n",
		i.Version, i.Revision, i.Branch, i.GoVersion, i.BuiltAt, i.OS, i.Architecture)
}
