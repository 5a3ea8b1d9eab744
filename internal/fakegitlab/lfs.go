package fakegitlab

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// lfsType is the media type of the LFS Batch API.
const lfsType = "application/vnd.git-lfs+json"

var oidPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// AddLFS stores an LFS object and returns the pointer file that stands for it in a commit.
func (p *Project) AddLFS(content []byte) (pointer string, err error) {
	sum := sha256.Sum256(content)
	oid := hex.EncodeToString(sum[:])
	if err := os.MkdirAll(p.lfs, 0o750); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(p.lfs, oid), content, 0o600); err != nil {
		return "", err
	}
	return fmt.Sprintf("version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", oid, len(content)), nil
}

type lfsObject struct {
	OID           string               `json:"oid"`
	Size          int64                `json:"size"`
	Authenticated bool                 `json:"authenticated,omitempty"`
	Actions       map[string]lfsAction `json:"actions,omitempty"`
	Error         *lfsError            `json:"error,omitempty"`
}

type lfsAction struct {
	Href   string            `json:"href"`
	Header map[string]string `json:"header"`
}

type lfsError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// handleLFS is the Batch API and the storage of the objects.
func (s *Server) handleLFS(c *call) {
	p, rest := s.repository(c.rest)
	batch := rest == "info/lfs/objects/batch" && c.r.Method == http.MethodPost
	if !s.authorizeGit(c, p, c.r.Method == http.MethodPut) {
		return
	}
	oid, stored := strings.CutPrefix(rest, "gitlab-lfs/objects/")
	switch {
	case batch:
		s.lfsBatch(c, p)
	case stored && c.r.Method == http.MethodGet:
		p.lfsDownload(c, oid)
	case stored && c.r.Method == http.MethodPut:
		p.lfsUpload(c, oid)
	default:
		c.raw(http.StatusNotFound, lfsType, []byte(`{"message":"Not found."}`))
	}
}

func (s *Server) lfsBatch(c *call, p *Project) {
	var req struct {
		Operation string      `json:"operation"`
		Objects   []lfsObject `json:"objects"`
	}
	if err := json.NewDecoder(io.LimitReader(c.r.Body, 4<<20)).Decode(&req); err != nil ||
		req.Operation != "download" && req.Operation != "upload" {
		c.raw(http.StatusUnprocessableEntity, lfsType, []byte(`{"message":"The batch request cannot be understood."}`))
		return
	}
	header := map[string]string{}
	if user, password, ok := c.r.BasicAuth(); ok {
		header["Authorization"] = "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	objects := []lfsObject{}
	for _, o := range req.Objects {
		have := oidPattern.MatchString(o.OID) && p.hasLFS(o.OID)
		action := map[string]lfsAction{req.Operation: {
			Href: s.base(c.r) + "/" + p.Path + ".git/gitlab-lfs/objects/" + o.OID, Header: header,
		}}
		switch {
		case !oidPattern.MatchString(o.OID):
			o.Error = &lfsError{Code: http.StatusUnprocessableEntity, Message: "Object id is not valid"}
		case req.Operation == "download" && !have:
			o.Error = &lfsError{Code: http.StatusNotFound, Message: "Object does not exist on the server"}
		case req.Operation == "download" || !have:
			o.Authenticated, o.Actions = true, action
		}
		objects = append(objects, o)
	}
	body, err := json.Marshal(map[string]any{"transfer": "basic", "objects": objects})
	if err != nil {
		c.fail(err)
		return
	}
	c.raw(http.StatusOK, lfsType, body)
}

func (p *Project) hasLFS(oid string) bool {
	_, err := os.Stat(filepath.Join(p.lfs, oid))
	return err == nil
}

func (p *Project) lfsDownload(c *call, oid string) {
	if !oidPattern.MatchString(oid) || !p.hasLFS(oid) {
		c.raw(http.StatusNotFound, lfsType, []byte(`{"message":"Not found."}`))
		return
	}
	c.w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeFile(c.w, c.r, filepath.Join(p.lfs, oid))
}

func (p *Project) lfsUpload(c *call, oid string) {
	content, err := io.ReadAll(io.LimitReader(c.r.Body, 256<<20))
	sum := sha256.Sum256(content)
	if err == nil && hex.EncodeToString(sum[:]) != oid {
		err = errors.New("content does not have the object id")
	}
	if err == nil {
		_, err = p.AddLFS(content)
	}
	if err != nil {
		c.raw(http.StatusUnprocessableEntity, lfsType, []byte(`{"message":"The object was not stored."}`))
		return
	}
	c.empty(http.StatusOK)
}
