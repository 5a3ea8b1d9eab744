package docker

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

// place is one job's place. It implements executor.Env.
type place struct {
	d      *Driver
	c      *config.Docker
	r      executor.Request
	engine *engine
	run    string // of the label that everything of this job has

	project string // runner-SHORT-project-N-concurrent-N
	base    string // project with a random part: what containers are called
	network network
	images  images
	volumes volumes

	helper   helper
	build    build
	services []*service
	meter    meter

	logs sync.WaitGroup // of services whose output is shown
}

func newPlace(d *Driver, r executor.Request) *place {
	p := &place{d: d, c: &d.o.Config, r: r, run: rand.Text()}
	project := fmt.Sprintf("runner-%s-project-%d-concurrent-%d", r.Runner.Short, r.Spec.Info.ProjectID, r.ConcurrentProject)
	p.project = hostname(project)
	var random [4]byte
	_, _ = rand.Read(random[:]) // it never fails
	p.base = hostname(p.project[:min(len(p.project), 63-9)] + "-" + hex.EncodeToString(random[:]))
	p.images.p, p.volumes.p, p.network.p = p, p, p
	p.helper.p, p.build.p, p.meter.p = p, p, p
	return p
}

// hostname makes a name that hosts and containers may have.
func hostname(s string) string {
	s = strings.Map(func(c rune) rune {
		if c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' {
			return c
		}
		return -1
	}, strings.ToLower(s))
	return strings.Trim(s[:min(len(s), 63)], "-")
}

// Place says where the job runs: in a container of that name, on the engine
// that the runner's machine reaches.
func (p *place) Place() executor.Place {
	return executor.Place{Hostname: cmp.Or(p.c.Hostname, p.project), Via: p.d.hostname}
}

// open prepares everything up to the user's script.
func (p *place) open(ctx context.Context) error {
	p.stage("docker_prepare")
	e, err := connect(ctx, connectionFrom(*p.c))
	if err != nil {
		return err
	}
	p.engine = e
	p.d.sweep(ctx, e)
	if p.r.Claim != nil {
		if err := p.r.Claim(e.claim(p.run)); err != nil {
			return fmt.Errorf("remembering the job's containers: %w", err)
		}
	}
	// What cannot work is told before anything is made or pulled.
	name, err := p.imageName()
	if err != nil {
		return err
	}
	p.say("Using Docker executor with image %s ...", name)
	if p.c.VolumeKeep {
		p.warn("volume_keep is set: volumes that the image declares outlive this job's containers.")
	}
	if err := p.prepare(name); err != nil {
		return err
	}
	if err := p.network.create(ctx); err != nil {
		return err
	}
	p.stage("docker_creating_user_volumes")
	if err := p.volumes.create(ctx); err != nil {
		return err
	}
	p.stage("docker_bootstrap")
	if err := p.helper.find(ctx); err != nil {
		return err
	}
	// Making and starting the helper's container takes as long as anything
	// here: images are looked for meanwhile.
	started := p.background(ctx, p.helper.ensure)
	err = p.openServices(ctx, started)
	if err == nil {
		p.stage("docker_pulling_image")
		if err = p.build.find(ctx, name); err == nil {
			p.build.ahead(ctx)
		}
	}
	if herr := started.wait(); herr != nil {
		return herr
	}
	if err != nil {
		return err
	}
	p.stage("prepare")
	return nil
}

// prepare reads what the configuration and the job say of the containers.
func (p *place) prepare(name string) error {
	if err := p.volumes.plan(); err != nil {
		return err
	}
	if err := p.planServices(); err != nil {
		return err
	}
	return p.build.plan(name)
}

// imageName is the image of the user's script.
func (p *place) imageName() (string, error) {
	name := p.expand(p.r.Spec.Image.Name)
	def := p.expand(p.c.Image)
	if name == "" {
		name = def
	}
	if name == "" {
		return "", executor.Misconfigured("no Docker image specified to run the build in")
	}
	if err := wellFormed(name); err != nil {
		return "", err
	}
	return name, p.allowed("images", name, p.c.AllowedImages, []string{def})
}

// expand replaces variables in text.
func (p *place) expand(text string) string {
	return p.r.Variables.Expand(text, func(key string) string { return p.r.Dirs.Temp + "/" + key })
}

func (p *place) flag(name string) bool {
	on, _ := p.r.Variables.Bool(name, false)
	return on
}

// environment is what containers know from the start.
func (p *place) environment() []string {
	env := make([]string, 0, len(p.r.Variables)+1)
	for _, v := range p.r.Variables {
		if v.File {
			env = append(env, v.Key+"="+p.r.Dirs.Temp+"/"+v.Key)
		} else {
			env = append(env, v.Key+"="+v.Value)
		}
	}
	return append(env, p.network.environment()...)
}

// Run carries out c.
func (p *place) Run(ctx context.Context, c executor.Command) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(c.Script) == 0 {
		return nil
	}
	p.stage("docker_run")
	run, forget := p.helper.run, p.helper.forget
	if c.In == executor.Build {
		run, forget = p.build.run, p.build.forget
	}
	attempts := p.attempts()
	for try := 1; ; try++ {
		err := run(ctx, c)
		if err == nil || ctx.Err() != nil {
			return err
		}
		// Somebody else removed the container: that is worth another.
		if !cerrdefs.IsNotFound(err) || try >= attempts {
			err = p.engine.gone(err)
			p.explain(err)
			return err
		}
		p.warn("The container is gone: %v. Trying again with another one (%d of %d).", err, try+1, attempts)
		forget()
	}
}

// attempts is how often a phase is tried when its container disappears.
func (p *place) attempts() int {
	n, err := strconv.Atoi(p.r.Variables.Value("EXECUTOR_JOB_SECTION_ATTEMPTS"))
	if err != nil {
		return 1
	}
	return min(max(n, 1), 10)
}

// explain tells in the job log what an operator can do about an error.
func (p *place) explain(err error) {
	if e, ok := errors.AsType[*engineError](err); ok {
		p.warn("%s", e.remedy())
	}
}

// Close removes everything of the job. What cannot be removed because the
// engine is away is removed with a later job.
func (p *place) Close(ctx context.Context) error {
	if p.engine == nil {
		return nil
	}
	p.stage("docker_cleanup")
	p.build.discard()
	p.helper.disconnect()
	_, err := p.engine.removeRun(ctx, p.run, !p.c.VolumeKeep)
	p.logs.Wait()
	p.meter.close()
	p.engine.close()
	if err != nil {
		p.d.keep(p.run)
		return p.engine.gone(err)
	}
	return nil
}

// removeRun removes the containers, volumes and networks of a run, and counts
// the containers. Volumes that the images declare go too if anonymous is set.
func (e *engine) removeRun(ctx context.Context, run string, anonymous bool) (int, error) {
	mine := client.Filters{}.Add("label", runLabel+"="+run)
	list, err := e.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: mine})
	if err != nil {
		return 0, e.gone(err)
	}
	removed := make([]bool, len(list.Items))
	errs := make([]error, len(list.Items))
	var wg sync.WaitGroup
	for i, c := range list.Items {
		wg.Go(func() {
			errs[i] = e.removeContainer(ctx, c.ID, anonymous)
			removed[i] = errs[i] == nil
		})
	}
	wg.Wait()
	n := 0
	for _, ok := range removed {
		if ok {
			n++
		}
	}
	if err := errors.Join(errs...); err != nil {
		return n, e.gone(err)
	}
	volumes, err := e.VolumeList(ctx, client.VolumeListOptions{Filters: mine})
	if err != nil {
		return n, e.gone(err)
	}
	for _, v := range volumes.Items {
		if _, err := e.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{Force: true}); err != nil && !cerrdefs.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("volume %s: %w", v.Name, err))
		}
	}
	networks, err := e.networks(ctx, run)
	if err != nil {
		return n, errors.Join(append(errs, e.gone(err))...)
	}
	for _, net := range networks {
		errs = append(errs, e.removeNetwork(ctx, net.ID))
	}
	return n, errors.Join(errs...)
}

// removeContainer ends and removes a container. One that somebody else is
// removing is waited for.
func (e *engine) removeContainer(ctx context.Context, id string, anonymous bool) error {
	_, err := e.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: anonymous})
	switch {
	case err == nil, cerrdefs.IsNotFound(err):
		return nil
	case cerrdefs.IsConflict(err): // "removal of container … is already in progress"
		err = (<-e.end(ctx, id, container.WaitConditionRemoved)).err
		if err == nil || cerrdefs.IsNotFound(err) {
			return nil
		}
	}
	return fmt.Errorf("container %.12s: %w", id, err)
}

// task is work in the background.
type task struct {
	done chan struct{}
	err  error
}

// background runs f and returns at once. Its owner waits for it.
func (p *place) background(ctx context.Context, f func(context.Context) error) *task {
	t := &task{done: make(chan struct{})}
	go func() {
		defer close(t.done)
		t.err = f(ctx)
	}()
	return t
}

func (t *task) wait() error {
	<-t.done
	return t.err
}

// badRequest marks an error with which the engine refused what it was asked
// for as one of the configuration. A user whom the image does not know it takes
// for its own failure.
func badRequest(err error) error {
	if cerrdefs.IsInvalidArgument(err) || err != nil && strings.Contains(err.Error(), "unable to find user") {
		return &executor.Error{Reason: job.ConfigurationError, Err: err}
	}
	return err
}

// last returns the variable of that name that counts among environment lines.
func last(env []string, key string) (string, bool) {
	for _, e := range slices.Backward(env) {
		if k, v, ok := strings.Cut(e, "="); ok && k == key {
			return v, true
		}
	}
	return "", false
}
