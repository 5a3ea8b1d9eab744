//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// TestTLS works for a server whose certificate only tls-ca-file vouches for,
// git included, and takes a new file without a restart.
func TestTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{TLS: true, LongPoll: time.Second})
	project(t, w, "acme/app", map[string]string{"a.txt": "fetched over TLS\n"})
	ca := file(t, w, "ca.pem", string(w.server.CAPEM()))
	wrong := file(t, w, "wrong.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	with := func(ca string) string { return w.config("", entry{Extra: fmt.Sprintf("  tls-ca-file = %q\n", ca)}) }

	p := w.start(w.config(""))
	p.waitMetrics("a refused certificate", func(m families) bool {
		return m.sum("glassrunner_api_request_errors_total", "endpoint", "request_job", "class", "tls") > 0
	})
	has(t, p.log.String(), "certificate")
	w.write(with(wrong))
	p.waitLog(regexp.MustCompile("(?s)" + regexp.QuoteMeta(wrong)))
	w.write(with(ca))
	s := w.run(fakegitlab.Job{Project: "acme/app", Script: []string{"cat a.txt", `grep -c BEGIN "$CI_SERVER_TLS_CA_FILE"`}})
	want(t, s, "success")
	has(t, text(s.Trace), "fetched over TLS\n", "\n1\n")
}

// TestRelativeURL works for a GitLab below a path.
func TestRelativeURL(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{PathPrefix: "/some/gitlab"})
	project(t, w, "acme/app", map[string]string{"a.txt": "below a path\n"})
	w.start(strings.Replace(w.config(""), w.server.URL()+`"`, w.server.URL()+`/"`, 1))
	s := w.run(fakegitlab.Job{Project: "acme/app", Script: []string{"cat a.txt"}})
	want(t, s, "success")
	has(t, text(s.Trace), "\nbelow a path\n")
}

// TestSystemID is the same after a restart, and what the server, the log and
// the metrics are told.
func TestSystemID(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	var first string
	for range 2 {
		p := w.start(w.config(""))
		s := w.run(fakegitlab.Job{Script: []string{"true"}})
		id, err := os.ReadFile(filepath.Join(w.dir, ".runner_system_id"))
		if err != nil {
			t.Fatal(err)
		}
		got := strings.TrimSpace(string(id))
		if !regexp.MustCompile(`^[sr]_[0-9a-zA-Z]{12}$`).MatchString(got) || s.SystemID != got || first != "" && got != first {
			t.Errorf("the file has %q, the server was told %q, it was %q", got, s.SystemID, first)
		}
		has(t, text(s.Trace), "system ID: "+got)
		p.waitMetrics("the system id", func(m families) bool { return m.series("gitlab_runner_jobs_total", "system_id", got) == 1 })
		first = got
		p.end()
	}
}

// TestTokenRotation replaces a token that is about to expire, saves it without
// touching the rest of the file, and goes on with the new one.
func TestTokenRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{TokenTTL: 24 * time.Hour})
	if err := w.server.ExpireRunner(w.runner.Token, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	text := "# kept as it is\n" + w.config("", entry{Extra: fmt.Sprintf("  token_obtained_at = %s\n  token_expires_at = %s\n  no_such_key = 1 # and this\n",
		time.Now().Add(-100*time.Hour).UTC().Format(time.RFC3339), time.Now().Add(time.Hour).UTC().Format(time.RFC3339))})
	p := w.start(text)
	m := p.waitValue(1, "glassrunner_token_resets_total")
	m.check(t, 0, "glassrunner_token_reset_failures_total")
	m.check(t, 1, "gitlab_runner_configuration_saved_total")
	saved, err := os.ReadFile(w.path)
	if err != nil {
		t.Fatal(err)
	}
	has(t, string(saved), "# kept as it is", "token = \"glrt-", "no_such_key = 1 # and this")
	hasNot(t, string(saved), w.runner.Token)
	if info, err := os.Stat(w.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
	want(t, w.run(fakegitlab.Job{Script: []string{"true"}}), "success")
	hasNot(t, p.log.String(), w.runner.Token, "glrt-")
}

// TestUnknownKeys are warnings with key and line, and counted.
func TestUnknownKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config("no_such_setting = true", entry{Extra: "  limitt = 3\n"}))
	want(t, w.run(fakegitlab.Job{Script: []string{"true"}}), "success")
	p.waitValue(2, "glassrunner_config_warnings")
	has(t, p.log.String(), "config.toml:", "no_such_setting")
	has(t, p.log.String(), "config.toml:", "limitt")
}
