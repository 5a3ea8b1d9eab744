package helper_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/glassrunner/glassrunner/internal/helper"
)

// call runs one command in dir and returns what it printed.
func call(t *testing.T, dir string, env map[string]string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := &cobra.Command{Use: "helper", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(helper.Commands(helper.World{Out: &out, Getenv: func(k string) string { return env[k] }, Environ: os.Environ(), Dir: dir})...)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func check(t *testing.T, out string, err error, fails bool, want ...string) {
	t.Helper()
	if errors.Is(err, helper.ErrTold) != fails || !fails && err != nil {
		t.Errorf("got error %v, want one: %v\n%s", err, fails, out)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("lacks %q:\n%s", w, out)
		}
	}
	if strings.Contains(out, "topsecret") {
		t.Errorf("a secret was printed:\n%s", out)
	}
}

func TestCache(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "c", "cache.zip")
	if err := os.WriteFile(filepath.Join(dir, "it's"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	objects := map[string][]byte{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut:
			objects[r.URL.Path], _ = io.ReadAll(r.Body)
		case objects[r.URL.Path] == nil:
			w.WriteHeader(http.StatusNotFound)
		default:
			_, _ = w.Write(objects[r.URL.Path])
		}
	}))
	defer srv.Close()
	env := map[string]string{
		"NAME": "it's", "GLASSRUNNER_REPORT": "mark",
		"GLASSRUNNER_CACHE_LINKS": `{"primary":{"url":"` + srv.URL + `/k?X-Amz-Signature=topsecret"}}`,
	}
	out, err := call(t, dir, env, "cache-extractor", "--file", file)
	check(t, out, err, true, "WARNING: Cache file does not exist", `mark {"kind":"cache","op":"restore","result":"miss"`)
	out, err = call(t, dir, env, "cache-archiver", "--file", file, "--path=$NAME", "--key=k")
	check(t, out, err, false, "it's: found 1 matching", `mark {"kind":"cache","op":"save","result":"stored"`)
	if err := os.Remove(filepath.Join(dir, "it's")); err != nil {
		t.Fatal(err)
	}
	out, err = call(t, dir, env, "cache-extractor", "--file", file+".other", "--fallback")
	check(t, out, err, false, `"result":"stale"`)
	if _, err := os.Stat(filepath.Join(dir, "it's")); err != nil {
		t.Error(err)
	}
	env["GLASSRUNNER_CACHE_LINKS"] = "{topsecret"
	out, err = call(t, dir, env, "cache-extractor", "--file", file)
	check(t, out, err, true, "FATAL: GLASSRUNNER_CACHE_LINKS cannot be read")
}

func TestArtifacts(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got = append(got, r.Method+" "+r.URL.Path+" "+r.Header.Get("Job-Token"))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "201")
	}))
	defer srv.Close()
	env := map[string]string{"CI_SERVER_URL": srv.URL, "CI_JOB_TOKEN": "topsecret", "CI_JOB_ID": "12", "GLASSRUNNER_REPORT": "mark"}
	out, err := call(t, dir, env, "artifacts-uploader", "--path", "f")
	check(t, out, err, false, `Uploading artifacts as "archive" to coordinator... 201 Created  id=12`, `mark {"kind":"artifact","op":"upload","result":"ok"`)
	if len(got) != 1 || got[0] != "POST /api/v4/jobs/12/artifacts topsecret" {
		t.Errorf("requests: %q", got)
	}
	out, err = call(t, dir, env, "artifacts-uploader", "--path", "f", "--artifact-format", "rar")
	check(t, out, err, true, `FATAL: unknown archive format "rar"`)
	delete(env, "CI_JOB_TOKEN")
	out, err = call(t, dir, env, "artifacts-downloader", "--id", "12")
	check(t, out, err, true, "FATAL: the token of the job is not known")
}
