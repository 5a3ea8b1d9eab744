package script

import (
	"bytes"
	"path"
	"strings"
)

// A word is text that a shell reads as one word: quoted, or a reference to a
// variable.
type word string

// A writer puts together the text for one shell. Text that a job can choose
// passes lit or path; what a writer is given as a word is the package's own.
type writer struct {
	b  bytes.Buffer
	ps bool // PowerShell

	bash bool
	// private: files are for the user who makes them.
	private bool
}

func (j *Job) powershell() bool { return j.Shell == "pwsh" || j.Shell == "powershell" }

func (j *Job) writer() *writer { return &writer{ps: j.powershell(), bash: j.Shell == "bash"} }

// bytes returns the text, nil when there is none.
func (w *writer) bytes() []byte {
	if w.b.Len() == 0 {
		return nil
	}
	return w.b.Bytes()
}

func (w *writer) line(parts ...string) {
	for _, p := range parts {
		w.b.WriteString(p)
	}
	w.b.WriteByte('\n')
}

// absolute reports whether p names the same place from everywhere.
func absolute(p string) bool {
	return path.IsAbs(p) || len(p) > 2 && p[1] == ':' && (p[2] == '/' || p[2] == '\\')
}

// quote makes one word of any text for sh, bash and git's shell. Shells
// cannot hold NUL, it is left out.
func quote(s string) string {
	if s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@_,-./") == "" {
		return s
	}
	s = strings.ReplaceAll(s, "\x00", "")
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// quotePS makes one word of any text for PowerShell, which takes all of these
// for single quotes.
func quotePS(s string) string {
	return "'" + strings.NewReplacer("'", "''", "\u2018", "\u2018\u2018", "\u2019", "\u2019\u2019",
		"\u201a", "\u201a\u201a", "\u201b", "\u201b\u201b", "\x00", "").Replace(s) + "'"
}

// lit quotes text, whatever it holds.
func (w *writer) lit(s string) word {
	if w.ps {
		return word(quotePS(s))
	}
	return word(quote(s))
}

// path quotes a path and makes a relative one absolute, from the directory
// that rememberDir found.
func (w *writer) path(p string) word {
	switch {
	case absolute(p):
		return w.lit(p)
	case w.ps:
		return "($GLR_PWD + " + w.lit("/"+p) + ")"
	}
	return `"$GLR_PWD"` + w.lit("/"+p)
}

// rememberDir keeps the directory in which the shell started.
func (w *writer) rememberDir() {
	if w.ps {
		w.line("$GLR_PWD = $PWD.Path")
		return
	}
	w.line("GLR_PWD=$PWD")
}

// extConfig refers to the path of the job's git configuration, after a
// literal prefix.
func (w *writer) extConfig(prefix string) word {
	if w.ps {
		return "(" + w.lit(prefix) + " + ${env:GLR_EXT_GIT_CONFIG_PATH})"
	}
	return word(`"` + prefix + `$GLR_EXT_GIT_CONFIG_PATH"`)
}

// trace makes the shell show what it does from here on.
func (w *writer) trace() {
	if w.ps {
		w.line("Set-PSDebug -Trace 2")
		return
	}
	w.line("set -o xtrace")
}

// export sets an environment variable. key is an identifier.
func (w *writer) export(key string, value word) {
	if w.ps {
		w.line("${env:", key, "} = ", string(value))
		return
	}
	w.line("export ", key, "=", string(value))
}

// importEnv exports the KEY=VALUE lines of the file that GITLAB_ENV names.
func (w *writer) importEnv() {
	if w.ps {
		w.line("if (Test-Path -LiteralPath $env:GITLAB_ENV -PathType Leaf) { foreach ($glr in [System.IO.File]::ReadAllLines($env:GITLAB_ENV)) { " +
			"if ($glr -match '^([A-Za-z_][A-Za-z0-9_]*)=(.*)$') { [Environment]::SetEnvironmentVariable($Matches[1], $Matches[2]) } } }")
		return
	}
	w.line(`if [ -s "$GITLAB_ENV" ]; then while IFS= read -r glr || [ -n "$glr" ]; do case ${glr%%=*} in "$glr"|''|[0123456789]*` +
		`|*[!ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_]*|` + reserved + `) ;; ` +
		`*) export "$glr" ;; esac; done <"$GITLAB_ENV"; unset glr; fi`)
}

// print writes a line to the log.
func (w *writer) print(line string) {
	if w.ps {
		w.line("[Console]::Out.WriteLine(", string(w.lit(line)), ")")
		return
	}
	if line == "" {
		w.line("echo")
		return
	}
	w.line("printf '%s\\n' ", string(w.lit(line)))
}

// section writes a collapsed section that holds text, dated by the shell.
func (w *writer) section(name, text string) {
	const (
		end  = "\r\x1b[0K"
		opts = "[hide_duration=true,collapsed=true]"
	)
	if w.ps {
		now := "[DateTimeOffset]::UtcNow.ToUnixTimeSeconds()"
		w.line("[Console]::Out.Write('section_start:' + ", now, " + ", string(w.lit(":"+name+opts+end+text+"\n")),
			" + 'section_end:' + ", now, " + ", string(w.lit(":"+name+end)), ")")
		return
	}
	now := `"$(date +%s)"`
	if w.bash { // no process, from bash 5 on
		now = `"${EPOCHSECONDS:-$(date +%s)}"`
	}
	w.line(`printf '%s' section_start: `, now, " ", string(w.lit(":"+name+opts+end+text+"\n")), ` section_end: `, now, " ", string(w.lit(":"+name+end)))
}

// command runs a command of the user as it is written.
func (w *writer) command(text string, check bool) {
	w.line(text)
	if w.ps {
		w.check()
		return
	}
	if strings.HasSuffix(text, `\`) { // it would continue with our next line
		w.line()
	}
	if check {
		w.line("_runner_exit_code=$?; if [ $_runner_exit_code -ne 0 ]; then exit $_runner_exit_code; fi")
	}
}

// check ends a PowerShell script after a command that failed.
func (w *writer) check() {
	w.line("if (!$?) { if ($LASTEXITCODE) { exit $LASTEXITCODE } else { exit 1 } }")
}

// call returns the text of a command.
func (w *writer) call(words []word) string {
	var b strings.Builder
	if w.ps {
		b.WriteString("& ")
	}
	for i, x := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(string(x))
	}
	return b.String()
}

// run runs a program; its failure ends the script.
func (w *writer) run(words ...word) {
	w.line(w.call(words))
	if w.ps {
		w.check()
	}
}

// attempt runs a program and goes on whatever became of it.
func (w *writer) attempt(words ...word) {
	if w.ps {
		w.line("try { ", w.call(words), " } catch { }")
		return
	}
	w.line(w.call(words), " || :")
}

// A condition is what an if asks.
type condition struct {
	words []word // a program that succeeds
	quiet bool   // and shows nothing
	file  word   // or a file that exists
	dir   word   // or a directory that exists
}

// when runs then or, when the condition does not hold, otherwise. A nil
// function does nothing.
func (w *writer) when(c condition, then, otherwise func()) {
	if w.ps {
		w.whenPS(c, then, otherwise)
		return
	}
	test := w.call(c.words)
	switch {
	case c.file != "":
		test = "[ -f " + string(c.file) + " ]"
	case c.dir != "":
		test = "[ -d " + string(c.dir) + " ]"
	case c.quiet:
		test += " >/dev/null 2>&1"
	}
	w.line("if ", test, "; then")
	if then == nil {
		w.line(":")
	} else {
		then()
	}
	if otherwise != nil {
		w.line("else")
		otherwise()
	}
	w.line("fi")
}

func (w *writer) whenPS(c condition, then, otherwise func()) {
	test := "$glr"
	switch {
	case c.file != "":
		test = "Test-Path -LiteralPath " + string(c.file) + " -PathType Leaf"
	case c.dir != "":
		test = "Test-Path -LiteralPath " + string(c.dir) + " -PathType Container"
	default:
		out := ""
		if c.quiet {
			out = " *> $null"
		}
		w.line("$glr = $false; try { ", w.call(c.words), out, "; $glr = ($LASTEXITCODE -eq 0) } catch { }")
	}
	w.line("if (", test, ") {")
	if then != nil {
		then()
	}
	if otherwise != nil {
		w.line("} else {")
		otherwise()
	}
	w.line("}")
}

// cd changes to a directory; that it is not there ends the script.
func (w *writer) cd(dir string) {
	if w.ps {
		w.line("Set-Location -LiteralPath ", string(w.path(dir)))
		w.check()
		return
	}
	// A relative one needs no guard against a leading dash: path makes it absolute.
	w.line("cd ", string(w.path(dir)))
}
