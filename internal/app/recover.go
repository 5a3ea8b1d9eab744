package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/coordinator"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/joblog"
	"github.com/glassrunner/glassrunner/internal/recovery"
)

// recover settles the jobs of processes that are no more, now and whenever
// another process with the same state directory has died, and looks regularly
// for what belongs to no job that lives.
func (a *App) recover(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	settled := make(chan struct{}, 1)
	r := &recovery.Reconciler{Journal: a.journal, Bus: a.bus, Find: a.leftovers, Reap: a.reapLeftover}
	for {
		orphans, release, err := a.journal.Orphans()
		if err != nil {
			a.bus.Emit(ctx, event.Degraded{What: "recovery", Err: err})
		}
		interval, minAge, reap := a.current.Load().config.OrphanSearch()
		// First, or what is settled below would never be counted.
		a.look(ctx, r, reap, minAge)
		wg.Go(func() {
			defer release()
			s := recovery.Settler{Bus: a.bus, Reap: a.reap, Deliver: a.deliver, Settled: func() {
				select {
				case settled <- struct{}{}:
				default: // it is looked anyway
				}
			}}
			s.Settle(ctx, orphans)
		})
		t := time.NewTimer(interval)
		select {
		case <-t.C:
		case <-settled:
			t.Stop()
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// lookTimeout bounds one search for orphans: an engine may not answer, and the
// jobs of dead processes wait for the first.
const lookTimeout = 10 * time.Second

func (a *App) look(ctx context.Context, r *recovery.Reconciler, reap bool, minAge time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	r.Look(ctx, reap, minAge)
}

// leftovers asks a driver for each place where jobs of this configuration live.
func (a *App) leftovers(ctx context.Context, dead []executor.Claim) ([]executor.Leftover, error) {
	asked := map[string]bool{}
	var out []executor.Leftover
	var errs []error
	for _, e := range a.current.Load().entries {
		if e.driver == nil {
			continue
		}
		traits := e.driver.Traits()
		where := traits.Claims + "\x00" + traits.Where
		if asked[where] {
			continue
		}
		asked[where] = true
		var mine []executor.Claim
		for _, c := range dead {
			if c.Kind == traits.Claims {
				mine = append(mine, c)
			}
		}
		found, err := e.driver.Leftovers(ctx, mine)
		out = append(out, found...)
		if err != nil {
			errs = append(errs, fmt.Errorf("runner %s: looking for what was left behind: %w", e.runner.Short, err))
		}
	}
	return out, errors.Join(errs...)
}

// reapLeftover ends an orphan through a driver that makes such claims.
func (a *App) reapLeftover(ctx context.Context, l executor.Leftover) error {
	_, err := a.reapBy(ctx, l.Claim, func(t executor.Traits) bool { return t.Claims == l.Claim.Kind })
	if errors.Is(err, executor.ErrElsewhere) {
		return nil // its runner has just left the configuration
	}
	return err
}

// reap ends what a job left behind, through a driver of the same name that
// reaches it, or else by what the claim itself says.
func (a *App) reap(ctx context.Context, name string, c executor.Claim) (int, error) {
	n, err := a.reapBy(ctx, c, func(t executor.Traits) bool { return t.Name == name })
	if errors.Is(err, executor.ErrElsewhere) {
		return a.reapForsaken(ctx, name, c)
	}
	return n, err
}

// reapBy asks one driver of the configuration after the other.
func (a *App) reapBy(ctx context.Context, c executor.Claim, asked func(executor.Traits) bool) (int, error) {
	for _, e := range a.current.Load().entries {
		if e.driver == nil || !asked(e.driver.Traits()) {
			continue
		}
		if n, err := e.driver.Reap(ctx, c); !errors.Is(err, executor.ErrElsewhere) {
			return n, err
		}
	}
	return 0, executor.ErrElsewhere
}

// owner is what tells the things of this runner's jobs from those of other
// runners on the same machine or engine: the state directory in which the jobs
// are remembered. It is the same after a restart.
func (a *App) owner(c *config.Config) string {
	dir := c.StateDir()
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	sum := sha256.Sum256([]byte(a.systemID + "\x00" + dir))
	return hex.EncodeToString(sum[:6])
}

// died is the last line of a log whose runner did not live to write one.
const died = "\x1b[31;1mERROR: Job failed (system failure): the runner process ended while the job ran\x1b[0;m\n"

// deliver sends the rest of a job's log and reports how the job ended.
func (a *App) deliver(ctx context.Context, r recovery.Record, path string) (int64, error) {
	client, err := coordinator.New(coordinator.Options{
		URL: r.At.URL, SystemID: a.systemID, Runner: r.Runner, CertDir: a.o.CertDir,
		TLSCAFile: r.At.TLSCAFile, TLSCertFile: r.At.TLSCertFile, TLSKeyFile: r.At.TLSKeyFile,
		Info: coordinator.Info{Version: a.version, Executor: r.Runner.Executor, Features: shellFeatures()},
		Bus:  a.bus, Log: a.log, Transports: a.transports,
	})
	if err != nil {
		return 0, err
	}
	log, err := joblog.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		// The process died between the job's first line in the journal and
		// that of its log.
		if err = os.WriteFile(path, nil, 0o600); err == nil {
			log, err = joblog.Open(path)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("the job's log: %w", err)
	}
	final := r.Final
	if final == nil {
		final = &job.Update{State: job.WireFailed, Reason: job.SystemFailure.Known(r.FailureReasons)}
		if err := last(log); err != nil {
			return 0, errors.Join(err, log.Close())
		}
	}
	if err := log.Close(); err != nil {
		return 0, err
	}
	up := joblog.NewUploader(joblog.UploadOptions{
		Log: log, Sink: client.Job(r.Job, job.Secret(r.Token), r.DebugTrace), Bus: a.bus,
		FinalRetries: 1,
	})
	err = up.Finish(ctx, *final)
	return up.Delivered(), err
}

// last ends a log with the line that says why it ends, once.
func last(log *joblog.Log) error {
	tail := make([]byte, 2*len(died))
	n, err := log.ReadAt(tail, max(log.Size()-int64(len(tail)), 0))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.HasSuffix(string(tail[:n]), died) {
		return nil
	}
	_, err = io.WriteString(log.Stream(0, false), died)
	return err
}
