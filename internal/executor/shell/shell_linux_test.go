package shell_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/executor/executortest"
	"github.com/glassrunner/glassrunner/internal/executor/shell"
	"github.com/glassrunner/glassrunner/internal/job"
)

// grouped returns a driver and a job's place in a control group of its own.
func grouped(t *testing.T) (*shell.Driver, executor.Env, executor.Request, string) {
	t.Helper()
	dir := t.TempDir()
	d := newDriver(t, shell.Options{Dir: dir, Environ: executortest.Environ(dir), Shell: "bash"})
	r := request(t, d, "bash")
	var claim executor.Claim
	r.Claim = func(c executor.Claim) error { claim = c; return nil }
	env, err := d.Open(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	group := claim.Data["cgroup"]
	if group == "" {
		t.Skip("there is no cgroup v2 hierarchy that can be written to")
	}
	return d, env, r, group
}

func TestCgroup(t *testing.T) {
	_, env, r, group := grouped(t)
	var out strings.Builder
	c := executor.Command{Script: executortest.Wrap(r, "cat /proc/self/cgroup"), Stdout: &out, Stderr: &out}
	if err := env.Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "/"+filepath.Base(group)+"\n") {
		t.Errorf("the shell is not in %s:\n%s", group, out.String())
	}
	// Groups that a job makes for itself go too.
	c.Script = executortest.Wrap(r, "mkdir -p "+group+"/a/b && echo $$ >"+group+"/a/b/cgroup.procs; setsid sleep 1000 >/dev/null 2>&1 &")
	if err := env.Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := env.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(group); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the group is still there: %v", err)
	}
}

// A group that was killed once kills what is started into it.
func TestCgroupKilledByAnother(t *testing.T) {
	_, env, r, group := grouped(t)
	if err := os.WriteFile(filepath.Join(group, "cgroup.kill"), []byte("1"), 0); err != nil {
		t.Skipf("the kernel has no cgroup.kill: %v", err)
	}
	var out strings.Builder
	for range 2 {
		out.Reset()
		c := executor.Command{Script: executortest.Wrap(r, "echo alive"), Stdout: &out, Stderr: &out}
		if err := env.Run(t.Context(), c); err != nil || out.String() != "alive\n" {
			t.Errorf("got %q, %v", out.String(), err)
		}
	}
}

func TestEnvironmentMark(t *testing.T) {
	dir := t.TempDir()
	d := newDriver(t, shell.Options{Dir: dir, Environ: executortest.Environ(dir), Shell: "bash", CgroupRoot: shell.NoCgroup})
	r := request(t, d, "bash")
	env, err := d.Open(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	// Out of its environment, but still in its session.
	c := executor.Command{Script: executortest.Wrap(r, "env -i sleep 123456789 >/dev/null 2>&1 &")}
	if err := env.Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := env.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := executortest.Alive(t, "123456789"); n > 0 {
		t.Errorf("%d processes are left", n)
	}
}

// The number of a process that is gone may belong to anybody.
func TestReapSparesStrangers(t *testing.T) {
	stranger := exec.CommandContext(t.Context(), "sleep", "1000")
	stranger.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stranger.Process.Kill(); err != nil {
			t.Errorf("the stranger was killed: %v", err)
		}
		_ = stranger.Wait()
	}()
	dir := t.TempDir()
	d := newDriver(t, shell.Options{Dir: dir, Environ: executortest.Environ(dir), CgroupRoot: shell.NoCgroup})
	var claim executor.Claim
	r := request(t, d, "sh")
	r.Claim = func(c executor.Claim) error { claim = c; return nil }
	env, err := d.Open(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if err := env.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	claim.ID = fmt.Sprint(stranger.Process.Pid)
	claim.Data["start"] = "5" // ticks after the machine started
	claim.Data["since"] = "0"
	if n, err := d.Reap(t.Context(), claim); err != nil || n != 0 {
		t.Errorf("Reap: %d, %v, want 0", n, err)
	}
	claim.Data["cgroup"] = "/sys/fs/cgroup"
	if n, err := d.Reap(t.Context(), claim); err != nil || n != 0 {
		t.Errorf("Reap with a strange group: %d, %v, want 0", n, err)
	}
	claim.Data["boot"] = "another"
	if n, err := d.Reap(t.Context(), claim); err != nil || n != 0 {
		t.Errorf("Reap after a boot: %d, %v, want 0", n, err)
	}
	claim.Data["mark"] = ""
	if _, err := d.Reap(t.Context(), claim); err == nil {
		t.Error("Reap took a damaged claim")
	}
}

func TestOtherUser(t *testing.T) {
	u, err := user.Lookup("nobody")
	if os.Getuid() != 0 || err != nil {
		t.Skip("only root can run jobs as nobody")
	}
	if _, err := exec.LookPath("su"); err != nil {
		t.Skip("su is not installed")
	}
	dir, err := os.MkdirTemp("", "glassrunner-test-") //nolint:usetesting // what t.TempDir makes is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d := newDriver(t, shell.Options{Dir: dir, Environ: executortest.Environ(dir), Shell: "bash", User: "nobody"})
	r := request(t, d, "bash")
	env, err := d.Open(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	err = env.Run(t.Context(), executor.Command{
		Files: []executor.FileOp{
			{Kind: executor.OpMkdir, Path: r.Dirs.Project},
			{Kind: executor.OpWrite, Path: r.Dirs.Project + "/f", Data: []byte("text\n")},
		},
		Script: executortest.Wrap(r, "cd '"+r.Dirs.Project+"'\ncat f\necho >>f\nmkdir ../made\nid -un\nsetsid sleep 987654321 >/dev/null 2>&1 &\nexit 9"),
		Stdout: &out, Stderr: &out,
	})
	var exit *executor.ExitError
	if !errors.As(err, &exit) || exit.Code != 9 || out.String() != "text\nnobody\n" {
		t.Errorf("got %q, %v, want text, nobody and code 9", out.String(), err)
	}
	info, err := os.Stat(r.Dirs.Project)
	if err != nil || fmt.Sprint(info.Sys().(*syscall.Stat_t).Uid) != u.Uid {
		t.Errorf("the project is not nobody's: %v, %v", info, err)
	}
	if err := env.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := executortest.Alive(t, "987654321"); n > 0 {
		t.Errorf("%d processes are left", n)
	}
}

func TestShells(t *testing.T) {
	dir := t.TempDir()
	d := newDriver(t, shell.Options{Dir: dir, Environ: executortest.Environ(dir)})
	for _, name := range []string{"fish", "bash -c", "../bash"} {
		_, err := d.Open(t.Context(), request(t, d, name))
		var known *executor.Error
		if !errors.As(err, &known) || known.Reason != job.ConfigurationError {
			t.Errorf("%s: got %v, want a configuration error", name, err)
		}
	}
	if _, err := shell.New(shell.Options{User: "no such user"}); err == nil {
		t.Error("New took a user that does not exist")
	}
	if _, err := shell.New(shell.Options{User: "-c"}); err == nil {
		t.Error("New took an option for a user")
	}
}

func TestLoginShell(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".profile"), []byte("export FROM_PROFILE=yes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := newDriver(t, shell.Options{Dir: dir, Environ: executortest.Environ(dir)})
	for _, name := range []string{"bash", "sh"} {
		r := request(t, d, name)
		env, err := d.Open(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := env.Run(t.Context(), executor.Command{Script: executortest.Wrap(r, `echo "$FROM_PROFILE $PWD"`), Stdout: &out}); err != nil {
			t.Error(err)
		}
		if want := "yes " + dir + "\n"; out.String() != want {
			t.Errorf("%s: got %q, want %q", name, out.String(), want)
		}
		if err := env.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// Descriptors of the runner do not leak into jobs, and none stay open here.
func TestDescriptors(t *testing.T) {
	dir := t.TempDir()
	d := newDriver(t, shell.Options{Dir: dir, Environ: executortest.Environ(dir)})
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(entries)
	}
	const body = "for f in /proc/$$/fd/*; do echo ${f##*/}; done"
	plain := exec.CommandContext(t.Context(), "bash")
	plain.Stdin = strings.NewReader(body)
	text, err := plain.Output() // has what the runner itself inherited
	if err != nil {
		t.Fatal(err)
	}
	usual := map[string]bool{"10": true, "255": true} // where bash keeps its script
	for f := range strings.FieldsSeq(string(text)) {
		usual[f] = true
	}
	once := func() {
		r := request(t, d, "bash")
		env, err := d.Open(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		c := executor.Command{Script: executortest.Wrap(r, body), Stdout: &out, Stderr: &out}
		if err := env.Run(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		for f := range strings.FieldsSeq(out.String()) {
			if !usual[f] {
				t.Errorf("a job's shell has the descriptor %s", f)
			}
		}
		c.Script = executortest.Wrap(r, "sleep 1000 &")
		if err := env.Run(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if err := env.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	once()
	before := count()
	for range 3 {
		once()
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
}

// A flood of new processes is ended too.
func TestForks(t *testing.T) {
	for _, root := range []string{"", shell.NoCgroup} {
		dir := t.TempDir()
		d := newDriver(t, shell.Options{Dir: dir, Environ: executortest.Environ(dir), CgroupRoot: root})
		r := request(t, d, "bash")
		env, err := d.Open(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		body := "f() { for i in 1 2 3 4 5 6 7 8; do (while :; do sleep 0.0123; done) & done; wait; }\nf"
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		c := executor.Command{Script: executortest.Wrap(r, body), Grace: 100 * time.Millisecond}
		if err := env.Run(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline", err)
		}
		cancel()
		if n := executortest.Alive(t, "0.0123"); n > 0 {
			t.Errorf("%d processes are left", n)
		}
		if err := env.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
