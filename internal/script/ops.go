package script

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// RenderOps turns ops into text that goes before a body, for executors that
// cannot reach the job's files themselves. In a container a job is alone, and its
// user may be another one than the helper's: modes that Op leaves open are there
// those of the shell's umask.
func RenderOps(j *Job, ops []Op) []byte {
	w := j.writer()
	w.private = j.Settings.SharedEnv
	if len(ops) > 0 && (!absolute(j.Dirs.Project) || !absolute(j.Dirs.Temp)) {
		w.rememberDir()
	}
	w.ops(ops)
	return w.bytes()
}

func (w *writer) ops(ops []Op) {
	var gone []string // removals in a row are one rm
	flush := func() {
		if len(gone) == 0 {
			return
		}
		list := strings.Join(gone, " ")
		gone = gone[:0]
		// Directories without the right to write keep what they hold.
		w.line("for glr in ", list, `; do if [ -d "$glr" ] && [ ! -L "$glr" ]; then chmod -R u+rwX "$glr" 2>/dev/null || :; fi; done; unset glr; rm -rf `, list)
	}
	for _, o := range ops {
		switch {
		case w.ps:
			w.opPS(o)
		case o.Kind == OpRemove:
			gone = append(gone, string(w.path(o.Path)))
		default:
			flush()
			w.op(o)
		}
	}
	flush()
}

func (w *writer) op(o Op) {
	p := string(w.path(o.Path))
	switch o.Kind {
	case OpMkdir:
		mode := o.Mode
		switch {
		case mode == 0 && !w.private:
			w.line("mkdir -p ", p)
			return
		case mode == 0:
			mode = 0o700
		}
		w.line(fmt.Sprintf("[ -d %s ] || (umask %03o && mkdir -p %s)", p, 0o777&^mode.Perm(), p))
	case OpWrite:
		w.line("rm -rf ", p)
		if w.private {
			w.line("(umask 077 && ", printf(o.Data), " >", p, ")")
		} else {
			w.line(printf(o.Data), " >", p)
		}
		if o.Mode != 0 {
			w.line(fmt.Sprintf("chmod %03o %s", o.Mode.Perm(), p))
		}
	case OpTouch:
		if w.private {
			w.line("[ -e ", p, " ] || (umask 077 && : >", p, ")")
		} else {
			w.line("[ -e ", p, " ] || : >", p)
		}
	case OpRemove: // ops has it
	case OpSweep:
		var names []string
		for _, n := range o.Names {
			names = append(names, "-name "+quote(n))
		}
		w.line("if [ -d ", p, " ] && [ ! -L ", p, " ]; then find ", p, ` ! -type d \( `, strings.Join(names, " -o "), ` \) -exec rm -f {} +; fi`)
	}
}

// printf is a command that prints data exactly.
func printf(data []byte) string {
	text := string(data)
	if strings.IndexByte(text, 0) < 0 {
		return "printf '%s' " + quote(text)
	}
	var b strings.Builder
	for i := range len(text) {
		switch c := text[i]; {
		case c == 0:
			b.WriteString(`\000`)
		case c == '\\' || c == '%':
			b.WriteByte(c)
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return "printf '" + strings.ReplaceAll(b.String(), "'", `'\''`) + "'"
}

func (w *writer) opPS(o Op) {
	p := string(w.path(o.Path))
	switch o.Kind {
	case OpMkdir:
		w.line("[void][System.IO.Directory]::CreateDirectory(", p, ")")
	case OpWrite:
		w.line("[System.IO.File]::WriteAllBytes(", p, ", [Convert]::FromBase64String('", base64.StdEncoding.EncodeToString(o.Data), "'))")
	case OpTouch:
		w.line("if (!(Test-Path -LiteralPath ", p, ")) { [System.IO.File]::WriteAllBytes(", p, ", @()) }")
	case OpRemove:
		w.line("if (Test-Path -LiteralPath ", p, ") { Remove-Item -LiteralPath ", p, " -Force -Recurse }")
	case OpSweep:
		var names []string
		for _, n := range o.Names {
			names = append(names, string(w.lit(n)))
		}
		w.line("if (Test-Path -LiteralPath ", p, " -PathType Container) { Get-ChildItem -LiteralPath ", p,
			" -Recurse -Force -File -Include ", strings.Join(names, ","), " | Remove-Item -Force }")
	}
}
