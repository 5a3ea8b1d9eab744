package script

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/glassrunner/glassrunner/internal/job"
)

// Job is all that the scripts of one job depend on.
type Job struct {
	Spec *job.Spec
	// Variables are final: in order of precedence and expanded. They hold
	// the resolved feature flags.
	Variables job.Variables
	Dirs      Dirs
	// Shell is "bash", "sh", "pwsh" or "powershell".
	Shell    string
	Settings Settings
	// CacheLinks are the addresses of CacheObjects in an object storage.
	CacheLinks map[CacheObject]Link
}

// Dirs are the job's directories as the job sees them, with slashes. They are
// absolute, or relative to the directory in which the shell starts.
type Dirs struct {
	Builds  string // root
	Project string // CI_PROJECT_DIR
	Temp    string // RUNNER_TEMP_PROJECT_DIR
	Cache   string // of local cache archives
}

// Settings are what a runner's configuration says about scripts.
type Settings struct {
	URL      string // of the coordinator
	CloneURL string // "": Spec.Git.RepoURL is used
	// UserAgent is what git tells servers, "glassrunner 1.0.0 linux/amd64".
	UserAgent string
	// Commands of the runner's configuration around the user's, "" for none.
	PreGetSources, PostGetSources, PreBuild, PostBuild string
	CleanGitConfig                                     bool // remove .git/config and hooks
	SafeDirectory                                      bool // tell git that the project is safe
	SharedEnv                                          bool // jobs share a machine and its git configuration
	// Helper is how scripts call the helper binary, "" when there is none.
	Helper   string
	Transfer Transfer
}

// Script is the work of one phase, in this order: Notices, Ops, Text.
type Script struct {
	// Skip is true when the phase does not take place at all.
	Skip bool
	// Notices are lines for the job log, coloured, without newlines.
	Notices []string
	Ops     []Op
	// Text is the body for Wrap; empty: no shell is needed.
	Text []byte
}

// OpKind is what an Op does.
type OpKind int

// File operations. None follows a symbolic link in its last element; none
// fails because its work is done already.
const (
	OpMkdir  OpKind = iota // with parents
	OpWrite                // Data to Path, replacing it
	OpTouch                // make an empty file unless there is one
	OpRemove               // file or whole directory
	OpSweep                // remove files below Path whose base name matches one of Names (path.Match)
)

// Op prepares or tidies a job's files. It has the shape of executor.FileOp.
type Op struct {
	Kind  OpKind
	Path  string
	Data  []byte
	Mode  fs.FileMode // 0: 0700 for directories, 0600 for files; see RenderOps
	Names []string
}

// Names of files in Dirs.Temp. User variables of file type live beside them,
// under names that are shell identifiers.
const (
	envFile      = "gitlab_runner_env"
	maskingFile  = "masking.db"
	extConfig    = ".gitlab-runner.ext.conf"
	globalConfig = ".glr.gconf"
	templateDir  = "git-template"
)

// Colours of lines in the job log.
const (
	reset     = "\x1b[0;m"
	boldGreen = "\x1b[32;1m"
	yellow    = "\x1b[0;33m"
)

func notice(text string) string  { return boldGreen + text + reset }
func warning(text string) string { return yellow + text + reset }

// Stage returns the work of a phase. An error says that the job asks for
// something that cannot be: it is the job's failure, and no retry helps.
func Stage(j *Job, p job.Phase) (Script, error) {
	s, err := j.stage(p)
	if err != nil {
		return Script{}, fmt.Errorf("%s: %w", p, err)
	}
	return s, nil
}

func (j *Job) stage(p job.Phase) (Script, error) {
	switch p {
	case job.PrepareScript:
		return Script{Ops: []Op{
			{Kind: OpRemove, Path: j.temp(envFile)},
			{Kind: OpRemove, Path: j.temp(maskingFile)},
		}}, nil
	case job.GetSources:
		return j.getSources()
	case job.ClearWorktree:
		return j.clearWorktree(), nil
	case job.RestoreCache, job.DownloadArtifacts, job.ArchiveCache, job.ArchiveCacheFailed, job.UploadArtifacts, job.UploadArtifactsF:
		return j.transfer(p)
	case job.AfterScript:
		return j.afterScript(), nil
	case job.Cleanup:
		return j.cleanup(), nil
	case job.ResolveSecrets, job.PrepareExecutor, job.CleanupExecutor:
		return Script{}, errors.New("the phase has no script")
	}
	for _, st := range j.Spec.Steps {
		if job.StepPhase(st.Name) == p && st.Name != string(job.AfterScript) {
			return j.step(st), nil
		}
	}
	if strings.HasPrefix(string(p), "step_") {
		return Script{Skip: true}, nil
	}
	return Script{}, errors.New("there is no such phase")
}

// step runs one step of the user, with the runner's hooks around it.
func (j *Job) step(st job.Step) Script {
	lines := st.Script
	if st.Name == "release" {
		lines = slices.Clone(lines)
		for i, l := range lines {
			lines[i] = j.Variables.Expand(l, j.filePath)
		}
	}
	if len(lines) == 0 && j.Settings.PreBuild == "" && j.Settings.PostBuild == "" {
		return Script{Skip: true}
	}
	var s Script
	w := j.writer()
	j.exports(w, &s, true)
	w.cd(j.Dirs.Project)
	j.commands(w, "pre_build_script", hook(j.Settings.PreBuild))
	j.commands(w, "script_step", lines)
	j.commands(w, "post_build_script", hook(j.Settings.PostBuild))
	s.Text = w.bytes()
	return s
}

func (j *Job) afterScript() Script {
	st, _ := j.Spec.Step(string(job.AfterScript))
	if !slices.ContainsFunc(st.Script, func(l string) bool { return strings.TrimSpace(l) != "" }) {
		return Script{Skip: true}
	}
	var s Script
	w := j.writer()
	j.exports(w, &s, true)
	w.cd(j.Dirs.Project)
	w.print(notice("Running after script..."))
	j.commands(w, "after_script_step", st.Script)
	s.Text = w.bytes()
	return s
}

// hook makes a list of commands of one command that may be empty.
func hook(command string) []string {
	if strings.TrimSpace(command) == "" {
		return nil
	}
	return []string{command}
}

// commands shows and runs a list of the user's commands.
func (j *Job) commands(w *writer, section string, list []string) {
	sections := j.flag("FF_SCRIPT_SECTIONS") && j.Spec.Features.TraceSections
	check := j.flag("FF_ENABLE_BASH_EXIT_CODE_CHECK")
	for i, c := range list {
		c = strings.TrimSpace(strings.ReplaceAll(c, "\x00", ""))
		first, _, multi := strings.Cut(c, "\n")
		switch {
		case c == "":
			w.print("")
			continue
		case !multi:
			w.print(notice("$ " + c))
		case sections:
			w.section(fmt.Sprintf("section_%s_%d", section, i), notice("$ "+c))
		default:
			w.print(notice("$ " + strings.TrimRight(first, "\r") + " # collapsed multi-line command"))
		}
		w.command(c, check)
	}
}

// applies reports whether something with that `when` is done after a script
// that failed or succeeded.
func applies(when string, failed bool) bool {
	switch when {
	case "always":
		return true
	case "on_failure":
		return failed
	}
	return !failed
}

// flag reads a feature flag. The runner resolved it before.
func (j *Job) flag(name string) bool {
	on, _ := j.Variables.Bool(name, false)
	return on
}

func (j *Job) temp(name string) string { return path.Join(j.Dirs.Temp, name) }

// filePath is where a file variable lives.
func (j *Job) filePath(key string) string { return j.temp(key) }
