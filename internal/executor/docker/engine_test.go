package docker_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/executor/docker"
	"github.com/glassrunner/glassrunner/internal/executor/executortest"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/script"
)

// engineVar names the engine that the tests may use as they like.
const engineVar = "GLASSRUNNER_TEST_DOCKER"

// Images of the tests, made of the machine's own busybox.
const (
	boxImage  = "glassrunner-test/box:1"
	boxUser   = "glassrunner-test/user:1"
	boxEntry  = "glassrunner-test/entry:1"
	boxVolume = "glassrunner-test/volume:1"
	boxHelp   = "glassrunner-test/helper:1"
)

// host is the address of the engine of the tests. Without one the test is
// skipped, unless GLASSRUNNER_NEED_DOCKER says that there is one.
func host(t testing.TB) string {
	t.Helper()
	h := os.Getenv(engineVar)
	if h == "" {
		if os.Getenv("GLASSRUNNER_NEED_DOCKER") != "" {
			t.Fatalf("no Docker engine: %s is not set", engineVar)
		}
		t.Skipf("there is no Docker engine: run eval \"$(scripts/dockerd.sh start DIR)\", which sets %s", engineVar)
	}
	return h
}

var once sync.Once // images are loaded once for all tests

// engine returns a client of the engine, which has the images of the tests.
func engine(t testing.TB) *client.Client {
	t.Helper()
	c, err := client.New(client.WithHost(host(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	once.Do(func() { load(t, c) })
	return c
}

// load makes the images: busybox with its applets, and a stand-in for the
// helper.
func load(t testing.TB, c *client.Client) {
	t.Helper()
	busybox := ""
	for _, p := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		if _, err := os.Stat(p); err == nil {
			busybox = p
		}
	}
	if busybox == "" {
		t.Fatal("busybox-static is not installed")
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nci:x:1000:1000::/home/ci:/bin/sh\n",
		"etc/group":  "root:x:0:\nci:x:1000:\n",
		"entry":      "#!/bin/sh\necho entrypoint: \"$1\"\nexport FROM_ENTRYPOINT=yes\nexec \"$@\"\n",
		// The health check of the tests: nc in place of the helper's binary.
		"usr/bin/gitlab-runner-helper": "#!/bin/sh\nfor v in $(env | grep -o '^WAIT_FOR_SERVICE_[0-9]*_TCP_PORT=.*'); do\n" +
			"until nc -w 1 \"$WAIT_FOR_SERVICE_TCP_ADDR\" \"${v#*=}\" </dev/null >/dev/null 2>&1; do sleep 0.1; done; exit 0; done; exit 1\n",
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(name string, mode int64, text []byte) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	add("bin/busybox", 0o755, program)
	for name, text := range files {
		add(name, 0o755, []byte(text))
	}
	for applet := range strings.FieldsSeq("sh env grep nc sleep timeout cat id chmod chown ls sort kill mkdir rm touch seq echo test setsid stat hostname printf wget ps mount ip nproc sed head wc find httpd date df sysctl ulimit cut tr dd") {
		if err := w.WriteHeader(&tar.Header{Name: "bin/" + applet, Linkname: "busybox", Typeflag: tar.TypeSymlink}); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"tmp/", "root/", "home/ci/"} {
		if err := w.WriteHeader(&tar.Header{Name: dir, Mode: 0o1777, Typeflag: tar.TypeDir}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, changes := range map[string][]string{
		boxImage:  {`CMD ["/bin/sh"]`},
		boxUser:   {`USER ci`},
		boxEntry:  {`ENTRYPOINT ["/entry"]`},
		boxVolume: {`VOLUME /data`},
		boxHelp:   nil,
	} {
		repo, tag, _ := strings.Cut(name, ":")
		r, err := c.ImageImport(context.Background(), client.ImageImportSource{Source: bytes.NewReader(b.Bytes()), SourceName: "-"}, repo, client.ImageImportOptions{Tag: tag, Changes: changes})
		if err != nil {
			t.Fatalf("importing %s: %v", name, err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
	}
}

// options are those of a driver on the engine of the tests.
func options(t testing.TB) docker.Options {
	t.Helper()
	return docker.Options{
		Config: config.Docker{Host: host(t), Image: boxImage, PullPolicy: []string{"never"}},
		Token:  "glrt-secret", Helper: boxHelp, Home: t.TempDir(),
	}
}

func newDriver(t testing.TB, o docker.Options) *docker.Driver {
	t.Helper()
	d, err := docker.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var number struct { // no two jobs of the tests are one
	sync.Mutex
	n int
}

func request(t testing.TB) executor.Request {
	t.Helper()
	number.Lock()
	defer number.Unlock()
	number.n++
	return executor.Request{
		Spec: &job.Spec{
			ID: job.ID(os.Getpid()*10000 + number.n), Timeout: time.Hour, Info: job.Info{ProjectID: int64(os.Getpid())},
			Git: job.Git{SHA: "0123456789abcdef", Ref: "main"},
		},
		Runner:            job.Runner{Short: "aBc_123", SystemID: "s_1", Executor: "docker"},
		Shell:             "bash",
		Dirs:              executor.Dirs{Builds: "/builds", Project: "/builds/group/project", Temp: "/builds/group/project.tmp", Cache: "/cache/group/project"},
		ConcurrentProject: number.n,
	}
}

// wrap makes a script as jobs of containers get it.
func wrap(r executor.Request, body string) []byte {
	return script.Wrap(&script.Job{Spec: r.Spec, Shell: "sh", Variables: r.Variables}, []byte(body+"\n"))
}

func TestConformance(t *testing.T) {
	engine(t)
	executortest.Run(t, func(t *testing.T) executortest.Harness {
		o := options(t)
		o.Owner = "0123456789ab"
		other := o
		other.Owner = "ba9876543210"
		return executortest.Harness{
			Driver:     newDriver(t, o),
			Request:    func(t *testing.T) executor.Request { return request(t) },
			Script:     wrap,
			Alive:      executortest.Alive,
			Successor:  func(t *testing.T) executor.Driver { return newDriver(t, docker.Options{}) },
			Stranger:   func(t *testing.T) executor.Driver { return newDriver(t, other) },
			Containers: true,
		}
	})
}

// opened is a place of a test with what its log says.
type opened struct {
	executor.Env
	r   executor.Request
	log *buffer
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// tryOpen opens a place and closes it with the test.
func tryOpen(t testing.TB, o docker.Options, r executor.Request) (*opened, error) {
	t.Helper()
	p := &opened{r: r, log: &buffer{}}
	r.Log = p.log
	env, err := newDriver(t, o).Open(t.Context(), r)
	if err != nil {
		return p, err
	}
	p.Env = env
	t.Cleanup(func() { p.close(t) })
	return p, nil
}

func open(t testing.TB, o docker.Options, r executor.Request) *opened {
	t.Helper()
	p, err := tryOpen(t, o, r)
	if err != nil {
		t.Fatalf("Open: %v\n%s", err, p.log)
	}
	return p
}

func (p *opened) close(t testing.TB) {
	t.Helper()
	if p.Env == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := p.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
	p.Env = nil
}

// run runs a body in an environment.
func (p *opened) run(t testing.TB, in executor.Target, body string) (string, error) {
	t.Helper()
	var out buffer
	err := p.Run(t.Context(), executor.Command{Phase: "step_script", In: in, Script: wrap(p.r, body), Stdout: &out, Stderr: &out})
	return out.String(), err
}

// want runs a body that has to succeed and print a text.
func (p *opened) want(t testing.TB, in executor.Target, body, want string) {
	t.Helper()
	got, err := p.run(t, in, body)
	if err != nil || got != want {
		t.Errorf("%s\ngot %q, %v, want %q\n%s", body, got, err, want, p.log)
	}
}

// removeJob removes the containers of a job.
func removeJob(t *testing.T, c *client.Client, id job.ID) {
	t.Helper()
	f := client.Filters{}.Add("label", fmt.Sprintf("com.gitlab.gitlab-runner.job.id=%d", id))
	list, err := c.ContainerList(context.Background(), client.ContainerListOptions{All: true, Filters: f})
	if err != nil {
		t.Error(err)
	}
	for _, x := range list.Items {
		if _, err := c.ContainerRemove(context.Background(), x.ID, client.ContainerRemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
}

// leftovers are the containers, temporary volumes and networks on the engine
// that belong to a job.
func leftovers(t testing.TB, c *client.Client, id job.ID) (found []string) {
	t.Helper()
	f := client.Filters{}.Add("label", fmt.Sprintf("com.gitlab.gitlab-runner.job.id=%d", id))
	containers, err := c.ContainerList(t.Context(), client.ContainerListOptions{All: true, Filters: f})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range containers.Items {
		found = append(found, "container "+x.Names[0])
	}
	volumes, err := c.VolumeList(t.Context(), client.VolumeListOptions{Filters: f})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range volumes.Items {
		if x.Labels["com.gitlab.gitlab-runner.reusable"] != "true" {
			found = append(found, "volume "+x.Name)
		}
	}
	networks, err := c.NetworkList(t.Context(), client.NetworkListOptions{Filters: f})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range networks.Items {
		found = append(found, "network "+x.Name)
	}
	return found
}
