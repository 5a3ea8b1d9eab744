package script

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Strategy is how a job gets its sources, the GIT_STRATEGY variable.
type Strategy string

// The strategies.
const (
	Clone Strategy = "clone" // from nothing
	Fetch Strategy = "fetch" // on top of what an earlier job left
	None  Strategy = "none"  // leave the directory as it is
	Empty Strategy = "empty" // an empty directory
)

// Strategy returns how the job gets its sources. ok is false when the
// variable has no meaning; then the coordinator's default is returned.
func (j *Job) Strategy() (s Strategy, ok bool) {
	def := Clone
	if j.Spec.AllowGitFetch {
		def = Fetch
	}
	switch s := Strategy(j.Variables.Value("GIT_STRATEGY")); s {
	case "":
		return def, true
	case Clone, Fetch, None, Empty:
		return s, true
	}
	return def, false
}

// checkedOut reports whether the job has a repository.
func (j *Job) checkedOut() bool {
	s, _ := j.Strategy()
	return s == Clone || s == Fetch
}

func (j *Job) getSources() (Script, error) {
	var s Script
	_, bad := j.usable()
	for _, b := range bad {
		s.Notices = append(s.Notices, warning(b))
	}
	strategy, ok := j.Strategy()
	if !ok {
		s.Notices = append(s.Notices, warning(fmt.Sprintf("WARNING: GIT_STRATEGY: want clone, fetch, none or empty, found %s; taking %s",
			strconv.QuoteToASCII(j.Variables.Value("GIT_STRATEGY")), strategy)))
	}
	w := j.writer()
	j.exports(w, &s, true)
	switch strategy {
	case None:
		s.Notices = append(s.Notices, notice("Skipping Git repository setup"))
	case Empty:
		s.Notices = append(s.Notices, notice("Skipping Git repository setup and creating an empty build directory"))
		s.Ops = append(s.Ops, Op{Kind: OpRemove, Path: j.Dirs.Project})
	default:
		if err := j.repository(w, &s, strategy); err != nil {
			return Script{}, err
		}
		s.Text = w.bytes()
		return s, nil
	}
	s.Ops = append(s.Ops, Op{Kind: OpMkdir, Path: j.Dirs.Project, Mode: 0o777})
	s.Notices = append(s.Notices, notice("Skipping Git checkout"), notice("Skipping Git submodules setup"))
	return s, nil
}

// git begins a git command line.
func git(words ...word) []word { return append([]word{"git"}, words...) }

func (w *writer) lits(list []string) []word {
	words := make([]word, len(list))
	for i, s := range list {
		words[i] = w.lit(s)
	}
	return words
}

// checkGit refuses what git would take for an option or a path.
func (j *Job) checkGit() error {
	g := &j.Spec.Git
	if strings.Trim(g.ObjectFormat, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return errors.New("the repository's object format is no name")
	}
	if strings.HasPrefix(g.SHA, "-") || strings.ContainsAny(g.SHA, "\x00\n") {
		return errors.New("the commit to check out is no commit")
	}
	for _, r := range g.Refspecs {
		if r == "" || r[0] == '-' || strings.ContainsAny(r, "\x00\n") {
			return fmt.Errorf("the refspec %s is none", strconv.QuoteToASCII(r))
		}
	}
	if g.Depth < 0 {
		return fmt.Errorf("the depth %d is negative", g.Depth)
	}
	return nil
}

// repository gets the sources by git: clone and fetch.
func (j *Job) repository(w *writer, s *Script, strategy Strategy) error {
	if err := j.checkGit(); err != nil {
		return err
	}
	r, err := j.remote()
	if err != nil {
		return err
	}
	w.export("GIT_TERMINAL_PROMPT", "0")
	w.export("GCM_INTERACTIVE", "Never")
	skipLFS := j.switched(s, "GIT_LFS_SKIP_SMUDGE", false)
	if !skipLFS {
		w.export("GIT_LFS_SKIP_SMUDGE", "1")
	}
	w.export("GLR_EXT_GIT_CONFIG_PATH", w.path(j.temp(extConfig)))
	if id := j.correlationID(); id != "" {
		s.Notices = append(s.Notices, notice("Gitaly correlation ID: "+id))
	}
	j.configure(w, s, r)

	clear := j.unlock(true)
	if strategy == Clone {
		clear = []Op{{Kind: OpRemove, Path: j.Dirs.Project}}
	}
	before := append(hook(j.Settings.PreGetSources), j.hooked("pre_get_sources_script")...)
	if len(before) > 0 { // they see what the last job left
		j.commands(w, "pre_clone_script", before)
		w.ops(clear)
	} else {
		s.Ops = append(s.Ops, clear...)
	}
	if j.Settings.SafeDirectory {
		w.run(git("config", "--global", "--add", "safe.directory", w.path(j.Dirs.Project))...)
	}
	if strategy == Clone && j.flag("FF_USE_GIT_NATIVE_CLONE") && !w.ps {
		j.nativeClone(w, r)
	} else {
		j.initAndFetch(w, r)
	}
	j.checkout(w, s, r, skipLFS)
	if err := j.submodules(w, skipLFS); err != nil {
		return err
	}
	j.commands(w, "post_clone_script", append(j.hooked("post_get_sources_script"), hook(j.Settings.PostGetSources)...))
	j.handOver(w)
	j.forgetCredentials(w, r)
	return nil
}

// configure writes the configurations that git reads for this job.
func (j *Job) configure(w *writer, s *Script, r remote) {
	s.Ops = append(s.Ops,
		Op{Kind: OpWrite, Path: j.temp(extConfig), Data: j.external(r).bytes()},
		Op{Kind: OpRemove, Path: j.temp(templateDir)},
		Op{Kind: OpMkdir, Path: j.temp(templateDir)},
		Op{Kind: OpWrite, Path: j.temp(templateDir + "/config"), Data: j.template().bytes()},
	)
	if j.flag("FF_GIT_URLS_WITHOUT_TOKENS") {
		s.Ops = append(s.Ops, Op{Kind: OpWrite, Path: j.temp(globalConfig), Data: j.global().bytes()})
	}
	var where []word
	switch {
	case !absolute(j.Dirs.Temp): // only the shell knows the paths
		w.run(git("config", "--file", w.path(j.temp(templateDir+"/config")), "include.path", w.extConfig(""))...)
		if j.Settings.SharedEnv {
			where = []word{"--file", w.path(j.temp(extConfig))}
		} else {
			where = []word{"--global"}
		}
	case !j.Settings.SharedEnv:
		where = []word{"--global"}
	default:
		return // external has them
	}
	if !r.http() {
		return
	}
	for _, f := range j.tlsFiles() {
		w.run(git(append(append([]word{"config"}, where...), w.lit("http."+r.host+"."+f.setting), w.path(j.filePath(f.variable)))...)...)
	}
}

// hooked are the job's own commands around getting the sources.
func (j *Job) hooked(name string) []string {
	for _, h := range j.Spec.Hooks {
		if h.Name == name {
			return h.Script
		}
	}
	return nil
}

// auth is the option for sending credentials before a server asks.
func (j *Job) auth(w *writer, r remote) []word {
	if !j.flag("FF_USE_GIT_PROACTIVE_AUTH") || !r.http() {
		return nil
	}
	return []word{"-c", w.lit("http." + r.host + ".proactiveAuth=basic")}
}

func (j *Job) agent(w *writer) []word {
	return []word{"-c", w.lit("http.userAgent=" + j.Settings.UserAgent)}
}

func (j *Job) initAndFetch(w *writer, r remote) {
	g := &j.Spec.Git
	if g.Depth > 0 {
		w.print(notice(fmt.Sprintf("Fetching changes with git depth set to %d...", g.Depth)))
	} else {
		w.print(notice("Fetching changes..."))
	}
	project, ext := w.path(j.Dirs.Project), w.extConfig("")
	// The branch has to be named here too: git asks before it reads the template.
	create := git("-c", "init.defaultBranch=none", "init", project, "--template", w.path(j.temp(templateDir)))
	if g.ObjectFormat != "" && g.ObjectFormat != "sha1" {
		create = append(create, "--object-format", w.lit(g.ObjectFormat))
	}
	w.run(create...)
	w.cd(j.Dirs.Project)
	w.when(condition{words: git("remote", "add", "origin", w.lit(r.plain)), quiet: true},
		func() { w.print(notice("Created fresh repository.")) },
		func() {
			w.run(git("remote", "set-url", "origin", w.lit(r.plain))...)
			w.run(git("config", "--replace-all", "include.path", ext)...)
		})
	fetch := append(git(j.agent(w)...), j.auth(w, r)...)
	fetch = append(fetch, "fetch", "origin", "--no-recurse-submodules")
	fetch = append(fetch, w.lits(g.Refspecs)...)
	if g.Depth > 0 {
		fetch = append(fetch, "--depth", w.lit(strconv.Itoa(g.Depth)))
	}
	fetch = append(fetch, w.lits(j.words("GIT_FETCH_EXTRA_FLAGS", "--prune --quiet"))...)
	if g.Depth > 0 {
		w.run(fetch...)
		return
	}
	w.when(condition{file: ".git/shallow"},
		func() { w.run(append(slices.Clip(fetch), "--unshallow")...) },
		func() { w.run(fetch...) })
}

// nativeClone uses `git clone` where git can clone one revision.
func (j *Job) nativeClone(w *writer, r remote) {
	g := &j.Spec.Git
	w.line(`case "$(git version)" in "git version "[01].*|"git version 2."[0-9].*|"git version 2."[0-3][0-9].*|"git version 2.4"[0-8].*)`)
	j.initAndFetch(w, r)
	w.line(";; *)")
	switch {
	case g.Ref != "" && g.Depth > 0:
		w.print(notice(fmt.Sprintf("Cloning repository for %s with git depth set to %d...", oneLine(g.Ref), g.Depth)))
	case g.Ref != "":
		w.print(notice("Cloning repository for " + oneLine(g.Ref) + "..."))
	default:
		w.print(notice("Cloning repository..."))
	}
	clone := append(git(j.agent(w)...), j.auth(w, r)...)
	// The external configuration is read before there is a repository to include it.
	clone = append(clone, "-c", w.extConfig("include.path="),
		"clone", "--no-checkout", w.lit(r.plain), w.path(j.Dirs.Project), "--template", w.path(j.temp(templateDir)))
	if g.Depth > 0 {
		clone = append(clone, "--depth", w.lit(strconv.Itoa(g.Depth)))
	}
	switch {
	case strings.HasPrefix(g.Ref, "refs/"):
		clone = append(clone, "--revision", w.lit(g.Ref))
	case g.Ref != "":
		clone = append(clone, "--branch", w.lit(g.Ref))
	}
	w.run(append(clone, w.lits(j.words("GIT_CLONE_EXTRA_FLAGS", ""))...)...)
	w.cd(j.Dirs.Project)
	w.line(";; esac")
}

func (j *Job) checkout(w *writer, s *Script, r remote, skipLFS bool) {
	if !j.switched(s, "GIT_CHECKOUT", true) {
		w.print(notice("Skipping Git checkout"))
		return
	}
	g := &j.Spec.Git
	w.print(notice(fmt.Sprintf("Checking out %.8s as detached HEAD (ref is %s)...", g.SHA, oneLine(g.Ref))))
	words := append(git("-c", "submodule.recurse=false"), j.auth(w, r)...)
	w.run(append(words, "checkout", "-f", "-q", w.lit(g.SHA))...)
	if flags := j.words("GIT_CLEAN_FLAGS", "-ffdx"); len(flags) > 0 {
		w.run(append(git("clean"), w.lits(flags)...)...)
	}
	if !skipLFS {
		w.when(condition{words: git("lfs", "version"), quiet: true}, func() {
			w.run(git("lfs", "pull")...)
			w.print("")
		}, nil)
	}
}

// oneLine keeps hostile names from breaking the log's lines.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}

// handOver gives a container's files to the user whom its image names.
func (j *Job) handOver(w *writer) {
	if w.ps || j.Settings.SharedEnv || j.Dirs.Builds == "" {
		return
	}
	mark, root := w.path(j.Dirs.Builds+"/"+ownerFile), w.path(j.Dirs.Builds)
	w.when(condition{file: mark}, func() {
		w.line(`chown -R -- "$(cat `, string(mark), `)" `, string(root))
	}, nil)
}

// ownerFile holds uid:gid of the user of a container's image.
const ownerFile = ".gitlab-build-uid-gid"

// forgetCredentials makes git's helpers drop a token that is of no use any
// more. It is best effort.
func (j *Job) forgetCredentials(w *writer, r remote) {
	if !r.http() && r.scheme != "ssh" {
		return
	}
	text := "url=" + r.host + "\nusername=" + user + "\n\n"
	if w.ps {
		w.line("try { ", string(w.lit(text)), " | & git credential reject *> $null } catch { }")
		return
	}
	w.line("printf '%s' ", string(w.lit(text)), " | git credential reject >/dev/null 2>&1 || :")
}

func (j *Job) clearWorktree() Script {
	w := j.writer()
	if !absolute(j.Dirs.Project) {
		w.rememberDir()
	}
	// Without a repository of its own, git would find one further up.
	w.when(condition{dir: w.path(j.Dirs.Project + "/.git")}, func() {
		w.cd(j.Dirs.Project)
		w.run(git("rm", "-rf", "--ignore-unmatch", "--quiet", ".")...)
		w.run(git("clean", "-ffdx", "-q")...)
	}, nil)
	return Script{Text: w.bytes()}
}

// unlock removes what a killed git leaves behind and, where the runner is
// set so, what a job may have put into the configuration.
func (j *Job) unlock(before bool) []Op {
	git := j.Dirs.Project + "/.git"
	locks := []string{"index.lock", "shallow.lock", "HEAD.lock", "hooks/post-checkout", "config.lock"}
	var ops []Op
	remove := func(p string) { ops = append(ops, Op{Kind: OpRemove, Path: p}) }
	for _, l := range locks {
		remove(git + "/" + l)
	}
	modules := j.submoduleStrategy() == "normal" || j.submoduleStrategy() == "recursive"
	if modules {
		ops = append(ops, Op{Kind: OpSweep, Path: git + "/modules",
			Names: []string{"index.lock", "shallow.lock", "HEAD.lock", "post-checkout", "config.lock"}})
	}
	ops = append(ops, Op{Kind: OpSweep, Path: git + "/refs", Names: []string{"*.lock"}})
	if !j.Settings.CleanGitConfig {
		return ops
	}
	remove(git + "/config")
	remove(git + "/hooks")
	if !before { // before, the template has just been written
		remove(j.temp(templateDir + "/config"))
		remove(j.temp(templateDir + "/hooks"))
	}
	if modules {
		ops = append(ops, Op{Kind: OpSweep, Path: git + "/modules", Names: append([]string{"config"}, gitHooks()...)})
	}
	return ops
}

// gitHooks are the hooks that a job could leave in a submodule.
func gitHooks() []string {
	return []string{
		"applypatch-msg", "commit-msg", "fsmonitor-watchman", "p4-*", "post-applypatch", "post-checkout", "post-commit",
		"post-index-change", "post-merge", "post-receive", "post-rewrite", "post-update", "pre-applypatch", "pre-auto-gc",
		"pre-commit", "pre-merge-commit", "pre-push", "pre-rebase", "pre-receive", "prepare-commit-msg", "proc-receive",
		"push-to-checkout", "reference-transaction", "sendemail-validate", "update",
	}
}

// cleanup removes what must not outlive the job. Secrets go first, and
// without a shell, so that nothing a job did can keep them.
func (j *Job) cleanup() Script {
	var s Script
	remove := func(p string) { s.Ops = append(s.Ops, Op{Kind: OpRemove, Path: p}) }
	for _, name := range []string{envFile, maskingFile, extConfig, globalConfig} {
		remove(j.temp(name))
	}
	vs, _ := j.usable()
	for _, v := range vs {
		if v.File {
			remove(j.filePath(v.Key))
		}
	}
	if !j.Settings.SharedEnv && j.Dirs.Builds != "" {
		remove(j.Dirs.Builds + "/" + ownerFile)
	}
	w := j.writer()
	tidies := j.flag("FF_ENABLE_JOB_CLEANUP")
	if tidies || j.checkedOut() { // else there is nothing for a shell to do
		j.exports(w, &s, false)
	}
	exports := w.b.Len()
	if r, err := j.remote(); err == nil && j.checkedOut() {
		j.forgetCredentials(w, r)
	}
	tidy := false
	if tidies {
		switch strategy, _ := j.Strategy(); strategy {
		case Clone, Empty:
			remove(j.Dirs.Project)
		case Fetch:
			tidy = true
			j.tidy(w)
		default:
			s.Notices = append(s.Notices, notice("Skipping the cleanup of the project directory: the job did not set it up"))
		}
	}
	if j.checkedOut() {
		if tidy {
			w.ops(j.unlock(false))
		} else {
			s.Ops = append(s.Ops, j.unlock(false)...)
		}
	}
	if w.b.Len() > exports {
		s.Text = w.bytes()
	}
	return s
}

// tidy brings a fetched project back to what was checked out.
func (j *Job) tidy(w *writer) {
	w.when(condition{dir: w.path(j.Dirs.Project + "/.git")}, func() {
		w.cd(j.Dirs.Project)
		flags := j.words("GIT_CLEAN_FLAGS", "-ffdx")
		if len(flags) > 0 {
			w.attempt(append(git("clean"), w.lits(flags)...)...)
		}
		w.attempt(git("reset", "--hard")...)
		switch j.submoduleStrategy() {
		case "normal", "recursive":
			if len(flags) > 0 {
				w.attempt(j.foreach(w, cleanCommand(flags))...)
			}
			w.attempt(j.foreach(w, "git reset --hard")...)
		}
	}, nil)
}

// submoduleStrategy is the GIT_SUBMODULE_STRATEGY variable; "" means none.
func (j *Job) submoduleStrategy() string {
	s := j.Variables.Value("GIT_SUBMODULE_STRATEGY")
	if s == "" {
		return "none"
	}
	return s
}
