package admin

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"strings"
)

// The status page is three files that a person wrote; nothing builds them.
//
//go:embed static
var files embed.FS

// policy lets the page load what this server has, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// landing answers / with the status page, or, where that is off, with what
// else there is.
func (s *Server) landing(w http.ResponseWriter, r *http.Request) {
	if !reads(w, r) {
		return
	}
	n := s.settings.Load()
	if !n.HideStatusPage {
		s.file(w, r, "index.html")
		return
	}
	text := "glassrunner " + s.o.Version + "\n\n/metrics\n/health/ready\n"
	if n.DebugAddress == "" {
		text += "/debug/jobs/list\n/debug/process/state\n"
		if !n.HidePprof {
			text += "/debug/pprof/\n"
		}
	}
	plain(w, http.StatusOK, text)
}

func (s *Server) static(w http.ResponseWriter, r *http.Request) {
	if reads(w, r) {
		s.file(w, r, strings.TrimPrefix(r.URL.Path, "/static/"))
	}
}

// file answers with one of the page's files. Browsers ask each time whether it
// is still the same: another version may answer next.
func (s *Server) file(w http.ResponseWriter, r *http.Request, name string) {
	text, err := files.ReadFile(path.Join("static", path.Clean("/"+name)))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	sum := sha256.Sum256(text)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", tag)
	if h.Get("Content-Security-Policy") == "" { // an operator's own wins
		h.Set("Content-Security-Policy", policy)
	}
	h.Set("Referrer-Policy", "no-referrer")
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	switch path.Ext(name) {
	case ".html":
		h.Set("Content-Type", "text/html; charset=utf-8")
	case ".css":
		h.Set("Content-Type", "text/css; charset=utf-8")
	case ".js":
		h.Set("Content-Type", "text/javascript; charset=utf-8")
	case ".svg":
		h.Set("Content-Type", "image/svg+xml")
	}
	write(w, http.StatusOK, string(text))
}
