package cli

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/glassrunner/glassrunner/internal/app"
	"github.com/glassrunner/glassrunner/internal/config"
)

// checkExecutor refuses what GitLab Runner has no executor for.
func checkExecutor(name string) error {
	if names := executorNames(); !slices.Contains(names, name) {
		return fmt.Errorf("invalid executor specified: %q; want one of %s", name, strings.Join(names, ", "))
	}
	return nil
}

// chooseExecutor asks where jobs are to run, and what that needs.
func (g *registration) chooseExecutor(ctx context.Context) error {
	r := &g.runner
	names := slices.Sorted(slices.Values(executorNames()))
	var err error
	r.Executor, err = g.ask.ask(ctx, question{
		key: "executor", text: "Enter an executor: " + strings.Join(names, ", "), flag: "executor", env: "RUNNER_EXECUTOR",
		value: r.Executor, check: checkExecutor,
	})
	if err != nil {
		return err
	}
	if has := app.Executors(); !slices.Contains(has, r.Executor) {
		g.log.Warn(fmt.Sprintf("This version of glassrunner has no executor %q yet: the runner is saved and will run no jobs before there is one. There is: %s",
			r.Executor, strings.Join(has, ", ")))
	}
	keepSettings(r)
	switch r.Executor {
	case "docker", "docker-windows", "docker+machine", "docker-autoscaler":
		return g.askDocker(ctx)
	case "ssh":
		return g.askSSH(ctx, true)
	case "parallels":
		r.Parallels = orNew(r.Parallels)
		return g.askVM(ctx, "Parallels", "parallels", &r.Parallels.BaseName)
	case "virtualbox":
		r.VirtualBox = orNew(r.VirtualBox)
		return g.askVM(ctx, "VirtualBox", "virtualbox", &r.VirtualBox.BaseName)
	case "shell":
		if runtime.GOOS == "windows" && r.Shell == "" {
			r.Shell = "pwsh"
		}
	}
	return nil
}

// keepSettings drops the settings of executors that the entry does not use,
// which the environment may have brought (DOCKER_HOST).
func keepSettings(r *config.Runner) {
	is := func(executors ...string) bool { return slices.Contains(executors, r.Executor) }
	if !is("docker", "docker-windows", "docker+machine", "docker-autoscaler") {
		r.Docker = nil
	}
	if !is("docker+machine") {
		r.Machine = nil
	}
	if !is("docker-autoscaler", "instance") {
		r.Autoscaler = nil
	}
	if !is("instance") {
		r.Instance = nil
	}
	if !is("kubernetes") {
		r.Kubernetes = nil
	}
	if !is("custom") {
		r.Custom = nil
	}
	if !is("ssh", "parallels", "virtualbox") {
		r.SSH = nil
	}
	if !is("parallels") {
		r.Parallels = nil
	}
	if !is("virtualbox") {
		r.VirtualBox = nil
	}
}

// orNew returns the settings, which may not be there yet.
func orNew[T any](p *T) *T {
	if p == nil {
		return new(T)
	}
	return p
}

func (g *registration) askDocker(ctx context.Context) error {
	r := &g.runner
	r.Docker = orNew(r.Docker)
	d := r.Docker
	example, cache := "alpine:latest", "/cache"
	if r.Executor == "docker-windows" {
		example, cache = "mcr.microsoft.com/windows/servercore:ltsc2022", `c:\cache`
	}
	var err error
	d.Image, err = g.ask.ask(ctx, question{
		key: "docker-image", text: "Enter the image of jobs that name none (for example, " + example + ")",
		flag: "docker-image", env: "DOCKER_IMAGE", value: d.Image,
	})
	if err != nil {
		return err
	}
	has := slices.ContainsFunc(d.Volumes, func(v string) bool { return strings.HasSuffix(v, cache) })
	if !d.DisableCache && !has {
		d.Volumes = append(slices.Clone(d.Volumes), cache)
	}
	return nil
}

// askVM asks for a virtual machine and the login there.
func (g *registration) askVM(ctx context.Context, product, name string, base *string) error {
	flag := name + "-base-name"
	answer, err := g.ask.ask(ctx, question{
		key: flag, text: "Enter the name of the " + product + " machine that jobs get copies of (for example, my-vm)",
		flag: flag, env: strings.ToUpper(name) + "_BASE_NAME", value: *base,
	})
	if err != nil {
		return err
	}
	*base = answer
	return g.askSSH(ctx, false)
}

// askSSH asks for a login, and for the machine unless that is known.
func (g *registration) askSSH(ctx context.Context, machine bool) error {
	g.runner.SSH = orNew(g.runner.SSH)
	s := g.runner.SSH
	type step struct {
		question
		into *string
	}
	var steps []step
	if machine {
		steps = append(steps,
			step{question{key: "ssh-host", text: "Enter the address of the machine (for example, build.example.com)", flag: "ssh-host", env: "SSH_HOST"}, &s.Host},
			step{question{key: "ssh-port", text: "Enter the port of its SSH server (for example, 22)", free: true}, &s.Port})
	}
	steps = append(steps,
		step{question{key: "ssh-user", text: "Enter the user to log in as (for example, root)", flag: "ssh-user", env: "SSH_USER"}, &s.User},
		step{question{key: "ssh-password", text: "Enter the user's password, if there is one", free: true, secret: true}, (*string)(&s.Password)},
		step{question{key: "ssh-identity-file", text: "Enter the path of the user's private key, if there is one (for example, /home/user/.ssh/id_ed25519)", free: true}, &s.IdentityFile})
	for _, q := range steps {
		q.value = *q.into
		answer, err := g.ask.ask(ctx, q.question)
		if err != nil {
			return err
		}
		*q.into = answer
	}
	return nil
}
