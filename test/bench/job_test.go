package bench_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// noop is a job whose script does nothing; the server adds GIT_STRATEGY=none.
func noop() fakegitlab.Job { return fakegitlab.Job{Script: []string{":"}} }

// BenchmarkNoop is a job that does nothing, from the 201 that hands it out to
// its accepted final update, and beside it the floor: see floor. An operation
// is a batch of jobs through the one and as many through the other, in turns,
// so that a machine whose speed drifts does not favour either.
func BenchmarkNoop(b *testing.B) {
	for _, concurrency := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("concurrency=%d", concurrency), func(b *testing.B) {
			c, p := newCoordinator(b, time.Minute), newPlace(b)
			f := &floor{c: c, p: p, bash: bash(b)}
			f.learn(b)
			r := p.start(b, p.config(b, c.url, concurrency, 1, ""))
			batch := 8 * max(concurrency, 4)
			c.finished(b, c.enqueue(b, batch, noop())) // pools and caches fill
			var took, base, ratios, rates []float64
			var own time.Duration
			jobs := 0
			for b.Loop() {
				before, began := r.cpu(), time.Now()
				mine := c.finished(b, c.enqueue(b, batch, noop()))
				rates = append(rates, float64(batch)/time.Since(began).Seconds())
				own += r.cpu() - before
				jobs += batch
				// The floor's requests would be answered in turn with the runner's.
				theirs := f.run(b, concurrency, batch)
				took, base = append(took, ms(mine)...), append(base, ms(theirs)...)
				ratios = append(ratios, median(ms(mine))/median(ms(theirs)))
			}
			b.ReportMetric(median(took), "ms/job")
			b.ReportMetric(median(base), "floor-ms/job")
			b.ReportMetric(median(ratios), "x-floor")
			b.ReportMetric(float64(own.Microseconds())/1000/float64(jobs), "own-cpu-ms/job")
			b.ReportMetric(median(rates), "jobs/s")
			b.ReportMetric(f.rate(), "floor-jobs/s")
			b.ReportMetric(0, "ns/op") // of two batches: says nothing
		})
	}
}

// floor is what no runner can do without: the same calls to the coordinator,
// and one login shell that runs the same script. It journals nothing, masks
// nothing, watches nothing, and is not even a process of its own.
type floor struct {
	c      *coordinator
	p      *place
	bash   string
	script string // a file with what the runner gives to its shell
	rates  []float64
}

func bash(b *testing.B) string {
	b.Helper()
	path, err := exec.LookPath("bash")
	if err != nil {
		b.Skip(err)
	}
	return path
}

// learn has a runner start a job through a bash that keeps what it is told.
func (f *floor) learn(b *testing.B) {
	b.Helper()
	dir := filepath.Join(f.p.dir, "learn")
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	f.script = filepath.Join(dir, "script")
	wrapper := fmt.Sprintf("#!/bin/sh\ncat >'%s'\nexec '%s' \"$@\" <'%[1]s'\n", f.script, f.bash)
	if err := os.WriteFile(filepath.Join(dir, "bash"), []byte(wrapper), 0o700); err != nil {
		b.Fatal(err)
	}
	p := *f.p
	p.env = append([]string{"PATH=" + dir + ":" + os.Getenv("PATH")}, f.p.env[1:]...)
	r := p.command(b, p.config(b, f.c.url, 1, 1, ""))
	r.ready()
	f.c.finished(b, f.c.enqueue(b, 1, noop()))
	r.stop()
	if _, err := os.Stat(f.script); err != nil {
		b.Fatal(err)
	}
}

// run takes batch jobs in as many loops as there may be jobs at once, and
// returns how long each took.
func (f *floor) run(b *testing.B, loops, batch int) []time.Duration {
	b.Helper()
	// A coordinator of its own: the runner waits at the other one.
	own := newCoordinator(b, time.Millisecond)
	own.payload = f.c.payload
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: loops, DisableCompression: true}}
	defer client.CloseIdleConnections()
	tasks := own.enqueue(b, batch, noop())
	for _, t := range tasks {
		t.quiet = true // there is no sum in the floor's updates
	}
	errs := make(chan error, loops)
	began := time.Now()
	var wg sync.WaitGroup
	for range loops {
		wg.Go(func() { errs <- f.loop(b.Context(), client, own.url) })
	}
	wg.Wait()
	f.rates = append(f.rates, float64(batch)/time.Since(began).Seconds())
	for range loops {
		if err := <-errs; err != nil {
			b.Fatal(err)
		}
	}
	return own.finished(b, tasks)
}

func (f *floor) rate() float64 { return median(f.rates) }

// infoOfRunner stands for what a runner tells of itself with each request.
const infoOfRunner = `{"token":"glrt-bench00000000","info":{"name":"floor","version":"1","platform":"linux","architecture":"amd64","executor":"shell","shell":"bash","features":{}},"last_update":""}`

func (f *floor) loop(ctx context.Context, client *http.Client, url string) error {
	for {
		body, status, err := call(ctx, client, http.MethodPost, url+"/api/v4/jobs/request", infoOfRunner, "")
		if err != nil || status == http.StatusNoContent {
			return err
		}
		digits, _, _ := strings.Cut(strings.TrimPrefix(string(body), `{"id":`), ",")
		job := url + "/api/v4/jobs/" + digits
		if _, _, err := call(ctx, client, http.MethodPut, job, `{"token":"t","state":"running"}`, ""); err != nil {
			return err
		}
		out, err := f.shell(ctx)
		if err != nil {
			return err
		}
		if _, _, err := call(ctx, client, http.MethodPatch, job+"/trace", out, "0-"+strconv.Itoa(len(out)-1)); err != nil {
			return err
		}
		if _, _, err := call(ctx, client, http.MethodPut, job, `{"token":"t","state":"success"}`, ""); err != nil {
			return err
		}
	}
}

func (f *floor) shell(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, f.bash, "-l")
	cmd.Dir, cmd.Env = f.p.dir, f.p.env
	// A file: bash reads a pipe byte by byte.
	script, err := os.Open(f.script)
	if err != nil {
		return "", err
	}
	defer func() { _ = script.Close() }() // only read
	cmd.Stdin = script
	// A session of its own, as a job has: the kernel may share out its time by session.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("the script by itself: %w\n%s", err, out)
	}
	return string(out) + "\n", nil
}

func call(ctx context.Context, client *http.Client, method, url, body, span string) ([]byte, int, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	if span != "" {
		req.Header.Set("Content-Range", span)
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s", method, url, res.Status)
	}
	return answer, res.StatusCode, err
}

// A line of strace: the process or thread, then a call, the beginning of one
// that another line interrupts, or the end of such a one.
var traced = regexp.MustCompile(`^(\d+) +(?:(\w+)\((.*)|<\.\.\. (\w+) resumed>(.*))$`)

// BenchmarkProcesses counts what a job starts: processes that the runner
// starts itself, and programs that its login shells start on top of what a
// login shell starts on this machine anyway (/etc/profile may run some).
func BenchmarkProcesses(b *testing.B) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		b.Skip("counting needs strace")
	}
	for name, j := range map[string]fakegitlab.Job{
		"script":       noop(),
		"after_script": {Script: []string{":"}, AfterScript: []string{":"}},
	} {
		b.Run(name, func(b *testing.B) {
			const jobs = 10
			c, p := newCoordinator(b, time.Minute), newPlace(b)
			trace := filepath.Join(p.dir, "trace")
			tracing := []string{strace, "-f", "-qq", "-s", "80", "-e", "trace=execve,clone,clone3,fork,vfork", "-o", trace}
			login := exec.Command(tracing[0], append(tracing[1:], bash(b), "-l", "-c", ":")...)
			login.Env = p.env
			if out, err := login.CombinedOutput(); err != nil {
				b.Skipf("strace may not trace here: %v\n%s", err, out)
			}
			_, profile := count(b, trace)
			profile-- // the shell itself
			run := func(jobs int) (children, programs int) {
				r := p.command(b, p.config(b, c.url, 1, 1, ""), tracing...)
				r.ready()
				c.finished(b, c.enqueue(b, jobs, j))
				r.stopChild()
				if err := <-r.ended; err != nil {
					b.Fatalf("the runner: %v\n%s", err, &r.log)
				}
				return count(b, trace)
			}
			for b.Loop() {
				// What the runner starts once is in both.
				one, oneProgram := run(1)
				all, programs := run(1 + jobs)
				all, programs = all-one, programs-oneProgram
				b.ReportMetric(float64(all)/jobs, "processes/job")
				b.ReportMetric(float64(programs-all-all*profile)/jobs, "other-programs/job")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

// count returns how many processes the first process of a trace started, and
// how many programs began in all.
func count(b *testing.B, path string) (children, programs int) {
	b.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	begun := map[string]string{} // the arguments of calls that have not ended, by thread
	var threads map[string]bool  // of the first process
	for line := range strings.Lines(string(text)) {
		m := traced.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		thread, call, rest := m[1], m[2]+m[4], m[3]+m[5]
		if threads == nil {
			threads = map[string]bool{thread: true}
		}
		rest = begun[thread] + rest
		delete(begun, thread)
		if args, ok := strings.CutSuffix(rest, " <unfinished ...>"); ok {
			begun[thread] = args
			continue
		}
		result := rest[strings.LastIndex(rest, "= ")+len("= "):]
		switch {
		case strings.HasPrefix(result, "-1"):
		case call == "execve":
			programs++
		case !threads[thread]:
		case strings.Contains(rest, "CLONE_THREAD"):
			threads[strings.Fields(result)[0]] = true
		default:
			children++
		}
	}
	return children, programs
}

// stopChild ends the runner below strace.
func (r *runner) stopChild() {
	r.b.Helper()
	pid := strings.TrimSpace(r.proc(fmt.Sprintf("task/%d/children", r.cmd.Process.Pid)))
	for f := range strings.FieldsSeq(pid) {
		n, err := strconv.Atoi(f)
		if err != nil {
			r.b.Fatal(err)
		}
		p, err := os.FindProcess(n)
		if err != nil {
			r.b.Fatal(err)
		}
		if err := p.Signal(os.Interrupt); err != nil {
			r.b.Fatal(err)
		}
	}
}

// ms is durations in milliseconds.
func ms(all []time.Duration) []float64 {
	out := make([]float64, len(all))
	for i, d := range all {
		out[i] = float64(d.Nanoseconds()) / 1e6
	}
	return out
}

// median of values, which stay in their order.
func median(all []float64) float64 { return quantile(all, 0.5) }

func quantile(all []float64, q float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
