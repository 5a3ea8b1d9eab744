package metrics

import (
	"bytes"
	"os"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

// process collects the process_* metrics of the client library's collector,
// by their names. That one reads and parses six files of /proc at each scrape
// and lists a directory, which takes longer than all the rest of a scrape;
// this one reads two files.
type process struct {
	cpu, open, maxOpen, virtual, maxVirtual, resident, started, received, sent *prometheus.Desc
	page                                                                       float64
	startTime                                                                  float64 // 0: not known
}

// ticks is the unit of times in /proc on every architecture that Go runs on.
const ticks = 100

func newProcessCollector() prometheus.Collector {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }
	p := &process{
		cpu:        desc("process_cpu_seconds_total", "Total user and system CPU time spent in seconds."),
		open:       desc("process_open_fds", "Number of open file descriptors."),
		maxOpen:    desc("process_max_fds", "Maximum number of open file descriptors."),
		virtual:    desc("process_virtual_memory_bytes", "Virtual memory size in bytes."),
		maxVirtual: desc("process_virtual_memory_max_bytes", "Maximum amount of virtual memory available in bytes."),
		resident:   desc("process_resident_memory_bytes", "Resident memory size in bytes."),
		started:    desc("process_start_time_seconds", "Start time of the process since unix epoch in seconds."),
		received:   desc("process_network_receive_bytes_total", "Number of bytes received by the process over the network."),
		sent:       desc("process_network_transmit_bytes_total", "Number of bytes sent by the process over the network."),
		page:       float64(os.Getpagesize()),
	}
	var buf [4096]byte
	if stat, ok := readStat(buf[:]); ok {
		if boot := bootTime(); boot > 0 {
			p.startTime = boot + stat.start
		}
	}
	return p
}

// Describe sends what Collect collects.
func (p *process) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{p.cpu, p.open, p.maxOpen, p.virtual, p.maxVirtual, p.resident, p.started, p.received, p.sent} {
		ch <- d
	}
}

// Collect sends what can be had; what cannot is left out.
func (p *process) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, t prometheus.ValueType, v float64) {
		if m, err := prometheus.NewConstMetric(d, t, v); err == nil {
			ch <- m
		}
	}
	var buf [8192]byte
	if s, ok := readStat(buf[:]); ok {
		send(p.cpu, prometheus.CounterValue, s.cpu)
		send(p.virtual, prometheus.GaugeValue, s.virtual)
		send(p.resident, prometheus.GaugeValue, s.resident*p.page)
	}
	if p.startTime > 0 {
		send(p.started, prometheus.GaugeValue, p.startTime)
	}
	if n, ok := openFiles(); ok {
		send(p.open, prometheus.GaugeValue, float64(n))
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		send(p.maxOpen, prometheus.GaugeValue, float64(limit.Cur))
	}
	if unix.Getrlimit(unix.RLIMIT_AS, &limit) == nil {
		send(p.maxVirtual, prometheus.GaugeValue, float64(limit.Cur))
	}
	if in, out, ok := octets(buf[:]); ok {
		send(p.received, prometheus.CounterValue, in)
		send(p.sent, prometheus.CounterValue, out)
	}
}

// readFile reads what fits into buf with plain system calls: a file of /proc
// needs no poller, and no Stat to know its size.
func readFile(path string, buf []byte) ([]byte, bool) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, false
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	n := 0
	for n < len(buf) {
		m, err := unix.Read(fd, buf[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, false
		}
		if m == 0 {
			break
		}
		n += m
	}
	return buf[:n], true
}

// stat is what proc_pid_stat(5) tells of this process.
type stat struct{ cpu, start, virtual, resident float64 }

func readStat(buf []byte) (stat, bool) {
	data, ok := readFile("/proc/self/stat", buf)
	if !ok {
		return stat{}, false
	}
	// The second field is a name in parentheses that may hold anything.
	_, rest, found := cutLast(data, ')')
	f := bytes.Fields(rest)
	if !found || len(f) < 22 {
		return stat{}, false
	}
	// f[0] is field 3, the state.
	user, system := number(f[14-3]), number(f[15-3])
	return stat{
		cpu: (user + system) / ticks, start: number(f[22-3]) / ticks,
		virtual: number(f[23-3]), resident: number(f[24-3]),
	}, true
}

func cutLast(b []byte, sep byte) (before, after []byte, found bool) {
	i := bytes.LastIndexByte(b, sep)
	if i < 0 {
		return b, nil, false
	}
	return b[:i], b[i+1:], true
}

func number(b []byte) float64 {
	v, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil {
		return 0
	}
	return float64(v)
}

// bootTime returns when the machine started, in seconds since 1970, or 0.
func bootTime() float64 {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	_, rest, found := bytes.Cut(data, []byte("\nbtime "))
	if !found {
		return 0
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	return number(line)
}

// openFiles counts this process's file descriptors. Linux 6.2 and later have
// the number as the size of the directory.
func openFiles() (int64, bool) {
	var s unix.Stat_t
	if unix.Stat("/proc/self/fd", &s) == nil && s.Size > 0 {
		return s.Size, true
	}
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0, false
	}
	return int64(len(names) - 1), true // without the one that reads it
}

// octets returns the bytes that the network name space of this process
// received and sent over IP.
func octets(buf []byte) (in, out float64, ok bool) {
	data, ok := readFile("/proc/self/net/netstat", buf)
	if !ok {
		return 0, 0, false
	}
	_, rest, found := bytes.Cut(data, []byte("\nIpExt: "))
	names, values, both := bytes.Cut(rest, []byte("\nIpExt: "))
	if !found || !both {
		return 0, 0, false
	}
	values, _, _ = bytes.Cut(values, []byte("\n"))
	for len(names) > 0 && len(values) > 0 {
		var name, value []byte
		name, names, _ = bytes.Cut(names, []byte(" "))
		value, values, _ = bytes.Cut(values, []byte(" "))
		switch string(name) {
		case "InOctets":
			in = number(value)
		case "OutOctets":
			out = number(value)
		}
	}
	return in, out, true
}
