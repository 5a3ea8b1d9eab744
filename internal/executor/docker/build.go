package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/image"
)

// build is the container of the user's steps. It is made once and started for
// each step; its first process is the shell, or the image's entrypoint.
type build struct {
	p        *place
	name     string
	policies []image.Policy
	platform string
	image    held
	host     *container.HostConfig
	config   container.Config
	id       string
	owned    bool // the job's files belong to the image's user
	next     *early
}

// session is a started container whose first process waits for a script.
type session struct {
	conn client.HijackedResponse
	end  <-chan ended
	stop context.CancelFunc // ends the wait for the end
}

// close gives the connection up. The container is another matter.
func (s *session) close() {
	s.stop()
	s.conn.Close()
}

// early is a session that begins in the background, ahead of its script.
type early struct {
	*task
	cancel context.CancelFunc
	s      *session
}

// plan reads what the container will be like.
func (b *build) plan(name string) error {
	p := b.p
	b.name, b.platform = name, p.expand(p.r.Spec.Image.Platform)
	var err error
	if b.policies, err = p.policies(name, p.r.Spec.Image.PullPolicy); err != nil {
		return err
	}
	if b.host, err = p.host("build", name); err != nil {
		return err
	}
	user, err := p.user(p.r.Spec.Image.User)
	if err != nil {
		return err
	}
	b.config = container.Config{
		Hostname: p.Place().Hostname, User: user, Cmd: shellCommand(p.shell(), ""),
		AttachStdin: true, AttachStdout: true, AttachStderr: true, OpenStdin: true, StdinOnce: true,
	}
	if own := p.r.Spec.Image.Entrypoint; len(own) > 0 {
		if p.c.DisableEntrypointOverwrite {
			p.warn("Entrypoint override disabled")
		} else {
			b.config.Entrypoint = own
		}
	}
	p.initProcess(b.host)
	return nil
}

// initProcess gives a container an init process where that is wanted.
func (p *place) initProcess(h *container.HostConfig) {
	if p.flag("FF_USE_INIT_WITH_DOCKER_EXECUTOR") {
		yes := true
		h.Init = &yes
	}
}

// user is who runs the script: the configuration's choice before the job's.
func (p *place) user(wanted string) (string, error) {
	user := p.c.User
	if user == "" {
		user = p.expand(wanted)
	}
	allowed := p.c.AllowedUsers
	if len(allowed) == 0 || user == "" {
		return user, nil
	}
	if !slices.Contains(allowed, user) {
		return "", executor.Misconfigured("user %q is not an allowed user: %q", user, allowed)
	}
	return user, nil
}

// find makes sure that the engine has the image, and makes the container.
func (b *build) find(ctx context.Context, name string) error {
	img, err := b.p.images.get(ctx, name, b.policies, b.platform)
	if err != nil {
		return err
	}
	b.image = img
	return b.ensure(ctx)
}

// ensure makes the container unless there is one.
func (b *build) ensure(ctx context.Context) error {
	if b.id != "" {
		return nil
	}
	b.config.Env = b.p.environment()
	id, err := b.p.make(ctx, recipe{
		kind: "build", suffix: "build", image: b.image, config: b.config, host: b.host, platform: b.platform,
		aliases: []string{"build", b.p.base + "-build"}, mac: true,
	})
	b.id = id
	return err
}

// forget makes the next command use a new container.
func (b *build) forget() {
	b.discard()
	b.id = ""
}

// run runs a script of the user.
func (b *build) run(ctx context.Context, c executor.Command) error {
	if err := b.ensure(ctx); err != nil {
		return err
	}
	if err := b.own(ctx); err != nil {
		return err
	}
	return b.attached(ctx, c, merged(c, b.p.shell()))
}

// own gives the job's files to the image's user when the helper made them
// with an ordinary umask.
func (b *build) own(ctx context.Context) error {
	p := b.p
	if b.owned || !p.flag("FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR") || root(b.image.user) && root(b.config.User) {
		return nil
	}
	var out bytes.Buffer
	if err := b.attached(ctx, executor.Command{Stdout: &out, Stderr: io.Discard}, []byte("id -u; id -g\n")); err != nil {
		return fmt.Errorf("asking who runs the script: %w", err)
	}
	ids := strings.Fields(out.String())
	if len(ids) != 2 {
		return fmt.Errorf("asking who runs the script: found %.100q", out.String())
	}
	if err := p.helper.ensure(ctx); err != nil {
		return err
	}
	var said bytes.Buffer
	code, err := p.helper.exec(ctx, executor.Command{Stdout: &said, Stderr: &said}, execution{cmd: []string{
		"sh", "-c", `for d; do [ ! -e "$d" ] || chown -RP -- "$OWNER" "$d"; done`, "sh", p.r.Dirs.Project, p.r.Dirs.Temp,
	}, env: []string{"OWNER=" + ids[0] + ":" + ids[1]}})
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d: %.200s", code, said.String())
	}
	if err != nil {
		return fmt.Errorf("giving the files to user %s: %w", ids[0], err)
	}
	b.owned = true
	return nil
}

func root(user string) bool {
	user, _, _ = strings.Cut(user, ":")
	return user == "" || user == "root" || user == "0"
}

// ahead starts the container in the background. That takes as long as the
// helper takes for all that comes before the first script; the shell waits. An
// entrypoint could see that the sources are not there yet, so it starts in time.
func (b *build) ahead(ctx context.Context) {
	entrypoint := b.image.entrypoint
	if own := b.config.Entrypoint; len(own) > 0 {
		entrypoint = own[0] != ""
	}
	if entrypoint {
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e := &early{cancel: cancel}
	e.task = b.p.background(ctx, func(ctx context.Context) (err error) {
		e.s, err = b.begin(ctx)
		return err
	})
	b.next = e
}

// discard gives up what began ahead.
func (b *build) discard() {
	e := b.next
	if e == nil {
		return
	}
	b.next = nil
	e.cancel()
	if e.wait() == nil {
		e.s.close()
	}
}

// session returns the container started: the one that began ahead, if it waits.
func (b *build) session(ctx context.Context) (*session, error) {
	p := b.p
	if e := b.next; e != nil {
		select {
		case <-e.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx) // the next command may have it
		}
		// Whatever is wrong with it shows when it begins again.
		if e.err == nil && b.waits(ctx, e.s) {
			b.next = nil
			return e.s, nil
		}
		b.discard()
	}
	s, err := b.begin(ctx)
	if err != nil && ctx.Err() != nil { // it may have started all the same
		err = errors.Join(context.Cause(ctx), p.halt(ctx, b.id, 0, true))
	}
	return s, err
}

// waits says whether a container that began ahead is still there.
func (b *build) waits(ctx context.Context, s *session) bool {
	select {
	case <-s.end:
		return false
	default:
	}
	info, err := b.p.engine.ContainerInspect(ctx, b.id, client.ContainerInspectOptions{})
	return err == nil && info.Container.State != nil && info.Container.State.Running
}

// begin starts the container.
func (b *build) begin(ctx context.Context) (*session, error) {
	conn, err := b.p.engine.attach(ctx, b.id, true)
	if err != nil {
		return nil, b.failed(ctx, "attaching to", err)
	}
	// What ends the wait is the container, and who waits.
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &session{conn: conn, stop: stop, end: b.p.engine.end(watch, b.id, container.WaitConditionNextExit)}
	if _, err := b.p.engine.ContainerStart(ctx, b.id, client.ContainerStartOptions{}); err != nil {
		s.close()
		return nil, b.failed(ctx, "starting", badRequest(err))
	}
	b.p.meter.began(ctx, b.id, "build container", false) // before it has a script
	return s, nil
}

// attached starts the container, feeds it a script and waits for its end.
func (b *build) attached(ctx context.Context, c executor.Command, script []byte) error {
	p := b.p
	s, err := b.session(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	x := newExchange(s.conn, c, script)
	defer x.end()
	select {
	case e := <-s.end:
		if ctx.Err() != nil {
			break
		}
		if e.err != nil {
			return b.failed(ctx, "waiting for", e.err)
		}
		p.meter.over(ctx, b.id)
		if err := x.settled(ctx); err != nil {
			return b.failed(ctx, "reading the output of", err)
		}
		return b.verdict(ctx, x, e.code)
	case <-ctx.Done():
	}
	err = p.halt(ctx, b.id, c.Grace, true)
	_ = x.settled(context.WithoutCancel(ctx)) // the cause below is what counts
	return errors.Join(context.Cause(ctx), err)
}

// verdict is what an exit code means.
func (b *build) verdict(ctx context.Context, x *exchange, code int) error {
	if err := x.failed(); err != nil {
		return fmt.Errorf("job log: %w", err)
	}
	if code == 0 {
		return nil
	}
	if code == 137 {
		info, err := b.p.engine.ContainerInspect(ctx, b.id, client.ContainerInspectOptions{})
		if err == nil && info.Container.State != nil && info.Container.State.OOMKilled {
			b.p.warn("The kernel ended the script because the container had no memory left (memory = %q in [runners.docker]).", b.p.c.Memory)
		}
	}
	return &executor.ExitError{Code: code, Text: fmt.Sprintf("exit code %d", code)}
}

func (b *build) failed(ctx context.Context, doing string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%s the build container: %w", doing, b.p.engine.gone(err))
}

// sweepScript asks every process but the first to end, the youngest first.
const sweepScript = `for p in $(cd /proc && ls -d [0-9]* | sort -rn); do case $p in 1|$$) ;; *) kill -s TERM "$p" 2>/dev/null ;; esac; done; :`

// halt ends a container: politely, and after grace for good. With sweep all
// its processes hear of it, not only the first. It waits for the end.
func (p *place) halt(ctx context.Context, id string, grace time.Duration, sweep bool) error {
	if id == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace+cleanup)
	defer cancel()
	if grace <= 0 {
		grace = executor.DefaultGrace
	}
	gone := p.engine.end(ctx, id, container.WaitConditionNotRunning)
	polite, stopAsking := context.WithTimeout(ctx, grace)
	defer stopAsking()
	if sweep && !p.flag("FF_USE_NATIVE_CONTAINER_STOP") {
		p.sweep(polite, id)
	}
	_, err := p.engine.ContainerKill(polite, id, client.ContainerKillOptions{Signal: "SIGTERM"})
	if err == nil || polite.Err() != nil {
		select {
		case e := <-gone:
			return p.halted(id, e.err)
		case <-polite.Done():
		}
	}
	_, err = p.engine.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "SIGKILL"})
	if err != nil && !cerrdefs.IsConflict(err) { // a conflict: it ended by itself
		return p.halted(id, err)
	}
	return p.halted(id, (<-gone).err)
}

// ended says how a container ended, or why that is not known.
type ended struct {
	code int
	err  error
}

// end waits in the background for the end of a container, as long as ctx
// lasts. The engine has heard of it when end returns.
func (e *engine) end(ctx context.Context, id string, condition container.WaitCondition) <-chan ended {
	wait := e.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: condition})
	out := make(chan ended, 1)
	go func() {
		select {
		case r := <-wait.Result:
			if r.Error != nil {
				out <- ended{err: errors.New(r.Error.Message)}
				return
			}
			out <- ended{code: int(int32(r.StatusCode))} // exit codes have 32 bits, Windows' are unsigned
		case err := <-wait.Error:
			out <- ended{err: err}
		}
	}()
	return out
}

func (p *place) halted(id string, err error) error {
	if err == nil || cerrdefs.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("ending container %.12s: %w", id, p.engine.gone(err))
}

// sweep asks all processes of a container to end. An image without the
// programs for that gets only the signal to its first process.
func (p *place) sweep(ctx context.Context, id string) {
	made, err := p.engine.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: []string{"sh", "-c", sweepScript}})
	if err == nil {
		_, err = p.engine.ExecStart(ctx, made.ID, client.ExecStartOptions{Detach: true})
	}
	if err != nil {
		p.d.o.Log.Debug("asking the processes of a container to end", "container", id, "error", err)
	}
}
