//go:build linux

package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// A combination is one job of the matrix.
type combination struct {
	image            string
	services         int
	cache, artifacts bool
	network          bool // of the job's own
}

func (c combination) String() string {
	return fmt.Sprintf("%s,services=%d,cache=%v,artifacts=%v,network=%v", strings.Split(c.image, ":")[0], c.services, c.cache, c.artifacts, c.network)
}

// matrix has every pair of an image, services, a cache, artifacts and a network,
// and every three of services, cache and artifacts.
func matrix() []combination {
	return []combination{
		{dockerImage, 0, false, false, false},
		{dockerImage, 2, true, true, true},
		{imageUser, 2, false, true, true},
		{imageUser, 0, true, false, false},
		{imageEntry, 0, true, true, false},
		{imageEntry, 2, false, false, true},
		{imageHelper, 2, true, false, false},
		{imageHelper, 0, false, true, true},
	}
}

// About an image, the job finds out what stands here: the user whom scripts run
// as, whether the image's entrypoint came first, and how to fetch a page.
var aboutImage = map[string]struct{ user, entrypoint, get string }{
	dockerImage: {"0", "no", "wget -q -O- http://%s:8000/"},
	imageUser:   {"1000", "no", "wget -q -O- http://%s:8000/"},
	imageEntry:  {"0", "yes", "wget -q -O- http://%s:8000/"},
	imageHelper: {"0", "no", `exec 3<>/dev/tcp/%s/8000; printf 'GET / HTTP/1.0\r\n\r\n' >&3; tail -n 1 <&3`},
}

// serviceImage are the images of a job's services.
var serviceImage = []string{dockerImage, imageUser}

func serviceName(n int) string { return fmt.Sprintf("web%d", n) }

// job makes a combination's job; before is the one whose artifacts it wants.
func (c combination) job(before int64) fakegitlab.Job {
	j := fakegitlab.Job{
		Name: c.String(), Project: "acme/app", Image: &fakegitlab.Image{Name: c.image},
		Script: []string{
			`echo "user $(id -u), entrypoint ${FROM_ENTRYPOINT:-no}, $(cat a.txt)"`,
			`echo "cached: $(cat deps/key 2>/dev/null || echo nothing)"; mkdir -p deps; echo kept >deps/key`,
			`echo "given: $(cat out/made 2>/dev/null || echo nothing)"; mkdir -p out; echo "by $CI_JOB_ID" >out/made`,
		},
		AfterScript: []string{`echo "after $CI_JOB_STATUS: $(cat out/made)"`},
	}
	for n := range c.services {
		name := serviceName(n)
		j.Services = append(j.Services, fakegitlab.Service{
			Name: serviceImage[n], Alias: &name,
			Command:   []string{"sh", "-c", "mkdir /tmp/w; echo I am $ME >/tmp/w/index.html; exec httpd -f -p 8000 -h /tmp/w"},
			Variables: []fakegitlab.ServiceVariable{{Key: "HEALTHCHECK_TCP_PORT", Value: "8000"}, {Key: "ME", Value: name}},
		})
		j.Script = append(j.Script, fmt.Sprintf(aboutImage[c.image].get, name))
	}
	if c.cache {
		j.Cache = []fakegitlab.Cache{{Key: c.String(), Paths: []string{"deps/"}, Policy: "pull-push", When: "on_success"}}
	}
	if c.artifacts {
		j.Artifacts = []fakegitlab.ArtifactSpec{archiveOf("out/")}
		if before != 0 {
			j.Dependencies = []int64{before}
		}
	}
	if c.network {
		j.Variables = public("FF_NETWORK_PER_BUILD", "true")
	}
	return j
}

// wants is what the contract says of a combination's log: the order of the
// stages, and what each finds. Before is 0 in the first round.
func (c combination) wants(id, before int64) (has, hasNot []string) {
	about := aboutImage[c.image]
	cached, given := "nothing", "nothing"
	has = append(has, `Preparing the "docker" executor`, "Using Docker executor with image "+c.image+" ...")
	if c.services > 0 {
		has = append(has, "Starting service "+serviceImage[0]+"...", "Starting service "+serviceImage[1]+"...", "Waiting for services to be up and running (timeout 30 seconds)...")
	} else {
		hasNot = append(hasNot, "Starting service", "Waiting for services")
	}
	has = append(has, "Preparing environment", "Running on runner-", "Getting source from Git repository", "Checking out ")
	switch {
	case !c.cache:
		hasNot = append(hasNot, "Restoring cache", "Saving cache")
	case before == 0:
		has = append(has, "Restoring cache", "Checking cache for "+c.String()+"...", "Failed to extract cache")
	default:
		has = append(has, "Restoring cache", "Checking cache for "+c.String()+"...", "Successfully extracted cache")
		cached = "kept"
	}
	switch {
	case c.artifacts && before != 0:
		has = append(has, "Downloading artifacts")
		given = fmt.Sprintf("by %d", before)
	default:
		hasNot = append(hasNot, "Downloading artifacts")
	}
	has = append(has, `Executing "step_script" stage of the job script`,
		fmt.Sprintf("\nuser %s, entrypoint %s, from git\n", about.user, about.entrypoint),
		"\ncached: "+cached+"\n", "\ngiven: "+given+"\n")
	for n := range c.services {
		has = append(has, fmt.Sprintf("\nI am web%d\n", n))
	}
	has = append(has, "Running after_script", fmt.Sprintf("\nafter success: by %d\n", id))
	if c.cache {
		has = append(has, "Saving cache for successful job", "Creating cache "+c.String()+"...", "Created cache")
	}
	if c.artifacts {
		has = append(has, "Uploading artifacts for successful job", "Uploading artifacts...", "out/: found 2 matching artifact files and directories")
	} else {
		hasNot = append(hasNot, "Uploading artifacts")
	}
	has = append(has, "Cleaning up project directory and file based variables", "Job succeeded")
	if !c.cache || before != 0 { // a cache that is not there yet is warned of
		hasNot = append(hasNot, "WARNING")
	}
	return has, append(hasNot, "ERROR")
}

// TestDockerMatrix runs the combinations twice: what the first round cached and
// uploaded is there in the second.
func TestDockerMatrix(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	w := dockerWorld(t, e, fakegitlab.Options{Concurrent: 20})
	// One slot has one cache volume, and four jobs run at once: local caches
	// belong to all slots only in a directory of the engine's machine.
	w.start(w.docker(e, "concurrent = 4", fmt.Sprintf("volumes = [%q]", w.dir+"/shared:/cache")))
	project(t, w, "acme/app", map[string]string{"a.txt": "from git"})
	all := matrix()
	ids := make([]int64, len(all))
	for round := range 2 {
		before := append([]int64(nil), ids...)
		for i, c := range all {
			ids[i] = w.enqueue(c.job(before[i]))
		}
		for i, c := range all {
			t.Run(fmt.Sprintf("%d,%s", round+1, c), func(t *testing.T) {
				s := wait(t, w, ids[i])
				want(t, s, "success")
				yes, no := c.wants(ids[i], before[i])
				has(t, text(s.Trace), yes...)
				hasNot(t, text(s.Trace), no...)
				a, ok := w.server.Artifact(ids[i], "archive")
				if ok != c.artifacts {
					t.Fatalf("there is an artifact: %v, want %v", ok, c.artifacts)
				}
				if made := fmt.Sprintf("by %d\n", ids[i]); ok && unzipped(t, a.Data)["out/made"] != made {
					t.Errorf("the artifact has %q, want %q", unzipped(t, a.Data), made)
				}
			})
		}
	}
	w.eventually("an engine without leftovers", func() bool { return e.left(w) == "" })
}
