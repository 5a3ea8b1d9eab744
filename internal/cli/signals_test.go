package cli_test

import (
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/cli"
)

func TestSignals(t *testing.T) {
	type step struct {
		gap     time.Duration
		signals []os.Signal
		want    []string
	}
	steps := []step{
		{time.Second, []os.Signal{syscall.SIGQUIT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGINT}, []string{"drain", "drain", "abort", "drain", "exit"}},
		{time.Second, []os.Signal{syscall.SIGTERM, syscall.SIGTERM}, []string{"abort", "exit"}},
		{time.Second, []os.Signal{syscall.SIGHUP, os.Interrupt, syscall.SIGHUP, syscall.SIGTERM}, []string{"reload", "abort", "reload", "exit"}},
	}
	// The same signal twice at once is one wish.
	steps = append(steps,
		step{time.Millisecond, []os.Signal{syscall.SIGTERM, syscall.SIGTERM, syscall.SIGTERM}, []string{"abort", "nothing", "nothing"}},
		step{60 * time.Millisecond, []os.Signal{syscall.SIGTERM, syscall.SIGTERM, syscall.SIGTERM}, []string{"abort", "nothing", "exit"}},
		step{time.Millisecond, []os.Signal{syscall.SIGHUP, syscall.SIGHUP}, []string{"reload", "reload"}},
		step{time.Millisecond, []os.Signal{syscall.SIGTERM, syscall.SIGINT}, []string{"abort", "exit"}},
	)
	if runtime.GOOS == "windows" {
		steps = []step{
			{time.Second, []os.Signal{os.Interrupt, os.Interrupt, os.Interrupt}, []string{"drain", "abort", "exit"}},
			{time.Second, []os.Signal{syscall.SIGTERM, os.Interrupt}, []string{"abort", "exit"}},
		}
	}
	for _, s := range steps {
		if got := cli.Actions(s.gap, s.signals...); !slices.Equal(got, s.want) {
			t.Errorf("%v: got %v, want %v", s.signals, got, s.want)
		}
	}
}

func TestProcessorsAreTheJobs(t *testing.T) {
	for processors, want := range map[int]int{1: 1, 2: 1, 7: 1, 8: 2, 64: 16} {
		if got := cli.Share(processors); got != want {
			t.Errorf("of %d processors the runner uses %d, want %d", processors, got, want)
		}
	}
}
