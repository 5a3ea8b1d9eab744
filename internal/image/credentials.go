package image

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/glassrunner/glassrunner/internal/job"
)

// Sources are where passwords of registries come from, in this order.
type Sources struct {
	Config string           // text of DOCKER_AUTH_CONFIG
	Home   string           // has .docker/config.json or .dockercfg; "": none
	Job    []job.Credential // of the payload
	Warn   func(text string)
}

// Auth is what a registry wants to know.
type Auth struct {
	Server                       string // as programs that keep passwords know it
	Username                     string
	Password                     job.Secret
	IdentityToken, RegistryToken job.Secret
}

// Credentials finds passwords of registries.
type Credentials struct {
	warn    func(string)
	sources []source
}

// source is one place with credentials.
type source struct {
	name string // as the job log calls it
	file dockerConfig
}

// dockerConfig is the part of Docker's config.json that names credentials.
type dockerConfig struct {
	Auths       map[string]dockerAuth `json:"auths"`
	CredsStore  string                `json:"credsStore"`
	CredHelpers map[string]string     `json:"credHelpers"`
}

type dockerAuth struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// Read reads all sources. One that cannot be read is told of and left out:
// another may have what is needed.
func (o Sources) Read() *Credentials {
	c := &Credentials{warn: o.Warn}
	if o.Config != "" {
		c.add("$DOCKER_AUTH_CONFIG", []byte(o.Config))
	}
	if o.Home != "" {
		for _, name := range []string{filepath.Join(".docker", "config.json"), ".dockercfg"} {
			file := filepath.Join(o.Home, name)
			text, err := os.ReadFile(file)
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
				continue
			}
			if err != nil {
				c.unused(file, err)
				continue
			}
			c.add(file, text)
			break
		}
	}
	payload := source{name: "job payload (GitLab Registry)", file: dockerConfig{Auths: map[string]dockerAuth{}}}
	for _, cr := range o.Job {
		if cr.Type == "registry" {
			payload.file.Auths[cr.URL] = dockerAuth{Username: cr.Username, Password: cr.Password.Reveal()}
		}
	}
	if len(payload.file.Auths) > 0 {
		c.sources = append(c.sources, payload)
	}
	return c
}

func (c *Credentials) unused(name string, why error) {
	c.warn(fmt.Sprintf("Credentials of %s are not used: %v", name, why))
}

// add reads a config.json. In the old form of .dockercfg the addresses are at
// the top.
func (c *Credentials) add(name string, text []byte) {
	s := source{name: name}
	err := json.Unmarshal(text, &s.file)
	if err == nil && strings.HasSuffix(name, ".dockercfg") && s.file.Auths == nil {
		err = json.Unmarshal(text, &s.file.Auths)
	}
	if err != nil {
		// The text may hold a password, and errors of json quote it.
		c.unused(name, errors.New("they are not the JSON of Docker's config.json"))
		return
	}
	c.sources = append(c.sources, s)
}

// Lookup returns what the registry of an image wants to know, for which part of
// the registry that is, and the name of the source; from is "" when nobody knows
// the registry.
func (c *Credentials) Lookup(ctx context.Context, image reference.Named) (auth Auth, part, from string) {
	for _, s := range c.sources {
		found, part, err := s.lookup(ctx, image)
		if err != nil {
			c.unused(s.name, err)
			continue
		}
		if found != nil {
			return *found, part, s.name
		}
	}
	return Auth{}, "", ""
}

// paths are the names under which an image's registry may be known, the
// longest first: credentials can be for a part of a registry.
func paths(image reference.Named) []string {
	domain := reference.Domain(image)
	var out []string
	for p := domain + "/" + reference.Path(image); p != domain && p != "." && p != "/"; p = path.Dir(p) {
		out = append(out, p)
	}
	return append(out, domain)
}

// normal brings an entry of a config.json into the form of paths.
func normal(entry string) string {
	entry = strings.TrimPrefix(strings.TrimPrefix(entry, "https://"), "http://")
	entry = strings.TrimSuffix(entry, "/")
	for _, version := range []string{"/v1", "/v2"} {
		if host, ok := strings.CutSuffix(entry, version); ok && !strings.Contains(host, "/") {
			entry = host
		}
	}
	host, rest, deeper := strings.Cut(entry, "/")
	switch host {
	case "index.docker.io", "registry-1.docker.io", "docker.io":
		host = "docker.io"
	}
	if deeper {
		return host + "/" + rest
	}
	return host
}

// dockerHub is how helpers know Docker Hub.
const dockerHub = "https://index.docker.io/v1/"

func (s source) lookup(ctx context.Context, image reference.Named) (auth *Auth, part string, err error) {
	names := paths(image)
	domain := reference.Domain(image)
	helpers := map[string]string{}
	for entry, h := range s.file.CredHelpers {
		helpers[normal(entry)] = h
	}
	auths := map[string]dockerAuth{}
	for entry, a := range s.file.Auths {
		auths[normal(entry)] = a
	}
	for _, name := range names {
		if h, ok := helpers[name]; ok {
			auth, err := runHelper(ctx, h, server(name))
			return auth, name, err
		}
		if a, ok := auths[name]; ok {
			auth, err := a.config(domain)
			if err != nil {
				return nil, "", fmt.Errorf("%s: %w", name, err)
			}
			if auth != nil {
				return auth, name, nil
			}
		}
	}
	if s.file.CredsStore != "" {
		auth, err := runHelper(ctx, s.file.CredsStore, server(domain))
		return auth, domain, err
	}
	return nil, "", nil
}

// server is how a helper knows a registry.
func server(name string) string {
	if name == "docker.io" {
		return dockerHub
	}
	return name
}

// config turns an entry into what the registry wants. An empty entry says that
// a store has the password: nil.
func (a dockerAuth) config(domain string) (*Auth, error) {
	out := &Auth{
		Username: a.Username, Password: job.Secret(a.Password), Server: server(domain),
		IdentityToken: job.Secret(a.IdentityToken), RegistryToken: job.Secret(a.RegistryToken),
	}
	if a.Auth != "" {
		text, err := base64.StdEncoding.DecodeString(a.Auth)
		if err != nil {
			return nil, errors.New("auth is not base64")
		}
		user, password, ok := strings.Cut(string(text), ":")
		if !ok {
			return nil, errors.New("auth is not USER:PASSWORD in base64")
		}
		out.Username, out.Password = user, job.Secret(strings.Trim(password, "\x00"))
	}
	if out.Username == "" && out.Password == "" && out.IdentityToken == "" && out.RegistryToken == "" {
		return nil, nil
	}
	return out, nil
}

// helperTimeout bounds how long a credential helper may think.
const helperTimeout = time.Minute

// runHelper asks docker-credential-NAME for the password of a registry. One
// that has none is no error.
func runHelper(ctx context.Context, name, server string) (*Auth, error) {
	if name == "" || strings.ContainsAny(name, `/\`) || strings.Contains(name, "..") {
		return nil, fmt.Errorf("the credential helper %q is not the name of a program", name)
	}
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	program := "docker-credential-" + name
	cmd := exec.CommandContext(ctx, program, "get")
	cmd.Stdin = strings.NewReader(server)
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		// What a helper prints may be a password.
		if strings.Contains(out.String(), "credentials not found") {
			return nil, nil
		}
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	var answer struct {
		Username string `json:"Username"`
		Secret   string `json:"Secret"`
	}
	if json.Unmarshal(out.Bytes(), &answer) != nil {
		return nil, fmt.Errorf("%s: its answer is not JSON", program)
	}
	if answer.Username == "<token>" {
		return &Auth{IdentityToken: job.Secret(answer.Secret), Server: server}, nil
	}
	return &Auth{Username: answer.Username, Password: job.Secret(answer.Secret), Server: server}, nil
}
