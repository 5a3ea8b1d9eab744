package executortest

import (
	"bufio"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/job"
)

// load takes processor time in processes that live for a moment, and says by
// the kernel's own figures how much: `times` prints those of a shell and of
// its children.
const load = `n=0; while [ $n -lt 12 ]; do sh -c 'i=0; while [ $i -lt 40000 ]; do i=$((i+1)); done'; n=$((n+1)); done; times`

// usage takes a known amount of processor time and of memory.
func usage(t *testing.T, p *place) {
	if p.h.Unmeasured {
		if _, err := p.run(t, "true"); err != nil {
			t.Fatal(err)
		}
		if u := used(t, p); u.Known() {
			t.Errorf("a driver that cannot tell says %+v", u)
		}
		return
	}
	before := used(t, p)
	out, err := p.run(t, load)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	after := used(t, p)
	want := times(t, out)
	begin, _ := before.CPU.Seconds()
	end, known := after.CPU.Seconds()
	if !known {
		t.Error("the processor time is not known")
	}
	// Starting a container takes some too, which no shell sees.
	slack := 0.05*want + 0.01
	if p.h.Containers {
		slack += 0.2
	}
	if got := end - begin; got < 0.95*want-0.02 || got > want+slack {
		t.Errorf("the job used %.3f s of processor time, the kernel says %.3f s", got, want)
	}
	// tail keeps what it reads until it sees the end of a line.
	if out, err := p.run(t, "head -c 200000000 /dev/zero | tail -n 1 | wc -c"); err != nil || !strings.Contains(out, "200000000") {
		t.Fatalf("%v: %s", err, out)
	}
	last := used(t, p)
	if peak, known := last.MemoryPeak.Value(); known && (peak < 190_000_000 || peak > 420_000_000) {
		t.Errorf("the peak of memory is %d, want 200 MB to twice of that", peak)
	}
	grows(t, before, after)
	grows(t, after, last)
}

// usageBeside asks again and again while a command runs.
func usageBeside(t *testing.T, p *place) {
	done := make(chan error, 1)
	go func() {
		_, err := p.run(t, load)
		done <- err
	}()
	last := used(t, p)
	for n := 0; ; n++ {
		now := used(t, p)
		grows(t, last, now)
		last = now
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				t.Error("the command was over before anything was asked")
			}
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func used(t *testing.T, p *place) job.Usage {
	t.Helper()
	u, err := p.env.Usage(t.Context())
	if err != nil {
		t.Fatalf("Usage: %v", err)
	}
	return u
}

// grows fails the test if a figure became smaller or unknown.
func grows(t *testing.T, from, to job.Usage) {
	t.Helper()
	for _, f := range []struct {
		name     string
		from, to job.Quantity
	}{
		{"CPU", from.CPU, to.CPU},
		{"Throttled", from.Throttled, to.Throttled},
		{"MemoryPeak", from.MemoryPeak, to.MemoryPeak},
		{"Read", from.Read, to.Read},
		{"Written", from.Written, to.Written},
		{"OOMKills", from.OOMKills, to.OOMKills},
	} {
		a, was := f.from.Value()
		b, is := f.to.Value()
		// /proc counts in ticks, what counts an ended process does not.
		if was && !is || b < a-int64(20*time.Millisecond) {
			t.Errorf("%s went from %d (known: %v) to %d (known: %v)", f.name, a, was, b, is)
		}
	}
}

// times adds up what `times` printed: two lines of two times each.
func times(t *testing.T, out string) float64 {
	t.Helper()
	sum, n := 0.0, 0
	for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
		for f := range strings.FieldsSeq(lines.Text()) {
			var m, s float64
			if _, err := fmt.Sscanf(f, "%fm%fs", &m, &s); err == nil {
				sum += 60*m + s
				n++
			}
		}
	}
	if n != 4 || math.IsNaN(sum) || sum < 0.2 {
		t.Fatalf("times printed %q", out)
	}
	return sum
}
