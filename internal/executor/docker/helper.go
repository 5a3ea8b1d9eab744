package docker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

// HelperImage is the image of helper containers unless the configuration
// names another one. `make helper-image` builds it; it is in no registry.
const HelperImage = "glassrunner/helper:1"

// helper is the container for everything but the user's steps. It is started
// once: each script is a process of its own in it, which takes a fifth of the
// time that a container takes to start.
type helper struct {
	p       *place
	image   image
	id      string
	running bool
}

// helperReady is what the helper's container prints when volumes are open.
const helperReady = "glassrunner: the helper is ready"

// helperMain opens volumes up and waits. As the first process it takes care
// of those that lost their parents.
const helperMain = `[ $# -eq 0 ] || chmod 0777 "$@"; echo '` + helperReady + `'; exec >/dev/null 2>&1 </dev/null; ` +
	`trap 'exit 0' TERM; while :; do sleep 86400 & wait $!; done`

// find makes sure that the engine has the helper's image.
func (h *helper) find(ctx context.Context) error {
	p := h.p
	if p.c.HelperImage == "" {
		img, found, err := p.images.inspect(ctx, p.d.o.Helper, "")
		switch {
		case err != nil:
			return err
		case !found:
			p.warn("The helper image is not on this engine. `make helper-image` in glassrunner's sources builds and loads it; `helper_image` in [runners.docker] names another one.")
			return misconfigured("the helper image %s is not on the engine at %s", p.d.o.Helper, p.engine.host)
		}
		h.image = img
		return nil
	}
	policies, err := p.policies(p.expand(p.c.HelperImage), nil)
	if err != nil {
		return err
	}
	h.image, err = p.images.get(ctx, p.expand(p.c.HelperImage), policies, "")
	return err
}

// ensure starts the helper's container unless it runs.
func (h *helper) ensure(ctx context.Context) error {
	if h.running {
		return nil
	}
	p := h.p
	if h.id == "" {
		host, err := p.host("predefined", h.image.name)
		if err != nil {
			return err
		}
		h.id, err = p.make(ctx, recipe{
			kind: "predefined", suffix: "predefined", image: h.image, host: host,
			config: container.Config{
				Hostname: p.Place().Hostname, Env: p.environment(), AttachStdout: true, AttachStderr: true,
				Cmd: append([]string{"sh", "-c", helperMain, "sh"}, p.volumes.toOpen()...),
			},
		})
		if err != nil {
			return err
		}
	}
	conn, err := p.engine.attach(ctx, h.id, false)
	if err != nil {
		return fmt.Errorf("attaching to the helper container: %w", p.engine.gone(err))
	}
	defer conn.Close()
	if err := p.start(ctx, "helper", h.id); err != nil {
		return err
	}
	p.meter.began(ctx, h.id, "helper container", false)
	if err := ready(ctx, conn); err != nil {
		return err
	}
	h.running = true
	// One that was stopped has lost what it was told of services.
	return h.tellHosts(ctx)
}

// ready waits for the line that says that the helper's container is.
func ready(ctx context.Context, conn client.HijackedResponse) error {
	r, w := io.Pipe()
	stop := context.AfterFunc(ctx, conn.Close)
	defer stop()
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, err := stdcopy.StdCopy(w, w, conn.Reader)
		_ = w.CloseWithError(err) // never fails
	}()
	defer func() {
		conn.Close()
		_ = r.Close() // never fails
		<-copied
	}()
	var said []string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if strings.TrimSpace(lines.Text()) == helperReady {
			return nil
		}
		if len(said) < 20 {
			said = append(said, lines.Text())
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("the helper container ended before it was ready: %s", strings.Join(said, "; "))
}

// forget makes the next command use a new container.
func (h *helper) forget() { h.id, h.running = "", false }

func (h *helper) close() { h.forget() }

// run runs a script in a process of its own.
func (h *helper) run(ctx context.Context, c executor.Command) error {
	if err := h.ensure(ctx); err != nil {
		return err
	}
	before := "umask 0000; "
	if h.p.flag("FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR") {
		before = ""
	}
	code, err := h.exec(ctx, c, execution{cmd: shellCommand(h.p.shell(), before), script: merged(c, h.p.shell())})
	switch {
	case err != nil:
		return err
	case code != 0:
		return &executor.ExitError{Code: code, Text: fmt.Sprintf("exit code %d", code)}
	}
	return nil
}

// execution is a process in the helper's container.
type execution struct {
	cmd    []string
	env    []string
	user   string
	script []byte
}

// look is how often it is looked whether a process has ended whose output is
// still open: a daemon may hold it.
const look = time.Second

// aside runs a process beside others in the helper's container. When ctx ends
// it is left to itself.
func (h *helper) aside(ctx context.Context, c executor.Command, e execution) (int, error) {
	api := h.p.engine
	made, err := api.ExecCreate(ctx, h.id, client.ExecCreateOptions{AttachStdout: true, AttachStderr: true, Cmd: e.cmd, Env: e.env, User: e.user})
	if err != nil {
		return 0, api.gone(err)
	}
	conn, err := api.ExecAttach(ctx, made.ID, client.ExecAttachOptions{})
	if err != nil {
		return 0, api.gone(err)
	}
	x := newExchange(conn.HijackedResponse, c, nil)
	defer x.end()
	select {
	case err := <-x.copied:
		x.copied <- err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	info, err := api.ExecInspect(ctx, made.ID, client.ExecInspectOptions{})
	if err != nil {
		return 0, api.gone(err)
	}
	return info.ExitCode, nil
}

// exec runs a process in the helper's container and returns its exit code.
// When ctx ends it stops the container: processes cannot be stopped alone.
func (h *helper) exec(ctx context.Context, c executor.Command, e execution) (int, error) {
	api := h.p.engine
	made, err := api.ExecCreate(ctx, h.id, client.ExecCreateOptions{
		AttachStdin: true, AttachStdout: true, AttachStderr: true, Cmd: e.cmd, Env: e.env, User: e.user,
	})
	if cerrdefs.IsConflict(err) { // "container … is not running": something ended it
		h.running = false
		if err := h.ensure(ctx); err != nil {
			return 0, err
		}
		made, err = api.ExecCreate(ctx, h.id, client.ExecCreateOptions{
			AttachStdin: true, AttachStdout: true, AttachStderr: true, Cmd: e.cmd, Env: e.env, User: e.user,
		})
	}
	if err != nil {
		return 0, h.failed(ctx, err)
	}
	conn, err := api.ExecAttach(ctx, made.ID, client.ExecAttachOptions{})
	if err != nil {
		return 0, h.failed(ctx, err)
	}
	x := newExchange(conn.HijackedResponse, c, e.script)
	defer x.end()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case cerr := <-x.copied:
			x.copied <- cerr
			ended = true
		case <-tick.C:
			info, err := api.ExecInspect(ctx, made.ID, client.ExecInspectOptions{})
			if err != nil && ctx.Err() == nil {
				return 0, h.failed(ctx, err)
			}
			if ended = err == nil && !info.Running; ended {
				wait, cancel := context.WithTimeout(ctx, 250*time.Millisecond)
				_ = x.settled(wait) // what a daemon still prints is nobody's
				cancel()
			}
		case <-ctx.Done():
			return 0, errors.Join(context.Cause(ctx), h.stop(ctx, c.Grace))
		}
	}
	info, err := api.ExecInspect(ctx, made.ID, client.ExecInspectOptions{})
	switch {
	case err != nil:
		return 0, h.failed(ctx, err)
	case info.Running: // the connection broke, not the process
		return 0, h.failed(ctx, errors.Join(io.ErrUnexpectedEOF, h.stop(ctx, c.Grace)))
	case x.failed() != nil:
		return 0, fmt.Errorf("job log: %w", x.failed())
	}
	return info.ExitCode, nil
}

// failed is the error of a call to the engine, or that of ctx.
func (h *helper) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), h.stop(ctx, 0))
	}
	return fmt.Errorf("helper container: %w", h.p.engine.gone(err))
}

// stop ends all that runs in the helper's container. It is started again when
// it is needed.
func (h *helper) stop(ctx context.Context, grace time.Duration) error {
	h.running = false
	return h.p.halt(ctx, h.id, grace, false)
}

// reasonOf is the reason that an error carries.
func reasonOf(err error) job.Reason {
	if e, ok := errors.AsType[*executor.Error](err); ok {
		return e.Reason
	}
	return job.NoReason
}
