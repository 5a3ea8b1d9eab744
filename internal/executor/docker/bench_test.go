package docker_test

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
)

// BenchmarkJob compares what a job that does nothing costs with one bare
// docker run of the same: the phases are those of a job without sources.
func BenchmarkJob(b *testing.B) {
	engine(b)
	o := options(b)
	d := newDriver(b, o)
	r := request(b)
	r.Log = &buffer{}
	phase := func(env executor.Env, in executor.Target) {
		out := &buffer{}
		if err := env.Run(b.Context(), executor.Command{In: in, Script: wrap(r, "true"), Stdout: out, Stderr: out}); err != nil {
			b.Fatal(err)
		}
	}
	job := func() {
		env, err := d.Open(b.Context(), r)
		if err != nil {
			b.Fatal(err)
		}
		phase(env, executor.Helper) // prepare_script
		phase(env, executor.Helper) // get_sources
		phase(env, executor.Build)
		phase(env, executor.Helper) // cleanup_file_variables
		if err := env.Close(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	bare := func() {
		cmd := exec.Command("docker", "-H", host(b), "run", "--rm", boxImage, "sh", "-c", "true")
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Skipf("docker run: %v, %s", err, out)
		}
	}
	// In turns, so that both meet the same load.
	var jobs, runs time.Duration
	n := 0
	for b.Loop() {
		t := time.Now()
		bare()
		runs += time.Since(t)
		t = time.Now()
		job()
		jobs += time.Since(t)
		n++
	}
	b.ReportMetric(float64(jobs.Milliseconds())/float64(n), "ms/job")
	b.ReportMetric(float64(runs.Milliseconds())/float64(n), "ms/docker-run")
	b.ReportMetric(float64(jobs)/float64(runs), "times")
}
