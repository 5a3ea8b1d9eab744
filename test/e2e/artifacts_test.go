//go:build linux

package e2e_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/glassrunner/glassrunner/internal/fakegitlab"
)

// archiveOf is an artifact of a job: a zip of paths.
func archiveOf(paths ...string) fakegitlab.ArtifactSpec {
	return fakegitlab.ArtifactSpec{Paths: paths, When: "on_success", ArtifactType: "archive", ArtifactFormat: "zip", ExpireIn: new("1 week")}
}

// unzipped is the content of an upload by name; a slash ends directories.
func unzipped(t *testing.T, data []byte) map[string]string {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range r.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		out[f.Name] = string(content)
	}
	return out
}

// TestArtifacts sends artifacts of all kinds and has a later job fetch them.
func TestArtifacts(t *testing.T) {
	t.Parallel()
	for _, direct := range []bool{false, true} {
		name := map[bool]string{false: "through the server", true: "through its object storage"}[direct]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, fakegitlab.Options{DirectDownload: direct, UploadRedirect: direct})
			p := w.start(w.config(""))
			archive := archiveOf("out/", "*.txt", "gone/", "../outside", "link")
			archive.Name, archive.Exclude = new("web-$CI_JOB_ID"), []string{"out/**/*.map"}
			build := w.enqueue(fakegitlab.Job{
				Name: "build",
				Script: []string{
					"mkdir -p out/deep && echo one > out/1 && echo two > out/deep/2 && echo no > out/deep/x.map && echo root > top.txt",
					"chmod 755 out/1; ln -s out/1 link; printf '<testsuite/>' > report.xml; printf '{}' > gl-sast.json",
				},
				Variables: empty("RUNNER_GENERATE_ARTIFACTS_METADATA", "true"),
				Artifacts: []fakegitlab.ArtifactSpec{
					archive,
					{Name: new("junit.xml"), Paths: []string{"report.xml"}, When: "always", ArtifactType: "junit", ArtifactFormat: "gzip"},
					{Paths: []string{"gl-sast.json"}, When: "always", ArtifactType: "sast", ArtifactFormat: "raw"},
					{Paths: []string{"never"}, When: "on_failure", ArtifactType: "dast", ArtifactFormat: "raw"},
				},
			})
			s := w.wait(build)
			want(t, s, "success")
			log := text(s.Trace)
			has(t, log, "Uploading artifacts for successful job", "Uploading artifacts...", "out/: found 4 matching artifact files and directories",
				"*.txt: found 1 matching artifact files and directories", "WARNING: gone/: no matching files. Ensure that the artifact path is relative to the working directory (",
				"WARNING: artifact path is not a subpath of project directory: ../outside", "out/**/*.map: excluded 1 files",
				`Uploading artifacts as "archive" to coordinator... 201 Created`, `Uploading artifacts as "junit" to coordinator... 201 Created`,
				`Uploading artifacts as "sast" to coordinator... 201 Created`)
			hasNot(t, log, "glassrunner-report-", "dast")
			a, ok := w.server.Artifact(build, "archive")
			if !ok || !strings.HasPrefix(a.Filename, "web-") || !strings.HasSuffix(a.Filename, ".zip") || a.ExpireIn != "1 week" {
				t.Fatalf("archive: %v, %q, %q", ok, a.Filename, a.ExpireIn)
			}
			files := unzipped(t, a.Data)
			meta := ""
			for name, content := range files {
				if strings.HasSuffix(name, "-metadata.json") {
					meta = content
					delete(files, name)
				}
			}
			for name, content := range map[string]string{"out/": "", "out/1": "one\n", "out/deep/": "", "out/deep/2": "two\n", "top.txt": "root\n", "link": "out/1"} {
				if got, ok := files[name]; !ok || got != content {
					t.Errorf("%s: got %q, %v, want %q", name, got, ok, content)
				}
				delete(files, name)
			}
			if len(files) > 0 {
				t.Errorf("the archive has more: %v", files)
			}
			var statement struct {
				PredicateType string
				Subject       []struct{ Name string }
			}
			if err := json.Unmarshal([]byte(meta), &statement); err != nil || statement.PredicateType != "https://slsa.dev/provenance/v1" || len(statement.Subject) != 3 {
				t.Errorf("metadata: %v: %s", err, meta)
			}
			junit, _ := w.server.Artifact(build, "junit")
			z, err := gzip.NewReader(bytes.NewReader(junit.Data))
			if err != nil {
				t.Fatal(err)
			}
			if content, err := io.ReadAll(z); err != nil || string(content) != "<testsuite/>" || z.Name != "report.xml" || junit.Filename != "junit.xml.gz" {
				t.Errorf("junit: %q named %q in %q, %v", content, z.Name, junit.Filename, err)
			}
			if sast, _ := w.server.Artifact(build, "sast"); string(sast.Data) != "{}" || sast.Filename != "artifacts" {
				t.Errorf("sast: %q in %q", sast.Data, sast.Filename)
			}

			s = w.run(fakegitlab.Job{
				Name: "use", Variables: empty(), Dependencies: []int64{build},
				Script: []string{"cat out/1 link out/deep/2 top.txt; readlink link; stat -c 'mode %a' out/1"},
			})
			want(t, s, "success")
			has(t, text(s.Trace), "Downloading artifacts for build (", "Downloading artifacts from coordinator... ok", "one\none\ntwo\nroot\nout/1\nmode 755\n")

			m := p.waitValue(3, "glassrunner_artifact_requests_total", "direction", "upload", "result", "ok")
			m.check(t, 1, "glassrunner_artifact_requests_total", "direction", "download", "result", "ok")
		})
	}
}

// TestArtifactTrouble is about servers that do not take or give artifacts.
func TestArtifactTrouble(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{ArtifactLimit: 50 << 10})
	p := w.start(w.config(""))
	upload := func(script string, variables ...string) fakegitlab.Job {
		return fakegitlab.Job{Script: []string{script}, Variables: empty(variables...), Artifacts: []fakegitlab.ArtifactSpec{archiveOf("f")}}
	}
	t.Run("nothing to send", func(t *testing.T) {
		s := w.run(upload("true"))
		want(t, s, "success")
		has(t, text(s.Trace), "WARNING: f: no matching files", "ERROR: No files to upload")
	})
	t.Run("too large", func(t *testing.T) {
		s := w.run(upload("head -c 200000 /dev/urandom > f"))
		want(t, s, "failed script_failure 1")
		has(t, text(s.Trace), `ERROR: Uploading artifacts as "archive" to coordinator... 413 Request Entity Too Large`, "FATAL: too large", "ERROR: Job failed: exit status 1")
		if s, _ := w.server.Job(s.ID); s.Status != fakegitlab.Failed {
			t.Errorf("status %s", s.Status)
		}
	})
	t.Run("busy, then ready", func(t *testing.T) {
		id := w.server.AddFault(fakegitlab.Fault{Endpoint: fakegitlab.UploadArtifacts, Status: http.StatusServiceUnavailable, Count: 7})
		s := w.run(upload("echo x > f"))
		w.server.RemoveFault(id)
		want(t, s, "success")
		has(t, text(s.Trace), "Retrying...", "201 Created")
	})
	t.Run("forbidden", func(t *testing.T) {
		id := w.server.AddFault(fakegitlab.Fault{Endpoint: fakegitlab.UploadArtifacts, Status: http.StatusForbidden})
		s := w.run(upload("echo x > f"))
		w.server.RemoveFault(id)
		want(t, s, "failed script_failure 1")
		has(t, text(s.Trace), "403 Forbidden", "FATAL: permission denied")
	})
	t.Run("of a failed job", func(t *testing.T) {
		j := upload("echo x > f; exit 7")
		j.Artifacts[0].When = "always"
		s := w.run(j)
		want(t, s, "failed script_failure 7")
		has(t, text(s.Trace), "Uploading artifacts for failed job", "201 Created", "ERROR: Job failed: exit status 7")
	})
	t.Run("gone", func(t *testing.T) {
		build := w.enqueue(upload("echo x > f"))
		want(t, w.wait(build), "success")
		id := w.server.AddFault(fakegitlab.Fault{Endpoint: fakegitlab.DownloadArtifacts, Status: http.StatusNotFound})
		s := w.run(fakegitlab.Job{Script: []string{"echo reached"}, Variables: empty(), Dependencies: []int64{build}})
		w.server.RemoveFault(id)
		want(t, s, "failed script_failure 1")
		has(t, text(s.Trace), "ERROR: Downloading artifacts from coordinator... not found")
		hasNot(t, text(s.Trace), "reached")
	})
	t.Run("cut, then whole", func(t *testing.T) {
		build := w.enqueue(upload("echo content > f"))
		want(t, w.wait(build), "success")
		id := w.server.AddFault(fakegitlab.Fault{Endpoint: fakegitlab.DownloadArtifacts, Truncate: true, TruncateAt: 20, Count: 1})
		s := w.run(fakegitlab.Job{Script: []string{"cat f"}, Variables: empty(), Dependencies: []int64{build}})
		w.server.RemoveFault(id)
		want(t, s, "success")
		has(t, text(s.Trace), "Retrying...", "Downloading artifacts from coordinator... ok", "\ncontent\n")
	})
	m := p.waitValue(1, "glassrunner_artifact_requests_total", "direction", "upload", "result", "too_large")
	m.check(t, 1, "glassrunner_artifact_requests_total", "direction", "download", "result", "not_found")
	m.check(t, 1, "glassrunner_artifact_requests_total", "direction", "upload", "result", "empty")
}

// TestArtifactInParts fetches an artifact from the object storage by several
// requests.
func TestArtifactInParts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{DirectDownload: true, Transcript: 1000})
	w.start(w.config(""))
	build := w.enqueue(fakegitlab.Job{
		Script:    []string{"head -c 50000000 /dev/urandom > f; sha256sum f"},
		Variables: empty("ARTIFACT_COMPRESSION_LEVEL", "fastest"), Artifacts: []fakegitlab.ArtifactSpec{archiveOf("f")},
	})
	s := w.wait(build)
	want(t, s, "success")
	sum := regexp.MustCompile(`[0-9a-f]{64}  f`).FindString(text(s.Trace))
	s = w.run(fakegitlab.Job{Script: []string{"sha256sum f"}, Variables: empty("FF_USE_PARALLEL_ARTIFACT_TRANSFER", "true"), Dependencies: []int64{build}})
	want(t, s, "success")
	has(t, text(s.Trace), "Downloading artifacts from coordinator... ok", sum)
	parts := 0
	for _, x := range w.server.Transcript(fakegitlab.ObjectStorage) {
		if x.Status == http.StatusPartialContent {
			parts++
		}
	}
	if parts == 0 || parts > 3 {
		t.Errorf("the storage was asked for %d parts, want 1 to 3", parts)
	}
}

// TestHostileArtifacts gives jobs archives that want out of the project.
func TestHostileArtifacts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	w.start(w.config("", entry{Extra: "  [runners.artifact]\n    max_extracted_size = 1000000\n"}))
	outside := filepath.Join(w.dir, "builds", "canary")
	if err := os.MkdirAll(filepath.Dir(outside), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(outside, []byte("alive"), 0o600); err != nil {
		t.Fatal(err)
	}
	type entry struct {
		name, body string
		mode       fs.FileMode
	}
	up := strings.Repeat("../", 12)
	for _, tt := range []struct {
		name    string
		want    string
		entries []entry
	}{
		{"dot dot", "leads out of its directory", []entry{{up + outside, "dead", 0o644}}},
		{"absolute", "has an absolute name", []entry{{outside, "dead", 0o644}}},
		{"a bomb", "its content is larger than 976.6 KiB", []entry{{"zeros", strings.Repeat("\x00", 1_000_001), 0o644}}},
		{"through a link", "is both a link and a directory", []entry{{"l", filepath.Dir(outside), fs.ModeSymlink | 0o777}, {"l/canary", "dead", 0o644}}},
	} {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for _, e := range tt.entries {
			h := &zip.FileHeader{Name: e.name}
			h.SetMode(e.mode)
			out, err := z.CreateHeader(h)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(out, e.body); err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		build := w.enqueue(fakegitlab.Job{Script: []string{"true"}, Variables: empty()})
		want(t, w.wait(build), "success")
		if err := w.server.PutArtifact(build, fakegitlab.Artifact{Type: "archive", Format: "zip", Filename: "a.zip", Data: b.Bytes()}); err != nil {
			t.Fatal(err)
		}
		s := w.run(fakegitlab.Job{Script: []string{"true"}, Variables: empty(), Dependencies: []int64{build}})
		want(t, s, "failed script_failure 1")
		has(t, text(s.Trace), "FATAL: extracting artifacts of job", tt.want)
		if got, err := os.ReadFile(outside); err != nil || string(got) != "alive" {
			t.Errorf("%s: the canary says %q, %v", tt.name, got, err)
		}
	}
}

// TestLocalCache keeps a cache on the machine.
func TestLocalCache(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakegitlab.Options{})
	p := w.start(w.config(""))
	cache := fakegitlab.Cache{Key: "gems %2e%2e/$CI_COMMIT_REF_SLUG ", Policy: "pull-push", Paths: []string{"vendor/"}, When: "on_success", FallbackKeys: []string{"default"}}
	run := func(script string, c fakegitlab.Cache, variables ...string) (string, string) {
		s := w.run(fakegitlab.Job{Script: []string{script}, Cache: []fakegitlab.Cache{c}, Variables: empty(append([]string{"CI_COMMIT_REF_SLUG", "main"}, variables...)...)})
		return text(s.Trace), string(s.Status)
	}
	log, _ := run("ls vendor || mkdir vendor; echo v1 > vendor/gem", cache)
	has(t, log, `WARNING: cache key "gems %2e%2e/main " sanitized to "gems ../main"`, "Checking cache for gems %2e%2e/main ...", "No URL provided, cache will not be downloaded",
		"WARNING: Cache file does not exist", "Failed to extract cache", "Checking cache for default...", "Creating cache gems %2e%2e/main ...",
		"vendor/: found 2 matching artifact files and directories", "No URL provided, cache will not be uploaded", "Created cache")
	log, _ = run("cat vendor/gem", cache)
	has(t, log, "Successfully extracted cache", "\nv1\n", "Archive is up to date!", "Created cache")
	hasNot(t, log, "Checking cache for default...")
	log, _ = run("cat vendor/gem", fakegitlab.Cache{Key: "other", Policy: "pull", Paths: []string{"vendor/"}}, "CACHE_FALLBACK_KEY", "gems %2e%2e/main")
	has(t, log, "Failed to extract cache", "Successfully extracted cache", "\nv1\n", "Not uploading cache other due to policy")
	log, _ = run("ls vendor && exit 1; true", fakegitlab.Cache{Key: "other", Policy: "$POLICY", Paths: []string{"vendor/"}}, "POLICY", "push")
	has(t, log, "Not downloading cache other due to policy", "No files to cache.")
	log, status := run("true", fakegitlab.Cache{Key: "other", Policy: "sideways", Paths: []string{"vendor/"}})
	has(t, log, `unknown cache policy "sideways"`)
	if status != "failed" {
		t.Errorf("an unknown policy: %s", status)
	}
	log, _ = run("true", fakegitlab.Cache{Key: "..", Policy: "pull-push", Paths: []string{"vendor/"}})
	has(t, log, `cache key ".." could not be sanitized`, "Skipping cache extraction due to empty cache key", "Skipping cache archiving due to empty cache key")
	log, _ = run("true", fakegitlab.Cache{Key: "x", Policy: "pull", Paths: []string{"vendor/"}}, "CACHE_FALLBACK_KEY", "main-protected. ")
	has(t, log, `"-protected"`)
	log, _ = run("mkdir -p vendor; echo v2 > vendor/gem; git init -q .; echo u > new; exit 3",
		fakegitlab.Cache{Key: "failed", Policy: "pull-push", Untracked: true, When: "on_failure"}, "CACHE_COMPRESSION_FORMAT", "tarzstd")
	has(t, log, "Saving cache for failed job", "untracked: found 2 files", "Created cache")
	log, _ = run("cat vendor/gem new", fakegitlab.Cache{Key: "failed", Policy: "pull", Untracked: true})
	has(t, log, "\nv2\nu\n")

	m := p.waitValue(2, "glassrunner_cache_requests_total", "operation", "restore", "result", "hit")
	m.check(t, 1, "glassrunner_cache_requests_total", "operation", "restore", "result", "stale")
	m.check(t, 2, "glassrunner_cache_requests_total", "operation", "save", "result", "stored")
	m.check(t, 1, "glassrunner_cache_requests_total", "operation", "save", "result", "unchanged")
	var archives []string
	_ = filepath.WalkDir(filepath.Join(w.dir, "cache"), func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			archives = append(archives, filepath.Base(name))
		}
		return nil
	})
	slices.Sort(archives)
	if got := strings.Join(slices.Compact(archives), " "); got != "cache.zip metadata.json" {
		t.Errorf("in the cache directory are %s", got)
	}
}
