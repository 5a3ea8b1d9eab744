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
	// plain has no password, full has the one of the job.
	plain, full string
	// host is "scheme://host[:port]" of the remote, "" for paths.
	host, hostFull string
	scheme         string
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
		return remote{plain: raw, full: raw}, nil
	}
	u, err := url.Parse(raw)
	if err != nil {
		return remote{}, errors.New("the repository's address cannot be read")
	}
	if u.Host == "" {
		return remote{plain: raw, full: raw}, nil
	}
	r := remote{scheme: u.Scheme}
	if r.http() {
		creds := u.User
		if creds == nil || j.Settings.CloneURL != "" && j.Spec.Token != "" {
			creds = url.UserPassword(user, j.Spec.Token.Reveal())
		}
		u.User = nil
		r.plain, r.full = u.String(), withUser(u, creds)
		r.host = u.Scheme + "://" + u.Host
		r.hostFull = withUser(&url.URL{Scheme: u.Scheme, Host: u.Host}, creds)
		return r, nil
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	} else if u.Scheme == "ssh" {
		u.User = url.User("git")
	}
	r.plain, r.host = u.String(), u.Scheme+"://"+u.Host
	r.full, r.hostFull = r.plain, r.host
	return r, nil
}

func withUser(u *url.URL, creds *url.Userinfo) string {
	c := *u
	c.User = creds
	return c.String()
}

// A rewrite tells git to use another address for all that begin with old.
type rewrite struct{ old, to string }

// rewrites are the addresses for which git gets credentials. Every old one
// ends where a host name ends, so that none of a longer host name matches.
func (j *Job) rewrites(r remote) []rewrite {
	var list []rewrite
	add := func(old, to string) {
		if old == "" || old == to {
			return
		}
		for i := range list {
			if list[i].old == old {
				list[i].to = to
				return
			}
		}
		list = append(list, rewrite{old, to})
	}
	secret := !j.flag("FF_GIT_URLS_WITHOUT_TOKENS")
	if secret && r.http() {
		add(r.plain, r.full)
	}
	base := j.Settings.CloneURL
	if base == "" {
		base = j.Settings.URL
	}
	base = strings.TrimRight(base, "/")
	u, err := url.Parse(base)
	if base != "" && err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") {
		u.User = nil
		plain, full := u.String(), withUser(u, url.UserPassword(user, j.Spec.Token.Reveal()))
		if !secret {
			full = plain
		}
		add(plain+"/", full+"/")
		if on, _ := j.Variables.Bool("GIT_SUBMODULE_FORCE_HTTPS", false); on {
			j.overSSH(full+"/", add)
		}
	}
	if secret && r.http() {
		add(r.host+"/", r.hostFull+"/")
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
