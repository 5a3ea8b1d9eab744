// Package browser_test looks at the status page in a real Chromium. The step
// `browser` of scripts/test.sh runs it; where no browser is, it is skipped,
// and that is said.
package browser_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"testing"
	"time"
)

// chrome is a browser that is driven by driver.mjs.
type chrome struct {
	t     testing.TB
	in    io.WriteCloser
	lines *bufio.Scanner
}

// newChrome starts a browser, which ends with the test.
func newChrome(t testing.TB) *chrome {
	t.Helper()
	tools := os.Getenv("GLASSRUNNER_BROWSER_TOOLS")
	if tools == "" {
		t.Skip("NOT TESTED: GLASSRUNNER_BROWSER_TOOLS is not set: run scripts/test.sh browser")
	}
	path := os.Getenv("GLASSRUNNER_CHROMIUM")
	if path == "" {
		var err error
		if path, err = exec.LookPath("chromium"); err != nil {
			t.Fatalf("no browser: %v", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	cmd := exec.CommandContext(ctx, "node", "driver.mjs")
	cmd.Env = append(os.Environ(), "GLASSRUNNER_CHROMIUM="+path)
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = 10 * time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // it ends the browser
		if err := cmd.Wait(); err != nil {
			t.Errorf("driver.mjs: %v", err)
		}
		cancel()
	})
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	return &chrome{t, in, lines}
}

type args map[string]any

// do has the browser do something and returns what came of it.
func (c *chrome) do(cmd string, a args) json.RawMessage {
	c.t.Helper()
	answer, err := c.try(cmd, a)
	if err != nil {
		said, _ := c.try("complaints", nil)
		c.t.Fatalf("%s %v: %v\nthe browser said: %s", cmd, a, err, said)
	}
	return answer
}

func (c *chrome) try(cmd string, a args) (json.RawMessage, error) {
	all := args{"cmd": cmd}
	maps.Copy(all, a)
	line, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		return nil, err
	}
	if !c.lines.Scan() {
		return nil, fmt.Errorf("the browser has gone: %w", c.lines.Err())
	}
	var answer struct {
		OK    json.RawMessage `json:"ok"`
		Error string          `json:"error"`
	}
	if err := json.Unmarshal(c.lines.Bytes(), &answer); err != nil {
		return nil, err
	}
	if answer.Error != "" {
		return nil, fmt.Errorf("%s", answer.Error)
	}
	return answer.OK, nil
}

// value decodes what JavaScript evaluates to.
func value[T any](c *chrome, js string) T {
	c.t.Helper()
	var v T
	if err := json.Unmarshal(c.do("eval", args{"js": js}), &v); err != nil {
		c.t.Fatalf("%s: %v", js, err)
	}
	return v
}

// clean says that neither the console, nor an accessibility check, nor the
// network had a complaint.
func (c *chrome) clean(what string) {
	c.t.Helper()
	for _, cmd := range []string{"axe", "complaints"} {
		var found []string
		if err := json.Unmarshal(c.do(cmd, nil), &found); err != nil {
			c.t.Fatal(err)
		}
		for _, f := range found {
			c.t.Errorf("%s: %s", what, f)
		}
	}
}
