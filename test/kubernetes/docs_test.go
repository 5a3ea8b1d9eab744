//go:build linux

package kubernetes_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// blocks are the parts of a document that are fenced as a language.
func blocks(text, language string) (found []string) {
	for _, part := range strings.Split(text, "```"+language+"\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		found = append(found, block)
	}
	return found
}

// The commands of docs/helm.md, in their order, do what it says.
func TestDocs(t *testing.T) {
	c := newCluster(t)
	c.definitions()
	// The document makes the namespace itself.
	c.kubectl("delete", "namespace", c.namespace)
	server := c.newServer(fakegitlab.Options{})
	runner := server.AddRunner(fakegitlab.RunnerConfig{Description: "docs"})
	program := os.Getenv("GLASSRUNNER_TEST_HELM")
	if program == "" {
		missing(t, "GLASSRUNNER_TEST_HELM is not set: scripts/tool.sh helm prints it")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, target := range map[string]string{"deploy": filepath.Join(root, "deploy"), "helm": program, "kubectl": c.kubectlBin} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(root, "docs/helm.md"))
	if err != nil {
		t.Fatal(err)
	}
	own := strings.NewReplacer("https://gitlab.example.com", server.URL(), "glrt-...", runner.Token,
		" -n ci", " -n "+c.namespace, "namespace ci", "namespace "+c.namespace, "debian:bookworm", "glassrunner/busybox:1")
	values, commands := blocks(string(text), "yaml"), blocks(string(text), "shell")
	if len(values) != 1 || len(commands) != 4 {
		t.Fatalf("docs/helm.md has %d values and %d blocks of commands, want 1 and 4", len(values), len(commands))
	}
	if err := os.WriteFile(filepath.Join(dir, "values.yaml"), []byte(own.Replace(values[0])), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, block := range commands {
		script := "set -eu\ncd '" + dir + "'\nPATH=$PWD:$PATH\n" + own.Replace(block)
		if out, bad, err := c.command(c.ctx, script, "bash", "-s"); err != nil {
			t.Fatalf("%v:\n%s\n%s%s", err, block, out, bad)
		}
		if i == 1 {
			c.finished(server, c.job(server, fakegitlab.Job{Script: []string{"echo as the document says"}}), fakegitlab.Success, "as the document says")
		}
	}
}
