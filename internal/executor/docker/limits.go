package docker

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/image"
)

// host is the part of a container's configuration that says what it may do
// with the engine's machine. kind is "build" or "predefined"; name is the image as
// the configuration's patterns see it.
func (p *place) host(kind, name string) (*container.HostConfig, error) {
	c := p.c
	h := &container.HostConfig{
		CapAdd: c.CapAdd, CapDrop: c.CapDrop, DNSSearch: c.DNSSearch, ExtraHosts: slices.Clone(c.ExtraHosts),
		GroupAdd: c.GroupAdd, IpcMode: container.IpcMode(c.IPCMode), Links: c.Links, OomScoreAdj: c.OOMScoreAdjust,
		Privileged: c.Privileged && privileged(c.AllowedPrivilegedImages, name),
		Tmpfs:      c.Tmpfs, Sysctls: c.SysCtls, Isolation: container.Isolation(c.Isolation),
	}
	if kind == "build" {
		h.PidMode = container.PidMode(c.PIDMode)
	}
	r := &reader{}
	r.common(c, h)
	h.SecurityOpt = r.security("security_opt", c.SecurityOpt)
	h.Resources = container.Resources{
		CPUShares: int64(c.CPUShares), Memory: r.size("memory", c.Memory), NanoCPUs: r.cpus("cpus", c.CPUs),
		CgroupParent: c.CgroupParent, CpusetCpus: c.CPUSetCPUs, CpusetMems: c.CPUSetMems,
		Devices: r.devices("devices", c.Devices), DeviceCgroupRules: c.DeviceCgroupRules, DeviceRequests: r.gpus("gpus", c.GPUs),
		MemoryReservation: r.size("memory_reservation", c.MemoryReservation), MemorySwap: r.size("memory_swap", c.MemorySwap),
		Ulimits: r.ulimits(c.Ulimit),
	}
	if c.OOMKillDisable {
		h.OomKillDisable = &c.OOMKillDisable
	}
	return h, r.err
}

// serviceHost is the same for a service.
func (p *place) serviceHost(name string) (*container.HostConfig, error) {
	c := p.c
	all := c.Privileged
	if c.ServicesPrivileged != nil {
		all = *c.ServicesPrivileged
	}
	h := &container.HostConfig{
		CapAdd: c.CapAdd, CapDrop: c.CapDrop, DNSSearch: c.DNSSearch, ExtraHosts: slices.Clone(c.ExtraHosts),
		Privileged: all && privileged(c.AllowedPrivilegedServices, name),
		Tmpfs:      c.ServicesTmpfs, Isolation: container.Isolation(c.Isolation),
	}
	r := &reader{}
	r.common(c, h)
	h.SecurityOpt = r.security("services_security_opt", c.ServicesSecurityOpt)
	h.Resources = container.Resources{
		CPUShares: int64(c.ServiceCPUShares), Memory: r.size("service_memory", c.ServiceMemory), NanoCPUs: r.cpus("service_cpus", c.ServiceCPUs),
		CgroupParent: c.ServiceCgroupParent, CpusetCpus: c.ServiceCPUSetCPUs, DeviceRequests: r.gpus("service_gpus", c.ServiceGPUs),
		MemoryReservation: r.size("service_memory_reservation", c.ServiceMemoryReservation),
		MemorySwap:        r.size("service_memory_swap", c.ServiceMemorySwap), Ulimits: r.ulimits(c.Ulimit),
	}
	for _, pattern := range slices.Sorted(maps.Keys(c.ServicesDevices)) {
		if image.Match(pattern, name) {
			h.Devices = append(h.Devices, r.devices("services_devices", c.ServicesDevices[pattern])...)
		}
	}
	return h, r.err
}

// privileged says whether an image may be; no pattern means that all may.
func privileged(patterns []string, name string) bool {
	return len(patterns) == 0 || image.MatchAny(patterns, name)
}

// reader reads settings that are texts, up to the first that is wrong.
type reader struct{ err error }

func (r *reader) fail(key, format string, args ...any) {
	if r.err == nil {
		r.err = executor.Misconfigured("%s in [runners.docker]: %w", key, fmt.Errorf(format, args...))
	}
}

// common is what all containers get.
func (r *reader) common(c *config.Docker, h *container.HostConfig) {
	h.Runtime = c.Runtime
	h.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyDisabled}
	h.UsernsMode = container.UsernsMode(c.UsernsMode)
	h.ShmSize = int64(c.SHMSize)
	h.VolumeDriver = c.VolumeDriver
	h.VolumesFrom = c.VolumesFrom
	h.LogConfig = container.LogConfig{Type: "json-file", Config: map[string]string{}}
	for k, v := range c.LogOptions {
		if k != "env" && k != "labels" {
			r.fail("log_options", "only env and labels are allowed, found %q", k)
		}
		h.LogConfig.Config[k] = v
	}
	for _, text := range c.DNS {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			r.fail("dns", "%w", err)
		}
		h.DNS = append(h.DNS, addr)
	}
}

// size reads bytes: "512m", "2g", "1073741824", "-1" where no limit is one.
func (r *reader) size(key, text string) int64 {
	if text == "" {
		return 0
	}
	if text == "-1" {
		return -1
	}
	n, err := units.RAMInBytes(text)
	if err != nil {
		r.fail(key, "want a size such as 512m, found %q", text)
	}
	return n
}

// cpus reads a number of processors such as "1.5" as billionths.
func (r *reader) cpus(key, text string) int64 {
	if text == "" {
		return 0
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f < 0 || f > 1e6 || math.IsNaN(f) {
		r.fail(key, "want a number such as 1.5, found %q", text)
		return 0
	}
	return int64(math.Round(f * 1e9))
}

// devices reads "HOST[:CONTAINER[:PERMISSIONS]]".
func (r *reader) devices(key string, list []string) []container.DeviceMapping {
	out := make([]container.DeviceMapping, 0, len(list))
	for _, text := range list {
		parts := strings.Split(text, ":")
		if len(parts) > 3 || parts[0] == "" {
			r.fail(key, "want HOST[:CONTAINER[:PERMISSIONS]], found %q", text)
			return nil
		}
		parts = append(parts, "", "")
		out = append(out, container.DeviceMapping{
			PathOnHost: parts[0], PathInContainer: cmp.Or(parts[1], parts[0]), CgroupPermissions: cmp.Or(parts[2], "rwm"),
		})
	}
	return out
}

// ulimits reads "SOFT[:HARD]" by name.
func (r *reader) ulimits(limits map[string]string) []*container.Ulimit {
	var out []*container.Ulimit
	for _, name := range slices.Sorted(maps.Keys(limits)) {
		u, err := units.ParseUlimit(name + "=" + limits[name])
		if err != nil {
			r.fail("ulimit", "%s = %q: %w", name, limits[name], err)
			return nil
		}
		out = append(out, u)
	}
	return out
}

// security reads the options of the kernel's security modules. A seccomp
// profile is a file of the runner's machine, the engine wants its content.
func (r *reader) security(key string, list []string) []string {
	out := make([]string, 0, len(list))
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			name, value, ok = strings.Cut(text, ":")
		}
		switch {
		case !ok && text != "no-new-privileges":
			r.fail(key, "want NAME=VALUE, found %q", text)
		case ok && name == "seccomp" && value != "unconfined" && value != "builtin":
			profile, err := os.ReadFile(value)
			if err != nil {
				r.fail(key, "seccomp profile: %w", err)
			}
			text = "seccomp=" + string(profile)
		}
		out = append(out, text)
	}
	return out
}

// gpus reads what docker run --gpus takes: "all", a number, or a list such as
// `"device=0,1",capabilities=utility`.
func (r *reader) gpus(key, text string) []container.DeviceRequest {
	if text == "" {
		return nil
	}
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		r.fail(key, "%q: %w", text, err)
		return nil
	}
	req := container.DeviceRequest{Capabilities: [][]string{{"gpu"}}}
	number := func(s string) {
		if s == "all" {
			req.Count = -1
			return
		}
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			r.fail(key, "want a number of GPUs or all, found %q", s)
		}
		req.Count = n
	}
	counted := false
	for i, f := range fields {
		name, value, ok := strings.Cut(f, "=")
		switch {
		case !ok && i == 0 && name != "driver":
			number(name)
			counted = true
		case !ok:
			r.fail(key, "want NAME=VALUE, found %q", f)
		case name == "driver":
			req.Driver = value
		case name == "count":
			number(value)
			counted = true
		case name == "device":
			req.DeviceIDs = strings.Split(value, ",")
			counted = true
		case name == "capabilities":
			req.Capabilities = [][]string{append(strings.Split(value, ","), "gpu")}
		case name == "options":
			req.Options = map[string]string{}
			options, err := csv.NewReader(strings.NewReader(value)).Read()
			if err != nil {
				r.fail(key, "%q: %w", text, err)
			}
			for _, o := range options {
				k, v, _ := strings.Cut(o, "=")
				req.Options[k] = v
			}
		default:
			r.fail(key, "there is no %q", name)
		}
	}
	if !counted {
		req.Count = 1
	}
	return []container.DeviceRequest{req}
}
