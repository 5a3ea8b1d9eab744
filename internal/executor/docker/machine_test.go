package docker_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
