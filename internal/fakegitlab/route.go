package fakegitlab

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Endpoint names what a request asked for, in faults, statistics and transcripts.
type Endpoint string

// The endpoints.
const (
	Register          Endpoint = "register"
	Verify            Endpoint = "verify"
	Unregister        Endpoint = "unregister"
	UnregisterManager Endpoint = "unregister_manager"
	ResetToken        Endpoint = "reset_token"
	Discovery         Endpoint = "discovery"
	RequestJob        Endpoint = "request_job"
	UpdateJob         Endpoint = "update_job"
	PatchTrace        Endpoint = "patch_trace"
	UploadArtifacts   Endpoint = "upload_artifacts"
	DownloadArtifacts Endpoint = "download_artifacts"
	EnvironmentKey    Endpoint = "environment_key"
	VersionInfo       Endpoint = "version"
	ObjectStorage     Endpoint = "object_storage"
	Git               Endpoint = "git"
	LFS               Endpoint = "lfs"
	Page              Endpoint = "page"
	Unknown           Endpoint = "unknown"
)

// isRunnerAPI tells whether runners call the endpoint with the headers of the runner API.
func (e Endpoint) isRunnerAPI() bool {
	switch e {
	case VersionInfo, ObjectStorage, Git, LFS, Page, Unknown:
		return false
	default:
	}
	return true
}

// readsBody tells whether the body is read whole before the request is handled.
func (e Endpoint) readsBody() bool {
	switch e {
	case Register, Verify, Unregister, UnregisterManager, ResetToken, RequestJob, UpdateJob, PatchTrace:
		return true
	default:
	}
	return false
}

// call is one request on its way through the server.
type call struct {
	s         *Server
	w         http.ResponseWriter
	r         *http.Request
	endpoint  Endpoint
	job       int64 // from the path, 0 if none
	rest      string
	body      []byte
	requestID string
	repeated  bool // the request id was seen before
	redirect  bool // came through the second listener
	fault     *Fault
	handed    *job // job given out by this call
	settled   bool
	start     time.Time
}

// errBodyTooLarge is what reading a request body beyond its bound gives.
var errBodyTooLarge = errors.New("request body too large")

// maxBody bounds a request body that is read whole: a PATCH must be judged, not believed.
const maxBody = 16 << 20

// route finds the endpoint of a path.
func (s *Server) route(r *http.Request) (endpoint Endpoint, job int64, rest string) {
	path, ok := strings.CutPrefix(r.URL.Path, s.opts.PathPrefix)
	if !ok {
		return Unknown, 0, ""
	}
	api, ok := strings.CutPrefix(path, "/api/v4/")
	if !ok {
		return s.routeOther(path)
	}
	switch r.Method + " " + api {
	case "POST jobs/request":
		return RequestJob, 0, ""
	case "POST runners":
		return Register, 0, ""
	case "POST runners/verify":
		return Verify, 0, ""
	case "DELETE runners":
		return Unregister, 0, ""
	case "DELETE runners/managers":
		return UnregisterManager, 0, ""
	case "POST runners/reset_authentication_token":
		return ResetToken, 0, ""
	case "GET runners/router/discovery":
		return Discovery, 0, ""
	case "GET version":
		return VersionInfo, 0, ""
	}
	if tail, ok := strings.CutPrefix(api, "runners/"); ok {
		if id, ok := strings.CutSuffix(tail, "/reset_authentication_token"); ok && r.Method == http.MethodPost {
			return ResetToken, 0, id
		}
		return Unknown, 0, ""
	}
	tail, ok := strings.CutPrefix(api, "jobs/")
	if !ok {
		return Unknown, 0, ""
	}
	number, tail, _ := strings.Cut(tail, "/")
	id, err := strconv.ParseInt(number, 10, 64)
	if err != nil || id <= 0 {
		return Unknown, 0, ""
	}
	switch r.Method + " " + tail {
	case "PUT ":
		return UpdateJob, id, ""
	case "PATCH trace":
		return PatchTrace, id, ""
	case "POST artifacts":
		return UploadArtifacts, id, ""
	case "GET artifacts":
		return DownloadArtifacts, id, ""
	case "GET runtime_environment_key":
		return EnvironmentKey, id, ""
	}
	return Unknown, id, ""
}

func (s *Server) routeOther(path string) (Endpoint, int64, string) {
	switch {
	case path == "" || path == "/":
		return Page, 0, ""
	case strings.HasPrefix(path, "/-/object-storage/"):
		return ObjectStorage, 0, strings.TrimPrefix(path, "/-/object-storage/")
	case strings.Contains(path, ".git/info/lfs/") || strings.Contains(path, ".git/gitlab-lfs/"):
		return LFS, 0, path
	case strings.Contains(path, ".git/"):
		return Git, 0, path
	}
	return Unknown, 0, ""
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, redirected bool) {
	c := &call{s: s, r: r, redirect: redirected, start: s.now()}
	tw := &trackingWriter{ResponseWriter: w, keep: s.opts.Transcript > 0}
	c.w = tw
	c.endpoint, c.job, c.rest = s.route(r)
	s.checkCommon(c)

	f := s.pickFault(c, "")
	var failed error
	if c.endpoint.readsBody() && (f == nil || f.Drop != DropBeforeRead) {
		buf, err := s.readBody(r)
		defer s.buffers.Put(buf)
		c.body, failed = buf.Bytes(), err
		if f == nil && err == nil && s.armed.Load() {
			f = s.pickFault(c, c.state())
		}
	}
	switch {
	case f != nil:
		c.fault = &f.Fault
		s.applyFault(c)
	case failed != nil:
		c.fail(failed)
	default:
		s.dispatch(c)
	}
	c.settle(tw.status, tw.body, tw.Header())
}

// settle counts and records the exchange, once. It comes before the answer leaves wherever the whole answer
// is known, so that a test that has the answer finds the exchange recorded.
func (c *call) settle(status int, body []byte, header http.Header) {
	if c.settled {
		return
	}
	c.settled = true
	s := c.s
	s.noteAnswer(c, status)
	if s.opts.Transcript > 0 {
		s.note(c, status, body, header)
	}
	s.mu.Lock()
	s.stats.Requests[c.endpoint]++
	s.stats.Statuses[status]++
	s.mu.Unlock()
}

// settleNow settles unless a fault still has to change the answer.
func (c *call) settleNow(status int, body []byte) {
	if _, direct := c.w.(*trackingWriter); direct {
		c.settle(status, body, c.w.Header())
	}
}

// dispatch handles the request as a healthy server does.
func (s *Server) dispatch(c *call) {
	if c.endpoint.isRunnerAPI() {
		c.w.Header().Set("X-Request-Id", s.correlationID())
	}
	switch c.endpoint {
	case RequestJob:
		s.handleRequestJob(c)
	case UpdateJob:
		s.handleUpdate(c)
	case PatchTrace:
		s.handleTrace(c)
	case UploadArtifacts:
		s.handleUpload(c)
	case DownloadArtifacts:
		s.handleDownload(c)
	case ObjectStorage:
		s.handleObject(c)
	case EnvironmentKey:
		s.handleEnvironmentKey(c)
	case Register:
		s.handleRegister(c)
	case Verify:
		s.handleVerify(c)
	case Unregister:
		s.handleUnregister(c)
	case UnregisterManager:
		s.handleUnregisterManager(c)
	case ResetToken:
		s.handleResetToken(c)
	case Discovery:
		s.handleDiscovery(c)
	case VersionInfo:
		c.json(http.StatusOK, map[string]any{"version": Version, "revision": "fa4e91a1ab0", "enterprise": true})
	case Git:
		s.handleGit(c)
	case LFS:
		s.handleLFS(c)
	case Page:
		s.handlePage(c)
	default:
		c.json(http.StatusNotFound, map[string]string{"error": "404 Not Found"})
	}
	s.runCallbacks()
}

// readBody reads a bounded body into a pooled buffer. The buffer must go back to the pool, also after an error.
func (s *Server) readBody(r *http.Request) (*bytes.Buffer, error) {
	buf, ok := s.buffers.Get().(*bytes.Buffer)
	if !ok {
		buf = new(bytes.Buffer)
	}
	buf.Reset()
	if n := r.ContentLength; n > 0 && n <= maxBody {
		buf.Grow(int(n) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(io.LimitReader(r.Body, maxBody+1))
	if err == nil && buf.Len() > maxBody {
		err = errBodyTooLarge
	}
	return buf, err
}

func (c *call) fail(err error) {
	if errors.Is(err, errBodyTooLarge) {
		c.json(http.StatusRequestEntityTooLarge, map[string]string{"error": "413 Request Entity Too Large"})
		return
	}
	c.json(http.StatusBadRequest, map[string]string{"error": "400 Bad Request"})
}

// state is the state of a PUT, for faults that match on it.
func (c *call) state() string {
	if c.endpoint != UpdateJob {
		return ""
	}
	var body struct {
		State string `json:"state"`
	}
	_ = json.Unmarshal(c.body, &body) // a broken body has no state
	return body.State
}

// json answers with a JSON body.
func (c *call) json(status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"message":"500 Internal Server Error"}`)
	}
	c.raw(status, "application/json", body)
}

// raw answers with a body of the given type.
func (c *call) raw(status int, contentType string, body []byte) {
	h := c.w.Header()
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.settleNow(status, body)
	c.w.WriteHeader(status)
	_, _ = c.w.Write(body) // a client that went away needs no answer
}

// empty answers with a status only.
func (c *call) empty(status int) {
	c.settleNow(status, nil)
	c.w.WriteHeader(status)
}

// forbidden is the 403 of an unknown token, job or a foreign token.
func (c *call) forbidden() {
	c.json(http.StatusForbidden, map[string]string{"message": "403 Forbidden"})
}

// missing is the 400 of the parameter validation.
func (c *call) missing(parameter string) {
	c.json(http.StatusBadRequest, map[string]string{"error": parameter + " is missing"})
}

// wantJSON checks rule 6 for a JSON endpoint and decodes the body into v.
func (c *call) wantJSON(v any) bool {
	if ct := mediaType(c.r.Header.Get("Content-Type")); ct != "application/json" {
		c.s.record(RuleContentType, c.job, nil, "%s: Content-Type %q", c.endpoint, ct)
	}
	if err := json.Unmarshal(c.body, v); err != nil {
		c.s.record(RuleContentType, c.job, nil, "%s: body is not the expected JSON: %v", c.endpoint, err)
		c.json(http.StatusBadRequest, map[string]string{"error": "400 Bad Request"})
		return false
	}
	return true
}

// mediaType returns the type without its parameters, in lower case.
func mediaType(contentType string) string {
	t, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// correlationID makes the X-Request-Id of an answer, shaped like a ULID.
func (s *Server) correlationID() string {
	const prefix = "01FAKEGITLAB00000000000000"
	n := strings.ToUpper(strconv.FormatUint(s.serial.Add(1), 32))
	return prefix[:len(prefix)-len(n)] + n
}

// trackingWriter remembers the status, and the body when a transcript is kept.
type trackingWriter struct {
	http.ResponseWriter
	status int
	keep   bool
	body   []byte
}

// WriteHeader implements [http.ResponseWriter].
func (w *trackingWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *trackingWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	if w.keep && len(w.body) < maxTranscriptBody {
		w.body = append(w.body, p[:min(len(p), maxTranscriptBody-len(w.body))]...)
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets [http.ResponseController] reach the connection.
func (w *trackingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
