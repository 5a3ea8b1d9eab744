package docker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

// HelperImage is the image of helper containers unless the configuration
// names another one. `make helper-image` builds it; it is in no registry.
const HelperImage = "glassrunner/helper:1"

// helper is the container for everything but the user's steps. It is started
// once: its first process takes one script after the other, which spares each
// of them the tenth of a second that a container or an exec takes to start.
type helper struct {
	p       *place
	image   held
	id      string
	mark    string   // says that volumes are open
	console *console // nil: it does not run
}

// helperMain opens volumes up and then carries out scripts, each announced by
// a line with a mark and a size. A script is taken whole before it begins, so
// that one that ends early leaves nothing behind that would be taken for the
// next line; and into a file, since shells read a pipe byte by byte. Its name is
// the first mark's: other jobs may see the directory. What runs in the background
// does not keep a signal waiting. %s becomes the shell.
const helperMain = `_m=$1; shift
[ $# -eq 0 ] || chmod 0777 "$@"
trap 'exit 0' TERM
for _d in /dev/shm /tmp ''; do [ ! -w "$_d/" ] || break; done
_f=$_d/.glassrunner-$_m _c=0
while printf '\036%%s %%s\036' "$_m" $_c && printf '\036%%s %%s\036' "$_m" $_c >&2 && read -r _m _s; do
  (umask 077; head -c "$_s" >"$_f")
  exec 3<"$_f"
  rm -f "$_f"
  (%s) <&3 3<&- &
  exec 3<&-
  wait $!
  _c=$?
done`

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
			return executor.Misconfigured("the helper image %s is not on the engine at %s", p.d.o.Helper, p.engine.host)
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
	if h.console != nil && h.console.lives() {
		return nil
	}
	h.disconnect()
	p := h.p
	if h.id != "" {
		// One whose connection broke may still be at work.
		if err := p.halt(ctx, h.id, 0, false); err != nil {
			return err
		}
	} else {
		host, err := p.host("predefined", h.image.name)
		if err != nil {
			return err
		}
		h.mark = rand.Text()
		h.id, err = p.make(ctx, recipe{
			kind: "predefined", suffix: "predefined", image: h.image, host: host,
			config: container.Config{
				Hostname: p.Place().Hostname, Env: p.environment(),
				AttachStdin: true, AttachStdout: true, AttachStderr: true, OpenStdin: true, StdinOnce: true,
				Cmd: append([]string{"sh", "-c", fmt.Sprintf(helperMain, h.shell()), "sh", h.mark}, p.volumes.toOpen()...),
			},
		})
		if err != nil {
			return err
		}
	}
	conn, err := p.engine.attach(ctx, h.id, true)
	if err != nil {
		return fmt.Errorf("attaching to the helper container: %w", p.engine.gone(err))
	}
	said := &executor.Tail{Limit: 4 << 10}
	h.console = newConsole(conn)
	ready := h.console.expect(h.mark, &sink{w: said}, &sink{w: said})
	if err := p.start(ctx, "helper", h.id); err != nil {
		h.disconnect()
		return err
	}
	p.meter.began(ctx, h.id, "helper container", false)
	select {
	case <-ready:
	case <-h.console.closed:
		h.disconnect()
		return fmt.Errorf("the helper container ended before it was ready: %s", strings.TrimSpace(said.String()))
	case <-ctx.Done():
		h.disconnect()
		return context.Cause(ctx)
	}
	// One that was stopped has lost what it was told of services.
	return h.tellHosts(ctx)
}

// shell is the command that becomes the shell of a script.
func (h *helper) shell() string {
	p := h.p
	before := "umask 0000; "
	if p.flag("FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR") {
		before = ""
	}
	words := shellCommand(p.shell(), before)
	if words[0] == "sh" {
		return words[2]
	}
	return "exec " + strings.Join(words, " ")
}

// disconnect gives the connection to the container's first process up. When it
// notices, it ends.
func (h *helper) disconnect() {
	if h.console != nil {
		h.console.close()
		h.console = nil
	}
}

// forget makes the next command use a new container.
func (h *helper) forget() {
	h.disconnect()
	h.id = ""
}

// run has the container's first process run a script.
func (h *helper) run(ctx context.Context, c executor.Command) error {
	if err := h.ensure(ctx); err != nil {
		return err
	}
	code, err := h.console.run(ctx, c, merged(c, h.p.shell()))
	switch {
	case err == nil && code == 0:
		return nil
	case err == nil:
		return &executor.ExitError{Code: code, Text: fmt.Sprintf("exit code %d", code)}
	case ctx.Err() != nil:
		return errors.Join(context.Cause(ctx), h.stop(ctx, c.Grace))
	case !errors.Is(err, errHungUp):
		return err
	}
	// The engine knows better why, if there is one and it has the container.
	_, ierr := h.p.engine.ContainerInspect(ctx, h.id, client.ContainerInspectOptions{})
	if ierr != nil {
		err = h.p.engine.gone(ierr)
	}
	return fmt.Errorf("helper container: %w", errors.Join(err, h.stop(ctx, c.Grace)))
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
		h.disconnect()
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
	h.disconnect()
	return h.p.halt(ctx, h.id, grace, false)
}

// reasonOf is the reason that an error carries.
func reasonOf(err error) job.Reason {
	if e, ok := errors.AsType[*executor.Error](err); ok {
		return e.Reason
	}
	return job.NoReason
}
