package cli_test

import (
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"github.com/glassrunner/glassrunner/internal/cli"
)

func TestSignals(t *testing.T) {
	type step struct {
		signals []os.Signal
		want    []string
	}
	steps := []step{
		{[]os.Signal{syscall.SIGQUIT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGINT}, []string{"drain", "drain", "abort", "drain", "exit"}},
		{[]os.Signal{syscall.SIGTERM, syscall.SIGTERM}, []string{"abort", "exit"}},
		{[]os.Signal{syscall.SIGHUP, os.Interrupt, syscall.SIGHUP, syscall.SIGTERM}, []string{"reload", "abort", "reload", "exit"}},
	}
	if runtime.GOOS == "windows" {
		steps = []step{
			{[]os.Signal{os.Interrupt, os.Interrupt, os.Interrupt}, []string{"drain", "abort", "exit"}},
			{[]os.Signal{syscall.SIGTERM, os.Interrupt}, []string{"abort", "exit"}},
		}
	}
	for _, s := range steps {
		if got := cli.Actions(s.signals...); !slices.Equal(got, s.want) {
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
