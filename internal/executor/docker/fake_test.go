package docker_test

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/executor/docker"
	"github.com/glassrunner/glassrunner/internal/job"
)

// fake is an engine that has every image and makes no container.
type fake struct {
	api, system string
	status      int // of containers/create

	mu      sync.Mutex
	paths   []string
	created map[string]map[string]any // by the type label
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paths = append(f.paths, r.URL.Path)
	w.Header().Set("Api-Version", f.api)
	w.Header().Set("Ostype", f.system)
	w.Header().Set("Content-Type", "application/json")
	switch p := r.URL.Path; {
	case strings.HasSuffix(p, "/_ping"):
	case strings.Contains(p, "/images/"):
		fmt.Fprint(w, `{"Id":"sha256:0123456789abcdef","Os":"linux","Architecture":"amd64"}`)
	case strings.HasSuffix(p, "/containers/create"):
		var body map[string]any
		if err := json.NewDecoder(r.Body).Decode(&body); err == nil {
			labels, _ := body["Labels"].(map[string]any)
			f.created[fmt.Sprint(labels["com.gitlab.gitlab-runner.type"])] = body
		}
		w.WriteHeader(f.status)
		fmt.Fprint(w, `{"message":"the fake makes no containers"}`)
	case strings.HasSuffix(p, "/volumes"):
		fmt.Fprint(w, `{"Volumes":[]}`)
	case strings.HasSuffix(p, "/volumes/create"):
		fmt.Fprint(w, `{"Name":"x"}`)
	default:
		fmt.Fprint(w, `[]`)
	}
}

// start serves the fake and returns options for it.
func (f *fake) start(t *testing.T) docker.Options {
	t.Helper()
	f.created = map[string]map[string]any{}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return docker.Options{
		Config: config.Docker{Host: "tcp://" + s.Listener.Addr().String(), Image: "ruby:3", PullPolicy: []string{"never"}},
		Home:   t.TempDir(),
	}
}

func TestMACAddressByVersion(t *testing.T) {
	for _, tt := range []struct {
		api  string
		told bool
	}{{"1.41", false}, {"1.44", true}, {"1.99", true}} {
		f := &fake{api: tt.api, system: "linux", status: 500}
		o := f.start(t)
		o.Config.MACAddress = "02:42:ac:11:00:02"
		p, err := tryOpen(t, o, request(t))
		if err == nil || !strings.Contains(err.Error(), "the fake makes no containers") {
			t.Fatalf("got %v", err)
		}
		text, _ := json.Marshal(f.created["build"]["NetworkingConfig"])
		if told := strings.Contains(string(text), "02:42:ac:11:00:02"); told != tt.told {
			t.Errorf("API %s: told the engine: %v, want %v: %s", tt.api, told, tt.told, text)
		}
		if warned := strings.Contains(p.log.String(), "mac_address is ignored"); warned == tt.told {
			t.Errorf("API %s: warned: %v", tt.api, warned)
		}
		version := tt.api
		if version == "1.99" {
			version = "1.56" // the most that the client knows
		}
		if last := f.paths[len(f.paths)-1]; !strings.HasPrefix(last, "/v"+version+"/") {
			t.Errorf("API %s: asked %s", tt.api, last)
		}
	}
}

func TestRefusedContainers(t *testing.T) {
	for status, reason := range map[int]job.Reason{400: job.ConfigurationError, 500: job.NoReason} {
		f := &fake{api: "1.44", system: "linux", status: status}
		_, err := tryOpen(t, f.start(t), request(t))
		if reason != job.NoReason {
			wantReason(t, err, reason, "creating the")
			continue
		}
		if err == nil || strings.Contains(err.Error(), string(job.ConfigurationError)) {
			t.Errorf("%d: got %v", status, err)
		}
	}
}

func TestOtherSystems(t *testing.T) {
	f := &fake{api: "1.44", system: "windows"}
	_, err := tryOpen(t, f.start(t), request(t))
	wantReason(t, err, job.ConfigurationError, "containers of windows")
}

func TestNoEngine(t *testing.T) {
	o := docker.Options{Config: config.Docker{Host: "unix:///nowhere/docker.sock", Image: "ruby"}, Home: t.TempDir()}
	p, err := tryOpen(t, o, request(t))
	if err == nil || !strings.Contains(err.Error(), "the Docker engine at unix:///nowhere/docker.sock does not answer") {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(p.log.String(), "systemctl status docker") {
		t.Errorf("the log has no remedy: %q", p.log)
	}
	o.Config.Host = "carrier pigeon"
	_, err = tryOpen(t, o, request(t))
	wantReason(t, err, job.ConfigurationError, "connecting to the Docker engine")
}

// TestTLS reaches an engine over TLS, with its certificate's authority known
// and unknown.
func TestTLS(t *testing.T) {
	f := &fake{api: "1.44", system: "windows", created: map[string]map[string]any{}}
	s := httptest.NewUnstartedServer(f)
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	dir := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), ca, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path   string
		verify bool
		ok     bool
	}{{dir, true, true}, {dir, false, true}, {"", true, false}, {t.TempDir(), false, true}, {t.TempDir(), true, false}} {
		o := docker.Options{Config: config.Docker{Host: "tcp://" + s.Listener.Addr().String(), TLSCertPath: tt.path, TLSVerify: tt.verify, Image: "ruby"}, Home: t.TempDir()}
		_, err := tryOpen(t, o, request(t))
		// The fake runs Windows: whoever hears that has reached it.
		if ok := err != nil && strings.Contains(err.Error(), "containers of windows"); ok != tt.ok {
			t.Errorf("%+v: got %v", tt, err)
		}
	}
}

func TestHelperImageIsMissing(t *testing.T) {
	engine(t)
	o, r := options(t), request(t)
	o.Helper = "glassrunner-test/no-helper:1"
	p, err := tryOpen(t, o, r)
	wantReason(t, err, job.ConfigurationError, "glassrunner-test/no-helper:1 is not on the engine")
	if !strings.Contains(p.log.String(), "make helper-image") {
		t.Errorf("the log has no remedy:\n%s", p.log)
	}
}
