package script

import (
	"bytes"
	"strings"
)

// Wrap makes a body ready to be read by the job's shell on its standard
// input.
//
// For Unix shells the result is one compound command. A shell parses that
// whole before it runs it, so the standard input is free to become /dev/null
// within; and since the user's commands are neither in a subshell nor in a
// pipe, they start no process of their own. The body is evaluated, so that a
// syntax error in it comes after what precedes it has run. The last command's
// status is the script's, as it would be in a subshell, even after `set +e`.
func Wrap(j *Job, body []byte) []byte {
	if j.powershell() {
		return wrapPowerShell(j.Shell, body)
	}
	body = bytes.ReplaceAll(body, []byte{0}, nil)
	var b bytes.Buffer
	b.Grow(len(body) + len(body)/8 + 256)
	// Without the trap, a bash that is ended shows the command that it was at.
	b.WriteString("{ trap 'exit 1' TERM; ")
	if j.Shell == "bash" {
		b.WriteString("set -o pipefail; ")
	} else {
		b.WriteString("command set -o pipefail 2>/dev/null || :; ")
	}
	b.WriteString("set -o errexit; set +o noclobber; exec </dev/null; ")
	if j.flag("FF_USE_LEGACY_BASH_EVAL") {
		b.WriteString(": | ")
	}
	b.WriteString("eval '")
	for rest := body; ; {
		before, after, found := bytes.Cut(rest, []byte{'\''})
		b.Write(before)
		if !found {
			break
		}
		b.WriteString(`'\''`)
		rest = after
	}
	b.WriteString("'; exit; }\n")
	return b.Bytes()
}

// wrapPowerShell makes one block, which PowerShell reads whole when it is told
// to take commands from its standard input; the empty line ends it.
func wrapPowerShell(shell string, body []byte) []byte {
	var b strings.Builder
	b.WriteString("& {\n")
	b.WriteString("$OutputEncoding = [Console]::InputEncoding = [Console]::OutputEncoding = New-Object System.Text.UTF8Encoding $false\n")
	if shell == "pwsh" {
		b.WriteString("$ErrorActionPreference = \"Stop\"\n")
	}
	b.Write(body)
	b.WriteString("exit 0\n}\n\n")
	return []byte(b.String())
}
