package script

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/glassrunner/glassrunner/internal/job"
)

func TestSanitized(t *testing.T) {
	for in, want := range map[string]string{
		"gems": "gems", "a/b": "a/b", "a%2fb%2F%2e%2Ec": "a/b/..c", "../../etc": "etc", `..\..\x`: "x", "a/../..": "", "/abs": "abs",
		"trail  ": "trail", "a/ / \t": "a", " ": "", ".. ": "", "a/.. ": "", ".": "", "x/..%2f..%2f y": " y", "ünï": "ünï", "a//b/./c": "a/b/c",
	} {
		if got := sanitized(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzSanitized(f *testing.F) {
	for _, s := range []string{"a/../b", "%2e%2e%2f", `\..\`, " .. / . ", "\r/. "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		got := sanitized(key)
		if got != "" && !filepath.IsLocal(got) && !strings.ContainsRune(got, 0) {
			t.Errorf("%q became %q", key, got)
		}
		if again := sanitized(got); !strings.Contains(got, "%") && !strings.HasSuffix(got, " ") && again != got {
			t.Errorf("%q became %q, and that %q", key, got, again)
		}
	})
}

// transferJob has caches and artifacts with names that mean harm.
func transferJob(shell, dir, helper string) *Job {
	vs := job.Variables{{Key: "WHERE", Value: "main"}, {Key: "CI_JOB_TOKEN", Value: "of the job"}}
	return &Job{
		Spec: &job.Spec{
			ID: 4711, Token: "it's secret", Info: job.Info{Name: "unit", ProjectID: 17}, Git: job.Git{Ref: "main", SHA: "abc"},
			Artifacts: []job.Artifact{
				{Name: "web-$WHERE", Paths: []string{"-rf", "it's $(touch harm)", "*.log"}, Exclude: []string{"**/*.map"}, ExpireIn: "1 week", Type: "archive", Format: "zip"},
				{Paths: []string{"r.xml"}, When: "always", Type: "junit", Format: "gzip", Untracked: true},
				{Paths: []string{"never"}, When: "on_failure"},
			},
			Caches: []job.Cache{
				{Key: "k/$WHERE", Paths: []string{"vendor"}, FallbackKeys: []string{"fall'back"}},
				{Key: "push", Policy: "push", Paths: []string{"x"}}, {Key: "pull", Policy: "pull", Untracked: true},
			},
			Dependencies: []job.Dependency{{ID: 1, Name: "none"}, {ID: 2, Name: "it's $(touch harm)", Token: "other's", Filename: "a.zip"}},
		},
		Variables: vs, Shell: shell,
		Dirs:     Dirs{Builds: dir, Project: dir + "/p", Temp: dir + "/p.tmp", Cache: dir + "/cache"},
		Settings: Settings{URL: "https://user:pw@gitlab.example.test", Helper: helper, Transfer: Transfer{ReportMark: "mark", MaxCacheSize: 99}},
	}
}

// TestTransferRuns runs the scripts with a helper that shows how it is called.
func TestTransferRuns(t *testing.T) {
	for _, shell := range []string{"bash", "sh"} {
		if _, err := exec.LookPath(shell); err != nil {
			t.Skipf("%s is not installed", shell)
		}
		t.Run(shell, func(t *testing.T) {
			dir := t.TempDir()
			helper := filepath.Join(dir, "the helper")
			text := `#!/bin/sh
[ "$1" = --version ] && exit 0
printf '%s|' "$@"; printf '\n[%s][%s][%s][%s]\n' "$CI_JOB_TOKEN" "$CI_SERVER_URL" "$GLASSRUNNER_REPORT" "$GLASSRUNNER_CACHE_LINKS"
[ -z "$FAIL" ]
`
			if err := os.WriteFile(helper, []byte(text), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(dir, "p"), 0o700); err != nil {
				t.Fatal(err)
			}
			j := transferJob(shell, dir, helper)
			run := func(p job.Phase, more ...string) (string, error) {
				t.Helper()
				s, err := Stage(j, p)
				if err != nil {
					t.Fatal(err)
				}
				cmd := exec.Command(shell)
				cmd.Env = append(os.Environ(), more...)
				cmd.Stdin = bytes.NewReader(Wrap(j, s.Text))
				cmd.Dir = dir
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			check := func(p job.Phase, fails bool, more []string, want ...string) {
				t.Helper()
				out, err := run(p, more...)
				if (err != nil) != fails {
					t.Errorf("%s: %v\n%s", p, err, out)
				}
				for _, w := range want {
					if !strings.Contains(out, w) {
						t.Errorf("%s lacks %q:\n%s", p, w, out)
					}
				}
			}
			fail := []string{"FAIL=1"}
			j.CacheLinks = map[CacheObject]Link{
				{Project: 17, Name: "k/main", Key: "k/main"}:               {URL: "https://s3.test/k?X-Amz-Signature=1'2", HeadURL: "h"},
				{Project: 17, Name: "k/main", Key: "k/main", Upload: true}: {URL: "https://s3.test/up", Header: map[string]string{"X-Y": "z"}},
			}
			check(job.UploadArtifacts, false, nil, "Uploading artifacts...",
				"artifacts-uploader|--id|4711|--expire-in|1 week|--artifact-format|zip|--artifact-type|archive|--name=web-main|--path=-rf|--path=it's $(touch harm)|--path=*.log|--exclude=**/*.map|\n"+
					"[it's secret][https://user:pw@gitlab.example.test][mark][]",
				"--artifact-type|junit|--path=r.xml|--untracked|")
			check(job.UploadArtifacts, true, fail)
			check(job.DownloadArtifacts, false, nil, "Downloading artifacts for it's $(touch harm) (2)...", "artifacts-downloader|--id|2|\n[other's]")
			check(job.DownloadArtifacts, true, fail)
			check(job.RestoreCache, false, nil, "Checking cache for k/main...", "cache-extractor|--timeout|10|--file|"+dir+"/cache/k/main/cache.zip|\n[of the job][]",
				`[{"primary":{"url":"https://s3.test/k?X-Amz-Signature=1'2","head_url":"h"}}]`, "Successfully extracted cache", "Not downloading cache push due to policy")
			check(job.RestoreCache, false, fail, "Failed to extract cache", "Checking cache for fall'back...", "/cache/fall'back/cache.zip|--fallback|", "Checking cache for pull...")
			check(job.ArchiveCache, false, nil, "Creating cache k/main...", "cache-archiver|--timeout|10|--max-uploaded-archive-size|99|--file|"+dir+"/cache/k/main/cache.zip|--key=k/main|--alternate-file|",
				`"header":{"X-Y":"z"}`, "Created cache", "Not uploading cache pull due to policy")
			check(job.ArchiveCache, false, fail, "Failed to create cache")
			j.Variables = append(j.Variables, job.Variable{Key: "CI_DEBUG_TRACE", Value: "true"})
			if out, err := run(job.RestoreCache, "GLASSRUNNER_QUIET=1"); err != nil || strings.Count(out, "X-Amz-Signature") != 1 { // the helper's own print
				t.Errorf("traced: %v\n%s", err, out)
			}
			j.Settings.Helper = "/no/such/helper"
			check(job.UploadArtifacts, false, nil, "Missing /no/such/helper. Uploading artifacts is disabled.")
			if _, err := os.Stat(filepath.Join(dir, "p", "harm")); err == nil {
				t.Error("a name was executed")
			}
		})
	}
}

func TestCacheObjects(t *testing.T) {
	j := transferJob("bash", "/b", "h")
	names := func(p job.Phase) []string {
		var out []string
		for _, o := range CacheObjects(j, p) {
			way := "get "
			if o.Upload {
				way = "put "
			}
			out = append(out, way+o.Name)
		}
		return out
	}
	hash := func(key string) string { return objectName(j.cacheKey(key).other) }
	want := []string{"get k/main", "get " + hash("k/$WHERE"), "get fall'back", "get " + hash("fall'back"), "get pull", "get " + hash("pull")}
	if diff := cmp.Diff(want, names(job.RestoreCache)); diff != "" {
		t.Errorf("restore (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"put k/main", "put push"}, names(job.ArchiveCache)); diff != "" {
		t.Errorf("save (-want +got):\n%s", diff)
	}
	if got := names(job.ArchiveCacheFailed); got != nil {
		t.Errorf("save of a failed job: %v", got)
	}
	j.Variables = append(j.Variables, job.Variable{Key: "FF_HASH_CACHE_KEYS", Value: "true"})
	if got := names(job.ArchiveCache)[1]; len(got) != len("put ab/")+64 {
		t.Errorf("hashed: %s", got)
	}
}

func TestTransferPowerShell(t *testing.T) {
	s, err := Stage(transferJob("pwsh", "/b", "C:/h.exe"), job.UploadArtifacts)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"${env:CI_JOB_TOKEN} = 'it''s secret'", "& 'C:/h.exe' artifacts-uploader", "'--path=it''s $(touch harm)'", "Remove-Item -LiteralPath env:CI_JOB_TOKEN"} {
		if !strings.Contains(string(s.Text), want) {
			t.Errorf("lacks %q:\n%s", want, s.Text)
		}
	}
}

func TestLinksAreReadable(t *testing.T) {
	j := transferJob("sh", "/b", "h")
	o := CacheObject{Project: 17, Name: "a", Key: "a"}
	j.CacheLinks = map[CacheObject]Link{o: {URL: "u", Header: map[string]string{"A": "b"}}}
	var got CacheLinks
	if err := json.Unmarshal([]byte(j.links(o, CacheObject{}).value), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(CacheLinks{Primary: WireLink{URL: "u", Header: map[string]string{"A": "b"}}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
