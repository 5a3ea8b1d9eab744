package cli_test

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/glassrunner/glassrunner/internal/cli"
	"github.com/glassrunner/glassrunner/internal/config"
)

func nothing(string) string { return "" }

// TestEntryFlags: every key with a flag has it in register and run-single,
// with its environment variable, and none is there twice.
func TestEntryFlags(t *testing.T) {
	for _, name := range []string{"register", "run-single"} {
		cmd, _, err := cli.Root(cli.World{Getenv: nothing}, name).Find([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		common := 0
		for _, f := range config.Fields() {
			if f.Flag == "" {
				continue
			}
			for _, flag := range append([]string{f.Flag}, f.Aliases...) {
				got := cmd.Flags().Lookup(flag)
				if got == nil {
					t.Errorf("%s has no --%s", name, flag)
					continue
				}
				if env := got.Annotations["glassrunner_env"]; f.Env != "" && (len(env) != 1 || env[0] != f.Env) {
					t.Errorf("%s --%s: got environment variables %v, want %s", name, flag, env, f.Env)
				}
				if got.DefValue != "" {
					t.Errorf("%s --%s has the default %q: a key that is not given is not written", name, flag, got.DefValue)
				}
				if got.Annotations["glassrunner_rare"] == nil {
					common++
				}
			}
		}
		if common < 10 || common > 30 {
			t.Errorf("%s shows %d flags of the entry in its help, want about 20", name, common)
		}
	}
}

// TestDocumentedFlags: flags and variables of the contract that no key of the
// configuration brings.
func TestDocumentedFlags(t *testing.T) {
	want := map[string]string{
		"register --template-config": "TEMPLATE_CONFIG_FILE", "register --registration-token": "REGISTRATION_TOKEN",
		"register --non-interactive": "REGISTER_NON_INTERACTIVE", "register --leave-runner": "REGISTER_LEAVE_RUNNER",
		"register --tag-list": "RUNNER_TAG_LIST", "register --run-untagged": "REGISTER_RUN_UNTAGGED",
		"register --locked": "REGISTER_LOCKED", "register --access-level": "REGISTER_ACCESS_LEVEL",
		"register --maximum-timeout": "REGISTER_MAXIMUM_TIMEOUT", "register --paused": "REGISTER_PAUSED",
		"register --maintenance-note": "REGISTER_MAINTENANCE_NOTE", "register --description": "RUNNER_NAME",
		"verify --name": "", "verify --url": "", "verify --token": "", "verify --delete": "",
		"unregister --token": "CI_SERVER_TOKEN", "unregister --url": "CI_SERVER_URL", "unregister --name": "",
		"unregister --all-runners": "", "unregister --tls-ca-file": "CI_SERVER_TLS_CA_FILE",
		"reset-token --name": "", "reset-token --url": "", "reset-token --id": "", "reset-token --pat": "", "reset-token --all-runners": "",
		"run --listen-address": "LISTEN_ADDRESS", "run --service": "", "run --working-directory": "", "run --user": "", "run --syslog": "LOG_SYSLOG",
		"run-single --wait-timeout": "", "run-single --max-builds": "", "run-single --runner": "", "run-single --shutdown-timeout": "",
	}
	for what, env := range want {
		name, flag, _ := strings.Cut(what, " --")
		cmd, _, err := cli.Root(cli.World{Getenv: nothing}, name).Find([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		f := cmd.Flags().Lookup(flag)
		if f == nil {
			t.Errorf("there is no %s", what)
			continue
		}
		if got := strings.Join(f.Annotations["glassrunner_env"], " "); got != env {
			t.Errorf("%s: got environment variable %q, want %q", what, got, env)
		}
	}
	for short, what := range map[string]string{
		"n": "register non-interactive", "u": "register url", "t": "register token", "r": "register registration-token",
	} {
		name, flag, _ := strings.Cut(what, " ")
		cmd, _, _ := cli.Root(cli.World{Getenv: nothing}, name).Find([]string{name})
		if f := cmd.Flags().ShorthandLookup(short); f == nil || f.Name != flag {
			t.Errorf("-%s of %s is not --%s", short, name, flag)
		}
	}
}

// TestHelpIsWhole: each command says what it does and shows all its flags but
// those that only --help-all shows.
func TestHelpIsWhole(t *testing.T) {
	for _, each := range cli.Root(cli.World{Getenv: nothing}).Commands() {
		name := each.Name()
		cmd, _, err := cli.Root(cli.World{Getenv: nothing}, name).Find([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		cmd.SetOut(&out)
		if err := cmd.Help(); err != nil {
			t.Errorf("%s: %v", cmd.Name(), err)
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: %q is no short description", cmd.Name(), cmd.Short)
		}
		if cmd.GroupID == "" && !cmd.Hidden {
			t.Errorf("%s has no group", cmd.Name())
		}
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Annotations["glassrunner_rare"] == nil && !strings.Contains(out.String(), "--"+f.Name) {
				t.Errorf("the help of %s does not show --%s", cmd.Name(), f.Name)
			}
		})
		for line := range strings.Lines(out.String()) {
			if len(strings.TrimSuffix(line, "\n")) > 100 {
				t.Errorf("%s: a line of %d columns: %q", cmd.Name(), len(line), line)
			}
		}
	}
}
