package app

import (
	"context"
	"io"
	"time"

	"github.com/glassrunner/glassrunner/internal/build"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/joblog"
	"github.com/glassrunner/glassrunner/internal/recovery"
	"github.com/glassrunner/glassrunner/internal/redact"
)

// journal stores jobs of one runner entry with what is needed to report them.
type journal struct {
	j     *recovery.Journal
	at    recovery.Coordinator
	tails *tails
}

func (j journal) Begin(s *job.Spec, r job.Runner, timestamps bool) (build.Entry, error) {
	debug, _ := s.Variables.Bool("CI_DEBUG_TRACE", false)
	e, err := j.j.Begin(recovery.Record{
		Job: s.ID, Token: s.Token.Reveal(), Runner: r, At: j.at,
		FailureReasons: s.Features.FailureReasons, Timestamps: timestamps, DebugTrace: debug, Started: time.Now().UTC(),
	})
	if err != nil {
		return nil, err
	}
	return j.tails.follow(e, r, s.ID), nil
}

// logFiles opens the logs of one runner entry's jobs.
type logFiles struct {
	bus            *event.Bus
	limit          int64
	statusInterval time.Duration
	finalRetries   int
	buffers        *joblog.Buffers
}

func (l logFiles) open(path string, m *redact.Masker, timestamps bool, c build.Conn) (build.Log, error) {
	file, err := joblog.Create(joblog.Options{Path: path, Limit: l.limit, Masker: m, Timestamps: timestamps, Bus: l.bus})
	if err != nil {
		return nil, err
	}
	return &jobLog{file: file, sink: c, logFiles: l}, nil
}

// jobLog is a job's log and its way to the coordinator.
type jobLog struct {
	logFiles
	file *joblog.Log
	sink joblog.Sink

	up   *joblog.Uploader // nil before Start
	done chan struct{}    // of its loop
}

func (l *jobLog) Stream(id byte, stderr bool) io.WriteCloser { return l.file.Stream(id, stderr) }

func (l *jobLog) uploader(on func(job.Directive)) *joblog.Uploader {
	return joblog.NewUploader(joblog.UploadOptions{
		Log: l.file, Sink: l.sink, Bus: l.bus, StatusInterval: l.statusInterval, FinalRetries: l.finalRetries,
		Buffers: l.buffers, On: on,
	})
}

func (l *jobLog) Start(ctx context.Context, on func(job.Directive)) {
	l.up, l.done = l.uploader(on), make(chan struct{})
	go func() {
		defer close(l.done)
		l.up.Run(ctx)
	}()
}

func (l *jobLog) Finish(ctx context.Context, u job.Update) error {
	if l.up == nil {
		return l.uploader(nil).Finish(ctx, u)
	}
	err := l.up.Finish(ctx, u)
	<-l.done
	return err
}

func (l *jobLog) Close() error {
	if l.up != nil {
		l.up.Stop()
		<-l.done
	}
	return l.file.Close()
}
