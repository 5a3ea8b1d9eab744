package build

import (
	"context"

	"github.com/glassrunner/glassrunner/internal/job"
)

// The job's own log is masked where it is written. What a Build tells
// observers of the job, who write process logs and pages, is masked here.

// masked is an error whose text has no secrets. It wraps the one that has, so
// that what kind of error it is stays known.
type masked struct {
	text string
	err  error
}

func (m *masked) Error() string { return m.text }
func (m *masked) Unwrap() error { return m.err }

// hide masks the text of an error. Settings of a job are in many of them.
func (b *Build) hide(err error) error {
	if err == nil {
		return nil
	}
	if text := err.Error(); text != "" {
		if m := b.masks.Text(text); m != text {
			return &masked{m, err}
		}
	}
	return err
}

// info is what the coordinator tells of the job. A matrix puts values of
// variables into names.
func (b *Build) info() job.Info {
	i := b.spec.Info
	i.Name, i.Stage = b.masks.Text(i.Name), b.masks.Text(i.Stage)
	return i
}

// phaseOf runs f as a phase, whose error observers hear.
func (b *Build) phaseOf(ctx context.Context, p job.Phase, f func(context.Context) error) error {
	return b.o.Bus.Phase(ctx, p, func(ctx context.Context) error { return b.hide(f(ctx)) })
}
