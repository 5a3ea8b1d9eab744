package docker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

// TestTLSEngine reaches the engine over TCP with certificates for both sides.
func TestTLSEngine(t *testing.T) {
	c := engine(t)
	addr, certs := os.Getenv("GLASSRUNNER_TEST_DOCKER_TLS"), os.Getenv("GLASSRUNNER_TEST_DOCKER_CERTS")
	if addr == "" || certs == "" {
		if os.Getenv("GLASSRUNNER_NEED_DOCKER") != "" {
			t.Fatal("GLASSRUNNER_TEST_DOCKER_TLS or GLASSRUNNER_TEST_DOCKER_CERTS is not set")
		}
		t.Skip("the engine does not listen with TLS: GLASSRUNNER_TEST_DOCKER_TLS or GLASSRUNNER_TEST_DOCKER_CERTS is not set")
	}
	// some is a directory with copies of some of the files.
	some := func(files map[string]string) string {
		dir := t.TempDir()
		for from, to := range files {
			text, err := os.ReadFile(filepath.Join(certs, from))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, to), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	for _, tt := range []struct {
		name, dir string
		verify    bool
		fails     string // "": it works
	}{
		{"both sides", certs, true, ""},
		{"engine not verified", certs, false, ""},
		{"no certificate of ours", some(map[string]string{"ca.pem": "ca.pem"}), true, "tls"},
		{"other authority", some(map[string]string{"cert.pem": "ca.pem", "key.pem": "key.pem"}), true, "certificate"},
		{"no TLS", "", false, "does not answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, r := options(t), request(t)
			o.Config.Host, o.Config.TLSCertPath, o.Config.TLSVerify = addr, tt.dir, tt.verify
			p, err := tryOpen(t, o, r)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("got %v, want an error with %q", err, tt.fails)
				}
				if !strings.Contains(p.log.String(), "certificates are in `tls_cert_path`") {
					t.Errorf("the log has no remedy: %q", p.log)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			p.want(t, executor.Helper, "echo helper >/builds/f", "")
			p.want(t, executor.Build, "cat /builds/f", "helper\n")
			// What a crash leaves is found over the same connection.
			var claims []executor.Claim
			r = request(t)
			r.Claim = func(c executor.Claim) error {
				claims = append(claims, c)
				return nil
			}
			env, err := newDriver(t, o).Open(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			n, err := newDriver(t, o).Reap(t.Context(), claims[0])
			if err != nil || n != 2 {
				t.Errorf("Reap: got %d, %v, want 2 containers", n, err)
			}
			if left := leftovers(t, c, r.Spec.ID); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if err := env.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPrivileged: mounting takes rights that ordinary containers have not.
func TestPrivileged(t *testing.T) {
	engine(t)
	const mounts = "mkdir -p /tmp/m && mount -t tmpfs none /tmp/m 2>/dev/null && echo mounted || echo refused"
	for _, tt := range []struct {
		name       string
		privileged bool
		allowed    []string
		want       string
	}{
		{"off", false, nil, "refused\n"},
		{"on", true, nil, "mounted\n"},
		{"allowed", true, []string{"other/*", "glassrunner-test/*"}, "mounted\n"},
		{"not allowed", true, []string{"other/*"}, "refused\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o, r := options(t), request(t)
			o.Config.Privileged, o.Config.AllowedPrivilegedImages = tt.privileged, tt.allowed
			p := open(t, o, r)
			p.want(t, executor.Build, mounts, tt.want)
		})
	}
}

// TestOutOfMemory: the job's log says what the exit code does not.
func TestOutOfMemory(t *testing.T) {
	engine(t)
	o, r := options(t), request(t)
	o.Config.Memory, o.Config.MemorySwap = "16m", "16m"
	p := open(t, o, r)
	// sort keeps a line that has no end.
	_, err := p.run(t, executor.Build, "exec sort </dev/zero")
	var exit *executor.ExitError
	if !errors.As(err, &exit) || exit.Code != 137 {
		t.Errorf("got %v, want exit code 137", err)
	}
	if !strings.Contains(p.log.String(), `no memory left (memory = "16m" in [runners.docker])`) {
		t.Errorf("the log does not say why:\n%s", p.log)
	}
}

// TestEntrypoints: an entrypoint of the image or of the job runs the shell, and
// an empty one is none.
func TestEntrypoints(t *testing.T) {
	engine(t)
	for _, tt := range []struct {
		name string
		own  []string
		off  bool // disable_entrypoint_overwrite
		want string
	}{
		{"of the image", nil, false, "entrypoint: sh\nyes\n"},
		{"of the job", []string{"/bin/env", "FROM_ENTRYPOINT=job"}, false, "job\n"},
		{"empty", []string{""}, false, "none\n"},
		{"not allowed", []string{""}, true, "entrypoint: sh\nyes\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o, r := options(t), request(t)
			o.Config.DisableEntrypointOverwrite = tt.off
			r.Spec.Image = job.Image{Name: boxEntry, Entrypoint: tt.own}
			p := open(t, o, r)
			// Each script has a shell of its own, whether or not it waited.
			for range 2 {
				p.want(t, executor.Build, `echo "${FROM_ENTRYPOINT:-none}"`, tt.want)
			}
			if warned := strings.Contains(p.log.String(), "Entrypoint override disabled"); warned != tt.off {
				t.Errorf("warned: %v, want %v", warned, tt.off)
			}
		})
	}
}

// inspect returns the containers of a job by the type label.
func inspect(t *testing.T, c *client.Client, id job.ID) map[string]container.InspectResponse {
	t.Helper()
	f := client.Filters{}.Add("label", fmt.Sprintf("com.gitlab.gitlab-runner.job.id=%d", id))
	list, err := c.ContainerList(t.Context(), client.ContainerListOptions{All: true, Filters: f})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]container.InspectResponse{}
	for _, x := range list.Items {
		info, err := c.ContainerInspect(t.Context(), x.ID, client.ContainerInspectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		out[x.Labels["com.gitlab.gitlab-runner.type"]] = info.Container
	}
	return out
}

// TestServiceSettings: services have limits of their own, and the build's are
// not theirs.
func TestServiceSettings(t *testing.T) {
	c := engine(t)
	o, r := options(t), request(t)
	off := false
	o.Config.Privileged, o.Config.ServicesPrivileged = true, &off
	o.Config.Memory, o.Config.ServiceMemory, o.Config.ServiceMemorySwap, o.Config.ServiceMemoryReservation = "256m", "64m", "128m", "32m"
	o.Config.ServiceCPUs, o.Config.ServiceCPUShares, o.Config.ServiceCPUSetCPUs = "0.25", 256, "0"
	o.Config.ServicesTmpfs = map[string]string{"/scratch": "size=1m"}
	o.Config.ServicesSecurityOpt = []string{"no-new-privileges"}
	o.Config.ServicesDevices = map[string][]string{"glassrunner-test/*": {"/dev/null:/dev/mynull:r"}, "other/*": {"/dev/zero:/dev/myzero"}}
	o.Config.SHMSize = 8 << 20
	r.Spec.Services = []job.Image{{Name: boxImage, Command: []string{"sleep", "1000"}, User: "ci"}}
	p := open(t, o, r)
	h := inspect(t, c, r.Spec.ID)["service"]
	if h.HostConfig == nil {
		t.Fatal("there is no service")
	}
	type settings struct {
		Privileged                          bool
		Memory, Swap, Reservation, CPU, SHM int64
		Shares                              int64
		CPUs, User                          string
		Tmpfs                               map[string]string
		Security                            []string
		Devices                             int
	}
	got := settings{
		h.HostConfig.Privileged, h.HostConfig.Memory, h.HostConfig.MemorySwap, h.HostConfig.MemoryReservation, h.HostConfig.NanoCPUs, h.HostConfig.ShmSize,
		h.HostConfig.CPUShares, h.HostConfig.CpusetCpus, h.Config.User, h.HostConfig.Tmpfs, h.HostConfig.SecurityOpt, len(h.HostConfig.Devices),
	}
	want := settings{false, 64 << 20, 128 << 20, 32 << 20, 250_000_000, 8 << 20, 256, "0", "ci", map[string]string{"/scratch": "size=1m"}, []string{"no-new-privileges"}, 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the service (-want +got):\n%s", diff)
	}
	if build := inspect(t, c, r.Spec.ID)["build"]; build.HostConfig.Memory != 256<<20 || !build.HostConfig.Privileged {
		t.Errorf("the build container has %d bytes, privileged %v", build.HostConfig.Memory, build.HostConfig.Privileged)
	}
	p.close(t)
}

// TestNetworks: what containers of a job have for a network.
func TestNetworks(t *testing.T) {
	c := engine(t)
	made, err := c.NetworkCreate(t.Context(), fmt.Sprintf("glassrunner-test-%d", os.Getpid()), client.NetworkCreateOptions{Driver: "bridge"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := c.NetworkRemove(context.Background(), made.ID, client.NetworkRemoveOptions{}); err != nil {
			t.Error(err)
		}
	})
	own := job.Variables{{Key: "FF_NETWORK_PER_BUILD", Value: "true"}}
	t.Run("group", func(t *testing.T) {
		for _, tt := range []struct {
			name   string
			change func(*config.Docker)
			vars   job.Variables
			body   string
			want   string
		}{
			{"none", func(c *config.Docker) { c.NetworkMode = "none" }, nil, "ls /sys/class/net", "lo\n"},
			{"configured wins", func(c *config.Docker) { c.NetworkMode = "none" }, own, `ls /sys/class/net; echo "${CI_BUILD_NETWORK_NAME:-no}"`, "lo\nno\n"},
			{"by name", func(c *config.Docker) { c.NetworkMode = made.ID }, nil, "ls /sys/class/net; wget -q -O- http://web:8000/", "eth0\nlo\nI serve\n"},
			{"MTU", func(c *config.Docker) { c.NetworkMTU = 1400 }, own, "cat /sys/class/net/eth0/mtu; wget -q -O- http://web:8000/", "1400\nI serve\n"},
			{"IPv6", func(c *config.Docker) { c.EnableIPv6 = true }, own, "ip -6 addr show dev eth0 | grep -c 'fd00:.*scope global'; wget -q -O- http://web:8000/", "1\nI serve\n"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				o, r := options(t), request(t)
				tt.change(&o.Config)
				if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil && o.Config.EnableIPv6 {
					t.Skipf("this machine has no IPv6: %v", err)
				}
				r.Variables = tt.vars
				if strings.Contains(tt.body, "web:") {
					r.Spec.Services = []job.Image{{
						Name: boxImage, Aliases: []string{"web"}, Variables: job.Variables{{Key: "HEALTHCHECK_TCP_PORT", Value: "8000"}},
						Command: []string{"sh", "-c", "mkdir -p /www && echo I serve >/www/index.html && exec httpd -f -p 8000 -h /www"},
					}}
				}
				p := open(t, o, r)
				p.want(t, executor.Build, tt.body, tt.want)
				p.close(t)
				if left := leftovers(t, c, r.Spec.ID); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			})
		}
	})
}

// TestVolumesOfImages: volumes that an image declares go with the containers,
// unless volume_keep says otherwise.
func TestVolumesOfImages(t *testing.T) {
	c := engine(t)
	for _, keep := range []bool{false, true} {
		o, r := options(t), request(t)
		o.Config.VolumeKeep = keep
		r.Spec.Image.Name = boxVolume
		p := open(t, o, r)
		p.want(t, executor.Build, "echo x >/data/f", "")
		name := ""
		for _, m := range inspect(t, c, r.Spec.ID)["build"].Mounts {
			if m.Destination == "/data" {
				name = m.Name
			}
		}
		if name == "" {
			t.Fatal("the image's volume is not mounted")
		}
		p.close(t)
		_, err := c.VolumeInspect(t.Context(), name, client.VolumeInspectOptions{})
		if kept := err == nil; kept != keep {
			t.Errorf("volume_keep = %v: the volume is there: %v (%v)", keep, kept, err)
		}
		if warned := strings.Contains(p.log.String(), "volume_keep is set"); warned != keep {
			t.Errorf("volume_keep = %v: warned: %v", keep, warned)
		}
		if keep {
			if _, err := c.VolumeRemove(t.Context(), name, client.VolumeRemoveOptions{}); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestSharedMemory: helpers that see one /dev/shm do not mix up their scripts.
func TestSharedMemory(t *testing.T) {
	engine(t)
	o := options(t)
	o.Config.IPCMode = "host"
	t.Run("group", func(t *testing.T) {
		for n := range 3 {
			t.Run(strconv.Itoa(n), func(t *testing.T) {
				t.Parallel()
				p := open(t, o, request(t))
				for i := range 10 {
					p.want(t, executor.Helper, fmt.Sprintf("echo job %d script %d", n, i), fmt.Sprintf("job %d script %d\n", n, i))
				}
				p.close(t)
			})
		}
	})
	if left, err := filepath.Glob("/dev/shm/.glassrunner-*"); err != nil || len(left) > 0 {
		t.Errorf("left in the machine's /dev/shm: %v, %v", left, err)
	}
}
