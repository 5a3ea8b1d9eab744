//go:build linux

package kubernetes_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// What is kept in Secrets reaches config.toml, and neither the manager's environment nor its log.
func TestChartSecrets(t *testing.T) {
	c := newCluster(t)
	c.kubectl("create", "secret", "generic", "cache", "--from-literal=accesskey=AKIATEST", "--from-literal=secretkey=very/secret+key")
	r := c.install("--set", "runners.cache.secretName=cache", "--set-json", `runners.config="[[runners]]\n  [runners.cache]\n    Type = \"s3\"\n    [runners.cache.s3]\n      ServerAddress = \"s3.example.com\"\n      BucketName = \"b\"\n"`)
	pod := r.names("pods")[0]
	config := r.kubectl("exec", pod, "-c", "glassrunner", "--", "cat", "/home/gitlab-runner/.gitlab-runner/config.toml")
	for _, want := range []string{`AccessKey = "AKIATEST"`, `SecretKey = "very/secret+key"`, `BucketName = "b"`, `listen_address = ":9252"`, r.runner.Token} {
		if !strings.Contains(config, want) {
			t.Errorf("config.toml has no %s:\n%s", want, config)
		}
	}
	other := r.kubectl("exec", pod, "-c", "glassrunner", "--", "bash", "-c", "cat /proc/1/environ; cat /proc/mounts; stat -c %a /home/gitlab-runner/.gitlab-runner/config.toml") + r.kubectl("logs", pod, "--all-containers")
	for _, secret := range []string{r.runner.Token, "very/secret+key"} {
		if strings.Contains(other, secret) {
			t.Errorf("a secret can be seen:\n%s", other)
		}
	}
	if !strings.Contains(other, "tmpfs /home/gitlab-runner/.gitlab-runner ") || !strings.Contains(other, "600\n") {
		t.Errorf("config.toml is not in memory, or others may read it:\n%s", other)
	}
}

// With a registration token each pod makes a runner and removes it.
func TestChartRegistrationToken(t *testing.T) {
	c := newCluster(t)
	server := c.newServer(fakegitlab.Options{})
	values := []string{"--set", "gitlabUrl=" + server.URL() + ",runners.executor=shell,imagePullPolicy=Never,runners.tags=a\\,b,runners.runUntagged=false,runners.name=old,runnerRegistrationToken=" + fakegitlab.DefaultRegistrationToken}
	c.helm(slices.Concat([]string{"install", "glassrunner", chart, "--wait", "--timeout", "120s"}, values)...)
	runners := server.Runners()
	if len(runners) != 1 || !slices.Equal(runners[0].Tags, []string{"a", "b"}) || !runners[0].OnlyTagged || runners[0].Description != "old" {
		t.Fatalf("registered: %+v", runners)
	}
	c.finished(server, c.job(server, fakegitlab.Job{Tags: []string{"a"}, Script: []string{"echo tagged"}}), fakegitlab.Success, "tagged")
	c.helm("uninstall", "glassrunner", "--wait", "--timeout", "120s")
	c.eventually("the runner is removed from GitLab", func() error {
		if len(server.Runners()) != 0 {
			return errNot
		}
		return nil
	})
}
