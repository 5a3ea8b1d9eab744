package config

import (
	"os"
	"path/filepath"
	"runtime"
)

// fileName is the name of the configuration file in its directory.
const fileName = "config.toml"

// DefaultPath returns where GitLab Runner keeps config.toml: in
// /etc/gitlab-runner for root, in .gitlab-runner of the home directory for
// other users, in the current directory without a home directory and on
// Windows.
func DefaultPath() string { return filepath.Join(DefaultDir(), fileName) }

// DefaultDir returns the directory of [DefaultPath].
func DefaultDir() string {
	home, _ := os.UserHomeDir()
	cwd, _ := os.Getwd()
	return defaultDir(runtime.GOOS, os.Geteuid(), home, cwd)
}

// DefaultCertDir returns the directory in which certificates of GitLab servers
// are looked up by host name.
func DefaultCertDir() string { return filepath.Join(DefaultDir(), "certs") }

func defaultDir(goos string, euid int, home, cwd string) string {
	switch {
	case goos == "windows":
	case euid == 0:
		return "/etc/gitlab-runner"
	case home != "":
		return filepath.Join(home, ".gitlab-runner")
	}
	if cwd == "" {
		return "."
	}
	return cwd
}
