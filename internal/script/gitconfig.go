package script

import "strings"

// A gitConfig is a file in git's configuration format. Writing it as a file
// takes no process per line and puts no secret on a command line.
type gitConfig struct{ b strings.Builder }

// Escapes of git's configuration format. A name within a section's head can
// hold no line break; it is left out there.

func escapeSub(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", "", "\x00", "").Replace(s)
}

func escapeValue(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "\x00", "").Replace(s)
}

func (c *gitConfig) section(name, sub string) {
	c.b.WriteString("[" + name)
	if sub != "" {
		c.b.WriteString(` "` + escapeSub(sub) + `"`)
	}
	c.b.WriteString("]\n")
}

func (c *gitConfig) set(key, value string) {
	c.b.WriteString("\t" + key + ` = "` + escapeValue(value) + "\"\n")
}

func (c *gitConfig) bytes() []byte { return []byte(c.b.String()) }

// external is the configuration that holds what git needs to know for this
// job only, its credentials among it.
func (j *Job) external(r remote) *gitConfig {
	var c gitConfig
	if id := j.correlationID(); id != "" {
		c.section("http", "")
		c.set("extraHeader", "X-Gitaly-Correlation-ID: "+id)
	}
	if j.flag("FF_USE_GIT_BUNDLE_URIS") {
		c.section("transfer", "")
		c.set("bundleURI", "true")
	}
	if j.Settings.SharedEnv && r.http() && absolute(j.Dirs.Temp) {
		if files := j.tlsFiles(); len(files) > 0 {
			c.section("http", r.host)
			for _, f := range files {
				c.set(f.setting, j.filePath(f.variable))
			}
		}
	}
	for _, w := range j.rewrites() {
		c.section("url", w.to)
		c.set("insteadOf", w.old)
	}
	// git asks this shell function for the token. An address with the token in
	// it would be seen by all users of the machine: git gives addresses to its
	// transport programs as arguments.
	if r.http() {
		j.credential(&c, r.host, r.user, r.password)
	}
	if u := j.base(); u != nil {
		if host := u.Scheme + "://" + u.Host; host != r.host {
			j.credential(&c, host, user, j.Spec.Token.Reveal())
		}
	}
	return &c
}

// credential opens a host. The job's own token is taken from its environment
// where it is there, so that it is in no file.
func (j *Job) credential(c *gitConfig, host, name, password string) {
	word := quote(password)
	if password == j.Variables.Value("CI_JOB_TOKEN") {
		word = `"$CI_JOB_TOKEN"`
	}
	c.section("credential", host)
	c.set("username", name)
	c.set("helper", "") // forget those of wider configurations
	c.set("helper", `!f() { [ "$1" != get ] || printf 'username=%s\npassword=%s\n' `+quote(name)+" "+word+`; }; f`)
}

// correlationID is the request id of the job, when it is to be sent and is
// fit for a header.
func (j *Job) correlationID() string {
	id := j.Spec.CorrelationID
	if !j.flag("FF_USE_GITALY_CORRELATION_ID") || len(id) > 255 ||
		strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:/+=") != "" {
		return ""
	}
	return id
}

// A tlsFile is a git setting whose value is a file variable of the job.
type tlsFile struct{ setting, variable string }

func (j *Job) tlsFiles() (files []tlsFile) {
	for _, f := range []tlsFile{
		{"sslCAInfo", "CI_SERVER_TLS_CA_FILE"},
		{"sslCert", "CI_SERVER_TLS_CERT_FILE"},
		{"sslKey", "CI_SERVER_TLS_KEY_FILE"},
	} {
		if v, ok := j.Variables.Lookup(f.variable); ok && v.File && v.Value != "" {
			files = append(files, f)
		}
	}
	return files
}

// template is the configuration that a new repository starts with.
func (j *Job) template() *gitConfig {
	var c gitConfig
	c.section("init", "")
	c.set("defaultBranch", "none")
	c.section("fetch", "")
	c.set("recurseSubmodules", "false")
	c.section("credential", "")
	c.set("interactive", "never")
	c.section("gc", "")
	c.set("autoDetach", "false")
	if absolute(j.Dirs.Temp) {
		c.section("include", "")
		c.set("path", j.temp(extConfig))
	}
	return &c
}

// global takes the place of the user's configuration, which it includes, for
// jobs whose addresses hold no token. git passes over files that are missing.
func (j *Job) global() *gitConfig {
	var c gitConfig
	c.section("include", "")
	c.set("path", "~/.gitconfig")
	c.set("path", "~/.config/git/config")
	if absolute(j.Dirs.Temp) {
		c.set("path", j.temp(extConfig))
	} else {
		c.set("path", extConfig) // beside this file
	}
	return &c
}
