package docker_test

import (
	"io"
	"math"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

func usage(t *testing.T, p *opened) job.Usage {
	t.Helper()
	u, err := p.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// kernel reads the figures of the control groups that a container's shell
// says it is in.
func kernel(t *testing.T, out string) (cpu time.Duration) {
	t.Helper()
	m := regexp.MustCompile(`(?m)^group (\d+)$`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("the script did not tell its group's figures: %q", out)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(n)
}

// TestUsageKnownLoad runs steps, each with a container's life of its own, that
// take a known amount of processor time and memory.
func TestUsageKnownLoad(t *testing.T) {
	engine(t)
	p := open(t, options(t), request(t))
	before := usage(t, p)
	var want time.Duration
	for range 3 {
		// The step's own container tells what its group counted, at the end.
		out, err := p.run(t, executor.Build, `i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done
if [ -r /sys/fs/cgroup/cpuacct/cpuacct.usage ]; then echo group $(cat /sys/fs/cgroup/cpuacct/cpuacct.usage)
else echo group $(grep usage_usec /sys/fs/cgroup/cpu.stat | cut -d' ' -f2)000; fi`)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		want += kernel(t, out)
	}
	after := usage(t, p)
	a, _ := before.CPU.Seconds()
	b, known := after.CPU.Seconds()
	// The helper's container does next to nothing meanwhile.
	if got := b - a; !known || math.Abs(got-want.Seconds()) > 0.05*want.Seconds() {
		t.Errorf("three steps used %.3f s (known: %v), the kernel says %.3f s", got, known, want.Seconds())
	}
	if out, err := p.run(t, executor.Build, "head -c 200000000 /dev/zero | tail -n 1 | wc -c"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if peak, known := usage(t, p).MemoryPeak.Value(); !known || peak < 200_000_000 || peak > 420_000_000 {
		t.Errorf("the peak of memory is %d (known: %v)", peak, known)
	}
	if kills, known := usage(t, p).OOMKills.Value(); kills != 0 || !known {
		t.Errorf("%d OOM kills (known: %v)", kills, known)
	}
}

// TestUsageThrottled gives a job a twentieth of a processor.
func TestUsageThrottled(t *testing.T) {
	engine(t)
	o := options(t)
	o.Config.CPUs = "0.05"
	p := open(t, o, request(t))
	if out, err := p.run(t, executor.Build, "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if s, known := usage(t, p).Throttled.Seconds(); !known || s <= 0 {
		t.Errorf("throttled for %v s (known: %v)", s, known)
	}
}

// TestUsageOOM has memory run out in a step and in a service.
func TestUsageOOM(t *testing.T) {
	engine(t)
	const eat = "head -c 200000000 /dev/zero | tail -n 1 >/dev/null"
	t.Run("job", func(t *testing.T) {
		o := options(t)
		o.Config.Memory = "48m"
		p := open(t, o, request(t))
		if out, err := p.run(t, executor.Build, eat); err == nil {
			t.Errorf("nothing was killed: %s", out)
		}
		// A step after it begins a new life.
		if out, err := p.run(t, executor.Build, "echo fine"); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		u := usage(t, p)
		if n, known := u.OOMKills.Value(); n < 1 || !known {
			t.Errorf("%d OOM kills (known: %v)", n, known)
		}
		if n, _ := u.ServiceOOMKills.Value(); n != 0 {
			t.Errorf("%d OOM kills of services", n)
		}
		if want := []string{"build container"}; !slices.Equal(u.OOMKilled, want) {
			t.Errorf("killed in %q, want %q", u.OOMKilled, want)
		}
	})
	t.Run("service", func(t *testing.T) {
		o := options(t)
		o.Config.ServiceMemory = "48m"
		o.Config.WaitForServicesTimeout = -1
		r := request(t)
		r.Spec.Services = []job.Image{{Name: boxImage, Command: []string{"sh", "-c", "sleep 1; " + eat + "; sleep 60"}}}
		p := open(t, o, r)
		deadline := time.Now().Add(20 * time.Second)
		for {
			u := usage(t, p)
			if n, known := u.ServiceOOMKills.Value(); n > 0 {
				if kills, _ := u.OOMKills.Value(); kills != 0 || !slices.Equal(u.OOMKilled, []string{"service " + boxImage}) {
					t.Errorf("%d OOM kills of the job, killed in %q", kills, u.OOMKilled)
				}
				return
			} else if time.Now().After(deadline) {
				t.Fatalf("no OOM kill of the service (known: %v)", known)
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
}

// TestUsageFromAfar asks an engine that is not on this machine, as far as the
// driver can know: it has the address of a proxy.
func TestUsageFromAfar(t *testing.T) {
	engine(t)
	o := options(t)
	o.Config.Host = proxy(t, host(t))
	o.Config.Memory = "48m"
	r := request(t)
	r.Spec.Services = []job.Image{{Name: boxImage, Command: []string{"sh", "-c", "while :; do :; done"}}}
	o.Config.WaitForServicesTimeout = -1
	p := open(t, o, r)
	first := usage(t, p)
	if n, known := first.CPU.Value(); n == 0 || !known {
		t.Errorf("the engine tells %d ns of processor time (known: %v)", n, known)
	}
	if out, err := p.run(t, executor.Build, "head -c 200000000 /dev/zero | tail -n 1 >/dev/null"); err == nil {
		t.Errorf("nothing was killed: %s", out)
	}
	u := usage(t, p)
	if n, known := u.OOMKills.Value(); n != 1 || !known || !slices.Equal(u.OOMKilled, []string{"build container"}) {
		t.Errorf("%d OOM kills (known: %v) in %q", n, known, u.OOMKilled)
	}
	a, _ := first.CPU.Value()
	if b, _ := u.CPU.Value(); b <= a {
		t.Errorf("a busy service used %d ns, and before %d ns", b, a)
	}
}

// proxy makes an engine reachable by TCP, and ends with the test.
func proxy(t *testing.T, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	forward := func(c net.Conn) {
		defer func() { _ = c.Close() }()
		up, err := net.Dial("unix", strings.TrimPrefix(host, "unix://"))
		if err != nil {
			return
		}
		defer func() { _ = up.Close() }()
		wg.Go(func() {
			_, _ = io.Copy(up, c)
			_ = up.(*net.UnixConn).CloseWrite()
		})
		_, _ = io.Copy(c, up)
	}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { forward(c) })
		}
	})
	return "tcp://" + l.Addr().String()
}
