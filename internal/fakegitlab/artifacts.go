package fakegitlab

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Artifact is one upload of a job. Data is shared and not to be written to.
type Artifact struct {
	Type     string
	Format   string
	Filename string
	ExpireIn string
	Size     int64
	SHA256   [sha256.Size]byte
	Data     []byte
}

// Artifact returns the upload of a type ("archive", "junit" ...) of a job.
func (s *Server) Artifact(id int64, kind string) (Artifact, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.jobs[id]; j != nil && j.artifacts[kind] != nil {
		return *j.artifacts[kind], true
	}
	return Artifact{}, false
}

// PutArtifact stores an upload as if the job had made it, for downloads by later jobs.
func (s *Server) PutArtifact(id int64, a Artifact) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs[id]
	if j == nil {
		return ErrNoJob
	}
	a.Size, a.SHA256 = int64(len(a.Data)), sha256.Sum256(a.Data)
	j.putArtifact(&a)
	return nil
}

func (j *job) putArtifact(a *Artifact) {
	if j.artifacts == nil {
		j.artifacts = make(map[string]*Artifact)
	}
	j.artifacts[a.Type] = a
}

// artifactFormat is the format that the server insists on for a type.
func artifactFormat(kind string) (string, bool) {
	for format, kinds := range map[string][]string{
		"zip": {"archive", "lsif"},
		"gzip": {
			"metadata", "junit", "metrics", "metrics_referee", "network_referee", "dotenv", "cobertura", "jacoco",
			"cluster_applications", "cyclonedx", "annotations", "repository_xray",
		},
		"raw": {
			"trace", "sast", "secret_detection", "dependency_scanning", "container_scanning", "cluster_image_scanning",
			"dast", "license_scanning", "accessibility", "codequality", "performance", "browser_performance",
			"load_performance", "terraform", "requirements", "requirements_v2", "coverage_fuzzing", "api_fuzzing",
		},
	} {
		if slices.Contains(kinds, kind) {
			return format, true
		}
	}
	return "", false
}

// errTooLarge is an upload beyond the plan limit.
var errTooLarge = errors.New("file size has reached maximum size limit")

// processing finds the job of an artifact request, which must be running or canceling.
func (s *Server) processing(c *call) (*job, answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.authenticate(c, c.r.URL.Query().Get("token"))
	if j == nil {
		return nil, answer{status: http.StatusForbidden, message: "403 Forbidden"}
	}
	if j.status != Running && j.status != Canceling {
		return nil, refusal(j.status)
	}
	return j, answer{}
}

// handleUpload is POST jobs/:id/artifacts.
func (s *Server) handleUpload(c *call) {
	j, refused := s.processing(c)
	if j == nil {
		c.answer(refused)
		return
	}
	s.mu.Lock()
	alt := s.altURL
	s.mu.Unlock()
	if s.opts.UploadRedirect && alt != "" && !c.redirect {
		location := alt + strings.TrimPrefix(c.r.URL.Path, s.opts.PathPrefix)
		if c.r.URL.RawQuery != "" {
			location += "?" + c.r.URL.RawQuery
		}
		c.w.Header().Set("Location", location)
		c.empty(http.StatusTemporaryRedirect)
		return
	}
	query := c.r.URL.Query()
	a := &Artifact{Type: query.Get("artifact_type"), Format: query.Get("artifact_format"), ExpireIn: query.Get("expire_in")}
	if a.Type == "" {
		a.Type = "archive"
	}
	if a.Format == "" {
		a.Format = "zip"
	}
	for key := range query {
		if !slices.Contains([]string{"artifact_type", "artifact_format", "expire_in", "token"}, key) {
			s.violateJob(j, RuleUpload, "unknown query parameter %s", key)
		}
	}
	want, known := artifactFormat(a.Type)
	switch {
	case !known:
		c.json(http.StatusBadRequest, map[string]string{"error": "artifact_type does not have a valid value"})
		return
	case !slices.Contains([]string{"raw", "zip", "gzip"}, a.Format):
		c.json(http.StatusBadRequest, map[string]string{"error": "artifact_format does not have a valid value"})
		return
	case want != a.Format:
		c.json(http.StatusBadRequest, map[string]string{"message": "Invalid file format with specified file type"})
		return
	}
	if err := s.receive(c, j, a); err != nil {
		if errors.Is(err, errTooLarge) {
			c.json(http.StatusRequestEntityTooLarge, map[string]string{"message": "413 Request Entity Too Large - " + errTooLarge.Error()})
			return
		}
		c.json(http.StatusBadRequest, map[string]string{"error": "400 Bad Request"})
		return
	}
	status := s.storeArtifact(j, a)
	if status == http.StatusBadRequest {
		c.json(status, map[string]string{"message": "another artifact of the same type already exists"})
		return
	}
	c.raw(status, "application/json", []byte(strconv.Itoa(status)))
}

func (s *Server) storeArtifact(j *job, a *Artifact) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.final() {
		return http.StatusForbidden
	}
	if old := j.artifacts[a.Type]; old != nil && old.SHA256 != a.SHA256 {
		return http.StatusBadRequest
	}
	if j.artifacts[a.Type] == nil {
		j.putArtifact(a)
	}
	j.uploads++
	s.contact(j)
	s.touched(j)
	return http.StatusCreated
}

// receive reads the multipart body and checks rules 6 and 19.
func (s *Server) receive(c *call, j *job, a *Artifact) error {
	kind, parameters, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" || parameters["boundary"] == "" {
		s.violateJob(j, RuleContentType, "upload: Content-Type %q", kind)
		return errors.New("not multipart")
	}
	reader := multipart.NewReader(c.r.Body, parameters["boundary"])
	for parts := 0; ; parts++ {
		part, err := reader.NextRawPart()
		if errors.Is(err, io.EOF) {
			if parts != 1 || a.Filename == "" {
				s.violateJob(j, RuleUpload, "upload of %d parts, file name %q", parts, a.Filename)
			}
			if a.Filename == "" {
				return errors.New("file is missing")
			}
			return nil
		}
		if err != nil {
			return err // the connection broke, or the body is no multipart: no rule says it may not happen
		}
		if part.FormName() != "file" || part.FileName() == "" {
			s.violateJob(j, RuleUpload, "part %q with file name %q", part.FormName(), part.FileName())
			continue
		}
		var buf bytes.Buffer
		n, err := buf.ReadFrom(io.LimitReader(part, s.opts.ArtifactLimit+1))
		if err != nil {
			return err
		}
		if n > s.opts.ArtifactLimit {
			return errTooLarge
		}
		a.Filename, a.Data, a.Size, a.SHA256 = part.FileName(), buf.Bytes(), n, sha256.Sum256(buf.Bytes())
	}
}

// handleDownload is GET jobs/:id/artifacts. The token is that of the running job that asks.
func (s *Server) handleDownload(c *call) {
	token := c.r.Header.Get("Job-Token")
	if token == "" {
		token = c.r.URL.Query().Get("token")
		s.record(RuleJobToken, c.job, nil, "%s: no JOB-TOKEN header", c.endpoint)
	}
	s.mu.Lock()
	asking := s.runningJob(token)
	var a *Artifact
	if j := s.jobs[c.job]; j != nil {
		a = j.artifacts["archive"]
	}
	s.mu.Unlock()
	switch {
	case token == "":
		c.json(http.StatusUnauthorized, map[string]string{"message": "401 Unauthorized"})
	case asking == nil:
		c.forbidden()
	case a == nil:
		c.json(http.StatusNotFound, map[string]string{"message": "404 Not Found"})
	case s.opts.DirectDownload && c.r.URL.Query().Get("direct_download") == "true":
		key := s.secret("", "object", uint64(c.job), 0)
		// A host of its own, as far as a client can tell.
		host := strings.Replace(s.base(c.r), "http://127.0.0.1:", "http://localhost:", 1)
		c.w.Header().Set("Location", host+"/-/object-storage/"+strconv.FormatInt(c.job, 10)+"?X-Amz-Signature="+key)
		c.empty(http.StatusFound)
	default:
		c.file(a)
	}
}

// runningJob finds the job whose token it is, if it is running.
func (s *Server) runningJob(token string) *job {
	if token == "" {
		return nil
	}
	for _, j := range s.jobs {
		if j.token == token && (j.status == Running || j.status == Canceling) {
			return j
		}
	}
	return nil
}

func (c *call) file(a *Artifact) {
	h := c.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	if a.Format == "zip" {
		h.Set("Content-Type", "application/zip")
	}
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": a.Filename}))
	sum := sha256.Sum256(a.Data)
	h.Set("ETag", strconv.Quote(hex.EncodeToString(sum[:8])))
	http.ServeContent(c.w, c.r, "", c.s.started, bytes.NewReader(a.Data))
}

// handleObject is the object store that a direct download is sent to: it knows ranges and speaks XML.
func (s *Server) handleObject(c *call) {
	id, err := strconv.ParseInt(c.rest, 10, 64)
	if err != nil || c.r.URL.Query().Get("X-Amz-Signature") != s.secret("", "object", uint64(id), 0) {
		c.raw(http.StatusForbidden, "application/xml",
			[]byte("<Error><Code>SignatureDoesNotMatch</Code><Message>The request signature does not match.</Message></Error>"))
		return
	}
	a, ok := s.Artifact(id, "archive")
	if !ok {
		c.raw(http.StatusNotFound, "application/xml", []byte("<Error><Code>NoSuchKey</Code><Message>The key does not exist.</Message></Error>"))
		return
	}
	c.file(&a)
}

// handleEnvironmentKey is GET jobs/:id/runtime_environment_key.
func (s *Server) handleEnvironmentKey(c *call) {
	s.mu.Lock()
	j := s.authenticate(c, "")
	s.mu.Unlock()
	if j == nil {
		c.forbidden()
		return
	}
	c.json(http.StatusNotFound, map[string]string{"message": "404 Not Found"})
}
