package docker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/client"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/executor/docker"
	"github.com/glassrunner/glassrunner/internal/job"
)

// wantReason checks why opening a place failed.
func wantReason(t *testing.T, err error, reason job.Reason, text string) {
	t.Helper()
	var known *executor.Error
	if !errors.As(err, &known) || known.Reason != reason {
		t.Errorf("got %v, want the reason %s", err, reason)
		return
	}
	if !strings.Contains(err.Error(), text) {
		t.Errorf("got %q, want %q in it", err, text)
	}
}

// TestMatrix runs the same small job in many places: images with and without
// a user and an entrypoint, networks, services, volumes.
func TestMatrix(t *testing.T) {
	c := engine(t)
	users := map[string]string{boxImage: "0", boxUser: "1000", boxEntry: "0", "override": "0"}
	for _, tt := range []struct {
		image, network string
		services       int
		volumes        []string
	}{
		{boxImage, "", 0, nil},
		{boxImage, "own", 2, []string{"/cache", "deps"}},
		{boxUser, "", 2, []string{"/cache", "deps"}},
		{boxUser, "own", 0, []string{"deps"}},
		{boxEntry, "", 0, []string{"/cache"}},
		{boxEntry, "own", 1, nil},
		{"override", "", 1, []string{"/cache"}},
		{boxImage, "host", 1, nil},
	} {
		t.Run(fmt.Sprintf("%s/%s/%d/%v", strings.ReplaceAll(tt.image, "/", "_"), tt.network, tt.services, tt.volumes), func(t *testing.T) {
			t.Parallel()
			o, r := options(t), request(t)
			o.Config.Volumes = tt.volumes
			r.Spec.Image.Name = tt.image
			before := ""
			switch tt.image {
			case "override":
				r.Spec.Image = job.Image{Name: boxEntry, Entrypoint: []string{"/bin/env", "FROM_ENTRYPOINT=no"}}
			case boxEntry:
				before = "entrypoint: sh\n"
			}
			switch tt.network {
			case "own":
				r.Variables = append(r.Variables, job.Variable{Key: "FF_NETWORK_PER_BUILD", Value: "true"})
			case "host":
				o.Config.NetworkMode = "host"
			}
			get, pages := "", ""
			for i := range tt.services {
				port := 8000 + 10*int(r.Spec.ID%10000) + i
				r.Spec.Services = append(r.Spec.Services, job.Image{
					Name: boxImage, Aliases: []string{fmt.Sprintf("web%d other%d", i, i)},
					Command:   []string{"sh", "-c", fmt.Sprintf("mkdir -p /www && echo service %d >/www/index.html && exec httpd -f -p %d -h /www", i, port)},
					Variables: job.Variables{{Key: "HEALTHCHECK_TCP_PORT", Value: fmt.Sprint(port)}},
				})
				for _, name := range []string{"web", "other"} {
					host := fmt.Sprintf("%s%d", name, i)
					if tt.network == "host" {
						host = "localhost"
					}
					get += fmt.Sprintf("wget -q -O- http://%s:%d/\n", host, port)
					pages += fmt.Sprintf("service %d\n", i)
				}
			}
			p := open(t, o, r)
			if n := strings.Count(p.log.String(), "probably didn't start"); n > 0 {
				t.Errorf("services are not ready:\n%s", p.log)
			}
			p.want(t, executor.Helper, "mkdir -p /builds/group/project/deps /cache && cd /builds/group/project && echo source >file && touch /cache/key\n"+get, pages)
			p.want(t, executor.Build, "cd /builds/group/project && id -u && cat file && echo built >>file && touch deps/one\n"+get, before+users[tt.image]+"\nsource\n"+pages)
			p.want(t, executor.Helper, "cat /builds/group/project/file; ls /builds/group/project/deps", "source\nbuilt\none\n")
			p.close(t)
			if left := leftovers(t, c, r.Spec.ID); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			removeVolumes(t, c, r.Spec.ID)
		})
	}
}

// removeVolumes removes the persistent volumes of a job of a test.
func removeVolumes(t testing.TB, c *client.Client, id job.ID) {
	t.Helper()
	f := client.Filters{}.Add("label", fmt.Sprintf("com.gitlab.gitlab-runner.job.id=%d", id))
	list, err := c.VolumeList(context.Background(), client.VolumeListOptions{Filters: f})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list.Items {
		if _, err := c.VolumeRemove(context.Background(), v.Name, client.VolumeRemoveOptions{}); err != nil {
			t.Error(err)
		}
	}
}

func TestVolumesLast(t *testing.T) {
	c := engine(t)
	yes, hostDir := true, t.TempDir()
	if err := os.WriteFile(filepath.Join(hostDir, "given"), []byte("by the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(*config.Docker, *executor.Request)
		write  string
		// read is done by a second job of the same slot, and other by one of another.
		read, want, other string
	}{
		{"cache", func(c *config.Docker, _ *executor.Request) { c.Volumes = []string{"/cache"} },
			"echo kept >/cache/f", "cat /cache/f 2>/dev/null || :; ls /builds", "kept\n", "no"},
		{"disabled", func(c *config.Docker, _ *executor.Request) { c.Volumes, c.DisableCache = []string{"/cache"}, true },
			"echo kept >/cache/f", "cat /cache/f 2>/dev/null || echo no", "no\n", "no"},
		{"fetch", func(_ *config.Docker, r *executor.Request) { r.Spec.AllowGitFetch = true },
			"echo kept >/builds/f", "cat /builds/f 2>/dev/null || echo no", "kept\n", "no"},
		{"clone wins", func(_ *config.Docker, r *executor.Request) {
			r.Spec.AllowGitFetch = true
			r.Variables = job.Variables{{Key: "GIT_STRATEGY", Value: "clone"}}
		}, "echo kept >/builds/f", "cat /builds/f 2>/dev/null || echo no", "no\n", "no"},
		{"bind", func(c *config.Docker, _ *executor.Request) { c.Volumes = []string{hostDir + ":/host:ro"} },
			"cat /host/given; ! touch /host/new", "cat /host/given", "by the host\n", "by the host"},
		{"directory", func(c *config.Docker, _ *executor.Request) {
			c.Volumes, c.CacheDir = []string{"/cache"}, filepath.Join(hostDir, "caches")
		}, "echo kept >/cache/f", "cat /cache/f 2>/dev/null || echo no", "kept\n", "no"},
		{"protected", func(c *config.Docker, r *executor.Request) {
			c.Volumes, r.Spec.Git.Protected = []string{"/cache"}, &yes
		}, "echo kept >/cache/f", "cat /cache/f 2>/dev/null || echo no", "kept\n", "no"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			slot := 1000 * request(t).ConcurrentProject
			slots := []int{slot, slot, slot + 1}
			var ids []job.ID
			for i, body := range []string{tt.write, tt.read, tt.read} {
				r := request(t)
				r.ConcurrentProject = slots[i]
				ids = append(ids, r.Spec.ID)
				r.Spec.Image.Name = boxUser
				cfg := o
				tt.change(&cfg.Config, &r)
				p := open(t, cfg, r)
				out, err := p.run(t, executor.Build, body)
				if err != nil {
					t.Fatalf("%s: %v, %s", body, err, out)
				}
				if i == 1 && out != tt.want {
					t.Errorf("the next job got %q, want %q", out, tt.want)
				}
				if i == 2 && !strings.Contains(out, tt.other) && tt.other != "no" {
					t.Errorf("a job of another slot got %q, want %q", out, tt.other)
				}
				if i == 2 && tt.other == "no" && strings.Contains(out, "kept") {
					t.Errorf("a job of another slot got %q", out)
				}
				p.close(t)
				if left := leftovers(t, c, r.Spec.ID); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			}
			for _, id := range ids {
				removeVolumes(t, c, id)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	c := engine(t)
	one := 1
	for _, tt := range []struct {
		name   string
		change func(*config.Docker, *executor.Request)
		reason job.Reason
		text   string
	}{
		{"no image", func(c *config.Docker, _ *executor.Request) { c.Image = "" }, job.ConfigurationError, "no Docker image specified"},
		{"image", func(c *config.Docker, r *executor.Request) {
			c.AllowedImages, r.Spec.Image.Name = []string{"ruby:*", "local/**"}, "python:3"
		}, job.ConfigurationError, "disallowed image"},
		{"service", func(c *config.Docker, r *executor.Request) {
			c.AllowedServices, r.Spec.Services = []string{"postgres:*"}, []job.Image{{Name: boxImage}}
		}, job.ConfigurationError, "disallowed image"},
		{"services", func(c *config.Docker, r *executor.Request) {
			c.ServicesLimit, r.Spec.Services = &one, []job.Image{{Name: boxImage}, {Name: boxImage}}
		}, job.ConfigurationError, "too many services requested: 2, only 1 allowed"},
		{"policy", func(_ *config.Docker, r *executor.Request) { r.Spec.Image.PullPolicy = []string{"always"} },
			job.ConfigurationError, "pull_policy ([always]) defined in GitLab pipeline config is not one of the allowed_pull_policies ([never])"},
		{"missing", func(_ *config.Docker, r *executor.Request) { r.Spec.Image.Name = "glassrunner-test/none:1" },
			job.ImagePullFailure, `failed to pull image "glassrunner-test/none:1" with specified policies [never]`},
		{"user", func(c *config.Docker, r *executor.Request) {
			c.AllowedUsers, r.Spec.Image.User = []string{"ci"}, "root"
		}, job.ConfigurationError, `user "root" is not an allowed user: ["ci"]`},
		{"helper", func(c *config.Docker, _ *executor.Request) { c.HelperImage = "glassrunner-test/none:2" },
			job.ImagePullFailure, "glassrunner-test/none:2"},
		{"root volume", func(c *config.Docker, _ *executor.Request) { c.Volumes = []string{"/x/.."} }, job.ConfigurationError, "root directory"},
		{"volumes", func(c *config.Docker, _ *executor.Request) { c.Volumes = []string{"/x", "/tmp:/x"} }, job.ConfigurationError, "already defined"},
		{"volume option", func(c *config.Docker, _ *executor.Request) { c.Volumes = []string{"/x:/y:rx"} }, job.ConfigurationError, `no option "rx"`},
		{"memory", func(c *config.Docker, _ *executor.Request) { c.Memory = "much" }, job.ConfigurationError, "memory in [runners.docker]"},
		{"little memory", func(c *config.Docker, _ *executor.Request) { c.Memory = "1k" }, job.ConfigurationError, "creating the"},
		{"device", func(c *config.Docker, _ *executor.Request) { c.Devices = []string{"/dev/null:/dev/x:rwm:y"} }, job.ConfigurationError, "devices"},
		{"seccomp", func(c *config.Docker, _ *executor.Request) { c.SecurityOpt = []string{"seccomp=/none"} }, job.ConfigurationError, "seccomp profile"},
		{"log", func(c *config.Docker, _ *executor.Request) { c.LogOptions = map[string]string{"max-size": "1m"} }, job.ConfigurationError, "log_options"},
		{"entrypoint", func(_ *config.Docker, r *executor.Request) {
			r.Spec.Services = []job.Image{{Name: boxImage, Entrypoint: []string{"/no-such-program"}}}
		}, job.ConfigurationError, "no-such-program"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, r := options(t), request(t)
			tt.change(&o.Config, &r)
			_, err := tryOpen(t, o, r)
			wantReason(t, err, tt.reason, tt.text)
			if left := leftovers(t, c, r.Spec.ID); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestSettings looks at what reaches the engine.
func TestSettings(t *testing.T) {
	c := engine(t)
	o, r := options(t), request(t)
	profile := filepath.Join(t.TempDir(), "seccomp.json")
	if err := os.WriteFile(profile, []byte(`{"defaultAction":"SCMP_ACT_ALLOW"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Variables = job.Variables{
		{Key: "TAG", Value: "1"}, {Key: "SECRET_FILE", Value: "content", File: true}, {Key: "CI_JOB_URL", Value: "https://gitlab.example.com/-/jobs/1"},
		{Key: "FF_USE_INIT_WITH_DOCKER_EXECUTOR", Value: "true"},
	}
	r.Spec.Image = job.Image{Name: "glassrunner-test/box:$TAG"}
	o.Config.Hostname = "my-host"
	o.Config.Memory, o.Config.MemoryReservation, o.Config.MemorySwap = "256m", "128m", "512m"
	o.Config.CPUs, o.Config.CPUShares, o.Config.CPUSetCPUs = "0.5", 512, "0"
	o.Config.DNS, o.Config.DNSSearch = []string{"10.1.2.3"}, []string{"example.com"}
	o.Config.ExtraHosts = []string{"build.example.com:10.9.8.7"}
	o.Config.CapAdd, o.Config.CapDrop = []string{"NET_ADMIN"}, []string{"MKNOD"}
	o.Config.SecurityOpt = []string{"seccomp=" + profile, "no-new-privileges"}
	o.Config.Devices = []string{"/dev/null:/dev/mynull:r"}
	o.Config.Tmpfs = map[string]string{"/scratch": "size=1m"}
	o.Config.SysCtls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "70"}
	o.Config.Ulimit = map[string]string{"nofile": "1000:2000"}
	o.Config.SHMSize = 8 << 20
	o.Config.GroupAdd = []string{"2000"}
	o.Config.OOMScoreAdjust = 100
	o.Config.User = "ci"
	o.Config.ContainerLabels = map[string]string{"team": "$TAG"}
	p := open(t, o, r)
	var bodies, wants strings.Builder
	for _, tt := range []struct{ body, want string }{
		{"hostname", "my-host\n"},
		{"id -u; id -G | grep -c 2000", "1000\n1\n"},
		{"cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max", "268435456\n"},
		{"grep -c 10.1.2.3 /etc/resolv.conf; grep -c example.com /etc/resolv.conf", "1\n1\n"},
		{"grep -c '10.9.8.7.build.example.com' /etc/hosts", "1\n"},
		{"grep NoNewPrivs /proc/self/status | cut -f2", "1\n"},
		{"test -c /dev/mynull; echo $?", "0\n"},
		{"df -m /scratch | grep -c ' 1 '", "1\n"},
		{"cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "70\n"},
		{"ulimit -n; ulimit -Hn", "1000\n2000\n"},
		{"df -m /dev/shm | grep -c ' 8 '", "1\n"},
		{"cat /proc/self/oom_score_adj", "100\n"},
		{"nproc", "1\n"},
		{"echo $SECRET_FILE", "/builds/group/project.tmp/SECRET_FILE\n"},
	} {
		bodies.WriteString(tt.body + "\n")
		wants.WriteString(tt.want)
	}
	p.want(t, executor.Build, bodies.String(), wants.String())
	f := client.Filters{}.Add("label", fmt.Sprintf("com.gitlab.gitlab-runner.job.id=%d", r.Spec.ID)).Add("label", "com.gitlab.gitlab-runner.type=build")
	list, err := c.ContainerList(t.Context(), client.ContainerListOptions{All: true, Filters: f})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("found %d build containers, %v", len(list.Items), err)
	}
	l := list.Items[0].Labels
	want := map[string]string{
		"team": "1", "com.gitlab.gitlab-runner.job.url": "https://gitlab.example.com/-/jobs/1", "com.gitlab.gitlab-runner.job.ref": "main",
		"com.gitlab.gitlab-runner.managed": "true", "com.gitlab.gitlab-runner.runner.id": "aBc_123", "com.gitlab.gitlab-runner.job.timeout": "1h0m0s",
	}
	got := map[string]string{}
	for k := range want {
		got[k] = l[k]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if name := list.Items[0].Names[0]; !strings.HasPrefix(name, "/runner-abc123-project-") || !strings.HasSuffix(name, "-build") {
		t.Errorf("the container is called %s", name)
	}
	info, err := c.ContainerInspect(t.Context(), list.Items[0].ID, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h := info.Container.HostConfig
	if h.NanoCPUs != 500_000_000 || h.CPUShares != 512 || h.MemorySwap != 512<<20 || h.MemoryReservation != 128<<20 ||
		h.Init == nil || !*h.Init || len(h.CapAdd) != 1 || len(h.CapDrop) != 1 || h.LogConfig.Type != "json-file" || len(h.Devices) != 1 || h.Devices[0].CgroupPermissions != "r" {
		t.Errorf("the engine was told %+v", h)
	}
}

// facts keeps what a driver tells.
type facts struct{ all []event.Fact }

func (f *facts) Observe(e event.Event) { f.all = append(f.all, e.Fact) }

// TestRemovedContainer removes the build container behind the driver's back.
func TestRemovedContainer(t *testing.T) {
	c := engine(t)
	o, r := options(t), request(t)
	r.Variables = job.Variables{{Key: "EXECUTOR_JOB_SECTION_ATTEMPTS", Value: "3"}}
	p := open(t, o, r)
	p.want(t, executor.Build, "echo one", "one\n")
	remove := func() { removeJob(t, c, r.Spec.ID) }
	remove()
	p.want(t, executor.Build, "echo two", "two\n")
	p.want(t, executor.Helper, "echo three", "three\n")
	remove()
	p.r.Variables = nil
	p.close(t)
}

func TestRemovedContainerOnce(t *testing.T) {
	c := engine(t)
	o, r := options(t), request(t)
	p := open(t, o, r)
	removeJob(t, c, r.Spec.ID)
	if out, err := p.run(t, executor.Build, "echo"); err == nil || out != "" {
		t.Errorf("got %q, %v, want an error about the container", out, err)
	}
}

// TestOwner has files of an ordinary umask given to the image's user.
func TestOwner(t *testing.T) {
	engine(t)
	o, r := options(t), request(t)
	r.Spec.Image.Name = boxUser
	r.Variables = job.Variables{{Key: "FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR", Value: "true"}}
	p := open(t, o, r)
	p.want(t, executor.Helper, "umask; mkdir -p /builds/group/project/sub; echo x >/builds/group/project/sub/f; stat -c '%U %a' /builds/group/project/sub/f", "0022\nroot 644\n")
	p.want(t, executor.Build, "stat -c '%U %a' /builds/group/project/sub/f; echo y >>/builds/group/project/sub/f", "ci 644\n")
}

func TestClaimIsMadeBeforeAnything(t *testing.T) {
	c := engine(t)
	o, r := options(t), request(t)
	bad := errors.New("the disk is full")
	r.Claim = func(executor.Claim) error { return bad }
	if _, err := tryOpen(t, o, r); !errors.Is(err, bad) {
		t.Errorf("got %v, want the error of the claim", err)
	}
	if left := leftovers(t, c, r.Spec.ID); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestStages(t *testing.T) {
	engine(t)
	o, r := options(t), request(t)
	var got []string
	r.Stage = func(s string) { got = append(got, s) }
	r.Spec.Services = []job.Image{{Name: boxImage, Command: []string{"sleep", "1000"}}}
	p := open(t, o, r)
	p.want(t, executor.Build, "true", "")
	p.close(t)
	want := []string{
		"docker_prepare", "docker_creating_user_volumes", "docker_creating_build_volumes", "docker_bootstrap", "docker_creating_services",
		"docker_pulling_image", "docker_creating_services", "docker_pulling_image", "prepare", "docker_run", "docker_cleanup",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stages (-want +got):\n%s", diff)
	}
	if _, err := newDriver(t, o).Reap(t.Context(), executor.Claim{Kind: "docker"}); err == nil {
		t.Error("a claim without a run was taken")
	}
}

func TestNewRefuses(t *testing.T) {
	for _, dir := range []string{"builds", "/", "/x/.."} {
		if _, err := docker.New(docker.Options{BuildsDir: dir}); err == nil {
			t.Errorf("%q is taken for a builds directory", dir)
		}
	}
	shared := newDriver(t, docker.Options{Config: config.Docker{Volumes: []string{"/srv/builds:/builds"}}})
	if !shared.Traits().SharedBuilds {
		t.Error("a host directory is not shared")
	}
	if newDriver(t, docker.Options{Config: config.Docker{Volumes: []string{"/builds", "/x:/b"}}}).Traits().SharedBuilds {
		t.Error("a cache volume is shared")
	}
}

// TestFullDisk has a build volume of a megabyte.
func TestFullDisk(t *testing.T) {
	c := engine(t)
	o, r := options(t), request(t)
	o.Config.VolumeDriver = "local"
	o.Config.VolumeDriverOps = map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}
	p := open(t, o, r)
	out, err := p.run(t, executor.Build, "dd if=/dev/zero of=/builds/big bs=1024 count=4096")
	var exit *executor.ExitError
	if !errors.As(err, &exit) || exit.Code != 1 || exit.Text != "exit code 1" || !strings.Contains(out, "No space left on device") {
		t.Errorf("got %v, %q, want a script that failed for lack of space", err, out)
	}
	p.want(t, executor.Helper, "rm /builds/big; echo tidy", "tidy\n")
	p.close(t)
	if left := leftovers(t, c, r.Spec.ID); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestSoakManyContainers has 100 containers at work, those of 20 jobs at a time,
// and half of the jobs canceled.
func TestSoakManyContainers(t *testing.T) {
	if os.Getenv("GLASSRUNNER_SOAK") == "" {
		t.Skip("long: set GLASSRUNNER_SOAK")
	}
	c := engine(t)
	o := options(t)
	d := newDriver(t, o)
	jobs := make(chan executor.Request)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for r := range jobs {
				r.Log = &buffer{}
				ctx, cancel := context.WithCancel(context.Background())
				env, err := d.Open(ctx, r)
				if err != nil {
					t.Errorf("job %d: %v", r.Spec.ID, err)
					cancel()
					continue
				}
				body := "echo x >/builds/f"
				if r.Spec.ID%2 == 0 {
					body = "echo started; sleep 1000"
					time.AfterFunc(2*time.Second, cancel)
				}
				out := &buffer{}
				err = env.Run(ctx, executor.Command{In: executor.Build, Script: wrap(r, body), Stdout: out, Stderr: out, Grace: time.Second})
				if failed := err != nil; failed != (r.Spec.ID%2 == 0) {
					t.Errorf("job %d: %v", r.Spec.ID, err)
				}
				if err := env.Close(context.Background()); err != nil {
					t.Errorf("job %d: %v", r.Spec.ID, err)
				}
				cancel()
			}
		})
	}
	var ids []job.ID
	for range 50 {
		r := request(t)
		r.Variables = job.Variables{{Key: "FF_NETWORK_PER_BUILD", Value: "false"}}
		ids = append(ids, r.Spec.ID)
		jobs <- r
	}
	close(jobs)
	wg.Wait()
	for _, id := range ids {
		if left := leftovers(t, c, id); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}
