package kubernetes

import (
	"context"
	"encoding/base64"
	"encoding/json"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"

	"github.com/glassrunner/glassrunner/internal/image"
)

// registryAuth is an entry of the config.json that a kubelet reads.
type registryAuth struct {
	Auth          string `json:"auth,omitempty"`
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
}

// credentials are the passwords that the pod's images need, and no others, as a
// config.json; nil when they need none.
func (p *place) credentials(ctx context.Context) []byte {
	known := image.Sources{
		Config: p.r.Variables.Value("DOCKER_AUTH_CONFIG"), Home: p.d.o.Home, Job: p.r.Spec.Credentials,
		Warn: func(text string) { p.warn("%s", text) },
	}.Read()
	auths := map[string]registryAuth{}
	for _, o := range p.origins() {
		named, err := reference.ParseNormalizedNamed(o.name)
		if err != nil {
			continue // the kubelet will say so
		}
		auth, part, from := known.Lookup(ctx, named)
		if from == "" {
			continue
		}
		if reference.Domain(named) == "docker.io" {
			part = auth.Server // the only name by which a kubelet knows it
		}
		entry := registryAuth{Username: auth.Username, Password: auth.Password.Reveal(), IdentityToken: auth.IdentityToken.Reveal()}
		if entry.Username != "" {
			entry.Auth = base64.StdEncoding.EncodeToString([]byte(entry.Username + ":" + entry.Password))
		}
		auths[part] = entry
	}
	if len(auths) == 0 {
		return nil
	}
	out, err := json.Marshal(map[string]any{"auths": auths})
	if err != nil {
		return nil // a map of strings can be marshalled
	}
	return out
}

// origins are the images of all containers.
func (p *place) origins() []*origin {
	all := []*origin{&p.image, &p.helper}
	for _, s := range p.services {
		all = append(all, &s.origin)
	}
	return all
}

// pullSecret is the job's own secret, or nil when it needs none.
func (p *place) pullSecret(ctx context.Context) *corev1.Secret {
	if p.c.UseServiceAccountImagePullSecrets {
		return nil
	}
	text := p.credentials(ctx)
	if text == nil {
		return nil
	}
	s := &corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: text}}
	s.Kind, s.APIVersion = "Secret", "v1"
	s.Name, s.Namespace, s.Labels = p.name, p.namespace, p.labels()
	return s
}
