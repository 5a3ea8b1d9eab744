package custom

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
)

// Kinds of claims. A place is claimed twice: when its directory is there, and
// again with the environment that cleanup_exec gets from then on.
const (
	placeClaim   = "custom-place"
	programClaim = "custom-program"
)

// cleanup is what a later process needs to clean a place up.
type cleanup struct {
	Path    string        `json:"path"`
	Args    []string      `json:"args,omitempty"`
	Timeout time.Duration `json:"timeout"`
	Grace   time.Duration `json:"grace"`
	Force   time.Duration `json:"force"`
	// Environ is what there is beyond the runner's own.
	Environ []string `json:"environ"`
}

// claim stores how to clean the place up if this process dies.
func (p *place) claim(early bool) error {
	if p.r.Claim == nil {
		return nil
	}
	o := p.d.o
	text, err := json.Marshal(cleanup{o.Cleanup.Path, o.Cleanup.Args, o.Cleanup.Timeout, o.Grace, o.Force, p.env})
	if err == nil {
		err = p.r.Claim(executor.Claim{Kind: placeClaim, ID: p.dir, Data: map[string]string{
			"boot": bootID(), "early": strconv.FormatBool(early), "cleanup": string(text),
		}})
	}
	if err != nil {
		return fmt.Errorf("remembering the job's place: %w", err)
	}
	return nil
}

// claimProgram stores which program runs. Without it, cleanup_exec meets a
// program that still runs: no reason not to run it.
func (p *place) claimProgram(pid int) {
	start, ok := started(pid)
	if p.r.Claim == nil || !ok {
		return
	}
	err := p.r.Claim(executor.Claim{Kind: programClaim, ID: strconv.Itoa(pid), Data: map[string]string{
		"boot": bootID(), "start": strconv.FormatUint(start, 10), "mark": mark(p.dir),
	}})
	if err != nil {
		p.d.o.Log.Debug("claiming a program", "error", err)
	}
}

// Reap ends what a claim of an earlier process names: the process group of a
// program, or a place, by its cleanup_exec. It needs no configuration, which
// may have changed since. What it returns counts processes; a cleanup counts
// as one.
func Reap(ctx context.Context, c executor.Claim) (int, error) {
	switch c.Kind {
	case programClaim:
		return reapProgram(ctx, c)
	case placeClaim:
		return reapPlace(ctx, c)
	}
	return 0, fmt.Errorf("the custom executor makes no claims of the kind %q", c.Kind)
}

var errDamaged = errors.New("a claim of the custom executor is damaged")

func reapProgram(ctx context.Context, c executor.Claim) (int, error) {
	pid, err1 := strconv.Atoi(c.ID)
	start, err2 := strconv.ParseUint(c.Data["start"], 10, 64)
	if errors.Join(err1, err2) != nil || pid <= 1 || c.Data["mark"] == "" {
		return 0, errDamaged
	}
	if c.Data["boot"] != bootID() {
		return 0, nil // the machine was started since
	}
	return endGroup(ctx, pid, start, []byte(c.Data["mark"]))
}

func reapPlace(ctx context.Context, c executor.Claim) (int, error) {
	var u cleanup
	if err := json.Unmarshal([]byte(c.Data["cleanup"]), &u); err != nil {
		return 0, errDamaged
	}
	if !filepath.IsAbs(c.ID) || !strings.HasPrefix(filepath.Base(c.ID), dirPrefix) {
		return 0, errDamaged
	}
	if _, err := os.Stat(c.ID); errors.Is(err, os.ErrNotExist) {
		if c.Data["boot"] == bootID() || c.Data["early"] == "true" {
			return 0, nil // it was cleaned up
		}
		// The directory went with the machine; a place may be elsewhere.
		if err := os.MkdirAll(c.ID, 0o700); err != nil {
			return 0, fmt.Errorf("temporary directory: %w", err)
		}
	}
	ended := 0
	var err error
	if u.Path != "" {
		d := &Driver{Options{Environ: os.Environ(), Grace: u.Grace, Force: u.Force}}
		p := &place{d: d, dir: c.ID, env: u.Environ}
		err = p.run(ctx, "cleanup_exec", Program{u.Path, u.Args, u.Timeout}, nil, executor.Command{})
		ended = 1
	}
	if err != nil {
		return ended, err // another try may do better
	}
	return ended, os.RemoveAll(c.ID)
}
