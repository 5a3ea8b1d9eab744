package cli

import (
	"context"
	"log/slog"

	"github.com/glassrunner/glassrunner/internal/observe/logs"
)

// teller tells people what a command does, in the format of the process log.
// Its messages are whole sentences, and some are GitLab Runner's, which
// scripts look for; so they are put together where the log's are constants.
type teller struct{ log *slog.Logger }

// Info tells how a command gets on.
func (t teller) Info(msg string, fields ...any) { t.tell(slog.LevelInfo, msg, fields) }

// Warn tells of what may not be as it was meant.
func (t teller) Warn(msg string, fields ...any) { t.tell(slog.LevelWarn, msg, fields) }

// Error tells of a failure that does not end the command.
func (t teller) Error(msg string, fields ...any) { t.tell(slog.LevelError, msg, fields) }

// With returns a teller whose messages all have the fields.
func (t teller) With(fields ...any) teller { return teller{t.log.With(fields...)} }

func (t teller) tell(l slog.Level, msg string, fields []any) {
	t.log.Log(context.Background(), l, msg, fields...) //nolint:sloglint // See teller.
}

// fatal tells of the failure that ends the command and returns what stands
// for it.
func (t teller) fatal(msg string, fields ...any) error {
	t.tell(logs.LevelFatal, msg, fields)
	return errTold
}
