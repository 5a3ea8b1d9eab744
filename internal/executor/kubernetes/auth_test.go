package kubernetes_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/executor/kubernetes"
	"github.com/glassrunner/glassrunner/internal/job"
)

// TestPasswords looks which passwords a pod gets: those of its own images, from
// the first source that knows them, under the names by which a kubelet looks
// for them.
func TestPasswords(t *testing.T) {
	bin, home := t.TempDir(), t.TempDir()
	program := "#!/bin/sh\necho '{\"Username\":\"helped\",\"Secret\":\"h\"}'\n"
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-test"), []byte(program), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	if err := os.Mkdir(filepath.Join(home, ".docker"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".docker", "config.json"), []byte(`{"credHelpers":{"helped.example.com":"test"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	payload := []job.Credential{
		{Type: "registry", URL: "registry.example.com:5000", Username: "job", Password: "j"},
		{Type: "registry", URL: "elsewhere.example.com", Username: "unused", Password: "x"},
	}
	for _, tt := range []struct {
		name, image, config string
		services            []job.Image
		want                map[string]string
	}{
		{name: "no image needs one", image: "busybox"},
		{name: "the payload's", image: "registry.example.com:5000/a/b:1", want: map[string]string{"registry.example.com:5000": "job:j"}},
		{
			name: "the variable's, for a part of the registry", image: "registry.example.com:5000/a/b:1",
			config: `{"auths":{"registry.example.com:5000/a":{"username":"a","password":"p"}}}`,
			want:   map[string]string{"registry.example.com:5000/a": "a:p"},
		},
		{
			name: "Docker Hub's", image: "busybox", config: `{"auths":{"docker.io":{"username":"hub","password":"p"}}}`,
			want: map[string]string{"https://index.docker.io/v1/": "hub:p"},
		},
		{
			name: "a program's, for a service", image: "busybox", services: []job.Image{{Name: "helped.example.com/db"}},
			want: map[string]string{"helped.example.com": "helped:h"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := options()
			o.Home = home
			r := request(t)
			r.Spec.Image.Name, r.Spec.Services, r.Spec.Credentials = tt.image, tt.services, payload
			r.Variables = append(r.Variables, job.Variable{Key: "DOCKER_AUTH_CONFIG", Value: tt.config})
			text, err := kubernetes.Passwords(t.Context(), driver(t, o), r)
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Auths map[string]struct{ Username, Password, Auth string }
			}
			if text != "" {
				if err := json.Unmarshal([]byte(text), &got); err != nil {
					t.Fatal(err)
				}
			}
			found := map[string]string{}
			for part, a := range got.Auths {
				found[part] = fmt.Sprintf("%s:%s", a.Username, a.Password)
			}
			if tt.want == nil {
				tt.want = map[string]string{}
			}
			if d := cmp.Diff(tt.want, found); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
