package script

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/glassrunner/glassrunner/internal/job"
)

// identifier reports whether every shell takes s as a variable's name.
func identifier(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// reserved are names that a shell keeps for itself. To assign some of them
// ends the script in one shell or another, and bash takes the values of
// others for arithmetic, which may name commands to run.
const reserved = "BASHOPTS|BASHPID|BASH_ARGV0|BASH_SUBSHELL|BASH_VERSINFO|EPOCHREALTIME|EPOCHSECONDS|EUID|HISTCMD|LINENO|OPTIND|PPID|RANDOM|SECONDS|SHELLOPTS|SRANDOM|UID"

func unassignable(key string) bool {
	// Nearly no name is within the list, so the second look is rare.
	return strings.Contains(reserved, key) && strings.Contains("|"+reserved+"|", "|"+key+"|")
}

// usable are the variables that a shell can have, each once, in order.
// Warnings name the others, which a job cannot be given.
func (j *Job) usable() (vs job.Variables, warnings []string) {
	last := make(map[string]int, len(j.Variables))
	for i := range j.Variables {
		last[j.Variables[i].Key] = i
	}
	vs = make(job.Variables, 0, len(last))
	for i, v := range j.Variables {
		switch {
		case last[v.Key] != i:
		case !identifier(v.Key), v.File && v.Key == envFile:
			warnings = append(warnings, fmt.Sprintf("WARNING: the variable %s is left out: shells do not accept its name", strconv.QuoteToASCII(v.Key)))
		case unassignable(v.Key) && !j.powershell():
			warnings = append(warnings, fmt.Sprintf("WARNING: the variable %s is left out: shells keep it for themselves", v.Key))
		default:
			vs = append(vs, v)
		}
	}
	return vs, warnings
}

// exports gives the job its variables. With files, those of file type are
// written; the paths are exported in any case.
func (j *Job) exports(w *writer, s *Script, files bool) {
	if j.debugTrace() {
		w.trace()
	}
	if !absolute(j.Dirs.Project) || !absolute(j.Dirs.Temp) {
		w.rememberDir()
	}
	vs, _ := j.usable()
	if files {
		s.Ops = append(s.Ops, Op{Kind: OpMkdir, Path: j.Dirs.Temp})
	}
	ours := []string{j.Dirs.Builds, j.Dirs.Project, j.Dirs.Temp}
	for _, v := range vs {
		switch {
		case v.File:
			if files {
				s.Ops = append(s.Ops, Op{Kind: OpWrite, Path: j.filePath(v.Key), Data: []byte(v.Value)})
			}
			w.export(v.Key, w.path(j.filePath(v.Key)))
		case v.Internal && slices.Contains(ours, v.Value):
			w.export(v.Key, w.path(v.Value))
		default:
			w.export(v.Key, w.lit(v.Value))
		}
	}
	if files {
		s.Ops = append(s.Ops, Op{Kind: OpTouch, Path: j.temp(envFile)})
	}
	w.export("GITLAB_ENV", w.path(j.temp(envFile)))
	if !files { // cleanup: they are gone
		return
	}
	w.importEnv()
	if j.flag("FF_GIT_URLS_WITHOUT_TOKENS") {
		w.export("GIT_CONFIG_GLOBAL", w.path(j.temp(globalConfig)))
	}
}

func (j *Job) debugTrace() bool {
	on, _ := j.Variables.Bool("CI_DEBUG_TRACE", false)
	return on
}

// words splits a setting that is a list of words. The word "none" alone is
// an empty list.
func (j *Job) words(key, def string) []string {
	text := def
	if v, ok := j.Variables.Lookup(key); ok && strings.TrimSpace(v.Value) != "" {
		text = v.Value
	}
	fields := strings.Fields(text)
	if len(fields) == 1 && fields[0] == "none" {
		return nil
	}
	return fields
}

// switched reads a setting that is a truth value. A warning says that it is none.
func (j *Job) switched(s *Script, key string, def bool) bool {
	on, ok := j.Variables.Bool(key, def)
	if !ok {
		s.Notices = append(s.Notices, warning(fmt.Sprintf("WARNING: %s: want true or false, found %s; taking %t",
			key, strconv.QuoteToASCII(j.Variables.Value(key)), def)))
	}
	return on
}
