package e2e_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// Credentials of the storage. The job must never see the second one.
const (
	s3Access = "E2EACCESSKEY0001"
	s3Secret = "e2e-Secret-Key-that-no-job-sees-0001"
)

// storage is a real server with the S3 protocol.
type storage struct {
	addr string
	dir  string // of the bucket "caches"
}

// newStorage starts versitygw, which scripts/tool.sh builds.
func newStorage(t *testing.T) *storage {
	t.Helper()
	path := os.Getenv("GLASSRUNNER_VERSITYGW")
	if path == "" {
		if os.Getenv("GLASSRUNNER_TEST_S3") == "" {
			t.Skip("the S3 server takes minutes to build: GLASSRUNNER_TEST_S3=1 builds and uses it")
		}
		out, err := exec.Command("../../scripts/tool.sh", "versitygw").Output()
		if err != nil {
			t.Skipf("there is no S3 server: scripts/tool.sh versitygw: %v", err)
		}
		path = strings.TrimSpace(string(out))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &storage{addr: l.Addr().String()}
	root := t.TempDir()
	s.dir = filepath.Join(root, "caches")
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, "--port", s.addr, "posix", root)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s3Access, "ROOT_SECRET_KEY="+s3Secret)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out := newJournal()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	client := &http.Client{Timeout: time.Second}
	if err := poll(patience, func() bool {
		resp, err := client.Get("http://" + s.addr)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil
	}); err != nil {
		text, _ := out.look()
		t.Fatalf("the S3 server does not answer: %s", text)
	}
	return s
}

// settings is the storage in config.toml.
func (s *storage) settings(more string) string {
	return fmt.Sprintf(`
  [runners.cache]
    Type = "s3"
    Path = "pre/fix"
    Shared = true
    %s
    [runners.cache.s3]
      ServerAddress = %q
      AccessKey = %q
      SecretKey = %q
      BucketName = "caches"
      BucketLocation = "us-east-1"
      Insecure = true
`, more, s.addr, s3Access, s3Secret)
}

// objects lists what is stored.
func (s *storage) objects() []string {
	var out []string
	_ = filepath.WalkDir(s.dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(s.dir, name)
			if !strings.HasPrefix(rel, ".sgwtmp") {
				out = append(out, rel)
			}
		}
		return nil
	})
	return out
}

// TestS3Cache keeps caches in a real object storage.
func TestS3Cache(t *testing.T) {
	t.Parallel()
	s3 := newStorage(t)
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config("", entry{Extra: s3.settings("")}))
	run := func(script string, c fakegitlab.Cache, variables ...string) string {
		c.Paths = []string{"vendor/"}
		s := w.run(fakegitlab.Job{Script: []string{script}, Cache: []fakegitlab.Cache{c}, Variables: empty(variables...)})
		want(t, s, "success")
		log := text(s.Trace)
		hasNot(t, log, s3Secret, "X-Amz-Signature=", "Signature=")
		return log
	}
	forget := func() {
		if err := os.RemoveAll(filepath.Join(w.dir, "cache")); err != nil {
			t.Fatal(err)
		}
	}
	gems := fakegitlab.Cache{Key: "gems/main", Policy: "pull-push", When: "on_success"}
	log := run("mkdir -p vendor; head -c 300000 /dev/urandom > vendor/gem; sha256sum vendor/gem", gems)
	has(t, log, "WARNING: Cache file does not exist: http://"+s3.addr+"/caches/pre/fix/project/", "Failed to extract cache",
		"Uploading cache to http://"+s3.addr+"/caches/pre/fix/project/", "Created cache")
	if got := s3.objects(); len(got) != 1 || !strings.HasPrefix(got[0], "pre/fix/project/") || !strings.HasSuffix(got[0], "/gems/main") {
		t.Fatalf("objects: %v", got)
	}
	forget() // as if it were another machine
	log = run("ls vendor/gem", gems)
	has(t, log, "Downloading cache from http://"+s3.addr, "Successfully extracted cache", "vendor/gem", "Archive is up to date!", "Created cache")
	log = run("ls vendor/gem", gems)
	has(t, log, "cache.zip is up to date", "Successfully extracted cache", "Archive is up to date!")
	// The job's environment, with all that the shell shows of it, holds no credential.
	log = run("env | grep -ci 'amz\\|glassrunner_cache' || true; echo changed > vendor/gem", gems, "CI_DEBUG_TRACE", "true")
	has(t, log, "Uploading cache to", "Created cache")
	hasNot(t, log, s3Access, "X-Amz-", "GLASSRUNNER_CACHE_LINKS=")
	forget()
	has(t, run("cat vendor/gem", fakegitlab.Cache{Key: "new", FallbackKeys: []string{"gems/main"}, Policy: "pull"}), "Failed to extract cache", "Checking cache for gems/main...", "Successfully extracted cache", "\nchanged\n")
	// With hashed keys the cache that has the plain name is found, and stored under the new one.
	forget()
	log = run("cat vendor/gem", gems, "FF_HASH_CACHE_KEYS", "true")
	has(t, log, "Successfully extracted cache", "\nchanged\n", "Created cache")
	if got := s3.objects(); len(got) != 2 {
		t.Errorf("objects: %v", got)
	}
	m := p.waitValue(3, "glassrunner_cache_requests_total", "operation", "save", "result", "stored")
	m.check(t, 1, "glassrunner_cache_requests_total", "operation", "restore", "result", "stale")
}

// TestS3CacheTrouble is about storages that cannot be used.
func TestS3CacheTrouble(t *testing.T) {
	t.Parallel()
	s3 := newStorage(t)
	w := newWorld(t, fakegitlab.Options{})
	second := w.addRunner("limited", fakegitlab.Limits{RequestConcurrency: 1})
	wrong := strings.ReplaceAll(s3.settings(""), s3Secret, "not-the-secret-key")
	w.start(w.config("", entry{Extra: wrong}, entry{Token: second.Token, Extra: s3.settings("MaxUploadedArchiveSize = 1000")}))
	job := fakegitlab.Job{
		Runner: w.runner.Token, Script: []string{"mkdir -p vendor; head -c 30000 /dev/urandom > vendor/gem"}, Variables: empty(),
		Cache: []fakegitlab.Cache{{Key: "k", Policy: "pull-push", Paths: []string{"vendor/"}, When: "on_success"}},
	}
	s := w.run(job)
	want(t, s, "success")
	has(t, text(s.Trace), "403 Forbidden (SignatureDoesNotMatch)", "Failed to extract cache", "ERROR: Uploading cache: PUT http://"+s3.addr, "403 Forbidden", "Failed to create cache", "Job succeeded")
	job.Runner = second.Token
	s = w.run(job)
	want(t, s, "success")
	has(t, text(s.Trace), "Cache archive size (", ") is too big (Limit is set to 1000).", "Created cache")
	if got := s3.objects(); len(got) != 0 {
		t.Errorf("objects: %v", got)
	}
}

// TestS3Role keeps caches in a storage that only a role's credentials open.
// The token service stands in for one: it gives the storage's own credentials
// to who has others, without a session token, which this storage refuses.
func TestS3Role(t *testing.T) {
	t.Parallel()
	s3 := newStorage(t)
	var calls atomic.Int32
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("Action") != "AssumeRole" || !strings.Contains(r.Header.Get("Authorization"), "Credential=ONLYFORROLES/") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if r.FormValue("RoleArn") != "arn:aws:iam::1:role/caches" {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Code>AccessDenied</Code><Message>not this role</Message></Error></ErrorResponse>`)
			return
		}
		calls.Add(1)
		_, _ = fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken></SessionToken><Expiration>%s</Expiration>
</Credentials></AssumeRoleResult></AssumeRoleResponse>`, s3Access, s3Secret, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(sts.Close)
	w := newWorld(t, fakegitlab.Options{})
	second := w.addRunner("refused", fakegitlab.Limits{RequestConcurrency: 1})
	settings := func(role string) string {
		text := strings.ReplaceAll(strings.ReplaceAll(s3.settings(""), s3Access, "ONLYFORROLES"), s3Secret, "only-for-roles-secret")
		return text + fmt.Sprintf("      RoleARN = %q\n", role)
	}
	w.write(w.config("", entry{Extra: settings("arn:aws:iam::1:role/caches")}, entry{Token: second.Token, Extra: settings("arn:aws:iam::1:role/other")}))
	p := w.command([]string{"AWS_ENDPOINT_URL_STS=" + sts.URL}, "run", "--config", w.path)
	p.addr = p.listening()
	job := fakegitlab.Job{
		Runner: w.runner.Token, Script: []string{"mkdir -p vendor; echo v1 > vendor/gem", "env"}, Variables: empty("CI_DEBUG_TRACE", "true"),
		Cache: []fakegitlab.Cache{{Key: "k", Policy: "pull-push", Paths: []string{"vendor/"}, When: "on_success"}},
	}
	for range 2 {
		s := w.run(job)
		want(t, s, "success")
		has(t, text(s.Trace), "Created cache")
		hasNot(t, text(s.Trace), s3Secret, s3Access, "only-for-roles", "ONLYFORROLES", "X-Amz-")
	}
	if got := s3.objects(); len(got) != 1 || calls.Load() != 1 {
		t.Errorf("objects: %v after %d calls of the token service, want one and one", got, calls.Load())
	}
	job.Runner = second.Token
	s := w.run(job)
	want(t, s, "success")
	has(t, text(s.Trace), "The cache's storage cannot be used, the cache stays on this machine", "Created cache")
	const prefix = "gitlab_runner_cache_s3_assume_role_"
	m := p.waitValue(1, prefix+"cached_credentials")
	m.check(t, 0, prefix+"requests_in_flight")
	m.check(t, 3, prefix+"cache_misses_total")
	m.check(t, 2, prefix+"failures_total")
	m.check(t, 3, prefix+"duration_seconds")
	if hits := m.sum(prefix + "cache_hits_total"); hits < 5 {
		t.Errorf("%v kept credentials were used, want 5 at least", hits)
	}
}
