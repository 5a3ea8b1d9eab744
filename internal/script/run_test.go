package script_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/job"
	"github.com/glassrunner/glassrunner/internal/script"
)

// shells are those that are installed here.
func shells(t testing.TB) (names []string) {
	for _, s := range []string{"bash", "dash"} {
		if _, err := exec.LookPath(s); err == nil {
			names = append(names, s)
		}
	}
	if len(names) == 0 {
		t.Skip("there is no shell")
	}
	return names
}

// start runs a text as the executor does: from a file, by a login shell.
func start(t testing.TB, shell, home string, text []byte) (string, int) {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteAt(text, 0); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), shell, "-l")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = f, &out, &out
	cmd.Dir = home
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8"}
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return out.String(), exit.ExitCode()
	case err != nil:
		t.Fatal(err)
	}
	return out.String(), 0
}

// named is the shell's name in a configuration.
func named(shell string) string {
	if shell == "dash" {
		return "sh"
	}
	return shell
}

func TestWrap(t *testing.T) {
	tests := []struct {
		name, body string
		flags      job.Variables
		want       string // of the output
		contains   string
		code       int
	}{
		{name: "success", body: "echo a", want: "a\n"},
		{name: "exit", body: "exit 7\necho no", code: 7},
		{name: "failure", body: "echo a\n(exit 9)\necho no", want: "a\n", code: 9},
		{name: "last status", body: "set +e\nfalse", code: 1},
		{name: "status that was forgiven", body: "set +e\nfalse\ntrue"},
		{name: "and-list", body: "false && true\necho on", want: "on\n"},
		{name: "and-list at the end", body: "false && true", code: 1},
		{name: "function", body: "f() { false; echo no; }\nf", code: 1},
		{name: "stdin", body: "cat\nread x || echo eof", want: "eof\n"},
		{name: "state", body: "cd /\nX=1\nf() { echo $X $PWD; }\nf", want: "1 /\n"},
		{name: "quotes", body: `echo 'it'\''s' "a'b" \'`, want: "it's a'b '\n"},
		{name: "heredoc", body: "cat <<'END'\n$x '\nEND\necho b", want: "$x '\nb\n"},
		{name: "exit trap", body: "trap 'echo bye' EXIT\nexit 3", want: "bye\n", code: 3},
		{name: "syntax error", body: "echo 1\necho 2\necho 3\necho 4\nif then fi ((\necho 6", contains: "1\n2\n3\n4\n", code: 2},
		{name: "line number", body: "echo 1\nno-such-command", contains: "no-such-command", code: 127},
		{name: "TERM", body: "kill -TERM $$\necho no", code: 1},
		{name: "pipe", body: "false | true", code: -1},
		{name: "noclobber", body: "f=$HOME/clobber\necho 1 >$f\necho 2 >$f\ncat $f", want: "2\n"},
		{name: "NUL", body: "echo a\x00b", want: "ab\n"},
		{name: "legacy", body: "echo a\ncat\nexit 4", flags: vars("FF_USE_LEGACY_BASH_EVAL", "true"), want: "a\n", code: 4},
		{name: "percent and backslash", body: `printf '%s\n' '100%\n'`, want: "100%\\n\n"},
		{name: "big", body: strings.Repeat("x=0123456789012345678901234567890123456789\n", 25_000) + "echo ${#x}", want: "40\n"},
	}
	for _, shell := range shells(t) {
		home := t.TempDir()
		for _, tt := range tests {
			t.Run(shell+"/"+tt.name, func(t *testing.T) {
				j := &script.Job{Shell: named(shell), Variables: tt.flags}
				out, code := start(t, shell, home, script.Wrap(j, []byte(tt.body+"\n")))
				if tt.code >= 0 && code != tt.code {
					t.Errorf("code %d, want %d", code, tt.code)
				}
				if tt.name == "pipe" && shell == "bash" && code != 1 {
					t.Errorf("code %d, want bash to have pipefail", code)
				}
				if tt.contains == "" && out != tt.want || !strings.Contains(out, tt.contains) {
					t.Errorf("got %.300q, want %q", out, tt.want+tt.contains)
				}
			})
		}
	}
}

// here makes a job whose directories exist on this machine.
func here(t testing.TB, shell string, vs job.Variables) *script.Job {
	dir := t.TempDir()
	project := filepath.Join(dir, "builds", "it's a \"group\" $x", "project -x")
	return &script.Job{
		Spec:      &job.Spec{Steps: []job.Step{{Name: "script"}}},
		Variables: vs,
		Dirs:      script.Dirs{Builds: dir + "/builds", Project: project, Temp: project + ".tmp", Cache: dir + "/cache"},
		Shell:     named(shell),
		Settings:  script.Settings{UserAgent: "glassrunner test", SharedEnv: true},
	}
}

// stage runs a phase as an executor without files of its own would.
func stage(t testing.TB, shell, home string, j *script.Job, p job.Phase) (string, int) {
	t.Helper()
	s, err := script.Stage(j, p)
	if err != nil {
		t.Fatal(err)
	}
	text := append(script.RenderOps(j, s.Ops), s.Text...)
	return start(t, shell, home, script.Wrap(j, text))
}

// hostile are texts that break careless quoting.
var hostile = []string{
	"", " ", "plain", "it's", `"`, "`id`", "$(id)", "$HOME", "${HOME}", `\`, `\\`, "a\nb", "a\n", "\n", "\r\n", "\t", "-n", "-e x", "--", "*", "?", "[a-z]*",
	"~", "~root", "!", "!!", "#", "a;b", "a|b", "a&b", "a>b", "{a,b}", "'; touch pwned; '", "\\'", "'\\''", "%s%n", `\033[0m`, "\x1b[31m", "\x01\x7f",
	"ü€😀", "\xff\xfe", "\u2019\u2018", "=", "a=b", "(", ")", "<(id)", "$'x'", `$"x"`, strings.Repeat("'", 300), strings.Repeat("long ", 5000),
}

func TestVariables(t *testing.T) {
	for _, shell := range shells(t) {
		t.Run(shell, func(t *testing.T) {
			var vs job.Variables
			var body, want strings.Builder
			for i, h := range hostile {
				key := fmt.Sprintf("V%d", i)
				vs = append(vs, job.Variable{Key: key, Value: "an earlier value"}, job.Variable{Key: key, Value: h, File: i%3 == 0})
				if i%3 == 0 {
					fmt.Fprintf(&body, "cat \"$%s\"; echo \"|%s\"\n", key, key)
				} else {
					fmt.Fprintf(&body, "printf '%%s' \"$%s\"; echo \"|%s\"\n", key, key)
				}
				fmt.Fprintf(&want, "%s|%s\n", h, key)
			}
			vs = append(vs,
				job.Variable{Key: "NUL", Value: "a\x00'b"}, job.Variable{Key: "NULFILE", Value: "a\x00%\\'b", File: true},
				job.Variable{Key: "x; touch pwned", Value: "1"}, job.Variable{Key: "a=b", Value: "1"}, job.Variable{Key: "", Value: "1"},
				job.Variable{Key: "1A", Value: "1"}, job.Variable{Key: "../../escape", Value: "1", File: true}, job.Variable{Key: "ü", Value: "1"},
				job.Variable{Key: "$(touch pwned)", Value: "1"}, job.Variable{Key: "a\nb", Value: "1"}, job.Variable{Key: "gitlab_runner_env", Value: "X=1", File: true})
			body.WriteString("printf '%s|' \"$NUL\"\nod -An -c \"$NULFILE\"\n")
			want.WriteString("a'b|   a  \\0   %   \\   '   b\n")
			j := here(t, shell, vs)
			j.Spec.Steps[0].Script = []string{"", body.String()}
			home := t.TempDir()
			if err := os.MkdirAll(j.Dirs.Project, 0o755); err != nil {
				t.Fatal(err)
			}
			out, code := stage(t, shell, home, j, "step_script")
			_, out, _ = strings.Cut(out, "collapsed multi-line command\x1b[0;m\n")
			if diff := cmp.Diff(want.String(), out); diff != "" || code != 0 {
				t.Errorf("code %d (-want +got):\n%s", code, diff)
			}
			for _, dir := range []string{home, j.Dirs.Project, j.Dirs.Builds, j.Dirs.Temp} {
				for _, name := range []string{"pwned", "escape"} {
					if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
						t.Errorf("%s is there", filepath.Join(dir, name))
					}
				}
			}
			s, err := script.Stage(j, job.GetSources)
			if err == nil || !strings.Contains(err.Error(), "address") {
				t.Fatalf("got %+v, %v", s, err)
			}
		})
	}
}

// Whatever a shell does with a name, the job goes on.
func TestSpecialVariables(t *testing.T) {
	keys := strings.Fields(`BASH BASHOPTS BASHPID BASH_ALIASES BASH_ARGC BASH_ARGV BASH_ARGV0 BASH_CMDS BASH_COMMAND BASH_COMPAT
		BASH_ENV BASH_EXECUTION_STRING BASH_LINENO BASH_LOADABLES_PATH BASH_REMATCH BASH_SOURCE BASH_SUBSHELL BASH_VERSINFO
		BASH_VERSION BASH_XTRACEFD CDPATH CHILD_MAX COLUMNS COMPREPLY COMP_WORDBREAKS DIRSTACK EMACS ENV EPOCHREALTIME EPOCHSECONDS
		EUID EXECIGNORE FCEDIT FIGNORE FUNCNAME FUNCNEST GLOBIGNORE GROUPS HISTCMD HISTCONTROL HISTFILE HISTFILESIZE HISTIGNORE
		HISTSIZE HISTTIMEFORMAT HOSTFILE HOSTNAME HOSTTYPE IFS IGNOREEOF INPUTRC LANG LC_ALL LC_COLLATE LC_CTYPE LINENO LINES
		MACHTYPE MAIL MAILCHECK MAILPATH MAPFILE OLDPWD OPTARG OPTERR OPTIND OSTYPE PIPESTATUS POSIXLY_CORRECT PPID PROMPT_COMMAND
		PROMPT_DIRTRIM PS0 PS1 PS2 PS3 PS4 PWD RANDOM READLINE_LINE REPLY SECONDS SHELL SHELLOPTS SHLVL SRANDOM TERM TIMEFORMAT TMOUT
		TMPDIR UID _ auto_resume histchars GITLAB_ENV GLR_PWD glr`)
	for _, shell := range shells(t) {
		home := t.TempDir()
		for _, value := range []string{"", "1", "a 'b' *", "a[$(touch pwned)]"} {
			var vs job.Variables
			for _, k := range keys {
				vs = append(vs, job.Variable{Key: k, Value: value})
			}
			run := func(vs job.Variables) (string, int) {
				j := here(t, shell, vs)
				if err := os.MkdirAll(j.Dirs.Temp, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.MkdirAll(j.Dirs.Project, 0o755); err != nil {
					t.Fatal(err)
				}
				var env strings.Builder
				for _, k := range keys {
					fmt.Fprintf(&env, "%s=%s\n", k, value)
				}
				env.WriteString("bad-name=1\n=x\nnothing\n1A=2\nLAST=it's $x `y`")
				if err := os.WriteFile(j.Dirs.Temp+"/gitlab_runner_env", []byte(env.String()), 0o600); err != nil {
					t.Fatal(err)
				}
				j.Spec.Steps[0].Script = []string{`printf '%s\n' "$LAST"`}
				s, err := script.Stage(j, "step_script")
				if err != nil {
					t.Fatal(err)
				}
				out, code := start(t, shell, home, script.Wrap(j, s.Text))
				for _, dir := range []string{home, j.Dirs.Project} {
					if os.Remove(filepath.Join(dir, "pwned")) == nil {
						out, code = out+"a value was run", -1
					}
				}
				return out, code
			}
			if out, code := run(vs); code != 0 || !strings.HasSuffix(out, "it's $x `y`\n") {
				t.Errorf("%s with all special variables %q: code %d:\n%s", shell, value, code, out)
				for _, v := range vs {
					if out, code := run(job.Variables{v}); code != 0 {
						t.Errorf("%s: %s=%q: code %d:\n%s", shell, v.Key, v.Value, code, out)
					}
				}
			}
		}
	}
}

func TestStepRuns(t *testing.T) {
	for _, shell := range shells(t) {
		t.Run(shell, func(t *testing.T) {
			home := t.TempDir()
			run := func(vs job.Variables, change func(*script.Job), commands ...string) (string, int) {
				j := here(t, shell, vs)
				if err := os.MkdirAll(j.Dirs.Project, 0o755); err != nil {
					t.Fatal(err)
				}
				j.Spec.Steps = []job.Step{{Name: "script", Script: commands}, {Name: "after_script", Script: commands}}
				j.Spec.Features.TraceSections = true
				if change != nil {
					change(j)
				}
				return stage(t, shell, home, j, "step_script")
			}
			green := func(s string) string { return "\x1b[32;1m" + s + "\x1b[0;m\n" }
			out, code := run(nil, nil, " echo one ", "", "echo two\necho three", `echo four \`, "false", "echo never")
			want := green("$ echo one") + "one\n\n" + green("$ echo two # collapsed multi-line command") + "two\nthree\n" +
				green(`$ echo four \`) + "four\n" + green("$ false")
			if out != want || code != 1 {
				t.Errorf("code %d, got:\n%q, want:\n%q", code, out, want)
			}
			out, code = run(nil, func(j *script.Job) { j.Settings.PreBuild, j.Settings.PostBuild = "X=before", "echo $X" }, `X="$X and in"`)
			if !strings.HasSuffix(out, "before and in\n") || code != 0 {
				t.Errorf("hooks: code %d, got:\n%s", code, out)
			}
			out, code = run(vars("FF_ENABLE_BASH_EXIT_CODE_CHECK", "true"), nil, "set +e", "(exit 5)", "echo never")
			if code != 5 || strings.HasSuffix(out, "\nnever\n") {
				t.Errorf("exit code check: code %d, got:\n%s", code, out)
			}
			out, code = run(vars("CI_DEBUG_TRACE", "true", "SHOWN", "in the trace"), nil, "echo x")
			if code != 0 || !strings.Contains(out, "+ echo x\n") || !strings.Contains(out, "in the trace") || strings.Contains(out, "+ eval") {
				t.Errorf("trace: code %d, got:\n%s", code, out)
			}
			out, code = run(vars("FF_SCRIPT_SECTIONS", "true"), nil, "echo one", "echo a\necho b")
			if code != 0 || !strings.Contains(out, ":section_script_step_1[hide_duration=true,collapsed=true]\r\x1b[0K\x1b[32;1m$ echo a\necho b\x1b[0;m\nsection_end:") ||
				!strings.HasSuffix(out, ":section_script_step_1\r\x1b[0Ka\nb\n") {
				t.Errorf("sections: code %d, got:\n%q", code, out)
			}
			out, code = run(nil, func(j *script.Job) {
				if err := os.RemoveAll(j.Dirs.Project); err != nil {
					t.Fatal(err)
				}
			}, "echo never")
			if code == 0 || strings.Contains(out, "$ echo") {
				t.Errorf("without a project: code %d, got:\n%s", code, out)
			}
		})
	}
}

func TestRenderOps(t *testing.T) {
	for _, shell := range shells(t) {
		t.Run(shell, func(t *testing.T) {
			j := here(t, shell, nil)
			p := func(name string) string { return j.Dirs.Project + "/" + name }
			ops := []script.Op{
				{Kind: script.OpMkdir, Path: p("d/e"), Mode: 0o755},
				{Kind: script.OpWrite, Path: p("d/-f 'x'"), Data: []byte("old")},
				{Kind: script.OpWrite, Path: p("d/-f 'x'"), Data: []byte("new\n%s\\n")},
				{Kind: script.OpWrite, Path: p("d/exec"), Mode: 0o700},
				{Kind: script.OpTouch, Path: p("d/exec")},
				{Kind: script.OpTouch, Path: p("d/t")},
				{Kind: script.OpMkdir, Path: p("gone")},
				{Kind: script.OpWrite, Path: p("gone/f")},
				{Kind: script.OpRemove, Path: p("gone")},
				{Kind: script.OpRemove, Path: p("never")},
				{Kind: script.OpWrite, Path: p("d/e/x.lock")},
				{Kind: script.OpWrite, Path: p("d/e/keep")},
				{Kind: script.OpSweep, Path: p("d"), Names: []string{"*.lock", "other"}},
				{Kind: script.OpSweep, Path: p("nowhere"), Names: []string{"*"}},
			}
			out, code := start(t, shell, t.TempDir(), script.Wrap(j, script.RenderOps(j, ops)))
			if out != "" || code != 0 {
				t.Errorf("code %d, got:\n%s", code, out)
			}
			var got []string
			err := filepath.Walk(j.Dirs.Project, func(path string, info os.FileInfo, err error) error {
				if err == nil {
					rel, _ := filepath.Rel(j.Dirs.Project, path)
					got = append(got, rel+" "+info.Mode().String())
				}
				return err
			})
			want := []string{". drwxr-xr-x", "d drwxr-xr-x", "d/-f 'x' -rw-------", "d/e drwxr-xr-x", "d/e/keep -rw-------", "d/exec -rwx------", "d/t -rw-------"}
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			// In a container everybody may have the files, if the umask says so.
			j.Settings.SharedEnv = false
			shared := []script.Op{
				{Kind: script.OpMkdir, Path: p("s/e")}, {Kind: script.OpWrite, Path: p("s/e/f")}, {Kind: script.OpTouch, Path: p("s/e/t")},
				{Kind: script.OpTouch, Path: p("s/e/f")}, {Kind: script.OpMkdir, Path: p("s/e")}, {Kind: script.OpWrite, Path: p("s/e/x"), Mode: 0o700},
			}
			out, code = start(t, shell, t.TempDir(), append([]byte("umask 0\n"), script.Wrap(j, script.RenderOps(j, shared))...))
			if out != "" || code != 0 {
				t.Errorf("code %d, got:\n%s", code, out)
			}
			for name, want := range map[string]os.FileMode{"s": 0o777, "s/e": 0o777, "s/e/f": 0o666, "s/e/t": 0o666, "s/e/x": 0o700} {
				if info, err := os.Stat(p(name)); err != nil || info.Mode().Perm() != want {
					t.Errorf("%s: got %v, %v, want the mode %v", name, info, err, want)
				}
			}
			if data, err := os.ReadFile(p("d/-f 'x'")); string(data) != "new\n%s\\n" {
				t.Errorf("got %q, %v", data, err)
			}
		})
	}
}

func FuzzQuote(f *testing.F) {
	// TestVariables has the rest of them, in one run.
	for _, key := range []string{"K", "a b", "$(id)"} {
		f.Add("it's $(id)\x00\n", key)
	}
	f.Fuzz(func(t *testing.T, value, key string) {
		if len(value) > 100_000 {
			return
		}
		for _, shell := range shells(t) {
			j := here(t, shell, job.Variables{{Key: key, Value: value}, {Key: "PROBE", Value: value}})
			j.Dirs.Project = "/"
			j.Spec.Steps[0].Script = []string{"printf '%s' \"$PROBE\""}
			s, err := script.Stage(j, "step_script")
			if err != nil {
				t.Fatal(err)
			}
			out, code := start(t, shell, t.TempDir(), script.Wrap(j, s.Text))
			_, out, _ = strings.Cut(out, "\x1b[0;m\n")
			if want := strings.ReplaceAll(value, "\x00", ""); out != want || code != 0 {
				t.Errorf("%s: code %d, got %q, want %q", shell, code, out, want)
			}
		}
	})
}
