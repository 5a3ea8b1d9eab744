//go:build linux

package e2e_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// Images of jobs of these tests, made of the machine's busybox, and that of the
// helper, which has bash and git.
const (
	dockerImage = "glassrunner-e2e/box:1"
	imageUser   = "glassrunner-e2e/user:1"  // its user is 1000
	imageEntry  = "glassrunner-e2e/entry:1" // its entrypoint sets FROM_ENTRYPOINT
	imageHelper = "glassrunner/helper:1"
)

// engine is the Docker engine of the tests, by its own HTTP API: the tests
// look at it with other eyes than the program.
type engine struct {
	t      *testing.T
	host   string // address of this machine, as containers reach it
	socket string
	client *http.Client
	dir    string // of an engine of a test's own
}

// newEngine skips the test where there is no engine, and fails it where
// GLASSRUNNER_NEED_DOCKER says that there is one.
func newEngine(t *testing.T) *engine {
	t.Helper()
	e := &engine{t: t, host: os.Getenv("GLASSRUNNER_TEST_DOCKER_HOST"), socket: os.Getenv("GLASSRUNNER_TEST_DOCKER")}
	refuse := t.Skipf
	if os.Getenv("GLASSRUNNER_NEED_DOCKER") != "" {
		refuse = t.Fatalf
	}
	if e.socket == "" || e.host == "" {
		refuse("there is no Docker engine: eval \"$(scripts/dockerd.sh start DIR)\" starts one and sets GLASSRUNNER_TEST_DOCKER")
	}
	e.connect()
	if code, _ := e.call(http.MethodGet, "/images/glassrunner/helper:1/json", nil); code != http.StatusOK {
		refuse("the engine has no helper image: DOCKER_HOST=%s make helper-image", e.socket)
	}
	loaded.Do(e.load)
	return e
}

// loaded is done once the engine has the images.
var loaded sync.Once

// connect makes the client.
func (e *engine) connect() {
	path := strings.TrimPrefix(e.socket, "unix://")
	e.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}
}

func (e *engine) call(method, path string, body io.Reader) (int, string) {
	e.t.Helper()
	req, err := http.NewRequest(method, "http://docker"+path, body)
	if err != nil {
		e.t.Fatal(err)
	}
	resp, err := e.client.Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// load makes the images.
func (e *engine) load() {
	e.t.Helper()
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		e.t.Fatalf("busybox-static is not installed: %v", err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	put := func(h tar.Header, text []byte) {
		h.Size = int64(len(text))
		if err := w.WriteHeader(&h); err != nil {
			e.t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			e.t.Fatal(err)
		}
	}
	put(tar.Header{Name: "bin/busybox", Mode: 0o755}, program)
	put(tar.Header{Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0:root:/root:/bin/sh\nci:x:1000:1000::/tmp:/bin/sh\n"))
	put(tar.Header{Name: "entry", Mode: 0o755}, []byte("#!/bin/sh\nexport FROM_ENTRYPOINT=yes\nexec \"$@\"\n"))
	for a := range strings.FieldsSeq("sh cat ls id sleep mkdir touch rm echo env kill sort grep wget httpd sed printf date awk find chmod cut hostname test expr head wc dd df nc tr true") {
		put(tar.Header{Name: "bin/" + a, Linkname: "busybox", Typeflag: tar.TypeSymlink}, nil)
	}
	put(tar.Header{Name: "tmp/", Mode: 0o1777, Typeflag: tar.TypeDir}, nil)
	if err := w.Close(); err != nil {
		e.t.Fatal(err)
	}
	for name, change := range map[string]string{dockerImage: "CMD sh", imageUser: "USER ci", imageEntry: `ENTRYPOINT ["/entry"]`} {
		repo, tag, _ := strings.Cut(name, ":")
		path := "/images/create?fromSrc=-&repo=" + repo + "&tag=" + tag + "&changes=" + url.QueryEscape(change)
		if code, text := e.call(http.MethodPost, path, bytes.NewReader(b.Bytes())); code != http.StatusOK {
			e.t.Fatalf("importing %s: %d %s", name, code, text)
		}
	}
}

// left lists what jobs of a world left on the engine, persistent volumes apart.
func (e *engine) left(w *world) string {
	e.t.Helper()
	mark := "mark=" + w.mark
	filter := func(labels ...string) string {
		text, err := json.Marshal(map[string][]string{"label": labels})
		if err != nil {
			e.t.Fatal(err)
		}
		return url.QueryEscape(string(text))
	}
	var out []string
	for what, path := range map[string]string{
		"containers": "/containers/json?all=1&filters=" + filter(mark), "networks": "/networks?filters=" + filter(mark),
		"volumes": "/volumes?filters=" + filter(mark, "com.gitlab.gitlab-runner.reusable=false"),
	} {
		if _, text := e.call(http.MethodGet, path, nil); strings.Contains(text, w.mark) {
			out = append(out, what+": "+text)
		}
	}
	return strings.Join(out, "\n")
}

// dockerWorld is a world whose server containers can reach.
func dockerWorld(t *testing.T, e *engine, o fakegitlab.Options) *world {
	t.Helper()
	w := bareWorld(t)
	if o.LongPoll == 0 {
		o.LongPoll = 5 * time.Second
	}
	// Tokens that no other test has: cache volumes are named after them.
	h := fnv.New64a()
	_, _ = h.Write([]byte(w.mark))
	o.Seed = h.Sum64()
	w.server = fakegitlab.New(o)
	if err := w.server.Start(net.JoinHostPort(e.host, "0")); err != nil {
		t.Fatal(err)
	}
	w.runner = w.addRunner("e2e", fakegitlab.Limits{RequestConcurrency: 1, CheckInterval: 500 * time.Millisecond})
	t.Cleanup(func() {
		w.finish()
		e.forget(w)
	})
	return w
}

// forget removes the volumes that jobs of a world left for later ones.
func (e *engine) forget(w *world) {
	e.t.Helper()
	filters := url.QueryEscape(`{"label":["mark=` + w.mark + `"]}`)
	_, text := e.call(http.MethodGet, "/volumes?filters="+filters, nil)
	var list struct{ Volumes []struct{ Name string } }
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		e.t.Errorf("%s: %v", text, err)
	}
	for _, v := range list.Volumes {
		if code, text := e.call(http.MethodDelete, "/volumes/"+v.Name, nil); code != http.StatusNoContent {
			e.t.Errorf("removing a volume: %d %s", code, text)
		}
	}
}

// docker is the configuration of a runner that uses the engine.
func (w *world) docker(e *engine, global, more string) string {
	return fmt.Sprintf("%s\ncheck_interval = 1\nlisten_address = \"127.0.0.1:0\"\nlog_format = \"text\"\nshutdown_timeout = 30\n[[runners]]\nname = \"box-0\"\nurl = %q\ntoken = %q\nexecutor = \"docker\"\ngraceful_kill_timeout = \"2s\"\nfeature_flags = { FF_TIMESTAMPS = false }\n%s\n",
		global, w.server.URL(), w.runner.Token, "[runners.docker]\nhost = \""+e.socket+"\"\nimage = \""+dockerImage+"\"\npull_policy = \"never\"\ncontainer_labels = { mark = \""+w.mark+"\" }\n"+more)
}

// TestDocker runs jobs in containers, with a configuration that names no
// helper image and pulls nothing.
func TestDocker(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	w := dockerWorld(t, e, fakegitlab.Options{Concurrent: 2})
	p := w.start(w.docker(e, "concurrent = 2", `volumes = ["/cache"]`))
	project(t, w, "acme/app", map[string]string{"a.txt": "from git\n"})
	alias := "web"
	for _, tt := range []struct {
		name string
		job  fakegitlab.Job
		want string
		has  []string
	}{
		{"sources", fakegitlab.Job{Project: "acme/app", Script: []string{"cat a.txt", "hostname", "echo > new; ls"}}, "success", []string{
			`Preparing the "docker" executor`, "Using Docker executor with image " + dockerImage + " ...",
			"Running on runner-", "Created fresh repository.", "$ cat a.txt", "\nfrom git\n", "\nnew\n", "Job succeeded",
		}},
		{"sources again", fakegitlab.Job{Project: "acme/app", Script: []string{"cat a.txt; ls"}}, "success", []string{"Fetching changes", "Removing new", "from git"}},
		{"exit code", fakegitlab.Job{Script: []string{"exit 7"}, AfterScript: []string{"echo was $CI_JOB_STATUS"}}, "failed script_failure 7", []string{
			"was failed", "ERROR: Job failed: exit code 7",
		}},
		{"variables", fakegitlab.Job{Script: []string{`echo "$CI_DISPOSABLE_ENVIRONMENT/$CI_PROJECT_DIR/$MINE"; cat $SECRET`}, Variables: append(public("MINE", "x y"),
			fakegitlab.Variable{Key: "SECRET", Value: "in a file", File: true})}, "success", []string{"true//builds/acme/web/x y", "in a file"}},
		{"service", fakegitlab.Job{
			Script: []string{"wget -q -O- http://web:80/index.html"},
			Services: []fakegitlab.Service{{
				Name: dockerImage, Alias: &alias, Command: []string{"sh", "-c", "mkdir /w; echo I serve >/w/index.html; exec httpd -f -p 80 -h /w"},
				Variables: []fakegitlab.ServiceVariable{{Key: "HEALTHCHECK_TCP_PORT", Value: "80"}},
			}},
		}, "success", []string{"Starting service " + dockerImage + "...", "Waiting for services to be up and running (timeout 30 seconds)...", "\nI serve\n"}},
		{"network of its own", fakegitlab.Job{
			Script: []string{"echo net $CI_BUILD_NETWORK_NAME"}, Variables: public("FF_NETWORK_PER_BUILD", "true"),
		}, "success", []string{"net runner-"}},
		{"no such image", fakegitlab.Job{Image: &fakegitlab.Image{Name: "glassrunner-e2e/none:1"}, Script: []string{"true"}}, "failed runner_system_failure", []string{ // the server does not know image_pull_failure
			`failed to pull image "glassrunner-e2e/none:1" with specified policies [never]`,
		}},
		{"policy", fakegitlab.Job{Image: &fakegitlab.Image{Name: dockerImage, PullPolicy: []string{"always"}}, Script: []string{"true"}}, "failed runner_configuration_error", []string{
			"is not one of the allowed_pull_policies ([never])",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := w.run(tt.job)
			want(t, s, tt.want)
			has(t, text(s.Trace), tt.has...)
		})
	}
	p.waitMetrics("the images", func(m families) bool {
		return m.sum("glassrunner_image_pull_duration_seconds") > 0 && m.sum("glassrunner_service_ready_duration_seconds") == 1
	})
	w.eventually("an engine without leftovers", func() bool { return e.left(w) == "" })
}

// TestDockerCancel cancels a job whose script does not listen.
func TestDockerCancel(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	w := dockerWorld(t, e, fakegitlab.Options{Concurrent: 2, UpdateInterval: 1})
	w.start(w.docker(e, "concurrent = 2", ""))
	polite := w.enqueue(fakegitlab.Job{Script: []string{"echo begun; sleep 600"}, AfterScript: []string{"echo was $CI_JOB_STATUS"}})
	w.until(polite, "its script", printed("\nbegun\n"))
	if err := w.server.Cancel(polite); err != nil {
		t.Fatal(err)
	}
	s := w.wait(polite)
	has(t, text(s.Trace), "was canceled")
	late := w.run(fakegitlab.Job{Script: []string{"echo begun; sleep 600"}, Timeout: 5 * time.Second})
	want(t, late, "failed job_execution_timeout")
	w.eventually("an engine without leftovers", func() bool { return e.left(w) == "" })
}

// TestDockerCrash kills the runner while a job runs; the next process removes
// what it left.
func TestDockerCrash(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	w := dockerWorld(t, e, fakegitlab.Options{Concurrent: 2, UpdateInterval: 1})
	p := w.start(w.docker(e, "concurrent = 2", ""))
	id := w.enqueue(fakegitlab.Job{
		Script: []string{"echo begun; sleep 600"}, Variables: public("FF_NETWORK_PER_BUILD", "true"),
		Services: []fakegitlab.Service{{Name: dockerImage, Command: []string{"sleep", "600"}}},
	})
	w.until(id, "its script", printed("\nbegun\n"))
	if left := e.left(w); !strings.Contains(left, "containers") || !strings.Contains(left, "networks") || !strings.Contains(left, "volumes") {
		t.Errorf("a running job has too little: %s", left)
	}
	w.disturb(id)
	p.kill()
	w.restart()
	want(t, w.wait(id), "failed runner_system_failure")
	w.eventually("an engine without leftovers", func() bool { return e.left(w) == "" })
}
