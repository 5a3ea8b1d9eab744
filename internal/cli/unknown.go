package cli

import (
	"fmt"
	"strings"

	"github.com/glassrunner/glassrunner/internal/version"
)

// asUsage makes the errors of cobra that are about the command line, which
// have no type of their own, usage errors.
func asUsage(err error) error {
	text := err.Error()
	rest, unknown := strings.CutPrefix(text, "unknown command ")
	if !unknown {
		return err
	}
	var name string
	if _, scanErr := fmt.Sscanf(rest, "%q", &name); scanErr == nil {
		text += elsewhere(name)
	}
	return &usageError{fmt.Errorf("%s\n\nSee '%s --help'", strings.TrimRight(text, "\n"), version.Name)}
}

// elsewhere says where to find what commands of GitLab Runner do that are not
// here.
func elsewhere(name string) string {
	switch name {
	case "install", "uninstall", "start", "stop", "restart", "status":
		return "\n\nglassrunner leaves services to the system: let systemd, or what the system has,\nstart '" +
			version.Name + " run'."
	case "artifacts-uploader", "artifacts-downloader", "cache-archiver", "cache-extractor", "cache-init", "health-check":
		return "\n\nThat is a helper of GitLab Runner's own jobs; those of glassrunner do not need it."
	}
	return ""
}
