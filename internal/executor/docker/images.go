package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/image"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/pause"
)

// held is an image that the engine has.
type held struct {
	name   string // as it was asked for
	id     string
	digest string // NAME@sha256:…, "" when it came from no registry
	user   string
	// entrypoint: the image has a program that comes before the command.
	entrypoint bool
}

// reference is what containers are made of.
func (i held) reference() string { return cmp.Or(i.digest, i.id) }

// images finds images, each only once for a job.
type images struct {
	p     *place
	found map[string]held // by name and platform
	creds *image.Credentials
}

// policies are those that a job wants, or else the configuration's, as far as
// the configuration allows them.
func (p *place) policies(name string, wanted []string) ([]image.Policy, error) {
	out, err := image.Policies{Configured: p.c.PullPolicy, Allowed: p.c.AllowedPullPolicies, Default: image.Always}.Choose(name, wanted)
	if err != nil {
		return nil, executor.Misconfigured("%w", err)
	}
	return out, nil
}

// wellFormed refuses what cannot be an image.
func wellFormed(name string) error {
	if err := image.WellFormed(name); err != nil {
		return executor.Misconfigured("%w", err)
	}
	return nil
}

// get makes sure that the engine has an image, by one policy after the other.
func (i *images) get(ctx context.Context, name string, policies []image.Policy, platform string) (held, error) {
	key := name + "\x00" + platform
	if img, ok := i.found[key]; ok {
		return img, nil
	}
	p := i.p
	p.say("Using effective pull policy of %v for container %s", policies, name)
	var errs []error
	for n, pol := range policies {
		if n > 0 {
			p.say("Attempt #%d: Trying %q pull policy", n+1, pol)
		}
		img, err := i.by(ctx, pol, name, platform)
		if err == nil {
			if i.found == nil {
				i.found = map[string]held{}
			}
			i.found[key] = img
			if img.digest != "" {
				p.say("Using docker image %s for %s with digest %s ...", img.id, name, img.digest)
			} else {
				p.say("Using docker image %s for %s ...", img.id, name)
			}
			return img, nil
		}
		if ctx.Err() != nil {
			return held{}, context.Cause(ctx)
		}
		if _, ok := errors.AsType[*engineError](err); ok {
			return held{}, err
		}
		p.warn("Failed to pull image with policy %q: %v", pol, err)
		errs = append(errs, err)
	}
	err := errs[len(errs)-1]
	reason := reasonOf(err)
	if reason == job.NoReason {
		reason = image.PullReason(err.Error())
	}
	return held{}, &executor.Error{Reason: reason, Err: fmt.Errorf("failed to pull image %q with specified policies %v: %w", name, policies, err)}
}

// by finds an image by one policy and tells how long that took.
func (i *images) by(ctx context.Context, pol image.Policy, name, platform string) (held, error) {
	started := time.Now()
	result, bytes := "present", int64(0)
	img, err := func() (held, error) {
		img, found, err := i.inspect(ctx, name, platform)
		switch {
		case err != nil:
			return img, err
		case found && (pol == image.Never || pol == image.Always && isID(name, img)):
			return img, nil
		case found && pol == image.IfNotPresent:
			i.p.say("Using locally found image version due to %q pull policy", pol)
			return img, nil
		case pol == image.Never:
			return img, fmt.Errorf("no such image: %s", name)
		}
		result = "pulled"
		if bytes, err = i.pull(ctx, name, platform); err != nil {
			return img, err
		}
		img, found, err = i.inspect(ctx, name, platform)
		if err == nil && !found {
			err = fmt.Errorf("the engine pulled %s and does not have it", name)
		}
		return img, err
	}()
	if err != nil {
		result = "failed"
	}
	took := time.Since(started)
	if result == "pulled" {
		i.p.say("Pulled %s in %s", size(bytes), took.Round(10*time.Millisecond))
	}
	i.p.d.o.Bus.Emit(ctx, event.ImagePulled{Policy: string(pol), Result: result, Bytes: bytes, Took: took})
	return img, err
}

// isID says whether an image was asked for by its number.
func isID(name string, img held) bool {
	bare := strings.TrimPrefix(name, "sha256:")
	return len(bare) >= 12 && strings.HasPrefix(strings.TrimPrefix(img.id, "sha256:"), bare)
}

// inspect looks for an image on the engine. One for another platform is not
// the one that is looked for.
func (i *images) inspect(ctx context.Context, name, platform string) (held, bool, error) {
	info, err := i.p.engine.ImageInspect(ctx, name)
	switch {
	case cerrdefs.IsNotFound(err):
		return held{}, false, nil
	case cerrdefs.IsInvalidArgument(err):
		return held{}, false, executor.Misconfigured("image %q: %w", name, err)
	case err != nil:
		return held{}, false, i.p.engine.gone(err)
	}
	if want := parsePlatform(platform); want != nil && (info.Os != want.OS || info.Architecture != want.Architecture) {
		return held{}, false, nil
	}
	img := held{name: name, id: info.ID, digest: digestOf(name, info.RepoDigests)}
	if info.Config != nil {
		img.user = info.Config.User
		img.entrypoint = len(info.Config.Entrypoint) > 0
	}
	return img, true, nil
}

// digestOf chooses the digest of the repository that was asked for.
func digestOf(name string, digests []string) string {
	if len(digests) == 0 {
		return ""
	}
	if named, err := reference.ParseNormalizedNamed(name); err == nil {
		for _, d := range digests {
			if other, err := reference.ParseNormalizedNamed(d); err == nil && other.Name() == named.Name() {
				return d
			}
		}
	}
	return digests[0]
}

// pullTries is how often a registry is asked that does not answer.
const pullTries = 3

// pullDelay is between 2 and 10 s, so that many jobs do not ask at once.
func pullDelay() time.Duration {
	return 2*time.Second + rand.N(8*time.Second) //nolint:gosec // not a secret
}

// pull fetches an image and returns how many bytes that were.
func (i *images) pull(ctx context.Context, name, platform string) (int64, error) {
	p := i.p
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return 0, executor.Misconfigured("image %q: %w", name, err)
	}
	full := reference.FamiliarString(reference.TagNameOnly(named))
	if platform != "" {
		p.say("Pulling docker image %s for platform %s ...", full, platform)
	} else {
		p.say("Pulling docker image %s ...", full)
	}
	if i.creds == nil {
		i.creds = image.Sources{
			Config: p.r.Variables.Value("DOCKER_AUTH_CONFIG"), Home: p.d.o.Home, Job: p.r.Spec.Credentials,
			Warn: func(text string) { p.warn("%s", text) },
		}.Read()
	}
	o := client.ImagePullOptions{}
	if auth, _, source := i.creds.Lookup(ctx, named); source != "" {
		if o.RegistryAuth, err = header(auth); err != nil {
			return 0, fmt.Errorf("credentials from %s: %w", source, err)
		}
		p.say("Authenticating with credentials from %s", source)
	}
	if pl := parsePlatform(platform); pl != nil {
		o.Platforms = []ocispec.Platform{*pl}
	}
	for try := 1; ; try++ {
		n, err := p.engine.pull(ctx, full, o)
		if err == nil || ctx.Err() != nil || try == pullTries || image.PullReason(err.Error()) != job.ExternalDependency {
			return n, err
		}
		if _, ok := errors.AsType[*engineError](err); ok {
			return n, err
		}
		delay := p.d.delay()
		p.warn("Pulling %s failed: %v. Trying again in %s (%d of %d).", full, err, delay.Round(time.Second), try+1, pullTries)
		if err := pause.For(ctx, delay); err != nil {
			return n, err
		}
	}
}

// header is how the engine wants to be told of a password.
func header(a image.Auth) (string, error) {
	return authconfig.Encode(registry.AuthConfig{
		Username: a.Username, Password: a.Password.Reveal(), ServerAddress: a.Server,
		IdentityToken: a.IdentityToken.Reveal(), RegistryToken: a.RegistryToken.Reveal(),
	})
}

// pull follows the engine's report of a pull.
func (e *engine) pull(ctx context.Context, name string, o client.ImagePullOptions) (int64, error) {
	stream, err := e.ImagePull(ctx, name, o)
	if err != nil {
		return 0, e.gone(err)
	}
	layers := map[string]int64{}
	for m, merr := range stream.JSONMessages(ctx) {
		switch {
		case merr != nil:
			err = e.gone(merr)
		case m.Error != nil:
			err = m.Error
		case m.Progress != nil && m.Status == "Downloading":
			layers[m.ID] = max(layers[m.ID], m.Progress.Current, m.Progress.Total)
		}
		if err != nil {
			break
		}
	}
	var sum int64
	for _, n := range layers {
		sum += n
	}
	return sum, err
}

// size prints bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}
