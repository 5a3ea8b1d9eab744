package cli_test

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/glassrunner/glassrunner/internal/cli"
)

func TestHashPassword(t *testing.T) {
	for _, tt := range []struct {
		name, in, password string
		code               int
	}{
		{"a line", "correct horse\nmore\n", "correct horse", 0},
		{"no line end", "x", "x", 0},
		{"Windows", "x y\r\n", "x y", 0},
		{"nothing", "", "", 1},
		{"an empty line", "\n", "", 1},
		{"too long", strings.Repeat("x", 73) + "\n", "", 1},
	} {
		var out, errs bytes.Buffer
		code := cli.Main([]string{"hash-password"}, cli.World{In: strings.NewReader(tt.in), Out: &out, Err: &errs, Getenv: nothing})
		if code != tt.code {
			t.Errorf("%s: exit code %d, want %d: %s", tt.name, code, tt.code, &errs)
		}
		if code == 0 && bcrypt.CompareHashAndPassword(bytes.TrimSpace(out.Bytes()), []byte(tt.password)) != nil {
			t.Errorf("%s: %q is no hash of %q", tt.name, &out, tt.password)
		}
	}
}

// TestTopFindsTheServer: without --url the configuration says where it is.
func TestTopFindsTheServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody is there: the message says where it was looked
	for listen, want := range map[string]string{
		`"127.0.0.1:` + port + `"`: "http://127.0.0.1:" + port,
		`":` + port + `"`:          "http://localhost:" + port,
		`"0.0.0.0:` + port + `"`:   "http://localhost:" + port,
		`"[::]:` + port + `"`:      "http://localhost:" + port,
	} {
		path := filepath.Join(t.TempDir(), "config.toml")
		if err := os.WriteFile(path, []byte("listen_address = "+listen+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		code := cli.Main([]string{"top", "--config", path}, cli.World{Out: &out, Err: &errs, Getenv: nothing})
		if code != 1 || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: exit code %d, %s; want %s", listen, code, &errs, want)
		}
	}
	var errs bytes.Buffer
	if code := cli.Main([]string{"top", "--interval", "1ms"}, cli.World{Err: &errs, Getenv: nothing}); code != 2 {
		t.Errorf("too short an interval: exit code %d, %s", code, &errs)
	}
}
