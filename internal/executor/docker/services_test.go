package docker_test

import (
	"strings"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/config"
	"github.com/glassrunner/glassrunner/internal/event"
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/job"
)

func TestServiceThatFails(t *testing.T) {
	engine(t)
	var f facts
	o, r := options(t), request(t)
	o.Bus = event.NewBus(&f)
	o.Config.WaitForServicesTimeout = 20
	r.Spec.Services = []job.Image{{
		Name: boxImage, Command: []string{"sh", "-c", "echo cannot find my data; exit 3"},
		Variables: job.Variables{{Key: "HEALTHCHECK_TCP_PORT", Value: "80"}},
	}}
	started := time.Now()
	p := open(t, o, r)
	if took := time.Since(started); took > 15*time.Second {
		t.Errorf("a service that ended was waited for %v", took)
	}
	for _, want := range []string{
		"Starting service " + boxImage + "...", "Waiting for services to be up and running (timeout 20 seconds)...",
		"probably didn't start properly", "exit code 3", "cannot find my data",
	} {
		if !strings.Contains(p.log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, p.log)
		}
	}
	if n := len(f.all); n != 2 {
		t.Errorf("got %d facts, want an image and a service: %+v", n, f.all)
	} else if s, ok := f.all[1].(event.ServiceReady); !ok || s.OK {
		t.Errorf("got %+v, want a service that is not ready", f.all[1])
	}
}

func TestServiceThatIsSlow(t *testing.T) {
	engine(t)
	o, r := options(t), request(t)
	o.Config.WaitForServicesTimeout = 1
	r.Spec.Services = []job.Image{{
		Name: boxImage, Command: []string{"sh", "-c", "echo I think; sleep 1000"},
		Variables: job.Variables{{Key: "HEALTHCHECK_TCP_PORT", Value: "80"}},
	}}
	p := open(t, o, r)
	for _, want := range []string{"no port of [80] answered within 1s", "I think"} {
		if !strings.Contains(p.log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, p.log)
		}
	}
	p.want(t, executor.Build, "echo it goes on", "it goes on\n")
}

func TestServiceOutputAndEnvironment(t *testing.T) {
	engine(t)
	o, r := options(t), request(t)
	r.Variables = job.Variables{
		{Key: "CI_DEBUG_SERVICES", Value: "true", Public: true}, {Key: "OPEN", Value: "public", Public: true},
		{Key: "HIDDEN", Value: "secret"}, {Key: "FROM_JOB", Value: "of the job", Public: true},
	}
	o.Config.Services = []config.Service{{Name: boxImage, Alias: "configured,also", Command: []string{"sh", "-c", "echo I am $WHO; sleep 1000"}, Environment: []string{"WHO=yours"}}}
	r.Spec.Services = []job.Image{{
		Name: boxImage, Aliases: []string{"configured mine"}, Command: []string{"sh", "-c", `echo "open: $OPEN hidden: $HIDDEN own: $OWN"; sleep 1000`},
		Variables: job.Variables{{Key: "OWN", Value: "value $FROM_JOB"}},
	}}
	p := open(t, o, r)
	p.want(t, executor.Build, "grep -cw configured /etc/hosts; grep -cw mine /etc/hosts; sleep 1", "1\n1\n")
	p.close(t)
	for _, want := range []string{
		"[service:glassrunner-test__box-glassrunner-test-box-configured-also] I am yours",
		"[service:mine] open: public hidden:  own: value of the job",
		`Skipping alias "configured" for service "glassrunner-test/box" (services[1]): alias is already in use by another service.`,
	} {
		if !strings.Contains(p.log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, p.log)
		}
	}
}
