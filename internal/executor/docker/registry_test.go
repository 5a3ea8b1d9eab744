package docker_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/authconfig"
	apireg "github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/executor/docker"
	"github.com/glassrunner/glassrunner/internal/job"
)

// Who may use the registry of the tests: ci with the password "open sesame".
const (
	registryUser     = "ci"
	registryPassword = "open sesame" // of the file below
	registryHash     = "ci:$2a$04$zaxNzBVk5b7fiCyJRn7pQutSv1Ec0pXTLQfobUm.GyqlHH7fTNcxi\n"
)

// registry starts a registry that wants a password and returns its address.
func registry(t *testing.T, c *client.Client) string {
	t.Helper()
	host := os.Getenv("GLASSRUNNER_TEST_DOCKER_HOST")
	program, err := exec.LookPath("docker-registry")
	if err != nil || host == "" {
		if os.Getenv("GLASSRUNNER_NEED_DOCKER") != "" {
			t.Fatal("no docker-registry, or GLASSRUNNER_TEST_DOCKER_HOST is not set")
		}
		t.Skip("there is no docker-registry, or GLASSRUNNER_TEST_DOCKER_HOST is not set")
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := map[string]string{
		"htpasswd": registryHash,
		"c.yml": fmt.Sprintf("version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: %s\nhttp:\n  addr: %s\nauth:\n  htpasswd:\n    realm: tests\n    path: %s\n",
			filepath.Join(dir, "data"), addr, filepath.Join(dir, "htpasswd")),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, "serve", filepath.Join(dir, "c.yml"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for end := time.Now().Add(20 * time.Second); ; {
		r, err := http.Get("http://" + addr + "/v2/")
		if err == nil {
			_ = r.Body.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the registry does not answer: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	auth, err := authconfig.Encode(apireg.AuthConfig{Username: registryUser, Password: registryPassword})
	if err != nil {
		t.Fatal(err)
	}
	name := addr + "/group/box:1"
	if _, err := c.ImageTag(t.Context(), client.ImageTagOptions{Source: boxImage, Target: name}); err != nil {
		t.Fatal(err)
	}
	push, err := c.ImagePush(t.Context(), name, client.ImagePushOptions{RegistryAuth: auth})
	if err != nil {
		t.Fatal(err)
	}
	if err := push.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	forget(t, c, name)
	return addr
}

// forget removes an image from the engine.
func forget(t *testing.T, c *client.Client, name string) {
	t.Helper()
	// What is not there is forgotten.
	_, _ = c.ImageRemove(context.Background(), name, client.ImageRemoveOptions{Force: true})
}

func TestPulls(t *testing.T) {
	c := engine(t)
	addr := registry(t, c)
	image := addr + "/group/box:1"
	login := base64.StdEncoding.EncodeToString([]byte(registryUser + ":" + registryPassword))
	good := job.Variable{Key: "DOCKER_AUTH_CONFIG", Value: fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, addr, login)}
	for _, tt := range []struct {
		name     string
		vars     job.Variables
		home     string
		creds    []job.Credential
		image    string
		policies []string
		present  bool
		reason   job.Reason // NoReason: it works
		log      []string
		result   string
	}{
		{name: "variable", vars: job.Variables{good}, image: image, policies: []string{"always"}, log: []string{
			"Using effective pull policy of [always] for container " + image, "Pulling docker image " + image + " ...",
			"Authenticating with credentials from $DOCKER_AUTH_CONFIG", " with digest " + addr + "/group/box@sha256:",
		}, result: "pulled"},
		{name: "home", home: fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, "http://"+addr, login), image: image, policies: []string{"always"},
			log: []string{".docker/config.json"}, result: "pulled"},
		{name: "job", creds: []job.Credential{{Type: "registry", URL: addr, Username: registryUser, Password: registryPassword}}, image: image,
			policies: []string{"always"}, log: []string{"job payload (GitLab Registry)"}, result: "pulled"},
		{name: "order", vars: job.Variables{{Key: "DOCKER_AUTH_CONFIG", Value: fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, addr, base64.StdEncoding.EncodeToString([]byte("ci:wrong")))}},
			creds: []job.Credential{{Type: "registry", URL: addr, Username: registryUser, Password: registryPassword}}, image: image,
			policies: []string{"always"}, reason: job.ConfigurationError, result: "failed"},
		{name: "nobody", image: image, policies: []string{"always"}, reason: job.ConfigurationError, result: "failed"},
		{name: "unknown tag", vars: job.Variables{good}, image: addr + "/group/box:2", policies: []string{"always"}, reason: job.ConfigurationError, result: "failed"},
		{name: "present", image: image, present: true, policies: []string{"if-not-present"}, log: []string{`Using locally found image version due to "if-not-present" pull policy`}, result: "present"},
		{name: "not present", vars: job.Variables{good}, image: image, policies: []string{"if-not-present"}, log: []string{"Pulling docker image"}, result: "pulled"},
		{name: "second policy", image: image, present: true, policies: []string{"always", "if-not-present"}, log: []string{`Attempt #2: Trying "if-not-present" pull policy`}, result: "present"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			forget(t, c, image)
			if tt.present {
				if _, err := c.ImageTag(t.Context(), client.ImageTagOptions{Source: boxImage, Target: image}); err != nil {
					t.Fatal(err)
				}
			}
			var f facts
			o, r := options(t), request(t)
			o.Bus = event.NewBus(&f)
			o.Config.PullPolicy = tt.policies
			o.Config.AllowedPullPolicies = []string{"always", "if-not-present", "never"}
			r.Spec.Image.Name, r.Variables, r.Spec.Credentials = tt.image, tt.vars, tt.creds
			if tt.home != "" {
				if err := os.Mkdir(filepath.Join(o.Home, ".docker"), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(o.Home, ".docker", "config.json"), []byte(tt.home), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p, err := tryOpen(t, o, r)
			if tt.reason != job.NoReason {
				wantReason(t, err, tt.reason, "failed to pull image")
			} else if err != nil {
				t.Fatalf("Open: %v\n%s", err, p.log)
			} else {
				p.want(t, executor.Build, "echo works", "works\n")
			}
			for _, want := range tt.log {
				if !strings.Contains(p.log.String(), want) {
					t.Errorf("the log lacks %q:\n%s", want, p.log)
				}
			}
			if strings.Contains(p.log.String(), registryPassword) {
				t.Error("the log has the password")
			}
			last, ok := f.all[len(f.all)-1].(event.ImagePulled)
			if !ok || last.Result != tt.result || tt.result == "pulled" && last.Took <= 0 {
				t.Errorf("got the fact %+v, want the result %s", f.all[len(f.all)-1], tt.result)
			}
		})
	}
}

func TestPullDelay(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 100 {
		d := docker.PullDelay()
		if seen[d] = true; d < 2*time.Second || d >= 10*time.Second {
			t.Errorf("got %v", d)
		}
	}
	if len(seen) < 90 {
		t.Errorf("of 100 delays %d differ", len(seen))
	}
}

func TestRegistryIsAway(t *testing.T) {
	engine(t)
	o, r := options(t), request(t)
	o.Config.AllowedPullPolicies = []string{"always", "never"}
	r.Spec.Image = job.Image{Name: "127.0.0.1:1/none:1", PullPolicy: []string{"always"}}
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	log := &buffer{}
	r.Log = log
	d := newDriver(t, o)
	docker.SetPullDelay(d, 10*time.Millisecond)
	_, err := d.Open(ctx, r)
	wantReason(t, err, job.ExternalDependency, "127.0.0.1:1/none:1")
	if n := strings.Count(log.String(), "Trying again in"); n != 2 {
		t.Errorf("tried again %d times, want 2:\n%s", n, log)
	}
}
