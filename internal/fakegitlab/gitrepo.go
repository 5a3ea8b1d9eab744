package fakegitlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	commitName   = "Fake GitLab"
	commitEmail  = "fake@example.test"
	commitAuthor = commitName + " <" + commitEmail + ">"
	// firstCommit is the date of a project's first commit, Unix seconds; each further one is a minute later.
	firstCommit = 1700000000
)

// Commit is one commit of a project. Author and dates are fixed, so equal commits have equal ids.
type Commit struct {
	Branch     string            // empty is the default branch; a new branch starts at the default branch
	Message    string            // empty is "commit N"
	Files      map[string]string // path to content, added or replaced
	Executable []string          // paths of Files with the mode 100755
	Delete     []string          // paths to delete
	LFS        map[string]string // path to content that is kept in LFS; the commit gets the pointer
	Submodules map[string]Submodule
	Tag        string // lightweight tag on this commit
}

// Submodule is a gitlink with its entry in .gitmodules.
type Submodule struct {
	URL string // as in .gitmodules, such as "../lib.git"
	SHA string
}

// ProjectSpec describes a project for [Server.AddProject].
type ProjectSpec struct {
	Path          string // like acme/web
	DefaultBranch string // empty is main
	Commits       []Commit
	Public        bool // fetch without authentication
	AllowPush     bool
	SHA256        bool // object format
}

// Project is a repository of the server.
type Project struct {
	ID            int64
	Path          string
	DefaultBranch string
	Public        bool
	AllowPush     bool

	dir    string // bare repository
	lfs    string // LFS objects
	format string

	mu      sync.Mutex // guards what follows
	refs    map[string]string
	commits map[string]commitInfo
	count   int
}

// commitInfo is what a payload says of a commit.
type commitInfo struct {
	sha, before  string
	ref, refType string
	format       string
	message      string
	when         time.Time
}

// AddProject makes a bare repository and serves it under <URL>/<Path>.git. It needs git.
func (s *Server) AddProject(ctx context.Context, spec ProjectSpec) (*Project, error) {
	path := strings.Trim(spec.Path, "/")
	if path == "" || slices.Contains(strings.Split(path, "/"), "..") {
		return nil, fmt.Errorf("project path %q is not usable", spec.Path)
	}
	root, err := s.prepareGit(ctx)
	if err != nil {
		return nil, err
	}
	p := &Project{
		Path: path, DefaultBranch: spec.DefaultBranch, Public: spec.Public, AllowPush: spec.AllowPush,
		dir: filepath.Join(root, filepath.FromSlash(path)+".git"), lfs: filepath.Join(root, "lfs-objects"), format: "sha1",
		refs: make(map[string]string), commits: make(map[string]commitInfo),
	}
	if p.DefaultBranch == "" {
		p.DefaultBranch = "main"
	}
	if spec.SHA256 {
		p.format = "sha256"
	}
	if err := os.MkdirAll(p.dir, 0o750); err != nil {
		return nil, err
	}
	if err := p.git(ctx, nil, "init", "--quiet", "--bare", "--object-format="+p.format,
		"--initial-branch="+p.DefaultBranch, "."); err != nil {
		return nil, err
	}
	for key, value := range map[string]string{
		"uploadpack.allowAnySHA1InWant": "true", "uploadpack.allowFilter": "true", "http.receivepack": "true", "gc.auto": "0",
	} {
		if err := p.git(ctx, nil, "config", key, value); err != nil {
			return nil, err
		}
	}
	if err := p.AddCommits(ctx, spec.Commits...); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.projects[path] != nil {
		return nil, fmt.Errorf("project %q exists", path)
	}
	p.ID = 17 + int64(len(s.projects))
	s.projects[path] = p
	return p, nil
}

// prepareGit finds git and makes the root of the repositories.
func (s *Server) prepareGit(ctx context.Context) (string, error) {
	s.mu.Lock()
	root := s.gitRoot
	s.mu.Unlock()
	if root != "" {
		return root, nil
	}
	backend, err := gitExecPath(ctx)
	if err != nil {
		return "", err
	}
	root, owned := s.opts.GitRoot, false
	if root == "" {
		if root, err = os.MkdirTemp("", "fakegitlab-git-"); err != nil {
			return "", err
		}
		owned = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gitRoot != "" { // somebody else was quicker
		if owned {
			err = os.RemoveAll(root)
		}
		return s.gitRoot, err
	}
	s.gitRoot, s.gitOwned, s.gitExec = root, owned, backend
	return root, nil
}

// git runs git in the repository, away from the configuration of the user and the system.
func (p *Project) git(ctx context.Context, stdin []byte, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull, "HOME="+p.dir, "GIT_DIR="+p.dir)
	cmd.Stdin = bytes.NewReader(stdin)
	var problem bytes.Buffer
	cmd.Stderr = &problem
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(problem.String()))
	}
	return nil
}

// AddCommits adds commits in order, in one import.
func (p *Project) AddCommits(ctx context.Context, commits ...Commit) error {
	if len(commits) == 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var in bytes.Buffer
	started := make(map[string]string) // branch to its last mark in this import
	for i, c := range commits {
		if err := p.writeCommit(&in, c, i+1, started); err != nil {
			return err
		}
	}
	marks := filepath.Join(p.dir, "fakegitlab-marks")
	if err := p.git(ctx, in.Bytes(), "fast-import", "--quiet", "--export-marks="+marks); err != nil {
		return err
	}
	data, err := os.ReadFile(marks)
	if err != nil {
		return err
	}
	shas := make(map[string]string)
	for line := range strings.Lines(string(data)) {
		mark, sha, _ := strings.Cut(strings.TrimSpace(line), " ")
		shas[mark] = sha
	}
	for i, c := range commits {
		branch := p.branch(c)
		info := commitInfo{
			sha: shas[fmt.Sprintf(":%d", i+1)], before: p.refs["refs/heads/"+branch], format: p.format,
			message: p.message(c, p.count), when: time.Unix(firstCommit+60*int64(p.count), 0),
		}
		if info.before == "" {
			info.before = strings.Repeat("0", len(info.sha))
		}
		p.count++
		p.commits[info.sha] = info
		p.refs["refs/heads/"+branch] = info.sha
		if c.Tag != "" {
			p.refs["refs/tags/"+c.Tag] = info.sha
		}
	}
	return nil
}

func (p *Project) branch(c Commit) string {
	if c.Branch == "" {
		return p.DefaultBranch
	}
	return c.Branch
}

// message is that of the commit with n commits before it.
func (p *Project) message(c Commit, n int) string {
	if c.Message == "" {
		return fmt.Sprintf("commit %d\n", n+1)
	}
	return c.Message
}

// writeCommit adds a commit to the stream of git fast-import.
func (p *Project) writeCommit(in *bytes.Buffer, c Commit, mark int, started map[string]string) error {
	branch := p.branch(c)
	data := func(text string) { fmt.Fprintf(in, "data %d\n%s\n", len(text), text) }
	n := p.count + mark - 1
	fmt.Fprintf(in, "commit refs/heads/%s\nmark :%d\n", branch, mark)
	for _, role := range []string{"author", "committer"} {
		fmt.Fprintf(in, "%s %s %d +0000\n", role, commitAuthor, firstCommit+60*n)
	}
	data(p.message(c, n))
	if _, ok := started[branch]; !ok {
		if sha := p.refs["refs/heads/"+branch]; sha != "" {
			fmt.Fprintf(in, "from %s\n", sha)
		} else if from, ok := started[p.DefaultBranch]; ok && branch != p.DefaultBranch {
			fmt.Fprintf(in, "from %s\n", from)
		} else if sha := p.refs["refs/heads/"+p.DefaultBranch]; sha != "" {
			fmt.Fprintf(in, "from %s\n", sha)
		}
	}
	started[branch] = fmt.Sprintf(":%d", mark)
	files := maps.Clone(c.Files)
	if files == nil {
		files = make(map[string]string)
	}
	for path, content := range c.LFS {
		pointer, err := p.AddLFS([]byte(content))
		if err != nil {
			return err
		}
		files[path] = pointer
	}
	if len(c.Submodules) > 0 {
		var modules strings.Builder
		for _, path := range slices.Sorted(maps.Keys(c.Submodules)) {
			fmt.Fprintf(&modules, "[submodule %q]\n\tpath = %s\n\turl = %s\n", path, path, c.Submodules[path].URL)
			fmt.Fprintf(in, "M 160000 %s %s\n", c.Submodules[path].SHA, path)
		}
		files[".gitmodules"] = modules.String()
	}
	for _, path := range c.Delete {
		fmt.Fprintf(in, "D %s\n", path)
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		mode := "100644"
		if slices.Contains(c.Executable, path) {
			mode = "100755"
		}
		fmt.Fprintf(in, "M %s inline %s\n", mode, path)
		data(files[path])
	}
	if c.Tag != "" {
		fmt.Fprintf(in, "reset refs/tags/%s\nfrom :%d\n", c.Tag, mark)
	}
	fmt.Fprintln(in)
	return nil
}

// SHA is the commit of a branch, a tag or a full ref; empty if there is none.
func (p *Project) SHA(ref string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	sha, _, _ := p.find(ref)
	return sha
}

func (p *Project) find(ref string) (sha, short, refType string) {
	if ref == "" {
		ref = p.DefaultBranch
	}
	for _, kind := range []struct{ prefix, name string }{{"refs/heads/", "branch"}, {"refs/tags/", "tag"}} {
		short := strings.TrimPrefix(ref, kind.prefix)
		if sha := p.refs[kind.prefix+short]; sha != "" {
			return sha, short, kind.name
		}
	}
	return "", "", ""
}

// resolve finds the commit that a job runs on.
func (p *Project) resolve(ref, sha string) (commitInfo, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	tip, short, refType := p.find(ref)
	if tip == "" {
		return commitInfo{}, fmt.Errorf("project %s has no ref %q", p.Path, ref)
	}
	if sha == "" {
		sha = tip
	}
	info, ok := p.commits[sha]
	if !ok {
		return commitInfo{}, fmt.Errorf("project %s has no commit %s", p.Path, sha)
	}
	info.ref, info.refType = short, refType
	return info, nil
}

// pin makes the ref refs/pipelines/<id>, which jobs fetch.
func (p *Project) pin(pipeline int64, sha string) error {
	name := filepath.Join(p.dir, "refs", "pipelines", fmt.Sprint(pipeline))
	if data, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(data)) == sha {
		return nil
	}
	err := os.MkdirAll(filepath.Dir(name), 0o750)
	return errors.Join(err, os.WriteFile(name, []byte(sha+"\n"), 0o600))
}
