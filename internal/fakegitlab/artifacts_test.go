package fakegitlab_test

import (
	"strings"
	"testing"

	fake "github.com/glassrunner/glassrunner/internal/fakegitlab"
)

func TestUploadStatuses(t *testing.T) {
	s := start(t, fake.Options{ArtifactLimit: 10, Relax: []fake.Rule{fake.RuleUpload}})
	c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
	id := s.MustEnqueue(fake.Job{})
	j := c.job().ack()
	file := func(text string) [3]string { return [3]string{"file", "a.zip", text} }
	for _, tt := range []struct {
		name, query string
		parts       [][3]string
		want        int
	}{
		{"archive", "artifact_type=archive&artifact_format=zip&expire_in=1+week", [][3]string{file("zip")}, 201},
		{"same again", "artifact_type=archive&artifact_format=zip", [][3]string{file("zip")}, 201},
		{"other bytes", "artifact_type=archive&artifact_format=zip", [][3]string{file("ZIP")}, 400},
		{"junit", "artifact_type=junit&artifact_format=gzip", [][3]string{file("gz")}, 201},
		{"wrong pair", "artifact_type=junit&artifact_format=zip", [][3]string{file("gz")}, 400},
		{"unknown type", "artifact_type=x&artifact_format=zip", [][3]string{file("gz")}, 400},
		{"unknown format", "artifact_type=archive&artifact_format=tar", [][3]string{file("gz")}, 400},
		{"too large", "artifact_type=sast&artifact_format=raw", [][3]string{file(strings.Repeat("x", 11))}, 413},
		{"no file", "artifact_type=sast&artifact_format=raw", nil, 400},
		{"just fits", "artifact_type=sast&artifact_format=raw", [][3]string{file(strings.Repeat("x", 10))}, 201},
	} {
		parts := tt.parts
		if r := j.upload(tt.query, parts...); r.status != tt.want {
			t.Errorf("%s: got %d %s, want %d", tt.name, r.status, r.body, tt.want)
		}
	}
	a, ok := s.Artifact(id, "archive")
	if !ok || string(a.Data) != "zip" || a.ExpireIn != "1 week" || a.Filename != "a.zip" {
		t.Errorf("artifact: %t %+v", ok, a)
	}
	if got := snapshot(t, s, id); len(got.Artifacts) != 3 || got.Uploads != 4 {
		t.Errorf("%d artifacts, %d uploads", len(got.Artifacts), got.Uploads)
	}
	clean(t, s)
}

func TestUploadRedirect(t *testing.T) {
	s := start(t, fake.Options{UploadRedirect: true})
	c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
	id := s.MustEnqueue(fake.Job{})
	j := c.job().ack()
	const query = "artifact_type=archive&artifact_format=zip"
	r := j.upload(query, [3]string{"file", "a.zip", "zip"})
	want(t, "redirect", r, 307, "")
	to := r.header.Get("Location")
	if !strings.HasSuffix(to, j.path+"/artifacts?"+query) || strings.HasPrefix(to, s.URL()) {
		t.Fatalf("Location %s", to)
	}
	c.url = strings.TrimSuffix(to, j.path+"/artifacts?"+query)
	want(t, "upload", j.upload(query, [3]string{"file", "a.zip", "zip"}), 201, "")
	if _, ok := s.Artifact(id, "archive"); !ok {
		t.Error("no artifact")
	}
	clean(t, s)
}

func TestDownloadStatuses(t *testing.T) {
	s := start(t, fake.Options{DirectDownload: true})
	c := newClient(t, s, s.AddRunner(fake.RunnerConfig{}).Token)
	first, empty := s.MustEnqueue(fake.Job{Name: "build"}), s.MustEnqueue(fake.Job{})
	for range 2 {
		want(t, "final", c.job().ack().put("success", nil), 200, "success")
	}
	if err := s.PutArtifact(first, fake.Artifact{Type: "archive", Format: "zip", Filename: "artifacts.zip", Data: []byte("content")}); err != nil {
		t.Fatal(err)
	}
	s.MustEnqueue(fake.Job{Dependencies: []int64{first, empty}})
	j := c.job().ack()
	deps := j.payload.Dependencies
	if len(deps) != 2 || deps[0].Name != "build" || deps[0].ArtifactsFile == nil || deps[0].ArtifactsFile.Size != 7 || deps[1].ArtifactsFile != nil {
		t.Fatalf("dependencies: %+v", deps)
	}
	get := func(path, token string, header ...string) reply {
		h := map[string]string{"JOB-TOKEN": token}
		for i := 0; i < len(header); i += 2 {
			h[header[i]] = header[i+1]
		}
		return c.send(soon(t), "GET", path, h, nil)
	}
	path := strings.Replace(j.path, "1003", "1001", 1) + "/artifacts"
	r := get(path, deps[0].Token)
	want(t, "proxied", r, 200, "")
	wantHeader(t, r, "Content-Type", "application/zip")
	wantHeader(t, r, "Content-Disposition", "attachment; filename=artifacts.zip")
	if string(r.body) != "content" {
		t.Errorf("got %q", r.body)
	}
	want(t, "nothing there", get(strings.Replace(path, "1001", "1002", 1), deps[0].Token), 404, "")
	want(t, "foreign token", get(path, "glcbt-64_no"), 403, "")
	want(t, "no key", get(j.path+"/runtime_environment_key", deps[0].Token), 404, "")
	r = get(path+"?direct_download=true", deps[0].Token)
	want(t, "direct", r, 302, "")
	_, object, _ := strings.Cut(r.header.Get("Location"), "http://localhost:")
	_, object, _ = strings.Cut(object, "/") // the same server by another name
	object = "/" + object
	r = get(object, "", "Range", "bytes=0-0")
	want(t, "range", r, 206, "")
	wantHeader(t, r, "Content-Range", "bytes 0-0/7")
	if r := get(object+"x", ""); r.status != 403 || !strings.Contains(string(r.body), "<Code>SignatureDoesNotMatch</Code>") {
		t.Errorf("bad signature: %d %s", r.status, r.body)
	}
	clean(t, s)
}
