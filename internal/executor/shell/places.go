package shell

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/glassrunner/glassrunner/internal/executor"
)

// What claims say of a job's temporary directory, which holds its file
// variables, secrets among them.
const (
	claimBuilds = "builds"
	claimTemp   = "temp"
	// tempSuffix ends the names of these directories.
	tempSuffix = ".tmp"
)

// Places knows which jobs' temporary directories are in use, so that none is
// removed that a new job has taken over. Its methods may be called at the same
// time.
type Places struct {
	mu   sync.Mutex
	used map[string]int
}

func (p *Places) enter(temp string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used == nil {
		p.used = map[string]int{}
	}
	p.used[temp]++
}

func (p *Places) leave(temp string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used[temp]--; p.used[temp] <= 0 {
		delete(p.used, temp)
	}
}

// clear removes the temporary directory that a claim names, unless a job uses
// it. No link that a job left leads it elsewhere.
func (p *Places) clear(c executor.Claim) error {
	builds, temp, ok := tempOf(c)
	if !ok {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used[c.Data[claimTemp]] > 0 {
		return nil
	}
	r, err := os.OpenRoot(builds)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing the job's temporary directory: %w", err)
	}
	defer func() { _ = r.Close() }() // nothing was written through it
	if err := remove(root{builds, r}, temp); err != nil {
		return fmt.Errorf("removing the job's temporary directory: %w", err)
	}
	return nil
}

// left reports whether the temporary directory that a claim names is there and
// no job uses it.
func (p *Places) left(c executor.Claim) (info fs.FileInfo, is bool) {
	_, _, ok := tempOf(c)
	if !ok {
		return nil, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used[c.Data[claimTemp]] > 0 {
		return nil, false
	}
	info, err := os.Lstat(filepath.FromSlash(c.Data[claimTemp]))
	return info, err == nil && info.IsDir()
}

// tempOf returns the root of the working copies and a temporary directory
// within it.
func tempOf(c executor.Claim) (builds, temp string, ok bool) {
	builds, temp = filepath.FromSlash(c.Data[claimBuilds]), filepath.FromSlash(c.Data[claimTemp])
	if !filepath.IsAbs(builds) || !strings.HasSuffix(temp, tempSuffix) {
		return "", "", false
	}
	rel, err := filepath.Rel(builds, temp)
	if err != nil || !filepath.IsLocal(rel) || rel == "." {
		return "", "", false
	}
	return builds, rel, true
}
