package metrics

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/job"
)

// usage is what jobs have used of their machines, and how long their results
// were on the way.
type usage struct {
	cpu, memory, throttled, read, written, delivery histogramVec
	oom                                             counterVec
}

// usageRunner holds the children of one runner. Histograms are made when they
// are used first: an executor need not know everything, and they are long.
type usageRunner struct {
	labels
	histograms         map[*family]prometheus.Observer
	oomJob, oomService prometheus.Counter
}

func newUsage(c *catalogue) usage {
	const unknown = "A series exists from its first observation on. Jobs of which the executor cannot tell it are not observed; docs/job-resources.md says which."
	bytes := []float64{1 << 20, 16 << 20, 128 << 20, 1 << 30, 4 << 30, 16 << 30, 64 << 30}
	return usage{
		cpu: c.histogram(def{
			name: "glassrunner_job_cpu_seconds", help: "Processor time that a job's processes used, user and system, services included.", labels: runnerLabels(),
			buckets: []float64{0.1, 1, 10, 60, 300, 1800, 7200}, note: unknown,
		}),
		memory: c.histogram(def{
			name: "glassrunner_job_memory_peak_bytes", help: "Most memory that a job used at a time.", labels: runnerLabels(),
			buckets: bytes, note: unknown + " With control groups it has the file cache, as the kernel counts it.",
		}),
		throttled: c.histogram(def{
			name: "glassrunner_job_cpu_throttled_seconds", help: "Time that a limit of processor time kept a job's processes waiting.", labels: runnerLabels(),
			buckets: []float64{0.1, 1, 10, 60, 600}, note: unknown,
		}),
		read: c.histogram(def{
			name: "glassrunner_job_io_read_bytes", help: "Bytes that a job read from block devices.", labels: runnerLabels(), buckets: bytes, note: unknown + " What came from the file cache is not read.",
		}),
		written: c.histogram(def{
			name: "glassrunner_job_io_written_bytes", help: "Bytes that a job wrote to block devices.", labels: runnerLabels(), buckets: bytes, note: unknown,
		}),
		oom: c.counter(def{
			name: "glassrunner_job_oom_kills_total", help: "Processes of jobs that the kernel killed because memory ran out.", sets: sets{"container": {"job", "service"}}, labels: runnerLabels("container"),
			values: "container: job, service",
			note:   "Where only the engine can be asked, a container counts once, however often it happened. What an executor cannot see is not counted, see docs/job-resources.md.",
		}),
		delivery: c.histogram(def{
			name: "glassrunner_job_result_delivery_duration_seconds", help: "Time from a job's end until the coordinator acknowledged its final state.", labels: runnerLabels(),
			buckets: []float64{0.5, 2, 10, 60, 600, 3600},
			note:    "The rest of the job's log is sent in it. Results that were given up are in glassrunner_final_updates_lost_total instead.",
		}),
	}
}

func (m *usage) addRunner(l labels) usageRunner {
	return usageRunner{
		labels: l, histograms: make(map[*family]prometheus.Observer),
		oomJob: m.oom.with(l.short, l.name, l.system, "job"), oomService: m.oom.with(l.short, l.name, l.system, "service"),
	}
}

func (m *usage) dropRunner(l prometheus.Labels) {
	for _, v := range []histogramVec{m.cpu, m.memory, m.throttled, m.read, m.written, m.delivery} {
		v.drop(l)
	}
	m.oom.drop(l)
}

// of returns the runner's series of a histogram.
func (r *usageRunner) of(v histogramVec) prometheus.Observer {
	o := r.histograms[v.family]
	if o == nil {
		o = v.with(r.short, r.name, r.system)
		r.histograms[v.family] = o
	}
	return o
}

// observe folds what one job has used.
func (m *usage) observe(r *usageRunner, fact event.Fact) {
	f, ok := fact.(event.JobUsed)
	if !ok {
		return
	}
	seconds := func(v histogramVec, q job.Quantity) {
		if s, known := q.Seconds(); known {
			r.of(v).Observe(s)
		}
	}
	bytes := func(v histogramVec, q job.Quantity) {
		if n, known := q.Value(); known {
			r.of(v).Observe(float64(n))
		}
	}
	seconds(m.cpu, f.Usage.CPU)
	seconds(m.throttled, f.Usage.Throttled)
	bytes(m.memory, f.Usage.MemoryPeak)
	bytes(m.read, f.Usage.Read)
	bytes(m.written, f.Usage.Written)
	kills, _ := f.Usage.OOMKills.Value()
	r.oomJob.Add(float64(kills))
	kills, _ = f.Usage.ServiceOOMKills.Value()
	r.oomService.Add(float64(kills))
}

// removed observes how long a result was on its way.
func (m *usage) removed(r *usageRunner, f event.JobRemoved) {
	if !f.Lost {
		r.of(m.delivery).Observe(max(0, f.Took).Seconds())
	}
}

// machine is what the runner finds on its machine: room, and what was left
// behind.
type machine struct {
	diskFree, diskSize, diskInodes, diskFull, diskBlocked gaugeVec
	diskErrors                                            counterVec
	orphans, oldest                                       gaugeVec
	reaped                                                counterVec
}

func newMachine(c *catalogue) *machine {
	disk, at := []string{"root", "path"}, sets{"root": diskRoots(), "path": nil}
	const roots = "root: builds, cache, state, engine; path: the directory of the machine"
	m := &machine{
		diskFree:    c.gauge(def{name: "glassrunner_disk_free_bytes", help: "Bytes that this process may still use of a file system on which the runner keeps something.", sets: at, labels: disk, values: roots}),
		diskSize:    c.gauge(def{name: "glassrunner_disk_size_bytes", help: "Size of that file system in bytes.", sets: at, labels: disk, values: roots}),
		diskInodes:  c.gauge(def{name: "glassrunner_disk_free_inodes", help: "Files that can still be made there.", sets: at, labels: disk, values: roots, note: "Absent where the file system does not count them."}),
		diskFull:    c.gauge(def{name: "glassrunner_disk_full_seconds", help: "Predicted time until that file system is full at the rate of the last half hour.", sets: at, labels: disk, values: roots, note: "+Inf while it does not fill up, and until there are enough measurements."}),
		diskBlocked: c.gauge(def{name: "glassrunner_disk_blocked", help: "Whether so little is free there that runners which need it take no jobs: 1 or 0.", sets: at, labels: disk, values: roots}),
		diskErrors:  c.counter(def{name: "glassrunner_disk_errors_total", help: "Measurements of a file system that failed.", sets: sets{"root": diskRoots()}, labels: []string{"root"}, values: "root: builds, cache, state, engine"}),
		orphans:     c.gauge(def{name: "glassrunner_orphans", help: "What carries this runner's marks and belongs to no job that lives, when it was last looked for.", sets: sets{"kind": event.OrphanKinds()}, labels: []string{"kind"}, values: "kind: container, volume, network, process, directory"}),
		oldest:      c.gauge(def{name: "glassrunner_orphan_oldest_seconds", help: "Age of the oldest of these at that time.", sets: sets{"kind": event.OrphanKinds()}, labels: []string{"kind"}, values: "kind: as above", note: "0 when there is none."}),
		reaped:      c.counter(def{name: "glassrunner_orphans_reaped_total", help: "Of these, what was ended or removed.", sets: sets{"kind": event.OrphanKinds()}, labels: []string{"kind"}, values: "kind: as above", note: "What a restart settles by its journal is in glassrunner_recovered_jobs_total."}),
	}
	for _, kind := range event.OrphanKinds() {
		m.orphans.with(kind)
		m.oldest.with(kind)
		m.reaped.with(kind)
	}
	for _, root := range diskRoots() {
		m.diskErrors.with(root)
	}
	return m
}

func diskRoots() []string { return []string{"builds", "cache", "state", "engine"} }

func (m *machine) observe(fact event.Fact) {
	switch f := fact.(type) {
	case event.DiskMeasured:
		m.measured(f)
	case event.DiskForgotten:
		l := prometheus.Labels{"root": f.Root, "path": label(f.Path)}
		for _, v := range []gaugeVec{m.diskFree, m.diskSize, m.diskInodes, m.diskFull, m.diskBlocked} {
			v.drop(l)
		}
	case event.OrphansCounted:
		m.orphans.with(f.Kind).Set(float64(f.Count))
		m.oldest.with(f.Kind).Set(max(0, f.Oldest.Seconds()))
		m.reaped.with(f.Kind).Add(float64(max(0, f.Reaped)))
	default:
	}
}

func (m *machine) measured(f event.DiskMeasured) {
	if f.Err != nil {
		m.diskErrors.with(f.Root).Inc()
		return
	}
	path := label(f.Path)
	m.diskFree.with(f.Root, path).Set(float64(f.Free))
	m.diskSize.with(f.Root, path).Set(float64(f.Size))
	if f.FreeInodes >= 0 {
		m.diskInodes.with(f.Root, path).Set(float64(f.FreeInodes))
	}
	full := math.Inf(1)
	if f.Full >= 0 {
		full = f.Full.Seconds()
	}
	m.diskFull.with(f.Root, path).Set(full)
	blocked := 0.0
	if f.Blocked {
		blocked = 1
	}
	m.diskBlocked.with(f.Root, path).Set(blocked)
}
