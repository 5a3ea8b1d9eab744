package docker

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/image"
	"github.com/glassrunner/glassrunner/internal/job"
)

// service is a container beside the job's own.
type service struct {
	name     string // of the image, as it was asked for
	index    int
	aliases  []string
	policies []image.Policy
	platform string
	host     *container.HostConfig
	config   container.Config
	image    held
	id       string
	info     container.InspectResponse // once it was started
}

// planServices reads the configuration's services and then the job's.
func (p *place) planServices() error {
	var all, own []job.Image
	for _, s := range p.c.Services {
		i := job.Image{Name: s.Name, Aliases: image.Names(s.Alias), Command: s.Command, Entrypoint: s.Entrypoint}
		for _, e := range s.Environment {
			if k, v, ok := strings.Cut(e, "="); ok {
				i.Variables = append(i.Variables, job.Variable{Key: k, Value: v})
			}
		}
		all = append(all, i)
	}
	own = all
	all = append(slices.Clone(all), p.r.Spec.Services...)
	if limit := p.c.ServicesLimit; limit != nil && *limit >= 0 && len(all) > *limit {
		return executor.Misconfigured("too many services requested: %d, only %d allowed", len(all), *limit)
	}
	var internal []string
	for _, s := range own {
		internal = append(internal, p.expand(s.Name))
	}
	taken := map[string]bool{}
	for i, s := range all {
		sv, err := p.planService(i, s, taken)
		if err != nil {
			return err
		}
		if i >= len(own) {
			if err := p.allowed("services", sv.name, p.c.AllowedServices, internal); err != nil {
				return err
			}
		}
		p.services = append(p.services, sv)
	}
	return nil
}

func (p *place) planService(index int, s job.Image, taken map[string]bool) (*service, error) {
	sv := &service{name: p.expand(s.Name), index: index, platform: p.expand(s.Platform)}
	if sv.name == "" {
		return nil, executor.Misconfigured("service %d has no image", index+1)
	}
	if err := wellFormed(sv.name); err != nil {
		return nil, err
	}
	repo, version := image.Service(sv.name)
	var given []string
	for _, a := range s.Aliases {
		given = append(given, p.expand(a))
	}
	for _, a := range image.Aliases(repo, given...) {
		switch {
		case taken[a]:
			p.warn("Skipping alias %q for service %q (services[%d]): alias is already in use by another service.", a, repo, index)
		default:
			taken[a] = true
			sv.aliases = append(sv.aliases, a)
		}
	}
	var err error
	if sv.policies, err = p.policies(sv.name, s.PullPolicy); err != nil {
		return nil, err
	}
	if sv.host, err = p.serviceHost(sv.name); err != nil {
		return nil, err
	}
	p.initProcess(sv.host)
	user := p.expand(s.User)
	if allowed := p.c.AllowedUsers; user != "" && len(allowed) > 0 && !slices.Contains(allowed, user) {
		return nil, executor.Misconfigured("user %q of service %q is not an allowed user: %q", user, sv.name, allowed)
	}
	sv.config = container.Config{
		User: user, Env: p.serviceEnvironment(s), Entrypoint: s.Entrypoint, Cmd: s.Command,
		Labels: map[string]string{"service": repo, "service.version": version},
	}
	return sv, nil
}

// serviceEnvironment is what a service may know: public variables and its own.
func (p *place) serviceEnvironment(s job.Image) []string {
	var env []string
	for _, v := range p.r.Variables {
		if v.File || !v.Public && !v.Internal {
			continue
		}
		env = append(env, v.Key+"="+v.Value)
	}
	all := append(slices.Clone(p.r.Variables), s.Variables...)
	for _, v := range s.Variables {
		env = append(env, v.Key+"="+all.Expand(v.Value, func(key string) string { return p.r.Dirs.Temp + "/" + key }))
	}
	return env
}

// openServices starts the services and waits until they answer. Volumes are
// open once helper is done.
func (p *place) openServices(ctx context.Context, helper *task) error {
	if len(p.services) == 0 {
		return nil
	}
	p.stage("docker_creating_services")
	for _, s := range p.services {
		p.say("Starting service %s...", versioned(s.name))
		p.stage("docker_pulling_image")
		var err error
		if s.image, err = p.images.get(ctx, s.name, s.policies, s.platform); err != nil {
			return err
		}
		p.stage("docker_creating_services")
	}
	if err := helper.wait(); err != nil {
		return err
	}
	started := time.Now()
	errs := make([]error, len(p.services))
	var wg sync.WaitGroup
	for i, s := range p.services {
		wg.Go(func() { errs[i] = p.startService(ctx, s) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	p.showServices(ctx)
	if err := p.helper.tellHosts(ctx); err != nil {
		return err
	}
	return p.awaitServices(ctx, started)
}

// versioned adds the tag that is meant when there is none.
func versioned(name string) string {
	if named, err := reference.ParseNormalizedNamed(name); err == nil && reference.IsNameOnly(named) {
		return name + ":latest"
	}
	return name
}

func (p *place) startService(ctx context.Context, s *service) error {
	repo, _ := image.Service(s.name)
	labels := s.config.Labels
	s.config.Env = append(s.config.Env, p.network.environment()...)
	id, err := p.make(ctx, recipe{
		kind: "service", suffix: strings.ReplaceAll(repo, "/", "__") + "-" + strconv.Itoa(s.index), image: s.image,
		config: s.config, host: s.host, platform: s.platform, aliases: s.aliases, labels: labels,
	})
	if err != nil {
		return fmt.Errorf("service %s: %w", s.name, err)
	}
	s.id = id
	if err := p.start(ctx, "service", id); err != nil {
		return fmt.Errorf("service %s: %w", s.name, err)
	}
	p.meter.began(ctx, id, "service "+s.name, true)
	info, err := p.engine.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return fmt.Errorf("service %s: %w", s.name, p.engine.gone(err))
	}
	s.info = info.Container
	return nil
}

// serviceHosts are lines for /etc/hosts where names are not known otherwise.
func (p *place) serviceHosts() []string {
	var out []string
	for _, s := range p.services {
		if s.info.ID == "" {
			continue
		}
		ip := p.network.address(s.info)
		if ip == "" {
			continue
		}
		for _, a := range append(slices.Clone(s.aliases), s.id[:12]) {
			out = append(out, a+":"+ip)
		}
	}
	return out
}

// tellHosts writes the services' names into the running helper's /etc/hosts.
// A container that is made later gets them from the engine.
func (h *helper) tellHosts(ctx context.Context) error {
	p := h.p
	if !p.network.hosts() {
		return nil
	}
	var lines strings.Builder
	for _, e := range p.serviceHosts() {
		name, ip, _ := strings.Cut(e, ":")
		fmt.Fprintf(&lines, "%s %s\n", ip, name)
	}
	if lines.Len() == 0 {
		return nil
	}
	var said bytes.Buffer
	code, err := h.exec(ctx, executor.Command{Stdout: &said, Stderr: &said}, execution{
		cmd: []string{"sh", "-c", "cat >>/etc/hosts"}, user: "0", script: []byte(lines.String()),
	})
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d: %.200s", code, said.String())
	}
	if err != nil {
		return fmt.Errorf("telling the helper the services' addresses: %w", err)
	}
	return nil
}

// defaultWait is how long services have until they answer.
const defaultWait = 30 * time.Second

// awaitServices waits until every service accepts a connection, or its time is
// up. A service that does not is told of and fails nothing.
func (p *place) awaitServices(ctx context.Context, started time.Time) error {
	wait := time.Duration(p.c.WaitForServicesTimeout) * time.Second
	if wait < 0 {
		return nil
	}
	if wait == 0 {
		wait = defaultWait
	}
	p.say("Waiting for services to be up and running (timeout %d seconds)...", int(wait.Seconds()))
	var wg sync.WaitGroup
	for _, s := range p.services {
		wg.Go(func() {
			said, err := p.check(ctx, s, wait)
			if ctx.Err() != nil {
				return
			}
			took := time.Since(started)
			p.d.o.Bus.Emit(ctx, event.ServiceReady{Took: took, OK: err == nil})
			if err != nil {
				p.lament(ctx, s, said, err)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// maxPorts is how many ports of a service are tried.
const maxPorts = 20

// check waits until a service answers. It gives up early when it ended.
func (p *place) check(ctx context.Context, s *service, wait time.Duration) (said string, err error) {
	ports := s.ports()
	watch, stop := context.WithTimeout(ctx, wait+10*time.Second)
	defer stop()
	end := p.engine.end(watch, s.id, container.WaitConditionNotRunning)
	if len(ports) == 0 {
		// Nothing tells when it is up. That it lives for a moment is a sign.
		select {
		case e := <-end:
			return "", endOfService(e)
		case <-time.After(200 * time.Millisecond):
			return "", nil
		}
	}
	env := []string{"WAIT_FOR_SERVICE_TCP_ADDR=" + p.network.address(s.info)}
	for _, port := range ports {
		env = append(env, fmt.Sprintf("WAIT_FOR_SERVICE_%s_TCP_PORT=%s", port, port))
	}
	out := &executor.Tail{Limit: 4 << 10}
	type result struct {
		code int
		err  error
	}
	done := make(chan result, 1)
	checking, stopChecking := context.WithCancel(watch)
	defer stopChecking()
	go func() {
		code, err := p.helper.aside(checking, executor.Command{Stdout: out, Stderr: out}, execution{
			cmd: []string{"timeout", strconv.Itoa(int(wait.Seconds())), helperCommand, "health-check"}, env: env,
		})
		done <- result{code, err}
	}()
	select {
	case r := <-done:
		switch {
		case r.err != nil:
			return out.String(), r.err
		case r.code == 124 || r.code == 143:
			return out.String(), fmt.Errorf("no port of %v answered within %s", ports, wait)
		case r.code != 0:
			return out.String(), fmt.Errorf("the health check ended with exit code %d", r.code)
		}
		return "", nil
	case e := <-end:
		stopChecking()
		<-done
		return out.String(), endOfService(e)
	}
}

func endOfService(e ended) error {
	if e.err != nil {
		return e.err
	}
	return fmt.Errorf("the service ended with exit code %d", e.code)
}

// ports are what a service is asked on: HEALTHCHECK_TCP_PORT, or else the TCP
// ports that its image exposes, the lowest first.
func (s *service) ports() []string {
	if port, ok := last(s.config.Env, "HEALTHCHECK_TCP_PORT"); ok {
		return []string{port}
	}
	var numbers []int
	if s.info.Config != nil {
		for port := range s.info.Config.ExposedPorts {
			if port.Proto() == "tcp" {
				numbers = append(numbers, int(port.Num()))
			}
		}
	}
	slices.Sort(numbers)
	var out []string
	for _, n := range numbers[:min(len(numbers), maxPorts)] {
		out = append(out, strconv.Itoa(n))
	}
	return out
}

// lament shows why a service may not work.
func (p *place) lament(ctx context.Context, s *service, said string, err error) {
	log := p.serviceLog(ctx, s)
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s*** WARNING:%s Service %s probably didn't start properly.\n\nHealth check error:\n%v\n", yellow, reset, s.name, err)
	if said != "" {
		fmt.Fprintf(&b, "\nHealth check container logs:\n%s\n", strings.TrimRight(said, "\n"))
	}
	fmt.Fprintf(&b, "\nService container logs:\n%s\n\n%s*********%s\n", strings.TrimRight(log, "\n"), yellow, reset)
	p.say("%s", b.String())
}

// maxServiceLog is how much of a service's output is shown, in bytes.
const maxServiceLog = 64 << 10

// serviceLog is the last of what a service printed.
func (p *place) serviceLog(ctx context.Context, s *service) string {
	logs, err := p.engine.ContainerLogs(ctx, s.id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Timestamps: true})
	if err != nil {
		return fmt.Sprintf("(cannot be read: %v)", err)
	}
	defer func() { _ = logs.Close() }() // it was only read
	t := &executor.Tail{Limit: maxServiceLog}
	if _, err := stdcopy.StdCopy(t, t, logs); err != nil && t.String() == "" {
		return fmt.Sprintf("(cannot be read: %v)", err)
	}
	return t.String()
}

// showServices shows the services' output in the job log if the job wants it.
func (p *place) showServices(ctx context.Context) {
	if on, _ := p.r.Variables.Bool("CI_DEBUG_SERVICES", false); !on {
		return
	}
	// It ends when Close has removed the containers.
	ctx = context.WithoutCancel(ctx)
	for _, s := range p.services {
		logs, err := p.engine.ContainerLogs(ctx, s.id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Follow: true})
		if err != nil {
			p.warn("The output of service %s cannot be shown: %v", s.name, err)
			continue
		}
		out := p.r.Log
		var stream io.Closer
		if p.r.ServiceLog != nil {
			w := p.r.ServiceLog(s.index)
			out, stream = w, w
		}
		p.logs.Go(func() {
			defer func() { _ = logs.Close() }() // it was only read
			show(out, "[service:"+strings.Join(s.aliases, "-")+"] ", logs)
			if stream != nil {
				_ = stream.Close() // the log keeps its own error
			}
		})
	}
}

// show copies the output of a container line by line.
func show(out io.Writer, prefix string, logs io.Reader) {
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := stdcopy.StdCopy(w, w, logs)
		_ = w.CloseWithError(err) // never fails
	}()
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), 64<<10)
	for lines.Scan() {
		if _, err := io.WriteString(out, grey+prefix+lines.Text()+reset+"\n"); err != nil {
			break
		}
	}
	_ = r.Close() // never fails
	<-done
}
