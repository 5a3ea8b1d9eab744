package job_test

import (
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
)

func TestQuantity(t *testing.T) {
	var none job.Quantity
	for _, tt := range []struct {
		name  string
		got   job.Quantity
		want  int64
		known bool
	}{
		{"nothing", none, 0, false},
		{"zero", job.Known(0), 0, true},
		{"never negative", job.Known(-5), 0, true},
		{"sum", job.Known(3).Plus(job.Known(4)), 7, true},
		{"sum with nothing", job.Known(3).Plus(none), 3, true},
		{"nothing with a sum", none.Plus(job.Known(3)), 3, true},
		{"sum of nothing", none.Plus(none), 0, false},
		{"greater", job.Known(3).Max(job.Known(4)), 4, true},
		{"greater with nothing", none.Max(job.Known(4)), 4, true},
		{"time", job.KnownTime(time.Second), 1e9, true},
	} {
		if n, known := tt.got.Value(); n != tt.want || known != tt.known {
			t.Errorf("%s: got %d, %v, want %d, %v", tt.name, n, known, tt.want, tt.known)
		}
	}
	if s, known := job.KnownTime(1500 * time.Millisecond).Seconds(); s != 1.5 || !known {
		t.Errorf("got %v, %v, want 1.5 s", s, known)
	}
	if (job.Usage{}).Known() {
		t.Error("of no usage something is known")
	}
	if !(job.Usage{OOMKills: job.Known(0)}).Known() {
		t.Error("of no OOM kills nothing is known")
	}
}
