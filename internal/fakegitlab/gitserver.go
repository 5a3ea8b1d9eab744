package fakegitlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// gitExecPath finds git-http-backend.
func gitExecPath(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "git", "--exec-path").Output()
	if err != nil {
		return "", fmt.Errorf("find git: %w", err)
	}
	path := filepath.Join(strings.TrimSpace(string(out)), "git-http-backend")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find git-http-backend: %w", err)
	}
	return path, nil
}

// ErrNoProject is returned for a project path that the server does not know.
var ErrNoProject = errors.New("no such project")

// repository finds the project of a path like /acme/web.git/info/refs.
func (s *Server) repository(path string) (p *Project, rest string) {
	name, rest, ok := strings.Cut(strings.TrimPrefix(path, "/"), ".git/")
	if !ok {
		return nil, ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.projects[name], rest
}

// authorizeGit checks the basic authentication of a job and answers 401 or 404 itself if it fails.
func (s *Server) authorizeGit(c *call, p *Project, write bool) bool {
	if p != nil && p.Public && !write {
		return true
	}
	user, password, ok := c.r.BasicAuth()
	s.mu.Lock()
	known := ok && user == "gitlab-ci-token" && s.runningJob(password) != nil
	s.mu.Unlock()
	switch {
	case !known:
		c.w.Header().Set("WWW-Authenticate", `Basic realm="GitLab"`)
		c.raw(http.StatusUnauthorized, "text/plain", []byte("HTTP Basic: Access denied\n"))
	case p == nil:
		c.raw(http.StatusNotFound, "text/plain", []byte("The project you were looking for could not be found.\n"))
	case write && !p.AllowPush:
		c.raw(http.StatusForbidden, "text/plain", []byte("You are not allowed to push code to this project.\n"))
	default:
		return true
	}
	return false
}

// handleGit runs git http-backend for a fetch or a push.
func (s *Server) handleGit(c *call) {
	p, rest := s.repository(c.rest)
	write := rest == "git-receive-pack" || c.r.URL.Query().Get("service") == "git-receive-pack"
	if !s.authorizeGit(c, p, write) {
		return
	}
	r := c.r.Clone(c.r.Context())
	if len(r.TransferEncoding) > 0 {
		// CGI needs a length.
		body, err := io.ReadAll(io.LimitReader(r.Body, 256<<20))
		if err != nil {
			c.fail(err)
			return
		}
		r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	}
	r.Header.Del("Authorization")
	s.mu.Lock()
	root, backend := s.gitRoot, s.gitExec
	s.mu.Unlock()
	h := &cgi.Handler{
		Path: backend,
		Root: s.opts.PathPrefix,
		Dir:  root,
		Env: []string{
			"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_PROTOCOL=" + c.r.Header.Get("Git-Protocol"),
			"GIT_CONFIG_NOSYSTEM=1", "HOME=" + root, "REMOTE_USER=gitlab-ci-token",
		},
		Logger: log.New(io.Discard, "", 0),
		Stderr: io.Discard,
	}
	h.ServeHTTP(c.w, r)
}
