package bench_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// engine is a Docker engine that benchmarks may use.
type engine struct {
	host string
}

// dockerImage is a small image, made of this machine's busybox.
const dockerImage = "glassrunner-bench/box:1"

// newEngine skips the benchmark without an engine that has the helper image.
func newEngine(b *testing.B) *engine {
	b.Helper()
	e := &engine{host: os.Getenv("GLASSRUNNER_TEST_DOCKER")}
	if e.host == "" {
		b.Skip("there is no Docker engine: run eval \"$(scripts/dockerd.sh start DIR)\", which sets GLASSRUNNER_TEST_DOCKER")
	}
	if _, err := exec.LookPath("docker"); err != nil {
		b.Skip(err)
	}
	if err := e.command("image", "inspect", "glassrunner/helper:1").Run(); err != nil {
		b.Skipf("the engine has no helper image: DOCKER_HOST=%s make helper-image", e.host)
	}
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		b.Skipf("busybox-static is not installed: %v", err)
	}
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	for _, h := range []*tar.Header{
		{Name: "bin/busybox", Mode: 0o755, Size: int64(len(program))},
		{Name: "bin/sh", Linkname: "busybox", Typeflag: tar.TypeSymlink},
	} {
		if err := w.WriteHeader(h); err != nil {
			b.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write(program); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	load := e.command("import", "-", dockerImage)
	load.Stdin = &image
	if out, err := load.CombinedOutput(); err != nil {
		b.Fatalf("importing an image: %v\n%s", err, out)
	}
	return e
}

func (e *engine) command(args ...string) *exec.Cmd {
	return exec.Command("docker", append([]string{"--host", e.host}, args...)...)
}

// bare is what the figure is compared with: the same command in a container of
// the same image, by Docker's own command.
func (e *engine) bare(b *testing.B) time.Duration {
	b.Helper()
	began := time.Now()
	if out, err := e.command("run", "--rm", dockerImage, "sh", "-c", ":").CombinedOutput(); err != nil {
		b.Fatalf("docker run: %v\n%s", err, out)
	}
	return time.Since(began)
}

// config makes a runner use the engine.
func (e *engine) config(b *testing.B, p *place, url string, concurrent int) string {
	b.Helper()
	path := filepath.Join(p.dir, "config.toml")
	text := fmt.Sprintf("concurrent = %d\ncheck_interval = 3\nshutdown_timeout = 5\n\n[[runners]]\n  name = \"box\"\n  url = %q\n  token = \"glrt-bench00000000\"\n  executor = \"docker\"\n"+
		"  [runners.docker]\n    host = %q\n    image = %q\n    pull_policy = \"never\"\n", concurrent, url, e.host, dockerImage)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

// left fails the benchmark when its jobs left containers behind.
func (e *engine) left(b *testing.B) {
	b.Helper()
	out, err := e.command("ps", "--all", "--quiet", "--filter", "label=com.gitlab.gitlab-runner.managed=true").Output()
	if err != nil || strings.TrimSpace(string(out)) != "" {
		b.Errorf("containers are left behind: %v\n%s", err, out)
	}
}

// BenchmarkDocker is a job that does nothing, in a container, from the 201 that
// hands it out to its accepted final update, against one bare docker run of
// what it runs. They take turns.
func BenchmarkDocker(b *testing.B) {
	e := newEngine(b)
	c, p := newCoordinator(b, time.Minute), newPlace(b)
	r := p.start(b, e.config(b, p, c.url, 1))
	for range 2 { // pools and caches fill
		e.bare(b)
		c.finished(b, c.enqueue(b, 1, noop()))
	}
	var took, base, ratios []float64
	var own time.Duration
	for b.Loop() {
		run := ms([]time.Duration{e.bare(b)})
		before := r.cpu()
		job := ms(c.finished(b, c.enqueue(b, 1, noop())))
		own += r.cpu() - before
		took, base = append(took, job...), append(base, run...)
		ratios = append(ratios, job[0]/run[0])
	}
	b.ReportMetric(median(took), "ms/job")
	b.ReportMetric(median(base), "docker-run-ms")
	b.ReportMetric(median(ratios), "x-docker-run")
	b.ReportMetric(float64(own.Microseconds())/1000/float64(len(took)), "own-cpu-ms/job")
	b.ReportMetric(0, "ns/op") // of a job and a docker run: says nothing
	e.left(b)
}
