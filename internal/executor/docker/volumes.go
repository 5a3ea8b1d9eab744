package docker

import (
	"context"
	"crypto/md5" //nolint:gosec // names of volumes are given, they protect nothing
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/client"

	"github.com/glassrunner/glassrunner/internal/executor"
)

// volumes are what all containers of a job share.
type volumes struct {
	p     *place
	mount []mount
}

// mount is one entry of `volumes`.
type mount struct {
	source string // directory or volume; "": a cache volume
	target string
	opts   string
	// lasting: the volume is there for later jobs too.
	lasting bool
	// open: everybody may write to it, whatever user an image has.
	open bool
}

// mountOptions are what may follow the second colon.
const mountOptions = "ro rw O z Z nocopy shared rshared slave rslave private rprivate cached delegated consistent"

// parseVolume reads "TARGET", "SOURCE:TARGET" or "SOURCE:TARGET:OPTIONS".
func parseVolume(v string) (mount, error) {
	parts := strings.Split(v, ":")
	var m mount
	switch len(parts) {
	case 1:
		m.target = parts[0]
	case 2:
		m.source, m.target = parts[0], parts[1]
	case 3:
		m.source, m.target, m.opts = parts[0], parts[1], parts[2]
		for o := range strings.SplitSeq(m.opts, ",") {
			if !slices.Contains(strings.Fields(mountOptions), o) {
				return m, fmt.Errorf("volume %q: there is no option %q", v, o)
			}
		}
	default:
		return m, fmt.Errorf("volume %q: want TARGET, SOURCE:TARGET or SOURCE:TARGET:OPTIONS", v)
	}
	if m.target == "" || len(parts) > 1 && m.source == "" {
		return m, fmt.Errorf("volume %q: want TARGET, SOURCE:TARGET or SOURCE:TARGET:OPTIONS", v)
	}
	return m, nil
}

// plan decides what will be mounted. Nothing is made yet.
func (v *volumes) plan() error {
	p := v.p
	for _, text := range p.c.Volumes {
		m, err := parseVolume(text)
		if err != nil {
			return executor.Misconfigured("%w", err)
		}
		m.target = p.expand(m.target)
		if !path.IsAbs(m.target) {
			m.target = path.Join(p.r.Dirs.Project, m.target)
		}
		m.target = path.Clean(m.target)
		if m.target == "/" {
			return executor.Misconfigured("volume %q: the root directory of a container cannot be a volume", text)
		}
		if v.has(m.target) {
			return executor.Misconfigured("volume for container path %q is already defined", m.target)
		}
		if m.source == "" {
			m = v.cache(m.target, !p.c.DisableCache)
		}
		v.mount = append(v.mount, m)
	}
	if !v.has(p.r.Dirs.Builds) {
		v.mount = append(v.mount, v.cache(p.r.Dirs.Builds, p.fetches() && !p.c.DisableCache))
	}
	return nil
}

func (v *volumes) has(target string) bool {
	return slices.ContainsFunc(v.mount, func(m mount) bool { return m.target == target })
}

// fetches says whether the job's working copy is kept for the next one.
func (p *place) fetches() bool {
	switch strings.ToLower(p.r.Variables.Value("GIT_STRATEGY")) {
	case "fetch":
		return true
	case "clone", "none", "empty":
		return false
	}
	return p.r.Spec.AllowGitFetch
}

// cache is a volume of the runner's own making.
func (v *volumes) cache(target string, lasting bool) mount {
	p := v.p
	sum := md5.Sum([]byte(target)) //nolint:gosec // see the import
	name := hex.EncodeToString(sum[:])
	suffix := ""
	if p.protected() {
		suffix = "-protected"
	}
	m := mount{target: target, open: true}
	switch {
	case !lasting:
		m.source = p.base + "-cache-" + name + suffix
	case p.c.CacheDir != "":
		m.source = path.Join(p.c.CacheDir, p.unique(), name+suffix)
	default:
		m.source, m.lasting = p.unique()+"-cache-"+name+suffix, true
	}
	return m
}

// unique names what belongs to one project and one of its slots on this
// runner, whoever knows only the name of a volume learns nothing of the token.
func (p *place) unique() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s-%s-%d-%d", p.d.o.Token.Reveal(), p.r.Runner.SystemID, p.r.Spec.Info.ProjectID, p.r.ConcurrentProject))
	return "runner-" + hex.EncodeToString(sum[:])[:32]
}

// protected says whether the job may see what jobs of protected branches
// cached.
func (p *place) protected() bool {
	for _, c := range p.r.Spec.Caches {
		if strings.HasSuffix(p.expand(c.Key), "-protected") {
			return true
		}
	}
	if known := p.r.Spec.Git.Protected; known != nil {
		return *known
	}
	for _, v := range p.r.Spec.Variables { // the first is the server's own word
		if v.Key == "CI_COMMIT_REF_PROTECTED" {
			on, err := strconv.ParseBool(v.Value)
			return err == nil && on
		}
	}
	return false
}

// create makes the volumes that are not there. The engine would make them with
// the first container, but without labels.
func (v *volumes) create(ctx context.Context) error {
	p := v.p
	for _, m := range v.mount {
		if !m.open || path.IsAbs(m.source) {
			continue
		}
		if m.target == p.r.Dirs.Builds {
			p.stage("docker_creating_build_volumes")
		}
		_, err := p.engine.VolumeCreate(ctx, client.VolumeCreateOptions{
			Name: m.source, Driver: p.c.VolumeDriver, DriverOpts: p.c.VolumeDriverOps,
			Labels: p.labels("cache", m.lasting, map[string]string{
				"destination": m.target, "protected": strconv.FormatBool(p.protected()), "reusable": strconv.FormatBool(m.lasting),
			}),
		})
		if err != nil {
			return p.engine.gone(badRequest(fmt.Errorf("volume for %s: %w", m.target, err)))
		}
	}
	return nil
}

// binds is how the engine wants to hear it.
func (v *volumes) binds() []string {
	out := make([]string, 0, len(v.mount))
	for _, m := range v.mount {
		b := m.source + ":" + m.target
		if m.opts != "" {
			b += ":" + m.opts
		}
		out = append(out, b)
	}
	return out
}

// toOpen are the targets that everybody may write to.
func (v *volumes) toOpen() []string {
	var out []string
	for _, m := range v.mount {
		if m.open {
			out = append(out, m.target)
		}
	}
	return out
}
