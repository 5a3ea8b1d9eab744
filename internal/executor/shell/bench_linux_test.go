package shell_test

import (
	"bytes"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/executor/executortest"
	"github.com/glassrunner/glassrunner/internal/executor/shell"
)

// own is the processor time that this process has taken.
func own(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFloor is a login shell by itself.
func BenchmarkFloor(b *testing.B) {
	dir := b.TempDir()
	start := own(b)
	for b.Loop() {
		cmd := exec.CommandContext(b.Context(), "bash", "-l")
		cmd.Env = executortest.Environ(dir)
		cmd.Stdin = bytes.NewReader([]byte("exit 0\n"))
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((own(b)-start).Microseconds())/float64(b.N), "own-µs/op")
}

// BenchmarkJob opens a place, runs a script that does nothing, and closes it.
func BenchmarkJob(b *testing.B) {
	for name, root := range map[string]string{"group": "", "scan": shell.NoCgroup} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			d := newDriver(b, shell.Options{Dir: dir, Environ: executortest.Environ(dir), CgroupRoot: root})
			r := request(b, d, "bash")
			c := executor.Command{Script: executortest.Wrap(r, "exit 0"), Files: []executor.FileOp{
				{Kind: executor.OpMkdir, Path: r.Dirs.Temp},
				{Kind: executor.OpTouch, Path: r.Dirs.Temp + "/gitlab_runner_env"},
			}}
			var out bytes.Buffer
			c.Stdout, c.Stderr = &out, &out
			start := own(b)
			for b.Loop() {
				env, err := d.Open(b.Context(), r)
				if err != nil {
					b.Fatal(err)
				}
				if err := env.Run(b.Context(), c); err != nil {
					b.Fatal(err)
				}
				if err := env.Close(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((own(b)-start).Microseconds())/float64(b.N), "own-µs/op")
		})
	}
}

// BenchmarkOutput is the cost of printing 10 MB.
func BenchmarkOutput(b *testing.B) {
	dir := b.TempDir()
	d := newDriver(b, shell.Options{Dir: dir, Environ: executortest.Environ(dir)})
	r := request(b, d, "bash")
	env, err := d.Open(b.Context(), r)
	if err != nil {
		b.Fatal(err)
	}
	var n counter
	c := executor.Command{Script: executortest.Wrap(r, "head -c 10000000 /dev/zero"), Stdout: &n, Stderr: &n}
	b.SetBytes(10_000_000)
	start := own(b)
	for b.Loop() {
		if err := env.Run(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((own(b)-start).Microseconds())/float64(b.N), "own-µs/op")
	if err := env.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}

type counter int

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }
