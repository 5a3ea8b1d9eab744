package logs

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/glassrunner/glassrunner/internal/event"
)

// diskKey tells disks apart.
type diskKey struct{ root, path string }

// diskMeasured says when a disk begins and ends to keep runners from work.
func (o *Observer) diskMeasured(e event.Event, f event.DiskMeasured) {
	k := diskKey{f.Root, f.Path}
	fields := []slog.Attr{slog.String("root", f.Root), slog.String("path", f.Path)}
	if f.Err != nil {
		t := o.disks[k]
		if t == nil {
			t = new(trouble)
			o.disks[k] = t
		}
		if unsaid, say := t.again(e.Time); say {
			o.say(e, slog.LevelWarn, "A disk cannot be measured", append(fields, slog.Int("repeated", unsaid), errField(f.Err))...)
		}
		return
	}
	delete(o.disks, k)
	fields = append(fields, slog.Int64("free_bytes", f.Free), slog.Int64("size_bytes", f.Size), slog.Int64("free_inodes", f.FreeInodes))
	switch was := o.blocked[k]; {
	case f.Blocked && !was:
		o.blocked[k] = true
		o.say(e, slog.LevelError, "Too little room on a disk: runners that need it take no jobs", fields...)
	case !f.Blocked && was:
		delete(o.blocked, k)
		o.say(e, slog.LevelInfo, "There is room on the disk again: jobs are taken", fields...)
	}
}

func (o *Observer) diskForgotten(f event.DiskForgotten) {
	k := diskKey{f.Root, f.Path}
	delete(o.disks, k)
	delete(o.blocked, k)
}

func (o *Observer) diskSearched(e event.Event, f event.DiskSearched) {
	var list strings.Builder
	for i, d := range f.Largest {
		if i > 0 {
			list.WriteString(", ")
		}
		fmt.Fprintf(&list, "%s %.1f GiB", d.Path, float64(d.Bytes)/(1<<30))
	}
	o.say(e, slog.LevelWarn, "What takes the most room on a disk that is filling up", slog.String("root", f.Root), slog.String("path", f.Path),
		slog.String("largest", list.String()), slog.Bool("complete", f.Complete))
}

// orphansCounted says when there are others than the last time.
func (o *Observer) orphansCounted(e event.Event, f event.OrphansCounted) {
	was := o.orphans[f.Kind]
	o.orphans[f.Kind] = f.Count
	switch {
	case f.Reaped > 0:
		o.say(e, slog.LevelWarn, "Removed what was left behind", slog.String("kind", f.Kind), slog.Int("removed", f.Reaped), slog.Int("left", f.Count))
	case f.Count > was:
		o.say(e, slog.LevelWarn, "Something of jobs that are over was left behind", slog.String("kind", f.Kind), slog.Int("count", f.Count), slog.Float64("oldest_s", f.Oldest.Seconds()))
	}
}
