package app

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/executor/ssh"
	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/remote"
)

// sshDriver is the executor that enters one machine for all jobs.
func sshDriver(r *config.Runner, account string, own belongings, log *slog.Logger) (executor.Driver, error) {
	login := sshLogin(r)
	home, err := os.UserHomeDir()
	if named := homeOf(account, log); named != "" {
		home, err = named, nil
	}
	if login.KnownHosts, err = homely(login.KnownHosts, home, err); err != nil {
		return nil, fmt.Errorf("known_hosts_file: %w", err)
	}
	if file := sshSection(r).IdentityFile; file != "" {
		if file, err = homely(file, home, err); err != nil {
			return nil, fmt.Errorf("identity_file: %w", err)
		}
		key, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("identity_file: %w", err)
		}
		login.Key = job.Secret(key)
	}
	return ssh.New(ssh.Options{
		Name: "ssh", Machines: ssh.One(login), LoginShell: true, BuildsDir: r.BuildsDir, CacheDir: r.CacheDir,
		Shell: r.Shell, Grace: r.GracefulKillTimeout(), Owner: own.owner,
	})
}

func sshSection(r *config.Runner) config.SSH {
	if r.SSH == nil {
		return config.SSH{}
	}
	return *r.SSH
}

// sshLogin is how the machine of a runner is entered, but for its key.
func sshLogin(r *config.Runner) remote.Login {
	c := sshSection(r)
	return remote.Login{
		Address: net.JoinHostPort(cmp.Or(c.Host, "localhost"), cmp.Or(c.Port, "22")), User: cmp.Or(c.User, "root"), Password: c.Password,
		KnownHosts: cmp.Or(c.KnownHostsFile, "~/.ssh/known_hosts"), AnyHostKey: c.DisableStrictHostKeyChecking,
	}
}

// homely replaces the ~ at the begin of a path.
func homely(path, home string, err error) (string, error) {
	rest, ok := strings.CutPrefix(path, "~/")
	if !ok {
		return path, nil
	}
	return filepath.Join(home, rest), err
}
