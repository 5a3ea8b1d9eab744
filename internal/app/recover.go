package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/coordinator"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/executor/custom"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/joblog"
	"github.com/glassrunner/glassrunner/internal/recovery"
)

// recover settles the jobs of processes that are no more.
func (a *App) recover(ctx context.Context) {
	orphans, release, err := a.journal.Orphans()
	defer release()
	if err != nil {
		a.bus.Emit(ctx, event.Degraded{What: "recovery", Err: err})
	}
	s := recovery.Settler{Bus: a.bus, Reap: a.reap, Deliver: a.deliver}
	s.Settle(ctx, orphans)
}

// reap ends what a job left behind, through a driver of the same name.
func (a *App) reap(ctx context.Context, name string, c executor.Claim) (int, error) {
	if name == "custom" { // its claims say by which programs, and no driver is without one
		return custom.Reap(ctx, c)
	}
	cfg := a.current.Load().config
	d, err := driver(cfg, &config.Runner{Executor: name}, a.o, a.bus, a.log)
	if err != nil {
		return 0, err
	}
	return d.Reap(ctx, c)
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
