package script

import (
	"errors"
	"net/url"
	"strings"
)

// user is whom a job's token belongs to.
const user = "gitlab-ci-token"

// A remote is where the sources come from.
type remote struct {
	plain  string // without password
	host   string // "scheme://host[:port]", "" for paths
	scheme string
	// user and password open a remote of HTTP.
	user, password string
}

func (r remote) http() bool { return r.scheme == "http" || r.scheme == "https" }

// remote finds the address of the sources. Errors do not hold it: it may
// carry a password.
func (j *Job) remote() (remote, error) {
	raw := j.Spec.Git.RepoURL.Reveal()
	if c := strings.TrimRight(j.Settings.CloneURL, "/"); c != "" {
		if u, err := url.Parse(c); err == nil && u.Scheme != "" {
			raw = c + "/" + j.Variables.Value("CI_PROJECT_PATH") + ".git"
		}
	}
	if raw == "" || raw[0] == '-' || strings.ContainsAny(raw, "\x00\n\r") {
		return remote{}, errors.New("the repository has no usable address")
	}
	if !strings.Contains(raw, "://") { // a path, or user@host:path
		return remote{plain: raw}, nil
	}
	u, err := url.Parse(raw)
	if err != nil {
		return remote{}, errors.New("the repository's address cannot be read")
	}
	if u.Host == "" {
		return remote{plain: raw}, nil
	}
	r := remote{scheme: u.Scheme}
	if r.http() {
		r.user, r.password = user, j.Spec.Token.Reveal()
		if u.User != nil && j.Settings.CloneURL == "" {
			r.user = u.User.Username()
			r.password, _ = u.User.Password()
		}
		u.User = nil
		r.plain, r.host = u.String(), u.Scheme+"://"+u.Host
		return r, nil
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	} else if u.Scheme == "ssh" {
		u.User = url.User("git")
	}
	r.plain, r.host = u.String(), u.Scheme+"://"+u.Host
	return r, nil
}

// A rewrite tells git to use another address for all that begin with old.
type rewrite struct{ old, to string }

// base is the configured address of the coordinator's repositories, without
// credentials; nil when it is no address of HTTP.
func (j *Job) base() *url.URL {
	text := j.Settings.CloneURL
	if text == "" {
		text = j.Settings.URL
	}
	u, err := url.Parse(strings.TrimRight(text, "/"))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil
	}
	u.User = nil
	return u
}

// rewrites are the addresses for which git is to use another one. Every old
// one ends where a host name ends, so that none of a longer host name matches.
func (j *Job) rewrites() []rewrite {
	var list []rewrite
	add := func(old, to string) { list = append(list, rewrite{old, to}) }
	if u := j.base(); u != nil {
		if on, _ := j.Variables.Bool("GIT_SUBMODULE_FORCE_HTTPS", false); on {
			j.overSSH(u.String()+"/", add)
		}
	}
	return list
}

// overSSH rewrites addresses of the coordinator's SSH server.
func (j *Job) overSSH(to string, add func(old, to string)) {
	host := j.Variables.Value("CI_SERVER_SHELL_SSH_HOST")
	if host == "" {
		host = j.Variables.Value("CI_SERVER_HOST")
	}
	if host == "" {
		return
	}
	switch port := j.Variables.Value("CI_SERVER_SHELL_SSH_PORT"); port {
	case "", "22":
		add("git@"+host+":", to)
		add("ssh://git@"+host+"/", to)
		add("ssh://git@"+host+":22/", to)
	default:
		add("ssh://git@"+host+":"+port+"/", to)
	}
}
