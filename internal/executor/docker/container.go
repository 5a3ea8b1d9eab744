package docker

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// recipe is a container to be made.
type recipe struct {
	kind     string // the type label
	suffix   string // of the name
	image    held
	config   container.Config
	host     *container.HostConfig
	platform string
	aliases  []string
	labels   map[string]string
	mac      bool
}

// make creates a container. One that has its name is removed.
func (p *place) make(ctx context.Context, r recipe) (string, error) {
	r.config.Image = r.image.reference()
	r.config.Labels = p.labels(r.kind, false, r.labels)
	host := *r.host
	host.Binds = p.volumes.binds()
	host.NetworkMode = container.NetworkMode(p.network.mode)
	if p.network.hosts() && r.kind != "service" {
		host.ExtraHosts = slices.Concat(host.ExtraHosts, p.serviceHosts())
	}
	endpoints, err := p.network.endpoints(r.aliases, r.mac)
	if err != nil {
		return "", err
	}
	o := client.ContainerCreateOptions{
		Config: &r.config, HostConfig: &host, NetworkingConfig: endpoints, Name: p.base + "-" + r.suffix,
		Platform: parsePlatform(r.platform),
	}
	created, err := p.engine.ContainerCreate(ctx, o)
	if cerrdefs.IsConflict(err) {
		if rerr := p.engine.removeContainer(ctx, o.Name, true); rerr != nil {
			return "", rerr
		}
		created, err = p.engine.ContainerCreate(ctx, o)
	}
	if err != nil {
		return "", p.engine.gone(badRequest(fmt.Errorf("creating the %s container: %w", r.kind, err)))
	}
	for _, w := range created.Warnings {
		p.warn("%s container: %s", r.kind, w)
	}
	return created.ID, nil
}

// start starts a container.
func (p *place) start(ctx context.Context, kind, id string) error {
	_, err := p.engine.ContainerStart(ctx, id, client.ContainerStartOptions{})
	if err != nil {
		return p.engine.gone(badRequest(fmt.Errorf("starting the %s container: %w", kind, err)))
	}
	return nil
}

// parsePlatform reads "OS/ARCHITECTURE[/VARIANT]", "OS" or "ARCHITECTURE".
func parsePlatform(text string) *ocispec.Platform {
	if text == "" {
		return nil
	}
	parts := strings.SplitN(text, "/", 3)
	if len(parts) == 1 {
		switch parts[0] {
		case "linux", "windows", "freebsd", "darwin":
			return &ocispec.Platform{OS: parts[0], Architecture: runtime.GOARCH}
		}
		return &ocispec.Platform{OS: "linux", Architecture: parts[0]}
	}
	pl := &ocispec.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		pl.Variant = parts[2]
	}
	return pl
}

// The places where shells are looked for, best first.
const (
	bashes = "/usr/local/bin/bash /usr/bin/bash /bin/bash "
	plain  = "/usr/local/bin/sh /usr/bin/sh /bin/sh /busybox/sh"
)

// shellCommand is the command line of a shell that reads its script from the
// standard input. Which one an image has is found out inside.
func shellCommand(name, before string) []string {
	if name == "pwsh" || name == "powershell" {
		return []string{name, "-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-Command", "-"}
	}
	shells := plain
	if name != "sh" {
		shells = bashes + plain
	}
	return []string{"sh", "-c", before + "for s in " + shells +
		`; do if [ -x "$s" ]; then exec "$s"; fi; done; echo 'shell not found' >&2; exit 1`}
}

func (p *place) shell() string {
	if p.r.Shell != "" {
		return p.r.Shell
	}
	return p.d.o.Shell
}
