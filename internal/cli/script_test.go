package cli_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/glassrunner/glassrunner/internal/cli"
	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"glassrunner": func() { os.Exit(cli.Main(os.Args[1:], cli.System())) },
	})
}

// TestScripts runs the program as people do. Beyond testscript's own commands
// there are:
//
//	gitlab start [no-registration] [ttl=DURATION]
//	                      a server: sets URL, REGISTRATION and PAT
//	gitlab runner VAR     creates a runner there and sets VAR to its token
//	gitlab remove TOKEN   deletes it there
//	gitlab fault ENDPOINT STATUS [COUNT]
//	gitlab heal           ends all faults
//	gitlab job SCRIPT     queues a job
//	gitlab wait           until all jobs are over
//	gitlab info           prints what machines tell of themselves, for stdout
//	gitlab show           prints runners, managers and what was wrong, for stdout
//	gitlab stop           nothing listens any more
//	gr CODE ARG...        runs the program; it has to end with that code and
//	                      must not print a token
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			w := &world{}
			env.Values[worldKey{}] = w
			env.Setenv("CONFIG_FILE", env.WorkDir+"/config/config.toml")
			env.Setenv("HOME", env.WorkDir)
			env.Defer(func() { _ = w.stop() })
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("there is no condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"gitlab": gitlab, "gr": gr},
	})
}

type worldKey struct{}

// world is what one script works with.
type world struct {
	server  *fakegitlab.Server
	secrets []string
}

func (w *world) stop() error {
	if w.server == nil {
		return nil
	}
	return w.server.Close()
}

// tokens are all that must not be printed.
func (w *world) tokens() []string {
	if w.server != nil {
		for _, r := range w.server.Runners() {
			if !slices.Contains(w.secrets, r.Token) {
				w.secrets = append(w.secrets, r.Token)
			}
		}
	}
	return w.secrets
}

func gitlab(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: gitlab COMMAND ARG...")
	}
	w := ts.Value(worldKey{}).(*world)
	if args[0] == "start" {
		start(ts, w, args[1:])
		return
	}
	if w.server == nil {
		ts.Fatalf("there is no server yet")
	}
	need := func(n int) {
		if len(args) < n+1 {
			ts.Fatalf("gitlab %s: %d arguments are missing", args[0], n+1-len(args))
		}
	}
	switch args[0] {
	case "runner":
		need(1)
		ts.Setenv(args[1], w.server.AddRunner(fakegitlab.RunnerConfig{}).Token)
		w.tokens()
	case "remove":
		need(1)
		ts.Check(w.server.RemoveRunner(args[1]))
	case "fault":
		need(2)
		code, err := strconv.Atoi(args[2])
		ts.Check(err)
		f := fakegitlab.Fault{
			Endpoint: fakegitlab.Endpoint(args[1]), Status: code, Body: []byte(`{"message":"a fault"}`),
			Header: http.Header{"Content-Type": {"application/json"}},
		}
		if len(args) > 3 {
			f.Count, err = strconv.Atoi(args[3])
			ts.Check(err)
		}
		w.server.AddFault(f)
	case "heal":
		w.server.ClearFaults()
	case "job":
		need(1)
		_, err := w.server.Enqueue(fakegitlab.Job{Script: args[1:], Variables: []fakegitlab.Variable{{Key: "GIT_STRATEGY", Value: "none"}}})
		ts.Check(err)
	case "wait":
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		for _, j := range w.server.Jobs() {
			_, err := w.server.Wait(ctx, j.ID)
			ts.Check(err)
		}
	case "info":
		for _, r := range w.server.Runners() {
			for _, m := range r.Managers {
				fmt.Fprintf(ts.Stdout(), "%s\n", m.Info)
			}
		}
	case "show":
		show(ts, w.server)
	case "stop":
		ts.Check(w.stop())
	default:
		ts.Fatalf("gitlab has no command %q", args[0])
	}
}

func start(ts *testscript.TestScript, w *world, args []string) {
	o := fakegitlab.Options{LongPoll: 0}
	for _, a := range args {
		switch ttl, isTTL := strings.CutPrefix(a, "ttl="); {
		case isTTL:
			d, err := time.ParseDuration(ttl)
			ts.Check(err)
			o.TokenTTL = d
		case a == "no-registration":
			o.RegistrationDisabled = true
		default:
			ts.Fatalf("gitlab start has no option %q", a)
		}
	}
	w.server = fakegitlab.New(o)
	ts.Check(w.server.Start(""))
	w.secrets = append(w.secrets, fakegitlab.DefaultRegistrationToken, fakegitlab.DefaultAdminToken)
	ts.Setenv("URL", w.server.URL())
	ts.Setenv("REGISTRATION", fakegitlab.DefaultRegistrationToken)
	ts.Setenv("PAT", fakegitlab.DefaultAdminToken)
}

func show(ts *testscript.TestScript, s *fakegitlab.Server) {
	out := ts.Stdout()
	for _, r := range s.Runners() {
		fmt.Fprintf(out, "runner %d description=%q tags=%v untagged=%v paused=%v managers=%d\n",
			r.ID, r.Description, r.Tags, !r.OnlyTagged, r.Paused, len(r.Managers))
		for _, m := range r.Managers {
			fmt.Fprintf(out, "manager of %d executor=%q cancel_gracefully=%v\n", r.ID, m.Executor, m.CancelGracefully)
		}
	}
	for _, v := range s.Violations() {
		fmt.Fprintf(out, "violation %v\n", v)
	}
	for _, j := range s.Jobs() {
		fmt.Fprintf(out, "job %s\n", j.Status)
	}
}

func gr(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: gr CODE ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	w := ts.Value(worldKey{}).(*world)
	w.tokens()
	err = ts.Exec("glassrunner", args[1:]...)
	code := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if code != want {
		ts.Fatalf("got exit code %d, want %d", code, want)
	}
	for _, secret := range w.tokens() {
		if strings.Contains(ts.ReadFile("stdout")+ts.ReadFile("stderr"), secret) {
			ts.Fatalf("a token was printed")
		}
	}
}
