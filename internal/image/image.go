// Package image holds what executors share that run container images: which
// ones a job may use, when they are pulled, with whose password, why a pull
// failed, and what an image's service is called. It knows neither an engine nor
// a cluster.
package image

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/distribution/reference"

	"github.com/glassrunner/glassrunner/internal/job"
)

// WellFormed refuses what cannot be the name or the number of an image, before
// it gets into addresses and lines of the log.
func WellFormed(name string) error {
	if _, err := reference.ParseAnyReference(name); err != nil {
		return fmt.Errorf("image %.100q: %w", name, err)
	}
	return nil
}

// Policy says when an image is pulled.
type Policy string

// The policies, as in config.toml.
const (
	Always       Policy = "always"
	IfNotPresent Policy = "if-not-present"
	Never        Policy = "never"
	Unset        Policy = "" // whatever runs the image decides
)

// Policies are those of a configuration.
type Policies struct {
	Configured []string // pull_policy
	Allowed    []string // allowed_pull_policies; none: the configured ones
	Default    Policy   // where none is configured
}

// Choose returns those that a job wants, or else the configured ones, as far as
// they are allowed, in that order.
func (p Policies) Choose(image string, wanted []string) ([]Policy, error) {
	source := "GitLab pipeline config"
	if len(wanted) == 0 {
		wanted, source = p.Configured, "Runner config"
	}
	if len(wanted) == 0 {
		wanted, source = []string{string(p.Default)}, "Runner config (default)"
	}
	allowed := p.Allowed
	if len(allowed) == 0 {
		allowed = p.Configured
	}
	if len(allowed) == 0 {
		allowed = []string{string(p.Default)}
	}
	var out []Policy
	for _, w := range wanted {
		switch policy := Policy(w); policy {
		case Always, IfNotPresent, Never, p.Default:
			if slices.Contains(allowed, w) {
				out = append(out, policy)
			}
		default:
			return nil, fmt.Errorf("invalid pull policy for image %q: unsupported pull_policy %q", image, w)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("invalid pull policy for image %q: pull_policy (%v) defined in %s is not one of the allowed_pull_policies (%v)", image, wanted, source, allowed)
	}
	return out, nil
}

// Match compares an image with a pattern of the configuration. A pattern that
// is none matches nothing.
func Match(pattern, name string) bool {
	ok, err := doublestar.Match(pattern, name)
	return err == nil && ok
}

// MatchAny reports whether one of the patterns matches.
func MatchAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return Match(p, name) })
}

// A List says which images a configuration allows.
type List struct {
	Key      string   // "allowed_images of [runners.docker]", for people
	What     string   // "images" or "services"
	Patterns []string // none: every image is allowed
	Own      []string // what the configuration itself names, and so allows
}

// ErrDisallowed says that a job wants an image that it may not use.
var ErrDisallowed = errors.New("disallowed image")

// Check refuses an image that is not allowed, and says what would be.
func (l List) Check(name string, say func(line string)) error {
	if len(l.Patterns) == 0 || slices.Contains(l.Own, name) || MatchAny(l.Patterns, name) {
		return nil
	}
	say("")
	say("\x1b[31;1mThe \"" + name + "\" image is not present on list of allowed " + l.What + ":\x1b[0;m")
	for _, pattern := range l.Patterns {
		say("- " + pattern)
	}
	say("")
	say("The list is " + l.Key + " in the runner's configuration.")
	return ErrDisallowed
}

// PullReason sorts the texts of registries, engines and container runtimes that
// could not pull an image; there is nothing else to go by.
func PullReason(text string) job.Reason {
	text = strings.ToLower(text)
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(s string) bool { return strings.Contains(text, s) })
	}
	switch {
	case has("dial tcp", "connection refused", "no such host", "i/o timeout", "tls handshake", "client.timeout exceeded",
		"request canceled", "connection reset"):
		return job.ExternalDependency
	case has("not found", "manifest unknown", "pull access denied", "access to the resource is denied", "no basic auth credentials",
		"repository does not exist or may require", "insufficient_scope", "unauthorized", "authentication required",
		"errimageneverpull", "is not present with pull policy of never"):
		return job.ConfigurationError
	}
	return job.ImagePullFailure
}

// Service divides an image's name into what its service is called (no port of
// the registry, no tag, no digest) and its version.
func Service(name string) (repo, version string) {
	repo, version = name, "latest"
	if at := strings.IndexByte(repo, '@'); at >= 0 {
		repo, version = repo[:at], repo[at+1:]
		if i := strings.LastIndexByte(repo, ':'); i > strings.LastIndexByte(repo, '/') {
			repo = repo[:i]
		}
	} else if i := strings.LastIndexByte(repo, ':'); i > strings.LastIndexByte(repo, '/') {
		repo, version = repo[:i], repo[i+1:]
	}
	if host, rest, ok := strings.Cut(repo, "/"); ok {
		host, _, _ = strings.Cut(host, ":")
		repo = host + "/" + rest
	}
	return repo, version
}

// Aliases are the host names under which a service can be reached: two forms
// of what it is called, and those that given lists. What given holds may name
// several, separated by commas or spaces.
func Aliases(repo string, given ...string) []string {
	out := []string{strings.ReplaceAll(repo, "/", "__")}
	add := func(name string) {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	add(strings.ReplaceAll(repo, "/", "-"))
	for _, g := range given {
		for _, name := range Names(g) {
			add(name)
		}
	}
	return out
}

// Names reads names that commas or spaces separate.
func Names(text string) []string {
	return strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' || c == '\n' })
}
