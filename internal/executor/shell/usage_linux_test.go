package shell_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/executor/executortest"
	"github.com/glassrunner/glassrunner/internal/executor/shell"
	"github.com/glassrunner/glassrunner/internal/job"
)

// TestUsageOfDaemons counts processes that nobody waits for, as a control
// group does.
func TestUsageOfDaemons(t *testing.T) {
	_, env, r, _ := grouped(t)
	var out bytes.Buffer
	body := `(setsid sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; times >times' </dev/null >/dev/null 2>&1 &)`
	dir := t.TempDir()
	if err := env.Run(t.Context(), executor.Command{Script: executortest.Wrap(r, "cd "+dir+"; "+body), Stdout: &out, Stderr: &out}); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	var text []byte
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if text, _ = os.ReadFile(filepath.Join(dir, "times")); strings.Count(string(text), "\n") == 2 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the daemon does not end")
		}
	}
	want := 0.0
	for f := range strings.FieldsSeq(string(text)) {
		s, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimPrefix(f, "0m"), "s"), 64)
		if err != nil {
			t.Fatalf("times says %q", text)
		}
		want += s
	}
	u, err := env.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The shell that started it took some too.
	if got, known := u.CPU.Seconds(); !known || got < 0.95*want || got > 1.05*want+0.05 {
		t.Errorf("the job used %.3f s (known: %v), its daemon %.3f s", got, known, want)
	}
}

// TestUsageOfFiles writes and reads a known number of bytes.
func TestUsageOfFiles(t *testing.T) {
	var fs syscall.Statfs_t
	dir := t.TempDir()
	if err := syscall.Statfs(dir, &fs); err != nil || fs.Type == 0x01021994 {
		t.Skipf("%s is on a tmpfs, which has no block device (%v)", dir, err)
	}
	for name, root := range map[string]string{"group": "", "scan": shell.NoCgroup} {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t, shell.Options{Dir: dir, Environ: executortest.Environ(dir), CgroupRoot: root})
			r := request(t, d, "bash")
			env, err := d.Open(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := env.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}()
			var out bytes.Buffer
			const size = 32 << 20
			file := filepath.Join(dir, name)
			body := fmt.Sprintf("dd if=/dev/zero of=%s bs=1M count=32 conv=fsync && dd if=%s of=/dev/null bs=1M iflag=direct", file, file)
			if err := env.Run(t.Context(), executor.Command{Script: executortest.Wrap(r, body), Stdout: &out, Stderr: &out}); err != nil {
				t.Fatalf("%v: %s", err, out.String())
			}
			u, err := env.Usage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for what, q := range map[string]job.Quantity{"read": u.Read, "written": u.Written} {
				if n, known := q.Value(); !known || n < size*95/100 || n > size*105/100 {
					t.Errorf("%d bytes %s (known: %v), want %d", n, what, known, size)
				}
			}
		})
	}
}
