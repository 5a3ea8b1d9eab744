package kubernetes

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
)

// registryAuth is one entry of a config.json.
type registryAuth struct {
	Auth          string `json:"auth,omitempty"`
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
}

// credentials collects the passwords of registries: those of the job's payload,
// of the runner's user and of DOCKER_AUTH_CONFIG; the later ones win. Credential
// helpers are programs of the runner's machine that give short-lived passwords
// of their own; they are left to image_pull_secrets.
func (p *place) credentials() []byte {
	all := map[string]registryAuth{}
	for _, c := range p.r.Spec.Credentials {
		if c.Type == "registry" {
			all[c.URL] = registryAuth{
				Username: c.Username, Password: c.Password.Reveal(),
				Auth: base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password.Reveal())),
			}
		}
	}
	add := func(name string, text []byte) {
		var file struct {
			Auths map[string]registryAuth `json:"auths"`
		}
		if json.Unmarshal(text, &file) != nil {
			// The text may hold a password, and errors of json quote it.
			p.warn("Credentials of %s are not used: they are not the JSON of Docker's config.json", name)
			return
		}
		for registry, auth := range file.Auths {
			if auth != (registryAuth{}) {
				all[registry] = auth
			}
		}
	}
	if p.d.o.Home != "" {
		file := filepath.Join(p.d.o.Home, ".docker", "config.json")
		text, err := os.ReadFile(file)
		switch {
		case err == nil:
			add(file, text)
		case !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission):
			p.warn("Credentials of %s are not used: %v", file, err)
		}
	}
	if text := p.r.Variables.Value("DOCKER_AUTH_CONFIG"); text != "" {
		add("$DOCKER_AUTH_CONFIG", []byte(text))
	}
	if len(all) == 0 {
		return nil
	}
	out, err := json.Marshal(map[string]any{"auths": all})
	if err != nil {
		return nil // a map of strings can be marshalled
	}
	return out
}

// pullSecret is the job's own secret, or nil when it needs none.
func (p *place) pullSecret() *corev1.Secret {
	if p.c.UseServiceAccountImagePullSecrets {
		return nil
	}
	text := p.credentials()
	if text == nil {
		return nil
	}
	s := &corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: text}}
	s.Kind, s.APIVersion = "Secret", "v1"
	s.Name, s.Namespace, s.Labels = p.name, p.namespace, p.labels()
	return s
}
