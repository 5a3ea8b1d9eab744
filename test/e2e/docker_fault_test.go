//go:build linux

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// ownEngine is an engine that a test may kill: dockerd.sh starts it.
func ownEngine(t *testing.T) *engine {
	t.Helper()
	newEngine(t) // where there is none, there is none of a test's own
	dir := t.TempDir()
	e := &engine{t: t, dir: dir}
	t.Cleanup(func() { e.script("stop") })
	for line := range strings.Lines(e.script("start")) {
		name, value, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "export ")), "=")
		switch name {
		case "GLASSRUNNER_TEST_DOCKER":
			e.socket = value
		case "GLASSRUNNER_TEST_DOCKER_HOST":
			e.host = value
		}
	}
	e.connect()
	e.load()
	return e
}

// script runs dockerd.sh.
func (e *engine) script(command string) string {
	e.t.Helper()
	cmd := exec.Command("../../scripts/dockerd.sh", command, e.dir)
	cmd.Stderr = os.Stderr
	// Its engine outlives the command, and must not hold what it prints to.
	out, err := cmd.Output()
	if err != nil {
		e.t.Fatalf("dockerd.sh %s: %v", command, err)
	}
	return string(out)
}

// TestDockerEngineDies kills the engine while a job runs: the job fails with
// word of what to look at, and what it left goes with the next job.
func TestDockerEngineDies(t *testing.T) {
	t.Parallel()
	e := ownEngine(t)
	w := dockerWorld(t, e, fakegitlab.Options{Concurrent: 2, UpdateInterval: 1})
	p := w.start(w.docker(e, "concurrent = 2", "helper_image = \""+dockerImage+"\"\n"))
	id := w.enqueue(fakegitlab.Job{
		Script: []string{"echo begun; sleep 600"}, AfterScript: []string{"echo after"},
		Variables: public("FF_NETWORK_PER_BUILD", "true"),
		Services:  []fakegitlab.Service{{Name: dockerImage, Command: []string{"sleep", "600"}}},
	})
	w.until(id, "its script", printed("\nbegun\n"))
	e.script("kill")
	s := w.wait(id)
	want(t, s, "failed runner_system_failure")
	has(t, text(s.Trace), "the Docker engine at "+e.socket+" does not answer")
	has(t, text(s.Trace), "systemctl status docker")
	// A job that finds no engine says so as well, after it was prepared three times.
	s = w.run(fakegitlab.Job{Script: []string{"true"}})
	want(t, s, "failed runner_system_failure")
	has(t, text(s.Trace), "systemctl status docker", "Will be retried in 3s ...", "does not answer")
	e.script("start")
	left := e.left(w)
	if !strings.Contains(left, "containers") || !strings.Contains(left, "networks") || !strings.Contains(left, "volumes") {
		t.Errorf("the engine came back without what the job made: the test shows nothing: %s", left)
	}
	want(t, w.run(fakegitlab.Job{Script: []string{"true"}}), "success")
	w.eventually("an engine without leftovers", func() bool { return e.left(w) == "" })
	w.eventually("an empty state directory", func() bool { return len(w.stateLeft()) == 0 })
	p.waitValue(2, "glassrunner_jobs_finished_total", "reason", "runner_system_failure")
}

// TestDockerDiskFull has build volumes of two megabytes.
func TestDockerDiskFull(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	w := dockerWorld(t, e, fakegitlab.Options{Concurrent: 2})
	w.start(w.docker(e, "concurrent = 1", "volume_driver = \"local\"\nvolume_driver_ops = { type = \"tmpfs\", device = \"tmpfs\", o = \"size=2m\" }\n"))
	project(t, w, "acme/small", map[string]string{"a.txt": "small\n"})
	project(t, w, "acme/large", map[string]string{"a.bin": incompressible(4 << 20)})
	archive := archiveOf("small.txt")
	archive.When = "always"
	for _, tt := range []struct {
		name string
		job  fakegitlab.Job
		want string
		has  []string
	}{
		{"script", fakegitlab.Job{
			Project: "acme/small", Script: []string{"echo fits >small.txt", "dd if=/dev/zero of=big bs=1024 count=4096", "echo not reached"},
			AfterScript: []string{"rm big; echo after $CI_JOB_STATUS"}, Artifacts: []fakegitlab.ArtifactSpec{archive},
		}, "failed script_failure 1", []string{
			"No space left on device", "\nafter failed\n", "Uploading artifacts for failed job", "201 Created", "ERROR: Job failed: exit code 1",
		}},
		{"sources", fakegitlab.Job{Project: "acme/large", Script: []string{"echo not reached"}}, "failed script_failure 128", []string{
			"Getting source from Git repository", "No space left on device", "ERROR: Job failed: exit code 128",
		}},
		{"after that", fakegitlab.Job{Project: "acme/small", Script: []string{"cat a.txt; ls"}}, "success", []string{"\nsmall\n", "Job succeeded"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := w.run(tt.job)
			want(t, s, tt.want)
			has(t, text(s.Trace), tt.has...)
			hasNot(t, text(s.Trace), "\nnot reached\n")
		})
	}
	w.eventually("an engine without leftovers", func() bool { return e.left(w) == "" })
}

// incompressible is text of n bytes that git cannot make smaller.
func incompressible(n int) string {
	b := make([]byte, n)
	x := uint64(88172645463325252)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x >> 32)
	}
	return string(b)
}

// TestDockerHundred has a hundred containers at work at once, those of 20 jobs:
// helper, build, and three services each. Half of the jobs are canceled.
func TestDockerHundred(t *testing.T) {
	t.Parallel()
	const jobs, services = 20, 3
	e := newEngine(t)
	w := dockerWorld(t, e, fakegitlab.Options{Concurrent: jobs, UpdateInterval: 1})
	barrier := filepath.Join(w.dir, "barrier")
	if err := os.Mkdir(barrier, 0o777); err != nil {
		t.Fatal(err)
	}
	p := w.start(w.docker(e, fmt.Sprintf("concurrent = %d", jobs), fmt.Sprintf("volumes = [%q, \"/scratch\"]\ndisable_cache = true\n", barrier+":/barrier")))
	var ids []int64
	for n := range jobs {
		j := fakegitlab.Job{Script: []string{"echo begun; touch /scratch/x; touch /barrier/$CI_JOB_ID; until [ -e /barrier/go ]; do sleep 0.2; done; echo done"}}
		if n%2 == 1 {
			j.Variables = public("FF_NETWORK_PER_BUILD", "true")
		}
		for range services {
			j.Services = append(j.Services, fakegitlab.Service{Name: dockerImage, Command: []string{"sleep", "600"}})
		}
		ids = append(ids, w.enqueue(j))
	}
	// A hundred containers take their time.
	if err := poll(2*patience, func() bool {
		files, err := os.ReadDir(barrier)
		return err == nil && len(files) == jobs
	}); err != nil {
		t.Fatalf("all jobs at work: %v", err)
	}
	if n := e.count(w, "/containers/json?filters="); n != jobs*(2+services) {
		t.Errorf("%d containers run, want %d", n, jobs*(2+services))
	}
	if n := e.count(w, "/networks?filters="); n != jobs/2 {
		t.Errorf("there are %d networks, want %d", n, jobs/2)
	}
	for _, id := range ids[:jobs/2] {
		if err := w.server.Cancel(id); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range ids[:jobs/2] {
		if s := w.wait(id); s.Status != fakegitlab.Canceled {
			t.Errorf("job %d is %s", id, s.Status)
		}
	}
	touch(t, filepath.Join(barrier, "go"))
	for _, id := range ids[jobs/2:] {
		s := w.wait(id)
		want(t, s, "success")
		has(t, text(s.Trace), "\ndone\n")
	}
	// A job is over for the server when all of its containers are gone.
	if left := e.left(w); left != "" {
		t.Errorf("left on the engine: %s", left)
	}
	if n := e.count(w, "/volumes?filters="); n != 0 {
		t.Errorf("%d volumes are left", n)
	}
	w.eventually("an empty state directory", func() bool { return len(w.stateLeft()) == 0 })
	p.waitValue(0, "glassrunner_jobs_running")
}

// count is how many things of a world are in a list of the engine.
func (e *engine) count(w *world, path string) int {
	e.t.Helper()
	_, body := e.call(http.MethodGet, path+url.QueryEscape(`{"label":["mark=`+w.mark+`"]}`), nil)
	var list []any
	if strings.HasPrefix(path, "/volumes") {
		var volumes struct{ Volumes []any }
		if err := json.Unmarshal([]byte(body), &volumes); err != nil {
			e.t.Fatalf("%s: %v", body, err)
		}
		return len(volumes.Volumes)
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		e.t.Fatalf("%s: %v", body, err)
	}
	return len(list)
}

// TestDockerHostile has jobs with images and values that want to be something
// else. Each fails by itself or does nothing special, and the next one works.
func TestDockerHostile(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	w := dockerWorld(t, e, fakegitlab.Options{Concurrent: 4})
	p := w.start(w.docker(e, "concurrent = 4", ""))
	long := strings.Repeat("a", 5000)
	image := func(name string) fakegitlab.Job {
		return fakegitlab.Job{Image: &fakegitlab.Image{Name: name}, Script: []string{"echo inside"}}
	}
	service := func(s fakegitlab.Service) fakegitlab.Job {
		return fakegitlab.Job{Services: []fakegitlab.Service{s}, Script: []string{"echo inside; grep -c evil /etc/hosts || :"}}
	}
	user := func(u any) fakegitlab.Job {
		return fakegitlab.Job{Image: &fakegitlab.Image{Name: dockerImage, ExecutorOpts: map[string]any{"docker": map[string]any{"user": u}}}, Script: []string{"echo inside"}}
	}
	value := func(v string) fakegitlab.Job {
		return fakegitlab.Job{Variables: public("EVIL", v), Script: []string{`echo "inside, ${#EVIL}"`}}
	}
	tests := []struct {
		name string
		job  fakegitlab.Job
		want string // of the result; "*": whatever, but no harm
	}{
		{"flag", image("--privileged"), "failed runner_configuration_error"},
		{"spaces", image("box --privileged"), "failed runner_configuration_error"},
		{"upper case", image("Glassrunner-E2E/Box:1"), "failed runner_configuration_error"},
		{"parents", image("../../etc/passwd"), "failed runner_configuration_error"},
		{"query", image(dockerImage + "?x=/../../containers/create"), "failed runner_configuration_error"},
		{"command", image("$(touch " + w.dir + "/owned)"), "failed runner_configuration_error"},
		{"line", image("box\nFROM evil"), "failed runner_configuration_error"},
		{"no UTF-8", image("b\xff\xfex"), "failed runner_configuration_error"},
		{"long", image(long), "failed runner_configuration_error"},
		{"digest", image("box@sha256:" + strings.Repeat("0", 64)), "failed runner_system_failure"}, // image_pull_failure, which the server does not know
		{"variable that is not there", image("$NOBODY"), "success"},                                // the configuration's image
		{"alias", service(fakegitlab.Service{Name: dockerImage, Alias: new("evil:6.6.6.6"), Command: []string{"sleep", "600"}}), "failed runner_configuration_error"},
		{"long alias", service(fakegitlab.Service{Name: dockerImage, Alias: &long, Command: []string{"sleep", "600"}}), "*"},
		{"no such program", service(fakegitlab.Service{Name: dockerImage, Command: []string{"/evil"}}), "failed runner_configuration_error"},
		{"user", user("root; touch /tmp/x"), "failed runner_configuration_error"},
		{"large user", user(99999999999), "*"},
		{"entrypoint", fakegitlab.Job{Image: &fakegitlab.Image{Name: dockerImage, Entrypoint: []string{"/evil", "--x"}}, Script: []string{"echo inside"}}, "failed runner_configuration_error"},
		{"silent entrypoint", fakegitlab.Job{Image: &fakegitlab.Image{Name: dockerImage, Entrypoint: []string{"true"}}, Script: []string{"echo inside"}}, "success"},
		{"marks", value("\x1e1 0\x1e\r\nsection_end:1:step_script\r\x1b[0K"), "success"},
		{"zero byte", value("a\x00b"), "*"},
		{"200 kB", value(strings.Repeat("x", 200<<10)), "*"},
	}
	ids := make([]int64, len(tests))
	for i, tt := range tests {
		ids[i] = w.enqueue(tt.job)
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := wait(t, w, ids[i])
			if tt.want != "*" {
				want(t, s, tt.want)
			}
		})
	}
	if exists(filepath.Join(w.dir, "owned")) {
		t.Error("a value was executed")
	}
	if !p.running() {
		t.Fatal("the runner ended")
	}
	want(t, w.run(fakegitlab.Job{Script: []string{"true"}}), "success")
	w.eventually("an engine without leftovers", func() bool { return e.left(w) == "" })
}
