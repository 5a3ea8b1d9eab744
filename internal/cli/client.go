package cli

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/glassrunner/glassrunner/internal/app"
	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/coordinator"
	"github.com/glassrunner/glassrunner/internal/job"
)

// createdPrefix begins the tokens of runners that were created in GitLab. No
// other prefix counts, not even one that an instance puts before it.
const createdPrefix = "glrt-"

// isCreated tells a created runner's token from all others.
func isCreated(token job.Secret) bool { return strings.HasPrefix(token.Reveal(), createdPrefix) }

// client talks to the coordinator of one entry, in the name of this machine.
func (c *command) client(cfg *config.Config, r *config.Runner, systemID string) (*coordinator.Client, error) {
	return coordinator.New(coordinator.Options{
		URL: r.URL, Token: r.Token, SystemID: systemID,
		Runner:    job.Runner{Short: r.ShortToken(), Name: r.Name, SystemID: systemID, Executor: r.Executor},
		TLSCAFile: r.TLSCAFile, TLSCertFile: r.TLSCertFile, TLSKeyFile: r.TLSKeyFile, CertDir: config.DefaultCertDir(),
		ConnectionMaxAge: cfg.ConnectionMaxAge(), Info: app.Info(cfg, r), Log: c.log.log,
	})
}

// systemID returns this machine's id. That it cannot be kept is no reason not
// to go on.
func (c *command) systemID(cfg *config.Config) string {
	id, err := config.SystemID(cfg.Dir())
	if err != nil {
		c.log.Warn("The system id could not be kept: GitLab will take this for another machine next time", "error", err)
	}
	return id
}

// status returns the HTTP status of a coordinator's refusal, or 0.
func status(err error) int {
	if e, ok := errors.AsType[*coordinator.Error](err); ok && e.Status > 0 {
		return e.Status
	}
	return 0
}

// isForbidden tells the one answer that says that a token is good no more.
func isForbidden(err error) bool { return status(err) == http.StatusForbidden }

// shownURL is an entry's address without what may be a password.
func shownURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "(not a URL)"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// sameURL compares addresses as coordinators are told apart.
func sameURL(a, b string) bool {
	clean := func(s string) string {
		return strings.TrimRight(strings.TrimSuffix(strings.TrimRight(s, "/"), "/ci"), "/")
	}
	return clean(a) == clean(b)
}
