package bench_test

import (
	"os"
	"strings"
	"testing"
	"time"
)

func BenchmarkZZProbe(b *testing.B) {
	c, p := newCoordinator(b, time.Minute), newPlace(b)
	r := p.start(b, p.config(b, c.url, 4, 1, ""))
	c.finished(b, c.enqueue(b, 40, noop()))
	show := func() {
		_, body, _ := r.get("/metrics")
		for line := range strings.Lines(string(body)) {
			for _, k := range []string{"go_gc_duration_seconds_count", "go_memstats_alloc_bytes_total ", "go_memstats_mallocs_total ", "process_cpu_seconds_total", "go_memstats_heap_sys", "go_memstats_heap_idle", "go_memstats_heap_inuse", "go_memstats_stack_sys", "go_memstats_sys_bytes", "go_memstats_next_gc", "go_memstats_last_gc","go_threads", "go_goroutines", "process_resident"} {
				if strings.HasPrefix(line, k) {
					b.Log(strings.TrimSpace(line))
				}
			}
		}
	}
	show()
	c.finished(b, c.enqueue(b, 200, noop()))
	show()
	if f := os.Getenv("HEAP"); f != "" {
		_, body, _ := r.get("/debug/pprof/allocs")
		_ = os.WriteFile(f, body, 0o600)
	}
	b.Log(r.memory("VmRSS"), r.memory("RssAnon"), r.memory("RssFile"))
}
